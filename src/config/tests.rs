//! Stories of configurations: real folders, real files, and what a person is told.

#![expect(clippy::disallowed_methods, reason = "what a hostile file may cost is measured")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

mod hostile;
mod hub;
mod kept;
mod keys;
mod places;
mod reference;

const REFERENCE: &str = include_str!("../../packaging/twinagent.toml");

const GOOD: &str = r#"
    device.id = "gw-1"
    [cloud]
    kind = "iotcore"
    [cloud.iotcore]
    host = "mqtt.example"
    project_id = "p"
    region = "r"
    registry_id = "g"
"#;

/// A machine that tells nothing of itself.
static NONE: Specifiers = Specifiers::new();

/// The folders of one machine, in a folder of the test's own.
struct Machine {
    root: TempDir,
    folders: Folders,
}

impl Machine {
    fn new() -> Self {
        let root = TempDir::new().expect("a folder");
        let at = |name: &str| {
            let folder = root.path().join(name);
            fs::create_dir_all(&folder).expect("a folder");
            folder
        };
        let folders = Folders {
            vendor: at("usr"),
            vendor_handlers: at("usr-handlers"),
            configuration: at("etc"),
            volatile: at("run"),
            vetoes: at("veto"),
            state: at("state"),
            runtime: at("runtime"),
            bus: format!("unix:path={}", at("bus").display()),
            credentials: None,
            variables: BTreeMap::new(),
        };
        at("etc/conf.d");
        at("etc/keys");
        at("new");
        Self { root, folders }
    }

    fn with(self, path: &str, text: impl AsRef<[u8]>) -> Self {
        fs::write(self.root.path().join(path), text).expect("a file");
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.folders.variables.insert(name.into(), value.into());
        self
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn sources(&self) -> Sources<'_> {
        Sources { folders: &self.folders, file: None, drop_in: None, specifiers: &NONE }
    }

    fn config(&self) -> Config {
        let loaded = load(&self.folders, None).expect("a right configuration");
        assert_eq!(loaded.unknown, []);
        loaded.config
    }

    /// What `check` would print, without the path of the test's folder.
    fn faults(&self) -> Vec<String> {
        let text = match load(&self.folders, None) {
            Ok(loaded) => Faults { faults: loaded.unknown, unknown: Vec::new(), files: Vec::new() }.to_string(),
            Err(faults) => faults.to_string(),
        };
        text.replace(&format!("{}/", self.root.path().display()), "").lines().map(str::to_owned).collect()
    }
}

