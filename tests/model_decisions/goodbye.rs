//! What is said and done when the machine shuts down, whoever has caused it.

use serde_json::json;
use twinagent::model::agent::{Attempt, Effect, Input};
use twinagent::model::cloud::Road;
use twinagent::model::reboot::Mode;
use twinagent::model::wire::Reason;

use crate::desk::{Desk, answer, done, starts, told};
use crate::given::request;
use crate::orders::{cancel, count, desk, reboot, reboots};

fn begins() -> Input {
    Input::ShuttingDown(true)
}

fn closed() -> Input {
    Input::Offline(Reason::Planned)
}

fn has(effects: &[Effect], effect: &Effect) -> bool {
    effects.contains(effect)
}

fn online(road: Road) -> Desk {
    Desk::new(road, Mode::Machine)
}

#[test]
fn the_cloud_is_told_then_the_connection_is_closed_then_the_machine_is_let_go() {
    for road in [Road::Own, Road::Reported] {
        let mut desk = online(road);
        let effects = desk.take([begins()]);
        assert_eq!(desk.twin["agent"]["shuttingDown"], true);
        assert_eq!(desk.twin.get("reboot"), None, "it is none of ours");
        let sent = effects.iter().rposition(|effect| matches!(effect, Effect::Send(..))).expect("a document");
        let closes = effects.iter().position(|effect| *effect == Effect::Disconnect).expect("it is closed");
        assert!(sent < closes && !has(&effects, &Effect::LetGo));
        let effects = desk.take([closed()]);
        assert!(has(&effects, &Effect::LetGo) && !has(&effects, &Effect::Connect(Attempt::default())));
        assert!(!has(&desk.wait(290), &Effect::Connect(Attempt::default())), "for as long as a shutdown takes");
        assert!(
            has(&desk.wait(20), &Effect::Connect(Attempt::default())),
            "a machine that still runs does not shut down"
        );
    }
}

#[test]
fn a_reboot_of_ours_is_told_as_one() {
    let mut desk = desk(|_| {});
    desk.hear(reboot(json!(null)));
    assert_eq!(reboots(&desk.wait(30)), 1);
    desk.take([begins()]);
    assert_eq!(
        (&desk.twin["reboot"]["state"], &desk.twin["agent"]["shuttingDown"]),
        (&json!("rebooting"), &json!(true))
    );
}

#[test]
fn no_command_is_taken_on_and_none_begins() {
    let mut desk = online(Road::Own);
    desk.hear(request("queue", Some("q-1"), json!(null)));
    let run = starts(&desk.hear(request("queue", Some("q-2"), json!(null))));
    assert_eq!(run, [], "it waits for the first");
    // The cloud is slow, so there is time for more.
    desk.acknowledges = false;
    desk.take([begins()]);
    for request in [count("c"), request("echo", Some("e"), json!(null)), reboot(json!(null)), cancel()] {
        let refused = answer(&desk.hear(request));
        assert_eq!((refused.status.0, &refused.payload["error"]), (503, &json!("the machine is shutting down")));
    }
    let effects = desk.wait(60);
    assert_eq!((starts(&effects), reboots(&effects)), (Vec::new(), 0));
}

#[test]
fn a_reboot_that_waits_is_not_done_beside_the_shutdown() {
    let mut desk = desk(|_| {});
    desk.hear(reboot(json!({ "delay": "60s" })));
    desk.take([begins(), closed()]);
    assert_eq!(reboots(&desk.wait(300)), 0);
    desk.is_orderly = true;
    desk.boots();
    assert_eq!(desk.twin["reboot"]["state"], "scheduled", "its own time is still to come");
}

#[test]
fn an_outcome_that_comes_in_time_is_told() {
    let mut desk = online(Road::Own);
    let run = starts(&desk.hear(count("a")))[0];
    desk.acknowledges = false;
    assert!(!has(&desk.take([begins()]), &Effect::Disconnect), "the document is on its way");
    desk.acknowledges = true;
    let effects = desk.ends(run, done(json!(1)));
    assert_eq!(told(&effects), [("a".to_owned(), 200)]);
}

#[test]
fn a_cloud_that_does_not_acknowledge_holds_the_machine_up_for_three_seconds_and_a_link_for_one_more() {
    let mut desk = online(Road::Own);
    desk.acknowledges = false;
    let mut effects = desk.take([begins()]);
    effects.extend(desk.wait(2));
    assert!(!has(&effects, &Effect::Disconnect));
    let effects = desk.wait(1);
    assert!(has(&effects, &Effect::Disconnect) && !has(&effects, &Effect::LetGo));
    let effects = desk.wait(1);
    assert_eq!(effects.iter().filter(|effect| **effect == Effect::LetGo).count(), 1);
    assert!(!has(&desk.take([closed()]), &Effect::LetGo), "once is enough");
}

#[test]
fn without_a_connection_the_machine_is_let_go_at_once() {
    let mut desk = online(Road::Own);
    desk.cut();
    let effects = desk.take([begins()]);
    assert!(has(&effects, &Effect::LetGo) && !has(&effects, &Effect::Connect(Attempt::default())));
    let mut connecting = online(Road::Own);
    connecting.cut();
    assert!(has(&connecting.wait(6), &Effect::Connect(Attempt::default())));
    assert!(has(&connecting.take([begins()]), &Effect::Disconnect));
    assert!(has(&connecting.take([closed()]), &Effect::LetGo));
}

#[test]
fn a_shutdown_that_is_given_up_leaves_no_trace() {
    let mut desk = online(Road::Own);
    desk.take([begins()]);
    desk.take([closed()]);
    assert!(has(&desk.take([Input::ShuttingDown(false)]), &Effect::Connect(Attempt::default())));
    desk.online();
    desk.wait(2);
    assert_eq!(desk.twin["agent"].get("shuttingDown"), None);
    assert_eq!(starts(&desk.hear(count("a"))).len(), 1);
    // And the next one is told like the first.
    desk.take([begins()]);
    assert!(has(&desk.take([closed()]), &Effect::LetGo));
}

#[test]
fn the_daemon_ends_in_the_middle_of_it_as_at_any_time() {
    let mut desk = online(Road::Own);
    desk.take([begins()]);
    desk.take([Input::Stop]);
    let effects = desk.take([closed()]);
    assert!(has(&effects, &Effect::Exit) && !has(&effects, &Effect::Connect(Attempt::default())));
}
