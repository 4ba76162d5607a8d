//! Every story, with the process or the power gone before every single step of it, must keep the promises.
//!
//! And the judge is judged: with one guard taken away at a time it must find something.

#[path = "support/given.rs"]
mod given;
#[path = "support/world.rs"]
mod world;

use std::time::Duration;

use given::request;
use serde_json::{Value, json};
use twinagent::model::agent::Settings;
use twinagent::model::cloud::Road;
use twinagent::model::command::{Method, MethodSpec};
use twinagent::model::reboot::Mode;
use twinagent::model::reboot::window::Window;
use world::{Change, Deed, Fault, Sabotage, World};

/// The kinds of clouds, each by its road for answers; that with direct methods has a twin, which is sent patches.
const ROADS: [Road; 3] = [Road::Own, Road::Reported, Road::Direct];

/// The stories, each with a name.
fn stories() -> Vec<(&'static str, Vec<Deed>)> {
    let count = |id: &str| request("count", Some(id), json!({ "n": id }));
    let wait = |seconds| Deed::Wait(Duration::from_secs(seconds));
    vec![
        ("one command", vec![Deed::Send(vec![count("a")])]),
        ("a burst of different commands", vec![Deed::Send(["a", "b", "c", "d"].map(count).to_vec()), wait(1)]),
        ("the same command three times at once, and later", {
            vec![Deed::Send(vec![count("a"), count("a"), count("a")]), wait(3), Deed::Send(vec![count("a")])]
        }),
        (
            "a cut in between",
            vec![Deed::Send(vec![count("a")]), Deed::Cut, wait(6), Deed::Send(vec![count("a"), count("b")])],
        ),
        ("one at a time", {
            let queue = |id: &str| request("queue", Some(id), json!(null));
            vec![Deed::Send(["q1", "q2", "q3"].map(queue).to_vec()), wait(2)]
        }),
        ("harmless among them", {
            let echo = |id: &str| request("echo", Some(id), json!("hello"));
            vec![Deed::Send(vec![echo("e1"), count("a"), echo("e2")]), wait(2)]
        }),
        ("local programs among them", {
            vec![Deed::Invoke("l1"), Deed::Send(vec![count("a")]), Deed::Invoke("l2"), wait(2), Deed::Cut, wait(3)]
        }),
        (
            "a reboot",
            vec![
                wait(30),
                Deed::Send(vec![request("rebootDevice", Some("r1"), json!({ "reason": "test" }))]),
                wait(30),
            ],
        ),
        ("a reboot, sent again and again", {
            let reboot = || Deed::Send(vec![request("rebootDevice", Some("r1"), json!(null))]);
            vec![wait(30), reboot(), reboot(), wait(3), reboot(), wait(10), reboot(), wait(60), reboot()]
        }),
        ("a shutdown between commands and before a reboot", {
            let queue = |id: &str| request("queue", Some(id), json!(null));
            let reboot = request("rebootDevice", Some("r1"), json!({ "delay": "60s" }));
            vec![
                wait(30),
                Deed::Send(vec![queue("q1"), queue("q2"), reboot]),
                Deed::ShutDown,
                Deed::Send(vec![count("a")]),
                wait(100),
            ]
        }),
        ("a stop between commands and before a reboot", {
            let queue = |id: &str| request("queue", Some(id), json!(null));
            let reboot = Deed::Send(vec![request("rebootDevice", Some("r1"), json!(null))]);
            let commands = Deed::Send(vec![count("a"), queue("q1"), queue("q2")]);
            vec![wait(30), commands, Deed::Stop, wait(1), reboot, wait(2), Deed::Stop, wait(60)]
        }),
        ("a reboot taken back", {
            let cancel = Deed::Send(vec![request("cancelReboot", Some("x1"), json!(null))]);
            let reboot = Deed::Send(vec![request("rebootDevice", Some("r1"), json!(null))]);
            vec![wait(30), Deed::Send(vec![count("a")]), reboot, wait(2), cancel, wait(60)]
        }),
        ("a nameless reboot, sent again and again", {
            let reboot = || Deed::Send(vec![request("rebootDevice", None, json!(null))]);
            vec![wait(30), reboot(), wait(1), reboot(), wait(30), reboot(), wait(60), reboot()]
        }),
        ("a reboot that is refused", {
            let reboot = || Deed::Send(vec![request("rebootDevice", Some("r1"), json!(null))]);
            vec![
                wait(30),
                Deed::Refuse,
                reboot(),
                wait(30),
                reboot(),
                wait(600),
                Deed::Send(vec![count("a")]),
                reboot(),
            ]
        }),
        ("a reboot between commands", {
            vec![
                wait(30),
                Deed::Send(vec![count("a"), request("rebootDevice", Some("r1"), json!(null)), count("b")]),
                wait(30),
                Deed::Send(vec![count("c")]),
            ]
        }),
    ]
}

