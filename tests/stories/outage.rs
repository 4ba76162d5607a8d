//! Stories of what is lost on the way: the cloud, its acknowledgements, half a packet, a session.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use twinagent::bridge::{Canonical, Fault, Telemetry, Times};

use crate::device::{Device, PATIENCE, Setup};
use crate::log::Log;

/// The answers to this command among those that the tap holds.
fn arrived(tap: &mut mpsc::Receiver<Telemetry>, id: &str) -> Vec<Value> {
    let mut answers = Vec::new();
    while let Ok(event) = tap.try_recv() {
        let answer: Value = serde_json::from_slice(&event.payload).expect("a JSON answer");
        if answer["id"] == id {
            answers.push(answer);
        }
    }
    answers
}

#[tokio::test]
async fn the_cloud_goes_away_and_comes_back() {
    let log = Log::listen();
    let mut device = Device::online(Setup::default()).await;
    device.send("count/before", "").await;
    device.answer("before", 200).await;
    device.lose_cloud().await;
    // Its end, and a few tries with a growing pause between them.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let failed = log.count("not connected: ");
    assert!((1..=8).contains(&failed), "{}", log.text());
    device.restore_cloud().await;
    device.wait_until_ready().await;
    device.send("count/before", "").await;
    device.send("count/after", "").await;
    device.answer("after", 200).await;
    device.cloud.set_config(&device.name, "{}").await.expect("a configuration");
    device.twin(|twin| twin["desired"]["status"] == 200).await;
    assert_eq!(device.counted(), [("before".to_owned(), 1), ("after".to_owned(), 1)].into());
    assert_eq!(device.logins().await, 1);
    device.stop().await;
}

#[tokio::test]
async fn an_answer_that_was_not_acknowledged_is_told_again_and_its_command_not_run_again() {
    // What arrives: twice if only the acknowledgement was lost, once if the answer was; and without a fault, once.
    for (fault, times) in [(Some(Fault::WithholdPubacks), 2), (Some(Fault::LosePublishes), 1), (None, 1)] {
        let mut device = Device::online(Setup { answers: "events", ..Setup::default() }).await;
        let mut tap = device.cloud.telemetry().await.expect("a tap");
        if let Some(fault) = fault.clone() {
            device.bridge.faults().add(&device.name, fault, Times::Always).await.expect("a fault");
        }
        device.send("count/w-1", "").await;
        while device.counted().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Time for the answer to be on its way.
        tokio::time::sleep(Duration::from_millis(500)).await;
        device.cloud.disconnect(&device.name).await.expect("a connection");
        device.bridge.faults().clear(&device.name).await.expect("the device");
        device.wait_until_ready().await;
        device.send("count/w-2", "").await;
        device.answer("w-2", 200).await;

        // Now that it was acknowledged, it is not told any more.
        device.stop().await;
        device.start();
        device.wait_until_ready().await;
        device.send("count/w-3", "").await;
        device.answer("w-3", 200).await;
        let answers = arrived(&mut tap, "w-1");
        assert!(answers.iter().all(|answer| answer["status"] == 200), "{fault:?}: {answers:?}");
        assert_eq!(answers.len(), times, "{fault:?}: {answers:?}");
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{fault:?}: {answers:?}");
        let counted = device.counted();
        assert!(counted.len() == 3 && counted.values().all(|times| *times == 1), "{fault:?}: {counted:?}");
        device.stop().await;
    }
}

#[tokio::test]
async fn a_state_that_was_not_acknowledged_is_sent_again() {
    for fault in [Fault::WithholdPubacks, Fault::LosePublishes] {
        let mut device = Device::online(Setup::default()).await;
        device.bridge.faults().add(&device.name, fault.clone(), Times::Always).await.expect("a fault");
        device.send("count/w-1", "").await;
        while device.counted().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        device.cloud.disconnect(&device.name).await.expect("a connection");
        device.bridge.faults().clear(&device.name).await.expect("the device");
        let mut states = device.cloud.state_changes().await.expect("a tap");
        device.wait_until_ready().await;
        let state = tokio::time::timeout(PATIENCE, states.recv()).await.expect("a state").expect("none is missed");
        let document: Value = serde_json::from_slice(&state.payload).expect("a JSON document");
        assert_eq!(document["commands"]["w-1"]["status"], 200, "{fault:?}: {document:#}");
        device.stop().await;
        assert_eq!(device.counted(), [("w-1".to_owned(), 1)].into(), "{fault:?}");
    }
}

#[tokio::test]
async fn what_comes_while_the_device_is_away_is_run_once_where_sessions_are_kept() {
    let mut device = Device::online(Setup { sessions: true, ..Setup::default() }).await;
    device.stop().await;
    device.send("count/away", "").await;
    device.start();
    device.wait_until_ready().await;
    device.answer("away", 200).await;

    // Cut in the middle of the message: the caller waits in vain, the broker sends it again.
    device.bridge.faults().add(&device.name, Fault::CutPublish, Times::Next(1)).await.expect("a fault");
    let cut = device.cloud.send_command(&device.name, "count/cut", "").await;
    assert!(cut.is_ok() || cut.as_ref().is_err_and(|error| error.status == Canonical::DeadlineExceeded), "{cut:?}");
    device.wait_until_ready().await;
    device.answer("cut", 200).await;

    // A session that the broker lost: what it held is gone, what comes then is not.
    device.stop().await;
    device.send("count/forgotten", "").await;
    device.bridge.faults().forget_session(&device.name).await.expect("the device");
    device.start();
    device.wait_until_ready().await;
    device.send("count/then", "").await;
    device.answer("then", 200).await;
    let expected = ["away", "cut", "then"].map(|id| (id.to_owned(), 1));
    assert_eq!(device.counted(), expected.into());
    device.stop().await;
}

#[tokio::test]
async fn without_kept_sessions_a_caller_is_told_that_the_device_is_away() {
    let mut device = Device::online(Setup::default()).await;
    device.stop().await;
    let refused = device.cloud.send_command(&device.name, "count/away", "").await;
    assert!(refused.is_err_and(|error| error.status == Canonical::FailedPrecondition));
    device.start();
    device.wait_until_ready().await;
    device.send("count/then", "").await;
    device.answer("then", 200).await;
    assert_eq!(device.counted(), [("then".to_owned(), 1)].into());
    device.stop().await;
}
