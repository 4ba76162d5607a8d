//! Stories of direct methods: callers who wait for the answer on the connection by which they asked, or get none.

#![allow(clippy::print_stdout, reason = "how many tries it took is shown")]

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use twinagent::bridge::{HubError, RawPublish};

use crate::cloud::Kind;
use crate::cloud::iothub::Cloud;
use crate::device::{Device, PATIENCE, Setup};
use crate::living::{DROP_IN, write};
use crate::log::Log;

const SIMULATED: &str = "[reboot]\nmode = \"simulate\"\nsimulate_for = \"1s\"\ngrace = \"0s\"\nmin_interval = \"1h\"\ntoo_soon = \"refuse\"\n";

/// Of the service's errors: the device is not connected, or takes no methods.
const NOT_ONLINE: u32 = 404_103;
/// It gave no answer in time.
const NO_ANSWER: u32 = 504_101;

/// An outcome that is not there within three seconds is reported later, and its caller told 202. A machine may stand still
/// for so long, but not each time.
const TRIES: usize = 3;

fn setup() -> Setup {
    Setup::on(Kind::IotHub)
}

fn hub(device: &Device) -> &Cloud {
    device.cloud.iothub()
}

/// Calls a method beside the story.
fn call(device: &Device, method: &'static str, payload: Value) -> JoinHandle<Result<(i64, Value), HubError>> {
    let cloud = hub(device).clone();
    tokio::spawn(async move { cloud.invoke(method, payload).await })
}

async fn answered(call: JoinHandle<Result<(i64, Value), HubError>>) -> (i64, Value) {
    call.await.expect("no panic").expect("an answer")
}

