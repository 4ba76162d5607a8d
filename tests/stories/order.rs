//! The order of disk and wire, proved from outside by the system calls of the daemon: on disk before it is acknowledged,
//! its end on disk before it is told, and not one sync more than the promise takes.

use std::time::Duration;

use rumqttc::mqttbytes::v4::Packet;

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, Setup};
use crate::process::Process;
use crate::strace::{Call, Strace, packets};

on_both_clouds! {
    a_daemon_with_nothing_to_record_writes_nothing,
}

fn syncs(calls: &[Call]) -> usize {
    calls.iter().filter(|call| call.is_sync()).count()
}

/// The call that wrote a line with all these texts to the journal, and the first sync that began after it.
fn on_disk<'a>(calls: &'a [Call], texts: &[&str]) -> (&'a Call, &'a Call) {
    let written = calls
        .iter()
        .find(|call| call.file.ends_with("/state/journal") && texts.iter().all(|text| call.contains(text)))
        .unwrap_or_else(|| panic!("{texts:?} is not written in {calls:#?}"));
    let synced = calls
        .iter()
        .find(|call| call.begin > written.end && call.is_sync() && call.file == written.file)
        .unwrap_or_else(|| panic!("{texts:?} is not synced in {calls:#?}"));
    (written, synced)
}

/// The call that published a message with all these texts.
fn published<'a>(calls: &'a [Call], texts: &[&str]) -> &'a Call {
    let found = packets(calls).into_iter().find(|(_, packet)| match packet {
        Packet::Publish(message) => {
            let payload = String::from_utf8_lossy(&message.payload);
            texts.iter().all(|text| payload.contains(text))
        }
        _ => false,
    });
    found.unwrap_or_else(|| panic!("{texts:?} is not published in {calls:#?}")).0
}

/// The call that held the first PUBACK; others follow if the configuration comes again.
fn acknowledged(calls: &[Call]) -> &Call {
    let first = packets(calls).into_iter().find(|(_, packet)| matches!(packet, Packet::PubAck(_)));
    first.expect("a PUBACK").0
}

#[tokio::test]
async fn a_recorded_command_is_on_disk_before_it_is_acknowledged_and_its_end_before_it_is_told() {
    for &answers in Kind::IotCore.roads() {
        let mut device = Device::new(Setup { answers, ..Setup::on(Kind::IotCore) }).await;
        let process = Process::online(&mut device).await;
        // Whatever a start writes is behind us.
        device.send("count/first", "").await;
        device.answer("first", 200).await;

        let strace = Strace::watch(&device, &process).await;
        device.send("count/o-1", "").await;
        device.answer("o-1", 200).await;
        let calls = strace.end().await;
        let (_, accepted) = on_disk(&calls, &["\"accepted\"", "\"o-1\""]);
        assert!(accepted.end < acknowledged(&calls).begin, "{answers}: {calls:#?}");
        let run = calls.iter().find(|call| call.file.ends_with("/counted")).expect("it ran");
        assert!(accepted.end < run.begin, "{answers}: {calls:#?}");
        let (finished_line, finished) = on_disk(&calls, &["\"finished\"", "\"o-1\""]);
        assert!(run.end < finished_line.begin, "{answers}: {calls:#?}");
        assert!(finished.end < published(&calls, &["\"o-1\"", "\"counted\""]).begin, "{answers}: {calls:#?}");
        assert_eq!(syncs(&calls), 2, "{answers}: {calls:#?}");
        process.stop().await;
    }
}

#[tokio::test]
async fn a_simulated_reboot_takes_three_syncs() {
    let config = "[reboot]\nmode = \"simulate\"\nsimulate_for = \"500ms\"\ngrace = \"200ms\"\nmin_interval = \"0s\"\n";
    let mut device = Device::new(Setup { answers: "events", config, ..Setup::on(Kind::IotCore) }).await;
    let process = Process::online(&mut device).await;
    device.send("count/first", "").await;
    device.answer("first", 200).await;

    let strace = Strace::watch(&device, &process).await;
    device.send("rebootDevice/r-1", "").await;
    device.answer("r-1", 200).await;
    let calls = strace.end().await;
    let (_, accepted) = on_disk(&calls, &["\"accepted\"", "\"r-1\""]);
    let told = published(&calls, &["\"r-1\"", "202"]);
    let (started_line, started) = on_disk(&calls, &["\"started\"", "\"r-1\""]);
    let (finished_line, finished) = on_disk(&calls, &["\"finished\"", "\"r-1\""]);
    assert!(accepted.end < acknowledged(&calls).begin && accepted.end < told.begin, "{calls:#?}");
    assert!(told.end < started_line.begin && started.end < finished_line.begin, "{calls:#?}");
    assert!(finished.end < published(&calls, &["\"r-1\"", "\"completed\""]).begin, "{calls:#?}");
    assert_eq!(syncs(&calls), 3, "{calls:#?}");
    process.stop().await;
}

async fn a_daemon_with_nothing_to_record_writes_nothing(kind: Kind) {
    let mut device = Device::new(Setup { answers: "events", ..Setup::on(kind) }).await;
    let process = Process::online(&mut device).await;
    device.send("count/first", "").await;
    device.answer("first", 200).await;
    // That it was told is noted as well, without haste.
    device.send("echo/before", "").await;
    device.answer("before", 200).await;

    let strace = Strace::watch(&device, &process).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    device.send("echo/e-1", "").await;
    device.answer("e-1", 200).await;
    let calls = strace.end().await;
    if kind == Kind::IotCore {
        // Where there is TLS, nobody sees it from outside.
        published(&calls, &["\"e-1\""]);
    }
    let state = device.path("state").display().to_string();
    let on_state: Vec<&Call> =
        calls.iter().filter(|call| call.file.starts_with(&state) || call.contains(&state)).collect();
    assert!(on_state.is_empty() && syncs(&calls) == 0, "{on_state:#?}");
    process.stop().await;
}
