//! A network in virtual time for tests: engines, packets with delay, loss, repetition and disorder, and a clock.

use super::agent::{Agent, Config};
use super::proxy::{Config as ProxyConfig, Proxy};
use super::txn::Micros;
use crate::hash::mix64;
use crate::io::Engine;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What the network does to packets, in percent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    pub loss: u64,
    pub repetition: u64,
    /// Delay is 1 ms; with disorder up to 50 ms more.
    pub disorder: u64,
}

pub struct Flight {
    pub destination: SocketAddr,
    pub source: SocketAddr,
    pub data: Vec<u8>,
}

pub struct Net<const N: usize> {
    pub now: Micros,
    pub weather: Weather,
    pub addresses: [SocketAddr; N],
    /// Engines that answer nothing, as a stopped process; others answer ICMP when `gone`.
    pub deaf: [bool; N],
    pub gone: [bool; N],
    pub delivered: Vec<(usize, String)>,
    flights: BTreeMap<(Micros, u64), Flight>,
    serial: u64,
    seed: u64,
}

pub fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, index as u8 + 1], 5060))
}

pub fn agent(index: usize, config: Config) -> Agent {
    let mut agent = Agent::new(config, 0);
    agent.bound(address(index));
    agent
}

pub fn proxy(index: usize, config: ProxyConfig) -> Proxy {
    let mut proxy = Proxy::new(config, 0);
    proxy.bound(address(index));
    proxy
}

impl<const N: usize> Net<N> {
    pub fn new(weather: Weather, seed: u64) -> Self {
        Self {
            now: 1_000_000,
            weather,
            addresses: std::array::from_fn(address),
            deaf: [false; N],
            gone: [false; N],
            delivered: Vec::new(),
            flights: BTreeMap::new(),
            serial: 0,
            seed,
        }
    }

    fn roll(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix64(self.seed) % 100
    }

    /// Takes what an engine wants to send.
    fn collect(&mut self, source: usize, engine: &mut dyn Engine) {
        let packets: Vec<(SocketAddr, Vec<u8>)> = {
            let out = engine.output();
            let all = out.packets.iter().map(|p| (p.destination, out.data(p).to_vec())).collect();
            out.clear();
            all
        };
        for (destination, data) in packets {
            let copies = if self.roll() < self.weather.repetition { 2 } else { 1 };
            for _ in 0..copies {
                if self.roll() < self.weather.loss {
                    continue;
                }
                let extra = if self.roll() < self.weather.disorder { self.roll() * 500 } else { 0 };
                self.serial += 1;
                let flight = Flight { destination, source: self.addresses[source], data: data.clone() };
                self.flights.insert((self.now + 1_000 + extra, self.serial), flight);
            }
        }
    }

    fn pump(&mut self, engines: &mut [&mut dyn Engine; N]) {
        for (index, engine) in engines.iter_mut().enumerate() {
            self.collect(index, *engine);
        }
    }

    /// Goes on to the next packet or timer, at most until `end`; false when nothing is left before it.
    fn step(&mut self, engines: &mut [&mut dyn Engine; N], end: Micros) -> bool {
        self.pump(engines);
        let packet = self.flights.keys().next().map(|key| key.0);
        let timer = engines.iter().filter_map(|engine| engine.next_due()).min();
        let Some(next) = [packet, timer].into_iter().flatten().min().filter(|next| *next <= end) else {
            self.now = end;
            return false;
        };
        self.now = self.now.max(next);
        for engine in engines.iter_mut() {
            engine.tick(self.now);
        }
        while self.flights.keys().next().is_some_and(|key| key.0 <= self.now) {
            let Some((_, flight)) = self.flights.pop_first() else { break };
            let Some(index) = self.addresses.iter().position(|a| *a == flight.destination) else { continue };
            if self.gone[index] {
                let from = self.addresses.iter().position(|a| *a == flight.source);
                if let Some(from) = from {
                    engines[from].unreachable(&flight.data, self.now);
                }
                continue;
            }
            if self.deaf[index] {
                continue;
            }
            let line = String::from_utf8_lossy(&flight.data);
            let line = line.lines().next().unwrap_or("").to_owned();
            self.delivered.push((index, line));
            engines[index].datagram(&flight.data, flight.source, 0, self.now);
        }
        true
    }

    /// Runs for a time.
    pub fn pass(&mut self, mut engines: [&mut dyn Engine; N], time: Micros) {
        let end = self.now + time;
        while self.step(&mut engines, end) {}
    }

    pub fn seen(&self, index: usize, start: &str) -> usize {
        self.delivered.iter().filter(|(to, line)| *to == index && line.starts_with(start)).count()
    }
}
