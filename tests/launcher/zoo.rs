//! Programs that do everything that a program should not do. Each has its status, and the next one its turn.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use twinagent::model::command::Outcome;

use crate::support::{Given, LIMIT, Running, Service, begin, gone, until};

/// So much may the memory of the service grow over all of them, in KiB. What it must not do is grow with what they write.
const GROWTH: u64 = 24 * 1024;

/// So long those run that do not end by themselves: one that stands still for a while gets as far as it should.
const SHORT: Duration = Duration::from_secs(6);

struct Beast {
    name: &'static str,
    script: String,
    payload: Value,
    time_limit: Duration,
    grace: Duration,
    output_limit: usize,
    status: u16,
    /// What its payload must be like.
    is_right: fn(&Value) -> bool,
}

fn beast(name: &'static str, script: &str, status: u16, is_right: fn(&Value) -> bool) -> Beast {
    Beast {
        name,
        script: script.to_owned(),
        payload: json!({ "a": "b c\n$(id)" }),
        time_limit: Duration::from_secs(50),
        grace: Duration::from_secs(1),
        output_limit: 16 * 1024,
        status,
        is_right,
    }
}

fn short(beast: Beast) -> Beast {
    Beast { time_limit: SHORT, ..beast }
}

/// One that needs a moment when it is asked to end.
fn patient(beast: Beast) -> Beast {
    Beast { grace: Duration::from_secs(30), ..beast }
}

fn large(beast: Beast) -> Beast {
    Beast { payload: json!({ "a": "x".repeat(200 * 1024) }), output_limit: 256 * 1024, ..beast }
}

fn text<'a>(payload: &'a Value, member: &str) -> &'a str {
    payload[member].as_str().unwrap_or_default()
}

fn zoo() -> Vec<Beast> {
    let deep = format!("printf '%s' '{}{}'", "[".repeat(500), "]".repeat(500));
    vec![
        beast("tame", "cat", 200, |told| *told == json!({ "a": "b c\n$(id)" })),
        beast("says nothing", "exit 0", 200, Value::is_null),
        beast("text", "echo 'two\nlines'", 200, |told| *told == json!("two\nlines")),
        beast("binary", r"printf '\377\000\033[31mx'", 200, |told| *told == json!("\u{fffd}\0\u{1b}[31mx")),
        beast("exit 65", "echo 'no port' >&2; exit 65", 422, |told| text(told, "stderr") == "no port"),
        beast("exit 75", "exit 75", 503, |told| told["exitCode"] == 75),
        beast("exit 1", "echo out; echo err >&2; exit 1", 500, |told| {
            *told
                == json!({ "error": "the program ended with exit code 1", "exitCode": 1, "stderr": "err", "output": "out" })
        }),
        beast("exit 126", "exec /etc/passwd", 500, |told| told["exitCode"] == 126),
        beast("exit 127", "no-such-program", 500, |told| told["exitCode"] == 127),
        beast("segfault", "kill -SEGV $$", 500, |told| told["signal"] == 11 && text(told, "error").contains("SIGSEGV")),
        beast("killed", "kill -9 0", 500, |told| told["signal"] == 9),
        short(beast("hangs", "echo before; sleep 1000", 408, |told| text(told, "output") == "before")),
        short(beast("ignores SIGTERM", "trap '' TERM; while :; do sleep 1; done", 408, |told| told["signal"] == 9)),
        short(beast("stops itself", "kill -STOP $$", 408, |told| told["signal"] == 9)),
        short(patient(beast("ends well when asked", "trap 'echo bye; exit 0' TERM; sleep 1000 & wait", 408, |told| {
            text(told, "output") == "bye" && told["exitCode"] == 0
        }))),
        beast("floods stdout and ends", "head -c 80000000 /dev/zero | tr '\\0' y", 200, |told| {
            told["truncated"] == true && (16_000..=16_384).contains(&told.to_string().len())
        }),
        short(beast("floods stdout for ever", "yes", 408, |told| told["truncated"] == true)),
        beast("floods stderr", "head -c 40000000 /dev/zero | tr '\\0' e >&2; echo end >&2; exit 1", 500, |told| {
            text(told, "stderr").ends_with("eeend") && (4_000..=4_096).contains(&text(told, "stderr").len())
        }),
        short(beast("floods both for ever", "yes >&2 & yes", 408, |told| text(told, "stderr").len() > 2_000)),
        large(beast("does not read", "sleep 0.2; echo done", 200, |told| *told == json!("done"))),
        large(beast("closes stdin", "exec <&-; sleep 0.2; echo done", 200, |told| *told == json!("done"))),
        large(beast("reads and writes much", "cat", 200, |told| text(told, "a").len() == 200 * 1024)),
        large(beast("reads a little", "head -c 10 > /dev/null; echo done", 200, |told| *told == json!("done"))),
        beast("huge JSON", "printf '['; head -c 90000 /dev/zero | tr '\\0' 1; printf ']'", 200, |told| {
            told["truncated"] == true && text(told, "output").starts_with("[111")
        }),
        beast("deep JSON", &deep, 200, |told| told.as_str().is_some_and(|told| told.starts_with("[[[["))),
        beast("double fork that holds stdout", "(setsid sh -c 'sleep 1000' &); echo done", 200, |told| {
            *told == json!("done")
        }),
        beast(
            "floods from behind",
            "up=$NOTIFY_SOCKET.up; (setsid sh -c \"head -c 20000 /dev/zero; touch $up; yes\" &)\n\
             until [ -e $up ]; do sleep 0.1; done; rm $up; echo done",
            200,
            |told| told["truncated"] == true,
        ),
        beast("child that holds stdout", "sleep 1000 & echo done", 200, |told| *told == json!("done")),
        beast(
            "daemon without its mark",
            "setsid env -i /bin/sh -c 'sleep 1000 & sleep 1000' & sleep 0.2; echo done",
            200,
            |told| *told == json!("done"),
        ),
        beast("daemon that closes all", "setsid sleep 1000 <&- >&- 2>&- & echo done", 200, |told| {
            *told == json!("done")
        }),
        beast(
            "1 000 children",
            "i=0; while [ $i -lt 1000 ]; do sleep 1000 & i=$((i+1)); done; echo done",
            200,
            |told| *told == json!("done"),
        ),
        beast(
            "100 children, each a session",
            "for i in $(seq 100); do setsid sleep 1000 & done; sleep 0.2; echo done",
            200,
            |told| *told == json!("done"),
        ),
    ]
}

