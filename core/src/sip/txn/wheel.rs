//! A timer wheel: 10 ms ticks, arming and firing at constant cost, nothing to do for a timer that is disarmed
//! (the owner compares a generation when it fires).

use super::{Micros, Timer};

pub const TICK: Micros = 10_000;
/// 81.92 s in one turn: longer than 64*T1. What lies beyond goes round again.
const SLOTS: usize = 8_192;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub txn: u64,
    pub timer: Timer,
    pub generation: u32,
    due: Micros,
}

pub struct Wheel {
    slots: Vec<Vec<Entry>>,
    occupied: [u64; SLOTS / 64],
    /// First tick not yet fired.
    tick: u64,
    count: usize,
    ready: Vec<Entry>,
}

impl Wheel {
    pub fn new(now: Micros) -> Self {
        Self {
            slots: vec![Vec::new(); SLOTS],
            occupied: [0; SLOTS / 64],
            tick: now / TICK,
            count: 0,
            ready: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.count + self.ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn arm(&mut self, txn: u64, timer: Timer, generation: u32, due: Micros) {
        self.put(Entry { txn, timer, generation, due });
    }

    fn put(&mut self, entry: Entry) {
        // Rounded up: a timer never fires early.
        let wanted = entry.due.div_ceil(TICK).max(self.tick);
        let tick = wanted.min(self.tick + SLOTS as u64 - 1);
        let slot = (tick % SLOTS as u64) as usize;
        self.slots[slot].push(entry);
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.count += 1;
    }

    /// The next timer that is due, None when all that are due were taken.
    pub fn pop(&mut self, now: Micros) -> Option<Entry> {
        loop {
            if let Some(entry) = self.ready.pop() {
                if entry.due <= now {
                    return Some(entry);
                }
                self.put(entry);
                continue;
            }
            let last = now / TICK;
            let tick = self.next_occupied().filter(|&tick| tick <= last);
            let Some(tick) = tick else {
                self.tick = self.tick.max(last + 1);
                return None;
            };
            let slot = (tick % SLOTS as u64) as usize;
            std::mem::swap(&mut self.ready, &mut self.slots[slot]);
            self.occupied[slot / 64] &= !(1 << (slot % 64));
            self.count -= self.ready.len();
            self.tick = tick + 1;
        }
    }

    /// When `pop` has something to give, None when no timer is armed.
    pub fn next_due(&self) -> Option<Micros> {
        if !self.ready.is_empty() {
            return Some(self.tick * TICK);
        }
        self.next_occupied().map(|tick| tick * TICK)
    }

    fn next_occupied(&self) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let start = (self.tick % SLOTS as u64) as usize;
        let words = self.occupied.len();
        for step in 0..=words {
            let word = (start / 64 + step) % words;
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            } else if step == words {
                bits &= !(u64::MAX << (start % 64));
            }
            if bits != 0 {
                let slot = word * 64 + bits.trailing_zeros() as usize;
                let ahead = (slot + SLOTS - start) % SLOTS;
                return Some(self.tick + ahead as u64);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(wheel: &mut Wheel, now: Micros) -> Vec<u64> {
        let mut all = Vec::new();
        while let Some(entry) = wheel.pop(now) {
            all.push(entry.txn);
        }
        all.sort_unstable();
        all
    }

    #[test]
    fn fires_in_time_and_never_early() {
        let mut wheel = Wheel::new(1_000_000);
        wheel.arm(1, Timer::Retransmit, 0, 1_500_000);
        wheel.arm(2, Timer::Retransmit, 0, 1_500_001);
        wheel.arm(3, Timer::Linger, 0, 400_000_000);
        assert_eq!(wheel.next_due(), Some(1_500_000));
        assert!(drain(&mut wheel, 1_499_999).is_empty());
        assert_eq!(drain(&mut wheel, 1_500_000), [1]);
        assert_eq!(drain(&mut wheel, 1_510_000), [2]);
        for second in 2..400 {
            assert!(drain(&mut wheel, second * 1_000_000).is_empty());
        }
        assert_eq!(drain(&mut wheel, 400_000_000), [3]);
        assert!(wheel.is_empty() && wheel.next_due().is_none());
    }

    #[test]
    fn a_long_sleep_loses_nothing() {
        let mut wheel = Wheel::new(0);
        for txn in 0..1000 {
            wheel.arm(txn, Timer::Deadline, 0, txn * 137_000);
        }
        assert_eq!(drain(&mut wheel, 200_000_000).len(), 1000);
        wheel.arm(7, Timer::Extra, 0, 5);
        assert_eq!(drain(&mut wheel, 200_010_000), [7]);
    }
}
