//! Each story is told on every cloud. What is told on one alone says why, in a list that is compared with the stories.
//!
//! A story is a function of the kind of cloud, and stands in the [`on_both_clouds`] of its file: one that is forgotten
//! there is dead code, which the compiler refuses. Any other test is in [`ALONE`] or in [`NO_STORIES`].

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::cloud::Kind;

/// Makes two tests of each of these stories: `story::iotcore` and `story::iothub`.
macro_rules! on_both_clouds {
    ($($story:ident),+ $(,)?) => {$(
        mod $story {
            #[tokio::test]
            async fn iotcore() {
                super::$story(crate::cloud::Kind::IotCore).await;
            }

            #[tokio::test]
            async fn iothub() {
                super::$story(crate::cloud::Kind::IotHub).await;
            }
        }
    )+};
}

pub(crate) use on_both_clouds;

/// The stories that are told on one cloud, each with its reason. Those of a whole file have no name of their own.
const ALONE: &[(&str, Kind, &str)] = &[
    ("clone::a_copied_key_is_used_by_nobody_until_somebody_says_that_it_is_the_same_device", Kind::IotCore, PAIR),
    ("clone::a_copy_gets_a_key_of_its_own_and_that_one_is_not_refused", Kind::IotCore, PAIR),
    ("clock::started_in_2038_it_is_back_as_soon_as_the_clock_is", Kind::IotCore, "a SAS does not say when it was made"),
    (
        "connection::answers_that_break_a_rule_of_the_registry_are_no_storm_of_logins",
        Kind::IotCore,
        "only registries can lack a topic for answers",
    ),
    ("direct", Kind::IotHub, "no other cloud has callers who wait on the device's own connection"),
    ("hub", Kind::IotHub, "it is about what only this cloud has"),
    ("key", Kind::IotCore, PAIR),
    (
        "kill::killed_at_random_moments_with_a_kept_session_no_command_runs_twice_and_each_is_answered",
        Kind::IotCore,
        "where messages always wait for the device, the story beside it is the same",
    ),
    (
        "order::a_recorded_command_is_on_disk_before_it_is_acknowledged_and_its_end_before_it_is_told",
        Kind::IotCore,
        SEEN,
    ),
    ("order::a_simulated_reboot_takes_three_syncs", Kind::IotCore, SEEN),
    (
        "outage::a_state_that_was_not_acknowledged_is_sent_again",
        Kind::IotCore,
        "PUBACKs settle nothing of a twin; `twin` has the story of answers that are withheld",
    ),
    (
        "outage::an_answer_that_was_not_acknowledged_is_told_again_and_its_command_not_run_again",
        Kind::IotCore,
        "PUBACKs settle nothing of a twin; `twin` has the story of answers that are withheld",
    ),
    (
        "outage::without_kept_sessions_a_caller_is_told_that_the_device_is_away",
        Kind::IotCore,
        "a message to a device that is away waits; `direct` has the story of callers who do not",
    ),
    ("provisioning", Kind::IotHub, "it is about what only this cloud has"),
    ("rotation", Kind::IotCore, PAIR),
    ("start::a_key_that_is_missing_is_waited_for", Kind::IotCore, PAIR),
    ("start::a_key_that_is_spoiled_is_told_before_the_next_login_needs_it", Kind::IotCore, PAIR),
    ("twin", Kind::IotHub, "no other cloud's documents can be read, have versions, or are changed by patches"),
];

/// A reason.
const PAIR: &str = "it is about a pair of keys, of which this cloud knows the public half";

/// A reason.
const SEEN: &str = "strace sees packets only where there is no TLS";

/// Tests of the tests' own parts, and the one that goes through a table which says for itself where each line is told.
const NO_STORIES: &[&str] = &[
    "both::each_story_is_told_on_both_clouds_or_says_why_not",
    "hostile::reasons::each_reason_is_told_from_the_others_by_its_words",
    "hostile::the_agent_outlives_whatever_the_cloud_does_and_is_no_hot_loop",
];

/// The tests below this folder that no [`on_both_clouds`] has made, by their paths.
fn tests(folder: &Path, module: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
        let inside = match name.as_str() {
            "main" | "mod" => module.to_owned(),
            _ => format!("{module}{name}::"),
        };
        if path.is_dir() {
            tests(&path, &inside, found);
            continue;
        }
        let text = fs::read_to_string(&path).expect("a file of the tests");
        let mut is_test = false;
        for line in text.lines() {
            // Those of the macro stand further in.
            is_test |= line.starts_with("#[tokio::test") || line == "#[test]";
            let line = line.strip_prefix("async ").unwrap_or(line);
            if let Some((name, _)) = line.strip_prefix("fn ").and_then(|rest| rest.split_once('('))
                && std::mem::take(&mut is_test)
            {
                found.insert(format!("{inside}{name}"));
            }
        }
    }
}

#[test]
fn each_story_is_told_on_both_clouds_or_says_why_not() {
    let mut found = BTreeSet::new();
    tests(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories"), "", &mut found);
    for name in NO_STORIES {
        assert!(found.remove(*name), "{name} is a test");
    }
    for (alone, kind, why) in ALONE {
        let before = found.len();
        found.retain(|name| name != alone && !name.starts_with(&format!("{alone}::")));
        assert!(found.len() < before, "{alone} is a story, or a file of stories, on {} because {why}", kind.name());
    }
    assert!(found.is_empty(), "neither on both clouds nor with a reason: {found:#?}");
}
