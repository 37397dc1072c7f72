//! Answers to what is not SIP: 400 where an answer is possible, never to ACK or responses, limited by source.

use super::super::chars::push_number;
use super::super::chars::{is_lws, skip_lws};
use super::super::error::ParseError;
use super::super::header::HeaderId;
use super::super::reason::phrase;
use super::super::txn::{Micros, SECOND};
use super::super::via::ViaRef;
use super::server::response_address;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// Sources remembered in one second; what is above gets no answer.
const MAX_SOURCES: usize = 4_096;

/// Counts answers by source in windows of one second.
#[derive(Debug)]
pub struct Limiter {
    rate: u32,
    window: Micros,
    sources: HashMap<IpAddr, u32>,
}

impl Limiter {
    pub fn new(rate: u32) -> Self {
        Self { rate, window: 0, sources: HashMap::new() }
    }

    pub fn allow(&mut self, source: IpAddr, now: Micros) -> bool {
        let window = now / SECOND;
        if window != self.window {
            self.window = window;
            self.sources.clear();
        }
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&source) {
            return false;
        }
        let count = self.sources.entry(source).or_insert(0);
        *count += 1;
        *count <= self.rate
    }
}

/// A stateless answer to a request that could not be parsed, when its Via, From, To, Call-ID and CSeq can be found.
///
/// Its lines are copied as they came; where it goes is decided by Via only, as for any response.
pub fn answer(data: &[u8], error: &ParseError, source: SocketAddr) -> Option<(Vec<u8>, SocketAddr)> {
    let start = skip_lws(data, 0);
    let first_end = memchr::memchr(b'\n', &data[start..])? + start;
    let first = &data[start..first_end];
    if first.len() < 4 || first[..4].eq_ignore_ascii_case(b"SIP/") || first.starts_with(b"ACK ") {
        return None;
    }
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(b"SIP/2.0 ");
    push_number(&mut out, u64::from(error.status));
    out.push(b' ');
    out.extend_from_slice(phrase(error.status).as_bytes());
    out.extend_from_slice(b"\r\n");
    let mut found = [false; 5];
    let mut destination = None;
    let mut at = first_end + 1;
    while at < data.len() && !data[at..].starts_with(b"\r\n") {
        let (line, next) = whole_line(data, at);
        at = next;
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        let name = super::super::chars::trim(&line[..colon]);
        let which = match HeaderId::of(name) {
            HeaderId::Via => 0,
            HeaderId::From => 1,
            HeaderId::To => 2,
            HeaderId::CallId => 3,
            HeaderId::CSeq => 4,
            _ => continue,
        };
        if which > 0 && found[which] {
            continue;
        }
        if which == 4 && line.windows(3).any(|w| w == b"ACK") {
            return None;
        }
        let value = super::super::chars::trim(&line[colon + 1..]);
        out.extend_from_slice(HeaderId::of(name).name().as_bytes());
        out.extend_from_slice(b": ");
        if which == 0 && !found[0] {
            destination = Some(top_via(value, source, &mut out));
        } else {
            out.extend_from_slice(value);
        }
        if which == 2 && memchr::memmem::find(value, b"tag=").is_none() {
            out.extend_from_slice(b";tag=malformed");
        }
        out.extend_from_slice(b"\r\n");
        found[which] = true;
    }
    if found != [true; 5] {
        return None;
    }
    out.extend_from_slice(
        format!("Warning: 399 voicemesh \"{error}\"\r\nContent-Length: 0\r\n\r\n").as_bytes(),
    );
    Some((out, SocketAddr::new(source.ip(), destination?)))
}

/// Writes the top Via with received and rport; the port an answer goes to. One that cannot be read is copied, and the
/// answer goes back to the port it came from.
fn top_via(value: &[u8], source: SocketAddr, out: &mut Vec<u8>) -> u16 {
    let Ok(via) = ViaRef::parse(value) else {
        out.extend_from_slice(value);
        return source.port();
    };
    let stamped = via.stamped(source);
    out.extend_from_slice(stamped.as_deref().unwrap_or(via.text));
    out.extend_from_slice(&value[via.text.len()..]);
    response_address(&via, source).port()
}

/// A line with its folds, and where the next begins. Line ends may be broken here.
fn whole_line(data: &[u8], start: usize) -> (&[u8], usize) {
    let mut at = start;
    loop {
        let Some(end) = memchr::memchr(b'\n', &data[at..]) else {
            return (&data[start..], data.len());
        };
        at += end + 1;
        if !matches!(data.get(at), Some(b' ' | b'\t')) {
            let mut stop = at;
            while stop > start && is_lws(data[stop - 1]) {
                stop -= 1;
            }
            return (&data[start..stop], at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_by_source_and_second() {
        let mut limiter = Limiter::new(2);
        let a: IpAddr = "10.0.0.1".parse().unwrap();
        let b: IpAddr = "10.0.0.2".parse().unwrap();
        assert_eq!([0; 3].map(|_| limiter.allow(a, 5)), [true, true, false]);
        assert!(limiter.allow(b, 6));
        assert!(limiter.allow(a, SECOND));
    }

    #[test]
    fn answers_only_what_can_be_answered() {
        let error = ParseError::new(3, "content-length");
        let source: SocketAddr = "10.0.0.9:5070".parse().unwrap();
        let request = "INVITE sip:a@b SIP/2.0\r\nv: SIP/2.0/UDP 10.0.0.9:5062;branch=z9hG4bKx\r\nf: <sip:x@y>;tag=1\r\n\
                       t: <sip:a@b>\r\ni: 77\r\nCSeq: 1 INVITE\r\nContent-Length: 9999\r\n\r\n";
        let (answer_bytes, to) = answer(request.as_bytes(), &error, source).unwrap();
        let text = String::from_utf8(answer_bytes).unwrap();
        assert!(
            text.starts_with("SIP/2.0 400 Bad Request\r\nVia: SIP/2.0/UDP 10.0.0.9:5062;branch=z9hG4bKx\r\n"),
            "{text}"
        );
        assert_eq!(to.to_string(), "10.0.0.9:5062");
        assert!(answer(request.replace("INVITE", "ACK").as_bytes(), &error, source).is_none());
        assert!(answer(request.replace("i: 77\r\n", "").as_bytes(), &error, source).is_none());
        assert!(answer(b"SIP/2.0 200 OK\r\n\r\n", &error, source).is_none());
        assert!(answer(b"\x00\x01", &error, source).is_none());
    }
}
