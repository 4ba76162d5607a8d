//! Stories of an IoT hub that is configured: by a connection string, by parts, or by a service that assigns it.

use super::*;
use crate::config::last_good;
use crate::model::wire::Secret;

const STRING: &str = "HostName=my-hub.example;DeviceId=gw-1;SharedAccessKey=c2VjcmV0c2VjcmV0";

/// A machine with this section, a connection string that is kept well if one is given, and that file's path in the section.
fn machine(section: &str, string: Option<&str>) -> Machine {
    let machine = Machine::new();
    if let Some(string) = string {
        put(&machine, "etc/string", string, 0o600);
    }
    let section =
        section.replace("STRING", &format!("connection_string_file = \"{}\"", machine.path("etc/string").display()));
    machine.with("etc/twinagent.toml", format!("cloud.kind = \"iothub\"\n[cloud.iothub]\n{section}\n"))
}

fn put(machine: &Machine, path: &str, text: &str, mode: u32) {
    fs::write(machine.path(path), text).expect("a file");
    fs::set_permissions(machine.path(path), fs::Permissions::from_mode(mode)).expect("a mode");
}

fn hub(config: &Config) -> &IotHub {
    match &config.cloud {
        Some(Cloud::IotHub(hub)) => hub,
        other => panic!("an IoT hub was expected: {other:?}"),
    }
}

fn key(machine: &Machine, config: &Config) -> Result<Option<Secret>, hub_key::HubKeyError> {
    hub_key::read(&machine.folders, &hub(config).proof)
}

#[test]
fn a_connection_string_says_all_there_is_to_say() {
    let machine = machine("STRING", Some(&format!("{STRING};GatewayHostName=edge.local;ModuleId=agent\n")));
    let loaded = load(&machine.folders, None).expect("right");
    let (config, path) = (loaded.config, machine.path("etc/string"));
    assert_eq!(config.device.as_ref().map(DeviceId::as_str), Some("gw-1"));
    let cloud = hub(&config);
    assert_eq!((&cloud.hub, cloud.port), (&Hub::Named("my-hub.example".to_owned()), 8883));
    assert_eq!((cloud.gateway_host.as_deref(), cloud.module_id.as_deref()), (Some("edge.local"), Some("agent")));
    assert_eq!(cloud.proof, HubProof::ConnectionString(path.clone()));
    assert!(loaded.files.contains(&path), "a change of the file is noticed");
    for key in ["device.id", "cloud.iothub.host", "cloud.iothub.module_id", "cloud.iothub.gateway_host"] {
        let origin = Place::File { path: path.display().to_string(), line: Some(1) };
        assert_eq!(loaded.origins.get(key), Some(&origin), "{key}");
    }
    assert_eq!(config.cloud.as_ref().map(Cloud::secrets), Some(vec![path.as_path()]));
    assert_eq!(key(&machine, &config).expect("a key").as_ref().map(Secret::reveal), Some("c2VjcmV0c2VjcmV0"));
    assert!(!format!("{config:?} {:?}", config.settings()).contains("c2Vj"));
}

#[test]
fn what_is_kept_of_it_needs_the_file_no_more() {
    let machine = machine("STRING", Some(STRING));
    let config = machine.config();
    let kept = last_good::write(&config);
    assert!(!String::from_utf8_lossy(&kept).contains("c2Vj"));
    put(&machine, "etc/string", "spoiled", 0o600);
    assert_eq!(last_good::read(&kept).as_ref(), Ok(&config));
    assert!(matches!(key(&machine, &config), Err(hub_key::HubKeyError::Unfit { .. })));
    fs::remove_file(machine.path("etc/string")).expect("it was there");
    assert_eq!(last_good::read(&kept).as_ref(), Ok(&config));
    assert!(key(&machine, &config).expect_err("gone").is_absent());
}

#[test]
fn a_file_that_is_not_there_yet_is_no_fault_where_the_rest_is_set() {
    let parts = "host = \"my-hub.example\"\nSTRING\n[device]\nid = \"gw-1\"";
    let absent = machine(parts, None);
    let config = absent.config();
    assert!(key(&absent, &config).expect_err("no key yet").is_absent());
    put(&absent, "etc/string", STRING, 0o600);
    assert_eq!(absent.config(), config, "and there it is");

    let faults = machine("STRING", None).faults();
    assert_eq!(
        faults,
        ["etc/twinagent.toml:3: cloud.iothub.connection_string_file: there is no such file: etc/string"]
    );
}

