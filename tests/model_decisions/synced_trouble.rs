//! A hub in trouble: it refuses a document, throttles, is silent, or has done what it does not say.

use std::time::Duration;

use serde_json::{Map, Value, json};
use twinagent::model::agent::{Effect, Input};
use twinagent::model::cloud::{Inbound, Outbound, Road};
use twinagent::model::wire::Reason;

use crate::desk::{Desk, SIMULATED, done, fetches, patches, starts};
use crate::given::{request, settings};
use crate::synced::{desk, problem, report};

/// More outcomes than one document holds, none of them told; offline.
fn desk_with_much_to_tell() -> Desk {
    let mut desk = desk();
    desk.cut();
    let effects = desk.hear_all((0..40).map(|n| request("count", Some(&format!("c{n}")), json!(null))));
    for run in starts(&effects) {
        desk.ends(run, done(json!("x".repeat(500))));
    }
    desk.wait(10);
    desk
}

fn untold(desk: &Desk) -> usize {
    desk.agent.durable().ledger.untold_len()
}

fn refused_command(desk: &mut Desk, id: &str) -> Vec<Effect> {
    desk.hear(request("nope", Some(id), json!(null)))
}

#[test]
fn what_was_applied_and_not_confirmed_is_found_in_the_twin_and_the_rest_follows() {
    for status in [503, 500, 0] {
        let mut desk = desk_with_much_to_tell();
        (desk.hub.patch_statuses, desk.hub.applies_failed) = (vec![status], true);
        desk.online();
        assert_eq!(untold(&desk), 40);
        desk.wait(120);
        assert_eq!(untold(&desk), 0, "{status}");
    }
}

#[test]
fn a_first_document_that_was_applied_and_not_confirmed_is_followed_by_heartbeats() {
    let mut given = settings(Road::Direct, SIMULATED);
    given.heartbeat = Duration::from_secs(600);
    let mut desk = Desk::offline(given);
    (desk.hub.patch_statuses, desk.hub.applies_failed) = (vec![503], true);
    desk.online();
    assert_eq!(patches(&desk.wait(60)).len(), 1);
    assert_eq!(patches(&desk.wait(1_500)).len(), 2);
}

#[test]
fn what_was_applied_before_a_renewal_is_told_after_it() {
    let mut desk = desk_with_much_to_tell();
    (desk.hub.patch_statuses, desk.hub.applies_failed) = (vec![0], true);
    desk.online();
    desk.take([Input::Offline(Reason::Planned)]);
    desk.online();
    desk.wait(60);
    assert_eq!(untold(&desk), 0);
}

#[test]
fn the_waits_double_though_the_twin_can_be_read_between() {
    let mut desk = desk();
    desk.hub.patch_statuses = vec![503, 0, 503, 500, 0, 503];
    let (mut times, mut asked, begin) = (Vec::new(), 0, desk.wall);
    let mut effects = report(&mut desk, json!({ "a": 1 }));
    for _ in 0..1_500 {
        if !patches(&effects).is_empty() {
            times.push(desk.wall.saturating_sub(begin).as_secs());
        }
        asked += fetches(&effects);
        effects = desk.wait(1);
    }
    assert_eq!(desk.hub.reported["a"], 1);
    let waits: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).take(6).collect();
    for (n, wait) in waits.iter().enumerate() {
        let most = (10 << n).min(300);
        assert!((most / 2..=most + 31).contains(wait), "{waits:?}");
    }
    assert_eq!((waits.len(), asked), (6, 6), "{waits:?}: read once before each");
}

#[test]
fn a_document_that_is_refused_is_a_problem_and_goes_without_what_programs_report() {
    let mut desk = desk();
    desk.hub.statuses = vec![400];
    let mut effects = report(&mut desk, json!({ "a": 1 }));
    assert!(problem(&mut desk).is_some_and(|text| text.contains("status 400")));
    refused_command(&mut desk, "n");
    assert_eq!(patches(&effects).len(), 1);
    effects.extend(desk.wait(400));
    assert!((2..=4).contains(&patches(&effects).len()) && fetches(&effects) == 0, "no loop");
    assert!(!desk.hub.reported.contains_key("a"));
    assert_eq!(desk.hub.reported["commands"]["n"]["status"], 404, "what is the agent's own is told");
    let text = problem(&mut desk).expect("a problem");
    assert!(text.contains("`a`: the cloud refused"), "{text}");
    desk.wait(600);
    assert_eq!(desk.hub.reported["a"], 1);
    desk.wait(10);
    assert_eq!(problem(&mut desk), None);
    assert_eq!(desk.hub.reported["agent"]["health"], "ok");
}

