//! Installing: a machine that nobody has touched since, and machines that had something in its way before.

use std::thread::sleep;
use std::time::Duration;

use crate::harness::{Machine, Package, Suite};

/// What the package enables.
const UNITS: &str = "twinagent.service twinagent-handlers.socket twinagent-logs.socket twinagent-reboot.path";

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

    assert_eq!(machine.sh(&format!("systemctl is-active {UNITS}")), ["active"; 4].join("\n"));
    assert_eq!(machine.sh(&format!("systemctl is-enabled {UNITS}")), ["enabled"; 4].join("\n"));
    let helpers = machine.property("twinagent-handlers.service", "ActiveState");
    assert_eq!(helpers, "inactive", "nobody asked for it");
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
    machine.order(["bash", "-c", &format!("echo >/dev/tcp/{}/9", machine.host_address())]).run();
    assert_ne!(machine.packets(), 0, "packets are not counted");
}

#[test]
fn an_account_that_was_made_for_other_ends_is_refused_with_the_remedy() {
    const GROUP: &str = "twinagent:x:901:";
    for suite in Suite::ALL {
        let mut machine = Machine::plain(suite);
        let package = machine.bring(&Package::under_test());
        machine.boot();
        let install = || machine.order(["dpkg", "--install", &package]).run();
        let refused = |words: &str| {
            let told = install();
            assert_ne!(told.code, 0, "{told:?}");
            let sentences: Vec<_> = told.err.lines().filter(|line| line.starts_with("twinagent: ")).collect();
            assert!(
                matches!(sentences[..], [one] if one.contains(words) && one.ends_with(", and install again.")),
                "{told:?}"
            );
            assert_ne!(machine.order(["test", "-e", "/usr/bin/twinagent"]).run().code, 0, "it was unpacked");
        };
        let (passwd, group) = (machine.read("/etc/passwd"), machine.read("/etc/group"));
        let accounts = |user: &str, its_group: &str| {
            machine.write("/etc/passwd", &format!("{passwd}{user}\n").replace("\n\n", "\n"));
            machine.write("/etc/group", &format!("{group}{its_group}\n").replace("\n\n", "\n"));
        };
        for (user, its_group, words) in [
            ("twinagent:x:901:901::/:/bin/bash", GROUP, "has a login shell (/bin/bash); take it away (usermod --shell"),
            ("twinagent:x:901:901::/:", GROUP, "has a login shell (/bin/sh)"),
            ("twinagent:x:1500:901::/:/usr/sbin/nologin", GROUP, "is no system user (uid 1500)"),
            ("twinagent:x:0:901::/:/usr/sbin/nologin", GROUP, "is no system user (uid 0)"),
            ("twinagent:x:901:65534::/:/usr/sbin/nologin", "", "the primary group of the user twinagent is not"),
            ("", "twinagent:x:901:daemon,games", "has members (daemon,games)"),
            ("", "twinagent:x:1500:", "is no system group (gid 1500)"),
            ("joe:x:902:901::/:/bin/sh", GROUP, "is the primary group of joe"),
            ("twinagent-handlers:x:903:903::/:/bin/sh", "twinagent-handlers:x:903:", "has a login shell (/bin/sh)"),
            ("", "twinagent-handlers:x:903:games", "has members (games), who could read what handlers keep; take"),
        ] {
            accounts(user, its_group);
            refused(words);
        }
        accounts("twinagent:x:901:901::/:/usr/sbin/nologin", GROUP);
        for place in ["echo mine >/etc/twinagent", "ln -s /nowhere /etc/twinagent"] {
            machine.sh(place);
            refused("/etc/twinagent is no folder; move it away");
            machine.sh("rm /etc/twinagent");
        }

        // An account such as a purge leaves behind is taken as it is.
        assert_eq!(install().code, 0);
        assert_eq!(machine.sh("stat -c '%U %u %G %g' /var/lib/twinagent"), "twinagent 901 twinagent 901");
        assert_eq!(machine.sh("systemctl is-active twinagent.service"), "active");
    }
}

#[test]
fn units_that_were_masked_before_stay_so_and_nothing_complains() {
    for suite in Suite::ALL {
        let mut machine = Machine::plain(suite);
        let package = machine.bring(&Package::under_test());
        machine.boot();
        machine.sh(&format!("systemctl mask {UNITS}"));
        let told = machine.order(["dpkg", "--install", &package]).run();
        assert_eq!(told.code, 0, "{told:?}");
        // What systemd-sysusers has made it tells there, too.
        let said: Vec<_> = told.err.lines().filter(|line| !line.starts_with("Creating ")).collect();
        let expected: Vec<_> =
            UNITS.split(' ').map(|unit| format!("twinagent: {unit} is masked and stays so.")).collect();
        assert_eq!(said, expected);
        let states = |word: &str| machine.order(["sh", "-c", &format!("systemctl {word} {UNITS}")]).run().out;
        assert_eq!((states("is-enabled"), states("is-active")), ("masked\n".repeat(4), "inactive\n".repeat(4)));

        // An upgrade leaves it at that, and what is no longer masked is not enabled behind anybody's back.
        machine.sh(&format!("systemctl unmask {UNITS}"));
        machine.order(["dpkg", "--install", &package]).done();
        assert_eq!((states("is-enabled"), states("is-active")), ("disabled\n".repeat(4), "inactive\n".repeat(4)));
        machine.sh(&format!("systemctl enable --now {UNITS}"));
        assert_eq!(states("is-active"), "active\n".repeat(4));
    }
}