#[test]
fn a_connection_string_is_kept_as_well_as_a_key() {
    let machine = machine("STRING", Some(STRING));
    for bad in [0o644, 0o660, 0o604] {
        put(&machine, "etc/string", STRING, bad);
        let faults = machine.faults();
        assert_eq!(faults.len(), 1, "{faults:?}");
        let mend = faults[0].rsplit_once("mend it with: ").expect("a command").1;
        let mend = mend.replace("etc/string", &machine.path("etc/string").display().to_string());
        assert!(std::process::Command::new("sh").args(["-ec", &mend]).status().expect("a shell").success(), "{mend}");
        machine.config();
    }
    put(&machine, "etc/string", "HostName=h;SharedAccessKeyName=owner;SharedAccessKey=c2VjcmV0c2VjcmV0", 0o600);
    let faults = machine.faults();
    assert!(
        faults.len() == 1 && faults[0].contains("strings of services") && !faults[0].contains("c2Vj"),
        "{faults:?}"
    );
    put(&machine, "etc/string", &"x".repeat(70_000), 0o600);
    assert!(machine.faults()[0].contains("larger than"), "{:?}", machine.faults());
    fs::write(machine.path("etc/string"), b"\xff\xfe").expect("a file");
    assert!(machine.faults()[0].contains("not text"), "{:?}", machine.faults());
}

#[test]
fn a_pipe_in_its_place_holds_nothing_up() {
    let machine = machine("STRING", None);
    let made = std::process::Command::new("mkfifo").arg(machine.path("etc/string")).status().expect("mkfifo");
    assert!(made.success());
    let faults = machine.faults();
    assert!(faults.len() == 1 && faults[0].contains("is not a regular file"), "{faults:?}");
}

#[test]
fn a_credential_of_systemd_wins_and_stands_for_the_file() {
    for section in ["STRING", ""] {
        let mut machine = machine(section, Some("spoiled"));
        machine.folders.credentials = Some(machine.path("state"));
        put(&machine, "state/twinagent.connection-string", STRING, 0o644);
        let config = machine.config();
        let path = machine.path("state/twinagent.connection-string");
        assert_eq!(hub(&config).proof, HubProof::ConnectionString(path), "{section}");
        key(&machine, &config).expect("systemd keeps it well").expect("a key");
        assert_eq!(last_good::read(&last_good::write(&config)), Ok(config));
    }
    let mut machine = machine("host = \"h\"\nkey_file = \"/k\"\n[device]\nid = \"gw-1\"", None);
    machine.folders.credentials = Some(machine.path("state"));
    put(&machine, "state/twinagent.connection-string", STRING, 0o600);
    assert_eq!(hub(&machine.config()).proof, HubProof::Key("/k".into()), "another proof was chosen");
}

/// Which device and hub a certificate is for may be said by the credential alone.
#[test]
fn a_credential_counts_beside_a_certificate_and_may_bring_no_key() {
    let cert = "cert_file = \"/c.pem\"\ncert_key_file = \"/k.pem\"";
    let mut machine = machine(cert, None);
    machine.folders.credentials = Some(machine.path("state"));
    put(&machine, "state/twinagent.connection-string", "HostName=my-hub.example;DeviceId=gw-1;x509=true", 0o644);
    let config = machine.config();
    assert_eq!(hub(&config).hub, Hub::Named("my-hub.example".to_owned()));
    assert_eq!(config.device.as_ref().map(DeviceId::as_str), Some("gw-1"));
    assert_eq!(hub(&config).proof, HubProof::Certificate { chain: "/c.pem".into(), key: "/k.pem".into() });
    assert_eq!(last_good::read(&last_good::write(&config)), Ok(config));

    put(&machine, "state/twinagent.connection-string", STRING, 0o644);
    let faults = machine.faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(
        faults[0].contains("cloud.iothub.cert_file: stands beside cloud.iothub.connection_string_file"),
        "{faults:?}"
    );
}

