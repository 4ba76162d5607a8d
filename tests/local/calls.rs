//! Calls and their replies, over a real socket.

use std::net::Shutdown;

use serde_json::{Value, json};
use twinagent::local::client::{ClientError, Wait};
use twinagent::local::{Asked, interface};
use twinagent::model::ask::Question;

use crate::support::{Daemon, Raw, status};

fn call(method: &str, parameters: &Value) -> Value {
    json!({ "method": format!("io.twinagent.Agent.{method}"), "parameters": parameters })
}

#[track_caller]
fn refused(daemon: &Daemon, method: &str, parameters: &Value) -> (String, Value) {
    match daemon.client().call(method, parameters, Wait::Short) {
        Err(ClientError::Refused { name, parameters }) => (name, parameters.into()),
        other => panic!("{method} {parameters} must be refused, and is {other:?}"),
    }
}

#[test]
fn each_method_asks_its_question_and_returns_the_answer() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let mut ask = |method: &str, parameters: Value| -> Value {
        client.call(method, &parameters, Wait::Short).expect("an answer").into()
    };
    assert_eq!(ask("GetStatus", json!({})), status());
    assert_eq!(ask("ListMethods", json!({}))["methods"][0]["name"], "echo");
    let told = ask("Invoke", json!({ "method": "echo", "payload": [1, 2], "id": "7" }));
    assert_eq!(told, json!({ "id": "7", "method": "echo", "status": 200, "payload": [1, 2], "final": true }));
    assert_eq!(ask("Cancel", json!({ "id": "7" }))["status"], 200);
    assert_eq!(ask("GetHistory", json!({ "id": "42" }))["commands"][0]["id"], "42");
    assert_eq!(ask("GetTwin", json!({}))["desiredVersion"], 7);
    assert_eq!(ask("Report", json!({ "patch": { "a": null } })), json!({ "merged": true }));
    assert_eq!(ask("SendTelemetry", json!({ "text": "42 °C" })), json!({ "queued": true }));
    assert_eq!(ask("FollowDesired", json!({}))["document"], Value::Null);
    assert_eq!(ask("ShowGuard", json!({}))["tripped"], true);
    assert_eq!(ask("ResetGuard", json!({}))["tripped"], false);

    let asked: Vec<Question> = daemon
        .heard_already()
        .into_iter()
        .map(|asked| match asked {
            Asked::Question(_, question) => question,
            Asked::Gone(_) => panic!("nobody left"),
        })
        .collect();
    assert!(matches!(&asked[2], Question::Invoke { payload, .. } if *payload == json!([1, 2])));
    assert!(matches!(&asked[7], Question::Telemetry { subfolder, payload } if subfolder.is_empty()
        && &payload[..] == "42 °C".as_bytes()));
    assert_eq!(asked[9..], [Question::Guard { reset: false }, Question::Guard { reset: true }]);
}

#[test]
fn data_is_base64_and_reaches_its_full_size() {
    let daemon = Daemon::start();
    let encoded = "//4A".repeat(256 * 1024 / 3) + "/w==";
    let sent = json!({ "subfolder": "a/b", "data": encoded });
    daemon.client().call("SendTelemetry", &sent, Wait::Short).expect("it is taken");
    match daemon.heard() {
        Asked::Question(_, Question::Telemetry { subfolder, payload }) => {
            assert_eq!((subfolder.as_str(), payload.len(), payload[1]), ("a/b", 256 * 1024, 0xfe));
        }
        other => panic!("{other:?}"),
    }
    let larger = json!({ "data": encoded.replace("/w==", "//4=") });
    let (name, parameters) = refused(&daemon, "SendTelemetry", &larger);
    assert_eq!((name.as_str(), parameters), ("io.twinagent.Agent.TooLarge", json!({ "limit": 256 * 1024 })));
}

#[test]
fn what_cannot_be_asked_is_refused_with_the_parameter_that_is_wrong() {
    let daemon = Daemon::start();
    for (method, parameters, wrong) in [
        ("Invoke", json!({}), "method"),
        ("Invoke", json!({ "method": "../../bin/sh" }), "method"),
        ("Invoke", json!({ "method": 7 }), "method"),
        ("Invoke", json!({ "method": "echo", "id": "a/b" }), "id"),
        ("Invoke", json!({ "method": "echo", "paylod": 1 }), "paylod"),
        ("GetStatus", json!({ "verbose": true }), "verbose"),
        ("Cancel", json!({}), "id"),
        ("Cancel", json!({ "id": null }), "id"),
        ("Report", json!({ "patch": [] }), "patch"),
        ("Report", json!({}), "patch"),
        ("SendTelemetry", json!({}), "text"),
        ("SendTelemetry", json!({ "text": "a", "data": "YQ==" }), "data"),
        ("SendTelemetry", json!({ "data": "not base64" }), "data"),
        ("SendTelemetry", json!({ "text": "a", "subfolder": "a/#" }), "subfolder"),
        ("SendTelemetry", json!({ "text": "a", "subfolder": "/a" }), "subfolder"),
        ("SendTelemetry", json!({ "text": "a", "subfolder": "a\0" }), "subfolder"),
    ] {
        let expected = ("org.varlink.service.InvalidParameter".to_owned(), json!({ "parameter": wrong }));
        assert_eq!(refused(&daemon, method, &parameters), expected, "{method} {parameters}");
    }
    assert_eq!(daemon.heard_already(), [], "the daemon was asked nothing");
}

