//! The examples that the package brings. Of the configuration each way is right as it stands; of handlers each manifest is,
//! and what it names does what it says, tried on folders of the test's own.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::{Device, write_program};

const EXAMPLE: &str = include_str!("../../packaging/examples/iothub.toml");
/// Base64 of anything.
const KEY: &str = "a2V5a2V5a2V5a2V5";

/// What all ways have, and each way: as it stands, or without the signs that make comments of its lines.
fn ways() -> (&'static str, Vec<String>) {
    let mut parts = EXAMPLE.trim_end().split("\n\n").skip(1);
    let common = parts.next().expect("the kind of the cloud");
    let way = |part: &'static str| {
        let line = |line: &'static str| line.strip_prefix('#').filter(|line| !line.starts_with(' ')).unwrap_or(line);
        part.lines().map(line).collect::<Vec<_>>().join("\n")
    };
    (common, parts.map(way).collect())
}

/// A self-signed certificate and its key.
fn make_certificate(chain: &Path, key: &Path) {
    let made = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=gateway-7".split(' '))
        .arg("-keyout")
        .arg(key)
        .arg("-out")
        .arg(chain)
        .stderr(Stdio::null())
        .status()
        .expect("openssl runs");
    assert!(made.success(), "{made}");
}

#[test]
fn each_way_of_the_example_for_iot_hub_is_right() {
    let (common, ways) = ways();
    assert_eq!(ways.len(), 4, "{ways:#?}");
    for way in ways {
        let device = Device::configured("");
        let text = format!("{common}\n{way}\n").replace("/etc/twinagent/", &format!("{}/", device.path("").display()));
        fs::write(device.path("twinagent.toml"), text.replace("//", "/")).expect("a file");
        let (connection_string, key) = (device.path("connection-string"), device.path("device-key"));
        let content = format!("HostName=myhub.azure-devices.net;DeviceId=gateway-7;SharedAccessKey={KEY}\n");
        fs::write(&connection_string, content).expect("a file");
        if way.contains("cert_file") {
            make_certificate(&device.path("device.pem"), &key);
        } else {
            fs::write(&key, format!("{KEY}\n")).expect("a file");
        }
        for secret in [connection_string, key] {
            fs::set_permissions(secret, Permissions::from_mode(0o600)).expect("its mode");
        }
        let told = device.run(&["check"]);
        assert_eq!((told.code, told.err.as_str()), (0, ""), "{way}\n{told:?}");
    }
}

/// Each handler, by the folder that it is in.
const HANDLERS: [&str; 5] = ["apt-upgrade", "diagnostics", "hostname", "led", "restart-gateway"];
/// Where the heads of manifests have programs put.
const PROGRAMS: &str = "/usr/local/lib/twinagent/";

fn of_handler(name: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/examples").join(name).join(file)
}

/// Runs the program of an example with these arguments and variables; its exit code, and what it printed.
fn run(name: &str, arguments: &[&Path], variables: &[(&str, &Path)], stdin: &str) -> (i32, String) {
    let mut command = Command::new(of_handler(name, name));
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").envs(variables.iter().copied());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example can be run");
    // Whoever reads nothing may be gone already.
    let _ = child.stdin.take().expect("a pipe").write_all(stdin.as_bytes());
    let output = child.wait_with_output().expect("an end");
    (output.status.code().expect("an exit code"), String::from_utf8(output.stdout).expect("UTF-8"))
}

/// Puts a program of this name before those of the machine: a note of its words in `told`, a word a line.
fn stand_in(folder: &Path, name: &str) {
    let path = folder.join(name);
    let script = format!("#!/bin/sh\nprintf '%s\\n' {name} \"$@\" >>{}/told\n", folder.display());
    write_program(&path, &script);
}

fn told(folder: &Path) -> String {
    let told = fs::read_to_string(folder.join("told")).unwrap_or_default();
    // There may be no second time without it.
    let _ = fs::remove_file(folder.join("told"));
    told.replace('\n', " ")
}

/// What a job is run with: a credential with this payload, and stand-ins before the machine's programs.
fn run_as_job(name: &str, folder: &Path, payload: &str, hosts: &Path) -> (i32, String) {
    fs::write(folder.join("payload"), payload).expect("a file");
    let path = format!("{}:/usr/bin:/bin", folder.display());
    let variables = [("CREDENTIALS_DIRECTORY", folder), ("PATH", Path::new(&path)), ("HOSTS_FILE", hosts)];
    let (code, _) = run(name, &[], &variables, "");
    (code, told(folder))
}

