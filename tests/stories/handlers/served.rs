//! Stories of programs of this machine that serve methods over the local interface, for as long as they are connected.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use twinagent::local::SOCKET;
use twinagent::local::client::{Client, Wait};
use twinagent::varlink::protocol::Frames;

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, PATIENCE, Setup};
use crate::local::next;

on_both_clouds! {
    a_program_that_serves_a_method_is_asked_and_its_answer_arrives,
    a_program_that_is_lost_leaves_503_and_no_method_and_may_come_back,
    a_served_command_ends_at_its_deadline_and_where_it_is_cancelled,
    a_daemon_that_was_killed_runs_no_served_command_again,
}

/// What one connection has; not more than a story asks for.
const REPLIES: usize = 64;
const LONGEST: usize = 1 << 20;

/// A program that serves methods. Its connection ends when this is dropped.
struct Program {
    connection: UnixStream,
    commands: mpsc::Receiver<Value>,
    folder: PathBuf,
}

impl Program {
    async fn serve(device: &Device, methods: Value) -> Self {
        let folder = device.path("run");
        let mut connection = UnixStream::connect(folder.join(SOCKET)).expect("the daemon listens");
        let call = json!({ "method": "io.twinagent.Agent.Serve", "parameters": { "methods": methods }, "more": true });
        connection.write_all(format!("{call}\0").as_bytes()).expect("the daemon reads");
        let mut reading = connection.try_clone().expect("a descriptor");
        let (sender, commands) = mpsc::channel(REPLIES);
        std::thread::spawn(move || {
            let (mut frames, mut some) = (Frames::default(), [0; 4_096]);
            while let Ok(length @ 1..) = reading.read(&mut some) {
                frames.push(&some[..length]);
                while let Ok(Some(frame)) = frames.take(LONGEST) {
                    let reply: Value = serde_json::from_slice(&frame).expect("JSON");
                    // The story may have ended.
                    let _ = sender.blocking_send(reply);
                }
            }
        });
        let mut program = Self { connection, commands, folder };
        let first = program.next().await;
        assert!(first["error"].is_null() && first["parameters"]["serving"].is_array(), "{first}");
        program
    }

    async fn next(&mut self) -> Value {
        next(&mut self.commands, |_| true).await
    }

    /// The next command, which must be this one; the number that it is answered by.
    async fn command(&mut self, id: &str) -> (u64, Value) {
        let reply = self.next().await;
        let command = &reply["parameters"];
        assert_eq!(command["id"], id, "{reply}");
        (command["run"].as_u64().expect("a number"), command.clone())
    }

    async fn call(&self, method: &'static str, parameters: Value) -> Result<(), String> {
        let folder = self.folder.clone();
        let called = tokio::task::spawn_blocking(move || {
            let called = Client::connect(&folder).and_then(|mut agent| agent.call(method, &parameters, Wait::Disk));
            called.map(|_| ()).map_err(|error| format!("{error:?}"))
        });
        tokio::time::timeout(PATIENCE, called).await.expect("a reply").expect("no panic")
    }

    async fn finish(&self, run: u64, status: u16, payload: Value) {
        let finished = self.call("Finish", json!({ "run": run, "status": status, "payload": payload })).await;
        finished.expect("it is under way");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The daemon may be gone before.
        let _ = self.connection.shutdown(Shutdown::Both);
    }
}

