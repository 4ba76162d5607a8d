//! What a person finds in the journal of a machine: the lines as ever, and each field by its name.

use crate::harness::{Device, Suite, eventually};

fn is_found(suite: Suite) {
    let device = Device::online(suite, "[reboot]\nmode = \"simulate\"\nsimulate_for = \"1s\"\ngrace = \"0s\"\n");
    let Device { machine, cloud } = &device;
    cloud.send("rebootDevice/r-1", r#"{"reason":"for the story"}"#);
    cloud.wait_for_answer("r-1", 200);
    cloud.send("echo/e-1", "{}");

    let found = |query: &str| machine.sh(&format!("journalctl --quiet --output=cat {query}"));
    let told = eventually("the end of the command is in the journal", || {
        let told = found("--unit=twinagent TWINAGENT_ID=r-1");
        (told.lines().count() == 3).then_some(told)
    });
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines,
        [
            "command accepted id=r-1 method=rebootDevice",
            "command started id=r-1 simulated=true",
            "command finished id=r-1 status=200",
        ],
        "and nothing of its payload"
    );
    assert_eq!(found("--identifier=twinagent TWINAGENT_METHOD=rebootDevice"), lines[0]);
    assert_eq!(found("TARGET=twinagent::daemon::narrator TWINAGENT_STATUS=200"), lines[2]);
    assert_eq!(found("--unit=twinagent --priority=err"), "");

    // The last line of a process is read when the process is gone, and still known for ours.
    machine.sh("sleep 2; systemctl stop twinagent");
    let last = eventually("its last line is in the journal", || {
        let last = found("--unit=twinagent _COMM=twinagent --lines=2");
        last.ends_with("stopped").then_some(last)
    });
    assert_eq!(last.lines().collect::<Vec<_>>(), ["disconnected as planned", "stopped"]);

    // Without the journal's socket nothing is lost: the stream that systemd gave us takes it.
    let drop_in = "[Service]\nInaccessiblePaths=/run/systemd/journal/socket\n";
    machine.write("/etc/systemd/system/twinagent.service.d/no-socket.conf", drop_in);
    let before = cloud.logins();
    machine.sh("systemctl daemon-reload; systemctl start twinagent");
    cloud.wait_for_login(before);
    let streamed = eventually("the daemon says that it is connected", || {
        let told = found("--unit=twinagent _TRANSPORT=stdout PRIORITY=6");
        told.contains("connected session_kept=").then_some(told)
    });
    assert!(streamed.starts_with("started version="), "{streamed}");
}

#[test]
fn each_command_is_found_by_its_id_in_the_journal_of_bookworm() {
    is_found(Suite::Bookworm);
}

#[test]
fn each_command_is_found_by_its_id_in_the_journal_of_trixie() {
    is_found(Suite::Trixie);
}
