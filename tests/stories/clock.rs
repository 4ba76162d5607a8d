//! A clock that is wrong at the start, and one that jumps while a session stands. The clock of the real daemon is bent by
//! libfaketime, in front of a cloud that knows what time it is and checks `iat` and `exp`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use twinagent::host::clock;
use twinagent::model::now::Timestamp;

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, PATIENCE, Setup};
use crate::log::Log;
use crate::process::{Process, log, logged};
use crate::program::{run, status};

on_both_clouds! {
    in_1970_nothing_is_sent_until_the_clock_is_set_and_then_at_once,
    when_the_wait_is_over_a_login_is_tried_without_a_storm,
    a_clock_that_is_used_as_it_is_is_refused,
    a_device_that_has_seen_a_better_time_logs_in_with_it,
    steps_both_ways_in_mid_session_lose_no_command_and_double_none,
    what_was_run_is_known_again_after_a_jump_of_ten_years,
    the_word_of_timesyncd_ends_the_wait,
}

const YEAR: i64 = 365 * 24 * 60 * 60;

/// Of an age: then a cloud takes whatever time a login names.
const ANY_TIME: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

const QUICK: &str = "[session]\nbackoff_max = \"1s\"\nbackoff_max_refused = \"2s\"\n";

/// The clock of one daemon.
struct Clock {
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    /// Off by so many seconds.
    fn off(device: &Device, seconds: i64) -> Self {
        let found = std::fs::read_dir("/usr/lib").expect("/usr/lib").filter_map(|entry| {
            let library = entry.ok()?.path().join("faketime/libfaketimeMT.so.1");
            library.exists().then_some(library)
        });
        let library = found.last().expect("libfaketime is there; hint: apt-get install libfaketime");
        let clock = Self { file: device.path("clock"), library };
        clock.set(seconds);
        clock
    }

    /// It has just begun, in 1970.
    fn unset(device: &Device) -> Self {
        Self::off(device, -clock::wall().unix_seconds())
    }

    fn set(&self, seconds: i64) {
        let draft = self.file.with_extension("new");
        std::fs::write(&draft, format!("{seconds:+}\n")).expect("a file");
        std::fs::rename(draft, &self.file).expect("the same folder");
    }

    fn start(&self, device: &Device) -> Process {
        let text = |path: &PathBuf| path.to_str().expect("UTF-8").to_owned();
        let (library, file) = (text(&self.library), text(&self.file));
        let variables = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_NO_CACHE", "1"),
            // The standard library waits by that clock, and would wait for ever.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        Process::start_with(device, &variables)
    }
}

fn refusals(device: &Device) -> usize {
    log(device).matches("login refused by the broker").count()
}

/// How the cloud says that the time of a login is over.
fn expired(kind: Kind) -> &'static str {
    match kind {
        Kind::IotCore => "the token expired",
        Kind::IotHub => "expired",
    }
}

