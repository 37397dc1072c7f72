//! Branches of forwarded requests.
//!
//! `z9hG4bKv1p-<from>.<loop>[-<attempt>]`: `<from>` is a stable hash of the incoming branch and what identifies its
//! transaction, so that every proxy of the cluster gives a retransmission, or a CANCEL, the branch of its request; `<loop>` a
//! hash of what decides routing, by which a request that comes back is known (RFC 3261 §16.3.4).

use super::super::identifiers::push_base32;
use super::super::message::View;
use super::super::via::{ViaRef, MAGIC_COOKIE};
use crate::hash::mix64;

pub const MARK: &[u8] = b"v1p-";

struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(mut self, part: &[u8]) -> Self {
        for &byte in part.iter().chain(&[0xff]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }
}

/// Hash of what decides where a request goes.
pub fn loop_hash(request: &View<'_>) -> u32 {
    let hash = Fnv::new()
        .add(request.uri())
        .add(request.call_id())
        .add(request.from_tag().unwrap_or(b""))
        .add(request.to_tag().unwrap_or(b""))
        .add(&request.core().cseq.to_be_bytes());
    mix64(hash.0) as u32
}

pub fn derive(request: &View<'_>, via: &ViaRef<'_>, looped: u32, attempt: u8) -> Vec<u8> {
    let incoming = via.unique_branch().unwrap_or(via.text);
    let hash = Fnv::new()
        .add(incoming)
        .add(via.host)
        .add(request.call_id())
        .add(request.from_tag().unwrap_or(b""))
        .add(&request.core().cseq.to_be_bytes());
    let mut out = Vec::with_capacity(40);
    out.extend_from_slice(MAGIC_COOKIE);
    out.extend_from_slice(MARK);
    push_base32(&mut out, mix64(hash.0), 12);
    out.push(b'.');
    push_base32(&mut out, u64::from(looped), 7);
    if attempt > 0 {
        out.push(b'-');
        out.push(b'0' + attempt % 10);
    }
    out
}

/// The same branch for another attempt.
pub fn of_attempt(branch: &[u8], attempt: u8) -> Vec<u8> {
    let mut out = branch.to_vec();
    if out.len() > 2 && out[out.len() - 2] == b'-' {
        out.truncate(out.len() - 2);
    }
    out.push(b'-');
    out.push(b'0' + attempt % 10);
    out
}

/// Whether one of the message's Vias is ours with the same routing facts: it has been here before.
pub fn looped(request: &View<'_>, looped: u32) -> bool {
    let mut wanted = vec![b'.'];
    push_base32(&mut wanted, u64::from(looped), 7);
    request.lines(super::super::header::HeaderId::Via).any(|line| {
        let value = line.value.of(request.buf);
        let mut at = 0;
        while let Some(found) = memchr::memmem::find(&value[at..], b"=z9hG4bKv1p-") {
            let hash = at + found + 12 + 12;
            if value.get(hash..hash + wanted.len()) == Some(&wanted[..]) {
                return true;
            }
            at += found + 12;
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::Message;

    fn request(method: &str, vias: &str) -> Message {
        let text = format!(
            "{method} sip:b@c SIP/2.0\r\n{vias}From: <sip:a@b>;tag=1\r\nTo: <sip:b@c>\r\nCall-ID: x\r\nCSeq: 5 {method}\r\n\r\n"
        );
        Message::parse(text.as_bytes()).unwrap()
    }

    fn branch_of(message: &Message) -> Vec<u8> {
        let view = message.view();
        derive(&view, &view.via().unwrap(), loop_hash(&view), 0)
    }

    #[test]
    fn cancel_gets_the_branch_of_its_invite_and_attempts_differ() {
        let via = "Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKabc\r\n";
        let invite = branch_of(&request("INVITE", via));
        assert_eq!(invite, branch_of(&request("CANCEL", via)));
        assert_ne!(invite, branch_of(&request("INVITE", "Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKabd\r\n")));
        assert_eq!(of_attempt(&of_attempt(&invite, 1), 2), [&invite[..], b"-2"].concat());
        assert_eq!(crate::sip::identifiers::slot_of_branch(&invite), None);
    }

    #[test]
    fn a_request_that_comes_back_is_known() {
        let first = request("INVITE", "Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKabc\r\n");
        let branch = String::from_utf8(branch_of(&first)).unwrap();
        let vias = format!(
            "Via: SIP/2.0/UDP 10.0.0.3;branch=z9hG4bKzzz\r\nVia: SIP/2.0/UDP p;branch={branch};rport\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKabc\r\n"
        );
        let back = request("INVITE", &vias);
        assert!(looped(&back.view(), loop_hash(&back.view())));
        assert!(!looped(&first.view(), loop_hash(&first.view())));
        let mut spiral = back.clone();
        spiral.set_uri("sip:other@c");
        let spiral = Message::parse(&spiral.to_bytes()).unwrap();
        assert!(!looped(&spiral.view(), loop_hash(&spiral.view())));
    }
}
