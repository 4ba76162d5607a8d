//! What a program says of how it goes: `STATUS=` by the protocol of `sd_notify(3)`, on a socket of its own for each run.
//!
//! All else that the protocol knows is no business of ours and is dropped. A program may say as much as it likes: the newest
//! counts, at most four times a second.

use std::fs;
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::net::UnixDatagram;
use tokio::time::{Sleep, sleep};

/// The longest status that is passed on, in characters.
const LONGEST: usize = 256;
/// Between two that are passed on.
const PACE: Duration = Duration::from_millis(250);
/// More of one message is not read.
const MESSAGE: usize = 4096;

/// The socket of a run. Dropping it removes it.
#[derive(Debug)]
pub(super) struct News {
    /// Nothing: none could be made, and the run goes without.
    socket: Option<(UnixDatagram, PathBuf)>,
    newest: Option<String>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl News {
    /// Makes the socket in this folder. Where none can be made, nothing is told of this run; the log has it once, since a
    /// program that has filled the folder has done so to all that follow.
    pub(super) fn bind(folder: &Path, is_said: &AtomicBool) -> Self {
        let socket = bind(folder).map_err(|error| {
            if !is_said.swap(true, Ordering::Relaxed) {
                let folder = folder.display();
                tracing::warn!(%error, %folder, "no socket for news can be made; programs run without NOTIFY_SOCKET");
            }
        });
        Self { socket: socket.ok(), newest: None, pause: None }
    }

    /// Where the program may say how it goes.
    pub(super) fn path(&self) -> Option<&Path> {
        self.socket.as_ref().map(|(_, path)| path.as_path())
    }

    /// The next status, when it is time for it. May be dropped without loss.
    pub(super) async fn next(&mut self) -> String {
        let Some((socket, _)) = &self.socket else { return pending().await };
        let mut message = [0; MESSAGE];
        loop {
            if self.pause.is_none()
                && let Some(newest) = self.newest.take()
            {
                self.pause = Some(Box::pin(sleep(PACE)));
                return newest;
            }
            let pause = async {
                match &mut self.pause {
                    Some(pause) => pause.await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = pause => self.pause = None,
                received = socket.recv(&mut message) => match received {
                    Ok(length) => self.newest = status(&message[..length]).or(self.newest.take()),
                    // Nothing that a program does makes a datagram socket fail; without it, nothing is told.
                    Err(_) => pending().await,
                },
            }
        }
    }
}

impl Drop for News {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.socket {
            // Fails if a program has removed it already. What else programs put there stays until the service ends, which has
            // the folder to itself (`TemporaryFileSystem=` of its unit).
            let _ = fs::remove_file(path);
        }
    }
}

/// Under a name that no program foretells: it could put something in its place.
fn bind(folder: &Path) -> io::Result<(UnixDatagram, PathBuf)> {
    let path = folder.join(format!("{:032x}", random()?));
    Ok((UnixDatagram::bind(&path)?, path))
}

#[expect(clippy::disallowed_methods, reason = "a secret of one run; it decides nothing")]
fn random() -> io::Result<u128> {
    let mut bytes = [0; 16];
    // So few bytes come whole (getrandom(2)).
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(u128::from_ne_bytes(bytes))
}

/// The last status in a message, as one line.
fn status(message: &[u8]) -> Option<String> {
    let text = message.split(|byte| *byte == b'\n').rev().find_map(|line| line.strip_prefix(b"STATUS="))?;
    let text = String::from_utf8_lossy(text);
    let line: String = text.trim().chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line_and_not_without_end() {
        assert_eq!(status(b"STATUS=half\nREADY=1").as_deref(), Some("half"));
        assert_eq!(status(b"STATUS=a\nSTATUS= b\x1b[31m\xff \n").as_deref(), Some("b [31m\u{fffd}"));
        assert_eq!(status(b"STATUS="), None);
        assert_eq!(status(b"READY=1\nXSTATUS=1"), None);
        assert_eq!(
            status(format!("STATUS={}", "ü".repeat(1000)).as_bytes()).map(|text| text.chars().count()),
            Some(256)
        );
    }
}
