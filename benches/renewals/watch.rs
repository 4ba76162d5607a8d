//! What the cloud can say of one device: how long it was away at each renewal, how often it has logged in, and what it
//! did wrong.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use twinagent::bridge::{Cloud, DeviceName};

use crate::figures::Times;
use crate::site::LIFETIME;

/// The cloud is asked so often whether a command could be sent; no gap is known better than that.
const EVERY: Duration = Duration::from_millis(5);
/// Nobody renews before this share of a life, so nobody looks.
const AT_REST: Duration = Duration::from_millis(7 * LIFETIME.as_secs() * 100);
/// How often the cloud is asked for complaints. It keeps the last one.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) gaps: Times,
    /// A connection was closed by the cloud, in its words: an expired token, or another connection of the same device.
    pub(crate) complaints: BTreeSet<String>,
}

pub(crate) type Shared = Rc<RefCell<Seen>>;

/// Watches until it is dropped.
pub(crate) async fn gaps(cloud: Cloud, device: DeviceName, seen: Shared) {
    loop {
        let ready = || async { cloud.takes_commands(&device).await.expect("the device") };
        while ready().await {
            sleep(EVERY).await;
        }
        let gone = Instant::now();
        while !ready().await {
            sleep(EVERY).await;
        }
        seen.borrow_mut().gaps.push(gone.elapsed());
        sleep(AT_REST).await;
    }
}

pub(crate) async fn complaints(cloud: Cloud, device: DeviceName, seen: Shared) {
    loop {
        let resource = cloud.device(&device).await.expect("the device");
        if let (Some(time), Some(status)) = (resource["lastErrorTime"].as_str(), resource.get("lastErrorStatus")) {
            seen.borrow_mut().complaints.insert(format!("{time} {}: {}", device.device, status["message"]));
        }
        sleep(LOOK_EVERY).await;
    }
}
