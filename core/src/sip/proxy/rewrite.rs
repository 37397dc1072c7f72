//! Messages as they leave the proxy: one pass over the received bytes, copying runs of lines that do not change.

use super::super::chars::push_number;
use super::super::header::HeaderId;
use super::super::message::{HeaderLine, Span, View};
use super::super::name_addr::NameAddrRef;
use super::super::params::{first_of_list, split_list};
use super::super::reason::phrase;

/// What changes in a forwarded request.
#[derive(Debug, Default)]
pub struct Changes<'a> {
    /// Our Via value.
    pub via: &'a [u8],
    /// The sender's Via value with received and rport.
    pub stamped: Option<&'a [u8]>,
    /// New request URI.
    pub uri: Option<&'a [u8]>,
    /// Record-Route values, topmost first.
    pub record_routes: &'a [Vec<u8>],
    /// How many Route values at the front were for us.
    pub routes_taken: usize,
}

/// Copies lines, joining neighbours that stay as they are.
struct Copier<'a> {
    buf: &'a [u8],
    out: Vec<u8>,
    run: Option<Span>,
}

impl Copier<'_> {
    fn keep(&mut self, line: Span) {
        match &mut self.run {
            Some(run) if run.end == line.start => run.end = line.end,
            _ => {
                self.flush();
                self.run = Some(line);
            }
        }
    }

    fn flush(&mut self) {
        if let Some(run) = self.run.take() {
            self.out.extend_from_slice(run.of(self.buf));
        }
    }

    fn write(&mut self, name: &[u8], value: &[&[u8]]) {
        self.flush();
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(b": ");
        for part in value {
            self.out.extend_from_slice(part);
        }
        self.out.extend_from_slice(b"\r\n");
    }
}

pub fn request(view: &View<'_>, changes: &Changes<'_>) -> Vec<u8> {
    let size = view.layout.body.end as usize + 320;
    let mut copier = Copier { buf: view.buf, out: Vec::with_capacity(size), run: None };
    match changes.uri {
        None => copier.out.extend_from_slice(view.span(view.layout.start_line)),
        Some(uri) => {
            for part in [view.method(), b" ", uri, b" SIP/2.0\r\n"] {
                copier.out.extend_from_slice(part);
            }
        }
    }
    copier.write(b"Via", &[changes.via]);
    for value in changes.record_routes {
        copier.write(b"Record-Route", &[value]);
    }
    if view.core().max_forwards.is_none() {
        copier.write(b"Max-Forwards", &[b"70"]);
    }
    let mut routes_left = changes.routes_taken;
    for (index, header) in view.layout.headers.iter().enumerate() {
        match header.id {
            HeaderId::Via if index == view.core().via_line as usize && changes.stamped.is_some() => {
                let value = header.value.of(view.buf);
                let rest = &value[view.core().via.len()..];
                copier.write(b"Via", &[changes.stamped.unwrap_or(value), rest]);
            }
            HeaderId::MaxForwards => {
                let mut number = Vec::with_capacity(3);
                push_number(&mut number, u64::from(view.core().max_forwards.unwrap_or(71).saturating_sub(1)));
                copier.write(b"Max-Forwards", &[&number]);
            }
            HeaderId::Route if routes_left > 0 => take_routes(&mut copier, header, &mut routes_left),
            _ => copier.keep(header.line),
        }
    }
    copier.flush();
    copier.out.extend_from_slice(b"\r\n");
    copier.out.extend_from_slice(view.body());
    copier.out
}

/// Writes what remains of a Route line after its first values were taken.
fn take_routes(copier: &mut Copier<'_>, header: &HeaderLine, left: &mut usize) {
    let values = split_list(header.value.of(copier.buf));
    let taken = values.len().min(*left);
    *left -= taken;
    let rest = values[taken..].join(&b", "[..]);
    copier.flush();
    if !rest.is_empty() {
        copier.write(b"Route", &[&rest]);
    }
}

/// A response without its top Via value; None when no other Via is left.
pub fn response(view: &View<'_>) -> Option<Vec<u8>> {
    let mut copier =
        Copier { buf: view.buf, out: Vec::with_capacity(view.layout.body.end as usize), run: None };
    let mut left = 0;
    copier.keep(view.layout.start_line);
    for (index, header) in view.layout.headers.iter().enumerate() {
        if header.id != HeaderId::Via {
            copier.keep(header.line);
            continue;
        }
        left += 1;
        if index == view.core().via_line as usize {
            let value = header.value.of(view.buf);
            let rest = &value[first_of_list(value)..];
            if rest.len() > 1 {
                copier.write(b"Via", &[super::super::chars::trim(&rest[1..])]);
            } else {
                left -= 1;
            }
            continue;
        }
        copier.keep(header.line);
    }
    copier.flush();
    copier.out.extend_from_slice(b"\r\n");
    copier.out.extend_from_slice(view.body());
    (left > 0).then_some(copier.out)
}

