//! Stories of the command line: the real program, real files, its exit codes and its words.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

#[path = "cli/examples.rs"]
mod examples;
#[path = "cli/handlers.rs"]
mod handlers;
#[path = "cli/hub.rs"]
mod hub;
#[path = "cli/installed.rs"]
mod installed;
#[path = "cli/preinst.rs"]
mod preinst;
#[path = "cli/setup.rs"]
mod setup;
#[path = "cli/troubles.rs"]
mod troubles;
#[path = "cli/units.rs"]
mod units;
#[path = "cli/veto.rs"]
mod veto;

const GOOD: &str = r#"
[device]
id = "gw-1"
[cloud]
kind = "iotcore"
[cloud.iotcore]
host = "mqtt.example"
project_id = "my-project"
region = "us-central1"
registry_id = "my-registry"
"#;

/// A configuration folder of the test's own.
struct Device(TempDir);

impl Device {
    fn new() -> Self {
        Self(TempDir::new().expect("a folder"))
    }

    fn configured(text: &str) -> Self {
        let device = Self::new();
        fs::write(device.path("twinagent.toml"), text).expect("a file");
        device
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twinagent"));
        command.args(arguments).env_clear().env("CONFIGURATION_DIRECTORY", self.0.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Told {
        Told::from(self.command(arguments).output().expect("the program runs"), self.0.path())
    }
}

/// Puts a program there, by a process of its own: what a child of another test may still hold open for writing cannot be
/// executed (`ETXTBSY`).
fn write_program(path: &Path, text: &str) {
    let script = "printf '%s' \"$2\" > \"$1\" && chmod 755 \"$1\"";
    let status = Command::new("sh").args(["-c", script, "sh"]).arg(path).arg(text).status().expect("a shell");
    assert!(status.success(), "{status}");
}

/// How it ended and what it said, without the path of the test's folder.
#[derive(Debug, PartialEq)]
struct Told {
    code: i32,
    out: String,
    err: String,
}

impl Told {
    fn from(output: Output, folder: &Path) -> Self {
        let text = |bytes| {
            let text = String::from_utf8(bytes).expect("UTF-8");
            text.replace(&format!("{}/", folder.display()), "")
        };
        Self { code: output.status.code().expect("an exit code"), out: text(output.stdout), err: text(output.stderr) }
    }
}

#[test]
fn a_ca_file_that_nobody_could_connect_with_is_told_with_its_line() {
    let device = Device::configured(&GOOD.replace("[cloud.iotcore]", "[cloud.iotcore]\nca_file = \"/no/ca.pem\""));
    let told = device.run(&["check"]);
    assert_eq!((told.code, told.out.as_str()), (78, ""));
    assert!(told.err.starts_with("twinagent.toml:7: ca_file /no/ca.pem: No such file"), "{}", told.err);
    fs::write(device.path("ca.pem"), "rubbish").expect("a file");
    let text = fs::read_to_string(device.path("twinagent.toml")).expect("text");
    let there = device.path("ca.pem");
    fs::write(device.path("twinagent.toml"), text.replace("/no/ca.pem", &there.display().to_string())).expect("a file");
    let told = device.run(&["check"]);
    assert!(told.code == 78 && told.err.contains("no certificate in it"), "{told:?}");
}

#[test]
fn check_says_in_one_line_what_is_right() {
    let device = Device::new();
    let told = device.run(&["check"]);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    assert_eq!(
        told.out,
        "configuration is right: no cloud is configured, set cloud.kind; no key yet, `twinagent keygen` makes one\n"
    );
    let device = Device::configured(GOOD);
    assert_eq!(device.run(&["keygen"]).code, 0);
    assert_eq!(
        device.run(&["check"]).out,
        "configuration is right: device gw-1 of registry my-registry (my-project, us-central1) at mqtt.example:8883; key ES256\n"
    );
}

#[test]
fn check_tells_all_faults_with_file_and_line_and_ends_with_78() {
    let device = Device::configured("[cloud]\nkind = \"iotcor\"\n[session]\nkeep_alive = \"0s\"\nkep_alive = \"1s\"\n");
    fs::create_dir(device.path("keys")).expect("a folder");
    fs::write(device.path("keys/device.key"), "no key").expect("a file");
    fs::set_permissions(device.path("keys/device.key"), Permissions::from_mode(0o600)).expect("a mode");
    let told = device.run(&["check"]);
    assert_eq!(
        told.err,
        "twinagent.toml:2: cloud.kind: \"iotcor\" is none of \"iotcore\", \"iothub\", \"mqtt\"\n\
         twinagent.toml:4: session.keep_alive: 0s is out of bounds: 1s to 19m 37s is expected\n\
         twinagent.toml:5: session.kep_alive is not a key; did you mean session.keep_alive?\n\
         keys/device.key cannot be used: it is not PEM: no line `-----BEGIN … PRIVATE KEY-----`\n\
         hint: move the file away, make a new key with `twinagent keygen` and register its public key\n\
         twinagent: the configuration is wrong, and the key cannot be used\n"
    );
    assert_eq!((told.code, told.out.as_str()), (78, ""));
}

#[test]
fn check_tells_a_key_that_others_can_read_from_a_wrong_configuration() {
    let device = Device::configured(GOOD);
    assert_eq!(device.run(&["keygen"]).code, 0);
    fs::set_permissions(device.path("keys/device.key"), Permissions::from_mode(0o644)).expect("a mode");
    let told = device.run(&["check"]);
    assert_eq!((told.code, told.out.as_str()), (78, ""));
    assert!(told.err.starts_with("the key is open to others (mode 0644"), "{}", told.err);
    assert!(
        told.err.ends_with("\ntwinagent: the configuration is right, but the key cannot be used\n"),
        "{}",
        told.err
    );
}

#[test]
fn check_tells_a_proxy_password_that_the_daemon_would_not_take() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("password");
    let config = format!(
        "{GOOD}[session]\nproxy = \"http://gw-1@proxy.example:3128\"\nproxy_password_file = \"{}\"\n",
        path.display()
    );
    let device = Device::configured(&config);
    assert_eq!(device.run(&["keygen"]).code, 0);
    let told = device.run(&["check"]);
    assert_eq!(told.code, 78, "{}", told.err);
    assert!(told.err.contains("there is no such file"), "{}", told.err);
    for (text, mode, words) in
        [("s3cret", 0o644, "open to others"), ("one\ntwo\n", 0o600, "one line of"), ("s3cret\n", 0o600, "")]
    {
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a mode");
        let told = device.run(&["check"]);
        assert_eq!(told.code, if words.is_empty() { 0 } else { 78 }, "{text:?}: {}", told.err);
        assert!(told.err.contains(words) && !told.err.contains("s3cret"), "{text:?}: {}", told.err);
    }
}

#[test]
fn a_key_for_a_folder_that_is_not_there_is_refused_with_a_hint() {
    let told = Device::new().run(&["keygen", "--out", "/nonexist/x"]);
    assert_eq!((told.code, told.out.as_str()), (1, ""));
    assert_eq!(
        told.err,
        "twinagent: /nonexist/x cannot be written: No such file or directory (os error 2)\n\
         hint: there is no folder /nonexist; make it first\n"
    );
}

#[test]
fn an_unknown_key_alone_fails_the_check() {
    let told = Device::configured("[session]\nkep_alive = \"1s\"\n").run(&["check"]);
    assert_eq!(told.code, 78);
    assert!(told.err.starts_with("twinagent.toml:2: session.kep_alive is not a key"), "{}", told.err);
}

#[test]
fn another_file_can_be_checked_and_a_variable_wins() {
    let device = Device::configured("rubbish");
    fs::write(device.path("other.toml"), GOOD).expect("a file");
    let other = device.path("other.toml");
    let other = other.to_str().expect("UTF-8");
    for arguments in [["check", "--config", other], ["--config", other, "check"]] {
        assert_eq!(device.run(&arguments).code, 0);
    }
    let mut command = device.command(&["check", "--config", other]);
    let output = command.env("TWINAGENT__CLOUD__IOTCORE__PORT", "443").output().expect("the program runs");
    assert!(String::from_utf8_lossy(&output.stdout).contains("mqtt.example:443"), "{output:?}");
    let output = command.env("TWINAGENT__CLOUD__IOTCORE__PORT", "x").output().expect("the program runs");
    assert_eq!(output.status.code(), Some(78));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.starts_with("$TWINAGENT__CLOUD__IOTCORE__PORT: cloud.iotcore.port: "), "{err}");
}

