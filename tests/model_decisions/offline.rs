//! A week without the cloud, minute by minute: programs on the device go on, every try to connect fails, and nothing may
//! grow but what is counted.

#![allow(clippy::print_stdout, reason = "the figures are what the story shows")]

use std::time::Duration;

use serde_json::{Value, json};
use twinagent::model::agent::{Effect, Input};
use twinagent::model::ask::{CallerId, Question, Reply};
use twinagent::model::cloud::{Outbound, Road};
use twinagent::model::command::CommandId;
use twinagent::model::intake::UNTOLD;
use twinagent::model::ledger::REMEMBERED;
use twinagent::model::telemetry::{MESSAGES, Subfolder};
use twinagent::model::wire::Reason;

use crate::desk::{Desk, SIMULATED, done, method, starts};
use crate::given::{request, settings};

const MINUTES: usize = 7 * 24 * 60;

/// Between two measurements.
const HALF_A_DAY: usize = 12 * 60;

/// Somebody on the device.
struct Programs<'a> {
    desk: &'a mut Desk,
    callers: u64,
}

impl Programs<'_> {
    /// Asks, and hands on what that leads to, the outcome of a handler included.
    fn ask(&mut self, question: Question) -> Vec<Effect> {
        self.callers += 1;
        let mut effects = self.desk.take([Input::Asked(question, CallerId(self.callers))]);
        for run in starts(&effects) {
            effects.extend(self.desk.ends(run, done(json!("done"))));
        }
        // An outcome is told in the turn after the one that has put it on disk.
        effects.extend(self.desk.wait(0));
        effects
    }

    fn status(&mut self) -> Value {
        let effects = self.ask(Question::Status { follow: false });
        let answer = effects.into_iter().find_map(|effect| match effect {
            Effect::Reply(_, Reply::Is { answer, .. }) => Some(answer),
            _ => None,
        });
        Value::Object(answer.expect("a status"))
    }
}

#[test]
fn a_week_without_the_cloud_is_flat_and_what_is_owed_is_told_first() {
    let mut settings = settings(Road::Own, SIMULATED);
    settings.terms.backoff_max = Duration::from_secs(300);
    let mut desk = Desk::with(settings);
    // All that may be owed: these end while the cloud is away, and keep nobody on this machine from anything.
    let owed: Vec<String> = (0..UNTOLD).map(|n| format!("owed-{n}")).collect();
    let requests = owed.iter().map(|id| request("count", Some(id), json!(null)));
    let effects = desk.hear_all(requests.collect::<Vec<_>>());
    let runs = starts(&effects);
    assert_eq!(runs.len(), owed.len());
    desk.take([Input::Offline(Reason::Tcp("no route".to_owned()))]);
    for run in runs {
        desk.ends(run, done(json!("owed")));
    }

    let mut programs = Programs { desk: &mut desk, callers: 0 };
    let (mut tries, mut sizes, mut recorded) = (0, Vec::new(), Vec::new());
    for minute in 0..MINUTES {
        let mut effects = programs.desk.wait(60);
        let number = minute.to_string();
        let subfolder = Subfolder::parse(&number).expect("a subfolder");
        effects.extend(programs.ask(Question::Telemetry { subfolder, payload: vec![b'.'; 512].into() }));
        let id = CommandId::parse(&format!("local-{minute}")).ok();
        let invoke = Question::Invoke { method: method("count"), payload: json!({ "n": minute }), id, follow: true };
        let outcome = programs.ask(invoke);
        let told = |effect: &Effect| matches!(effect, Effect::Reply(_, Reply::Is { answer, last: true }) if answer["status"] == 200);
        assert!(outcome.iter().any(told), "{outcome:?}");
        effects.extend(outcome);
        if minute.is_multiple_of(60) {
            let patch = json!({ "hour": minute / 60 }).as_object().expect("an object").clone();
            effects.extend(programs.ask(Question::Report { patch }));
        }
        if effects.iter().any(|effect| matches!(effect, Effect::Connect(_))) {
            tries += 1;
            effects.extend(programs.desk.take([Input::Offline(Reason::Tcp("no route".to_owned()))]));
        }
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Send(..))), "there is nobody to send to");
        if (minute + 1).is_multiple_of(HALF_A_DAY) {
            recorded.push(programs.desk.records.len());
            // All that the agent knows, as text: it grows when anything in it does.
            sizes.push(format!("{:?}", programs.desk.agent).len());
        }
    }
    let status = programs.status();
    println!("a week in half days, {tries} tries to connect; bytes of all that the agent knows, as text: {sizes:?}");
    println!("records so far: {recorded:?}");
    println!("telemetry {}, commands {}", status["telemetry"], status["commands"]);
    assert_eq!(status["telemetry"], json!({ "waiting": MESSAGES, "dropped": MINUTES - MESSAGES }));
    assert_eq!(status["commands"]["untold"], owed.len());
    // The ledger has its fill of told commands after three days; from then on nothing grows.
    let full = REMEMBERED / HALF_A_DAY + 1;
    let (least, most) = (sizes[full..].iter().min(), sizes[full..].iter().max());
    let (least, most) = (least.expect("a size"), most.expect("a size"));
    assert!(most - least < least / 20, "{sizes:?}");
    // Three for each command, one for each member that was reported, and a few for a week of the agent itself: none for
    // a try to connect, and none for telemetry.
    let bound = 3 * (owed.len() + MINUTES) + MINUTES / 60 + 100;
    assert!(recorded.last().is_some_and(|records| *records <= bound), "{recorded:?}, at most {bound}");
    // One a minute is what this test can see; with waits of up to five minutes there are fewer.
    assert!((MINUTES / 6..MINUTES).contains(&tries), "{tries}");

    let sent = desk.online();
    let rest = desk.wait(5);
    let sent = sent.iter().chain(&rest).filter_map(|effect| match effect {
        Effect::Send(_, message) => Some(message),
        _ => None,
    });
    let sent: Vec<&Outbound> = sent.collect();
    let place = |fits: fn(&Outbound) -> bool| sent.iter().position(|message| fits(message)).expect("it is sent");
    let telemetry = place(|message| matches!(message, Outbound::Telemetry(_)));
    let answers = sent[..telemetry].iter().filter_map(|message| match message {
        Outbound::Answer(answer) => Some(answer.id.to_string()),
        _ => None,
    });
    assert_eq!(answers.collect::<Vec<_>>(), owed, "what is owed comes first, in order");
    let subfolders = sent.iter().filter_map(|message| match message {
        Outbound::Telemetry(message) => Some(message.subfolder.as_str().to_owned()),
        _ => None,
    });
    let newest: Vec<String> = (MINUTES - MESSAGES..MINUTES).map(|minute| minute.to_string()).collect();
    assert_eq!(subfolders.collect::<Vec<_>>(), newest, "the newest, in order, each once");
    let reported = place(|message| matches!(message, Outbound::Reported(_)));
    assert!(reported < telemetry, "the state comes before telemetry");
    let Outbound::Reported(document) = sent[reported] else { panic!("it is one") };
    assert_eq!(document["hour"], (MINUTES - 1) / 60);
}
