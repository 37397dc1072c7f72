//! Phone (0), proxy (1), two nodes (2, 3) and a second proxy (4) over a network in virtual time.

use super::super::agent::event::Event;
use super::super::agent::{Agent, Config as AgentConfig};
use super::super::dialog::Dialog;
use super::super::message::Message;
use super::super::reply::reply;
use super::super::simnet::{address, agent, proxy, Net, Weather};
use super::super::txn::{Micros, SECOND};
use super::tables::Network;
use super::{Config, Proxy};
use std::collections::HashMap;

const PHONE: usize = 0;
const PROXY: usize = 1;
const NODE_A: usize = 2;
const NODE_B: usize = 3;
const OTHER: usize = 4;

struct World {
    net: Net<5>,
    phone: Agent,
    proxy: Proxy,
    a: Agent,
    b: Agent,
    other: Proxy,
}

fn tables(proxy: &mut Proxy) {
    let nodes = [("a".to_owned(), address(NODE_A), 1.0), ("b".to_owned(), address(NODE_B), 1.0)];
    proxy.set_nodes(&nodes, 0);
    proxy.set_slots((0..1024).map(|slot| (slot, Some(usize::from(slot % 2)))).collect(), true, 0);
    proxy.tables.fqdn = "sip.cluster.example".to_owned();
    proxy.tables.set_names(["sip.cluster.example".to_owned()]);
}

impl World {
    fn new(config: Config) -> Self {
        let mut world = Self {
            net: Net::new(Weather::default(), 7),
            phone: agent(PHONE, AgentConfig::default()),
            proxy: proxy(PROXY, config.clone()),
            a: agent(NODE_A, AgentConfig::default()),
            b: agent(NODE_B, AgentConfig::default()),
            other: proxy(OTHER, config),
        };
        tables(&mut world.proxy);
        tables(&mut world.other);
        world
    }

    fn pass(&mut self, time: Micros) {
        self.net.pass([&mut self.phone, &mut self.proxy, &mut self.a, &mut self.b, &mut self.other], time);
    }

    fn send(&mut self, call: &str, method: &str) -> u64 {
        let message = request(method, call);
        self.phone.send_request(message, address(PROXY), "", None, self.net.now).unwrap()
    }

    fn node(&mut self, index: usize) -> &mut Agent {
        if index == NODE_A {
            &mut self.a
        } else {
            &mut self.b
        }
    }

    /// The request that a node got, and which node.
    fn request_at_node(&mut self) -> (usize, u64, Message) {
        for index in [NODE_A, NODE_B] {
            for event in self.node(index).events.queue.drain(..).collect::<Vec<_>>() {
                if let Event::Request { txn, message, .. } = event {
                    return (index, txn, message);
                }
            }
        }
        panic!("no node got a request: {:?}", self.net.delivered);
    }

    fn answer(&mut self, index: usize, txn: u64, request: &Message, status: u16, tag: &str) {
        let mut response = reply(&request.view(), status, None, Some(tag.as_bytes()));
        response.push("Contact", format!("<sip:{}>", address(index)).as_bytes());
        let now = self.net.now;
        self.node(index).respond(txn, response, now).unwrap();
    }

    fn responses(&mut self) -> Vec<Message> {
        self.phone
            .events
            .queue
            .drain(..)
            .filter_map(|event| match event {
                Event::Response { message, .. } => Some(message),
                _ => None,
            })
            .collect()
    }

    fn statuses(&mut self) -> Vec<u16> {
        self.responses().iter().map(|message| message.view().status()).collect()
    }

    /// An established call whose slot is `slot`: the node, both dialogs.
    fn call(&mut self, call: &str, slot: u16) -> (usize, Dialog, Dialog) {
        let invite = self.send(call, "INVITE");
        self.pass(SECOND / 50);
        let (node, txn, message) = self.request_at_node();
        let tag = format!("v1{slot:03x}-abc");
        self.answer(node, txn, &message, 200, &tag);
        self.pass(SECOND / 50);
        let ok = self.responses().pop().unwrap();
        let mut phone = Dialog::from_response(&request("INVITE", call), &ok).unwrap();
        let mut at_node = Dialog::from_request(&message, &tag).unwrap();
        at_node.confirm(None).unwrap();
        let ack = phone.create_request("ACK", None, 70);
        self.phone.send_ack(invite, ack, address(PROXY)).unwrap();
        self.pass(SECOND / 50);
        (node, phone, at_node)
    }
}

