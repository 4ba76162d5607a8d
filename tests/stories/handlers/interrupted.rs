//! Stories of a daemon that ends in the middle of a program's run. The program counts its runs in a file, which nobody
//! takes back.

use std::fs;

use serde_json::Value;

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, Setup};
use crate::process::Process;
use crate::program::json;
use crate::workshop::{HELD, Made, Workshop};

on_both_clouds! {
    killed_in_the_middle_it_is_answered_once_and_never_run_again,
    told_to_stop_it_waits_and_what_ends_in_time_is_answered_as_it_ended,
    told_to_stop_it_does_not_wait_for_ever_and_says_what_was_interrupted,
    a_serial_program_is_alone_over_the_end_of_the_daemon_too,
}

/// A recorded method, and one that may be lost.
const METHODS: [Made<'static>; 2] =
    [("work", "time_limit = \"1m\"\n", HELD), ("look", "harmless = true\ntime_limit = \"1m\"\n", HELD)];

async fn begun(kind: Kind) -> (Device, Workshop, Process) {
    let mut device = Device::new(Setup { answers: "events", ..Setup::on(kind) }).await;
    let mut workshop = Workshop::beside(&device, &METHODS);
    workshop.start(&device);
    let process = Process::online(&mut device).await;
    device.send("work/w-1", "").await;
    device.send("look/l-1", "").await;
    workshop.wait_for_runs("work", 1).await;
    workshop.wait_for_runs("look", 1).await;
    (device, workshop, process)
}

/// The answers to this command that are outcomes, once one of them is there and others could be.
async fn outcomes(device: &mut Device, id: &str, status: u16) -> Vec<Value> {
    device.answer(id, status).await;
    let last = format!("after-{id}");
    device.send(&format!("echo/{last}"), "").await;
    device.answer(&last, 200).await;
    device.answers_to(id).into_iter().filter(|answer| answer["status"] != 202).collect()
}

async fn killed_in_the_middle_it_is_answered_once_and_never_run_again(kind: Kind) {
    let (mut device, mut workshop, process) = begun(kind).await;
    process.kill().await;
    let process = Process::online(&mut device).await;
    let told = outcomes(&mut device, "w-1", 500).await;
    assert!(told.len() == 1 && told[0]["payload"]["interrupted"] == true, "{told:#?}");
    device.send("work/w-1", "").await;
    assert_eq!(outcomes(&mut device, "w-1", 500).await, told);
    assert_eq!(workshop.runs("work"), ["w-1"]);
    // The harmless one is nobody's any more, and may be asked for again.
    assert_eq!(device.answers_to("l-1"), [] as [Value; 0]);
    workshop.let_go();
    device.send("look/l-1", "").await;
    device.send("work/w-2", "").await;
    device.answer("l-1", 200).await;
    device.answer("w-2", 200).await;
    assert_eq!((workshop.runs("work").len(), workshop.runs("look").len()), (2, 2));
    process.kill().await;

    // A device that has lost its journal does run it again: the notes would show it.
    fs::remove_file(device.path("state/journal")).expect("the journal");
    let process = Process::online(&mut device).await;
    device.send("work/w-1", "").await;
    workshop.wait_for_runs("work", 3).await;
    process.stop().await;
    workshop.stop().await;
}

async fn told_to_stop_it_waits_and_what_ends_in_time_is_answered_as_it_ended(kind: Kind) {
    let (mut device, mut workshop, process) = begun(kind).await;
    process.terminate();
    // It refuses what is new, and what runs may end.
    crate::process::logged(&device, "stopping").await;
    workshop.let_go();
    let status = process.end().await;
    assert!(status.success(), "{status}");
    let process = Process::online(&mut device).await;
    let told = outcomes(&mut device, "w-1", 200).await;
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(workshop.runs("work"), ["w-1"]);
    process.stop().await;
    workshop.stop().await;
}

async fn told_to_stop_it_does_not_wait_for_ever_and_says_what_was_interrupted(kind: Kind) {
    let (mut device, mut workshop, process) = begun(kind).await;
    process.stop().await;
    let process = Process::online(&mut device).await;
    let told = outcomes(&mut device, "w-1", 500).await;
    assert!(told.len() == 1 && told[0]["payload"]["interrupted"] == true, "{told:#?}");
    assert_eq!(workshop.runs("work"), ["w-1"]);
    // The story of it can be read on the machine, too.
    let history = json(&device, &["history", "--json", "w-1"]).await;
    assert!(history.to_string().contains("interrupted"), "{history}");
    process.stop().await;
    workshop.stop().await;
}

/// The first run is still putting things in order when the next daemon is there.
async fn a_serial_program_is_alone_over_the_end_of_the_daemon_too(kind: Kind) {
    let script = format!(
        "mkdir \"$notes/alone\" || echo \"$TWINAGENT_COMMAND_ID\" >>\"$notes/beside\"\n\
         trap 'sleep 2; rmdir \"$notes/alone\"; exit 1' TERM\n\
         [ \"$TWINAGENT_COMMAND_ID\" = w-1 ] && touch \"$notes/begun\"\n\
         {HELD}rmdir \"$notes/alone\"\n"
    );
    let mut device = Device::new(Setup { answers: "events", ..Setup::on(kind) }).await;
    let mut workshop = Workshop::beside(&device, &[("work", "time_limit = \"1m\"\ngrace = \"20s\"\n", &script)]);
    workshop.start(&device);
    let process = Process::online(&mut device).await;
    device.send("work/w-1", "").await;
    workshop.wait_for("begun").await;
    process.kill().await;
    let process = Process::online(&mut device).await;
    device.send("work/w-2", "").await;
    workshop.wait_for_runs("work", 2).await;
    workshop.let_go();
    device.answer("w-2", 200).await;
    assert_eq!(workshop.notes("beside"), "", "they ran beside each other");
    process.stop().await;
    workshop.stop().await;
}