/// The Via value under the top one.
pub fn second_via<'a>(view: &View<'a>) -> Option<&'a [u8]> {
    let mut lines = view.lines(HeaderId::Via).map(|header| header.value.of(view.buf));
    let first = lines.next()?;
    let end = first_of_list(first);
    if end < first.len() {
        return Some(super::super::chars::trim(&first[end + 1..]));
    }
    lines.next()
}

/// What every response of ours to a request starts with: its Vias, From, To, Call-ID, CSeq.
#[derive(Debug, Default)]
pub struct Seed {
    lines: Vec<u8>,
    /// Where a To tag goes; None when To has one.
    tag_at: Option<u32>,
}

impl Seed {
    pub fn of(view: &View<'_>, stamped: Option<&[u8]>) -> Self {
        let mut lines = Vec::with_capacity(384);
        let mut tag_at = None;
        for (index, header) in view.layout.headers.iter().enumerate() {
            let value = header.value.of(view.buf);
            match (header.id, stamped) {
                (HeaderId::Via, Some(stamped)) if index == view.core().via_line as usize => {
                    lines.extend_from_slice(b"Via: ");
                    lines.extend_from_slice(stamped);
                    lines.extend_from_slice(&value[view.core().via.len()..]);
                    lines.extend_from_slice(b"\r\n");
                }
                (HeaderId::To, _) => {
                    lines.extend_from_slice(b"To: ");
                    lines.extend_from_slice(value);
                    if view.core().to_tag.is_none() {
                        tag_at = Some(lines.len() as u32);
                    }
                    lines.extend_from_slice(b"\r\n");
                }
                (HeaderId::Via | HeaderId::From | HeaderId::CallId | HeaderId::CSeq, _) => {
                    lines.extend_from_slice(header.line.of(view.buf));
                }
                _ => {}
            }
        }
        Self { lines, tag_at }
    }

    /// A response; `extra` are whole header lines.
    pub fn response(&self, status: u16, server: &str, extra: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.lines.len() + 128);
        out.extend_from_slice(b"SIP/2.0 ");
        push_number(&mut out, u64::from(status));
        out.push(b' ');
        out.extend_from_slice(phrase(status).as_bytes());
        out.extend_from_slice(b"\r\n");
        match self.tag_at.filter(|_| status > 100) {
            Some(at) => {
                let at = at as usize;
                out.extend_from_slice(&self.lines[..at]);
                // Stable for a request, so that retransmitted answers look the same (§8.2.7).
                let tag = crate::hash::mix64(crate::hash::fnv1a64(&self.lines));
                out.extend_from_slice(b";tag=");
                super::super::identifiers::push_base32(&mut out, tag, 12);
                out.extend_from_slice(&self.lines[at..]);
            }
            None => out.extend_from_slice(&self.lines),
        }
        if !server.is_empty() {
            out.extend_from_slice(format!("Server: {server}\r\n").as_bytes());
        }
        out.extend_from_slice(extra.as_bytes());
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        out
    }
}

/// A packet of ours with another branch in its top Via line (which we wrote).
pub fn rebranched(packet: &[u8], old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let at = memchr::memmem::find(packet, old)?;
    let mut out = Vec::with_capacity(packet.len() + 4);
    out.extend_from_slice(&packet[..at]);
    out.extend_from_slice(new);
    out.extend_from_slice(&packet[at + old.len()..]);
    Some(out)
}

/// A forwarded request whose top Via, the one with this branch, names a slot: a node that has just taken the slot over
/// knows by it that the request may belong to a call it has yet to read. None when it does so already.
pub fn slotted(packet: &[u8], branch: &[u8], slot: u16) -> Option<Vec<u8>> {
    let at = memchr::memmem::find(packet, branch)? + branch.len();
    if packet[at..].starts_with(b";vs=") {
        return None;
    }
    let mut out = Vec::with_capacity(packet.len() + 8);
    out.extend_from_slice(&packet[..at]);
    out.extend_from_slice(format!(";vs={slot:03x}").as_bytes());
    out.extend_from_slice(&packet[at..]);
    Some(out)
}

