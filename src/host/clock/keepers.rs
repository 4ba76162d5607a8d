//! Those who keep the wall clock right, and what they say: systemd-timesyncd by its flag file, and the kernel's own flag by
//! way of systemd-timedated, which covers chrony and ntpd too.
//!
//! The kernel is not asked directly: adjtimex(2) is kept from the daemon by its unit (`ProtectClock`). Every question has an
//! end, and no answer is one too.

use std::path::{Path, PathBuf};
use std::time::Duration;

use zbus::connection;
use zbus::zvariant::OwnedValue;

/// The longest wait for an answer. Where timedated must be started first, it takes a second.
const PATIENCE: Duration = Duration::from_secs(5);

const NAME: &str = "org.freedesktop.timedate1";
const PATH: &str = "/org/freedesktop/timedate1";

/// What is said of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It was synchronized in this boot.
    Synchronized,
    /// It was not, so far.
    Unsynchronized,
    /// Nobody who could know was reached.
    Nothing,
}

/// Where the keepers are to be found.
#[derive(Clone, Debug)]
pub struct Keepers {
    flag: PathBuf,
    bus: String,
}

impl Keepers {
    /// Those of the machine whose agent has this runtime folder, usually `/run/twinagent`: everything else of systemd's
    /// lies beside it. `bus`: the address of the system bus.
    pub fn beside(runtime: &Path, bus: &str) -> Self {
        let run = runtime.parent().unwrap_or(runtime);
        Self { flag: run.join("systemd/timesync/synchronized"), bus: bus.to_owned() }
    }

    /// The file that systemd-timesyncd makes once it has set the clock (systemd-timesyncd.service(8)).
    pub fn flag(&self) -> &Path {
        &self.flag
    }

    /// Asks them. Takes a few seconds at most.
    pub async fn ask(self) -> Word {
        if self.flag.exists() {
            return Word::Synchronized;
        }
        match tokio::time::timeout(PATIENCE, self.timedated()).await {
            Ok(Ok(true)) => Word::Synchronized,
            Ok(Ok(false)) => Word::Unsynchronized,
            Ok(Err(error)) => {
                tracing::debug!("timedated does not say whether the clock is synchronized: {error}");
                Word::Nothing
            }
            Err(_) => {
                tracing::debug!("timedated does not say in time whether the clock is synchronized");
                Word::Nothing
            }
        }
    }

    /// `NTPSynchronized`: whether the kernel's flag `STA_UNSYNC` is off (org.freedesktop.timedate1(5)).
    async fn timedated(&self) -> zbus::Result<bool> {
        let bus = connection::Builder::address(self.bus.as_str())?.build().await?;
        let get = Some("org.freedesktop.DBus.Properties");
        let answer = bus.call_method(Some(NAME), PATH, get, "Get", &(NAME, "NTPSynchronized")).await?;
        let value: OwnedValue = answer.body().deserialize()?;
        Ok(bool::try_from(value)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake_logind::Bus;

    /// What timedated says.
    struct Timedated(bool);

    #[zbus::interface(name = "org.freedesktop.timedate1")]
    impl Timedated {
        #[zbus(property, name = "NTPSynchronized")]
        fn ntp_synchronized(&self) -> bool {
            self.0
        }
    }

    async fn timedated(bus: &Bus, says: bool) -> zbus::Connection {
        let builder = connection::Builder::address(bus.address().as_str()).expect("an address");
        let builder = builder.name(NAME).expect("a name").serve_at(PATH, Timedated(says)).expect("a path");
        builder.build().await.expect("the bus answers")
    }

    #[tokio::test]
    async fn the_flag_file_is_enough_else_timedated_is_asked_and_silence_is_an_answer() {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = folder.path().join("twinagent");
        let bus = Bus::start();
        let keepers = Keepers::beside(&runtime, &bus.address());
        assert_eq!(keepers.clone().ask().await, Word::Nothing, "nobody on the bus");
        for (says, word) in [(false, Word::Unsynchronized), (true, Word::Synchronized)] {
            let connection = timedated(&bus, says).await;
            assert_eq!(keepers.clone().ask().await, word);
            connection.close().await.expect("closed");
        }
        let nowhere = Keepers::beside(&runtime, "unix:path=/nonexistent/bus");
        assert_eq!(nowhere.clone().ask().await, Word::Nothing, "no bus at all");
        let flag = nowhere.flag().to_owned();
        assert_eq!(flag, folder.path().join("systemd/timesync/synchronized"));
        std::fs::create_dir_all(flag.parent().expect("a folder")).expect("a folder");
        std::fs::write(flag, "").expect("a file");
        assert_eq!(nowhere.ask().await, Word::Synchronized);
        assert_eq!(
            Keepers::beside(Path::new("/run/twinagent"), "").flag(),
            Path::new("/run/systemd/timesync/synchronized")
        );
    }

    #[tokio::test]
    async fn a_bus_that_hangs_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("bus");
        let _silent = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        let bus = format!("unix:path={}", socket.display());
        assert_eq!(Keepers::beside(folder.path(), &bus).ask().await, Word::Nothing);
    }
}
