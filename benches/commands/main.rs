//! What a command costs, in time, processor, disk and memory. Prints figures and judges none: machines differ.
//!
//! The agent runs as a process of its own, and beside it, in alternating blocks (A B, B A), a bare echo on rumqttc's own
//! client. Both talk over loopback to a broker for one client in this process, one thread with blocking sockets: it
//! costs less than the stand-in cloud would, whose time would stand in both figures and flatter their ratio.
//!
//! `cargo bench --features bridge`

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
#![allow(clippy::print_stdout, reason = "its figures are what it is for")]

mod agent;
mod bare;
mod broker;
mod figures;
mod paces;
mod syncs;

use std::time::{Duration, Instant};

use agent::{Agent, Binary, Cloud, Cost};
use broker::Broker;
use figures::{Times, median};
use paces::{one_at_a_time, several};

/// Blocks of each kind, an even number: half of them begin with the agent, half with the bare echo.
///
/// Many and short: what else the machine does in that moment then falls on both of a pair alike.
const BLOCKS: usize = 60;

/// Commands of one block, one at a time.
const SINGLE: usize = 300;

/// Commands of one block, [`WINDOW`] under way.
const PIPELINED: usize = 3_000;

/// Commands under way; the agent refuses the 65th.
const WINDOW: usize = 60;

/// Commands for a figure that is compared with none.
const ALONE: usize = 3_000;

/// Starts that are timed.
const STARTS: usize = 10;

/// Runs of `twinagent status` that are timed.
const STATUSES: usize = 20;

/// What happened until then is over: the first report, and threads that linger.
const SETTLED: Duration = Duration::from_secs(12);

/// So long a daemon at rest is watched.
const REST: Duration = Duration::from_secs(30);

