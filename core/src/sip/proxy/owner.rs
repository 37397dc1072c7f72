//! What the owner does: answers, hands back, sends requests of the proxy's own.

use super::super::agent::{originate, Originated, SendError};
use super::super::message::Message;
use super::super::stack::table::TxnId;
use super::super::txn::Micros;
use super::target::{Goal, Target};
use super::{branch, Proxy};
use std::net::SocketAddr;

impl Proxy {
    pub fn respond(&mut self, txn: TxnId, mut response: Message, now: Micros) -> Result<(), SendError> {
        let status = response.view().status();
        if !self.pending.contains_key(&txn) || !self.stack.may_respond(txn, status) {
            return Err(SendError::Gone);
        }
        if !self.config.server_name.is_empty() && response.get("Server").is_none() {
            response.push("Server", self.config.server_name.as_bytes());
        }
        self.stack.respond(txn, status, response.to_bytes(), 0, now)?;
        if status >= 200 {
            self.pending.remove(&txn);
        }
        self.collect(now);
        Ok(())
    }

    /// Forwards a request that was handed out, by the tables or to a node by name.
    pub fn forward(&mut self, txn: TxnId, node: Option<&str>, now: Micros) -> Result<(), SendError> {
        let to = match node {
            Some(id) => Some(self.tables.node_by_id(id).ok_or(SendError::Incomplete("node"))?),
            None => None,
        };
        let pending = self.pending.remove(&txn).ok_or(SendError::Gone)?;
        // The forward opens its own server transaction under the same key.
        self.stack.forget(txn);
        let bytes = pending.message.to_bytes();
        let message = Message::parse(&bytes).map_err(|_| SendError::Incomplete("request"))?;
        let view = message.view();
        let goal = match to.or_else(|| self.tables.choose(view.call_id(), &[])) {
            Some(node) => Goal::Node(Some(node)),
            None => Goal::Refuse(503),
        };
        let from_node = self.tables.node_at(pending.source).is_some();
        let target = Target { goal, ..self.target(&view, from_node) };
        if let Goal::Refuse(status) = target.goal {
            self.counters.no_node += 1;
            self.refuse(&view, pending.source, pending.socket, status, "");
        } else {
            let looped = branch::loop_hash(&view);
            self.forward_request(&view, &target, pending.source, pending.socket, looped, now);
        }
        self.collect(now);
        Ok(())
    }

    /// A request of the proxy's own; no INVITE, since nobody here could acknowledge its 2xx.
    pub fn send_request(
        &mut self,
        request: Message,
        destination: SocketAddr,
        prefix: &str,
        local: Option<SocketAddr>,
        now: Micros,
    ) -> Result<TxnId, SendError> {
        if request.view().method() == b"INVITE" {
            return Err(SendError::Method);
        }
        let fits = |address: &SocketAddr| match local {
            Some(local) => *address == local,
            None => address.is_ipv4() == destination.is_ipv4(),
        };
        let socket = self.sockets.iter().position(fits).ok_or(SendError::NoSocket)?;
        let sent_by = self.sockets[socket].to_string();
        let how = Originated {
            destination,
            socket: socket as u8,
            sent_by: &sent_by,
            prefix,
            user_agent: &self.config.server_name,
        };
        let txn = originate(&mut self.stack, request, &how, now)?;
        self.collect(now);
        Ok(txn)
    }

    pub fn set_dialog_rate(&mut self, rate: f64) {
        self.config.dialog_rate = rate;
        self.bucket.set_rate(rate);
    }

    /// Counters by name.
    pub fn counter_list(&self) -> Vec<(String, u64)> {
        let c = &self.counters;
        let mut all: Vec<(String, u64)> = [
            ("new_dialogs", c.new_dialogs),
            ("forwarded_requests", c.forwarded_requests),
            ("forwarded_responses", c.forwarded_responses),
            ("stateless_requests", c.stateless_requests),
            ("stateless_responses", c.stateless_responses),
            ("reselected", c.reselected),
            ("slot_moved_resent", c.slot_moved_resent),
            ("rate_limited", c.rate_limited),
            ("no_owner", c.no_owner),
            ("no_node", c.no_node),
            ("loops", c.loops),
            ("max_forwards", c.max_forwards),
            ("unresolved", c.unresolved),
            ("from_nodes", c.from_nodes),
            ("from_outside", c.from_outside),
            ("record_routed", c.record_routed),
            ("cancelled", c.cancelled),
            ("transactions", self.stack.table.len() as u64),
            ("pending", self.pending.len() as u64),
        ]
        .iter()
        .map(|(name, value)| ((*name).to_owned(), *value))
        .collect();
        for node in &self.tables.nodes {
            all.push((format!("node.{}.new_dialogs", node.id), node.new_dialogs));
            all.push((format!("node.{}.forwarded", node.id), node.forwarded));
            all.push((format!("node.{}.failed", node.id), node.failed));
        }
        all.extend(self.stack.counters.list());
        all
    }
}
