//! Holds the direction of the crate: which module may use which, and which may name what of other crates.
//!
//! The table below is the rule; ARCHITECTURE.md explains it and `src/lib.rs` draws it. Tests inside `src/` obey too.
//! Each rule has a planted breach further down, so that a rule which finds nothing any more is noticed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::rules::{Name, Places, Table};

#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/source.rs"]
mod source;

const ARCHITECTURE: &str = include_str!("../ARCHITECTURE.md");

const TABLE: Table = Table {
    rows: &[
        &["main", "bin/twinagent-bridge"],
        &["cli"],
        &["daemon", "bridge"],
        &["local", "handler", "launcher", "mqtt", "store", "dialect", "logging"],
        &["config", "host", "varlink"],
        &["model"],
    ],
    narrow: &[("bridge", &["dialect", "model"])],
    reserved: &[("bridge", &["bin/twinagent-bridge"])],
    names: &[
        pure("tokio", "the model waits for nothing; the loop does"),
        pure("rumqttc", "the model speaks `wire`, never a library's packets"),
        pure("std::fs", "the model touches no file; it emits records"),
        pure("std::net", "the model opens nothing; it emits effects"),
        pure("std::os", "the model does not know its machine; facts are inputs"),
        pure("std::env", "the model has no surroundings; settings are inputs"),
        pure("std::process", "the model starts and ends nothing"),
        pure("std::thread", "the model is one call that returns"),
        pure("std::time::Instant", "time is an input (`Now`)"),
        pure("std::time::SystemTime", "time is an input (`Now`)"),
        pure("*::now", "time is an input (`Now`)"),
        pure("rustix", "the model asks the machine nothing"),
        pure("rand", "randomness is an input"),
        pure("getrandom", "randomness is an input"),
        pure("ring::rand", "randomness is an input"),
        pure("std::collections::hash_map::RandomState", "randomness is an input"),
        pure("std::hash::RandomState", "randomness is an input"),
        only("rumqttc", &["mqtt", "bridge"], "its codec is a detail of the wire"),
        only("jsonwebtoken", &["dialect", "bridge"], "tokens are a dialect's business"),
        only("clap", &["main", "cli", "bin/twinagent-bridge"], "the command line ends in `cli`"),
        only("sd_notify", &["host"], "`host::systemd` speaks to the service manager"),
        only("tracing_subscriber", &["logging", "bin/twinagent-bridge"], "where logs go is decided once"),
        only("tokio::time::Instant", &["mqtt", "bridge"], "it stands still in suspend; ask `host::clock`"),
        never("tokio", &["dialect", "store", "config"], "it is plain code, called by those who may wait"),
        never("std::net", &["dialect"], "a dialect spells and reads; sockets are for `mqtt`"),
    ],
    empty_words: &["utils", "util", "common", "helpers", "helper", "types", "manager", "misc", "core"],
};

const fn pure(path: &'static str, why: &'static str) -> Name {
    never(path, &["model"], why)
}

const fn never(path: &'static str, modules: &'static [&'static str], why: &'static str) -> Name {
    Name { path, places: Places::Never(modules), why }
}

const fn only(path: &'static str, modules: &'static [&'static str], why: &'static str) -> Name {
    Name { path, places: Places::Only(modules), why }
}

fn source_files(folder: &Path, prefix: &str, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("src can be listed") {
        let entry = entry.expect("an entry of src can be read");
        let name = format!("{prefix}{}", entry.file_name().to_str().expect("names in src are UTF-8"));
        if entry.file_type().expect("an entry has a type").is_dir() {
            source_files(&entry.path(), &format!("{name}/"), found);
        } else if Path::new(&name).extension().is_some_and(|extension| extension == "rs") {
            found.push((name, fs::read_to_string(entry.path()).expect("source is UTF-8")));
        }
    }
}

#[test]
fn every_source_file_keeps_the_rules() {
    let mut files = Vec::new();
    source_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut files);
    assert!(files.iter().any(|(path, _)| path == "model/mod.rs"), "src was not found: {} files", files.len());
    let broken: Vec<String> =
        files.iter().flat_map(|(path, text)| TABLE.judge(path, text)).map(|violation| violation.to_string()).collect();
    assert!(broken.is_empty(), "rules of tests/architecture.rs are broken:\n{}", broken.join("\n"));
}

/// The rows of the first block of plain text in this documentation.
fn drawn_map<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Vec<&'a str>> {
    lines
        .skip_while(|line| line.trim() != "```text")
        .skip(1)
        .take_while(|line| line.trim() != "```")
        .map(|line| line.split([' ', ',']).filter(|word| !word.is_empty() && *word != "(feature)").collect())
        .collect()
}

