//! One pass over a datagram: where the start line, each header line and the body are. Nothing is copied.

use super::chars::{is_lws, is_token, is_uri, number, trim};
use super::error::{ParseError, Result};
use super::header::HeaderId;
use super::limits::{MAX_HEADER_COUNT, MAX_LINE_LENGTH, MAX_MESSAGE_SIZE, MAX_URI_LENGTH};
use super::message::{HeaderLine, Layout, Span, Start, View};
use super::method::Method;
use super::name_addr::NameAddrRef;
use super::via::ViaRef;

/// Parses into a layout that may be used again and again; on error its contents mean nothing.
///
/// Checked here is what routing and matching need: start line, framing, Via, From, To, Call-ID, CSeq, Max-Forwards and
/// Content-Length. Other headers are checked when somebody looks at them.
pub fn parse(buf: &[u8], layout: &mut Layout) -> Result<()> {
    layout.headers.clear();
    if buf.len() > MAX_MESSAGE_SIZE {
        return Err(ParseError::with_status(MAX_MESSAGE_SIZE, "message-size", 413));
    }
    let mut at = 0;
    while buf[at..].starts_with(b"\r\n") {
        at += 2;
    }
    let (line_end, next) = line(buf, at, "start-line")?;
    layout.start_line = Span::new(at, next);
    layout.start = start_line(buf, at, line_end)?;
    at = next;
    while !buf[at..].starts_with(b"\r\n") {
        if layout.headers.len() == MAX_HEADER_COUNT {
            return Err(ParseError::new(at, "header-count"));
        }
        let header = header_line(buf, at)?;
        at = header.line.end as usize;
        layout.headers.push(header);
    }
    check_core(buf, layout, at)?;
    layout.body = body(buf, layout, at + 2)?;
    Ok(())
}

/// (end of the line's text, start of the next line).
fn line(buf: &[u8], at: usize, rule: &'static str) -> Result<(usize, usize)> {
    let window = &buf[at..buf.len().min(at + MAX_LINE_LENGTH + 2)];
    match memchr::memchr2(b'\r', b'\n', window) {
        Some(i) if i > MAX_LINE_LENGTH => Err(ParseError::new(at + MAX_LINE_LENGTH, "line-length")),
        Some(i) if window[i] == b'\r' && window.get(i + 1) == Some(&b'\n') => Ok((at + i, at + i + 2)),
        Some(i) if window[i] == b'\r' && i + 1 == window.len() && window.len() <= MAX_LINE_LENGTH => {
            Err(ParseError::new(buf.len(), rule))
        }
        Some(i) if window[i] == b'\r' && i + 1 == window.len() => {
            Err(ParseError::new(at + MAX_LINE_LENGTH, "line-length"))
        }
        Some(i) => Err(ParseError::new(at + i, "line-end")),
        None if window.len() > MAX_LINE_LENGTH => Err(ParseError::new(at + MAX_LINE_LENGTH, "line-length")),
        None => Err(ParseError::new(buf.len(), rule)),
    }
}

fn start_line(buf: &[u8], at: usize, end: usize) -> Result<Start> {
    let text = &buf[at..end];
    let bad = |i: usize| ParseError::new(at + i, "start-line");
    if text.len() >= 8 && text[..4].eq_ignore_ascii_case(b"SIP/") {
        return status_line(buf, at, end);
    }
    let first = memchr::memchr(b' ', text).ok_or(bad(0))?;
    if let Some(i) = text[..first].iter().position(|&c| !is_token(c)) {
        return Err(bad(i));
    }
    let last = memchr::memrchr(b' ', text).ok_or(bad(0))?;
    if first == 0 || last <= first + 1 {
        return Err(bad(first));
    }
    let version = &text[last + 1..];
    if !version.eq_ignore_ascii_case(b"SIP/2.0") {
        let other = version.len() > 4 && version[..4].eq_ignore_ascii_case(b"SIP/");
        return Err(if other {
            ParseError::with_status(at + last + 1, "version", 505)
        } else {
            bad(last + 1)
        });
    }
    let uri = &text[first + 1..last];
    if uri.len() > MAX_URI_LENGTH {
        return Err(ParseError::with_status(at + first + 1 + MAX_URI_LENGTH, "uri-length", 414));
    }
    if let Some(i) = uri.iter().position(|&c| !is_uri(c) && c < 0x80) {
        return Err(ParseError::new(at + first + 1 + i, "uri"));
    }
    if memchr::memchr(b':', uri).is_none() {
        return Err(ParseError::new(at + first + 1, "uri"));
    }
    // Headers are not allowed in a request URI (§19.1.1 table 1; RFC 4475 §3.1.2.11). A user part may hold a `?`.
    let after_user = memchr::memchr(b'@', uri).map_or(0, |i| i + 1);
    let is_sip = uri.len() > 3 && uri[..3].eq_ignore_ascii_case(b"sip");
    if let Some(i) = memchr::memchr(b'?', &uri[after_user..]).filter(|_| is_sip) {
        return Err(ParseError::new(at + first + 1 + after_user + i, "uri-headers"));
    }
    Ok(Start::Request {
        method: Span::new(at, at + first),
        kind: Method::of(&text[..first]),
        uri: Span::new(at + first + 1, at + last),
    })
}

