//! How often the disk is waited for. The kernel counts that nowhere, so an agent of its own runs below strace(1).

use std::fs;
use std::process::{Command, Stdio};

use crate::agent::{Agent, Binary, Cloud};
use crate::broker::Broker;
use crate::one_at_a_time;

const COMMANDS: usize = 50;

/// Calls of fsync(2) and fdatasync(2) for each command of this method, in words.
pub(crate) fn of_one_command(broker: &Broker, method: &str) -> String {
    let there_is_strace =
        Command::new("strace").arg("--version").stdout(Stdio::null()).status().is_ok_and(|ended| ended.success());
    if !there_is_strace {
        return "not counted: there is no strace(1)".to_owned();
    }
    // As a grandchild (`--daemonize`), so that the agent is the child that is ended.
    let below = ["strace", "--daemonize", "--follow-forks", "--quiet=all", "--output=syncs", "--trace=fsync,fdatasync"];
    let mut agent = Agent::start_below(broker, Binary::Counting, Cloud::Plain, &below);
    agent.line().report();
    let file = agent.folder().join("syncs");
    // A call that two threads interleave is two lines, of which the second says `resumed`.
    let calls = || {
        let text = fs::read_to_string(&file).expect("what strace writes");
        text.lines().filter(|line| line.contains("sync(")).count()
    };
    let before = calls();
    one_at_a_time(agent.line(), method, COMMANDS);
    let calls = calls() - before;
    format!("{:.2} ({calls} for {COMMANDS}, one at a time)", ratio(calls))
}

#[expect(clippy::cast_precision_loss, reason = "some hundred calls")]
fn ratio(calls: usize) -> f64 {
    calls as f64 / COMMANDS as f64
}
