//! New requests and CANCELs on their way to the owner.

use super::super::message::View;
use super::super::method::Method;
use super::super::reply::reply;
use super::super::stack::server::response_address;
use super::super::stack::table::{Machine, TxnId};
use super::super::txn::{server_invite, Micros};
use super::event::Event;
use super::Agent;
use std::net::SocketAddr;

impl Agent {
    pub(super) fn new_request(&mut self, view: &View<'_>, source: SocketAddr, socket: u8, now: Micros) {
        if self.events.full() || self.stack.table.len() >= self.config.max_transactions {
            self.reject_overload(view, source, socket);
            return;
        }
        let Ok(via) = view.via() else { return };
        let mut message = view.to_message();
        if let Some(stamped) = via.stamped(source) {
            message.set_top_via(&stamped);
        }
        let invite = view.core().method == Method::Invite;
        let trying = match self.config.auto_trying {
            Some(_) if invite => reply(&message.view(), 100, None, None).to_bytes(),
            _ => Vec::new(),
        };
        let txn = self.stack.open_server(view, source, socket, true, trying, now);
        if invite {
            match self.config.auto_trying {
                Some(0) => self.stack.send_trying(txn, now),
                Some(delay) => self.stack.arm_extra(txn, delay, now),
                None => {}
            }
        }
        let local = self.sockets.get(socket as usize).copied().unwrap_or(source);
        self.events.push(Event::Request { txn, message, source, local });
    }

    /// 503 without a transaction: costs nothing to forget.
    fn reject_overload(&mut self, view: &View<'_>, source: SocketAddr, socket: u8) {
        self.stack.counters.overload_rejected += 1;
        let Ok(via) = view.via() else { return };
        let mut message = view.to_message();
        if let Some(stamped) = via.stamped(source) {
            message.set_top_via(&stamped);
        }
        let mut response = reply(&message.view(), 503, None, Some(b"overload"));
        response.push("Retry-After", b"5");
        self.stack.out.push(&response.to_bytes(), response_address(&via, source), socket);
    }

    /// CANCEL: 200 when its INVITE is known, 481 when not (§9.2); the owner hears it while it can still matter.
    pub(super) fn cancelled(
        &mut self,
        view: &View<'_>,
        invite: Option<TxnId>,
        source: SocketAddr,
        socket: u8,
        now: Micros,
    ) {
        let Ok(via) = view.via() else { return };
        let mut message = view.to_message();
        if let Some(stamped) = via.stamped(source) {
            message.set_top_via(&stamped);
        }
        let cancel = self.stack.open_server(view, source, socket, true, Vec::new(), now);
        if let Some(txn) = self.stack.table.get_mut(cancel) {
            txn.internal = true;
        }
        let status = if invite.is_some() { 200 } else { 481 };
        let tag = self.new_tag();
        let response = reply(&message.view(), status, None, Some(&tag));
        // Just opened: a final response is legal.
        let _ = self.stack.respond(cancel, status, response.to_bytes(), 0, now);
        let Some(txn) = invite else { return };
        let open = matches!(
            self.stack.table.get(txn).map(|txn| &txn.machine),
            Some(Machine::ServerInvite(machine)) if machine.state == server_invite::State::Proceeding
        );
        if open {
            self.events.push(Event::Cancel { txn, message });
        }
    }
}
