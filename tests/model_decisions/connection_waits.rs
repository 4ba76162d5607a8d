//! How long is waited before another try, and what cuts it short: the network, the clock.

use std::time::Duration;

use twinagent::model::agent::{Effect, Input};
use twinagent::model::cloud::Road;
use twinagent::model::now::Clock;
use twinagent::model::wire::{Reason, TlsFault};

use crate::desk::{Desk, SIMULATED};
use crate::given::settings;

/// Online, with the waits of a device in the field.
fn desk() -> Desk {
    let mut settings = settings(Road::Own, SIMULATED);
    settings.terms.backoff_max = Duration::from_secs(300);
    settings.terms.backoff_max_refused = Duration::from_secs(900);
    Desk::with(settings)
}

fn connects(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Connect(_)))
}

/// What is said of an end: the next try comes after this.
fn waits(effects: &[Effect]) -> Duration {
    let wait = effects.iter().find_map(|effect| match effect {
        Effect::Ended { wait, .. } => Some(*wait),
        _ => None,
    });
    wait.expect("an end")
}

fn fails(desk: &mut Desk, reason: Reason) -> Duration {
    waits(&desk.take([Input::Offline(reason)]))
}

/// Waits for the next try to begin.
fn tries(desk: &mut Desk) {
    for _ in 0..1_000 {
        if connects(&desk.wait(1)) {
            return;
        }
    }
    panic!("no try within a quarter of an hour");
}

/// Offline after many tries that ended like this, and waiting for a long time.
fn waiting(reason: &Reason) -> Desk {
    let mut desk = desk();
    for _ in 0..30 {
        if fails(&mut desk, reason.clone()) > Duration::from_secs(60) {
            return desk;
        }
        tries(&mut desk);
    }
    panic!("never a long wait");
}

fn unresolved() -> Reason {
    Reason::Dns("no such host".to_owned())
}

#[test]
fn the_waits_are_those_of_the_reason() {
    let many = |reason: &Reason| {
        let mut desk = desk();
        (0..40)
            .map(|_| {
                let wait = fails(&mut desk, reason.clone());
                tries(&mut desk);
                wait
            })
            .collect::<Vec<_>>()
    };
    let seconds = Duration::from_secs;
    for (reason, first, most) in [
        (unresolved(), 1, 300),
        (Reason::Refused { code: 3 }, 8, 300),
        (Reason::Refused { code: 5 }, 8, 900),
        (Reason::SubscriptionRefused { filter: "a".to_owned() }, 8, 900),
    ] {
        let waits = many(&reason);
        assert!(waits[0] <= seconds(first), "{reason}: {waits:?}");
        let most = seconds(most);
        assert!(waits.iter().all(|wait| *wait <= most), "{reason}: {waits:?}");
        assert!(waits[12..].iter().any(|wait| *wait > most / 2), "{reason}: {waits:?}");
    }
}

#[test]
fn only_a_session_that_has_lasted_a_minute_makes_the_waits_short_again() {
    let mut desk = waiting(&unresolved());
    tries(&mut desk);
    desk.online();
    desk.wait(59);
    let after_a_short_one: Vec<Duration> = (0..8)
        .map(|_| {
            let wait = fails(&mut desk, Reason::Lost("reset".to_owned()));
            tries(&mut desk);
            wait
        })
        .collect();
    assert!(after_a_short_one.iter().any(|wait| *wait > Duration::from_secs(30)), "{after_a_short_one:?}");
    desk.online();
    desk.wait(60);
    assert!(fails(&mut desk, Reason::Lost("reset".to_owned())) <= Duration::from_secs(1));
}

#[test]
fn a_session_that_has_lasted_a_minute_counts_also_if_it_ended_as_planned() {
    let mut desk = waiting(&unresolved());
    tries(&mut desk);
    desk.online();
    desk.wait(60);
    let anew = false;
    // The operator takes the cloud away and gives it back.
    let mut without = desk.settings.clone();
    without.cloud = Err("none".to_owned());
    let with = Box::new(desk.settings.clone());
    assert!(desk.take([Input::Reloaded { settings: Box::new(without), anew }]).contains(&Effect::Disconnect));
    desk.take([Input::Offline(Reason::Planned)]);
    assert!(connects(&desk.take([Input::Reloaded { settings: with, anew }])));
    assert!(fails(&mut desk, unresolved()) <= Duration::from_secs(1));
}

#[test]
fn an_end_of_what_was_not_ordered_is_none() {
    let mut desk = waiting(&unresolved());
    let now = desk.now();
    let due = desk.agent.deadline(&now);
    assert_eq!(desk.take([Input::Offline(Reason::Closed), Input::Offline(Reason::Refused { code: 5 })]), []);
    assert_eq!(desk.agent.deadline(&now), due);
}

#[test]
fn another_network_cuts_the_wait_short_where_the_network_was_to_blame() {
    for reason in [unresolved(), Reason::Tcp("unreachable".to_owned()), Reason::CaptivePortal("a page".to_owned())] {
        let mut desk = waiting(&reason);
        desk.take([Input::NetworkChanged]);
        assert!(connects(&desk.wait(1)), "{reason}");
    }
    for reason in [Reason::Refused { code: 5 }, Reason::Refused { code: 3 }, Reason::ClosedBeforeAnswer] {
        let mut desk = waiting(&reason);
        assert!(!connects(&desk.take([Input::NetworkChanged])) && !connects(&desk.wait(15)), "{reason}");
    }
}

