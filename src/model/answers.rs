//! The member `commands` of the reported document: the answers that travel in it, as far as there is room.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::cloud::{Answer, DocumentRules};
use super::command::{CommandId, Method, Outcome};
use super::durable::Durable;
use super::fit::boundary;
use super::ledger::{Entry, Number, Run};
use super::now::Timestamp;
use super::own;
use super::places::{Place, PlaceId, Places};
use super::record::Told;

/// All members of `commands` together, by the measure of the cloud's rules.
pub const MOST: usize = 16 * 1_024;

/// With less room than this there may be none for a single member with a long payload.
pub const LEAST: usize = 4 * 1_024;

/// The payload of one member of `commands`, in bytes of JSON; a longer one is cut.
const PAYLOAD: usize = 1_024;

/// What surrounds a payload in the document: `commands`, the command, and `conflict` within it.
const DEPTH_OF_PAYLOAD: usize = 3;

/// The answers that travel in the document.
#[derive(Debug)]
pub struct Answers<'a> {
    /// Commands with something to tell, oldest first, and what that is.
    pub due: Vec<(Number, &'a Entry, Outcome)>,
    /// Commands whose 202 was told and whose outcome is not there yet, and that 202.
    pub under_way: Vec<(&'a Entry, Outcome)>,
    pub places: &'a Places,
    /// Best-effort answers that found no room, since the daemon started.
    pub dropped: u64,
}

/// The member `commands` while it is filled.
pub(super) struct Commands {
    rules: DocumentRules,
    /// All of them together have at most so many bytes.
    room: usize,
    pub members: Map<String, Value>,
    /// Ids of members that are a best-effort answer and not yet part of a command's.
    of_places: BTreeSet<CommandId>,
    bytes: usize,
    pub told: Vec<(Number, Told)>,
    pub places: Vec<PlaceId>,
    /// Not everything that is due had room.
    pub more: bool,
}

impl Commands {
    pub(super) fn new(rules: DocumentRules, room: usize) -> Self {
        Self {
            rules,
            room,
            members: Map::new(),
            of_places: BTreeSet::new(),
            bytes: 0,
            told: Vec::new(),
            places: Vec::new(),
            more: false,
        }
    }

    /// First what nobody has seen, so that whatever lacks room now has it once this was acknowledged.
    pub(super) fn fill(&mut self, answers: &Answers<'_>, durable: &Durable) {
        for (number, entry, outcome) in &answers.due {
            if !self.add_entry(entry, outcome) {
                self.more = true;
                break;
            }
            let what = if entry.outcome().is_some() { Told::Outcome } else { Told::Accepted };
            self.told.push((*number, what));
        }
        for place in answers.places.iter().filter(|place| !place.is_told()) {
            if self.add_place(place) {
                self.places.push(place.id);
            } else {
                self.more = true;
            }
        }
        for (entry, accepted) in &answers.under_way {
            self.add_entry(entry, accepted);
        }
        for place in answers.places.iter().filter(|place| place.is_told()) {
            self.add_place(place);
        }
        let mut is_full = false;
        for (_, entry) in durable.ledger.told().filter(|(_, entry)| !entry.local) {
            let Some(outcome) = entry.outcome() else { continue };
            if !is_full || self.of_places.contains(&entry.key.id) {
                is_full |= !self.add_entry(entry, outcome);
            }
        }
    }

    /// Whether what is to be known of this command is in the document now.
    fn add_entry(&mut self, entry: &Entry, outcome: &Outcome) -> bool {
        let id = &entry.key.id;
        let mut member = self.member_of_entry(entry, outcome);
        if self.members.contains_key(id.as_str()) && !self.of_places.contains(id) {
            return true;
        }
        if !self.has_room_for(id, &member) {
            return false;
        }
        // A refusal must not hide what became of the command whose id it names.
        if let Some(refusal) = self.members.remove(id.as_str()) {
            member["conflict"] = refusal;
            self.of_places.remove(id);
        }
        self.members.insert(id.to_string(), member);
        true
    }

    fn add_place(&mut self, place: &Place) -> bool {
        let id = &place.answer.id;
        let member = self.member_of_place(place);
        if !self.has_room_for(id, &member) {
            return false;
        }
        if let Some(command) = self.members.get_mut(id.as_str()) {
            command["conflict"] = member;
        } else {
            self.members.insert(id.to_string(), member);
            self.of_places.insert(id.clone());
        }
        true
    }

    /// Whether there is room for one more; it has it from now on.
    fn has_room_for(&mut self, id: &CommandId, member: &Value) -> bool {
        // Each is written as `"id":member,`, or as `"conflict":member,` within another.
        let bytes = id.as_str().len().max("conflict".len()) + self.rules.size(member) + 4;
        // The first always has room: payloads are cut, so one member cannot fill it all.
        if self.bytes + bytes > self.room && !self.members.is_empty() {
            return false;
        }
        self.bytes += bytes;
        true
    }

    fn member_of_entry(&self, entry: &Entry, outcome: &Outcome) -> Value {
        let time = match entry.run {
            Run::Finished { at, .. } | Run::Started { at, .. } => at,
            Run::Waiting => entry.accepted,
        };
        self.member(Some(&entry.method), outcome, entry.accepted, time)
    }

    fn member_of_place(&self, place: &Place) -> Value {
        let Answer { method, status, payload, .. } = &place.answer;
        self.member(method.as_ref(), &Outcome::new(*status, payload.clone()), place.received, place.time)
    }

    fn member(&self, method: Option<&Method>, outcome: &Outcome, received: Timestamp, time: Timestamp) -> Value {
        let mut member = json!({ "status": outcome.status, "receivedAt": received, "time": time });
        if let Some(method) = method {
            member["method"] = json!(method);
        }
        if outcome.payload.is_null() {
            return member;
        }
        let text = outcome.payload.to_string();
        let most = PAYLOAD.min(self.rules.string);
        if text.len() > most {
            let fits = |short: &Value| short.to_string().len() <= most && self.rules.size(short) <= most;
            let short = method.and_then(|method| own::in_short(method, outcome, fits));
            member["payload"] = short.unwrap_or_else(|| json!(text[..boundary(&text, most)]));
            member["payloadCut"] = json!(true);
        } else if self.rules.takes_within(DEPTH_OF_PAYLOAD, &outcome.payload)
            && self.rules.size(&outcome.payload) <= most
        {
            member["payload"] = outcome.payload.clone();
        } else {
            member["payload"] = json!(text);
            member["payloadText"] = json!(true);
        }
        member
    }
}
