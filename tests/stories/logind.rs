//! Stories of logind, on a bus of the story's own: a reboot that it is asked for, those who hold it back, a goodbye at every
//! shutdown. Real machines tell the same in tests/system.

use std::fs;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};
use twinagent::host::{boot, clock};

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, PATIENCE, Setup, make_helper};
use crate::fake_logind::{Bus, FREE, HELD, Logind, Says};
use crate::program::{done, problem};

on_both_clouds! {
    logind_is_asked_once_and_the_shutdown_waits_for_the_goodbye,
    a_shutdown_that_is_given_up_costs_a_reconnect,
    a_shutdown_that_is_given_up_while_the_bus_is_away_is_given_up,
    a_lock_holds_the_reboot_back_with_its_name_until_it_is_gone,
    where_logind_does_not_let_us_the_helper_serves_and_where_nobody_can_it_is_told,
    a_bus_that_comes_late_or_goes_is_seen,
    a_veto_holds_the_reboot_back_and_its_end_is_seen_at_once,
    a_simulation_asks_nothing_of_the_machine_but_heeds_vetoes,
    the_guard_can_be_seen_and_cleared_from_the_command_line,
}

const AUTO: &str = "[reboot]\nmin_uptime = \"0s\"\nmin_interval = \"0s\"\ngrace = \"0s\"\n";
const LOGIND: &str = "[reboot]\nmode = \"logind\"\nmin_uptime = \"0s\"\nmin_interval = \"0s\"\ngrace = \"0s\"\n";

/// A device on a machine with a bus and a logind.
struct Scene {
    device: Device,
    logind: Logind,
    bus: Bus,
}

impl Scene {
    async fn online(kind: Kind, config: &'static str, says: Says) -> Self {
        let mut device = Device::new(Setup { config, helper: false, ..Setup::on(kind) }).await;
        let bus = Bus::at(device.path("bus"));
        let logind = Logind::start(&bus.address(), says).await;
        device.start();
        device.wait_until_ready().await;
        Self { device, logind, bus }
    }

    async fn mode(&mut self, name: &str) {
        self.device.twin(|twin| twin["agent"]["rebootMode"] == name).await;
    }

    /// Whether logind is asked for a reboot, and with a dialogue.
    async fn asked(&mut self) -> bool {
        tokio::time::timeout(PATIENCE, self.logind.reboots.recv()).await.expect("logind is asked").expect("it lives")
    }

    /// The lock by which shutdowns wait for the agent.
    async fn lock(&mut self) -> UnixStream {
        tokio::time::timeout(PATIENCE, self.logind.locks.recv()).await.expect("a lock is taken").expect("it lives")
    }
}

/// Waits until a lock is dropped, without holding up the cloud that lives in this thread.
async fn dropped(mut lock: UnixStream) {
    let end = tokio::task::spawn_blocking(move || {
        lock.set_read_timeout(Some(PATIENCE)).expect("a socket");
        // Not by one `read`: with a time limit, the end of some child would interrupt it (signal(7)).
        lock.read_to_end(&mut Vec::new())
    });
    assert_eq!(end.await.expect("no panic").expect("it is dropped in time"), 0);
}

