//! New requests, CANCELs, and what is forwarded without a transaction (ACK of a 2xx, late responses).

use super::super::agent::event::Event;
use super::super::header::HeaderId;
use super::super::identifiers::slot_of_branch;
use super::super::message::View;
use super::super::method::Method;
use super::super::stack::server::response_address;
use super::super::stack::table::TxnId;
use super::super::txn::Micros;
use super::super::via::ViaRef;
use super::branch;
use super::rewrite::{self, Seed};
use super::target::{Goal, Target};
use super::{Pending, Proxy};
use std::net::SocketAddr;

impl Proxy {
    pub(super) fn new_request(&mut self, view: &View<'_>, source: SocketAddr, socket: u8, now: Micros) {
        let from_node = self.tables.node_at(source).is_some();
        *(if from_node { &mut self.counters.from_nodes } else { &mut self.counters.from_outside }) += 1;
        if self.stack.table.len() >= self.config.max_transactions {
            self.stack.counters.overload_rejected += 1;
            let extra = format!("Retry-After: {}\r\n", self.config.retry_after);
            self.refuse(view, source, socket, 503, &extra);
            return;
        }
        if view.core().max_forwards == Some(0) {
            self.counters.max_forwards += 1;
            self.refuse(view, source, socket, 483, "");
            return;
        }
        if let Some(wanted) = view.header(HeaderId::ProxyRequire) {
            let extra =
                format!("Unsupported: {}\r\n", String::from_utf8_lossy(wanted).replace(['\r', '\n'], " "));
            self.refuse(view, source, socket, 420, &extra);
            return;
        }
        let looped = branch::loop_hash(view);
        if branch::looped(view, looped) {
            self.counters.loops += 1;
            self.refuse(view, source, socket, 482, "");
            return;
        }
        let target = self.target(view, from_node);
        match target.goal {
            Goal::Owner => self.ask_owner(view, source, socket, now),
            Goal::Refuse(status) => self.refuse_target(view, source, socket, status),
            Goal::Node(_) | Goal::Outside(_) => {
                let new_dialog =
                    view.to_tag().is_none() && view.core().method == Method::Invite && !from_node;
                if new_dialog && !self.bucket.take(now) {
                    self.counters.rate_limited += 1;
                    let extra = format!("Retry-After: {}\r\n", self.config.retry_after);
                    self.refuse(view, source, socket, 503, &extra);
                    return;
                }
                self.forward_request(view, &target, source, socket, looped, now);
            }
        }
    }

    fn refuse_target(&mut self, view: &View<'_>, source: SocketAddr, socket: u8, status: u16) {
        match status {
            503 => {
                self.counters.no_node += 1;
                let extra = format!("Retry-After: {}\r\n", self.config.retry_after);
                self.refuse(view, source, socket, status, &extra);
            }
            404 => {
                self.counters.unresolved += 1;
                self.refuse(
                    view,
                    source,
                    socket,
                    status,
                    "Warning: 399 voicemesh \"the next hop has no known address\"\r\n",
                );
            }
            _ => self.refuse(view, source, socket, status, ""),
        }
    }

    /// Answers without a transaction: the same request again gets the same answer.
    pub(super) fn refuse(
        &mut self,
        view: &View<'_>,
        source: SocketAddr,
        socket: u8,
        status: u16,
        extra: &str,
    ) {
        if view.core().method == Method::Ack {
            return;
        }
        let Ok(via) = view.via() else { return };
        let stamped = via.stamped(source);
        let seed = Seed::of(view, stamped.as_deref());
        let packet = seed.response(status, &self.config.server_name, extra);
        self.stack.out.push(&packet, response_address(&via, source), socket);
    }

    fn ask_owner(&mut self, view: &View<'_>, source: SocketAddr, socket: u8, now: Micros) {
        if self.events.full() {
            self.stack.counters.overload_rejected += 1;
            let extra = format!("Retry-After: {}\r\n", self.config.retry_after);
            self.refuse(view, source, socket, 503, &extra);
            return;
        }
        let Ok(via) = view.via() else { return };
        let mut message = view.to_message();
        if let Some(stamped) = via.stamped(source) {
            message.set_top_via(&stamped);
        }
        let txn = self.stack.open_server(view, source, socket, false, Vec::new(), now);
        self.pending.insert(txn, Pending { message: view.to_message(), source, socket });
        let local = self.sockets.get(socket as usize).copied().unwrap_or(source);
        self.events.push(Event::Request { txn, message, source, local });
    }

