//! When there is a connection, what is said about it, and how the daemon ends.

use std::time::Duration;

use serde_json::json;
use twinagent::model::agent::{Agent, Attempt, Effect, Input};
use twinagent::model::cloud::Road;
use twinagent::model::device_key::{DeviceKey, Found};
use twinagent::model::durable::Durable;
use twinagent::model::wire::Reason;

use crate::desk::{Desk, SIMULATED, done, sentences, starts, told};
use crate::given::{moment, request, settings};

fn desk() -> Desk {
    Desk::new(Road::Own, SIMULATED)
}

fn count(desk: &mut Desk, id: &str) -> twinagent::model::runs::RunId {
    starts(&desk.hear(request("count", Some(id), json!(null))))[0]
}

fn closed() -> Input {
    Input::Offline(Reason::Planned)
}

#[test]
fn the_sentence_says_what_is_the_matter_and_is_said_once() {
    let now = moment(Duration::from_secs(1_000), Duration::ZERO, 1);
    let mut agent = Agent::new(settings(Road::Own, SIMULATED), Durable::default(), None, 1, &now);
    let mut say = |input: Input| {
        let effects = agent.handle(&now, [input]);
        agent.stored();
        sentences(&effects)
    };
    assert_eq!(say(Input::Begin { left_clean: Some(false) }), ["connecting"]);
    assert_eq!(say(Input::Tick), [] as [&str; 0]);
    let refused = say(Input::Offline(Reason::Refused { code: 5 }));
    assert!(refused[0].starts_with("not connected: login refused") && refused[0].contains("hint:"), "{refused:?}");
    assert_eq!(say(Input::Online { session_kept: false, tls: None }), ["connected"]);
    let stopping = say(Input::Stop);
    assert!(stopping.is_empty() || stopping[0].contains("closing"), "{stopping:?}");
}

#[test]
fn the_last_end_is_that_of_a_session_whatever_fails_until_the_next_one() {
    let mut desk = Desk::new(Road::Reported, SIMULATED);
    let last = |desk: &Desk| desk.twin["agent"].get("lastDisconnect").cloned();
    assert_eq!(last(&desk), None);
    desk.take([Input::Offline(Reason::DeadLink { seconds: 15 })]);
    let ended = desk.now().wall;
    for reason in [Reason::Dns("no such host".to_owned()), Reason::Refused { code: 5 }] {
        desk.wait(6);
        desk.take([Input::Offline(reason)]);
    }
    desk.wait(6);
    desk.online();
    desk.wait(2);
    let told = last(&desk).expect("an end");
    assert_eq!(told["reason"], "dead link: no answer to a ping within 15 s");
    assert_eq!(told["time"], json!(ended));

    // What the broker makes of a planned end is none.
    desk.take([Input::Reloaded { settings: Box::new(desk.settings.clone()), anew: true }]);
    assert!(desk.wait(5).contains(&Effect::Disconnect));
    desk.take([Input::Offline(Reason::Lost("reset by peer".to_owned()))]);
    desk.wait(6);
    desk.online();
    desk.wait(2);
    assert_eq!(last(&desk), Some(told));
}

#[test]
fn without_a_configuration_nothing_connects_and_the_sentence_says_what_to_do() {
    let mut settings = settings(Road::Own, SIMULATED);
    settings.cloud = Err("set `kind` under [cloud]".to_owned());
    let now = moment(Duration::from_secs(1_000), Duration::ZERO, 1);
    let mut agent = Agent::new(settings, Durable::default(), None, 1, &now);
    let effects = agent.handle(&now, [Input::Begin { left_clean: Some(false) }]);
    agent.stored();
    assert!(!effects.contains(&Effect::Connect(Attempt::default())));
    assert_eq!(sentences(&effects), ["not configured: set `kind` under [cloud]"]);
    assert_eq!(agent.deadline(&now), None, "nothing is due, ever");
    assert!(agent.handle(&now, [Input::Stop]).contains(&Effect::Exit));
}

fn key(found: Found) -> Input {
    let (path, folder) = ("/keys/device.key".to_owned(), "/keys".to_owned());
    Input::Key(DeviceKey { is_credential: false, path, folder, found, others: Vec::new(), unusable: Vec::new() })
}

fn usable() -> Input {
    key(Found::Usable { public: "PEM".to_owned(), algorithm: "ES256" })
}

#[test]
fn without_a_key_nothing_is_tried_until_there_is_one() {
    let now = moment(Duration::from_secs(1_000), Duration::ZERO, 1);
    let mut agent = Agent::new(settings(Road::Own, SIMULATED), Durable::default(), None, 1, &now);
    let effects = agent.handle(&now, [Input::Begin { left_clean: None }, key(Found::Absent)]);
    agent.stored();
    assert!(!effects.contains(&Effect::Connect(Attempt::default())));
    assert_eq!(sentences(&effects), ["not configured: there is no key yet; `sudo twinagent keygen` makes one"]);
    assert_eq!(agent.deadline(&now), None, "nothing is due");
    // One that cannot be used is a fault, and the end of the try says which.
    let mut spoiled = agent.clone();
    assert!(
        spoiled
            .handle(&now, [key(Found::Unusable("open to others".to_owned()))])
            .contains(&Effect::Connect(Attempt::default()))
    );
    let effects = agent.handle(&now, [usable()]);
    assert!(effects.contains(&Effect::Connect(Attempt::default())), "{effects:?}");
    assert_eq!(sentences(&effects), ["connecting"]);
}