fn status_line(buf: &[u8], at: usize, end: usize) -> Result<Start> {
    let text = &buf[at..end];
    if !text.starts_with(b"SIP/2.0 ") && !text[..8].eq_ignore_ascii_case(b"SIP/2.0 ") {
        return Err(ParseError::with_status(at, "version", 505));
    }
    let rest = &text[8..];
    let digits = rest.iter().take_while(|c| c.is_ascii_digit()).count();
    let status = number(&rest[..digits]).filter(|n| digits == 3 && (100..700).contains(n));
    // A reason phrase may be empty; its space is forgiven too (RFC 4475 §3.1.1.13 has it).
    match (status, rest.get(digits)) {
        (Some(status), None | Some(b' ')) => {
            let reason = (at + 8 + digits + 1).min(end);
            Ok(Start::Response { status: status as u16, reason: Span::new(reason, end) })
        }
        _ => Err(ParseError::new(at + 8, "status-code")),
    }
}

fn header_line(buf: &[u8], at: usize) -> Result<HeaderLine> {
    let mut name_end = at;
    while name_end < buf.len() && is_token(buf[name_end]) {
        name_end += 1;
    }
    let mut colon = name_end;
    while colon < buf.len() && matches!(buf[colon], b' ' | b'\t') {
        colon += 1;
    }
    if name_end == at || buf.get(colon) != Some(&b':') {
        return Err(ParseError::new(name_end, "header-name"));
    }
    let (mut end, mut next) = line(buf, colon + 1, "header-end")?;
    while next < buf.len() && matches!(buf[next], b' ' | b'\t') {
        (end, next) = line(buf, next, "header-end")?;
        if next - at > MAX_LINE_LENGTH {
            return Err(ParseError::new(at + MAX_LINE_LENGTH, "line-length"));
        }
    }
    if next - at > MAX_LINE_LENGTH {
        return Err(ParseError::new(at + MAX_LINE_LENGTH, "line-length"));
    }
    let mut start = colon + 1;
    while start < end && is_lws(buf[start]) {
        start += 1;
    }
    while end > start && is_lws(buf[end - 1]) {
        end -= 1;
    }
    Ok(HeaderLine {
        id: HeaderId::of(&buf[at..name_end]),
        name: Span::new(at, name_end),
        value: Span::new(start, end),
        line: Span::new(at, next),
    })
}

const SINGLE: [(HeaderId, &str, &str); 4] = [
    (HeaderId::From, "missing-from", "repeated-from"),
    (HeaderId::To, "missing-to", "repeated-to"),
    (HeaderId::CallId, "missing-call-id", "repeated-call-id"),
    (HeaderId::CSeq, "missing-cseq", "repeated-cseq"),
];

