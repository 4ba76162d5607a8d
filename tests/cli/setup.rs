//! Stories of a device's beginning and its end as one: setup, the forms of its public key, reset.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use super::{Device, GOOD, Told};

const WHOLE: [&str; 13] = [
    "setup",
    "--kind",
    "iotcore",
    "--device",
    "gw-1",
    "--host",
    "mqtt.example",
    "--project",
    "p",
    "--region",
    "r",
    "--registry",
    "g",
];

fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .map(|entries| entries.map(|entry| entry.expect("one").file_name().into_string().expect("UTF-8")).collect())
        .unwrap_or_default();
    names.sort();
    names
}

#[test]
fn a_new_machine_is_set_up_by_one_line_and_twice_is_once() {
    let device = Device::new();
    let told = device.run(&WHOLE);
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(told.out.starts_with("-----BEGIN PUBLIC KEY-----\n") && told.out.lines().count() == 4, "{}", told.out);
    assert_eq!(
        told.err,
        "wrote conf.d/50-setup.toml\n\
         made keys/device.key\n\
         next: register the public key above (ES256) for device gw-1 of registry g (project p, region r); `twinagent pubkey --json` prints it for the REST API\n\
         then: `twinagent run`; a daemon that runs already goes on by itself\n\
         configuration is right: device gw-1 of registry g (p, r) at mqtt.example:8883; key ES256\n"
    );
    assert_eq!(
        fs::read_to_string(device.path("conf.d/50-setup.toml")).expect("the file"),
        "# Written by `twinagent setup`, which replaces this file when it is run again.\n\n\
         [device]\nid = \"gw-1\"\n\n[cloud]\nkind = \"iotcore\"\n\n\
         [cloud.iotcore]\nhost = \"mqtt.example\"\nproject_id = \"p\"\nregion = \"r\"\nregistry_id = \"g\"\n"
    );
    let stamp = || {
        let facts = fs::metadata(device.path("conf.d/50-setup.toml")).expect("the file");
        (facts.ino(), facts.ctime(), facts.ctime_nsec())
    };
    let (before, key) = (stamp(), fs::read(device.path("keys/device.key")).expect("the key"));
    let again = device.run(&WHOLE);
    assert_eq!((again.code, &again.out), (0, &told.out));
    assert!(
        again.err.starts_with("left conf.d/50-setup.toml as it is\nleft keys/device.key as it is\n"),
        "{}",
        again.err
    );
    assert_eq!((stamp(), fs::read(device.path("keys/device.key")).expect("the key")), (before, key));
    assert_eq!(entries(&device.path("conf.d")), ["50-setup.toml"]);

    let other: Vec<&str> = WHOLE.iter().map(|word| if *word == "gw-1" { "gw-2" } else { word }).collect();
    assert_eq!(device.run(&other).out, told.out, "another id, the same key");
    assert!(device.run(&["check"]).out.contains("device gw-2 "));
}

#[test]
fn the_daemon_can_read_what_was_set_up_under_any_umask() {
    let device = Device::new();
    let etc = device.path("etc");
    let line = format!("umask 077; exec {} {}", env!("CARGO_BIN_EXE_twinagent"), WHOLE.join(" "));
    let mut command = Command::new("sh");
    command.args(["-ec", &line]).env_clear().env("PATH", "/usr/bin:/bin").env("CONFIGURATION_DIRECTORY", &etc);
    let told = Told::from(command.output().expect("a shell"), device.0.path());
    assert_eq!(told.code, 0, "{}", told.err);
    let mode = |path: &str| fs::metadata(etc.join(path)).expect(path).permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("conf.d"), mode("conf.d/50-setup.toml")), (0o755, 0o755, 0o644));
    assert_eq!(mode("keys/device.key") & 0o137, 0);
}

