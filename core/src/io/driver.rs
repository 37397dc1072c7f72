//! One thread around one engine: receives in batches, lets the engine work, sends in batches, wakes the owner once.
//!
//! Calls of the owner run on the owner's thread under the same lock and send from there: a wake-up across cores costs more
//! than the system call.

use super::clock::monotonic;
use super::gate::Gate;
use super::notify::Notify;
use super::poll::{Poll, Ready};
use super::transport::{Inbox, Transport, BATCH};
use super::Engine;
use crate::sip::agent::event::Event;
use crate::sip::stack::output::Output;
use crate::sip::txn::Micros;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

const WAKE: u64 = u64::MAX;
/// Rounds of sending in one turn: the first and as many attempts at other addresses as a proxy makes.
const MAX_ATTEMPTS: usize = 10;

struct Inner<E> {
    engine: E,
    transports: Vec<Arc<dyn Transport>>,
    /// When the thread will wake by itself; `Micros::MAX` while it is at work or sleeps without a timer.
    sleeps_until: Micros,
    /// The event descriptor is readable.
    signalled: bool,
}

struct Shared<E> {
    inner: Mutex<Inner<E>>,
    gate: Gate,
    events: Notify,
    wake: Notify,
    poll: Poll,
    stop: AtomicBool,
    sent: AtomicU64,
    send_errors: AtomicU64,
    panics: AtomicU64,
}

pub struct Driver<E: Engine> {
    shared: Arc<Shared<E>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<E: Engine> Driver<E> {
    pub fn new(engine: E, max_held: usize) -> io::Result<Self> {
        let shared = Shared {
            inner: Mutex::new(Inner {
                engine,
                transports: Vec::new(),
                sleeps_until: Micros::MAX,
                signalled: false,
            }),
            gate: Gate::new(max_held),
            events: Notify::new()?,
            wake: Notify::new()?,
            poll: Poll::new()?,
            stop: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            send_errors: AtomicU64::new(0),
            panics: AtomicU64::new(0),
        };
        shared.poll.add(shared.wake.fd(), WAKE)?;
        Ok(Self { shared: Arc::new(shared), thread: Mutex::new(None) })
    }

    /// Adds a bound transport and starts the thread with the first.
    pub fn add(&self, transport: Arc<dyn Transport>, name: &str) -> io::Result<SocketAddr> {
        if self.shared.stop.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "closed"));
        }
        let local = transport.local();
        let mut inner = self.shared.lock();
        if inner.transports.len() >= 16 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "at most 16 sockets"));
        }
        self.shared.poll.add(transport.fd(), inner.transports.len() as u64)?;
        inner.transports.push(transport);
        inner.engine.bound(local);
        drop(inner);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let shared = Arc::clone(&self.shared);
            *thread = Some(std::thread::Builder::new().name(name.to_owned()).spawn(move || shared.run())?);
        }
        Ok(local)
    }

    /// Runs a call of the owner and sends what it made.
    pub fn call<R>(&self, work: impl FnOnce(&mut E, Micros) -> R) -> R {
        let mut inner = self.shared.lock();
        let result = work(&mut inner.engine, monotonic());
        self.shared.flush_locked(&mut inner);
        self.shared.signal(&mut inner);
        if let Some(due) = inner.engine.next_due().filter(|due| *due < inner.sleeps_until) {
            inner.sleeps_until = due;
            self.shared.wake.set();
        }
        result
    }

    /// Up to `max` events.
    pub fn drain(&self, max: usize) -> Vec<Event> {
        let mut inner = self.shared.lock();
        let events = inner.engine.events();
        let count = events.queue.len().min(max);
        let taken: Vec<Event> = events.queue.drain(..count).collect();
        if events.queue.is_empty() && inner.signalled {
            self.shared.events.clear();
            inner.signalled = false;
        }
        if taken.iter().any(|event| matches!(event, Event::Held { .. })) {
            self.shared.gate.report_taken();
        }
        taken
    }

    /// Sends a packet that is no transaction's business.
    pub fn send_raw(&self, data: &[u8], destination: SocketAddr, socket: u8) {
        self.call(|engine, _| engine.output().push(data, destination, socket));
    }

    pub fn event_fd(&self) -> RawFd {
        self.shared.events.fd()
    }

    pub fn set_send_deadline(&self, boottime_ns: i64) {
        self.shared.gate.set_deadline(boottime_ns);
    }

    pub fn release_held(&self) -> usize {
        let held = self.shared.gate.take();
        let transports = self.shared.lock().transports.clone();
        self.shared.send(&held, &transports);
        held.packets.len()
    }

    pub fn drop_held(&self) -> usize {
        self.shared.gate.take().packets.len()
    }

    /// Counters of the I/O around the engine.
    pub fn counters(&self) -> Vec<(String, u64)> {
        let (held, dropped, waiting) = self.shared.gate.counts();
        let (queued, events_dropped) = {
            let mut inner = self.shared.lock();
            let events = inner.engine.events();
            (events.queue.len() as u64, events.dropped)
        };
        [
            ("sent", self.shared.sent.load(Ordering::Relaxed)),
            ("send_errors", self.shared.send_errors.load(Ordering::Relaxed)),
            ("panics", self.shared.panics.load(Ordering::Relaxed)),
            ("held", held),
            ("held_dropped", dropped),
            ("held_now", waiting),
            ("events_queued", queued),
            ("events_dropped", events_dropped),
        ]
        .iter()
        .map(|(name, value)| ((*name).to_owned(), *value))
        .collect()
    }

    /// Stops the thread and closes the sockets. Idempotent.
    pub fn close(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake.set();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the thread has been printed by the runtime; there is nobody else to tell.
            drop(thread.join());
        }
        self.shared.lock().transports.clear();
    }

    pub fn closed(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }
}

