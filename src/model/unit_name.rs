//! The name of one unit of systemd, as it is written whole (systemd.unit(5)). No pattern is one, and nothing that a command
//! line could take for a switch.
//!
//! Whether there is such a unit is for systemd to say.

use std::fmt;

use serde::{Deserialize, Serialize};

/// systemd takes names of up to this many bytes, their kind included.
const LONGEST: usize = 255;

/// Kinds of units that can be started and stopped, or have lines in the journal.
const KINDS: [&str; 10] =
    ["service", "socket", "target", "timer", "path", "mount", "automount", "swap", "slice", "scope"];

/// A name such as `ssh.service` or `getty@tty1.service`. Never a template without its instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitName(String);

/// The text is no [`UnitName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a unit: one that is written whole, such as \"ssh.service\", is expected")]
pub struct NotAUnitName;

impl UnitName {
    /// Checks the text.
    pub fn parse(text: &str) -> Result<Self, NotAUnitName> {
        let (name, kind) = text.rsplit_once('.').ok_or(NotAUnitName)?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
        let fits = text.len() <= LONGEST
            && KINDS.contains(&kind)
            && name.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
            && name.bytes().all(allowed)
            && !name.ends_with('@');
        if fits { Ok(Self(text.to_owned())) } else { Err(NotAUnitName) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UnitName {
    type Error = NotAUnitName;

    fn try_from(text: String) -> Result<Self, NotAUnitName> {
        Self::parse(&text)
    }
}

impl From<UnitName> for String {
    fn from(name: UnitName) -> Self {
        name.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_are_taken_and_patterns_and_switches_are_not() {
        let longest = format!("{}.service", "u".repeat(LONGEST - ".service".len()));
        for good in ["ssh.service", "getty@tty1.service", "dev-disk-by\\x2duuid.swap", "a.b.timer", &longest] {
            assert_eq!(UnitName::parse(good).map(|name| name.to_string()).as_deref(), Ok(good));
        }
        let too_long = format!("u{longest}");
        for bad in [
            "",
            "ssh",
            "ssh.",
            ".service",
            "ssh.Service",
            "*.service",
            "ss?.service",
            "[a].service",
            "-h.service",
            "--now.service",
            "getty@.service",
            "a b.service",
            "a/b.service",
            "../a.service",
            "a\n.service",
            "ä.service",
            "x.service\0",
            "x.device",
            "@a.service",
            "\"x\".service",
            &too_long,
        ] {
            assert_eq!(UnitName::parse(bad), Err(NotAUnitName), "{bad:?}");
        }
    }
}
