//! Any payload as a command without a subfolder, up to what the agent does about it: it is answered once, a recorded
//! command that comes again does not run again, and all that is to be recorded and told can be.

use twinagent::model::agent::{Effect, Input};
use twinagent::model::cloud::Outbound;
use twinagent::model::command::{Method, Outcome, Status};
use twinagent::model::runs::RunId;

use super::model::Online;

/// The status that it is answered with at once, or that it was done.
pub const VERDICTS: &[&str] = &["done", "202", "400", "404", "409", "410", "413", "422"];

const TOPIC: &str = "/devices/gw-1/commands";

pub fn read(bytes: &[u8]) -> String {
    let mut online = Online::begin();
    let first = live(&mut online, bytes);
    let again = live(&mut online, bytes);
    online.is_on_disk();
    if let (Some(ran), Some(_)) = (&first.ran, &again.ran) {
        assert_eq!(ran.as_str(), "echo", "only what is harmless runs again");
    }
    match (first.ran, first.status) {
        (Some(_), Some(Status::DONE)) => "done".to_owned(),
        (_, status) => status.expect("a command is answered").to_string(),
    }
}

struct Seen {
    ran: Option<Method>,
    status: Option<Status>,
}

fn live(online: &mut Online, bytes: &[u8]) -> Seen {
    let mut effects = online.hear(TOPIC, bytes);
    let started = effects.iter().find_map(started);
    let mut ran = None;
    if let Some((run, method, payload)) = started {
        effects.extend(online.take(Input::Finished(run, Outcome::new(Status::DONE, payload))));
        ran = Some(method);
    }
    // Of answers that are on their way, the newest.
    let status = effects.iter().rev().find_map(|effect| match effect {
        Effect::Send(_, Outbound::Answer(answer)) => Some(answer.status),
        _ => None,
    });
    Seen { ran, status }
}

fn started(effect: &Effect) -> Option<(RunId, Method, serde_json::Value)> {
    match effect {
        Effect::Start(run, command) => Some((*run, command.method.clone(), command.payload.clone())),
        _ => None,
    }
}
