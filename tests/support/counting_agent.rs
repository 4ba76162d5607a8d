//! The daemon with one more method, `count`, for tests and the bench: it is in no package.
//!
//! `count` is recorded and may run many times at once. Each run appends the id of its command to the file that
//! `$TWINAGENT_COUNT_FILE` names, in one write, so that a test can see what ran how often, whatever was killed when.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use twinagent::cli::{Exit, run};
use twinagent::config::Folders;
use twinagent::handler::{Handler, Running, built_in};
use twinagent::model::command::{Class, Command, Method, MethodSpec, Outcome, Status};

struct Count {
    file: Option<PathBuf>,
}

impl Handler for Count {
    fn spec(&self) -> MethodSpec {
        MethodSpec {
            name: Method::parse("count").expect("`count` is a method name"),
            harmless: false,
            class: Class::Parallel(64),
            time_limit: Duration::from_secs(10),
            output_limit: 1_024,
        }
    }

    fn run(&self, command: &Command) -> Running {
        let outcome = match &self.file {
            None => Ok(()),
            Some(file) => OpenOptions::new()
                .create(true)
                .append(true)
                .open(file)
                .and_then(|mut file| file.write_all(format!("{}\n", command.key.id).as_bytes())),
        };
        let outcome = match outcome {
            Ok(()) => Outcome::new(Status::DONE, json!({ "counted": command.key.id })),
            Err(error) => Outcome::failed(Status::FAILED, error.to_string()),
        };
        Box::pin(std::future::ready(outcome))
    }
}

#[expect(clippy::disallowed_methods, reason = "a test names the file from outside")]
fn main() -> ExitCode {
    twinagent::logging::start();
    let file = std::env::var_os("TWINAGENT_COUNT_FILE").map(PathBuf::from);
    let mut handlers = built_in();
    handlers.push(Arc::new(Count { file }));
    match run::run(&Folders::from_env(), None, handlers) {
        Ok(()) => Exit::Done.into(),
        Err(failure) => failure.report(),
    }
}