/// Waits until the mark of an orderly end is there, or is not. A slow disk makes and takes it beside everything else.
async fn is_marked(device: &Device, is_there: bool) {
    let mark = device.path("state/farewell");
    let wait = async {
        while mark.exists() != is_there {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("the mark is to be there: {is_there}"));
}

fn is_held(lock: &mut UnixStream) -> bool {
    lock.set_nonblocking(true).expect("a socket");
    let is_held = lock.read(&mut [0]).is_err();
    lock.set_nonblocking(false).expect("a socket");
    is_held
}

async fn logind_is_asked_once_and_the_shutdown_waits_for_the_goodbye(kind: Kind) {
    let mut held_up = Vec::new();
    // A machine may stand still for seconds, but not each time.
    for _ in 0..3 {
        let took = goodbye(kind).await;
        if took < Duration::from_secs(4) {
            return;
        }
        held_up.push(took);
    }
    panic!("the shutdown is held up for too long: {held_up:?}");
}

/// How long the shutdown is held up.
async fn goodbye(kind: Kind) -> Duration {
    let mut scene = Scene::online(kind, AUTO, FREE).await;
    make_helper(&scene.device.folders().runtime);
    scene.mode("logind").await;
    let mut lock = scene.lock().await;
    scene.device.send("rebootDevice/r-1", r#"{"reason":"new kernel"}"#).await;
    scene.device.answer("r-1", 202).await;
    assert!(!scene.asked().await, "nobody is there to be asked back");
    scene.device.twin(|twin| twin["reboot"]["state"] == "rebooting").await;
    assert!(is_held(&mut lock));
    assert!(!scene.device.path("run-reboot/request").exists(), "one road is enough");

    let begun = clock::boot();
    scene.logind.prepare(true).await;
    dropped(lock).await;
    let took = clock::boot().since(begun);
    let twin = scene.device.twin(|twin| twin["agent"]["shuttingDown"] == true).await;
    assert_eq!(twin["reboot"]["state"], "rebooting");
    assert!(!scene.device.cloud.connected().await);
    is_marked(&scene.device, true).await;
    let left = fs::read_to_string(scene.device.path("state/farewell")).expect("the mark");
    assert_eq!(left.trim_end(), boot::id().expect("this boot").to_string());
    scene.device.stop().await;
    assert!(scene.logind.reboots.try_recv().is_err(), "it is not asked twice");
    took
}

async fn a_shutdown_that_is_given_up_costs_a_reconnect(kind: Kind) {
    let mut scene = Scene::online(kind, AUTO, FREE).await;
    let lock = scene.lock().await;
    scene.logind.prepare(true).await;
    dropped(lock).await;
    is_marked(&scene.device, true).await;
    scene.logind.prepare(false).await;
    scene.device.wait_until_ready().await;
    assert!(is_held(&mut scene.lock().await), "the next one waits as well");
    scene.device.send("count/c-1", "").await;
    scene.device.answer("c-1", 200).await;
    // What comes now comes out of the blue.
    is_marked(&scene.device, false).await;

    // A stop by hand says goodbye too, and the next start takes it back.
    scene.device.stop().await;
    is_marked(&scene.device, true).await;
    scene.device.start();
    scene.device.wait_until_ready().await;
    is_marked(&scene.device, false).await;
    scene.device.stop().await;
}

async fn a_shutdown_that_is_given_up_while_the_bus_is_away_is_given_up(kind: Kind) {
    let mut scene = Scene::online(kind, AUTO, FREE).await;
    let lock = scene.lock().await;
    scene.logind.prepare(true).await;
    dropped(lock).await;
    let Scene { device, logind, bus } = scene;
    drop((logind, bus));
    let bus = Bus::at(device.path("bus"));
    let logind = Logind::start(&bus.address(), FREE).await;
    let mut scene = Scene { device, logind, bus };
    scene.device.wait_until_ready().await;
    assert!(is_held(&mut scene.lock().await));
    is_marked(&scene.device, false).await;
    scene.device.stop().await;
}

async fn a_lock_holds_the_reboot_back_with_its_name_until_it_is_gone(kind: Kind) {
    let mut scene = Scene::online(kind, LOGIND, HELD).await;
    scene.mode("logind").await;
    scene.device.send("rebootDevice/r-1", "").await;
    let twin = scene.device.twin(|twin| twin["reboot"]["heldBy"] == json!(["inhibitor"])).await;
    assert_eq!(twin["reboot"]["inhibitors"], json!([{ "who": "apt", "why": "package upgrade" }]));
    scene.logind.says.send_replace(FREE);
    assert!(!scene.asked().await);
    scene.device.stop().await;
}

async fn where_logind_does_not_let_us_the_helper_serves_and_where_nobody_can_it_is_told(kind: Kind) {
    for right in ["no", "challenge", "Not you"] {
        let mut scene = Scene::online(kind, AUTO, Says { right, ..FREE }).await;
        scene.mode("unavailable").await;
        let twin = scene.device.twin(|twin| twin["agent"]["health"] == "degraded").await;
        let text = problem(&twin["agent"]["problems"], "reboot-not-permitted").expect("a problem").to_owned();
        assert!(text.contains("hint: ") && text.contains("no way to the reboot helper"), "{text}");
        scene.device.send("rebootDevice/r-1", "").await;
        assert_eq!(scene.device.answer("r-1", 503).await["payload"]["error"], json!(text), "{right}");
        make_helper(&scene.device.folders().runtime);
        scene.mode("helper").await;
        scene.device.send("rebootDevice/r-2", "").await;
        let request = scene.device.path("run-reboot/request");
        let is_asked = async {
            while !request.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, is_asked).await.expect("the helper is asked");
        assert!(scene.logind.reboots.try_recv().is_err());
        scene.device.stop().await;
    }
    // Who wants logind gets logind.
    let mut scene = Scene::online(kind, LOGIND, Says { right: "no", ..FREE }).await;
    make_helper(&scene.device.folders().runtime);
    let twin = scene.device.twin(|twin| twin["agent"]["health"] == "degraded").await;
    let text = problem(&twin["agent"]["problems"], "reboot-not-permitted").expect("a problem");
    assert!(text.starts_with("logind does not let the agent reboot; hint: "), "{text}");
    scene.mode("unavailable").await;
    scene.device.stop().await;
}

async fn a_bus_that_comes_late_or_goes_is_seen(kind: Kind) {
    let mut device = Device::online(Setup { config: AUTO, helper: false, ..Setup::on(kind) }).await;
    device.twin(|twin| twin["agent"]["rebootMode"] == "unavailable").await;
    let bus = Bus::at(device.path("bus"));
    let logind = Logind::start(&bus.address(), FREE).await;
    let mut scene = Scene { device, logind, bus };
    scene.mode("logind").await;
    let lock = scene.lock().await;
    let Scene { mut device, logind, bus } = scene;
    drop((logind, bus));
    device.twin(|twin| twin["agent"]["rebootMode"] == "unavailable").await;
    let bus = Bus::at(device.path("bus"));
    let logind = Logind::start(&bus.address(), FREE).await;
    let mut scene = Scene { device, logind, bus };
    scene.mode("logind").await;
    drop(lock);
    assert!(is_held(&mut scene.lock().await));
    scene.device.stop().await;
}

async fn a_veto_holds_the_reboot_back_and_its_end_is_seen_at_once(kind: Kind) {
    let mut scene = Scene::online(kind, AUTO, FREE).await;
    let folder = scene.device.path("veto");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("harvest.toml"), "reason = \"not before noon\"\n").expect("a veto");
    scene.device.send("rebootDevice/r-1", "").await;
    let twin = scene.device.twin(|twin| twin["reboot"]["heldBy"] == json!(["veto"])).await;
    assert_eq!(twin["reboot"]["vetoes"], json!([{ "name": "harvest", "reason": "not before noon" }]));
    // By now it would be asked again only after eight seconds.
    tokio::time::sleep(Duration::from_secs(7)).await;
    fs::remove_file(folder.join("harvest.toml")).expect("a veto");
    let removed = clock::boot();
    scene.asked().await;
    assert!(clock::boot().since(removed) < Duration::from_secs(7), "{:?}", clock::boot().since(removed));
    scene.device.stop().await;
}

async fn a_simulation_asks_nothing_of_the_machine_but_heeds_vetoes(kind: Kind) {
    let config = "[reboot]\nmode = \"simulate\"\nsimulate_for = \"200ms\"\ngrace = \"0s\"\n";
    let mut scene = Scene::online(kind, config, HELD).await;
    let folder = scene.device.path("veto");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("harvest.toml"), "reason = \"no\"\n").expect("a veto");
    scene.device.send("rebootDevice/r-1", "").await;
    scene.device.twin(|twin| twin["reboot"]["heldBy"] == json!(["veto"])).await;
    fs::remove_file(folder.join("harvest.toml")).expect("a veto");
    scene.device.answer("r-1", 200).await;
    assert!(scene.logind.reboots.try_recv().is_err() && scene.logind.locks.try_recv().is_err());
    scene.device.stop().await;
}

async fn the_guard_can_be_seen_and_cleared_from_the_command_line(kind: Kind) {
    let config = "[reboot]\nmode = \"simulate\"\nsimulate_for = \"100ms\"\ngrace = \"0s\"\nmin_interval = \"0s\"\nmax_reboots = 1\n";
    let mut device = Device::online(Setup { config, ..Setup::on(kind) }).await;
    let guard = |text: String| serde_json::from_str::<Value>(&text).expect("JSON");
    assert_eq!(guard(done(&device, &["reboot-guard", "--json"]).await)["tripped"], false);
    device.send("rebootDevice/r-1", "").await;
    device.answer("r-1", 200).await;
    device.send("rebootDevice/r-2", "").await;
    device.answer("r-2", 429).await;
    assert!(done(&device, &["reboot-guard"]).await.starts_with("tripped: "));
    assert_eq!(guard(done(&device, &["reboot-guard", "reset", "--json"]).await)["reboots"], json!([]));
    device.send("rebootDevice/r-3", "").await;
    device.answer("r-3", 200).await;
    device.stop().await;
}
