//! Stories of a configuration that is shown, kept, and read back.

use std::collections::BTreeSet;

use super::*;
use crate::config::last_good::{self, ReadError};
use crate::model::digest::Digest;

/// Every key at another value than its default.
const ALL: &str = r#"
    [device]
    id = "gw-1"
    [cloud]
    kind = "iotcore"
    [cloud.iotcore]
    host = "127.0.0.1"
    port = 1883
    project_id = "p"
    region = "r"
    registry_id = "g"
    ca_file = "/etc/\"odd\" ca.pem"
    tls = false
    answers = "events"
    clean_session = false
    [auth]
    lifetime = "2h 30m"
    [session]
    keep_alive = "61s"
    connect_timeout = "31s"
    backoff_max = "6m"
    backoff_max_refused = "16m"
    clock_wait = "3m"
    proxy = "http://gw-1@proxy.example:3128"
    proxy_password_file = "/etc/twinagent/proxy-password"
    [reboot]
    mode = "simulate"
    simulate_for = "250ms"
    min_interval = "6m"
    min_uptime = "3m"
    max_reboots = 4
    per = "2h"
    healthy = "11m"
    too_soon = "refuse"
    grace = "0s"
    drain = "61s"
    inhibitor_wait = "11m"
    windows = ["Sat,Sun 02:00-04:00 Europe/Berlin", "Fri-Mon 23:00-01:00 UTC"]
    spread = "30m"
    allow_force = true
    [methods]
    enable = ["getLogs", "shutdown"]
    disable = ["echo"]
    log_units = ["nginx.service", "getty@tty1.service"]
    [commands]
    alias = { reboot = "rebootDevice", Neustart = "rebootDevice" }
    default_method = "reboot"
    [report]
    heartbeat = "1d 1h"
    [local]
    read_group = ""
    act_group = "domain-users"
"#;

fn all() -> Config {
    Machine::new().with("etc/twinagent.toml", ALL).config()
}

/// The same, at a hub that is named. The test adds the proof.
const HUB: &str = r#"
    device.id = "gw-1"
    [cloud]
    kind = "iothub"
    [cloud.iothub]
    host = "hub.example"
    gateway_host = "edge.local"
    websocket = true
    port = 8443
    ca_file = "/etc/ca.pem"
    module_id = "agent"
    model_id = "dtmi:com:example:Gateway;1"
"#;

/// The same, at one that is assigned.
const ASSIGNED: &str = r#"
    device.id = "gw-1"
    [cloud]
    kind = "iothub"
    [cloud.iothub]
    cert_file = "/etc/device.pem"
    cert_key_file = "/etc/device.key"
    [cloud.iothub.provisioning]
    id_scope = "0ne1"
    registration_id = "gw-one"
    host = "dps.example"
"#;

/// All the ways to configure a cloud that exclude each other.
fn all_clouds() -> Vec<Config> {
    let hub = |proof: &str| Machine::new().with("etc/twinagent.toml", format!("{HUB}\n    {proof}")).config();
    let assigned = Machine::new().with("etc/twinagent.toml", ASSIGNED).config();
    let (string, key) = ("connection_string_file = \"/nonexistent/string\"", "key_file = \"/nonexistent/key\"");
    vec![all(), hub(string), hub(key), assigned]
}

