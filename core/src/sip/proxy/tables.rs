//! What the owner tells the proxy: nodes, owners of slots, our names, addresses of names, trunks.

use super::super::identifiers::SLOT_COUNT;
use super::super::uri::{literal_ip, UriRef};
use super::super::via::same_ip;
use crate::hash::{fnv1a64, node_hash, score};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

/// Index of a node in `Tables::nodes`; stays the same while the process lives.
pub type NodeIndex = usize;

#[derive(Debug, Clone)]
pub struct NodeEntry {
    pub id: String,
    pub address: SocketAddr,
    pub weight: f64,
    /// In the last table; a node that left keeps its place for its counters.
    pub present: bool,
    pub new_dialogs: u64,
    pub forwarded: u64,
    pub failed: u64,
    hash: u64,
}

/// A network of trunks: address and prefix length.
#[derive(Debug, Clone, Copy)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// `10.1.2.3`, `10.1.0.0/16`, `2001:db8::/32`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let address = literal_ip(address.as_bytes())?.to_canonical();
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(most);
        (prefix <= most).then_some(Self { address, prefix })
    }

    pub fn contains(&self, ip: IpAddr) -> bool {
        fn bits(ip: IpAddr) -> (u128, u8) {
            match ip.to_canonical() {
                IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
                IpAddr::V6(v6) => (u128::from(v6), 128),
            }
        }
        let ((ours, width), (theirs, other)) = (bits(self.address), bits(ip));
        width == other && (self.prefix == 0 || (ours ^ theirs) >> (width - self.prefix) == 0)
    }
}

#[derive(Debug)]
pub struct Tables {
    pub nodes: Vec<NodeEntry>,
    by_id: HashMap<String, NodeIndex>,
    by_address: HashMap<SocketAddr, NodeIndex>,
    /// Order of the last `set_nodes`, to which `set_slots` refers.
    pub order: Vec<NodeIndex>,
    slots: Vec<Option<NodeIndex>>,
    /// Our names and those of our tenants: lower case, without port.
    names: HashSet<Vec<u8>>,
    domains: HashSet<Vec<u8>>,
    pub fqdn: String,
    /// `;a=b`, or empty.
    pub record_route_params: String,
    hosts: HashMap<Vec<u8>, Vec<SocketAddr>>,
    trunks: Vec<Network>,
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            by_id: HashMap::new(),
            by_address: HashMap::new(),
            order: Vec::new(),
            slots: vec![None; SLOT_COUNT as usize],
            names: HashSet::new(),
            domains: HashSet::new(),
            fqdn: String::new(),
            record_route_params: String::new(),
            hosts: HashMap::new(),
            trunks: Vec::new(),
        }
    }
}

impl Tables {
    /// Replaces the node table; indices of nodes that left.
    pub fn set_nodes(&mut self, nodes: &[(String, SocketAddr, f64)]) -> Vec<NodeIndex> {
        let before: Vec<NodeIndex> = (0..self.nodes.len()).filter(|&i| self.nodes[i].present).collect();
        for node in &mut self.nodes {
            node.present = false;
        }
        self.order.clear();
        self.by_address.clear();
        for (id, address, weight) in nodes {
            let index = *self.by_id.entry(id.clone()).or_insert_with(|| {
                self.nodes.push(NodeEntry {
                    id: id.clone(),
                    address: *address,
                    weight: *weight,
                    present: true,
                    new_dialogs: 0,
                    forwarded: 0,
                    failed: 0,
                    hash: node_hash(id.as_bytes()),
                });
                self.nodes.len() - 1
            });
            let node = &mut self.nodes[index];
            node.address = *address;
            node.weight = *weight;
            node.present = true;
            self.order.push(index);
            self.by_address.insert(*address, index);
        }
        before.into_iter().filter(|&index| !self.nodes[index].present).collect()
    }

    pub fn node_by_id(&self, id: &str) -> Option<NodeIndex> {
        self.by_id.get(id).copied().filter(|&index| self.nodes[index].present)
    }

    pub fn node_at(&self, address: SocketAddr) -> Option<NodeIndex> {
        self.by_address.get(&address).copied()
    }

    /// Sets owners of slots; slots whose owner is now another node.
    pub fn set_slots(
        &mut self,
        changes: impl IntoIterator<Item = (u16, Option<NodeIndex>)>,
        whole: bool,
    ) -> Vec<u16> {
        let before = self.slots.clone();
        if whole {
            self.slots.fill(None);
        }
        for (slot, owner) in changes {
            if let Some(place) = self.slots.get_mut(slot as usize) {
                *place = owner;
            }
        }
        (0..SLOT_COUNT)
            .filter(|&slot| {
                let now = self.slots[slot as usize];
                now.is_some() && now != before[slot as usize]
            })
            .collect()
    }

    pub fn owner(&self, slot: u16) -> Option<NodeIndex> {
        self.slots.get(slot as usize).copied().flatten().filter(|&index| self.nodes[index].present)
    }

