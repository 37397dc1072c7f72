//! SDP (RFC 8866) as lines, and offer/answer (RFC 3264) as far as signalling needs it.

mod offer;

use super::error::{ParseError, Result};
pub use offer::{answer, offer, Terms};

/// Media sections in one description.
const MAX_MEDIA: usize = 32;
/// Lines in one description.
const MAX_LINES: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "sendrecv" => Some(Self::SendRecv),
            "sendonly" => Some(Self::SendOnly),
            "recvonly" => Some(Self::RecvOnly),
            "inactive" => Some(Self::Inactive),
            _ => None,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    const fn bits(self) -> (bool, bool) {
        match self {
            Self::SendRecv => (true, true),
            Self::SendOnly => (true, false),
            Self::RecvOnly => (false, true),
            Self::Inactive => (false, false),
        }
    }

    /// What an answerer may say to an offer of `self` when it wants `wanted` (RFC 3264 §6.1).
    pub const fn answer(self, wanted: Self) -> Self {
        let (offers_send, offers_receive) = self.bits();
        let (send, receive) = wanted.bits();
        match (send && offers_receive, receive && offers_send) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }
}

/// `k=value`, without its line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub kind: u8,
    pub value: String,
}

fn line(kind: u8, value: impl Into<String>) -> Line {
    Line { kind, value: value.into() }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub username: String,
    pub session_id: u64,
    pub version: u64,
    pub address: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    pub kind: String,
    pub port: u16,
    pub protocol: String,
    pub formats: Vec<String>,
    /// m= line first.
    pub lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub origin: Origin,
    /// Up to the first m=.
    pub lines: Vec<Line>,
    pub media: Vec<Media>,
}

/// (name, value) of an a= line.
pub fn attribute(value: &str) -> (&str, Option<&str>) {
    match value.split_once(':') {
        Some((name, value)) => (name, Some(value)),
        None => (value, None),
    }
}

fn connection(lines: &[Line]) -> Option<&str> {
    lines
        .iter()
        .find(|l| l.kind == b'c')
        .and_then(|l| l.value.split(' ').nth(2))
        .map(|a| a.split('/').next().unwrap_or(a))
}

fn own_direction(lines: &[Line]) -> Option<Direction> {
    lines.iter().filter(|l| l.kind == b'a').find_map(|l| Direction::of(&l.value))
}

impl Media {
    /// Encoding of a payload type, by a=rtpmap or RFC 3551 table 4.
    pub fn rtpmap(&self, payload: &str) -> Option<String> {
        let mapped = self.lines.iter().filter(|l| l.kind == b'a').find_map(|l| {
            let (number, encoding) = l.value.strip_prefix("rtpmap:")?.split_once(' ')?;
            (number == payload).then(|| encoding.trim().to_owned())
        });
        mapped.or_else(|| {
            let known = match payload {
                "0" => "PCMU/8000",
                "8" => "PCMA/8000",
                "9" => "G722/8000",
                "18" => "G729/8000",
                _ => return None,
            };
            self.formats.iter().any(|format| format == payload).then(|| known.to_owned())
        })
    }

    pub fn payload(&self, encoding: &str) -> Option<&str> {
        let wanted = encoding.trim_end_matches("/1");
        let same = |found: &str| found.trim_end_matches("/1").eq_ignore_ascii_case(wanted);
        self.formats.iter().find(|format| self.rtpmap(format).is_some_and(|e| same(&e))).map(String::as_str)
    }

    fn is_live_audio(&self) -> bool {
        self.kind == "audio" && self.port != 0
    }
}