#[test]
fn what_a_connection_string_says_agrees_as_names_do() {
    let said = format!("{STRING};GatewayHostName=Edge.Local;ModuleId=agent");
    let agrees = "STRING\nhost = \"MY-hub.example\"\ngateway_host = \"edge.local\"\nmodule_id = \"agent\"";
    machine(agrees, Some(&said)).config();
    for (section, key, member) in [
        ("STRING\ngateway_host = \"other.local\"", "gateway_host", "GatewayHostName"),
        ("STRING\nmodule_id = \"Agent\"", "module_id", "ModuleId"),
    ] {
        let faults = machine(section, Some(&said)).faults();
        let expected = format!("etc/twinagent.toml:4: cloud.iothub.{key}: is another than `{member}`");
        assert!(faults.len() == 1 && faults[0].starts_with(&expected), "{faults:?}");
    }
}

#[test]
fn a_key_file_has_base64_in_its_first_line() {
    let mut machine = machine("", None);
    let path = machine.path("etc/keys/hub.key");
    let section = format!("host = \"h\"\nkey_file = \"{}\"\nwebsocket = true\n[device]\nid = \"gw-1\"", path.display());
    machine = machine.with("etc/twinagent.toml", format!("cloud.kind = \"iothub\"\n[cloud.iothub]\n{section}"));
    let config = machine.config();
    assert_eq!(hub(&config).port, 443, "that of HTTPS");
    assert!(key(&machine, &config).expect_err("none").is_absent());
    for (text, expected) in
        [("c2VjcmV0\n", Some("c2VjcmV0")), (" c2VjcmV0 \r\nnote", Some("c2VjcmV0")), ("", None), ("no key", None)]
    {
        put(&machine, "etc/keys/hub.key", text, 0o600);
        let found = key(&machine, &config).map_err(|error| error.in_words());
        match (&found, expected) {
            (Ok(Some(key)), Some(expected)) => assert_eq!(key.reveal(), expected),
            (Err(why), None) => assert!(why.contains("hub.key") && !why.contains("no key"), "{why}"),
            other => panic!("{text:?}: {other:?}"),
        }
    }
    put(&machine, "etc/keys/hub.key", "c2VjcmV0", 0o644);
    assert!(key(&machine, &config).expect_err("open").in_words().contains("mend it with"));
}

#[test]
fn a_device_with_a_certificate_needs_no_key() {
    let cert = "cert_file = \"/c.pem\"\ncert_key_file = \"/k.pem\"";
    let string = machine(&format!("STRING\n{cert}"), Some("HostName=h;DeviceId=gw-1;x509=true"));
    let config = string.config();
    assert_eq!(hub(&config).proof, HubProof::Certificate { chain: "/c.pem".into(), key: "/k.pem".into() });
    assert!(key(&string, &config).expect("none is needed").is_none());
    assert_eq!(last_good::read(&last_good::write(&config)), Ok(config));

    let faults = machine("STRING", Some("HostName=h;DeviceId=gw-1;x509=true")).faults();
    assert_eq!(
        faults,
        [
            "etc/twinagent.toml:3: cloud.iothub.connection_string_file: says x509=true, and cloud.iothub.cert_file is not set"
        ]
    );
}

#[test]
fn a_service_may_assign_the_hub() {
    let device = "[device]\nid = \"gw-1\"";
    let section = format!("key_file = \"/k\"\n[cloud.iothub.provisioning]\nid_scope = \"0ne1\"\n{device}");
    let config = machine(&section, None).config();
    let expected = Provisioning {
        host: "global.azure-devices-provisioning.net".to_owned(),
        id_scope: "0ne1".to_owned(),
        registration_id: "gw-1".to_owned(),
    };
    assert_eq!(hub(&config).hub, Hub::Assigned(expected));
    assert_eq!(config.cloud.as_ref().map(Cloud::host), Some("global.azure-devices-provisioning.net"));

    let odd = section.replace("gw-1", "gw=1");
    let faults = machine(&odd, None).faults();
    assert!(faults.len() == 1 && faults[0].contains("device.id: \"gw=1\" is not a registration id"), "{faults:?}");
    machine(&odd.replace("id_scope", "registration_id = \"gw-1\"\nid_scope"), None).config();
}

