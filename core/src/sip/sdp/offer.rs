//! Offers and answers (RFC 3264).

use super::{connection_value, line, read_media, Direction, Media, Origin, Session};

/// What an offer or answer is made of.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    pub address: &'a str,
    pub encodings: &'a [String],
    pub direction: Direction,
    pub session_id: u64,
    pub version: u64,
    pub name: &'a str,
}

impl Terms<'_> {
    fn session(&self) -> Session {
        let net = connection_value(self.address);
        let lines = vec![
            line(b'v', "0"),
            line(b'o', format!("- {} {} {net}", self.session_id, self.version)),
            line(b's', self.name),
            line(b'c', net),
            line(b't', "0 0"),
        ];
        let origin = Origin {
            username: "-".to_owned(),
            session_id: self.session_id,
            version: self.version,
            address: self.address.to_owned(),
        };
        Session { origin, lines, media: Vec::new() }
    }
}

fn stream(port: u16, protocol: &str, formats: &[(String, String)], direction: Direction) -> Media {
    let numbers: Vec<&str> = formats.iter().map(|(number, _)| number.as_str()).collect();
    let mut lines = vec![line(b'm', format!("audio {port} {protocol} {}", numbers.join(" ")))];
    for (number, encoding) in formats {
        lines.push(line(b'a', format!("rtpmap:{number} {encoding}")));
        if encoding.to_ascii_lowercase().starts_with("telephone-event") {
            lines.push(line(b'a', format!("fmtp:{number} 0-15")));
        }
    }
    lines.push(line(b'a', direction.name()));
    let formats = formats.iter().map(|(number, _)| number.clone()).collect();
    Media { kind: "audio".to_owned(), port, protocol: protocol.to_owned(), formats, lines }
}

/// A fresh audio offer.
pub fn offer(terms: &Terms<'_>, port: u16) -> Session {
    let mut dynamic = 100;
    let formats: Vec<(String, String)> = terms
        .encodings
        .iter()
        .map(|encoding| {
            let number = match encoding.to_ascii_uppercase().as_str() {
                "PCMU/8000" => 0,
                "PCMA/8000" => 8,
                "G722/8000" => 9,
                "G729/8000" => 18,
                _ => {
                    dynamic += 1;
                    dynamic
                }
            };
            (number.to_string(), encoding.clone())
        })
        .collect();
    let mut session = terms.session();
    session.media.push(stream(port, "RTP/AVP", &formats, terms.direction));
    session
}

/// Answer to an offer: the first audio stream that has a common codec is taken, others are refused. None: nothing common.
pub fn answer(offer: &Session, terms: &Terms<'_>, port: u16) -> Option<Session> {
    let mut session = terms.session();
    let mut taken = false;
    for media in &offer.media {
        let common: Vec<(String, String)> = media
            .formats
            .iter()
            .filter_map(|number| media.rtpmap(number).map(|encoding| (number.clone(), encoding)))
            .filter(|(_, encoding)| {
                let bare = encoding.trim_end_matches("/1");
                terms.encodings.iter().any(|ours| ours.eq_ignore_ascii_case(bare))
            })
            .collect();
        let has_voice = common.iter().any(|(_, e)| !e.to_ascii_lowercase().starts_with("telephone-event"));
        if !taken && media.is_live_audio() && media.protocol == "RTP/AVP" && has_voice {
            taken = true;
            let direction = offer.media_direction(media).answer(terms.direction);
            session.media.push(stream(port, &media.protocol, &common, direction));
            continue;
        }
        let refused = format!("{} 0 {} {}", media.kind, media.protocol, media.formats.join(" "));
        session.media.extend(read_media(line(b'm', refused)));
    }
    taken.then_some(session)
}