/// Stories of commands that a local program serves, and of commands that are cancelled.
fn served() -> Vec<(&'static str, Vec<Deed>)> {
    let wait = |seconds| Deed::Wait(Duration::from_secs(seconds));
    let command = |method: &str, id: &str| request(method, Some(id), json!({ "n": id }));
    let cancel = |id: &str| request("cancelCommand", Some(&format!("c-{id}")), json!({ "commandId": id }));
    vec![
        ("a program serves", {
            let some = ["s1", "s2", "s3"].map(|id| command("lamp", id)).to_vec();
            vec![Deed::Program(true), Deed::Send(some.clone()), wait(2), Deed::Send(some), Deed::Cut, wait(6)]
        }),
        ("a program goes in the middle, and comes back", {
            let some = ["s1", "s2"].map(|id| command("slow", id)).to_vec();
            let again = Deed::Send(some.clone());
            vec![
                Deed::Program(true),
                Deed::Send(some),
                Deed::Program(false),
                wait(5),
                Deed::Program(true),
                again,
                wait(70),
            ]
        }),
        ("a program goes for ever", {
            let some = ["s1", "s2"].map(|id| command("slow", id)).to_vec();
            vec![Deed::Program(true), Deed::Send(some), wait(2), Deed::Program(false), wait(40)]
        }),
        ("what waits is taken back, what runs is stopped", {
            let some = ["s1", "s2"].map(|id| command("slow", id)).to_vec();
            let queued = ["q1", "q2", "q3"].map(|id| command("queue", id));
            let both = queued.into_iter().chain([cancel("q3"), cancel("q2")]).collect();
            let cancels = vec![cancel("s2"), cancel("s1")];
            vec![Deed::Program(true), Deed::Send(some), Deed::Send(cancels), wait(5), Deed::Send(both), wait(5)]
        }),
        ("a reboot waits for a program", {
            let reboot = Deed::Send(vec![command("lamp", "s1"), request("rebootDevice", Some("r1"), json!(null))]);
            vec![Deed::Program(true), wait(30), reboot, wait(40), Deed::Send(vec![command("lamp", "s2")])]
        }),
    ]
}

/// Stories of reboots that are held back, each with what it changes of the settings.
fn held_back() -> Vec<(&'static str, Change, Vec<Deed>)> {
    let wait = |seconds| Deed::Wait(Duration::from_secs(seconds));
    let count = |id: &str| Deed::Send(vec![request("count", Some(id), json!({ "n": id }))]);
    let reboot = |payload: Value| Deed::Send(vec![request("rebootDevice", Some("r1"), payload)]);
    let cancel = || Deed::Send(vec![request("cancelReboot", Some("x1"), json!(null))]);
    let windowed: Change = |settings| {
        // The second is for those who miss the first because the disk is broken.
        let window = |text| Window::parse(text, |_| Ok(jiff::tz::TimeZone::UTC)).expect("a window");
        settings.reboot.windows.list = ["00:10-00:20 UTC", "00:30-00:40 UTC"].map(window).into();
        settings.reboot.windows.spread = Duration::from_secs(300);
    };
    let plain: Change = |_| {};
    let at = || json!({ "at": "2026-11-22T00:15:00Z", "reason": "later" });
    vec![
        ("in its window", windowed, vec![wait(30), reboot(json!(null)), wait(60), count("a"), wait(900)]),
        ("at its moment, over a loss of power", plain, {
            vec![wait(30), reboot(at()), wait(60), Deed::PowerCut, wait(60), reboot(at()), count("a"), wait(900)]
        }),
        ("after a delay, in a window, sent again and again", windowed, {
            let again = || reboot(json!({ "delay": "9m" }));
            vec![wait(30), again(), wait(100), again(), Deed::Stop, wait(60), again(), wait(900), again()]
        }),
        ("taken back during its delay", plain, {
            vec![wait(30), reboot(json!({ "delay": "5m" })), wait(60), cancel(), wait(600)]
        }),
        ("inhibited for a while", plain, {
            vec![wait(30), Deed::Inhibit(true), reboot(json!(null)), wait(40), Deed::Inhibit(false), wait(100)]
        }),
        ("inhibited to the end, and beyond", plain, {
            vec![
                wait(30),
                Deed::Inhibit(true),
                reboot(json!(null)),
                wait(200),
                count("a"),
                Deed::Inhibit(false),
                wait(60),
            ]
        }),
        ("vetoed for a while", plain, {
            vec![wait(30), Deed::Veto(Some(Duration::from_secs(60))), reboot(json!(null)), count("a"), wait(200)]
        }),
        ("taken back during a veto", plain, {
            vec![wait(30), Deed::Veto(None), reboot(json!(null)), wait(50), cancel(), wait(200)]
        }),
        ("after the breaker has tripped", plain, {
            let cut = || Deed::PowerCut;
            vec![
                wait(30),
                cut(),
                wait(5),
                cut(),
                wait(5),
                cut(),
                reboot(json!(null)),
                wait(120),
                reboot(json!(null)),
                wait(60),
            ]
        }),
    ]
}

