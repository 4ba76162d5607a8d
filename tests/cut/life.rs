//! The life of one command, `rebootDevice/r-1`, on a device that is ended at one point: what was seen of it from outside,
//! and what of that breaks a promise.
//!
//! The story plays root's helper and the machine; it knows nothing of the daemon but its request and what the cloud hears.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::mpsc;
use twinagent::bridge::{StateChange, Telemetry};

use crate::device::{Device, PATIENCE, Setup, counted};
use crate::machine::{Down, Machine, Process};
use crate::point::{Point, points, unsynced, watching};

const CONFIG: &str = "[reboot]\nmode = \"helper\"\nmin_uptime = \"0s\"\nmin_interval = \"0s\"\nmax_reboots = 20\n\
                      grace = \"0s\"\ndrain = \"0s\"\n\
                      [session]\nbackoff_max = \"1s\"\n";

const COMMAND: &str = r#"{"reason":"new kernel"}"#;

/// Of one story: the one that is ended, one that asks, one that proves it, and one to spare.
const MOST_LIVES: usize = 4;

/// How a reboot that was asked for, or may have been, stands in the journal.
const STARTED: &str = r#""record":"started""#;

/// How long an outcome is waited for that will not come.
const SHORT: Duration = Duration::from_secs(6);

/// How often the request and the process are looked at.
const LOOK: Duration = Duration::from_millis(4);

/// Longer than it takes to ask for a reboot where one may still be asked for, or to send what is left to be sent: the cloud
/// takes one document a second.
const STILL: Duration = Duration::from_millis(1_600);

/// When the daemon is ended.
#[derive(Clone, Debug)]
pub(crate) enum Moment {
    /// At a system call between the arrival of the command and the reboot.
    BeforeTheReboot(Point),
    /// At a system call from the next start on.
    AfterTheReboot(Point),
    /// At once when this is seen from outside; the machine goes with it.
    Acknowledged,
    Accepted,
    Asked,
    Told,
}

/// What happens to the machine when the daemon is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing; the daemon is started again.
    Restart,
    /// It goes down as well.
    Reset,
    /// And so does its power, as at every further reboot of this story.
    PowerCut,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) moment: Moment,
    pub(crate) after: After,
    /// Whether a sync is one.
    pub(crate) synced: bool,
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The daemon was ended when it was to be.
    pub(crate) hit: bool,
    /// The cloud had the PUBACK of the command then.
    pub(crate) acknowledged: bool,
    /// And the outcome.
    pub(crate) told: bool,
    /// Requests, each once.
    pub(crate) asked: usize,
    pub(crate) lives: usize,
    /// Promises that were broken, in words.
    pub(crate) broken: Vec<String>,
    /// For people, if there are any.
    pub(crate) said: String,
}

/// How a life, or the wait for one, went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Killed,
    /// A request lies there.
    Asked,
    /// Told, in an answer and in the twin.
    Told,
    /// The twin says that the machine reboots, and nobody has asked for that in this life.
    Awaits,
    Silent,
}

struct Story {
    // First, since the processes end with it.
    machine: Machine,
    daemon: Option<Process>,
    strace: Option<Process>,
    device: Device,
    telemetry: mpsc::Receiver<Telemetry>,
    states: mpsc::Receiver<StateChange>,
    down: Down,
    answers: Vec<Value>,
    /// The newest document, and whether it is of this life.
    twin: Value,
    is_fresh: bool,
    /// Requests, each once.
    asked: BTreeSet<String>,
    broken: Vec<String>,
    /// The reboot stood in the journal as begun at the end of a life.
    was_started: bool,
    /// And it is the same boot still.
    is_started: bool,
    /// How long an outcome is waited for.
    patience: Duration,
}

/// The moments at system calls, found by ending nothing.
pub(crate) async fn watch() -> Vec<Moment> {
    let mut story = Story::begin(Down::Reset, &[]).await;
    story.strace = Some(story.machine.attach(&watching()));
    story.send().await;
    assert_eq!(story.live().await, End::Asked, "{}", story.said());
    story.linger().await;
    let before = points(&story.machine.seen(), story.machine.folder());
    story.reboot();
    story.start(&watching());
    assert_eq!(story.live().await, End::Told, "{}", story.said());
    story.linger().await;
    let after = points(&story.machine.seen(), story.machine.folder());
    story.end().await;
    assert_eq!(story.broken, [""; 0], "undisturbed: {}", story.said());
    let before = before.into_iter().map(Moment::BeforeTheReboot);
    before.chain(after.into_iter().map(Moment::AfterTheReboot)).collect()
}

