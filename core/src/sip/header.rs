//! Header names: ids of those the core looks at, canonical spelling, compact forms (RFC 3261 §7.3.3).

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum HeaderId {
    Via,
    From,
    To,
    CallId,
    CSeq,
    Contact,
    Route,
    RecordRoute,
    MaxForwards,
    ContentLength,
    ContentType,
    Expires,
    Authorization,
    ProxyAuthorization,
    Require,
    ProxyRequire,
    Supported,
    Allow,
    Event,
    ReferTo,
    ReferredBy,
    Subject,
    ContentEncoding,
    SessionExpires,
    UserAgent,
    Server,
    Reason,
    Path,
    Other,
}

use HeaderId as H;

/// (id, canonical name, compact form or 0).
const NAMES: [(HeaderId, &str, u8); 28] = [
    (H::Via, "Via", b'v'),
    (H::From, "From", b'f'),
    (H::To, "To", b't'),
    (H::CallId, "Call-ID", b'i'),
    (H::CSeq, "CSeq", 0),
    (H::Contact, "Contact", b'm'),
    (H::Route, "Route", 0),
    (H::RecordRoute, "Record-Route", 0),
    (H::MaxForwards, "Max-Forwards", 0),
    (H::ContentLength, "Content-Length", b'l'),
    (H::ContentType, "Content-Type", b'c'),
    (H::Expires, "Expires", 0),
    (H::Authorization, "Authorization", 0),
    (H::ProxyAuthorization, "Proxy-Authorization", 0),
    (H::Require, "Require", 0),
    (H::ProxyRequire, "Proxy-Require", 0),
    (H::Supported, "Supported", b'k'),
    (H::Allow, "Allow", 0),
    (H::Event, "Event", b'o'),
    (H::ReferTo, "Refer-To", b'r'),
    (H::ReferredBy, "Referred-By", b'b'),
    (H::Subject, "Subject", b's'),
    (H::ContentEncoding, "Content-Encoding", b'e'),
    (H::SessionExpires, "Session-Expires", b'x'),
    (H::UserAgent, "User-Agent", 0),
    (H::Server, "Server", 0),
    (H::Reason, "Reason", 0),
    (H::Path, "Path", 0),
];

impl HeaderId {
    /// Id of a header name in any case or compact form.
    pub fn of(name: &[u8]) -> Self {
        if name.len() == 1 {
            let c = name[0].to_ascii_lowercase();
            return NAMES.iter().find(|row| row.2 == c).map_or(H::Other, |row| row.0);
        }
        if name.len() < 2 {
            return H::Other;
        }
        let first = name[0].to_ascii_uppercase();
        for (id, text, _) in &NAMES {
            let text = text.as_bytes();
            if text.len() == name.len() && text[0] == first && text.eq_ignore_ascii_case(name) {
                return *id;
            }
        }
        H::Other
    }

    /// Canonical spelling; "" for Other.
    pub fn name(self) -> &'static str {
        NAMES.get(self as usize).map_or("", |row| row.1)
    }
}

/// Whether two header names mean the same header.
pub fn same_name(a: &[u8], b: &[u8]) -> bool {
    if a.eq_ignore_ascii_case(b) {
        return true;
    }
    let id = HeaderId::of(a);
    id != H::Other && id == HeaderId::of(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_order_of_ids_and_found_in_every_spelling() {
        for (index, (id, name, compact)) in NAMES.iter().enumerate() {
            assert_eq!(*id as usize, index);
            assert_eq!(id.name(), *name);
            assert_eq!(HeaderId::of(name.to_ascii_lowercase().as_bytes()), *id);
            assert_eq!(HeaderId::of(name.to_ascii_uppercase().as_bytes()), *id);
            if *compact != 0 {
                assert_eq!(HeaderId::of(&[*compact]), *id);
                assert_eq!(HeaderId::of(&[compact.to_ascii_uppercase()]), *id);
            }
        }
        assert_eq!(HeaderId::of(b"X-Other"), H::Other);
        assert_eq!(HeaderId::of(b"q"), H::Other);
        assert!(same_name(b"v", b"VIA") && same_name(b"x-a", b"X-A") && !same_name(b"x-a", b"x-b"));
    }
}
