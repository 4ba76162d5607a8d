//! Stories of a configuration that changes while the device lives: bad ones take nothing away, good ones count at once.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::device::{Device, Setup};
use crate::process::{Process, log, logged};
use crate::program::{done, problem, run, status};

const MAIN: &str = "etc/twinagent.toml";
const DROP_IN: &str = "etc/conf.d/60-story.toml";
const VOLATILE: &str = "volatile/70-story.toml";

/// Long enough for a change to be noticed and read, were there one.
const NOTICED: Duration = Duration::from_secs(1);

/// Writes a file of the device as an editor does: a new one takes the place of the old one.
fn write(device: &Device, file: &str, text: impl AsRef<[u8]>) {
    let path = device.path(file);
    let draft = device.path("draft");
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(&draft, text).expect("a file");
    fs::rename(&draft, &path).expect("in its place");
}

fn read(device: &Device, file: &str) -> String {
    fs::read_to_string(device.path(file)).expect("text")
}

fn remove(path: &Path) {
    let removed = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        removed => removed.expect("removed"),
    }
}

/// Waits until the status tells of a bad configuration, in words that begin with the place where it is wrong.
async fn is_told_here(device: &Device, place: &str, words: &str) {
    let is_it = |text: &str| text.starts_with(place) && text.contains(words);
    status(device, |status| problem(&status["problems"], "config").is_some_and(is_it)).await;
}

/// And the twin as well, which takes its time: the cloud takes one document a second.
async fn is_told(device: &mut Device, place: &str, words: &str) {
    is_told_here(device, place, words).await;
    let is_it = |text: &str| text.starts_with(place) && text.contains(words);
    device
        .twin(|twin| {
            twin["agent"]["health"] == "degraded" && problem(&twin["agent"]["problems"], "config").is_some_and(is_it)
        })
        .await;
}

async fn is_well_here(device: &Device) {
    status(device, |status| status["problems"] == json!([]) && status["state"] == "connected").await;
}

async fn is_well(device: &mut Device) {
    is_well_here(device).await;
    device.twin(|twin| twin["agent"]["health"] == "ok" && twin["agent"]["problems"] == json!([])).await;
}

/// Writes the end of a file anew, and tells the lines before it.
fn appended(device: &Device, file: &str, rest: &str) -> (String, usize) {
    let before = fs::read_to_string(device.path(file)).unwrap_or_default();
    (format!("{before}{rest}"), before.lines().count())
}

/// Each of these settings is wrong, is told with file and line, and is mended, in one session.
async fn wrong_settings_are_told_and_mended(file: &str) {
    let mut device = Device::online(Setup::default()).await;
    let good = fs::read(device.path(file)).ok();
    for (rest, line, words) in [
        ("[session]\nkeep_alive = true\n", 2, "session.keep_alive"),
        ("[session]\nconnect_timeout = \"9h\"\n", 2, "session.connect_timeout"),
        ("[report]\nheartbeat = \"2h\"\nheartbeat = \"3h\"\n", 3, "duplicate"),
    ] {
        let (text, lines) = appended(&device, file, rest);
        write(&device, file, text);
        let place = format!("{}:{}: ", device.path(file).display(), lines + line);
        is_told_here(&device, &place, words).await;
        // In words for people, too.
        let told = done(&device, &["status"]).await;
        assert!(told.contains("connected") && told.contains(&place), "{told}");
        match &good {
            Some(good) => write(&device, file, good),
            None => remove(&device.path(file)),
        }
        is_well_here(&device).await;
    }
    assert_eq!(device.logins().await, 1, "the session stayed");
    device.send("echo/after", "").await;
    device.answer("after", 200).await;
    device.stop().await;
}

#[tokio::test]
async fn wrong_settings_in_the_main_file_are_told_and_mended() {
    wrong_settings_are_told_and_mended(MAIN).await;
}

#[tokio::test]
async fn wrong_settings_in_a_drop_in_are_told_and_mended() {
    wrong_settings_are_told_and_mended(DROP_IN).await;
}

#[tokio::test]
async fn wrong_settings_in_a_volatile_drop_in_are_told_and_mended() {
    wrong_settings_are_told_and_mended(VOLATILE).await;
}