/// One story with one end.
pub(crate) async fn cut(plan: &Plan) -> Seen {
    let Plan { moment, after, synced } = plan;
    let down = if *after == After::PowerCut { Down::PowerCut } else { Down::Reset };
    let strace = if *synced { Vec::new() } else { unsynced() };
    let mut story = Story::begin(down, &strace).await;
    if let Moment::BeforeTheReboot(point) = moment {
        story.strace = Some(story.machine.attach(&point.killing(story.machine.folder())));
    }
    story.send().await;
    let hit = match moment {
        Moment::BeforeTheReboot(_) => story.live().await == End::Killed || story.linger().await,
        Moment::AfterTheReboot(point) => {
            let killing = point.killing(story.machine.folder());
            story.is_asked_and_rebooted(&killing).await;
            story.live().await == End::Killed || story.linger().await
        }
        Moment::Acknowledged => story.until(async |story| story.is_acknowledged().await).await,
        Moment::Accepted => story.until(async |story| story.answers().next().is_some()).await,
        Moment::Asked => story.live().await == End::Asked,
        Moment::Told => {
            // A power cut here would leave nothing to be told.
            story.down = Down::Reset;
            story.is_asked_and_rebooted(&strace).await;
            story.down = down;
            story.live().await == End::Told
        }
    };
    story.note_request();
    story.hear();
    let (acknowledged, told) = (story.is_acknowledged().await, story.outcomes().next().is_some());
    if hit && *after == After::Restart {
        story.note_journal();
        story.is_started = story.was_started;
    } else {
        story.reboot();
    }
    if !synced {
        story.patience = SHORT;
    }
    story.go_on().await;
    let said = if story.broken.is_empty() { String::new() } else { story.said() };
    Seen { hit, acknowledged, told, asked: story.asked.len(), lives: story.machine.boots.len(), broken: story.broken, said }
}

impl Story {
    /// A device that is connected, and whose daemon runs below strace with these options.
    async fn begin(down: Down, strace: &[String]) -> Self {
        let setup = Setup { answers: "events", sessions: true, config: CONFIG, ..Setup::default() };
        let device = Device::new(setup).await;
        let telemetry = device.cloud.telemetry().await.expect("a tap");
        let states = device.cloud.state_changes().await.expect("a tap");
        let mut machine = Machine::new(&device);
        machine.boot();
        let mut story = Self {
            machine,
            daemon: None,
            strace: None,
            device,
            telemetry,
            states,
            down,
            answers: Vec::new(),
            twin: Value::Null,
            is_fresh: false,
            asked: BTreeSet::new(),
            broken: Vec::new(),
            was_started: false,
            is_started: false,
            patience: PATIENCE,
        };
        story.start(strace);
        story.device.wait_until_ready().await;
        let is_quiet = async {
            while !story.is_fresh || !story.is_acknowledged().await {
                tokio::time::sleep(LOOK).await;
                story.hear();
            }
        };
        tokio::time::timeout(PATIENCE, is_quiet).await.expect("it says what it is, and has nothing to do");
        story
    }

    fn start(&mut self, strace: &[String]) {
        self.hear();
        self.is_fresh = false;
        self.daemon = Some(self.machine.start(strace));
    }

    /// The machine goes down and comes back.
    fn reboot(&mut self) {
        self.note_journal();
        self.machine.down(self.down);
        (self.daemon, self.strace) = (None, None);
        self.is_started = false;
        self.machine.boot();
    }

    /// The undisturbed first life, and the begin of the second one, below strace with these options.
    async fn is_asked_and_rebooted(&mut self, strace: &[String]) {
        assert_eq!(self.live().await, End::Asked, "nothing has happened yet: {}", self.said());
        self.reboot();
        self.start(strace);
    }

    /// Whether this is seen in time.
    async fn until(&mut self, seen: impl AsyncFn(&Self) -> bool) -> bool {
        let begun = Instant::now();
        while !seen(self).await {
            if begun.elapsed() > self.patience {
                return false;
            }
            tokio::time::sleep(LOOK).await;
            self.hear();
        }
        true
    }

    /// Sends the command. Its session is kept, so it comes again until it is acknowledged.
    async fn send(&self) {
        let (cloud, name) = (self.device.cloud.clone(), self.device.name.clone());
        let sent = tokio::spawn(async move { cloud.send_command(&name, "rebootDevice/r-1", COMMAND).await });
        let is_sent = async {
            while !sent.is_finished() && self.is_acknowledged().await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, is_sent).await.expect("the cloud sends it");
    }

    /// Whether the device has acknowledged all that was sent to it.
    async fn is_acknowledged(&self) -> bool {
        self.device.cloud.unsettled(&self.device.name).await.expect("the device") == 0
    }

    /// Takes note of what the cloud has heard.
    fn hear(&mut self) {
        while let Ok(event) = self.telemetry.try_recv() {
            self.answers.push(serde_json::from_slice(&event.payload).expect("a JSON answer"));
        }
        while let Ok(state) = self.states.try_recv() {
            self.twin = serde_json::from_slice(&state.payload).expect("a JSON document");
            self.is_fresh = true;
        }
    }

    /// The answers to the command, repetitions included.
    fn answers(&self) -> impl Iterator<Item = &Value> {
        self.answers.iter().filter(|answer| answer["id"] == "r-1")
    }

    fn outcomes(&self) -> impl Iterator<Item = &Value> {
        self.answers().filter(|answer| answer["status"] != 202)
    }

