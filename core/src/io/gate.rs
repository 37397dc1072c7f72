//! The send gate: past the lease deadline nothing leaves; it waits for the owner's fenced write (design: effects are fenced).

use super::clock::boottime_ns;
use crate::sip::stack::output::Output;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::Mutex;

#[derive(Debug, Default)]
struct Held {
    output: Output,
    reported: bool,
    dropped: u64,
    total: u64,
}

#[derive(Debug)]
pub struct Gate {
    /// CLOCK_BOOTTIME in ns; 0: always open.
    deadline: AtomicI64,
    limit: usize,
    held: Mutex<Held>,
}

impl Gate {
    pub fn new(limit: usize) -> Self {
        Self { deadline: AtomicI64::new(0), limit, held: Mutex::default() }
    }

    pub fn set_deadline(&self, boottime_ns: i64) {
        self.deadline.store(boottime_ns, Ordering::Release);
    }

    /// Whether packets may leave at this moment.
    pub fn open(&self) -> bool {
        let deadline = self.deadline.load(Ordering::Acquire);
        deadline == 0 || boottime_ns() < deadline
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Keeps all packets; how many wait now when the owner has not been told yet.
    pub fn hold(&self, output: &Output) -> Option<usize> {
        let mut held = self.lock();
        for packet in &output.packets {
            if held.output.packets.len() >= self.limit {
                held.dropped += 1;
                continue;
            }
            held.total += 1;
            held.output.push(output.data(packet), packet.destination, packet.socket);
        }
        if held.reported || held.output.is_empty() {
            return None;
        }
        held.reported = true;
        Some(held.output.packets.len())
    }

    /// The owner took the report: the next packet held is reported again.
    pub fn report_taken(&self) {
        self.lock().reported = false;
    }

    /// Takes all that is held.
    pub fn take(&self) -> Output {
        let mut held = self.lock();
        held.reported = false;
        std::mem::take(&mut held.output)
    }

    /// (packets ever held, dropped for lack of room, waiting now).
    pub fn counts(&self) -> (u64, u64, u64) {
        let held = self.lock();
        (held.total, held.dropped, held.output.packets.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_reports_once_and_gives_back() {
        let gate = Gate::new(2);
        assert!(gate.open());
        gate.set_deadline(boottime_ns() + 3_600_000_000_000);
        assert!(gate.open());
        gate.set_deadline(1);
        assert!(!gate.open());
        let mut output = Output::default();
        output.push(b"a", "127.0.0.1:1".parse().unwrap(), 0);
        assert_eq!(gate.hold(&output), Some(1));
        assert_eq!(gate.hold(&output), None);
        assert_eq!(gate.hold(&output), None);
        assert_eq!(gate.counts(), (2, 1, 2));
        gate.report_taken();
        assert_eq!(gate.hold(&Output::default()), Some(2));
        assert_eq!(gate.take().packets.len(), 2);
        assert_eq!(gate.counts(), (2, 1, 0));
    }
}
