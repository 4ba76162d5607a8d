//! Ten thousand devices lose their broker at one moment. When do they come back?
//!
//! Only the model lives here: each device has its own connection and its own seed. The table is printed, and the fleet must
//! not come back as one. Run it with `--nocapture` to see the figures.

#![allow(clippy::print_stdout, reason = "the table is what the tests show")]

use std::time::Duration;

use twinagent::model::connection::{Connection, Step, Terms};
use twinagent::model::now::BootInstant;
use twinagent::model::wire::Reason;

const FLEET: u32 = 10_000;

/// The defaults of the configuration.
fn terms() -> Terms {
    Terms {
        lease: Some(Duration::from_secs(3_600)),
        backoff_max: Duration::from_secs(300),
        backoff_max_refused: Duration::from_secs(900),
        provisioned: false,
    }
}

/// What befalls the fleet.
struct Outage {
    lasts: Duration,
    /// How a try ends while it lasts.
    fails: fn() -> Reason,
    /// For how long such a try keeps the device busy.
    failing: Duration,
}

/// When one device is back after the end of the outage, and how often it tried until then.
fn comes_back(seed: u64, outage: &Outage) -> (Duration, u32) {
    let mut device = Connection::new(terms(), seed);
    assert!(matches!(device.next(true, true, BootInstant::default()), Some(Step::Connect(_))));
    device.online(BootInstant::default());
    let begins = BootInstant(Duration::from_secs(120));
    let ends = begins + outage.lasts;
    device.next(true, true, begins);
    device.offline(Reason::Lost("reset by peer".to_owned()), true, begins);
    for tries in 1.. {
        let due = device.deadline().expect("a try is due");
        assert!(matches!(device.next(true, true, due), Some(Step::Connect(_))), "{device:?}");
        if due >= ends {
            return (due.since(ends), tries);
        }
        device.offline((outage.fails)(), true, due + outage.failing);
    }
    unreachable!("a device tries until it is back");
}

/// How a fleet comes back.
struct Return {
    /// Arrivals in each second after the end of the outage.
    seconds: Vec<u32>,
    /// Tries of all devices together.
    tries: u32,
}

impl Return {
    fn of(seeds: impl Iterator<Item = u32>, outage: &Outage) -> Self {
        let (mut seconds, mut all) = (Vec::new(), 0);
        for seed in seeds {
            let (after, tries) = comes_back(u64::from(seed), outage);
            let second = usize::try_from(after.as_secs()).expect("a small number");
            if seconds.len() <= second {
                seconds.resize(second + 1, 0);
            }
            seconds[second] += 1;
            all += tries;
        }
        Self { seconds, tries: all }
    }

    fn peak(&self) -> u32 {
        self.seconds.iter().copied().max().unwrap_or_default()
    }

    /// Of the seconds until the last device is back, 99 in 100 see no more arrivals than this.
    fn p99(&self) -> u32 {
        let mut sorted = self.seconds.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() * 99 / 100).copied().unwrap_or_default()
    }

    /// Seconds until 99 % of the fleet are back.
    fn nearly_all(&self) -> usize {
        let arrived = self.seconds.iter().scan(0, |sum, seconds| {
            *sum += *seconds;
            Some(*sum)
        });
        arrived.take_while(|sum| sum * 100 < FLEET * 99).count() + 1
    }

    fn row(&self, name: &str) -> String {
        format!(
            "{name:>8} {:>10} {:>10.2} % {:>10} {:>16} s {:>11.1}\n",
            self.peak(),
            f64::from(self.peak()) * 100.0 / f64::from(FLEET),
            self.p99(),
            self.nearly_all(),
            f64::from(self.tries) / f64::from(FLEET),
        )
    }
}

fn head(what: &str) -> String {
    format!(
        "\n{FLEET} devices, {what}\n{:>8} {:>10} {:>12} {:>10} {:>18} {:>11}\n",
        "outage", "peak per s", "of the fleet", "p99 per s", "99 % back after", "tries each"
    )
}

