//! Configurations that are wrong, and what a newer version has left behind: the device stays with its cloud.

use std::fs;

use serde_json::Value;

use crate::harness::{Device, Package, Suite, eventually};

const BAD: &str = "/etc/twinagent/conf.d/60-bad.toml";

#[test]
fn a_bad_configuration_takes_no_device_off_its_cloud() {
    let device = Device::online(Suite::Bookworm, "");
    let Device { machine, cloud } = &device;
    machine.write(BAD, "[session]\nkeep_alive = \"a while\"\n");
    let told = wait_for_problem(&device, "config");
    assert!(told.contains("60-bad.toml:2"), "{told}");
    assert!(cloud.is_connected());
    assert_eq!(cloud.logins(), 1, "it was not even disconnected");

    // The same at a start, which has nothing to go on with but what was right before.
    machine.sh("systemctl restart twinagent");
    cloud.wait_for_login(1);
    let told = wait_for_problem(&device, "config");
    assert!(told.contains("60-bad.toml:2"), "{told}");
    let warned = machine.journal(&["--unit=twinagent", "--grep=60-bad.toml:2"]);
    assert!(!warned.is_empty(), "the log says so, too");
    let check = machine.order(["twinagent", "check"]).run();
    assert_eq!(check.code, 78, "{check:?}");

    fs::remove_file(machine.path(BAD)).expect("it is there");
    eventually("the problem is over", || {
        device.status()["problems"].as_array().filter(|list| list.is_empty()).map(drop)
    });
    cloud.send("echo/e-1", "1");
    cloud.wait_for_answer("e-1", 200);
}

#[test]
fn a_package_that_was_rolled_back_stays_connected_and_leaves_the_newer_journal_alone() {
    for suite in Suite::ALL {
        let device = Device::online(suite, "");
        let Device { machine, cloud } = &device;
        let old = Package::under_test();
        let new = old.as_version("99.0-1", machine.folder());
        let (old, new) = (machine.bring(&old), machine.bring(&new));
        machine.order(["apt-get", "install", "--yes", &new]).done();

        // What that version may have done before it was found wanting.
        machine.sh("systemctl stop twinagent");
        let journal = machine.read("/var/lib/twinagent/journal");
        let newer = journal.replacen("twinagent journal 1 ", "twinagent journal 2 ", 1);
        assert_ne!(journal, newer);
        fs::write(machine.path("/var/lib/twinagent/journal"), &newer).expect("its owner and mode stay");
        machine.write("/etc/twinagent/conf.d/30-new.toml", "[session]\nstyle = \"newer\"\n[teleport]\nenable = true\n");
        let logins = cloud.logins();
        machine.order(["apt-get", "install", "--yes", "--allow-downgrades", &old]).done();

        cloud.wait_for_login(logins);
        let told = wait_for_problem(&device, "journal");
        assert!(told.contains("format 2"), "{told}");
        assert!(machine.sh("twinagent status").contains("written in format 2"));
        let warned = machine.journal(&["--unit=twinagent", "--grep=30-new.toml:2"]);
        assert!(!warned.is_empty(), "unknown keys are warned of");
        cloud.send("echo/e-1", "1");
        cloud.wait_for_answer("e-1", 200);
        cloud.send("rebootDevice/r-1", "");
        cloud.wait_for_answer("r-1", 503);
        assert_eq!(machine.read("/var/lib/twinagent/journal"), newer);
    }
}

/// The text of the problem of this kind, once the status tells of it.
#[track_caller]
fn wait_for_problem(device: &Device, code: &str) -> String {
    let text = |problem: &Value| problem["text"].as_str().map(str::to_owned);
    eventually(format_args!("a problem of the kind {code}"), || {
        let status = device.status();
        status["problems"].as_array()?.iter().find(|problem| problem["code"] == code).and_then(text)
    })
}
