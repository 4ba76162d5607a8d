//! The agent's own harmless methods, and what becomes of payloads that a method does not take.

use serde_json::{Value, json};
use twinagent::model::agent::{Effect, Input};
use twinagent::model::ask::{CallerId, Question, Reply};
use twinagent::model::cloud::{Answer, Road};
use twinagent::model::command::{Class, MethodSpec, Origin};
use twinagent::model::payload::{Member, PayloadRules, Shape};
use twinagent::model::record::Record;

use crate::desk::{Desk, SIMULATED, answer, documents, done, fetches, method, starts};
use crate::given::{request, settings};

fn asks(desk: &mut Desk, name: &str, payload: Value) -> Answer {
    let effects = desk.hear(request(name, Some("own"), payload));
    assert!(starts(&effects).is_empty() && !effects.iter().any(|effect| matches!(effect, Effect::Record(_))));
    answer(&effects)
}

/// The first member that is null, however deep.
fn null_in(value: &Value) -> Option<String> {
    let Value::Object(members) = value else { return None };
    members.iter().find_map(|(name, value)| if value.is_null() { Some(name.clone()) } else { null_in(value) })
}

fn rules() -> PayloadRules {
    let port = Member { required: true, shape: Shape::Integer { min: 1, max: 65_535 } };
    PayloadRules { members: [("port".to_owned(), port)].into(), others: false }
}

/// A device with a method of a manifest and one that is built in, both with rules.
fn with_rules() -> Desk {
    let mut settings = settings(Road::Own, SIMULATED);
    let spec = |name: &str, origin| MethodSpec { payload: Some(rules()), origin, ..MethodSpec::new(method(name)) };
    settings.methods.push(spec("restart", Origin::File("/etc/twinagent/handlers.d/restart.toml".to_owned())));
    settings.methods.push(spec("inside", Origin::BuiltIn));
    settings.aliases = [(method("again"), method("restart"))].into();
    Desk::with(settings)
}

#[test]
fn the_status_and_the_methods_are_told() {
    let mut desk = with_rules();
    let status = asks(&mut desk, "getStatus", json!(null));
    assert_eq!((status.status.0, &status.payload["state"]), (200, &json!("connected")));
    assert_eq!(null_in(&status.payload), None, "what there is not is left out");
    let methods = asks(&mut desk, "listMethods", json!(null)).payload["methods"].clone();
    let named = |name: &str| methods.as_array().expect("a list").iter().find(|one| one["name"] == name).cloned();
    let restart = named("restart").expect("it is listed");
    assert_eq!(
        restart,
        json!({
            "name": "restart", "harmless": false, "from": "/etc/twinagent/handlers.d/restart.toml",
            "class": "serial", "queue": 8, "timeLimitSeconds": 30,
            "payload": {
                "others": false,
                "members": { "port": { "type": "integer", "min": 1, "max": 65_535, "required": true } },
            },
        })
    );
    assert_eq!(named("rebootDevice").expect("listed")["from"], "agent");
    assert_eq!(named("echo").expect("listed")["from"], "built-in");
    assert_eq!(named("reloadConfig"), None, "only where its operator says so");
    let local = desk.take([Input::Asked(Question::Methods, CallerId(1))]);
    let reply = local.iter().find_map(|effect| match effect {
        Effect::Reply(_, Reply::Is { answer, last: true }) => Some(answer["methods"].clone()),
        _ => None,
    });
    assert_eq!(reply, Some(methods), "local programs see the same");
}

#[test]
fn a_list_beyond_all_measure_is_names_alone() {
    let mut settings = settings(Road::Own, SIMULATED);
    for n in 0..400 {
        let description = "x".repeat(200);
        settings.methods.push(MethodSpec { description, ..MethodSpec::new(method(&format!("m{n}"))) });
    }
    let list = asks(&mut Desk::with(settings), "listMethods", json!(null)).payload;
    assert_eq!((&list["cut"], list["methods"][20].get("description")), (&json!(true), None));
    assert!(list.to_string().len() < 64 * 1_024);
}

#[test]
fn the_document_is_sent_again_when_somebody_asks() {
    let mut desk = Desk::new(Road::Own, SIMULATED);
    assert_eq!(documents(&desk.wait(60)).len(), 0, "nothing is new");
    let mut effects = desk.hear(request("refreshState", Some("own"), json!(null)));
    assert_eq!(answer(&effects).payload, json!({ "refreshing": true }));
    effects.extend(desk.wait(10));
    assert_eq!(documents(&effects).len(), 1, "though the cloud has it");
    let mut desk = Desk::new(Road::Own, SIMULATED);
    desk.wait(60);
    let effects = desk.hear_all((0..5).map(|n| request("refreshState", Some(&format!("{n}")), json!(null))));
    let sent = documents(&effects).len() + documents(&desk.wait(10)).len();
    assert_eq!(sent, 1, "however many ask");
}

