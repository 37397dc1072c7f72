//! Two user agents over a network in virtual time.

use super::super::dialog::Dialog;
use super::super::message::Message;
use super::super::reply::reply;
use super::super::simnet::{address, agent, Net, Weather};
use super::super::txn::{Micros, SECOND};
use super::event::Event;
use super::{Agent, Config, SendError};

fn request(method: &str, call: &str) -> Message {
    let mut message = Message::request(method, "sip:bob@10.0.0.2");
    message.push("Max-Forwards", b"70");
    message.push("From", b"<sip:alice@10.0.0.1>;tag=alice");
    message.push("To", b"<sip:bob@10.0.0.2>");
    message.push("Call-ID", call.as_bytes());
    message.push("CSeq", format!("1 {method}").as_bytes());
    message.push("Contact", b"<sip:alice@10.0.0.1:5060>");
    message
}

fn answer(request: &Message, status: u16) -> Message {
    let mut response = reply(&request.view(), status, None, Some(b"bob"));
    response.push("Contact", b"<sip:bob@10.0.0.2:5060>");
    response
}

struct Pair {
    net: Net<2>,
    a: Agent,
    b: Agent,
}

impl Pair {
    fn new(weather: Weather, seed: u64) -> Self {
        let config = Config { report_terminated: true, ..Config::default() };
        Self { net: Net::new(weather, seed), a: agent(0, config.clone()), b: agent(1, config) }
    }

    fn pass(&mut self, time: Micros) {
        self.net.pass([&mut self.a, &mut self.b], time);
    }

    fn events_a(&mut self) -> Vec<Event> {
        self.a.events.queue.drain(..).collect()
    }

    fn events_b(&mut self) -> Vec<Event> {
        self.b.events.queue.drain(..).collect()
    }

    fn invite(&mut self, call: &str) -> (u64, u64, Message) {
        let txn = self.a.send_request(request("INVITE", call), address(1), "", None, self.net.now).unwrap();
        self.pass(SECOND / 100);
        match self.events_b().pop() {
            Some(Event::Request { txn: at_b, message, .. }) => (txn, at_b, message),
            other => panic!("{other:?}"),
        }
    }
}

