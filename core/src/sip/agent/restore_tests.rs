//! A user agent (0) dies, its peer (1) goes on, an heir (2) takes the transactions over.

use super::super::dialog::Dialog;
use super::super::message::Message;
use super::super::reply::reply;
use super::super::simnet::{address, agent, Net, Weather};
use super::super::txn::{Micros, SECOND};
use super::event::Event;
use super::{Agent, Config, SendError};

const OWNER: usize = 0;
const PEER: usize = 1;
const HEIR: usize = 2;

struct World {
    net: Net<3>,
    owner: Agent,
    peer: Agent,
    heir: Agent,
}

fn request(method: &str) -> Message {
    let mut message = Message::request(method, "sip:bob@10.0.0.2");
    message.push("Max-Forwards", b"70");
    message.push("From", b"<sip:alice@10.0.0.1>;tag=alice");
    message.push("To", b"<sip:bob@10.0.0.2>");
    message.push("Call-ID", b"c1");
    message.push("CSeq", format!("1 {method}").as_bytes());
    message.push("Contact", b"<sip:alice@10.0.0.1:5060>");
    message
}

fn answer(request: &Message, status: u16) -> Message {
    let mut response = reply(&request.view(), status, None, Some(b"bob"));
    response.push("Contact", b"<sip:bob@10.0.0.2:5060>");
    response
}

/// What a snapshot does to a message.
fn stored(message: &Message) -> Message {
    Message::parse(&message.to_bytes()).unwrap()
}

impl World {
    fn new() -> Self {
        let config = Config::default();
        Self {
            net: Net::new(Weather::default(), 3),
            owner: agent(OWNER, config.clone()),
            peer: agent(PEER, config.clone()),
            heir: agent(HEIR, config),
        }
    }

    fn pass(&mut self, time: Micros) {
        self.net.pass([&mut self.owner, &mut self.peer, &mut self.heir], time);
    }

    fn events(&mut self, at: usize) -> Vec<Event> {
        let agent = match at {
            OWNER => &mut self.owner,
            PEER => &mut self.peer,
            _ => &mut self.heir,
        };
        agent.events.queue.drain(..).collect()
    }

    fn statuses(&mut self, at: usize) -> Vec<u16> {
        self.events(at)
            .iter()
            .filter_map(|event| match event {
                Event::Response { message, .. } => Some(message.view().status()),
                _ => None,
            })
            .collect()
    }

    /// An INVITE of the owner, prepared and sent; as it is stored.
    fn call(&mut self) -> Message {
        let prepared = self.owner.prepare(request("INVITE"), address(PEER), "v1008-", None).unwrap();
        self.owner.send_prepared(&prepared, address(PEER), None, self.net.now).unwrap();
        self.pass(SECOND / 100);
        stored(&prepared)
    }

    /// The INVITE at the peer.
    fn called(&mut self) -> (u64, Message) {
        match self.events(PEER).pop() {
            Some(Event::Request { txn, message, .. }) => (txn, message),
            other => panic!("{other:?}"),
        }
    }

    /// An INVITE of the peer at the owner.
    fn invited(&mut self) -> (u64, Message) {
        let now = self.net.now;
        self.peer.send_request(request("INVITE"), address(OWNER), "", None, now).unwrap();
        self.pass(SECOND / 100);
        match self.events(OWNER).pop() {
            Some(Event::Request { txn, message, .. }) => (txn, stored(&message)),
            other => panic!("{other:?}"),
        }
    }

    /// The owner dies; what it says from now on nobody hears.
    fn die(&mut self) {
        self.net.deaf[OWNER] = true;
        self.owner = agent(OWNER, Config::default());
    }
}

#[test]
fn a_prepared_invite_is_sent_again_under_its_branch_and_is_one_call_for_the_peer() {
    let mut world = World::new();
    let prepared = world.call();
    let (at_peer, invite) = world.called();
    assert!(invite.top_via().unwrap().branch().unwrap().starts_with(b"z9hG4bKv1008-"));
    world.peer.respond(at_peer, answer(&invite, 180), world.net.now).unwrap();
    world.die();
    world.pass(SECOND);
    let txn = world.heir.send_prepared(&prepared, address(PEER), None, world.net.now).unwrap();
    world.pass(SECOND / 100);
    assert!(world.events(PEER).is_empty(), "the peer knows the INVITE");
    assert_eq!(world.statuses(HEIR), [180], "and says again what it said");
    let again = world.heir.send_prepared(&prepared, address(PEER), None, world.net.now);
    assert_eq!(again, Ok(txn), "a transaction that is there is not opened twice");
    world.peer.respond(at_peer, answer(&invite, 200), world.net.now).unwrap();
    world.pass(SECOND / 100);
    assert_eq!(world.statuses(HEIR), [200]);
}

