//! What the machine says of a reboot that is due: who holds it back, whether anybody can do it; or nothing at all.

use std::time::Duration;

use serde_json::json;
use twinagent::model::agent::{Effect, Input};
use twinagent::model::cloud::Road;
use twinagent::model::command::Status;
use twinagent::model::reboot::facts::{Facts, Inhibitor};
use twinagent::model::record::Record;

use crate::desk::{Desk, answer, done, starts, status_of};
use crate::given::request;
use crate::orders::{HOUR, at, clear, count, desk, inhibited, outlook, probes, reboot, reboots, told_of, vetoed};

#[test]
fn an_inhibitor_is_waited_for_and_named() {
    let mut desk = desk(|_| {});
    desk.facts = Some(inhibited());
    desk.hear(reboot(json!(null)));
    let effects = desk.wait(60);
    assert_eq!(reboots(&effects), 0);
    assert!((4..=7).contains(&probes(&effects)), "asked {} times in a minute", probes(&effects));
    let held = outlook(&mut desk);
    assert_eq!(held["heldBy"], json!(["inhibitor"]));
    assert_eq!(held["inhibitors"], json!([{ "who": "apt", "why": "an upgrade" }]));
    assert!(held.get("rebootAt").is_none(), "nobody knows when");
    assert_eq!(desk.twin["reboot"]["inhibitors"][0]["who"], "apt");
    let run = starts(&desk.hear(count("a")))[0];
    desk.facts = Some(clear());
    assert_eq!(reboots(&desk.wait(58)), 0, "what has begun meanwhile is waited for");
    assert_eq!(reboots(&desk.ends(run, done(json!(null)))), 1);
}

#[test]
fn an_inhibitor_that_stays_ends_the_reboot_with_423() {
    let mut desk = desk(|_| {});
    desk.facts = Some(inhibited());
    desk.hear(reboot(json!(null)));
    assert_eq!(told_of(&desk.wait(124)), 0);
    let effects = desk.wait(1);
    let answer = answer(&effects);
    assert_eq!((answer.status, &answer.payload["heldBy"]), (Status::HELD_BACK, &json!(["inhibitor"])));
    assert_eq!(answer.payload["inhibitors"], json!([{ "who": "apt", "why": "an upgrade" }]));
    assert_eq!(answer.payload["retryAfterSeconds"], 60);
    assert!(answer.payload["error"].as_str().is_some_and(|error| error.contains("reboot.inhibitor_wait")));
    assert_eq!(desk.twin["reboot"]["state"], "refused");
    desk.facts = Some(clear());
    assert_eq!(reboots(&desk.wait(HOUR)), 0);
}

#[test]
fn an_inhibitor_that_comes_and_goes_cannot_hold_for_ever() {
    let mut desk = desk(|_| {});
    desk.facts = Some(inhibited());
    let run = starts(&desk.hear(count("a")))[0];
    desk.hear(reboot(json!(null)));
    desk.wait(50);
    desk.facts = Some(clear());
    desk.wait(20);
    desk.facts = Some(inhibited());
    assert_eq!(reboots(&desk.ends(run, done(json!(null)))), 0);
    let effects = desk.wait(60);
    assert_eq!((reboots(&effects), status_of(&effects, "r")), (0, Some(423)), "what it was held before counts");
}

#[test]
fn a_veto_is_heeded_until_it_ends_and_shown_by_itself() {
    let mut desk = desk(|_| {});
    let ends = at(&desk, 100);
    desk.facts = Some(vetoed(Some(ends)));
    desk.hear(reboot(json!(null)));
    desk.wait(20);
    let held = outlook(&mut desk);
    assert_eq!((&held["heldBy"], &held["rebootAt"]), (&json!(["veto"]), &json!(ends)));
    assert_eq!(held["vetoes"], json!([{ "name": "harvest", "reason": "not before noon", "expires": ends }]));
    assert_eq!(reboots(&desk.wait(79)), 0);
    assert_eq!(reboots(&desk.wait(60)), 1, "asked again after it ended, whoever takes the file away");
}

#[test]
fn a_veto_without_an_end_ends_the_reboot_with_423() {
    let mut desk = desk(|_| {});
    desk.facts = Some(Facts { inhibitors: inhibited().inhibitors, ..vetoed(None) });
    desk.hear(reboot(json!(null)));
    let effects = desk.wait(125);
    let answer = answer(&effects);
    assert_eq!((answer.status, &answer.payload["heldBy"]), (Status::HELD_BACK, &json!(["inhibitor", "veto"])));
    assert_eq!(answer.payload["vetoes"], json!([{ "name": "harvest", "reason": "not before noon" }]));
}

