//! What we tell the service manager (`sd_notify(3)`). Outside of systemd every call does nothing.
//!
//! A message that cannot be delivered is a line in the log and no more: it must not end a daemon that works.

use std::time::Duration;

use sd_notify::NotifyState;

/// The longest status, in characters. `systemctl status` shows one line.
const STATUS: usize = 200;

/// The daemon can act.
pub fn ready() {
    tell(&NotifyState::Ready);
}

/// One line for `systemctl status`. Control characters become spaces: a line of its own would be another message.
pub fn status(text: &str) {
    let line: String = text.chars().take(STATUS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    tell(&NotifyState::Status(&line));
}

/// The daemon is about to end.
pub fn stopping() {
    tell(&NotifyState::Stopping);
}

/// The loop still turns.
pub fn alive() {
    tell(&NotifyState::Watchdog);
}

/// How often to call [`alive`]: half of what the unit's `WatchdogSec=` allows, as `sd_watchdog_enabled(3)` advises.
/// `None`: no watchdog.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|longest| longest / 2).filter(|interval| !interval.is_zero())
}

fn tell(state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "sd_notify(3) speaks through the environment")]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    /// The variables must be there before the process starts, so this test runs itself once more with them.
    #[test]
    fn the_service_manager_hears_each_message_as_one() {
        const NAME: &str = "host::systemd::tests::the_service_manager_hears_each_message_as_one";
        if std::env::var_os("NOTIFY_SOCKET").is_some() {
            assert_eq!(watchdog_interval(), Some(Duration::from_secs(15)));
            ready();
            status("connecting\nSTOPPING=1\u{1b}");
            alive();
            stopping();
            return;
        }
        assert_eq!(watchdog_interval(), None);
        ready();

        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
        let child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", NAME])
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "30000000")
            .output()
            .expect("run");
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        for expected in ["READY=1", "STATUS=connecting STOPPING=1 ", "WATCHDOG=1", "STOPPING=1"] {
            let mut buffer = [0; 500];
            let length = socket.recv(&mut buffer).expect("a message");
            assert_eq!(String::from_utf8_lossy(&buffer[..length]).trim_end_matches('\n'), expected);
        }
    }
}
