//! A clock that is not set, one that is set while the agent runs, and what is remembered whatever the clock says.

use std::time::Duration;

use serde_json::json;
use twinagent::model::agent::{Agent, Attempt, Effect, Input, Settings};
use twinagent::model::cloud::Road;
use twinagent::model::command::{Request, Status};
use twinagent::model::device_key::{DeviceKey, Found};
use twinagent::model::durable::Durable;
use twinagent::model::ledger::REMEMBERED;
use twinagent::model::now::{Clock, Now, Timestamp};
use twinagent::model::record::Record;
use twinagent::model::wire::Reason;

use crate::desk::{Desk, SIMULATED, done, is_rebooting, sentences, started, status_of};
use crate::given::{moment, request, settings};

const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;
const YEAR: i64 = 365 * 24 * 60 * 60;
const CONNECT: fn() -> Effect = || Effect::Connect(Attempt::default());

fn waiting(road: Road) -> Settings {
    let mut settings = settings(road, SIMULATED);
    settings.clock_wait = Duration::from_secs(120);
    settings
}

fn desk() -> Desk {
    Desk::with(waiting(Road::Own))
}

fn at(desk: &Desk, seconds: u64) -> Timestamp {
    desk.now().wall.saturating_add(Duration::from_secs(seconds))
}

fn expiring(id: &str, method: &str, expires: Timestamp) -> Request {
    Request { expires: Some(expires), ..request(method, Some(id), json!(null)) }
}

/// The wall clock is set, and a session that is renewed for that is there again at once.
fn set_by(desk: &mut Desk, seconds: i64) {
    desk.steps(seconds);
    if desk.take([Input::ClockStepped { by: seconds * 1_000_000 }]).contains(&Effect::Disconnect) {
        desk.take([Input::Offline(Reason::Planned)]);
        desk.online();
    }
}

/// The clock is to be believed from now on, or not any more.
fn believe(desk: &mut Desk, clock: Clock) -> Vec<Effect> {
    desk.clock = clock;
    desk.take([Input::Tick])
}

/// Runs each of these to its end.
fn run(desk: &mut Desk, requests: impl IntoIterator<Item = Request>) -> usize {
    let begun = started(&desk.hear_all(requests));
    for (run, _) in &begun {
        desk.ends(*run, done(json!("done")));
    }
    begun.len()
}

fn told_in(desk: &Desk) -> usize {
    desk.agent.durable().ledger.told().count()
}

fn problem(desk: &Desk) -> Option<String> {
    let problems = desk.twin["agent"]["problems"].as_array().cloned().unwrap_or_default();
    let clock = problems.iter().find(|problem| problem["code"] == "clock")?;
    clock["text"].as_str().map(str::to_owned)
}

// === The wait

#[test]
fn a_connection_that_becomes_wanted_waits_for_a_doubtful_clock_too() {
    let wall = Duration::from_secs(1_000);
    let now = |more: u64| Now { clock: Clock::Doubtful, ..moment(wall + Duration::from_secs(more), Duration::ZERO, 1) };
    let key = |found| {
        let (path, folder) = ("/keys/device.key".to_owned(), "/keys".to_owned());
        Input::Key(DeviceKey { is_credential: false, path, folder, found, others: Vec::new(), unusable: Vec::new() })
    };
    let mut agent = Agent::new(waiting(Road::Own), Durable::default(), None, 1, &now(0));
    agent.handle(&now(0), [Input::Begin { left_clean: None }, key(Found::Absent)]);
    agent.stored();
    let usable = Found::Usable { public: "PEM".to_owned(), algorithm: "ES256" };
    assert!(!agent.handle(&now(10), [key(usable)]).contains(&CONNECT()), "the key is there, the time is not");
    agent.stored();
    assert!(!agent.handle(&now(119), [Input::Tick]).contains(&CONNECT()));
    agent.stored();
    assert_eq!(agent.deadline(&now(119)), Some(now(120).boot));
    assert!(agent.handle(&now(120), [Input::Tick]).contains(&CONNECT()));
}

