//! logind over D-Bus (org.freedesktop.login1(5)): may we reboot or power off, who objects, do it, and word of every shutdown.
//!
//! Asks and hands on. What an answer means, the model decides; that the reply to `Reboot` proves nothing, whatever it
//! says, it knows too. Every call has an end: a bus that hangs is one that cannot be reached.

use std::os::fd::OwnedFd;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use zbus::proxy::CacheProperties;
use zbus::{Connection, Proxy, connection};

use crate::model::reboot::facts::Inhibitor;

/// The longest wait for any answer. logind answers within milliseconds; while it starts, within a second or two.
const PATIENCE: Duration = Duration::from_secs(10);
/// Signals that wait to be read. There is one a shutdown.
const QUEUE: usize = 8;

/// Locks that are told; one is enough to hold a shutdown back.
const MOST_LOCKS: usize = 64;
/// The longest name or reason of one, in characters.
const LONGEST_WORD: usize = 200;

const NAME: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const WHO: &str = "twinagent";

/// logind, as long as the bus is there.
#[derive(Clone, Debug)]
pub struct Logind {
    manager: Proxy<'static>,
}

/// What logind says of our right to reboot the machine, or to switch it off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Without being asked anything.
    Yes,
    /// Somebody would have to give a password, or a block inhibitor is held: up to systemd 257 both read the same.
    Challenge,
    No,
    /// This machine cannot do that.
    Impossible,
}

/// A lock by which every shutdown waits for us, `InhibitDelayMaxSec` at most (logind.conf(5): 5 s unless told otherwise).
/// Dropping it lets the shutdown go on.
#[derive(Debug)]
pub struct DelayLock {
    _held: OwnedFd,
}

/// logind did not answer, or not as it is documented to.
#[derive(Debug, thiserror::Error)]
#[error("logind: {0}")]
pub struct BusError(#[from] zbus::Error);

impl Logind {
    /// Connects to the bus at this address (D-Bus Specification, "Server Addresses"). That nobody there is called logind
    /// shows at the first call.
    pub async fn connect(bus: &str) -> Result<Self, BusError> {
        let connecting = connection::Builder::address(bus)?.max_queued(QUEUE).method_timeout(PATIENCE).build();
        let connection = within(connecting).await?;
        Self::on(&connection).await
    }

    async fn on(connection: &Connection) -> Result<Self, BusError> {
        let building = zbus::proxy::Builder::new(connection)
            .destination(NAME)?
            .path(PATH)?
            .interface(MANAGER)?
            .cache_properties(CacheProperties::No)
            .build();
        Ok(Self { manager: within(building).await? })
    }

    /// Whether there is a logind on this bus. One that the bus would start when asked is none yet.
    pub async fn is_there(&self) -> Result<bool, BusError> {
        let (bus, path) = ("org.freedesktop.DBus", "/org/freedesktop/DBus");
        let asking = self.manager.connection().call_method(Some(bus), path, Some(bus), "NameHasOwner", &NAME);
        Ok(within(asking).await?.body().deserialize()?)
    }

    /// Whether we may reboot the machine, as polkit and the inhibitors stand now.
    pub async fn can_reboot(&self) -> Result<Right, BusError> {
        self.right("CanReboot").await
    }

    /// The same for switching it off.
    pub async fn can_power_off(&self) -> Result<Right, BusError> {
        self.right("CanPowerOff").await
    }

    async fn right(&self, question: &str) -> Result<Right, BusError> {
        let answer: String = self.manager.call(question, &()).await?;
        Ok(match answer.as_str() {
            "yes" => Right::Yes,
            "challenge" | "inhibitor-blocked" | "challenge-inhibitor-blocked" => Right::Challenge,
            "na" => Right::Impossible,
            // Also what a later logind may say: what is not understood is no right.
            _ => Right::No,
        })
    }

    /// Asks for the reboot, without a dialogue. Neither `Ok` nor an error says whether it comes.
    pub async fn reboot(&self) -> Result<(), BusError> {
        Ok(self.manager.call("Reboot", &(false,)).await?)
    }

    /// Asks for the machine to be switched off, as [`Self::reboot`] does.
    pub async fn power_off(&self) -> Result<(), BusError> {
        Ok(self.manager.call("PowerOff", &(false,)).await?)
    }

    /// Who holds a block inhibitor on shutdowns, 64 of them at most. Their words come from any program of the machine, and
    /// are cut to 200 characters.
    pub async fn inhibitors(&self) -> Result<Vec<Inhibitor>, BusError> {
        type Entry = (String, String, String, String, u32, u32);
        let all: Vec<Entry> = self.manager.call("ListInhibitors", &()).await?;
        let objects =
            |(what, _, _, mode, _, _): &Entry| mode.starts_with("block") && what.split(':').any(|of| of == "shutdown");
        let blocks = all.into_iter().filter(objects).take(MOST_LOCKS);
        Ok(blocks.map(|(_, who, why, ..)| Inhibitor { who: cut(who), why: cut(why) }).collect())
    }

    /// From now on shutdowns wait until we drop this.
    pub async fn delay(&self) -> Result<DelayLock, BusError> {
        let why = "tells the cloud that this machine goes down";
        let held: zbus::zvariant::OwnedFd = self.manager.call("Inhibit", &("shutdown", WHO, why, "delay")).await?;
        Ok(DelayLock { _held: held.into() })
    }

    /// Whether a shutdown has begun.
    pub async fn is_shutting_down(&self) -> Result<bool, BusError> {
        Ok(within(self.manager.get_property("PreparingForShutdown")).await?)
    }

    /// `true` when a shutdown begins, `false` if it was given up. Ends with the connection to the bus.
    pub async fn shutdowns(&self) -> Result<impl Stream<Item = bool> + Unpin + Send + use<>, BusError> {
        let signals = within(self.manager.receive_signal("PrepareForShutdown")).await?;
        Ok(signals.filter_map(|signal| std::future::ready(signal.body().deserialize().ok())))
    }
}

fn cut(text: String) -> String {
    match text.char_indices().nth(LONGEST_WORD) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    }
}

async fn within<T>(work: impl Future<Output = zbus::Result<T>>) -> zbus::Result<T> {
    let late = || zbus::Error::Failure(format!("no answer within {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(late()))
}

#[cfg(test)]
mod tests;
