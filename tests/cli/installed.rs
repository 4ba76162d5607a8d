//! Stories of the command line on a machine that has the daemon's user, group and unit: with an /etc, a /root and a /run of
//! the story's own, for which it needs root.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{GOOD, Told};

const USER: u32 = 991;
const GROUP: u32 = 990;

/// Puts the folders of the story in the place of the machine's, and the program where everybody can start it.
const ENTER: &str = r#"
mount --bind "$1" /etc && mount --bind "$2" /root && mount -t tmpfs -o mode=755 twinagent-test /run
mkdir -p /run/systemd/system && touch /run/twinagent && mount --bind "$3" /run/twinagent
shift 3
exec "$@"
"#;

struct Machine {
    etc: TempDir,
    home: TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { etc: TempDir::new().expect("a folder"), home: TempDir::new().expect("a folder") };
        set_mode(machine.etc.path(), 0o755);
        machine.write("passwd", &format!("root:x:0:0::/root:/bin/sh\ntwinagent:x:{USER}:{GROUP}::/:/bin/false\n"));
        machine.write("group", &format!("root:x:0:\ntwinagent:x:{GROUP}:\n"));
        machine.write("systemd/system/twinagent.service", include_str!("../../systemd/twinagent.service"));
        machine.write("twinagent/twinagent.toml", GOOD);
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.etc.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).expect("a file");
        path
    }

    /// Runs this in the machine, as root.
    fn order(&self, words: &[&str]) -> Told {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-euc", ENTER, "sh"]).arg(self.etc.path()).arg(self.home.path());
        command.arg(env!("CARGO_BIN_EXE_twinagent")).args(words);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        Told::from(command.output().expect("unshare(1) starts"), Path::new("/nowhere"))
    }

    fn run(&self, arguments: &[&str]) -> Told {
        self.order(&[&["/run/twinagent"], arguments].concat())
    }

    /// As the daemon's own user.
    fn run_as_daemon(&self, arguments: &[&str]) -> Told {
        let (user, group) = (format!("--reuid={USER}"), format!("--regid={GROUP}"));
        self.order(&[&["setpriv", &user, &group, "--clear-groups", "/run/twinagent"], arguments].concat())
    }

    /// Told by `check`, and mended by the command that it names.
    #[track_caller]
    fn is_told_and_mended(&self, words: &str) {
        let told = self.run(&["check"]);
        assert!(told.code == 78 && told.err.contains(words), "{told:?}");
        let mend = told.err.lines().find_map(|line| line.split("mend it with: ").nth(1)).expect("a command");
        let mended = self.order(&["sh", "-ec", mend]);
        assert_eq!(mended.code, 0, "{mend}: {mended:?}");
        let told = self.run(&["check"]);
        assert_eq!((told.code, told.err.as_str()), (0, ""), "after {mend}");
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

fn kept(path: &Path) -> (u32, u32, u32) {
    let facts = fs::metadata(path).expect("a file");
    (facts.uid(), facts.gid(), facts.mode() & 0o777)
}

#[test]
fn root_is_told_what_the_daemon_cannot_read() {
    let machine = Machine::new();
    let drop_in = machine.write("twinagent/conf.d/60.toml", "[session]\nkeep_alive = \"70s\"\n");
    assert_eq!(machine.run(&["keygen"]).code, 0);
    assert_eq!(kept(&machine.path("twinagent/keys")), (0, GROUP, 0o750));
    assert_eq!(kept(&machine.path("twinagent/keys/device.key")), (0, GROUP, 0o640));
    assert_eq!(machine.run(&["check"]).err, "");

    set_mode(&drop_in, 0o600);
    machine.is_told_and_mended("the daemon (user 991) may not read /etc/twinagent/conf.d/60.toml (mode 0600, owner 0");
    set_mode(&machine.path("twinagent/conf.d"), 0o700);
    machine.is_told_and_mended("may not go through /etc/twinagent/conf.d (mode 0700");
    set_mode(&machine.path("twinagent/twinagent.toml"), 0o640);
    machine.is_told_and_mended("may not read /etc/twinagent/twinagent.toml");
    set_mode(&machine.path("twinagent/keys/device.key"), 0o600);
    machine.is_told_and_mended("may not read /etc/twinagent/keys/device.key");
    set_mode(&machine.path("twinagent/keys"), 0o700);
    machine.is_told_and_mended("may not go through /etc/twinagent/keys");

    // What belongs to the daemon's user alone is as the contract wants it, for root too.
    chown(machine.path("twinagent/keys/device.key"), Some(USER), Some(GROUP)).expect("an owner");
    set_mode(&machine.path("twinagent/keys/device.key"), 0o600);
    let told = machine.run(&["check"]);
    assert!(told.code == 0 && told.out.contains("; key ES256"), "{told:?}");
}

#[test]
fn roots_that_the_daemon_cannot_read_are_told_before_and_after() {
    let machine = Machine::new();
    fs::remove_file(machine.path("twinagent/twinagent.toml")).expect("removed");
    let key = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=ca"])
        .args(["-keyout", "/dev/null", "-out"])
        .arg(machine.home.path().join("ca.pem"))
        .output()
        .expect("openssl");
    assert!(key.status.success(), "{key:?}");
    let pem = fs::read_to_string(machine.home.path().join("ca.pem")).expect("a certificate");
    let words = "setup --kind iotcore --device gw-1 --host h.example --project p --region r --registry g --ca-file";
    let setup = |ca_file| machine.run(&words.split(' ').chain([ca_file]).collect::<Vec<_>>());

    let told = setup("/root/ca.pem");
    assert!(told.code == 2 && told.err.contains("hides /root from the service (ProtectHome=)"), "{told:?}");
    assert!(!machine.path("twinagent/conf.d").exists(), "nothing was written");

    machine.write("private/ca.pem", &pem);
    set_mode(&machine.path("private"), 0o755);
    let told = setup("/etc/private/ca.pem");
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.err.contains("\nthen: `systemctl status twinagent`;"), "{}", told.err);
    set_mode(&machine.path("private"), 0o700);
    machine.is_told_and_mended("/etc/private/ca.pem: the daemon (user 991) may not go through /etc/private");

    // The daemon's own user is told what it cannot read; for anybody else it is not known.
    set_mode(&machine.path("private/ca.pem"), 0o600);
    let told = machine.run_as_daemon(&["check"]);
    assert!(told.code == 78 && told.err.contains("ermission denied") && told.err.contains("chmod a+r"), "{told:?}");
    let told =
        machine.order(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/run/twinagent", "check"]);
    assert!(told.code == 0 && told.err.contains("not checked, `sudo twinagent check`"), "{told:?}");
}

#[test]
fn a_key_that_goes_elsewhere_is_its_makers_alone() {
    let machine = Machine::new();
    let told = machine.run(&["keygen", "--out", "/etc/other.key"]);
    assert_eq!((told.code, kept(&machine.path("other.key"))), (0, (0, 0, 0o600)), "{told:?}");
    let told = machine.run_as_daemon(&["keygen", "--out", "/etc/third.key"]);
    assert_eq!(told.code, 77, "{told:?}");
    assert!(told.err.contains("\nhint: you may not write into the folder /etc; "), "{}", told.err);
    assert!(!told.err.contains("root"), "{}", told.err);
}

#[test]
fn root_who_starts_the_daemon_by_hand_is_warned() {
    let machine = Machine::new();
    fs::remove_file(machine.path("twinagent/twinagent.toml")).expect("removed");
    let run = "STATE_DIRECTORY=/run/state RUNTIME_DIRECTORY=/run/run; export STATE_DIRECTORY RUNTIME_DIRECTORY\n\
               mkdir /run/run; /run/twinagent run &\n\
               for i in $(seq 300); do [ -S /run/run/io.twinagent.Agent ] && break; sleep 0.1; done\n\
               kill $!; wait $!";
    let told = machine.order(&["sh", "-ec", run]);
    assert!(told.code == 0 && told.err.contains("run by hand as root beside the service twinagent"), "{told:?}");
    fs::remove_file(machine.path("systemd/system/twinagent.service")).expect("removed");
    let told = machine.order(&["sh", "-ec", run]);
    assert!(told.code == 0 && !told.err.contains("by hand"), "{told:?}");
}

/// The sandbox is judged as the operator has it.
#[test]
fn a_program_that_the_handlers_service_does_not_see_is_told_until_the_operator_opens_its_folder() {
    let machine = Machine::new();
    assert_eq!(machine.run(&["keygen"]).code, 0);
    machine
        .write("systemd/system/twinagent-handlers.service", include_str!("../../systemd/twinagent-handlers.service"));
    let program = machine.home.path().join("program");
    fs::write(&program, "#!/bin/sh\n").expect("a file");
    set_mode(&program, 0o755);
    let manifest = "method = \"m\"\nkind = \"program\"\nprogram = \"/root/program\"\n";
    machine.write("twinagent/handlers.d/m.toml", manifest);
    let told = machine.run(&["check"]);
    assert!(told.code == 78 && told.err.contains("the handlers' service does not see /root; "), "{told:?}");
    let drop_in = "systemd/system/twinagent-handlers.service.d/override.conf";
    machine.write(drop_in, "[Service]\nSupplementaryGroups=dialout\n");
    assert_eq!(machine.run(&["check"]).code, 78);
    machine.write(drop_in, "[Service]\nProtectHome=read-only\n");
    let told = machine.run(&["check"]);
    assert_eq!((told.code, told.err.as_str()), (0, ""), "{told:?}");
    assert!(told.out.ends_with("; 1 handler\n"), "{told:?}");
}
