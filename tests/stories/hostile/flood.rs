//! Floods: ten thousand messages in one burst, and again. Memory must not grow with their number, the agent must stay
//! in reach, and what it cannot take on it must say, or count.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;
use twinagent::bridge::RawPublish;
use twinagent::local::client::{Client, Wait};

use super::scenario::good_command;
use crate::both::on_both_clouds;
use crate::cloud::{Cloud, Kind};
use crate::device::{Device, Setup};
use crate::process::{Process, log};
use crate::program::status;

on_both_clouds! {
    bursts_of_ten_thousand_messages_are_weathered,
}

/// Messages of one burst: each with a packet id of its own, above those of the bridge.
const MESSAGES: u16 = 10_000;

/// The most by which a second burst may raise the peak of memory that the first one reached, in KiB. All buffers and
/// queues have had their fill by then. Of commands that are recorded there are more to be remembered: 4 096 at most.
const MORE_MEMORY: u64 = 8 * 1024;

/// And the most by which the first burst may raise it.
const MEMORY: u64 = 32 * 1024;

/// The payload of a large command, in bytes.
const LARGE: usize = 128 * 1024;

/// The most by which a burst of those may raise it: 64 of them may wait to be acknowledged, as many answers may be on
/// their way, and some of each are being read and written. All of the burst are 30 MiB.
const MEMORY_OF_LARGE: u64 = 64 * 1024;

/// The longest that a local question may wait meanwhile, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(8);

/// Until everything of a burst is answered or counted.
const LONGEST_BURST: Duration = Duration::from_secs(60);

/// Lines that a burst of bad messages may add to the log: thirty a minute, their sum, and some of other things.
const LINES: usize = 50;

/// Asks the agent for its status all the time, as a person would who wonders what is going on.
struct Onlooker {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Duration)>,
}