#[test]
fn what_contradicts_itself_names_both_keys_and_a_line() {
    let device = "\n[device]\nid = \"gw-1\"";
    let one = "a device proves itself in one way, so one of them must go";
    let cases: [(&str, &[&str]); 12] = [
        (
            "host = \"h\"\nkey_file = \"/k\"\ncert_file = \"/c\"\ncert_key_file = \"/ck\"",
            &[":4: cloud.iothub.key_file: stands beside cloud.iothub.cert_file: ONE"],
        ),
        (
            "STRING\nkey_file = \"/k\"",
            &[":4: cloud.iothub.key_file: stands beside cloud.iothub.connection_string_file: ONE"],
        ),
        (
            "STRING\ncert_file = \"/c\"\ncert_key_file = \"/ck\"",
            &[":4: cloud.iothub.cert_file: stands beside cloud.iothub.connection_string_file: ONE"],
        ),
        (
            "host = \"h\"\ncert_file = \"/c\"",
            &[":4: cloud.iothub.cert_key_file is not set, and this cloud.iothub.cert_file needs it"],
        ),
        (
            "host = \"h\"\ncert_key_file = \"/c\"",
            &[":4: cloud.iothub.cert_file is not set, and this cloud.iothub.cert_key_file needs it"],
        ),
        (
            "host = \"h\"\nkey_file = \"/k\"\nprovisioning.id_scope = \"s\"",
            &[
                ":5: cloud.iothub.provisioning.id_scope: stands beside cloud.iothub.host: the hub is either named or assigned, so one of them must go",
            ],
        ),
        (
            "key_file = \"/k\"\nmodule_id = \"m\"\nprovisioning.id_scope = \"s\"",
            &[
                ":5: cloud.iothub.provisioning.id_scope: stands beside cloud.iothub.module_id: only devices are provisioned, no modules, so one of them must go",
            ],
        ),
        (
            "key_file = \"/k\"\ngateway_host = \"edge.local\"\nprovisioning.id_scope = \"s\"",
            &[
                ":5: cloud.iothub.provisioning.id_scope: stands beside cloud.iothub.gateway_host: the service is asked at `port` and trusted by `ca_file`, which are a gateway's then; name the hub by `host`",
            ],
        ),
        (
            "key_file = \"/k\"\nprovisioning.registration_id = \"s\"",
            &[
                ":4: cloud.iothub.provisioning.id_scope is not set, and this cloud.iothub.provisioning.registration_id needs it",
            ],
        ),
        (
            "STRING\nhost = \"other\"",
            &[
                ":4: cloud.iothub.host: is another than `HostName` in the file of cloud.iothub.connection_string_file; leave it out, or make both agree",
            ],
        ),
        (
            "STRING\nmodule_id = \"m\"",
            &[
                ":4: cloud.iothub.module_id: is set, and the file of cloud.iothub.connection_string_file names no `ModuleId`: it is that of the device itself",
            ],
        ),
        (
            "",
            &[
                ":1: none of cloud.iothub.connection_string_file, cloud.iothub.key_file, cloud.iothub.cert_file is set, and this cloud.kind needs one of them",
                ":1: none of cloud.iothub.connection_string_file, cloud.iothub.host, cloud.iothub.provisioning.id_scope is set, and this cloud.kind needs one of them",
            ],
        ),
    ];
    for (section, expected) in cases {
        let faults = machine(&format!("{section}{device}"), Some(STRING)).faults();
        let expected: Vec<String> =
            expected.iter().map(|text| format!("etc/twinagent.toml{}", text.replace("ONE", one))).collect();
        assert_eq!(faults, expected, "{section}");
    }
    let faults = machine("STRING\n[device]\nid = \"gw-2\"", Some(STRING)).faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].starts_with("etc/twinagent.toml:5: device.id: is another than `DeviceId`"), "{faults:?}");
}

#[test]
fn a_hub_that_is_not_chosen_is_looked_at_no_further_than_its_words() {
    let beside =
        format!("{GOOD}\n[cloud.iothub]\nkey_file = \"/k\"\ncert_file = \"/c\"\nconnection_string_file = \"/none\"\n");
    Machine::new().with("etc/twinagent.toml", &beside).config();
    let faults = Machine::new().with("etc/twinagent.toml", beside.replace("/none", "none")).faults();
    assert_eq!(
        faults,
        ["etc/twinagent.toml:14: cloud.iothub.connection_string_file: \"none\" is not an absolute path"]
    );
}
