//! eventfd: how a thread of the core wakes an asyncio loop, and a call from Python wakes a thread of the core.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

#[derive(Debug)]
pub struct Notify(OwnedFd);

impl Notify {
    pub fn new() -> io::Result<Self> {
        // SAFETY: eventfd has no memory arguments; the descriptor is owned from here on.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: fd was just opened and is owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    pub fn set(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes. EAGAIN means the counter is full, that is: set.
        unsafe { libc::write(self.fd(), one.as_ptr().cast(), 8) };
    }

    pub fn clear(&self) {
        let mut value = [0u8; 8];
        // SAFETY: eight writable bytes. EAGAIN means it was clear.
        unsafe { libc::read(self.fd(), value.as_mut_ptr().cast(), 8) };
    }
}
