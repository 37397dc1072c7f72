//! Requests that a transaction makes from its own request: ACK of a failure (§17.1.1.3) and CANCEL (§9.1).

use super::super::chars::push_number;
use super::super::header::HeaderId;
use super::super::message::{Layout, View};
use super::super::parse::parse_view;

/// ACK for a 3xx..6xx: the INVITE's branch, the response's To.
pub fn failure_ack(invite: &[u8], response: &View<'_>, layout: &mut Layout) -> Vec<u8> {
    let to = response.header(HeaderId::To);
    derived(invite, "ACK", to, None, layout)
}

/// CANCEL: everything the INVITE's.
pub fn cancel(invite: &[u8], reason: &[u8], layout: &mut Layout) -> Vec<u8> {
    derived(invite, "CANCEL", None, (!reason.is_empty()).then_some(reason), layout)
}

fn derived(
    invite: &[u8],
    method: &str,
    to: Option<&[u8]>,
    reason: Option<&[u8]>,
    layout: &mut Layout,
) -> Vec<u8> {
    // The packet was serialised here; it does not parse only if the transaction user sent what is no SIP.
    let Ok(request) = parse_view(invite, layout) else {
        return Vec::new();
    };
    let mut out = Vec::with_capacity(512);
    let line = |out: &mut Vec<u8>, name: &str, value: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(request.uri());
    out.extend_from_slice(b" SIP/2.0\r\n");
    line(&mut out, "Via", request.span(request.core().via));
    for route in request.lines(HeaderId::Route) {
        line(&mut out, "Route", route.value.of(request.buf));
    }
    line(&mut out, "Max-Forwards", b"70");
    line(&mut out, "From", request.header(HeaderId::From).unwrap_or(b""));
    line(&mut out, "To", to.or_else(|| request.header(HeaderId::To)).unwrap_or(b""));
    line(&mut out, "Call-ID", request.call_id());
    out.extend_from_slice(b"CSeq: ");
    push_number(&mut out, u64::from(request.core().cseq));
    out.push(b' ');
    out.extend_from_slice(method.as_bytes());
    out.extend_from_slice(b"\r\n");
    if let Some(reason) = reason {
        line(&mut out, "Reason", reason);
    }
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    out
}

/// Top Via value of one of our requests.
pub fn via_value(host: &str, branch: &[u8], transport: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(80);
    out.extend_from_slice(b"SIP/2.0/");
    out.extend_from_slice(transport.as_bytes());
    out.push(b' ');
    out.extend_from_slice(host.as_bytes());
    out.extend_from_slice(b";branch=");
    out.extend_from_slice(branch);
    out.extend_from_slice(b";rport");
    out
}
