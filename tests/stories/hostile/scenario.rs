//! One scenario: what the cloud does, for how long, what the agent must say of it, and what must be true afterwards.

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use twinagent::bridge::{Door, Fault, Times};

use super::reasons;
use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, Setup};
use crate::log::Log;

on_both_clouds! {
    a_client_without_patience_is_told_from_the_agent,
}

/// Tries to connect in the first second, and in each further one, that are no hot loop: each wait is any time up to a
/// second (full jitter, both caps at their least), so that two tries a second are to be expected, and more than twice
/// as many and six are not in a million runs.
const AT_ONCE: f64 = 6.0;
const EACH_SECOND: f64 = 4.0;

/// How long the next good command may take to be answered, on a machine that does much else.
const WELL_WITHIN: Duration = Duration::from_secs(30);

/// What the cloud does.
pub(super) enum Does {
    /// To everybody who comes, from before the agent starts until the scenario is over.
    Door(Door),
    /// At each login, likewise.
    Logins(Vec<Fault>),
    /// To a session that stands: these faults until the scenario is over, and these bytes once.
    Session(Vec<Fault>, Vec<Bytes>),
    /// To a session that stands, whatever it is.
    Other(for<'a> fn(&'a mut Device) -> Doing<'a>),
}

pub(super) type Doing<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// On which clouds a scenario is told.
pub(super) enum Where {
    Everywhere,
    /// With the reason.
    Alone(Kind, &'static str),
}

impl Where {
    pub(super) fn is_on(&self, kind: Kind) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Alone(alone, why) => {
                assert!(!why.is_empty(), "it has a reason");
                *alone == kind
            }
        }
    }
}

pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) told: Where,
    pub(super) does: Does,
    pub(super) lasts: Duration,
    /// The codes of the reasons that the log must name, and no others. Without any, the session must last.
    pub(super) reasons: &'static [&'static str],
    pub(super) setup: fn(Kind) -> Setup,
}

/// What was measured.
pub(super) struct Figures {
    tries: u64,
    took: Duration,
    well_after: Duration,
    reasons: BTreeSet<&'static str>,
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minute = 60.0 / self.took.as_secs_f64();
        let (tries, bound) = (to_float(self.tries) * minute, bound(self.took) * minute);
        let reasons: Vec<_> = self.reasons.iter().copied().collect();
        let well = self.well_after.as_secs_f64();
        write!(out, "{tries:>8.0} {bound:>9.0} {well:>9.1} s  {}", reasons.join(" "))
    }
}

/// The most tries that are no hot loop in this time.
fn bound(took: Duration) -> f64 {
    AT_ONCE + EACH_SECOND * took.as_secs_f64()
}

fn to_float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

impl Scenario {
    pub(super) async fn live(&self, kind: Kind) -> Figures {
        let log = Log::listen();
        let mut device = Device::new((self.setup)(kind)).await;
        let mut began = Instant::now();
        let mut accepted = 0;
        match &self.does {
            Does::Door(door) => {
                device.cloud.set_door(door.clone());
                device.start();
            }
            Does::Logins(each) => {
                ask(&device, each).await;
                device.start();
            }
            Does::Session(..) | Does::Other(_) => {
                device.start();
                device.wait_until_ready().await;
                device.send("count/before", "").await;
                device.answer("before", 200).await;
                (began, accepted) = (Instant::now(), device.cloud.accepted());
                match &self.does {
                    Does::Session(each, bytes) => {
                        ask(&device, each).await;
                        for bytes in bytes {
                            device.cloud.write(bytes.clone()).await;
                        }
                    }
                    Does::Other(other) => other(&mut device).await,
                    Does::Door(_) | Does::Logins(_) => {}
                }
            }
        }
        sleep(self.lasts.saturating_sub(began.elapsed())).await;
        let expected: BTreeSet<_> = self.reasons.iter().copied().collect();
        // On a machine that stood still meanwhile they take longer to come about.
        let all_named = async {
            while !reasons::named(&log.text()).is_superset(&expected) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        // Those that were not named are told below.
        let _ = timeout(WELL_WITHIN, all_named).await;
        let (tries, took) = (device.cloud.accepted() - accepted, began.elapsed());
        assert!(to_float(tries) <= bound(took), "a hot loop: {tries} tries in {took:?}\n{}", log.text());
        // What is said from here on may be of what the cloud finds when it wakes up.
        let reasons = reasons::named(&log.text());
        let over = Instant::now();
        device.cloud.set_door(Door::Open);
        device.cloud.clear_faults().await;
        assert!(good_command(&mut device).await, "the next good command is not answered\n{}", log.text());
        let figures = Figures { tries, took, well_after: over.elapsed(), reasons };
        device.stop().await;
        for (id, times) in device.counted() {
            assert!(times == 1 && !id.starts_with("never"), "{id} ran {times} times\n{}", log.text());
        }
        let mut named = figures.reasons.clone();
        if expected.contains("taken-over") {
            // Who is driven out before the subscriptions are granted was never online; that is a matter of moments.
            named.remove("closed");
        }
        assert_eq!(named, expected, "these reasons were named, and those expected\n{}", log.text());
        if self.reasons.is_empty() {
            assert_eq!(tries, 0, "the session was to last\n{}", log.text());
        }
        figures
    }
}

async fn ask(device: &Device, each: &[Fault]) {
    for fault in each {
        device.cloud.add_fault(fault.clone(), Times::Always).await;
    }
}

/// A command that must be answered now that nothing is wrong any more. Its caller sends it again, under its id, if the
/// connection is lost under it or the device has too much to do, as wise callers do. False: it is not.
pub(super) async fn good_command(device: &mut Device) -> bool {
    let well = async {
        loop {
            if device.cloud.send("count/after", "").await.is_ok()
                && timeout(Duration::from_secs(3), device.answer("after", 200)).await.is_ok()
            {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(WELL_WITHIN, well).await.is_ok() && device.counted().get("after") == Some(&1)
}

/// Without a back-off the bound is broken within a second.
async fn a_client_without_patience_is_told_from_the_agent(kind: Kind) {
    let device = Device::new(Setup::on(kind)).await;
    device.cloud.set_door(Door::Reset);
    let addresses = device.bridge.addresses();
    let address = addresses.mqtt.or(addresses.mqtts).expect("a listener");
    let began = Instant::now();
    let (tries, bound) = loop {
        // A reset may come before the end of the handshake is seen.
        let _ = TcpStream::connect(address).await;
        let took = began.elapsed();
        let (tries, bound) = (to_float(device.cloud.accepted()), bound(took));
        // A machine that stands still in this second takes longer to get beyond the bound, which rises meanwhile.
        if took > Duration::from_secs(1) && tries > bound || took > WELL_WITHIN {
            break (tries, bound);
        }
    };
    println!("{tries} tries without a back-off; {bound:.0} would be none too many");
    assert!(tries > bound);
}
