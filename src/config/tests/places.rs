//! Stories of the places a configuration comes from: each of them wrong in every way, and what is told of it.

use std::fs::File;

use super::*;

/// What can be wrong in a file, and how what is told of it begins behind the name of the file.
const WRONG: [(&str, &str, &str); 7] = [
    (
        "wrong type",
        "\nsession.keep_alive = [1]\n",
        ":2: session.keep_alive: a duration such as \"30s\" is expected, not a list",
    ),
    ("wrong section", "session = 1\n", ":1: session is a section: "),
    (
        "unknown key",
        "[session]\nkeep_alife = \"1s\"\n",
        ":2: session.keep_alife is not a key; did you mean session.keep_alive?",
    ),
    ("out of range", "session.keep_alive = \"20m\"\n", ":1: session.keep_alive: 20m is out of bounds"),
    ("duplicate", "session.keep_alive = \"1m\"\nsession.keep_alive = \"1m\"\n", ":2: duplicate key"),
    ("no TOML", "\n\n{\n", ":3: "),
    ("a date", "device.id = 2026-01-01\n", ":1: no key takes a date or time"),
];

#[test]
fn every_fault_is_told_of_in_every_place() {
    for place in ["usr/10.toml", "etc/twinagent.toml", "etc/conf.d/10.toml", "run/10.toml"] {
        let told = |machine: &Machine, what: &str, expected: &str| {
            let faults = machine.faults();
            assert!(faults.len() == 1 && faults[0].starts_with(&format!("{place}{expected}")), "{what}: {faults:?}");
        };
        for (what, text, expected) in WRONG {
            told(&Machine::new().with(place, text), what, expected);
        }
        told(&Machine::new().with(place, b"a = 1\nb = \"\xe4\"\n"), "not UTF-8", ":2: is not UTF-8");

        let large = Machine::new();
        File::create(large.path(place)).and_then(|file| file.set_len(100 << 20)).expect("a sparse file");
        let start = Instant::now();
        told(&large, "100 MB", ": is larger than 1024 KiB");
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());

        // A file that is opened and then fails to be read, for root too.
        let unreadable = Machine::new();
        symlink("/proc/self/mem", unreadable.path(place)).expect("a link");
        told(&unreadable, "unreadable", ": cannot be read: ");
        let circle = Machine::new();
        symlink(circle.path(place), circle.path(place)).expect("a link");
        told(&circle, "a circle of links", ": cannot be opened: ");
    }
}

#[test]
fn a_variable_is_judged_like_a_file() {
    for (name, value, expected) in [
        ("TWINAGENT__SESSION__KEEP_ALIVE", "[1]", "session.keep_alive: \"[1]\" is not a duration"),
        ("TWINAGENT__SESSION", "1", "session is a section"),
        ("TWINAGENT__SESSION__KEEP_ALIFE", "1s", "session.keep_alife is not a key; did you mean session.keep_alive?"),
        ("TWINAGENT__SESSION__KEEP_ALIVE", "20m", "session.keep_alive: 20m is out of bounds"),
        ("TWINAGENT__METHODS__ENABLE", "echo", "methods.enable: no variable: a list is set in a file only"),
        ("TWINAGENT__COMMANDS__ALIAS", "echo", "commands.alias: a table of texts is expected"),
        ("TWINAGENT__COMMANDS__ALIAS__E", "1 2", "commands.alias.e: \"1 2\" is not a method name"),
    ] {
        let faults = Machine::new().variable(name, value).faults();
        let expected = format!("${name}: {expected}");
        assert!(faults.len() == 1 && faults[0].starts_with(&expected), "{faults:?}");
    }
}

#[test]
fn a_folder_that_cannot_be_listed_is_told_of_and_one_that_is_gone_is_not() {
    for (folder, of) in [("usr", "usr"), ("etc/conf.d", "etc/conf.d"), ("run", "run")] {
        let machine = Machine::new();
        fs::remove_dir(machine.path(folder)).expect("removed");
        assert_eq!(machine.faults(), [""; 0]);
        fs::write(machine.path(folder), "").expect("a file in its place");
        let faults = machine.faults();
        assert!(faults.len() == 1 && faults[0].starts_with(&format!("{of}: cannot be listed: ")), "{faults:?}");
    }
}

