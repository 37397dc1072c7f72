//! Stateful forwarding: a request out, its responses back, and what happens when none come.

use super::super::identifiers::{slot_of_branch, slot_of_tag};
use super::super::message::View;
use super::super::method::Method;
use super::super::stack::table::{Machine, TxnId};
use super::super::stack::{News, Role};
use super::super::txn::{client_invite, Micros};
use super::branch;
use super::rewrite::{self, Seed};
use super::target::{Goal, Peer, Target};
use super::{Event, Forward, Proxy};
use std::net::SocketAddr;

impl Proxy {
    pub(super) fn forward_request(
        &mut self,
        view: &View<'_>,
        target: &Target<'_>,
        source: SocketAddr,
        socket: u8,
        looped: u32,
        now: Micros,
    ) {
        let Ok(via) = view.via() else { return };
        let invite = view.core().method == Method::Invite;
        let in_dialog = view.to_tag().is_some();
        let node = match target.goal {
            Goal::Node(node) => node,
            _ => None,
        };
        let destination = match target.goal {
            Goal::Outside(address) => Some(address),
            _ => node.map(|index| self.tables.nodes[index].address),
        };
        let branch = branch::derive(view, &via, looped, 0);
        let out = destination.map_or(socket, |to| self.socket_out(target, to, socket));
        let record_routes = self.record_routes(view, target, source, destination, socket, out);
        let packet = self.written(view, &via, target, &branch, source, out, &record_routes);
        let seed = Seed::of(view, via.stamped(source).as_deref());
        let server = self.stack.open_server(view, source, socket, false, Vec::new(), now);
        if invite {
            let trying = seed.response(100, "", "");
            // Just opened: a provisional response is legal.
            let _ = self.stack.respond(server, 100, trying, 0, now);
        }
        let back = self.tables.node_at(source).and_then(|_| via.branch()).and_then(slot_of_branch);
        let to_node = matches!(target.goal, Goal::Node(_));
        let index = self.keep(Forward {
            server,
            client: 0,
            branch,
            earlier: Vec::new(),
            seed,
            invite,
            in_dialog,
            slot: target.slot.filter(|_| to_node),
            back,
            node,
            tried: Vec::new(),
            others: target.others.clone(),
            key: if in_dialog { Vec::new() } else { view.call_id().to_vec() },
            answered: false,
            done: false,
            cancelled: false,
            attempts: 0,
        });
        if let Some(txn) = self.stack.table.get_mut(server) {
            txn.context = index as u64 + 1;
        }
        self.count_forwarded(node, in_dialog, destination.is_none());
        self.open_branch(index, packet, view.method(), destination, out, now);
    }

    fn count_forwarded(&mut self, node: Option<usize>, in_dialog: bool, unowned: bool) {
        self.counters.forwarded_requests += 1;
        if unowned {
            self.counters.no_owner += 1;
        }
        if let Some(node) = node {
            self.tables.nodes[node].forwarded += 1;
            if !in_dialog {
                self.tables.nodes[node].new_dialogs += 1;
                self.counters.new_dialogs += 1;
            }
        }
    }

    /// Opens the client transaction of a forward. Without a destination it waits for the slot's next owner.
    pub(super) fn open_branch(
        &mut self,
        index: usize,
        packet: Vec<u8>,
        method: &[u8],
        destination: Option<SocketAddr>,
        socket: u8,
        now: Micros,
    ) {
        let Some(forward) = self.get(index) else { return };
        let branch = forward.branch.clone();
        let (to_node, in_dialog) = (forward.node.is_some(), forward.in_dialog);
        let patient = forward.slot.is_some();
        let unknown = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
        let peer = destination.unwrap_or(unknown);
        let parked = destination.is_none();
        let context = index as u64 + 1;
        let role = Role { user_agent: false, patient, parked, context };
        let client = self.stack.open_client(packet, &branch, method, peer, socket, role, now);
        if to_node && !in_dialog {
            self.stack.arm_extra(client, self.config.reselect_after, now);
        }
        if let Some(forward) = self.get_mut(index) {
            forward.client = client;
            forward.answered = false;
        }
    }

    /// Record-Route values (§16.6 item 4; two of them when the sides differ, RFC 5658).
    fn record_routes(
        &mut self,
        view: &View<'_>,
        target: &Target<'_>,
        source: SocketAddr,
        destination: Option<SocketAddr>,
        arrived: u8,
        leaving: u8,
    ) -> Vec<Vec<u8>> {
        if !view.core().method.creates_dialog() || view.to_tag().is_some() {
            return Vec::new();
        }
        let Some(destination) = destination else { return Vec::new() };
        self.counters.record_routed += 1;
        let outward = matches!(target.goal, Goal::Outside(_));
        let (outer_ip, outer_socket) =
            if outward { (destination.ip(), leaving) } else { (source.ip(), arrived) };
        let inner_socket = if outward { arrived } else { leaving };
        let trunk = match target.peer.filter(|_| outward) {
            Some(peer) => peer == Peer::Trunk,
            None => self.tables.is_trunk(outer_ip),
        };
        let address = |socket: u8| self.sockets[socket as usize].to_string();
        let outer = if trunk && !self.tables.fqdn.is_empty() {
            self.tables.fqdn.clone()
        } else {
            address(outer_socket)
        };
        let inner = address(inner_socket);
        let slot = target.slot.map(|slot| format!(";vs={slot:03x}")).unwrap_or_default();
        let value =
            |host: &str| format!("<sip:{host};lr{slot}{}>", self.tables.record_route_params).into_bytes();
        if outer == inner {
            return vec![value(&inner)];
        }
        if outward {
            vec![value(&outer), value(&inner)]
        } else {
            vec![value(&inner), value(&outer)]
        }
    }

