//! Which key a login is made with, when the current one is refused.

use std::time::Duration;

use serde_json::json;
use twinagent::model::agent::{Effect, Input};
use twinagent::model::cloud::Road;
use twinagent::model::device_key::KeySlot::{self, Current, Next, Previous};
use twinagent::model::device_key::{DeviceKey, Found};
use twinagent::model::problems::Code;
use twinagent::model::wire::Reason;

use crate::connection_renewal::status;
use crate::desk::{Desk, SIMULATED, sentences};
use crate::given::settings;

fn keys(found: Found, others: &[KeySlot]) -> Input {
    let (path, folder) = ("/keys/device.key".to_owned(), "/keys".to_owned());
    Input::Key(DeviceKey { is_credential: false, path, folder, found, others: others.to_vec(), unusable: Vec::new() })
}

fn usable(public: &str) -> Found {
    Found::Usable { public: public.to_owned(), algorithm: "ES256" }
}

/// A device with these keys beside the current one, whose session is over.
fn desk(others: &[KeySlot]) -> Desk {
    let mut settings = settings(Road::Own, SIMULATED);
    settings.terms.backoff_max_refused = Duration::from_secs(900);
    let mut desk = Desk::with(settings);
    desk.take([keys(usable("first"), others)]);
    desk.wait(60);
    desk.cut();
    desk
}

/// The key of the next try, and how long it was waited for.
fn tries(desk: &mut Desk) -> (KeySlot, Duration) {
    let from = desk.wall;
    for _ in 0..10_000 {
        let connects = desk.wait(1).into_iter().find_map(|effect| match effect {
            Effect::Connect(attempt) => Some(attempt.key),
            _ => None,
        });
        if let Some(key) = connects {
            return (key, desk.wall.saturating_sub(from));
        }
    }
    panic!("no try for hours");
}

fn refused(desk: &mut Desk) {
    desk.take([Input::Offline(Reason::Refused { code: 5 })]);
}

#[test]
fn the_other_keys_are_tried_quickly_before_anything_is_waited_for() {
    let mut desk = desk(&[Next, Previous]);
    let mut long = Vec::new();
    for _ in 0..6 {
        for (expected, is_quick) in [(Current, false), (Next, true), (Previous, true)] {
            let (key, wait) = tries(&mut desk);
            assert_eq!(key, expected);
            if is_quick {
                assert!(wait <= Duration::from_secs(1), "{wait:?} before {key:?}");
            } else {
                long.push(wait);
            }
            refused(&mut desk);
        }
    }
    assert!(long.iter().any(|wait| *wait > Duration::from_secs(20)), "a round is followed by a wait: {long:?}");
}

#[test]
fn every_refusal_of_who_we_are_makes_it_try_another_and_nothing_else_does() {
    let of_us = [2, 4, 5, 0x13, 0x87].map(|code| Reason::Refused { code });
    let of_us = of_us.into_iter().chain([Reason::ClosedBeforeAnswer, Reason::NoLogin("no key".to_owned())]);
    for (reason, expected) in of_us.map(|reason| (reason, Next)).chain(
        [Reason::Refused { code: 1 }, Reason::Refused { code: 3 }, Reason::Tcp(String::new()), Reason::Closed]
            .map(|reason| (reason, Current)),
    ) {
        let mut desk = desk(&[Next]);
        tries(&mut desk);
        desk.take([Input::Offline(reason.clone())]);
        assert_eq!(tries(&mut desk).0, expected, "{reason}");
    }
}

#[test]
fn the_key_that_logged_in_stays_in_use_and_the_status_says_what_to_do() {
    let mut desk = desk(&[Next]);
    tries(&mut desk);
    refused(&mut desk);
    tries(&mut desk);
    desk.online();
    let session = status(&mut desk)["session"].clone();
    assert_eq!(session["key"], "next");
    assert!(session["keyHint"].as_str().is_some_and(|hint| hint.contains("mv /keys/next.key /keys/device.key")));
    for _ in 0..3 {
        desk.wait(61);
        desk.cut();
        assert_eq!(tries(&mut desk).0, Next);
        desk.online();
    }
}

