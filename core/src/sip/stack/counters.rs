//! Monotonic counters of a stack.

use std::collections::HashMap;

#[derive(Debug, Default, Clone)]
pub struct Counters {
    pub received: u64,
    pub sent: u64,
    pub retransmissions_in: u64,
    pub retransmissions_out: u64,
    pub malformed: u64,
    pub malformed_rules: HashMap<&'static str, u64>,
    pub answered_malformed: u64,
    pub overload_rejected: u64,
    pub timeouts: u64,
    pub transport_failures: u64,
    pub stray_responses: u64,
    pub stray_acks: u64,
    pub unacknowledged: u64,
    pub keepalives: u64,
}

impl Counters {
    pub fn malformed(&mut self, rule: &'static str) {
        self.malformed += 1;
        *self.malformed_rules.entry(rule).or_default() += 1;
    }

    pub fn list(&self) -> Vec<(String, u64)> {
        let mut all: Vec<(String, u64)> = [
            ("received", self.received),
            ("retransmissions_in", self.retransmissions_in),
            ("retransmissions_out", self.retransmissions_out),
            ("malformed", self.malformed),
            ("answered_malformed", self.answered_malformed),
            ("overload_rejected", self.overload_rejected),
            ("timeouts", self.timeouts),
            ("transport_failures", self.transport_failures),
            ("stray_responses", self.stray_responses),
            ("stray_acks", self.stray_acks),
            ("unacknowledged", self.unacknowledged),
            ("keepalives", self.keepalives),
        ]
        .iter()
        .map(|(name, value)| ((*name).to_owned(), *value))
        .collect();
        all.extend(self.malformed_rules.iter().map(|(rule, count)| (format!("malformed.{rule}"), *count)));
        all
    }
}
