//! Properties of the parsers and of the engines under arbitrary and damaged input.

use proptest::collection::vec;
use proptest::prelude::*;
use std::net::SocketAddr;
use voicecore::io::Engine;
use voicecore::sip::agent::{Agent, Config};
use voicecore::sip::digest::{Authorization, Challenge};
use voicecore::sip::message::Message;
use voicecore::sip::name_addr::NameAddrRef;
use voicecore::sip::proxy::{Config as ProxyConfig, Proxy};
use voicecore::sip::sdp::Session;
use voicecore::sip::stack::malformed;
use voicecore::sip::uri::UriRef;
use voicecore::sip::via::ViaRef;
use voicecore::sip::ParseError;

const REQUEST: &str = "INVITE sip:bob@10.0.0.9 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1;rport\r\n\
    Route: <sip:10.0.0.9;lr>\r\nMax-Forwards: 70\r\nFrom: \"A\" <sip:a@b>;tag=v1003-x\r\nTo: <sip:bob@c>\r\nCall-ID: c1\r\n\
    CSeq: 1 INVITE\r\nContact: <sip:a@10.0.0.1>\r\nContent-Type: application/sdp\r\nContent-Length: 4\r\n\r\nv=0\n";

fn peer() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 5060))
}

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z0-9.!%*_+`'~-]{1,12}"
}

fn value() -> impl Strategy<Value = String> {
    // One line, with folds now and then; no white space at the ends.
    "[!-~]([ -~é]{0,30}[!-~])?(\r\n[ \t][!-~]{1,10})?"
}

prop_compose! {
    fn message()(headers in vec((token(), value()), 0..12), body in vec(any::<u8>(), 0..200), spaces in 0usize..3) -> Vec<u8> {
        let mut out = b"OPTIONS sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKq\r\n".to_vec();
        for (name, value) in headers {
            let line = format!("X-{name}{}:{}{value}\r\n", " ".repeat(spaces), " ".repeat(spaces));
            out.extend_from_slice(line.as_bytes());
        }
        out.extend_from_slice(b"f: <sip:a@b>;tag=1\r\nt: <sip:x@y>\r\ni: id\r\nCSeq: 7 OPTIONS\r\n");
        out.extend_from_slice(format!("l: {}\r\n\r\n", body.len()).as_bytes());
        out.extend_from_slice(&body);
        out
    }
}

/// A datagram that was right once: bytes replaced, cut and inserted.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    (vec((0usize..REQUEST.len(), 0usize..12, vec(any::<u8>(), 0..6)), 0..4), any::<bool>()).prop_map(
        |(edits, bye)| {
            let mut data =
                if bye { REQUEST.replace("INVITE", "BYE") } else { REQUEST.to_owned() }.into_bytes();
            for (at, cut, put) in edits {
                let at = at.min(data.len());
                let end = (at + cut).min(data.len());
                data.splice(at..end, put);
            }
            data
        },
    )
}

fn uri() -> impl Strategy<Value = String> {
    (
        prop::option::of("[a-z0-9;?&=+$,/*'()-]{1,10}"),
        prop::sample::select(vec!["example.com", "10.0.0.1", "[2001:db8::1]", "A-b.C"]),
        prop::option::of(1u16..),
        vec(("[a-z]{1,6}", prop::option::of("[a-zA-Z0-9._:/-]{1,8}")), 0..4),
    )
        .prop_map(|(user, host, port, params)| {
            let user = user.map(|user| format!("{user}@")).unwrap_or_default();
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            let params: String = params
                .into_iter()
                .map(|(name, value)| value.map_or(format!(";{name}"), |value| format!(";{name}={value}")))
                .collect();
            format!("sip:{user}{host}{port}{params}")
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_message_is_written_back_byte_for_byte(data in message()) {
        let parsed = Message::parse(&data).unwrap();
        prop_assert_eq!(parsed.to_bytes(), data);
    }

    #[test]
    fn an_edit_is_seen_and_nothing_else_moves(data in message(), name in token(), text in "[!-~]{1,20}") {
        let mut edited = Message::parse(&data).unwrap();
        let name = format!("Y-{name}");
        edited.append(&name, text.as_bytes());
        let again = Message::parse(&edited.to_bytes()).unwrap();
        prop_assert_eq!(again.get(&name), Some(text.as_bytes()));
        edited.remove(&name);
        prop_assert_eq!(edited.to_bytes(), data);
    }

    #[test]
    fn arbitrary_bytes_never_panic(data in vec(any::<u8>(), 0..400)) {
        let position = |error: ParseError| error.position <= data.len();
        prop_assert!(Message::parse(&data).map_or_else(position, |_| true));
        prop_assert!(UriRef::parse(&data).map_or_else(position, |_| true));
        prop_assert!(NameAddrRef::parse(&data).map_or_else(position, |_| true));
        prop_assert!(ViaRef::parse(&data).map_or_else(position, |_| true));
        prop_assert!(Session::parse(&data).map_or_else(position, |_| true));
        prop_assert!(Authorization::parse(&data).map_or_else(position, |_| true));
        prop_assert!(Challenge::parse(&data).map_or_else(position, |_| true));
    }

    #[test]
    fn a_uri_keeps_its_parts(text in uri()) {
        let parsed = UriRef::parse(text.as_bytes()).unwrap();
        prop_assert!(parsed.equivalent(&parsed));
        let wrapped = format!("\"x\" <{text}>;tag=1");
        let address = NameAddrRef::parse(wrapped.as_bytes()).unwrap();
        prop_assert_eq!(address.uri, text.as_bytes());
    }

    #[test]
    fn damage_is_an_answer_or_a_message_but_never_a_panic(datagrams in vec(damaged(), 1..6)) {
        let mut agent = Agent::new(Config::default(), 0);
        agent.bound(SocketAddr::from(([10, 0, 0, 9], 5060)));
        let mut proxy = Proxy::new(ProxyConfig::default(), 0);
        proxy.bound(SocketAddr::from(([10, 0, 0, 9], 5060)));
        proxy.set_nodes(&[("n".to_owned(), SocketAddr::from(([10, 0, 0, 2], 5060)), 1.0)], 0);
        proxy.set_slots(vec![(3, Some(0))], true, 0);
        for (index, data) in datagrams.iter().enumerate() {
            let now = index as u64 * 400_000;
            for engine in [&mut agent as &mut dyn Engine, &mut proxy as &mut dyn Engine] {
                engine.datagram(data, peer(), 0, now);
                engine.unreachable(data, now);
                engine.tick(now);
                for packet in &engine.output().packets.clone() {
                    let sent = engine.output().data(packet).to_vec();
                    // What leaves is SIP, but for answers that repeat a broken From, To or CSeq.
                    prop_assert!(Message::parse(&sent).is_ok() || sent.starts_with(b"SIP/2.0 4") || sent.starts_with(b"SIP/2.0 505"));
                }
                engine.output().clear();
            }
        }
        for second in 1..200 {
            agent.tick(second * 1_000_000);
            Engine::tick(&mut proxy, second * 1_000_000);
        }
        prop_assert!(Engine::next_due(&proxy).is_none() || !proxy.stack.table.is_empty());
    }

    #[test]
    fn answers_to_what_cannot_be_parsed_repeat_its_lines(data in damaged()) {
        if let Err(error) = Message::parse(&data) {
            if let Some((answer, to)) = malformed::answer(&data, &error, peer()) {
                let start = format!("SIP/2.0 {} ", error.status);
                prop_assert!(answer.starts_with(start.as_bytes()));
                prop_assert_eq!(to.ip(), peer().ip());
            }
        }
    }
}
