//! What is wrong with this device, in words that a fleet can be searched for. Reported as `agent.problems`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::fit::boundary;
use super::now::Timestamp;

/// The longest text of a problem, in bytes: all of them together leave room for the rest of the reported document.
const TEXT: usize = 512;

/// The kind of a problem. There is at most one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The state folder came from another machine, and its journal was set aside.
    AnotherMachine,
    /// The clock is not known to be right.
    Clock,
    /// The configuration is wrong; what was last known to work is in force.
    Config,
    /// The breaker has tripped: too many reboots.
    Guard,
    /// A manifest is wrong; what it last said may hold.
    Handler,
    /// The journal cannot be read or written.
    Journal,
    /// There is no key, or it cannot be used.
    Key,
    /// A packet that cannot be read comes again and again.
    Poison,
    /// Nobody can reboot this machine.
    RebootNotPermitted,
    /// The cloud does not take something of what is reported, or does not say what it has.
    Reported,
    /// Another client seems to have our identity.
    TakenOver,
    /// The state folder forgets at a reboot.
    Volatile,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    since: Timestamp,
    text: String,
}

/// All problems there are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(BTreeMap<Code, Problem>);

impl Problems {
    /// Takes note of a problem, or that there is none of this kind any more. A text beyond 512 bytes is cut. True if that
    /// changed anything.
    pub fn note(&mut self, code: Code, text: Option<&str>, now: Timestamp) -> bool {
        let text = text.map(|text| &text[..boundary(text, TEXT)]);
        match (text, self.0.get_mut(&code)) {
            (None, known) => {
                let changed = known.is_some();
                self.0.remove(&code);
                changed
            }
            (Some(text), Some(known)) => {
                let changed = known.text != text;
                text.clone_into(&mut known.text);
                changed
            }
            (Some(text), None) => {
                self.0.insert(code, Problem { since: now, text: text.to_owned() });
                true
            }
        }
    }

    /// The wall clock, by which they were noted, was set ahead by so many microseconds.
    pub fn shift_times(&mut self, by: i64) {
        for problem in self.0.values_mut() {
            problem.since = problem.since.shifted(by);
        }
    }

    pub fn health(&self) -> &'static str {
        if self.0.is_empty() { "ok" } else { "degraded" }
    }

    /// As the reported document and the status show them.
    pub fn document(&self) -> Value {
        let problems = self.0.iter();
        problems.map(|(code, problem)| json!({ "code": code, "since": problem.since, "text": problem.text })).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_two_letters() {
        let mut problems = Problems::default();
        let (text, now) = (format!("a{}", "ä".repeat(400)), "2026-11-22T00:00:00Z".parse().expect("a time"));
        assert!(problems.note(Code::Config, Some(&text), now));
        assert!(!problems.note(Code::Config, Some(&text), now), "nothing new");
        assert_eq!(problems.document()[0]["text"], format!("a{}", "ä".repeat(255)));
    }
}