fn main() {
    if let Some(port) = bare::port_of_this_process() {
        return bare::live(port);
    }
    let broker = Broker::new();
    let mut idle = Agent::start(&broker, Binary::Shipped, Cloud::Plain);
    idle.line().report();
    let begun = Instant::now();
    let mut load = Agent::start(&broker, Binary::Counting, Cloud::Plain);
    let mut bare = bare::start(&broker);
    println!("{}", figures::machine(load.folder()));

    println!("\nOne at a time, from the write of the command to the read of its answer, in us");
    println!("{:>28} {:>8} {:>8} {:>8}", "", "p50", "p99", "CPU");
    let mut ratios = Vec::new();
    let mut samples = [Samples::default(), Samples::default()];
    for block in 0..BLOCKS {
        let mut medians = [Duration::ZERO; 2];
        for which in order(block) {
            let (times, cost) = match which {
                AGENT => load.measure(|line| one_at_a_time(line, "echo", SINGLE)),
                _ => bare.measure(|line| one_at_a_time(line, "echo", SINGLE)),
            };
            medians[which] = times.quantile(0.5);
            samples[which].add(times, cost);
        }
        ratios.push(medians[AGENT].as_secs_f64() / medians[BARE].as_secs_f64());
    }
    for (name, samples) in ["echo", "bare rumqttc echo"].iter().zip(&samples) {
        samples.print(name);
    }
    let mut recorded = Samples::default();
    let (times, cost) = load.measure(|line| one_at_a_time(line, "count", ALONE));
    recorded.add(times, cost);
    recorded.print("count (recorded)");
    for (cloud, name) in [(Cloud::IotCore, "echo over TLS"), (Cloud::IotHub, "echo, direct method")] {
        let mut tls = Agent::start(&broker, Binary::Counting, cloud);
        let mut samples = Samples::default();
        let (times, cost) = tls.measure(|line| one_at_a_time(line, "echo", ALONE));
        samples.add(times, cost);
        samples.print(name);
    }
    figures::print_ratios("echo : bare echo, p50", ratios);

    println!("\n{WINDOW} under way");
    println!("{:>28} {:>12} {:>8}", "", "commands/s", "CPU us");
    let mut ratios = Vec::new();
    let mut rates = [Rates::default(), Rates::default()];
    for block in 0..BLOCKS {
        let mut pair = [0.0; 2];
        for which in order(block) {
            let (time, cost) = match which {
                AGENT => load.measure(|line| several(line, "echo", PIPELINED, WINDOW)),
                _ => bare.measure(|line| several(line, "echo", PIPELINED, WINDOW)),
            };
            pair[which] = rates[which].add(PIPELINED, time, cost);
        }
        ratios.push(pair[AGENT] / pair[BARE]);
    }
    for (name, rates) in ["echo", "bare rumqttc echo"].iter().zip(&mut rates) {
        rates.print(name);
    }
    let mut recorded = Rates::default();
    let (time, cost) = load.measure(|line| several(line, "count", ALONE, WINDOW));
    recorded.add(ALONE, time, cost);
    recorded.print("count (recorded)");
    figures::print_ratios("echo : bare echo, commands/s", ratios);

    println!("\nfsync and fdatasync for one command");
    for method in ["echo", "count"] {
        println!("{method:>28} {}", syncs::of_one_command(&broker, method));
    }

    println!("\nFrom the start of the process to its SUBSCRIBE, in ms");
    let mut times = Times::default();
    for _ in 0..STARTS {
        times.push(Agent::start(&broker, Binary::Shipped, Cloud::Plain).to_subscribed());
    }
    println!("{:>28} {:>8.1}", "p50", times.quantile(0.5).as_secs_f64() * 1e3);

    println!("\n`twinagent status`, from the start of the process to its end, in ms");
    let mut times = Times::default();
    for _ in 0..STATUSES {
        times.push(idle.time_status());
    }
    println!("{:>28} {:>8.1}", "p50", times.quantile(0.5).as_secs_f64() * 1e3);

    std::thread::sleep(SETTLED.saturating_sub(begun.elapsed()));
    println!("\nAt rest, connected, in KiB");
    println!("{:>28} {:>8} {:>8} {:>14} {:>8}", "", "RSS", "PSS", "private dirty", "threads");
    println!("{:>28} {}", "as it started", idle.memory());
    println!("{:>28} {}", "bare rumqttc echo", bare.memory());
    std::thread::sleep(SETTLED);
    println!("{:>28} {}", "after all of the above", load.memory());

    let before = idle.wake_ups();
    std::thread::sleep(REST);
    let per_minute = (idle.wake_ups() - before) * 60 / REST.as_secs();
    println!("\nAt rest, connected, wake-ups of all threads in a minute");
    println!("{:>28} {per_minute:>8}", "as it started");

    println!("\nSize, in KiB");
    println!("{:>28} {:>8} of which code {:>8}", "twinagent", idle.binary_size(), idle.code_size());
}

const AGENT: usize = 0;
const BARE: usize = 1;

fn order(block: usize) -> [usize; 2] {
    if block.is_multiple_of(2) { [AGENT, BARE] } else { [BARE, AGENT] }
}

#[derive(Default)]
struct Samples {
    times: Times,
    cost: Cost,
}

impl Samples {
    fn add(&mut self, times: Times, cost: Cost) {
        self.times.append(times);
        self.cost += cost;
    }

    fn print(&self, name: &str) {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let (p50, p99) = (micros(self.times.quantile(0.5)), micros(self.times.quantile(0.99)));
        println!("{name:>28} {p50:>8.0} {p99:>8.0} {:>8.0}", self.cost.micros_for_each(self.times.len()));
    }
}

#[derive(Default)]
struct Rates {
    each: Vec<f64>,
    commands: usize,
    cost: Cost,
}

impl Rates {
    #[expect(clippy::cast_precision_loss, reason = "some thousand commands")]
    fn add(&mut self, commands: usize, time: Duration, cost: Cost) -> f64 {
        self.commands += commands;
        self.cost += cost;
        let rate = commands as f64 / time.as_secs_f64();
        self.each.push(rate);
        rate
    }

    fn print(&mut self, name: &str) {
        println!("{name:>28} {:>12.0} {:>8.0}", median(&mut self.each), self.cost.micros_for_each(self.commands));
    }
}
