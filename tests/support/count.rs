//! `count`: a recorded method for tests. Each run appends the id of its command to a file, in one write, so that a
//! test can see what ran how often, whatever was killed when. A payload `{"sleepMillis": n}` makes the run last that
//! long after the line was written, and `{"until": "PATH"}` until there is such a file; a minute at most.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use twinagent::handler::{Context, Handler, Running};
use twinagent::model::command::{Class, Command, Method, MethodSpec, Outcome, Status};

/// The longest that a run waits for its file, whether or not the agent minds its time limit.
const HELD: Duration = Duration::from_secs(60);

/// Without a file it counts nothing and only answers, for the bench.
pub(crate) struct Count {
    pub(crate) file: Option<PathBuf>,
}

impl Handler for Count {
    fn spec(&self) -> MethodSpec {
        MethodSpec {
            harmless: false,
            class: Class::Parallel(64),
            // Longer than a daemon that stops waits for it.
            time_limit: Duration::from_secs(60),
            output_limit: 1_024,
            ..MethodSpec::new(Method::parse("count").expect("`count` is a method name"))
        }
    }

    fn run(&self, command: &Command, _: Context) -> Running {
        let counted = match &self.file {
            None => Ok(()),
            Some(file) => OpenOptions::new()
                .create(true)
                .append(true)
                .open(file)
                .and_then(|mut file| file.write_all(format!("{}\n", command.key.id).as_bytes())),
        };
        let outcome = match counted {
            Ok(()) => Outcome::new(Status::DONE, json!({ "counted": command.key.id })),
            Err(error) => Outcome::failed(Status::FAILED, error.to_string()),
        };
        let sleep = command.payload["sleepMillis"].as_u64().map(Duration::from_millis);
        let until = command.payload["until"].as_str().map(PathBuf::from);
        Box::pin(async move {
            if let Some(sleep) = sleep {
                tokio::time::sleep(sleep).await;
            }
            let let_go = async {
                while until.as_ref().is_some_and(|file| !file.exists()) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            match tokio::time::timeout(HELD, let_go).await {
                Ok(()) => outcome,
                Err(_) => Outcome::failed(Status::FAILED, "nobody has let it go"),
            }
        })
    }
}
