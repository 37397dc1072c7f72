//! SIP wire, transactions, transports and proxying: mechanism, no policy.
//!
//! Everything under [`sip`] but `io` is sans-IO: bytes, addresses and the time come in, bytes and events go out.
//! `io` holds the only threads, sockets and clocks; `python` the only knowledge of Python.

pub mod hash;
pub mod io;
pub mod sip;

#[cfg(feature = "python")]
mod python;
