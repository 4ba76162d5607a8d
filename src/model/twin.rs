//! The reported document: computed from ledger, boots and what this run of the daemon knows. Decides nothing.

use serde_json::{Map, Value, json};

use super::answers::{Answers, Commands, LEAST, MOST};
use super::application::Application;
use super::cloud::DocumentRules;
use super::command::{DeviceId, Method};
use super::durable::Durable;
use super::fit::boundary;
use super::ledger::Number;
use super::now::Timestamp;
use super::places::PlaceId;
use super::problems::Problems;
use super::record::Told;
use super::wire::Reason;

/// Members that are named where some are left out.
const NAMED: usize = 4;

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
    /// What was last applied of which member of the desired document.
    pub applied: Vec<(&'a str, &'a Application)>,
    /// Answers travel in this document.
    pub answers: Option<Answers<'a>>,
    /// What the cloud takes.
    pub rules: DocumentRules,
    /// Without what local programs have reported: the cloud refused a document with it.
    pub bare: bool,
}

/// The document, and what the cloud has been told once it acknowledges it.
#[derive(Debug)]
pub struct Report {
    pub document: Value,
    pub told: Vec<(Number, Told)>,
    pub places: Vec<PlaceId>,
    /// Not everything that is due had room.
    pub more: bool,
    /// What of it the cloud would not take, for people.
    pub left_out: Option<String>,
}

impl Picture<'_> {
    /// The document is never larger than the cloud takes. What gives way, in this order: told commands, the largest
    /// members of local programs, the list of methods.
    pub fn report(&self) -> Report {
        let mut document = self.own_members();
        let mut left_out = LeftOut::default();
        self.acknowledge(&mut document, &mut left_out);
        // Room for one command at least, whatever else there is; the braces and two names beside it.
        let least = if self.answers.is_some() { LEAST + 64 } else { 2 };
        let size = |document: &Map<String, Value>| self.rules.size_of(document);
        if size(&document).saturating_add(least) > self.rules.bytes && document.remove("methods").is_some() {
            left_out.push("methods", "the document would be too large");
        }
        let room = self.rules.bytes.saturating_sub(size(&document)).saturating_sub(least);
        document.extend(self.members_of_programs(room, &mut left_out));
        let (mut told, mut places, mut more) = (Vec::new(), Vec::new(), false);
        if let Some(answers) = &self.answers {
            let room = self.rules.bytes.saturating_sub(size(&document)).saturating_sub(64);
            let mut commands = Commands::new(self.rules, room.min(MOST).min(self.rules.bytes / 4));
            commands.fill(answers, self.durable);
            document.insert("commands".to_owned(), Value::Object(commands.members));
            document.insert("commandsDropped".to_owned(), json!(answers.dropped));
            (told, places, more) = (commands.told, commands.places, commands.more);
        }
        Report { document: Value::Object(document), told, places, more, left_out: left_out.sentence() }
    }

    /// All that is the agent's own, but for commands.
    fn own_members(&self) -> Map<String, Value> {
        let boots = &self.durable.rest.boots;
        let mut document = json!({ "agent": self.agent(), "methods": self.methods });
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
        let Value::Object(mut members) = document else { return Map::new() };
        self.rules.trim(&mut members);
        members
    }

    /// What became of members of the desired document, in a quarter of the room at most. Errors give way first.
    fn acknowledge(&self, document: &mut Map<String, Value>, left_out: &mut LeftOut) {
        if self.applied.is_empty() {
            return;
        }
        let (mut members, mut room) = (Map::new(), self.rules.bytes / 4);
        let mut errors = Vec::new();
        for (member, application) in &self.applied {
            let mut shown = application.document();
            let error = shown.remove("error");
            let shown = Value::Object(shown);
            let size = self.rules.size_within(member, &shown);
            if size > room {
                left_out.push(&format!("desired/members/{member}"), "the document would be too large");
                continue;
            }
            room -= size;
            members.insert((*member).to_owned(), shown);
            errors.extend(error.map(|error| (*member, error)));
        }
        for (member, error) in errors {
            let size = self.rules.size_within("error", &error);
            if size <= room
                && let Some(Value::Object(shown)) = members.get_mut(member)
            {
                room -= size;
                shown.insert("error".to_owned(), error);
            }
        }
        if let Value::Object(desired) = document.entry("desired").or_insert_with(|| json!({})) {
            desired.insert("members".to_owned(), Value::Object(members));
        }
    }

    /// What local programs have reported, as far as the cloud takes it and there is room.
    fn members_of_programs(&self, room: usize, left_out: &mut LeftOut) -> Map<String, Value> {
        let mut members = self.durable.rest.members.clone();
        if self.bare {
            members.keys().for_each(|name| left_out.push(name, "the cloud refused a document with it"));
            return Map::new();
        }
        members.retain(|name, value| {
            let judged = self.rules.judge(name, value);
            left_out.0.extend(judged.as_ref().err().map(ToString::to_string));
            judged.is_ok()
        });
        let mut sizes: Vec<(usize, String)> =
            members.iter().map(|(name, value)| (self.rules.size_within(name, value), name.clone())).collect();
        let mut size = sizes.iter().fold("{}".len(), |sum, (size, _)| sum.saturating_add(*size));
        sizes.sort_unstable();
        while size > room
            && let Some((largest, name)) = sizes.pop()
        {
            members.remove(&name);
            size -= largest;
            left_out.push(&name, "the document would be too large");
        }
        members
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

/// What had no place in the document, each in words.
#[derive(Default)]
struct LeftOut(Vec<String>);

impl LeftOut {
    fn push(&mut self, name: &str, why: &str) {
        self.0.push(format!("`{}`: {why}", name[..boundary(name, 128)].escape_debug()));
    }

    fn sentence(mut self) -> Option<String> {
        let count = self.0.len();
        self.0.truncate(NAMED);
        let more = if count > NAMED { format!(" and {} more", count - NAMED) } else { String::new() };
        (count > 0).then(|| format!("left out of the reported document: {}{more}", self.0.join(", ")))
    }
}
