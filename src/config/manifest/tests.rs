//! Stories of manifests: real folders, real files, and what a person is told.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::config::own_methods;
use crate::model::command::{Class, Origin};
use crate::model::payload::{Member, PayloadRules, Shape};

const WHOLE: &str = r#"
    method = "restartGateway"
    description = "Restarts the gateway program"
    kind = "program"
    program = "/usr/local/lib/gateway/restart"
    arguments = ["--now", ""]
    time_limit = "1m"
    grace = "0s"
    class = "parallel"
    parallel = 64
    harmless = true
    output_limit = 0
    desired = "gateway"
    [payload]
    others = true
    [payload.members.port]
    type = "integer"
    required = true
    min = 1
    max = 65535
    [payload.members.Mode]
    type = "text"
    max_length = 4
    one_of = ["fast", "slow"]
    [payload.members.list]
    type = "list"
    max_length = 3
"#;

/// The smallest one that is right.
fn small(method: &str) -> String {
    format!("method = \"{method}\"\nkind = \"program\"\nprogram = \"/bin/true\"\n")
}

/// The two folders of one machine.
struct Machine {
    root: TempDir,
    folders: Folders,
}

impl Machine {
    fn new() -> Self {
        let root = TempDir::new().expect("a folder");
        let at = |name: &str| root.path().join(name);
        let folders = Folders { configuration: at("etc"), vendor_handlers: at("usr"), ..Folders::from_env() };
        for folder in [at("usr"), folders.handlers()] {
            fs::create_dir_all(&folder).expect("a folder");
        }
        Self { root, folders }
    }

    fn etc(&self, name: &str) -> PathBuf {
        self.folders.handlers().join(name)
    }

    fn usr(&self, name: &str) -> PathBuf {
        self.folders.vendor_handlers.join(name)
    }

    fn load(&self) -> Manifests {
        Manifests::load(&self.folders)
    }

    /// Every fault, with the folder of the test left out.
    fn told(&self) -> Vec<String> {
        words(&self.load().faults, self.root.path())
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, Permissions::from_mode(0o644)).expect("a mode");
}

fn words(faults: &[Fault], root: &Path) -> Vec<String> {
    faults.iter().map(|fault| fault.to_string().replace(&root.display().to_string(), "")).collect()
}

fn methods(manifests: &Manifests) -> Vec<&str> {
    manifests.list.iter().map(|manifest| manifest.spec.name.as_str()).collect()
}

fn faults_of(text: &str) -> Vec<String> {
    let faults = parse(Path::new("/x.toml"), text).expect_err("a fault");
    faults.iter().map(|fault| fault.to_string().replacen("/x.toml:", "", 1).trim().to_owned()).collect()
}

#[test]
fn every_key_is_read_and_what_is_left_out_has_its_default() {
    let whole = parse(Path::new("/x.toml"), WHOLE).expect("right");
    let seconds = Duration::from_secs;
    let members = [
        ("Mode", false, Shape::Text { longest: 4, one_of: vec!["fast".to_owned(), "slow".to_owned()] }),
        ("list", false, Shape::List { longest: 3 }),
        ("port", true, Shape::Integer { min: 1, max: 65535 }),
    ];
    let members = members.map(|(name, required, shape)| (name.to_owned(), Member { required, shape })).into();
    let spec = MethodSpec {
        harmless: true,
        class: Class::Parallel(64),
        time_limit: seconds(60),
        output_limit: 0,
        description: "Restarts the gateway program".to_owned(),
        origin: Origin::File("/x.toml".to_owned()),
        payload: Some(PayloadRules { members, others: true }),
        outlives: false,
        desired: Some("gateway".to_owned()),
        ..MethodSpec::new(whole.spec.name.clone())
    };
    assert_eq!((&whole.spec, whole.spec.name.as_str()), (&spec, "restartGateway"));
    let arguments = vec!["--now".to_owned(), String::new()];
    assert_eq!(whole.action, Action::Program { program: "/usr/local/lib/gateway/restart".into(), arguments });
    assert_eq!((whole.grace, whole.digest), (Duration::ZERO, Digest::of(WHOLE.as_bytes())));

    let unit = parse(Path::new("/x.toml"), "method = \"up\"\nkind = \"unit\"\nunit = \"apt-upgrade\"").expect("right");
    let plain = MethodSpec::new(unit.spec.name.clone());
    let spec = MethodSpec { origin: Origin::File("/x.toml".to_owned()), outlives: true, ..plain };
    assert_eq!((unit.spec, unit.action), (spec, Action::Unit { job: "apt-upgrade".to_owned() }));
}

