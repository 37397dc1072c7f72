//! Dialogs: RFC 3261 §12 as data and functions.

use super::chars::trim;
use super::error::{ParseError, Result};
use super::header::HeaderId;
use super::message::{Message, View};
use super::method::Method;
use super::name_addr::NameAddrRef;
use super::params::first_of_list;
use super::uri::UriRef;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialog {
    pub call_id: String,
    pub local_tag: String,
    /// "" when the peer gave none (RFC 2543).
    pub remote_tag: String,
    /// From/To value of our side without its tag.
    pub local_uri: String,
    pub remote_uri: String,
    pub local_cseq: u32,
    /// -1: none seen.
    pub remote_cseq: i64,
    pub remote_target: String,
    /// In the order of sending.
    pub route_set: Vec<String>,
    pub is_uac: bool,
    pub secure: bool,
    pub early: bool,
}

/// Why a request does not belong to its dialog: the status to answer, and a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub status: u16,
    pub why: &'static str,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A From/To value without its tag, with brackets, so that a tag can be put after it.
fn untagged(value: &[u8], rule: &'static str) -> Result<(String, String)> {
    let address = NameAddrRef::parse_as(value, rule)?;
    let tag = text(address.tag().unwrap_or(b""));
    let mut out = Vec::with_capacity(value.len());
    if let Some(display) = address.display {
        out.extend_from_slice(display);
        out.push(b' ');
    }
    out.push(b'<');
    out.extend_from_slice(address.uri);
    out.push(b'>');
    for param in super::params::Params::new(address.params) {
        if !param.name.eq_ignore_ascii_case(b"tag") {
            out.push(b';');
            out.extend_from_slice(param.name);
            if let Some(value) = param.value {
                out.push(b'=');
                out.extend_from_slice(value);
            }
        }
    }
    Ok((super::chars::unfolded(&out), tag))
}

/// URI of the Contact that a dialog needs.
fn target(message: &View<'_>) -> Result<String> {
    let value = message.header(HeaderId::Contact).ok_or(ParseError::new(0, "missing-contact"))?;
    let address = NameAddrRef::parse_as(trim(&value[..first_of_list(value)]), "contact")?;
    address.uri()?;
    Ok(text(address.uri))
}

fn record_routes(message: &View<'_>) -> Vec<String> {
    message.values(HeaderId::RecordRoute).into_iter().map(super::chars::unfolded).collect()
}

fn cseq_number(message: &Message) -> Result<u32> {
    message.cseq().map(|(number, _)| number).ok_or(ParseError::new(0, "cseq"))
}

impl Dialog {
    /// UAS side (§12.1.1).
    pub fn from_request(request: &Message, local_tag: &str) -> Result<Self> {
        let view = request.view();
        let (remote_uri, remote_tag) = untagged(view.header(HeaderId::From).unwrap_or(b""), "from")?;
        let (local_uri, _) = untagged(view.header(HeaderId::To).unwrap_or(b""), "to")?;
        Ok(Self {
            call_id: text(view.header(HeaderId::CallId).unwrap_or(b"")),
            local_tag: local_tag.to_owned(),
            remote_tag,
            local_uri,
            remote_uri,
            local_cseq: 0,
            remote_cseq: i64::from(cseq_number(request)?),
            remote_target: target(&view)?,
            route_set: record_routes(&view),
            is_uac: false,
            secure: UriRef::parse(view.uri())?.is_secure(),
            early: true,
        })
    }

    /// UAC side (§12.1.2), from a response with a To tag; early for 1xx.
    pub fn from_response(request: &Message, response: &Message) -> Result<Self> {
        let (asked, answer) = (request.view(), response.view());
        let (local_uri, local_tag) = untagged(asked.header(HeaderId::From).unwrap_or(b""), "from")?;
        let (remote_uri, remote_tag) = untagged(answer.header(HeaderId::To).unwrap_or(b""), "to")?;
        let mut route_set = record_routes(&answer);
        route_set.reverse();
        Ok(Self {
            call_id: text(asked.header(HeaderId::CallId).unwrap_or(b"")),
            local_tag,
            remote_tag,
            local_uri,
            remote_uri,
            local_cseq: cseq_number(request)?,
            remote_cseq: -1,
            remote_target: target(&answer)?,
            route_set,
            is_uac: true,
            secure: UriRef::parse(asked.uri())?.is_secure(),
            early: answer.status() < 200,
        })
    }

    /// The dialog is confirmed; for a UAC by this 2xx, whose Contact and Record-Route count from now on (§13.2.2.4).
    pub fn confirm(&mut self, response: Option<&Message>) -> Result<()> {
        if let Some(response) = response.filter(|message| self.is_uac && !message.view().is_request()) {
            self.remote_target = target(&response.view())?;
            if self.early {
                self.route_set = record_routes(&response.view());
                self.route_set.reverse();
            }
        }
        self.early = false;
        Ok(())
    }