fn request(method: &str, call: &str) -> Message {
    let mut message = Message::request(method, "sip:2001@sip.cluster.example");
    message.push("Max-Forwards", b"70");
    message.push("From", b"<sip:alice@10.0.0.1>;tag=alice");
    message.push("To", b"<sip:2001@sip.cluster.example>");
    message.push("Call-ID", call.as_bytes());
    message.push("CSeq", format!("1 {method}").as_bytes());
    message.push("Contact", b"<sip:alice@10.0.0.1:5060>");
    message
}

#[test]
fn a_call_goes_through_and_its_dialog_follows_the_slot() {
    let mut world = World::new(Config::default());
    let (node, mut phone, _) = world.call("c1", 4);
    assert_eq!(phone.route_set, ["<sip:10.0.0.2:5060;lr>"]);
    let acks = world.net.seen(NODE_A, "ACK") + world.net.seen(NODE_B, "ACK");
    assert_eq!(acks, 1, "the ACK goes to the owner of slot 4");
    assert_eq!(world.net.seen(PHONE, "SIP/2.0 100"), 1);
    // The slot moves to the other node before the phone hangs up.
    let heir = if node == NODE_A { NODE_B } else { NODE_A };
    world.proxy.set_slots(vec![(4, Some(heir - NODE_A))], false, world.net.now);
    let bye = phone.create_request("BYE", None, 70);
    world.phone.send_request(bye, address(PROXY), "", None, world.net.now).unwrap();
    world.pass(SECOND / 50);
    let (at, txn, message) = world.request_at_node();
    assert_eq!((at, message.view().method()), (heir, &b"BYE"[..]));
    world.answer(at, txn, &message, 200, "x");
    world.pass(SECOND / 50);
    assert_eq!(world.statuses(), [200]);
    assert_eq!(world.proxy.counters.reselected, 0);
}

#[test]
fn every_node_gets_its_share() {
    let mut world = World::new(Config::default());
    for i in 0..400 {
        world.send(&format!("call-{i}"), "OPTIONS");
    }
    world.pass(SECOND / 10);
    let (a, b) = (world.proxy.tables.nodes[0].new_dialogs, world.proxy.tables.nodes[1].new_dialogs);
    assert_eq!(a + b, 400);
    assert!((160..=240).contains(&a), "{a} {b}");
}

#[test]
fn icmp_leads_to_the_other_node_and_then_to_503() {
    let mut world = World::new(Config::default());
    world.net.gone[NODE_A] = true;
    for i in 0..20 {
        world.send(&format!("c{i}"), "INVITE");
    }
    world.pass(SECOND / 10);
    assert_eq!(world.net.seen(NODE_B, "INVITE"), 20);
    assert!(world.proxy.counters.reselected > 3);
    world.net.gone[NODE_B] = true;
    world.phone.events.queue.clear();
    world.send("last", "INVITE");
    world.pass(SECOND);
    assert_eq!(world.statuses(), [503]);
}

#[test]
fn silence_leads_to_the_other_node_with_cancel_of_the_first_branch() {
    let mut world = World::new(Config::default());
    let first = world.proxy.tables.choose(b"quiet", &[]).unwrap() + NODE_A;
    let second = NODE_A + NODE_B - first;
    world.net.deaf[first] = true;
    world.send("quiet", "INVITE");
    world.pass(3 * SECOND);
    let (at, txn, message) = world.request_at_node();
    assert_eq!((at, world.proxy.counters.reselected), (second, 1));
    // The first node wakes up: it gets the CANCEL (again), and its late 487 is not forwarded.
    world.net.deaf[first] = false;
    world.pass(4 * SECOND);
    assert!(world.net.seen(first, "CANCEL") >= 1);
    world.answer(at, txn, &message, 200, "v1001-x");
    world.pass(SECOND / 10);
    assert_eq!(world.statuses(), [200]);
}

