//! Programs that serve methods, and those that only say so: registered, handed commands, lost.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use twinagent::local::Asked;
use twinagent::local::client::{ClientError, Wait};
use twinagent::local::interface;
use twinagent::model::ask::{CallerId, Question};
use twinagent::model::command::{Class, Status};

use crate::support::{Daemon, LIMIT, Raw};

fn serve(methods: &Value) -> Value {
    json!({ "method": "io.twinagent.Agent.Serve", "parameters": { "methods": methods }, "more": true })
}

/// A program that serves `readDoor`, and who it is.
fn serving(daemon: &Daemon) -> (Raw, CallerId) {
    let mut program = daemon.raw();
    program.call(&serve(&json!([{ "name": "readDoor", "timeLimitSeconds": 5 }])));
    assert_eq!(next(&mut program), json!({ "serving": ["readDoor"] }));
    let Asked::Question(caller, Question::Serve { .. }) = daemon.heard() else { panic!("it serves") };
    (program, caller)
}

/// What the program is told next; more follows.
#[track_caller]
fn next(program: &mut Raw) -> Value {
    let reply = program.reply().expect("it is served");
    assert_eq!(reply["continues"], true, "{reply}");
    reply["parameters"].clone()
}

/// Somebody who asks for the outcome and waits for it.
fn invoke(daemon: &Daemon) -> Raw {
    let mut invoker = daemon.raw();
    let parameters = json!({ "method": "readDoor", "payload": [1, { "a": null }] });
    invoker.call(&json!({ "method": "io.twinagent.Agent.Invoke", "parameters": parameters }));
    invoker
}

fn call(daemon: &Daemon, method: &str, parameters: &Value) -> Result<Value, (String, Value)> {
    match daemon.client().call(method, parameters, Wait::Short) {
        Ok(answer) => Ok(answer.into()),
        Err(ClientError::Refused { name, parameters }) => {
            Err((name.rsplit('.').next().unwrap_or_default().to_owned(), parameters.into()))
        }
        Err(other) => panic!("{method}: {other}"),
    }
}

#[test]
fn a_command_is_handed_over_and_its_outcome_comes_back() {
    let daemon = Daemon::start();
    let (mut program, _) = serving(&daemon);
    for run in 1..=3 {
        let mut invoker = invoke(&daemon);
        let command = next(&mut program);
        assert_eq!((&command["run"], &command["method"]), (&json!(run), &json!("readDoor")));
        assert_eq!((&command["payload"], &command["timeLimitSeconds"]), (&json!([1, { "a": null }]), &json!(5)));
        let going = json!({ "run": run, "text": "half way" });
        assert_eq!(call(&daemon, "Progress", &going), Ok(json!({ "taken": true })));
        let end = json!({ "run": run, "status": 200, "payload": { "door": "open" } });
        assert_eq!(call(&daemon, "Finish", &end), Ok(json!({ "taken": true })));
        let told = invoker.reply().expect("the outcome");
        assert_eq!(told["parameters"]["payload"], json!({ "door": "open" }));
        assert_eq!(call(&daemon, "Finish", &end), Err(("UnknownRun".to_owned(), json!({}))), "it has ended");
    }
    let _invoker = invoke(&daemon);
    next(&mut program);
    assert_eq!(call(&daemon, "Cancel", &json!({ "id": "stop" })).expect("an answer")["status"], 200);
    assert_eq!(next(&mut program), json!({ "run": 4, "stop": "cancelled" }));
}

#[test]
fn what_a_program_says_of_its_methods_reaches_the_daemon() {
    let daemon = Daemon::start();
    let mut program = daemon.raw();
    let all = json!({ "name": "a", "description": "d", "harmless": true, "class": "parallel", "parallel": 3,
        "timeLimitSeconds": 86_400, "outputLimit": 262_144 });
    program.call(&serve(&json!([all, { "name": "b", "class": "serial", "queue": 64 }])));
    next(&mut program);
    let Asked::Question(_, Question::Serve { methods }) = daemon.heard() else { panic!("it serves") };
    assert_eq!((methods[0].class, methods[0].output_limit), (Class::Parallel(3), 262_144));
    assert_eq!((methods[0].time_limit, methods[0].harmless), (Duration::from_secs(86_400), true));
    assert_eq!((methods[1].class, methods[1].time_limit), (Class::Serial(64), Duration::from_secs(30)));
    let mut second = daemon.raw();
    second.call(&serve(&json!([{ "name": "a" }])));
    let refused = second.reply().expect("a reply");
    assert_eq!(refused["error"], "io.twinagent.Agent.MethodTaken");
    assert_eq!(refused["parameters"], json!({ "method": "a" }));
    for error in ["MethodTaken", "UnknownRun"] {
        assert!(interface::DESCRIPTION.contains(&format!("\nerror {error} (")), "{error} is described");
    }
}

