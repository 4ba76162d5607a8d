//! What the programs behind commands and the agent's own user may do to a machine, tried one by one. What is refused inside
//! can be done by root outside, which shows that the refusal is no accident of the machine.

use std::collections::BTreeMap;

use crate::harness::{Device, Machine, Suite, eventually};

/// Each prints one line: its name, `ok` or `refused`, and why. `$1` is the agent's process.
const ATTEMPTS: &str = r#"
agent=$1
try() {
    name=$1
    shift
    if said=$("$@" 2>&1 </dev/null); then echo "$name ok"; else echo "$name refused $said" | head -n 1; fi
}
reads() { head -c 1 "$1" | grep -q .; }
calls() { perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "$!\n"' "$1"; }
# PTRACE_SEIZE, which does not stop it; the number of the call as on this machine (ptrace(2)).
trace() {
    case $(uname -m) in x86_64) call=101 ;; *) call=117 ;; esac
    perl -e 'syscall($ARGV[0] + 0, 0x4206, $ARGV[1] + 0, 0, 0) == 0 or die "$!\n"' "$call" "$1"
}
lists() { ls -A "$1" | grep -q .; }
sees_log() { journalctl --quiet --unit=twinagent --lines=1 | grep -q .; }
adds() { : >"$1" && rm "$1"; }

try read-the-key reads /etc/twinagent/keys/device.key
try read-the-key-by-another-root reads "/proc/$agent/root/etc/twinagent/keys/device.key"
try read-the-configuration reads /etc/twinagent/conf.d/50-setup.toml
try read-the-state lists /var/lib/twinagent
try read-the-credentials lists /run/credentials/twinagent.service
try read-the-environment reads "/proc/$agent/environ"
try read-the-memory reads "/proc/$agent/auxv"
try open-the-memory perl -e 'open(my $m, "+<", "/proc/$ARGV[0]/mem") or die "$!\n"' "$agent"
try see-the-descriptors lists "/proc/$agent/fd"
try trace-the-agent trace "$agent"
try signal-the-agent kill -0 "$agent"
try read-the-journal sees_log
try read-the-file-of-the-journal sh -c 'head -c 1 /var/log/journal/*/system.journal | grep -q .'
try read-payloads-of-jobs lists /run/twinagent-jobs
try call-the-agent calls /run/twinagent/io.twinagent.Agent
try invoke-a-method twinagent invoke echo
try call-the-service-of-programs calls /run/twinagent-handlers/io.twinagent.Handlers
try call-the-reader-of-the-journal calls /run/twinagent-logs/socket
try ask-for-a-reboot adds /run/twinagent-reboot/story
try hold-a-reboot-back adds /run/twinagent-veto.d/story
try add-a-method adds /etc/twinagent/handlers.d/story.toml
try write-to-usr adds /usr/local/lib/twinagent/story
try restart-a-service systemctl restart ssh.service
try start-a-job systemctl start twinagent-job-story@1.service
try read-home-of-root lists /root
try become-root setpriv --reuid=0 true
try become-the-agent setpriv --reuid=twinagent --clear-groups true
"#;

/// What a program does all day.
const ORDINARY: &str = r#"
try write-its-state adds /var/lib/twinagent-handlers/story
try write-tmp adds /tmp/story
try write-shared-memory adds /dev/shm/story
try read-usr reads /usr/share/twinagent/twinagent.toml
try read-the-load reads /proc/loadavg
try read-the-boot-id reads /proc/sys/kernel/random/boot_id
try connect bash -c 'echo >"/dev/tcp/$0/$1"' "$2" "$3"
try ask-systemd systemctl is-active twinagent.service
try run-perl perl -e 1
try copy sh -c 'cp -a /etc/hostname /tmp/copied && rm /tmp/copied'
"#;

/// Where the attempts are.
const TRIED: &str = "/usr/local/share/attempts";

/// A unit that is none of ours, by a name that every reader knows.
const FOREIGN: &str = "[Service]\nExecStart=/bin/sleep infinity\n";

fn prepare(machine: &Machine) {
    for unit in ["ssh.service", "other.service"] {
        machine.write(&format!("/etc/systemd/system/{unit}"), FOREIGN);
    }
    let job = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n";
    machine.write("/etc/systemd/system/twinagent-job-story@.service", job);
    machine.sh(
        "systemctl daemon-reload; systemctl start ssh.service other.service; echo 1 >/run/twinagent-jobs/story.json",
    );
}

/// By name: whether it could be done, and why not.
fn told(text: &str) -> BTreeMap<String, (bool, String)> {
    let line = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let (name, verdict, why) = (word(), word(), word());
        assert!(["ok", "refused"].contains(&verdict.as_str()), "{line:?}");
        (name, (verdict == "ok", why))
    };
    text.lines().map(line).collect()
}

fn names(script: &str) -> usize {
    script.lines().filter(|line| line.starts_with("try ")).count()
}

