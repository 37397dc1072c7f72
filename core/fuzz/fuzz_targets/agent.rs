//! A user agent that gets datagrams (split at NUL) and time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::net::SocketAddr;
use voicecore::io::Engine;
use voicecore::sip::agent::{Agent, Config};

fuzz_target!(|data: &[u8]| {
    let mut agent = Agent::new(Config::default(), 0);
    agent.bound(SocketAddr::from(([10, 0, 0, 9], 5060)));
    for (index, datagram) in data.split(|&byte| byte == 0).enumerate() {
        let now = index as u64 * 250_000;
        agent.datagram(datagram, SocketAddr::from(([10, 0, 0, 1], 5060)), 0, now);
        agent.tick(now);
        agent.stack.out.clear();
    }
});