/// Waits until so many commands have begun to run.
async fn running(device: &Device, count: usize) {
    let wait = async {
        while device.counted().len() < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it runs");
}

/// Calls `count`, and again if it is told 202 since the machine stood still. The outcome, and how many calls that took.
async fn in_time(device: &Device, payload: Value) -> (Value, usize) {
    for calls in 1..=TRIES {
        let (status, payload) = hub(device).invoke("count", payload.clone()).await.expect("an answer");
        match status {
            200 => {
                println!("the outcome was there in time at try {calls} of {TRIES}");
                return (payload, calls);
            }
            status => assert_eq!(status, 202, "{payload}"),
        }
    }
    panic!("the outcome is never there in time");
}

/// The caller is not told how its command ended: the connection was lost, perhaps after it was told 202.
async fn without_outcome(call: JoinHandle<Result<(i64, Value), HubError>>) {
    match call.await.expect("no panic") {
        Ok((status, payload)) => assert_eq!(status, 202, "{payload}"),
        Err(lost) => assert!([NOT_ONLINE, NO_ANSWER].contains(&lost.code), "{lost:?}"),
    }
}

/// The ids of all commands that ran, each of them once.
fn ran(device: &Device) -> Vec<String> {
    let counted = device.counted();
    assert!(counted.values().all(|times| *times == 1), "{counted:?}");
    counted.into_keys().collect()
}

#[tokio::test]
async fn a_caller_gets_the_outcome_itself_and_no_other_answer_is_reported() {
    let mut device = Device::online(setup()).await;
    for payload in [
        json!(null),
        json!("text"),
        json!(7),
        json!([1, { "a": null }]),
        json!({ "deep": { "er": [true, 1.5] } }),
        json!("x".repeat(100_000)),
    ] {
        assert_eq!(hub(&device).invoke("echo", payload.clone()).await, Ok((200, payload)));
    }
    // A caller may have no payload at all, and a string that holds JSON is that JSON.
    let nothing = hub(&device).service.invoke(&hub(&device).name, "echo", None, Duration::ZERO, PATIENCE).await;
    assert_eq!(nothing, Ok((200, json!(null))));
    let text = json!(r#"{"method_number":"42"}"#);
    assert_eq!(hub(&device).invoke("echo", text).await, Ok((200, json!({ "method_number": "42" }))));
    // A recorded one that takes a moment, and the same again: who calls twice wants it twice.
    let mut called = 0;
    for _ in 0..2 {
        let (payload, calls) = in_time(&device, json!({ "sleepMillis": 500 })).await;
        called += calls;
        assert!(ran(&device).iter().any(|id| payload["counted"] == *id), "{payload}");
    }
    assert_eq!(ran(&device).len(), called);
    device.send("echo/later", "").await;
    device.answer("later", 200).await;
    let twin = device.twin(|twin| twin["commands"]["later"].is_object()).await;
    // Of recorded commands the newest are listed, told as they are.
    let known = ran(&device);
    for (id, answer) in twin["commands"].as_object().expect("an object") {
        assert!(id == "later" || known.contains(id), "{id} was told already: {answer:#}");
    }
    device.stop().await;
}

#[tokio::test]
async fn a_long_method_is_answered_before_the_caller_gives_up_and_its_outcome_is_reported() {
    let mut device = Device::online(setup()).await;
    let (name, service) = (hub(&device).name.clone(), hub(&device).service.clone());
    // The shortest time that the service gives a device.
    let shortest = Duration::from_secs(5);
    let mut calls = 0;
    let (status, payload) = loop {
        let answer = service.invoke(&name, "count", Some(device.held()), Duration::ZERO, shortest).await;
        calls += 1;
        match answer {
            Err(late) if late.code == NO_ANSWER && calls < TRIES => {}
            answer => break answer.expect("an answer"),
        }
    };
    assert_eq!(status, 202, "{payload}");
    device.let_go();
    let id = payload["commandId"].as_str().expect("an id").to_owned();
    assert_eq!(device.answer(&id, 200).await["payload"], json!({ "counted": id }));
    let ran = ran(&device);
    assert!(ran.contains(&id) && ran.len() == calls, "{ran:?}");
    device.stop().await;
}

#[tokio::test]
async fn a_reboot_is_accepted_at_once_and_its_time_is_reported() {
    let mut device = Device::online(Setup { config: SIMULATED, ..setup() }).await;
    // As the service's own tutorial asks for it.
    let (status, payload) = hub(&device).invoke("rebootDevice", json!(r#"{"method_number":"42"}"#)).await.expect("one");
    assert_eq!((status, &payload["state"]), (202, &json!("scheduled")), "{payload}");
    let id = payload["commandId"].as_str().expect("an id").to_owned();
    device.wait_until_ready().await;
    let twin = device.twin(|twin| twin["reboot"]["state"] == "completed").await;
    assert!(twin["rebootTime"].is_string() && twin["reboot"]["commandId"] == id, "{twin:#}");
    device.answer(&id, 200).await;
    let (status, payload) = hub(&device).invoke("rebootDevice", json!({})).await.expect("an answer");
    assert!(status == 429 && payload["retryAfterSeconds"].is_u64(), "{status} {payload}");
    device.stop().await;
}

#[tokio::test]
async fn a_method_whose_connection_is_lost_runs_once_and_is_answered_in_the_twin() {
    let mut device = Device::online(setup()).await;
    let waiting = call(&device, "count", device.held());
    running(&device, 1).await;
    assert!(device.cloud.disconnect().await, "there was a connection");
    without_outcome(waiting).await;
    device.wait_until_ready().await;
    device.let_go();
    let id = ran(&device).remove(0);
    assert_eq!(device.answer(&id, 200).await["payload"], json!({ "counted": id }));
    assert_eq!(hub(&device).invoke("echo", json!(1)).await, Ok((200, json!(1))));
    assert_eq!(ran(&device), [id]);
    device.stop().await;
}

#[tokio::test]
async fn a_method_that_the_daemon_does_not_live_to_answer_is_told_as_interrupted() {
    let mut device = Device::online(setup()).await;
    let waiting = call(&device, "count", json!({ "sleepMillis": 600_000 }));
    running(&device, 1).await;
    device.crash().await;
    without_outcome(waiting).await;
    device.start();
    device.wait_until_ready().await;
    let id = ran(&device).remove(0);
    assert_eq!(device.answer(&id, 500).await["payload"]["interrupted"], true);
    assert_eq!(ran(&device), [id]);
    device.stop().await;
}

/// A login that is renewed is another connection, to which no answer of the old one may go.
#[tokio::test]
async fn a_method_over_a_planned_reconnect_runs_once_and_is_answered_once() {
    let mut device = Device::online(setup()).await;
    let waiting = call(&device, "count", device.held());
    running(&device, 1).await;
    write(&device, DROP_IN, "session.keep_alive = \"70s\"\n");
    device.wait_until_ready().await;
    let id = ran(&device).remove(0);
    // The new configuration is acted on within five seconds, so the caller may have been told 202 by then.
    without_outcome(waiting).await;
    device.let_go();
    device.answer(&id, 200).await;
    assert_eq!(ran(&device), [id]);
    assert_eq!(device.logins().await, 2);
    device.stop().await;
}

#[tokio::test]
async fn a_caller_that_gives_up_early_takes_nothing_with_it() {
    let mut device = Device::online(setup()).await;
    let (name, service) = (hub(&device).name.clone(), hub(&device).service.clone());
    let payload = Some(json!({ "sleepMillis": 800 }));
    let answer = service.invoke(&name, "count", payload, Duration::ZERO, Duration::from_millis(100)).await;
    assert_eq!(answer.expect_err("it did not wait").code, NO_ANSWER);
    // The late answer is nobody's, and no reason to end the connection.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(hub(&device).invoke("echo", json!(1)).await, Ok((200, json!(1))));
    assert_eq!((ran(&device).len(), device.logins().await, device.complaint().await), (1, 1, None));
    device.stop().await;
}

#[tokio::test]
async fn what_is_no_method_is_refused_to_its_caller_and_the_next_one_works() {
    let log = Log::listen();
    let mut device = Device::online(Setup { helper: false, ..setup() }).await;
    for (method, payload, status, why) in [
        ("nonsense", json!(null), 404, "unknown method"),
        ("9lives", json!(null), 400, "not a method name"),
        ("rebootDevice", json!({ "delay": 30 }), 422, "a duration with its unit"),
        ("rebootDevice", json!({ "dealy": "30s" }), 422, "did you mean `delay`"),
        ("rebootDevice", json!({}), 503, "no way to the reboot helper"),
        ("cancelReboot", json!({}), 409, "no reboot waits"),
    ] {
        let (answered, payload) = hub(&device).invoke(method, payload).await.expect("an answer");
        let text = payload["error"].as_str().unwrap_or_default();
        assert!(answered == status && text.contains(why), "{method}: {answered} {payload}");
    }
    // Bodies that a service would not send, and a caller that cannot be answered.
    let request = |rid: &str, body: &str| RawPublish {
        qos: 0,
        ..RawPublish::new(format!("$iothub/methods/POST/count/?$rid={rid}"), body.to_owned(), 0)
    };
    let endless = "r".repeat(10_000);
    let deep = "[".repeat(60_000);
    let messages =
        [("a", "{"), ("b", "\"\\ud800\""), ("c", &deep), ("d", r#"{"a":1,"a":2}"#), (&endless, "{}"), ("", "{}")];
    device.cloud.publish(&messages.map(|(rid, body)| request(rid, body))).await;
    let (_, calls) = in_time(&device, json!({})).await;
    assert_eq!((ran(&device).len(), device.logins().await), (calls, 1), "{}", log.text());
    device.stop().await;
}

#[tokio::test]
async fn ten_callers_at_once_each_get_their_own_answer() {
    let mut device = Device::online(setup()).await;
    let mut counted = Vec::new();
    let mut all_in_time = false;
    for tries in 1..=TRIES {
        let calls: Vec<_> = (0..10).map(|n| call(&device, "count", json!({ "sleepMillis": 1_000, "n": n }))).collect();
        let echo: Vec<_> = (0..10).map(|n| call(&device, "echo", json!({ "n": n }))).collect();
        all_in_time = true;
        for call in calls {
            let (status, payload) = answered(call).await;
            let id = if status == 200 { &payload["counted"] } else { &payload["commandId"] };
            counted.push(id.as_str().expect("an id").to_owned());
            all_in_time &= status == 200;
        }
        for (n, call) in echo.into_iter().enumerate() {
            assert_eq!(answered(call).await, (200, json!({ "n": n })));
        }
        if all_in_time {
            println!("the outcomes were there in time at try {tries} of {TRIES}");
            break;
        }
    }
    assert!(all_in_time, "the outcomes are never there in time");
    let mut ran = ran(&device);
    counted.sort();
    ran.sort();
    assert_eq!(counted, ran);
    device.stop().await;
}

#[tokio::test]
async fn a_daemon_that_stops_answers_the_callers_it_has_and_refuses_others() {
    let log = Log::listen();
    let mut device = Device::online(setup()).await;
    let waiting = call(&device, "count", device.held());
    running(&device, 1).await;
    let (cloud, go) = (hub(&device).clone(), device.path("go"));
    let late = async {
        log.wait_for("stopping").await;
        let late = cloud.invoke("count", json!({})).await;
        std::fs::write(go, "").expect("a file");
        late
    };
    let (late, ()) = tokio::join!(late, device.stop());
    let (status, payload) = late.expect("an answer");
    assert_eq!((status, &payload["error"]), (503, &json!("the agent is stopping")));
    let (status, payload) = answered(waiting).await;
    let id = ran(&device).remove(0);
    if status == 202 {
        // The machine stood still for some seconds, so that the outcome was reported instead.
        device.answer(&id, 200).await;
    } else {
        assert_eq!((status, payload), (200, json!({ "counted": id })));
    }
    assert_eq!(ran(&device).len(), 1);
}

#[tokio::test]
async fn a_device_that_is_away_is_waited_for_as_long_as_the_caller_wants() {
    let mut device = Device::new(setup()).await;
    let (name, service) = (hub(&device).name.clone(), hub(&device).service.clone());
    let at_once = service.invoke(&name, "count", None, Duration::ZERO, PATIENCE).await;
    assert_eq!(at_once.expect_err("nobody is there").code, NOT_ONLINE);
    let waiting = tokio::spawn(async move { service.invoke(&name, "count", None, PATIENCE, PATIENCE).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    device.start();
    device.wait_until_ready().await;
    let status = answered(waiting).await.0;
    // Its outcome is reported if the disk stands still for seconds.
    assert!([200, 202].contains(&status), "{status}");
    running(&device, 1).await;
    assert_eq!(ran(&device).len(), 1);
    device.stop().await;
}
