//! The lives of a daemon that is asked for one reboot and ended on the way, until the outcome is told.
//!
//! The story plays root's helper and the machine: where a request lies, the machine goes down. Of the daemon it sees the
//! request, what the cloud hears, and at the end of a life whether the reboot stands in the journal as begun.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use crate::cloud::Cloud;
use crate::device::{Device, PATIENCE, Setup, counted};
use crate::machine::{Down, Machine, Process};
use crate::plan::{After, Moment, Plan, Road, Seen};
use crate::point::{Point, Strace, points};
use crate::witness::{Facts, Witness};

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
    device: Device,
    witness: Witness,
    /// How the machine goes down.
    down: Down,
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
pub(crate) async fn watch(road: Road) -> Vec<Moment> {
    let mut story = Story::begin(road, Down::Reset, Strace::Watching).await;
    let arrives = story.machine.seen().lines().count();
    story.send().await;
    assert_eq!(story.live().await, End::Asked, "{}", story.said());
    story.linger().await;
    let before = points(&story.machine.seen(), arrives, story.machine.folder());
    story.reboot();
    story.start(Strace::Watching);
    assert_eq!(story.live().await, End::Told, "{}", story.said());
    story.linger().await;
    let after = points(&story.machine.seen(), 0, story.machine.folder());
    story.end().await;
    assert_eq!(story.broken, [""; 0], "undisturbed: {}", story.said());
    let before = before.into_iter().map(Moment::BeforeTheReboot);
    before.chain(after.into_iter().map(Moment::AfterTheReboot)).collect()
}