#[test]
fn the_maps_that_are_drawn_are_the_table() {
    let crate_doc = include_str!("../src/lib.rs").lines().filter_map(|line| line.strip_prefix("//!"));
    assert_eq!(drawn_map(crate_doc), TABLE.rows, "the map in src/lib.rs");
    assert_eq!(drawn_map(ARCHITECTURE.lines()), TABLE.rows, "the map in ARCHITECTURE.md");
}

#[test]
fn every_dependency_has_its_sentence() {
    let manifest: toml::Table = include_str!("../Cargo.toml").parse().expect("cargo has read this");
    let used: BTreeSet<&str> = ["dependencies", "build-dependencies", "dev-dependencies"]
        .iter()
        .filter_map(|section| manifest.get(*section)?.as_table())
        .flat_map(|crates| crates.keys().map(String::as_str))
        .collect();
    let explained: BTreeSet<&str> = ARCHITECTURE
        .lines()
        .skip_while(|line| *line != "## Dependencies")
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter(|(_, sentence)| sentence.len() > " |".len())
        .map(|(name, _)| name)
        .collect();
    assert_eq!(explained, used, "left: the tables of ARCHITECTURE.md, right: Cargo.toml");
}

/// Judges a file that is not there, and gives the line and the rule of each breach.
fn judge(path: &str, text: &str) -> Vec<(usize, String)> {
    TABLE
        .judge(path, &format!("//! Planted.\n{text}"))
        .into_iter()
        .map(|violation| (violation.line, violation.rule))
        .collect()
}

/// Expects one breach: on this line of the file (the planted text begins on line 2), with these words.
#[track_caller]
fn expect_breach(path: &str, text: &str, line: usize, words: &str) {
    let broken = judge(path, text);
    assert!(
        matches!(&broken[..], [(at, rule)] if *at == line && rule.contains(words)),
        "{path}: one breach on line {line} with {words:?} expected, found {broken:?} in\n{text}"
    );
}

#[test]
fn a_use_against_the_direction_is_found_however_it_is_written() {
    let above = "which is above it";
    expect_breach("store/journal.rs", "\nuse crate::daemon::Daemon;", 3, above);
    expect_breach("store/journal.rs", "use crate::{\n    model::Record,\n    cli::{self, Run},\n};", 4, above);
    expect_breach("store/journal.rs", "fn f() -> crate::daemon::Daemon { todo!() }", 2, above);
    expect_breach("store/journal.rs", "fn f() { <crate::daemon::Daemon as Default>::default(); }", 2, above);
    expect_breach("store/journal.rs", "use super::super::daemon;", 2, above);
    expect_breach("store/mod.rs", "use super::daemon as helpful;", 2, above);
    expect_breach("store/mod.rs", "mod tests { use super::super::daemon; }", 2, above);
    expect_breach("store/mod.rs", "fn f() { if true { mod m { fn g() { super::super::daemon::run(); } } } }", 2, above);
    expect_breach("store/journal.rs", "macro_rules! m { () => { $crate::daemon::run() } }", 2, above);
    expect_breach("config/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::dialect::token;\n}", 4, above);
    expect_breach("model/agent.rs", "use crate::host::clock;", 2, above);
}

#[test]
fn neighbours_do_not_meet() {
    expect_breach("mqtt/connection.rs", "use crate::dialect;", 2, "in its own row");
    expect_breach("config/raw.rs", "use crate::host::clock;", 2, "in its own row");
    expect_breach("bridge/mod.rs", "use crate::daemon;", 2, "in its own row");
    expect_breach("daemon.rs", "use crate::bridge;", 2, "in its own row");
}

#[test]
fn the_bridge_is_for_its_own_binary_and_uses_little() {
    expect_breach("main.rs", "use twinagent::bridge;", 2, "not for it");
    expect_breach("cli/run.rs", "use crate::bridge::Bridge;", 2, "not for it");
    expect_breach("bridge/google.rs", "use crate::mqtt::Endpoint;", 2, "more than it may");
    assert_eq!(judge("bin/twinagent-bridge/demo.rs", "use twinagent::{bridge::Bridge, daemon};"), []);
    assert_eq!(judge("bridge/google.rs", "use crate::{dialect::token, model::wire};"), []);
}