impl Beast {
    fn begin(&self, service: &Service, name: &str) -> Running {
        let program = service.program(name, &format!("#!/bin/sh\n{}\n", self.script));
        let (time_limit, grace, output_limit) = (self.time_limit, self.grace, self.output_limit);
        let given = Given { time_limit, grace, output_limit, ..Given::new(&program) };
        begin(&service.handler(&format!("{name}.toml"), &given), self.payload.clone())
    }

    fn judge(&self, outcome: &Outcome) {
        let shown: String = outcome.payload.to_string().chars().take(300).collect();
        assert_eq!((outcome.status.0, outcome.not_run), (self.status, false), "{}: {shown}", self.name);
        assert!((self.is_right)(&outcome.payload), "{}: {shown}", self.name);
    }
}

#[tokio::test]
async fn each_beast_has_its_status_and_nothing_of_it_is_left() {
    let service = Service::start();
    assert_eq!(service.script("echo first", json!(null)).await.status.0, 200, "{}", service.told());
    let (memory, descriptors) = (service.memory(), service.descriptors());
    let ended = async |run: Running| {
        let ended = tokio::time::timeout(LIMIT, run.task).await;
        ended.unwrap_or_else(|_| panic!("no outcome; {}", service.told())).expect("an end")
    };
    let (short, others): (Vec<_>, Vec<_>) = zoo().into_iter().partition(|beast| beast.time_limit == SHORT);
    for beast in others {
        let begun = Instant::now();
        let outcome = ended(beast.begin(&service, "beast")).await;
        let took = begun.elapsed();
        let left = service.children().len();
        gone(took, beast.name, || service.children().is_empty()).await;
        let next = Instant::now();
        let after = service.script("echo next", json!(null)).await;
        println!(
            "{:32} {} in {:6.1} ms, next after {:5.1} ms, {left} left, {} KiB",
            beast.name,
            outcome.status,
            took.as_secs_f64() * 1e3,
            next.elapsed().as_secs_f64() * 1e3,
            service.memory(),
        );
        beast.judge(&outcome);
        assert_eq!((after.status.0, after.payload), (200, json!("next")), "after {}", beast.name);
    }
    // These take their time, and so do it beside each other.
    let begun = Instant::now();
    let runs = short.iter().enumerate().map(|(at, beast)| beast.begin(&service, &format!("short-{at}")));
    for (run, beast) in runs.collect::<Vec<_>>().into_iter().zip(&short) {
        beast.judge(&ended(run).await);
    }
    // Each of them ran for so long at least, so none was cleared up after for longer than what is left.
    let clearing = begun.elapsed().saturating_sub(SHORT);
    let names: Vec<_> = short.iter().map(|beast| beast.name).collect();
    gone(clearing, &format!("one of {names:?}"), || service.children().is_empty()).await;
    assert_eq!(service.script("echo next", json!(null)).await.payload, json!("next"), "after those that were ended");
    until("descriptors are given back", || service.descriptors() <= descriptors).await;
    let grown = service.memory().saturating_sub(memory);
    println!("memory: {memory} KiB before, {grown} KiB more after");
    assert!(grown < GROWTH, "{grown} KiB more");
    let sockets = || std::fs::read_dir(service.path().join("notify")).expect("the folder").count();
    // The last one goes after the answer.
    until("no socket is left", || sockets() == 0).await;
}

