//! What the stories of reboots begin with: a machine with another policy, orders, and what the machine says.

use std::time::Duration;

use serde_json::{Value, json};
use twinagent::model::agent::{Effect, Settings};
use twinagent::model::cloud::Road;
use twinagent::model::command::{Request, Status};
use twinagent::model::now::Timestamp;
use twinagent::model::reboot::Mode;
use twinagent::model::reboot::facts::{Facts, Inhibitor, Veto, Way};
use twinagent::model::reboot::window::Window;

use crate::desk::{Desk, answer, answers};
use crate::given::{request, settings};

pub(crate) const HOUR: u64 = 60 * 60;

pub(crate) fn desk(change: impl FnOnce(&mut Settings)) -> Desk {
    let mut settings = settings(Road::Own, Mode::Machine);
    change(&mut settings);
    Desk::with(settings)
}

pub(crate) fn reboot(payload: Value) -> Request {
    request("rebootDevice", Some("r"), payload)
}

pub(crate) fn count(id: &str) -> Request {
    request("count", Some(id), json!(null))
}

pub(crate) fn cancel() -> Request {
    request("cancelReboot", Some("cancel"), json!(null))
}

pub(crate) fn reboots(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Reboot(_))).count()
}

pub(crate) fn probes(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| **effect == Effect::Probe).count()
}

/// The payload of the 202, as it would be told now.
pub(crate) fn outlook(desk: &mut Desk) -> Value {
    let id = desk.agent.durable().rest.boots.story.as_ref().and_then(|story| story.key.clone()).expect("a command").id;
    let payload = desk.agent.durable().ledger.untold().map(|(_, entry)| entry.payload.clone()).next();
    let effects = desk.hear(request("rebootDevice", Some(id.as_str()), payload.expect("it waits")));
    let answer = answer(&effects);
    assert_eq!(answer.status, Status::ACCEPTED);
    answer.payload
}

pub(crate) fn at(desk: &Desk, seconds: u64) -> Timestamp {
    desk.now().wall.saturating_add(Duration::from_secs(seconds))
}

/// 22 November 2026 is a Sunday, and the desk begins 1 000 s after its midnight.
pub(crate) fn window(text: &str) -> Window {
    Window::parse(text, |_| Ok(jiff::tz::TimeZone::UTC)).expect("a window")
}

pub(crate) fn inhibited() -> Facts {
    let inhibitor = Inhibitor { who: "apt".to_owned(), why: "an upgrade".to_owned() };
    Facts { inhibitors: vec![inhibitor], ..Facts::clear(Way::Logind) }
}

pub(crate) fn vetoed(expires: Option<Timestamp>) -> Facts {
    let veto = Veto { name: "harvest".to_owned(), reason: "not before noon".to_owned(), expires };
    Facts { vetoes: vec![veto], ..Facts::clear(Way::Logind) }
}

pub(crate) fn clear() -> Facts {
    Facts::clear(Way::Logind)
}

pub(crate) fn told_of(effects: &[Effect]) -> usize {
    answers(effects).len()
}