#[test]
fn a_session_is_not_renewed_while_the_next_login_would_wait_for_the_clock() {
    let mut settings = waiting(Road::Own);
    settings.terms.lease = Some(Duration::from_secs(1_000));
    let mut desk = Desk::with(settings);
    desk.steps(-50 * YEAR);
    desk.clock = Clock::Doubtful;
    let effects = desk.take([Input::ClockStepped { by: -50 * YEAR * 1_000_000 }]);
    assert!(!effects.contains(&Effect::Prepare), "{effects:?}");
    let waited = desk.wait(100);
    assert!(!waited.contains(&Effect::Prepare) && !waited.contains(&Effect::Disconnect), "{waited:?}");
    assert!(desk.wait(20).contains(&Effect::Prepare), "the wait for the clock is over");
}

#[test]
fn a_stream_that_opens_when_the_clock_is_doubtful_ends_no_session() {
    let mut settings = waiting(Road::Own);
    settings.terms.lease = Some(Duration::from_secs(1_000));
    settings.clock_wait = Duration::from_secs(2_000);
    let mut desk = Desk::with(settings);
    desk.stream = None;
    assert!(desk.wait(900).contains(&Effect::Prepare));
    believe(&mut desk, Clock::Doubtful);
    assert!(!desk.take([Input::Prepared(Ok(()))]).contains(&Effect::Disconnect));
    assert!(!desk.wait(600).contains(&Effect::Prepare));
    desk.stream = Some(Ok(()));
    assert!(believe(&mut desk, Clock::Trusted).contains(&Effect::Disconnect), "as soon as it can be believed");
}

#[test]
fn a_login_waits_for_the_clock_and_is_tried_when_the_wait_is_over() {
    let wall = Duration::from_secs(1_000);
    let now = |more: u64, clock| Now { clock, ..moment(wall + Duration::from_secs(more), Duration::ZERO, 1) };
    let begin = |wait: u64, clock| {
        let mut settings = waiting(Road::Own);
        settings.clock_wait = Duration::from_secs(wait);
        let mut agent = Agent::new(settings, Durable::default(), None, 1, &now(0, clock));
        let effects = agent.handle(&now(0, clock), [Input::Begin { left_clean: None }]);
        agent.stored();
        (agent, effects)
    };
    let (agent, effects) = begin(120, Clock::Doubtful);
    assert!(!effects.contains(&CONNECT()));
    let [said] = &sentences(&effects)[..] else { panic!("one sentence") };
    assert!(said.starts_with("waiting for the clock") && said.contains("timedatectl"), "{said}");
    let mut late = agent.clone();
    assert!(!late.handle(&now(119, Clock::Doubtful), [Input::Tick]).contains(&CONNECT()));
    late.stored();
    assert_eq!(late.deadline(&now(119, Clock::Doubtful)), Some(now(120, Clock::Doubtful).boot));
    assert!(late.handle(&now(120, Clock::Doubtful), [Input::Tick]).contains(&CONNECT()), "a bounded wait");
    let mut set = agent;
    assert!(set.handle(&now(7, Clock::Trusted), [Input::Tick]).contains(&CONNECT()), "at once, when it is set");
    assert!(begin(0, Clock::Doubtful).1.contains(&CONNECT()), "as it is");
    assert!(begin(120, Clock::Trusted).1.contains(&CONNECT()));
}

#[test]
fn a_session_that_stands_is_not_given_up_for_the_clock() {
    let mut desk = desk();
    desk.steps(-50 * YEAR);
    believe(&mut desk, Clock::Doubtful);
    let effects = desk.wait(100);
    assert!(!effects.contains(&Effect::Disconnect), "{effects:?}");
    assert!(problem(&desk).is_some_and(|text| text.contains("clock_wait")), "{}", desk.twin);
    desk.steps(50 * YEAR);
    believe(&mut desk, Clock::Trusted);
    desk.wait(5);
    assert_eq!(problem(&desk), None);
}