/// Stories of desired state, each with the handler that is run for it.
fn wanted() -> Vec<(&'static str, Change, Vec<Deed>)> {
    fn add(settings: &mut Settings, name: &str, make: fn(&mut MethodSpec)) {
        let name = Method::parse(name).expect("a method name");
        let mut spec = MethodSpec { desired: Some("mode".to_owned()), ..MethodSpec::new(name) };
        make(&mut spec);
        settings.methods.push(spec);
    }
    let once: Change = |settings| add(settings, "apply", |_| {});
    let harmless: Change = |settings| add(settings, "again", |spec| spec.harmless = true);
    let outlives: Change = |settings| add(settings, "job", |spec| spec.outlives = true);
    let later: Change = |settings| add(settings, "later", |_| {});
    let missing: Change = |settings| add(settings, "missing", |_| {});
    let wait = |seconds| Deed::Wait(Duration::from_secs(seconds));
    let wanted = |value: Value| Deed::Want(value);
    let count = |id: &str| Deed::Send(vec![request("count", Some(id), json!({ "n": id }))]);
    let changes = || {
        vec![
            wanted(json!(1)),
            wait(3),
            count("a"),
            wanted(json!({ "two": 2 })),
            Deed::Cut,
            wanted(json!(3)),
            wait(6),
            wanted(json!(null)),
        ]
    };
    let reboot = || {
        let reboot = Deed::Send(vec![request("rebootDevice", Some("r1"), json!(null))]);
        vec![
            wait(30),
            wanted(json!(1)),
            reboot,
            wait(1),
            wanted(json!(2)),
            wait(60),
            Deed::Stop,
            wanted(json!(3)),
            wait(5),
        ]
    };
    vec![
        ("changes, run once", once, changes()),
        ("changes, harmless", harmless, changes()),
        ("changes, by jobs", outlives, changes()),
        ("changes, not to be done at first", later, changes().into_iter().chain([wait(20)]).collect()),
        ("changes, not to be run at first", missing, changes().into_iter().chain([wait(20)]).collect()),
        ("about a reboot, run once", once, reboot()),
        ("about a reboot, by jobs", outlives, reboot()),
    ]
}

/// Faults without a crash, each with the number of steps from one crash to the next that is tried on top of it.
fn faults(syncs: usize) -> impl Iterator<Item = (Fault, usize)> {
    let sessions = [false, true].map(|no_sessions| (Fault { no_sessions, ..Fault::default() }, 1));
    let failures = (1..=syncs).flat_map(|at| {
        (0..4).map(move |bits| {
            let (failed_bytes_stay, no_sessions) = (bits & 1 > 0, bits & 2 > 0);
            (Fault { sync_fails_at: Some(at), failed_bytes_stay, no_sessions, ..Fault::default() }, 5)
        })
    });
    sessions.into_iter().chain(failures)
}