#[test]
fn every_fault_is_told_at_once_with_its_line() {
    let text = r#"methd = "x"
kind = "program"
unit = "a"
time_limit = 30
grace = "2m"
class = "exclusive"
queue = 3
parallel = 0
output_limit = 1.5
desired = "a b"
harmless = "yes"
[payload]
other = true
[payload.members]
flat = 1
[payload.members.port]
type = "text"
min = 1
one_of = []
[payload.members.n]
type = "integer"
min = 2
max = 1
max_length = 3
[payload.members.none]
required = true
"#;
    assert_eq!(
        faults_of(text),
        [
            "method: is not set",
            "program: is not set",
            "1: methd is not a key; did you mean method?",
            "3: unit: is for kind = \"unit\" only",
            "4: time_limit: 30 has no unit: \"30s\" or \"30m\" is expected",
            "5: grace: 2m is out of bounds: 0s to 1m is expected",
            "7: queue: is for class = \"serial\" only",
            "8: parallel: 0 is out of bounds: 1 to 64 is expected",
            "8: parallel: is for class = \"parallel\" only",
            "9: output_limit: a whole number is expected, not 1.5",
            "10: desired: \"a b\" is not the name of a member: 1 to 64 of the characters A-Z a-z 0-9 _ - are expected",
            "11: harmless: true or false is expected, not the text \"yes\"",
            "13: payload.other is not a key; did you mean others?",
            "15: payload.members.flat: a section is expected, not 1",
            "18: payload.members.port.min: is for type = \"integer\" only",
            "19: payload.members.port.one_of: is empty, so no value would fit",
            "23: payload.members.n.max: 1 is below min, 2, so no value would fit",
            "24: payload.members.n.max_length: is for type = \"text\" and \"list\" only",
            "25: payload.members.none.type: is not set",
        ]
    );
}

#[test]
fn values_out_of_their_bounds_are_refused() {
    let many = |item: &str, count: usize| format!("[{}]", vec![item; count].join(","));
    let with = |line: &str| format!("{}{line}\n", small("m"));
    for (line, words) in [
        ("time_limit = \"999ms\"".to_owned(), "out of bounds: 1s to 1d"),
        ("time_limit = \"24h 1ms\"".to_owned(), "out of bounds: 1s to 1d"),
        ("queue = 65".to_owned(), "0 to 64"),
        ("queue = -1".to_owned(), "0 to 64"),
        ("class = \"parallel\"\nparallel = 65".to_owned(), "1 to 64"),
        ("output_limit = 262145".to_owned(), "0 to 262144"),
        ("class = \"any\"".to_owned(), "none of \"exclusive\", \"serial\", \"parallel\""),
        (format!("description = \"{}\"", "x".repeat(201)), "not one line of at most 200"),
        ("description = \"two\\nlines\"".to_owned(), "not one line"),
        (format!("desired = \"{}\"", "x".repeat(65)), "not the name of a member"),
        (format!("arguments = {}", many("\"\"", 65)), "more than 64 items"),
        (format!("arguments = [\"{}\"]", "x".repeat(4097)), "at most 4096 bytes"),
        ("arguments = [\"a\\u0000b\"]".to_owned(), "without NUL"),
        ("arguments = [1]".to_owned(), "a list of texts is expected, not 1"),
        ("payload = true".to_owned(), "a section is expected, not true"),
        (format!("[payload.members.{}]", "n".repeat(65)), "a name has at most 64 characters"),
        ("[payload.members.n]\ntype = \"bool\"".to_owned(), "none of \"any\", \"boolean\""),
        ("[payload.members.n]\ntype = \"text\"\nmax_length = 262145".to_owned(), "0 to 262144"),
        (format!("[payload.members.n]\ntype = \"text\"\none_of = {}", many("\"a\"", 65)), "more than 64 items"),
        ("[payload.members.n]\ntype = \"text\"\none_of = [\"a\", \"a\"]".to_owned(), "holds a text twice"),
        (
            "[payload.members.n]\ntype = \"text\"\nmax_length = 1\none_of = [\"äb\"]".to_owned(),
            "longer than max_length",
        ),
        ("\"a.b\" = 1".to_owned(), "a key with other characters"),
        ("since = 2026-01-01".to_owned(), "no key takes a date"),
    ] {
        let told = faults_of(&with(&line));
        assert!(told.iter().any(|fault| fault.contains(words)), "{line}: {told:?}");
    }
    let members: Vec<String> = (0..65).map(|at| format!("[payload.members.n{at}]\ntype = \"any\"\n")).collect();
    assert_eq!(faults_of(&with(&members.concat())).len(), 1, "more than 64 members");
    let at_the_bounds = [
        "time_limit = \"24h\"\nqueue = 64\noutput_limit = 262144\ngrace = \"60s\"",
        "time_limit = \"1s\"\nqueue = 0\n[payload]",
        "class = \"parallel\"\nparallel = 1\n[payload.members.n]\ntype = \"text\"\nmax_length = 0",
    ];
    for lines in at_the_bounds {
        assert!(parse(Path::new("/x.toml"), &with(lines)).is_ok(), "{lines}");
    }
}

