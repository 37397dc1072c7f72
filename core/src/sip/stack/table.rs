//! Transactions by id. An id is (generation, place), so a late use of an old id finds nothing.

use super::super::txn::{ClientInvite, ClientOther, ServerInvite, ServerOther, TIMERS};
use super::Role;
use std::net::SocketAddr;

pub type TxnId = u64;

#[derive(Debug)]
pub enum Machine {
    ClientInvite(ClientInvite),
    ClientOther(ClientOther),
    ServerInvite(ServerInvite),
    ServerOther(ServerOther),
}

/// ACK kept for a 2xx of one UAS (To tag); no packet yet while the transaction user is making it.
#[derive(Debug)]
pub struct KeptAck {
    pub to_tag: Vec<u8>,
    pub packet: Vec<u8>,
    pub destination: Option<SocketAddr>,
}

#[derive(Debug)]
pub struct Txn {
    pub machine: Machine,
    pub key: u64,
    pub peer: SocketAddr,
    pub socket: u8,
    /// A user agent's transaction: 2xx is repeated and ACKs are kept. A proxy's is not.
    pub user_agent: bool,
    /// Made by the stack itself (CANCEL): nobody is told about it.
    pub internal: bool,
    /// Goes on when its peer cannot be reached: a slot's next owner will take it.
    pub patient: bool,
    /// Has no address to send to yet.
    pub parked: bool,
    /// Request of a client; last response of a server.
    pub packet: Vec<u8>,
    /// ACK of a failure (client INVITE); 100 Trying ready to go (server INVITE).
    pub spare: Vec<u8>,
    pub acks: Vec<KeptAck>,
    /// Key under which a 2xx waits for ACK, 0 when it does not.
    pub ack_key: u64,
    pub cancel_wanted: bool,
    pub cancel_sent: bool,
    pub cancel_reason: Vec<u8>,
    /// What the transaction user wants to know about it: 0 when nothing.
    pub context: u64,
    pub generations: [u32; TIMERS],
}

impl Txn {
    pub fn client(
        machine: Machine,
        key: u64,
        packet: Vec<u8>,
        peer: SocketAddr,
        socket: u8,
        role: Role,
    ) -> Self {
        Self {
            machine,
            key,
            peer,
            socket,
            user_agent: role.user_agent,
            internal: false,
            patient: role.patient,
            parked: role.parked,
            packet,
            spare: Vec::new(),
            acks: Vec::new(),
            ack_key: 0,
            cancel_wanted: false,
            cancel_sent: false,
            cancel_reason: Vec::new(),
            context: role.context,
            generations: [0; TIMERS],
        }
    }

    pub fn state_name(&self) -> &'static str {
        use super::super::txn::{
            client_invite as ci, client_other as co, server_invite as si, server_other as so,
        };
        match &self.machine {
            Machine::ClientInvite(m) => match m.state {
                ci::State::Calling => "calling",
                ci::State::Proceeding => "proceeding",
                ci::State::Completed => "completed",
                ci::State::Accepted => "accepted",
            },
            Machine::ClientOther(m) => match m.state {
                co::State::Trying => "trying",
                co::State::Proceeding => "proceeding",
                co::State::Completed => "completed",
            },
            Machine::ServerInvite(m) => match m.state {
                si::State::Proceeding => "proceeding",
                si::State::Completed => "completed",
                si::State::Confirmed => "confirmed",
                si::State::Accepted => "accepted",
            },
            Machine::ServerOther(m) => match m.state {
                so::State::Trying => "trying",
                so::State::Proceeding => "proceeding",
                so::State::Completed => "completed",
            },
        }
    }

    pub fn is_client(&self) -> bool {
        matches!(self.machine, Machine::ClientInvite(_) | Machine::ClientOther(_))
    }
}

#[derive(Debug, Default)]
pub struct Table {
    places: Vec<(u32, Option<Box<Txn>>)>,
    free: Vec<u32>,
    count: usize,
}

impl Table {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn insert(&mut self, txn: Txn) -> TxnId {
        self.count += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            self.places.len() as u32 - 1
        });
        let slot = &mut self.places[place as usize];
        slot.0 += 1;
        slot.1 = Some(Box::new(txn));
        u64::from(slot.0) << 32 | u64::from(place)
    }

    pub fn get(&self, id: TxnId) -> Option<&Txn> {
        let slot = self.places.get(id as u32 as usize)?;
        (u64::from(slot.0) == id >> 32).then_some(slot.1.as_deref()).flatten()
    }

    pub fn get_mut(&mut self, id: TxnId) -> Option<&mut Txn> {
        let slot = self.places.get_mut(id as u32 as usize)?;
        (u64::from(slot.0) == id >> 32).then_some(slot.1.as_deref_mut()).flatten()
    }

    pub fn remove(&mut self, id: TxnId) -> Option<Box<Txn>> {
        let slot = self.places.get_mut(id as u32 as usize)?;
        if u64::from(slot.0) != id >> 32 {
            return None;
        }
        let txn = slot.1.take()?;
        self.free.push(id as u32);
        self.count -= 1;
        Some(txn)
    }

    /// Ids of all transactions for which `wanted` holds.
    pub fn ids(&self, wanted: impl Fn(&Txn) -> bool) -> Vec<TxnId> {
        let mut ids = Vec::new();
        for (place, (generation, txn)) in self.places.iter().enumerate() {
            if txn.as_deref().is_some_and(&wanted) {
                ids.push(u64::from(*generation) << 32 | place as u64);
            }
        }
        ids
    }
}
