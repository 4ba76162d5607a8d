//! Files that are no programs, or that somebody else could change: none is run, and each is told why.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{Given, LIMIT, Service, Settings, begin, own_user};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

/// Runs this path, which must be refused with these words.
async fn expect_refusal(service: &Service, path: &Path, words: &str) {
    let outcome = service.run(&Given::new(path), json!(null)).await;
    let why = outcome.payload["error"].as_str().unwrap_or_default().to_owned();
    println!("{} {why}", outcome.status);
    assert!(
        outcome.status.0 == 500 && outcome.not_run && why.contains(words),
        "{}: {words:?} expected, told {}",
        path.display(),
        outcome.payload
    );
}

#[tokio::test]
async fn what_is_no_program_or_could_be_changed_is_refused() {
    let service = Service::start();
    let bin = service.path().join("bin");
    let good = service.program("good", "#!/bin/sh\necho good\n");
    assert_eq!(service.run(&Given::new(&good), json!(null)).await.payload, json!("good"));
    let refused = async |path: &Path, words: &str| expect_refusal(&service, path, words).await;

    refused(&bin.join("missing"), "bin/missing is missing").await;
    refused(&bin, "it is a folder").await;
    refused(&good.join("more"), "bin/good is no folder").await;
    refused(Path::new("relative"), "an absolute path").await;
    refused(&bin.join("../bin/good"), "an absolute path without `..`").await;

    let plain = service.program("plain", "#!/bin/sh\necho plain\n");
    set_mode(&plain, 0o644);
    refused(&plain, "it is not executable; mend it with: chmod a+x ").await;
    for (mode, words) in [
        (0o757, "can be written by everybody (mode 0757); mend it with: chmod go-w /"),
        (0o775, "can be written by its group (mode 0775)"),
        (0o4755, "set-user-id"),
        (0o2755, "set-user-id or set-group-id"),
    ] {
        set_mode(&plain, mode);
        refused(&plain, words).await;
    }

    let fifo = bin.join("fifo");
    assert!(Command::new("mkfifo").args(["-m", "755"]).arg(&fifo).status().expect("mkfifo").success());
    refused(&fifo, "it is a FIFO").await;
    refused(Path::new("/dev/null"), "/dev/null").await;

    symlink(&good, bin.join("link")).expect("a link");
    refused(&bin.join("link"), "bin/link is a link").await;
    symlink(&bin, service.path().join("way")).expect("a link");
    refused(&service.path().join("way/good"), "way is a link").await;

    let inner = bin.join("inner");
    fs::create_dir(&inner).expect("a folder");
    Service::copy(&good, &inner.join("good"));
    for (mode, words) in [
        (0o775, "bin/inner can be written by its group"),
        (0o1777, "bin/inner can be written by everybody (mode 1777)"),
    ] {
        set_mode(&inner, mode);
        refused(&inner.join("good"), words).await;
    }
    set_mode(&inner, 0o755);
    assert_eq!(service.run(&Given::new(&inner.join("good")), json!(null)).await.payload, json!("good"), "the control");
    let elsewhere = tempfile::TempDir::new_in("/tmp").expect("a folder");
    Service::copy(&good, &elsewhere.path().join("good"));
    refused(&elsewhere.path().join("good"), "/tmp can be written by everybody (mode 1777); put the program into").await;
    refused(
        &service.program("dos", "#!/bin/sh\r\necho dos\r\n"),
        "the line ends of DOS; mend it with: sed -i 's/\\r$//' /",
    )
    .await;

    refused(&service.program("lost", "#!/no/such/interpreter -x\n"), "its interpreter /no/such/interpreter is missing")
        .await;
    let owners = [0, own_user()].into();
    let told = twinagent::launcher::check(&bin.join("lost"), &owners).expect_err("whoever asks before is told, too");
    assert!(told.contains("its interpreter /no/such/interpreter is missing"), "{told}");
    twinagent::launcher::check(&good, &owners).expect("the control");
    refused(&service.program("odd", "echo odd\n"), "it is no program of this machine; a script begins with `#!`").await;
    refused(&service.program("empty", ""), "it is no program of this machine").await;
    refused(&service.program("kept", "#!/etc/passwd\n"), "may not execute it or its interpreter /etc/passwd").await;
    let foreign = service.program("foreign", "#!/bin/sh\n");
    if own_user() == 0 {
        chown(&foreign, Some(65_534), None).expect("root gives it away");
        refused(&foreign, "bin/foreign belongs to user 65534 and not to root; mend it with: chown root /").await;
        chown(&foreign, Some(0), None).expect("root takes it back");
        chown(&inner, Some(65_534), None).expect("root gives it away");
        refused(&inner.join("good"), "bin/inner belongs to user 65534").await;
    }
    let strict = Service::with(Settings { owners: vec![4_000_001], ..Settings::default() });
    expect_refusal(&strict, &foreign, "/ belongs to user 0").await;
}

