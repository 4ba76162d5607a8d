//! A machine where the package was installed, and nobody has touched anything since.

use std::thread::sleep;
use std::time::Duration;

use crate::harness::{Machine, Package, Suite};

/// Longer than a service that cannot work takes to be started anew.
const UNTOUCHED: Duration = Duration::from_secs(15);

#[test]
fn an_installed_machine_that_nobody_touches_runs_and_sends_nothing() {
    untouched(Suite::Bookworm);
}

#[test]
fn an_installed_machine_that_nobody_touches_runs_and_sends_nothing_on_trixie() {
    untouched(Suite::Trixie);
}

fn untouched(suite: Suite) {
    let mut machine = Machine::plain(suite);
    let package = machine.bring(&Package::under_test());
    machine.boot();
    machine.order(["apt-get", "install", "--yes", &package]).done();
    let began = machine.property("twinagent.service", "ExecMainStartTimestampMonotonic");
    // Nothing is to happen, so there is nothing else to wait for.
    sleep(UNTOUCHED);

    assert_eq!(machine.sh("systemctl is-active twinagent.service twinagent-reboot.path"), "active\nactive");
    assert_eq!(machine.sh("systemctl is-enabled twinagent.service twinagent-reboot.path"), "enabled\nenabled");
    assert_eq!(machine.property("twinagent.service", "NRestarts"), "0");
    assert_eq!(machine.property("twinagent.service", "ExecMainStartTimestampMonotonic"), began);
    assert_eq!(
        machine.property("twinagent.service", "StatusText").split_once(':').unwrap_or_default().0,
        "not configured"
    );
    assert_eq!(machine.sh("systemctl --failed --no-legend"), "");
    assert!(machine.sh("twinagent status").starts_with("not configured"), "{}", machine.sh("twinagent status"));
    let warnings = machine.journal(&["--identifier=systemd", "--priority=warning", "--grep=twinagent"]);
    assert_eq!(warnings, "", "what systemd thinks of our units");
    assert_eq!(machine.packets(), 0, "packets were sent");
}
