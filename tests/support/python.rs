//! Scripts beside the tests, run by the Python of `target/venv`, where the clouds' own clients are installed.
//!
//! `TWINAGENT_TEST_AGENT` names another program to take as the agent: one for a foreign architecture, in an emulator.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

/// A script of this folder, which is told where the agent is.
pub(crate) fn script(name: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/venv/bin/python");
    assert!(python.exists(), "{} is not there\nhint: `tests/check.sh tools` makes it", python.display());
    let mut command = Command::new(python);
    command
        .arg(root.join("tests").join(name))
        .arg("--agent")
        .arg(env::var_os("TWINAGENT_TEST_AGENT").unwrap_or_else(|| OsString::from(env!("CARGO_BIN_EXE_twinagent"))))
        // Beside the scripts, in the source.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null());
    command
}

/// Runs it to its end, which must be a good one.
pub(crate) async fn succeed(mut command: Command) {
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("Python runs");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&said));
}