#[test]
fn an_heir_cancels_under_the_old_branch() {
    let mut world = World::new();
    let prepared = world.call();
    let (at_peer, invite) = world.called();
    world.peer.respond(at_peer, answer(&invite, 180), world.net.now).unwrap();
    world.pass(SECOND / 100);
    world.die();
    let now = world.net.now;
    let txn = world.heir.restore_client_invite(&prepared, None, address(PEER), None, now).unwrap();
    assert_eq!(world.heir.cancel(txn, b"", now), Ok(true));
    world.pass(SECOND / 100);
    let events = world.events(PEER);
    assert!(matches!(events[..], [Event::Cancel { txn, .. }] if txn == at_peer), "{events:?}");
    assert_eq!(world.net.seen(PEER, "INVITE"), 1);
    world.peer.respond(at_peer, answer(&invite, 487), world.net.now).unwrap();
    // The peer's answer goes where its INVITE came from: the proxy of a cluster sends it to the slot's owner.
    world.net.deaf[OWNER] = false;
    let response = answer(&invite, 487).to_bytes();
    world.heir.datagram(&response, address(PEER), 0, world.net.now);
    world.pass(SECOND / 100);
    assert_eq!(world.statuses(HEIR), [487]);
    assert!(world.net.seen(PEER, "ACK") >= 1);
}

#[test]
fn an_answered_invite_is_acknowledged_by_the_heir_each_time_its_2xx_comes() {
    let mut world = World::new();
    let prepared = world.call();
    let (at_peer, invite) = world.called();
    let answered = answer(&invite, 200);
    world.peer.respond(at_peer, answered.clone(), world.net.now).unwrap();
    world.pass(SECOND / 100);
    world.die();
    let now = world.net.now;
    let kept = stored(&answered);
    let txn = world.heir.restore_client_invite(&prepared, Some(&kept), address(PEER), None, now).unwrap();
    let mut dialog = Dialog::from_response(&prepared, &kept).unwrap();
    world.heir.send_ack(txn, dialog.create_request("ACK", Some(1), 70), address(PEER)).unwrap();
    world.pass(SECOND / 100);
    assert!(matches!(world.events(PEER)[..], [Event::Ack { txn: Some(txn), .. }] if txn == at_peer));
    world.heir.datagram(&kept.to_bytes(), address(PEER), 0, world.net.now);
    world.pass(SECOND / 100);
    assert_eq!(world.net.seen(PEER, "ACK"), 2);
    assert!(world.events(HEIR).is_empty(), "a 2xx that is known is no news");
    world.pass(40 * SECOND);
    assert!(world.heir.stack.table.is_empty());
}

#[test]
fn a_restored_invite_from_outside_absorbs_repeats_and_can_be_cancelled() {
    let mut world = World::new();
    let (at_owner, invite) = world.invited();
    let ringing = answer(&invite, 180);
    world.owner.respond(at_owner, ringing.clone(), world.net.now).unwrap();
    world.pass(SECOND / 100);
    world.events(PEER);
    world.die();
    let now = world.net.now;
    let kept = Some(stored(&ringing));
    let txn = world.heir.restore_server_invite(&invite, address(PEER), kept, None, now).unwrap();
    world.pass(SECOND / 100);
    assert_eq!(world.net.seen(PEER, "SIP/2.0 180"), 1, "nothing is said unasked");
    world.heir.datagram(&invite.to_bytes(), address(PEER), 0, world.net.now);
    world.pass(SECOND / 100);
    assert_eq!(world.net.seen(PEER, "SIP/2.0 180"), 2);
    assert!(world.events(HEIR).is_empty());
    let text = String::from_utf8(invite.to_bytes()).unwrap().replace("INVITE", "CANCEL");
    world.heir.datagram(text.as_bytes(), address(PEER), 0, world.net.now);
    world.pass(SECOND / 100);
    assert!(matches!(world.events(HEIR)[..], [Event::Cancel { txn: cancelled, .. }] if cancelled == txn));
    world.heir.respond(txn, answer(&invite, 487), world.net.now).unwrap();
    world.pass(SECOND / 100);
    assert!(world.statuses(PEER).contains(&487));
}