#[test]
fn a_hub_that_refuses_whatever_programs_report_hears_little_of_it() {
    let mut desk = desk();
    report(&mut desk, json!({ "a": 1 }));
    desk.wait(5);
    desk.acknowledges = false;
    let mut tried = 0;
    for second in 0..6_000 {
        let mut effects = if second % 10 == 0 { report(&mut desk, json!({ "a": second })) } else { Vec::new() };
        effects.extend(desk.wait(1));
        for effect in effects {
            let Effect::Send(id, Outbound::ReportedPatch(patch)) = effect else { continue };
            let sets = !patch["a"].is_null();
            tried += usize::from(sets);
            let answered = desk.delivery(Inbound::Answered { id, status: if sets { 400 } else { 204 } });
            desk.take([answered]);
        }
    }
    assert!((2..=14).contains(&tried), "{tried} in 100 minutes");
}

#[test]
fn a_refused_document_waits_until_it_has_changed() {
    let mut desk = desk();
    desk.hub.patch_statuses = vec![400];
    assert_eq!(patches(&refused_command(&mut desk, "a")).len(), 1);
    assert!(patches(&desk.wait(100)).is_empty(), "that it was refused is no change");
    refused_command(&mut desk, "b");
    desk.wait(1);
    assert_eq!(desk.hub.reported["commands"].as_object().map(Map::len), Some(2));
    assert_eq!(problem(&mut desk), None);
}

#[test]
fn a_refused_document_does_not_keep_the_desired_one_away() {
    let mut desk = desk();
    desk.hub.patch_statuses = vec![400; 3];
    report(&mut desk, json!({ "a": 1 }));
    desk.wait(6);
    desk.hub.version = 9;
    let gap = desk.delivery(Inbound::DesiredPatch { patch: Map::new(), version: 9 });
    assert_eq!(fetches(&desk.take([gap])), 1, "on the same connection");
    desk.cut();
    desk.wait(10);
    assert_eq!(fetches(&desk.online()), 1, "and on the next");
}

#[test]
fn a_refusal_to_show_the_twin_is_forgotten_with_its_connection_and_throttling_is_not() {
    for (status, expected) in [(404, 1), (500, 1), (0, 1), (429, 0)] {
        let mut desk = desk();
        desk.cut();
        desk.wait(10);
        desk.hub.statuses = vec![status];
        assert_eq!(fetches(&desk.online()), 1);
        desk.wait(if status == 0 { 30 } else { 0 });
        let is_told = problem(&mut desk).is_some_and(|text| text.contains("refused to show the twin with status 404"));
        assert_eq!(is_told, status == 404);
        desk.take([Input::Offline(Reason::Planned)]);
        assert_eq!(fetches(&desk.online()), expected, "{status}");
        desk.wait(20);
        assert_eq!(problem(&mut desk), None);
    }
}

#[test]
fn a_hub_that_fails_again_and_again_is_a_problem_until_it_does_not() {
    for (status, words) in
        [(408, "status 408"), (429, "status 429"), (503, "status 503"), (0, "no answer that could be read")]
    {
        let mut desk = desk();
        desk.cut();
        desk.wait(10);
        desk.hub.statuses = vec![status; 8];
        desk.online();
        desk.wait(14);
        assert_eq!(problem(&mut desk), None, "once or twice is everyday life");
        desk.wait(150);
        let text = problem(&mut desk).expect("a problem");
        assert!(text.contains("the twin cannot be read") && text.contains(words), "{text}");
        desk.wait(1_500);
        assert_eq!(problem(&mut desk), None);
        desk.hub.patch_statuses = vec![status; 8];
        report(&mut desk, json!({ "a": 1 }));
        desk.wait(150);
        let text = problem(&mut desk).expect("a problem");
        assert!(text.contains("the reported document cannot be brought") && text.contains(words), "{text}");
        desk.wait(1_500);
        assert_eq!((problem(&mut desk), &desk.hub.reported["a"]), (None, &Value::from(1)));
        assert_eq!(desk.hub.reported["agent"]["health"], "ok");
    }
}
