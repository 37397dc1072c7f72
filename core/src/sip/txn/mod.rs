//! The four transaction machines of RFC 3261 §17 with RFC 6026: state and input in, effects out.
//!
//! A machine never sees a message, an address or a clock. What it wants done it says in [`Effects`]; the stack does it.

pub mod client_invite;
pub mod client_other;
pub mod server_invite;
pub mod server_other;
pub mod wheel;

pub use client_invite::ClientInvite;
pub use client_other::ClientOther;
pub use server_invite::ServerInvite;
pub use server_other::ServerOther;

/// Microseconds on a clock that does not go back.
pub type Micros = u64;

pub const SECOND: Micros = 1_000_000;

/// RFC 3261 Table 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    pub t1: Micros,
    pub t2: Micros,
    pub t4: Micros,
}

impl Default for Timings {
    fn default() -> Self {
        Self { t1: SECOND / 2, t2: 4 * SECOND, t4: 5 * SECOND }
    }
}

impl Timings {
    /// Timers B, F, H, J, L, M; and D, which must be at least 32 s, for the default T1.
    pub const fn patience(&self) -> Micros {
        64 * self.t1
    }
}

/// The timers a transaction may have running, by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Timer {
    /// A, E, G; repeating a 2xx.
    Retransmit,
    /// B, F, H; after CANCEL.
    Deadline,
    /// D, I, J, K, L, M.
    Linger,
    /// The transaction user's: 100 Trying, timer C, re-selection.
    Extra,
}

pub const TIMERS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Send the stored packet (request of a client, last response of a server).
    Send,
    /// Send ACK for the failure response at hand.
    Ack,
    /// Hand the message to the transaction user.
    Deliver,
    Arm(Timer, Micros),
    Disarm(Timer),
    /// Tell the transaction user that nobody answered.
    Timeout,
    /// Tell the transaction user that the packet could not be delivered.
    Failed,
    /// The transaction is over.
    End,
}

/// At most six effects, without allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effects {
    items: [Option<Effect>; 6],
}

impl Effects {
    pub fn of(effects: &[Effect]) -> Self {
        let mut items = [None; 6];
        for (slot, effect) in items.iter_mut().zip(effects) {
            *slot = Some(*effect);
        }
        Self { items }
    }

    pub fn iter(&self) -> impl Iterator<Item = Effect> + '_ {
        self.items.iter().flatten().copied()
    }

    pub fn has(&self, effect: Effect) -> bool {
        self.iter().any(|other| other == effect)
    }
}

/// What responses mean to a client machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Provisional,
    Success,
    Failure,
}

impl Class {
    pub const fn of(status: u16) -> Self {
        match status {
            0..=199 => Self::Provisional,
            200..=299 => Self::Success,
            _ => Self::Failure,
        }
    }
}