/// What a device of a hub lacks is a file that its configuration names, and no `keygen` makes it.
#[test]
fn a_file_that_is_still_to_come_is_waited_for_by_its_name() {
    let now = moment(Duration::from_secs(1_000), Duration::ZERO, 1);
    let mut agent = Agent::new(settings(Road::Own, SIMULATED), Durable::default(), None, 1, &now);
    let awaited = key(Found::Awaited("there is no /etc/hub.key".to_owned()));
    let effects = agent.handle(&now, [Input::Begin { left_clean: None }, awaited]);
    agent.stored();
    assert!(!effects.contains(&Effect::Connect(Attempt::default())), "{effects:?}");
    assert_eq!(sentences(&effects), ["not configured: there is no /etc/hub.key"]);
    assert_eq!(agent.deadline(&now), None, "nothing is due");
    assert!(agent.handle(&now, [key(Found::Shared)]).contains(&Effect::Connect(Attempt::default())));
}

#[test]
fn a_key_that_is_lost_ends_no_session_and_no_further_one_is_tried() {
    let mut desk = desk();
    let effects = desk.take([key(Found::Absent)]);
    assert!(!effects.contains(&Effect::Disconnect) && sentences(&effects).is_empty(), "{effects:?}");
    let effects = desk.take([Input::Offline(Reason::Closed)]);
    assert!(sentences(&effects)[0].starts_with("not configured: there is no key"), "{effects:?}");
    assert!(!desk.wait(60).contains(&Effect::Connect(Attempt::default())));
    assert!(desk.take([usable()]).contains(&Effect::Connect(Attempt::default())));
}

#[test]
fn what_is_serious_is_said_before_the_connection_and_a_hint_last() {
    let now = moment(Duration::from_secs(1_000), Duration::ZERO, 1);
    let trouble = Some("no space".to_owned());
    let mut agent = Agent::new(settings(Road::Own, SIMULATED), Durable::default(), trouble, 1, &now);
    agent.handle(&now, [Input::Begin { left_clean: None }]);
    agent.stored();
    let said = sentences(&agent.handle(&now, [Input::Offline(Reason::Refused { code: 5 })]));
    assert!(said[0].starts_with("commands are refused: no space; not connected: login refused"), "{said:?}");
    assert!(said[0].contains(" (hint: ") && said[0].ends_with(')'), "{said:?}");
}

#[test]
fn an_idle_daemon_closes_its_connection_and_exits() {
    let mut desk = desk();
    let effects = desk.take([Input::Stop]);
    assert!(effects.contains(&Effect::Disconnect) && !effects.contains(&Effect::Exit));
    assert!(desk.take([closed()]).contains(&Effect::Exit));
}

#[test]
fn a_daemon_that_is_offline_or_connecting_exits_too() {
    let mut offline = desk();
    offline.cut();
    assert!(offline.take([Input::Stop]).contains(&Effect::Exit));

    let mut connecting = desk();
    connecting.cut();
    assert!(connecting.wait(6).contains(&Effect::Connect(Attempt::default())));
    assert!(connecting.take([Input::Stop]).contains(&Effect::Disconnect));
    assert!(connecting.take([closed()]).contains(&Effect::Exit));
}

#[test]
fn a_stop_waits_for_what_runs_and_its_outcome_is_told_before_the_connection_is_closed() {
    let mut desk = desk();
    let run = count(&mut desk, "a");
    assert!(!desk.take([Input::Stop]).contains(&Effect::Disconnect));
    let effects = desk.ends(run, done(json!("ok")));
    assert_eq!(told(&effects), [("a".to_owned(), 200)]);
    assert!(effects.contains(&Effect::Disconnect));
    assert!(desk.take([closed()]).contains(&Effect::Exit));
}

#[test]
fn a_stop_leaves_behind_what_runs_for_too_long() {
    let mut desk = desk();
    count(&mut desk, "a");
    desk.take([Input::Stop]);
    assert!(!desk.wait(9).contains(&Effect::Disconnect));
    assert!(desk.wait(1).contains(&Effect::Disconnect));
    // A close that takes its time is no reason to spin: `wait` fails if the deadline does not move.
    desk.wait(4);
    let now = desk.now();
    assert!(desk.agent.deadline(&now).is_none_or(|deadline| deadline > now.boot));
    assert!(desk.take([closed()]).contains(&Effect::Exit));
}

#[test]
fn a_stop_that_has_begun_to_close_does_not_come_back() {
    let mut desk = desk();
    desk.acknowledges = false;
    desk.take([Input::Stop]);
    desk.hear(request("echo", Some("late"), json!(null)));
    let effects = desk.take([closed()]);
    assert!(effects.contains(&Effect::Exit) && !effects.contains(&Effect::Connect(Attempt::default())));
}

#[test]
fn an_unacknowledged_message_delays_the_end_by_five_seconds_at_most() {
    let mut desk = desk();
    let run = count(&mut desk, "a");
    desk.acknowledges = false;
    desk.ends(run, done(json!(1)));
    assert!(!desk.take([Input::Stop]).contains(&Effect::Disconnect));
    assert!(!desk.wait(4).contains(&Effect::Disconnect));
    assert!(desk.wait(1).contains(&Effect::Disconnect));
}
