//! The breaker: so many reboots without a stretch of health between them are too many, whoever caused them.
//!
//! It is computed from the boots that are remembered, so another configuration judges the same boots anew. A healthy
//! stretch, or a person, makes those boots not count any more.

use std::time::Duration;

use serde_json::{Value, json};

use super::boots::{Boots, Past};
use super::hold::{HeldBy, whole_seconds};
use super::policy::Policy;
use crate::model::command::{Outcome, Status};
use crate::model::duration;

impl Policy {
    /// Whether the breaker has tripped; then why, for people.
    pub fn tripped(&self, boots: &Boots) -> Option<String> {
        let counted: Vec<&Past> = boots.counted().collect();
        let most = usize::try_from(self.max_reboots).unwrap_or(usize::MAX).max(1);
        // What a doubtful clock has noted lies at no known distance, so it counts as near.
        let is_near =
            |first: &Past, last: &Past| first.doubtful || last.doubtful || last.time.since(first.time) <= self.per;
        let trips = counted.windows(most).any(|some| match some {
            [first, .., last] => is_near(first, last),
            one => !one.is_empty(),
        });
        trips.then(|| {
            let (per, healthy) = (duration::show(self.per), duration::show(self.healthy));
            format!(
                "{} reboots within {per}, and no session of {healthy} between them; that long a session ends this, or \
                 `twinagent reboot-guard reset`",
                self.max_reboots
            )
        })
    }

    /// The breaker for people of this machine.
    pub fn guard(&self, boots: &Boots) -> Value {
        let tripped = self.tripped(boots);
        let mut guard = json!({
            "tripped": tripped.is_some(),
            "reboots": boots.counted().map(Past::document).collect::<Vec<_>>(),
            "maxReboots": self.max_reboots,
            "per": duration::show(self.per),
            "healthy": duration::show(self.healthy),
        });
        if let Some(why) = tripped {
            guard["why"] = json!(why);
        }
        guard
    }
}

/// The answer while it has tripped. `healthy_in`: how long a session must still stand.
pub(super) fn refusal(why: &str, healthy_in: Duration) -> Outcome {
    let wait = whole_seconds(healthy_in);
    let payload = json!({ "error": why, "heldBy": [HeldBy::Guard], "retryAfterSeconds": wait });
    Outcome::new(Status::TOO_MANY, payload)
}
