//! URIs: sip, sips, tel; other schemes keep their text as host (RFC 3261 §19.1, RFC 3966).

use super::chars::{is_digit, is_host, is_uri, is_user, number, unescape};
use super::error::{ParseError, Result};
use super::limits::MAX_URI_LENGTH;
use super::params::{check_uri_params, Params};

/// A URI's parts, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UriRef<'a> {
    pub text: &'a [u8],
    pub scheme: &'a [u8],
    pub user: Option<&'a [u8]>,
    pub password: Option<&'a [u8]>,
    /// IPv6 with its brackets; empty for tel.
    pub host: &'a [u8],
    pub port: Option<u16>,
    /// From the first `;`, or empty.
    pub params: &'a [u8],
    /// After `?`.
    pub headers: Option<&'a [u8]>,
}

impl<'a> UriRef<'a> {
    /// Parses a whole text.
    pub fn parse(text: &'a [u8]) -> Result<Self> {
        if text.len() > MAX_URI_LENGTH {
            return Err(ParseError::with_status(MAX_URI_LENGTH, "uri-length", 414));
        }
        if let Some(bad) = text.iter().position(|&c| !is_uri(c) && c < 0x80) {
            return Err(ParseError::new(bad, "uri"));
        }
        let colon = memchr::memchr(b':', text).ok_or(ParseError::new(0, "uri"))?;
        let scheme = &text[..colon];
        let scheme_ok = scheme.first().is_some_and(u8::is_ascii_alphabetic)
            && scheme.iter().all(|&c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.'));
        if !scheme_ok {
            return Err(ParseError::new(0, "uri"));
        }
        let mut uri = Self {
            text,
            scheme,
            user: None,
            password: None,
            host: b"",
            port: None,
            params: b"",
            headers: None,
        };
        if scheme.eq_ignore_ascii_case(b"sip") || scheme.eq_ignore_ascii_case(b"sips") {
            uri.read_sip(colon + 1)?;
        } else if scheme.eq_ignore_ascii_case(b"tel") {
            uri.read_tel(colon + 1)?;
        } else {
            uri.host = &text[colon + 1..];
            if uri.host.is_empty() {
                return Err(ParseError::new(text.len(), "uri"));
            }
        }
        Ok(uri)
    }

    fn read_sip(&mut self, start: usize) -> Result<()> {
        let text = self.text;
        let mut at = start;
        if let Some(length) = memchr::memchr(b'@', &text[start..]) {
            let user_info = &text[start..start + length];
            let (user, password) = match memchr::memchr(b':', user_info) {
                Some(colon) => (&user_info[..colon], Some(&user_info[colon + 1..])),
                None => (user_info, None),
            };
            if user.is_empty() {
                return Err(ParseError::new(start, "uri"));
            }
            check_user(user, start)?;
            if let Some(password) = password {
                check_user(password, start + user.len() + 1)?;
            }
            self.user = Some(user);
            self.password = password;
            at = start + length + 1;
        }
        let (host, port, end) = read_host_port(text, at)?;
        self.host = host;
        self.port = port;
        let rest = &text[end..];
        let question = memchr::memchr(b'?', rest);
        self.params = &rest[..question.unwrap_or(rest.len())];
        check_uri_params(self.params).map_err(|error| error.shifted(end))?;
        if let Some(question) = question {
            let headers = &rest[question + 1..];
            if headers.is_empty() || memchr::memchr2(b'?', b'@', headers).is_some() {
                return Err(ParseError::new(end + question, "uri"));
            }
            self.headers = Some(headers);
        }
        Ok(())
    }

    fn read_tel(&mut self, start: usize) -> Result<()> {
        let rest = &self.text[start..];
        let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
        let digits = &rest[..end];
        let dialable = |c: u8| c.is_ascii_hexdigit() || matches!(c, b'*' | b'#' | b'-' | b'.' | b'(' | b')');
        let body = digits.strip_prefix(b"+").unwrap_or(digits);
        if body.is_empty() || !body.iter().all(|&c| dialable(c)) {
            return Err(ParseError::new(start, "uri"));
        }
        self.user = Some(digits);
        self.params = &rest[end..];
        check_uri_params(self.params).map_err(|error| error.shifted(start + end))
    }

    pub fn is_sip(&self) -> bool {
        self.scheme.eq_ignore_ascii_case(b"sip") || self.scheme.eq_ignore_ascii_case(b"sips")
    }

    pub fn is_secure(&self) -> bool {
        self.scheme.eq_ignore_ascii_case(b"sips")
    }

    /// Value of a parameter as written: `Some("")` when it has none.
    pub fn param(&self, name: &[u8]) -> Option<&'a [u8]> {
        Params::find(self.params, name).map(|param| param.value.unwrap_or(b""))
    }