#[test]
fn what_cannot_be_served_is_refused_with_what_is_wrong() {
    let daemon = Daemon::start();
    let many: Vec<Value> = (0..33).map(|n| json!({ "name": format!("m{n}") })).collect();
    for (methods, wrong) in [
        (json!([]), "methods"),
        (json!(null), "methods"),
        (json!("readDoor"), "methods"),
        (json!(many), "methods"),
        (json!([{ "name": "a" }, 7]), "methods[1]"),
        (json!([{ "name": "../../bin/sh" }]), "methods[0].name"),
        (json!([{ "name": "a", "timeLimitSeconds": 0 }]), "methods[0].timeLimitSeconds"),
        (json!([{ "name": "a" }, { "name": "b", "tiem": 1 }]), "methods[1].tiem"),
    ] {
        let mut program = daemon.raw();
        program.call(&serve(&methods));
        let reply = program.reply().expect("a reply");
        assert_eq!(reply["error"], "org.varlink.service.InvalidParameter", "{methods}");
        assert_eq!(reply["parameters"], json!({ "parameter": wrong }), "{methods}");
    }
    for (method, parameters, wrong) in [
        ("Finish", json!({ "status": 200 }), "run"),
        ("Finish", json!({ "run": -1, "status": 200 }), "run"),
        ("Finish", json!({ "run": "1", "status": 200 }), "run"),
        ("Finish", json!({ "run": 1 }), "status"),
        ("Finish", json!({ "run": 1, "status": 202 }), "status"),
        ("Finish", json!({ "run": 1, "status": 201 }), "status"),
        ("Finish", json!({ "run": 1, "status": 65_736 }), "status"),
        ("Finish", json!({ "run": 1, "status": 200, "error": "x" }), "error"),
        ("Progress", json!({ "run": 1 }), "text"),
        ("Progress", json!({ "run": 1, "text": ["x"] }), "text"),
    ] {
        let expected = Err(("InvalidParameter".to_owned(), json!({ "parameter": wrong })));
        assert_eq!(call(&daemon, method, &parameters), expected, "{method} {parameters}");
    }
    assert_eq!(daemon.heard_already(), [], "the daemon was asked nothing");
    for status in [200, 400, 404, 408, 409, 410, 413, 422, 423, 429, 499, 500, 503] {
        let end = json!({ "run": 1, "status": status });
        assert_eq!(call(&daemon, "Finish", &end), Err(("UnknownRun".to_owned(), json!({}))));
        let Asked::Question(_, Question::Finish { outcome, .. }) = daemon.heard() else { panic!("an end") };
        assert_eq!(outcome.status, Status(status));
    }
}

#[test]
fn without_more_nothing_can_be_served() {
    let daemon = Daemon::start();
    let mut program = daemon.raw();
    let mut call = serve(&json!([{ "name": "a" }]));
    call["more"] = false.into();
    program.call(&call);
    let reply = program.reply().expect("a reply");
    assert_eq!(reply["error"], "org.varlink.service.ExpectedMore");
    assert_eq!(daemon.heard_already(), []);
}

/// Long silences are no fault of a program that nobody has asked anything. The limit of all others is a minute.
#[test]
fn a_program_may_wait_for_commands_for_longer_than_others_may_be_silent() {
    let daemon = Daemon::start();
    let (mut program, _) = serving(&daemon);
    let mut idle = daemon.raw();
    program.0.set_read_timeout(Some(Duration::from_secs(65))).expect("a limit");
    idle.0.set_read_timeout(Some(Duration::from_secs(120))).expect("a limit");
    idle.expect_end();
    let _invoker = invoke(&daemon);
    assert_eq!(next(&mut program)["method"], "readDoor");
}

/// A user may have sixteen connections that ask, and twice as many that serve.
#[test]
fn programs_that_serve_leave_room_for_those_who_ask() {
    let daemon = Daemon::start();
    let mut programs = Vec::new();
    for n in 0..32 {
        let mut program = daemon.raw();
        program.call(&serve(&json!([{ "name": format!("m{n}") }])));
        assert_eq!(next(&mut program), json!({ "serving": [format!("m{n}")] }));
        programs.push(program);
    }
    let mut further = daemon.raw();
    further.call(&serve(&json!([{ "name": "further" }])));
    let refused = further.reply().expect("a reply");
    assert_eq!(refused["error"], "io.twinagent.Agent.TooManyConnections");
    assert_eq!(refused["parameters"], json!({ "limit": 32 }));
    further.expect_end();
    call(&daemon, "GetStatus", &json!({})).expect("a person is answered");
    drop(programs.pop());
    let gone = |asked: &Asked| matches!(asked, Asked::Gone(_));
    while !gone(&daemon.heard()) {}
    let begun = Instant::now();
    loop {
        // The connection is known to be gone a moment before its place is free.
        let mut again = daemon.raw();
        again.call(&serve(&json!([{ "name": "again" }])));
        if again.reply().expect("a reply")["parameters"] == json!({ "serving": ["again"] }) {
            break;
        }
        assert!(begun.elapsed() < LIMIT, "its place is never free");
    }
}

