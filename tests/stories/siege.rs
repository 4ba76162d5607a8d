//! A story of local peers that mean harm, while commands flow from the cloud.

#![allow(clippy::disallowed_methods, reason = "the story measures how long answers take")]
#![allow(clippy::print_stdout, reason = "the figures are what the story shows")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use twinagent::local::SOCKET;

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, PATIENCE, Setup};
use crate::process::Process;
use crate::program::{done, run};

on_both_clouds! {
    commands_from_the_cloud_are_answered_whatever_local_peers_do,
}

/// Commands of each measurement, one at a time.
const COMMANDS: usize = 200;

/// Besiegers of one kind, at once.
const MANY: usize = 1_000;

/// Those who besiege the socket, until told to stop.
struct Siege {
    stop: Arc<AtomicBool>,
    /// Connections that were made.
    made: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Siege {
    fn begin(socket: &Path) -> Self {
        let mut siege = Self { stop: Arc::default(), made: Arc::default(), threads: Vec::new() };
        // A thousand connections at once, which say nothing; and again.
        siege.keep(socket, |socket, made| {
            let many: Vec<UnixStream> = (0..MANY).filter_map(|_| connect(socket)).collect();
            made.fetch_add(many.len(), Ordering::Relaxed);
        });
        // Half a frame, and then nothing.
        siege.keep(socket, |socket, made| {
            let mut some: Vec<UnixStream> = (0..8).filter_map(|_| connect(socket)).collect();
            made.fetch_add(some.len(), Ordering::Relaxed);
            for stream in &mut some {
                let _ = stream.write_all(br#"{"method":"io.twinagent.Agent.GetSt"#);
            }
            std::thread::sleep(Duration::from_millis(50));
        });
        // A frame that does not end.
        siege.keep(socket, |socket, made| {
            let Some(mut stream) = connect(socket) else { return };
            made.fetch_add(1, Ordering::Relaxed);
            let piece = vec![b' '; 65_536];
            while stream.write_all(&piece).is_ok() {}
        });
        // A byte now and then.
        siege.keep(socket, |socket, made| {
            let Some(mut stream) = connect(socket) else { return };
            made.fetch_add(1, Ordering::Relaxed);
            for byte in br#"{"method":"io.twinagent.Agent.GetStatus"}"# {
                let _ = stream.write_all(&[*byte]);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        // Many questions, and no answer is read.
        siege.keep(socket, |socket, made| {
            let Some(mut stream) = connect(socket) else { return };
            made.fetch_add(1, Ordering::Relaxed);
            let question = b"{\"method\":\"io.twinagent.Agent.GetTwin\"}\0".repeat(1_000);
            let _ = stream.write_all(&question);
            let _ = stream.read(&mut [0; 16]);
        });
        siege
    }

    fn keep(&mut self, socket: &Path, doing: impl Fn(&Path, &AtomicUsize) + Send + 'static) {
        let (stop, made, socket) = (self.stop.clone(), self.made.clone(), socket.to_owned());
        self.threads.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                doing(&socket, &made);
            }
        }));
    }

    /// Waits until many have come.
    async fn is_laid(&self) {
        let wait = async {
            while self.made.load(Ordering::Relaxed) < MANY {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("they come");
    }

    fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no panic");
        }
        self.made.load(Ordering::Relaxed)
    }
}

fn connect(socket: &Path) -> Option<UnixStream> {
    let stream = UnixStream::connect(socket).ok()?;
    // So that whoever besieges can be told to stop.
    stream.set_write_timeout(Some(Duration::from_millis(200))).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(200))).ok()?;
    Some(stream)
}

/// From the call in the cloud to the answer there: the middle and the 99th of a hundred, in milliseconds.
async fn measure(device: &mut Device, name: &str) -> (f64, f64) {
    let mut times = Vec::with_capacity(COMMANDS);
    for n in 0..COMMANDS {
        let id = format!("{name}-{n}");
        let method = if n.is_multiple_of(2) { "echo" } else { "count" };
        let begun = Instant::now();
        device.ask(method, &id).await;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    (times[COMMANDS / 2], times[COMMANDS * 99 / 100])
}

async fn commands_from_the_cloud_are_answered_whatever_local_peers_do(kind: Kind) {
    let mut device = Device::new(Setup { answers: "events", ..Setup::on(kind) }).await;
    let process = Process::online(&mut device).await;
    let peace = measure(&mut device, "peace").await;
    let siege = Siege::begin(&device.path("run").join(SOCKET));
    siege.is_laid().await;
    let war = measure(&mut device, "war").await;
    // Root's own places are taken by the besiegers here, so this one may be turned away, but not left waiting.
    let code = run(&device, &["status"]).await.code;
    assert!([0, 1, 69].contains(&code), "{code}");
    let made = siege.end();
    let after = measure(&mut device, "after").await;
    println!("commands, every other recorded, from the call in the cloud to the answer there, in ms:");
    for (name, (p50, p99)) in [("in peace", peace), ("besieged", war), ("afterwards", after)] {
        println!("{name:>12}  p50 {p50:>7.2}  p99 {p99:>7.2}");
    }
    println!("{made} hostile connections");
    assert!(made >= MANY, "{made}");
    assert_eq!(device.logins().await, 1, "the session stayed");
    assert_eq!(device.counted().len(), COMMANDS / 2 * 3, "each ran");
    done(&device, &["status"]).await;
    process.stop().await;
}