/// One story with one end.
pub(crate) async fn cut(plan: &Plan) -> Seen {
    let Plan { road, moment, after, synced } = plan;
    let down = if *after == After::PowerCut { Down::PowerCut } else { Down::Reset };
    let strace = if *synced { Strace::Absent } else { Strace::Unsyncing };
    let first = if let Moment::BeforeTheReboot(point) = moment { Strace::Killing(point) } else { strace };
    let mut story = Story::begin(*road, down, first).await;
    story.send().await;
    let hit = match moment {
        Moment::BeforeTheReboot(point) => story.is_ended_at(point).await,
        Moment::AfterTheReboot(point) => {
            story.is_asked_and_rebooted(Strace::Killing(point)).await;
            story.is_ended_at(point).await
        }
        Moment::Acknowledged => story.until(async |story| story.is_acknowledged().await).await,
        Moment::Accepted => story.until(async |story| story.witness.has_heard("r-1", 202)).await,
        Moment::Asked => story.live().await == End::Asked,
        Moment::Told => {
            // A power cut here would leave nothing to be told.
            story.down = Down::Reset;
            story.is_asked_and_rebooted(strace).await;
            story.down = down;
            story.live().await == End::Told
        }
    };
    story.note_request();
    story.witness.hear();
    let (acknowledged, told) = (story.is_acknowledged().await, story.witness.has_outcome());
    if *after == After::Restart && story.is_over() {
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
    Seen { hit, acknowledged, told, asked: story.asked.len(), broken: story.broken, said }
}

impl Story {
    /// A device that is connected, and whose daemon runs below strace.
    async fn begin(road: Road, down: Down, strace: Strace<'_>) -> Self {
        // An address: the look-up of a name is a thread of its own, and its calls would have no order among the others.
        let setup =
            Setup { answers: road.answers, sessions: true, host: "127.0.0.1", config: CONFIG, ..Setup::on(road.cloud) };
        let device = Device::new(setup).await;
        let witness = Witness::of(&device.cloud).await;
        let mut machine = Machine::new(&device);
        machine.boot();
        let mut story = Self {
            machine,
            daemon: None,
            device,
            witness,
            down,
            asked: BTreeSet::new(),
            broken: Vec::new(),
            was_started: false,
            is_started: false,
            patience: PATIENCE,
        };
        story.start(strace);
        story.device.wait_until_ready().await;
        let is_quiet = async {
            while !story.witness.is_fresh || !story.is_acknowledged().await {
                tokio::time::sleep(LOOK).await;
                story.witness.hear();
            }
        };
        tokio::time::timeout(PATIENCE, is_quiet).await.expect("it says what it is, and has nothing to do");
        story
    }

    fn start(&mut self, strace: Strace<'_>) {
        self.witness.turn_the_page();
        self.daemon = Some(self.machine.start(strace));
    }

    /// The machine goes down and comes back.
    fn reboot(&mut self) {
        self.note_journal();
        self.machine.down(self.down);
        self.daemon = None;
        self.is_started = false;
        self.machine.boot();
    }

    /// The undisturbed first life, and the begin of the second one, below strace.
    async fn is_asked_and_rebooted(&mut self, strace: Strace<'_>) {
        assert_eq!(self.live().await, End::Asked, "nothing has happened yet: {}", self.said());
        self.reboot();
        self.start(strace);
    }

    /// Whether the daemon, which runs below strace, ends at this point and at no other.
    async fn is_ended_at(&mut self, point: &Point) -> bool {
        let is_over = self.live().await == End::Killed || self.linger().await;
        is_over && point.is_last_of(&self.machine.seen(), self.machine.folder())
    }

    /// Whether this is seen in time.
    async fn until(&mut self, seen: impl AsyncFn(&Self) -> bool) -> bool {
        let begun = Instant::now();
        while !seen(self).await {
            if begun.elapsed() > self.patience {
                return false;
            }
            tokio::time::sleep(LOOK).await;
            self.witness.hear();
        }
        true
    }

    /// Sends the command. Its session is kept, so it comes again until it is acknowledged.
    async fn send(&self) {
        let cloud = self.device.cloud.clone();
        let sent = tokio::spawn(async move { cloud.send("rebootDevice/r-1", COMMAND).await });
        let is_sent = async {
            while !sent.is_finished() && self.is_acknowledged().await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, is_sent).await.expect("the cloud sends it");
    }

    /// Whether the device has acknowledged all that was sent to it.
    async fn is_acknowledged(&self) -> bool {
        let unsettled = match &self.device.cloud {
            Cloud::IotCore(cloud) => cloud.service.unsettled(&cloud.name).await.expect("the device"),
            Cloud::IotHub(cloud) => cloud.service.unsettled(&cloud.name).await.expect("the device"),
        };
        unsettled == 0
    }

    /// Whether there is a request that was not there before.
    fn note_request(&mut self) -> bool {
        let Ok(request) = fs::read_to_string(self.machine.path("run-reboot/request")) else { return false };
        if !self.asked.insert(request) {
            return false;
        }
        // What was told before it was asked has been heard by now.
        self.witness.hear();
        if !self.witness.has_heard("r-1", 202) {
            self.broken.push("asked for a reboot before the cloud knew of it".to_owned());
        }
        if self.is_started {
            self.broken.push("asked again in the boot in which it had asked, or may have".to_owned());
        }
        if self.asked.len() > 1 {
            self.broken.push("asked for a second reboot".to_owned());
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
        let mut awaits: Option<Instant> = None;
        loop {
            let is_over = self.is_over();
            self.witness.hear();
            if self.note_request() {
                return End::Asked;
            }
            if is_over {
                return End::Killed;
            }
            if self.witness.says("completed") && self.witness.has_outcome() {
                return End::Told;
            }
            // Where none was asked for yet, a request may be as late as the machine is slow.
            let may_be_asked = self.was_started || !self.asked.is_empty();
            awaits = awaits.or_else(|| Some(Instant::now())).filter(|_| may_be_asked && self.witness.says("rebooting"));
            if awaits.is_some_and(|since| since.elapsed() > STILL) {
                return End::Awaits;
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
            self.witness.hear();
            self.note_request();
            tokio::time::sleep(LOOK).await;
        }
        false
    }

    /// Life after life, until the outcome is told.
    async fn go_on(&mut self) {
        for _ in 0..MOST_LIVES {
            self.daemon = None;
            self.start(Strace::Absent);
            match self.live().await {
                // It is not asked for again, and comes all the same: somebody pulls the plug.
                End::Asked | End::Awaits => self.reboot(),
                End::Told => return self.end().await,
                End::Killed => return self.broken.push("the daemon ended by itself".to_owned()),
                End::Silent => {
                    self.broken.push("no outcome is told".to_owned());
                    // As its caller would. A device that remembers does not ask for it again.
                    self.send().await;
                    self.live().await;
                    return;
                }
            }
        }
        self.broken.push(format!("no outcome after {MOST_LIVES} lives"));
    }

    /// The command comes once more, and another one; then all that was promised must be so.
    async fn end(&mut self) {
        let Device { cloud, .. } = &self.device;
        for (subfolder, payload) in [("rebootDevice/r-1", COMMAND), ("count/next", "")] {
            if let Err(error) = cloud.send(subfolder, payload).await {
                self.broken.push(format!("{subfolder} is not taken: {error:?}"));
            }
        }
        let begun = Instant::now();
        while !self.witness.has_heard("next", 200) && begun.elapsed() < self.patience {
            tokio::time::sleep(LOOK).await;
            self.witness.hear();
        }
        if counted(&self.machine.path("counted")).get("next") != Some(&1) {
            self.broken.push("the next command does not run".to_owned());
        }
        self.note_request();
        let facts =
            Facts { boots: &self.machine.boots, was_asked: !self.asked.is_empty(), was_started: self.was_started };
        self.broken.extend(self.witness.judge(&facts));
    }

    /// For a person who looks for the reason.
    fn said(&self) -> String {
        format!("{}\n{:?}\n{}", self.witness.said(), self.asked, self.machine.messages())
    }
}
