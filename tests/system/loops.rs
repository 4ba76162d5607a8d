//! A machine that is told to reboot again and again, whatever it forgets in between, does so once and stays up.
//!
//! Each story boots the machine ten times from outside and has the same order wait for it every time. The machine counts
//! its boots, so a reboot by the agent would be one too many.

use std::time::Duration;

use serde_json::json;
use twinagent::bridge::{Options, RawPublish};

use crate::harness::{Device, Machine, Suite};

/// The guards as they are by default, and no grace to wait for.
const GUARDED: &str = "[reboot]\ngrace = \"0s\"\n";
/// Only what is remembered stands between an order and a reboot.
const UNGUARDED: &str = "[reboot]\nmin_uptime = \"0s\"\nmin_interval = \"0s\"\ngrace = \"0s\"\n";

const TRIES: usize = 10;
/// Without a guard the machine is down before: what is told is acknowledged within a second, and there is no grace.
const WELL_AFTER: Duration = Duration::from_secs(2);
const ORDER: &str = "rebootDevice/always";

/// A broker that keeps for a device what it did not acknowledge.
fn keeping(options: &mut Options) {
    options.sessions = true;
}

/// The machine goes down and is back, and `give` gives the order to it; it is still up when all that was said to it
/// before has been heard.
#[track_caller]
fn try_again(device: &mut Device, between: impl Fn(&Machine), give: impl Fn(&Device)) {
    for round in 0..TRIES {
        let logins = device.cloud.logins();
        // In peace and by force, in turn.
        if round % 2 == 0 {
            device.machine.shut_down();
        } else {
            device.machine.cut_power();
        }
        between(&device.machine);
        let before = device.machine.boots();
        let boot = device.machine.boot();
        device.cloud.wait_for_login(logins);
        give(device);
        let echo = format!("echo-{round}");
        device.cloud.send(&format!("echo/{echo}"), "");
        device.cloud.wait_for_answer(&echo, 200);
        std::thread::sleep(WELL_AFTER);
        assert_eq!(device.machine.boot_id(), Some(boot), "round {round}: the machine did not stay up");
        assert_eq!(device.machine.boots(), before + 1, "round {round}");
    }
}

#[test]
fn an_order_that_was_obeyed_is_not_obeyed_again_in_ten_boots() {
    let mut device = Device::prepared(Suite::Bookworm, UNGUARDED, keeping, |_| {});
    let old = device.machine.boot_id().expect("it runs");
    let logins = device.cloud.logins();
    device.cloud.send(ORDER, "");
    let new = device.machine.wait_for_reboot(&old);
    device.cloud.wait_for_login(logins);
    assert_eq!(device.cloud.wait_for_answer("always", 200)["payload"]["bootId"], json!(new));
    try_again(
        &mut device,
        |_| {},
        |device| {
            device.cloud.push(ORDER, |message| RawPublish { dup: true, ..message });
            device.cloud.send(ORDER, "");
        },
    );
    assert_eq!(device.cloud.twin()["commands"]["always"]["status"], 200, "and it has the answer of then");
}

#[test]
fn an_order_that_a_broker_retains_is_never_obeyed() {
    let mut device = Device::prepared(Suite::Bookworm, UNGUARDED, keeping, |_| {});
    try_again(
        &mut device,
        |_| {},
        |device| {
            device.cloud.push(ORDER, |message| RawPublish { retain: true, ..message });
        },
    );
    assert_eq!(device.cloud.twin()["commands"]["always"], json!(null), "and never answered");
}

#[test]
fn a_machine_that_loses_its_journal_at_every_boot_stays_up() {
    let mut device = Device::prepared(Suite::Bookworm, GUARDED, keeping, |_| {});
    let forget = |machine: &Machine| {
        let journal = machine.path("/var/lib/twinagent");
        for file in std::fs::read_dir(journal).expect("the state folder").filter_map(Result::ok) {
            std::fs::remove_file(file.path()).expect("a file of the state folder");
        }
    };
    try_again(&mut device, forget, |device| device.cloud.send(ORDER, ""));
    obeys_once_when_it_is_old_enough(&mut device, forget);
}

#[test]
fn a_machine_whose_state_lies_in_memory_stays_up() {
    let memory = |machine: &Machine| {
        let table = machine.read("/etc/fstab");
        machine.write("/etc/fstab", &format!("{table}\ntmpfs /var/lib/twinagent tmpfs size=8m,mode=0750 0 0\n"));
    };
    let mut device = Device::prepared(Suite::Bookworm, GUARDED, keeping, memory);
    try_again(&mut device, |_| {}, |device| device.cloud.send(ORDER, ""));
    obeys_once_when_it_is_old_enough(&mut device, |_| {});
}

/// The guard is one of time and not for ever: on a machine that has been up for an hour the order is obeyed, once.
#[track_caller]
fn obeys_once_when_it_is_old_enough(device: &mut Device, between: impl Fn(&Machine)) {
    let Device { machine, cloud } = device;
    machine.shut_down();
    between(machine);
    machine.age(Duration::from_secs(3_600));
    let old = machine.boot();
    let (logins, boots) = (cloud.logins(), machine.boots());
    crate::harness::eventually("the order is taken", || (cloud.try_to_send(ORDER, "").0 == 200).then_some(()));
    let new = machine.wait_for_reboot(&old);
    cloud.wait_for_login(logins);
    cloud.send(ORDER, "");
    cloud.send("echo/after", "");
    cloud.wait_for_answer("after", 200);
    std::thread::sleep(WELL_AFTER);
    assert_eq!((machine.boot_id(), machine.boots()), (Some(new), boots + 1));
}

/// The control: without the guards the same orders are obeyed.
#[test]
fn without_its_guards_a_machine_that_forgets_is_rebooted_by_every_order() {
    let mut device = Device::prepared(Suite::Bookworm, UNGUARDED, keeping, |_| {});
    for _ in 0..2 {
        device.machine.shut_down();
        std::fs::remove_dir_all(device.machine.path("/var/lib/twinagent")).expect("the state folder");
        let logins = device.cloud.logins();
        let boot = device.machine.boot();
        device.cloud.wait_for_login(logins);
        device.cloud.send(ORDER, "");
        device.machine.wait_for_reboot(&boot);
    }
}