#[test]
fn config_shows_what_holds_and_where_it_comes_from() {
    let device = Device::configured(GOOD);
    fs::create_dir(device.path("conf.d")).expect("a folder");
    fs::write(device.path("conf.d/10.toml"), "\n[commands.alias]\nreboot = \"rebootDevice\"\n").expect("a file");
    let plain = device.run(&["config"]);
    assert_eq!((plain.code, plain.err.as_str()), (0, ""));
    assert!(plain.out.starts_with("[device]\nid = \"gw-1\"\n\n[cloud]\nkind = \"iotcore\"\n\n"), "{}", plain.out);
    fs::write(device.path("merged.toml"), &plain.out).expect("a file");
    let merged = device.path("merged.toml");
    let again = device.run(&["config", "--config", merged.to_str().expect("UTF-8")]);
    assert_eq!(again.out, plain.out, "it is a configuration again");

    let mut command = device.command(&["config", "--origin"]);
    let told = Told::from(
        command.env("TWINAGENT__CLOUD__IOTCORE__PORT", "443").output().expect("the program runs"),
        device.0.path(),
    );
    let lines: Vec<&str> = told.out.lines().collect();
    for line in [
        "id = \"gw-1\"  # twinagent.toml:3",
        "port = 443  # $TWINAGENT__CLOUD__IOTCORE__PORT",
        "keep_alive = \"1m\"  # default",
        "alias = { \"reboot\" = \"rebootDevice\" }  # conf.d/10.toml:3",
    ] {
        assert!(lines.contains(&line), "{line}: {lines:#?}");
    }
}