/// What is wrong with a world that has lived with this fault.
fn wrongs_of(world: &World, fault: &Fault) -> Vec<String> {
    let mut wrongs = world.judge();
    if world.machine_reboots > 1 {
        wrongs.push(format!("the machine was rebooted {} times", world.machine_reboots));
    }
    let is_cancelled = world.told.get("x1").is_some_and(|told| told.iter().any(|(status, ..)| *status == 200));
    if is_cancelled && world.machine_reboots > 0 {
        wrongs.push("the machine was rebooted though the cancellation was confirmed".to_owned());
    }
    wrongs.into_iter().map(|wrong| format!("{fault:?}: {wrong}")).collect()
}

/// Lives through a story under every fault; what was wrong, each with the fault that showed it.
fn wrongs(story: &[Deed], change: Change, road: Road, reboot: &Mode, sabotage: Sabotage) -> (usize, Vec<String>) {
    let begin = |fault| World::with(road, reboot.clone(), change, fault, sabotage);
    let mut calm = begin(Fault::default());
    calm.live(story);
    let (mut tried, mut wrongs) = (0, Vec::new());
    for (fault, pace) in faults(calm.syncs()) {
        let forgetful = Fault { forgets_unsynced: true, ..fault };
        let [kept, kept_forgetful] = [fault, forgetful].map(|fault| {
            let mut world = begin(fault);
            let kept = world.live_and_keep(story);
            tried += 1;
            wrongs.extend(wrongs_of(&world, &fault));
            kept
        });
        // Up to its crash a world is the one without: it goes on with the deed in which the crash is.
        let mut crash = |kept: &[World], fault: Fault| {
            let before = kept.iter().rposition(|world| Some(world.steps()) < fault.crash_at);
            let mut world = before.map_or_else(|| begin(fault), |deed| kept[deed].again(fault));
            world.live(&story[before.unwrap_or(0)..]);
            tried += 1;
            wrongs.extend(wrongs_of(&world, &fault));
            world.could_forget
        };
        for at in (1..=calm.steps()).step_by(pace) {
            if pace > 1 {
                crash(&kept, Fault { crash_at: Some(at), ..fault });
                continue;
            }
            for power in [false, true] {
                let crashes = |fault| Fault { crash_at: Some(at), power, ..fault };
                // Where all was synced, the world that forgets is the same.
                if crash(&kept, crashes(fault)) {
                    crash(&kept_forgetful, crashes(forgetful));
                }
            }
        }
    }
    (tried, wrongs)
}

/// Lives through every story with answers on this road.
fn every_promise_holds(road: Road) {
    let mut tried = 0;
    for (name, story) in stories() {
        for reboot in [Mode::Machine, Mode::Simulated(Duration::from_secs(20))] {
            let (worlds, wrongs) = wrongs(&story, |_| {}, road, &reboot, Sabotage::None);
            tried += worlds;
            assert!(
                wrongs.is_empty(),
                "{name}, {reboot:?}: {} wrongs\n{}",
                wrongs.len(),
                wrongs[..wrongs.len().min(10)].join("\n")
            );
        }
    }
    assert!(tried > 1_000, "only {tried} worlds were tried");
}

#[test]
fn every_promise_holds_whenever_the_process_or_the_power_goes() {
    every_promise_holds(Road::Own);
}

#[test]
fn and_where_answers_travel_in_the_reported_document() {
    every_promise_holds(Road::Reported);
}

#[test]
fn and_where_senders_wait_on_a_connection_and_the_twin_is_patched() {
    every_promise_holds(Road::Direct);
}

#[test]
fn what_holds_a_reboot_back_does_so_over_every_crash() {
    let mut tried = 0;
    for (name, change, story) in held_back() {
        let simulated = Mode::Simulated(Duration::from_secs(20));
        for (road, mode) in [
            (Road::Own, Mode::Machine),
            (Road::Reported, Mode::Machine),
            (Road::Direct, Mode::Machine),
            (Road::Own, simulated),
        ] {
            let (worlds, wrongs) = wrongs(&story, change, road, &mode, Sabotage::None);
            tried += worlds;
            let first = wrongs[..wrongs.len().min(10)].join("\n");
            assert!(wrongs.is_empty(), "{name}, {road:?}, {mode:?}: {} wrongs\n{first}", wrongs.len());
        }
    }
    assert!(tried > 1_000, "only {tried} worlds were tried");
}