#[test]
fn a_refused_login_is_tried_again_when_the_clock_can_be_believed() {
    let mut settings = waiting(Road::Own);
    settings.terms.backoff_max_refused = Duration::from_secs(15 * 60);
    let mut desk = Desk::with(settings);
    believe(&mut desk, Clock::Doubtful);
    desk.wait(121);
    desk.cut();
    let mut waits = Vec::new();
    for _ in 0..12 {
        let before = desk.wall;
        while !desk.wait(1).contains(&CONNECT()) {}
        waits.push(desk.wall.saturating_sub(before).as_secs());
        desk.take([Input::Offline(Reason::Refused { code: 5 })]);
    }
    assert!(waits.iter().sum::<u64>() > 600, "the slow schedule: {waits:?}");
    let mut effects = believe(&mut desk, Clock::Trusted);
    effects.extend(desk.wait(6));
    assert!(effects.contains(&CONNECT()), "at once");
}

// === What expires

#[test]
fn what_expires_is_run_once_the_clock_is_set_if_it_is_in_time() {
    let mut desk = desk();
    let (soon, late) = (at(&desk, 30), at(&desk, 3_600));
    desk.clock = Clock::Doubtful;
    desk.steps(-50 * YEAR);
    let effects = desk.hear_all([expiring("a", "count", soon), expiring("b", "count", late)]);
    assert_eq!(
        (started(&effects).len(), status_of(&effects, "a")),
        (0, None),
        "nobody knows whether they have expired"
    );
    let harmless = desk.hear(expiring("h", "echo", late));
    assert_eq!(status_of(&harmless, "h"), Some(Status::CANNOT_NOW.0), "what is not recorded cannot wait");
    assert_eq!(started(&desk.hear(request("count", Some("c"), json!(null)))).len(), 1, "and holds nobody else up");
    assert_eq!(started(&desk.wait(60)).len(), 0);
    desk.clock = Clock::Trusted;
    desk.steps(50 * YEAR);
    let effects = desk.take([Input::Tick]);
    let begun: Vec<String> = started(&effects).iter().map(|(_, command)| command.key.id.to_string()).collect();
    assert_eq!((begun, status_of(&effects, "a")), (vec!["b".to_owned()], Some(Status::EXPIRED.0)));
}

#[test]
fn what_expires_is_given_up_when_the_clock_stays_doubtful() {
    let mut desk = desk();
    desk.clock = Clock::Doubtful;
    let late = at(&desk, 3_600);
    desk.hear(expiring("a", "count", late));
    assert_eq!(status_of(&desk.wait(119), "a"), None);
    let effects = desk.wait(1);
    assert_eq!(status_of(&effects, "a"), Some(Status::CANNOT_NOW.0), "{effects:?}");
    // A reboot waits as long as one that is held back by anything else.
    desk.hear(expiring("r", "rebootDevice", late));
    let effects = desk.wait(119);
    assert!(!is_rebooting(&effects) && status_of(&effects, "r") != Some(Status::CANNOT_NOW.0), "{effects:?}");
    assert_eq!(status_of(&desk.wait(1), "r"), Some(Status::CANNOT_NOW.0));
}

#[test]
fn a_clock_that_is_used_unchecked_tells_what_expires_and_says_what_it_is() {
    let mut desk = desk();
    believe(&mut desk, Clock::Unchecked);
    desk.wait(3);
    assert_eq!((&desk.twin["boot"]["clock"], problem(&desk)), (&json!("unchecked"), None));
    let (over, late) = (desk.now().wall.saturating_sub(Duration::from_secs(1)), at(&desk, 60));
    assert_eq!(status_of(&desk.hear(expiring("a", "count", over)), "a"), Some(Status::EXPIRED.0));
    assert_eq!(started(&desk.hear(expiring("b", "count", late))).len(), 1);
}

// === What is remembered