#[test]
fn the_manifest_of_each_handler_is_right() {
    let device = Device::configured("");
    let folder = device.path("handlers.d");
    fs::create_dir(&folder).expect("a folder");
    for name in HANDLERS {
        let text = fs::read_to_string(of_handler(name, &format!("{name}.toml"))).expect("an example");
        // A program that is there, in the place of one that an operator would put there.
        let ours = text.lines().map(|line| {
            if line.starts_with("program = ") && line.contains(PROGRAMS) { "program = \"/usr/bin/env\"" } else { line }
        });
        let path = folder.join(format!("{name}.toml"));
        fs::write(&path, ours.collect::<Vec<_>>().join("\n")).expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("its mode");
    }
    let said = device.run(&["check"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    assert!(said.out.trim_end().ends_with("; 5 handlers"), "{said:?}");
}

#[test]
fn each_manifest_names_what_lies_beside_it() {
    for name in HANDLERS {
        let text = fs::read_to_string(of_handler(name, &format!("{name}.toml"))).expect("an example");
        let named = if text.contains("kind = \"unit\"") {
            assert!(text.contains(&format!("\nunit = \"{name}\"\n")), "{text}");
            let unit = fs::read_to_string(of_handler(name, &format!("twinagent-job-{name}@.service"))).expect("a unit");
            assert!(unit.contains("\nType=oneshot\n") && unit.contains("\nRemainAfterExit=yes\n"), "{unit}");
            unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("what it runs").to_owned()
        } else {
            let line = text.lines().find_map(|line| line.strip_prefix("program = ")).expect("a program");
            line.trim_matches('"').to_owned()
        };
        let Some(program) = named.strip_prefix(PROGRAMS) else {
            assert!(named.starts_with("/usr/bin/systemctl "), "{named}");
            continue;
        };
        let mode = fs::metadata(of_handler(name, program)).expect("the program").permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{program}");
    }
}

#[test]
fn the_light_goes_on_and_off_and_nothing_else_is_taken_for_an_order() {
    let light = TempDir::new().expect("a folder");
    let set = |name: &str, text: &str| fs::write(light.path().join(name), text).expect("a file");
    let get = |name: &str| fs::read_to_string(light.path().join(name)).expect("a file");
    set("max_brightness", "255\n");
    set("brightness", "0\n");
    set("trigger", "heartbeat\n");
    let order = |payload: &str| run("led", &[light.path()], &[], payload);
    assert_eq!(order("{\"on\": true}\n"), (0, "{\"brightness\":255}\n".to_owned()));
    assert_eq!((get("brightness"), get("trigger")), ("255\n".into(), "none\n".into()));
    assert_eq!(order("{\"on\":false}"), (0, "{\"brightness\":0}\n".to_owned()));
    for payload in ["", "null", "true", "{\"on\":1}", "{\"on\":true,\"off\":true}", "{\"on\":true}{\"on\":true}"] {
        assert_eq!(order(payload), (65, String::new()), "{payload}");
    }
    assert_eq!(get("brightness"), "0\n");
}

#[test]
fn the_bundle_is_bounded_and_goes_on_where_a_part_fails() {
    let (code, text) = run("diagnostics", &[], &[], "");
    assert_eq!(code, 0);
    let parts: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("== ")).collect();
    assert_eq!(parts[..4], ["system", "time", "seconds up", "load"], "{text}");
    assert_eq!(parts.last(), Some(&"failed services"), "{text}");
    assert!(text.len() <= 32_768, "{} bytes", text.len());

    // Nothing of the machine is found, and one program never stops to talk.
    let folder = TempDir::new().expect("a folder");
    for (name, script) in
        [("head", "/usr/bin/head \"$@\""), ("timeout", "/usr/bin/timeout \"$@\""), ("df", "/usr/bin/yes")]
    {
        write_program(&folder.path().join(name), &format!("#!/bin/sh\nexec {script}\n"));
    }
    let (code, text) = run("diagnostics", &[], &[("PATH", folder.path())], "");
    assert_eq!(code, 0);
    assert!(text.contains("(ended with 127)") && text.matches("\ny").count() > 1_000, "{text}");
    assert!(text.len() <= 32_768, "{} bytes", text.len());
}

#[test]
fn a_host_name_is_set_if_it_is_one() {
    let folder = TempDir::new().expect("a folder");
    let hosts = folder.path().join("hosts");
    let fresh = "127.0.0.1 localhost\n127.0.1.1 old old.example\n";
    stand_in(folder.path(), "hostnamectl");
    let name = |payload: &str| {
        fs::write(&hosts, fresh).expect("a file");
        let (code, told) = run_as_job("hostname", folder.path(), payload, &hosts);
        (code, told, fs::read_to_string(&hosts).expect("a file") != fresh)
    };
    let both = "hostnamectl set-hostname --static gateway-7 hostnamectl set-hostname --transient gateway-7 ";
    assert_eq!(name("\"gateway-7\""), (0, both.to_owned(), true));
    assert_eq!(fs::read_to_string(&hosts).expect("a file"), "127.0.0.1 localhost\n127.0.1.1 gateway-7\n");
    assert_eq!(name("null"), (0, String::new(), false));
    let long = format!("\"{}\"", "a".repeat(64));
    for payload in [
        "",
        "\"\"",
        "\"-a\"",
        "\"a-\"",
        "\"a b\"",
        "\"a\\nb\"",
        "\"a\"\n\"b\"",
        "\"--help\"",
        "{}",
        "7",
        "\"a;b\"",
        &long,
    ] {
        assert_eq!(name(payload), (65, String::new(), false), "{payload:?}");
    }
}

#[test]
fn packages_are_upgraded_all_or_one_and_by_no_other_words() {
    let folder = TempDir::new().expect("a folder");
    for program in ["apt-get", "dpkg"] {
        stand_in(folder.path(), program);
    }
    let options = "apt-get --quiet --yes -o DPkg::Lock::Timeout=1200 -o Dpkg::Options::=--force-confdef \
                   -o Dpkg::Options::=--force-confold ";
    let order = |payload: &str| run_as_job("apt-upgrade", folder.path(), payload, Path::new("/nowhere"));
    let before = format!("dpkg --configure -a {options}update ");
    for payload in ["null", "{}"] {
        assert_eq!(order(payload), (0, format!("{before}{options}upgrade ")), "{payload}");
    }
    for payload in ["{\"package\":\"libc6\"}", "{ \"package\" :\n \"libc6\" }\n"] {
        assert_eq!(order(payload), (0, format!("{before}{options}install --only-upgrade libc6 ")), "{payload}");
    }
    for name in ["", "-o", "a b", "a\\u0020b", "Libc6", "../a.deb", "a=1", "a/b", "$(id)", "a\\\"b"] {
        let payload = format!("{{\"package\":\"{name}\"}}");
        assert_eq!(order(&payload), (65, String::new()), "{payload}");
    }
}

#[test]
fn an_upgrade_that_is_stopped_brings_to_its_end_what_has_begun_and_begins_nothing_else() {
    let folder = TempDir::new().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    stand_in(folder.path(), "dpkg");
    let here = folder.path().display();
    let script = format!(
        "#!/bin/sh\ntouch {here}/begun\nwhile [ ! -e {here}/go ]; do sleep 0.05; done\necho \"$*\" >>{here}/done\n"
    );
    write_program(&at("apt-get"), &script);
    fs::write(at("payload"), "null").expect("a file");
    let mut job = Command::new(of_handler("apt-upgrade", "apt-upgrade"))
        .env_clear()
        .env("PATH", format!("{here}:/usr/bin:/bin"))
        .env("CREDENTIALS_DIRECTORY", folder.path())
        .stderr(Stdio::null())
        .spawn()
        .expect("the example can be run");
    while !at("begun").exists() {
        thread::sleep(Duration::from_millis(10));
    }
    let pid = rustix::process::Pid::from_child(&job);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    // Long enough for a script that is ended by it to be gone.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(job.try_wait().expect("a child"), None, "apt would go on alone");
    fs::write(at("go"), "").expect("a file");
    assert_eq!(job.wait().expect("an end").code(), Some(1));
    let done = fs::read_to_string(at("done")).expect("apt came to its end");
    assert!(done.lines().count() == 1 && done.ends_with("update\n"), "{done}");
}

/// reboot.target of systemd reboots by force after 30 minutes, whatever still stops.
#[test]
fn an_upgrade_that_is_stopped_has_ended_before_a_reboot_is_forced() {
    let unit = fs::read_to_string(of_handler("apt-upgrade", "twinagent-job-apt-upgrade@.service")).expect("a file");
    let minutes = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")?.strip_suffix("min"));
    assert!(minutes.and_then(|minutes| minutes.parse::<u32>().ok()).is_some_and(|minutes| minutes < 30), "{unit}");
    // When systemd says that it has ended, no apt goes on.
    assert!(unit.lines().any(|line| line == "KillMode=mixed"), "{unit}");
}