fn unreachable() -> Reason {
    Reason::Tcp("connection refused".to_owned())
}

const OUTAGES: [(&str, u64); 4] = [("10 s", 10), ("1 min", 60), ("10 min", 600), ("2 h", 7_200)];

#[test]
fn a_fleet_comes_back_spread_out_after_an_outage() {
    for (what, failing) in [("refused by the kernel at once", 0), ("each try lost after 30 s", 30)] {
        let mut table = head(what);
        for (name, seconds) in OUTAGES {
            let (lasts, failing) = (Duration::from_secs(seconds), Duration::from_secs(failing));
            let back = Return::of(0..FLEET, &Outage { lasts, fails: unreachable, failing });
            table += &back.row(name);
            if seconds >= 600 {
                assert!(back.peak() * 100 < FLEET * 2, "{} in one second after {name}", back.peak());
                assert!(back.nearly_all() <= 300, "the longest wait is five minutes");
            }
        }
        println!("{table}");
    }
}

#[test]
fn a_fleet_whose_logins_were_refused_comes_back_slowly() {
    let mut table = head("every login refused");
    for (name, seconds) in OUTAGES {
        let outage = Outage {
            lasts: Duration::from_secs(seconds),
            fails: || Reason::Refused { code: 5 },
            failing: Duration::from_millis(200),
        };
        let back = Return::of(0..FLEET, &outage);
        table += &back.row(name);
        if seconds >= 600 {
            assert!(back.peak() * 100 < FLEET * 2, "{} in one second after {name}", back.peak());
            assert!(back.nearly_all() <= 900, "the longest wait is a quarter of an hour");
        }
    }
    println!("{table}");
}

/// The judge notices a fleet that is not kept apart: the same dice in every device.
#[test]
fn a_fleet_with_one_seed_comes_back_as_one() {
    let outage = Outage { lasts: Duration::from_secs(600), fails: unreachable, failing: Duration::ZERO };
    let back = Return::of((0..FLEET / 10).map(|_| 7), &outage);
    assert_eq!(back.peak(), FLEET / 10);
}

/// A new configuration reaches all of it at one moment. Each device takes its own time to act on it, five seconds at most,
/// whether it has a session or waits.
#[test]
fn a_fleet_that_is_given_one_configuration_does_not_come_back_at_one_moment() {
    let given = BootInstant(Duration::from_secs(20_000));
    let last = given + Duration::from_secs(5);
    let mut moments: Vec<Duration> = (0..1_000)
        .map(|seed| {
            let mut standing = Connection::new(terms(), seed);
            let mut waiting = standing.clone();
            let lately = BootInstant(Duration::from_secs(19_900));
            standing.next(true, true, lately);
            standing.online(lately);
            // Twenty waits of a quarter of an hour at most.
            for _ in 0..20 {
                let due = waiting.deadline().expect("a try");
                waiting.next(true, true, due);
                waiting.offline(Reason::Refused { code: 5 }, true, due);
            }
            waiting.next(true, true, given);
            waiting.offline(Reason::Refused { code: 5 }, true, given);
            let mut hurried = waiting.clone();
            hurried.hurry(given);
            for connection in [&mut standing, &mut waiting] {
                connection.set_terms(terms(), true, given);
            }
            for connection in [&standing, &waiting, &hurried] {
                assert!(connection.deadline().is_some_and(|due| due <= last), "{connection:?}");
            }
            standing.deadline().expect("a renewal").since(given)
        })
        .collect();
    moments.sort();
    for (tenth, most) in (1..=10).zip((500..).step_by(500)) {
        let come = moments.partition_point(|moment| *moment <= Duration::from_millis(most));
        assert!((tenth * 70..=tenth * 130).contains(&come), "after {most} ms: {come} of 1000");
    }
}