#[test]
fn what_was_told_is_remembered_for_seven_days_of_running_whatever_the_clock_says() {
    let mut desk = desk();
    assert_eq!(run(&mut desk, [request("count", Some("a"), json!(null))]), 1);
    for (steps, days) in [(10 * YEAR, 3), (-10 * YEAR, 3)] {
        set_by(&mut desk, steps);
        assert_eq!(run(&mut desk, [request("count", Some("a"), json!(null))]), 0, "not run again after a jump");
        // Every other day it is off, which does not count.
        for _ in 0..days {
            desk.wait(DAY);
            desk.wall += Duration::from_secs(DAY);
            desk.boots();
        }
    }
    assert_eq!(run(&mut desk, [request("count", Some("a"), json!(null))]), 0, "six days and a bit");
    desk.wait(DAY + 7 * HOUR);
    assert_eq!(run(&mut desk, [request("count", Some("b"), json!(null))]), 1);
    assert!(desk.agent.durable().ledger.told().all(|(_, entry)| entry.key.id.as_str() != "a"), "and then forgotten");
    assert_eq!(Durable::replay(&desk.agent.durable().records()), *desk.agent.durable());
}

#[test]
fn the_number_of_what_is_remembered_has_a_bound() {
    let mut desk = desk();
    for number in 0..REMEMBERED + 10 {
        run(&mut desk, [request("count", Some(&number.to_string()), json!(null))]);
    }
    assert!(told_in(&desk) <= REMEMBERED, "{}", told_in(&desk));
}

#[test]
fn a_journal_of_an_agent_that_knew_no_running_time_counts_from_now_on() {
    let (boot, then) = ("00000000-0000-0000-0000-0000000000b1", "2020-11-21T04:00:07.120000Z");
    let digest = format!("sha256:{}", "0".repeat(64));
    let lines = [
        json!({ "record": "accepted", "target": "gw-1", "id": "a", "method": "count", "digest": digest, "boot": boot, "at": then }),
        json!({ "record": "finished", "target": "gw-1", "id": "a", "status": 200, "at": then }),
        json!({ "record": "told", "target": "gw-1", "id": "a", "what": "outcome" }),
    ];
    let records: Vec<Record> =
        lines.iter().map(|line| serde_json::from_value(line.clone()).expect("a record of an older agent")).collect();
    let mut desk = desk();
    desk.records = records;
    desk.restarts();
    desk.wait(6 * DAY);
    run(&mut desk, [request("count", Some("b"), json!(null))]);
    assert_eq!(told_in(&desk), 2, "six days");
    desk.wait(DAY + 7 * HOUR);
    run(&mut desk, [request("count", Some("c"), json!(null))]);
    assert_eq!(told_in(&desk), 2, "seven days: the old one is gone");
}

#[test]
fn time_is_noted_four_times_a_day_and_at_the_end() {
    let mut desk = desk();
    let seen = |desk: &Desk| desk.records.iter().filter(|record| matches!(record, Record::Seen { .. })).count();
    assert_eq!((seen(&desk), desk.agent.durable().rest.seen.is_some()), (1, true), "once it is to be believed");
    desk.wait(10 * DAY);
    assert_eq!(seen(&desk), 41);
    desk.clock = Clock::Doubtful;
    let last = desk.agent.durable().rest.seen;
    desk.wait(DAY);
    assert_eq!((seen(&desk), desk.agent.durable().rest.seen), (45, last), "what is doubtful is no time");
    desk.restarts();
    assert_eq!(seen(&desk), 45);
    desk.clock = Clock::Trusted;
    desk.take([Input::Tick]);
    assert_eq!(seen(&desk), 46, "the first time after a start that is much later than the last");
    let left = desk.take([Input::Stop, Input::Offline(Reason::Planned)]);
    assert!(left.contains(&Effect::Exit) && seen(&desk) == 47, "{left:?}");
}

#[test]
fn a_moment_that_was_noted_on_a_clock_far_ahead_is_taken_back() {
    let mut desk = desk();
    desk.steps(12 * YEAR);
    desk.wait(7 * HOUR);
    let ahead = desk.agent.durable().rest.seen;
    assert!(ahead > Some(at(&desk, 0).saturating_sub(Duration::from_secs(DAY))));
    set_by(&mut desk, -12 * YEAR);
    assert_eq!(desk.agent.durable().rest.seen, Some(desk.now().wall));
}

