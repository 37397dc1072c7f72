//! INVITE server transaction: RFC 3261 §17.2.1 as corrected by RFC 6026 §8.5 and §8.7.
//!
//! For a user agent the machine also repeats a 2xx until ACK (§13.3.1.4); a proxy's transaction only lets 2xx through.

use super::Effect::{Arm, Deliver, Disarm, End, Send, Timeout as TimedOut};
use super::{Class, Effects, Micros, Timer, Timings};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Proceeding,
    Completed,
    Confirmed,
    Accepted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The same request again.
    Request,
    /// ACK, of a failure by branch or of a 2xx by dialog.
    Ack,
    /// The transaction user responds.
    Respond(Class),
    Fired(Timer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerInvite {
    pub state: State,
    pub user_agent: bool,
    pub acknowledged: bool,
    interval: Micros,
}

impl ServerInvite {
    pub fn start(timings: &Timings, user_agent: bool) -> Self {
        Self { state: State::Proceeding, user_agent, acknowledged: false, interval: timings.t1 }
    }

    /// Whether a response of this class may be sent now.
    pub fn may_respond(&self, class: Class) -> bool {
        self.state == State::Proceeding
            || (self.state == State::Accepted && class == Class::Success && !self.user_agent)
    }

    pub fn handle(&mut self, input: Input, timings: &Timings, reliable: bool) -> Effects {
        use State::{Accepted, Completed, Confirmed, Proceeding};
        match (self.state, input) {
            (Proceeding, Input::Request | Input::Respond(Class::Provisional)) => Effects::of(&[Send]),
            (Proceeding, Input::Respond(Class::Success)) => {
                self.state = Accepted;
                let linger = Arm(Timer::Linger, timings.patience());
                if self.user_agent {
                    Effects::of(&[Send, Arm(Timer::Retransmit, timings.t1), linger])
                } else {
                    Effects::of(&[Send, linger])
                }
            }
            (Proceeding, Input::Respond(Class::Failure)) => {
                self.state = Completed;
                let deadline = Arm(Timer::Deadline, timings.patience());
                if reliable {
                    Effects::of(&[Send, deadline])
                } else {
                    Effects::of(&[Send, Arm(Timer::Retransmit, timings.t1), deadline])
                }
            }
            (Completed, Input::Request) => Effects::of(&[Send]),
            (Completed | Accepted, Input::Fired(Timer::Retransmit)) => {
                self.interval = (self.interval * 2).min(timings.t2);
                Effects::of(&[Send, Arm(Timer::Retransmit, self.interval)])
            }
            (Completed, Input::Fired(Timer::Deadline)) => Effects::of(&[End]),
            (Completed, Input::Ack) => {
                self.state = Confirmed;
                if reliable {
                    return Effects::of(&[End]);
                }
                let quiet = [Disarm(Timer::Retransmit), Disarm(Timer::Deadline)];
                Effects::of(&[quiet[0], quiet[1], Arm(Timer::Linger, timings.t4)])
            }
            (Accepted, Input::Respond(Class::Success)) if !self.user_agent => Effects::of(&[Send]),
            (Accepted, Input::Ack) if self.user_agent && !self.acknowledged => {
                self.acknowledged = true;
                Effects::of(&[Deliver, Disarm(Timer::Retransmit)])
            }
            (Accepted, Input::Fired(Timer::Linger)) if self.user_agent && !self.acknowledged => {
                Effects::of(&[TimedOut, End])
            }
            (Accepted | Confirmed, Input::Fired(Timer::Linger)) => Effects::of(&[End]),
            _ => Effects::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timings = Timings { t1: 500_000, t2: 4_000_000, t4: 5_000_000 };

    fn at(state: State, user_agent: bool) -> ServerInvite {
        ServerInvite { state, user_agent, acknowledged: false, interval: T.t1 }
    }

    #[test]
    fn every_pair_for_both_roles() {
        use Class::{Failure, Provisional, Success};
        use Input::{Ack, Fired, Request, Respond};
        use State::{Accepted, Completed, Confirmed, Proceeding};
        let again = vec![Send, Arm(Timer::Retransmit, 1_000_000)];
        let linger = Arm(Timer::Linger, 32_000_000);
        let retransmit = Arm(Timer::Retransmit, 500_000);
        let inputs = [
            Request,
            Ack,
            Respond(Provisional),
            Respond(Success),
            Respond(Failure),
            Fired(Timer::Retransmit),
            Fired(Timer::Deadline),
            Fired(Timer::Linger),
            Fired(Timer::Extra),
        ];
        for user_agent in [true, false] {
            let mut legal = vec![
                (Proceeding, Request, Proceeding, vec![Send]),
                (Proceeding, Respond(Provisional), Proceeding, vec![Send]),
                (
                    Proceeding,
                    Respond(Failure),
                    Completed,
                    vec![Send, retransmit, Arm(Timer::Deadline, 32_000_000)],
                ),
                (Completed, Request, Completed, vec![Send]),
                (Completed, Fired(Timer::Retransmit), Completed, again.clone()),
                (Completed, Fired(Timer::Deadline), Completed, vec![End]),
                (
                    Completed,
                    Ack,
                    Confirmed,
                    vec![Disarm(Timer::Retransmit), Disarm(Timer::Deadline), Arm(Timer::Linger, 5_000_000)],
                ),
                (Confirmed, Fired(Timer::Linger), Confirmed, vec![End]),
                (Accepted, Fired(Timer::Retransmit), Accepted, again.clone()),
            ];
            if user_agent {
                legal.push((Proceeding, Respond(Success), Accepted, vec![Send, retransmit, linger]));
                legal.push((Accepted, Ack, Accepted, vec![Deliver, Disarm(Timer::Retransmit)]));
                legal.push((Accepted, Fired(Timer::Linger), Accepted, vec![TimedOut, End]));
            } else {
                legal.push((Proceeding, Respond(Success), Accepted, vec![Send, linger]));
                legal.push((Accepted, Respond(Success), Accepted, vec![Send]));
                legal.push((Accepted, Fired(Timer::Linger), Accepted, vec![End]));
            }
            for state in [Proceeding, Completed, Confirmed, Accepted] {
                for input in inputs {
                    let mut machine = at(state, user_agent);
                    let effects = machine.handle(input, &T, false);
                    match legal.iter().find(|row| row.0 == state && row.1 == input) {
                        Some(row) => {
                            assert_eq!(effects, Effects::of(&row.3), "{user_agent} {state:?} {input:?}");
                            assert_eq!(machine.state, row.2);
                        }
                        None => {
                            assert_eq!(effects, Effects::default(), "{user_agent} {state:?} {input:?}");
                            assert_eq!(machine, at(state, user_agent));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_2xx_is_repeated_until_ack_and_the_second_ack_is_absorbed() {
        let mut machine = ServerInvite::start(&T, true);
        machine.handle(Input::Respond(Class::Success), &T, false);
        assert!(machine.handle(Input::Fired(Timer::Retransmit), &T, false).has(Send));
        assert!(machine.handle(Input::Ack, &T, false).has(Deliver));
        assert_eq!(machine.handle(Input::Ack, &T, false), Effects::default());
        assert_eq!(machine.handle(Input::Fired(Timer::Linger), &T, false), Effects::of(&[End]));
    }

    #[test]
    fn only_one_final_response() {
        let mut machine = ServerInvite::start(&T, true);
        assert!(machine.may_respond(Class::Failure));
        machine.handle(Input::Respond(Class::Success), &T, false);
        assert!(!machine.may_respond(Class::Success) && !machine.may_respond(Class::Failure));
    }
}