#[test]
fn a_request_in_a_dialog_waits_for_the_heir_of_its_slot() {
    let mut world = World::new(Config::default());
    let (node, mut phone, _) = world.call("c1", 6);
    world.proxy.set_slots(vec![(6, Some(node - NODE_A))], false, world.net.now);
    let heir = NODE_A + NODE_B - node;
    world.net.gone[node] = true;
    world
        .phone
        .send_request(phone.create_request("BYE", None, 70), address(PROXY), "", None, world.net.now)
        .unwrap();
    world.pass(SECOND);
    assert!(world.statuses().is_empty(), "an ICMP error is no answer while the slot may move");
    world.proxy.set_slots(vec![(6, Some(heir - NODE_A))], false, world.net.now);
    world.pass(SECOND / 50);
    let (at, txn, message) = world.request_at_node();
    assert_eq!((at, world.proxy.counters.slot_moved_resent), (heir, 1));
    world.answer(at, txn, &message, 200, "x");
    world.pass(SECOND / 50);
    assert_eq!(world.statuses(), [200]);
    // A slot without an owner: the request is kept and goes out with the next owner.
    world.proxy.set_slots(vec![(6, None)], false, world.net.now);
    let info = phone.create_request("INFO", None, 70);
    world.phone.send_request(info, address(PROXY), "", None, world.net.now).unwrap();
    world.pass(SECOND);
    assert!(world.proxy.counters.no_owner >= 1);
    world.proxy.set_slots(vec![(6, Some(heir - NODE_A))], false, world.net.now);
    world.pass(SECOND / 50);
    let (_, _, message) = world.request_at_node();
    assert_eq!(message.view().method(), b"INFO");
}

#[test]
fn an_invite_that_rings_follows_its_learnt_slot_under_the_same_branch() {
    let mut world = World::new(Config::default());
    world.send("c1", "INVITE");
    world.pass(SECOND / 50);
    let (node, txn, message) = world.request_at_node();
    world.answer(node, txn, &message, 180, "v1008-abc");
    world.pass(SECOND / 50);
    let heir = NODE_A + NODE_B - node;
    world.net.gone[node] = true;
    world.proxy.set_slots(vec![(8, None)], false, world.net.now);
    world.proxy.set_slots(vec![(8, Some(heir - NODE_A))], false, world.net.now);
    world.pass(SECOND / 50);
    let (at, txn, again) = world.request_at_node();
    assert_eq!(at, heir);
    assert_eq!(again.top_via().unwrap().branch(), message.top_via().unwrap().branch());
    assert_eq!(message.top_via().unwrap().param(b"vs"), None);
    assert_eq!(again.top_via().unwrap().param(b"vs"), Some(&b"008"[..]), "the heir learns whose call it is");
    world.answer(at, txn, &again, 200, "v1008-abc");
    world.pass(SECOND / 50);
    assert_eq!(world.statuses(), [180, 200]);
}

#[test]
fn a_node_that_takes_no_call_is_passed_over() {
    let mut world = World::new(Config::default());
    world.send("c1", "INVITE");
    world.pass(SECOND / 50);
    let (node, txn, message) = world.request_at_node();
    world.answer(node, txn, &message, 503, "xyz");
    world.pass(SECOND / 50);
    let (other, txn, message) = world.request_at_node();
    assert_eq!((other, world.proxy.counters.reselected), (NODE_A + NODE_B - node, 1));
    assert!(world.statuses().is_empty());
    assert_eq!(world.net.seen(node, "ACK"), 1);
    world.answer(other, txn, &message, 503, "xyz");
    world.pass(SECOND / 50);
    assert_eq!(world.statuses(), [503], "all have refused");
}