#[test]
fn hostile_names_do_not_make_an_answer_long() {
    let mut desk = desk(|_| {});
    let inhibitor = Inhibitor { who: "\u{1b}[31m".repeat(10_000), why: "x".repeat(1_000_000) };
    desk.facts = Some(Facts { inhibitors: vec![inhibitor; 1_000], ..clear() });
    desk.hear(reboot(json!(null)));
    let effects = desk.wait(125);
    let payload = answer(&effects).payload;
    assert_eq!(payload["inhibitorsUnnamed"], 992);
    let text = payload.to_string();
    assert!(text.len() < 5_000 && !text.contains("\\u001b"), "{} bytes", text.len());
}

#[test]
fn a_machine_that_does_not_answer_is_asked_again_and_not_rebooted_blindly() {
    let mut desk = desk(|settings| settings.reboot.inhibitor_wait = Duration::from_secs(300));
    desk.facts = None;
    desk.hear(reboot(json!(null)));
    let effects = desk.wait(300);
    assert_eq!(reboots(&effects), 0);
    assert!((5..12).contains(&probes(&effects)), "asked {} times", probes(&effects));
    assert_eq!(outlook(&mut desk)["heldBy"], json!(["noAnswer"]));
    let effects = desk.wait(60);
    assert_eq!(status_of(&effects, "r"), Some(503));

    desk.hear(request("rebootDevice", Some("r2"), json!(null)));
    desk.wait(60);
    assert_eq!(reboots(&desk.take([Input::Probed(clear())])), 1, "a late answer is an answer");
}

#[test]
fn a_machine_that_nobody_may_reboot_says_so_before_anybody_asks() {
    let mut desk = desk(|_| {});
    let nobody = || Facts { way: Err("polkit does not let this user reboot".to_owned()), ..clear() };
    desk.facts = Some(nobody());
    let effects = desk.restarts();
    assert_eq!(probes(&effects), 1);
    desk.wait(2);
    assert!(probes(&desk.wait(3_600)) < 25);
    let problem = &desk.twin["agent"]["problems"][0];
    assert_eq!(
        (&problem["code"], &problem["text"]),
        (&json!("reboot-not-permitted"), &json!("polkit does not let this user reboot"),)
    );
    let effects = desk.hear(reboot(json!(null)));
    assert_eq!(answer(&effects).status, Status::CANNOT_NOW);
    assert_eq!(answer(&effects).payload["error"], "polkit does not let this user reboot");
    // Somebody mends it; found without a restart.
    desk.facts = Some(clear());
    desk.wait(301);
    assert_eq!(desk.twin["agent"]["problems"], json!([]));
    assert_eq!(desk.twin["agent"]["rebootMode"], "logind");
    assert_eq!(status_of(&desk.hear(reboot(json!(null))), "r"), Some(202));
    // And somebody breaks it before the act. That may pass, as when the bus is restarted.
    desk.facts = Some(nobody());
    desk.wait(40);
    assert_eq!(outlook(&mut desk)["heldBy"], json!(["notPermitted"]));
    desk.facts = Some(clear());
    assert_eq!(reboots(&desk.wait(50)), 1);

    let mut desk = self::desk(|_| {});
    desk.hear(reboot(json!(null)));
    desk.facts = Some(nobody());
    let effects = desk.wait(125);
    let answer = answer(&effects);
    assert_eq!((answer.status, &answer.payload["heldBy"]), (Status::CANNOT_NOW, &json!(["notPermitted"])));
    assert!(
        answer.payload["error"].as_str().is_some_and(|error| error.starts_with("polkit does not let")),
        "{answer:?}"
    );
}

#[test]
fn a_simulated_reboot_is_held_back_as_a_real_one() {
    let mut desk = Desk::new(Road::Own, crate::desk::SIMULATED);
    desk.facts = Some(Facts { way: Err("nobody could".to_owned()), ..inhibited() });
    desk.hear(reboot(json!(null)));
    let started =
        |effects: &[Effect]| effects.iter().any(|effect| matches!(effect, Effect::Record(Record::Started { .. })));
    assert!(!started(&desk.wait(60)));
    desk.facts = Some(Facts { way: Err("nobody could".to_owned()), ..clear() });
    assert!(started(&desk.wait(60)), "nobody is needed for it");
}
