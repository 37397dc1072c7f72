//! Stable hashes. Part of the stored format: results never change.

/// FNV-1a, 64 bits.
pub fn fnv1a64(key: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for &byte in key {
        hash ^= u64::from(byte);
        hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}

/// Finaliser of splitmix64.
pub const fn mix64(value: u64) -> u64 {
    let mut z = value;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Slot of a key, 0..count.
pub fn slot(key: &[u8], count: u32) -> u32 {
    (mix64(fnv1a64(key)) % u64::from(count)) as u32
}

/// Score of one node for a key: the highest wins. `node` is `mix64(fnv1a64(node id))`.
pub fn score(key: u64, node: u64, weight: f64) -> f64 {
    if weight <= 0.0 {
        return f64::NEG_INFINITY;
    }
    let unit = ((mix64(key ^ node) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -weight / unit.ln()
}

/// Indices of nodes with weight above 0, best first.
pub fn rendezvous_order(key: &[u8], nodes: &[u64], weights: &[f64]) -> Vec<usize> {
    let key = fnv1a64(key);
    let mut order: Vec<(f64, usize)> = nodes
        .iter()
        .zip(weights)
        .enumerate()
        .filter(|(_, (_, weight))| **weight > 0.0)
        .map(|(index, (node, weight))| (score(key, *node, *weight), index))
        .collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    order.into_iter().map(|(_, index)| index).collect()
}

/// What `score` wants of a node id.
pub fn node_hash(id: &[u8]) -> u64 {
    mix64(fnv1a64(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_never_change() {
        assert_eq!(fnv1a64(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a64(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(mix64(1), 0x5692_161d_100b_05e5);
    }

    #[test]
    fn weights_are_shares_and_a_lost_node_moves_only_its_keys() {
        let nodes: Vec<u64> = ["a", "b", "c"].iter().map(|id| node_hash(id.as_bytes())).collect();
        let mut counts = [0usize; 3];
        for i in 0..30_000 {
            let key = format!("call-{i}");
            let all = rendezvous_order(key.as_bytes(), &nodes, &[1.0, 1.0, 2.0]);
            counts[all[0]] += 1;
            let without_b = rendezvous_order(key.as_bytes(), &nodes, &[1.0, 0.0, 2.0]);
            if all[0] != 1 {
                assert_eq!(without_b[0], all[0]);
            }
        }
        assert!((7_000..8_000).contains(&counts[0]), "{counts:?}");
        assert!((14_500..15_500).contains(&counts[2]), "{counts:?}");
    }
}
