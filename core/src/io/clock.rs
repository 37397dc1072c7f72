//! The two clocks: monotonic for transactions, CLOCK_BOOTTIME for lease deadlines (it goes on during suspend).

use crate::sip::txn::Micros;

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec; both clocks exist on every kernel since 2.6.39.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time
}

pub fn monotonic() -> Micros {
    let time = read(libc::CLOCK_MONOTONIC);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}

pub fn boottime_ns() -> i64 {
    let time = read(libc::CLOCK_BOOTTIME);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
