//! What a renewal of the login costs: a thousand of them, under a stream of recorded commands, over TLS and a way of
//! 60 ms there and back. Beside the agent, at the same time, under the same stream and over the same way, a client that
//! makes a new connection for each token in the usual manner.
//!
//! The cloud closes a connection at the very end of its token's life. Prints figures and judges none: machines differ.
//!
//! `cargo bench --features bridge --bench renewals [-- RENEWALS]`

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
#![allow(clippy::print_stdout, reason = "its figures are what it is for")]

mod agent;
#[allow(dead_code, reason = "the other bench needs all of it")]
#[path = "../commands/figures.rs"]
mod figures;
mod relay;
mod sender;
mod site;
mod usual;
mod watch;

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_blocking, spawn_local};
use tokio::time::{Instant, sleep, timeout};
use twinagent::bridge::{Cloud, DeviceName};
use twinagent::dialect::token;

use agent::Agent;
use figures::Times;

/// Devices of each kind. Together they renew often enough for a thousand renewals in a few minutes.
const DEVICES: usize = 60;
const RENEWALS: u64 = 1_000;
/// For all of them; then what there is is told.
const WITHIN: Duration = Duration::from_secs(310);
/// For the answers that are still under way when no more is sent.
const SETTLE: Duration = Duration::from_secs(15);
/// For all devices to be there.
const BEGIN: Duration = Duration::from_secs(60);
/// How often the agents are asked what they say of their renewals; more often than they renew.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// Ids of commands that the usual clients ran and nobody has counted yet.
const RAN: usize = 1_024;

fn main() {
    let wanted = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(RENEWALS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, bench(wanted));
}

/// All devices of one kind.
struct Kind {
    name: &'static str,
    devices: Vec<DeviceName>,
    books: sender::Shared,
    seen: watch::Shared,
}

async fn bench(wanted: u64) {
    let site = site::start().await;
    let (mut ours, mut agents) = (Kind::new("twinagent"), Vec::new());
    for number in 0..DEVICES {
        let id = format!("agent-{number:02}");
        let (folder, public) = agent::prepare(&id, site.relay.port(), &site.ca_file);
        ours.devices.push(site.cloud.create_device(&site.registry, &id, &public).await.expect("a device"));
        agents.push(folder);
    }
    println!("{}", figures::machine(agents[0].path()));
    let mut agents: Vec<_> = agents.into_iter().map(Agent::start).collect();

    let mut usual = Kind::new("new client");
    let port = usual::tunnel(site.relay, &site.ca_file).await;
    let (ran, counting) = mpsc::channel(RAN);
    for number in 0..DEVICES {
        let id = format!("usual-{number:02}");
        let (_, key) = token::generate().expect("a key");
        let device = site.cloud.create_device(&site.registry, &id, &key.public_pem()).await.expect("a device");
        usual.devices.push(device.clone());
        spawn_local(usual::live(device, key, port, ran.clone()));
    }
    let mut usual_ran = HashMap::new();
    drop(ran);

    for kind in [&ours, &usual] {
        for device in &kind.devices {
            site.cloud.wait_until_ready(device, BEGIN).await.expect("each device connects");
        }
    }
    let answers = site.cloud.telemetry().await.expect("a tap");
    spawn_local(sender::hear(answers, vec![ours.books.clone(), usual.books.clone()]));
    let (logins_ours, logins_usual) = (ours.logins(&site.cloud).await, usual.logins(&site.cloud).await);
    let senders: Vec<_> = [&ours, &usual].into_iter().flat_map(|kind| kind.begin(&site.cloud)).collect();

    let begun = Instant::now();
    let end = async {
        while ours.logins(&site.cloud).await - logins_ours < wanted && begun.elapsed() < WITHIN {
            sleep(ASK_EVERY).await;
            for agent in &mut agents {
                let runtime = agent.runtime();
                agent.note(spawn_blocking(move || agent::last_renewal(&runtime)).await.expect("no panic"));
            }
        }
        let renewed = (ours.logins(&site.cloud).await - logins_ours, usual.logins(&site.cloud).await - logins_usual);
        for sender in senders {
            sender.abort();
        }
        let settled = async {
            while [&ours, &usual].iter().any(|kind| kind.books.borrow().lost() > 0) {
                sleep(Duration::from_millis(100)).await;
            }
        };
        // What does not come within this time is lost.
        let _ = timeout(SETTLE, settled).await;
        renewed
    };
    let renewed = tokio::select! {
        renewed = end => renewed,
        () = usual::count(counting, &mut usual_ran) => unreachable!("the usual clients live on"),
    };

    let ours_ran: HashMap<_, _> = agents.iter().flat_map(Agent::ran).collect();
    println!(
        "\n{DEVICES} devices of each kind, tokens of {} s, a round trip of {} ms, TLS; {} s",
        site::LIFETIME.as_secs(),
        2 * relay::ONE_WAY.as_millis(),
        begun.elapsed().as_secs()
    );
    println!(
        "{:>12} {:>9} {:>9} {:>6} {:>10} {:>9} {:>9} {:>11}",
        "", "renewals", "commands", "lost", "run twice", "refused", "cut off", "complaints"
    );
    ours.print_counts(renewed.0, &ours_ran);
    usual.print_counts(renewed.1, &usual_ran);
    println!("\nAway at a renewal, as the cloud sees it, in ms");
    println!("{:>12} {:>8} {:>8} {:>8} {:>8}", "", "seen", "p50", "p99", "longest");
    for kind in [&ours, &usual] {
        print_times(kind.name, &kind.seen.borrow().gaps);
    }
    let mut told = Times::default();
    for gap in agents.iter().flat_map(Agent::told) {
        told.push(gap);
    }
    print_times("as it says", &told);
    println!("\nFrom the first try of a command to its answer, in ms");
    println!("{:>12} {:>8} {:>8} {:>8} {:>8}", "", "answers", "p50", "p99", "longest");
    for kind in [&ours, &usual] {
        let mut times = Times::default();
        for time in kind.books.borrow().answered.values() {
            times.push(*time);
        }
        print_times(kind.name, &times);
    }
    for kind in [&ours, &usual] {
        for complaint in kind.seen.borrow().complaints.iter().take(3) {
            println!("{}: {complaint}", kind.name);
        }
    }
}

