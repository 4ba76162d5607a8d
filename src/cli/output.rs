//! Writing for people and pipes.
//!
//! A reader that has seen enough and goes away (`| head -1`) is no failure.

use std::io::{self, Write as _};

/// Writes to stdout.
pub(super) fn print(text: &str) -> io::Result<()> {
    tolerant(io::stdout().lock().write_all(text.as_bytes()).and_then(|()| io::stdout().lock().flush()))
}

/// Writes a line to stderr: what a person should know, and a pipe must not get.
pub(super) fn note(line: &str) -> io::Result<()> {
    tolerant(writeln!(io::stderr().lock(), "{line}"))
}

fn tolerant(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