/// URI of a Route or Record-Route value.
pub fn route_uri(value: &[u8]) -> Option<&[u8]> {
    NameAddrRef::parse(value).ok().map(|address| address.uri)
}

#[cfg(test)]
mod tests {
    use super::super::super::message::Layout;
    use super::super::super::parse::parse_view;
    use super::*;

    const INVITE: &[u8] = b"INVITE sip:b@c SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKa, SIP/2.0/UDP x\r\n\
        route: <sip:p1;lr> , <sip:p2;lr>\r\nRoute: <sip:p3;lr>\r\nX-Odd:   kept   \r\n as is\r\nMax-Forwards: 10\r\n\
        From: <sip:a@b>;tag=1\r\nTo: <sip:b@c>\r\nCall-ID: x\r\nCSeq: 5 INVITE\r\nContent-Length: 3\r\n\r\nabcEXTRA";

    #[test]
    fn forwards_with_changes_and_copies_the_rest() {
        let mut layout = Layout::default();
        let view = parse_view(INVITE, &mut layout).unwrap();
        let changes = Changes {
            via: b"SIP/2.0/UDP p;branch=z9hG4bKn",
            stamped: Some(b"SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKa;received=10.9.9.9"),
            uri: Some(b"sip:new@d"),
            record_routes: &[b"<sip:p;lr>".to_vec()],
            routes_taken: 1,
        };
        let text = String::from_utf8(request(&view, &changes)).unwrap();
        assert_eq!(
            text,
            "INVITE sip:new@d SIP/2.0\r\nVia: SIP/2.0/UDP p;branch=z9hG4bKn\r\nRecord-Route: <sip:p;lr>\r\n\
             Via: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKa;received=10.9.9.9, SIP/2.0/UDP x\r\nRoute: <sip:p2;lr>\r\n\
             Route: <sip:p3;lr>\r\nX-Odd:   kept   \r\n as is\r\nMax-Forwards: 9\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:b@c>\r\n\
             Call-ID: x\r\nCSeq: 5 INVITE\r\nContent-Length: 3\r\n\r\nabc"
        );
    }

    #[test]
    fn a_response_loses_its_top_via() {
        let text = |vias: &str| {
            format!("SIP/2.0 200 OK\r\n{vias}From: <sip:a@b>;tag=1\r\nTo: <sip:b@c>;tag=2\r\nCall-ID: x\r\nCSeq: 5 INVITE\r\n\r\nbody")
        };
        let mut layout = Layout::default();
        let two = "Via: SIP/2.0/UDP p;branch=z9hG4bKn\r\nv: SIP/2.0/UDP a;branch=z9hG4bKa\r\n";
        let input = text(two);
        let view = parse_view(input.as_bytes(), &mut layout).unwrap();
        assert_eq!(response(&view).unwrap(), text("v: SIP/2.0/UDP a;branch=z9hG4bKa\r\n").as_bytes());
        assert_eq!(second_via(&view), Some(&b"SIP/2.0/UDP a;branch=z9hG4bKa"[..]));
        let list = text("Via: SIP/2.0/UDP p;branch=z9hG4bKn, SIP/2.0/UDP a;branch=z9hG4bKa\r\n");
        let view = parse_view(list.as_bytes(), &mut layout).unwrap();
        assert_eq!(response(&view).unwrap(), text("Via: SIP/2.0/UDP a;branch=z9hG4bKa\r\n").as_bytes());
        let one = text("Via: SIP/2.0/UDP p;branch=z9hG4bKn\r\n");
        let view = parse_view(one.as_bytes(), &mut layout).unwrap();
        assert_eq!(response(&view), None);
    }

    #[test]
    fn a_seed_makes_answers_that_parse() {
        let mut layout = Layout::default();
        let view = parse_view(INVITE, &mut layout).unwrap();
        let seed = Seed::of(&view, None);
        let trying = seed.response(100, "", "");
        assert!(
            !String::from_utf8_lossy(&trying).contains("tag=a")
                && trying.starts_with(b"SIP/2.0 100 Trying\r\nVia:")
        );
        let busy = seed.response(503, "vm", "Retry-After: 5\r\n");
        let view = parse_view(&busy, &mut layout).unwrap();
        assert_eq!((view.status(), view.to_tag().map(<[u8]>::len)), (503, Some(12)));
    }
}