#[test]
fn what_would_not_work_is_refused_and_nothing_is_written() {
    let without = |name: &str| {
        let at = WHOLE.iter().position(|word| *word == name).expect("an option");
        [&WHOLE[..at], &WHOLE[at + 2..]].concat()
    };
    let with = |words: &[&'static str]| [&WHOLE[..], words].concat();
    let replaced = |old: &str, new: &'static str| {
        WHOLE.iter().map(|word| if *word == old { new } else { word }).collect::<Vec<_>>()
    };
    for (arguments, words) in [
        (without("--kind"), "--kind"),
        (without("--device"), "--device"),
        (without("--host"), "cloud.iotcore.host is not set, and this cloud.kind needs it\nhint: --host sets"),
        (without("--registry"), "hint: --registry sets cloud.iotcore.registry_id"),
        (replaced("iotcore", "mqtt"), "invalid value 'mqtt'"),
        (replaced("gw-1", "1gw"), "device.id: \"1gw\" is not an id for Cloud IoT Core"),
        (replaced("gw-1", "gw-%x"), "device.id: \"gw-%x\" is not taken: there is no such specifier"),
        (replaced("mqtt.example", "mqtts://h"), "is a URL"),
        (with(&["--port", "0"]), "cloud.iotcore.port: is not a port"),
        (with(&["--port", "70000"]), "70000 is not in 0..=65535"),
        (with(&["--region", "s"]), "cannot be used multiple times"),
    ] {
        let device = Device::new();
        let told = device.run(&arguments);
        assert!(told.code == 2 && told.err.contains(words) && told.out.is_empty(), "{arguments:?}: {told:?}");
        assert_eq!(entries(device.0.path()), [""; 0], "{arguments:?}");
    }
}

#[test]
fn roots_that_nobody_could_connect_with_are_refused_and_nothing_is_written() {
    let device = Device::new();
    fs::write(device.path("rubbish.pem"), "rubbish").expect("a file");
    let rubbish = device.path("rubbish.pem");
    for (file, words) in
        [("/no/ca.pem", "No such file or directory"), (rubbish.to_str().expect("UTF-8"), "no certificate in it")]
    {
        let told = device.run(&[&WHOLE[..], &["--ca-file", file]].concat());
        assert_eq!((told.code, told.out.as_str()), (2, ""));
        assert!(told.err.starts_with("twinagent: ca_file ") && told.err.contains(words), "{}", told.err);
        assert!(
            told.err
                .ends_with("\nhint: --ca-file wants the certificates (PEM) of the bridge's CA; nothing was changed\n")
        );
        assert_eq!(entries(device.0.path()), ["rubbish.pem"]);
    }

    // One that was configured before is not of this line, and told as `check` tells it.
    let device = Device::configured("[cloud.iotcore]\nca_file = \"/no/ca.pem\"\n");
    let told = device.run(&WHOLE);
    assert!(told.code == 1 && told.err.contains("\ntwinagent.toml:2: ca_file /no/ca.pem: No such file"), "{told:?}");
}

#[test]
fn what_stands_elsewhere_completes_it_or_is_in_its_way() {
    let device = Device::configured(&GOOD.replace("id = \"gw-1\"", ""));
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bridge/fixtures/ca.cert.pem"), device.path("ca.pem"))
        .expect("a file");
    let short = ["setup", "--kind", "iotcore", "--device", "gw-9", "--ca-file", "ca.pem"];
    let run = device.command(&short).current_dir(device.0.path()).output().expect("the program runs");
    let told = Told::from(run, device.0.path());
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(told.err.contains("device gw-9 of registry my-registry"), "{}", told.err);
    let written = fs::read_to_string(device.path("conf.d/50-setup.toml")).expect("the file");
    assert!(written.contains("ca_file = \"/") && written.contains("/ca.pem\"\n"), "{written}");

    fs::write(device.path("conf.d/60-mine.toml"), "device.id = \"mine\"\n").expect("a file");
    let told = device.run(&["setup", "--kind", "iotcore", "--device", "gw-8"]);
    assert_eq!((told.code, told.out.as_str()), (1, ""));
    assert!(
        told.err.starts_with(
            "twinagent: device.id is set by conf.d/60-mine.toml:1, which wins over conf.d/50-setup.toml\nhint: "
        ),
        "{}",
        told.err
    );
    fs::write(device.path("conf.d/60-mine.toml"), "rubbish").expect("a file");
    let told = device.run(&["setup", "--kind", "iotcore", "--device", "gw-8"]);
    assert!(told.code == 1 && told.err.starts_with("twinagent: conf.d/60-mine.toml:1: "), "{}", told.err);
    assert_eq!(fs::read_to_string(device.path("conf.d/50-setup.toml")).expect("the file"), written);
}

