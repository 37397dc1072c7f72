//! Slots in tags, branches and Record-Route URIs (docs/identifiers.md).
//!
//! tag `v1<slot:03x>-<random>`, branch `z9hG4bKv1<slot:03x>-<random>`, URI parameter `vs=<slot:03x>`.

use super::chars::hex;
use super::via::MAGIC_COOKIE;

/// Slots of the SIP cluster: three hex digits could name four times as many.
pub const SLOT_COUNT: u16 = 1024;

const VERSION: &[u8] = b"v1";

/// Slot named by a tag, None for a tag that is not ours.
pub fn slot_of_tag(tag: &[u8]) -> Option<u16> {
    let rest = tag.strip_prefix(VERSION)?;
    if rest.len() < 4 || rest[3] != b'-' {
        return None;
    }
    slot_of_hex(&rest[..3])
}

/// Slot named by a branch, None for a branch that is not ours.
pub fn slot_of_branch(branch: &[u8]) -> Option<u16> {
    slot_of_tag(branch.strip_prefix(MAGIC_COOKIE)?)
}

/// Slot of three lower-case hex digits.
pub fn slot_of_hex(digits: &[u8]) -> Option<u16> {
    if digits.len() != 3 {
        return None;
    }
    let mut slot = 0u16;
    for &c in digits {
        slot = slot << 4 | u16::from(hex(c)?);
    }
    (slot < SLOT_COUNT).then_some(slot)
}

/// `v1<slot:03x>-`.
pub fn slot_prefix(slot: u16) -> String {
    format!("v1{slot:03x}-")
}

/// Appends `count` characters of lower-case base32 (five bits of `random` each, at most twelve).
pub fn push_base32(out: &mut Vec<u8>, mut random: u64, count: usize) {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    for _ in 0..count.min(12) {
        out.push(ALPHABET[(random & 31) as usize]);
        random >>= 5;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_back_and_others_do_not() {
        for slot in [0, 1, 0xa3, 1023] {
            let tag = format!("{}xyz", slot_prefix(slot));
            assert_eq!(slot_of_tag(tag.as_bytes()), Some(slot));
            assert_eq!(slot_of_branch(format!("z9hG4bK{tag}").as_bytes()), Some(slot));
        }
        for tag in ["", "v1", "v10a3", "v2000-x", "v1400-x", "v1xyz-a", "v10a3x"] {
            assert_eq!(slot_of_tag(tag.as_bytes()), None, "{tag}");
        }
        assert_eq!(slot_of_branch(b"v10a3-x"), None);
    }
}