#[test]
fn a_refusal_is_an_error_of_the_interface() {
    let daemon = Daemon::start();
    for (method, parameters, name, members) in [
        ("Cancel", json!({ "id": "8" }), "UnknownCommand", json!({})),
        ("Report", json!({ "patch": { "rebootTime": 1 } }), "OwnMember", json!({ "member": "rebootTime" })),
        ("Reload", json!({}), "CannotNow", json!({ "why": "it is stopping" })),
    ] {
        let expected = (format!("io.twinagent.Agent.{name}"), members);
        assert_eq!(refused(&daemon, method, &parameters), expected);
        assert!(interface::DESCRIPTION.contains(&format!("\nerror {name} (")), "{name} is described");
    }
}

#[test]
fn the_service_describes_itself() {
    let daemon = Daemon::start();
    let mut raw = daemon.raw();
    raw.call(&json!({ "method": "org.varlink.service.GetInfo" }));
    let info = raw.reply().expect("a reply");
    assert_eq!(info["parameters"]["interfaces"], json!(["org.varlink.service", "io.twinagent.Agent"]));
    for (method, parameters, error, members) in [
        ("GetInfo", json!({ "method": "org.varlink.service.GetNothing" }), "MethodNotFound", "method"),
        ("", json!({ "method": "io.twinagent.Agent.Explode" }), "MethodNotFound", "method"),
        ("", json!({ "method": "io.example.Other.Get" }), "InterfaceNotFound", "interface"),
        ("", json!({ "method": "nothing" }), "InterfaceNotFound", "interface"),
        ("", json!({ "method": "io.twinagent.Agent.GetStatus", "upgrade": true }), "MethodNotImplemented", "method"),
    ] {
        raw.call(&parameters);
        let reply = raw.reply().expect("a reply");
        assert_eq!(reply["error"], format!("org.varlink.service.{error}"), "{method}");
        assert!(reply["parameters"][members].is_string(), "{reply}");
    }
    for name in ["org.varlink.service", "io.twinagent.Agent"] {
        let method = "org.varlink.service.GetInterfaceDescription";
        raw.call(&json!({ "method": method, "parameters": { "interface": name } }));
        let reply = raw.reply().expect("a reply");
        let text = reply["parameters"]["description"].as_str().expect("text");
        assert!(text.contains(&format!("\ninterface {name}\n")), "{text}");
    }
}

#[test]
fn calls_that_come_at_once_are_answered_in_order_and_a_oneway_call_not_at_all() {
    let daemon = Daemon::start();
    let mut raw = daemon.raw();
    let mut frames = Vec::new();
    let invoke = |id: &str| call("Invoke", &json!({ "method": "echo", "id": id }));
    let mut oneway = invoke("2");
    oneway["oneway"] = true.into();
    let mut unknown = json!({ "method": "io.example.Other.Get" });
    unknown["oneway"] = true.into();
    for call in [invoke("1"), oneway, unknown, invoke("3")] {
        frames.extend_from_slice(call.to_string().as_bytes());
        frames.push(0);
    }
    raw.send(&frames);
    let id = |raw: &mut Raw| raw.reply().expect("a reply")["parameters"]["id"].clone();
    assert_eq!((id(&mut raw), id(&mut raw)), (json!("1"), json!("3")));
    assert_eq!(daemon.heard_already().len(), 3, "the oneway call was asked too");
}

#[test]
fn more_gives_a_reply_at_each_change_and_without_it_there_is_one() {
    let daemon = Daemon::start();
    let mut statuses = Vec::new();
    let invoke = json!({ "method": "echo" });
    let each = |told: serde_json::Map<String, Value>| {
        statuses.push(told["status"].clone());
        true
    };
    daemon.client().follow("Invoke", &invoke, each).expect("replies");
    assert_eq!(statuses, [202, 200]);

    let mut follower = daemon.raw();
    let mut follow = call("FollowDesired", &json!({}));
    follow["more"] = true.into();
    follower.call(&follow);
    assert_eq!(follower.reply().expect("the present one")["continues"], true);
    for version in 1..4 {
        daemon.client().call("Report", &json!({ "patch": {} }), Wait::Short).expect("it is merged");
        assert_eq!(follower.reply().expect("a further one")["parameters"]["version"], version);
    }
}

#[test]
fn the_daemon_learns_that_a_caller_is_gone() {
    let daemon = Daemon::start();
    let mut raw = daemon.raw();
    raw.call(&call("Invoke", &json!({ "method": "never" })));
    let Asked::Question(caller, _) = daemon.heard() else { panic!("a question was sent") };
    drop(raw);
    assert_eq!(daemon.heard(), Asked::Gone(caller));
}

#[test]
fn a_caller_that_closes_its_sending_half_still_gets_its_answer() {
    let daemon = Daemon::start();
    let mut raw = daemon.raw();
    raw.call(&call("Invoke", &json!({ "method": "echo" })));
    raw.0.shutdown(Shutdown::Write).expect("closed");
    assert_eq!(raw.reply().expect("the answer")["parameters"]["status"], 200);
    raw.expect_end();

    let mut follower = daemon.raw();
    let mut follow = call("FollowDesired", &json!({}));
    follow["more"] = true.into();
    follower.call(&follow);
    follower.0.shutdown(Shutdown::Write).expect("closed");
    follower.reply().expect("the present one");
    daemon.client().call("Report", &json!({ "patch": {} }), Wait::Short).expect("it is merged");
    assert_eq!(follower.reply().expect("a further one")["parameters"]["version"], 1);
}
