//! The table of scenarios.

use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::mqttbytes::v4::{Connect, Packet, PubAck};
use serde_json::json;
use tokio::time::sleep;
use twinagent::bridge::{Door, Fault, RawPublish, Stage, Times};
use twinagent::config::Folders;
use twinagent::daemon::{self, Parts};
use twinagent::handler::built_in;

use super::scenario::{Does, Doing, Scenario};
use crate::device::{Device, Setup};

const CALM: &str =
    "[session]\nbackoff_max = \"1s\"\nbackoff_max_refused = \"1s\"\nconnect_timeout = \"2s\"\nkeep_alive = \"20s\"\n";
/// With a keep-alive so short that a dead link is noticed within the scenario.
const ALERT: &str =
    "[session]\nbackoff_max = \"1s\"\nbackoff_max_refused = \"1s\"\nconnect_timeout = \"2s\"\nkeep_alive = \"2s\"\n";

fn plain() -> Setup {
    Setup { answers: "events", config: CALM, ..Setup::default() }
}

fn alert() -> Setup {
    Setup { config: ALERT, ..plain() }
}

fn with_tls() -> Setup {
    Setup { tls: true, ..plain() }
}

fn kept() -> Setup {
    Setup { sessions: true, ..plain() }
}

/// Long enough for some tries.
const SHORT: Duration = Duration::from_secs(3);
/// Long enough for some tries that each end by the time-out of 2 s.
const LONG: Duration = Duration::from_secs(6);

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut all = doors();
    all.extend(answers_to_the_login());
    all.extend(answers_to_the_subscription());
    all.extend(poison());
    all.extend(sessions());
    all
}

// === Before anybody knows the device

fn doors() -> Vec<Scenario> {
    let door = |name, door, lasts, reasons| Scenario { name, does: Does::Door(door), lasts, reasons, setup: plain };
    let http = || Door::Says(page());
    vec![
        door("silence after TCP", Door::Frozen, LONG, &["time-out"]),
        Scenario { setup: with_tls, ..door("silence instead of TLS", Door::Frozen, LONG, &["time-out"]) },
        door("a reset at once", Door::Reset, SHORT, &["closed-before-answer"]),
        door("HTTP instead of MQTT", http(), SHORT, &["captive-portal"]),
        Scenario { setup: with_tls, ..door("HTTP instead of TLS", http(), SHORT, &["captive-portal"]) },
        door("TLS instead of MQTT", Door::WrongLayer, SHORT, &["undecodable"]),
        Scenario { setup: with_tls, ..door("MQTT instead of TLS", Door::WrongLayer, SHORT, &["tls"]) },
    ]
}

/// As a hotel answers whatever it is asked.
fn page() -> Bytes {
    let head = "HTTP/1.1 400 Bad Request\r\nServer: portal\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n";
    Bytes::from(format!("{head}<html><body>{}</body></html>", "Please accept our terms. ".repeat(20)))
}

// === In the place of a CONNACK, or right behind it

fn answers_to_the_login() -> Vec<Scenario> {
    let login =
        |name, fault, lasts, reasons| Scenario { name, does: Does::Logins(vec![fault]), lasts, reasons, setup: plain };
    let instead = |bytes: &'static [u8]| Fault::Instead(Stage::Connack, Bytes::from_static(bytes));
    let last = |bytes: &'static [u8]| Fault::Last(Stage::Connack, Bytes::from_static(bytes));
    let after = |bytes: &'static [u8]| Fault::After(Stage::Connack, Bytes::from_static(bytes));
    let many = (0..5_000).flat_map(|_| publish(0, "/devices/gw-1/nothing", "x").to_bytes().to_vec()).collect();
    vec![
        login("CONNACK 1", Fault::RefuseLogin(1), SHORT, &["refused"]),
        login("CONNACK 2", Fault::RefuseLogin(2), SHORT, &["refused"]),
        login("CONNACK 3", Fault::RefuseLogin(3), SHORT, &["unavailable"]),
        login("CONNACK 4", Fault::RefuseLogin(4), SHORT, &["refused"]),
        login("CONNACK 5", Fault::RefuseLogin(5), SHORT, &["refused"]),
        login("CONNACK 0x13", Fault::RefuseLogin(0x13), SHORT, &["refused"]),
        login("CONNACK 0xff", Fault::RefuseLogin(0xff), SHORT, &["refused"]),
        login("a CONNACK of MQTT 5", last(&[0x20, 3, 0, 0x86, 0]), SHORT, &["refused"]),
        login("end of stream instead of a CONNACK", Fault::DropLogin, SHORT, &["closed-before-answer"]),
        login("silence instead of a CONNACK", instead(b""), LONG, &["time-out"]),
        login("a CONNACK by one byte a second", Fault::Drip(Duration::from_secs(1)), LONG, &["time-out"]),
        login("half a CONNACK, then silence", instead(&[0x20, 2, 0]), LONG, &["time-out"]),
        login("half a CONNACK, then the end", last(&[0x20, 2, 0]), SHORT, &["closed-before-answer"]),
        login("a CONNACK that is too short", last(&[0x20, 1, 0]), SHORT, &["undecodable"]),
        login("an empty CONNACK", last(&[0x20, 0]), SHORT, &["undecodable"]),
        login("garbage", last(b"\xf7\x05\xff\0\x9a\x01\x02"), SHORT, &["undecodable"]),
        login("a PUBLISH instead of a CONNACK", last(b"\x30\x05\0\x03a/bx"), SHORT, &["protocol"]),
        login("a second CONNACK", after(&[0x20, 2, 0, 0]), SHORT, &["protocol"]),
        login("5 000 messages before the SUBACK", Fault::After(Stage::Connack, many), SHORT, &["protocol"]),
    ]
}