#[test]
fn a_program_that_ends_is_missed_at_once() {
    let daemon = Daemon::start();
    for reads in [false, true] {
        let (mut program, caller) = serving(&daemon);
        let mut invoker = invoke(&daemon);
        assert!(matches!(daemon.heard(), Asked::Question(_, Question::Invoke { .. })));
        if reads {
            next(&mut program);
        }
        let begun = Instant::now();
        drop(program);
        assert_eq!(daemon.heard(), Asked::Gone(caller));
        assert_eq!(invoker.reply().expect("an outcome")["parameters"]["status"], 503);
        println!("its end was known after {:?}", begun.elapsed());
    }
}

#[test]
fn a_program_that_takes_no_commands_is_cut_off_and_delays_nobody() {
    let daemon = Daemon::start();
    let (mut lazy, caller) = serving(&daemon);
    let mut client = daemon.client();
    let payload = "x".repeat(100 * 1024);
    let begun = Instant::now();
    let mut handed_over = 0;
    // Nobody waits for the outcomes; each is a command that the program does not read.
    let mut invoker = daemon.raw();
    let gone = loop {
        let parameters = json!({ "method": "readDoor", "payload": payload });
        let call = json!({ "method": "io.twinagent.Agent.Invoke", "parameters": parameters });
        invoker.call(&call);
        invoker = daemon.raw();
        handed_over += 1;
        client.call("GetStatus", &json!({}), Wait::Short).expect("others are served");
        if daemon.heard_already().contains(&Asked::Gone(caller)) {
            break begun.elapsed();
        }
        assert!(begun.elapsed() < 3 * LIMIT, "it is never cut off");
        std::thread::sleep(Duration::from_millis(20));
    };
    println!("cut off after {gone:?} and {handed_over} commands");
    while lazy.reply().is_some() {}
    serving(&daemon);
}

#[test]
fn floods_of_registrations_and_of_ends_delay_nobody() {
    let daemon = Daemon::start();
    let (mut program, _) = serving(&daemon);
    let mut client = daemon.client();
    let mut flood = daemon.raw();
    for run in 0..2_000_u64 {
        let end =
            json!({ "method": "io.twinagent.Agent.Finish", "parameters": { "run": u64::MAX - run, "status": 200 } });
        flood.call(&end);
        assert_eq!(flood.reply().expect("a reply")["error"], "io.twinagent.Agent.UnknownRun");
        flood.call(&serve(&json!([{ "name": "readDoor" }])));
        assert_eq!(flood.reply().expect("a reply")["error"], "io.twinagent.Agent.MethodTaken");
        if run % 100 == 0 {
            client.call("GetStatus", &json!({}), Wait::Short).expect("others are served");
        }
        daemon.heard_already();
    }
    let mut huge = daemon.raw();
    let end = json!({ "run": 1, "status": 200, "payload": "x".repeat(256 * 1024) });
    huge.call(&json!({ "method": "io.twinagent.Agent.Finish", "parameters": end }));
    let reply = huge.reply().expect("a reply");
    assert_eq!(
        (&reply["error"], &reply["parameters"]["limit"]),
        (&json!("io.twinagent.Agent.TooLarge"), &json!(262_144))
    );
    let mut invoker = invoke(&daemon);
    let run = next(&mut program)["run"].clone();
    let largest = json!({ "run": run, "status": 200, "payload": "x".repeat(256 * 1024 - 2) });
    assert_eq!(call(&daemon, "Finish", &largest), Ok(json!({ "taken": true })));
    assert_eq!(invoker.reply().expect("the outcome")["parameters"]["status"], 200);
}

/// One of our examples. Ends with this.
struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        // Whether it has ended by itself makes no difference.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn example(daemon: &Daemon, with: &str, name: &str) -> Example {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/examples").join(name);
    let text = std::fs::read_to_string(&path).expect("the example");
    assert!(text.lines().count() <= 30, "an example is short");
    let mut command = Command::new(with);
    command.arg(path).arg(daemon.socket()).stdin(Stdio::null()).stdout(Stdio::null());
    Example(command.spawn().expect("python3, bash, socat and jq are there; hint: apt-get install socat jq"))
}

/// Until an example serves its method, and again after it was lost.
fn load(daemon: &Daemon) -> Value {
    let begun = Instant::now();
    loop {
        let told = daemon.client().call("Invoke", &json!({ "method": "readLoad" }), Wait::Short).expect("an outcome");
        assert!(begun.elapsed() < LIMIT, "it is never served: {told:?}");
        // Whoever is asked for a method that nobody serves echoes here.
        if told["status"] == 200 && !told["payload"].is_null() {
            return told["payload"].clone();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_examples_serve_a_method_and_what_they_leave_is_free_again() {
    let daemon = Daemon::start();
    for (with, name) in [("python3", "serve.py"), ("bash", "serve.sh"), ("python3", "serve.py")] {
        let program = example(&daemon, with, name);
        for _ in 0..3 {
            let load = load(&daemon);
            assert!(load.is_number() || load.as_array().is_some_and(|loads| loads.len() == 3), "{name}: {load}");
        }
        drop(program);
        let begun = Instant::now();
        while !daemon.heard_already().iter().any(|asked| matches!(asked, Asked::Gone(_))) {
            assert!(begun.elapsed() < LIMIT, "{name}: its end is never seen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