#[tokio::test]
async fn a_manifest_that_has_changed_or_is_gone_runs_nothing() {
    let service = Service::start();
    let mark = service.path().join("notify/ran");
    let program = service.program("good", &format!("#!/bin/sh\ntouch {}\n", mark.display()));
    let handler = service.handler("one.toml", &Given::new(&program));
    service.handler("one.toml", &Given { arguments: vec!["--more".to_owned()], ..Given::new(&program) });
    let why =
        |outcome: &twinagent::model::command::Outcome| outcome.payload["error"].as_str().unwrap_or_default().to_owned();
    let outcome = begin(&handler, json!(null)).task.await.expect("an end");
    assert!(outcome.status.0 == 500 && why(&outcome).contains("has changed since"), "{}", outcome.payload);
    assert!(outcome.not_run, "it may be sent again");
    fs::remove_file(service.path().join("handlers.d/one.toml")).expect("it is there");
    let outcome = begin(&handler, json!(null)).task.await.expect("an end");
    assert!(outcome.status.0 == 500 && why(&outcome).contains("there is no manifest one.toml"), "{}", outcome.payload);
    assert!(outcome.not_run);
    assert!(!mark.exists());
}

/// Two files take the same name in turns while it is run: one good, one that everybody may write. What was judged is what
/// runs, so the bad one never does.
#[tokio::test]
async fn a_program_that_is_swapped_between_check_and_run_does_not_run() {
    const RUNS: usize = 300;
    let service = Service::start();
    let bin = service.path().join("bin");
    let (good, bad) =
        (service.program("good", "#!/bin/sh\necho good\n"), service.program("bad", "#!/bin/sh\necho bad\n"));
    set_mode(&bad, 0o777);
    let path = bin.join("program");
    fs::hard_link(&good, &path).expect("a link");
    let over = Arc::new(AtomicBool::new(false));
    let swapping = std::thread::spawn({
        let (over, path, next) = (over.clone(), path.clone(), bin.join("next"));
        move || {
            let mut swaps = 0_usize;
            while !over.load(Ordering::Relaxed) {
                for file in [&bad, &good] {
                    fs::hard_link(file, &next).expect("a link");
                    fs::rename(&next, &path).expect("a swap");
                    // Two links of one file are left alone (rename(2)).
                    let _ = fs::remove_file(&next);
                    swaps += 1;
                }
            }
            swaps
        }
    });
    let handler = service.handler("one.toml", &Given::new(&path));
    let (mut ran, mut refused) = (0, 0);
    let begun = Instant::now();
    // The thread that swaps may stand still for all of them; then there are more, until both were seen.
    while ran + refused < RUNS || ((ran == 0 || refused == 0) && begun.elapsed() < LIMIT) {
        let outcome = begin(&handler, json!(null)).task.await.expect("an end");
        match (outcome.status.0, &outcome.payload) {
            (200, Value::String(text)) if text == "good" => ran += 1,
            (500, told) if told["error"].as_str().is_some_and(|why| why.contains("can be written by everybody")) => {
                refused += 1;
            }
            (status, told) => panic!("{status} {told}"),
        }
    }
    // The control: whoever judges a name and then runs it, runs the bad one now and then.
    let mut fooled = 0;
    for _ in 0..RUNS {
        let is_good = fs::metadata(&path).is_ok_and(|found| found.permissions().mode() & 0o022 == 0);
        if is_good && Command::new(&path).output().is_ok_and(|output| output.stdout == b"bad\n") {
            fooled += 1;
        }
    }
    over.store(true, Ordering::Relaxed);
    let swaps = swapping.join().expect("it swaps");
    println!("{swaps} swaps: {ran} ran, {refused} refused, none wrong; judged by name, {fooled} of {RUNS} wrong");
    assert!(ran > 0 && refused > 0, "both were seen: {ran} {refused}");
}

/// A script's descriptor is open in no other program that starts at the same time.
#[tokio::test]
async fn programs_beside_each_other_inherit_nothing_of_each_other() {
    let service = Service::start();
    let script = service.program("script", "#!/bin/sh\nread x; echo done\n");
    let script = service.handler("script.toml", &Given::new(&script));
    let list = Given { arguments: vec!["/proc/self/fd".to_owned()], ..Given::new(&PathBuf::from("/usr/bin/ls")) };
    let list = service.handler("list.toml", &list);
    for _ in 0..20 {
        let runs: Vec<_> = (0..16).map(|at| begin(if at % 2 == 0 { &script } else { &list }, json!(null))).collect();
        for (at, run) in runs.into_iter().enumerate() {
            let outcome = run.task.await.expect("an end");
            assert_eq!(outcome.payload, json!(if at % 2 == 0 { "done" } else { "0\n1\n2\n3" }));
        }
    }
}
