//! Whether a command may be taken on: known? fit? in time? allowed? room? If not, the answer says why.

use serde_json::json;

use super::agent::Agent;
use super::clock::{Expiry, NOT_SET};
use super::command::{Method, MethodSpec, Origin, Outcome, Request, Status};
use super::intake::{Source, UNTOLD};
use super::now::Now;
use super::own::is_for_the_operator_to_enable;
use super::reboot::hold::whole_seconds;
use super::reboot::is_reboot;
use super::runs::queue_length;

/// The answer while a program that serves methods is being restarted.
const AWAY: &str = "the local program that serves this method is away, and may be back in a moment";

impl Agent {
    /// Whether the command may be taken on; if not, the answer.
    pub(super) fn judge(&self, request: &Request, source: Source, now: &Now) -> Result<MethodSpec, Outcome> {
        let Some(spec) = self.methods.get(&request.method) else {
            if let Some(wait) = self.program_is_back_within(&request.method, now) {
                let payload = json!({ "error": AWAY, "retryAfterSeconds": whole_seconds(wait) });
                return Err(Outcome::new(Status::CANNOT_NOW, payload));
            }
            let hint = if is_for_the_operator_to_enable(&request.method) {
                ": this device has it only if `enable` under [methods] names it"
            } else {
                ""
            };
            let why = format!("unknown method `{}`{hint}", request.method);
            return Err(Outcome::new(
                Status::UNKNOWN_METHOD,
                json!({ "error": why, "methods": self.methods.keys().collect::<Vec<_>>() }),
            ));
        };
        match Expiry::of(request.expires, now) {
            Expiry::Over => return Err(Outcome::failed(Status::EXPIRED, "expired before it arrived")),
            // What is recorded waits for the clock.
            Expiry::Unknown if spec.harmless => return Err(Outcome::failed(Status::CANNOT_NOW, NOT_SET)),
            Expiry::Unknown | Expiry::InTime => {}
        }
        if self.is_going_down() {
            return Err(Outcome::failed(Status::CANNOT_NOW, "the machine is shutting down"));
        }
        if let Some(outcome) = unfit(spec, &request.payload) {
            return Err(outcome);
        }
        let is_local = matches!(source, Source::Caller { .. });
        if spec.harmless {
            let is_taken = self.begins_at_once(spec) || self.may_queue(spec, &request.payload, is_local);
            return if is_taken { Ok(spec.clone()) } else { Err(too_many("of this method run or wait")) };
        }
        if self.stopping.is_some() {
            return Err(Outcome::failed(Status::CANNOT_NOW, "the agent is stopping"));
        }
        if let Some(why) = self.journal.trouble() {
            return Err(Outcome::failed(Status::CANNOT_NOW, why));
        }
        if let Some((number, pending)) = self.pending
            && (pending.is_exclusive() || is_reboot(&request.method))
            && let Some(reboot) = self.durable.ledger.get(number)
        {
            let payload = json!({ "error": "a reboot is pending", "commandId": reboot.key.id });
            return Err(Outcome::new(Status::CONFLICT, payload));
        }
        // Each side has its own room: while the cloud is away people on this machine go on, nor do they keep the cloud out.
        if self.durable.ledger.untold().filter(|(_, entry)| entry.local == is_local).count() >= UNTOLD {
            return Err(too_many("wait to be told"));
        }
        if is_reboot(&request.method) {
            self.situation(now).judge(&request.payload)?;
        } else if !self.runs.has_room_for(spec) && self.waiting(&request.method) >= queue_length(spec.class) {
            return Err(too_many("of this method run or wait"));
        }
        Ok(spec.clone())
    }

    pub(super) fn waiting(&self, method: &Method) -> usize {
        self.durable.ledger.untold().filter(|(_, entry)| entry.is_waiting() && entry.method == *method).count()
    }
}

/// The answer to a payload that is not what the method takes.
pub(super) fn unfit(spec: &MethodSpec, payload: &serde_json::Value) -> Option<Outcome> {
    let rules = spec.payload.as_ref()?;
    let faults = match spec.origin {
        Origin::Agent | Origin::BuiltIn => rules.judge_kindly(payload),
        Origin::File(_) | Origin::Program => rules.judge(payload),
    };
    (!faults.is_empty()).then(|| Outcome::failed(Status::UNFIT_PAYLOAD, faults.join("; ")))
}

fn too_many(what: &str) -> Outcome {
    let payload = json!({ "error": format!("too many commands {what}"), "retryAfterSeconds": 1 });
    Outcome::new(Status::TOO_MANY, payload)
}