/// A file that says so.
fn toml(settings: impl IntoIterator<Item = (&'static str, Setting)>) -> String {
    settings.into_iter().fold(String::new(), |text, (key, setting)| text + key + " = " + &setting.to_string() + "\n")
}

#[test]
fn every_key_is_shown_and_reads_back_from_toml_and_from_what_was_kept() {
    let config = all();
    let mut reader = Reader::new(Tree::default());
    raw::read(&mut reader, &NONE);
    let known: Vec<&str> = reader.asked.keys().copied().collect();
    let clouds = all_clouds();
    for config in &clouds {
        let mut sections: Vec<&str> =
            config.settings().iter().filter_map(|(key, _)| key.rsplit_once('.')).map(|(section, _)| section).collect();
        sections.dedup();
        let told_apart: BTreeSet<&str> = sections.iter().copied().collect();
        assert_eq!(told_apart.len(), sections.len(), "what stands under one section stands together: {sections:?}");
    }
    let shown: BTreeSet<&str> = clouds.iter().flat_map(Config::settings).map(|(key, _)| key).collect();
    assert_eq!(Vec::from_iter(shown), known);
    for (key, setting) in Config::default().settings() {
        assert!(!config.settings().contains(&(key, setting)), "{key} must not have its default in this test");
    }

    let plain = [Config::default(), Machine::new().with("etc/twinagent.toml", GOOD).config()];
    for config in clouds.into_iter().chain(plain) {
        let toml = toml(config.settings());
        assert_eq!(Machine::new().with("etc/twinagent.toml", toml).config(), config);
        assert_eq!(last_good::read(&last_good::write(&config)), Ok(config));
    }
}

#[test]
fn the_hash_changes_with_every_key_and_with_nothing_else() {
    let config = all();
    let commented = format!("# a remark\n{}", ALL.replace("61s", "1m 1s"));
    assert_eq!(Machine::new().with("run/10.toml", commented).config().hash(), config.hash());
    assert!(config.hash().to_string().starts_with("sha256:"));
    let settings = config.settings();
    let mut hashes: Vec<Digest> = vec![config.hash()];
    for (changed, default) in Config::default().settings() {
        let one = |(key, setting)| (key, if key == changed { default.clone() } else { setting });
        let toml = toml(settings.iter().cloned().map(one));
        hashes.push(Machine::new().with("etc/twinagent.toml", toml).config().hash());
    }
    let many = hashes.len();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), many);
}

#[test]
fn an_id_with_a_percent_sign_is_kept_as_it_is() {
    let machine = Machine::new().with("etc/twinagent.toml", "device.id = \"50%%-%H\"");
    let specifiers = [('H', Ok("%m".to_owned()))].into();
    let config = Sources { specifiers: &specifiers, ..machine.sources() }.load().expect("right").config;
    assert_eq!(config.device.as_ref().map(DeviceId::as_str), Some("50%-%m"));
    assert_eq!(last_good::read(&last_good::write(&config)), Ok(config));
}

#[test]
fn the_largest_configuration_can_be_kept() {
    let name = |number: usize| format!("\"{}{number:03}\"", "m".repeat(61));
    let names: Vec<String> = (0..256).map(name).collect();
    let alias: Vec<String> = (0..256).map(|number| format!("{} = {}", name(number), name(999))).collect();
    let unit = |number: usize| format!("\"u{}{number}.service\"", "\\\\".repeat(244));
    let units: Vec<String> = (10..42).map(unit).collect();
    let text = format!(
        "methods.enable = [{0}]\nmethods.disable = [{0}]\nmethods.log_units = [{3}]\ncommands.alias = {{ {1} }}\n{GOOD}\n\
         ca_file = \"/{2}\"\n",
        names.join(","),
        alias.join(","),
        "\\u0001".repeat(4094),
        units.join(","),
    );
    let machine = Machine::new().with("etc/twinagent.toml", text);
    // No version has so many methods to enable, so it says that it does not know them.
    let config = load(&machine.folders, None).expect("right").config;
    let bytes = last_good::write(&config);
    assert!(bytes.len() < last_good::LARGEST * 3 / 4, "{} bytes", bytes.len());
    assert_eq!(last_good::read(&bytes), Ok(config));

    let more = format!("methods.enable = [{},{}]", names.join(","), name(998));
    assert_eq!(
        Machine::new().with("etc/twinagent.toml", more).faults()[..1],
        ["etc/twinagent.toml:1: methods.enable: holds more than 256 items"]
    );
}

/// Bytes with a right digest around this configuration.
fn kept(config: &str) -> Vec<u8> {
    let config: serde_json::Value = serde_json::from_str(config).expect("JSON");
    let digest = Digest::of(config.to_string().as_bytes());
    format!("{{\"version\":1,\"digest\":\"{digest}\",\"config\":{config}}}").into_bytes()
}

