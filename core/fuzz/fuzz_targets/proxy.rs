//! A proxy with two nodes that gets datagrams (split at NUL) from a phone and from a node, and time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::net::SocketAddr;
use voicecore::io::Engine;
use voicecore::sip::proxy::{Config, Proxy};

fuzz_target!(|data: &[u8]| {
    let phone = SocketAddr::from(([10, 0, 0, 1], 5060));
    let nodes = [SocketAddr::from(([10, 0, 0, 2], 5060)), SocketAddr::from(([10, 0, 0, 3], 5060))];
    let mut proxy = Proxy::new(Config::default(), 0);
    proxy.bound(SocketAddr::from(([10, 0, 0, 9], 5060)));
    proxy.set_nodes(&[("a".to_owned(), nodes[0], 1.0), ("b".to_owned(), nodes[1], 1.0)], 0);
    for (index, datagram) in data.split(|&byte| byte == 0).enumerate() {
        let now = index as u64 * 250_000;
        let source = if index % 2 == 0 { phone } else { nodes[index / 2 % 2] };
        proxy.datagram(datagram, source, 0, now);
        proxy.set_slots(vec![((index % 1024) as u16, Some(index % 2))], false, now);
        Engine::tick(&mut proxy, now);
        proxy.stack.out.clear();
    }
});
