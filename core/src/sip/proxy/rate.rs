//! Overload control: a bucket of new dialogs (domain: overload-ctrl-dialog-rate).

use super::super::txn::Micros;

#[derive(Debug)]
pub struct Bucket {
    rate: f64,
    level: f64,
    last: Micros,
}

impl Bucket {
    /// `rate`: a second; 0: no limit.
    pub fn new(rate: f64, now: Micros) -> Self {
        Self { rate, level: rate.max(1.0), last: now }
    }

    pub fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
        self.level = self.level.min(rate.max(1.0));
    }

    /// Takes one when there is one. A second's worth may come at once.
    pub fn take(&mut self, now: Micros) -> bool {
        if self.rate <= 0.0 {
            return true;
        }
        let passed = now.saturating_sub(self.last) as f64 / 1e6;
        self.last = now;
        self.level = (self.level + passed * self.rate).min(self.rate.max(1.0));
        if self.level < 1.0 {
            return false;
        }
        self.level -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lets_through_the_rate_and_a_second_of_burst() {
        let mut bucket = Bucket::new(10.0, 0);
        assert_eq!((0..30).filter(|_| bucket.take(0)).count(), 10);
        let passed = (1..=30).filter(|i| bucket.take(i * 33_333)).count();
        assert_eq!(passed, 9);
        assert!(Bucket::new(0.0, 0).take(0));
    }
}
