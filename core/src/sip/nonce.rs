//! Nonces that need no memory until they are used: time, random and a keyed hash; then a bitmap of counts seen.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::collections::{HashMap, VecDeque};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Good,
    Stale,
    Replayed,
    Foreign,
}

#[derive(Debug)]
struct Seen {
    highest: u32,
    /// Bit i: count `highest - i` was used.
    bitmap: u64,
}

pub struct NonceKeeper {
    secret: Vec<u8>,
    window: u64,
    capacity: usize,
    seen: HashMap<String, Seen>,
    /// (issued, nonce) in the order of first use, for expiry.
    order: VecDeque<(u64, String)>,
    /// Nonces issued at or before this second were thrown out for capacity.
    floor: u64,
}

const RAW: usize = 8 + 8 + 16;

impl NonceKeeper {
    pub fn new(secret: Vec<u8>, window: u64, capacity: usize) -> Self {
        Self { secret, window, capacity, seen: HashMap::new(), order: VecDeque::new(), floor: 0 }
    }

    fn seal(&self, head: &[u8], realm: &str) -> [u8; 16] {
        // HMAC takes keys of any length; the error type cannot be made.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.secret) else {
            return [0; 16];
        };
        mac.update(head);
        mac.update(realm.as_bytes());
        let full = mac.finalize().into_bytes();
        let mut short = [0; 16];
        short.copy_from_slice(&full[..16]);
        short
    }

    /// now: seconds since the epoch.
    pub fn create(&self, realm: &str, now: u64, random: u64) -> String {
        let mut raw = Vec::with_capacity(RAW);
        raw.extend_from_slice(&now.to_be_bytes());
        raw.extend_from_slice(&random.to_be_bytes());
        let seal = self.seal(&raw, realm);
        raw.extend_from_slice(&seal);
        encode(&raw)
    }

    pub fn check(&mut self, nonce: &str, realm: &str, nc: Option<u32>, now: u64) -> Verdict {
        let Some(raw) = decode(nonce).filter(|raw| raw.len() == RAW) else {
            return Verdict::Foreign;
        };
        let seal = self.seal(&raw[..16], realm);
        let differs = seal.iter().zip(&raw[16..]).fold(0u8, |sum, (a, b)| sum | (a ^ b));
        if differs != 0 {
            return Verdict::Foreign;
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&raw[..8]);
        let issued = u64::from_be_bytes(bytes);
        self.expire(now);
        // Half a second of skew between proxies is assumed; a nonce from the future is worth a second at most.
        if issued + self.window <= now || issued > now + 1 {
            return Verdict::Stale;
        }
        if issued <= self.floor && !self.seen.contains_key(nonce) {
            return Verdict::Stale;
        }
        self.count(nonce, issued, nc.unwrap_or(1))
    }

    fn count(&mut self, nonce: &str, issued: u64, nc: u32) -> Verdict {
        if let Some(seen) = self.seen.get_mut(nonce) {
            if nc > seen.highest {
                let step = nc - seen.highest;
                seen.bitmap = if step >= 64 { 0 } else { seen.bitmap << step };
                seen.bitmap |= 1;
                seen.highest = nc;
                return Verdict::Good;
            }
            let back = seen.highest - nc;
            if back >= 64 || seen.bitmap & (1 << back) != 0 {
                return Verdict::Replayed;
            }
            seen.bitmap |= 1 << back;
            return Verdict::Good;
        }
        if self.seen.len() >= self.capacity {
            if let Some((oldest, name)) = self.order.pop_front() {
                self.seen.remove(&name);
                self.floor = self.floor.max(oldest);
            }
        }
        self.seen.insert(nonce.to_owned(), Seen { highest: nc, bitmap: 1 });
        self.order.push_back((issued, nonce.to_owned()));
        Verdict::Good
    }

    fn expire(&mut self, now: u64) {
        while self.order.front().is_some_and(|(issued, _)| issued + self.window <= now) {
            if let Some((_, name)) = self.order.pop_front() {
                self.seen.remove(&name);
            }
        }
    }

    pub fn len(&self) -> usize {
        self.seen.len()
    }

    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn encode(raw: &[u8]) -> String {
    let mut out = String::with_capacity(raw.len() * 4 / 3 + 3);
    for chunk in raw.chunks(3) {
        let value =
            chunk.iter().fold(0u32, |sum, &byte| sum << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            out.push(ALPHABET[(value >> (18 - 6 * i) & 63) as usize] as char);
        }
    }
    out
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let (mut value, mut bits) = (0u32, 0);
    for c in text.bytes() {
        let six = ALPHABET.iter().position(|&a| a == c)? as u32;
        value = value << 6 | six;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((value >> bits) as u8);
            value &= (1 << bits) - 1;
        }
    }
    (value == 0 && bits < 6).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeper() -> NonceKeeper {
        NonceKeeper::new(b"0123456789abcdef".to_vec(), 300, 3)
    }

    #[test]
    fn base64url_round_trip() {
        for length in 0..40 {
            let raw: Vec<u8> = (0..length).map(|i: u8| i.wrapping_mul(7)).collect();
            assert_eq!(decode(&encode(&raw)), Some(raw));
        }
        assert_eq!(decode("A"), None);
        assert_eq!(decode("+A"), None);
    }

    #[test]
    fn counts_in_any_order_but_once() {
        let mut k = keeper();
        let nonce = k.create("r", 1000, 7);
        let verdicts: Vec<_> = [1, 1, 3, 2, 2, 100, 40, 36, 36, 0]
            .iter()
            .map(|&nc| k.check(&nonce, "r", Some(nc), 1001))
            .collect();
        use Verdict::{Good, Replayed};
        assert_eq!(
            verdicts,
            [Good, Replayed, Good, Good, Replayed, Good, Good, Replayed, Replayed, Replayed]
        );
        let plain = k.create("r", 1000, 8);
        assert_eq!(k.check(&plain, "r", None, 1001), Good);
        assert_eq!(k.check(&plain, "r", None, 1001), Replayed);
    }

    #[test]
    fn foreign_stale_and_thrown_out() {
        let mut k = keeper();
        let nonce = k.create("r", 1000, 7);
        assert_eq!(k.check(&nonce, "other", Some(1), 1001), Verdict::Foreign);
        assert_eq!(k.check("junk", "r", Some(1), 1001), Verdict::Foreign);
        let other = NonceKeeper::new(b"another secret!!".to_vec(), 300, 3).create("r", 1000, 7);
        assert_eq!(k.check(&other, "r", Some(1), 1001), Verdict::Foreign);
        assert_eq!(k.check(&nonce, "r", Some(1), 1300), Verdict::Stale);
        let all: Vec<_> = (0..5).map(|i| k.create("r", 2000 + i, i)).collect();
        for nonce in &all {
            assert_eq!(k.check(nonce, "r", Some(1), 2005), Verdict::Good);
        }
        assert_eq!(k.len(), 3);
        assert_eq!(
            k.check(&all[0], "r", Some(1), 2005),
            Verdict::Stale,
            "a thrown out nonce must not be good again"
        );
        k.check(&k.create("r", 9000, 1), "r", Some(1), 9000);
        assert_eq!(k.len(), 1);
    }
}
