//! epoll, as far as the driver needs it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

#[derive(Debug)]
pub struct Poll(OwnedFd);

#[derive(Debug, Clone, Copy)]
pub struct Ready {
    pub token: u64,
    pub error: bool,
}

impl Poll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory arguments.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub fn add(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: `event` is valid for the call.
        let result = unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Waits; timeout in milliseconds, -1 for ever. An interrupted wait is an empty one.
    pub fn wait(&self, timeout_ms: i32, ready: &mut Vec<Ready>) {
        ready.clear();
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 16];
        // SAFETY: room for 16 events is given.
        let count = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), 16, timeout_ms) };
        for event in events.iter().take(usize::try_from(count).unwrap_or(0)) {
            let flags = event.events;
            ready.push(Ready { token: event.u64, error: flags & (libc::EPOLLERR as u32) != 0 });
        }
    }
}
