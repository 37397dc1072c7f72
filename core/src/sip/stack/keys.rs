//! How messages find their transactions (RFC 3261 §17.1.3, §17.2.3) and 2xx ACKs their INVITE.
//!
//! Keys are 64-bit SipHash values under a random key, so a peer cannot make them collide.

use super::super::header::HeaderId;
use super::super::message::View;
use super::super::method::Method;
use super::super::via::ViaRef;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Random keys of this stack: hashes of transactions and a source of unpredictable numbers.
#[derive(Debug, Default)]
pub struct Keys {
    hashing: RandomState,
    drawing: RandomState,
    drawn: u64,
}

impl Keys {
    fn hash(&self, domain: u8, parts: &[&[u8]]) -> u64 {
        let mut hasher = self.hashing.build_hasher();
        hasher.write_u8(domain);
        for part in parts {
            hasher.write_u32(part.len() as u32);
            hasher.write(part);
        }
        hasher.finish()
    }

    /// Key of the server transaction of a request; ACK and CANCEL can ask for their INVITE's.
    pub fn server(&self, request: &View<'_>, via: &ViaRef<'_>, method: &[u8]) -> u64 {
        match via.unique_branch() {
            Some(branch) => {
                let port = via.sent_port().to_be_bytes();
                let mut host = [0u8; 64];
                let length = via.host.len().min(64);
                host[..length].copy_from_slice(&via.host[..length]);
                host[..length].make_ascii_lowercase();
                self.hash(b's', &[branch, &host[..length], &port, method])
            }
            // RFC 2543 clients: §17.2.3. The To tag is left out, since ACK has one and its INVITE has none.
            None => {
                let cseq = request.core().cseq.to_be_bytes();
                let from = request.from_tag().unwrap_or(b"");
                self.hash(b'o', &[request.uri(), from, request.call_id(), &cseq, via.text, method])
            }
        }
    }

    pub fn client(&self, branch: &[u8], method: &[u8]) -> u64 {
        self.hash(b'c', &[branch, method])
    }

    /// Key under which a 2xx waits for its ACK: the dialog and the INVITE's CSeq, from the UAS's side.
    pub fn acknowledgement(&self, call_id: &[u8], local_tag: &[u8], remote_tag: &[u8], cseq: u32) -> u64 {
        self.hash(b'a', &[call_id, local_tag, remote_tag, &cseq.to_be_bytes()])
    }

    /// The next unpredictable number.
    pub fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawing.hash_one(self.drawn)
    }
}

/// Method name that identifies a request's transaction: ACK belongs to INVITE.
pub fn transaction_method<'a>(request: &View<'a>) -> &'a [u8] {
    match request.core().method {
        Method::Ack => b"INVITE",
        _ => request.method(),
    }
}

/// (branch, method) quoted in an ICMP error: the start of one of our requests. None for a response or a torn line.
pub fn quoted_request(quoted: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = memchr::memchr(b' ', quoted)?;
    let method = &quoted[..space];
    if method.starts_with(b"SIP/") {
        return None;
    }
    let at = memchr::memmem::find(quoted, b";branch=")? + 8;
    let end = quoted[at..].iter().position(|&c| matches!(c, b';' | b'\r' | b',' | b' '))?;
    let method = if method == b"ACK" { b"INVITE" } else { method };
    Some((&quoted[at..at + end], method))
}

/// (Call-ID, From tag, To tag, CSeq) of a message as the UAS sees them.
pub fn acknowledgement_parts<'a>(message: &View<'a>) -> (&'a [u8], &'a [u8], &'a [u8], u32) {
    let call_id = message.header(HeaderId::CallId).unwrap_or(b"");
    (call_id, message.from_tag().unwrap_or(b""), message.to_tag().unwrap_or(b""), message.core().cseq)
}
