//! Stories of a configuration that changes while the device lives: bad ones take nothing away, good ones count at once.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use twinagent::local::client::{Client, Wait};

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, Setup};
use crate::process::{Process, log, logged};
use crate::program::{done, problem, run, status};

on_both_clouds! {
    wrong_settings_in_the_main_file_are_told_and_mended,
    wrong_settings_in_a_drop_in_are_told_and_mended,
    wrong_settings_in_a_volatile_drop_in_are_told_and_mended,
    an_unreadable_main_file_is_told_and_mended,
    an_unreadable_drop_in_is_told_and_mended,
    an_unreadable_volatile_drop_in_is_told_and_mended,
    a_configuration_that_is_removed_takes_no_device_off_its_cloud,
    an_unknown_key_is_a_warning_and_nothing_else,
    a_good_change_counts_at_once_in_the_same_session,
    a_reboot_that_waits_is_not_done_once_it_is_forbidden,
    a_device_that_is_given_another_id_says_nothing_wrong_under_the_old_one,
    a_change_of_what_a_login_says_makes_one_more_connection,
    what_came_into_force_within_a_session_is_kept_for_bad_times_too,
    a_hangup_and_a_local_caller_have_the_configuration_read_again,
}

pub(crate) const MAIN: &str = "etc/twinagent.toml";
pub(crate) const DROP_IN: &str = "etc/conf.d/60-story.toml";
const VOLATILE: &str = "volatile/70-story.toml";

/// Long enough for a change to be noticed and read, were there one.
pub(crate) const NOTICED: Duration = Duration::from_secs(1);

/// Writes a file of the device as an editor does: a new one takes the place of the old one.
pub(crate) fn write(device: &Device, file: &str, text: impl AsRef<[u8]>) {
    let path = device.path(file);
    let draft = device.path("draft");
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(&draft, text).expect("a file");
    fs::rename(&draft, &path).expect("in its place");
}