impl Onlooker {
    fn watch(folder: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (folder, until) = (folder.to_owned(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut client = Client::connect(&folder).expect("the daemon listens");
            let (mut asked, mut slowest) = (0, Duration::ZERO);
            while !until.load(Ordering::Relaxed) {
                let began = Instant::now();
                client.call("GetStatus", &json!({}), Wait::Short).expect("an answer");
                slowest = slowest.max(began.elapsed());
                asked += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            (asked, slowest)
        });
        Self { stop, thread }
    }

    /// How often it asked, and the longest that it had to wait.
    fn end(self) -> (usize, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("each question was answered")
    }
}

/// A line of `/proc/PID/status`, in KiB.
pub(crate) fn memory(process: &Process, line: &str) -> u64 {
    let path = format!("/proc/{}/status", process.id());
    let status = std::fs::read_to_string(path).expect("the process lives");
    let found = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let words = found.expect("the kernel tells it").trim().trim_end_matches("kB").trim();
    words.parse().expect("a number")
}

async fn dropped(device: &Device) -> u64 {
    status(device, |_| true).await["commands"]["dropped"].as_u64().expect("a number")
}

/// One burst; what became of it is printed, and the peak of memory afterwards is returned.
async fn burst(
    device: &mut Device,
    process: &Process,
    (name, count): (&str, u16),
    message: impl Fn(&Cloud, u16) -> RawPublish,
) -> u64 {
    let (memory_before, dropped_before) = (memory(process, "VmRSS"), dropped(device).await);
    device.forget_answers();
    let messages: Vec<_> =
        (0..count).map(|n| RawPublish { packet_id: 50_000 + n, ..message(&device.cloud, n) }).collect();
    let onlooker = Onlooker::watch(&device.path("run"));
    let began = Instant::now();
    device.cloud.publish(&messages).await;
    let (told, uncounted) = loop {
        device.hear_until_quiet(Duration::from_millis(500)).await;
        let uncounted = dropped(device).await - dropped_before;
        // One that is under way is told again when it has ended.
        let told: usize =
            device.statuses().into_iter().filter(|(status, _)| *status != 202).map(|(_, count)| count).sum();
        let told = u64::try_from(told).expect("a number");
        if told + uncounted >= u64::from(count) || began.elapsed() > LONGEST_BURST {
            break (told, uncounted);
        }
    };
    let took = began.elapsed();
    let (asked, slowest) = onlooker.end();
    let peak = memory(process, "VmHWM");
    println!(
        "{count:>6} {name:<28} {:>5.1} s  memory {memory_before:>6} -> {:>6} KiB, peak {peak:>6}  status asked {asked:>4} \
         times, slowest {:>5} ms  answers {:?}, counted {uncounted}",
        took.as_secs_f64(),
        memory(process, "VmRSS"),
        slowest.as_millis(),
        device.statuses(),
    );
    assert!(slowest < PATIENCE, "{slowest:?}");
    assert_eq!(told + uncounted, u64::from(count), "each is answered, or counted");
    peak
}

async fn bursts_of_ten_thousand_messages_are_weathered(kind: Kind) {
    let config = "[session]\nbackoff_max = \"1s\"\n";
    let mut device = Device::new(Setup { answers: "events", config, ..Setup::on(kind) }).await;
    let process = Process::online(&mut device).await;
    device.send("count/first", "").await;
    device.answer("first", 200).await;
    let calm = memory(&process, "VmRSS");
    println!("memory in peace: {calm} KiB");

    let topic = |method: &'static str, round: u16| {
        move |cloud: &Cloud, n| cloud.command(&format!("{method}/{method}-{round}-{n}"), "", 1)
    };
    let mut peaks = Vec::new();
    let lines = log(&device).lines().count();
    for round in 0..2 {
        let bad = |cloud: &Cloud, n: u16| cloud.command("", format!("{{ {round} {n} is no JSON"), 1);
        peaks.push(burst(&mut device, &process, ("no commands at all", MESSAGES), bad).await);
    }
    let lines = log(&device).lines().count() - lines;
    println!("{lines} lines in the log of {} messages that were no commands", 2 * MESSAGES);
    assert!((1..=LINES).contains(&lines), "{lines}");
    for round in 0..2 {
        peaks.push(burst(&mut device, &process, ("harmless commands", MESSAGES), topic("echo", round)).await);
    }
    let once = |cloud: &Cloud, n| RawPublish { qos: 0, ..topic("echo", 2)(cloud, n) };
    peaks.push(burst(&mut device, &process, ("harmless commands with QoS 0", MESSAGES), once).await);
    for round in 0..2 {
        peaks.push(burst(&mut device, &process, ("recorded commands", MESSAGES), topic("count", round)).await);
        let is_of_this = |id: &str| id.starts_with(&format!("count-{round}-"));
        let ran: Vec<_> = device.counted().into_iter().filter(|(id, _)| is_of_this(id)).collect();
        assert!(ran.iter().all(|(_, times)| *times == 1), "each ran once");
        assert_eq!(Some(&ran.len()), device.statuses().get(&200), "all that ran were told, and no others");
    }
    assert!(peaks[0].saturating_sub(calm) <= MEMORY, "from {calm} KiB to {} KiB", peaks[0]);
    for pair in peaks.windows(2) {
        assert!(pair[1].saturating_sub(pair[0]) <= MORE_MEMORY, "memory grows with the number of messages: {peaks:?}");
    }
    let payload = format!("\"{}\"", "x".repeat(LARGE));
    let large = |cloud: &Cloud, n: u16| cloud.command(&format!("echo/large-{n}"), payload.clone(), 1);
    let peak = burst(&mut device, &process, ("commands of 128 KiB", 240), large).await;
    assert!(peak.saturating_sub(calm) <= MEMORY_OF_LARGE, "from {calm} KiB to {peak} KiB");

    device.forget_answers();
    assert!(good_command(&mut device).await, "the next good command is answered, and has run once");
    assert_eq!(device.logins().await, 1, "the session stayed");
    process.stop().await;
}
