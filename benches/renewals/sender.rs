//! Who sends the commands, and what becomes of them: each is sent until the device has acknowledged it, under one id.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};
use twinagent::bridge::{Canonical, Cloud, DeviceName, Telemetry};

/// Between two commands to one device.
const EVERY: Duration = Duration::from_secs(1);
/// Before a command is sent again.
const AGAIN: Duration = Duration::from_millis(20);

/// What is known of the commands to all devices of one kind.
#[derive(Default)]
pub(crate) struct Books {
    /// The moment of the first try, by id.
    pub(crate) begun: HashMap<String, Instant>,
    /// From the first try to the first answer.
    pub(crate) answered: HashMap<String, Duration>,
    /// Commands that the cloud did not take at once, since the device was away for a moment.
    pub(crate) refused: usize,
    /// Commands whose acknowledgement was cut off, so that nobody knew whether they had arrived.
    pub(crate) cut: usize,
}

pub(crate) type Shared = Rc<RefCell<Books>>;

/// Sends commands to this device, a new one before the one before is acknowledged, until it is dropped.
pub(crate) async fn send(cloud: Cloud, device: DeviceName, books: Shared, offset: Duration) {
    sleep(offset).await;
    for number in 0_u32.. {
        let id = format!("{}-{number}", device.device);
        books.borrow_mut().begun.insert(id.clone(), Instant::now());
        spawn_local(one(cloud.clone(), device.clone(), books.clone(), id));
        sleep(EVERY).await;
    }
}

async fn one(cloud: Cloud, device: DeviceName, books: Shared, id: String) {
    let (mut refused, mut cut) = (false, false);
    loop {
        match cloud.send_command(&device, &format!("count/{id}"), "{}").await {
            Ok(()) => break,
            Err(error) if error.status == Canonical::FailedPrecondition => refused = true,
            Err(error) if error.status == Canonical::DeadlineExceeded => cut = true,
            Err(error) => panic!("{device}: {error}"),
        }
        sleep(AGAIN).await;
    }
    let mut books = books.borrow_mut();
    books.refused += usize::from(refused);
    books.cut += usize::from(cut);
}

/// Files each answer where its command stands.
pub(crate) async fn hear(mut answers: mpsc::Receiver<Telemetry>, kinds: Vec<Shared>) {
    while let Some(event) = answers.recv().await {
        let answer: Value = serde_json::from_slice(&event.payload).expect("an answer is JSON");
        let (Some(id), 200) = (answer["id"].as_str(), answer["status"].as_u64().unwrap_or(0)) else { continue };
        for books in &kinds {
            let mut books = books.borrow_mut();
            if let Some(begun) = books.begun.get(id).copied() {
                books.answered.entry(id.to_owned()).or_insert_with(|| begun.elapsed());
            }
        }
    }
    panic!("the tap is read too slowly");
}

impl Books {
    /// Commands that were sent, until their device acknowledged them, and never answered.
    pub(crate) fn lost(&self) -> usize {
        self.begun.len() - self.answered.len()
    }
}
