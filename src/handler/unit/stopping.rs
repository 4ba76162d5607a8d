//! How long a job that is to end is waited for: as long as systemd lets it take, which then ends it by force, and no longer
//! than that, since it may be systemd that is not heard of. Times are those of `clock::awake`, by which systemd counts too.

use std::time::Duration;

use crate::host::services::State;

/// What a unit has where nothing else is said (`DefaultTimeoutStopSec=`, systemd-system.conf(5)).
const USUAL: Duration = Duration::from_secs(90);

/// Of a unit that may take as long as it likes (`TimeoutStopSec=infinity`): as long as the longest time limit.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug)]
pub(super) struct Stopping {
    order: Order,
    /// What the unit has for each step of its end: to heed SIGTERM, to be gone after SIGKILL, and for `ExecStopPost=`.
    within: Duration,
    /// And what systemd has, to do it and to say so.
    slack: Duration,
    step: String,
    until: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    None,
    Wanted,
    Given,
}

impl Stopping {
    pub(super) fn not_yet(slack: Duration) -> Self {
        Self { order: Order::None, within: USUAL, slack, step: String::new(), until: None }
    }

    /// It is to end.
    pub(super) fn want(&mut self, now: Duration) {
        if self.order == Order::None {
            self.order = Order::Wanted;
            self.renew(now);
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.order == Order::Wanted
    }

    /// systemd was told so.
    pub(super) fn given(&mut self, now: Duration) {
        self.order = Order::Given;
        self.renew(now);
    }

    /// The unit was seen on its way.
    pub(super) fn seen(&mut self, state: &State, now: Duration) {
        self.within = state.stops_within.unwrap_or(LONGEST).min(LONGEST);
        if self.step != state.sub {
            self.step.clone_from(&state.sub);
            if self.order == Order::Given {
                self.renew(now);
            }
        }
    }

    /// Nothing, while it is not to end.
    pub(super) fn until(&self) -> Option<Duration> {
        self.until
    }

    fn renew(&mut self, now: Duration) {
        self.until = Some(now + self.within + self.slack);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::services::{Active, State};

    const SLACK: Duration = Duration::from_secs(30);

    fn state(sub: &str, stops_within: Option<Duration>) -> State {
        State {
            load: "loaded".to_owned(),
            active: Active::Changing,
            sub: sub.to_owned(),
            has_job: true,
            collect: "inactive".to_owned(),
            unchanged_for: Duration::ZERO,
            begun: None,
            invocation: String::new(),
            kind: "oneshot".to_owned(),
            remains: true,
            stops_within,
            result: "success".to_owned(),
            exit: None,
            said: String::new(),
        }
    }

    #[test]
    fn each_step_of_an_end_has_the_time_that_systemd_gives_it() {
        let mut now = Duration::from_secs(1_000);
        let hour = Duration::from_secs(3_600);
        let mut stopping = Stopping::not_yet(SLACK);
        stopping.seen(&state("start", Some(hour)), now);
        assert_eq!(stopping.until(), None);
        now += hour;
        stopping.want(now);
        stopping.given(now);
        for step in ["stop-sigterm", "stop-sigkill", "stop-post"] {
            now += hour;
            stopping.seen(&state(step, Some(hour)), now);
            let end = now + hour + SLACK;
            assert_eq!(stopping.until(), Some(end), "{step}");
            now += hour / 2;
            stopping.seen(&state(step, Some(hour)), now);
            stopping.want(now);
            assert_eq!(stopping.until(), Some(end), "nothing is new");
        }
    }

    #[test]
    fn a_unit_that_may_take_for_ever_and_one_that_was_never_seen_are_not_waited_for_without_end() {
        let now = Duration::from_secs(1_000);
        let mut stopping = Stopping::not_yet(SLACK);
        stopping.want(now);
        assert_eq!(stopping.until(), Some(now + USUAL + SLACK));
        stopping.seen(&state("start", None), now);
        stopping.given(now);
        assert_eq!(stopping.until(), Some(now + LONGEST + SLACK));
    }
}
