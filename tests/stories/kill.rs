//! SIGKILL at random moments while commands flow: none runs twice, and whatever was acknowledged is answered.
//!
//! Callers send their commands until the device has acknowledged them; half of them go on sending until the answer is
//! there, and once more after it. The judge looks only at what can be seen from outside: the file of `count` and the
//! answers that reached the cloud. That it can see a command run twice is shown by a device that loses its journal.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::both::on_both_clouds;
use crate::cloud::{Cloud, Kind};
use crate::device::{Device, PATIENCE, Setup};
use crate::process::{Process, log};
use serde_json::{Value, json};
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

on_both_clouds! {
    killed_at_random_moments_no_command_runs_twice_and_each_is_answered,
    the_judge_sees_what_a_device_without_its_journal_does,
}

/// Outcomes that a caller may be behind: it reads each at once, but not while it sends.
const OUTCOMES: usize = 16_384;

/// A caller that has no answer after this sends again.
const AGAIN: Duration = Duration::from_millis(200);

/// The longest pause of a caller, in microseconds: a ledger with thousands of commands would only be slow to read.
const PAUSE: u64 = 20_000;

/// So many commands must have been acknowledged at least, or the kills strike nothing and prove nothing.
const ENOUGH: usize = 100;

/// A device that is killed all the time must not take its broker for a lost one.
const CONFIG: &str = "[session]\nbackoff_max = \"1s\"\n";

async fn killed_at_random_moments_no_command_runs_twice_and_each_is_answered(kind: Kind) {
    let verdict = story(Story { kind, sessions: false, loses_its_journal: false }).await;
    verdict.must_be_good();
}

#[tokio::test]
async fn killed_at_random_moments_with_a_kept_session_no_command_runs_twice_and_each_is_answered() {
    let verdict = story(Story { kind: Kind::IotCore, sessions: true, loses_its_journal: false }).await;
    verdict.must_be_good();
}

async fn the_judge_sees_what_a_device_without_its_journal_does(kind: Kind) {
    let verdict = story(Story { kind, sessions: false, loses_its_journal: true }).await;
    assert!(!verdict.ran_twice.is_empty(), "{verdict:#?}");
}

struct Story {
    kind: Kind,
    sessions: bool,
    loses_its_journal: bool,
}

/// How many lives there are, and the longest that they last, in microseconds.
struct Lives {
    count: usize,
    /// From the start of the process.
    start: u64,
    /// From when commands arrive.
    work: u64,
    /// The longest that a command runs which is to be cut in the middle, in milliseconds.
    run: u64,
    /// Commands that are on their way at a time: some for every stage, far fewer than may wait to be told.
    callers: u64,
}

impl Lives {
    /// On one cloud an answer goes by itself; on the other with the twin, which is told once a second.
    fn on(kind: Kind) -> Self {
        match kind {
            Kind::IotCore => Self { count: 100, start: 40_000, work: 100_000, run: 60, callers: 4 },
            Kind::IotHub => Self { count: 40, start: 60_000, work: 1_500_000, run: 900, callers: 16 },
        }
    }
}

/// What was found. Lists of ids, empty if all is well.
#[derive(Debug)]
struct Verdict {
    commands: usize,
    interrupted: usize,
    ran_twice: Vec<String>,
    unanswered: Vec<String>,
    /// More than one outcome was told, or one that is neither a success nor that of a command cut in the middle.
    odd_answers: BTreeMap<String, Vec<Value>>,
    /// Said to be done, and was not.
    not_done: Vec<String>,
    complaints: Vec<String>,
}

impl Verdict {
    fn must_be_good(&self) {
        let Self { commands, interrupted, ran_twice, unanswered, odd_answers, not_done, complaints } = self;
        let good = ran_twice.is_empty()
            && unanswered.is_empty()
            && odd_answers.is_empty()
            && not_done.is_empty()
            && complaints.is_empty();
        assert!(good, "{self:#?}");
        assert!(*commands > ENOUGH && *interrupted > 0, "{self:#?}");
    }
}

async fn story(Story { kind, sessions, loses_its_journal }: Story) -> Verdict {
    let life = Lives::on(kind);
    let kills = if loses_its_journal { life.count / 3 } else { life.count };
    let mut dice = Dice(seed());
    let patience = if loses_its_journal { AGAIN } else { PATIENCE };
    let mut device = Device::new(Setup { answers: "events", sessions, config: CONFIG, ..Setup::on(kind) }).await;
    let mut ear = device.cloud.ear().await;
    let (end, mut ended) = oneshot::channel();
    let outcomes = broadcast::Sender::new(OUTCOMES);
    let told = outcomes.clone();
    // Takes down every answer until the story ends.
    let listener = tokio::spawn(async move {
        let mut answers: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        loop {
            let heard = tokio::select! {
                biased;
                heard = ear.hear() => heard,
                _ = &mut ended => return answers,
            };
            for (id, answer) in heard.answers() {
                let known = answers.entry(id.clone()).or_default();
                if known.last() == Some(&answer) {
                    continue;
                }
                if answer["status"] != 202 {
                    // Callers come and go.
                    let _ = told.send(id);
                }
                known.push(answer);
            }
        }
    });
    let mut process = Process::start(&device);
    let (stop, stopped) = watch::channel(false);
    let done = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for number in 0..life.callers {
        let caller = Caller {
            number,
            cloud: device.cloud.clone(),
            outcomes: outcomes.subscribe(),
            dice: Dice(dice.throw()),
            run: life.run,
            patience,
            done: done.clone(),
        };
        callers.spawn(caller.call(stopped.clone()));
    }
    // A slow machine gets less done in each life, and needs more of them.
    let has_enough = || loses_its_journal || done.load(Ordering::Relaxed) > ENOUGH;
    for _ in (0..kills * 4).take_while(|life| *life < kills || !has_enough()) {
        // One in four somewhere in its start, the others while commands flow.
        let up_to = if dice.one_in(4) {
            life.start
        } else {
            device.wait_until_ready().await;
            life.work
        };
        tokio::time::sleep(Duration::from_micros(dice.below(up_to))).await;
        process.kill().await;
        if loses_its_journal {
            // A life that was very short has made none.
            let _ = std::fs::remove_file(device.path("state/journal"));
        }
        process = Process::start(&device);
    }
    // From here on the callers only end what they have begun.
    stop.send(true).expect("the callers wait for it");
    let acknowledged: BTreeSet<String> = callers.join_all().await.into_iter().flatten().collect();
    // The last of them may be connecting still.
    let last = async {
        while device.cloud.send("count/last", "").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, last).await.expect("the device takes a last command");
    device.answer("last", 200).await;
    process.stop().await;
    end.send(()).expect("the listener waits for it");
    let answers = listener.await.expect("no panic");
    judge(&device, &acknowledged, &answers)
}

