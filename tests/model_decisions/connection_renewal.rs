//! How a session is renewed: its time, the stream that is opened first, the gap, and the clock.

use std::time::Duration;

use serde_json::{Value, json};
use twinagent::model::agent::{Attempt, Effect, Input};
use twinagent::model::ask::{CallerId, Question, Reply};
use twinagent::model::cloud::Road;
use twinagent::model::wire::Reason;

use crate::desk::{Desk, SIMULATED, answers, done, starts, told};
use crate::given::{request, settings};

const CONNECT: Effect = Effect::Connect(Attempt {
    key: twinagent::model::device_key::KeySlot::Current,
    drop_session: false,
    provision: false,
});

/// Online since a moment, with logins that are good for 1 000 s.
fn desk() -> Desk {
    let mut settings = settings(Road::Own, SIMULATED);
    settings.terms.lease = Some(Duration::from_secs(1_000));
    Desk::with(settings)
}

fn closed() -> Input {
    Input::Offline(Reason::Planned)
}

pub(crate) fn status(desk: &mut Desk) -> Value {
    let effects = desk.take([Input::Asked(Question::Status { follow: false }, CallerId(7))]);
    let reply = effects.into_iter().find_map(|effect| match effect {
        Effect::Reply(CallerId(7), Reply::Is { answer, .. }) => Some(answer),
        _ => None,
    });
    Value::Object(reply.expect("a status"))
}

/// Waits for the stream to be asked for; gives the seconds since the session began.
fn until_prepared(desk: &mut Desk) -> u64 {
    let begun = desk.wall;
    for _ in 0..1_000 {
        if desk.wait(1).contains(&Effect::Prepare) {
            return (desk.wall.saturating_sub(begun)).as_secs();
        }
    }
    panic!("no renewal within the lease");
}

#[test]
fn a_renewal_is_due_at_75_to_90_percent_of_the_lease_and_each_time_at_another_moment() {
    let mut desk = desk();
    let mut times: Vec<u64> = Vec::new();
    for _ in 0..20 {
        times.push(until_prepared(&mut desk));
        desk.take([closed()]);
        desk.online();
    }
    assert!(times.iter().all(|seconds| (748..=901).contains(seconds)), "{times:?}");
    let (first, last) = (times.iter().min().copied(), times.iter().max().copied());
    assert!(last.zip(first).is_some_and(|(last, first)| last - first > 60), "{times:?}");
}

#[test]
fn a_renewal_closes_and_connects_at_once_and_takes_commands_meanwhile() {
    let mut desk = desk();
    let closes = desk.wait(900);
    let mut order: Vec<&Effect> =
        closes.iter().filter(|effect| matches!(effect, Effect::Prepare | Effect::Disconnect)).collect();
    // The order to disconnect is repeated until the end is reported.
    order.dedup();
    assert_eq!(order, [&Effect::Prepare, &Effect::Disconnect]);
    let run = starts(&desk.hear(request("count", Some("a"), json!(null))))[0];
    assert_eq!(told(&desk.ends(run, done(json!(1)))), [], "nothing is sent on a connection that is being closed");
    assert!(desk.take([closed()]).contains(&CONNECT));
    assert_eq!(told(&desk.online()), [("a".to_owned(), 200)]);
}

#[test]
fn the_session_goes_on_while_the_stream_of_the_next_one_is_opened() {
    let mut desk = desk();
    desk.stream = None;
    until_prepared(&mut desk);
    let run = starts(&desk.hear(request("count", Some("a"), json!(null))))[0];
    assert_eq!(told(&desk.ends(run, done(json!(1)))), [("a".to_owned(), 200)]);
    assert!(!desk.wait(60).contains(&Effect::Disconnect));
    assert!(desk.take([Input::Prepared(Ok(()))]).contains(&Effect::Disconnect));
}

#[test]
fn what_is_on_its_way_is_waited_for_but_not_for_ever() {
    let mut desk = desk();
    desk.stream = None;
    until_prepared(&mut desk);
    desk.acknowledges = false;
    let run = starts(&desk.hear(request("count", Some("a"), json!(null))))[0];
    let sent = desk.ends(run, done(json!(1)));
    assert_eq!(answers(&sent).len(), 1);
    assert!(!desk.take([Input::Prepared(Ok(()))]).contains(&Effect::Disconnect));
    assert!(!desk.wait(4).contains(&Effect::Disconnect));
    assert!(desk.wait(1).contains(&Effect::Disconnect));
    desk.take([closed()]);
    assert_eq!(told(&desk.online()), [("a".to_owned(), 200)], "it is told on the next one");
}

#[test]
fn a_network_that_is_broken_for_newcomers_ends_no_session() {
    let mut desk = desk();
    desk.stream = Some(Err(Reason::Dns("no such host".to_owned())));
    until_prepared(&mut desk);
    let tries = desk.wait(600);
    assert!(!tries.contains(&Effect::Disconnect));
    // The waits of the usual back-off, which end at 5 s here.
    let count = tries.iter().filter(|effect| **effect == Effect::Prepare).count();
    assert!((120..=600).contains(&count), "{count} tries in ten minutes");
    desk.stream = Some(Ok(()));
    assert!(desk.wait(5).contains(&Effect::Disconnect), "it is renewed as soon as it can be");
}