// === In the place of a SUBACK

fn answers_to_the_subscription() -> Vec<Scenario> {
    let suback =
        |name, fault, lasts, reasons| Scenario { name, does: Does::Logins(vec![fault]), lasts, reasons, setup: plain };
    // The agent subscribes to two filters at once, with the packet id 1.
    let instead = |bytes: &'static [u8]| Fault::Instead(Stage::Suback, Bytes::from_static(bytes));
    vec![
        suback("both subscriptions refused", Fault::RefuseSubscriptions, SHORT, &["subscription-refused"]),
        suback("one subscription refused", instead(&[0x90, 4, 0, 1, 1, 0x80]), SHORT, &["subscription-refused"]),
        suback("a SUBACK of MQTT 5", instead(&[0x90, 4, 0, 1, 1, 0x87]), SHORT, &["subscription-refused"]),
        suback("a SUBACK for another packet", instead(&[0x90, 4, 0, 9, 1, 1]), SHORT, &["protocol"]),
        suback("a SUBACK with one answer of two", instead(&[0x90, 3, 0, 1, 1]), SHORT, &["protocol"]),
        suback("a SUBACK with three answers", instead(&[0x90, 5, 0, 1, 1, 1, 1]), SHORT, &["protocol"]),
        suback("a SUBACK without answers", instead(&[0x90, 2, 0, 1]), SHORT, &["undecodable"]),
        suback("no SUBACK", Fault::WithholdSubacks, LONG, &["time-out"]),
    ]
}

// === At each login, once the subscriptions are granted

fn publish(qos: u8, topic: &'static str, payload: impl Into<Bytes>) -> RawPublish {
    // Out of the way of the bridge's own.
    RawPublish { qos, ..RawPublish::new(topic, payload, 50_000) }
}

/// The topic of a command that would run, were it taken for one.
const NEVER: &str = "/devices/gw-1/commands/count/never";

fn poison() -> Vec<Scenario> {
    let poison = |name, bytes: Bytes, reasons| Scenario {
        name,
        does: Does::Logins(vec![Fault::After(Stage::Suback, bytes)]),
        lasts: SHORT,
        reasons,
        setup: plain,
    };
    let raw = |name, bytes: &'static [u8], reasons| poison(name, Bytes::from_static(bytes), reasons);
    let topic =
        |name, topic: &'static [u8], reasons| poison(name, RawPublish::new(topic, "", 50_000).to_bytes(), reasons);
    let huge = RawPublish::new(NEVER, vec![b' '; 2 * 1024 * 1024], 50_000).to_bytes();
    let (bad, wrong): (&[&str], &[&str]) = (&["undecodable"], &["protocol"]);
    vec![
        raw("a length that does not end", b"\x30\xff\xff\xff\xff\x01", bad),
        raw("a length of 256 MiB, then nothing", b"\x30\xff\xff\xff\x7f", bad),
        raw("packet type 0", b"\0\0", bad),
        raw("packet type 15", b"\xf0\0", bad),
        poison("QoS 3", publish(3, NEVER, "").to_bytes(), bad),
        poison("QoS 2", publish(2, NEVER, "").to_bytes(), wrong),
        poison("packet id 0", RawPublish::new(NEVER, "", 0).to_bytes(), bad),
        topic("a topic that is no UTF-8", b"/devices/gw-1/commands/count/never\xff\xfe", bad),
        topic("a topic with NUL", b"/devices/gw-1/commands/count/never\0", wrong),
        topic("a topic with a wildcard", b"/devices/gw-1/commands/#", wrong),
        topic("an empty topic", b"", wrong),
        raw("a topic longer than its packet", b"\x32\x05\0\x30a/b", bad),
        raw("a PUBACK for nothing", b"\x40\x02\x30\x39", wrong),
        raw("PUBREC", b"\x50\x02\0\x01", wrong),
        raw("PUBREL", b"\x62\x02\0\x01", wrong),
        raw("a SUBACK for nothing", b"\x90\x03\0\x01\x01", wrong),
        raw("DISCONNECT from a broker", b"\xe0\0", wrong),
        raw("a third CONNACK, in mid-session", b"\x20\x02\0\0", wrong),
        poison("CONNECT from a broker", packet(&Packet::Connect(Connect::new("x"))), wrong),
        poison("2 MiB in one packet at each login", huge.clone(), bad),
        Scenario { does: Does::Session(vec![], vec![huge.clone()]), ..poison("2 MiB in one packet, once", huge, bad) },
    ]
}