/// The lines of the reference that begin as given, uncommented.
fn uncommented(begins: &[&str]) -> String {
    let setting = |line: &&str| line.split_once(" = ").is_some_and(|(key, _)| file::is_plain(key));
    let live = |line: &str| begins.iter().find_map(|begin| line.strip_prefix(begin).filter(setting)).map(str::to_owned);
    REFERENCE.lines().map(|line| live(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

#[test]
fn nothing_configured_is_a_state_and_no_fault() {
    let config = Machine::new().config();
    assert_eq!((&config.cloud, &config.device), (&None, &None));
    assert_eq!(config.session.keep_alive, Duration::from_secs(60));
}

#[test]
fn a_good_file_says_all_there_is_to_say() {
    let config = Machine::new().with("etc/twinagent.toml", GOOD).config();
    assert_eq!(config.device.map(String::from).as_deref(), Some("gw-1"));
    let Some(Cloud::IotCore(cloud)) = config.cloud else { panic!("no cloud") };
    assert_eq!((cloud.host.as_str(), cloud.port, cloud.tls), ("mqtt.example", 8883, true));
}

#[test]
fn the_stronger_layer_holds_and_drop_ins_are_one_order_of_names() {
    let keep_alive = |seconds: u64| format!("session.keep_alive = \"{seconds}s\"");
    let seconds = |machine: &Machine| machine.config().session.keep_alive.as_secs();

    let machine = Machine::new().with("etc/twinagent.toml", keep_alive(1));
    assert_eq!(seconds(&machine), 1);
    let machine = machine.with("etc/conf.d/10-a.toml", keep_alive(2));
    assert_eq!(seconds(&machine), 2);
    let machine = machine.with("usr/20-b.toml", keep_alive(3));
    assert_eq!(seconds(&machine), 3, "the later name holds, whatever the folder");
    let machine = machine.with("run/15-c.toml", keep_alive(4));
    assert_eq!(seconds(&machine), 3);
    let machine = machine.with("etc/conf.d/20-b.toml", keep_alive(5));
    assert_eq!(seconds(&machine), 5, "/etc masks /usr/lib");
    let machine = machine.with("run/20-b.toml", "");
    assert_eq!(seconds(&machine), 4, "/run masks /etc, here with nothing");
    symlink("/dev/null", machine.path("run/15-c.toml.new")).expect("a link");
    fs::rename(machine.path("run/15-c.toml.new"), machine.path("run/15-c.toml")).expect("renamed");
    symlink("/dev/null", machine.path("run/10-a.toml")).expect("a link");
    assert_eq!(seconds(&machine), 1, "a link to /dev/null switches off what it masks");
    let machine = machine.with("etc/conf.d/.hidden.toml", keep_alive(6)).with("etc/conf.d/99.toml~", keep_alive(7));
    assert_eq!(seconds(&machine), 1, "neither hidden files nor an editor's leavings count");
    let machine = machine.variable("TWINAGENT__SESSION__KEEP_ALIVE", "8s");
    assert_eq!(seconds(&machine), 8);
    let machine = machine.variable("TWINAGENT__SESSION__KEEP_ALIVE", "");
    assert_eq!(seconds(&machine), 1, "an empty variable sets nothing");
}

#[test]
fn layers_add_to_each_other_key_by_key() {
    let machine = Machine::new()
        .with("usr/10-fleet.toml", GOOD.replace("gw-1", "image"))
        .with("etc/conf.d/50-setup.toml", "device.id = \"gw-7\"")
        .variable("TWINAGENT__CLOUD__IOTCORE__PORT", "443")
        .variable("TWINAGENT__CLOUD__IOTCORE__CLEAN_SESSION", "false")
        .variable("TWINAGENT__CLOUD__IOTCORE__REGION", "1e5");
    let config = machine.config();
    let Some(Cloud::IotCore(cloud)) = config.cloud else { panic!("no cloud") };
    assert_eq!(config.device.map(String::from).as_deref(), Some("gw-7"));
    assert_eq!((cloud.port, cloud.clean_session, cloud.region.as_str()), (443, false, "1e5"));
}

#[test]
fn another_file_takes_the_place_of_twinagent_toml_only() {
    let machine = Machine::new()
        .with("etc/twinagent.toml", "not even TOML")
        .with("etc/conf.d/10.toml", "session.backoff_max = \"7s\"")
        .with("other.toml", "session.keep_alive = \"9s\"");
    let config = load(&machine.folders, Some(&machine.path("other.toml"))).expect("right").config;
    assert_eq!((config.session.keep_alive.as_secs(), config.session.backoff_max.as_secs()), (9, 7));
    let faults = load(&machine.folders, Some(&machine.path("none.toml"))).expect_err("it must exist");
    assert!(faults.to_string().ends_with("none.toml: there is no such file"), "{faults}");
}

#[test]
fn all_faults_are_told_at_once_each_with_its_place() {
    let machine = Machine::new()
        .with(
            "etc/twinagent.toml",
            "[cloud]\nkind = \"iotcore\"\n[cloud.iotcore]\nhost = \"mqtts://h:8883\"\nport = 70000\ntls = \"no\"\n\
             [session]\nkeep_alive = 60\nkeep_aliv = \"60s\"\nconnect_timeout = \"1h\"\n",
        )
        .with(
            "etc/conf.d/10.toml",
            "\n\nreboot.mode = \"simulated\"\nmethods.disable = [\"a\", \"1 2\"]\n[nonsense]\nx = 1\n",
        )
        .variable("TWINAGENT__AUTH__LIFETIME", "25h");
    assert_eq!(
        machine.faults(),
        [
            "etc/twinagent.toml:4: cloud.iotcore.host: \"mqtts://h:8883\" is a URL: the host alone is expected, and its port under `port`",
            "etc/twinagent.toml:5: cloud.iotcore.port: is not a port: 1 to 65535 is expected",
            "etc/twinagent.toml:6: cloud.iotcore.tls: true or false is expected, not the text \"no\"",
            "$TWINAGENT__AUTH__LIFETIME: auth.lifetime: 1d 1h is out of bounds: 5s to 1d is expected",
            "etc/twinagent.toml:8: session.keep_alive: 60 has no unit: \"60s\" or \"60m\" is expected",
            "etc/twinagent.toml:10: session.connect_timeout: 1h is out of bounds: 1s to 10m is expected",
            "etc/conf.d/10.toml:3: reboot.mode: \"simulated\" is none of \"auto\", \"logind\", \"helper\", \"simulate\"",
            "etc/conf.d/10.toml:4: methods.disable: \"1 2\" is not a method name: a letter and then up to 63 of the characters A-Z a-z 0-9 _ - are expected",
            "etc/twinagent.toml:2: cloud.iotcore.project_id is not set, and this cloud.kind needs it",
            "etc/twinagent.toml:2: cloud.iotcore.region is not set, and this cloud.kind needs it",
            "etc/twinagent.toml:2: cloud.iotcore.registry_id is not set, and this cloud.kind needs it",
            "etc/twinagent.toml:2: device.id is not set, and this cloud.kind needs it",
            "etc/conf.d/10.toml:6: nonsense.x is not a key",
            "etc/twinagent.toml:9: session.keep_aliv is not a key; did you mean session.keep_alive?",
        ]
    );
}

#[test]
fn a_file_that_cannot_be_read_does_not_make_its_keys_missing() {
    let machine = Machine::new()
        .with("etc/twinagent.toml", "cloud.kind = \"iotcore\"\n")
        .with("etc/conf.d/10.toml", format!("{GOOD}\n[cloud\n"))
        .with("etc/conf.d/20.toml", "reboot.grace = 5");
    assert_eq!(
        machine.faults(),
        [
            "etc/conf.d/10.toml:11: unclosed table, expected `]`",
            "etc/conf.d/20.toml:1: reboot.grace: 5 has no unit: \"5s\" or \"5m\" is expected"
        ]
    );
}

#[test]
fn unknown_keys_alone_leave_it_usable_and_say_what_was_meant() {
    let machine = Machine::new()
        .with("etc/twinagent.toml", "[sesion]\nkeep_alive = \"5s\"\n[reboot]\nlifetime = \"1h\"\n[[x]]\ny = 1\n")
        .variable("TWINAGENT__REBOOT__GRASE", "1s");
    let loaded = load(&machine.folders, None).expect("usable");
    assert_eq!(loaded.unknown.len(), 4);
    assert_eq!(
        machine.faults(),
        [
            "etc/twinagent.toml:2: sesion.keep_alive is not a key; did you mean session.keep_alive?",
            "etc/twinagent.toml:4: reboot.lifetime is not a key; did you mean auth.lifetime?",
            "etc/twinagent.toml:5: x is not a key",
            "$TWINAGENT__REBOOT__GRASE: reboot.grase is not a key; did you mean reboot.grace?",
        ]
    );
}

#[test]
fn a_section_is_a_section_and_a_key_is_a_key() {
    let machine = Machine::new()
        .with("etc/twinagent.toml", "session = 5\n[auth.lifetime]\nx = 1\n[cloud]\niotcore = true\n")
        .variable("TWINAGENT__REBOOT", "now")
        .variable("TWINAGENT__METHODS__DISABLE", "echo")
        .variable("TWINAGENT____X", "1")
        .variable(&format!("TWINAGENT{}", "__X".repeat(40_000)), "1");
    let faults = machine.faults();
    assert!(
        faults
            .contains(&"etc/twinagent.toml:1: session is a section: [session] with its keys below is expected".into()),
        "{faults:#?}"
    );
    assert!(
        faults.contains(
            &"etc/twinagent.toml:3: auth.lifetime: a duration such as \"30s\" is expected, not a section".into()
        ),
        "{faults:#?}"
    );
    assert!(
        faults.contains(&"$TWINAGENT__REBOOT: reboot is a section: [reboot] with its keys below is expected".into()),
        "{faults:#?}"
    );
    assert!(
        faults.iter().any(|fault| fault.starts_with("$TWINAGENT__METHODS__DISABLE: methods.disable: ")),
        "{faults:#?}"
    );
    assert!(faults.iter().any(|fault| fault.starts_with("$TWINAGENT____X: is not the name of a key")), "{faults:#?}");
    assert!(
        faults.contains(
            &"etc/twinagent.toml:5: cloud.iotcore is a section: [cloud.iotcore] with its keys below is expected".into()
        ),
        "{faults:#?}"
    );
    assert_eq!(faults.len(), 7, "{faults:#?}");
}

#[test]
fn plain_text_goes_to_this_machine_only() {
    let with_host = |host: &str| {
        Machine::new().with("etc/twinagent.toml", format!("{}\ntls = false\n", GOOD.replace("mqtt.example", host)))
    };
    for local in ["localhost", "127.0.0.1", "::1"] {
        with_host(local).config();
    }
    for remote in ["mqtt.example", "10.0.0.1", "localhost.example"] {
        let faults = with_host(remote).faults();
        assert!(
            faults.len() == 1 && faults[0].starts_with("etc/twinagent.toml:11: cloud.iotcore.tls: false"),
            "{faults:?}"
        );
    }
}

#[test]
fn a_cloud_that_is_not_built_yet_is_said_to_be_so() {
    let faults = Machine::new().with("etc/twinagent.toml", "cloud.kind = \"mqtt\"").faults();
    assert_eq!(
        faults,
        [
            "etc/twinagent.toml:1: cloud.kind: this cloud is not built yet in this version; \"iotcore\" and \"iothub\" are"
        ]
    );
}