#[test]
fn a_stream_that_nobody_answers_for_is_asked_for_again() {
    let mut desk = desk();
    desk.stream = None;
    until_prepared(&mut desk);
    assert!(!desk.wait(14 * 60).contains(&Effect::Prepare));
    assert!(desk.wait(60).contains(&Effect::Prepare));
}

#[test]
fn an_answer_that_nobody_waits_for_changes_nothing() {
    let mut desk = desk();
    for answer in [Ok(()), Err(Reason::Tcp("refused".to_owned()))] {
        assert_eq!(desk.take([Input::Prepared(answer.clone())]), []);
        desk.cut();
        assert!(!desk.take([Input::Prepared(answer)]).contains(&Effect::Disconnect));
        desk.wait(5);
        desk.online();
        desk.wait(70);
    }
    assert_eq!(desk.take([Input::Tick]), []);
}

#[test]
fn another_configuration_renews_the_session_over_a_stream_of_its_own() {
    let mut desk = desk();
    desk.stream = None;
    let reloaded = Input::Reloaded { settings: Box::new(desk.settings.clone()), anew: true };
    desk.take([reloaded.clone()]);
    assert!(desk.wait(5).contains(&Effect::Prepare));
    // Before it is open there is yet another one: the stream may lead to the wrong place.
    desk.take([reloaded]);
    assert!(desk.wait(5).contains(&Effect::Prepare));
    assert!(desk.take([Input::Prepared(Ok(()))]).contains(&Effect::Disconnect));
}

#[test]
fn a_session_that_stands_too_late_does_not_outlive_what_it_was_made_with() {
    let mut desk = desk();
    desk.cut();
    assert!(desk.wait(5).contains(&CONNECT));
    let anew = Input::Reloaded { settings: Box::new(desk.settings.clone()), anew: true };
    assert!(desk.take([anew, Input::Online { session_kept: false, tls: None }]).contains(&Effect::Disconnect));
    assert_eq!(status(&mut desk).get("session"), None, "what it logged in with is no longer true");
    assert!(desk.take([closed()]).contains(&CONNECT));
}

#[test]
fn a_session_that_is_not_wanted_any_more_is_closed_without_a_stream_for_the_next() {
    let mut desk = desk();
    desk.stream = None;
    until_prepared(&mut desk);
    let effects = desk.take([Input::Stop]);
    assert!(effects.contains(&Effect::Disconnect) && !effects.contains(&Effect::Prepare));
    assert!(desk.take([Input::Prepared(Ok(())), closed()]).contains(&Effect::Exit));
}

#[test]
fn the_gap_of_a_renewal_is_measured_and_that_of_an_outage_is_not() {
    let mut desk = desk();
    let session = status(&mut desk)["session"].clone();
    assert_eq!((&session["renewals"], session.get("lastRenewal")), (&json!(0), None));
    until_prepared(&mut desk);
    desk.wall += Duration::from_millis(120);
    desk.take([closed()]);
    desk.wall += Duration::from_millis(65);
    desk.online();
    let session = status(&mut desk)["session"].clone();
    let (wall, last) = (desk.now().wall, &session["lastRenewal"]);
    assert_eq!((&session["renewals"], &last["time"]), (&json!(1), &json!(wall)));
    let gap = last["gapSeconds"].as_f64().expect("a number");
    assert!((0.185..1.2).contains(&gap), "{gap}");

    desk.cut();
    desk.wait(5);
    desk.online();
    assert_eq!(status(&mut desk)["session"]["renewals"], 1);
}

#[test]
fn a_step_of_the_clock_renews_the_session_at_once_and_a_small_one_does_not() {
    let mut desk = desk();
    for by in [1_000_000, -1_000_000, 0] {
        assert!(!desk.take([Input::ClockStepped { by }]).contains(&Effect::Prepare));
    }
    for by in [1_000_001, -86_400_000_000] {
        assert!(desk.take([Input::ClockStepped { by }]).contains(&Effect::Prepare));
        assert!(desk.take([closed()]).contains(&CONNECT));
        desk.online();
        desk.wait(10);
    }
}

#[test]
fn a_clock_that_is_set_all_the_time_renews_the_session_every_ten_seconds_at_most() {
    let mut desk = desk();
    let mut renewals = 0;
    for _ in 0..65 {
        let mut effects = desk.take([Input::ClockStepped { by: 5_000_000 }]);
        effects.extend(desk.wait(1));
        if effects.contains(&Effect::Disconnect) {
            renewals += 1;
            desk.take([closed()]);
            desk.online();
        }
    }
    assert!((6..=7).contains(&renewals), "{renewals} in 65 s");
    // The last step counts: nothing is left that was logged in with before it.
    let settles = desk.wait(10);
    assert!(settles.contains(&Effect::Prepare), "{settles:?}");
}

#[test]
fn a_login_that_does_not_end_is_not_renewed_for_the_clock() {
    let mut desk = Desk::new(Road::Own, SIMULATED);
    assert!(!desk.take([Input::ClockStepped { by: i64::MIN }]).contains(&Effect::Prepare));
    assert!(!desk.wait(20).contains(&Effect::Prepare));
}
