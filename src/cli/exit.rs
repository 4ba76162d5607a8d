//! How a command ends: the codes that scripts rely on, and what a person is told of a failure.

use std::io;
use std::process::ExitCode;

/// Exit codes, as in sysexits.h where it has one that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    /// The command line cannot be understood.
    Usage = 2,
    /// No daemon answers.
    Unreachable = 69,
    /// Another daemon holds the state folder.
    Held = 75,
    NotPermitted = 77,
    /// The configuration is wrong; for `check` only.
    BadConfiguration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed, and what can be done about it.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: anyhow::Error,
    hints: Vec<String>,
}

impl Failure {
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into(), hints: Vec::new() }
    }

    /// Adds a line that says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The first cause of this type.
    pub fn cause<E: std::error::Error + Send + Sync + 'static>(&self) -> Option<&E> {
        self.error.chain().find_map(|cause| cause.downcast_ref())
    }

    /// The failure with its chain of causes, and what to do.
    pub fn lines(&self) -> Vec<String> {
        let chain: Vec<String> = self.error.chain().map(ToString::to_string).collect();
        let hints = self.hints.iter().map(|hint| format!("hint: {hint}"));
        std::iter::once(chain.join(": ")).chain(hints).collect()
    }

    /// Prints the failure, once.
    pub fn report(&self) -> ExitCode {
        // With stderr gone there is nobody left to tell; the exit code still says it.
        let _ = self.write_to(&mut io::stderr().lock());
        self.exit.into()
    }

    fn write_to(&self, out: &mut dyn io::Write) -> io::Result<()> {
        write!(out, "twinagent: ")?;
        self.lines().iter().try_for_each(|line| writeln!(out, "{line}"))
    }
}

/// A failure for want of rights is told from any other, wherever in the chain of causes it stands.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let denied = error.chain().any(|cause| {
            cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        });
        if denied {
            Self::new(Exit::NotPermitted, error).hint("this takes root, or the user that the daemon runs as")
        } else {
            Self::new(Exit::Failed, error)
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        anyhow::Error::new(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    fn shown(failure: &Failure) -> String {
        let mut text = Vec::new();
        failure.write_to(&mut text).expect("memory");
        String::from_utf8(text).expect("text")
    }

    #[test]
    fn a_failure_is_told_once_with_its_causes_and_hints() {
        let error: anyhow::Result<()> = Err(io::Error::other("no space")).context("the key cannot be written");
        let failure = Failure::from(error.expect_err("it failed")).hint("make room");
        assert_eq!(shown(&failure), "twinagent: the key cannot be written: no space\nhint: make room\n");
        assert_eq!(failure.exit(), Exit::Failed);
    }

    #[test]
    fn want_of_rights_is_told_from_other_failures() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let failure = Failure::from(anyhow::Error::new(denied).context("a").context("b"));
        assert_eq!(failure.exit(), Exit::NotPermitted);
        assert!(shown(&failure).starts_with("twinagent: b: a: permission denied\nhint: "), "{}", shown(&failure));
    }
}