#[test]
fn an_interface_that_flaps_is_no_hot_loop() {
    let mut desk = waiting(&unresolved());
    let mut count = 0;
    for _ in 0..120 {
        let mut effects = desk.take([Input::NetworkChanged]);
        effects.extend(desk.wait(1));
        if connects(&effects) {
            count += 1;
            fails(&mut desk, unresolved());
        }
    }
    assert!((10..=16).contains(&count), "{count} tries in two minutes");
    // The last change is acted on in its time.
    desk.wait(11);
    assert!(fails(&mut desk, unresolved()) <= Duration::from_secs(300));
}

#[test]
fn a_session_over_another_network_is_checked_every_ten_seconds_at_most() {
    let mut desk = desk();
    let checks: usize = (0..65)
        .map(|_| {
            let mut effects = desk.take([Input::NetworkChanged]);
            effects.extend(desk.wait(1));
            effects.iter().filter(|effect| **effect == Effect::CheckLink).count()
        })
        .sum();
    assert!((6..=7).contains(&checks), "{checks} checks in 65 s");
    assert!(desk.wait(10).contains(&Effect::CheckLink), "also after the last change");
    assert!(!desk.wait(60).contains(&Effect::CheckLink));
}

#[test]
fn a_dial_over_a_network_that_has_gone_is_begun_anew() {
    let mut desk = desk();
    desk.cut();
    tries(&mut desk);
    assert!(desk.take([Input::NetworkChanged]).contains(&Effect::Disconnect));
    assert!(connects(&desk.take([Input::Offline(Reason::Planned)])));
    // It began after this change, so nothing is wrong with it.
    assert!(!desk.wait(20).contains(&Effect::Disconnect));
    // Where the network changes all the time, this one must be allowed to come to its end.
    for _ in 0..40 {
        desk.take([Input::NetworkChanged]);
        assert!(!desk.wait(1).contains(&Effect::Disconnect));
    }
    fails(&mut desk, Reason::TimedOut { stage: "connecting", seconds: 60 });
    tries(&mut desk);
    desk.take([Input::NetworkChanged]);
    assert!(desk.wait(10).contains(&Effect::Disconnect), "the next one is begun anew again");
}

#[test]
fn a_clock_that_is_set_cuts_the_wait_short_where_the_times_may_have_been_to_blame() {
    let expired = Reason::Tls(TlsFault::Expired, "expired".to_owned());
    let unborn = Reason::Tls(TlsFault::NotYetValid, "not yet valid".to_owned());
    for reason in [Reason::Refused { code: 5 }, Reason::ClosedBeforeAnswer, expired, unborn] {
        let mut desk = waiting(&reason);
        desk.take([Input::ClockStepped { by: 86_400_000_000 }]);
        assert!(connects(&desk.wait(1)), "{reason}");
    }
    let stranger = Reason::Tls(TlsFault::UnknownAuthority, "a stranger".to_owned());
    for reason in [unresolved(), stranger, Reason::SubscriptionRefused { filter: "a".to_owned() }] {
        let mut desk = waiting(&reason);
        desk.take([Input::ClockStepped { by: 86_400_000_000 }]);
        assert!(!connects(&desk.wait(15)), "{reason}");
    }
}

#[test]
fn a_login_that_is_under_way_when_the_clock_is_set_is_begun_anew() {
    let mut desk = desk();
    desk.cut();
    tries(&mut desk);
    assert!(desk.take([Input::ClockStepped { by: -5_000_000 }]).contains(&Effect::Disconnect));
    assert!(connects(&desk.take([Input::Offline(Reason::Planned)])));
}

#[test]
fn a_clock_that_is_set_twice_during_a_login_makes_the_next_one_come_soon() {
    let set = || Input::ClockStepped { by: -5_000_000 };
    let mut desk = waiting(&Reason::Refused { code: 5 });
    for _ in 0..12 {
        tries(&mut desk);
        // Let the pace of such news pass.
        desk.wait(10);
        assert!(desk.take([set()]).contains(&Effect::Disconnect));
        assert!(connects(&desk.take([Input::Offline(Reason::Planned)])));
        desk.wait(10);
        assert!(!desk.take([set()]).contains(&Effect::Disconnect), "one of them must come to its end");
        let wait = fails(&mut desk, Reason::Refused { code: 5 });
        assert!(wait <= Duration::from_secs(1), "its login had the old times: {wait:?}");
    }
    tries(&mut desk);
    let waits: Vec<Duration> = (0..8)
        .map(|_| {
            let wait = fails(&mut desk, Reason::Refused { code: 5 });
            tries(&mut desk);
            wait
        })
        .collect();
    assert!(waits.iter().any(|wait| *wait > Duration::from_secs(60)), "what failed still counts: {waits:?}");
}

#[test]
fn what_may_mend_a_login_that_is_under_way_makes_the_next_one_come_soon() {
    let mut desk = waiting(&Reason::Refused { code: 5 });
    for _ in 0..12 {
        tries(&mut desk);
        desk.clock = Clock::Doubtful;
        desk.take([Input::Tick]);
        desk.clock = Clock::Trusted;
        desk.take([Input::Tick]);
        let wait = fails(&mut desk, Reason::Refused { code: 5 });
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
    }
}

#[test]
fn a_broker_that_closes_for_the_times_of_a_login_is_tried_soon_after_the_clock_is_set() {
    let mut desk = desk();
    let mut reached = false;
    for _ in 0..40 {
        let ended = desk.take([Input::Offline(Reason::Closed)]);
        let is_taken = |effect: &Effect| matches!(effect, Effect::Ended { reason: Reason::TakenOver { .. }, .. });
        reached = ended.iter().any(is_taken) && waits(&ended) > Duration::from_secs(60);
        if reached {
            break;
        }
        tries(&mut desk);
        desk.online();
    }
    assert!(reached, "never a long wait");
    desk.take([Input::ClockStepped { by: 86_400_000_000 }]);
    assert!(connects(&desk.wait(1)));
}
