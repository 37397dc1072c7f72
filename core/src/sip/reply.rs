//! Responses made from requests (RFC 3261 §8.2.6).

use super::header::HeaderId;
use super::message::{Message, View};
use super::name_addr::NameAddrRef;
use super::reason::phrase;

/// Via, From, To, Call-ID, CSeq copied; Record-Route too for what can make a dialog. `to_tag` is added unless To has one.
pub fn reply(request: &View<'_>, status: u16, reason: Option<&str>, to_tag: Option<&[u8]>) -> Message {
    let mut response = Message::response(status, reason.unwrap_or_else(|| phrase(status)));
    response.copy_header(request, HeaderId::Via);
    response.copy_header(request, HeaderId::From);
    let to = request.header(HeaderId::To).unwrap_or(b"");
    let tagged = NameAddrRef::parse(to).is_ok_and(|address| address.tag().is_some());
    match to_tag {
        Some(tag) if !tagged => {
            let mut value = to.to_vec();
            value.extend_from_slice(b";tag=");
            value.extend_from_slice(tag);
            response.push("To", &value);
        }
        _ => response.push("To", to),
    }
    response.copy_header(request, HeaderId::CallId);
    response.copy_header(request, HeaderId::CSeq);
    if (101..300).contains(&status) {
        response.copy_header(request, HeaderId::RecordRoute);
    }
    response
}
