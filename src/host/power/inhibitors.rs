//! Who holds a shutdown back, in logind's own words (`org.freedesktop.login1(5)`, `ListInhibitors`).
//!
//! Only locks that block are told; those that delay have their effect by themselves. Decides nothing.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::Value;

use super::program::{Ended, run};

/// For one question over the bus. Its daemon may have to start logind first.
const LIMIT: Duration = Duration::from_secs(25);

/// The longest name or reason that is passed on, in characters. Any local user may choose them.
const LONGEST: usize = 100;

/// A lock that blocks a shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) who: String,
    pub(super) why: String,
}

/// All locks that block a shutdown. Without a bus, or without logind, nobody can hold one.
pub(super) fn blocks(busctl: &Path, bus: &Path) -> anyhow::Result<Vec<Block>> {
    if let Err(error) = UnixStream::connect(bus)
        && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
    {
        return Ok(Vec::new());
    }
    let manager = ["org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"];
    let listed = call(busctl, manager, &["ListInhibitors"])?;
    if listed.status.success() {
        return read(&listed.stdout);
    }
    let bus = ["org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus"];
    let there = call(busctl, bus, &["NameHasOwner", "s", "org.freedesktop.login1"])?;
    let there: Reply<[bool; 1]> = parse(&there.stdout)?;
    if there.data == [false] {
        return Ok(Vec::new());
    }
    bail!("logind does not tell: {}", listed.complaint())
}

fn call(busctl: &Path, object: [&str; 3], method: &[&str]) -> anyhow::Result<Ended> {
    let words: Vec<&str> = ["--system", "--json=short", "call"].iter().chain(&object).chain(method).copied().collect();
    run(busctl, &words, LIMIT)
}

/// What `busctl --json=short call` prints.
#[derive(Deserialize)]
struct Reply<T> {
    data: T,
}

/// What, who, why, mode, user and process of one lock.
type Lock = (String, String, String, String, Value, Value);

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> anyhow::Result<Reply<T>> {
    serde_json::from_str(text).context("the bus does not answer as it should")
}

fn read(text: &str) -> anyhow::Result<Vec<Block>> {
    let Reply { data: [locks] } = parse::<[Vec<Lock>; 1]>(text)?;
    let blocks = |(what, _, _, mode, ..): &Lock| {
        // Weak ones came with systemd 257; before, those of mode "block" were no stronger.
        what.split(':').any(|what| what == "shutdown") && matches!(&mode[..], "block" | "block-weak")
    };
    let blocks = locks.into_iter().filter(blocks);
    Ok(blocks.map(|(_, who, why, ..)| Block { who: shown(&who), why: shown(&why) }).collect())
}

/// A text of somebody else's, fit for a line.
fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_locks_that_block_a_shutdown_count() {
        let text = r#"{"type":"a(ssssuu)","data":[[
            ["sleep","a","delays sleep","delay",0,1],
            ["shutdown:sleep","b","line\nbreak","block",0,2],
            ["shutdown","c","delays","delay",0,3],
            ["idle:sleep","d","blocks sleep","block",1000,4],
            ["shutdown","e","weak","block-weak",1000,5]]]}"#;
        let block = |who: &str, why: &str| Block { who: who.to_owned(), why: why.to_owned() };
        assert_eq!(read(text).expect("a list"), [block("b", "linebreak"), block("e", "weak")]);
        assert_eq!(read(r#"{"type":"a(ssssuu)","data":[[]]}"#).expect("a list"), []);
        for strange in ["", "{}", r#"{"data":[]}"#, r#"{"data":[[["shutdown","a","b","block"]]]}"#] {
            assert!(read(strange).is_err(), "{strange}");
        }
    }
}
