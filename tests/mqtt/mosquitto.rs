//! Against a real broker: Debian's mosquitto, started by the test on a free port of 127.0.0.1.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use twinagent::model::wire::{Qos, Reason, Subscription};
use twinagent::mqtt::{Ask, Event, Link, Order, WINDOW, connect};

use crate::broker::{id, message, next, order};

struct Mosquitto {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Mosquitto {
    async fn start() -> Self {
        let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"]
            .into_iter()
            .find(|path| std::path::Path::new(path).exists());
        let program = program.expect("mosquitto is needed for this test: apt-get install mosquitto");
        let begun = Instant::now();
        let mut broker = Self::begin(program);
        while !broker.told().contains(" running") {
            assert!(begun.elapsed() < Duration::from_secs(30), "mosquitto does not listen: {}", broker.told());
            sleep(Duration::from_millis(20)).await;
            // It ends where somebody was quicker to take the port.
            if broker.process.try_wait().expect("our child").is_some() {
                broker = Self::begin(program);
            }
        }
        broker
    }

    /// Its log, which says when it listens. A connection would not: where somebody else has the port, ours may live for a while.
    fn told(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("its log")
    }

    fn begin(program: &str) -> Self {
        // Of those that the kernel gives to nobody by itself, so no other test takes it between this look and the start.
        static TRIED: AtomicU16 = AtomicU16::new(0);
        let first = u16::try_from(std::process::id() % 10_000).expect("small") * 2;
        let ports = std::iter::from_fn(|| Some(10_000 + (first + TRIED.fetch_add(1, Ordering::Relaxed)) % 20_000));
        let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        let port = ports.take(100).find(is_free).expect("a free port");
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("mosquitto.conf");
        let settings = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nmax_queued_messages 0\n\
             log_dest stderr\nlog_type error\nlog_type information\nconnection_messages false\n"
        );
        fs::write(&config, settings).expect("a file");
        let log = File::create(folder.path().join("log")).expect("a file");
        let process = Command::new(program).arg("-c").arg(&config).stdout(Stdio::null()).stderr(log).spawn();
        Self { process: process.expect("mosquitto starts"), port, folder }
    }

    /// A client that hears what it says itself.
    fn order(&self) -> Order {
        let subscriptions = vec![Subscription { filter: "events".to_owned(), qos: Qos::AtLeastOnce }];
        Order { subscriptions, ..order("127.0.0.1", self.port) }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn online(order: Order) -> (Link, bool) {
    let mut link = connect(order);
    match next(&mut link).await {
        Event::Online { session_kept, .. } => (link, session_kept),
        other => panic!("{other:?}"),
    }
}

const COUNT: usize = 2000;
const NUMBERS: std::ops::Range<u64> = 0..2000;

/// Sends the numbers of the outbox and notes what was settled and heard, until all was or `cut` different ones were heard.
async fn exchange(link: &mut Link, outbox: &mut VecDeque<u64>, heard: &mut Vec<u64>, cut: usize) {
    let mut flying = 0;
    let mut unsent: VecDeque<_> = outbox.iter().copied().collect();
    let mut distinct: BTreeSet<_> = heard.iter().copied().collect();
    while distinct.len() < cut && !(outbox.is_empty() && distinct.len() == COUNT) {
        while flying < WINDOW
            && let Some(number) = unsent.pop_front()
        {
            link.ask(Ask::Publish(id(number), message(Qos::AtLeastOnce, number.to_string()))).expect("taken");
            flying += 1;
        }
        match next(link).await {
            Event::Settled(message) => {
                flying -= 1;
                outbox.retain(|number| *number != message.0);
            }
            Event::Received(delivery, packet) => {
                let number = String::from_utf8_lossy(&packet.payload).parse().expect("a number of ours");
                heard.push(number);
                distinct.insert(number);
                link.ask(Ask::Ack(delivery)).expect("taken");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn two_thousand_messages_both_ways_once_and_in_order() {
    let broker = Mosquitto::start().await;
    let (mut link, kept) = online(broker.order()).await;
    assert!(!kept);
    let mut outbox = NUMBERS.collect();
    let mut heard = Vec::new();
    exchange(&mut link, &mut outbox, &mut heard, usize::MAX).await;
    assert!(heard.iter().copied().eq(NUMBERS), "none lost, none twice, in order");
    link.ask(Ask::Disconnect).expect("taken");
    assert_eq!(next(&mut link).await, Event::Ended(Reason::Planned));

    let (_link, kept) = online(broker.order()).await;
    assert!(kept, "the session outlives a planned end");
}

#[tokio::test]
async fn a_kept_session_is_resumed_after_cuts_and_nothing_is_lost() {
    let broker = Mosquitto::start().await;
    let mut outbox = NUMBERS.collect();
    let mut heard = Vec::new();
    for cut in [300, 700, 1500, usize::MAX] {
        let (mut link, kept) = online(broker.order()).await;
        assert_eq!(kept, cut != 300, "only the first finds no session");
        exchange(&mut link, &mut outbox, &mut heard, cut).await;
        // The link is dropped here, with messages under way in both directions.
    }
    heard.sort_unstable();
    heard.dedup();
    assert!(heard.into_iter().eq(NUMBERS), "what was in flight came again");
}