#[test]
fn what_programs_serve_and_what_is_cancelled_keeps_every_promise_too() {
    let mut tried = 0;
    for (name, story) in served() {
        for road in ROADS {
            let (worlds, wrongs) = wrongs(&story, |_| {}, road, &Mode::Machine, Sabotage::None);
            tried += worlds;
            let first = wrongs[..wrongs.len().min(10)].join("\n");
            assert!(wrongs.is_empty(), "{name}, {road:?}: {} wrongs\n{first}", wrongs.len());
        }
    }
    assert!(tried > 1_000, "only {tried} worlds were tried");
}

/// The controls: commands do get to the program, some are taken back, and a guard taken away shows.
#[test]
fn the_stories_of_programs_are_what_they_say() {
    let world = |name: &str, sabotage| {
        let (_, story) = served().into_iter().find(|(known, _)| *known == name).expect("a story");
        let mut world = World::new(Road::Own, Mode::Machine, Fault::default(), sabotage);
        world.live(&story);
        world
    };
    let last = |world: &World, id: &str| world.told[id].last().map(|(status, ..)| *status);
    let served = world("a program serves", Sabotage::None);
    assert_eq!((served.ran["s1"], last(&served, "s3")), (1, Some(200)));
    let back = world("a program goes in the middle, and comes back", Sabotage::None);
    assert_eq!((last(&back, "s1"), last(&back, "s2")), (Some(503), Some(408)));
    let gone = world("a program goes for ever", Sabotage::None);
    assert_eq!((last(&gone, "s1"), last(&gone, "s2")), (Some(503), Some(404)));
    let stopped = world("what waits is taken back, what runs is stopped", Sabotage::None);
    let statuses = ["s1", "s2", "q1", "q2", "q3"].map(|id| last(&stopped, id));
    assert_eq!(statuses, [Some(499), Some(499), Some(200), Some(499), Some(499)]);
    assert_eq!((stopped.ran.get("s2"), stopped.ran.get("q3")), (None, None));
    assert_eq!(world("a reboot waits for a program", Sabotage::None).machine_reboots, 1);
    for sabotage in [Sabotage::EffectsFirst, Sabotage::NoSync, Sabotage::Amnesia, Sabotage::IgnoresFailedSync] {
        let noticed = self::served()
            .iter()
            .any(|(_, story)| !wrongs(story, |_| {}, Road::Own, &Mode::Machine, sabotage).1.is_empty());
        assert!(noticed, "{sabotage:?} goes unnoticed");
    }
}

#[test]
fn what_is_wanted_is_applied_once_over_every_crash() {
    let mut tried = 0;
    for (name, change, story) in wanted() {
        for (road, mode) in [
            (Road::Reported, Mode::Simulated(Duration::from_secs(20))),
            (Road::Own, Mode::Machine),
            (Road::Direct, Mode::Machine),
        ] {
            let (worlds, wrongs) = wrongs(&story, change, road, &mode, Sabotage::None);
            tried += worlds;
            let first = wrongs[..wrongs.len().min(10)].join("\n");
            assert!(wrongs.is_empty(), "{name}, {road:?}, {mode:?}: {} wrongs\n{first}", wrongs.len());
        }
    }
    assert!(tried > 1_000, "only {tried} worlds were tried");
}

#[test]
fn a_handler_of_desired_state_that_runs_twice_is_noticed() {
    for sabotage in [Sabotage::EffectsFirst, Sabotage::NoSync, Sabotage::Amnesia, Sabotage::IgnoresFailedSync] {
        let (_, change, story) = wanted().swap_remove(0);
        let (_, wrongs) = wrongs(&story, change, Road::Own, &Mode::Machine, sabotage);
        let noticed = |wrong: &String| wrong.contains("the handler for") || wrong.contains("before it was on disk");
        assert!(wrongs.iter().any(noticed), "{sabotage:?} goes unnoticed");
    }
}

/// With nothing said of it, what could not be run is never applied; with more said than is so, it is applied twice.
#[test]
fn what_is_said_of_a_handler_that_was_not_run_is_what_counts() {
    for (sabotage, words) in [(Sabotage::HidesNotRun, "was wanted"), (Sabotage::ClaimsNotRun, "ran 2 times")] {
        let stories = wanted().into_iter().find(|(name, ..)| *name == "changes, not to be run at first");
        let (_, change, story) = stories.expect("a story");
        for road in [Road::Own, Road::Direct] {
            let mut world = World::with(road, Mode::Machine, change, Fault::default(), sabotage);
            world.live(&story);
            let wrongs = world.judge();
            assert!(wrongs.iter().any(|wrong| wrong.contains(words)), "{sabotage:?} goes unnoticed: {wrongs:?}");
        }
    }
}

