//! What a run of bad ends means: another device with our identity, a packet that nobody can read.

use std::time::Duration;

use serde_json::{Value, json};
use twinagent::model::agent::{Attempt, Effect, Input};
use twinagent::model::cloud::Road;
use twinagent::model::wire::Reason;

use crate::connection_renewal::status;
use crate::desk::{Desk, SIMULATED, done, sentences, starts};
use crate::given::{request, settings};

fn desk() -> Desk {
    let mut settings = settings(Road::Own, SIMULATED);
    settings.terms.backoff_max_refused = Duration::from_secs(900);
    Desk::with(settings)
}

/// Waits for the next try.
fn tries(desk: &mut Desk) -> (Attempt, Duration) {
    let from = desk.wall;
    for _ in 0..10_000 {
        let connects = desk.wait(1).into_iter().find_map(|effect| match effect {
            Effect::Connect(attempt) => Some(attempt),
            _ => None,
        });
        if let Some(attempt) = connects {
            return (attempt, desk.wall.saturating_sub(from));
        }
    }
    panic!("no try for hours");
}

fn returns(desk: &mut Desk) -> Duration {
    let (_, wait) = tries(desk);
    desk.online();
    desk.wait(2);
    wait
}

fn problem(desk: &mut Desk, code: &str) -> Option<Value> {
    let status = status(desk);
    let problems = status["problems"].as_array().expect("a list").clone();
    problems.into_iter().find(|problem| problem["code"] == code)
}

fn last_code(desk: &mut Desk) -> Value {
    status(desk)["lastDisconnect"]["code"].clone()
}

#[test]
fn two_devices_with_one_identity_are_told_so_and_do_not_hammer() {
    let mut desk = desk();
    for expected in ["kicked-early", "kicked-early", "taken-over"] {
        let said = desk.cut();
        assert_eq!(last_code(&mut desk), expected);
        if expected == "taken-over" {
            assert!(sentences(&said)[0].contains("(hint: look for a second device"), "{said:?}");
        }
        returns(&mut desk);
    }
    assert!(
        problem(&mut desk, "taken-over")
            .is_some_and(|problem| problem["text"].as_str().is_some_and(|text| text.contains("device.id")))
    );
    // The other one comes back minutes later, and the session was longer than a minute: that makes no peace.
    let mut waits = Vec::new();
    for _ in 0..8 {
        desk.wait(300);
        desk.cut();
        assert_eq!(last_code(&mut desk), "taken-over");
        waits.push(returns(&mut desk));
    }
    assert!(waits.iter().any(|wait| *wait > Duration::from_secs(60)), "{waits:?}");
    assert_eq!(status(&mut desk)["problems"].as_array().map(Vec::len), Some(1));
    desk.wait(15 * 60 - 3);
    assert!(problem(&mut desk, "taken-over").is_some());
    desk.wait(2);
    assert_eq!(problem(&mut desk, "taken-over"), None, "a quarter of an hour in peace");
    desk.cut();
    assert_eq!(last_code(&mut desk), "closed");
}

#[test]
fn peace_counts_over_the_renewals_of_short_leases_and_not_over_any_other_end() {
    let mut settings = settings(Road::Own, SIMULATED);
    settings.terms.lease = Some(Duration::from_secs(600));
    let mut desk = Desk::with(settings);
    let lives = |desk: &mut Desk, seconds: u64| {
        let mut renewals = 0;
        for _ in 0..seconds {
            if desk.wait(1).contains(&Effect::Disconnect) {
                desk.take([Input::Offline(Reason::Planned)]);
                desk.online();
                renewals += 1;
            }
        }
        renewals
    };
    for _ in 0..3 {
        desk.cut();
        returns(&mut desk);
    }
    assert!(problem(&mut desk, "taken-over").is_some());
    assert_eq!(lives(&mut desk, 700), 1);
    desk.take([Input::Offline(Reason::Lost("reset".to_owned()))]);
    returns(&mut desk);
    assert_eq!(lives(&mut desk, 880), 1);
    assert!(problem(&mut desk, "taken-over").is_some(), "a lost session begins the count anew");
    lives(&mut desk, 30);
    assert_eq!(problem(&mut desk, "taken-over"), None, "a quarter of an hour in peace, over two logins");
}

#[test]
fn a_broker_that_does_not_like_what_we_send_is_no_other_device() {
    let mut desk = desk();
    desk.acknowledges = false;
    let run = starts(&desk.hear(request("count", Some("a"), json!(null))))[0];
    desk.ends(run, done(json!(1)));
    for _ in 0..5 {
        desk.cut();
        assert_eq!(last_code(&mut desk), "kicked-early");
        returns(&mut desk);
    }
    assert_eq!(problem(&mut desk, "taken-over"), None);
}

fn unreadable() -> Input {
    Input::Offline(Reason::Undecodable("a packet of 300 MB".to_owned()))
}

#[test]
fn poison_is_dropped_with_the_session_of_the_broker_once_and_told_for_a_day() {
    let mut desk = desk();
    for round in 0..3 {
        assert_eq!(problem(&mut desk, "poison"), None);
        desk.take([unreadable()]);
        let (attempt, _) = tries(&mut desk);
        assert_eq!(attempt.drop_session, round == 2);
        if round < 2 {
            desk.online();
        }
    }
    desk.online();
    let told = problem(&mut desk, "poison").expect("it is told");
    assert!(
        told["text"].as_str().is_some_and(|text| text.contains("a packet of 300 MB") && text.contains("was dropped")),
        "{told}"
    );
    desk.wait(100);
    desk.cut();
    assert!(!tries(&mut desk).0.drop_session, "once");
    desk.online();
    desk.wait(23 * 60 * 60);
    assert!(problem(&mut desk, "poison").is_some());
    desk.wait(60 * 60);
    assert_eq!(problem(&mut desk, "poison"), None);
}

#[test]
fn a_broker_whose_bytes_can_never_be_read_is_asked_seldom() {
    let mut desk = desk();
    let mut waits = Vec::new();
    for _ in 0..14 {
        desk.take([unreadable()]);
        waits.push(tries(&mut desk).1);
    }
    assert!(waits[..3].iter().all(|wait| *wait <= Duration::from_secs(5)), "{waits:?}");
    assert!(waits[3..].iter().any(|wait| *wait > Duration::from_secs(60)), "{waits:?}");
    assert!(problem(&mut desk, "poison").is_some());
    desk.online();
    desk.wait(61);
    assert_eq!(problem(&mut desk, "poison"), None, "nothing was lost, and nothing is wrong");
}
