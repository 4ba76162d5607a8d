//! The bare loop: starts a program with a payload, reads what it says, waits for its end, and does nothing else.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::figures::Times;

/// What the commands have, too.
const PAYLOAD: &[u8] = br#"{"reason":"bench"}"#;

fn run(program: &Path) {
    let mut command = Command::new(program);
    // As clean as a handler's: cargo's own LD_LIBRARY_PATH makes the loader of each program look into more folders.
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    // It need not read what it is given.
    let _ = child.stdin.take().expect("piped").write_all(PAYLOAD);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
}

pub(crate) fn one_at_a_time(program: &Path, count: usize) -> Times {
    let mut times = Times::default();
    for _ in 0..count {
        let begun = Instant::now();
        run(program);
        times.push(begun.elapsed());
    }
    times
}

/// In so many threads.
pub(crate) fn several(program: &Path, threads: usize, count: usize) -> Duration {
    let begun = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            let share = count / threads + usize::from(thread < count % threads);
            scope.spawn(move || (0..share).for_each(|_| run(program)));
        }
    });
    begun.elapsed()
}