#[test]
fn a_100_with_our_tag_binds_an_invite_to_its_slot() {
    let mut world = World::new(Config::default());
    world.send("c1", "INVITE");
    world.pass(SECOND / 50);
    let (node, txn, message) = world.request_at_node();
    world.answer(node, txn, &message, 100, "v1008-abc");
    world.pass(SECOND / 50);
    let heir = NODE_A + NODE_B - node;
    world.net.gone[node] = true;
    world.pass(3 * SECOND);
    assert!(
        world.node(heir).events.queue.is_empty(),
        "it waits for the slot's heir, and is no new call elsewhere"
    );
    world.proxy.set_slots(vec![(8, None)], false, world.net.now);
    world.proxy.set_slots(vec![(8, Some(heir - NODE_A))], false, world.net.now);
    world.pass(SECOND / 50);
    assert_eq!(world.request_at_node().0, heir);
    assert!(world.statuses().is_empty());
}

#[test]
fn responses_go_to_the_present_owner_of_the_slot_in_the_nodes_via() {
    let mut world = World::new(Config::default());
    let (node, _, mut at_node) = world.call("c1", 2);
    world.proxy.set_slots(vec![(2, Some(node - NODE_A))], false, world.net.now);
    let bye = at_node.create_request("BYE", None, 70);
    let now = world.net.now;
    world.node(node).send_request(bye, address(PROXY), "v1002-", None, now).unwrap();
    world.pass(SECOND / 50);
    let Some(Event::Request { txn, message, .. }) = world.phone.events.queue.pop_back() else { panic!() };
    let heir = NODE_A + NODE_B - node;
    world.proxy.set_slots(vec![(2, Some(heir - NODE_A))], false, world.net.now);
    world.phone.respond(txn, reply(&message.view(), 200, None, None), world.net.now).unwrap();
    let before = world.net.seen(heir, "SIP/2.0 200");
    world.pass(SECOND / 50);
    assert_eq!(world.net.seen(heir, "SIP/2.0 200"), before + 1);
}

#[test]
fn cancel_reaches_the_node_and_487_comes_back() {
    let mut world = World::new(Config::default());
    let invite = world.send("c1", "INVITE");
    world.pass(SECOND / 50);
    let (node, txn, message) = world.request_at_node();
    world.answer(node, txn, &message, 180, "v1001-x");
    world.pass(SECOND / 50);
    world.phone.cancel(invite, b"", world.net.now).unwrap();
    world.pass(SECOND / 50);
    let cancelled =
        matches!(world.node(node).events.queue.pop_back(), Some(Event::Cancel { txn: t, .. }) if t == txn);
    assert!(cancelled);
    world.answer(node, txn, &message, 487, "v1001-x");
    world.pass(SECOND);
    assert_eq!(world.statuses(), [180, 487]);
    assert_eq!(world.net.seen(node, "ACK"), 1, "each hop acknowledges a failure itself");
    assert_eq!(world.net.seen(node, "CANCEL"), 1);
    world.pass(60 * SECOND);
    assert!(world.proxy.stack.table.is_empty() && world.proxy.forwards.iter().all(Option::is_none));
}

#[test]
fn another_proxy_gives_a_retransmission_and_a_cancel_the_same_transaction() {
    let mut world = World::new(Config::default());
    world.send("c1", "INVITE");
    world.pass(SECOND / 50);
    let (node, txn, message) = world.request_at_node();
    let mut phone_copy = request("INVITE", "c1");
    phone_copy.prepend("Via", message.named(b"Via").nth(1).unwrap());
    world.other.handle(&phone_copy.to_bytes(), address(PHONE), 0, world.net.now);
    world.pass(SECOND / 50);
    assert!(world.a.events.queue.is_empty() && world.b.events.queue.is_empty(), "no second request");
    assert_eq!(world.node(node).stack.counters.retransmissions_in, 1);
    let mut cancel = request("CANCEL", "c1");
    cancel.prepend("Via", message.named(b"Via").nth(1).unwrap());
    let mut third = proxy(OTHER, Config::default());
    tables(&mut third);
    third.handle(&cancel.to_bytes(), address(PHONE), 0, world.net.now);
    world.other = third;
    world.pass(SECOND / 50);
    assert!(
        matches!(world.node(node).events.queue.pop_back(), Some(Event::Cancel { txn: t, .. }) if t == txn)
    );
}

