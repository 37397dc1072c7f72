//! Server side of the stack: requests in, responses out.

use super::super::message::View;
use super::super::method::Method;
use super::super::txn::{
    server_invite, server_other, Class, Effect, Micros, ServerInvite, ServerOther, TIMERS,
};
use super::super::via::ViaRef;
use super::keys::{acknowledgement_parts, transaction_method};
use super::table::{Machine, Txn, TxnId};
use super::{Gone, Incoming, Stack};
use std::net::SocketAddr;

impl Stack {
    pub(super) fn receive_request(
        &mut self,
        request: &View<'_>,
        source: SocketAddr,
        now: Micros,
    ) -> Incoming {
        let Ok(via) = request.via() else {
            return Incoming::Absorbed;
        };
        let key = self.keys.server(request, &via, transaction_method(request));
        let known = self.servers.get(&key).copied();
        if request.core().method == Method::Ack {
            return self.receive_ack(request, known, now);
        }
        if let Some(id) = known {
            // The copy may have come through another proxy: answers go where the newest came from.
            self.set_peer(id, response_address(&via, source));
            self.repeat(id, now);
            return Incoming::Absorbed;
        }
        if request.core().method == Method::Cancel {
            let invite = self.keys.server(request, &via, b"INVITE");
            return Incoming::Cancel(self.servers.get(&invite).copied());
        }
        Incoming::Request
    }

    /// Id of the server transaction of a request.
    pub fn find_server(&self, request: &View<'_>) -> Option<TxnId> {
        let via = request.via().ok()?;
        self.servers.get(&self.keys.server(request, &via, transaction_method(request))).copied()
    }

    /// What another process has answered an INVITE provisionally: said again when the INVITE is repeated.
    pub fn resume_provisional(&mut self, id: TxnId, packet: Vec<u8>) {
        if let Some(txn) = self.table.get_mut(id) {
            txn.packet = packet;
            txn.spare = Vec::new();
        }
    }

    fn repeat(&mut self, id: TxnId, now: Micros) {
        self.counters.retransmissions_in += 1;
        let timings = self.timings;
        let Some(txn) = self.table.get_mut(id) else {
            return;
        };
        let effects = match &mut txn.machine {
            Machine::ServerInvite(m) => m.handle(server_invite::Input::Request, &timings, false),
            Machine::ServerOther(m) => m.handle(server_other::Input::Request, &timings, false),
            _ => return,
        };
        if effects.has(Effect::Send) && !txn.packet.is_empty() {
            self.counters.retransmissions_out += 1;
        }
        self.perform(id, &effects, now);
    }

    fn receive_ack(&mut self, ack: &View<'_>, by_branch: Option<TxnId>, now: Micros) -> Incoming {
        let (call_id, from, to, cseq) = acknowledgement_parts(ack);
        let id = by_branch.or_else(|| {
            let key = self.keys.acknowledgement(call_id, to, from, cseq);
            self.acks.get(&key).copied()
        });
        let timings = self.timings;
        let Some(txn) = id.and_then(|id| self.table.get_mut(id)) else {
            return Incoming::Ack(None);
        };
        let Machine::ServerInvite(machine) = &mut txn.machine else {
            return Incoming::Absorbed;
        };
        let accepted_by_proxy = !machine.user_agent && machine.state == server_invite::State::Accepted;
        let effects = machine.handle(server_invite::Input::Ack, &timings, false);
        if self.perform(id.unwrap_or(0), &effects, now) {
            return Incoming::Ack(id);
        }
        if accepted_by_proxy {
            // A client that uses the INVITE's branch for the ACK of a 2xx: still end to end.
            return Incoming::Ack(None);
        }
        Incoming::Absorbed
    }