impl Session {
    pub fn parse(body: &[u8]) -> Result<Self> {
        let mut lines: Vec<Line> = Vec::new();
        let mut media: Vec<Media> = Vec::new();
        let mut at = 0;
        let mut count = 0;
        while at < body.len() {
            let end = memchr::memchr(b'\n', &body[at..]).map_or(body.len(), |i| at + i);
            let text = body[at..end].strip_suffix(b"\r").unwrap_or(&body[at..end]);
            let start = at;
            at = end + 1;
            if text.is_empty() && at >= body.len() {
                break;
            }
            count += 1;
            if count > MAX_LINES {
                return Err(ParseError::new(start, "sdp-line-count"));
            }
            if text.len() < 2 || text[1] != b'=' || !text[0].is_ascii_lowercase() {
                return Err(ParseError::new(start, "sdp-line"));
            }
            let value = String::from_utf8_lossy(&text[2..]).into_owned();
            let parsed = line(text[0], value);
            if parsed.kind == b'm' {
                if media.len() == MAX_MEDIA {
                    return Err(ParseError::new(start, "sdp-media-count"));
                }
                media.push(read_media(parsed).ok_or(ParseError::new(start, "sdp-media"))?);
            } else if let Some(last) = media.last_mut() {
                last.lines.push(parsed);
            } else {
                lines.push(parsed);
            }
        }
        if lines.first() != Some(&line(b'v', "0")) {
            return Err(ParseError::new(0, "sdp-version"));
        }
        let origin = lines.iter().find(|l| l.kind == b'o').and_then(|l| read_origin(&l.value));
        let origin = origin.ok_or(ParseError::new(0, "sdp-origin"))?;
        Ok(Self { origin, lines, media })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        for l in self.lines.iter().chain(self.media.iter().flat_map(|m| &m.lines)) {
            out.push(l.kind);
            out.push(b'=');
            out.extend_from_slice(l.value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out
    }

    pub fn name(&self) -> &str {
        self.lines.iter().find(|l| l.kind == b's').map_or("", |l| &l.value)
    }

    pub fn address(&self) -> Option<&str> {
        connection(&self.lines)
    }

    pub fn direction(&self) -> Direction {
        own_direction(&self.lines).unwrap_or(Direction::SendRecv)
    }

    pub fn media_address(&self, media: &Media) -> Option<String> {
        connection(&media.lines).or_else(|| self.address()).map(str::to_owned)
    }

    pub fn media_direction(&self, media: &Media) -> Direction {
        own_direction(&media.lines).unwrap_or_else(|| self.direction())
    }

    /// The sender does not want to receive: by direction, or by the address of RFC 2543.
    pub fn held(&self, media: &Media) -> bool {
        matches!(self.media_direction(media), Direction::SendOnly | Direction::Inactive)
            || self.media_address(media).as_deref() == Some("0.0.0.0")
    }

    fn bump(&mut self) {
        self.origin.version += 1;
        let Origin { username, session_id, version, .. } = &self.origin;
        if let Some(l) = self.lines.iter_mut().find(|l| l.kind == b'o') {
            let rest: Vec<&str> = l.value.splitn(4, ' ').collect();
            l.value = format!("{username} {session_id} {version} {}", rest.get(3).copied().unwrap_or(""));
        }
    }

    #[must_use]
    pub fn with_direction(&self, direction: Direction) -> Self {
        let mut changed = self.clone();
        changed.bump();
        let not_direction = |l: &Line| l.kind != b'a' || Direction::of(&l.value).is_none();
        changed.lines.retain(not_direction);
        for media in changed.media.iter_mut().filter(|media| media.port != 0) {
            media.lines.retain(not_direction);
            media.lines.push(line(b'a', direction.name()));
        }
        changed
    }

    #[must_use]
    pub fn with_address(&self, address: &str) -> Self {
        let mut changed = self.clone();
        let all = changed.lines.iter_mut().chain(changed.media.iter_mut().flat_map(|m| m.lines.iter_mut()));
        for l in all.filter(|l| l.kind == b'c') {
            l.value = connection_value(address);
        }
        changed
    }
}

fn connection_value(address: &str) -> String {
    format!("IN {} {address}", if address.contains(':') { "IP6" } else { "IP4" })
}

fn read_origin(value: &str) -> Option<Origin> {
    let parts: Vec<&str> = value.split(' ').collect();
    if parts.len() != 6 {
        return None;
    }
    Some(Origin {
        username: parts[0].to_owned(),
        session_id: parts[1].parse().ok()?,
        version: parts[2].parse().ok()?,
        address: parts[5].to_owned(),
    })
}

fn read_media(m: Line) -> Option<Media> {
    let mut parts = m.value.split(' ');
    let kind = parts.next().filter(|kind| !kind.is_empty())?.to_owned();
    let port = parts.next()?.split('/').next()?.parse().ok()?;
    let protocol = parts.next()?.to_owned();
    let formats: Vec<String> = parts.filter(|p| !p.is_empty()).map(str::to_owned).collect();
    if formats.is_empty() {
        return None;
    }
    Some(Media { kind, port, protocol, formats, lines: vec![m] })
}

/// Direction of the first live audio stream, without building anything; None when it is no SDP or has no such stream.
pub fn direction_of(body: &[u8]) -> Option<Direction> {
    let session = Session::parse(body).ok()?;
    let media = session.media.iter().find(|media| media.is_live_audio())?;
    if session.held(media) && session.media_direction(media) == Direction::SendRecv {
        return Some(Direction::SendOnly);
    }
    Some(session.media_direction(media))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\no=alice 1 5 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n\
        m=audio 4000 RTP/AVP 96 8 101\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\na=sendonly\r\n\
        m=video 4002 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\n";

    fn terms(encodings: &[String]) -> Terms<'_> {
        Terms {
            address: "10.0.0.2",
            encodings,
            direction: Direction::SendRecv,
            session_id: 9,
            version: 1,
            name: "-",
        }
    }

    #[test]
    fn round_trip_is_exact_and_parts_are_found() {
        let session = Session::parse(OFFER.as_bytes()).unwrap();
        assert_eq!(session.to_bytes(), OFFER.as_bytes());
        assert_eq!(session.origin.version, 5);
        let audio = &session.media[0];
        assert_eq!(session.media_address(audio).as_deref(), Some("10.0.0.1"));
        assert_eq!(session.media_direction(audio), Direction::SendOnly);
        assert!(session.held(audio));
        assert_eq!(audio.payload("telephone-event/8000"), Some("101"));
        assert_eq!(audio.rtpmap("8").as_deref(), Some("PCMA/8000"));
        assert_eq!(direction_of(OFFER.as_bytes()), Some(Direction::SendOnly));
    }

    #[test]
    fn answer_takes_what_is_common_and_mirrors_hold() {
        let codecs = ["PCMU/8000", "PCMA/8000", "telephone-event/8000"].map(str::to_owned);
        let offered = Session::parse(OFFER.as_bytes()).unwrap();
        let answered = answer(&offered, &terms(&codecs), 5000).unwrap();
        assert_eq!(answered.media.len(), 2);
        assert_eq!(answered.media[0].formats, ["8", "101"]);
        assert_eq!(answered.media_direction(&answered.media[0]), Direction::RecvOnly);
        assert_eq!((answered.media[1].port, answered.media[1].kind.as_str()), (0, "video"));
        assert!(answer(&offered, &terms(&["G729/8000".to_owned()]), 5000).is_none());
        assert!(Session::parse(&answered.to_bytes()).is_ok());
    }

    #[test]
    fn hold_raises_the_version() {
        let codecs = ["PCMU/8000".to_owned(), "telephone-event/8000".to_owned()];
        let offered = offer(&terms(&codecs), 4000);
        let held = offered.with_direction(Direction::SendOnly);
        assert_eq!(held.origin.version, 2);
        assert_eq!(direction_of(&held.to_bytes()), Some(Direction::SendOnly));
        assert_eq!(direction_of(&offered.with_address("0.0.0.0").to_bytes()), Some(Direction::SendOnly));
        assert_eq!(held.media[0].formats, ["0", "101"]);
    }

    #[test]
    fn refused() {
        for (text, rule) in [
            ("", "sdp-version"),
            ("v=1\r\n", "sdp-version"),
            ("v=0\r\n", "sdp-origin"),
            ("v=0\r\no=a b c IN IP4 x\r\n", "sdp-origin"),
            ("v=0\r\nhello\r\n", "sdp-line"),
            ("v=0\r\no=- 1 1 IN IP4 x\r\nm=audio x RTP/AVP 0\r\n", "sdp-media"),
            ("v=0\r\no=- 1 1 IN IP4 x\r\nm=audio 1 RTP/AVP\r\n", "sdp-media"),
        ] {
            assert_eq!(Session::parse(text.as_bytes()).unwrap_err().rule, rule, "{text}");
        }
    }
}