impl Kind {
    fn new(name: &'static str) -> Self {
        Self { name, devices: Vec::new(), books: sender::Shared::default(), seen: watch::Shared::default() }
    }

    /// Begins to send and to watch; what is returned sends.
    fn begin(&self, cloud: &Cloud) -> Vec<tokio::task::JoinHandle<()>> {
        let each = self.devices.iter().zip(0_u32..).map(|(device, number)| {
            spawn_local(watch::gaps(cloud.clone(), device.clone(), self.seen.clone()));
            spawn_local(watch::complaints(cloud.clone(), device.clone(), self.seen.clone()));
            let offset = Duration::from_millis(17) * number;
            spawn_local(sender::send(cloud.clone(), device.clone(), self.books.clone(), offset))
        });
        each.collect()
    }

    /// Of all devices together.
    async fn logins(&self, cloud: &Cloud) -> u64 {
        let mut logins = 0;
        for device in &self.devices {
            logins += cloud.logins(device).await.expect("a device");
        }
        logins
    }

    fn print_counts(&self, renewals: u64, ran: &HashMap<String, usize>) {
        let books = self.books.borrow();
        let twice = ran.values().filter(|runs| **runs > 1).count();
        let complaints = self.seen.borrow().complaints.len();
        println!(
            "{:>12} {renewals:>9} {:>9} {:>6} {twice:>10} {:>9} {:>9} {complaints:>11}",
            self.name,
            books.begun.len(),
            books.lost(),
            books.refused,
            books.cut,
        );
    }
}

fn print_times(name: &str, times: &Times) {
    if times.len() == 0 {
        println!("{name:>12} {:>8}", 0);
        return;
    }
    let millis = |share| times.quantile(share).as_secs_f64() * 1e3;
    println!("{name:>12} {:>8} {:>8.0} {:>8.0} {:>8.0}", times.len(), millis(0.5), millis(0.99), millis(1.0));
}
