//! On a bus of the test's own, with a systemd that does what the test wants.

use serde_json::json;

use super::*;
use crate::host::fake_logind::Bus;
use crate::host::fake_systemd::{Says, Systemd, failed, job, succeeded};
use crate::model::command::{CommandId, DeviceId, Key};

fn command(method: &RestartService, payload: Value) -> Command {
    let key = Key { target: DeviceId::parse("d").expect("an id"), id: CommandId::parse("1").expect("an id") };
    Command { key, method: method.spec().name, payload }
}

fn service() -> Says {
    Says { kind: "simple", ..succeeded() }
}

/// The outcome of a restart that ends so.
async fn restarted(payload: Value, says: Says, job: &str, end: Says) -> (u16, Value) {
    let bus = Bus::start();
    let mut systemd = Systemd::start(&bus.address(), &[("x.service", says)]).await;
    let method = RestartService { bus: bus.address() };
    let run = tokio::spawn(method.run(&command(&method, payload), Context::alone()));
    let ends = async {
        if systemd.calls.recv().await.is_some_and(|(verb, _)| verb == "restart") {
            systemd.ends("x.service", job, |says| *says = end).await;
        }
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        outcome = run => outcome.expect("it ends in good order"),
        () = ends => unreachable!("it does not end"),
    };
    (outcome.status.0, outcome.payload)
}

#[tokio::test]
async fn a_restart_is_answered_when_it_is_over() {
    let named = || json!({ "unit": "x.service" });
    let (status, payload) = restarted(named(), service(), "done", service()).await;
    assert_eq!((status, payload), (200, json!({ "unit": "x.service", "state": "active" })));
    // One that does its work and ends.
    let (status, payload) = restarted(named(), service(), "done", Says { is_loaded: true, ..job() }).await;
    assert_eq!((status, payload), (200, json!({ "unit": "x.service", "state": "inactive" })));
    let (status, payload) = restarted(named(), service(), "failed", failed("exit-code", (1, 3))).await;
    assert_eq!((status, &payload["state"], &payload["exitCode"]), (500, &json!("failed"), &json!(3)), "{payload}");
}

#[tokio::test]
async fn what_cannot_be_restarted_is_told_with_what_to_do() {
    let named = || json!({ "unit": "x.service" });
    for (payload, says, expected, words) in [
        (named(), Says { refusal: Some("refused"), ..service() }, 500, "hint: `sudo twinagent allow-units x.service`"),
        (named(), Says { refusal: Some("denied"), ..service() }, 500, "hint: `sudo twinagent allow-units x.service`"),
        (named(), Says { refusal: Some("lost"), ..service() }, 500, "whether it has started is not known"),
        (named(), Says { load: "not-found", ..job() }, 500, "there is no unit x.service"),
        (named(), Says { load: "masked", ..job() }, 500, "it is masked"),
        (json!({ "unit": "x*.service" }), service(), 422, "`unit` is not the name of a unit"),
        (json!({ "unit": ["x.service"] }), service(), 422, "`unit` is not the name of a unit"),
        (json!(null), service(), 422, "`unit` is not the name of a unit"),
    ] {
        let (status, payload) = restarted(payload, says, "done", service()).await;
        let why = payload["error"].as_str().expect("words");
        assert!(status == expected && why.contains(words), "{status} {why}");
    }
    let method = RestartService { bus: "unix:path=/nowhere/bus".to_owned() };
    assert_eq!(method.run(&command(&method, named()), Context::alone()).await.status, Status::CANNOT_NOW);
}

#[tokio::test]
async fn a_unit_of_several_names_is_restarted_by_that_which_polkit_sees() {
    for refusal in [None, Some("refused")] {
        let bus = Bus::start();
        let alias = Says { alias_of: Some("ssh.service"), ..service() };
        let units = [("sshd.service", alias), ("ssh.service", Says { refusal, ..service() })];
        let mut systemd = Systemd::start(&bus.address(), &units).await;
        let method = RestartService { bus: bus.address() };
        let run = tokio::spawn(method.run(&command(&method, json!({ "unit": "sshd.service" })), Context::alone()));
        assert_eq!(systemd.calls.recv().await, Some(("restart", "ssh.service".to_owned())));
        if refusal.is_none() {
            systemd.ends("ssh.service", "done", |says| *says = service()).await;
        }
        let outcome = run.await.expect("it ends in good order");
        if refusal.is_none() {
            assert_eq!(outcome.payload, json!({ "unit": "ssh.service", "state": "active" }));
        } else {
            let why = outcome.payload["error"].as_str().unwrap_or_default();
            assert!(why.contains("hint: `sudo twinagent allow-units ssh.service`"), "{why}");
        }
    }
}

#[tokio::test]
async fn its_own_restart_is_answered_by_the_next_life_and_no_other_is() {
    let bus = Bus::start();
    let units = [("twinagent.service", service()), ("x.service", service())];
    let mut systemd = Systemd::start(&bus.address(), &units).await;
    let method = RestartService { bus: bus.address() };
    let own = command(&method, json!({ "unit": "twinagent.service" }));
    assert_eq!(method.resume(&own, Context::alone()).await.status, Status::DONE);
    let other = command(&method, json!({ "unit": "x.service" }));
    assert_eq!(method.resume(&other, Context::alone()).await, interrupted());
    assert!(systemd.calls.try_recv().is_err(), "nothing was done for that");
    drop(bus);
    assert_eq!(method.resume(&own, Context::alone()).await, interrupted());
}