/// Waits for one more login that is refused.
async fn refused(device: &Device, before: usize) {
    let wait = async {
        while refusals(device) == before {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("a login is refused");
}

fn is_near(time: &Value, moment: Timestamp) -> bool {
    let time: Timestamp = time.as_str().expect("a time").parse().expect("RFC 3339");
    time.apart(moment) < Duration::from_secs(300)
}

/// Waits for the daemon to notice what its clock shows. It is woken by a command, or by itself within ten seconds.
async fn stepped(device: &Device, times: usize) {
    let wait = async {
        while log(device).matches("the clock was set").count() < times {
            let _ = run(device, &["status", "--json"]).await;
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the step is seen");
}

async fn in_1970_nothing_is_sent_until_the_clock_is_set_and_then_at_once(kind: Kind) {
    let mut device = Device::new(Setup { clock_wait: "10m", ..Setup::on(kind) }).await;
    let clock = Clock::unset(&device);
    let process = clock.start(&device);
    logged(&device, "the clock is not known to be right").await;
    sleep(Duration::from_secs(3)).await;
    let told = status(&device, |status| status["state"] == "waiting for the clock").await;
    assert_eq!(told["problems"][0]["code"], "clock");
    assert_eq!((refusals(&device), device.logins().await, device.complaint().await), (0, 0, None));
    clock.set(0);
    device.wait_until_ready().await;
    assert_eq!(refusals(&device), 0, "{}", log(&device));
    let twin = device.twin(|twin| twin["boot"]["clock"] == "unchecked").await;
    assert_eq!(twin["agent"]["problems"], json!([]));
    assert!(is_near(&twin["agent"]["startTime"], clock::wall()), "{twin}");
    process.stop().await;
}

async fn when_the_wait_is_over_a_login_is_tried_without_a_storm(kind: Kind) {
    let cloud = Log::listen();
    let mut device = Device::new(Setup { clock_wait: "1s", ..Setup::on(kind) }).await;
    let clock = Clock::unset(&device);
    let process = clock.start(&device);
    refused(&device, 0).await;
    sleep(Duration::from_secs(5)).await;
    // The first wait is up to 8 s, the next up to 16 s.
    let tries = refusals(&device);
    assert!((1..=5).contains(&tries), "{tries} tries: {}", log(&device));
    assert!(cloud.text().contains(expired(kind)), "the time that it named was no better than a floor");
    clock.set(0);
    device.wait_until_ready().await;
    device.send("count/c-1", "").await;
    device.answer("c-1", 200).await;
    process.stop().await;
    assert_eq!(device.counted(), [("c-1".to_owned(), 1)].into());
}

async fn a_clock_that_is_used_as_it_is_is_refused(kind: Kind) {
    let cloud = Log::listen();
    let device = Device::new(Setup { config: QUICK, ..Setup::on(kind) }).await;
    let process = Clock::unset(&device).start(&device);
    match kind {
        Kind::IotCore => {
            refused(&device, 0).await;
            assert!(cloud.text().contains(expired(kind)), "{}", cloud.text());
        }
        // It does not get as far as a login: to its clock, the certificate of the cloud is from the future.
        Kind::IotHub => logged(&device, "not connected: TLS failed").await,
    }
    status(&device, |status| status["problems"][0]["code"] == "clock").await;
    process.stop().await;
}

async fn a_device_that_has_seen_a_better_time_logs_in_with_it(kind: Kind) {
    let mut device = Device::new(Setup { clock_wait: "1s", ..Setup::on(kind) }).await;
    let process = Process::online(&mut device).await;
    process.stop().await;
    let process = Clock::unset(&device).start(&device);
    device.wait_until_ready().await;
    assert_eq!(refusals(&device), 0, "{}", log(&device));
    let twin = device.twin(|twin| twin["agent"]["problems"] != json!([])).await;
    assert_eq!(twin["agent"]["problems"][0]["code"], "clock");
    process.stop().await;
}

#[tokio::test]
async fn started_in_2038_it_is_back_as_soon_as_the_clock_is() {
    let cloud = Log::listen();
    let mut device = Device::new(Setup { clock_wait: "1s", ..Setup::on(Kind::IotCore) }).await;
    let clock = Clock::off(&device, 2_147_483_600 - clock::wall().unix_seconds());
    let process = clock.start(&device);
    refused(&device, 0).await;
    assert!(cloud.text().contains("the token was issued in the future"), "{}", cloud.text());
    clock.set(0);
    stepped(&device, 1).await;
    device.wait_until_ready().await;
    process.stop().await;
    // What it took for the time is no floor for the next start.
    let before = refusals(&device);
    let process = Process::online(&mut device).await;
    assert_eq!(refusals(&device), before, "{}", log(&device));
    process.stop().await;
}

async fn steps_both_ways_in_mid_session_lose_no_command_and_double_none(kind: Kind) {
    let mut device = Device::new(Setup { config: QUICK, answers: "events", ..Setup::on(kind) }).await;
    let clock = Clock::off(&device, 0);
    let process = clock.start(&device);
    device.wait_until_ready().await;
    let mut sent = 0;
    // Within what the cloud tolerates, so that each login is good: nothing is lost, nothing doubled.
    for (step, off) in [300, -300, 0].into_iter().enumerate() {
        device.send(&format!("count/c-{sent}"), "").await;
        sent += 1;
        clock.set(off);
        stepped(&device, step + 1).await;
        device.wait_until_ready().await;
        device.send(&format!("count/c-{sent}"), "").await;
        sent += 1;
    }
    let now = clock::wall();
    assert!(is_near(&status(&device, |_| true).await["session"]["since"], now));
    // Beyond that it is refused until the clock is right, and then back at once.
    // A SAS does not say when it was made, so one of next year is as good as any.
    let wrong: &[i64] = match kind {
        Kind::IotCore => &[YEAR, -YEAR],
        Kind::IotHub => &[-YEAR],
    };
    for (step, off) in wrong.iter().copied().enumerate() {
        let before = refusals(&device);
        clock.set(off);
        stepped(&device, 4 + 2 * step).await;
        refused(&device, before).await;
        clock.set(0);
        stepped(&device, 5 + 2 * step).await;
        device.wait_until_ready().await;
        device.send(&format!("count/c-{sent}"), "").await;
        sent += 1;
    }
    for number in 0..sent {
        device.answer(&format!("c-{number}"), 200).await;
    }
    let told = status(&device, |_| true).await;
    assert!(is_near(&told["session"]["since"], now) && is_near(&told["startTime"], now), "{told}");
    process.stop().await;
    let counted = device.counted();
    assert_eq!((counted.len(), counted.values().sum::<usize>()), (sent, sent), "{counted:?}");
}

async fn what_was_run_is_known_again_after_a_jump_of_ten_years(kind: Kind) {
    let setup = Setup { skew: ANY_TIME, config: QUICK, answers: "events", ..Setup::on(kind) };
    let mut device = Device::new(setup).await;
    let clock = Clock::off(&device, 0);
    let process = clock.start(&device);
    device.wait_until_ready().await;
    device.send("count/told", "").await;
    let first = device.answer("told", 200).await;
    device.send("count", r#"{"n":1}"#).await;
    for (step, off) in [10 * YEAR, -YEAR].into_iter().enumerate() {
        clock.set(off);
        stepped(&device, step + 1).await;
        device.wait_until_ready().await;
        // A new command is when old ones are forgotten.
        device.send(&format!("count/new-{step}"), "").await;
        device.answer(&format!("new-{step}"), 200).await;
        device.send("count/told", "").await;
        device.send("count", r#"{"n":1}"#).await;
    }
    device.send("count/last", "").await;
    device.answer("last", 200).await;
    process.stop().await;
    let counted = device.counted();
    assert!(counted.values().all(|times| *times == 1), "{counted:?}");
    assert_eq!(counted.len(), 5, "told, new-0, new-1, last, and the one without an id: {counted:?}");
    assert!(device.answers_to("told").iter().all(|answer| answer["payload"] == first["payload"]));
}

async fn the_word_of_timesyncd_ends_the_wait(kind: Kind) {
    let mut device = Device::new(Setup { clock_wait: "10m", ..Setup::on(kind) }).await;
    device.start();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(device.logins().await, 0);
    let flag = device.path("systemd/timesync/synchronized");
    std::fs::create_dir_all(flag.parent().expect("a folder")).expect("a folder");
    std::fs::write(flag, "").expect("a file");
    device.wait_until_ready().await;
    assert_eq!(device.twin(|twin| twin["boot"].is_object()).await["boot"]["clock"], "synchronized");
    device.stop().await;
}