impl<E: Engine> Drop for Driver<E> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<E: Engine> Shared<E> {
    fn lock(&self) -> MutexGuard<'_, Inner<E>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread. A panic is a bug; it must not take the sockets of every other call with it, so it is counted and the
    /// loop starts again (the runtime has printed it).
    fn run(&self) {
        while !self.stop.load(Ordering::Acquire) {
            let turn = std::panic::AssertUnwindSafe(|| self.serve());
            if std::panic::catch_unwind(turn).is_err() {
                self.panics.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn serve(&self) {
        let mut inbox = Inbox::new();
        let mut ready: Vec<Ready> = Vec::with_capacity(16);
        let mut output = Output::default();
        let mut quoted = Vec::new();
        while !self.stop.load(Ordering::Acquire) {
            let timeout = self.sleep_time();
            self.poll.wait(timeout, &mut ready);
            if ready.is_empty() {
                self.turn(&mut output, |_, _| {});
            }
            for item in &ready {
                if item.token == WAKE {
                    self.wake.clear();
                    self.turn(&mut output, |_, _| {});
                    continue;
                }
                let Some(transport) = self.lock().transports.get(item.token as usize).cloned() else {
                    continue;
                };
                let socket = item.token as u8;
                if item.error {
                    while transport.take_error(&mut quoted) {
                        self.turn(&mut output, |engine, now| engine.unreachable(&quoted, now));
                    }
                }
                self.receive(transport.as_ref(), socket, &mut inbox, &mut output);
            }
        }
    }

    /// Milliseconds until a timer is due; -1 when none is. Notes it so that a call that arms an earlier one wakes us.
    fn sleep_time(&self) -> i32 {
        let mut inner = self.lock();
        let now = monotonic();
        match inner.engine.next_due() {
            Some(due) => {
                inner.sleeps_until = due;
                due.saturating_sub(now).div_ceil(1_000).min(60_000) as i32
            }
            None => {
                inner.sleeps_until = Micros::MAX;
                -1
            }
        }
    }

    fn receive(&self, transport: &dyn Transport, socket: u8, inbox: &mut Inbox, output: &mut Output) {
        loop {
            // An error here is an ICMP report (it is on the error queue too) or an empty socket.
            if transport.receive(inbox).is_err() || inbox.datagrams.is_empty() {
                return;
            }
            self.turn(output, |engine, now| {
                for i in 0..inbox.datagrams.len() {
                    let (data, source) = inbox.datagram(i);
                    engine.datagram(data, source, socket, now);
                }
            });
            if inbox.datagrams.len() < BATCH {
                return;
            }
        }
    }

    /// One turn of the engine on the thread: the lock is not held while packets leave.
    fn turn(&self, output: &mut Output, work: impl FnOnce(&mut E, Micros)) {
        output.clear();
        let transports = {
            let mut inner = self.lock();
            let now = monotonic();
            work(&mut inner.engine, now);
            if inner.engine.next_due().is_some_and(|due| due <= now) {
                inner.engine.tick(now);
            }
            std::mem::swap(inner.engine.output(), output);
            if !output.is_empty() && !self.gate.open() {
                self.hold(&mut inner, output);
                output.clear();
            }
            self.signal(&mut inner);
            if output.is_empty() {
                return;
            }
            inner.transports.clone()
        };
        let failed = self.send(output, &transports);
        if !failed.is_empty() {
            let mut inner = self.lock();
            let now = monotonic();
            for index in failed {
                inner.engine.unreachable(output.data(&output.packets[index]), now);
            }
            self.flush_locked(&mut inner);
            self.signal(&mut inner);
        }
    }

    /// Sends what the engine has, and what it makes of failures (another address, another node), a few times over.
    fn flush_locked(&self, inner: &mut Inner<E>) {
        for _ in 0..MAX_ATTEMPTS {
            if inner.engine.output().is_empty() {
                return;
            }
            self.flush_once(inner);
        }
    }

    fn flush_once(&self, inner: &mut Inner<E>) {
        let mut output = std::mem::take(inner.engine.output());
        if self.gate.open() {
            let failed = self.send(&output, &inner.transports);
            let now = monotonic();
            for index in failed {
                inner.engine.unreachable(output.data(&output.packets[index]), now);
            }
        } else {
            self.hold(inner, &output);
        }
        output.clear();
        // The arena goes back for use again, unless failures made new packets.
        if inner.engine.output().is_empty() {
            *inner.engine.output() = output;
        }
    }

    fn hold(&self, inner: &mut Inner<E>, output: &Output) {
        if let Some(count) = self.gate.hold(output) {
            inner.engine.events().push(Event::Held { count });
        }
    }

    /// Sends runs of packets of one socket together; indices of packets that could not leave.
    fn send(&self, output: &Output, transports: &[Arc<dyn Transport>]) -> Vec<usize> {
        let mut failed = Vec::new();
        let mut start = 0;
        while start < output.packets.len() {
            let socket = output.packets[start].socket;
            let run = output.packets[start..].iter().take_while(|packet| packet.socket == socket).count();
            let errors = failed.len();
            match transports.get(socket as usize) {
                Some(transport) => {
                    let packets = &output.packets[start..start + run];
                    transport.send(output, packets, &mut |index, _| failed.push(start + index));
                }
                None => failed.extend(start..start + run),
            }
            let errors = failed.len() - errors;
            self.sent.fetch_add((run - errors) as u64, Ordering::Relaxed);
            self.send_errors.fetch_add(errors as u64, Ordering::Relaxed);
            start += run;
        }
        failed
    }

    fn signal(&self, inner: &mut Inner<E>) {
        if !inner.signalled && !inner.engine.events().queue.is_empty() {
            inner.signalled = true;
            self.events.set();
        }
    }
}