    /// The best node for a key among those with weight, leaving out `tried`.
    pub fn choose(&self, key: &[u8], tried: &[NodeIndex]) -> Option<NodeIndex> {
        let key = fnv1a64(key);
        let mut best: Option<(f64, NodeIndex)> = None;
        for &index in &self.order {
            let node = &self.nodes[index];
            if node.weight <= 0.0 || tried.contains(&index) {
                continue;
            }
            let score = score(key, node.hash, node.weight);
            if best.is_none_or(|(other, _)| score > other) {
                best = Some((score, index));
            }
        }
        best.map(|(_, index)| index)
    }

    pub fn set_names(&mut self, names: impl IntoIterator<Item = String>) {
        self.names = names
            .into_iter()
            .filter(|n| !n.is_empty())
            .map(|n| n.to_ascii_lowercase().into_bytes())
            .collect();
    }

    pub fn set_domains(&mut self, domains: Vec<String>) {
        self.domains = domains.into_iter().map(|domain| domain.to_ascii_lowercase().into_bytes()).collect();
    }

    /// A name of ours, or a domain that we serve.
    pub fn is_our_name(&self, host: &[u8]) -> bool {
        let known = |host: &[u8]| self.names.contains(host) || self.domains.contains(host);
        if host.iter().any(u8::is_ascii_uppercase) {
            return known(&host.to_ascii_lowercase());
        }
        known(host)
    }

    pub fn set_hosts(&mut self, hosts: HashMap<String, Vec<SocketAddr>>) {
        self.hosts =
            hosts.into_iter().map(|(name, to)| (name.to_ascii_lowercase().into_bytes(), to)).collect();
    }

    pub fn set_trunks(&mut self, trunks: Vec<Network>) {
        self.trunks = trunks;
    }

    pub fn is_trunk(&self, ip: IpAddr) -> bool {
        self.trunks.iter().any(|network| network.contains(ip))
    }

    /// Addresses of a URI: its literal host, or what the host table says; the n-th of them.
    pub fn resolve(&self, uri: &UriRef<'_>, nth: usize) -> Option<SocketAddr> {
        if let Some(ip) = literal_ip(uri.host) {
            return (nth == 0).then(|| SocketAddr::new(ip, uri.port.unwrap_or(5060)));
        }
        let found = self.hosts.get(&uri.host.to_ascii_lowercase())?.get(nth)?;
        Some(uri.port.map_or(*found, |port| SocketAddr::new(found.ip(), port)))
    }
}

/// Whether an address is one of ours (bound).
pub fn is_bound(sockets: &[SocketAddr], host: &[u8], port: Option<u16>) -> Option<u8> {
    let ip = literal_ip(host)?;
    let port = port.unwrap_or(5060);
    sockets.iter().position(|s| s.port() == port && same_ip(s.ip(), ip)).map(|index| index as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, port: u16, weight: f64) -> (String, SocketAddr, f64) {
        (id.to_owned(), SocketAddr::from(([127, 0, 0, 1], port)), weight)
    }

    #[test]
    fn networks() {
        let net = Network::parse("10.1.0.0/16").unwrap();
        assert!(net.contains("10.1.255.1".parse().unwrap()) && !net.contains("10.2.0.1".parse().unwrap()));
        assert!(Network::parse("0.0.0.0/0").unwrap().contains("1.2.3.4".parse().unwrap()));
        assert!(Network::parse("2001:db8::/32").unwrap().contains("2001:db8:1::1".parse().unwrap()));
        assert!(Network::parse("10.0.0.0/33").is_none() && Network::parse("x").is_none());
    }

    #[test]
    fn nodes_come_go_and_keep_their_counters() {
        let mut tables = Tables::default();
        assert!(tables.set_nodes(&[node("a", 1, 1.0), node("b", 2, 1.0)]).is_empty());
        tables.nodes[0].new_dialogs = 5;
        assert_eq!(tables.set_slots([(1, Some(0)), (2, Some(1))], true), [1, 2]);
        assert_eq!(tables.set_slots([(1, Some(1))], false), [1]);
        assert_eq!(tables.set_nodes(&[node("b", 2, 0.0)]), [0]);
        assert_eq!((tables.owner(1), tables.choose(b"k", &[])), (Some(1), None));
        assert!(tables.set_nodes(&[node("b", 2, 1.0), node("a", 1, 1.0)]).is_empty());
        assert_eq!(tables.order, [1, 0]);
        assert_eq!(tables.nodes[0].new_dialogs, 5);
        assert_eq!(tables.set_slots([(2, Some(1))], true), Vec::<u16>::new());
        assert_eq!(tables.owner(1), None);
    }

    #[test]
    fn choice_is_that_of_voicecore_hash() {
        let mut tables = Tables::default();
        tables.set_nodes(&[node("a", 1, 1.0), node("b", 2, 2.0), node("c", 3, 1.0)]);
        let hashes: Vec<u64> = ["a", "b", "c"].iter().map(|id| node_hash(id.as_bytes())).collect();
        for i in 0..200 {
            let key = format!("call{i}");
            let order = crate::hash::rendezvous_order(key.as_bytes(), &hashes, &[1.0, 2.0, 1.0]);
            assert_eq!(tables.choose(key.as_bytes(), &[]), Some(order[0]));
            assert_eq!(tables.choose(key.as_bytes(), &order[..1]), Some(order[1]));
        }
    }
}