    pub(super) fn response(&mut self, view: &View<'_>, txn: TxnId, source: SocketAddr, now: Micros) {
        let context = self.stack.table.get(txn).map_or(0, |txn| txn.context);
        if context == 0 {
            if view.status() > 100 {
                self.events.push(Event::Response { txn, message: view.to_message(), source });
            }
            return;
        }
        let index = context as usize - 1;
        let status = view.status();
        let timer_c = self.config.timer_c;
        let Some(forward) = self.get_mut(index) else { return };
        let present = forward.client == txn;
        if !present && !(200..300).contains(&status) {
            return;
        }
        // A node that takes no call (it is full, leaves, or has just started): another may (§16.7 item 5).
        if status == 503 && forward.node.is_some() && self.reselect(index, false, now) {
            return;
        }
        let Some(forward) = self.get_mut(index) else { return };
        forward.answered |= present;
        if forward.slot.is_none() && forward.node.is_some() {
            forward.slot = view.to_tag().and_then(slot_of_tag);
        }
        let (invite, patient) = (forward.invite, forward.slot.is_some());
        if status < 200 {
            if invite && present {
                self.stack.arm_extra(txn, timer_c, now);
            } else {
                self.stack.disarm_extra(txn);
            }
        } else {
            self.stack.disarm_extra(txn);
        }
        if patient {
            self.stack.set_patient(txn);
        }
        if status > 100 {
            self.send_back(index, view, now);
        }
    }

    /// Sends a response to where the request came from: a node's present successor, when its Via names a slot.
    fn send_back(&mut self, index: usize, view: &View<'_>, now: Micros) {
        let Some(packet) = rewrite::response(view) else { return };
        let Some(forward) = self.get_mut(index) else { return };
        let (server, back) = (forward.server, forward.back);
        forward.done |= view.status() >= 200;
        if let Some(owner) = back.and_then(|slot| self.tables.owner(slot)) {
            let address = self.tables.nodes[owner].address;
            self.stack.set_peer(server, address);
        }
        // Gone: a second final response of another branch after a failure; the first one counts.
        if self.stack.respond(server, view.status(), packet, 0, now).is_ok() {
            self.counters.forwarded_responses += 1;
        }
    }

    /// A final response of our own.
    pub(super) fn answer(&mut self, index: usize, status: u16, now: Micros) {
        let Some(forward) = self.get_mut(index) else { return };
        if forward.done {
            return;
        }
        forward.done = true;
        let extra = if status == 503 {
            format!("Retry-After: {}\r\n", self.config.retry_after)
        } else {
            String::new()
        };
        let Some(forward) = self.get(index) else { return };
        let packet = forward.seed.response(status, &self.config.server_name, &extra);
        let server = forward.server;
        // Gone: the server transaction is over, nobody waits.
        let _ = self.stack.respond(server, status, packet, 0, now);
    }

    pub(super) fn cancel_forward(&mut self, index: usize, reason: &[u8], now: Micros) {
        let Some(forward) = self.get_mut(index) else { return };
        forward.cancelled = true;
        let client = forward.client;
        // Gone: the branch has ended, its final response is on its way back.
        let _ = self.stack.cancel(client, reason, now);
    }

    pub(super) fn forward_news(&mut self, index: usize, txn: TxnId, news: News, now: Micros) {
        let Some(forward) = self.get(index) else { return };
        let present = forward.client == txn;
        match news {
            News::Extra if present => self.extra(index, txn, now),
            News::Unreachable if present => self.branch_failed(index, now),
            News::RequestTimeout if present => {
                // RFC 4320 §4.1: a 408 to a request that is no INVITE comes too late to be of use.
                if forward.invite {
                    let status = if forward.cancelled { 487 } else { 408 };
                    self.answer(index, status, now);
                }
                if let Some(node) = forward_node(self.get(index)) {
                    self.tables.nodes[node].failed += 1;
                }
            }
            News::Terminated => self.branch_over(index, txn),
            _ => {}
        }
    }

    fn branch_over(&mut self, index: usize, txn: TxnId) {
        let Some(forward) = self.get_mut(index) else { return };
        if forward.server == txn {
            forward.server = 0;
        }
        if forward.client == txn {
            forward.client = 0;
        }
        forward.earlier.retain(|&other| other != txn);
        if forward.server == 0 && forward.client == 0 && forward.earlier.is_empty() {
            self.drop_forward(index);
        }
    }

    /// Timer C of an INVITE that rings too long, or nobody answered at all.
    fn extra(&mut self, index: usize, txn: TxnId, now: Micros) {
        let proceeding = matches!(
            self.stack.table.get(txn).map(|txn| &txn.machine),
            Some(Machine::ClientInvite(machine)) if machine.state == client_invite::State::Proceeding
        );
        if proceeding {
            self.cancel_forward(index, b"", now);
        } else {
            self.reselect(index, true, now);
        }
    }
}

fn forward_node(forward: Option<&Forward>) -> Option<usize> {
    forward.and_then(|forward| forward.node)
}