    /// Opens the server transaction of a request that `receive` said is new. `trying`: a 100 kept ready (may be empty).
    pub fn open_server(
        &mut self,
        request: &View<'_>,
        source: SocketAddr,
        socket: u8,
        user_agent: bool,
        trying: Vec<u8>,
        now: Micros,
    ) -> TxnId {
        let Ok(via) = request.via() else { return 0 };
        let key = self.keys.server(request, &via, transaction_method(request));
        let (machine, effects) = if request.core().method == Method::Invite {
            (Machine::ServerInvite(ServerInvite::start(&self.timings, user_agent)), super::Effects::default())
        } else {
            let (machine, effects) = ServerOther::start(&self.timings);
            (Machine::ServerOther(machine), effects)
        };
        let id = self.table.insert(Txn {
            machine,
            key,
            peer: response_address(&via, source),
            socket,
            user_agent,
            internal: false,
            patient: false,
            parked: false,
            packet: Vec::new(),
            spare: trying,
            acks: Vec::new(),
            ack_key: 0,
            cancel_wanted: false,
            cancel_sent: false,
            cancel_reason: Vec::new(),
            context: 0,
            generations: [0; TIMERS],
        });
        self.servers.insert(key, id);
        self.perform(id, &effects, now);
        id
    }

    /// Whether a response of this status may be sent now.
    pub fn may_respond(&self, id: TxnId, status: u16) -> bool {
        match self.table.get(id).map(|txn| &txn.machine) {
            Some(Machine::ServerInvite(machine)) => machine.may_respond(Class::of(status)),
            Some(Machine::ServerOther(machine)) => machine.may_respond(),
            _ => false,
        }
    }

    /// Sends a response. `ack_key`: under which a 2xx of a user agent waits for its ACK (0: none).
    pub fn respond(
        &mut self,
        id: TxnId,
        status: u16,
        packet: Vec<u8>,
        ack_key: u64,
        now: Micros,
    ) -> Result<(), Gone> {
        if !self.may_respond(id, status) {
            return Err(Gone);
        }
        let timings = self.timings;
        let class = Class::of(status);
        let txn = self.table.get_mut(id).ok_or(Gone)?;
        txn.packet = packet;
        let effects = match &mut txn.machine {
            Machine::ServerInvite(m) => m.handle(server_invite::Input::Respond(class), &timings, false),
            Machine::ServerOther(m) => m.handle(server_other::Input::Respond(class), &timings, false),
            _ => return Err(Gone),
        };
        if class != Class::Provisional || status > 100 {
            txn.spare = Vec::new();
        }
        if class == Class::Success && ack_key != 0 {
            txn.ack_key = ack_key;
            self.acks.insert(ack_key, id);
        }
        self.perform(id, &effects, now);
        Ok(())
    }

    /// Sends the 100 kept ready, when nothing else has been sent yet.
    pub fn send_trying(&mut self, id: TxnId, now: Micros) {
        let Some(txn) = self.table.get_mut(id) else {
            return;
        };
        if txn.packet.is_empty() && !txn.spare.is_empty() {
            let packet = std::mem::take(&mut txn.spare);
            // The state was looked at: nothing was sent, so a provisional response is legal.
            let _ = self.respond(id, 100, packet, 0, now);
        }
    }

    /// Sends the last provisional response of an INVITE (not 100) again; false when there is none to repeat.
    pub fn repeat_provisional(&mut self, id: TxnId) -> bool {
        let Some(txn) = self.table.get(id) else { return false };
        let Machine::ServerInvite(machine) = &txn.machine else { return false };
        let trying = txn.packet.starts_with(b"SIP/2.0 100");
        if machine.state != server_invite::State::Proceeding || txn.packet.is_empty() || trying {
            return false;
        }
        self.counters.retransmissions_out += 1;
        self.out.push(&txn.packet, txn.peer, txn.socket);
        true
    }

    /// Changes where the responses of a transaction go from now on.
    pub fn set_peer(&mut self, id: TxnId, peer: SocketAddr) {
        if let Some(txn) = self.table.get_mut(id) {
            txn.peer = peer;
        }
    }
}

/// Where responses to a request go (§18.2.2, RFC 3581): the address it came from; its port when asked for by rport.
pub fn response_address(via: &ViaRef<'_>, source: SocketAddr) -> SocketAddr {
    let port = if via.param(b"rport").is_some() { source.port() } else { via.sent_port() };
    SocketAddr::new(source.ip(), port)
}