#[test]
fn damage_is_never_taken_for_a_configuration() {
    let good = last_good::write(&all());
    for at in 0..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 1;
        match last_good::read(&damaged) {
            Err(_) => {}
            Ok(config) => assert_eq!(config, all(), "byte {at}"),
        }
        assert!(at + 2 > good.len() || last_good::read(&good[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn what_was_not_written_by_this_version_is_judged_like_a_file() {
    assert_eq!(last_good::read(&kept(r#"{"session.keep_alive":"5s"}"#)).map(|c| c.session.keep_alive.as_secs()), Ok(5));
    let newer = last_good::read(&kept(r#"{"session.keep_alive":"5s","session.shape":["round"],"x":{"y":"z"}}"#));
    assert_eq!(newer.map(|config| config.session.keep_alive.as_secs()), Ok(5), "unknown keys are passed over");

    let refused = |config: &str| match last_good::read(&kept(config)) {
        Err(ReadError::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(refused(r#"{"session.keep_alive":"5d"}"#).contains("out of bounds"));
    assert!(refused(r#"{"session.keep_alive":5}"#).contains("has no unit"));
    assert!(refused(r#"{"cloud.kind":"iotcore"}"#).contains("is not set"));
    assert!(refused(r#"{"session":"x"}"#).contains("is a section"));
    assert!(refused(r#"{"device.id":"%H"}"#).contains("not known here"));

    let deep = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for bytes in [
        kept(r#"{"a.b.c.d.e.f":1}"#),
        kept(r#"{"a[999999999]":1}"#),
        kept(r#"{"":1}"#),
        kept(r#"{"a":null}"#),
        kept(r#"{"a":1.5}"#),
        kept(r#"{"a":[[]]}"#),
        kept(r#"{"a":"x","a.b":"y"}"#),
        kept(r#"{"a.b":"y","a.b.c":"x"}"#),
        format!("{{\"version\":1,\"digest\":\"{}\",\"config\":{deep}}}", Digest::of(b"")).into_bytes(),
        b"{\"version\":1}".to_vec(),
        b"\xff".to_vec(),
        Vec::new(),
    ] {
        assert!(matches!(last_good::read(&bytes), Err(ReadError::Damaged(_))), "{:?}", last_good::read(&bytes));
    }
    let newer = br#"{"version":2,"settings":[]}"#;
    assert_eq!(last_good::read(newer), Err(ReadError::OtherVersion(2)));
    assert_eq!(last_good::read(&vec![b' '; last_good::LARGEST + 1]), Err(ReadError::TooLarge));
}

proptest! {
    #[test]
    fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), key in "[a-z.]{0,12}", value in "\\PC{0,12}") {
        let _ = last_good::read(&bytes);
        let config = serde_json::json!({ key: value }).to_string();
        let _ = last_good::read(&kept(&config));
    }
}

#[test]
fn the_reference_says_of_each_key_what_a_change_leads_to() {
    let settings = all().settings();
    let with = |changed: Option<(&str, &Setting)>| {
        let one = |(key, setting): (&'static str, Setting)| {
            (key, changed.filter(|(name, _)| *name == key).map_or(setting, |(_, other)| other.clone()))
        };
        Machine::new().with("etc/twinagent.toml", toml(settings.iter().cloned().map(one))).config()
    };
    let other = |key: &str| match key {
        "device.id" | "cloud.iotcore.project_id" | "cloud.iotcore.region" | "cloud.iotcore.registry_id" => {
            Setting::Text("other".to_owned())
        }
        "cloud.iotcore.host" => Setting::Text("localhost".to_owned()),
        "cloud.iotcore.ca_file" | "session.proxy_password_file" => Setting::Text("/other".to_owned()),
        "session.proxy" => Setting::Text("http://gw-1@other.example:1".to_owned()),
        "commands.default_method" => Setting::Text("echo".to_owned()),
        key => {
            let mut plain = Config::default().settings();
            plain.extend(Machine::new().with("etc/twinagent.toml", GOOD).config().settings());
            plain.into_iter().find(|(name, _)| *name == key).expect("a default").1
        }
    };
    for (key, _) in &settings {
        let (section, name) = key.rsplit_once('.').expect("a section");
        let text = REFERENCE.split_once(&format!("\n[{section}]\n")).expect("the section").1;
        let lines: Vec<&str> = text.lines().collect();
        let shows =
            |line: &&str| [format!("#{name} = "), format!("#   {name} = ")].iter().any(|begin| line.starts_with(begin));
        let at = lines.iter().position(shows).expect("the key");
        let tag = lines[at - 1].rsplit_once(' ').expect("words").1;
        // Without its kind there is no cloud, so this one is not tried.
        let stays = *key != "cloud.kind" && with(Some((key, &other(key)))).connects_as(&with(None));
        assert_eq!(tag, if stays { "[live]" } else { "[reconnect]" }, "{key}");
    }
}
