//! Reboots by logind on an installed machine, shutdowns that somebody else begins, and what is left where there is no
//! logind, no polkit, no bus, no disk.

use serde_json::{Value, json};

use crate::harness::{Cloud, Device, Machine, Suite, eventually};

/// No waiting for anything but what the stories are about.
const AUTO: &str = "[reboot]\nmin_uptime = \"0s\"\nmin_interval = \"0s\"\ngrace = \"1s\"\n";
const LOGIND: &str = "[reboot]\nmode = \"logind\"\nmin_uptime = \"0s\"\nmin_interval = \"0s\"\ngrace = \"1s\"\n";
/// One that gives up soon what somebody holds back.
const IMPATIENT: &str =
    "[reboot]\nmin_uptime = \"0s\"\nmin_interval = \"0s\"\ngrace = \"0s\"\ninhibitor_wait = \"20s\"\n";

const BOTH: [Suite; 2] = [Suite::Bookworm, Suite::Trixie];

#[track_caller]
fn wait_for_mode(cloud: &Cloud, mode: &str) -> Value {
    cloud.wait_for_twin(|twin| twin["agent"]["rebootMode"] == mode)
}

fn problem(twin: &Value, code: &str) -> Option<String> {
    let problems = twin["agent"]["problems"].as_array().expect("a list");
    Some(problems.iter().find(|problem| problem["code"] == code)?["text"].as_str().expect("a text").to_owned())
}

/// What root's side of the helper was asked in this boot.
fn helper_calls(machine: &Machine) -> usize {
    machine.journal(&["--unit=twinagent-reboot", "--boot"]).matches("asked for a reboot").count()
}

/// A program that holds shutdowns back.
fn hold(machine: &Machine) {
    machine.sh("systemd-run --quiet --unit=holder systemd-inhibit --what=shutdown --mode=block --who=apt \
         --why='packages are half installed' sleep infinity");
    eventually("the lock is held", || machine.sh("systemd-inhibit --list").contains("half").then_some(()));
}

