//! Non-INVITE client transaction: RFC 3261 §17.1.2.

use super::Effect::{Arm, Deliver, Disarm, End, Failed, Send, Timeout as TimedOut};
use super::{Class, Effects, Micros, Timer, Timings};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Trying,
    Proceeding,
    Completed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    Response(Class),
    Fired(Timer),
    TransportError,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientOther {
    pub state: State,
    interval: Micros,
}

impl ClientOther {
    pub fn start(timings: &Timings, reliable: bool) -> (Self, Effects) {
        let machine = Self { state: State::Trying, interval: timings.t1 };
        let deadline = Arm(Timer::Deadline, timings.patience());
        let effects = if reliable {
            Effects::of(&[Send, deadline])
        } else {
            Effects::of(&[Send, Arm(Timer::Retransmit, timings.t1), deadline])
        };
        (machine, effects)
    }

    pub fn handle(&mut self, input: Input, timings: &Timings, reliable: bool) -> Effects {
        use State::{Completed, Proceeding, Trying};
        match (self.state, input) {
            (Trying, Input::Fired(Timer::Retransmit)) => {
                self.interval = (self.interval * 2).min(timings.t2);
                Effects::of(&[Send, Arm(Timer::Retransmit, self.interval)])
            }
            (Proceeding, Input::Fired(Timer::Retransmit)) => {
                Effects::of(&[Send, Arm(Timer::Retransmit, timings.t2)])
            }
            (Trying | Proceeding, Input::Fired(Timer::Deadline)) => Effects::of(&[TimedOut, End]),
            (Trying | Proceeding, Input::TransportError) => Effects::of(&[Failed, End]),
            (Trying | Proceeding, Input::Response(Class::Provisional)) => {
                self.state = Proceeding;
                Effects::of(&[Deliver])
            }
            (Trying | Proceeding, Input::Response(_)) => {
                self.state = Completed;
                if reliable {
                    return Effects::of(&[Deliver, End]);
                }
                let quiet = [Disarm(Timer::Retransmit), Disarm(Timer::Deadline)];
                Effects::of(&[Deliver, quiet[0], quiet[1], Arm(Timer::Linger, timings.t4)])
            }
            (Completed, Input::Fired(Timer::Linger)) => Effects::of(&[End]),
            _ => Effects::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timings = Timings { t1: 500_000, t2: 4_000_000, t4: 5_000_000 };

    #[test]
    fn every_pair() {
        use Class::{Failure, Provisional, Success};
        use Input::{Fired, Response, TransportError};
        use State::{Completed, Proceeding, Trying};
        let done =
            vec![Deliver, Disarm(Timer::Retransmit), Disarm(Timer::Deadline), Arm(Timer::Linger, 5_000_000)];
        let inputs = [
            Response(Provisional),
            Response(Success),
            Response(Failure),
            Fired(Timer::Retransmit),
            Fired(Timer::Deadline),
            Fired(Timer::Linger),
            Fired(Timer::Extra),
            TransportError,
        ];
        let mut legal = vec![
            (Trying, Fired(Timer::Retransmit), Trying, vec![Send, Arm(Timer::Retransmit, 1_000_000)]),
            (Proceeding, Fired(Timer::Retransmit), Proceeding, vec![Send, Arm(Timer::Retransmit, 4_000_000)]),
            (Completed, Fired(Timer::Linger), Completed, vec![End]),
        ];
        for state in [Trying, Proceeding] {
            legal.push((state, Fired(Timer::Deadline), state, vec![TimedOut, End]));
            legal.push((state, TransportError, state, vec![Failed, End]));
            legal.push((state, Response(Provisional), Proceeding, vec![Deliver]));
            legal.push((state, Response(Success), Completed, done.clone()));
            legal.push((state, Response(Failure), Completed, done.clone()));
        }
        for state in [Trying, Proceeding, Completed] {
            for input in inputs {
                let mut machine = ClientOther { state, interval: T.t1 };
                let effects = machine.handle(input, &T, false);
                match legal.iter().find(|row| row.0 == state && row.1 == input) {
                    Some(row) => {
                        assert_eq!(effects, Effects::of(&row.3), "{state:?} {input:?}");
                        assert_eq!(machine.state, row.2);
                    }
                    None => {
                        assert_eq!(effects, Effects::default(), "{state:?} {input:?}");
                        assert_eq!(machine.state, state);
                    }
                }
            }
        }
    }

    #[test]
    fn timer_e_is_capped_at_t2_and_eleven_requests_leave() {
        let (mut machine, _) = ClientOther::start(&T, false);
        let (mut now, mut next, mut sends) = (0, T.t1, 1);
        while now + next < T.patience() {
            now += next;
            let effects = machine.handle(Input::Fired(Timer::Retransmit), &T, false);
            sends += 1;
            next = effects
                .iter()
                .find_map(|e| if let Arm(Timer::Retransmit, d) = e { Some(d) } else { None })
                .unwrap();
            assert!(next <= T.t2);
        }
        assert_eq!(sends, 11);
    }
}