#[test]
fn every_value_knows_where_it_stands() {
    let machine = Machine::new()
        .with("etc/twinagent.toml", format!("{GOOD}\n[commands]\nalias = {{ a = \"echo\", b = \"echo\" }}\n"))
        .with("etc/conf.d/10.toml", "\n[commands.alias]\nb = \"rebootDevice\"\n")
        .variable("TWINAGENT__CLOUD__IOTCORE__PORT", "443");
    let loaded = load(&machine.folders, None).expect("right");
    let place = |key: &str| {
        let shown = loaded.origins.get(key).map(ToString::to_string);
        shown.map(|place| place.replace(&format!("{}/", machine.root.path().display()), ""))
    };
    assert_eq!(place("device.id").as_deref(), Some("etc/twinagent.toml:2"));
    assert_eq!(place("cloud.iotcore.host").as_deref(), Some("etc/twinagent.toml:6"));
    assert_eq!(place("cloud.iotcore.port").as_deref(), Some("$TWINAGENT__CLOUD__IOTCORE__PORT"));
    assert_eq!(place("commands.alias.a").as_deref(), Some("etc/twinagent.toml:12"));
    assert_eq!(place("commands.alias.b").as_deref(), Some("etc/conf.d/10.toml:3"));
    assert_eq!(place("session.keep_alive"), None);
}

#[test]
fn aliases_lead_to_methods_and_no_further() {
    let machine = Machine::new().with(
        "etc/twinagent.toml",
        "[commands]\ndefault_method = \"a\"\n[commands.alias]\na = \"echo\"\nB = \"rebootDevice\"\n",
    );
    let config = machine.config();
    let method = |name: &str| Method::parse(name).expect("a name");
    assert_eq!(config.commands.default_method, Some(method("echo")));
    assert_eq!(config.commands.alias.get(&method("B")), Some(&method("rebootDevice")), "names keep their case");
    let machine = Machine::new().with(
        "etc/twinagent.toml",
        "[commands.alias]\na = \"b\"\nb = \"echo\"\nc = \"c\"\nd = 5\ne = \"no name\"\n\"0\" = \"echo\"\n",
    );
    assert_eq!(
        machine.faults(),
        [
            "etc/twinagent.toml:7: commands.alias.0: \"0\" is not a method name: a letter and then up to 63 of the characters A-Z a-z 0-9 _ - are expected",
            "etc/twinagent.toml:5: commands.alias.d: a text in quotes is expected, not 5",
            "etc/twinagent.toml:6: commands.alias.e: \"no name\" is not a method name: a letter and then up to 63 of the characters A-Z a-z 0-9 _ - are expected",
            "etc/twinagent.toml:2: commands.alias.a: \"b\" is an alias itself",
            "etc/twinagent.toml:4: commands.alias.c: \"c\" is an alias itself",
        ]
    );
}

#[test]
fn an_id_is_made_of_what_the_machine_tells() {
    let specifiers: Specifiers =
        [('H', Ok("pump".to_owned())), ('s', Err("this board tells no serial number".to_owned()))].into();
    let machine = |id: &str| Machine::new().with("etc/twinagent.toml", GOOD.replace("gw-1", id));
    let id = |machine: &Machine| match (Sources { specifiers: &specifiers, ..machine.sources() }).load() {
        Ok(loaded) => Ok(loaded.config.device.map(String::from).expect("an id")),
        Err(faults) => {
            Err(faults.to_string().rsplit_once("twinagent.toml:2: device.id: ").expect("its line").1.to_owned())
        }
    };
    assert_eq!(id(&machine("gw-%H")).as_deref(), Ok("gw-pump"));
    assert_eq!(id(&machine("gw-%s")), Err("\"gw-%s\" is not to be had: this board tells no serial number".to_owned()));
    assert!(id(&machine("goog%H")).is_err_and(|why| why.starts_with("\"googpump\" is not an id for Cloud IoT Core")));
    assert!(id(&machine("%H/x")).is_err_and(|why| why.starts_with("\"%H/x\" is not a device id")));

    let from_file = machine("@PATH");
    let path = from_file.path("serial");
    let from_file = from_file.with("etc/twinagent.toml", GOOD.replace("gw-1", &format!("@{}", path.display())));
    let faults = load(&from_file.folders, None).expect_err("no such file");
    assert!(faults.to_string().ends_with("is not to be had: there is no such file"), "{faults}");
    assert_eq!(faults.files, [path.as_path()], "watched, for it may come");
    let from_file = from_file.with("serial", "gw-77\n");
    assert_eq!(id(&from_file).as_deref(), Ok("gw-77"));
    assert_eq!(load(&from_file.folders, None).expect("right").files, [path]);
}