/// What a program inherits: three descriptors, and a script the one that its interpreter reads.
#[tokio::test]
async fn a_program_has_three_descriptors_and_a_clean_environment() {
    let service = Service::start();
    let listed = service
        .run(
            &Given { arguments: vec!["/proc/self/fd".to_owned()], ..Given::new(Path::new("/usr/bin/ls")) },
            json!(null),
        )
        .await;
    assert_eq!(listed.payload, json!("0\n1\n2\n3"), "the last is the list that it reads");

    let script = "cd /proc/self/fd; for i in *; do echo \"$i $(readlink $i)\"; done; tr '\\0' '\\n' < /proc/self/environ; pwd; id -g";
    let outcome = service.script(script, json!(null)).await;
    let told = outcome.payload.as_str().expect("text").to_owned();
    let script = service.path().join("bin/script").display().to_string();
    let opened: Vec<&str> = told.lines().filter_map(|line| line.split_once(' ')).map(|(_, what)| what).collect();
    let foreign = |what: &&&str| !what.starts_with("pipe:") && **what != script && !what.starts_with("/proc/");
    assert_eq!(opened.iter().find(foreign), None, "{told}");
    let names: Vec<&str> = told.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    let known = [
        "LANG",
        "NOTIFY_SOCKET",
        "OLDPWD",
        "PATH",
        "PWD",
        "TWINAGENT_COMMAND_ID",
        "TWINAGENT_DEADLINE",
        "TWINAGENT_DEVICE_ID",
        "TWINAGENT_METHOD",
        "TWINAGENT_RUN",
        "TWINAGENT_TIME_LIMIT",
    ];
    assert!(names.iter().all(|name| known.contains(name)), "{told}");
    for expected in [
        "TWINAGENT_COMMAND_ID=c-1",
        "TWINAGENT_DEVICE_ID=device-7",
        "TWINAGENT_METHOD=one",
        "TWINAGENT_TIME_LIMIT=60",
        "LANG=C.UTF-8",
    ] {
        assert!(told.lines().any(|line| line == expected), "{expected} in {told}");
    }
    let deadline = told.lines().find_map(|line| line.strip_prefix("TWINAGENT_DEADLINE=")).expect("a deadline");
    assert!(deadline.parse::<twinagent::model::now::Timestamp>().is_ok(), "{deadline}");
}

/// What a run leaves behind goes with it, while another goes on; what cannot be told to be of a run goes with the last.
#[tokio::test]
async fn each_run_takes_its_own_leftovers_with_it() {
    let service = Service::start();
    let gate = service.path().join("notify/gate");
    let (up, mark) = (service.path().join("notify/up"), |name: &str| service.path().join("notify").join(name));
    let daemon = |name: &str, how: &str| {
        format!("{how} /bin/sh -c 'echo $$ > {0}.new; mv {0}.new {0}; sleep 1000' &", mark(name).display())
    };
    let long = format!(
        "#!/bin/sh\n{}\ntouch {}\nwhile ! [ -e {} ]; do sleep 0.05; done\n",
        daemon("of-long", "setsid"),
        up.display(),
        gate.display()
    );
    let long = begin(&service.handler("long.toml", &Given::new(&service.program("long", &long))), json!(null));
    until("the long one runs", || up.exists() && mark("of-long").exists()).await;
    let wait = |name: &str| format!("while ! [ -e {} ]; do sleep 0.05; done", mark(name).display());
    let script = format!(
        "{}\n{}\n{}\n{}\n",
        daemon("marked", "setsid"),
        daemon("wiped", "setsid env -i"),
        wait("marked"),
        wait("wiped")
    );
    let begun = Instant::now();
    assert_eq!(service.script(&script, json!(null)).await.status.0, 200, "{}", service.told());
    let took = begun.elapsed();
    let is_there = |name: &str| {
        let pid = std::fs::read_to_string(mark(name)).expect("its number");
        Path::new("/proc").join(pid.trim()).exists()
    };
    gone(took, "what it has marked", || !is_there("marked")).await;
    assert_eq!(["of-long", "marked", "wiped"].map(is_there), [true, false, true]);
    let begun = Instant::now();
    std::fs::write(&gate, "").expect("the gate opens");
    assert_eq!(long.task.await.expect("an end").status.0, 200);
    let is_over = || !["of-long", "wiped"].iter().any(|name| is_there(name)) && service.children().is_empty();
    gone(begun.elapsed(), "what both have started", is_over).await;
}
