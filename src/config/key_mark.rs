//! The mark of a private key that was made here: a line before the PEM section that names the machine it was made on.
//!
//! RFC 7468 2 lets text stand there, and what reads keys goes over it. Whoever brings a key from elsewhere has
//! none in it, and nothing is asked of that key.
//!
//! It stands in the key's own file: one beside it could be left behind, and the state folder is forgotten more often than
//! the key.

use crate::model::fingerprint::Fingerprint;
use crate::model::wire::Secret;

/// Begins the line.
const MARK: &str = "Made by twinagent on the machine ";

/// Begins the part that is a key; no mark is looked for after it.
const SECTION: &str = "-----BEGIN ";

/// The machine that this key was made on, if it says so.
pub fn read(key: &Secret) -> Option<Fingerprint> {
    let mark = explanations(key).find_map(|line| line.strip_prefix(MARK))?;
    Some(mark.parse().unwrap_or_default())
}

/// The key with this machine in its mark instead of any other. Of a machine of which nothing is known nothing is said.
pub fn write(key: &Secret, machine: &Fingerprint) -> Secret {
    let old = explanations(key).count();
    let mark = (!machine.is_unknown()).then(|| format!("{MARK}{machine}\n"));
    let lines = key.reveal().split_inclusive('\n').enumerate();
    let rest = lines.filter(|(at, line)| *at >= old || !line.starts_with(MARK)).map(|(_, line)| line);
    Secret::new(mark.as_deref().into_iter().chain(rest).collect())
}

/// The lines before the first section.
fn explanations(key: &Secret) -> impl Iterator<Item = &str> {
    key.reveal().lines().take_while(|line| !line.starts_with(SECTION))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

    fn machine(id: &str) -> Fingerprint {
        Fingerprint::new(None, Some(id))
    }

    #[test]
    fn a_mark_is_read_back_and_replaced_and_the_key_stays_as_it_is() {
        let bare = Secret::new(PEM.to_owned());
        assert_eq!(read(&bare), None);
        let one = write(&bare, &machine("1"));
        assert_eq!(read(&one), Some(machine("1")));
        assert!(one.reveal().ends_with(PEM) && one.reveal().lines().count() == 4, "one line more");
        let two = write(&one, &machine("2"));
        assert_eq!(read(&two), Some(machine("2")));
        assert_eq!(two.reveal().lines().count(), 4, "the old mark is gone");
        assert_eq!(write(&two, &Fingerprint::default()), bare, "nothing is known, so nothing is said");
        let foreign = Secret::new(format!("my own words\r\n{PEM}"));
        assert!(write(&foreign, &machine("1")).reveal().ends_with(foreign.reveal()), "what others wrote stays");
    }

    #[test]
    fn what_is_no_mark_is_none() {
        for text in [String::new(), "x".to_owned(), format!("{PEM}{MARK}{}\n", machine("1"))] {
            assert_eq!(read(&Secret::new(text.clone())), None, "{text}");
        }
        let vague = Secret::new(format!("{MARK}\n{PEM}"));
        assert_eq!(read(&vague), Some(Fingerprint::default()), "a mark that names nobody");
    }
}