/// The controls: what these stories are about does happen in them, and a judge with other settings than the agent has
/// would not be content.
#[test]
fn the_stories_of_held_back_reboots_are_what_they_say() {
    let reboots = |name: &str| {
        let (_, change, story) = held_back().into_iter().find(|(known, ..)| *known == name).expect("a story");
        let mut world = World::with(Road::Own, Mode::Machine, change, Fault::default(), Sabotage::None);
        world.live(&story);
        world.rebooted_at
    };
    let seconds = Duration::from_secs;
    let [windowed] = reboots("in its window")[..] else { panic!("not once") };
    assert!((seconds(600)..seconds(900)).contains(&windowed), "{windowed:?}");
    assert_eq!(reboots("at its moment, over a loss of power"), [seconds(900)]);
    assert!(reboots("taken back during its delay").is_empty());
    let [inhibited] = reboots("inhibited for a while")[..] else { panic!("not once") };
    assert!((seconds(170)..seconds(240)).contains(&inhibited), "{inhibited:?}");
    assert!(reboots("inhibited to the end, and beyond").is_empty());
    assert_eq!(reboots("vetoed for a while").len(), 1);
    assert_eq!(reboots("after the breaker has tripped").len(), 1, "the second time it was asked for");
}

#[test]
fn a_reboot_outside_its_window_is_noticed() {
    let (_, change, story) = held_back().swap_remove(0);
    let mut world = World::with(Road::Own, Mode::Machine, change, Fault::default(), Sabotage::NoWindows);
    world.live(&story);
    assert!(world.judge().iter().any(|wrong| wrong.contains("outside its window")), "{:?}", world.judge());
}

#[test]
fn a_reboot_that_is_held_back_is_noticed() {
    let (_, change, story) = held_back().swap_remove(4);
    let mut world = World::with(Road::Own, Mode::Machine, change, Fault::default(), Sabotage::TellsNoHolders);
    world.live(&story);
    assert!(world.judge().iter().any(|wrong| wrong.contains("held it back")), "{:?}", world.judge());
}

/// With a guard taken away, some world must go wrong; else the judge above proves nothing.
fn is_noticed(sabotage: Sabotage) {
    let noticed = stories().iter().any(|(_, story)| {
        ROADS.iter().any(|road| !wrongs(story, |_| {}, *road, &Mode::Machine, sabotage).1.is_empty())
    });
    assert!(noticed, "{sabotage:?} goes unnoticed");
}

#[test]
fn effects_before_records_are_noticed() {
    is_noticed(Sabotage::EffectsFirst);
}

#[test]
fn a_missing_sync_is_noticed() {
    is_noticed(Sabotage::NoSync);
}

#[test]
fn a_forgotten_ledger_is_noticed() {
    is_noticed(Sabotage::Amnesia);
}

#[test]
fn effects_after_a_failed_sync_are_noticed() {
    is_noticed(Sabotage::IgnoresFailedSync);
}

#[test]
fn a_twin_that_was_not_read_is_noticed() {
    is_noticed(Sabotage::TellsNoTwin);
}

#[test]
fn a_reboot_is_told_done_and_proved() {
    for road in ROADS {
        let story = [
            Deed::Wait(Duration::from_secs(30)),
            Deed::Send(vec![request("rebootDevice", Some("r1"), json!({ "reason": "new kernel" }))]),
        ];
        let mut world = World::new(road, Mode::Machine, Fault::default(), Sabotage::None);
        world.live(&story);
        assert_eq!(world.machine_reboots, 1);
        let statuses: Vec<u16> = world.told["r1"].iter().map(|(status, ..)| *status).collect();
        assert_eq!(statuses.first(), Some(&202));
        assert_eq!(statuses.last(), Some(&200));
        let twin = world.reported.expect("a reported document");
        assert_eq!(twin["reboot"]["state"], "completed");
        assert_eq!(twin["reboot"]["reason"], "new kernel");
        assert_eq!(twin["reboot"]["simulated"], false);
        assert_eq!(twin["rebootTime"], twin["boot"]["time"]);
        assert_eq!(twin["reboot"]["bootId"], twin["boot"]["id"]);
        assert_ne!(twin["reboot"]["previousBootId"], twin["boot"]["id"]);
    }
}
