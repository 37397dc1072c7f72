//! Re-selection of a node for a new dialog, and requests that follow their slot to its next owner.

use super::super::stack::table::Machine;
use super::super::txn::{client_invite, client_other, Micros};
use super::tables::NodeIndex;
use super::{branch, rewrite, Proxy};

impl Proxy {
    /// ICMP error: the next node for a new dialog, 503 for anything else.
    pub(super) fn branch_failed(&mut self, index: usize, now: Micros) {
        if let Some(node) = self.get(index).and_then(|forward| forward.node) {
            self.tables.nodes[node].failed += 1;
        }
        if !self.reselect(index, false, now) && !self.next_address(index, now) {
            self.answer(index, 503, now);
            let Some(forward) = self.get_mut(index) else { return };
            let client = std::mem::take(&mut forward.client);
            self.stack.forget(client);
        }
    }

    /// Tries the next node; whether there was one. `cancel`: the old branch may still be alive.
    pub(super) fn reselect(&mut self, index: usize, cancel: bool, now: Micros) -> bool {
        let most = self.config.max_reselections;
        let Some(forward) = self.get_mut(index) else { return false };
        let Some(node) = forward.node else { return false };
        if forward.in_dialog
            || forward.done
            || forward.cancelled
            || forward.slot.is_some()
            || forward.attempts >= most
        {
            return false;
        }
        forward.tried.push(node);
        let (key, tried, old) = (forward.key.clone(), forward.tried.clone(), forward.client);
        let Some(next) = self.tables.choose(&key, &tried) else { return false };
        let Some((packet, method, socket)) = self.packet_of(old) else { return false };
        let Some(forward) = self.get_mut(index) else { return false };
        let before = std::mem::take(&mut forward.branch);
        forward.attempts += 1;
        forward.branch = branch::of_attempt(&before, forward.attempts);
        forward.node = Some(next);

        let Some(packet) = rewrite::rebranched(&packet, &before, &forward.branch) else { return false };
        let invite = forward.invite;
        self.counters.reselected += 1;
        self.tables.nodes[next].forwarded += 1;
        self.tables.nodes[next].new_dialogs += 1;
        let destination = self.tables.nodes[next].address;
        self.leave_branch(index, old, cancel && invite, now);
        self.open_branch(index, packet, &method, Some(destination), socket, now);
        true
    }

    /// Ends the present branch: with CANCEL, when it may still be answered; silently when nobody is there.
    fn leave_branch(&mut self, index: usize, old: super::TxnId, cancel: bool, now: Micros) {
        if !cancel {
            self.stack.forget(old);
            return;
        }
        self.stack.disarm_extra(old);
        self.stack.cancel_blindly(old, now);
        if let Some(forward) = self.get_mut(index) {
            forward.earlier.push(old);
        }
    }

    /// Tries the next address of a name outside; whether there was one.
    fn next_address(&mut self, index: usize, now: Micros) -> bool {
        let Some(forward) = self.get_mut(index) else { return false };
        if forward.node.is_some() || forward.done || forward.cancelled || forward.others.is_empty() {
            return false;
        }
        let destination = forward.others.remove(0);
        let old = forward.client;
        let Some((packet, method, socket)) = self.packet_of(old) else { return false };
        let Some(forward) = self.get_mut(index) else { return false };
        let before = std::mem::take(&mut forward.branch);
        forward.attempts = forward.attempts.wrapping_add(1);
        forward.branch = branch::of_attempt(&before, forward.attempts);
        let Some(packet) = rewrite::rebranched(&packet, &before, &forward.branch) else { return false };
        self.leave_branch(index, old, false, now);
        self.open_branch(index, packet, &method, Some(destination), socket, now);
        true
    }

    /// (packet, method, socket) of a client transaction, or of one that has just ended.
    fn packet_of(&self, txn: super::TxnId) -> Option<(Vec<u8>, Vec<u8>, u8)> {
        let txn = self.stack.table.get(txn)?;
        let space = memchr::memchr(b' ', &txn.packet)?;
        Some((txn.packet.clone(), txn.packet[..space].to_vec(), txn.socket))
    }

    /// New owners of slots: every request of theirs without a final response goes there, under the same branch.
    pub fn set_slots(&mut self, changes: Vec<(u16, Option<NodeIndex>)>, whole: bool, now: Micros) {
        let moved = self.tables.set_slots(changes, whole);
        if moved.is_empty() {
            return;
        }
        let mut is_moved = [false; super::super::identifiers::SLOT_COUNT as usize];
        for slot in &moved {
            is_moved[*slot as usize] = true;
        }
        for index in 0..self.forwards.len() {
            let Some(forward) = self.get(index) else { continue };
            let Some(slot) = forward.slot.filter(|slot| is_moved[*slot as usize]) else { continue };
            let (client, in_dialog, branch) = (forward.client, forward.in_dialog, forward.branch.clone());
            if forward.done || client == 0 || !self.unanswered(client) {
                continue;
            }
            let Some(owner) = self.tables.owner(slot) else { continue };
            if !in_dialog {
                self.name_slot(client, &branch, slot);
            }
            let address = self.tables.nodes[owner].address;
            self.tables.nodes[owner].forwarded += 1;
            self.counters.slot_moved_resent += 1;
            self.stack.disarm_extra(client);
            self.stack.redirect(client, address, now);
            if let Some(forward) = self.get_mut(index) {
                forward.node = Some(owner);
            }
        }
        self.collect(now);
    }

    /// An INVITE without a To tag says nowhere what call it belongs to: its Via does.
    fn name_slot(&mut self, client: super::TxnId, branch: &[u8], slot: u16) {
        let Some(txn) = self.stack.table.get_mut(client) else { return };
        if let Some(packet) = rewrite::slotted(&txn.packet, branch, slot) {
            txn.packet = packet;
        }
    }

    fn unanswered(&self, client: super::TxnId) -> bool {
        match self.stack.table.get(client).map(|txn| &txn.machine) {
            Some(Machine::ClientInvite(machine)) => {
                matches!(machine.state, client_invite::State::Calling | client_invite::State::Proceeding)
            }
            Some(Machine::ClientOther(machine)) => machine.state != client_other::State::Completed,
            _ => false,
        }
    }

    /// A new node table; new dialogs that wait for a node that left are tried elsewhere.
    pub fn set_nodes(&mut self, nodes: &[(String, std::net::SocketAddr, f64)], now: Micros) {
        let gone = self.tables.set_nodes(nodes);
        if gone.is_empty() {
            return;
        }
        for index in 0..self.forwards.len() {
            let Some(forward) = self.get(index) else { continue };
            let lost = forward.node.is_some_and(|node| gone.contains(&node));
            if lost && forward.client != 0 && self.unanswered(forward.client) {
                self.reselect(index, false, now);
            }
        }
        self.collect(now);
    }
}
