//! The journal's own protocol: a datagram of named fields for each event (`systemd.io/JOURNAL_NATIVE_PROTOCOL`).
//!
//! Never waits and keeps nothing. What the socket does not take at once, whatever the reason, its caller still has.
//!
//! By hand, since the crate for it leaves the fields out of the line that plain `journalctl` shows, and gives an event up
//! that the journal does not take. Here the line has the fields, and each stands by its name besides (`journalctl
//! TWINAGENT_ID=42`).

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// By which `journalctl --identifier` and syslog find us.
const IDENTIFIER: &str = "twinagent";
/// Before the names of the events' own fields, which may be called like those of the journal.
const PREFIX: &str = "TWINAGENT_";
/// The longest name of a field, in bytes; journald drops fields with longer ones.
const LONGEST_NAME: usize = 64;

/// The way to the journal.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    /// Asked for at each event, since a journal may come late or be another one after a while.
    path: PathBuf,
}

impl Journal {
    pub(super) fn open() -> io::Result<Self> {
        Self::at(PathBuf::from(SOCKET))
    }

    pub(super) fn at(path: PathBuf) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path })
    }

    /// Hands an event over, as a whole or not at all.
    ///
    /// # Errors
    ///
    /// If there is no such socket, nobody reads it, or it is full.
    pub(super) fn take(
        &self,
        priority: u8,
        target: &str,
        message: &str,
        fields: &[(&'static str, String)],
    ) -> io::Result<()> {
        let mut datagram = Vec::new();
        append(&mut datagram, "MESSAGE", message);
        append(&mut datagram, "PRIORITY", &priority.to_string());
        append(&mut datagram, "SYSLOG_IDENTIFIER", IDENTIFIER);
        append(&mut datagram, "TARGET", target);
        for (name, value) in fields {
            append(&mut datagram, &name_of(name), value);
        }
        self.socket.send_to(&datagram, &self.path).map(|_| ())
    }
}

/// With the length in front, no value can be taken for the field after it, whatever it holds.
fn append(datagram: &mut Vec<u8>, name: &str, value: &str) {
    datagram.extend_from_slice(name.as_bytes());
    datagram.push(b'\n');
    datagram.extend_from_slice(&(value.len() as u64).to_le_bytes());
    datagram.extend_from_slice(value.as_bytes());
    datagram.push(b'\n');
}

/// A field's name as the journal takes it: capital letters, digits and underscores.
fn name_of(field: &str) -> String {
    let valid = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    PREFIX.chars().chain(field.chars().map(valid)).take(LONGEST_NAME).collect()
}