#[test]
fn config_says_what_is_wrong_and_leaves_78_to_check() {
    let told = Device::configured("[session]\nkep_alive = \"1s\"\n").run(&["config"]);
    assert_eq!(told.code, 0);
    assert!(told.err.starts_with("twinagent.toml:2: session.kep_alive is not a key") && !told.out.contains("kep_"));
    let told = Device::configured("session = 1").run(&["config"]);
    assert_eq!((told.code, told.out.as_str()), (1, ""));
    assert!(told.err.starts_with("twinagent: twinagent.toml:1: session is a section"), "{}", told.err);
}

#[test]
fn a_drop_in_is_checked_before_it_is_put_in_its_place() {
    let device = Device::configured(GOOD);
    fs::create_dir(device.path("new")).expect("a folder");
    let drop_in = device.path("new/60.toml");
    let check = || device.run(&["check", "--drop-in", drop_in.to_str().expect("UTF-8")]);
    fs::write(&drop_in, "[cloud.iotcore]\nhost = \"other.example\"\n").expect("a file");
    let told = check();
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    assert!(told.out.contains("at other.example:8883"), "{}", told.out);
    fs::write(&drop_in, "[cloud.iotcore]\nhots = \"other.example\"\n").expect("a file");
    let told = check();
    assert_eq!(told.code, 78);
    assert!(told.err.starts_with("new/60.toml:2: cloud.iotcore.hots is not a key"), "{}", told.err);
    fs::remove_file(&drop_in).expect("removed");
    assert_eq!((check().code, check().out.as_str()), (78, ""));
    for wrong in ["new/60.conf", "new/.60.toml", "new"] {
        let told = device.run(&["check", "--drop-in", wrong]);
        assert!(told.code == 2 && told.err.contains("its name must end in .toml"), "{}", told.err);
    }
    assert_eq!(device.run(&["check"]).code, 0, "nothing was put anywhere");
}

