//! What the cloud hears of one command, `rebootDevice/r-1`, and whether the end of it is as it was promised.

use serde_json::{Value, json};

use crate::cloud::{Cloud, Ear, Heard};

pub(crate) struct Witness {
    ear: Ear,
    /// All answers, by themselves or in a document, repetitions included.
    answers: Vec<Value>,
    /// The newest document.
    pub(crate) twin: Value,
    /// It is of this life.
    pub(crate) is_fresh: bool,
}

/// What the witness cannot know.
pub(crate) struct Facts<'a> {
    pub(crate) boots: &'a [String],
    /// A request was seen.
    pub(crate) was_asked: bool,
    /// The reboot stood in the journal as begun.
    pub(crate) was_started: bool,
}

impl Witness {
    pub(crate) async fn of(cloud: &Cloud) -> Self {
        Self { ear: cloud.ear().await, answers: Vec::new(), twin: Value::Null, is_fresh: false }
    }

    /// Takes note of what the cloud has heard.
    pub(crate) fn hear(&mut self) {
        for heard in self.ear.backlog() {
            let answers = heard.answers().into_iter().map(|(id, mut answer)| {
                answer["id"] = json!(id);
                answer
            });
            self.answers.extend(answers);
            if let Heard::Reported(document) = heard {
                self.twin = document;
                self.is_fresh = true;
            }
        }
    }

    /// What comes from now on is of another life.
    pub(crate) fn turn_the_page(&mut self) {
        self.hear();
        self.is_fresh = false;
    }

    fn answers_to(&self, id: &str) -> impl Iterator<Item = &Value> {
        self.answers.iter().filter(move |answer| answer["id"] == id)
    }

    /// Whether this command was answered so.
    pub(crate) fn has_heard(&self, id: &str, status: u16) -> bool {
        self.answers_to(id).any(|answer| answer["status"] == status)
    }

    /// Whether there was any answer that is meant to be the last one.
    pub(crate) fn has_outcome(&self) -> bool {
        self.answers_to("r-1").any(is_final)
    }

    /// Where the reboot stands in the newest document of this life.
    pub(crate) fn says(&self, state: &str) -> bool {
        self.is_fresh && self.twin["reboot"]["state"] == state
    }

    /// What of the end is not as it was promised, in words. There was an outcome.
    pub(crate) fn judge(&self, facts: &Facts<'_>) -> Vec<String> {
        let mut broken = Vec::new();
        let mut told = self.answers_to("r-1").skip_while(|answer| !is_final(answer));
        let outcome = told.next().expect("an outcome");
        if let Some(other) = told.find(|other| *other != outcome) {
            broken.push(format!("first {outcome}, then {other}"));
        }
        let (payload, twin, boots) = (&outcome["payload"], &self.twin, facts.boots);
        let proof = boots.iter().skip(1).find(|boot| payload["bootId"] == **boot);
        if outcome["status"] != 200 || proof.is_none() || !payload["rebootTime"].is_string() {
            broken.push(format!("not proved by another boot: {outcome}"));
        }
        // What was asked for was the cause; what had not even begun was not.
        let is_by_command = payload["cause"] == "command";
        if (facts.was_asked && !is_by_command) || (!facts.was_started && is_by_command) {
            broken.push(format!("another cause than it had: {outcome}"));
        }
        // It tells of the last reboot, and there may have been another one since.
        let last = boots.last();
        let is_of_it = twin["reboot"]["commandId"] == "r-1" || proof != last;
        let is_proved = last.is_some_and(|last| twin["reboot"]["bootId"] == **last);
        if !is_of_it || !is_proved || !twin["rebootTime"].is_string() {
            broken.push(format!("the twin tells of another reboot: {twin}"));
        }
        broken
    }

    /// For people.
    pub(crate) fn said(&self) -> String {
        format!("{:#?}\n{:#}", self.answers, self.twin)
    }
}

fn is_final(answer: &Value) -> bool {
    answer["status"] != 202
}