    /// A request in the dialog (§12.2.1.1), without Via, Contact and body.
    pub fn create_request(&mut self, method: &str, cseq: Option<u32>, max_forwards: u8) -> Message {
        let cseq = match (cseq, method) {
            (Some(cseq), _) => cseq,
            (None, "ACK" | "CANCEL") => self.local_cseq,
            (None, _) => self.local_cseq + 1,
        };
        if method != "ACK" {
            self.local_cseq = self.local_cseq.max(cseq);
        }
        let loose = self.first_route_is_loose();
        let uri = match self.route_set.first() {
            Some(first) if !loose => NameAddrRef::parse(first.as_bytes())
                .map_or_else(|_| self.remote_target.clone(), |a| text(a.uri)),
            _ => self.remote_target.clone(),
        };
        let mut request = Message::request(method, &uri);
        let routes = if loose { &self.route_set[..] } else { self.route_set.get(1..).unwrap_or(&[]) };
        for route in routes {
            request.push("Route", route.as_bytes());
        }
        if !loose && !self.route_set.is_empty() {
            request.push("Route", format!("<{}>", self.remote_target).as_bytes());
        }
        request.push("Max-Forwards", max_forwards.to_string().as_bytes());
        request.push("From", tagged(&self.local_uri, &self.local_tag).as_bytes());
        request.push("To", tagged(&self.remote_uri, &self.remote_tag).as_bytes());
        request.push("Call-ID", self.call_id.as_bytes());
        request.push("CSeq", format!("{cseq} {method}").as_bytes());
        request
    }

    fn first_route_is_loose(&self) -> bool {
        let Some(first) = self.route_set.first() else {
            return true;
        };
        let Ok(address) = NameAddrRef::parse(first.as_bytes()) else {
            return true;
        };
        address.uri().map_or(true, |uri| uri.param(b"lr").is_some())
    }

    /// Where a request goes: URI of the first route, else the remote target.
    pub fn next_hop(&self) -> String {
        let first = self.route_set.first().and_then(|route| NameAddrRef::parse(route.as_bytes()).ok());
        first.map_or_else(|| self.remote_target.clone(), |address| text(address.uri))
    }

    /// Checks a request of the peer, takes its CSeq and, when it refreshes the target, its Contact (§12.2.2).
    pub fn accept(&mut self, request: &Message) -> std::result::Result<(), Refused> {
        let no_dialog = Refused { status: 481, why: "tags or Call-ID are not of this dialog" };
        if request.get("Call-ID") != Some(self.call_id.as_bytes())
            || request.to_tag().unwrap_or(b"") != self.local_tag.as_bytes()
            || request.from_tag().unwrap_or(b"") != self.remote_tag.as_bytes()
        {
            return Err(no_dialog);
        }
        let (cseq, _) = request.cseq().ok_or(Refused { status: 400, why: "CSeq cannot be read" })?;
        let method = Method::of(request.view().method());
        if matches!(method, Method::Ack | Method::Cancel) {
            return Ok(());
        }
        if i64::from(cseq) <= self.remote_cseq {
            return Err(Refused { status: 500, why: "CSeq is not higher than the last one" });
        }
        let contact = if method.refreshes_target() && request.header(HeaderId::Contact).is_some() {
            Some(
                target(&request.view())
                    .map_err(|_| Refused { status: 400, why: "Contact cannot be used" })?,
            )
        } else {
            None
        };
        self.remote_cseq = i64::from(cseq);
        if let Some(contact) = contact {
            self.remote_target = contact;
        }
        Ok(())
    }

    /// Takes Contact of a 2xx to a target refresh request of ours.
    pub fn refresh_target(&mut self, response: &Message) -> Result<()> {
        let view = response.view();
        let method = response.cseq().map_or(Method::Other, |(_, method)| Method::of(method));
        let success = (200..300).contains(&view.status());
        if success && method.refreshes_target() && view.header(HeaderId::Contact).is_some() {
            self.remote_target = target(&view)?;
        }
        Ok(())
    }
}

