//! The reported document: computed from ledger, boots and what this run of the daemon knows. Decides nothing.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::cloud::Answer;
use super::command::{CommandId, DeviceId, Method, Outcome};
use super::durable::Durable;
use super::ledger::{Entry, Number};
use super::now::Timestamp;
use super::places::{Place, PlaceId, Places};
use super::problems::Problems;
use super::record::Told;
use super::wire::Reason;

/// All members of `commands` together, in bytes of JSON.
const COMMANDS: usize = 16 * 1_024;

/// The payload of one member of `commands`, in bytes of JSON; a longer one is cut.
const PAYLOAD: usize = 1_024;

/// The members of the reported document that are the agent's own. All others are local programs' to keep.
pub const OWN_MEMBERS: [&str; 8] =
    ["rebootTime", "reboot", "boot", "agent", "methods", "commands", "commandsDropped", "desired"];

/// What changes only with the configuration, if at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    pub version: &'static str,
    /// When the daemon started.
    pub started: Timestamp,
    pub device: Option<DeviceId>,
    pub cloud: Option<CloudName>,
    /// The digest of the configuration that is in force.
    pub config_hash: Option<String>,
    /// Operating system and architecture, such as `Debian 12 arm64`.
    pub os: Option<String>,
}

/// Which cloud this is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudName {
    pub kind: &'static str,
    pub host: String,
}

/// What the document is made of.
#[derive(Debug)]
pub struct Picture<'a> {
    pub about: &'a About,
    pub durable: &'a Durable,
    pub methods: Vec<&'a Method>,
    /// The last reboot, or the one that waits.
    pub reboot: Option<Value>,
    pub reboot_mode: &'static str,
    /// Nobody says that the clock is right.
    pub clock_unchecked: bool,
    /// The machine has begun to shut down.
    pub shutting_down: bool,
    pub problems: &'a Problems,
    pub last_disconnect: Option<&'a (Reason, Timestamp)>,
    /// Answers travel in this document.
    pub answers: Option<Answers<'a>>,
}

/// The answers that travel in the document.
#[derive(Debug)]
pub struct Answers<'a> {
    /// Commands with something to tell, oldest first, and what that is.
    pub due: Vec<(Number, &'a Entry, Outcome)>,
    /// Commands whose 202 was told and whose outcome is not there yet, and that 202.
    pub under_way: Vec<(&'a Entry, Outcome)>,
    pub places: &'a Places,
}

/// The document, and what the cloud has been told once it acknowledges it.
#[derive(Debug)]
pub struct Report {
    pub document: Value,
    pub told: Vec<(Number, Told)>,
    pub places: Vec<PlaceId>,
    /// Not everything that is due had room.
    pub more: bool,
}

impl Picture<'_> {
    pub fn report(&self) -> Report {
        let boots = &self.durable.rest.boots;
        let mut document = Value::Object(self.durable.rest.members.clone());
        document["agent"] = self.agent();
        document["methods"] = json!(self.methods);
        if let Some(time) = boots.reboot_time {
            document["rebootTime"] = json!(time);
        }
        if let Some(boot) = boots.current {
            document["boot"] = boot.document(self.clock_unchecked);
        }
        if let Some(reboot) = &self.reboot {
            document["reboot"] = reboot.clone();
        }
        if let Some(desired) = &self.durable.rest.desired {
            document["desired"] = json!({ "digest": desired.digest, "status": desired.status });
            if let Some(version) = desired.version {
                document["desired"]["version"] = json!(version);
            }
        }
        let mut commands = Commands::default();
        if let Some(answers) = &self.answers {
            commands.fill(answers, self.durable);
            document["commands"] = Value::Object(commands.members);
            document["commandsDropped"] = json!(answers.places.dropped());
        }
        Report { document, told: commands.told, places: commands.places, more: commands.more }
    }

    /// The member `agent`.
    fn agent(&self) -> Value {
        let mut agent = json!({
            "version": self.about.version,
            "startTime": self.about.started,
            "restarts": self.durable.rest.boots.restarts(),
            "rebootMode": self.reboot_mode,
            "health": self.problems.health(),
            "problems": self.problems.document(),
        });
        if self.shutting_down {
            agent["shuttingDown"] = json!(true);
        }
        if let Some(hash) = &self.about.config_hash {
            agent["configHash"] = json!(hash);
        }
        if let Some(os) = &self.about.os {
            agent["os"] = json!(os);
        }
        if let Some((reason, time)) = self.last_disconnect {
            agent["lastDisconnect"] = json!({ "code": reason.code(), "reason": reason.to_string(), "time": time });
        }
        agent
    }
}

/// The member `commands` while it is filled.
#[derive(Default)]
struct Commands {
    members: Map<String, Value>,
    /// Ids of members that are a best-effort answer and not yet part of a command's.
    of_places: BTreeSet<CommandId>,
    bytes: usize,
    told: Vec<(Number, Told)>,
    places: Vec<PlaceId>,
    more: bool,
}

impl Commands {
    /// First what nobody has seen, so that whatever lacks room now has it once this was acknowledged.
    fn fill(&mut self, answers: &Answers<'_>, durable: &Durable) {
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
        let mut member = member_of_entry(entry, outcome);
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
        let member = member_of_place(place);
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
        let bytes = id.as_str().len().max("conflict".len()) + member.to_string().len() + 4;
        // The first always has room: payloads are cut, so one member cannot fill it all.
        if self.bytes + bytes > COMMANDS && !self.members.is_empty() {
            return false;
        }
        self.bytes += bytes;
        true
    }
}

fn member_of_entry(entry: &Entry, outcome: &Outcome) -> Value {
    let time = match entry.run {
        super::ledger::Run::Finished { at, .. } | super::ledger::Run::Started { at, .. } => at,
        super::ledger::Run::Waiting => entry.accepted,
    };
    member(Some(&entry.method), outcome, entry.accepted, time)
}

fn member_of_place(place: &Place) -> Value {
    let Answer { method, status, payload, .. } = &place.answer;
    member(method.as_ref(), &Outcome::new(*status, payload.clone()), place.received, place.time)
}

fn member(method: Option<&Method>, outcome: &Outcome, received: Timestamp, time: Timestamp) -> Value {
    let mut member = json!({ "status": outcome.status, "receivedAt": received, "time": time });
    if let Some(method) = method {
        member["method"] = json!(method);
    }
    let text = outcome.payload.to_string();
    if text.len() > PAYLOAD {
        let end = (0..=PAYLOAD).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        member["payload"] = json!(text[..end]);
        member["payloadCut"] = json!(true);
    } else if !outcome.payload.is_null() {
        member["payload"] = outcome.payload.clone();
    }
    member
}
