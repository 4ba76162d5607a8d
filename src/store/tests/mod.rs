//! Stories about the store: `lines` on bytes alone, `files`, `last_good`, `farewell`, `assignment` and `machine` on real files, `faults` on disks that fail,
//! `power` on a disk that loses its power; `script` is what the last two run.

mod assignment;
mod farewell;
mod faults;
mod files;
mod last_good;
mod lines;
mod machine;
mod power;
mod script;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::model::command::{CommandId, DeviceId, Key, Method, Outcome, Status};
use crate::model::digest::Digest;
use crate::model::now::{BootId, Timestamp};
use crate::model::record::{Record, Told};
use crate::store::{Journal, StateDir, scan};

const BOOT: &str = "7c1a0f0e-3c5b-4d0a-9c41-2f4f5b8e8a10";

fn boot_id() -> BootId {
    BOOT.parse().expect("a UUID")
}

fn at() -> Timestamp {
    "2026-11-21T04:00:07.12Z".parse().expect("RFC 3339")
}

fn key(number: u32) -> Key {
    Key { target: DeviceId::parse("gw-1").expect("an id"), id: CommandId::parse(&number.to_string()).expect("an id") }
}

fn boot() -> Record {
    Record::Boot { id: boot_id(), time: at(), at: at(), doubtful: false, clean: None }
}

fn accepted_with(number: u32, payload: Value) -> Record {
    let method = Method::parse("count").expect("a name");
    Record::Accepted {
        key: key(number),
        digest: Digest::of_command(&method, &payload),
        method,
        payload,
        derived: false,
        local: false,
        reply_to: None,
        expires: None,
        started: true,
        boot: boot_id(),
        at: at(),
        up: None,
        doubtful: false,
    }
}

fn accepted(number: u32) -> Record {
    accepted_with(number, json!({ "step": number }))
}

fn finished(number: u32) -> Record {
    Record::Finished { key: key(number), outcome: Outcome::new(Status::DONE, json!("done")), at: at(), doubt: None }
}

fn told(number: u32) -> Record {
    Record::Told { key: key(number), what: Told::Outcome, ran: None }
}

fn open(path: &Path) -> (Journal, Vec<Record>) {
    Journal::open(&StateDir::lock(path).expect("the lock")).expect("a journal")
}

/// What a restart would find now.
fn found(path: &Path) -> Vec<Record> {
    scan(&fs::read(path.join("journal")).expect("the journal")).expect("a sound journal").records
}
