//! Non-INVITE server transaction: RFC 3261 §17.2.2.

use super::Effect::{Arm, Disarm, End, Send, Timeout as TimedOut};
use super::{Class, Effects, Timer, Timings};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Trying,
    Proceeding,
    Completed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The same request again.
    Request,
    Respond(Class),
    Fired(Timer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerOther {
    pub state: State,
}

impl ServerOther {
    /// The deadline is ours: a client gives up after 64*T1, so later answers are useless (RFC 4320 §4.2).
    pub fn start(timings: &Timings) -> (Self, Effects) {
        (Self { state: State::Trying }, Effects::of(&[Arm(Timer::Deadline, timings.patience())]))
    }

    pub fn may_respond(&self) -> bool {
        self.state != State::Completed
    }

    pub fn handle(&mut self, input: Input, timings: &Timings, reliable: bool) -> Effects {
        use State::{Completed, Proceeding, Trying};
        match (self.state, input) {
            (Trying | Proceeding, Input::Respond(Class::Provisional)) => {
                self.state = Proceeding;
                Effects::of(&[Send])
            }
            (Trying | Proceeding, Input::Respond(_)) => {
                self.state = Completed;
                if reliable {
                    return Effects::of(&[Send, End]);
                }
                Effects::of(&[Send, Disarm(Timer::Deadline), Arm(Timer::Linger, timings.patience())])
            }
            (Proceeding | Completed, Input::Request) => Effects::of(&[Send]),
            (Trying | Proceeding, Input::Fired(Timer::Deadline)) => Effects::of(&[TimedOut, End]),
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
        use Input::{Fired, Request, Respond};
        use State::{Completed, Proceeding, Trying};
        let done = vec![Send, Disarm(Timer::Deadline), Arm(Timer::Linger, 32_000_000)];
        let inputs = [
            Request,
            Respond(Provisional),
            Respond(Success),
            Respond(Failure),
            Fired(Timer::Retransmit),
            Fired(Timer::Deadline),
            Fired(Timer::Linger),
            Fired(Timer::Extra),
        ];
        let mut legal = vec![
            (Proceeding, Request, Proceeding, vec![Send]),
            (Completed, Request, Completed, vec![Send]),
            (Completed, Fired(Timer::Linger), Completed, vec![End]),
        ];
        for state in [Trying, Proceeding] {
            legal.push((state, Respond(Provisional), Proceeding, vec![Send]));
            legal.push((state, Respond(Success), Completed, done.clone()));
            legal.push((state, Respond(Failure), Completed, done.clone()));
            legal.push((state, Fired(Timer::Deadline), state, vec![TimedOut, End]));
        }
        for state in [Trying, Proceeding, Completed] {
            for input in inputs {
                let mut machine = ServerOther { state };
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
}