fn packet(packet: &Packet) -> Bytes {
    let mut bytes = bytes::BytesMut::new();
    packet.write(&mut bytes, usize::MAX).expect("it can be written");
    bytes.freeze()
}

// === In a session that stands

fn sessions() -> Vec<Scenario> {
    let stands = |name, faults, bytes, lasts, reasons| Scenario {
        name,
        does: Does::Session(faults, bytes),
        lasts,
        reasons,
        setup: plain,
    };
    let other = |name, does, lasts, reasons| Scenario { name, does: Does::Other(does), lasts, reasons, setup: plain };
    let kick = |name, time, lasts, reasons| Scenario {
        name,
        does: Does::Logins(vec![Fault::Kick(time)]),
        lasts,
        reasons,
        setup: plain,
    };
    let retained = RawPublish { retain: true, ..publish(1, NEVER, "") }.to_bytes();
    let pongs = Bytes::from_static(&[0xd0, 0]).repeat(10_000).into();
    let acks = packet(&Packet::PubAck(PubAck::new(64))).repeat(1_000).into();
    let half = Bytes::from_static(b"\x32\x40\0\x22/devices/gw-1/commands/count/never");
    vec![
        Scenario {
            setup: alert,
            ..stands("no PINGRESP", vec![Fault::WithholdPingresps], vec![], LONG, &["dead-link"])
        },
        Scenario {
            setup: alert,
            ..stands("half a packet, then silence", vec![Fault::WithholdPingresps], vec![half], LONG, &["dead-link"])
        },
        stands("a retained command", vec![], vec![retained], SHORT, &[]),
        stands(
            "a command of another device",
            vec![],
            vec![publish(1, "/devices/gw-2/commands/count/never", "").to_bytes()],
            SHORT,
            &[],
        ),
        stands("10 000 PINGRESPs", vec![], vec![pongs], SHORT, &[]),
        stands("1 000 PUBACKs for nothing", vec![], vec![acks], SHORT, &["protocol"]),
        other("one command, fifty times", repeat, SHORT, &[]),
        other("a payload 100 000 levels deep", deep, SHORT, &[]),
        other("PUBACKs withheld", withhold, SHORT, &[]),
        other("PUBACKs withheld until nothing more may be sent", fill, LONG, &[]),
        other("configurations huge, deep and broken", odd_configurations, SHORT, &[]),
        other("500 configurations, one after another", configurations, SHORT, &[]),
        other("half a packet, then the end", cut, SHORT, &["lost"]),
        Scenario {
            setup: alert,
            ..other("a broker that freezes", freeze, Duration::from_secs(8), &["dead-link", "time-out"])
        },
        Scenario { setup: kept, ..other("a session that is lost", forget, SHORT, &["kicked-early"]) },
        Scenario { setup: kept, ..other("poison that a kept session holds", poison_session, LONG, &["undecodable"]) },
        // Before the subscriptions are granted there is no session yet.
        kick("closed right after the login", Duration::ZERO, SHORT, &["closed"]),
        kick(
            "closed soon after each login",
            Duration::from_millis(700),
            Duration::from_secs(8),
            &["kicked-early", "taken-over"],
        ),
        other("another device with this identity", clone, Duration::from_secs(10), &["kicked-early", "taken-over"]),
    ]
}

async fn raw(device: &Device, messages: &[RawPublish]) {
    device.bridge.faults().publish(&device.name, messages).await.expect("a session");
}

fn repeat(device: &mut Device) -> Doing<'_> {
    Box::pin(async {
        let again =
            |n: u16| RawPublish { dup: n > 0, ..RawPublish::new("/devices/gw-1/commands/count/once", "", 50_000 + n) };
        raw(device, &(0..50).map(again).collect::<Vec<_>>()).await;
        device.answer("once", 200).await;
    })
}

