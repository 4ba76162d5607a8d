//! The first day of a device, line by line as README.md tells it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::harness::{Cloud, Machine, Package, Suite, TOKEN, eventually};

const BEGIN: &str = "<!-- The lines of this section are run as they stand by tests/system. -->";
const END: &str = "<!-- End of the lines that are run. -->";

/// README's own port.
const PORT: u16 = 8883;

#[test]
fn the_day_one_of_the_readme_leads_from_nothing_to_a_device_that_was_rebooted() {
    let lines = lines();
    let mut machine = Machine::plain(Suite::Bookworm);
    let address = machine.host_address();
    let cloud = Cloud::with(&machine, |options| options.mqtts = Some(format!("{address}:{PORT}")));
    // Nobody reboots a machine in its first minutes, and the agent would not.
    machine.age(Duration::from_secs(600));
    let boot = machine.boot();
    machine.sh("useradd --create-home --groups adm,sudo newcomer
                echo 'newcomer ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/newcomer");
    let package = machine.bring(&Package::under_test());
    machine.sh(&format!("mv {package} /home/newcomer"));
    let environment = format!("cd; export REGISTRY='{}' TOKEN='{TOKEN}'", cloud.registry_url());

    for line in &lines {
        let script = format!("{environment}\n{line}");
        let told = machine.order(["sh", "-euc", &script]).by("newcomer").run();
        if line.contains("rebootDevice") {
            // However it ends: it is told by a machine that goes down meanwhile.
            machine.wait_for_reboot(&boot);
            cloud.wait_for_twin(|twin| twin["reboot"]["state"] == "completed" && twin["reboot"]["reason"] == "day one");
            continue;
        }
        assert_eq!(told.code, 0, "{line}\n{told:?}");
        // What the reader waits for before the next line.
        match line {
            line if line.contains("reload") => cloud.wait_for_login(0),
            line if line.contains("sendCommandToDevice") => drop(cloud.wait_for_answer("hello-1", 200)),
            // The cloud may know it a moment before the agent.
            line if line.starts_with("twinagent status") => eventually("it is connected", || {
                let told = machine.order(["sh", "-euc", &script]).by("newcomer").run();
                told.out.starts_with("connected").then_some(())
            }),
            line if line.contains("/states") => assert!(told.out.contains("binaryData"), "{told:?}"),
            line if line.starts_with("twinagent history") => assert!(told.out.contains("rebootDevice"), "{told:?}"),
            _ => {}
        }
    }
    assert_eq!(machine.boots(), 2);
}

/// The commands of the section that README has marked.
fn lines() -> Vec<String> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README.md");
    let section = readme.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
    let (section, _) = section.unwrap_or_else(|| panic!("README.md has no section between\n{BEGIN}\nand\n{END}"));
    let fenced = section.split("```").skip(1).step_by(2);
    let lines: Vec<_> = fenced.flat_map(|block| block.lines().skip(1)).map(str::to_owned).collect();
    for step in ["apt install", "setup", "check", "pubkey", "status", "sendCommandToDevice", "rebootDevice", "history"]
    {
        assert!(lines.iter().any(|line| line.contains(step)), "no line of day one has `{step}`:\n{}", lines.join("\n"));
    }
    lines
}