#[test]
fn a_repeat_without_an_id_is_told_by_the_boot_clock() {
    let derived = || request("count", None, json!({ "n": 1 }));
    for steps in [YEAR, -YEAR] {
        let mut desk = desk();
        assert_eq!(run(&mut desk, [derived()]), 1);
        set_by(&mut desk, steps);
        desk.wait(590);
        assert_eq!(run(&mut desk, [derived()]), 0, "ten minutes are not over: {steps}");
        desk.wait(15);
        assert_eq!(run(&mut desk, [derived()]), 1, "now they are: {steps}");
    }
}

#[test]
fn over_a_reboot_a_repeat_is_told_by_the_wall_clock_or_by_the_age_of_the_boot() {
    let derived = || request("count", None, json!({ "n": 1 }));
    for (before, after, steps) in [
        (Clock::Trusted, Clock::Trusted, 0),
        (Clock::Doubtful, Clock::Trusted, YEAR),
        (Clock::Trusted, Clock::Doubtful, -50 * YEAR),
        (Clock::Doubtful, Clock::Doubtful, 3_600),
    ] {
        let mut desk = desk();
        desk.clock = before;
        assert_eq!(run(&mut desk, [derived()]), 1);
        desk.steps(steps);
        desk.clock = after;
        desk.boots();
        desk.wait(5);
        assert_eq!(run(&mut desk, [derived()]), 0, "{before:?} {after:?} {steps}");
        desk.wait(600);
        assert_eq!(run(&mut desk, [derived()]), 1, "{before:?} {after:?} {steps}");
    }
}

// === What is put right

#[test]
fn what_was_noted_before_the_clock_was_set_is_put_right_in_the_ledger() {
    let mut settings = waiting(Road::Reported);
    settings.clock_wait = Duration::ZERO;
    let mut desk = Desk::with(settings);
    desk.steps(-50 * YEAR);
    desk.clock = Clock::Doubtful;
    desk.boots();
    let accepted = |desk: &Desk| desk.twin["commands"]["a"]["receivedAt"].clone();
    let right = desk.now().wall.shifted(50 * YEAR * 1_000_000);
    run(&mut desk, [request("count", Some("a"), json!(null))]);
    desk.wait(10);
    // Set, and not known to be right yet: what is noted now is not wrong.
    set_by(&mut desk, 50 * YEAR);
    let later = desk.now().wall;
    run(&mut desk, [request("count", Some("b"), json!(null))]);
    desk.wait(10);
    assert_ne!(accepted(&desk), json!(right));
    believe(&mut desk, Clock::Trusted);
    desk.wait(3);
    assert_eq!(desk.twin["boot"]["clock"], "synchronized");
    assert_eq!(accepted(&desk), json!(right));
    assert_eq!(desk.twin["commands"]["a"]["time"], json!(right));
    assert_eq!(desk.twin["commands"]["b"]["receivedAt"], json!(later));
    assert_eq!(Durable::replay(&desk.records), *desk.agent.durable());
    assert_eq!(Durable::replay(&desk.agent.durable().records()), *desk.agent.durable());
}

#[test]
fn what_this_run_has_noted_moves_with_a_step_and_with_nothing_less() {
    let mut desk = Desk::with(waiting(Road::Reported));
    desk.take([Input::Offline(Reason::DeadLink { seconds: 15 })]);
    desk.wait(6);
    desk.online();
    desk.wait(5);
    let times = |desk: &Desk| {
        let agent = &desk.twin["agent"];
        [&agent["startTime"], &agent["lastDisconnect"]["time"]]
            .map(|time| time.as_str().expect("a time").parse::<Timestamp>().expect("a time"))
    };
    let before = times(&desk);
    set_by(&mut desk, YEAR);
    desk.wait(3);
    assert_eq!(times(&desk), before.map(|time| time.shifted(YEAR * 1_000_000)));
    let document = desk.twin.clone();
    // Slewed by a second within an hour.
    for _ in 0..60 {
        desk.wall += Duration::from_millis(16);
        desk.wait(60);
    }
    assert_eq!(desk.twin, document);
}
