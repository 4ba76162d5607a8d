//! How a run goes: told where the command is under way, never written down.

use serde_json::{Value, json};
use twinagent::model::agent::{Effect, Input};
use twinagent::model::ask::{CallerId, Question, Reply};
use twinagent::model::cloud::Road;
use twinagent::model::runs::RunId;

use crate::desk::{Desk, SIMULATED, answers, documents, done, method, starts};
use crate::given::request;

fn says(desk: &mut Desk, run: RunId, text: &str) -> Vec<Effect> {
    let records = desk.records.len();
    let effects = desk.take([Input::Progress(run, text.to_owned())]);
    let is_about_progress =
        |record: &&twinagent::model::record::Record| !matches!(record, twinagent::model::record::Record::Told { .. });
    assert_eq!(desk.records[records..].iter().filter(is_about_progress).count(), 0, "how it goes is no record");
    effects
}

fn replies(effects: &[Effect], caller: u64) -> Vec<Value> {
    let reply = |effect: &Effect| match effect {
        Effect::Reply(to, Reply::Is { answer, .. }) if *to == CallerId(caller) => Some(Value::Object(answer.clone())),
        _ => None,
    };
    effects.iter().filter_map(reply).collect()
}

fn ask(desk: &mut Desk, caller: u64, question: Question) -> Vec<Effect> {
    desk.take([Input::Asked(question, CallerId(caller))])
}

#[test]
fn the_202_of_a_running_command_says_how_it_goes() {
    for road in [Road::Reported, Road::Direct] {
        let mut desk = Desk::new(road, SIMULATED);
        let held = |desk: &Desk| {
            let document =
                if road == Road::Direct { Value::Object(desk.hub.reported.clone()) } else { desk.twin.clone() };
            document["commands"]["a"].clone()
        };
        let run = starts(&desk.hear(request("count", Some("a"), json!(null))))[0];
        desk.wait(5);
        assert_eq!(held(&desk), Value::Null, "a quick one is not worth a 202");
        says(&mut desk, run, "half\n");
        desk.wait(5);
        assert_eq!((&held(&desk)["status"], &held(&desk)["payload"]), (&json!(202), &json!({ "progress": "half" })));
        says(&mut desk, run, "most of it");
        desk.wait(5);
        assert_eq!(held(&desk)["payload"]["progress"], "most of it");
        let again = says(&mut desk, run, "most of it");
        assert_eq!(documents(&again).len() + documents(&desk.wait(60)).len(), 0, "nothing new");
        desk.ends(run, done(json!("whole")));
        desk.wait(5);
        assert_eq!((&held(&desk)["status"], &held(&desk)["payload"]), (&json!(200), &json!("whole")));
        says(&mut desk, run, "too late");
    }
}

#[test]
fn a_flood_of_it_costs_no_more_documents_than_the_cloud_allows() {
    let mut desk = Desk::new(Road::Reported, SIMULATED);
    let run = starts(&desk.hear(request("count", Some("a"), json!(null))))[0];
    let mut sent = 0;
    for n in 0..1_000 {
        sent += documents(&says(&mut desk, run, &format!("{n} of 1000"))).len();
    }
    assert!(sent <= 1, "{sent} documents in no time");
    sent += documents(&desk.wait(3)).len();
    assert!(sent <= 3, "{sent} documents");
    assert_eq!(desk.twin["commands"]["a"]["payload"]["progress"], "999 of 1000");
}

#[test]
fn where_answers_travel_alone_it_waits_for_a_question() {
    let mut desk = Desk::new(Road::Own, SIMULATED);
    let run = starts(&desk.hear(request("count", Some("a"), json!(null))))[0];
    assert_eq!(answers(&says(&mut desk, run, "half")).len() + answers(&desk.wait(10)).len(), 0);
    let told = answers(&desk.hear(request("count", Some("a"), json!(null))));
    assert_eq!((told[0].status.0, &told[0].payload), (202, &json!({ "progress": "half" })));
}

#[test]
fn local_followers_are_told_and_others_are_not() {
    let mut desk = Desk::new(Road::Own, SIMULATED);
    for (name, recorded) in [("count", true), ("echo", false)] {
        let invoke = |follow| Question::Invoke { method: method(name), payload: json!(null), id: None, follow };
        for (caller, follows) in [(1, true), (2, false)] {
            let run = starts(&ask(&mut desk, caller, invoke(follows)))[0];
            let mut told = replies(&says(&mut desk, run, "half"), caller);
            told.extend(replies(&desk.wait(1), caller));
            let progress: Vec<&Value> = told.iter().map(|told| &told["payload"]["progress"]).collect();
            assert_eq!(progress.len(), usize::from(follows), "{name}: {told:?}");
            assert!(progress.iter().all(|text| **text == "half") && told.iter().all(|told| told["final"] == false));
            let mut told = replies(&desk.ends(run, done(json!(1))), caller);
            told.extend(replies(&desk.wait(1), caller));
            assert_eq!((told.len(), &told[0]["final"]), (1, &json!(true)), "{recorded}");
        }
    }
}

#[test]
fn followers_get_the_newest_at_a_bearable_pace() {
    let mut desk = Desk::new(Road::Own, SIMULATED);
    let invoke = Question::Invoke { method: method("count"), payload: json!(null), id: None, follow: true };
    let run = starts(&ask(&mut desk, 1, invoke))[0];
    let mut told = Vec::new();
    for n in 0..100 {
        told.extend(replies(&says(&mut desk, run, &n.to_string()), 1));
    }
    told.extend(replies(&desk.wait(1), 1));
    let texts: Vec<&Value> = told.iter().map(|told| &told["payload"]["progress"]).collect();
    assert_eq!(texts, ["0", "99"]);
}

#[test]
fn status_and_history_show_it() {
    let mut desk = Desk::new(Road::Own, SIMULATED);
    let run = starts(&desk.hear(request("count", Some("a"), json!(null))))[0];
    says(&mut desk, run, "half");
    let status = replies(&ask(&mut desk, 1, Question::Status { follow: false }), 1).remove(0);
    assert_eq!(status["commands"]["runs"], json!([{ "id": "a", "method": "count", "progress": "half" }]));
    let history = replies(&ask(&mut desk, 1, Question::History { id: None }), 1).remove(0);
    assert_eq!(history["commands"][0]["progress"], "half");
    desk.restarts();
    let history = replies(&ask(&mut desk, 1, Question::History { id: None }), 1).remove(0);
    assert_eq!(history["commands"][0].get("progress"), None, "it died with the process");
}