#[test]
fn hop_limit_and_loops() {
    let mut world = World::new(Config::default());
    let mut tired = request("OPTIONS", "o1");
    tired.set("Max-Forwards", b"0");
    world.phone.send_request(tired, address(PROXY), "", None, world.net.now).unwrap();
    world.pass(SECOND / 50);
    assert_eq!(world.statuses(), [483]);
    // A node sends what it got straight back.
    world.send("c1", "OPTIONS");
    world.pass(SECOND / 50);
    let (node, _, message) = world.request_at_node();
    world.proxy.handle(&message.to_bytes(), address(node), 0, world.net.now);
    world.pass(SECOND / 50);
    assert_eq!(world.proxy.counters.loops, 1);
    assert_eq!(world.net.seen(PROXY, "SIP/2.0 482") + world.net.seen(node, "SIP/2.0 482"), 1);
}

#[test]
fn the_rate_of_new_dialogs_is_limited_but_dialogs_go_on() {
    let mut world = World::new(Config { dialog_rate: 10.0, ..Config::default() });
    let (_, mut phone, _) = world.call("first", 3);
    for i in 0..30 {
        world.send(&format!("c{i}"), "INVITE");
    }
    world
        .phone
        .send_request(phone.create_request("INFO", None, 70), address(PROXY), "", None, world.net.now)
        .unwrap();
    world.pass(SECOND / 50);
    let refused = world.responses();
    assert!(refused.len() >= 20 && refused.iter().all(|m| m.view().status() == 503));
    assert_eq!(refused[0].get("Retry-After"), Some(&b"5"[..]));
    assert_eq!(world.proxy.counters.rate_limited as usize, refused.len());
    assert_eq!(world.net.seen(NODE_A, "INFO") + world.net.seen(NODE_B, "INFO"), 1);
}

#[test]
fn from_a_node_outward_by_route_name_and_next_address() {
    let mut world = World::new(Config::default());
    let hosts = HashMap::from([("trunk.example".to_owned(), vec![address(OTHER), address(PHONE)])]);
    world.proxy.tables.set_hosts(hosts);
    world.proxy.tables.set_trunks(vec![Network::parse("10.0.0.1").unwrap()]);
    world.net.gone[OTHER] = true;
    let mut invite = request("INVITE", "out");
    invite.set_uri("sip:+4930@trunk.example");
    invite.set("From", b"<sip:2001@sip.cluster.example>;tag=v1007-out");
    invite.push("Route", b"<sip:10.0.0.2:5060;lr;vd=trunk>");
    world.a.send_request(invite, address(PROXY), "v1007-", None, world.net.now).unwrap();
    world.pass(SECOND / 10);
    let Some(Event::Request { txn, message, .. }) = world.phone.events.queue.pop_back() else { panic!() };
    assert_eq!(message.get("Route"), None);
    let routes: Vec<_> = message.named(b"Record-Route").collect();
    assert_eq!(routes, [&b"<sip:sip.cluster.example;lr;vs=007>"[..], b"<sip:10.0.0.2:5060;lr;vs=007>"]);
    // The peer's request in the dialog comes back by vs: its To tag is the node's, but say it were not ours.
    let ok = reply(&message.view(), 200, None, Some(b"peer"));
    let mut dialog = Dialog::from_request(&message, "peer").unwrap();
    world.phone.respond(txn, ok, world.net.now).unwrap();
    world.pass(SECOND / 50);
    dialog.remote_tag = "foreign".to_owned();
    let bye = dialog.create_request("BYE", None, 70);
    world.phone.send_request(bye, address(PROXY), "", None, world.net.now).unwrap();
    world.pass(SECOND / 50);
    assert_eq!(world.net.seen(NODE_B, "BYE"), 1, "slot 7 belongs to b");
    let mut lost = request("INVITE", "lost");
    lost.set_uri("sip:x@unknown.example");
    world.a.events.queue.clear();
    world.a.send_request(lost, address(PROXY), "v1007-", None, world.net.now).unwrap();
    world.pass(SECOND / 50);
    assert!(
        matches!(world.a.events.queue.pop_back(), Some(Event::Response { message, .. }) if message.view().status() == 404)
    );
}