#[test]
fn a_drop_in_is_tried_where_it_would_lie() {
    let machine = Machine::new()
        .with("etc/twinagent.toml", GOOD)
        .with("etc/conf.d/50-x.toml", "rubbish")
        .with("etc/conf.d/60-y.toml", "session.keep_alive = \"6s\"")
        .with("new/50-x.toml", "session.keep_alive = \"5s\"\nsession.backoff_max = \"5s\"\n");
    let path = machine.path("new/50-x.toml");
    let tried =
        |machine: &Machine, text| Sources { drop_in: Some(DropIn { path: &path, text }), ..machine.sources() }.load();
    let session = tried(&machine, None).expect("right, since it masks the one that is not").config.session;
    assert_eq!((session.keep_alive.as_secs(), session.backoff_max.as_secs()), (6, 5));
    let session = tried(&machine, Some("session.backoff_max = \"7s\"")).expect("right").config.session;
    assert_eq!(session.backoff_max.as_secs(), 7);
    let faults = tried(&machine, Some("\nx = ")).expect_err("not TOML").to_string();
    assert!(faults.contains("new/50-x.toml:2: "), "{faults}");

    let masked = machine.with("run/50-x.toml", "");
    let faults = tried(&masked, None).expect_err("it would not be read").to_string();
    assert!(faults.contains("new/50-x.toml: is not read, since ") && faults.contains("run/50-x.toml"), "{faults}");
    fs::remove_file(&path).expect("removed");
    fs::remove_file(masked.path("run/50-x.toml")).expect("removed");
    let faults = tried(&masked, None).expect_err("it is gone").to_string();
    assert!(faults.contains("new/50-x.toml: there is no such file"), "{faults}");
}

#[test]
fn all_that_counts_is_watched() {
    let mut machine = Machine::new();
    let named = machine.path("ca.pem");
    let watched = |machine: &Machine| -> Vec<PathBuf> {
        let root = machine.root.path();
        let watched = machine.folders.watched([named.as_path()]);
        watched.iter().map(|path| path.strip_prefix(root).expect("below the root").to_owned()).collect()
    };
    let expected =
        ["usr", "etc/twinagent.toml", "etc/conf.d", "run", "etc/keys", "usr-handlers", "etc/handlers.d", "ca.pem"];
    assert_eq!(watched(&machine), expected.map(PathBuf::from));
    machine.folders.credentials = Some(machine.path("credentials"));
    assert_eq!(watched(&machine).len(), 9);
    machine.folders.configuration = "relative".into();
    assert!(machine.folders.watched(None::<&Path>).iter().all(|path| path.is_absolute()));
}