fn deep(device: &mut Device) -> Doing<'_> {
    Box::pin(async {
        let deep = |open: &str, close: &str| open.repeat(50_000) + &close.repeat(50_000);
        for (n, body) in (0..).zip([deep("[", "]"), deep("{\"a\":", "}"), "[".repeat(100_000)]) {
            let in_place = RawPublish::new(NEVER, body.clone(), 50_000 + n);
            let in_envelope = RawPublish::new(
                "/devices/gw-1/commands",
                format!(r#"{{"method":"count","payload":{body}}}"#),
                50_100 + n,
            );
            raw(device, &[in_place, in_envelope]).await;
        }
        // Each is answered as what it is: no command.
        device.answer("never", 400).await;
    })
}

fn withhold(device: &mut Device) -> Doing<'_> {
    Box::pin(async {
        device.bridge.faults().add(&device.name, Fault::WithholdPubacks, Times::Always).await.expect("the device");
        for n in 0..10 {
            device.send(&format!("count/w-{n}"), "").await;
            device.answer(&format!("w-{n}"), 200).await;
        }
    })
}

/// More commands than answers may be on their way: those that are taken on all run, and are all told in the end.
fn fill(device: &mut Device) -> Doing<'_> {
    Box::pin(async {
        let faults = device.bridge.faults();
        faults.add(&device.name, Fault::WithholdPubacks, Times::Always).await.expect("the device");
        let many = (0..300).map(|n| (format!("count/f-{n}"), Bytes::new())).collect();
        device.cloud.send_commands(&device.name, many).await.expect("commands are acknowledged all the same");
        sleep(Duration::from_secs(3)).await;
        let ran: Vec<String> = device.counted().into_keys().filter(|id| id.starts_with("f-")).collect();
        assert_eq!(ran.len(), 64, "as many as may be untold, and no more");
        faults.clear(&device.name).await.expect("the device");
        for id in ran {
            device.answer(&id, 200).await;
        }
    })
}

fn odd_configurations(device: &mut Device) -> Doing<'_> {
    Box::pin(async {
        let bodies = [
            Bytes::from(vec![b'x'; 290 * 1024]),
            Bytes::from(format!("{{\"a\":\"{}\"}}", "x".repeat(290 * 1024))),
            Bytes::from("{\"a\":".repeat(50_000) + "1" + &"}".repeat(50_000)),
            Bytes::from("[".repeat(250_000)),
            Bytes::from_static(b"\xff\xfe\0{"),
            Bytes::new(),
        ];
        let messages: Vec<_> =
            (0..).zip(bodies).map(|(n, body)| RawPublish::new("/devices/gw-1/config", body, 50_000 + n)).collect();
        raw(device, &messages).await;
        device.cloud.set_config(&device.name, "{}").await.expect("a configuration");
        device.twin(|twin| twin["desired"]["status"] == 200).await;
    })
}

fn configurations(device: &mut Device) -> Doing<'_> {
    Box::pin(async {
        let numbered = |n: u16| RawPublish::new("/devices/gw-1/config", json!({ "n": n }).to_string(), 50_000 + n);
        raw(device, &(0..500).map(numbered).collect::<Vec<_>>()).await;
        device.cloud.set_config(&device.name, r#"{"n":"last"}"#).await.expect("a configuration");
        device.twin(|twin| twin["desired"]["status"] == 200).await;
    })
}

fn cut(device: &mut Device) -> Doing<'_> {
    Box::pin(async { device.bridge.faults().cut(&device.name).await.expect("a session") })
}

fn freeze(device: &mut Device) -> Doing<'_> {
    Box::pin(async { device.bridge.faults().set_door(Door::Frozen) })
}

/// The same card in another machine, for nearly as long as the scenario lasts.
fn clone(device: &mut Device) -> Doing<'_> {
    Box::pin(async {
        let (state, runtime) = (device.path("clone/state"), device.path("clone/run"));
        for folder in [&state, &runtime] {
            std::fs::create_dir_all(folder).expect("a folder");
        }
        let folders = Folders { state, runtime, ..device.folders() };
        let parts = Parts { folders, file: None, handlers: built_in(), machine: device.machine };
        let clone = tokio::spawn(daemon::run(parts, pending()));
        sleep(Duration::from_secs(9)).await;
        clone.abort();
        assert!(clone.await.is_err_and(|end| end.is_cancelled()), "it ran until then");
    })
}

fn forget(device: &mut Device) -> Doing<'_> {
    Box::pin(async { device.bridge.faults().forget_session(&device.name).await.expect("the device") })
}

/// Nobody takes it back: the agent itself must find out that this session is of no use.
fn poison_session(device: &mut Device) -> Doing<'_> {
    Box::pin(async {
        let huge = RawPublish::new(NEVER, vec![b' '; 2 * 1024 * 1024], 50_000).to_bytes();
        device.bridge.faults().poison(&device.name, huge).await.expect("a session");
    })
}