#[test]
fn register_is_the_owners_and_may_be_handed_back() {
    let mut world = World::new(Config::default());
    world.send("r1", "REGISTER");
    world.pass(SECOND / 50);
    let Some(Event::Request { txn, message, .. }) = world.proxy.events.queue.pop_back() else { panic!() };
    let busy = reply(&message.view(), 401, None, Some(b"p"));
    world.proxy.respond(txn, busy, world.net.now).unwrap();
    world.pass(SECOND / 50);
    assert_eq!(world.statuses(), [401]);
    world.send("r2", "REGISTER");
    world.pass(SECOND / 50);
    let Some(Event::Request { txn, .. }) = world.proxy.events.queue.pop_back() else { panic!() };
    world.proxy.forward(txn, Some("b"), world.net.now).unwrap();
    world.pass(SECOND / 50);
    assert_eq!(world.net.seen(NODE_B, "REGISTER"), 1);
    assert!(world.proxy.forward(txn, None, world.net.now).is_err());
}

#[test]
fn timer_c_cancels_what_rings_for_ever() {
    let mut world = World::new(Config { timer_c: 10 * SECOND, ..Config::default() });
    world.send("c1", "INVITE");
    world.pass(SECOND / 50);
    let (node, txn, message) = world.request_at_node();
    world.answer(node, txn, &message, 180, "v1001-x");
    world.pass(11 * SECOND);
    assert_eq!(world.net.seen(node, "CANCEL"), 1);
    world.pass(40 * SECOND);
    assert_eq!(world.statuses(), [180, 487], "nobody answered the CANCEL either");
}

#[test]
fn calls_complete_in_loss_repetition_and_disorder() {
    for seed in 0..25 {
        let mut world = World::new(Config::default());
        world.net = Net::new(Weather { loss: 15, repetition: 20, disorder: 40 }, seed);
        let invite = world.send("c", "INVITE");
        let mut log: Vec<String> = Vec::new();
        for _ in 0..8_000 {
            world.pass(SECOND / 100);
            for index in [NODE_A, NODE_B] {
                for event in world.node(index).events.queue.drain(..).collect::<Vec<_>>() {
                    match event {
                        Event::Request { txn, message, .. } => {
                            log.push(format!("node {}", String::from_utf8_lossy(message.view().method())));
                            world.answer(index, txn, &message, 200, &format!("v100{}-x", index - NODE_A));
                        }
                        Event::Ack { .. } => log.push("node ACK".to_owned()),
                        Event::Timeout { kind, .. } => log.push(format!("node timeout {kind}")),
                        _ => {}
                    }
                }
            }
            for event in world.phone.events.queue.drain(..).collect::<Vec<_>>() {
                let Event::Response { message, .. } = event else { continue };
                let (_, method) = message.cseq().unwrap();
                log.push(format!("phone {} {}", message.view().status(), String::from_utf8_lossy(method)));
                if method == b"INVITE" {
                    let mut dialog = Dialog::from_response(&request("INVITE", "c"), &message).unwrap();
                    let ack = dialog.create_request("ACK", None, 70);
                    world.phone.send_ack(invite, ack, address(PROXY)).unwrap();
                    let bye = dialog.create_request("BYE", None, 70);
                    world.phone.send_request(bye, address(PROXY), "", None, world.net.now).unwrap();
                }
            }
        }
        log.sort();
        assert_eq!(
            log,
            ["node ACK", "node BYE", "node INVITE", "phone 200 BYE", "phone 200 INVITE"],
            "seed {seed}"
        );
        assert!(world.proxy.stack.table.is_empty(), "seed {seed}");
        assert!(world.proxy.forwards.iter().all(Option::is_none), "seed {seed}");
    }
}