/// One that sends commands, each until it has its answer.
struct Caller {
    number: u64,
    cloud: Cloud,
    outcomes: broadcast::Receiver<String>,
    dice: Dice,
    /// The longest of its commands, in milliseconds.
    run: u64,
    /// How long it waits for the answer to what was acknowledged.
    patience: Duration,
    /// Commands that all callers are done with.
    done: Arc<AtomicUsize>,
}

impl Caller {
    /// Returns the ids of all commands that the device has acknowledged.
    async fn call(mut self, stopped: watch::Receiver<bool>) -> Vec<String> {
        let mut acknowledged = Vec::new();
        for round in 0_u32.. {
            if *stopped.borrow() {
                break;
            }
            let id = format!("c{}-{round}", self.number);
            // Every third run takes long enough to be cut in the middle.
            let sleep = if self.dice.one_in(3) { self.dice.below(self.run) } else { 0 };
            let payload = json!({ "sleepMillis": sleep }).to_string();
            let is_stubborn = self.dice.one_in(2);
            self.until_answered(&id, &payload, is_stubborn).await;
            acknowledged.push(id);
            self.done.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_micros(self.dice.below(PAUSE))).await;
        }
        acknowledged
    }

    async fn until_answered(&mut self, id: &str, payload: &str, is_stubborn: bool) {
        while !self.send(id, payload).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if !is_stubborn {
            // If no answer comes the judge will notice.
            let _ = timeout(self.patience, self.outcome(id)).await;
            return;
        }
        while timeout(AGAIN, self.outcome(id)).await.is_err() {
            self.send(id, payload).await;
        }
        // Whether this one arrives does not matter.
        self.send(id, payload).await;
    }

    /// Whether the device, or a broker that keeps its session, has taken the command.
    async fn send(&self, id: &str, payload: &str) -> bool {
        self.cloud.send(&format!("count/{id}"), payload).await.is_ok()
    }

    /// Waits for the outcome of this command.
    async fn outcome(&mut self, id: &str) {
        while self.outcomes.recv().await.expect("no outcome is missed") != id {}
    }
}

fn judge(device: &Device, acknowledged: &BTreeSet<String>, answers: &BTreeMap<String, Vec<Value>>) -> Verdict {
    let counted = device.counted();
    let ran = |id: &String| counted.get(id).copied().unwrap_or(0);
    let outcomes = |id: &String| -> Vec<Value> {
        // Sent again while it ran, a command is answered 202 until there is an outcome.
        answers.get(id).into_iter().flatten().filter(|answer| answer["status"] != 202).cloned().collect()
    };
    let is_cut = |outcome: &Value| outcome["status"] == 500 && outcome["payload"]["interrupted"] == true;
    let is_done = |outcome: &Value| outcome["status"] == 200;
    let is_odd = |outcomes: &[Value]| {
        outcomes.iter().any(|outcome| *outcome != outcomes[0] || !(is_done(outcome) || is_cut(outcome)))
    };
    Verdict {
        commands: acknowledged.len(),
        interrupted: acknowledged.iter().filter(|id| outcomes(id).iter().any(is_cut)).count(),
        ran_twice: counted.keys().filter(|id| ran(id) > 1).cloned().collect(),
        unanswered: acknowledged.iter().filter(|id| outcomes(id).is_empty()).cloned().collect(),
        odd_answers: answers
            .keys()
            .map(|id| (id.clone(), outcomes(id)))
            .filter(|(_, outcomes)| is_odd(outcomes))
            .collect(),
        not_done: answers.keys().filter(|id| outcomes(id).iter().any(is_done) && ran(id) != 1).cloned().collect(),
        complaints: log(device).lines().filter(|line| line.contains(" ERROR ")).map(ToOwned::to_owned).collect(),
    }
}

/// Random numbers from a seed (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.throw() % end
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// Another one each time, unless `$TWINAGENT_TEST_SEED` names one. Shown when the test fails.
#[expect(clippy::disallowed_methods, clippy::print_stderr, reason = "a person repeats the moments of a failed run")]
fn seed() -> u64 {
    let seed = std::env::var("TWINAGENT_TEST_SEED").ok().map_or_else(
        || {
            let mut bytes = [0; 8];
            File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).expect("random bytes");
            u64::from_ne_bytes(bytes)
        },
        |seed| seed.parse().expect("a number"),
    );
    eprintln!("TWINAGENT_TEST_SEED={seed}");
    seed
}