#[test]
fn once_the_keys_change_the_current_one_is_tried_first_again() {
    let mut desk = desk(&[Next]);
    tries(&mut desk);
    refused(&mut desk);
    tries(&mut desk);
    desk.online();
    let told = status(&mut desk)["problems"][0].clone();
    assert!(told["code"] == "key" && told["text"].as_str().is_some_and(|text| text.contains("next key")), "{told}");
    // The next key has become the current one; the session that it made stays.
    let mended = Input::Problem { code: Code::Key, text: None };
    assert!(!desk.take([keys(usable("second"), &[]), mended]).contains(&Effect::Disconnect));
    assert_eq!(status(&mut desk)["problems"], json!([]));
    assert_eq!(status(&mut desk)["session"].get("keyHint"), None, "it is done");
    desk.wait(61);
    desk.cut();
    assert_eq!(tries(&mut desk).0, Current);
    // The same keys, told again, are no change.
    refused(&mut desk);
    desk.take([keys(usable("second"), &[])]);
    desk.take([Input::Tick]);
    desk.online();
    assert_eq!(status(&mut desk)["session"]["key"], "current");
}

#[test]
fn what_a_session_says_of_the_keys_is_old_once_they_have_changed() {
    let mut desk = desk(&[Previous]);
    tries(&mut desk);
    refused(&mut desk);
    assert_eq!(tries(&mut desk).0, Previous);
    desk.online();
    assert_eq!(status(&mut desk)["problems"][0]["code"], "key");
    let looked = Input::Problem { code: Code::Key, text: None };
    desk.take([keys(usable("second"), &[Previous]), looked]);
    assert_eq!(status(&mut desk)["problems"], json!([]), "nobody has refused the second key");
    assert_eq!(status(&mut desk)["session"].get("keyHint"), None);
    desk.wait(61);
    desk.cut();
    assert_eq!(tries(&mut desk).0, Current);
    refused(&mut desk);
    assert_eq!(tries(&mut desk).0, Previous);
    desk.online();
    assert_eq!(status(&mut desk)["problems"][0]["code"], "key", "now somebody has");
}

#[test]
fn keys_that_change_during_a_try_are_tried_soon_and_are_not_blamed_for_the_old_ones() {
    let mut desk = desk(&[Previous]);
    // The last of a round is refused after many rounds, so a long wait would follow.
    for _ in 0..30 {
        tries(&mut desk);
        refused(&mut desk);
    }
    for round in 0..12 {
        while tries(&mut desk).0 != Current {
            refused(&mut desk);
        }
        desk.take([keys(usable(&round.to_string()), &[Previous])]);
        refused(&mut desk);
        let (key, wait) = tries(&mut desk);
        assert_eq!(key, Current, "the new one has not been tried yet");
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        refused(&mut desk);
    }
}

#[test]
fn a_device_whose_current_key_is_gone_goes_on_with_another() {
    for found in [Found::Absent, Found::Unusable("open to others".to_owned())] {
        let mut desk = desk(&[]);
        desk.take([keys(found, &[Previous])]);
        assert_eq!(tries(&mut desk).0, Previous);
        desk.online();
        let session = status(&mut desk)["session"].clone();
        assert_eq!(session["key"], "previous");
        assert!(session["keyHint"].as_str().is_some_and(|hint| hint.contains("twinagent pubkey")));
    }
    let mut desk = desk(&[]);
    let effects = desk.take([keys(Found::Absent, &[])]);
    assert!(sentences(&effects)[0].starts_with("not configured: there is no key"), "{effects:?}");
}

#[test]
fn a_key_that_cannot_be_used_stays_a_problem_until_the_current_one_logs_in() {
    let mut desk = desk(&[Next]);
    tries(&mut desk);
    desk.take([Input::Offline(Reason::NoLogin("device.key is open to others".to_owned()))]);
    assert_eq!(tries(&mut desk).0, Next);
    desk.online();
    assert_eq!(status(&mut desk)["problems"][0]["code"], json!("key"));
    desk.take([keys(usable("mended"), &[Next])]);
    desk.wait(61);
    desk.cut();
    assert_eq!(tries(&mut desk).0, Current);
    desk.online();
    assert_eq!(status(&mut desk)["problems"], json!([]));
}