    /// Whether there is a request that was not there before.
    fn note_request(&mut self) -> bool {
        let Ok(request) = fs::read_to_string(self.machine.path("run-reboot/request")) else { return false };
        if !self.asked.insert(request) {
            return false;
        }
        // What was told before it was asked has been heard by now.
        self.hear();
        if !self.answers().any(|answer| answer["status"] == 202) {
            self.broken.push("asked for a reboot before the cloud knew of it".to_owned());
        }
        if self.is_started {
            self.broken.push("asked again in the boot in which it had asked, or may have".to_owned());
        }
        if self.asked.len() > 1 {
            self.broken.push(format!("asked for {} reboots", self.asked.len()));
        }
        true
    }

    fn note_journal(&mut self) {
        self.was_started |= self.machine.journal().contains(STARTED);
    }

    fn is_over(&mut self) -> bool {
        self.daemon.as_mut().expect("it was started").is_over()
    }

    /// Until something has become of this life.
    async fn live(&mut self) -> End {
        let begun = Instant::now();
        let mut awaits = None;
        loop {
            let is_over = self.is_over();
            self.hear();
            if self.note_request() {
                return End::Asked;
            }
            if is_over {
                return End::Killed;
            }
            if self.is_fresh && self.twin["reboot"]["state"] == "completed" && self.outcomes().next().is_some() {
                return End::Told;
            }
            if self.is_fresh && self.twin["reboot"]["state"] == "rebooting" {
                let since = *awaits.get_or_insert_with(Instant::now);
                if since.elapsed() > STILL {
                    return End::Awaits;
                }
            }
            if begun.elapsed() > self.patience {
                return End::Silent;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// As long as it may still do something. Whether it was ended meanwhile.
    async fn linger(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < STILL {
            if self.is_over() {
                return true;
            }
            self.hear();
            self.note_request();
            tokio::time::sleep(LOOK).await;
        }
        false
    }

    /// Life after life, until the outcome is told.
    async fn go_on(&mut self) {
        for _ in 0..MOST_LIVES {
            (self.daemon, self.strace) = (None, None);
            self.start(&[]);
            match self.live().await {
                // It is not asked for again, and comes all the same: somebody pulls the plug.
                End::Asked | End::Awaits => self.reboot(),
                End::Told => return self.end().await,
                End::Killed => return self.broken.push("the daemon ended by itself".to_owned()),
                End::Silent => return self.broken.push("no outcome is told".to_owned()),
            }
        }
        self.broken.push(format!("no outcome after {MOST_LIVES} lives"));
    }

    /// The command comes once more, and another one; then all that was promised must be so.
    async fn end(&mut self) {
        let Device { cloud, name, .. } = &self.device;
        for (subfolder, payload) in [("rebootDevice/r-1", COMMAND), ("count/next", "")] {
            if let Err(error) = cloud.send_command(name, subfolder, payload).await {
                self.broken.push(format!("{subfolder} is not taken: {error}"));
            }
        }
        let begun = Instant::now();
        let is_next = |answer: &Value| answer["id"] == "next" && answer["status"] == 200;
        while !self.answers.iter().any(is_next) && begun.elapsed() < self.patience {
            tokio::time::sleep(LOOK).await;
            self.hear();
        }
        self.note_request();
        self.broken.extend(self.judge());
    }

    /// What of the end is not as it was promised.
    fn judge(&self) -> Vec<String> {
        let mut broken = Vec::new();
        if counted(&self.machine.path("counted")).get("next") != Some(&1) {
            broken.push("the next command does not run".to_owned());
        }
        let mut outcomes = self.outcomes();
        let outcome = outcomes.next().expect("it was told");
        if let Some(other) = outcomes.find(|other| *other != outcome) {
            broken.push(format!("two outcomes: {outcome} and {other}"));
        }
        let (told, twin, boots) = (&outcome["payload"], &self.twin, &self.machine.boots);
        let proof = boots.iter().skip(1).find(|boot| told["bootId"] == **boot);
        if outcome["status"] != 200 || proof.is_none() || !told["rebootTime"].is_string() {
            broken.push(format!("not proved by another boot: {outcome}"));
        }
        // Nothing else was the cause where it was asked for, and where nothing was asked for it is not.
        let is_by_command = told["cause"] == "command";
        if (!self.asked.is_empty() && !is_by_command) || (!self.was_started && is_by_command) {
            broken.push(format!("another cause than it had: {outcome}"));
        }
        // It tells of the last reboot, and there may have been another one since.
        let is_of_it = twin["reboot"]["commandId"] == "r-1" || proof != boots.last();
        if !is_of_it || twin["reboot"]["bootId"] != **boots.last().expect("it is on") || !twin["rebootTime"].is_string()
        {
            broken.push(format!("the twin tells of another reboot: {twin}"));
        }
        broken
    }

    /// For a person who looks for the reason.
    fn said(&self) -> String {
        let Self { answers, twin, asked, .. } = self;
        format!("{answers:#?}\n{twin:#}\n{asked:?}\n{}", self.machine.messages())
    }
}