#[test]
fn every_mistake_in_the_policy_of_reboots_is_told_with_its_line() {
    let policy = r#"[reboot]
max_reboots = 0
per = "30s"
healthy = "1s"
too_soon = "later"
inhibitor_wait = "2d"
windows = [
    "Sat 02:00-04:00 Europe/Berlin",
    "Sat 02:00-04:00",
    "Sut 02:00-04:00 UTC",
    "Sat 02:00-04:00 Mars/Base",
    "Sat 02:00-02:00 UTC",
]
spread = "25h"
allow_force = "yes"
max_reboot = 3
"#;
    assert_eq!(
        Machine::new().with("etc/twinagent.toml", policy).faults(),
        [
            "etc/twinagent.toml:2: reboot.max_reboots: is out of bounds: 1 to 20 is expected",
            "etc/twinagent.toml:3: reboot.per: 30s is out of bounds: 1m to 7d is expected",
            "etc/twinagent.toml:4: reboot.healthy: 1s is out of bounds: 10s to 1d is expected",
            "etc/twinagent.toml:5: reboot.too_soon: \"later\" is none of \"defer\", \"refuse\"",
            "etc/twinagent.toml:6: reboot.inhibitor_wait: 2d is out of bounds: 0s to 1d is expected",
            "etc/twinagent.toml:7: reboot.windows: \"Sat 02:00-04:00\" is not a window: it names no time zone; write \"UTC\" or one such as \"Europe/Berlin\" behind the hours",
            "etc/twinagent.toml:7: reboot.windows: \"Sut 02:00-04:00 UTC\" is not a window: `Sut` is no day; Mon, Tue, Wed, Thu, Fri, Sat, Sun and ranges such as Mon-Fri are expected",
            "etc/twinagent.toml:7: reboot.windows: \"Sat 02:00-04:00 Mars/Base\" is not a window: the zone `Mars/Base` is not known here: there is no /usr/share/zoneinfo/Mars/Base; hint: is tzdata installed?",
            "etc/twinagent.toml:7: reboot.windows: \"Sat 02:00-02:00 UTC\" is not a window: it ends when it begins; a whole day is 00:00-24:00",
            "etc/twinagent.toml:14: reboot.spread: 1d 1h is out of bounds: 0s to 1d is expected",
            "etc/twinagent.toml:15: reboot.allow_force: true or false is expected, not the text \"yes\"",
            "etc/twinagent.toml:16: reboot.max_reboot is not a key; did you mean reboot.max_reboots?",
        ]
    );
    let many = format!("[reboot]\nwindows = [{}]", "\"Sat 02:00-04:00 UTC\",".repeat(33));
    assert_eq!(
        Machine::new().with("etc/twinagent.toml", many).faults(),
        ["etc/twinagent.toml:2: reboot.windows: holds more than 32 windows"]
    );
    let wrong_type = "[reboot]\nmax_reboots = \"three\"\nwindows = \"Sat 02:00-04:00 UTC\"";
    assert_eq!(
        Machine::new().with("etc/twinagent.toml", wrong_type).faults(),
        [
            "etc/twinagent.toml:2: reboot.max_reboots: a number is expected, not the text \"three\"",
            "etc/twinagent.toml:3: reboot.windows: a list of texts is expected, not the text \"Sat 02:00-04:00 UTC\"",
        ]
    );
    let config = Machine::new().variable("TWINAGENT__REBOOT__MAX_REBOOTS", "7").config();
    assert_eq!(config.reboot.max_reboots, 7);
}

#[test]
fn the_rules_of_a_zone_are_watched_for_they_may_change_or_come() {
    let windows = "reboot.windows = [\"Sat 02:00-04:00 Europe/Berlin\", \"Sat 02:00-04:00 Mars/Base\"]";
    let machine = Machine::new().with("etc/twinagent.toml", windows);
    let faults = load(&machine.folders, None).expect_err("no such zone");
    assert_eq!(faults.files, ["Europe/Berlin", "Mars/Base"].map(|name| Path::new("/usr/share/zoneinfo").join(name)));
}

#[test]
fn what_is_enabled_is_a_method_of_the_programs_own_and_a_slip_is_told() {
    let text = "[methods]\nenable = [\"getLogs\", \"echo\", \"getLog\", \"restartGateway\"]\n";
    let machine = Machine::new().with("etc/twinagent.toml", text);
    assert_eq!(
        machine.faults(),
        [
            "etc/twinagent.toml:2: methods.enable: \"getLog\" is no method that can be enabled; did you mean \"getLogs\"?",
            "etc/twinagent.toml:2: methods.enable: \"restartGateway\" is no method that can be enabled: getLogs, reloadConfig, \
             restartService, shutdown are, and what a manifest adds is there without",
        ]
    );
    let loaded = load(&machine.folders, None).expect("a warning: another version may know them");
    assert_eq!(loaded.config.methods.enable.len(), 4);
}

#[test]
fn whose_log_may_be_told_is_the_whole_name_of_a_unit() {
    for bad in ["nginx", "a.exe", "a@.service", ".service", "-a.service", "a b.service", "*.service", "../a.service"] {
        let text = format!("methods.log_units = [\"{bad}\"]");
        let faults = Machine::new().with("etc/twinagent.toml", text).faults();
        assert_eq!(faults.len(), 1, "{bad}: {faults:?}");
    }
    let many: Vec<String> = (0..33).map(|number| format!("\"{number}.service\"")).collect();
    let text = format!("methods.log_units = [{}]", many.join(","));
    let faults = Machine::new().with("etc/twinagent.toml", text).faults();
    assert_eq!(faults, ["etc/twinagent.toml:1: methods.log_units: holds more than 32 units"]);
}
