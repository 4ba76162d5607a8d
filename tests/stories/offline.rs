//! A story of a long time without a cloud, in short: programs on the device go on, memory and disk do not grow, and then
//! the cloud is told what it missed.
//!
//! A week of it is lived by the model alone, in `tests/model_decisions`.

#![allow(clippy::disallowed_methods, reason = "the story measures how long things take")]
#![allow(clippy::print_stdout, reason = "the figures are what the story shows")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use twinagent::local::client::{Client, Wait};
use twinagent::model::telemetry::MESSAGES;

use crate::both::on_both_clouds;
use crate::cloud::{Heard, Kind};
use crate::device::{Device, Setup};
use crate::hostile::flood::memory;
use crate::process::Process;
use crate::program::status;

on_both_clouds! {
    a_cloud_that_is_away_costs_neither_memory_nor_disk_and_is_told_everything_once_it_is_back,
}

/// How long the cloud is away.
const AWAY: Duration = Duration::from_secs(20);

/// Of telemetry: more than a device on a bad network would ever have, which is the point.
const PAYLOAD: usize = 2 * 1024;

/// The most by which memory may grow from the time when all queues have had their fill, in KiB.
const MORE_MEMORY: u64 = 4 * 1024;

/// The journal is made small again when it has grown by 256 KiB.
const JOURNAL: u64 = 2 * 1024 * 1024;

/// Programs on the device that send telemetry and run commands, until told to stop. How many of each there were.
fn programs(folder: &Path, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<(usize, usize)> {
    let (folder, stop) = (folder.to_owned(), stop.clone());
    std::thread::spawn(move || {
        let mut client = Client::connect(&folder).expect("the daemon listens");
        let (mut sent, mut ran) = (0, 0);
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..20 {
                let mut data = format!("{sent} ").into_bytes();
                data.resize(PAYLOAD, b'.');
                let telemetry = json!({ "subfolder": "load", "data": STANDARD.encode(data) });
                client.call("SendTelemetry", &telemetry, Wait::Short).expect("it is taken");
                sent += 1;
            }
            let command = json!({ "method": "count", "payload": { "n": ran }, "id": format!("local-{ran}") });
            let answer = client.call("Invoke", &command, Wait::Disk).expect("an answer");
            assert_eq!(answer["status"], 200, "{answer:?}");
            ran += 1;
            std::thread::sleep(Duration::from_millis(10));
        }
        (sent, ran)
    })
}

async fn a_cloud_that_is_away_costs_neither_memory_nor_disk_and_is_told_everything_once_it_is_back(kind: Kind) {
    let config = "[session]\nbackoff_max = \"5s\"\n";
    let mut device = Device::new(Setup { answers: "events", config, ..Setup::on(kind) }).await;
    let process = Process::online(&mut device).await;
    // These end while the cloud is away, however long it takes to send them.
    for n in 0..8 {
        device.send(&format!("count/owed-{n}"), r#"{"sleepMillis":10000}"#).await;
    }
    device.lose_cloud().await;
    let stop = Arc::new(AtomicBool::new(false));
    let programs = programs(&device.path("run"), &stop);
    let journal = || std::fs::metadata(device.path("state/journal")).expect("the journal").len();
    let (began, mut figures) = (Instant::now(), Vec::new());
    while began.elapsed() < AWAY {
        tokio::time::sleep(AWAY / 10).await;
        figures.push((memory(&process, "VmRSS"), journal()));
    }
    stop.store(true, Ordering::Relaxed);
    let (sent, ran) = programs.join().expect("each call was answered");
    let away = status(&device, |_| true).await;
    println!(
        "away for {AWAY:?}, {sent} messages of telemetry, {ran} local commands; memory in KiB and journal in bytes:"
    );
    println!("{figures:?}");
    println!("telemetry: {}, commands: {}", away["telemetry"], away["commands"]);
    let (waiting, dropped) = (away["telemetry"]["waiting"].as_u64(), away["telemetry"]["dropped"].as_u64());
    assert_eq!(waiting, u64::try_from(MESSAGES).ok());
    assert_eq!(dropped, u64::try_from(sent - MESSAGES).ok());
    assert_eq!(away["commands"]["untold"], 8, "what is owed to the cloud is kept");
    let full = figures[figures.len() / 2].0;
    assert!(figures.iter().all(|(memory, _)| memory.saturating_sub(full) <= MORE_MEMORY), "{figures:?}");
    assert!(figures.iter().all(|(_, journal)| *journal <= JOURNAL), "{figures:?}");

    device.restore_cloud().await;
    let mut ear = device.cloud.ear().await;
    device.wait_until_ready().await;
    let telemetry = device.telemetry(MESSAGES).await;
    let numbers: Vec<usize> = telemetry
        .iter()
        .map(|(_, payload)| {
            let text = std::str::from_utf8(payload).expect("text");
            text.split_once(' ').expect("a number first").0.parse().expect("a number")
        })
        .collect();
    assert_eq!(numbers, (sent - MESSAGES..sent).collect::<Vec<_>>(), "the newest, in order, each once");
    for n in 0..8 {
        device.answer(&format!("owed-{n}"), 200).await;
    }
    device.hear_until_quiet(Duration::from_secs(1)).await;
    assert_eq!(device.statuses(), [(200, 8)].into(), "what ran for local programs is none of the cloud's business");
    assert_eq!(device.telemetry(0).await.len(), MESSAGES, "nothing came twice");
    if kind == Kind::IotCore {
        let order = ear.backlog().into_iter().filter(|heard| !matches!(heard, Heard::Reported(_)));
        let order: Vec<bool> = order.map(|heard| matches!(heard, Heard::Answer(_))).collect();
        assert_eq!(order.iter().rposition(|is_answer| *is_answer), Some(7), "answers first");
    }
    let counted = device.counted();
    assert_eq!(counted.len(), 8 + ran);
    assert!(counted.values().all(|times| *times == 1), "each ran once");
    process.stop().await;
}
