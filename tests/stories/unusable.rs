//! A journal that cannot be used when the daemon starts: left alone and said so, while the device stays in reach.

use std::path::Path;

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, Setup};
use crate::process::{Process, log};

on_both_clouds! {
    a_journal_damaged_in_the_middle_is_left_alone,
    a_journal_of_a_newer_format_is_left_alone,
    a_torn_end_of_the_journal_is_cut_off,
}

/// A device with a journal in which some commands stand, and whose daemon does not run.
async fn with_a_past(kind: Kind) -> Device {
    let mut device = Device::new(Setup { answers: "events", ..Setup::on(kind) }).await;
    let process = Process::online(&mut device).await;
    for id in ["a", "b", "c"] {
        device.send(&format!("count/{id}"), "").await;
        device.answer(id, 200).await;
    }
    process.stop().await;
    device
}

fn read(file: &Path) -> Vec<u8> {
    std::fs::read(file).expect("the journal")
}

/// Harmless methods work, recorded ones are refused with this reason, and the journal stays as it is.
async fn is_refused_and_left_alone(mut device: Device, reason: &str) {
    let file = device.path("state/journal");
    let before = read(&file);
    for round in 0..2 {
        let process = Process::online(&mut device).await;
        device.send(&format!("echo/e-{round}"), "").await;
        device.answer(&format!("e-{round}"), 200).await;
        for id in [format!("new-{round}"), "a".to_owned()] {
            device.send(&format!("count/{id}"), "").await;
            let refused = device.answer(&id, 503).await;
            let why = refused["payload"]["error"].as_str().expect("a reason");
            assert!(why.contains(reason) && why.contains(&*file.to_string_lossy()), "{why}");
        }
        assert_eq!(read(&file), before, "while it runs");
        match round {
            0 => process.stop().await,
            _ => process.kill().await,
        }
        assert_eq!(read(&file), before, "after it ran");
    }
    assert_eq!(log(&device).lines().filter(|line| line.contains(" ERROR ") && line.contains(reason)).count(), 2);

    std::fs::rename(&file, device.path("journal.moved")).expect("moved away");
    let process = Process::online(&mut device).await;
    device.send("count/anew", "").await;
    device.answer("anew", 200).await;
    process.stop().await;
    assert_eq!(read(&device.path("journal.moved")), before);
    assert_eq!(device.counted(), ["a", "b", "c", "anew"].map(|id| (id.to_owned(), 1)).into());
}

async fn a_journal_damaged_in_the_middle_is_left_alone(kind: Kind) {
    let device = with_a_past(kind).await;
    let file = device.path("state/journal");
    let mut bytes = read(&file);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("damaged");
    is_refused_and_left_alone(device, "damaged at byte ").await;
}

async fn a_journal_of_a_newer_format_is_left_alone(kind: Kind) {
    let device = with_a_past(kind).await;
    let file = device.path("state/journal");
    let text = String::from_utf8(read(&file)).expect("text");
    let newer = text.replacen("twinagent journal 1 ", "twinagent journal 2 ", 1);
    assert_ne!(newer, text);
    std::fs::write(&file, newer).expect("changed");
    is_refused_and_left_alone(device, "format 2").await;
}

async fn a_torn_end_of_the_journal_is_cut_off(kind: Kind) {
    let mut device = with_a_past(kind).await;
    let file = device.path("state/journal");
    let whole = read(&file);
    let torn = [&whole[..], &[0; 700], b"\n8c2f1a3e 0 {\"record\":\"acc"].concat();
    std::fs::write(&file, torn).expect("torn");
    let process = Process::online(&mut device).await;
    let after = read(&file);
    let begun = after.strip_prefix(&whole[..]).expect("what was whole is left alone");
    let begun = std::str::from_utf8(begun).expect("nothing of what was torn");
    assert!(begun.lines().count() == 1 && begun.contains(r#"{"record":"began""#), "{begun}");
    device.send("count/a", "").await;
    device.send("count/d", "").await;
    device.answer("d", 200).await;
    process.stop().await;
    assert!(log(&device).contains("cut off an end of the journal"), "{}", log(&device));
    assert_eq!(device.counted(), ["a", "b", "c", "d"].map(|id| (id.to_owned(), 1)).into());
    assert_eq!(read(&file)[..whole.len()], whole);
}
