//! The daemon ended at every system call of a reboot, as a process, with its machine, and with the power of its disk.
//! Whatever is lost, one command is at most one reboot, and one outcome is told for it.
//!
//! Root is needed, for mounts of its own. It takes a minute or two, mostly of waiting, so plain `cargo test` leaves it out.
#![allow(clippy::disallowed_methods, reason = "these tests bound their waits by the clock")]

#[expect(dead_code, reason = "the stories use the rest of it")]
#[path = "../stories/cloud/mod.rs"]
mod cloud;
#[path = "../support/count.rs"]
mod count;
#[expect(dead_code, reason = "the stories use the rest of it")]
#[path = "../stories/device.rs"]
mod device;
mod life;
mod machine;
mod plan;
mod point;
mod witness;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use self::cloud::Kind;
use self::life::{cut, watch};
use self::plan::{After, Moment, Plan, Road, Seen};

/// Stories at a time. Each mostly waits, for a cloud that takes one document a second.
const LANES: usize = 8;

/// A point that is not reached, since the daemon took another way than the one that was watched, is tried again.
const TRIES: usize = 3;

/// What a reboot is made of, whatever calls the daemon prefers. Else there is nothing to be ended at.
const PARTS: [&[&str]; 6] = [
    &["before the reboot", "sync", "(State)"],
    &["before the reboot", "rename", "(Request)"],
    &["before the reboot", "(Connection)"],
    &["after the reboot", "write", "(State)"],
    &["after the reboot", "sync", "(State)"],
    &["after the reboot", "(Connection)"],
];

const AFTER: [After; 3] = [After::Restart, After::Reset, After::PowerCut];

#[test]
fn ended_at_any_system_call_a_command_is_one_reboot_at_most_and_has_one_outcome() {
    at_every_system_call(Road { cloud: Kind::IotCore, answers: "events" });
}

#[test]
fn and_so_where_answers_are_members_of_the_state() {
    at_every_system_call(Road { cloud: Kind::IotCore, answers: "state" });
}

#[test]
fn and_so_where_they_are_patches_of_a_twin() {
    at_every_system_call(Road { cloud: Kind::IotHub, answers: "state" });
}

fn at_every_system_call(road: Road) {
    let begun = Instant::now();
    let moments = block_on(watch(road));
    let names: Vec<String> = moments.iter().map(ToString::to_string).collect();
    for part in PARTS {
        let is_there = names.iter().any(|name| part.iter().all(|word| name.contains(word)));
        assert!(is_there, "{part:?} was not seen among {names:#?}");
    }
    let ends = |moment: &Moment| AFTER.map(|after| Plan { road, moment: moment.clone(), after, synced: true });
    let plans: Vec<Plan> = moments.iter().flat_map(ends).collect();
    let seen = cut_all(&plans);
    let count = |fits: fn(&Seen) -> bool| seen.iter().filter(|seen| fits(seen)).count();
    let (acknowledged, told) = (count(|seen| seen.acknowledged), count(|seen| seen.told));
    say(&format!(
        "{road}: {} system calls, {} ends ({acknowledged} after the PUBACK, {told} after the outcome, {} \
         without a request) in {:.0?}",
        moments.len(),
        plans.len(),
        count(|seen| seen.asked == 0),
        begun.elapsed(),
    ));
    for (moment, seen) in moments.iter().zip(seen.chunks(AFTER.len())) {
        let asked: Vec<usize> = seen.iter().map(|seen| seen.asked).collect();
        say(&format!("    {moment}: requests {asked:?}"));
    }
    must_be_good(&plans, &seen);
    // Else all ends were on one side of what they are to prove.
    assert!(acknowledged > told && told > 0 && acknowledged < plans.len());
    assert!(count(|seen| seen.asked == 0) > 0);
}

#[test]
fn without_syncs_a_power_cut_takes_what_was_promised() {
    let losses = [
        (Moment::Acknowledged, "no outcome is told"),
        (Moment::Accepted, "no outcome is told"),
        (Moment::Asked, "asked for a second reboot"),
        (Moment::Told, "first "),
    ];
    let plans = |synced| {
        let plan = |(moment, _)| Plan {
            road: Road { cloud: Kind::IotCore, answers: "events" },
            moment,
            after: After::PowerCut,
            synced,
        };
        losses.clone().map(plan)
    };
    must_be_good(&plans(true), &cut_all(&plans(true)));
    for ((_, loss), seen) in losses.iter().zip(cut_all(&plans(false))) {
        assert!(seen.hit && seen.broken.iter().any(|broken| broken.starts_with(loss)), "{loss}: {seen:#?}");
    }
}

/// Lives all these stories, some at a time.
fn cut_all(plans: &[Plan]) -> Vec<Seen> {
    let next = AtomicUsize::new(0);
    let lane = || {
        let mut seen = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(plan) = plans.get(number) else { return seen };
            let mut last = block_on(cut(plan));
            for _ in 1..TRIES {
                if last.hit || !last.broken.is_empty() {
                    break;
                }
                last = block_on(cut(plan));
            }
            seen.push((number, last));
        }
    };
    let mut seen: Vec<(usize, Seen)> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES.min(plans.len())).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().flat_map(|lane| lane.join().expect("no panic")).collect()
    });
    seen.sort_by_key(|(number, _)| *number);
    seen.into_iter().map(|(_, seen)| seen).collect()
}

fn must_be_good(plans: &[Plan], seen: &[Seen]) {
    let bad: Vec<String> = plans
        .iter()
        .zip(seen)
        .filter(|(_, seen)| !seen.hit || !seen.broken.is_empty())
        .map(|(plan, Seen { hit, broken, said, .. })| format!("{plan} (reached: {hit}): {broken:#?}\n{said}"))
        .collect();
    assert!(bad.is_empty(), "{} stories went wrong:\n{}", bad.len(), bad.join("\n\n"));
}

fn block_on<T>(story: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(story)
}

#[expect(clippy::print_stdout, reason = "a person wants to know what was tried")]
fn say(text: &str) {
    println!("{text}");
}
