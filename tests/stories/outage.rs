//! Stories of what is lost on the way: the cloud, its acknowledgements, half a packet, a session.

use std::time::Duration;

use twinagent::bridge::{Fault, Times};

use crate::both::on_both_clouds;
use crate::cloud::{Heard, Kind, NotSent};
use crate::device::{Device, PATIENCE, Setup};
use crate::log::Log;
use crate::program::json;

on_both_clouds! {
    the_cloud_goes_away_and_comes_back,
    what_comes_while_the_device_is_away_is_run_once_where_sessions_are_kept,
}

async fn the_cloud_goes_away_and_comes_back(kind: Kind) {
    let log = Log::listen();
    let mut device = Device::online(Setup::on(kind)).await;
    device.send("count/before", "").await;
    device.answer("before", 200).await;
    device.lose_cloud().await;
    // Its end, and a few tries with a growing pause between them.
    log.wait_for("not connected: ").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let failed = log.count("not connected: ");
    assert!((1..=8).contains(&failed), "{}", log.text());
    device.restore_cloud().await;
    device.wait_until_ready().await;
    device.send("count/before", "").await;
    device.send("count/after", "").await;
    device.answer("after", 200).await;
    device.cloud.set_desired("{}").await;
    device.twin(|twin| twin["desired"]["status"] == 200).await;
    assert_eq!(device.counted(), [("before".to_owned(), 1), ("after".to_owned(), 1)].into());
    assert_eq!(device.logins().await, 1);
    device.stop().await;
}

/// Waits until the newest command has ended, and the cloud has or has not acknowledged what was told of it.
async fn has_ended(device: &Device, is_told: bool) {
    let wait = async {
        loop {
            let newest = json(device, &["history", "--json"]).await["commands"][0].clone();
            if newest["state"] == "finished" && newest["told"] == is_told {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it ends");
}

#[tokio::test]
async fn an_answer_that_was_not_acknowledged_is_told_again_and_its_command_not_run_again() {
    // What arrives: twice if only the acknowledgement was lost, once if the answer was; and without a fault, once.
    for (fault, times) in [(Some(Fault::WithholdPubacks), 2), (Some(Fault::LosePublishes), 1), (None, 1)] {
        let mut device = Device::online(Setup { answers: "events", ..Setup::on(Kind::IotCore) }).await;
        let mut ear = device.cloud.ear().await;
        if let Some(fault) = fault.clone() {
            device.cloud.add_fault(fault, Times::Always).await;
        }
        device.send("count/w-1", "").await;
        if times == 2 || fault.is_none() {
            device.answer("w-1", 200).await;
        }
        // Only without a fault does the device know that the cloud has it.
        has_ended(&device, fault.is_none()).await;
        // Time for an answer that is lost to be on its way.
        tokio::time::sleep(Duration::from_millis(500)).await;
        device.cloud.disconnect().await;
        device.cloud.clear_faults().await;
        device.wait_until_ready().await;
        device.send("count/w-2", "").await;
        device.answer("w-2", 200).await;

        // Now that it was acknowledged, it is not told any more.
        device.stop().await;
        device.start();
        device.wait_until_ready().await;
        device.send("count/w-3", "").await;
        device.answer("w-3", 200).await;
        let answers = ear
            .backlog()
            .into_iter()
            .filter_map(|heard| match heard {
                Heard::Answer(answer) if answer["id"] == "w-1" => Some(answer),
                Heard::Answer(_) | Heard::Reported(_) | Heard::Telemetry(..) => None,
            })
            .collect::<Vec<_>>();
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
        let mut device = Device::online(Setup::on(Kind::IotCore)).await;
        device.cloud.add_fault(fault.clone(), Times::Always).await;
        device.send("count/w-1", "").await;
        has_ended(&device, false).await;
        // Time for the state to be on its way.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        device.cloud.disconnect().await;
        device.cloud.clear_faults().await;
        let mut ear = device.cloud.ear().await;
        device.wait_until_ready().await;
        let document = match tokio::time::timeout(PATIENCE, ear.hear()).await.expect("a state") {
            Heard::Reported(document) => document,
            Heard::Answer(_) | Heard::Telemetry(..) => panic!("answers go by the state"),
        };
        assert_eq!(document["commands"]["w-1"]["status"], 200, "{fault:?}: {document:#}");
        device.stop().await;
        assert_eq!(device.counted(), [("w-1".to_owned(), 1)].into(), "{fault:?}");
    }
}

async fn what_comes_while_the_device_is_away_is_run_once_where_sessions_are_kept(kind: Kind) {
    let mut device = Device::online(Setup { sessions: true, ..Setup::on(kind) }).await;
    device.stop().await;
    device.send("count/away", "").await;
    device.start();
    device.wait_until_ready().await;
    device.answer("away", 200).await;

    // Cut in the middle of the message: the caller waits in vain, the broker sends it again.
    device.cloud.add_fault(Fault::CutPublish, Times::Next(1)).await;
    let cut = device.cloud.send("count/cut", "").await;
    assert!([Ok(()), Err(NotSent::NotAcknowledged)].contains(&cut), "{cut:?}");
    device.wait_until_ready().await;
    device.answer("cut", 200).await;

    // A session that the broker lost: what it held is gone, what comes then is not.
    device.stop().await;
    device.send("count/forgotten", "").await;
    device.cloud.forget_session().await;
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
    let mut device = Device::online(Setup::on(Kind::IotCore)).await;
    device.stop().await;
    assert_eq!(device.cloud.send("count/away", "").await, Err(NotSent::Away));
    device.start();
    device.wait_until_ready().await;
    device.send("count/then", "").await;
    device.answer("then", 200).await;
    assert_eq!(device.counted(), [("then".to_owned(), 1)].into());
    device.stop().await;
}
