//! The decoders of `fuzz/`, without a fuzzer: each seed gets the verdict that it is named after, and so does nothing else;
//! then seeds are changed at random, though every time in the same way, and must keep every promise that a decoder asserts.
//!
//! A seed that begins with a verdict and a hyphen must get it. What the fuzzer finds is named by its hash and need only be
//! read.

#![allow(clippy::disallowed_methods, reason = "a test reads the clock, to end in time")]

#[allow(unreachable_pub, reason = "it is a crate of its own when it is fuzzed")]
#[path = "../../fuzz/src/lib.rs"]
mod decoders;
mod mutation;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use decoders::Decoder;
use mutation::Mutations;

/// How long each decoder is given changed seeds. A slow machine gets less far and still through the first of them.
const LASTS: Duration = Duration::from_secs(2);
const AT_LEAST: usize = 100;

/// Larger inputs show nothing that smaller ones do not, and cost a test without optimization its time.
const LARGEST: usize = 8 * 1024;

/// A test for each decoder, so that they run beside each other.
macro_rules! decoders {
    ($($test:ident: $name:literal,)*) => {
        $(#[test]
        fn $test() {
            replay($name);
        })*

        #[test]
        fn every_target_has_its_seeds_and_its_test_and_nothing_else_has() {
            each_has_all(&[$($name),*]);
        }
    };
}

decoders! {
    commands_are_answered_once: "command",
    configurations_come_back: "config",
    connection_strings_are_read_or_refused: "connection-string",
    desired_documents_are_noted: "desired",
    farewells_name_a_boot_or_nothing: "farewell",
    topics_and_payloads_are_read: "iotcore",
    what_hubs_send_is_read: "iothub",
    journals_are_judged: "journal",
    keys_sign_or_are_refused: "key",
    kept_configurations_come_back: "last-good",
    frames_of_local_callers_are_read: "local",
    manifests_are_read_or_refused: "manifest",
    packets_of_a_broker_are_read: "mqtt",
    notes_read_back: "note",
    what_a_provisioning_service_says_is_read: "provisioning",
    signatures_hold_for_what_was_signed: "sas",
    vetoes_read_back: "veto",
}

fn fuzz(rest: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(rest)
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect()
}

/// The seeds of a decoder by name.
fn seeds(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = fuzz("corpus").join(name);
    names_in(&folder).into_iter().map(|seed| (seed.clone(), fs::read(folder.join(seed)).expect("a seed"))).collect()
}

fn replay(name: &str) {
    let Decoder { read, verdicts, .. } = decoders::ALL.iter().find(|one| one.name == name).expect("a decoder");
    let seeds = seeds(name);
    let mut seen = BTreeSet::new();
    for (seed, bytes) in &seeds {
        let verdict = read(bytes);
        assert!(verdicts.contains(&verdict.as_str()), "{seed}: {verdict} is none of {verdicts:?}");
        if let Some((expected, _)) = seed.split_once('-') {
            assert_eq!(verdict, expected, "fuzz/corpus/{name}/{seed}");
            seen.insert(verdict);
        }
    }
    let missing: Vec<_> = verdicts.iter().filter(|verdict| !seen.contains(**verdict)).collect();
    assert!(missing.is_empty(), "fuzz/corpus/{name} has no seed for {missing:?}");

    let small = seeds.into_iter().map(|(_, bytes)| bytes).filter(|bytes| bytes.len() <= LARGEST).collect();
    if let Some((round, input)) = first_breach(*read, Mutations::new(name, small, LARGEST)) {
        let left = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{round}"));
        fs::write(&left, &input).expect("a file");
        panic!("a promise is broken by {}; mended, it belongs into fuzz/corpus/{name}", left.display());
    }
}

/// The first input that makes a decoder panic; what is wrong with it is printed by the panic itself.
fn first_breach(read: fn(&[u8]) -> String, inputs: Mutations) -> Option<(usize, Vec<u8>)> {
    let begun = Instant::now();
    let in_time = |(round, _): &(usize, Vec<u8>)| *round < AT_LEAST || begun.elapsed() < LASTS;
    inputs.enumerate().take_while(in_time).find(|(_, input)| catch_unwind(AssertUnwindSafe(|| read(input))).is_err())
}

/// A decoder with a fault that no seed shows.
#[test]
fn a_broken_promise_is_found() {
    let fragile = |bytes: &[u8]| {
        assert!(bytes.len() < 12 || !bytes.contains(&b'\\'), "as it was planted");
        String::new()
    };
    let inputs = || Mutations::new("planted", vec![b"a seed".to_vec(), b"another seed".to_vec()], LARGEST);
    let (_, input) = first_breach(fragile, inputs()).expect("it is found");
    assert!(input.len() >= 12 && input.contains(&b'\\'));
    assert_eq!(inputs().take(50).collect::<Vec<_>>(), inputs().take(50).collect::<Vec<_>>(), "the same every time");
}

fn each_has_all(tests: &[&str]) {
    let expected: BTreeSet<String> = decoders::ALL.iter().map(|one| one.name.to_owned()).collect();
    assert_eq!(tests.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), expected, "tests");
    assert_eq!(names_in(&fuzz("corpus")), expected, "folders of fuzz/corpus");
    let files = names_in(&fuzz("fuzz_targets"));
    let targets = expected.iter().map(|name| format!("{}.rs", name.replace('-', "_"))).collect();
    assert_eq!(files, targets, "files of fuzz/fuzz_targets");
    let manifest: toml::Table = include_str!("../../fuzz/Cargo.toml").parse().expect("cargo has read this");
    let bins = manifest["bin"].as_array().expect("targets").iter();
    let built: BTreeSet<_> = bins.map(|bin| bin["name"].as_str().expect("a name").to_owned()).collect();
    assert_eq!(built, expected, "targets in fuzz/Cargo.toml");
    for name in &files {
        let text = fs::read_to_string(fuzz("fuzz_targets").join(name)).expect("a target");
        let call = format!("decoders::{}::read(bytes)", name.trim_end_matches(".rs"));
        assert!(text.contains(&call), "{name} calls another decoder");
    }
}