#[test]
fn a_program_is_a_plain_absolute_path_and_a_job_a_plain_name() {
    for bad in ["restart", "./x", "/", "/usr/", "/a/../b", "/a/./b", "//a", "/a\\nb", "/a\\u0000b", ""] {
        let told = faults_of(&format!("method = \"m\"\nkind = \"program\"\nprogram = \"{bad}\""));
        assert_eq!(told.len(), 1, "{bad}: {told:?}");
    }
    let long = format!("/{}", "x".repeat(4096));
    assert_eq!(faults_of(&format!("method = \"m\"\nkind = \"program\"\nprogram = \"{long}\"")).len(), 1);
    let unit = |job: &str| format!("method = \"m\"\nkind = \"unit\"\nunit = \"{job}\"");
    for bad in ["", "-a", "A", "a@b", "a.service", "../a", "a/b", "a b", "ä", &"x".repeat(64)] {
        assert_eq!(faults_of(&unit(bad)).len(), 1, "{bad}");
    }
    for good in ["a", "0", "apt-upgrade", &"x".repeat(63)] {
        assert!(parse(Path::new("/x.toml"), &unit(good)).is_ok(), "{good}");
    }
    let told =
        faults_of("method = \"m\"\nkind = \"unit\"\nunit = \"a\"\nprogram = \"/b\"\narguments = []\ngrace = \"1s\"");
    assert_eq!(told.len(), 3, "{told:?}");
}

#[test]
fn no_manifest_takes_a_name_of_the_programs_own_methods() {
    for name in own_methods::ALWAYS.into_iter().chain(own_methods::ENABLED) {
        assert_eq!(faults_of(&small(name)).len(), 1, "{name}");
    }
    assert_eq!(faults_of(&small("../x")).len(), 1);
    assert!(parse(Path::new("/x.toml"), &small("rebootdevice")).is_ok(), "another name");
}

#[test]
fn of_two_files_with_one_name_the_configured_one_holds_and_a_link_to_null_is_none() {
    let machine = Machine::new();
    write(&machine.usr("a.toml"), &small("ofVendor"));
    write(&machine.usr("b.toml"), &small("off"));
    write(&machine.etc("a.toml"), &small("ours"));
    write(&machine.etc("c.toml"), &small("more"));
    write(&machine.etc(".c.toml"), "hidden");
    write(&machine.etc("README"), "no manifest");
    write(&machine.etc("c.toml.dpkg-new"), "no manifest");
    symlink("/dev/null", machine.etc("b.toml")).expect("a link");
    let loaded = machine.load();
    assert_eq!((methods(&loaded), loaded.faults.len()), (vec!["ours", "more"], 0), "{:?}", loaded.faults);
    let mut finder = Finder::new(machine.folders.clone());
    let mut find = |name: &str| finder.find(name);
    assert_eq!(find("a.toml").as_ref(), Ok(&loaded.list[0]));
    assert_eq!(loaded.list[0].file_name(), "a.toml");
    for (name, why) in [("b.toml", "switched off"), ("d.toml", "no such file")] {
        let told = find(name).expect_err(name);
        assert!(told.len() == 1 && told[0].text.contains(why), "{told:?}");
    }
    write(&machine.etc("a.toml"), &small("changed"));
    assert_eq!(find("a.toml").expect("it holds").spec.name.as_str(), "changed");
    assert_eq!(find("a.toml"), find("a.toml"));
    fs::remove_file(machine.etc("a.toml")).expect("the file");
    assert_eq!(find("a.toml").expect("the vendor's").spec.name.as_str(), "ofVendor");
    fs::remove_file(machine.etc("b.toml")).expect("the link");
    assert_eq!(methods(&machine.load()), ["ofVendor", "off", "more"]);
}