    /// CANCEL (§16.10): 200 and the branch is cancelled; without its INVITE it is forwarded as the INVITE would be.
    pub(super) fn cancelled(
        &mut self,
        view: &View<'_>,
        invite: Option<TxnId>,
        source: SocketAddr,
        socket: u8,
        now: Micros,
    ) {
        let Some(invite) = invite else {
            self.forward_statelessly(view, source, socket);
            return;
        };
        let Ok(via) = view.via() else { return };
        self.counters.cancelled += 1;
        let stamped = via.stamped(source);
        let packet = Seed::of(view, stamped.as_deref()).response(200, &self.config.server_name, "");
        let cancel = self.stack.open_server(view, source, socket, false, Vec::new(), now);
        if let Some(txn) = self.stack.table.get_mut(cancel) {
            txn.internal = true;
        }
        // Just opened: a final response is legal.
        let _ = self.stack.respond(cancel, 200, packet, 0, now);
        let context = self.stack.table.get(invite).map_or(0, |txn| txn.context);
        if context == 0 {
            if self.pending.contains_key(&invite) {
                self.events.push(Event::Cancel { txn: invite, message: view.to_message() });
            }
            return;
        }
        let reason = view.header(HeaderId::Reason).unwrap_or(b"").to_vec();
        self.cancel_forward(context as usize - 1, &reason, now);
    }

    /// ACK of a 2xx, or a CANCEL whose INVITE went through another proxy.
    pub(super) fn forward_statelessly(&mut self, view: &View<'_>, source: SocketAddr, socket: u8) {
        let Ok(via) = view.via() else { return };
        if view.core().max_forwards == Some(0) {
            self.counters.max_forwards += 1;
            self.refuse(view, source, socket, 483, "");
            return;
        }
        let target = self.target(view, self.tables.node_at(source).is_some());
        let destination = match target.goal {
            Goal::Node(Some(node)) => self.tables.nodes[node].address,
            Goal::Outside(address) => address,
            Goal::Node(None) => {
                self.counters.no_owner += 1;
                return;
            }
            Goal::Owner | Goal::Refuse(_) => {
                if view.core().method == Method::Cancel {
                    self.refuse(view, source, socket, 481, "");
                }
                return;
            }
        };
        self.counters.stateless_requests += 1;
        let looped = branch::loop_hash(view);
        let branch = branch::derive(view, &via, looped, 0);
        let out = self.socket_out(&target, destination, socket);
        let packet = self.written(view, &via, &target, &branch, source, out, &[]);
        self.stack.out.push(&packet, destination, out);
    }

    /// Socket to send a request from: the one our Route names when that leads outside, else the first that fits.
    pub(super) fn socket_out(&self, target: &Target<'_>, destination: SocketAddr, arrived: u8) -> u8 {
        let preferred = match target.goal {
            Goal::Outside(_) => target.socket,
            _ if self.sockets.len() == 1 => Some(arrived),
            _ => None,
        };
        self.socket_to(destination, preferred)
    }

    /// The forwarded request's bytes.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn written(
        &self,
        view: &View<'_>,
        via: &ViaRef<'_>,
        target: &Target<'_>,
        branch: &[u8],
        source: SocketAddr,
        socket: u8,
        record_routes: &[Vec<u8>],
    ) -> Vec<u8> {
        let stamped = via.stamped(source);
        let own = self.via_value(target, socket, branch);
        let changes = rewrite::Changes {
            via: &own,
            stamped: stamped.as_deref(),
            uri: target.uri,
            record_routes,
            routes_taken: target.routes_taken,
        };
        rewrite::request(view, &changes)
    }

    /// Towards nodes our sent-by is the cluster's name, so that the same request through another proxy has the same key
    /// there (§17.2.3); towards others it is our address.
    fn via_value(&self, target: &Target<'_>, socket: u8, branch: &[u8]) -> Vec<u8> {
        let local = self.sockets[socket as usize];
        let mut out = Vec::with_capacity(112);
        out.extend_from_slice(b"SIP/2.0/UDP ");
        if matches!(target.goal, Goal::Node(_)) && !self.tables.fqdn.is_empty() {
            out.extend_from_slice(self.tables.fqdn.split(':').next().unwrap_or("").as_bytes());
            out.extend_from_slice(format!(":{}", local.port()).as_bytes());
        } else {
            out.extend_from_slice(local.to_string().as_bytes());
        }
        out.extend_from_slice(b";branch=");
        out.extend_from_slice(branch);
        out.extend_from_slice(b";rport");
        out
    }

    /// A response without a transaction (this proxy is new, or the transaction is over): by its Vias.
    pub(super) fn stray_response(&mut self, view: &View<'_>, socket: u8) {
        if view.status() <= 100 {
            return;
        }
        let Ok(own) = view.via() else { return };
        let ours = self.tables.is_our_name(own.host)
            || super::tables::is_bound(&self.sockets, own.host, own.port).is_some();
        if !ours {
            return;
        }
        let Some(next) = rewrite::second_via(view).and_then(|value| ViaRef::parse(value).ok()) else {
            return;
        };
        let owner = next.branch().and_then(slot_of_branch).and_then(|slot| self.tables.owner(slot));
        let destination = match owner {
            Some(node) => Some(self.tables.nodes[node].address),
            None => next.response_address(),
        };
        if let (Some(destination), Some(packet)) = (destination, rewrite::response(view)) {
            self.counters.stateless_responses += 1;
            let out = self.socket_to(destination, (self.sockets.len() == 1).then_some(socket));
            self.stack.out.push(&packet, destination, out);
        }
    }
}
