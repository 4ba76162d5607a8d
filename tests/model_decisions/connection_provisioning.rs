//! When the service is asked anew which hub this device belongs to.

use std::time::Duration;

use twinagent::model::agent::{Attempt, Effect, Input};
use twinagent::model::cloud::Road;
use twinagent::model::wire::{Reason, Schedule};

use crate::desk::{Desk, SIMULATED};
use crate::given::settings;

fn desk(provisioned: bool) -> Desk {
    let mut settings = settings(Road::Direct, SIMULATED);
    settings.terms.backoff_max = Duration::from_secs(300);
    settings.terms.backoff_max_refused = Duration::from_secs(900);
    settings.terms.provisioned = provisioned;
    let mut desk = Desk::with(settings);
    desk.take([Input::Offline(Reason::Closed)]);
    desk
}

/// The next tries, each of which ends like this: which of them ask the service.
fn tries(desk: &mut Desk, times: usize, reason: &Reason) -> Vec<bool> {
    (0..times).map(|_| attempt(desk, Some(reason)).provision).collect()
}

/// The next try, and how it ends.
fn attempt(desk: &mut Desk, reason: Option<&Reason>) -> Attempt {
    for _ in 0..1_000 {
        let effects = desk.wait(1);
        let attempt = effects.iter().find_map(|effect| match effect {
            Effect::Connect(attempt) => Some(*attempt),
            _ => None,
        });
        if let Some(attempt) = attempt {
            desk.take(reason.cloned().map(Input::Offline));
            return attempt;
        }
    }
    panic!("no try within a quarter of an hour");
}

fn refused() -> Reason {
    Reason::Refused { code: 5 }
}

#[test]
fn ten_refusals_in_a_row_ask_for_another_hub_once() {
    for reason in
        [refused(), Reason::Dns("no such host".to_owned()), Reason::SubscriptionRefused { filter: "a".to_owned() }]
    {
        let mut desk = desk(true);
        let asks = tries(&mut desk, 22, &reason);
        let when: Vec<usize> = (0..asks.len()).filter(|n| asks[*n]).collect();
        // Long waits may make ten minutes of fewer than ten.
        assert!(when.first().is_some_and(|first| (5..=10).contains(first)), "{reason}: {when:?}");
        assert!(when.windows(2).all(|pair| (3..=11).contains(&(pair[1] - pair[0]))), "{reason}: {when:?}");
    }
}

#[test]
fn a_hub_that_is_there_or_cannot_be_reached_is_not_given_up() {
    let others = [
        Reason::Refused { code: 3 },
        Reason::Tcp("no route".to_owned()),
        Reason::NoLogin("no key".to_owned()),
        Reason::Provisioning(Schedule::Busy, "throttled".to_owned()),
    ];
    for reason in others {
        assert!(!tries(&mut desk(true), 30, &reason).contains(&true), "{reason}");
    }
    assert!(!tries(&mut desk(false), 30, &refused()).contains(&true), "nobody could assign another one");
}

#[test]
fn a_session_ends_the_run() {
    let mut desk = desk(true);
    let gone = Reason::Dns("no such host".to_owned());
    assert!(!tries(&mut desk, 6, &gone).contains(&true));
    attempt(&mut desk, None);
    desk.online();
    desk.wait(100);
    desk.take([Input::Offline(Reason::Lost("gone".to_owned()))]);
    assert!(!tries(&mut desk, 6, &gone).contains(&true));
}

#[test]
fn the_service_is_asked_with_the_patience_of_a_refusal() {
    let mut desk = desk(true);
    while !attempt(&mut desk, None).provision {
        desk.take([Input::Offline(Reason::Dns("no such host".to_owned()))]);
    }
    let ended = desk.take([Input::Offline(Reason::Provisioning(Schedule::Refused, "unknown".to_owned()))]);
    assert!(!attempt(&mut desk, None).provision, "another run comes first");
    let said = ended.iter().find_map(|effect| match effect {
        Effect::Ended { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    let reason = said.expect("an end");
    assert_eq!((reason.code(), reason.schedule()), ("provisioning", Schedule::Refused));
    assert!(reason.hint().contains("`id_scope` and `registration_id` under [cloud.iothub.provisioning]"));
    for patient in [Schedule::Busy, Schedule::Network] {
        let hint = Reason::Provisioning(patient, "not yet".to_owned()).hint();
        assert!(!hint.contains("[cloud") && !hint.contains("enrollment"), "nothing is wrong here: {hint}");
    }
}

#[test]
fn what_is_said_of_a_login_holds_on_every_cloud() {
    let reasons = [
        Reason::NoLogin("no key".to_owned()),
        Reason::Refused { code: 2 },
        Reason::Refused { code: 5 },
        Reason::ClosedBeforeAnswer,
        Reason::SubscriptionRefused { filter: "a/#".to_owned() },
        Reason::TakenOver { times: 3 },
    ];
    for reason in reasons {
        let hint = reason.hint();
        for of_one_cloud in ["pubkey", "project", "region", "registry", "hub"] {
            assert!(!hint.contains(of_one_cloud), "{reason}: {hint}");
        }
    }
}

#[test]
fn a_network_that_is_down_for_long_is_waited_for_with_its_own_patience() {
    let mut desk = desk(true);
    let mut longest = Duration::ZERO;
    for _ in 0..80 {
        attempt(&mut desk, None);
        let effects = desk.take([Input::Offline(Reason::Dns("no such host".to_owned()))]);
        let wait = effects.iter().find_map(|effect| match effect {
            Effect::Ended { wait, .. } => Some(*wait),
            _ => None,
        });
        longest = longest.max(wait.expect("an end"));
    }
    // The budget of tries may put one off a little.
    assert!(longest <= Duration::from_secs(360), "{longest:?}");
}
