//! What tells this machine from others: digests of the serial number of its board and of its machine id. By them state and
//! keys know their own machine, so that a copy of a card or an image is no second device of the same name.
//!
//! Holds no name in clear: a machine id is confidential, and must not be found outside of its machine (machine-id(5)).
//!
//! A board outweighs a machine id, and silence is no evidence ([`Fingerprint::is_another_than`]): a system that was
//! installed anew, or updated as an image, is the same machine under another id. A wrong "same" costs a takeover that is
//! told, a wrong "another" a visit. So a key without a mark is never refused, whatever the state says: only who made the
//! key here has said that it belongs here.

use std::fmt;
use std::str::FromStr;

use super::digest::Digest;

/// What makes our digests of a machine id differ from those of other programs, as machine-id(5) asks for. Another text would
/// make every device another machine.
const APPLICATION: &[u8] = b"twinagent: the machine that state and keys belong to";

const BOARD: &str = "board";
const MACHINE_ID: &str = "machine-id";

/// What is known of a machine; by default nothing.
///
/// Written as one line, such as `board=sha256:… machine-id=sha256:…`. Words that mean nothing are not read: a newer agent
/// may know more of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    board: Option<Digest>,
    machine_id: Option<Digest>,
}

impl Fingerprint {
    /// The fingerprint of a machine with these names, as far as it has them.
    pub fn new(board_serial: Option<&str>, machine_id: Option<&str>) -> Self {
        // Each with its kind before it: a serial number must not be equal to a machine id.
        let digest = |kind: &str, name: &str| Digest::keyed(APPLICATION, format!("{kind} {name}").as_bytes());
        Self {
            board: board_serial.map(|name| digest(BOARD, name)),
            machine_id: machine_id.map(|name| digest(MACHINE_ID, name)),
        }
    }

    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// Whether this is certainly another machine than `other`.
    ///
    /// A board decides by itself: a system that was installed anew, or an image that was put on the same board, has another
    /// machine id. Where one of the two is silent about its board, the machine ids decide; if one is silent about that too,
    /// nothing is certain.
    pub fn is_another_than(&self, other: &Self) -> bool {
        match (self.board, other.board, self.machine_id, other.machine_id) {
            (Some(ours), Some(theirs), ..) | (_, _, Some(ours), Some(theirs)) => ours != theirs,
            _ => false,
        }
    }

    /// What is known of this machine now, and beside it what was known of it before.
    #[must_use]
    pub fn or(self, before: Self) -> Self {
        Self { board: self.board.or(before.board), machine_id: self.machine_id.or(before.machine_id) }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [(BOARD, self.board), (MACHINE_ID, self.machine_id)];
        let known = parts.iter().filter_map(|(name, digest)| Some((name, digest.as_ref()?)));
        for (at, (name, digest)) in known.enumerate() {
            let between = if at == 0 { "" } else { " " };
            write!(out, "{between}{name}={digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Fingerprint {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut read = Self::default();
        for (name, digest) in text.split_ascii_whitespace().filter_map(|word| word.split_once('=')) {
            match name {
                BOARD => read.board = digest.parse().ok(),
                MACHINE_ID => read.machine_id = digest.parse().ok(),
                _ => {}
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Fingerprint {
        text.parse().expect("any text is one")
    }

    #[test]
    fn a_board_decides_and_else_the_machine_id_and_nothing_is_guessed() {
        let of = Fingerprint::new;
        for (now, before, is_another) in [
            (of(Some("b"), Some("m")), of(Some("b"), Some("m")), false),
            // installed anew on the same board
            (of(Some("b"), Some("m2")), of(Some("b"), Some("m")), false),
            // the card in another board, copied or moved
            (of(Some("b2"), Some("m")), of(Some("b"), Some("m")), true),
            (of(Some("b2"), None), of(Some("b"), Some("m")), true),
            (of(None, Some("m2")), of(None, Some("m")), true),
            (of(None, Some("m2")), of(Some("b"), Some("m")), true),
            (of(Some("b"), Some("m")), of(None, Some("m")), false),
            (of(None, None), of(Some("b"), Some("m")), false),
            (of(Some("b"), None), of(None, Some("m")), false),
            (of(Some("b"), Some("m")), of(None, None), false),
            (of(None, Some("x")), of(Some("x"), None), false),
        ] {
            assert_eq!(now.is_another_than(&before), is_another, "{now} after {before}");
            assert_eq!(before.is_another_than(&now), is_another, "{before} after {now}");
        }
    }

    #[test]
    fn it_is_read_as_it_was_written_and_holds_no_name() {
        let (serial, id) = ("10000000d34d", "0123456789abcdef0123456789abcdef");
        for fingerprint in [
            Fingerprint::new(Some(serial), Some(id)),
            Fingerprint::new(Some(serial), None),
            Fingerprint::new(None, Some(id)),
            Fingerprint::default(),
        ] {
            let text = fingerprint.to_string();
            assert_eq!(read(&text), fingerprint, "{text}");
            assert!(!text.contains(serial) && !text.contains(id), "{text}");
        }
        let newer = format!("cpu=7 {} board=rubbish", Fingerprint::new(None, Some(id)));
        assert_eq!(read(&newer), Fingerprint::new(None, Some(id)));
        for nothing in ["", "\n", "board", "board=sha256:12 machine-id=", "=\u{fffd}="] {
            assert!(read(nothing).is_unknown(), "{nothing:?}");
        }
        assert!(!format!("{:?}", Fingerprint::new(Some(serial), Some(id))).contains(serial));
    }

    /// A machine is told from others for years, by every version of the program.
    #[test]
    fn the_digest_of_a_machine_is_the_same_for_ever() {
        let text = Fingerprint::new(Some("10000000d34d"), None).to_string();
        assert_eq!(text, "board=sha256:761fcd998e5a4794a60a1b743dfeb2f96c07dc1cb66db60ed5640bf9fa68a0df");
    }

    #[test]
    fn what_was_known_before_stays_known() {
        let before = Fingerprint::new(Some("b"), Some("m"));
        assert_eq!(Fingerprint::default().or(before), before);
        let now = Fingerprint::new(Some("b"), Some("m2"));
        assert_eq!(now.or(before), now);
        assert_eq!(Fingerprint::new(None, Some("m")).or(before), before);
    }
}