#[test]
fn a_bad_key_or_no_rights_stop_it_before_anything_is_written() {
    let device = Device::new();
    fs::create_dir(device.path("keys")).expect("a folder");
    fs::write(device.path("keys/device.key"), "no key").expect("a file");
    fs::set_permissions(device.path("keys/device.key"), Permissions::from_mode(0o600)).expect("a mode");
    let told = device.run(&WHOLE);
    assert!(told.code == 1 && told.err.contains("keys/device.key cannot be used"), "{}", told.err);
    assert_eq!(entries(device.0.path()), ["keys"]);

    let device = Device::new();
    fs::write(device.path("conf.d"), "").expect("a file in the place of the folder");
    let told = device.run(&WHOLE);
    assert!(told.code == 1 && told.err.contains("conf.d: cannot be listed"), "{}", told.err);
    assert_eq!(entries(device.0.path()), ["conf.d"]);
}

#[test]
fn one_that_was_switched_off_is_judged_as_it_will_be() {
    let device = Device::new();
    fs::create_dir(device.path("conf.d")).expect("a folder");
    let place = device.path("conf.d/50-setup.toml");
    std::os::unix::fs::symlink("/dev/null", &place).expect("a link");
    let told = device.run(&["setup", "--kind", "iotcore", "--device", "gw-1"]);
    assert!(told.code == 2 && told.err.contains("cloud.iotcore.host is not set"), "{}", told.err);
    assert!(fs::symlink_metadata(&place).expect("the link").is_symlink());
    assert_eq!(device.run(&WHOLE).code, 0);
    assert!(fs::symlink_metadata(&place).expect("the file").is_file());
}

/// Runs the program as a user who owns nothing.
fn as_nobody(device: &Device, arguments: &[&str]) -> Told {
    // The build folder may be closed to others.
    let program = device.path("program");
    if !program.exists() {
        // By a process of its own, as in `write_program`.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_twinagent")).arg(&program).status();
        assert!(copied.expect("cp").success());
    }
    fs::set_permissions(device.0.path(), Permissions::from_mode(0o755)).expect("a mode");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program).args(arguments);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("CONFIGURATION_DIRECTORY", device.0.path());
    Told::from(
        command.env("STATE_DIRECTORY", device.path("state")).output().expect("setpriv, as root"),
        device.0.path(),
    )
}

#[test]
fn who_may_not_is_told_so_and_changes_nothing() {
    let device = Device::new();
    let told = as_nobody(&device, &WHOLE);
    assert_eq!(told.code, 77, "{}", told.err);
    assert!(told.err.contains("hint: this takes root"), "{}", told.err);

    assert_eq!(run(&device, &WHOLE).code, 0);
    fs::create_dir(device.path("state")).expect("a folder");
    fs::write(device.path("state/journal"), "x").expect("a file");
    for closed in ["state", "keys"] {
        fs::set_permissions(device.path(closed), Permissions::from_mode(0o755)).expect("a mode");
    }
    for arguments in [&["reset"][..], &["reset", "--identity"], &["pubkey", "--csr"], &["keygen", "--if-missing"]] {
        let told = as_nobody(&device, arguments);
        assert_eq!((told.code, told.out.as_str()), (77, ""), "{arguments:?}: {}", told.err);
        assert!(told.err.contains("hint: this takes root"), "{}", told.err);
    }
    assert!(device.path("state/journal").exists() && device.path("keys/device.key").exists());
    fs::set_permissions(device.path("conf.d/50-setup.toml"), Permissions::from_mode(0o600)).expect("a mode");
    let told = as_nobody(&device, &["config"]);
    assert!(
        told.code == 1 && told.err.contains("conf.d/50-setup.toml: cannot be opened: Permission denied"),
        "{}",
        told.err
    );
}