#[test]
fn a_name_from_elsewhere_leads_nowhere_else() {
    let machine = Machine::new();
    write(&machine.root.path().join("etc/out.toml"), &small("out"));
    write(&machine.etc("with space.toml"), &small("space"));
    let long = format!("{}.toml", "x".repeat(251));
    let mut finder = Finder::new(machine.folders.clone());
    for name in ["../out.toml", "/etc/passwd", "", ".toml", "..toml", ".x.toml", "a\0.toml", "with space.toml", &long] {
        let told = finder.find(name).expect_err(name);
        assert!(told[0].text.contains("no file of such a name"), "{name:?}: {told:?}");
    }
    assert_eq!(machine.told().len(), 1, "a file whose name the service would not take is told of");
}

#[test]
fn what_others_can_write_and_what_is_no_file_is_refused() {
    let machine = Machine::new();
    write(&machine.etc("a.toml"), &small("a"));
    let mut finder = Finder::new(machine.folders.clone());
    assert!(finder.find("a.toml").is_ok());
    write(&machine.etc("b.toml"), &small("b"));
    fs::set_permissions(machine.etc("b.toml"), Permissions::from_mode(0o664)).expect("a mode");
    symlink(machine.etc("a.toml"), machine.etc("c.toml")).expect("a link");
    symlink("nowhere", machine.etc("d.toml")).expect("a link");
    fs::create_dir(machine.etc("e.toml")).expect("a folder");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        machine.etc("f.toml"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .expect("a pipe");
    write(&machine.etc("g.toml"), &format!("{}#{}", small("g"), "x".repeat(64 << 10)));
    fs::write(machine.etc("h.toml"), b"method = \"h\"\n\xff").expect("a file");
    let told = machine.told();
    let expected = [
        ("b.toml: may be written by its group (mode 0664)", "mend it with: chmod go-w "),
        ("c.toml: is a link", "/dev/null"),
        ("d.toml: is a link", "/dev/null"),
        ("e.toml: is not a regular file", ""),
        ("f.toml: is not a regular file", ""),
        ("g.toml: is larger than 64 KiB", ""),
        ("h.toml:2: is not UTF-8", ""),
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, (words, hint)) in told.iter().zip(expected) {
        assert!(told.starts_with(&format!("/etc/handlers.d/{words}")) && told.contains(hint), "{told}");
    }
    assert_eq!(methods(&machine.load()), ["a"]);

    fs::set_permissions(machine.folders.handlers(), Permissions::from_mode(0o777)).expect("a mode");
    let told = machine.told();
    assert_eq!(told.len(), 1, "one folder, one fault: {told:#?}");
    write(&machine.usr("a0.toml"), &small("between"));
    fs::set_permissions(machine.root.path().join("usr"), Permissions::from_mode(0o775)).expect("a mode");
    assert_eq!(machine.told().len(), 2, "two folders, two faults: {:#?}", machine.told());
    assert!(told[0].starts_with("/etc/handlers.d: may be written by everybody"), "{told:?}");
    assert!(finder.find("a.toml").is_err(), "known, and in the wrong hands now");
}

#[test]
fn of_two_that_ask_for_the_same_the_first_by_name_holds() {
    let machine = Machine::new();
    write(&machine.usr("20.toml"), &small("m"));
    write(&machine.etc("10.toml"), &format!("{}desired = \"x\"", small("m")));
    write(&machine.etc("30.toml"), &format!("{}desired = \"x\"", small("other")));
    let told = machine.told();
    let first = "/etc/handlers.d/10.toml";
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0], format!("/usr/20.toml: method: \"m\" is that of {first} already"));
    assert_eq!(told[1], format!("/etc/handlers.d/30.toml: desired: {first} is run for this member already"));
    assert_eq!(machine.load().list.len(), 1);

    let machine = Machine::new();
    for at in 0..65 {
        write(&machine.etc(&format!("{at:02}.toml")), &format!("{}desired = \"x{at}\"", small(&format!("m{at}"))));
    }
    let told = machine.told();
    assert!(told.len() == 1 && told[0].starts_with("/etc/handlers.d/64.toml: desired: more than 64 "), "{told:?}");
}

