//! When to ask anew which hub this device belongs to, where a service assigns it.
//!
//! A hub that refuses a device for long, or whose name is gone, may not be the device's any more. The service is asked once
//! for each such run: it is shared by all devices there are, and what it answers will rarely be news.

use std::time::Duration;

use super::super::now::BootInstant;
use super::super::wire::Reason;

/// So many failures in a row that another hub could cure. Azure's page "Manage device reconnections" advises ten.
const FAILURES: u32 = 10;

/// Or such failures for this long.
const FOR: Duration = Duration::from_secs(10 * 60);

/// The run of failures that goes on now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rehoming {
    failures: u32,
    /// When the first of them was.
    since: Option<BootInstant>,
    /// The next try asks the service.
    is_due: bool,
}

impl Rehoming {
    /// Whether the next try begins with asking the service.
    pub(super) fn is_due(&self) -> bool {
        self.is_due
    }

    /// There is a session, so the hub is the right one.
    pub(super) fn worked(&mut self) {
        *self = Self::default();
    }

    /// A try has come to its end, and that was no session. True: the next one asks the service.
    ///
    /// What says nothing of the hub, such as a network that is down, neither adds to the run nor ends it.
    pub(super) fn failed(&mut self, reason: &Reason, now: BootInstant) -> bool {
        if self.is_due {
            // This was the try that asked. Whatever came of it, another run comes before the next.
            *self = Self::default();
            return false;
        }
        if reason.doubts_hub() {
            self.failures += 1;
            let since = *self.since.get_or_insert(now);
            self.is_due = self.failures >= FAILURES || now.since(since) >= FOR;
        }
        self.is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootInstant {
        BootInstant(Duration::from_secs(seconds))
    }

    #[test]
    fn what_says_nothing_of_the_hub_neither_adds_nor_ends() {
        let mut rehoming = Rehoming::default();
        let refused = Reason::Refused { code: 5 };
        for second in 0..9 {
            assert!(!rehoming.failed(&refused, at(second)));
            assert!(!rehoming.failed(&Reason::Tcp("no route".to_owned()), at(second)));
        }
        assert!(rehoming.failed(&refused, at(9)) && rehoming.is_due());
        assert!(!rehoming.failed(&refused, at(10)) && !rehoming.is_due(), "once for each run");
    }

    #[test]
    fn time_counts_as_well_as_number_and_a_session_ends_the_run() {
        let mut rehoming = Rehoming::default();
        let gone = Reason::Dns("no such host".to_owned());
        assert!(!rehoming.failed(&gone, at(0)) && !rehoming.failed(&gone, at(599)));
        assert!(rehoming.clone().failed(&gone, at(600)));
        rehoming.worked();
        assert!(!rehoming.failed(&gone, at(601)));
        assert!(!rehoming.failed(&Reason::Refused { code: 3 }, at(9_999)), "a hub that is busy is there");
    }
}
