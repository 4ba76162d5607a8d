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
///
/// What does not fit is cut: first a hint `(hint: …)` at the end, then whole words from the end.
pub fn status(text: &str) {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    tell(&NotifyState::Status(&shortened(&line)));
}

fn shortened(line: &str) -> String {
    let fits = |line: &str| line.chars().count() <= STATUS;
    let without_hint = line.rfind(" (hint: ").filter(|_| line.ends_with(')')).map_or(line, |at| &line[..at]);
    if fits(line) {
        return line.to_owned();
    }
    if fits(without_hint) {
        return without_hint.to_owned();
    }
    let kept: String = without_hint.chars().take(STATUS - 1).collect();
    // A word that would be longer than half of it all is none that anybody reads.
    let end = kept.rfind(' ').filter(|end| *end > STATUS / 2).unwrap_or(kept.len());
    format!("{}…", kept[..end].trim_end_matches([' ', ',', ';', ':']))
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

    #[test]
    fn a_line_that_is_too_long_loses_its_hint_first_and_then_whole_words() {
        let trouble = "commands are refused: no space; not connected: nobody answers";
        let hint = " (hint: look at the firewall)";
        assert_eq!(shortened(&format!("{trouble}{hint}")), format!("{trouble}{hint}"));
        let long = format!("{trouble}{}", ", and again".repeat(12));
        assert_eq!(shortened(&format!("{long}{hint}")), long);
        let longer = format!("{trouble}{}{hint}", ", and again".repeat(20));
        let cut = shortened(&longer);
        assert!(cut.chars().count() <= STATUS && cut.chars().count() > STATUS - 12, "{cut}");
        let whole = cut.strip_suffix('…').expect("it says that it was cut");
        assert!(longer.starts_with(whole) && (whole.ends_with("and") || whole.ends_with("again")), "{cut}");
        assert_eq!(shortened(&"ü".repeat(300)).chars().count(), STATUS);
    }

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
