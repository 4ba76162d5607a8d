//! What a device must outlive by itself: no network, a frozen agent, an agent that crashes again and again.

use serde_json::Value;

use crate::harness::{Device, Machine, Suite, eventually};

const UNIT: &str = "twinagent.service";

/// Reboots are quick and nothing but said.
const SIMULATED: &str = "[reboot]\nmode = \"simulate\"\nsimulate_for = \"1s\"\ngrace = \"0s\"\nmin_interval = \"0s\"\n";

#[test]
fn a_device_that_boots_without_network_is_up_and_connects_when_there_is_one() {
    for suite in Suite::ALL {
        let mut device = Device::online(suite, "");
        let Device { machine, cloud } = &mut device;
        machine.shut_down();
        machine.cut_network();
        let logins = cloud.logins();
        machine.boot();
        assert_eq!(machine.property(UNIT, "ActiveState"), "active");
        let process = machine.property(UNIT, "MainPID");
        eventually("the agent has tried to connect", || {
            machine.journal(&["--boot", "--unit", UNIT, "--grep=not connected"]).lines().next().map(drop)
        });
        let status = machine.sh("twinagent status");
        assert!(!status.starts_with("connected"), "{status}");

        machine.restore_network();
        cloud.wait_for_login(logins);
        assert_eq!(machine.property(UNIT, "MainPID"), process, "it was started anew");
        assert_eq!(machine.property(UNIT, "NRestarts"), "0");
    }
}

#[test]
fn a_device_that_loses_power_in_the_middle_of_a_command_answers_it_afterwards() {
    let mut device = Device::online(Suite::Bookworm, &SIMULATED.replace("\"1s\"", "\"30s\""));
    let Device { machine, cloud } = &mut device;
    cloud.send("rebootDevice/r-1", "");
    eventually("the reboot begins", || (!cloud.is_connected()).then_some(()));
    machine.cut_power();
    let boot = machine.boot();
    // Whatever brought it down: it was asked to reboot, and it has.
    let answer = cloud.wait_for_answer("r-1", 200);
    assert_eq!(answer["payload"]["bootId"], Value::from(boot), "{answer}");
    assert_eq!(machine.boots(), 2);
}

#[test]
fn an_agent_that_freezes_is_ended_by_the_watchdog_and_goes_on_with_what_it_knew() {
    let device = Device::online(Suite::Bookworm, SIMULATED);
    let Device { machine, cloud } = &device;
    let watchdog = machine
        .sh("busctl get-property org.freedesktop.systemd1 /org/freedesktop/systemd1/unit/twinagent_2eservice \
         org.freedesktop.systemd1.Service WatchdogUSec");
    let limit: u64 = watchdog.trim_start_matches("t ").parse().expect("microseconds");
    assert!((1..=120_000_000).contains(&limit), "the watchdog of the unit waits {limit} us");
    with_drop_in(machine, "WatchdogSec=8\n");
    machine.sh("systemctl restart twinagent");
    cloud.wait_for_login(1);
    reboot_and_return(&device, "r-1");
    let known = machine.sh("twinagent history --json");

    let logins = cloud.logins();
    machine.sh("kill -STOP $(systemctl show --value --property MainPID twinagent)");
    cloud.wait_for_login(logins);
    assert_eq!(machine.property(UNIT, "NRestarts"), "1");
    assert!(!machine.journal(&["--identifier=systemd", "--grep=Watchdog timeout"]).is_empty());
    assert_eq!(machine.sh("twinagent history --json"), known);
}

#[test]
fn an_agent_that_crashes_twenty_times_in_a_row_is_started_each_time() {
    let device = Device::online(Suite::Bookworm, SIMULATED);
    let Device { machine, cloud } = &device;
    // Only the pause is shortened; that the starts have no limit is the unit's own doing.
    with_drop_in(machine, "RestartSec=50ms\n");
    machine.sh("systemctl restart twinagent");
    cloud.wait_for_login(1);
    reboot_and_return(&device, "r-1");
    for crash in 1..=20_u32 {
        let signal = if crash % 2 == 0 { "ABRT" } else { "KILL" };
        machine.sh(&format!("systemctl kill --kill-who=main --signal={signal} twinagent"));
        eventually(format_args!("start {crash} after a crash"), || {
            let shown = machine.sh("systemctl show --property NRestarts --property ActiveState twinagent");
            (shown == format!("NRestarts={crash}\nActiveState=active")).then_some(())
        });
    }
    cloud.wait_for_answer("r-1", 200);
    eventually("the device is connected", || {
        device.status()["state"].as_str().filter(|state| *state == "connected").map(drop)
    });
    cloud.send("echo/e-1", "1");
    cloud.wait_for_answer("e-1", 200);
    assert_eq!(machine.property(UNIT, "NRestarts"), "20");
}

/// Changes the service as an operator does.
fn with_drop_in(machine: &Machine, lines: &str) {
    machine.write("/etc/systemd/system/twinagent.service.d/story.conf", &format!("[Service]\n{lines}"));
    machine.sh("systemctl daemon-reload");
}

/// Leaves something in the ledger that must not be forgotten.
fn reboot_and_return(device: &Device, id: &str) {
    let logins = device.cloud.logins();
    device.cloud.send(&format!("rebootDevice/{id}"), "");
    device.cloud.wait_for_answer(id, 200);
    assert!(device.cloud.logins() > logins, "it was away");
    eventually("the outcome is told", || {
        let history: Value = serde_json::from_str(&device.machine.sh("twinagent history --json")).expect("JSON");
        (history["commands"][0]["told"] == true).then_some(())
    });
}
