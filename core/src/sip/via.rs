//! Via values (RFC 3261 §20.42, rport: RFC 3581).

use super::chars::{is_token, number, skip_lws};
use super::error::{ParseError, Result};
use super::params::{check_header_params, first_of_list, Params};
use super::uri::{literal_ip, read_host_port};
use std::net::{IpAddr, SocketAddr};

/// Starts every branch made by RFC 3261 rules.
pub const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViaRef<'a> {
    /// This value alone, without the rest of a list.
    pub text: &'a [u8],
    pub transport: &'a [u8],
    pub host: &'a [u8],
    pub port: Option<u16>,
    /// From the first `;`, or empty.
    pub params: &'a [u8],
}

impl<'a> ViaRef<'a> {
    /// Parses the first value of a Via line.
    pub fn parse(line: &'a [u8]) -> Result<Self> {
        let text = &line[..first_of_list(line)];
        let bad = |at: usize| ParseError::new(at, "via");
        let mut at = expect(text, skip_lws(text, 0), b"SIP")?;
        at = expect(text, skip_lws(text, at), b"/")?;
        at = expect(text, skip_lws(text, at), b"2.0")?;
        at = expect(text, skip_lws(text, at), b"/")?;
        let start = skip_lws(text, at);
        at = start;
        while at < text.len() && is_token(text[at]) {
            at += 1;
        }
        let transport = &text[start..at];
        let host_at = skip_lws(text, at);
        if transport.is_empty() || host_at == at {
            return Err(bad(at));
        }
        let (host, mut port, mut end) = match read_host_port(text, host_at) {
            Ok(found) => found,
            Err(error) => return Err(bad(error.position)),
        };
        // White space around the colon is legal here (RFC 4475 §3.1.1.1).
        let colon = skip_lws(text, end);
        if port.is_none() && text.get(colon) == Some(&b':') {
            let digits = skip_lws(text, colon + 1);
            end = digits;
            while end < text.len() && text[end].is_ascii_digit() {
                end += 1;
            }
            port = Some(number(&text[digits..end]).and_then(|n| u16::try_from(n).ok()).ok_or(bad(digits))?);
        }
        let rest = skip_lws(text, end);
        let params = &text[rest..];
        check_header_params(params, "via").map_err(|error| error.shifted(rest))?;
        Ok(Self { text, transport, host, port, params })
    }

    pub fn param(&self, name: &[u8]) -> Option<&'a [u8]> {
        Params::find(self.params, name).map(|param| param.value.unwrap_or(b""))
    }

    pub fn branch(&self) -> Option<&'a [u8]> {
        self.param(b"branch").filter(|branch| !branch.is_empty())
    }

    /// A branch that can identify a transaction: magic cookie and something after it (RFC 4475 §3.1.2.15 has nothing).
    pub fn unique_branch(&self) -> Option<&'a [u8]> {
        self.branch().filter(|branch| branch.len() > MAGIC_COOKIE.len() && branch.starts_with(MAGIC_COOKIE))
    }

    pub fn sent_port(&self) -> u16 {
        self.port.unwrap_or(5060)
    }

    /// Where a response goes: received and rport, else the sent-by when it is literal (§18.2.2).
    pub fn response_address(&self) -> Option<SocketAddr> {
        let ip = self.param(b"received").and_then(literal_ip).or_else(|| literal_ip(self.host))?;
        let rport =
            self.param(b"rport").and_then(number).and_then(|n| u16::try_from(n).ok()).filter(|&n| n > 0);
        Some(SocketAddr::new(ip, rport.unwrap_or_else(|| self.sent_port())))
    }

    /// The value with `received` and `rport` filled in for the address the request came from; None when nothing changes.
    ///
    /// `received` is written when the sent-by host is not that address; `rport` when the sender asked for it.
    pub fn stamped(&self, source: SocketAddr) -> Option<Vec<u8>> {
        let host_is_source = literal_ip(self.host).is_some_and(|ip| same_ip(ip, source.ip()));
        let wants_rport = self.param(b"rport").is_some();
        if host_is_source && !wants_rport && self.param(b"received").is_none() {
            return None;
        }
        let head = self.text.len() - self.params.len();
        let mut out = Vec::with_capacity(self.text.len() + 48);
        out.extend_from_slice(super::chars::trim(&self.text[..head]));
        for param in Params::new(self.params) {
            if param.name.eq_ignore_ascii_case(b"received") || param.name.eq_ignore_ascii_case(b"rport") {
                continue;
            }
            out.push(b';');
            out.extend_from_slice(param.name);
            if let Some(value) = param.value {
                out.push(b'=');
                out.extend_from_slice(value);
            }
        }
        // With rport, received must be there too (RFC 3581 §4).
        out.extend_from_slice(format!(";received={}", source.ip()).as_bytes());
        if wants_rport {
            out.extend_from_slice(format!(";rport={}", source.port()).as_bytes());
        }
        Some(out)
    }
}

/// Equality of addresses with IPv4-mapped IPv6 seen as IPv4.
pub fn same_ip(a: IpAddr, b: IpAddr) -> bool {
    a.to_canonical() == b.to_canonical()
}

fn expect(text: &[u8], at: usize, word: &[u8]) -> Result<usize> {
    match text.get(at..at + word.len()) {
        Some(found) if found.eq_ignore_ascii_case(word) => Ok(at + word.len()),
        _ => Err(ParseError::new(at, "via")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerant_and_exact() {
        let v = ViaRef::parse(
            b"SIP  / 2.0\r\n / UDP\r\n  192.0.2.2 : 5070 ;branch=z9hG4bK390skdjuw, SIP/2.0/TCP b",
        )
        .unwrap();
        assert_eq!((v.transport, v.host, v.port), (&b"UDP"[..], &b"192.0.2.2"[..], Some(5070)));
        assert_eq!(v.branch(), Some(&b"z9hG4bK390skdjuw"[..]));
        let w =
            ViaRef::parse(b"SIP/2.0/TLS [2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bKas3-111")
                .unwrap();
        assert_eq!(w.response_address().unwrap().to_string(), "[2001:db8::9:255]:5060");
    }

    #[test]
    fn stamps_received_and_rport() {
        let source: SocketAddr = "10.0.0.9:4321".parse().unwrap();
        let v = ViaRef::parse(b"SIP/2.0/UDP 10.0.0.1:5060;rport;branch=z9hG4bKx").unwrap();
        let stamped = v.stamped(source).unwrap();
        assert_eq!(stamped, b"SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKx;received=10.0.0.9;rport=4321");
        assert_eq!(ViaRef::parse(&stamped).unwrap().response_address(), Some(source));
        let w = ViaRef::parse(b"SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKx").unwrap();
        assert_eq!(w.stamped(source), None);
        assert_eq!(w.response_address().unwrap().to_string(), "10.0.0.9:5060");
        let forged = ViaRef::parse(b"SIP/2.0/UDP 10.0.0.9;received=1.2.3.4;branch=z9hG4bKx").unwrap();
        assert_eq!(
            forged.stamped(source).unwrap(),
            b"SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKx;received=10.0.0.9"
        );
    }

    #[test]
    fn refused() {
        for text in
            ["", "SIP/2.0/UDP", "SIP/1.0/UDP a", "SIP/2.0/UDP a;;b", "SIP/2.0/UDP a:x", "SIP/2.0/ a", "UDP a"]
        {
            assert_eq!(ViaRef::parse(text.as_bytes()).unwrap_err().rule, "via", "{text}");
        }
    }
}