fn tagged(address: &str, tag: &str) -> String {
    if tag.is_empty() {
        return address.to_owned();
    }
    format!("{address};tag={tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invite() -> Message {
        Message::parse(
            b"INVITE sip:bob@b.example SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nRecord-Route: <sip:p2;lr>, <sip:p1;lr>\r\n\
              From: \"A\" <sip:alice@a.example>;tag=at\r\nTo: sip:bob@b.example\r\nCall-ID: c1\r\nCSeq: 7 INVITE\r\n\
              Contact: <sip:alice@10.0.0.1>\r\n\r\n",
        )
        .unwrap()
    }

    fn answer(status: &str) -> Message {
        Message::parse(
            format!(
                "SIP/2.0 {status}\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nRecord-Route: <sip:p2;lr>, <sip:p1;lr>\r\n\
                 From: \"A\" <sip:alice@a.example>;tag=at\r\nTo: sip:bob@b.example;tag=bt\r\nCall-ID: c1\r\n\
                 CSeq: 7 INVITE\r\nContact: <sip:bob@10.0.0.2>\r\n\r\n"
            )
            .as_bytes(),
        )
        .unwrap()
    }

    fn of_peer(dialog: &Dialog, method: &str, cseq: u32) -> Message {
        let mut message = Message::request(method, "sip:x@y");
        message.push("From", format!("<sip:p@q>;tag={}", dialog.remote_tag).as_bytes());
        message.push("To", format!("<sip:p@q>;tag={}", dialog.local_tag).as_bytes());
        message.push("Call-ID", dialog.call_id.as_bytes());
        message.push("CSeq", format!("{cseq} {method}").as_bytes());
        message
    }

    #[test]
    fn both_ends_agree() {
        let uas = Dialog::from_request(&invite(), "bt").unwrap();
        let mut uac = Dialog::from_response(&invite(), &answer("180 Ringing")).unwrap();
        assert_eq!((uas.local_tag.as_str(), uas.remote_tag.as_str()), ("bt", "at"));
        assert_eq!((uac.local_tag.as_str(), uac.remote_tag.as_str()), ("at", "bt"));
        assert_eq!(uas.route_set, ["<sip:p2;lr>", "<sip:p1;lr>"]);
        assert_eq!(uac.route_set, ["<sip:p1;lr>", "<sip:p2;lr>"]);
        assert!(uac.early);
        uac.confirm(Some(&answer("200 OK"))).unwrap();
        assert!(!uac.early);
        assert_eq!(uac.next_hop(), "sip:p1;lr");
        let ack = uac.create_request("ACK", None, 70).to_bytes();
        let bye = uac.create_request("BYE", None, 70);
        assert!(String::from_utf8_lossy(&ack).contains("CSeq: 7 ACK"));
        assert_eq!(bye.cseq(), Some((8, &b"BYE"[..])));
        assert_eq!(bye.view().uri(), b"sip:bob@10.0.0.2");
        assert_eq!(bye.get("From"), Some(&b"\"A\" <sip:alice@a.example>;tag=at"[..]));
        let mut uas = uas;
        uas.accept(&bye).unwrap();
        assert_eq!(uas.remote_cseq, 8);
    }

    #[test]
    fn order_and_membership() {
        let mut dialog = Dialog::from_request(&invite(), "bt").unwrap();
        let stale = of_peer(&dialog, "BYE", 7);
        assert_eq!(dialog.accept(&stale).unwrap_err().status, 500);
        let mut foreign = of_peer(&dialog, "BYE", 9);
        foreign.set("To", b"<sip:p@q>;tag=other");
        assert_eq!(dialog.accept(&foreign).unwrap_err().status, 481);
        assert!(dialog.accept(&of_peer(&dialog.clone(), "ACK", 7)).is_ok());
        let mut refresh = of_peer(&dialog, "INVITE", 8);
        refresh.push("Contact", b"<sip:new@10.9.9.9>");
        dialog.accept(&refresh).unwrap();
        assert_eq!((dialog.remote_target.as_str(), dialog.remote_cseq), ("sip:new@10.9.9.9", 8));
        let mut info = of_peer(&dialog, "INFO", 9);
        info.push("Contact", b"<sip:not@this>");
        dialog.accept(&info).unwrap();
        assert_eq!(dialog.remote_target, "sip:new@10.9.9.9");
    }

    #[test]
    fn a_strict_router_gets_its_uri_in_the_request_line() {
        let mut dialog = Dialog::from_request(&invite(), "bt").unwrap();
        dialog.route_set = vec!["<sip:strict>".to_owned(), "<sip:p1;lr>".to_owned()];
        let request = dialog.create_request("BYE", None, 70);
        assert_eq!(request.view().uri(), b"sip:strict");
        let routes: Vec<_> = request.named(b"Route").collect();
        assert_eq!(routes, [&b"<sip:p1;lr>"[..], b"<sip:alice@10.0.0.1>"]);
    }

    #[test]
    fn no_dialog_without_a_contact() {
        let mut request = invite();
        request.remove("Contact");
        assert_eq!(Dialog::from_request(&request, "x").unwrap_err().rule, "missing-contact");
    }
}