#[test]
fn where_patches_are_sent_the_twin_is_read_again() {
    let mut desk = Desk::new(Road::Direct, SIMULATED);
    desk.wait(60);
    desk.hub.reported.clear();
    let mut effects = desk.hear(request("refreshState", Some("own"), json!(null)));
    effects.extend(desk.wait(10));
    assert_eq!(fetches(&effects), 1);
    assert_eq!(desk.hub.reported["agent"]["version"], "0.0.0", "what had gone is there again");
}

#[test]
fn the_configuration_is_read_again_only_where_that_is_enabled() {
    let mut desk = Desk::new(Road::Own, SIMULATED);
    for name in ["reloadConfig", "getLogs", "restartService", "shutdown"] {
        let unknown = asks(&mut desk, name, json!(null));
        let says_how = unknown.payload["error"].as_str().is_some_and(|why| why.contains("`enable` under [methods]"));
        assert!(unknown.status.0 == 404 && says_how, "{}", unknown.payload);
    }
    assert_eq!(asks(&mut desk, "nonsense", json!(null)).payload["error"], "unknown method `nonsense`");
    let mut settings = settings(Road::Own, SIMULATED);
    settings.enabled = vec![method("reloadConfig")];
    let mut desk = Desk::with(settings.clone());
    let effects = desk.hear(request("reloadConfig", Some("r"), json!(null)));
    assert!(effects.contains(&Effect::Reload) && answer(&effects).status.0 == 200);
    settings.disabled = vec![method("reloadConfig")];
    assert_eq!(asks(&mut Desk::with(settings), "reloadConfig", json!(null)).status.0, 404, "who forbids it is heard");
}

#[test]
fn members_that_mean_nothing_are_ignored_and_listed_and_slips_are_refused() {
    let mut desk = with_rules();
    let status = asks(&mut desk, "refreshState", json!({ "comment": 1, "z": null }));
    assert_eq!(status.payload, json!({ "refreshing": true, "ignored": ["comment", "z"] }));
    let slip = asks(&mut desk, "cancelCommand", json!({ "commandID": "x", "comandId": "y" }));
    assert_eq!(slip.status.0, 422);
    assert!(slip.payload["error"].as_str().expect("words").contains("did you mean `commandId`?"), "{}", slip.payload);
    assert_eq!(asks(&mut desk, "getStatus", json!([1])).status.0, 422);
    // A handler of this program is spared the list.
    let run = starts(&desk.hear(request("inside", Some("i"), json!({ "port": 1, "comment": 2 }))))[0];
    let told = answer(&desk.ends(run, done(json!({ "ok": true }))));
    assert_eq!(told.payload, json!({ "ok": true, "ignored": ["comment"] }));
    let run = starts(&desk.hear(request("inside", Some("j"), json!({ "port": 1, "comment": 2 }))))[0];
    assert_eq!(answer(&desk.ends(run, done(json!("text")))).payload, json!("text"), "there is no place for it");
}

#[test]
fn a_payload_that_does_not_fit_is_422_with_every_fault_and_is_never_recorded() {
    let mut desk = with_rules();
    for name in ["restart", "again"] {
        let effects = desk.hear(request(name, Some(name), json!({ "prot": 0 })));
        let told = answer(&effects);
        assert_eq!(told.status.0, 422);
        assert_eq!(told.payload["error"], "`port` is missing; unknown member `prot`; did you mean `port`?");
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Record(Record::Accepted { .. }))));
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Refused { .. })));
    }
    assert_eq!(asks(&mut desk, "restart", json!({ "port": 1, "comment": 2 })).status.0, 422, "its rules name all");
    assert_eq!(starts(&desk.hear(request("again", Some("a"), json!({ "port": 1 })))).len(), 1);
}

#[test]
fn nobody_else_has_the_names_of_our_own_methods() {
    let mut settings = settings(Road::Own, SIMULATED);
    for name in ["getStatus", "rebootDevice", "cancelCommand"] {
        settings.methods.push(MethodSpec { class: Class::Parallel(9), ..MethodSpec::new(method(name)) });
    }
    let mut desk = Desk::with(settings);
    assert_eq!(asks(&mut desk, "getStatus", json!(null)).status.0, 200);
    assert_eq!(asks(&mut desk, "cancelCommand", json!({ "commandId": "x" })).status.0, 409);
    assert!(starts(&desk.hear(request("rebootDevice", Some("r"), json!(null)))).is_empty());
}
