//! Handlers of desired state: which are to run because their member of the desired document is another one, and when.
//!
//! Each change is recorded before its handler starts, so it runs once, whatever the cloud repeats and whenever we are cut
//! off. What they do is theirs; of the document as such `desired` knows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::admission::unfit;
use super::agent::{Agent, Effect};
use super::application::{Again, Application, End};
use super::command::{Class, Command, Key, Method, MethodSpec, Origin, Outcome};
use super::digest::Digest;
use super::now::{BootInstant, Doubt, Now};
use super::record::Record;
use super::runs::Run;

/// Methods that are run for desired state; further ones, by name, never are. What was applied for so many is remembered.
pub const MEMBERS: usize = 64;

/// Until the first further try of what could not be done. Each one after that waits twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(10);
/// The longest wait between two of them: each try is on disk and told.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// What the cloud wants of each method that is run for a member.
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes {
    by_method: BTreeMap<Method, Wish>,
    /// Of the document.
    version: Option<u64>,
    /// What could not be done, since the agent has started or was told to reload. What is not here need not wait.
    waits: BTreeMap<Method, Wait>,
}

/// Until a value is tried again that could not be applied.
#[derive(Clone, Copy, Debug)]
struct Wait {
    digest: Digest,
    last: Duration,
    until: BootInstant,
}

#[derive(Clone, Debug)]
struct Wish {
    member: String,
    /// The member as it is wanted, `null` if there is none, and its digest. Nothing, as long as nobody has said it.
    value: Option<(Value, Digest)>,
}

impl Wishes {
    /// Those that these methods look for in this document. One that is no JSON object wishes for nothing: it says neither what
    /// a member is nor that it was removed.
    pub(super) fn of(methods: &BTreeMap<Method, MethodSpec>, document: Option<&(Bytes, Option<u64>)>) -> Self {
        let version = document.and_then(|(_, version)| *version);
        let members: Option<Map<String, Value>> = document.and_then(|(body, _)| serde_json::from_slice(body).ok());
        let mut taken = BTreeSet::new();
        let by_method = methods.values().filter_map(|spec| {
            let member = spec.desired.as_ref().filter(|_| may_be_run(spec))?;
            let value = members.as_ref().map(|members| {
                let value = members.get(member).cloned().unwrap_or_default();
                let digest = Digest::of(value.to_string().as_bytes());
                (value, digest)
            });
            // Two that answer for one member could not both be told of.
            taken.insert(member).then(|| (spec.name.clone(), Wish { member: member.clone(), value }))
        });
        Self { by_method: by_method.take(MEMBERS).collect(), version, waits: BTreeMap::new() }
    }

    /// A run for this value has ended.
    fn ended(&mut self, method: &Method, digest: Digest, is_to_wait: bool, now: &Now) {
        if !is_to_wait {
            self.waits.remove(method);
            return;
        }
        let before = self.waits.get(method).filter(|wait| wait.digest == digest);
        let last = before.map_or(FIRST_WAIT, |wait| (2 * wait.last).min(LONGEST_WAIT));
        self.waits.insert(method.clone(), Wait { digest, last, until: now.boot + last });
    }
}

/// When a method is to be run for what is wanted of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Now,
    At(BootInstant),
}

/// Never the agent's own methods, a reboot among them, nor what a program serves: that one can follow the document itself.
fn may_be_run(spec: &MethodSpec) -> bool {
    matches!(spec.origin, Origin::BuiltIn | Origin::File(_))
}

impl Agent {
    /// The document or the methods have changed.
    pub(super) fn wishes_changed(&mut self) {
        let waits = std::mem::take(&mut self.wishes.waits);
        self.wishes = Wishes { waits, ..Wishes::of(&self.methods, self.callers.document.as_ref()) };
    }

    /// Somebody may have mended what stood in the way: nothing waits for its next try any more.
    pub(super) fn apply_without_waiting(&mut self) {
        self.wishes.waits.clear();
    }

    /// When the next of those that wait is tried again, if it could start then.
    pub(super) fn applying_due(&self) -> Option<BootInstant> {
        let at = |(method, wish): (&Method, &Wish)| {
            let (spec, wanted) = (self.methods.get(method)?, wish.value.as_ref()?);
            match self.due(spec, &wish.member, wanted) {
                Some(Due::At(until)) if self.runs.has_room_for(spec) => Some(until),
                // What is due and has not been started waits for the end of something else.
                _ => None,
            }
        };
        self.wishes.by_method.iter().filter_map(at).min().filter(|_| self.may_start())
    }

