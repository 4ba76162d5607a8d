//! Stories of commands: from the cloud over the wire to a handler, and the answer all the way back.

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, Setup};
use crate::log::Log;
use bytes::Bytes;
use serde_json::json;
use twinagent::bridge::RawPublish;

on_both_clouds! {
    a_command_is_answered_on_the_road_that_was_chosen,
    the_same_command_a_thousand_times_runs_once_and_has_one_answer,
    a_command_without_an_id_runs_once_though_it_is_delivered_twice,
    bad_input_has_a_clear_answer_and_the_next_command_works,
    what_a_broker_must_not_send_is_dropped_or_ends_the_connection_and_the_next_command_works,
}

async fn a_command_is_answered_on_the_road_that_was_chosen(kind: Kind) {
    for &answers in kind.roads() {
        let mut device = Device::online(Setup { answers, tls: true, ..Setup::on(kind) }).await;
        device.send("echo/e-1", r#"{"hello":["world"]}"#).await;
        assert_eq!(device.answer("e-1", 200).await["payload"], json!({ "hello": ["world"] }), "{answers}");
        device.send("count/c-1", "").await;
        assert_eq!(device.answer("c-1", 200).await["payload"], json!({ "counted": "c-1" }), "{answers}");
        device.send("", r#"{"method":"count","id":"c-2"}"#).await;
        device.answer("c-2", 200).await;
        device.send("count", r#"{"anything":1}"#).await;
        device.stop().await;
        assert_eq!(device.counted().values().copied().collect::<Vec<_>>(), [1, 1, 1], "{answers}");
    }
}

async fn the_same_command_a_thousand_times_runs_once_and_has_one_answer(kind: Kind) {
    for &answers in kind.roads() {
        let mut device = Device::online(Setup { answers, ..Setup::on(kind) }).await;
        // In one write, so that the daemon reads many of them in one batch.
        let burst: Vec<RawPublish> = (1..=1_000).map(|id| device.cloud.command("count/once", "", id)).collect();
        for burst in burst.chunks(250) {
            device.cloud.publish(burst).await;
        }
        let first = device.answer("once", 200).await;
        // Over a reconnect, a restart, and a crash.
        device.cloud.disconnect().await;
        device.wait_until_ready().await;
        device.send("count/once", "").await;
        device.stop().await;
        device.start();
        device.wait_until_ready().await;
        device.send("count/once", "").await;
        device.crash().await;
        device.start();
        device.wait_until_ready().await;
        device.send("count/once", "").await;
        device.send("count/last", "").await;
        device.answer("last", 200).await;
        assert_eq!(device.counted(), [("once".to_owned(), 1), ("last".to_owned(), 1)].into(), "{answers}");
        // Those that came while it ran may have been told 202; every other answer is the first one.
        let mut told = device.answers_to("once");
        told.retain(|answer| answer["status"] != 202);
        assert!(told.iter().all(|answer| answer["payload"] == first["payload"]), "{told:?}");
        assert!(told.iter().all(|answer| answer["status"] == 200), "{told:?}");
        device.stop().await;
    }
}

async fn a_command_without_an_id_runs_once_though_it_is_delivered_twice(kind: Kind) {
    let mut device = Device::online(Setup { answers: "events", ..Setup::on(kind) }).await;
    for _ in 0..3 {
        device.send("count", r#"{"n":1}"#).await;
    }
    device.send("count", r#"{"n":2}"#).await;
    device.send("count/last", "").await;
    device.answer("last", 200).await;
    assert_eq!(device.counted().len(), 3, "{:?}", device.counted());
    assert!(device.counted().values().all(|times| *times == 1), "{:?}", device.counted());
    device.stop().await;
}

async fn bad_input_has_a_clear_answer_and_the_next_command_works(kind: Kind) {
    for &answers in kind.roads() {
        let mut device = Device::online(Setup { answers, helper: false, ..Setup::on(kind) }).await;
        let nested = "[".repeat(60_000);
        let cases = [
            ("count/b-1", "{", 400, "not JSON"),
            ("count/b-2", nested.as_str(), 400, "recursion limit"),
            ("count/b-3", r#"{"a":1,"a":2}"#, 400, "stands twice"),
            ("nonsense/b-4", "", 404, "unknown method"),
            ("", r#"{"method":"../../bin/sh","id":"b-5"}"#, 400, "not a method name"),
            ("", r#"{"method":"count","id":"b-6","expiresAt":"2001-01-01T00:00:00Z"}"#, 410, "expired"),
            ("", r#"{"id":"b-7"}"#, 400, "`method`: is missing"),
            ("rebootDevice/b-8", "", 503, "no way to the reboot helper"),
            ("rebootDevice/b-9", r#"{"delay":30}"#, 422, "a duration with its unit"),
            ("rebootDevice/b-10", r#"{"dealy":"30s"}"#, 422, "did you mean `delay`"),
            ("cancelReboot/b-11", "", 409, "no reboot waits"),
        ];
        for (subfolder, payload, ..) in &cases {
            device.send(subfolder, payload).await;
        }
        for (case, (subfolder, _, status, why)) in cases.iter().enumerate() {
            let answer = device.answer(&format!("b-{}", case + 1), *status).await;
            let text = answer["payload"]["error"].as_str().expect("a reason").to_owned();
            assert!(text.contains(why), "{answers}: {subfolder}: {text}");
        }
        device.send("count/same", r#"{"n":1}"#).await;
        device.answer("same", 200).await;
        device.send("count/same", r#"{"n":2}"#).await;
        if answers == "events" {
            device.answer("same", 409).await;
        } else {
            device.twin(|twin| twin["commands"]["same"]["conflict"]["status"] == 409).await;
        }
        // Neither answered nor run, and nothing is lost by it.
        for (subfolder, payload) in [("../../bin/sh", ""), ("echo/a/b", ""), ("", ""), ("", "[]")] {
            device.send(subfolder, payload).await;
        }
        device.send("count/good", "").await;
        device.answer("good", 200).await;
        assert_eq!(device.counted(), [("same".to_owned(), 1), ("good".to_owned(), 1)].into(), "{answers}");
        device.stop().await;
    }
}

async fn what_a_broker_must_not_send_is_dropped_or_ends_the_connection_and_the_next_command_works(kind: Kind) {
    let log = Log::listen();
    let mut device = Device::online(Setup { answers: "events", ..Setup::on(kind) }).await;
    let retained = RawPublish { retain: true, ..device.cloud.command("count/r", "", 7) };
    let foreign = device.cloud.another("gw-2").await.command("count/f", "", 8);
    let large = device.cloud.command("count/l", vec![b' '; 257 * 1_024], 9);
    device.cloud.publish(&[retained, foreign, large]).await;
    device.answer("l", 413).await;
    device.send("count/after", "").await;
    device.answer("after", 200).await;
    let (why, limit) = match kind {
        Kind::IotCore => ("a retained command is never run", 262_144),
        Kind::IotHub => ("this cloud retains nothing, so a retained message is not its own", 65_536),
    };
    log.wait_for(&format!("a message was dropped: {why}")).await;
    log.wait_for("a message was dropped: its topic is not this device's").await;
    log.wait_for(&format!("not a command: a payload of 263168 bytes; at most {limit} are taken")).await;

    let undecodable = RawPublish::new(&b"/devices/gw-1/commands/\xff\xfe"[..], "", 9);
    let huge = device.cloud.command("count/h", vec![b' '; 2 * 1_024 * 1_024], 10);
    let second_qos = RawPublish { qos: 2, ..device.cloud.command("count/q", "", 11) };
    let garbage = Bytes::from_static(&[0xff; 16]);
    for (round, bytes) in
        [undecodable.to_bytes(), huge.to_bytes(), second_qos.to_bytes(), garbage].into_iter().enumerate()
    {
        device.cloud.write(bytes).await;
        device.wait_until_ready().await;
        let id = format!("next-{round}");
        device.send(&format!("count/{id}"), "").await;
        device.answer(&id, 200).await;
        let ends = log.count("not connected: undecodable packet: ") + log.count("not connected: protocol error: ");
        assert_eq!(ends, round + 1, "{}", log.text());
    }
    assert_eq!(device.counted().len(), 5, "{:?}", device.counted());
    device.stop().await;
}
