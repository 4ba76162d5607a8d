//! `echo`: answers with its payload. Shows that the whole road works, and does nothing else.

use std::future::ready;
use std::time::Duration;

use super::{Context, Handler, Running};
use crate::model::command::{Class, Command, Method, MethodSpec, Outcome, Status};

#[derive(Debug)]
pub struct Echo;

impl Handler for Echo {
    fn spec(&self) -> MethodSpec {
        MethodSpec {
            harmless: true,
            class: Class::Parallel(64),
            time_limit: Duration::from_secs(10),
            // As much as a command can bring.
            output_limit: 256 * 1_024,
            description: "Answers with its payload".to_owned(),
            ..MethodSpec::new(Method::parse("echo").expect("`echo` is a method name"))
        }
    }

    fn run(&self, command: &Command, _: Context) -> Running {
        Box::pin(ready(Outcome::new(Status::DONE, command.payload.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::command::{CommandId, DeviceId, Key};
    use serde_json::json;

    #[tokio::test]
    async fn the_payload_comes_back_as_it_went() {
        let key = Key { target: DeviceId::parse("d").expect("an id"), id: CommandId::parse("1").expect("an id") };
        for payload in [json!(null), json!({ "a": [1, "x"] }), json!("text")] {
            let command = Command { key: key.clone(), method: Echo.spec().name, payload: payload.clone() };
            assert_eq!(Echo.run(&command, Context::alone()).await, Outcome::new(Status::DONE, payload));
        }
    }
}