#[test]
fn what_has_become_wrong_keeps_what_it_said_and_what_is_gone_does_not() {
    let machine = Machine::new();
    for name in ["a", "b", "c", "d", "e"] {
        write(&machine.etc(&format!("{name}.toml")), &small(name));
    }
    let before = machine.load();
    assert_eq!(before.list.len(), 5);
    write(&machine.etc("a.toml"), "broken");
    fs::remove_file(machine.etc("b.toml")).expect("the file");
    fs::remove_file(machine.etc("c.toml")).expect("the file");
    symlink("/dev/null", machine.etc("c.toml")).expect("a link");
    write(&machine.etc("d.toml"), &small("anew"));
    let after = machine.load().keeping(&before.list);
    assert_eq!((methods(&after), after.faults.len()), (vec!["a", "anew", "e"], 1));
    assert_eq!(after.list[0], before.list[0]);

    write(&machine.etc("0.toml"), &small("a"));
    let after = machine.load().keeping(&after.list);
    assert_eq!(methods(&after), ["a", "anew", "e"], "another file says it now");
    assert_eq!(after.list[0].file_name(), "0.toml");

    let many = (0..257).map(|at| machine.etc(&format!("m{at}.toml")));
    many.for_each(|path| write(&path, ""));
    let after = machine.load().keeping(&after.list);
    assert_eq!((methods(&after), after.faults.len()), (vec!["a", "anew", "e"], 1), "nothing is known of any");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Lines of every kind in any order: what is taken is within its bounds, and read again it is the same.
    #[test]
    fn what_is_taken_is_within_its_bounds(
        limit in 0_u64..100_000, grace in 0_u64..100, queue in -2_i64..70, output in -2_i64..300_000,
        class in 0_usize..4, min in any::<i64>(), max in any::<i64>(), kind in 0_usize..3,
    ) {
        let class = [("exclusive", ""), ("serial", "queue"), ("parallel", "parallel"), ("odd", "queue")][class];
        let room = if class.1.is_empty() { String::new() } else { format!("{} = {queue}", class.1) };
        let kind = [small("m"), "method = \"m\"\nkind = \"unit\"\nunit = \"u\"\n".to_owned(), String::new()][kind].clone();
        let text = format!(
            "{kind}time_limit = \"{limit}s\"\ngrace = \"{grace}s\"\nclass = \"{}\"\n{room}\noutput_limit = {output}\n\
             [payload.members.n]\ntype = \"integer\"\nmin = {min}\nmax = {max}\n", class.0,
        );
        match parse(Path::new("/x.toml"), &text) {
            Ok(manifest) => {
                let spec = &manifest.spec;
                prop_assert!((1..=86_400).contains(&spec.time_limit.as_secs()));
                prop_assert!(spec.output_limit <= 262_144 && manifest.grace.as_secs() <= 60);
                let has_room = match spec.class {
                    Class::Exclusive => true,
                    Class::Serial(queue) => queue <= 64,
                    Class::Parallel(count) => (1..=64).contains(&count),
                };
                prop_assert!(has_room);
                prop_assert!(min <= max);
                prop_assert_eq!(parse(Path::new("/x.toml"), &text), Ok(manifest));
            }
            Err(faults) => prop_assert!(!faults.is_empty() && faults.len() <= 50),
        }
    }
}