    /// scheme:user@host, host in lower case, escapes in the user part normalised.
    pub fn aor(&self) -> Vec<u8> {
        let mut out = self.scheme.to_ascii_lowercase();
        out.push(b':');
        if let Some(user) = self.user {
            super::chars::escape(&unescape(user), is_user, &mut out);
            if !self.host.is_empty() {
                out.push(b'@');
            }
        }
        out.extend(self.host.to_ascii_lowercase());
        out
    }

    /// RFC 3261 §19.1.4 for sip and sips; other schemes by text.
    pub fn equivalent(&self, other: &UriRef<'_>) -> bool {
        if self.text == other.text {
            return true;
        }
        if !self.scheme.eq_ignore_ascii_case(other.scheme) {
            return false;
        }
        if !self.is_sip() {
            return self.text[self.scheme.len()..] == other.text[other.scheme.len()..];
        }
        let part = |text: Option<&[u8]>| text.map(unescape);
        part(self.user) == part(other.user)
            && part(self.password) == part(other.password)
            && self.host.eq_ignore_ascii_case(other.host)
            && self.port == other.port
            && params_match(self.params, other.params)
            && params_match(other.params, self.params)
            && headers_match(self.headers, other.headers)
    }
}

/// Parameters of `a` agree with those of `b`; user, ttl, method, maddr and transport must be in both or in neither.
fn params_match(a: &[u8], b: &[u8]) -> bool {
    const STRICT: [&[u8]; 5] = [b"user", b"ttl", b"method", b"maddr", b"transport"];
    Params::new(a).all(|mine| match Params::find(b, mine.name) {
        Some(theirs) => {
            let value = |text: Option<&[u8]>| text.map(|v| unescape(v).to_ascii_lowercase());
            value(mine.value) == value(theirs.value)
        }
        None => !STRICT.iter().any(|name| name.eq_ignore_ascii_case(mine.name)),
    })
}

fn headers_match(a: Option<&[u8]>, b: Option<&[u8]>) -> bool {
    let parts = |text: Option<&[u8]>| {
        let mut all: Vec<Vec<u8>> =
            text.unwrap_or(b"").split(|&c| c == b'&').filter(|part| !part.is_empty()).map(unescape).collect();
        all.sort();
        all
    };
    parts(a) == parts(b)
}

fn check_user(text: &[u8], offset: usize) -> Result<()> {
    let mut at = 0;
    while at < text.len() {
        let c = text[at];
        let escape_ok = c != b'%'
            || (at + 2 < text.len() && text[at + 1].is_ascii_hexdigit() && text[at + 2].is_ascii_hexdigit());
        if !(is_user(c) || c >= 0x80) || !escape_ok {
            return Err(ParseError::new(offset + at, "uri"));
        }
        at += 1;
    }
    Ok(())
}