#[test]
fn a_restored_2xx_is_repeated_until_its_ack() {
    let mut world = World::new();
    let (at_owner, invite) = world.invited();
    let answered = answer(&invite, 200);
    world.owner.respond(at_owner, answered.clone(), world.net.now).unwrap();
    world.die();
    let now = world.net.now;
    let kept = Some(stored(&answered));
    let txn = world.heir.restore_server_invite(&invite, address(PEER), kept, None, now).unwrap();
    world.pass(2 * SECOND);
    assert!(world.net.seen(PEER, "SIP/2.0 200") >= 3);
    let response = stored(&answered);
    let mut dialog = Dialog::from_response(&invite, &response).unwrap();
    let mut ack = dialog.create_request("ACK", Some(1), 70);
    ack.prepend("Via", b"SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bKack");
    world.heir.datagram(&ack.to_bytes(), address(PEER), 0, world.net.now);
    let seen = world.net.seen(PEER, "SIP/2.0 200");
    world.pass(10 * SECOND);
    assert_eq!(world.net.seen(PEER, "SIP/2.0 200"), seen);
    assert!(matches!(world.events(HEIR)[..], [Event::Ack { txn: Some(acked), .. }] if acked == txn));
}

#[test]
fn an_invite_that_was_there_before_its_snapshot_keeps_its_transaction() {
    let mut world = World::new();
    let (_, invite) = world.invited();
    world.die();
    world.heir.datagram(&invite.to_bytes(), address(PEER), 0, world.net.now);
    let Some(Event::Request { txn, .. }) = world.events(HEIR).pop() else { panic!() };
    let now = world.net.now;
    let kept = Some(answer(&invite, 200));
    let restored = world.heir.restore_server_invite(&invite, address(PEER), kept, None, now);
    assert_eq!(restored, Ok(txn));
    assert_eq!(world.heir.stack.table.len(), 1);
}

#[test]
fn what_is_forgotten_says_nothing_more() {
    let mut world = World::new();
    let (at_owner, invite) = world.invited();
    world.owner.respond(at_owner, answer(&invite, 200), world.net.now).unwrap();
    world.pass(SECOND / 10);
    world.owner.forget(at_owner);
    let seen = world.net.seen(PEER, "SIP/2.0 200");
    world.pass(10 * SECOND);
    assert_eq!(world.net.seen(PEER, "SIP/2.0 200"), seen);
    assert!(world.owner.stack.table.is_empty() && world.events(OWNER).is_empty());
}

#[test]
fn what_cannot_be_restored_is_named() {
    let mut world = World::new();
    let now = world.net.now;
    let bare = world.heir.send_prepared(&request("INVITE"), address(PEER), None, now);
    assert_eq!(bare, Err(SendError::Incomplete("Via branch")));
    let options = world.heir.prepare(request("OPTIONS"), address(PEER), "", None).unwrap();
    let wrong = world.heir.restore_client_invite(&options, None, address(PEER), None, now);
    assert_eq!(wrong, Err(SendError::Method));
    let invite = world.heir.prepare(request("INVITE"), address(PEER), "", None).unwrap();
    let ringing = answer(&invite, 180);
    let wrong = world.heir.restore_client_invite(&invite, Some(&ringing), address(PEER), None, now);
    assert_eq!(wrong, Err(SendError::Incomplete("2xx")));
}

#[test]
fn a_request_that_nothing_answers_goes_to_another_address_and_one_that_rings_stays() {
    let mut world = World::new();
    let prepared = world.owner.prepare(request("INVITE"), address(PEER), "v1008-", None).unwrap();
    world.net.deaf[PEER] = true;
    let txn = world.owner.send_prepared(&prepared, address(PEER), None, world.net.now).unwrap();
    world.pass(SECOND);
    assert!(world.owner.redirect(txn, address(HEIR), world.net.now));
    world.pass(SECOND / 100);
    let events = world.events(HEIR);
    let [Event::Request { txn: at_heir, message, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(message.top_via().unwrap().branch(), prepared.top_via().unwrap().branch());
    world.heir.respond(*at_heir, answer(message, 180), world.net.now).unwrap();
    world.pass(SECOND / 100);
    assert!(!world.owner.redirect(txn, address(PEER), world.net.now), "it rings");
    world.heir.respond(*at_heir, answer(message, 486), world.net.now).unwrap();
    world.pass(SECOND / 100);
    assert_eq!(world.statuses(OWNER), [180, 486]);
    assert!(!world.owner.redirect(txn, address(PEER), world.net.now), "it is over");
    assert!(!world.owner.redirect(txn + 1000, address(PEER), world.net.now), "nobody knows it");
}
