//! What a program costs as a handler, beside what it costs to be started at all. Prints figures and judges none: machines
//! differ.
//!
//! Commands go from a broker in this process to the agent, from there to the handlers' service, and all the way back. Beside
//! it, in alternating blocks (A B, B A), this process starts the same program with the same payload and waits for it, as
//! the standard library does that. Both with the least program there is and with a small shell script; one at a time, which
//! shows what a command waits for, and several at a time, which shows what all of them take.
//!
//! `cargo bench --features bridge --bench handlers`, as root, since handlers belong to root; `$TWINAGENT_BENCH_COMMANDS`
//! says how many commands of each kind there are in place of 10 000.

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock, and how long it may take from its environment")]
#![allow(clippy::print_stdout, reason = "its figures are what it is for")]

#[allow(dead_code, reason = "the other bench needs all of it")]
#[path = "../commands/agent.rs"]
mod agent;
mod bare;
#[allow(dead_code, reason = "the other bench needs all of it")]
#[path = "../commands/broker.rs"]
mod broker;
#[allow(dead_code, reason = "the other bench needs all of it")]
#[path = "../commands/figures.rs"]
mod figures;
#[path = "../commands/paces.rs"]
mod paces;
mod service;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::{Agent, Binary, Cloud};
use broker::Broker;
use figures::{Times, median};
use paces::{one_at_a_time, several};
use service::Service;

/// Commands of each kind.
const COMMANDS: usize = 10_000;

/// Commands of one block: what else the machine does in that moment falls on both of a pair alike.
const BLOCK: usize = 250;

/// Runs at a time, where there is more than one.
const SEVERAL: usize = 4;

fn main() {
    let commands = std::env::var("TWINAGENT_BENCH_COMMANDS").ok().and_then(|number| number.parse().ok());
    let blocks = (commands.unwrap_or(COMMANDS) / BLOCK).max(2);
    let broker = Broker::new();
    let folder = agent::folder(&broker, Cloud::Plain);
    let programs = [("least", PathBuf::from("/usr/bin/true")), ("shell", script(folder.path()))];
    let manifests = folder.path().join("etc/handlers.d");
    fs::create_dir(&manifests).expect("a folder");
    for (name, program) in &programs {
        for (kind, harmless) in [("Harmless", true), ("Recorded", false)] {
            let text = format!(
                "method = \"{name}{kind}\"\nkind = \"program\"\nprogram = \"{}\"\nharmless = {harmless}\n\
                 class = \"parallel\"\nparallel = {SEVERAL}\n",
                program.display()
            );
            fs::write(manifests.join(format!("{name}{kind}.toml")), text).expect("a manifest");
        }
    }
    let service = Service::start(folder.path());
    let mut agent = Agent::start_in(folder, &broker, Binary::Shipped, Cloud::Plain, &[]);
    println!("{}", figures::machine(agent.folder()));

    println!("\nOne at a time, in us");
    println!("{:>28} {:>8} {:>8}", "", "p50", "p99");
    for (name, program) in &programs {
        for kind in ["Harmless", "Recorded"] {
            let method = format!("{name}{kind}");
            one_at_a_time(agent.line(), &method, BLOCK);
            let mut times = [Times::default(), Times::default()];
            let mut ratios = Vec::new();
            for block in 0..blocks {
                let mut medians = [Duration::ZERO; 2];
                for which in order(block) {
                    let some = match which {
                        AGENT => one_at_a_time(agent.line(), &method, BLOCK),
                        _ => bare::one_at_a_time(program, BLOCK),
                    };
                    medians[which] = some.quantile(0.5);
                    times[which].append(some);
                }
                ratios.push(medians[AGENT].as_secs_f64() / medians[BARE].as_secs_f64());
            }
            print(&method, &times[AGENT]);
            print("spawn and wait", &times[BARE]);
            figures::print_ratios(&format!("{method} : spawn and wait, p50"), ratios);
        }
    }

    println!("\n{SEVERAL} at a time");
    println!("{:>28} {:>12}", "", "runs/s");
    for (name, program) in &programs {
        for kind in ["Harmless", "Recorded"] {
            let method = format!("{name}{kind}");
            let mut rates = [const { Vec::new() }; 3];
            let mut ratios = [const { Vec::new() }; 3];
            for block in 0..blocks {
                let mut took = [Duration::ZERO; 3];
                for which in order(block).into_iter().chain([LOOP]) {
                    took[which] = match which {
                        AGENT => several(agent.line(), &method, BLOCK, SEVERAL),
                        BARE => bare::several(program, SEVERAL, BLOCK),
                        _ => bare::several(program, 1, BLOCK),
                    };
                    rates[which].push(rate(BLOCK, took[which]));
                }
                // Times, as above: below one is better than the bare loop.
                for which in [BARE, LOOP] {
                    ratios[which].push(took[AGENT].as_secs_f64() / took[which].as_secs_f64());
                }
            }
            let names = [method.clone(), format!("{SEVERAL} bare loops"), "one bare loop".to_owned()];
            for (what, rates) in names.iter().zip(&mut rates) {
                println!("{what:>28} {:>12.0}", median(rates));
            }
            let [_, several, one] = ratios;
            figures::print_ratios(&format!("{method} : {SEVERAL} bare loops, time of a run"), several);
            figures::print_ratios(&format!("{method} : one bare loop, time of a run"), one);
        }
    }

    println!("\nAfter all of that, in KiB");
    println!("{:>28} {:>8} {:>8} {:>14} {:>8}", "", "RSS", "PSS", "private dirty", "threads");
    println!("{:>28} {}", "agent", agent.memory());
    println!(
        "{:>28} RSS {}, {} descriptors, {} children",
        "service",
        service.memory(),
        service.descriptors(),
        service.children()
    );
}

const AGENT: usize = 0;
const BARE: usize = 1;
/// One bare loop, beside several commands at a time.
const LOOP: usize = 2;

fn order(block: usize) -> [usize; 2] {
    if block.is_multiple_of(2) { [AGENT, BARE] } else { [BARE, AGENT] }
}

fn print(name: &str, times: &Times) {
    let micros = |share: f64| times.quantile(share).as_secs_f64() * 1e6;
    println!("{name:>28} {:>8.0} {:>8.0}", micros(0.5), micros(0.99));
}

#[expect(clippy::cast_precision_loss, reason = "some thousand runs")]
fn rate(runs: usize, took: Duration) -> f64 {
    runs as f64 / took.as_secs_f64()
}

/// A shell script such as people write them: it reads its payload and answers with JSON.
fn script(folder: &Path) -> PathBuf {
    let path = folder.join("shell");
    fs::write(&path, "#!/bin/sh\nread -r payload\necho '{\"done\":true}'\n").expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    path
}
