//! The daemon with one more method, `count`, for tests and the bench: it is in no package.
//!
//! `$TWINAGENT_COUNT_FILE` names the file that `count` appends to.

mod count;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use twinagent::cli::{Exit, run};
use twinagent::config::Folders;
use twinagent::handler::built_in;

#[expect(clippy::disallowed_methods, reason = "a test names the file from outside")]
fn main() -> ExitCode {
    twinagent::logging::start();
    let file = std::env::var_os("TWINAGENT_COUNT_FILE").map(PathBuf::from);
    let mut handlers = built_in();
    handlers.push(Arc::new(count::Count { file }));
    match run::run(&Folders::from_env(), None, handlers) {
        Ok(()) => Exit::Done.into(),
        Err(failure) => failure.report(),
    }
}