fn status(event: &Event) -> u16 {
    match event {
        Event::Response { message, .. } => message.view().status(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_quiet_call_costs_no_retransmission() {
    let mut pair = Pair::new(Weather::default(), 1);
    let (at_a, at_b, invite) = pair.invite("c1");
    let now = pair.net.now;
    pair.b.respond(at_b, answer(&invite, 180), now).unwrap();
    pair.pass(SECOND / 100);
    pair.b.respond(at_b, answer(&invite, 200), pair.net.now).unwrap();
    pair.pass(SECOND / 100);
    let events = pair.events_a();
    assert_eq!(events.iter().map(status).collect::<Vec<_>>(), [180, 200]);
    let Event::Response { message, .. } = &events[1] else { panic!() };
    let mut dialog = Dialog::from_response(&request("INVITE", "c1"), message).unwrap();
    pair.a.send_ack(at_a, dialog.create_request("ACK", None, 70), address(1)).unwrap();
    pair.pass(SECOND / 100);
    assert!(matches!(pair.events_b()[..], [Event::Ack { txn: Some(txn), .. }] if txn == at_b));
    pair.pass(60 * SECOND);
    assert!(matches!(pair.events_a()[..], [Event::Terminated { .. }]));
    assert!(matches!(pair.events_b()[..], [Event::Terminated { .. }]));
    assert_eq!(pair.a.stack.counters.retransmissions_out + pair.b.stack.counters.retransmissions_out, 0);
    assert!(pair.a.stack.table.is_empty() && pair.b.stack.table.is_empty());
}

#[test]
fn trying_comes_after_200_ms_and_not_at_all_when_ringing_was_sent() {
    let mut pair = Pair::new(Weather::default(), 1);
    pair.invite("c1");
    pair.pass(SECOND / 10);
    assert_eq!(pair.net.seen(0, "SIP/2.0 100"), 0);
    pair.pass(SECOND / 5);
    assert_eq!(pair.net.seen(0, "SIP/2.0 100"), 1);
    assert!(pair.events_a().is_empty(), "100 is nobody's decision");
    let (_, at_b, invite) = pair.invite("c2");
    pair.b.respond(at_b, answer(&invite, 180), pair.net.now).unwrap();
    pair.pass(SECOND);
    assert_eq!(pair.net.seen(0, "SIP/2.0 100"), 1);
}

#[test]
fn a_ringing_phone_says_so_each_minute() {
    let mut pair = Pair::new(Weather::default(), 1);
    let (_, at_b, invite) = pair.invite("c1");
    pair.b.respond(at_b, answer(&invite, 180), pair.net.now).unwrap();
    pair.pass(130 * SECOND);
    assert_eq!(pair.net.seen(0, "SIP/2.0 180"), 3);
    pair.b.respond(at_b, answer(&invite, 486), pair.net.now).unwrap();
    pair.pass(130 * SECOND);
    assert_eq!(pair.net.seen(0, "SIP/2.0 180"), 3);
}

#[test]
fn a_2xx_without_ack_is_repeated_for_32_seconds_and_reported() {
    let mut pair = Pair::new(Weather::default(), 1);
    let (_, at_b, invite) = pair.invite("c1");
    pair.b.respond(at_b, answer(&invite, 200), pair.net.now).unwrap();
    pair.pass(31 * SECOND);
    // At 0, 0.5, 1.5, 3.5, 7.5 and then every 4 s: ten up to 27.5 s.
    assert_eq!(pair.net.seen(0, "SIP/2.0 200"), 10);
    assert_eq!(pair.events_a().len(), 1, "a repeated 2xx is not news");
    assert!(pair.events_b().is_empty());
    pair.pass(2 * SECOND);
    assert!(
        matches!(pair.events_b()[..], [Event::Timeout { txn, kind: "ack" }, Event::Terminated { .. }] if txn == at_b)
    );
}

#[test]
fn a_failure_is_acknowledged_by_the_core() {
    let mut pair = Pair::new(Weather::default(), 1);
    let (_, at_b, invite) = pair.invite("c1");
    pair.b.respond(at_b, answer(&invite, 486), pair.net.now).unwrap();
    pair.pass(10 * SECOND);
    assert_eq!(pair.events_a().iter().map(status).collect::<Vec<_>>(), [486]);
    assert!(matches!(pair.events_b()[..], [Event::Terminated { .. }]));
    assert_eq!(pair.net.seen(1, "ACK"), 1);
    let refused = pair.b.respond(at_b, answer(&invite, 200), pair.net.now);
    assert_eq!(refused, Err(SendError::Gone));
}

#[test]
fn cancel_waits_for_a_provisional_response() {
    let mut pair = Pair::new(Weather::default(), 1);
    let at_a = pair.a.send_request(request("INVITE", "c1"), address(1), "", None, pair.net.now).unwrap();
    assert_eq!(pair.a.cancel(at_a, b"SIP;cause=200", pair.net.now), Ok(true));
    pair.pass(SECOND / 10);
    assert_eq!(pair.net.seen(1, "CANCEL"), 0);
    let Some(Event::Request { txn: at_b, message, .. }) = pair.events_b().pop() else { panic!() };
    pair.pass(SECOND / 5);
    assert_eq!(pair.net.seen(1, "CANCEL"), 1);
    let events = pair.events_b();
    let [Event::Cancel { txn, message: cancel }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((*txn, cancel.get("Reason")), (at_b, Some(&b"SIP;cause=200"[..])));
    pair.b.respond(at_b, answer(&message, 487), pair.net.now).unwrap();
    pair.pass(SECOND);
    let finals: Vec<u16> =
        pair.events_a().iter().filter(|e| matches!(e, Event::Response { .. })).map(status).collect();
    assert_eq!(finals, [487]);
}

#[test]
fn cancel_that_nobody_heeds_ends_after_32_seconds() {
    let mut pair = Pair::new(Weather::default(), 1);
    let (at_a, at_b, invite) = pair.invite("c1");
    pair.b.respond(at_b, answer(&invite, 180), pair.net.now).unwrap();
    pair.pass(SECOND / 10);
    pair.events_a();
    pair.a.cancel(at_a, b"", pair.net.now).unwrap();
    pair.pass(31 * SECOND);
    assert!(pair.events_a().is_empty());
    pair.pass(3 * SECOND);
    assert!(matches!(
        pair.events_a()[..],
        [Event::Timeout { kind: "request", .. }, Event::Terminated { .. }]
    ));
}

#[test]
fn cancel_too_late_says_so_and_a_stray_cancel_gets_481() {
    let mut pair = Pair::new(Weather::default(), 1);
    let (at_a, at_b, invite) = pair.invite("c1");
    pair.b.respond(at_b, answer(&invite, 200), pair.net.now).unwrap();
    pair.pass(SECOND / 10);
    assert_eq!(pair.a.cancel(at_a, b"", pair.net.now), Ok(false));
    let stray = "CANCEL sip:x@10.0.0.2 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKnone\r\nFrom: <sip:a@b>;tag=1\r\n\
                 To: <sip:x@y>\r\nCall-ID: z\r\nCSeq: 1 CANCEL\r\n\r\n";
    pair.b.datagram(stray.as_bytes(), address(0), 0, pair.net.now);
    pair.pass(SECOND / 10);
    assert_eq!(pair.net.seen(0, "SIP/2.0 481"), 1);
}

#[test]
fn silence_and_icmp() {
    let mut pair = Pair::new(Weather::default(), 1);
    pair.net.deaf[1] = true;
    pair.a.send_request(request("OPTIONS", "o1"), address(1), "", None, pair.net.now).unwrap();
    pair.pass(40 * SECOND);
    assert!(matches!(
        pair.events_a()[..],
        [Event::Timeout { kind: "request", .. }, Event::Terminated { .. }]
    ));
    assert_eq!(pair.a.stack.counters.retransmissions_out, 10);
    pair.net.gone[1] = true;
    pair.a.send_request(request("INVITE", "i1"), address(1), "", None, pair.net.now).unwrap();
    pair.pass(SECOND / 10);
    assert!(matches!(pair.events_a()[..], [Event::Failed { reason: "icmp", .. }, Event::Terminated { .. }]));
}

#[test]
fn forks_are_told_apart() {
    let mut pair = Pair::new(Weather::default(), 1);
    let (at_a, at_b, invite) = pair.invite("c1");
    pair.b.respond(at_b, answer(&invite, 200), pair.net.now).unwrap();
    pair.pass(SECOND / 100);
    let other = reply(&invite.view(), 200, None, Some(b"carol"));
    pair.a.datagram(&other.to_bytes(), address(1), 0, pair.net.now);
    pair.a.datagram(&other.to_bytes(), address(1), 0, pair.net.now);
    let tags: Vec<Vec<u8>> = pair
        .events_a()
        .iter()
        .map(|event| match event {
            Event::Response { message, .. } => message.to_tag().unwrap().to_vec(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(tags, [b"bob".to_vec(), b"carol".to_vec()]);
    let mut ack = request("ACK", "c1");
    ack.set("To", b"<sip:bob@10.0.0.2>;tag=dave");
    assert_eq!(pair.a.send_ack(at_a, ack, address(1)), Err(SendError::Gone));
}

#[test]
fn overload_is_answered_503_without_a_transaction() {
    let mut pair = Pair::new(Weather::default(), 1);
    pair.b = agent(1, Config { max_events: 2, ..Config::default() });
    for i in 0..5 {
        pair.a
            .send_request(request("OPTIONS", &format!("o{i}")), address(1), "", None, pair.net.now)
            .unwrap();
    }
    pair.pass(SECOND / 10);
    let refused =
        pair.events_a().iter().filter(|e| matches!(e, Event::Response { .. }) && status(e) == 503).count();
    assert_eq!((refused, pair.b.stack.counters.overload_rejected, pair.b.stack.table.len()), (3, 3, 2));
}

#[test]
fn malformed_input_is_counted_by_rule_and_answered_within_the_rate() {
    let mut pair = Pair::new(Weather::default(), 1);
    let bad = request("OPTIONS", "o").to_bytes();
    let bad = String::from_utf8(bad)
        .unwrap()
        .replace("CSeq: 1 OPTIONS", "CSeq: x OPTIONS\r\nVia: SIP/2.0/UDP 10.0.0.1");
    for _ in 0..20 {
        pair.b.datagram(bad.as_bytes(), address(0), 0, pair.net.now);
    }
    pair.b.datagram(b"\r\n\r\n", address(0), 0, pair.net.now);
    pair.b.datagram(b"\xff\xfe\x00garbage", address(0), 0, pair.net.now);
    pair.pass(SECOND / 10);
    assert_eq!(pair.net.seen(0, "SIP/2.0 400"), 10);
    let counters = &pair.b.stack.counters;
    assert_eq!((counters.malformed, counters.malformed_rules["cseq"], counters.keepalives), (21, 20, 1));
}

/// The owner of both sides, for runs in bad weather: answers at once, acknowledges at once.
fn serve(pair: &mut Pair, log: &mut Vec<String>) {
    let now = pair.net.now;
    for event in pair.events_b() {
        match event {
            Event::Request { txn, message, .. } => {
                log.push(format!("b {}", String::from_utf8_lossy(message.view().method())));
                if message.view().method() == b"INVITE" {
                    pair.b.respond(txn, answer(&message, 180), now).unwrap();
                }
                pair.b.respond(txn, answer(&message, 200), now).unwrap();
            }
            Event::Ack { .. } => log.push("b ACK".to_owned()),
            Event::Timeout { kind, .. } => log.push(format!("b timeout {kind}")),
            _ => {}
        }
    }
    for event in pair.events_a() {
        match event {
            Event::Response { txn, message, .. } => {
                let code = message.view().status();
                let method = String::from_utf8_lossy(message.cseq().unwrap().1).into_owned();
                if code < 200 {
                    continue;
                }
                log.push(format!("a {code} {method}"));
                if method == "INVITE" {
                    let mut dialog = Dialog::from_response(&request("INVITE", "c"), &message).unwrap();
                    pair.a.send_ack(txn, dialog.create_request("ACK", None, 70), address(1)).unwrap();
                    let bye = dialog.create_request("BYE", None, 70);
                    pair.a.send_request(bye, address(1), "", None, now).unwrap();
                }
            }
            Event::Timeout { kind, .. } => log.push(format!("a timeout {kind}")),
            _ => {}
        }
    }
}

#[test]
fn calls_complete_once_in_loss_repetition_and_disorder() {
    for seed in 0..60 {
        let weather = Weather { loss: 25, repetition: 30, disorder: 50 };
        let mut pair = Pair::new(weather, seed);
        pair.a.send_request(request("INVITE", "c"), address(1), "", None, pair.net.now).unwrap();
        let mut log = Vec::new();
        for _ in 0..8_000 {
            pair.pass(SECOND / 100);
            serve(&mut pair, &mut log);
        }
        log.sort();
        assert_eq!(log, ["a 200 BYE", "a 200 INVITE", "b ACK", "b BYE", "b INVITE"], "seed {seed}");
        assert!(pair.a.stack.table.is_empty() && pair.b.stack.table.is_empty(), "seed {seed}");
    }
}