fn openssl(folder: &Path, line: &str) -> String {
    let output = Command::new("sh").args(["-ec", line]).current_dir(folder).output().expect("a shell");
    assert!(output.status.success(), "`{line}`: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_public_key_has_the_form_that_registers_it() {
    for (algorithm, format) in [("EC -pkeyopt ec_paramgen_curve:P-256", "ES256_PEM"), ("RSA", "RSA_PEM")] {
        let device = Device::configured(GOOD);
        fs::create_dir(device.path("keys")).expect("a folder");
        openssl(device.0.path(), &format!("umask 077; openssl genpkey -algorithm {algorithm} -out keys/device.key"));

        let told = device.run(&["pubkey", "--json"]);
        assert_eq!((told.code, told.out.lines().count()), (0, 1), "{}", told.err);
        let credential: serde_json::Value = serde_json::from_str(&told.out).expect("JSON");
        let pem = device.run(&["pubkey"]).out;
        assert_eq!(credential, serde_json::json!({ "format": format, "key": pem }));

        let told = device.run(&["pubkey", "--csr"]);
        assert_eq!(told.code, 0, "{}", told.err);
        fs::write(device.path("request.pem"), &told.out).expect("a file");
        let line = "openssl req -in request.pem -verify -noout -subject -nameopt RFC2253 2>&1; openssl req -in request.pem -pubkey -noout";
        let said = openssl(device.0.path(), line);
        assert!(said.contains("verify OK") && said.contains("subject=CN=gw-1\n") && said.ends_with(&pem), "{said}");
        let text = openssl(device.0.path(), "openssl req -in request.pem -text -noout");
        let signed = if format == "RSA_PEM" { "sha256WithRSAEncryption" } else { "ecdsa-with-SHA256" };
        assert!(text.contains(signed) && text.contains("Version: 1 (0x0)"), "{text}");
        // A CA makes a certificate of it.
        openssl(
            device.0.path(),
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=ca 2>/dev/null
             openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -out device.pem 2>/dev/null
             openssl verify -CAfile ca.pem device.pem",
        );
        // One that was changed after it was signed is found out.
        let der = "openssl req -in request.pem -outform DER | sed s/gw-1/gw-2/ | openssl req -inform DER -verify -noout 2>&1 || true";
        assert!(!openssl(device.0.path(), der).contains("verify OK"));
    }
}

#[test]
fn a_request_needs_a_name_that_fits() {
    let device = Device::new();
    assert_eq!(device.run(&["keygen"]).code, 0);
    let told = device.run(&["pubkey", "--csr"]);
    assert!(told.code == 1 && told.err.contains("none is configured\nhint: "), "{}", told.err);
    for (length, code) in [(64, 0), (65, 1)] {
        let text = format!("device.id = \"{}\"", "g".repeat(length));
        fs::write(device.path("twinagent.toml"), text).expect("a file");
        let told = device.run(&["pubkey", "--csr"]);
        assert_eq!(told.code, code, "{}", told.err);
    }
    assert_eq!(device.run(&["pubkey", "--csr", "--json"]).code, 2);
}

/// A device whose state folder is below its configuration folder.
fn run(device: &Device, arguments: &[&str]) -> Told {
    let mut command = device.command(arguments);
    Told::from(command.env("STATE_DIRECTORY", device.path("state")).output().expect("it runs"), device.0.path())
}

#[test]
fn reset_forgets_what_was_done_and_only_when_asked_who_it_is() {
    let device = Device::new();
    let nothing = run(&device, &["reset", "--identity"]);
    assert_eq!((nothing.code, nothing.out.as_str(), nothing.err.as_str()), (0, "", "there was nothing to remove\n"));
    assert_eq!(entries(device.0.path()), [""; 0], "no folder is made to be emptied");

    assert_eq!(run(&device, &WHOLE).code, 0);
    fs::create_dir(device.path("state")).expect("a folder");
    for file in ["state/journal", "state/config.last-good.json", "state/mine", "keys/next.key", "keys/mine.pem"] {
        fs::write(device.path(file), "x").expect("a file");
    }
    let told = run(&device, &["reset"]);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    assert_eq!(told.out, "removed state/journal\nremoved state/config.last-good.json\n");
    assert_eq!(entries(&device.path("keys")), ["device.key", "mine.pem", "next.key"]);
    let told = run(&device, &["reset", "--identity"]);
    assert_eq!(told.code, 0);
    assert_eq!(told.out, "removed keys/device.key\nremoved keys/next.key\n");
    assert_eq!(told.err, "left conf.d/50-setup.toml as it is, and it names the device\n");
    assert_eq!(entries(&device.path("state")), ["mine"]);
    assert_eq!(entries(&device.path("keys")), ["mine.pem"]);
}

#[test]
fn reset_refuses_while_a_daemon_holds_the_state_folder() {
    let device = Device::new();
    fs::create_dir(device.path("state")).expect("a folder");
    fs::write(device.path("state/journal"), "x").expect("a file");
    assert_eq!(device.run(&["keygen"]).code, 0);
    let held = twinagent::store::StateDir::lock(&device.path("state")).expect("the lock");
    let told = run(&device, &["reset", "--identity"]);
    assert_eq!((told.code, told.out.as_str()), (75, ""));
    assert!(told.err.contains("uses this state folder; hint: "), "{}", told.err);
    assert_eq!(
        (entries(&device.path("state")), entries(&device.path("keys"))),
        (vec!["journal".into()], vec!["device.key".into()])
    );
    drop(held);
    assert_eq!(run(&device, &["reset", "--identity"]).code, 0);
}
