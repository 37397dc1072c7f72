//! INVITE client transaction: RFC 3261 §17.1.1 as corrected by RFC 6026 §8.4.
//!
//! Calling -1xx-> Proceeding -2xx-> Accepted -M-> end; -3xx..6xx-> Completed -D-> end.

use super::Effect::{Ack, Arm, Deliver, Disarm, End, Failed, Send, Timeout as TimedOut};
use super::{Class, Effects, Micros, Timer, Timings};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Calling,
    Proceeding,
    Completed,
    Accepted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    Response(Class),
    Fired(Timer),
    TransportError,
    /// CANCEL was sent: no final response within 64*T1 means there will be none (§9.1).
    CancelSent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientInvite {
    pub state: State,
    interval: Micros,
}

impl ClientInvite {
    pub fn start(timings: &Timings, reliable: bool) -> (Self, Effects) {
        let machine = Self { state: State::Calling, interval: timings.t1 };
        let deadline = Arm(Timer::Deadline, timings.patience());
        let effects = if reliable {
            Effects::of(&[Send, deadline])
        } else {
            Effects::of(&[Send, Arm(Timer::Retransmit, timings.t1), deadline])
        };
        (machine, effects)
    }

    /// One whose provisional response another process has heard.
    pub fn proceeding(timings: &Timings) -> Self {
        Self { state: State::Proceeding, interval: timings.t1 }
    }

    /// One whose 2xx another process has heard.
    pub fn accepted(timings: &Timings) -> (Self, Effects) {
        let machine = Self { state: State::Accepted, interval: timings.t1 };
        (machine, Effects::of(&[Arm(Timer::Linger, timings.patience())]))
    }

    pub fn handle(&mut self, input: Input, timings: &Timings, reliable: bool) -> Effects {
        use State::{Accepted, Calling, Completed, Proceeding};
        let quiet = [Disarm(Timer::Retransmit), Disarm(Timer::Deadline)];
        match (self.state, input) {
            (Calling, Input::Fired(Timer::Retransmit)) => {
                self.interval *= 2;
                Effects::of(&[Send, Arm(Timer::Retransmit, self.interval)])
            }
            (Calling | Proceeding, Input::Fired(Timer::Deadline)) => Effects::of(&[TimedOut, End]),
            (Calling, Input::TransportError) => Effects::of(&[Failed, End]),
            (Proceeding, Input::CancelSent) => Effects::of(&[Arm(Timer::Deadline, timings.patience())]),
            (Calling, Input::Response(Class::Provisional)) => {
                self.state = Proceeding;
                Effects::of(&[Deliver, quiet[0], quiet[1]])
            }
            (Proceeding, Input::Response(Class::Provisional)) => Effects::of(&[Deliver]),
            (Calling | Proceeding, Input::Response(Class::Success)) => {
                self.state = Accepted;
                Effects::of(&[Deliver, quiet[0], quiet[1], Arm(Timer::Linger, timings.patience())])
            }
            (Calling | Proceeding, Input::Response(Class::Failure)) => {
                self.state = Completed;
                if reliable {
                    Effects::of(&[Ack, Deliver, End])
                } else {
                    Effects::of(&[Ack, Deliver, quiet[0], quiet[1], Arm(Timer::Linger, timings.patience())])
                }
            }
            (Completed, Input::Response(Class::Failure)) => Effects::of(&[Ack]),
            (Accepted, Input::Response(Class::Success)) => Effects::of(&[Deliver]),
            (Completed | Accepted, Input::Fired(Timer::Linger)) => Effects::of(&[End]),
            _ => Effects::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timings = Timings { t1: 500_000, t2: 4_000_000, t4: 5_000_000 };

    fn at(state: State) -> ClientInvite {
        ClientInvite { state, interval: T.t1 }
    }

    #[test]
    fn every_pair() {
        use Class::{Failure, Provisional, Success};
        use Input::{CancelSent, Fired, Response, TransportError};
        use State::{Accepted, Calling, Completed, Proceeding};
        let quiet = [Disarm(Timer::Retransmit), Disarm(Timer::Deadline)];
        let linger = Arm(Timer::Linger, 32_000_000);
        let inputs = [
            Response(Provisional),
            Response(Success),
            Response(Failure),
            Fired(Timer::Retransmit),
            Fired(Timer::Deadline),
            Fired(Timer::Linger),
            Fired(Timer::Extra),
            TransportError,
            CancelSent,
        ];
        let legal: Vec<(State, Input, State, Vec<super::super::Effect>)> = vec![
            (Calling, Response(Provisional), Proceeding, vec![Deliver, quiet[0], quiet[1]]),
            (Calling, Response(Success), Accepted, vec![Deliver, quiet[0], quiet[1], linger]),
            (Calling, Response(Failure), Completed, vec![Ack, Deliver, quiet[0], quiet[1], linger]),
            (Calling, Fired(Timer::Retransmit), Calling, vec![Send, Arm(Timer::Retransmit, 1_000_000)]),
            (Calling, Fired(Timer::Deadline), Calling, vec![TimedOut, End]),
            (Calling, TransportError, Calling, vec![Failed, End]),
            (Proceeding, Response(Provisional), Proceeding, vec![Deliver]),
            (Proceeding, Response(Success), Accepted, vec![Deliver, quiet[0], quiet[1], linger]),
            (Proceeding, Response(Failure), Completed, vec![Ack, Deliver, quiet[0], quiet[1], linger]),
            (Proceeding, Fired(Timer::Deadline), Proceeding, vec![TimedOut, End]),
            (Proceeding, CancelSent, Proceeding, vec![Arm(Timer::Deadline, 32_000_000)]),
            (Completed, Response(Failure), Completed, vec![Ack]),
            (Completed, Fired(Timer::Linger), Completed, vec![End]),
            (Accepted, Response(Success), Accepted, vec![Deliver]),
            (Accepted, Fired(Timer::Linger), Accepted, vec![End]),
        ];
        for state in [Calling, Proceeding, Completed, Accepted] {
            for input in inputs {
                let mut machine = at(state);
                let effects = machine.handle(input, &T, false);
                match legal.iter().find(|row| row.0 == state && row.1 == input) {
                    Some(row) => {
                        assert_eq!(effects, Effects::of(&row.3), "{state:?} {input:?}");
                        assert_eq!(machine.state, row.2, "{state:?} {input:?}");
                    }
                    None => {
                        assert_eq!(effects, Effects::default(), "{state:?} {input:?}");
                        assert_eq!(machine, at(state), "{state:?} {input:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn timer_a_doubles_and_b_ends_after_seven_sends() {
        let (mut machine, start) = ClientInvite::start(&T, false);
        assert!(start.has(Send) && start.has(Arm(Timer::Deadline, 32_000_000)));
        let (mut now, mut next, mut sends) = (0, T.t1, 1);
        while now + next < T.patience() {
            now += next;
            let effects = machine.handle(Input::Fired(Timer::Retransmit), &T, false);
            assert!(effects.has(Send));
            sends += 1;
            next = effects
                .iter()
                .find_map(|e| if let Arm(Timer::Retransmit, d) = e { Some(d) } else { None })
                .unwrap();
        }
        assert_eq!(sends, 7);
        assert!(machine.handle(Input::Fired(Timer::Deadline), &T, false).has(TimedOut));
    }

    #[test]
    fn reliable_transport_neither_repeats_nor_lingers_after_a_failure() {
        let (mut machine, start) = ClientInvite::start(&T, true);
        assert!(!start.has(Arm(Timer::Retransmit, T.t1)));
        assert!(machine.handle(Input::Response(Class::Failure), &T, true).has(End));
    }
}
