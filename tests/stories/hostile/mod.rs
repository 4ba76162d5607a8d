//! Stories of a cloud that does what no cloud should: each scenario of the table, against a whole daemon.
//!
//! A scenario lasts some seconds. Meanwhile the connections are counted, and afterwards the next good command must be
//! answered, and have run once. They live beside each other, each on a thread of its own: nearly all of their time is
//! waiting.

#![allow(clippy::disallowed_methods, reason = "the stories measure how long things take")]
#![allow(clippy::print_stdout, reason = "the figures are what the stories show")]

pub(crate) mod flood;
mod reasons;
mod scenario;
mod sessions;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use scenario::{Figures, Scenario};

use crate::cloud::Kind;

/// Scenarios at a time. Each is a daemon and a cloud of its own; more of them, beside all other tests, would need more inotify
/// instances than one user may have (128, inotify(7)).
const BESIDE: usize = 8;

/// The threads of scenarios are called so, to tell a panic in them from one elsewhere.
const THREAD: &str = "hostile";

/// Panics on threads of scenarios, in whatever task.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Counts the panics of scenarios from now on. A panic in a task of the daemon ends that task and nothing else, so that
/// it might be overlooked.
fn count_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().name() == Some(THREAD) {
            PANICS.fetch_add(1, Ordering::Relaxed);
        }
        before(info);
    }));
}

/// Lives through one scenario, on this thread.
fn live(scenario: &Scenario, kind: Kind) -> Figures {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(scenario.live(kind))
}

#[test]
fn the_agent_outlives_whatever_the_cloud_does_and_is_no_hot_loop() {
    let scenarios: Vec<(Kind, Scenario)> = [Kind::IotCore, Kind::IotHub]
        .into_iter()
        .flat_map(|kind| table::scenarios(kind).into_iter().map(move |scenario| (kind, scenario)))
        .collect();
    let scenarios = Arc::new(scenarios);
    assert!(scenarios.len() >= 40, "{}", scenarios.len());
    count_panics();
    let next = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..BESIDE)
        .map(|_| {
            let (scenarios, next) = (scenarios.clone(), next.clone());
            std::thread::spawn(move || {
                let mut told = Vec::new();
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((kind, scenario)) = scenarios.get(at) else { break };
                    let name = format!("{}: {}", kind.name(), scenario.name);
                    let scenarios = scenarios.clone();
                    let thread = std::thread::Builder::new().name(THREAD.to_owned());
                    let lived = thread.spawn(move || live(&scenarios[at].1, scenarios[at].0)).expect("a thread").join();
                    told.push((at, name, lived));
                }
                told
            })
        })
        .collect();
    let mut told: Vec<_> = workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect();
    told.sort_by_key(|(at, ..)| *at);
    println!("{:<66} {:>8} {:>9} {:>11}  reasons", "what the cloud does", "tries/min", "bound", "well after");
    let mut wrong = Vec::new();
    for (_, name, lived) in told {
        match lived {
            Ok(figures) => println!("{name:<66} {figures}"),
            Err(panic) => {
                let words = panic.downcast_ref::<String>().map(String::as_str);
                let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
                println!("{name:<66} FAILED");
                wrong.push(format!("{name}: {words}"));
            }
        }
    }
    println!("{} scenarios", scenarios.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), scenarios.len(), wrong.join("\n\n"));
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "a task of the daemon or the bridge has panicked");
}
