//! The zoo: programs that misbehave in every way that we know, a dozen of them at once, from the cloud and back. Each has its
//! status, the next command is answered, and what the daemon and the service hold does not grow.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::Duration;

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, PATIENCE, Setup};
use crate::process::Process;
use crate::workshop::Workshop;

on_both_clouds! {
    a_dozen_bad_programs_at_once_harm_nobody,
}

const MORE: &str = "time_limit = \"60s\"\ngrace = \"200ms\"\noutput_limit = 4096\nclass = \"parallel\"\n";

/// Those that hang are over soon.
const HANGS: &str = "time_limit = \"2s\"\ngrace = \"200ms\"\noutput_limit = 4096\nclass = \"parallel\"\n";

/// Name, what it does, and the status that its caller hears.
const ANIMALS: &[(&str, &str, u16)] = &[
    ("hangs", "sleep 600\n", 408),
    ("ignoresTerm", "trap '' TERM\nsleep 600 & wait; sleep 600\n", 408),
    ("stopsItself", "kill -STOP $$\n", 408),
    ("floods", "head -c 50000000 /dev/zero\n", 200),
    ("floodsBoth", "head -c 5000000 /dev/zero >&2; head -c 5000000 /dev/zero; exit 1\n", 500),
    // A grandchild that keeps what we read from, and one that has left its process group besides.
    ("leavesAChild", "sleep 600 &\nprintf done\n", 200),
    ("leavesADaemon", "setsid sh -c 'setsid sleep 600 & sleep 600' &\nprintf done\n", 200),
    ("crashes", "kill -SEGV $$\n", 500),
    ("closesAll", "exec 0<&- 1>&- 2>&-\nexit 0\n", 200),
    ("binary", "head -c 2000 /dev/urandom\nexit 0\n", 200),
    ("manyChildren", "i=0; while [ $i -lt 300 ]; do sleep 600 & i=$((i+1)); done; printf done\n", 200),
    ("readsNothing", "exit 0\n", 200),
    ("failsAtOnce", "exit 1\n", 500),
];

/// What an operator does wrong.
type Spoil = fn(&Workshop);

/// Programs that are not to be run, each with its way to become one.
const REFUSED: &[(&str, Spoil)] = &[
    ("everybodys", |workshop| mode(workshop, "everybodys", 0o777)),
    ("notExecutable", |workshop| mode(workshop, "notExecutable", 0o644)),
    ("isALink", |workshop| {
        fs::rename(workshop.path("isALink"), workshop.path("elsewhere")).expect("a file");
        symlink(workshop.path("elsewhere"), workshop.path("isALink")).expect("a link");
    }),
    ("isAFolder", |workshop| {
        fs::remove_file(workshop.path("isAFolder")).expect("a file");
        fs::create_dir(workshop.path("isAFolder")).expect("a folder");
    }),
    ("isGone", |workshop| fs::remove_file(workshop.path("isGone")).expect("a file")),
    ("noInterpreter", |workshop| {
        workshop.program("noInterpreter", "#!/nonexistent/sh\nexit 0\n");
    }),
    ("isEmpty", |workshop| {
        workshop.program("isEmpty", "");
    }),
];

fn mode(workshop: &Workshop, program: &str, mode: u32) {
    fs::set_permissions(workshop.path(program), fs::Permissions::from_mode(mode)).expect("a mode");
}

/// What a process holds: KiB of memory, and descriptors.
#[derive(Clone, Copy, Debug)]
struct Holds {
    memory: u64,
    descriptors: usize,
}

fn holds(process: u32) -> Holds {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it lives");
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("proc(5)");
    let memory = memory.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number");
    Holds { memory, descriptors: fs::read_dir(format!("/proc/{process}/fd")).expect("it lives").count() }
}

/// The processes below this one, dead ones that nobody has waited for included.
fn below(process: u32) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("proc(5)").flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // Behind the name in brackets: the state, and the parent (proc_pid_stat(5)).
        let mut words = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        if words.nth(1).and_then(|parent| parent.parse().ok()) == Some(process) {
            found.push(stat);
        }
    }
    found
}

/// All of them at once; the statuses that their callers heard.
async fn round(device: &mut Device, round: usize) -> BTreeMap<String, u64> {
    let all: Vec<&str> = ANIMALS.iter().map(|(name, ..)| *name).chain(REFUSED.iter().map(|(name, _)| *name)).collect();
    for name in &all {
        device.send(&format!("{name}/{name}-{round}"), r#"{"some":"payload"}"#).await;
    }
    // While they are at it, others are served.
    device.send(&format!("good/good-{round}"), "").await;
    device.answer(&format!("good-{round}"), 200).await;
    let mut told = BTreeMap::new();
    for name in all {
        let status = outcome(device, &format!("{name}-{round}")).await;
        told.insert(name.to_owned(), status);
    }
    device.forget_answers();
    told
}

async fn outcome(device: &mut Device, id: &str) -> u64 {
    let wait = async {
        loop {
            let ended = device.answers_to(id).into_iter().find(|answer| answer["status"] != 202);
            if let Some(answer) = ended {
                return answer["status"].as_u64().expect("a status");
            }
            device.hear_until_quiet(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{id} has no outcome"))
}

async fn a_dozen_bad_programs_at_once_harm_nobody(kind: Kind) {
    let mut device = Device::new(Setup { answers: "events", ..Setup::on(kind) }).await;
    let mut workshop = Workshop::beside(&device, &[("good", "", "printf fine\n")]);
    for (name, script, status) in ANIMALS {
        workshop.make((name, if *status == 408 { HANGS } else { MORE }, script));
    }
    for (name, spoil) in REFUSED {
        workshop.make((name, MORE, "exit 0\n"));
        spoil(&workshop);
    }
    workshop.start(&device);
    let process = Process::online(&mut device).await;
    let mut expected: BTreeMap<String, u64> =
        ANIMALS.iter().map(|(name, _, status)| ((*name).to_owned(), u64::from(*status))).collect();
    expected.extend(REFUSED.iter().map(|(name, _)| ((*name).to_owned(), 500)));
    // What is made once is made by then.
    assert_eq!(round(&mut device, 0).await, expected);
    let before = [holds(process.id()), holds(workshop.id())];
    for n in 1..=3 {
        assert_eq!(round(&mut device, n).await, expected);
    }
    let after = [holds(process.id()), holds(workshop.id())];
    for (before, after) in before.into_iter().zip(after) {
        assert!(after.descriptors <= before.descriptors + 2, "{before:?} {after:?}");
        // Far less than one of the floods.
        assert!(after.memory < before.memory + 4_096, "{before:?} {after:?}");
    }
    // Hundreds of them take their time to be gone.
    let gone = async {
        while !below(workshop.id()).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, gone).await.is_ok();
    assert!(in_time, "something is left of them: {:#?}", below(workshop.id()));
    process.stop().await;
    workshop.stop().await;
}
