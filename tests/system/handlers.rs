//! Methods that an operator added, on an installed machine: programs and jobs do what the cloud commands, also when the
//! agent, the service of programs or the whole machine goes down meanwhile.

use serde_json::{Value, json};

use crate::harness::{Device, Machine, Suite, eventually};

/// Leaves a line for each time that it runs.
const NOTE: &str = "echo run >>/var/lib/twinagent-handlers/$TWINAGENT_METHOD";

/// How often a program that notes it has run.
fn runs(machine: &Machine, method: &str) -> usize {
    machine.sh(&format!("cat /var/lib/twinagent-handlers/{method} 2>/dev/null || true")).lines().count()
}

#[track_caller]
fn wait_for_run(machine: &Machine, method: &str) {
    eventually(format!("{method} runs"), || (runs(machine, method) > 0).then_some(()));
}

fn main_pid(machine: &Machine) -> String {
    machine.property("twinagent-handlers.service", "MainPID")
}

#[test]
fn the_examples_do_what_they_say_by_the_lines_in_their_heads() {
    for suite in Suite::ALL {
        let device = Device::online(suite, "");
        let Device { machine, cloud } = &device;
        machine.write("/etc/systemd/system/gateway.service", "[Service]\nExecStart=/bin/sleep infinity\n");
        machine.sh("systemctl daemon-reload; systemctl start gateway");

        machine.use_example("diagnostics", "collectDiagnostics");
        cloud.send("collectDiagnostics/d-1", "");
        cloud.wait_for_answer("d-1", 200);
        let text = machine.sh("twinagent invoke collectDiagnostics");
        for part in ["== system", "== memory", "MemTotal:", "== addresses", "== failed services"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        cloud.send("collectDiagnostics/d-2", r#"{"all":true}"#);
        cloud.wait_for_answer("d-2", 422);

        machine.use_example("restart-gateway", "restartGateway");
        let before = machine.property("gateway.service", "MainPID");
        cloud.send("restartGateway/g-1", "");
        cloud.wait_for_answer("g-1", 200);
        assert_ne!(machine.property("gateway.service", "MainPID"), before);
        machine.write("/etc/systemd/system/gateway.service", "[Service]\nType=exec\nExecStart=/nowhere\n");
        machine.sh("systemctl daemon-reload");
        cloud.send("restartGateway/g-2", "");
        cloud.wait_for_answer("g-2", 500);

        machine.use_example("hostname", "setHostName");
        let applied = |name: &str| {
            let before = cloud.twin()["desired"]["members"]["hostname"]["digest"].clone();
            cloud.desire(&json!({ "hostname": name }));
            let is_over =
                |told: &Value| told["digest"] != before && told["status"].as_u64().is_some_and(|status| status != 202);
            let twin = cloud.wait_for_twin(|twin| is_over(&twin["desired"]["members"]["hostname"]));
            twin["desired"]["members"]["hostname"]["status"].clone()
        };
        assert_eq!(applied("renamed-1"), 200);
        assert_eq!((machine.sh("hostname"), machine.read("/etc/hostname")), ("renamed-1".into(), "renamed-1\n".into()));
        assert_eq!(applied("no name"), 422);
        assert_eq!(machine.sh("hostname"), "renamed-1");

        // Its light is a folder; the rest of the lines holds as it stands.
        machine.sh("mkdir -p /sys-of-the-story/status; cd /sys-of-the-story/status
             echo 255 >max_brightness; echo 0 >brightness; echo heartbeat >trigger
             sed -i s:/sys/class/leds/:/sys-of-the-story/: /usr/share/twinagent/examples/led/led.*");
        machine.use_example("led", "setLed");
        cloud.send("setLed/l-1", r#"{"on": true}"#);
        assert_eq!(cloud.wait_for_answer("l-1", 200)["payload"]["brightness"], 255);
        cloud.send("setLed/l-2", r#"{"on": "yes"}"#);
        cloud.wait_for_answer("l-2", 422);
        assert_eq!(machine.sh("cd /sys-of-the-story/status; cat brightness trigger"), "255\nnone");
        eventually("payloads go with their jobs", || machine.sh("ls /run/twinagent-jobs").is_empty().then_some(()));
        assert_eq!(machine.processes_of_programs().lines().count(), 1, "the service itself");
    }
}

#[test]
fn what_runs_while_the_agent_restarts_is_interrupted_once_and_a_job_goes_on() {
    for suite in Suite::ALL {
        let mut device = Device::online(suite, "cloud.iotcore.answers = \"events\"\n");
        {
            let machine = &device.machine;
            machine.add_program("slow", &format!("{NOTE}\nsleep 100"), "grace = \"1s\"\ntime_limit = \"5m\"\n");
            machine.add_job(
                "work",
                "echo run >>/var/tmp/worked\nuntil [ -e /run/go-on ]; do sleep 0.2; done\necho done",
                "",
            );
        }
        device.cloud.send("slow/s-1", "");
        device.cloud.send("work/w-1", r#"{"a":1}"#);
        let machine = &device.machine;
        wait_for_run(machine, "slow");
        let job = "twinagent-job-work@w-1.service";
        eventually("the job runs", || machine.sh("cat /var/tmp/worked || true").contains("run").then_some(()));
        let logins = device.cloud.logins();
        machine.sh("systemctl restart twinagent");
        device.cloud.wait_for_login(logins);
        assert_eq!(machine.property(job, "ActiveState"), "activating", "the job goes on");
        machine.sh("touch /run/go-on");

        device.cloud.send("echo/last-1", "");
        let mut answers = Vec::new();
        let is_told =
            |answers: &[Value], id: &str| answers.iter().any(|answer| answer["id"] == id && answer["status"] != 202);
        eventually("all outcomes", || {
            answers.extend(device.cloud.answers());
            ["s-1", "w-1", "last-1"].iter().all(|id| is_told(&answers, id)).then_some(())
        });
        let outcomes = |id: &str| -> Vec<&Value> {
            answers.iter().filter(|answer| answer["id"] == id && answer["status"] != 202).collect()
        };
        let (slow, work) = (outcomes("s-1"), outcomes("w-1"));
        assert_eq!((slow.len(), work.len()), (1, 1), "{answers:#?}");
        assert_eq!((&slow[0]["status"], &slow[0]["payload"]["interrupted"]), (&json!(500), &json!(true)), "{slow:#?}");
        assert_eq!(work[0]["status"], 200, "{work:#?}");
        assert_eq!((runs(machine, "slow"), machine.sh("cat /var/tmp/worked")), (1, "run".to_owned()));

        // Nothing is left of either.
        assert_eq!(machine.processes_of_programs().lines().filter(|line| !line.contains("run-handlers")).count(), 0);
        eventually("the job is cleared away", || (machine.property(job, "ActiveState") == "inactive").then_some(()));
        eventually("its payload, too", || machine.sh("ls /run/twinagent-jobs").is_empty().then_some(()));

        // The same command again is the same command.
        device.cloud.send("slow/s-1", "");
        device.cloud.send("echo/last-2", "");
        eventually("the answer to the last command", || {
            answers.extend(device.cloud.answers());
            is_told(&answers, "last-2").then_some(())
        });
        assert_eq!(runs(&device.machine, "slow"), 1);
    }
}

#[test]
fn a_reboot_waits_for_what_runs_and_then_the_machine_goes_down() {
    for suite in Suite::ALL {
        let config = "[reboot]\nmin_uptime = \"0s\"\nmin_interval = \"0s\"\ngrace = \"0s\"\ndrain = \"50s\"\n";
        let device = Device::online(suite, config);
        let Device { machine, cloud } = &device;
        machine.add_program(
            "work",
            &format!("{NOTE}\nuntil [ -e /tmp/../var/lib/twinagent-handlers/go-on ]; do sleep 0.2; done"),
            "",
        );
        let old = machine.boot_id().expect("it runs");
        cloud.send("work/w-1", "");
        wait_for_run(machine, "work");
        cloud.send("rebootDevice/r-1", "");
        cloud.wait_for_answer("r-1", 202);
        cloud.send("work/w-2", "");
        cloud.wait_for_answer("w-2", 409);
        assert_eq!((machine.boot_id(), machine.boots()), (Some(old.clone()), 1), "it waits");
        let logins = cloud.logins();
        machine.sh("touch /var/lib/twinagent-handlers/go-on");
        machine.wait_for_reboot(&old);
        cloud.wait_for_login(logins);
        cloud.wait_for_answer("r-1", 200);
        cloud.wait_for_answer("w-1", 200);
        assert_eq!((runs(machine, "work"), machine.boots()), (1, 2));
        // After the boot they work as before.
        cloud.send("work/w-3", "");
        cloud.wait_for_answer("w-3", 200);
        assert_eq!(machine.sh("systemctl --failed --no-legend"), "");
    }
}

#[test]
fn the_service_of_programs_may_be_killed_ends_by_itself_and_comes_back_for_the_next_command() {
    for suite in Suite::ALL {
        let device = Device::online(suite, "");
        let Device { machine, cloud } = &device;
        machine.add_program("slow", &format!("{NOTE}\nsleep 100 & setsid sleep 100 & wait"), "");
        machine.add_program("quick", NOTE, "");
        cloud.send("slow/s-1", "");
        wait_for_run(machine, "slow");
        let killed = main_pid(machine);
        machine.sh(&format!("kill -KILL {killed}"));
        let answer = cloud.wait_for_answer("s-1", 500);
        assert_eq!(answer["payload"]["interrupted"], true, "{answer:#}");
        cloud.send("quick/q-1", "");
        cloud.wait_for_answer("q-1", 200);
        assert_ne!(main_pid(machine), killed);
        assert_eq!((runs(machine, "slow"), runs(machine, "quick")), (1, 1));
        assert!(!machine.processes_of_programs().contains("sleep"), "{}", machine.processes_of_programs());

        // As when it has had nothing to do for a minute.
        machine.sh(&format!("kill -TERM {}", main_pid(machine)));
        eventually("it ends", || (main_pid(machine) == "0").then_some(()));
        assert_eq!(machine.processes_of_programs(), "");
        assert_eq!(machine.property("twinagent-handlers.service", "Result"), "success");
        cloud.send("quick/q-2", "");
        cloud.wait_for_answer("q-2", 200);

        // Switched off, and on again.
        machine.sh("systemctl disable --now twinagent-handlers.socket");
        cloud.send("quick/q-3", "");
        let answer = cloud.wait_for_answer("q-3", 503);
        let hint = answer["payload"]["hint"].as_str().unwrap_or_default();
        assert!(hint.contains("twinagent-handlers.socket"), "{answer:#}");
        machine.sh("systemctl enable --now twinagent-handlers.socket");
        cloud.send("quick/q-4", "");
        cloud.wait_for_answer("q-4", 200);
        assert_eq!(runs(machine, "quick"), 3);
        assert_eq!(machine.sh("systemctl --failed --no-legend"), "");
    }
}