/// Checks the headers that every message must have and notes what they say.
fn check_core(buf: &[u8], layout: &mut Layout, end: usize) -> Result<()> {
    let mut found = [None::<usize>; 4];
    let mut via = None;
    let mut max_forwards = None;
    for (index, header) in layout.headers.iter().enumerate() {
        let slot = match header.id {
            HeaderId::From => 0,
            HeaderId::To => 1,
            HeaderId::CallId => 2,
            HeaderId::CSeq => 3,
            HeaderId::Via => {
                via = via.or(Some(index));
                continue;
            }
            HeaderId::MaxForwards => {
                let value = number(header.value.of(buf)).filter(|&n| n <= 255);
                let at = header.value.start as usize;
                if max_forwards.is_some() {
                    return Err(ParseError::new(at, "repeated-max-forwards"));
                }
                max_forwards = Some(value.ok_or(ParseError::new(at, "max-forwards"))? as u8);
                continue;
            }
            _ => continue,
        };
        if found[slot].is_some() {
            return Err(ParseError::new(header.name.start as usize, SINGLE[slot].2));
        }
        found[slot] = Some(index);
    }
    let via = via.ok_or(ParseError::new(end, "missing-via"))?;
    for (slot, (_, missing, _)) in SINGLE.iter().enumerate() {
        if found[slot].is_none() {
            return Err(ParseError::new(end, missing));
        }
    }
    let value = |index: usize| layout.headers[index].value;
    let get = |slot: usize| value(found[slot].unwrap_or(0));
    let via_span = value(via);
    let parsed = ViaRef::parse(via_span.of(buf)).map_err(|e| e.shifted(via_span.start as usize))?;
    let core = super::message::Core {
        via: Span::new(via_span.start as usize, via_span.start as usize + parsed.text.len()),
        via_line: via as u16,
        from_tag: tag(buf, get(0), "from")?,
        to_tag: tag(buf, get(1), "to")?,
        call_id: call_id(buf, get(2))?,
        ..cseq(buf, get(3), &layout.start)?
    };
    layout.core = super::message::Core { max_forwards, ..core };
    Ok(())
}

fn call_id(buf: &[u8], span: Span) -> Result<Span> {
    let value = span.of(buf);
    if value.is_empty() || value.iter().any(|&c| is_lws(c) || c == b',') {
        return Err(ParseError::new(span.start as usize, "call-id"));
    }
    Ok(span)
}

fn tag(buf: &[u8], span: Span, rule: &'static str) -> Result<Option<Span>> {
    let value = span.of(buf);
    let address = NameAddrRef::parse_as(value, rule).map_err(|e| e.shifted(span.start as usize))?;
    Ok(address.tag().map(|tag| {
        let at = tag.as_ptr() as usize - buf.as_ptr() as usize;
        Span::new(at, at + tag.len())
    }))
}

fn cseq(buf: &[u8], span: Span, start: &Start) -> Result<super::message::Core> {
    let value = span.of(buf);
    let at = span.start as usize;
    let digits = value.iter().take_while(|c| c.is_ascii_digit()).count();
    let cseq = number(&value[..digits]).filter(|&n| n < 1 << 31).ok_or(ParseError::new(at, "cseq"))? as u32;
    let method = trim(&value[digits..]);
    if method.len() + digits == value.len() || method.is_empty() || !method.iter().all(|&c| is_token(c)) {
        return Err(ParseError::new(at + digits, "cseq"));
    }
    if let Start::Request { method: name, .. } = start {
        if name.of(buf) != method {
            return Err(ParseError::new(at + digits, "cseq-method"));
        }
    }
    let method_at = method.as_ptr() as usize - buf.as_ptr() as usize;
    Ok(super::message::Core {
        cseq,
        cseq_method: Span::new(method_at, method_at + method.len()),
        method: Method::of(method),
        ..super::message::Core::default()
    })
}

/// The body that Content-Length announces, or all that is left when there is none (§18.3).
fn body(buf: &[u8], layout: &Layout, start: usize) -> Result<Span> {
    let mut announced: Option<usize> = None;
    for header in layout.headers.iter().filter(|header| header.id == HeaderId::ContentLength) {
        let at = header.value.start as usize;
        let value = number(header.value.of(buf)).and_then(|n| usize::try_from(n).ok());
        let value = value.ok_or(ParseError::new(at, "content-length"))?;
        if announced.is_some_and(|other| other != value) {
            return Err(ParseError::new(at, "repeated-content-length"));
        }
        if value > buf.len() - start {
            return Err(ParseError::new(at, "content-length"));
        }
        announced = Some(value);
    }
    Ok(Span::new(start, announced.map_or(buf.len(), |length| start + length)))
}

/// Parses and gives a view.
pub fn parse_view<'a>(buf: &'a [u8], layout: &'a mut Layout) -> Result<View<'a>> {
    parse(buf, layout)?;
    Ok(View { buf, layout })
}
