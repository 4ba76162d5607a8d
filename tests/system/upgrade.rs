//! Upgrades and the way back: no question asked, no edit lost, no command answered twice.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Device, Machine, Package, Suite, eventually, within};

const FILE: &str = "/etc/twinagent/twinagent.toml";

#[test]
fn an_upgrade_during_a_reboot_keeps_edits_and_the_command_is_answered_once() {
    for suite in Suite::ALL {
        let config = "cloud.iotcore.answers = \"events\"\n\
                      [reboot]\nmode = \"simulate\"\nsimulate_for = \"40s\"\ngrace = \"0s\"\n";
        let mut device = Device::online(suite, config);
        let (old, new) = versions(&device.machine);
        let edited = edit(&device.machine);

        device.cloud.send("rebootDevice/r-1", "");
        eventually("the reboot begins", || (!device.cloud.is_connected()).then_some(()));
        let logins = device.cloud.logins();
        // Whoever asks a question here gets no answer.
        let told = device.machine.order(["dpkg", "--install", &new]).run();
        assert_eq!(told.code, 0, "{told:?}");
        assert!(!device.cloud.is_connected(), "the reboot was over before the upgrade");
        assert_eq!(device.machine.read(FILE), edited);
        assert_eq!(version(&device.machine), "99.0-1");

        device.cloud.wait_for_login(logins);
        device.cloud.send("echo/last", "1");
        let mut answers = Vec::new();
        eventually("the answer to the last command", || {
            answers.extend(device.cloud.answers());
            answers.iter().find(|answer| answer["id"] == "last").map(drop)
        });
        let told: Vec<_> =
            answers.iter().filter(|answer| answer["id"] == "r-1").map(|answer| &answer["status"]).collect();
        assert_eq!(told, [&Value::from(202), &Value::from(200)]);

        let logins = device.cloud.logins();
        device.machine.order(["apt-get", "install", "--yes", "--allow-downgrades", &old]).done();
        device.cloud.wait_for_login(logins);
        assert_eq!(device.machine.read(FILE), edited);
        let origin = device.machine.sh("twinagent config --origin");
        assert!(origin.lines().any(|line| line.contains("23h") && line.contains(FILE)), "{origin}");
    }
}

#[test]
fn unattended_upgrades_takes_a_new_version() {
    let device = Device::online(Suite::Bookworm, "");
    let Device { machine, cloud } = &device;
    let edited = edit(machine);
    let new = Package::under_test().as_version("99.0-1", machine.folder());
    publish(machine, &new);
    machine.order(["apt-get", "update"]).done();
    let logins = cloud.logins();
    // As its timer does it.
    let told = machine.order(["unattended-upgrade", "--verbose"]).in_a_unit().within(Duration::from_secs(180)).run();
    assert_eq!(told.code, 0, "{told:?}");
    assert_eq!(version(machine), "99.0-1", "{told:?}");
    cloud.wait_for_login(logins);
    assert_eq!(machine.read(FILE), edited);
}

#[test]
fn the_agent_upgrades_itself_by_a_job_and_its_new_version_answers_once() {
    for suite in Suite::ALL {
        let mut device = Device::online(suite, "cloud.iotcore.answers = \"events\"\n");
        let machine = &device.machine;
        machine.use_example("apt-upgrade", "upgradePackages");
        publish(machine, &Package::under_test().as_version("99.0-1", machine.folder()));
        let agent = machine.property("twinagent.service", "MainPID");
        let mut outcomes: Vec<Value> = Vec::new();
        let mut ask = |command: &str, payload: &str| {
            let (_, id) = command.split_once('/').expect("a method and an id");
            device.cloud.send(command, payload);
            within(Duration::from_secs(180), format!("the outcome of {command}"), || {
                outcomes.extend(device.cloud.answers().into_iter().filter(|answer| answer["status"] != 202));
                outcomes.iter().any(|answer| answer["id"] == id).then(|| outcomes.clone())
            })
        };
        ask("upgradePackages/u-0", r#"{"package":"Twin agent"}"#);
        no_jobs_are_left(&device.machine);
        ask("upgradePackages/u-1", r#"{"package":"twinagent"}"#);
        let all = ask("echo/last", "");
        let told = |id: &str| -> Vec<&Value> { all.iter().filter(|answer| answer["id"] == id).collect() };
        assert_eq!((told("u-0").len(), told("u-1").len()), (1, 1), "{all:#?}");
        assert_ne!(told("u-0")[0]["status"], 200, "no name of a package: {all:#?}");
        assert_eq!(told("u-1")[0]["status"], 200, "{all:#?}");
        let machine = &device.machine;
        assert_eq!(version(machine), "99.0-1", "{all:#?}");
        assert_ne!(machine.property("twinagent.service", "MainPID"), agent, "another agent has answered");
        assert_eq!(machine.sh("grep -c ' upgrade twinagent:' /var/log/dpkg.log"), "1", "it was done once");
        no_jobs_are_left(machine);
        assert_eq!(machine.sh("systemctl --failed --no-legend"), "");
    }
}

/// A job stays for a moment after its end, and then goes with its payload.
#[track_caller]
fn no_jobs_are_left(machine: &Machine) {
    eventually("the jobs are cleared away", || {
        let left = machine.sh("systemctl list-units --all --no-legend 'twinagent-job-*'; ls /run/twinagent-jobs");
        left.is_empty().then_some(())
    });
}

/// Edits the file that people edit, and returns its text.
fn edit(machine: &Machine) -> String {
    let shipped = machine.read(FILE);
    let edited = shipped.replace("#heartbeat = \"24h\"", "heartbeat = \"23h\"");
    assert_ne!(edited, shipped);
    machine.write(FILE, &edited);
    edited
}

/// Where the package under test and a newer one lie in the machine.
fn versions(machine: &Machine) -> (String, String) {
    let old = Package::under_test();
    let new = old.as_version("99.0-1", machine.folder());
    (machine.bring(&old), machine.bring(&new))
}

fn version(machine: &Machine) -> String {
    machine.sh("dpkg-query --show --showformat '${Version}' twinagent")
}

/// Makes the machine's own disk a source of packages that apt trusts and unattended-upgrades takes from.
fn publish(machine: &Machine, package: &Package) {
    let folder = machine.path("/srv/packages");
    fs::create_dir_all(&folder).expect("a new folder");
    fs::copy(&package.file, folder.join(package.name())).expect("a copy");
    let size = package.file.metadata().expect("a file").len();
    let sum = |file: &str| machine.sh(&format!("sha256sum '/srv/packages/{file}' | cut -d' ' -f1"));
    let control = machine.sh(&format!("dpkg-deb --field '/srv/packages/{}'", package.name()));
    let list = format!("{control}\nFilename: ./{}\nSize: {size}\nSHA256: {}\n", package.name(), sum(package.name()));
    machine.write("/srv/packages/Packages", &list);
    let release = format!(
        "Origin: Story\nLabel: Story\nSuite: stable\nCodename: bookworm\nDate: {}\nSHA256:\n {} {} Packages\n",
        machine.sh("date --utc --rfc-email"),
        sum("Packages"),
        list.len()
    );
    machine.write("/srv/packages/Release", &release);
    machine.write("/etc/apt/sources.list", "deb [trusted=yes] copy:/srv/packages ./\n");
    machine.write("/etc/apt/apt.conf.d/90story", "Unattended-Upgrade::Origins-Pattern:: \"origin=Story\";\n");
}