/// Files that cannot be read at all, in one session.
async fn unreadable_files_are_told_and_mended(file: &str) {
    let mut device = Device::online(Setup::default()).await;
    let path = device.path(file);
    let good = fs::read(&path).ok();
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let mend = |device: &Device| {
        remove(&device.path(file));
        if let Some(good) = &good {
            write(device, file, good);
        }
    };

    write(&device, file, b"# fine\n# \xff\xfe\n");
    is_told(&mut device, &format!("{}:2: ", path.display()), "UTF-8").await;
    mend(&device);
    is_well(&mut device).await;

    let sparse = fs::File::create(device.path("sparse")).expect("a file");
    sparse.set_len(100 << 20).expect("100 MB of nothing");
    fs::rename(device.path("sparse"), &path).expect("in its place");
    is_told_here(&device, &format!("{}: ", path.display()), "larger than").await;
    mend(&device);
    is_well_here(&device).await;

    remove(&path);
    fs::create_dir(&path).expect("a folder in its place");
    is_told_here(&device, &format!("{}: ", path.display()), "not a regular file").await;
    mend(&device);
    is_well_here(&device).await;

    write(&device, file, "");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("open to everybody");
    is_told_here(&device, &format!("{}: ", path.display()), "may be written by everybody").await;
    mend(&device);
    is_well_here(&device).await;

    assert_eq!(device.logins().await, 1, "the session stayed");
    device.stop().await;
}

#[tokio::test]
async fn an_unreadable_main_file_is_told_and_mended() {
    unreadable_files_are_told_and_mended(MAIN).await;
}

#[tokio::test]
async fn an_unreadable_drop_in_is_told_and_mended() {
    unreadable_files_are_told_and_mended(DROP_IN).await;
}

#[tokio::test]
async fn an_unreadable_volatile_drop_in_is_told_and_mended() {
    unreadable_files_are_told_and_mended(VOLATILE).await;
}

#[tokio::test]
async fn a_configuration_that_is_removed_takes_no_device_off_its_cloud() {
    let mut device = Device::online(Setup::default()).await;
    let good = read(&device, MAIN);
    for removed in [MAIN, "etc"] {
        let aside = device.path("aside");
        fs::rename(device.path(removed), &aside).expect("moved away");
        is_told(&mut device, "", "no cloud is configured any more").await;
        fs::rename(&aside, device.path(removed)).expect("moved back");
        is_well(&mut device).await;
    }
    assert_eq!(read(&device, MAIN), good);
    assert_eq!(device.logins().await, 1);
    device.stop().await;
}

#[tokio::test]
async fn an_unknown_key_is_a_warning_and_nothing_else() {
    let mut device = Device::new(Setup::default()).await;
    let process = Process::online(&mut device).await;
    let (text, lines) = appended(&device, MAIN, "[reprot]\nheartbeat = \"2h\"\n[report]\nheartbeat = \"3h\"\n");
    write(&device, MAIN, text);
    logged(&device, "a new configuration is in force").await;
    let place = format!("{}:{}: ", device.path(MAIN).display(), lines + 2);
    let told = log(&device);
    let line = told.lines().find(|line| line.contains(&place)).expect("the place of the key");
    assert!(line.contains(" WARN ") && line.contains("reprot"), "{line}");
    is_well(&mut device).await;
    assert_eq!(device.logins().await, 1);
    assert_eq!(run(&device, &["check"]).await.code, 78, "for `check` it is an error");
    process.stop().await;
}

#[tokio::test]
async fn a_variable_that_is_wrong_is_told_by_its_name_and_wins_where_it_is_right() {
    const KEEP_ALIVE: &str = "TWINAGENT__SESSION__KEEP_ALIVE";
    let mut device = Device::new(Setup::default()).await;
    let process = Process::start_with(&device, &[(KEEP_ALIVE, "never")]);
    let told = status(&device, |status| status["state"] == "not configured").await;
    let text = problem(&told["problems"], "config").expect("a problem");
    assert!(text.starts_with(&format!("${KEEP_ALIVE}: ")), "{text}");
    process.stop().await;

    let process = Process::start_with(&device, &[(KEEP_ALIVE, "70s")]);
    device.wait_until_ready().await;
    let before = device.twin(|twin| twin["agent"]["configHash"].is_string()).await;
    let (text, _) = appended(&device, MAIN, "[session]\nkeep_alive = \"80s\"\n");
    write(&device, MAIN, text);
    let (text, _) = appended(&device, MAIN, "[report]\nheartbeat = \"3h\"\n");
    write(&device, MAIN, text);
    device.twin(|twin| twin["agent"]["configHash"] != before["agent"]["configHash"]).await;
    assert_eq!(device.logins().await, 1, "the variable wins, so nothing that a login says has changed");
    process.stop().await;

    // With a last good configuration, the device stays in reach.
    let process = Process::start_with(&device, &[(KEEP_ALIVE, "never")]);
    device.wait_until_ready().await;
    is_told(&mut device, &format!("${KEEP_ALIVE}: "), "").await;
    process.stop().await;
}

