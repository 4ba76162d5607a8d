//! What the machine says when it is asked whether it may reboot: who can do it, who holds it back. Plain data that comes
//! in with an input; nothing is asked here.

use serde::Serialize;
use serde_json::{Value, json};

use crate::model::now::{Now, Timestamp};

/// Holders that an answer names; the others are counted. Answers must stay small.
const NAMED: usize = 8;

/// The longest text of a holder in an answer, in characters.
const TEXT: usize = 200;

/// The answer of the machine, gathered after it was asked. Whoever gathers it bounds how many holders there are and how
/// long their texts may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Who can reboot the machine, or why nobody can.
    pub way: Result<Way, String>,
    /// Block inhibitors of logind that concern a shutdown.
    pub inhibitors: Vec<Inhibitor>,
    /// What operators of this machine have put in the way.
    pub vetoes: Vec<Veto>,
}

/// Who reboots the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Logind,
    /// The unit that root runs.
    Helper,
}

/// A block inhibitor: `who` and `why` as logind lists them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inhibitor {
    pub who: String,
    pub why: String,
}

/// A file that holds reboots back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Veto {
    pub name: String,
    pub reason: String,
    /// From this moment on it means nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

impl Way {
    /// As the reported document calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logind => "logind",
            Self::Helper => "helper",
        }
    }
}

impl Facts {
    /// Nothing holds a reboot back.
    pub fn clear(way: Way) -> Self {
        Self { way: Ok(way), inhibitors: Vec::new(), vetoes: Vec::new() }
    }

    /// The vetoes that still mean something. While the clock is doubtful none has expired.
    pub fn vetoes(&self, now: &Now) -> impl Iterator<Item = &Veto> {
        let is_over = |expires: Timestamp| now.clock.is_believed() && expires <= now.wall;
        self.vetoes.iter().filter(move |veto| !veto.expires.is_some_and(is_over))
    }

    /// When the last of the vetoes ends; `None`: not by itself, or there is none.
    pub fn vetoed_until(&self, now: &Now) -> Option<Timestamp> {
        self.vetoes(now).map(|veto| veto.expires).try_fold(None, |last, expires| Some(last.max(Some(expires?))))?
    }

    /// Who holds it back, for an answer: `inhibitors` and `vetoes`, each if there are any.
    pub fn holders(&self, now: &Now) -> Value {
        let mut holders = json!({});
        let inhibitors =
            self.inhibitors.iter().map(|Inhibitor { who, why }| json!({ "who": cut(who), "why": cut(why) }));
        let vetoes = self.vetoes(now).map(|veto| {
            let mut shown = json!({ "name": cut(&veto.name), "reason": cut(&veto.reason) });
            if let Some(expires) = veto.expires {
                shown["expires"] = json!(expires);
            }
            shown
        });
        let lists: [(&str, Vec<Value>); 2] = [("inhibitors", inhibitors.collect()), ("vetoes", vetoes.collect())];
        for (name, mut list) in lists {
            if list.len() > NAMED {
                holders[format!("{name}Unnamed")] = json!(list.len() - NAMED);
                list.truncate(NAMED);
            }
            if !list.is_empty() {
                holders[name] = Value::Array(list);
            }
        }
        holders
    }
}

/// A text of somebody else's, without control characters and not without end.
fn cut(text: &str) -> String {
    text.chars().take(TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