/// `host[:port]` at `start`: (host, port, position after it). Used by URIs and Via.
pub fn read_host_port(text: &[u8], start: usize) -> Result<(&[u8], Option<u16>, usize)> {
    let mut at = start;
    if text.get(at) == Some(&b'[') {
        let close = memchr::memchr(b']', &text[at..]).ok_or(ParseError::new(at, "host"))?;
        let inner = &text[at + 1..at + close];
        let address = std::str::from_utf8(inner).ok().and_then(|s| s.parse::<std::net::Ipv6Addr>().ok());
        if address.is_none() {
            return Err(ParseError::new(at, "host"));
        }
        at += close + 1;
    } else {
        while at < text.len() && is_host(text[at]) {
            at += 1;
        }
        if at == start {
            return Err(ParseError::new(at, "host"));
        }
    }
    let host = &text[start..at];
    if text.get(at) != Some(&b':') {
        return Ok((host, None, at));
    }
    let digits = at + 1;
    at = digits;
    while at < text.len() && is_digit(text[at]) {
        at += 1;
    }
    let port = number(&text[digits..at]).and_then(|n| u16::try_from(n).ok()).filter(|&n| n > 0);
    match port {
        Some(port) => Ok((host, Some(port), at)),
        None => Err(ParseError::new(digits, "port")),
    }
}

/// A literal IP address, with or without brackets.
pub fn literal_ip(host: &[u8]) -> Option<std::net::IpAddr> {
    let inner = host.strip_prefix(b"[").and_then(|h| h.strip_suffix(b"]")).unwrap_or(host);
    std::str::from_utf8(inner).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> UriRef<'_> {
        UriRef::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn parts_of_a_sip_uri() {
        let u = uri("sip:al%40ice;x=1:pw@Example.com:5070;lr;transport=tcp?subject=a&to=b");
        assert_eq!(u.user, Some(&b"al%40ice;x=1"[..]));
        assert_eq!(u.password, Some(&b"pw"[..]));
        assert_eq!((u.host, u.port), (&b"Example.com"[..], Some(5070)));
        assert_eq!(u.param(b"LR"), Some(&b""[..]));
        assert_eq!(u.param(b"transport"), Some(&b"tcp"[..]));
        assert_eq!(u.headers, Some(&b"subject=a&to=b"[..]));
    }

    #[test]
    fn ipv6_and_tel_and_other() {
        let u = uri("sips:[2001:db8::1]:5061");
        assert!(u.is_secure());
        assert_eq!((u.host, u.port), (&b"[2001:db8::1]"[..], Some(5061)));
        assert_eq!(uri("tel:+1-201-555-0123;phone-context=example.com").user, Some(&b"+1-201-555-0123"[..]));
        assert_eq!(uri("urn:service:sos").host, b"service:sos");
        assert!(
            literal_ip(b"[::1]").is_some()
                && literal_ip(b"127.0.0.1").is_some()
                && literal_ip(b"a.b").is_none()
        );
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "sip",
            "sip:",
            "sip:@host",
            "sip:a@",
            "sip:a@b:",
            "sip:a@b:0",
            "sip:a@b:65536",
            "sip:a b@c",
            "sip:a@[::g]",
            "sip:a@b;=1",
            "sip:a@b;x=",
            "sip:a@b?",
            "1sip:a@b",
            "tel:",
            "tel:x",
            "<sip:a@b>",
            "sip:a%4@b",
        ] {
            assert!(UriRef::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(UriRef::parse(&[b'a'; 3000]).unwrap_err().status, 414);
    }

    #[test]
    fn equivalence_of_rfc_3261_19_1_4() {
        let same = [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
            ("sip:biloxi.com;transport=tcp;method=REGISTER", "sip:biloxi.com;method=REGISTER;transport=tcp"),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
        ];
        let differ = [
            ("SIP:ALICE@AtLanTa.CoM", "sip:alice@AtLanTa.CoM"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:carol@chicago.com;security=off", "sip:carol@chicago.com;security=on"),
            ("sip:bob@phone21.boxesbybob.com", "sips:bob@phone21.boxesbybob.com"),
        ];
        for (a, b) in same {
            assert!(uri(a).equivalent(&uri(b)) && uri(b).equivalent(&uri(a)), "{a} {b}");
        }
        for (a, b) in differ {
            assert!(!uri(a).equivalent(&uri(b)) && !uri(b).equivalent(&uri(a)), "{a} {b}");
        }
    }
}