#[tokio::test]
async fn a_good_change_counts_at_once_in_the_same_session() {
    let config = "[reboot]\nmode = \"simulate\"\ngrace = \"1h\"\n";
    let mut device = Device::online(Setup { answers: "events", config, ..Setup::default() }).await;
    let first = device.twin(|twin| twin["agent"]["rebootMode"] == "simulate").await;
    let hash = first["agent"]["configHash"].clone();
    device.send("count/c-1", "").await;
    device.answer("c-1", 200).await;
    device.send("ring/a-1", r#""hello""#).await;
    device.answer("a-1", 404).await;

    write(&device, DROP_IN, "methods.disable = [\"count\"]\n[commands.alias]\nring = \"echo\"\n");
    let twin = device.twin(|twin| twin["agent"]["configHash"] != hash).await;
    assert_eq!(twin["methods"], json!(["cancelReboot", "echo", "rebootDevice"]));
    device.send("count/c-2", "").await;
    device.answer("c-2", 404).await;
    device.send("ring/a-2", r#""hello""#).await;
    assert_eq!(device.answer("a-2", 200).await["payload"], "hello");

    // The reboot of the old policy would wait for an hour.
    device.send("rebootDevice/r-1", "").await;
    device.answer("r-1", 202).await;
    device.send("cancelReboot/x-1", "").await;
    device.answer("r-1", 499).await;
    write(&device, VOLATILE, "[reboot]\ngrace = \"0s\"\nsimulate_for = \"100ms\"\nmin_interval = \"0s\"\n");
    let hash = twin["agent"]["configHash"].clone();
    device.twin(|twin| twin["agent"]["configHash"] != hash).await;
    assert_eq!(device.logins().await, 1, "none of this needs another session");
    device.send("rebootDevice/r-2", "").await;
    device.answer("r-2", 200).await;

    remove(&device.path(DROP_IN));
    device.twin(|twin| twin["methods"] == json!(["cancelReboot", "count", "echo", "rebootDevice"])).await;
    device.stop().await;
}

#[tokio::test]
async fn a_change_of_what_a_login_says_makes_one_more_connection() {
    let mut device = Device::online(Setup::default()).await;
    let mut expected = 1;
    for text in ["cloud.iotcore.host = \"127.0.0.1\"\n", "session.keep_alive = \"70s\"\n", "auth.lifetime = \"2h\"\n"] {
        write(&device, DROP_IN, text);
        device.wait_until_ready().await;
        expected += 1;
        device.send(&format!("echo/e-{expected}"), "").await;
        device.answer(&format!("e-{expected}"), 200).await;
        assert_eq!(device.logins().await, expected, "{text}");
    }
    // What is written again as it was is no change.
    write(&device, DROP_IN, "# the same\nauth.lifetime = \"120m\"\n");
    tokio::time::sleep(NOTICED).await;
    assert_eq!(device.logins().await, expected);
    device.stop().await;
}

#[tokio::test]
async fn bad_files_at_the_start_cost_nothing_where_a_good_configuration_is_known() {
    let mut device = Device::online(Setup::default()).await;
    device.stop().await;
    let good = read(&device, MAIN);
    let (bad, lines) = appended(&device, MAIN, "[session]\nkeep_alive = true\n");
    write(&device, MAIN, &bad);
    device.start_as_it_is();
    device.wait_until_ready().await;
    let place = format!("{}:{}: ", device.path(MAIN).display(), lines + 2);
    is_told(&mut device, &place, "keep_alive").await;

    write(&device, MAIN, &good);
    is_well(&mut device).await;
    assert_eq!(device.logins().await, 2, "the files say what was in force, so the session goes on");
    device.stop().await;
}

#[tokio::test]
async fn what_came_into_force_within_a_session_is_kept_for_bad_times_too() {
    let mut device = Device::online(Setup::default()).await;
    write(&device, DROP_IN, "methods.disable = [\"count\"]\n");
    let without = json!(["cancelReboot", "echo", "rebootDevice"]);
    device.twin(|twin| twin["methods"] == without).await;
    assert_eq!(device.logins().await, 1, "it needed no other session");
    device.stop().await;

    write(&device, DROP_IN, "methods.disable = [\"count\"\n");
    device.start_as_it_is();
    device.wait_until_ready().await;
    let place = device.path(DROP_IN).display().to_string();
    let told = status(&device, |status| problem(&status["problems"], "config").is_some()).await;
    assert!(problem(&told["problems"], "config").is_some_and(|text| text.starts_with(&place)), "{told}");
    device.send("count/c-1", "").await;
    device.answer("c-1", 404).await;
    device.stop().await;
}

#[tokio::test]
async fn bad_files_at_the_first_start_leave_a_device_that_waits_for_better_ones() {
    let mut device = Device::new(Setup::default()).await;
    let good = read(&device, MAIN);
    let (bad, lines) = appended(&device, MAIN, "[session]\nkeep_alive = true\n");
    write(&device, MAIN, bad);
    device.start_as_it_is();
    let told = status(&device, |status| status["state"] == "not configured").await;
    let place = format!("{}:{}: ", device.path(MAIN).display(), lines + 2);
    assert!(problem(&told["problems"], "config").is_some_and(|text| text.starts_with(&place)), "{told}");
    assert_eq!(device.logins().await, 0);
    write(&device, MAIN, good);
    device.wait_until_ready().await;
    is_well(&mut device).await;
    device.stop().await;
}

#[tokio::test]
async fn a_key_that_is_missing_is_waited_for() {
    let mut device = Device::new(Setup::default()).await;
    let (key, aside) = (device.path("etc/keys/device.key"), device.path("aside"));
    fs::rename(&key, &aside).expect("moved away");
    device.start();
    let told = status(&device, |status| problem(&status["problems"], "key").is_some()).await;
    let text = problem(&told["problems"], "key").expect("a problem");
    assert!(text.contains(&key.display().to_string()), "{text}");
    assert_eq!(device.logins().await, 0);
    // One that others could read is not taken either, and the way to mend it is told.
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o644)).expect("a mode");
    fs::rename(&aside, &key).expect("moved back");
    let is_open = |text: &str| text.contains("open to others") && text.contains("chmod");
    status(&device, |status| problem(&status["problems"], "key").is_some_and(is_open)).await;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("a mode");
    device.wait_until_ready().await;
    is_well(&mut device).await;
    assert_eq!(device.logins().await, 1);
    device.stop().await;
}