#[test]
fn a_command_reboots_the_machine_once_by_logind_and_the_record_is_whole() {
    for suite in BOTH {
        let mut device = Device::online(suite, AUTO);
        let Device { machine, cloud } = &mut device;
        let old = machine.boot_id().expect("it runs");
        wait_for_mode(cloud, "logind");
        assert!(machine.sh("systemd-inhibit --list").contains("tells the cloud"), "the lock by which shutdowns wait");
        let logins = cloud.logins();
        cloud.send("rebootDevice/r-1", r#"{"reason":"new kernel"}"#);
        cloud.wait_for_answer("r-1", 202);
        let going = cloud.wait_for_twin(|twin| twin["agent"]["shuttingDown"] == true);
        assert_eq!(going["reboot"]["state"], "rebooting");
        let new = machine.wait_for_reboot(&old);
        cloud.wait_for_login(logins);
        let outcome = cloud.wait_for_answer("r-1", 200)["payload"].clone();
        assert_eq!((&outcome["bootId"], &outcome["previousBootId"]), (&json!(new), &json!(old)));
        let twin = cloud.wait_for_twin(|twin| twin["reboot"]["state"] == "completed");
        assert_eq!((&twin["reboot"]["cause"], &twin["reboot"]["reason"]), (&json!("command"), &json!("new kernel")));
        assert!(twin["reboot"]["downSeconds"].as_f64().is_some_and(|down| (0.0..60.0).contains(&down)), "{twin}");
        assert_eq!((&twin["rebootTime"], &twin["agent"]["shuttingDown"]), (&twin["boot"]["time"], &Value::Null));
        let before = machine.journal(&["--unit=twinagent", "--boot=-1"]);
        for words in ["logind is asked for a reboot", "the machine shuts down", "disconnected as planned"] {
            assert!(before.contains(words), "{words}: {before}");
        }
        cloud.send("rebootDevice/r-1", r#"{"reason":"new kernel"}"#);
        cloud.send("echo/last", "");
        cloud.wait_for_answer("last", 200);
        assert_eq!((machine.boots(), helper_calls(machine)), (2, 0));
    }
}

#[test]
fn a_lock_holds_the_reboot_back_with_who_and_why_and_is_never_overridden() {
    for suite in BOTH {
        let device = Device::online(suite, IMPATIENT);
        let Device { machine, cloud } = &device;
        let old = machine.boot_id().expect("it runs");
        hold(machine);
        cloud.send("rebootDevice/r-1", "");
        cloud.wait_for_twin(|twin| twin["reboot"]["heldBy"] == json!(["inhibitor"]));
        assert_eq!(machine.boot_id().as_ref(), Some(&old));
        machine.sh("systemctl stop holder");
        let new = machine.wait_for_reboot(&old);
        assert_eq!(cloud.wait_for_answer("r-1", 200)["payload"]["bootId"], json!(new));

        hold(machine);
        cloud.send("rebootDevice/r-2", "");
        let refused = cloud.wait_for_answer("r-2", 423)["payload"].clone();
        assert_eq!(refused["heldBy"], json!(["inhibitor"]));
        assert_eq!(refused["inhibitors"], json!([{ "who": "apt", "why": "packages are half installed" }]));
        assert_eq!(cloud.twin()["agent"]["rebootMode"], "logind", "it is only the lock that logind minds");
        assert_eq!((machine.boots(), machine.boot_id(), helper_calls(machine)), (2, Some(new), 0));
    }
}

#[test]
fn somebody_elses_reboot_is_told_before_and_after() {
    for suite in BOTH {
        let device = Device::online(suite, AUTO);
        let Device { machine, cloud } = &device;
        let old = machine.boot_id().expect("it runs");
        wait_for_mode(cloud, "logind");
        let logins = cloud.logins();
        machine.order(["systemctl", "reboot"]).run();
        cloud.wait_for_twin(|twin| twin["agent"]["shuttingDown"] == true);
        eventually("the connection is closed", || (!cloud.is_connected()).then_some(()));
        let new = machine.wait_for_reboot(&old);
        cloud.wait_for_login(logins);
        let twin = cloud.wait_for_twin(|twin| twin["boot"]["id"] == json!(new));
        assert_eq!((&twin["reboot"]["cause"], &twin["reboot"]["state"]), (&json!("local"), &json!("completed")));
        assert_eq!(twin["rebootTime"], twin["boot"]["time"]);
        let before = machine.journal(&["--unit=twinagent", "--boot=-1"]);
        assert!(before.contains("the machine shuts down") && before.contains("disconnected as planned"), "{before}");
    }
}

#[test]
fn a_loss_of_power_is_told_from_a_shutdown() {
    let mut device = Device::online(Suite::Bookworm, AUTO);
    let Device { machine, cloud } = &mut device;
    let mut logins = cloud.logins();
    let mut again = |machine: &mut Machine, cause: &str| {
        let boot = machine.boot();
        cloud.wait_for_login(logins);
        logins = cloud.logins();
        let twin = cloud.wait_for_twin(|twin| twin["boot"]["id"] == json!(boot));
        assert_eq!(twin["reboot"]["cause"], cause);
    };
    machine.cut_power();
    again(machine, "unexpected");
    machine.shut_down();
    again(machine, "local");
    // The mark of that shutdown does not excuse what comes after it, nor does one of a daemon that goes on.
    machine.sh("systemctl restart twinagent");
    eventually("the mark is gone", || {
        (machine.order(["test", "-e", "/var/lib/twinagent/farewell"]).run().code != 0).then_some(())
    });
    machine.cut_power();
    again(machine, "unexpected");
}

#[test]
fn without_polkit_or_without_a_bus_the_helper_serves() {
    for (suite, masked) in [
        (Suite::Bookworm, "polkit.service"),
        (Suite::Trixie, "polkit.service"),
        (Suite::Bookworm, "dbus.socket dbus.service"),
        (Suite::Trixie, "dbus.socket dbus.service"),
    ] {
        let mut device = Device::online(suite, AUTO);
        let Device { machine, cloud } = &mut device;
        // From the next boot on, as on a machine that never had it.
        machine.sh(&format!("systemctl mask {masked}"));
        let logins = cloud.logins();
        machine.shut_down();
        let old = machine.boot();
        cloud.wait_for_login(logins);
        let twin = wait_for_mode(cloud, "helper");
        assert_eq!(problem(&twin, "reboot-not-permitted"), None, "{masked}");
        cloud.send("rebootDevice/r-1", "");
        let new = machine.wait_for_reboot(&old);
        assert_eq!(cloud.wait_for_answer("r-1", 200)["payload"]["bootId"], json!(new), "without {masked}");
    }
}

#[test]
fn who_wants_logind_and_has_no_right_hears_of_it_before_it_matters() {
    let device = Device::online(Suite::Bookworm, LOGIND);
    let Device { machine, cloud } = &device;
    wait_for_mode(cloud, "logind");
    machine.sh("systemctl mask --now polkit.service; systemctl restart twinagent");
    let twin = cloud.wait_for_twin(|twin| problem(twin, "reboot-not-permitted").is_some());
    let text = problem(&twin, "reboot-not-permitted").expect("a problem");
    assert!(text.contains("logind") && text.contains("hint: "), "{text}");
    assert_eq!((&twin["agent"]["health"], &twin["agent"]["rebootMode"]), (&json!("degraded"), &json!("unavailable")));
    cloud.send("rebootDevice/r-1", "");
    assert_eq!(cloud.wait_for_answer("r-1", 503)["payload"]["error"], json!(text));
    assert_eq!(machine.boots(), 1);
}

#[test]
fn a_veto_holds_until_it_is_taken_back_or_over() {
    let device = Device::online(Suite::Bookworm, AUTO);
    let Device { machine, cloud } = &device;
    let old = machine.boot_id().expect("it runs");
    machine.sh("twinagent veto add harvest --reason 'not before noon'");
    cloud.send("rebootDevice/r-1", "");
    let twin = cloud.wait_for_twin(|twin| twin["reboot"]["heldBy"] == json!(["veto"]));
    assert_eq!(twin["reboot"]["vetoes"][0]["reason"], "not before noon");
    // Files of others are nobody's veto, and no reason to fail.
    machine.sh("echo 'reason = \"mine\"' >/etc/passer-by; chown daemon /etc/passer-by; \
         mv /etc/passer-by /run/twinagent-veto.d/passer-by.toml");
    eventually("it is told", || machine.journal(&["--unit=twinagent"]).contains("counts for nothing").then_some(()));
    assert_eq!(machine.boot_id().as_ref(), Some(&old));
    machine.sh("twinagent veto remove harvest");
    let new = machine.wait_for_reboot(&old);
    assert_eq!(cloud.wait_for_answer("r-1", 200)["payload"]["bootId"], json!(new));

    machine.sh("twinagent veto add soon --reason 'a moment' --for 8s --keep");
    cloud.send("rebootDevice/r-2", "");
    let newer = machine.wait_for_reboot(&new);
    assert_eq!(cloud.wait_for_answer("r-2", 200)["payload"]["bootId"], json!(newer));
}

#[test]
fn a_state_folder_that_forgets_makes_no_loop() {
    let config = "[reboot]\nmin_uptime = \"0s\"\nmin_interval = \"30s\"\ngrace = \"0s\"\n";
    let mut device = Device::online(Suite::Bookworm, config);
    let Device { machine, cloud } = &mut device;
    machine.sh("echo 'tmpfs /var/lib/twinagent tmpfs mode=0755 0 0' >>/etc/fstab");
    let mut logins = cloud.logins();
    machine.shut_down();
    let old = machine.boot();
    cloud.wait_for_login(logins);
    let twin = cloud.wait_for_twin(|twin| problem(twin, "volatile").is_some());
    let text = problem(&twin, "volatile").expect("a problem");
    assert!(text.starts_with("/var/lib/twinagent is on a file system (tmpfs) that forgets"), "{text}");
    assert_eq!(twin["reboot"]["state"], "unknown");
    eventually("nothing that was forgotten can be a moment ago", || {
        let uptime = machine.sh("cut -d. -f1 /proc/uptime");
        (uptime.parse::<u64>().expect("seconds") > 30).then_some(())
    });
    logins = cloud.logins();
    cloud.send("rebootDevice/r-1", "");
    machine.wait_for_reboot(&old);
    cloud.wait_for_login(logins);
    // The command that caused it, heard once more and as often as it likes.
    let boot = machine.boot_id();
    for id in ["r-1", "r-1", "r-2"] {
        cloud.send(&format!("rebootDevice/{id}"), "");
        let refused = cloud.wait_for_answer(id, 429)["payload"].clone();
        assert_eq!(refused["heldBy"], json!(["minInterval"]), "{refused}");
    }
    assert_eq!(machine.boot_id(), boot);
}