#[test]
fn the_model_names_nothing_that_has_effects() {
    expect_breach("model/agent.rs", "use std::{collections::BTreeMap, fs};", 2, "std::fs");
    expect_breach("model/agent.rs", "fn f() { ::std::env::var(\"HOME\"); }", 2, "std::env");
    expect_breach("model/agent.rs", "fn f() { std::process::abort(); }", 2, "std::process");
    expect_breach("model/agent.rs", "use std::net::IpAddr;", 2, "std::net");
    expect_breach("model/agent.rs", "extern crate tokio;", 2, "tokio");
    expect_breach("model/agent.rs", "#[tokio::test]\nasync fn f() {}", 2, "tokio");
    expect_breach("model/agent.rs", "use std::time;\nfn f(at: time::Instant) {}", 3, "std::time::Instant");
    expect_breach("model/agent.rs", "use std::fs::*;", 2, "std::fs");
    let glob = judge("model/agent.rs", "use std::time::*;");
    assert_eq!(glob.len(), 2, "the glob brings in Instant and SystemTime: {glob:?}");
    expect_breach("model/agent.rs", "fn f() { jiff::Timestamp::now(); }", 2, "*::now");
    expect_breach("model/agent.rs", "fn f() { Zoned::now(); }", 2, "*::now");
    expect_breach("model/agent.rs", "use ring::{digest, rand::SystemRandom};", 2, "ring::rand");
    expect_breach("model/agent.rs", "use rand::Rng as _;", 2, "rand");
    let twice = judge("model/agent.rs", "use rumqttc::Packet;");
    assert_eq!(twice.len(), 2, "a name that is pure's and mqtt's breaks both rules: {twice:?}");
}

#[test]
fn libraries_stay_where_they_belong() {
    expect_breach("daemon.rs", "use rumqttc::mqttbytes::v4;", 2, "rumqttc");
    expect_breach("config/mod.rs", "#[derive(clap::Args)]\nstruct A;", 2, "clap");
    expect_breach("daemon.rs", "use tokio::time;\nfn f() { time::Instant::now(); }", 3, "tokio::time::Instant");
    expect_breach("store/dir.rs", "use tokio::fs;", 2, "tokio");
    assert_eq!(judge("mqtt/connection.rs", "use rumqttc::Packet;\nuse tokio::time::Instant;"), []);
}

#[test]
fn names_and_heads_of_files_are_judged() {
    expect_breach("cli/utils.rs", "", 1, "`utils`");
    expect_breach("cli/mod.rs", "mod helpers;", 2, "`helpers`");
    let nameless = judge("core/mod.rs", "");
    assert_eq!(nameless.len(), 2, "a bad name without a row: {nameless:?}");
    expect_breach("cloud.rs", "", 1, "no row");
    expect_breach("cli/mod.rs", "use crate::cloud::Cloud;", 2, "no row");
    expect_breach("cli/mod.rs", "use crate::*;", 2, "as a whole");
    expect_breach("lib.rs", "pub mod model;\npub use model::Agent;", 3, "no code");
    let headless = TABLE.judge("cli/mod.rs", "// A remark.\n");
    assert!(matches!(&headless[..], [one] if one.line == 1 && one.rule.contains("`//!`")), "{headless:?}");
}

#[test]
fn comments_literals_and_allowed_uses_break_nothing() {
    let harmless = r##"
// use crate::daemon;
/* crate::daemon::run() /* nested */ std::fs */
/// See [`crate::daemon`].
const A: &str = "crate::daemon::run() \" std::fs::read";
const B: &str = r#"crate::daemon " std::fs"#;
const C: &[u8] = b"tokio::spawn";
const D: [char; 3] = ['"', '\'', '\u{22}'];
const E: u8 = b'"';
pub(crate) fn f<'a>(text: &'a str, r#type: &'static str) -> impl Iterator<Item = &'a str> + use<'a> { text.lines() }
pub(in crate::model) use super::command::{self, Key};
use super::*;
use std::time::Duration;
mod tests { use super::*; fn now() { super::f("", ""); self::now(); } }
"##;
    assert_eq!(judge("model/agent.rs", harmless), []);
    assert_eq!(
        judge("daemon.rs", "use crate::{config, dialect::iotcore, host, model::agent::Agent, mqtt, store};"),
        []
    );
    assert_eq!(judge("main.rs", "mod own { }\nuse crate::own;\nuse twinagent::{cli, logging};"), []);
}
