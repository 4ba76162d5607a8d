//! Programs of the host that are run to their end.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Told {
    /// The exit code; 128 and the number of the signal that ended it, as in a shell.
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Told {
    /// What it printed, without the last line's end. Any end but a good one fails the test.
    #[track_caller]
    pub(crate) fn good(self, what: &str) -> String {
        assert_eq!(self.code, 0, "{what}\n{}\n{}", self.out, self.err);
        self.out.trim_end().to_owned()
    }
}

/// Runs a program, which finds nothing to read.
pub(super) fn run(command: &mut Command) -> Told {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{name} cannot be started: {error}; run tests/check.sh tools"));
    let output = child.wait_with_output().expect("a child can be waited for");
    let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or_default());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Told { code, out: text(&output.stdout), err: text(&output.stderr) }
}

/// Runs a program of the host that must succeed.
#[track_caller]
pub(super) fn host<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> String {
    let words: Vec<_> = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
    let what = words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    run(Command::new(&words[0]).args(&words[1..])).good(&what)
}