#[tokio::test]
async fn a_new_install_reaches_for_nobody_and_goes_on_when_it_is_set_up() {
    let mut device = Device::new(Setup { tls: true, ..Setup::default() }).await;
    let port = device.bridge.addresses().mqtts.expect("a listener").port().to_string();
    fs::remove_file(device.path(MAIN)).expect("nothing is configured");
    let (keys, aside) = (device.path("etc/keys"), device.path("aside"));
    fs::rename(&keys, &aside).expect("nor is there a key");

    let calls = device.path("calls");
    let output = format!("--output={}", calls.display());
    // As a grandchild (`--daemonize`), so that the daemon is the child that is ended.
    let below = ["strace", "--daemonize", "--follow-forks", "--quiet=all", &output, "--trace=%network"];
    let process = Process::start_below(&device, &below, &[]);
    let told = status(&device, |status| status["state"] == "not configured").await;
    assert!(told["sentence"].as_str().is_some_and(|text| text.contains("[cloud]")), "{told}");
    assert_eq!(told["problems"], json!([]), "that is a state, not a fault");
    tokio::time::sleep(NOTICED).await;
    let seen = fs::read_to_string(&calls).expect("what strace saw");
    assert!(seen.contains("AF_UNIX"), "strace sees the local interface: {seen}");
    let reaches_out =
        |line: &&str| ["AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET"].iter().any(|family| line.contains(family));
    assert_eq!(seen.lines().filter(reaches_out).collect::<Vec<_>>(), Vec::<&str>::new());

    fs::rename(&aside, &keys).expect("the key that the cloud knows");
    let ca_file = device.bridge.ca_file().display().to_string();
    let setup = [
        "setup",
        "--kind",
        "iotcore",
        "--device",
        "gw-1",
        "--host",
        "localhost",
        "--port",
        &port,
        "--project",
        "my-project",
        "--region",
        "us-central1",
        "--registry",
        "my-registry",
        "--ca-file",
        &ca_file,
    ];
    done(&device, &setup).await;
    device.wait_until_ready().await;
    is_well(&mut device).await;
    let seen = fs::read_to_string(&calls).expect("what strace saw");
    assert!(seen.lines().any(|line| reaches_out(&line)), "now it reaches out, and strace sees that");
    process.stop().await;
}

#[tokio::test]
async fn a_hangup_reads_the_configuration_again() {
    let mut device = Device::new(Setup::default()).await;
    // Without inotify, nothing is noticed by itself.
    let deaf = ["strace", "--daemonize", "--follow-forks", "--quiet=all", "--output=/dev/null"];
    let inject = ["--trace=inotify_init1", "--inject=inotify_init1:error=EMFILE"];
    let process = Process::start_below(&device, &[&deaf[..], &inject].concat(), &[]);
    device.wait_until_ready().await;
    logged(&device, "hint: SIGHUP reads it again").await;
    write(&device, DROP_IN, "methods.disable = [\"count\"]\n");
    tokio::time::sleep(NOTICED).await;
    device.twin(|twin| twin["methods"].as_array().is_some_and(|methods| methods.contains(&json!("count")))).await;
    assert!(!log(&device).contains("a new configuration is in force"));
    process.hang_up();
    device.twin(|twin| twin["methods"] == json!(["cancelReboot", "echo", "rebootDevice"])).await;
    assert_eq!(device.logins().await, 1);
    process.stop().await;
}