pub(crate) fn read(device: &Device, file: &str) -> String {
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
pub(crate) async fn is_told(device: &mut Device, place: &str, words: &str) {
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

pub(crate) async fn is_well(device: &mut Device) {
    is_well_here(device).await;
    device.twin(|twin| twin["agent"]["health"] == "ok" && twin["agent"]["problems"] == json!([])).await;
}

/// Writes the end of a file anew, and tells the lines before it.
pub(crate) fn appended(device: &Device, file: &str, rest: &str) -> (String, usize) {
    let before = fs::read_to_string(device.path(file)).unwrap_or_default();
    (format!("{before}{rest}"), before.lines().count())
}

/// Each of these settings is wrong, is told with file and line, and is mended, in one session.
async fn wrong_settings_are_told_and_mended(kind: Kind, file: &str) {
    let mut device = Device::online(Setup::on(kind)).await;
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

async fn wrong_settings_in_the_main_file_are_told_and_mended(kind: Kind) {
    wrong_settings_are_told_and_mended(kind, MAIN).await;
}

async fn wrong_settings_in_a_drop_in_are_told_and_mended(kind: Kind) {
    wrong_settings_are_told_and_mended(kind, DROP_IN).await;
}

async fn wrong_settings_in_a_volatile_drop_in_are_told_and_mended(kind: Kind) {
    wrong_settings_are_told_and_mended(kind, VOLATILE).await;
}

/// Files that cannot be read at all, in one session.
async fn unreadable_files_are_told_and_mended(kind: Kind, file: &str) {
    let mut device = Device::online(Setup::on(kind)).await;
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

async fn an_unreadable_main_file_is_told_and_mended(kind: Kind) {
    unreadable_files_are_told_and_mended(kind, MAIN).await;
}

async fn an_unreadable_drop_in_is_told_and_mended(kind: Kind) {
    unreadable_files_are_told_and_mended(kind, DROP_IN).await;
}

async fn an_unreadable_volatile_drop_in_is_told_and_mended(kind: Kind) {
    unreadable_files_are_told_and_mended(kind, VOLATILE).await;
}

async fn a_configuration_that_is_removed_takes_no_device_off_its_cloud(kind: Kind) {
    let mut device = Device::online(Setup::on(kind)).await;
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

async fn an_unknown_key_is_a_warning_and_nothing_else(kind: Kind) {
    let mut device = Device::new(Setup::on(kind)).await;
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

async fn a_good_change_counts_at_once_in_the_same_session(kind: Kind) {
    let config = "[reboot]\nmode = \"simulate\"\ngrace = \"1h\"\n";
    let mut device = Device::online(Setup { answers: "events", config, ..Setup::on(kind) }).await;
    let first = device.twin(|twin| twin["agent"]["rebootMode"] == "simulate").await;
    let hash = first["agent"]["configHash"].clone();
    device.send("count/c-1", "").await;
    device.answer("c-1", 200).await;
    device.send("ring/a-1", r#""hello""#).await;
    device.answer("a-1", 404).await;

    write(&device, DROP_IN, "methods.disable = [\"count\"]\n[commands.alias]\nring = \"echo\"\n");
    let twin = device.twin(|twin| twin["agent"]["configHash"] != hash).await;
    assert_eq!(
        twin["methods"],
        json!(["cancelCommand", "cancelReboot", "echo", "getStatus", "listMethods", "rebootDevice", "refreshState"])
    );
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
    device
        .twin(|twin| {
            twin["methods"]
                == json!([
                    "cancelCommand",
                    "cancelReboot",
                    "count",
                    "echo",
                    "getStatus",
                    "listMethods",
                    "rebootDevice",
                    "refreshState"
                ])
        })
        .await;
    device.stop().await;
}

async fn a_reboot_that_waits_is_not_done_once_it_is_forbidden(kind: Kind) {
    let config = "[reboot]\nmode = \"simulate\"\ngrace = \"1h\"\n";
    let mut device = Device::online(Setup { answers: "events", config, ..Setup::on(kind) }).await;
    device.send("rebootDevice/r-1", "").await;
    device.answer("r-1", 202).await;
    device.twin(|twin| twin["reboot"]["state"] == "scheduled").await;
    write(&device, DROP_IN, "methods.disable = [\"rebootDevice\"]\n");
    device.answer("r-1", 404).await;
    device.twin(|twin| twin["reboot"]["state"] == "failed").await;
    // And nothing waits for it any more.
    device.send("count/c-1", "").await;
    device.answer("c-1", 200).await;
    device.stop().await;
}

async fn a_device_that_is_given_another_id_says_nothing_wrong_under_the_old_one(kind: Kind) {
    let mut device = Device::online(Setup::on(kind)).await;
    let other = device.cloud.another("gw-2").await;
    // Another document may be sent by now, and would be, if nothing held it back.
    is_well(&mut device).await;
    tokio::time::sleep(NOTICED).await;
    write(&device, DROP_IN, "device.id = \"gw-2\"\n");
    let old = std::mem::replace(&mut device.cloud, other);
    device.cloud.wait_until_ready().await;
    device.listen().await;
    device.send("echo/new", "").await;
    device.answer("new", 200).await;
    is_well(&mut device).await;
    assert_eq!(device.complaint().await, None);
    device.cloud = old;
    assert_eq!((device.complaint().await, device.logins().await), (None, 1));
    device.stop().await;
}

async fn a_change_of_what_a_login_says_makes_one_more_connection(kind: Kind) {
    let mut device = Device::online(Setup::on(kind)).await;
    let mut expected = 1;
    let other_way = format!("{} = \"127.0.0.1\"\n", kind.way());
    for text in [&other_way, "session.keep_alive = \"70s\"\n", "auth.lifetime = \"2h\"\n"] {
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

async fn what_came_into_force_within_a_session_is_kept_for_bad_times_too(kind: Kind) {
    let mut device = Device::online(Setup::on(kind)).await;
    write(&device, DROP_IN, "methods.disable = [\"count\"]\n");
    let without =
        json!(["cancelCommand", "cancelReboot", "echo", "getStatus", "listMethods", "rebootDevice", "refreshState"]);
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

async fn a_hangup_and_a_local_caller_have_the_configuration_read_again(kind: Kind) {
    let mut device = Device::new(Setup::on(kind)).await;
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
    device
        .twin(|twin| {
            twin["methods"]
                == json!([
                    "cancelCommand",
                    "cancelReboot",
                    "echo",
                    "getStatus",
                    "listMethods",
                    "rebootDevice",
                    "refreshState"
                ])
        })
        .await;

    remove(&device.path(DROP_IN));
    let folder = device.path("run");
    let asked = tokio::task::spawn_blocking(move || {
        Client::connect(&folder).and_then(|mut client| client.call("Reload", &json!({}), Wait::Short))
    });
    asked.await.expect("no panic").expect("it is reloaded");
    device
        .twin(|twin| {
            twin["methods"]
                == json!([
                    "cancelCommand",
                    "cancelReboot",
                    "count",
                    "echo",
                    "getStatus",
                    "listMethods",
                    "rebootDevice",
                    "refreshState"
                ])
        })
        .await;
    assert_eq!(device.logins().await, 1);
    process.stop().await;
}
