//! `rebootDevice` on an installed machine, which really goes down: asked of the helper by REST, proved by the boot id.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Device, Machine, Package, Suite, eventually, within};

/// No waiting for anything but what the stories are about.
const HELPER: &str = "[reboot]\nmode = \"helper\"\nmin_uptime = \"0s\"\nmin_interval = \"0s\"\ngrace = \"2s\"\n";

const BOTH: [Suite; 2] = [Suite::Bookworm, Suite::Trixie];

/// What the helper has said in this boot.
fn helper_log(machine: &Machine) -> String {
    machine.journal(&["--unit=twinagent-reboot", "--boot"])
}

#[track_caller]
fn wait_for_helper(machine: &Machine, words: &str) {
    eventually(format!("the helper says {words:?}"), || helper_log(machine).contains(words).then_some(()));
}

#[track_caller]
fn wait_for_status(device: &Device, words: &str) {
    let is_said = |status: &Value| status["sentence"].as_str().is_some_and(|text| text.contains(words));
    eventually(format!("the status says {words:?}"), || is_said(&device.status()).then_some(()));
}

/// Leaves a request in the agent's own name, as somebody would who has taken the agent over. `until`: seconds of uptime,
/// in the words of a shell.
fn leave_request(machine: &Machine, boot: &str, until: &str) {
    machine.sh(&format!(
        "printf '{{\"command\":\"r-0\",\"reason\":null,\"boot\":\"{boot}\",\"untilMillis\":%s000}}' {until} >/run/draft; \
         chmod 644 /run/draft; chown twinagent /run/draft; mv /run/draft /run/twinagent-reboot/request"
    ));
}

/// The uptime in so many seconds.
fn ahead(seconds: u32) -> String {
    format!("$(( $(cut -d. -f1 /proc/uptime) + {seconds} ))")
}

fn is_asked(machine: &Machine) -> bool {
    machine.order(["test", "-e", "/run/twinagent-reboot/request"]).run().code == 0
}