#[test]
fn the_daemon_and_its_commands_ask_the_machine_for_the_id() {
    let device = Device::configured(&GOOD.replace("gw-1", "gw-%m"));
    let id = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let told = device.run(&["check"]);
    if id.trim().len() == 32 {
        assert!(told.out.contains(&format!("device gw-{} ", id.trim())), "{told:?}");
    } else {
        assert!(told.code == 78 && told.err.contains("is not to be had: /etc/machine-id"), "{told:?}");
    }
}

#[test]
fn a_key_is_made_once_kept_to_its_owner_and_never_replaced() {
    let device = Device::new();
    let made = device.run(&["keygen"]);
    assert_eq!((made.code, made.err.as_str()), (0, "made keys/device.key\n"));
    assert!(made.out.starts_with("-----BEGIN PUBLIC KEY-----\n") && made.out.ends_with("-----END PUBLIC KEY-----\n"));
    let key = fs::read(device.path("keys/device.key")).expect("the key");
    let bits = fs::metadata(device.path("keys/device.key")).expect("the key").permissions().mode() & 0o777;
    assert!(bits == 0o600 || bits == 0o640, "{bits:o}");

    let whose = "no daemon answers; this is the key in keys/device.key\n".to_owned();
    assert_eq!(device.run(&["pubkey"]), Told { code: 0, out: made.out.clone(), err: whose });
    let again = device.run(&["keygen"]);
    assert_eq!((again.code, again.out.as_str()), (1, ""));
    assert!(
        again.err.starts_with("twinagent: keys/device.key exists already, and is left as it is\nhint: "),
        "{}",
        again.err
    );
    let kept = device.run(&["keygen", "--if-missing"]);
    assert_eq!((kept.code, kept.out), (0, made.out));
    assert_eq!(fs::read(device.path("keys/device.key")).expect("the key"), key);
    let left: Vec<_> = fs::read_dir(device.path("keys")).expect("a folder").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_key_can_go_elsewhere_and_openssl_reads_it() {
    let device = Device::new();
    let path = device.path("mine.pem");
    let path = path.to_str().expect("UTF-8");
    let made = device.run(&["keygen", "--out", path]);
    assert_eq!(made.code, 0);
    let public = Command::new("openssl").args(["pkey", "-pubout", "-in", path]).output().expect("openssl");
    assert_eq!(String::from_utf8_lossy(&public.stdout), made.out);
    assert_eq!(device.run(&["keygen", "--out", path, "--if-missing"]).out, made.out);
    assert_eq!(device.run(&["keygen", "--out", "/nowhere/at/all.pem"]).code, 1);
}

#[test]
fn a_key_beside_the_current_one_is_made_shown_and_checked_by_its_slot() {
    let device = Device::configured(GOOD);
    let made: Vec<Told> = ["current", "next"].into_iter().map(|slot| device.run(&["keygen", "--slot", slot])).collect();
    assert_eq!(made[1].err, "made keys/next.key\n");
    assert_ne!(made[0].out, made[1].out);
    assert_eq!(device.run(&["pubkey"]).out, made[0].out);
    let shown = device.run(&["pubkey", "--slot", "next"]);
    assert_eq!(shown, Told { code: 0, out: made[1].out.clone(), err: "the key in keys/next.key\n".to_owned() });
    let json = device.run(&["pubkey", "--slot", "next", "--json"]).out;
    assert!(json.contains(r#""format":"ES256_PEM""#) && json.contains(&made[1].out.replace('\n', "\\n")), "{json}");
    assert!(device.run(&["pubkey", "--slot", "next", "--csr"]).out.contains("CERTIFICATE REQUEST"));
    let none = device.run(&["pubkey", "--slot", "previous"]);
    assert!(none.code == 1 && none.err.contains("there is no key yet: keys/previous.key"), "{none:?}");
    assert_eq!(device.run(&["keygen", "--slot", "next"]).code, 1, "never replaced");
    assert_eq!(device.run(&["keygen", "--slot", "next", "--if-missing"]).out, made[1].out);
    assert_eq!(device.run(&["keygen", "--slot", "next", "--out", "/x"]).code, 2);

    assert_eq!(device.run(&["check"]).err, "");
    fs::set_permissions(device.path("keys/next.key"), Permissions::from_mode(0o644)).expect("a mode");
    let told = device.run(&["check"]);
    assert!(told.code == 0 && told.out.contains("; key ES256"), "the device is in order without it: {told:?}");
    assert!(told.err.starts_with("the next key is not used: the key is open to others (mode 0644"), "{}", told.err);
}

#[test]
fn of_many_who_make_the_key_at_once_one_does() {
    let device = Device::new();
    let spawned: Vec<_> = (0..8)
        .map(|_| device.command(&["keygen"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a process"))
        .collect();
    let ended: Vec<_> = spawned.into_iter().map(|child| child.wait_with_output().expect("it ends")).collect();
    let won: Vec<_> = ended.iter().filter(|output| output.status.success()).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(device.run(&["pubkey"]).out.as_bytes(), won[0].stdout);
}

#[test]
fn an_existing_key_that_is_bad_is_said_to_be_so_and_left() {
    let device = Device::new();
    assert_eq!(device.run(&["keygen"]).code, 0);
    let key = device.path("keys/device.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("a mode");
    for arguments in [&["keygen", "--if-missing"][..], &["pubkey"], &["check"]] {
        let told = device.run(arguments);
        assert_ne!(told.code, 0);
        assert!(
            told.err.contains("the key is open to others (mode 0644") && told.err.contains("chmod 06"),
            "{}",
            told.err
        );
    }
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("a mode");
    fs::write(&key, "").expect("emptied");
    let told = device.run(&["keygen", "--if-missing"]);
    assert_eq!((told.code, fs::read(&key).expect("the file").len()), (1, 0), "{}", told.err);
}

#[test]
fn a_token_is_shown_by_its_claims_and_itself_only_when_asked_for() {
    let device = Device::configured(&format!("{GOOD}\n[auth]\nlifetime = \"2h\"\n"));
    assert_eq!(device.run(&["token"]).code, 1, "without a key");
    assert_eq!(device.run(&["keygen"]).code, 0);

    let told = device.run(&["token"]);
    assert_eq!(told.code, 0, "{}", told.err);
    let claims: serde_json::Value = serde_json::from_str(&told.out).expect("JSON");
    assert_eq!(claims["aud"], "my-project");
    let number = |name: &str| claims[name].as_i64().expect("a number");
    assert_eq!(number("exp") - number("iat"), 2 * 60 * 60 + 60);
    assert!(told.err.contains(", in 2h\n") && !told.out.contains("eyJ") && !told.err.contains("eyJ"), "{}", told.err);

    let raw = device.run(&["token", "--raw"]);
    assert_eq!((raw.code, raw.err.as_str(), raw.out.lines().count()), (0, "", 1));
    assert_eq!(raw.out.split('.').count(), 3);
}

#[test]
fn without_what_it_needs_a_token_says_so() {
    let told = Device::new().run(&["token"]);
    assert_eq!(told.code, 1);
    assert!(told.err.contains("no cloud is configured") && told.err.contains("\nhint: "), "{}", told.err);
    let told = Device::configured("x").run(&["token"]);
    assert!(told.code == 1 && told.err.starts_with("twinagent: twinagent.toml:1: "), "{}", told.err);
}

#[test]
fn usage_is_2_help_is_0_and_a_reader_that_goes_away_is_no_failure() {
    let device = Device::new();
    for wrong in [&[][..], &["rebot"], &["check", "--what"], &["check", "--config"]] {
        assert_eq!(device.run(wrong).code, 2, "{wrong:?}");
    }
    assert_eq!(device.run(&["--help"]).code, 0);
    assert_eq!(device.run(&["--version"]).out, format!("twinagent {}\n", env!("CARGO_PKG_VERSION")));

    let mut child =
        device.command(&["keygen"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
    drop(child.stdout.take());
    assert!(child.wait().expect("it ends").success());
}