async fn a_program_that_serves_a_method_is_asked_and_its_answer_arrives(kind: Kind) {
    let mut device = Device::online(Setup::on(kind)).await;
    device.send("greet/g-0", "").await;
    device.answer("g-0", 404).await;
    let mut program = Program::serve(&device, json!([{ "name": "greet", "timeLimitSeconds": 60 }])).await;
    device.twin(|twin| twin["methods"].to_string().contains("\"greet\"")).await;
    // Nobody else may have it meanwhile.
    let folder = device.path("run");
    let taken = tokio::task::spawn_blocking(move || {
        let methods = json!({ "methods": [{ "name": "greet" }] });
        Client::connect(&folder).and_then(|mut agent| agent.follow("Serve", &methods, |_| false))
    });
    let taken = taken.await.expect("no panic").expect_err("it is served already");
    assert!(format!("{taken:?}").contains("MethodTaken"), "{taken:?}");
    device.send("greet/g-1", r#"{"name":"Ada"}"#).await;
    let (run, command) = program.command("g-1").await;
    assert_eq!((&command["method"], &command["payload"]), (&json!("greet"), &json!({ "name": "Ada" })));
    assert_eq!(command["timeLimitSeconds"], 60);
    program.call("Progress", json!({ "run": run, "text": "looking for her" })).await.expect("it is under way");
    device.twin(|twin| twin["commands"]["g-1"]["payload"]["progress"] == "looking for her").await;
    program.finish(run, 200, json!({ "greeting": "hello, Ada" })).await;
    assert_eq!(device.answer("g-1", 200).await["payload"], json!({ "greeting": "hello, Ada" }));
    // It has ended, and the number with it.
    let again = program.call("Finish", json!({ "run": run, "status": 200 })).await;
    assert!(again.as_ref().is_err_and(|error| error.contains("UnknownRun")), "{again:?}");
    // The same command again is answered without the program.
    device.send("greet/g-1", r#"{"name":"Ada"}"#).await;
    device.send("greet/g-2", "").await;
    let (run, _) = program.command("g-2").await;
    program.finish(run, 422, json!({ "error": "whom?" })).await;
    device.answer("g-2", 422).await;
    drop(program);
    device.twin(|twin| !twin["methods"].to_string().contains("\"greet\"")).await;
    // A program that was there a moment ago may be back soon.
    device.send("greet/g-3", "").await;
    let told = device.answer("g-3", 503).await;
    assert!(told["payload"]["retryAfterSeconds"].is_u64(), "{told}");
    device.stop().await;
}

async fn a_program_that_is_lost_leaves_503_and_no_method_and_may_come_back(kind: Kind) {
    let mut device = Device::online(Setup { answers: "events", ..Setup::on(kind) }).await;
    let methods = json!([{ "name": "greet" }]);
    let mut program = Program::serve(&device, methods.clone()).await;
    device.send("greet/g-1", "").await;
    program.command("g-1").await;
    drop(program);
    let told = device.answer("g-1", 503).await;
    assert!(told["payload"]["error"].is_string(), "{told}");
    let mut program = Program::serve(&device, methods).await;
    // It may have taken effect, so it is not handed over again.
    device.send("greet/g-1", "").await;
    device.send("greet/g-2", "").await;
    let (run, _) = program.command("g-2").await;
    program.finish(run, 200, Value::Null).await;
    device.answer("g-2", 200).await;
    device.stop().await;
}

async fn a_served_command_ends_at_its_deadline_and_where_it_is_cancelled(kind: Kind) {
    let mut device = Device::online(Setup { answers: "events", ..Setup::on(kind) }).await;
    // So quick that its end can be waited for, and not beyond a machine that stands still for seconds.
    let methods = json!([{ "name": "quick", "timeLimitSeconds": 5 }, { "name": "long", "timeLimitSeconds": 600 }]);
    let mut program = Program::serve(&device, methods).await;
    device.send("quick/q-1", "").await;
    device.send("quick/q-2", "").await;
    let (run, _) = program.command("q-1").await;
    let stop = program.next().await["parameters"].clone();
    assert_eq!((&stop["run"], &stop["stop"]), (&json!(run), &json!("timedOut")), "{stop}");
    // It is at it still, so the next one waits; and whatever it says now comes too late.
    program.finish(run, 200, Value::Null).await;
    device.answer("q-1", 408).await;
    let late = program.call("Finish", json!({ "run": run, "status": 200 })).await;
    assert!(late.as_ref().is_err_and(|error| error.contains("UnknownRun")), "{late:?}");
    // One that says nothing more is given up after a while.
    program.command("q-2").await;
    assert_eq!(program.next().await["parameters"]["stop"], "timedOut");
    device.answer("q-2", 408).await;

    device.send("long/l-1", "").await;
    let (run, _) = program.command("l-1").await;
    device.send("cancelCommand/x-1", r#"{"commandId":"l-1"}"#).await;
    assert_eq!(device.answer("x-1", 200).await["payload"]["cancelling"], "l-1");
    let stop = program.next().await["parameters"].clone();
    assert_eq!((&stop["run"], &stop["stop"]), (&json!(run), &json!("cancelled")), "{stop}");
    program.finish(run, 499, json!({ "error": "put back where it was" })).await;
    assert_eq!(device.answer("l-1", 499).await["payload"]["error"], "put back where it was");
    device.send("quick/q-3", "").await;
    let (run, _) = program.command("q-3").await;
    program.finish(run, 200, json!("done")).await;
    assert_eq!(device.answer("q-3", 200).await["payload"], "done");
    device.stop().await;
}

async fn a_daemon_that_was_killed_runs_no_served_command_again(kind: Kind) {
    let mut device = Device::new(Setup { answers: "events", ..Setup::on(kind) }).await;
    let process = crate::process::Process::online(&mut device).await;
    let methods = json!([{ "name": "greet", "timeLimitSeconds": 600 }]);
    let mut program = Program::serve(&device, methods.clone()).await;
    device.send("greet/g-1", "").await;
    program.command("g-1").await;
    process.kill().await;
    let process = crate::process::Process::online(&mut device).await;
    let told = device.answer("g-1", 500).await;
    assert_eq!(told["payload"]["interrupted"], true, "{told}");
    let mut program = Program::serve(&device, methods).await;
    device.send("greet/g-1", "").await;
    device.send("greet/g-2", "").await;
    let (run, _) = program.command("g-2").await;
    program.finish(run, 200, Value::Null).await;
    device.answer("g-2", 200).await;
    device.hear_until_quiet(Duration::from_millis(200)).await;
    let told = device.answers_to("g-1").into_iter().filter(|answer| answer["status"] != 202).count();
    assert_eq!(told, 1);
    process.stop().await;
}