fn a_program_reaches_nothing_of_the_agent(suite: Suite) {
    let device = Device::online(suite, "");
    let Device { machine, cloud } = &device;
    // A key that systemd hands over, beside the one in the file.
    machine
        .sh("install -d -m 0700 /etc/credstore; cp /etc/twinagent/keys/device.key /etc/credstore/twinagent.device.key
         systemctl restart twinagent.service");
    cloud.wait_for_login(1);
    prepare(machine);
    let agent = machine.property("twinagent.service", "MainPID");
    let script = format!("{ATTEMPTS}\n{ORDINARY}");
    machine.write(TRIED, &script);
    let address = machine.host_address().to_string();
    let arguments = format!("arguments = [\"{agent}\", \"{address}\", \"{}\"]\n", cloud.port());
    // All of it is more than a reported document holds.
    machine.add_program("tryAll", &format!("sh {TRIED} \"$@\" >/var/lib/twinagent-handlers/told"), &arguments);
    cloud.send("tryAll/t-1", "");
    cloud.wait_for_answer("t-1", 200);
    let inside = told(&machine.read("/var/lib/twinagent-handlers/told"));
    let ordinary: Vec<&str> =
        ORDINARY.lines().filter_map(|line| line.strip_prefix("try ")?.split(' ').next()).collect();
    for (name, (could, why)) in &inside {
        assert_eq!(*could, ordinary.contains(&name.as_str()), "{name}: {why}");
    }
    assert_eq!(inside.len(), names(&script), "{inside:#?}");

    // And the method that matters most, which nobody tries outside.
    machine.add_program("tryReboot", "twinagent invoke rebootDevice", "");
    cloud.send("tryReboot/t-2", "");
    let answer = cloud.wait_for_answer("t-2", 500);
    assert!(answer["payload"]["stderr"].as_str().is_some_and(|said| said.contains("cannot be reached")), "{answer:#}");
    assert!(cloud.twin()["reboot"].get("commandId").is_none(), "no reboot was asked for");

    // It holds after a restart of the agent too, for a service of programs that was there before.
    machine.sh("systemctl restart twinagent.service");
    cloud.wait_for_login(2);
    cloud.send("tryReboot/t-3", "");
    cloud.wait_for_answer("t-3", 500);

    let agent = machine.property("twinagent.service", "MainPID");
    let script = format!("sh {TRIED} {agent} {address} {}", cloud.port());
    for (name, (could, why)) in told(&machine.sh(&script)) {
        assert!(could, "root can do all of it outside, {name} too: {why}");
    }
}

#[test]
fn a_program_reaches_nothing_of_the_agent_on_bookworm() {
    a_program_reaches_nothing_of_the_agent(Suite::Bookworm);
}

#[test]
fn a_program_reaches_nothing_of_the_agent_on_trixie() {
    a_program_reaches_nothing_of_the_agent(Suite::Trixie);
}

#[test]
fn the_user_of_the_agent_starts_its_jobs_and_what_was_allowed_and_nothing_else() {
    for suite in Suite::ALL {
        let device = Device::online(suite, "[methods]\nenable = [\"restartService\"]\n");
        let Device { machine, cloud } = &device;
        prepare(machine);
        let may = |verb: &str, unit: &str| {
            machine.order(["systemctl", "--no-ask-password", verb, unit]).by("twinagent").run().code == 0
        };
        let refused = |orders: &[(&str, &str)]| {
            let could: Vec<_> = orders.iter().filter(|(verb, unit)| may(verb, unit)).collect();
            assert!(could.is_empty(), "{could:?}");
        };
        for name in ["twinagent-jobs@1", "x-twinagent-job-story@1", "twinagent-job-story"] {
            machine.write(&format!("/etc/systemd/system/{name}.service"), FOREIGN);
        }
        machine.sh("systemctl daemon-reload");
        let never = [
            ("restart", "other.service"),
            ("stop", "other.service"),
            ("start", "twinagent-jobs@1.service"),
            ("start", "x-twinagent-job-story@1.service"),
            ("start", "twinagent-job-story.service"),
            ("start", "twinagent-job-story@a.b.service"),
            ("stop", "twinagent-handlers.socket"),
            ("stop", "systemd-journald.socket"),
            ("restart", "twinagent.service"),
            ("start", "poweroff.target"),
            ("enable", "other.service"),
            ("mask", "other.service"),
            ("kill", "other.service"),
            ("set-environment", "A=b"),
        ];
        refused(&never);
        refused(&[("restart", "ssh.service")]);
        // A unit that the call itself describes, which would run as root: by names that may be started, too.
        let describes_one = |unit: &str, user: &str| {
            let manager = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"];
            let call = ["StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "fail", "1", "ExecStart", "a(sasb)", "1"];
            let runs = ["/usr/bin/touch", "2", "touch", "/root/hole", "true", "0"];
            let words = ["busctl", "call"].iter().chain(&manager).chain(&call).chain(&runs).copied();
            let words: Vec<&str> = words.collect();
            machine.order(words).by(user).run()
        };
        let is_not_described = |unit: &str| {
            let told = describes_one(unit, "twinagent");
            let is_refused =
                ["Access denied", "Interactive authentication required", "interactive authentication required"]
                    .iter()
                    .any(|words| told.err.contains(words));
            assert!(told.code != 0 && is_refused, "{unit}: {told:?}");
        };
        // Of root the same call does what it says, so it is the right that the user lacks.
        describes_one("free.service", "root").good("root may");
        eventually("a unit of root's has run", || machine.path("/root/hole").exists().then_some(()));
        machine.sh("rm /root/hole");
        for unit in [
            "free.service",
            "twinagent-job-none@1.service",
            "twinagent-job-story@1.service",
            "other.service",
            "gone.service",
        ] {
            is_not_described(unit);
        }
        machine.write("/etc/systemd/system/gone.service", FOREIGN);
        machine.sh("systemctl daemon-reload; twinagent allow-units gone.service; rm /etc/systemd/system/gone.service
             systemctl daemon-reload");
        // One that was allowed and is gone.
        is_not_described("gone.service");
        refused(&[("start", "gone.service")]);
        machine.sh("! twinagent allow-units nowhere.service; twinagent allow-units --remove gone.service");
        machine.sh("! test -e /root/hole");
        assert!(machine.order(["systemctl", "daemon-reload"]).by("twinagent").run().code != 0);
        assert!(may("start", "twinagent-job-story@1.service"), "a job");
        assert!(may("stop", "twinagent-job-story@1.service"), "a job");

        cloud.send("restartService/s-1", r#"{"unit":"ssh.service"}"#);
        let answer = cloud.wait_for_twin(|twin| twin["commands"]["s-1"]["status"].as_u64() >= Some(400));
        let before = machine.property("ssh.service", "MainPID");
        machine.sh("twinagent allow-units ssh.service");
        cloud.send("restartService/s-2", r#"{"unit":"ssh.service"}"#);
        cloud.wait_for_answer("s-2", 200);
        assert_ne!(machine.property("ssh.service", "MainPID"), before, "after {:#}", answer["commands"]["s-1"]);
        assert!(may("restart", "ssh.service"));
        refused(&never);
        machine.sh("twinagent allow-units --remove ssh.service");
        refused(&[("restart", "ssh.service")]);
    }
}

#[test]
fn no_job_reads_what_a_link_among_the_payloads_leads_to() {
    for suite in Suite::ALL {
        let device = Device::online(suite, "");
        let Device { machine, cloud } = &device;
        machine.add_job("story", "cat $CREDENTIALS_DIRECTORY/payload", "");
        cloud.send("story/p-1", r#"{"a":1}"#);
        let answer = cloud.wait_for_answer("p-1", 200);
        let log = answer["payload"]["log"].as_array().expect("lines");
        assert!(log.iter().any(|line| line == r#"{"a":1}"#), "{answer:#}");
        let job = "twinagent-job-story@p-2.service";
        let starts = || machine.order(["systemctl", "start", job]).run().code == 0;
        let file = "/run/twinagent-jobs/twinagent-job-story@p-2.json";
        machine.order(["ln", "-s", "/etc/shadow", file]).by("twinagent").run().good("ln");
        assert!(!starts(), "the link leads nowhere");
        assert!(!machine.sh(&format!("journalctl --quiet --unit={job}")).contains("root:"));
        // The same file in its place shows that it was the link.
        machine.sh(&format!("rm {file}; install -o twinagent -m 0600 /etc/hostname {file}"));
        assert!(starts(), "a file is read");
    }
}

#[test]
fn the_machine_is_switched_off_only_where_the_rule_for_that_is_linked() {
    for suite in Suite::ALL {
        let device = Device::online(suite, "[methods]\nenable = [\"shutdown\"]\n");
        let Device { machine, cloud } = &device;
        cloud.send("shutdown/o-1", "");
        let answer = cloud.wait_for_answer("o-1", 503);
        let why = answer["payload"]["error"].as_str().unwrap_or_default();
        let hint = why.split('`').nth(1).expect("a command in its hint");
        let may = || {
            let asks = [
                "busctl",
                "call",
                "org.freedesktop.login1",
                "/org/freedesktop/login1",
                "org.freedesktop.login1.Manager",
            ];
            machine.order(asks.into_iter().chain(["CanPowerOff"])).by("twinagent").run().out.trim().to_owned()
        };
        assert_ne!(may(), "s \"yes\"");
        machine.sh(&hint.replace("sudo ", ""));
        eventually("the rule is in force", || (may() == "s \"yes\"").then_some(()));
    }
}
