//! The durable half of the agent: what a loss of power must not change. A fold of records, and nothing else changes it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::application::Application;
use super::command::Method;
use super::digest::Digest;
use super::ledger::Ledger;
use super::now::Timestamp;
use super::patch::merge;
use super::reboot::boots::Boots;
use super::record::Record;

/// Ledger, boots and what is known of the desired state.
#[derive(Clone, Debug, Default)]
pub struct Durable {
    pub ledger: Ledger,
    pub rest: Rest,
    /// `rest` as it was at the last [`Durable::settle`], if it has changed since.
    before: Option<Box<Rest>>,
}

/// The small part that is copied as a whole when it must be taken back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rest {
    pub boots: Boots,
    pub desired: Option<Desired>,
    /// What was last applied of it, by the method that did.
    pub applications: BTreeMap<Method, Application>,
    /// What local programs have merged into the reported document.
    pub members: Map<String, Value>,
    /// Methods that local programs serve, or did before.
    pub served: BTreeSet<Method>,
    /// The last moment that a clock to be believed has shown.
    pub seen: Option<Timestamp>,
}

/// The desired document that was last taken note of.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    pub digest: Digest,
    pub version: Option<u64>,
    /// 200, or 204 for a document that is no JSON object.
    pub status: u16,
}

/// Equal in what they hold, however they came to it.
impl PartialEq for Durable {
    fn eq(&self, other: &Self) -> bool {
        self.ledger == other.ledger && self.rest == other.rest
    }
}

impl Durable {
    /// The state that these records, in this order, lead to.
    pub fn replay<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut durable = Self::default();
        for record in records {
            durable.apply(record);
            durable.settle();
        }
        durable
    }

    pub fn apply(&mut self, record: &Record) {
        self.ledger.apply(record);
        match record {
            Record::Desired { digest, version, status } => {
                self.rest().desired = Some(Desired { digest: *digest, version: *version, status: *status });
            }
            Record::Seen { at: Some(at), .. } => self.rest().seen = Some(*at),
            Record::Reported { patch } => merge(&mut self.rest().members, patch),
            Record::Served { methods } => self.rest().served.clone_from(methods),
            Record::Applying(application) | Record::Applied(application) => {
                self.rest().applications.insert(application.method.clone(), Application::clone(application));
            }
            Record::Unapplied { method } => {
                self.rest().applications.remove(method);
            }
            record if self.rest.boots.is_concerned_by(record) => self.rest().boots.apply(record),
            _ => {}
        }
        if let Record::BootTime { boot, time, .. } = record {
            let applications = self.rest.applications.values();
            let corrected: Vec<_> = applications.filter_map(|known| known.corrected(*boot, *time)).collect();
            for application in corrected {
                self.rest().applications.insert(application.method.clone(), application);
            }
        }
    }

    /// The shortest list of records that gives this state again.
    pub fn records(&self) -> Vec<Record> {
        let mut records = self.ledger.records();
        records.push(Record::Boots { boots: Box::new(self.rest.boots.clone()) });
        records.push(Record::Seen { ran: self.ledger.ran(), at: self.rest.seen });
        if let Some(Desired { digest, version, status }) = &self.rest.desired {
            records.push(Record::Desired { digest: *digest, version: *version, status: *status });
        }
        records.extend(self.rest.applications.values().cloned().map(Box::new).map(|application| {
            if application.end.is_some() { Record::Applied(application) } else { Record::Applying(application) }
        }));
        if !self.rest.members.is_empty() {
            records.push(Record::Reported { patch: self.rest.members.clone() });
        }
        if !self.rest.served.is_empty() {
            records.push(Record::Served { methods: self.rest.served.clone() });
        }
        records
    }

    /// The small part, to be changed.
    fn rest(&mut self) -> &mut Rest {
        self.before.get_or_insert_with(|| Box::new(self.rest.clone()));
        &mut self.rest
    }

    /// What was applied until now is on disk and stays.
    pub fn settle(&mut self) {
        self.ledger.settle();
        self.before = None;
    }

    /// Takes back all that was applied since the last [`Durable::settle`].
    pub fn roll_back(&mut self) {
        self.ledger.roll_back();
        if let Some(before) = self.before.take() {
            self.rest = *before;
        }
    }
}