#[test]
fn a_command_reboots_the_machine_once_and_the_cloud_reads_when() {
    for suite in BOTH {
        let mut device = Device::online(suite, HELPER);
        let Device { machine, cloud } = &mut device;
        let old = machine.boot_id().expect("it runs");
        assert_eq!(cloud.wait_for_twin(|twin| twin["boot"]["id"] == json!(old))["agent"]["rebootMode"], "helper");
        let logins = cloud.logins();
        cloud.send("rebootDevice/r-1", r#"{"reason":"new kernel"}"#);
        assert_eq!(cloud.wait_for_answer("r-1", 202)["payload"]["state"], "scheduled");
        let new = machine.wait_for_reboot(&old);
        assert_ne!(new, old);
        cloud.wait_for_login(logins);

        let outcome = cloud.wait_for_answer("r-1", 200)["payload"].clone();
        assert_eq!((&outcome["bootId"], &outcome["previousBootId"]), (&json!(new), &json!(old)), "the unit sees both");
        let twin = cloud.wait_for_twin(|twin| twin["reboot"]["state"] == "completed");
        let reboot = &twin["reboot"];
        assert_eq!((&reboot["commandId"], &reboot["reason"]), (&json!("r-1"), &json!("new kernel")));
        assert_eq!((&reboot["simulated"], &reboot["bootId"]), (&json!(false), &json!(new)));
        assert_eq!((&twin["rebootTime"], &twin["boot"]["id"]), (&twin["boot"]["time"], &json!(new)));

        // The same command again is the same command.
        cloud.send("rebootDevice/r-1", r#"{"reason":"new kernel"}"#);
        cloud.send("echo/last", "");
        cloud.wait_for_answer("last", 200);
        assert_eq!((machine.boots(), machine.boot_id()), (2, Some(new)));
        // It went down in peace: the session was closed, and no unit failed over it.
        let before = machine.journal(&["--unit=twinagent", "--boot=-1"]);
        assert!(before.contains("the helper is asked for a reboot") && before.contains("stopped"), "{before}");
        let before = machine.journal(&["--unit=twinagent-reboot", "--boot=-1"]);
        assert!(!before.contains("Failed with result"), "{before}");
        assert_eq!(machine.sh("systemctl --failed --no-legend"), "");
    }
}

#[test]
fn a_simulated_reboot_leaves_the_machine_up() {
    let config = "[reboot]\nmode = \"simulate\"\nsimulate_for = \"2s\"\ngrace = \"0s\"\n";
    let device = Device::online(Suite::Bookworm, config);
    let Device { machine, cloud } = &device;
    let boot = machine.boot_id().expect("it runs");
    cloud.send("rebootDevice/r-1", "");
    let outcome = cloud.wait_for_answer("r-1", 200)["payload"].clone();
    assert_eq!((&outcome["simulated"], &outcome["bootId"]), (&json!(true), &json!(boot)));
    let twin = cloud.wait_for_twin(|twin| twin["reboot"]["state"] == "completed");
    assert_eq!(twin["rebootTime"], twin["reboot"]["completedAt"]);
    assert_eq!((machine.boots(), machine.boot_id()), (1, Some(boot)));
    assert_eq!(machine.property("twinagent.service", "NRestarts"), "0");
    assert_eq!(helper_log(machine), "", "root was not asked");
}

/// Root's own lock is the one that logind would not make root wait for.
#[test]
fn a_lock_that_blocks_a_shutdown_is_never_overridden() {
    for suite in BOTH {
        let device = Device::online(suite, HELPER);
        let Device { machine, cloud } = &device;
        let boot = machine.boot_id().expect("it runs");
        machine.sh("systemd-run --quiet --unit=holder systemd-inhibit --what=shutdown --mode=block --who=apt \
             --why='packages are half installed' sleep infinity");
        eventually("the lock is held", || machine.sh("systemd-inhibit --list").contains("half").then_some(()));
        // The agent sees it, and does not even ask.
        cloud.send("rebootDevice/r-1", "");
        let twin = cloud.wait_for_twin(|twin| twin["reboot"]["heldBy"] == json!(["inhibitor"]));
        assert_eq!(twin["reboot"]["inhibitors"], json!([{ "who": "apt", "why": "packages are half installed" }]));
        assert_eq!((is_asked(machine), helper_log(machine)), (false, String::new()));
        // Nor does root's side believe one that asks all the same.
        leave_request(machine, &boot, &ahead(30));
        let why = "a shutdown is blocked by apt (packages are half installed)";
        wait_for_helper(machine, why);
        cloud.send("cancelReboot/c-1", "");
        cloud.wait_for_answer("r-1", 499);
        // When the lock is gone, the reboot does not come out of the blue.
        machine.sh("systemctl stop holder && systemctl restart twinagent");
        assert!(!is_asked(machine));
        assert_eq!((machine.boots(), machine.boot_id()), (1, Some(boot)));
        assert_eq!(machine.sh("systemctl --failed --no-legend"), "", "being held back is no fault");
    }
}

#[test]
fn users_who_are_only_logged_in_hold_no_reboot_back() {
    for suite in BOTH {
        let device = Device::online(suite, HELPER);
        let Device { machine, cloud } = &device;
        let old = machine.boot_id().expect("it runs");
        machine.sh(
            "mkdir -p /etc/sysusers.d && echo 'u pi 1001 - /tmp /bin/sh' >/etc/sysusers.d/pi.conf && systemd-sysusers; \
             systemd-run --quiet --property=PAMName=login --property=User=pi --setenv=XDG_SESSION_TYPE=tty \
             --setenv=XDG_SESSION_CLASS=user sleep infinity",
        );
        eventually("pi is logged in", || machine.sh("loginctl list-sessions").contains("pi").then_some(()));
        cloud.send("rebootDevice/r-1", "");
        let new = machine.wait_for_reboot(&old);
        assert_eq!(cloud.wait_for_answer("r-1", 200)["payload"]["bootId"], json!(new));
    }
}

#[test]
fn the_helper_needs_neither_bus_nor_logind() {
    for (suite, unit) in [(Suite::Bookworm, "dbus"), (Suite::Trixie, "dbus"), (Suite::Bookworm, "systemd-logind")] {
        let mut device = Device::online(suite, HELPER);
        let Device { machine, cloud } = &mut device;
        // From the next boot on, as on a machine that never had it.
        machine.sh(&format!("systemctl mask {unit}.service dbus-org.freedesktop.login1.service"));
        if unit == "dbus" {
            machine.sh("systemctl mask dbus.socket");
        }
        let logins = cloud.logins();
        machine.shut_down();
        let old = machine.boot();
        cloud.wait_for_login(logins);
        let bus = machine.order(["test", "-e", "/run/dbus/system_bus_socket"]).run().code == 0;
        assert_eq!(bus, unit != "dbus", "{unit}");
        cloud.send("rebootDevice/r-1", "");
        let new = machine.wait_for_reboot(&old);
        assert_eq!(cloud.wait_for_answer("r-1", 200)["payload"]["bootId"], json!(new), "without {unit}");
    }
}

#[test]
fn what_is_not_a_fresh_request_of_the_agent_reboots_nothing() {
    let device = Device::online(Suite::Bookworm, HELPER);
    let Device { machine, cloud } = &device;
    let boot = machine.boot_id().expect("it runs");
    leave_request(machine, "11111111-2222-4333-8444-555555555555", &ahead(30));
    wait_for_helper(machine, "the request is of another boot");
    leave_request(machine, &boot, "1");
    wait_for_helper(machine, "the request is too old, by");
    leave_request(machine, &boot, &ahead(3_600));
    wait_for_helper(machine, "the request is for a time too far ahead");
    let folder = "/run/twinagent-reboot";
    for (make, words) in [
        ("ln -s /etc/shadow request", "symbolic links"),
        ("mkfifo request", "it is no file"),
        ("mkdir request", "it is no file"),
        ("head -c 100000 /dev/zero >request", "larger than"),
        ("echo reboot >request", "this is no request for a reboot"),
    ] {
        machine.order(["sh", "-c", &format!("cd {folder} && umask 022 && {make}")]).by("twinagent").done();
        wait_for_helper(machine, words);
        eventually("it is removed", || (!is_asked(machine)).then_some(()));
    }
    machine.sh(&format!("cd {folder} && echo reboot >draft && chown daemon draft && mv draft request"));
    wait_for_helper(machine, "has no say here");
    eventually("it is removed", || (!is_asked(machine)).then_some(()));
    assert_eq!((machine.boots(), machine.boot_id()), (1, Some(boot.clone())));

    // None of this has worn the helper out.
    assert_eq!(machine.property("twinagent-reboot.path", "ActiveState"), "active");
    cloud.send("rebootDevice/r-1", "");
    machine.wait_for_reboot(&boot);
    cloud.wait_for_answer("r-1", 200);
}

/// systemd cannot watch such a link: the path unit fails, and would stay so.
#[test]
fn a_link_to_itself_makes_nobody_deaf_for_good() {
    const UNIT: &str = "twinagent-reboot.path";
    let plant = "cd /run/twinagent-reboot && until ln -s request request; do sleep 0.01; done";
    for suite in BOTH {
        let device = Device::online(suite, HELPER);
        let Device { machine, cloud } = &device;
        let boot = machine.boot_id().expect("it runs");
        let listens = || machine.property(UNIT, "ActiveState") == "active" && !is_asked(machine);

        // Whoever goes on with it costs root a run in two seconds, and no more.
        let keep_planting = format!("while :; do {plant}; done 2>/dev/null");
        let told = machine.order(["timeout", "6", "sh", "-c", &keep_planting]).by("twinagent").run();
        assert_eq!(told.code, 124, "{told:?}");
        eventually("it listens again", || listens().then_some(()));
        let failures = machine.journal(&[&format!("--unit={UNIT}"), "--boot"]).matches("levels of symbolic").count();
        assert!((2..8).contains(&failures), "{failures} times");
        let runs = helper_log(machine).matches("was removed and not obeyed").count();
        assert!((2..8).contains(&runs), "{runs} runs for {failures} failures");

        // What an administrator has switched off stays off, also when the link comes while the helper is at work.
        machine.order(["sh", "-c", plant]).by("twinagent").done();
        eventually("it has failed", || (machine.property(UNIT, "ActiveState") == "failed").then_some(()));
        machine.sh(&format!("systemctl mask --now {UNIT}"));
        let is_idle = || machine.property("twinagent-reboot.service", "SubState") == "failed" && !is_asked(machine);
        eventually("the helper is done with it", || is_idle().then_some(()));
        assert_ne!(machine.property(UNIT, "ActiveState"), "active");
        machine.sh(&format!("systemctl unmask {UNIT}; systemctl start {UNIT}; systemctl stop {UNIT}"));
        machine.order(["sh", "-c", plant]).by("twinagent").done();
        assert_eq!(machine.property(UNIT, "ActiveState"), "inactive");

        // Nobody listens, so the link lies there; installing anew clears it away.
        assert!(machine.order(["test", "-L", "/run/twinagent-reboot/request"]).run().code == 0);
        let package = machine.bring(&Package::under_test());
        machine.order(["apt-get", "install", "--yes", "--reinstall", &package]).done();
        assert!(listens());
        let logins = cloud.logins();
        cloud.send("rebootDevice/r-1", "");
        machine.wait_for_reboot(&boot);
        cloud.wait_for_login(logins);
        cloud.wait_for_answer("r-1", 200);
    }
}

#[test]
fn a_helper_that_does_not_listen_is_named_and_does_nothing_later() {
    let device = Device::online(Suite::Bookworm, HELPER);
    let Device { machine, cloud } = &device;
    let boot = machine.boot_id();
    machine.sh("systemctl disable --now twinagent-reboot.path");
    cloud.send("rebootDevice/r-1", "");
    eventually("a request lies there", || is_asked(machine).then_some(()));
    machine.sh("systemctl restart twinagent");
    wait_for_status(&device, "nobody took the request for it; hint: only if reboots by the agent are wanted");
    assert!(!is_asked(machine));
    machine.sh("systemctl enable --now twinagent-reboot.path");
    cloud.wait_for_login(1);
    cloud.send("echo/last", "");
    cloud.wait_for_answer("last", 200);
    assert_eq!((machine.boots(), machine.boot_id()), (1, boot));
    assert_eq!(helper_log(machine).matches("asked for a reboot").count(), 0);
}

/// The time that a machine has for going down, and the time for noticing that it has not.
const OVER: Duration = Duration::from_secs(6 * 60);

#[test]
fn a_reboot_that_never_comes_has_failed_and_the_next_one_may_come() {
    let mut device = Device::online(Suite::Trixie, HELPER);
    let Device { machine, cloud } = &mut device;
    let boot = machine.boot_id().expect("it runs");
    machine.sh("systemctl stop twinagent-reboot.path");
    cloud.send("rebootDevice/r-1", "");
    cloud.wait_for_answer("r-1", 202);
    let failed = || Some(cloud.twin()).filter(|twin| twin["commands"]["r-1"]["status"] == 500);
    let twin = within(OVER, "the reboot has failed", failed);
    let why = twin["commands"]["r-1"]["payload"]["error"].as_str().expect("a reason").to_owned();
    assert!(why.contains("still runs") && why.contains("nobody took the request"), "{why}");
    assert_eq!(twin["reboot"]["state"], "failed");
    assert_eq!((machine.boots(), machine.boot_id()), (1, Some(boot.clone())));
    // Nothing of it is left to come out of the blue, and the agent is as good as before.
    machine.sh("systemctl start twinagent-reboot.path");
    cloud.send("echo/still", "");
    cloud.wait_for_answer("still", 200);
    assert_eq!(machine.boot_id(), Some(boot.clone()));
    cloud.send("rebootDevice/r-2", "");
    machine.wait_for_reboot(&boot);
    cloud.wait_for_answer("r-2", 200);
}