    /// Starts what the cloud wants and what has room, or says why it does not take it.
    pub(super) fn apply_desired(&mut self, now: &Now, out: &mut Vec<Effect>) {
        if !self.may_start() {
            return;
        }
        let due = self.wishes.by_method.iter().filter_map(|(method, wish)| {
            let (spec, wanted) = (self.methods.get(method)?, wish.value.as_ref()?);
            let is_due = match self.due(spec, &wish.member, wanted)? {
                Due::Now => true,
                Due::At(until) => until <= now.boot,
            };
            let (value, digest) = wanted;
            is_due.then(|| (method.clone(), wish.member.clone(), value.clone(), *digest))
        });
        for (method, member, value, digest) in due.collect::<Vec<_>>() {
            let Some(spec) = self.methods.get(&method) else { continue };
            let refusal = unfit(spec, &value);
            if refusal.is_none() && !self.runs.has_room_for(spec) {
                continue;
            }
            let spec = spec.clone();
            let key = Key { target: self.own_target(), id: self.mint(digest, now) };
            let application = Application {
                method: method.clone(),
                member,
                digest,
                version: self.wishes.version,
                id: key.id.clone(),
                at: now.wall,
                doubt: Doubt::of(now),
                end: refusal.as_ref().map(End::unfit),
            };
            self.make_room_for(&method, out);
            if let Some(refusal) = refusal {
                let (status, why) = (refusal.status, refusal.why().to_owned());
                out.push(Effect::Refused { id: key.id, method, status, why });
                self.record(Record::Applied(Box::new(application)), out);
            } else {
                self.record(Record::Applying(Box::new(application)), out);
                let alone = spec.class == Class::Exclusive;
                let run = Run::Desired { id: key.id.clone(), method: method.clone(), alone, resumed: false };
                self.begin_run(run, &spec, Command { key, method, payload: value }, now, out);
            }
        }
    }

    /// When the method is to be run for this value, as far as that is for desired state to say: at once if it is another
    /// one than the last, and never while a run of it is under way.
    fn due(&self, spec: &MethodSpec, member: &str, (value, digest): &(Value, Digest)) -> Option<Due> {
        let method = &spec.name;
        if self.runs.are_for_desired(method) {
            return None;
        }
        let Some(known) = self.durable.rest.applications.get(method).filter(|known| known.member == member) else {
            // What never was there was not removed either.
            return (!value.is_null()).then_some(Due::Now);
        };
        if known.digest != *digest {
            return Some(Due::Now);
        }
        // Without an end it is still to be recorded how the run ended.
        match known.end.as_ref()?.again? {
            Again::Fit => unfit(spec, value).is_none().then_some(Due::Now),
            Again::Later => {
                let wait = self.wishes.waits.get(method).filter(|wait| wait.digest == *digest);
                Some(wait.map_or(Due::Now, |wait| Due::At(wait.until)))
            }
        }
    }

    /// Forgets what was applied for a method that is not run for desired state any more, if that is what it takes.
    fn make_room_for(&mut self, method: &Method, out: &mut Vec<Effect>) {
        let known = &self.durable.rest.applications;
        if known.len() < MEMBERS || known.contains_key(method) {
            return;
        }
        let is_gone =
            |method: &&Method| !self.wishes.by_method.contains_key(*method) && !self.runs.are_for_desired(method);
        if let Some(method) = known.keys().find(is_gone).cloned() {
            self.record(Record::Unapplied { method }, out);
        }
    }

    /// A run for desired state has ended.
    pub(super) fn application_ended(
        &mut self,
        method: &Method,
        resumed: bool,
        outcome: &Outcome,
        now: &Now,
        out: &mut Vec<Effect>,
    ) {
        let Some(application) = self.durable.rest.applications.get(method) else { return };
        let harmless = self.methods.get(method).is_some_and(|spec| spec.harmless);
        let end = End::of(outcome, harmless);
        // What an earlier life of the agent has begun is done again as soon as it is known what is wanted.
        let is_to_wait = end.again == Some(Again::Later) && !resumed;
        self.wishes.ended(method, application.digest, is_to_wait, now);
        let end = Some(end);
        let application = Application { at: now.wall, doubt: Doubt::of(now), end, ..application.clone() };
        self.record(Record::Applied(Box::new(application)), out);
    }

    /// The agent has started: what became of the runs that were under way?
    pub(super) fn resume_applications(&mut self, out: &mut Vec<Effect>) {
        let cut_off = self.durable.rest.applications.values().filter(|application| application.end.is_none());
        for Application { method, id, .. } in cut_off.cloned().collect::<Vec<_>>() {
            // Of one that is gone, too: should it come back, it must not be begun once more.
            let spec = self.methods.get(&method);
            let alone = spec.is_some_and(|spec| spec.class == Class::Exclusive);
            let run = Run::Desired { id: id.clone(), method: method.clone(), alone, resumed: true };
            let run = match spec {
                Some(spec) => self.runs.begin_of(run, spec, &Value::Null),
                None => self.runs.begin(run),
            };
            let key = Key { target: self.own_target(), id };
            // The value is not kept: whoever finds its run again has it, and nobody else needs it.
            out.push(Effect::Resume(run, Command { key, method, payload: Value::Null }));
        }
    }

    /// What is told of members: each with what was last applied of it, by a method that is still to be had.
    pub(super) fn acknowledgements(&self) -> Vec<(&str, &Application)> {
        let known = |(method, wish): (&Method, &Wish)| {
            let application = self.durable.rest.applications.get(method)?;
            (application.member == wish.member).then_some((application.member.as_str(), application))
        };
        self.wishes.by_method.iter().filter_map(known).collect()
    }
}
