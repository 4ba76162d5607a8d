//! The table of scenarios: what is wrong from the door to the first message after the subscription. What happens to sessions
//! that stand is in `sessions`.

use std::time::Duration;

use bytes::Bytes;
use rumqttc::mqttbytes::v4::{Connect, Packet};
use twinagent::bridge::{Door, Fault, RawPublish, Stage};

use super::scenario::{Does, Scenario, Where};
use super::sessions::sessions;
use crate::cloud::Kind;
use crate::device::Setup;

const CALM: &str = "[session]\nbackoff_max = \"1s\"\nbackoff_max_refused = \"1s\"\nkeep_alive = \"20s\"\n";
/// With a time-out so short that it ends some tries within the scenario. Where another reason is expected, none must be named
/// only because the machine stood still for a while.
const HASTY: &str =
    "[session]\nbackoff_max = \"1s\"\nbackoff_max_refused = \"1s\"\nconnect_timeout = \"2s\"\nkeep_alive = \"20s\"\n";
/// With a keep-alive so short that a dead link is noticed soon. The broker hangs up half of it after a ping is due, so that
/// a machine may stand still for nearly that long.
const ALERT: &str = "[session]\nbackoff_max = \"1s\"\nbackoff_max_refused = \"1s\"\nkeep_alive = \"8s\"\n";
/// Both.
const HASTY_AND_ALERT: &str =
    "[session]\nbackoff_max = \"1s\"\nbackoff_max_refused = \"1s\"\nconnect_timeout = \"2s\"\nkeep_alive = \"8s\"\n";

pub(super) fn plain(kind: Kind) -> Setup {
    Setup { answers: "events", config: CALM, ..Setup::on(kind) }
}

pub(super) fn alert(kind: Kind) -> Setup {
    Setup { config: ALERT, ..plain(kind) }
}

pub(super) fn hasty_and_alert(kind: Kind) -> Setup {
    Setup { config: HASTY_AND_ALERT, ..plain(kind) }
}

fn hasty(kind: Kind) -> Setup {
    Setup { config: HASTY, ..plain(kind) }
}

fn with_tls(kind: Kind) -> Setup {
    Setup { tls: true, ..plain(kind) }
}

fn hasty_with_tls(kind: Kind) -> Setup {
    Setup { tls: true, ..hasty(kind) }
}

pub(super) fn kept(kind: Kind) -> Setup {
    Setup { sessions: true, ..plain(kind) }
}

/// Long enough for some tries.
pub(super) const SHORT: Duration = Duration::from_secs(3);
/// Long enough for some tries that each end by the time-out of 2 s.
pub(super) const LONG: Duration = Duration::from_secs(6);

/// Those of this cloud.
pub(super) fn scenarios(kind: Kind) -> Vec<Scenario> {
    let mut all = doors();
    all.extend(answers_to_the_login());
    all.extend(answers_to_the_subscription(kind));
    all.extend(poison(kind));
    all.extend(sessions(kind));
    all.retain(|scenario| scenario.told.is_on(kind));
    all
}

/// Azure IoT Hub speaks nothing but TLS.
const PLAIN: Where = Where::Alone(Kind::IotCore, "that cloud has no listener without TLS");

// === Before anybody knows the device

fn doors() -> Vec<Scenario> {
    let plainly = |name, door, lasts, reasons| Scenario {
        name,
        told: PLAIN,
        does: Does::Door(door),
        lasts,
        reasons,
        setup: plain,
    };
    let behind_tls = |name, door, lasts, reasons| Scenario {
        name,
        told: Where::Everywhere,
        does: Does::Door(door),
        lasts,
        reasons,
        setup: with_tls,
    };
    let http = || Door::Says(page());
    vec![
        Scenario { setup: hasty, ..plainly("silence after TCP", Door::Frozen, LONG, &["time-out"]) },
        Scenario { setup: hasty_with_tls, ..behind_tls("silence instead of TLS", Door::Frozen, LONG, &["time-out"]) },
        plainly("a reset at once", Door::Reset, SHORT, &["closed-before-answer"]),
        plainly("HTTP instead of MQTT", http(), SHORT, &["captive-portal"]),
        behind_tls("HTTP instead of TLS", http(), SHORT, &["captive-portal"]),
        plainly("TLS instead of MQTT", Door::WrongLayer, SHORT, &["undecodable"]),
        behind_tls("MQTT instead of TLS", Door::WrongLayer, SHORT, &["tls"]),
    ]
}

/// As a hotel answers whatever it is asked.
fn page() -> Bytes {
    let head = "HTTP/1.1 400 Bad Request\r\nServer: portal\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n";
    Bytes::from(format!("{head}<html><body>{}</body></html>", "Please accept our terms. ".repeat(20)))
}

// === In the place of a CONNACK, or right behind it

/// What goes wrong at one login, on every cloud.
fn on_login(name: &'static str, fault: Fault, lasts: Duration, reasons: &'static [&'static str]) -> Scenario {
    let setup = if reasons == ["time-out"] { hasty } else { plain };
    Scenario { name, told: Where::Everywhere, does: Does::Logins(vec![fault]), lasts, reasons, setup }
}

fn answers_to_the_login() -> Vec<Scenario> {
    let instead = |bytes: &'static [u8]| Fault::Instead(Stage::Connack, Bytes::from_static(bytes));
    let last = |bytes: &'static [u8]| Fault::Last(Stage::Connack, Bytes::from_static(bytes));
    let after = |bytes: &'static [u8]| Fault::After(Stage::Connack, Bytes::from_static(bytes));
    let many = (0..5_000).flat_map(|_| publish(0, "/devices/gw-1/nothing", "x").to_bytes().to_vec()).collect();
    vec![
        on_login("CONNACK 1", Fault::RefuseLogin(1), SHORT, &["refused"]),
        on_login("CONNACK 2", Fault::RefuseLogin(2), SHORT, &["refused"]),
        on_login("CONNACK 3", Fault::RefuseLogin(3), SHORT, &["unavailable"]),
        on_login("CONNACK 4", Fault::RefuseLogin(4), SHORT, &["refused"]),
        on_login("CONNACK 5", Fault::RefuseLogin(5), SHORT, &["refused"]),
        on_login("CONNACK 0x13", Fault::RefuseLogin(0x13), SHORT, &["refused"]),
        on_login("CONNACK 0xff", Fault::RefuseLogin(0xff), SHORT, &["refused"]),
        on_login("a CONNACK of MQTT 5", last(&[0x20, 3, 0, 0x86, 0]), SHORT, &["refused"]),
        on_login("end of stream instead of a CONNACK", Fault::DropLogin, SHORT, &["closed-before-answer"]),
        on_login("silence instead of a CONNACK", instead(b""), LONG, &["time-out"]),
        on_login("a CONNACK by one byte a second", Fault::Drip(Duration::from_secs(1)), LONG, &["time-out"]),
        on_login("half a CONNACK, then silence", instead(&[0x20, 2, 0]), LONG, &["time-out"]),
        on_login("half a CONNACK, then the end", last(&[0x20, 2, 0]), SHORT, &["closed-before-answer"]),
        on_login("a CONNACK that is too short", last(&[0x20, 1, 0]), SHORT, &["undecodable"]),
        on_login("an empty CONNACK", last(&[0x20, 0]), SHORT, &["undecodable"]),
        on_login("garbage", last(b"\xf7\x05\xff\0\x9a\x01\x02"), SHORT, &["undecodable"]),
        on_login("a PUBLISH instead of a CONNACK", last(b"\x30\x05\0\x03a/bx"), SHORT, &["protocol"]),
        on_login("a second CONNACK", after(&[0x20, 2, 0, 0]), SHORT, &["protocol"]),
        on_login("5 000 messages before the SUBACK", Fault::After(Stage::Connack, many), SHORT, &["protocol"]),
    ]
}

// === In the place of a SUBACK

fn answers_to_the_subscription(kind: Kind) -> Vec<Scenario> {
    // The agent subscribes to all of its filters at once, with the packet id 1.
    let filters = match kind {
        Kind::IotCore => 2,
        Kind::IotHub => 4,
    };
    let instead = |id: u8, answers: &[u8]| {
        let length = u8::try_from(2 + answers.len()).expect("a few");
        Fault::Instead(Stage::Suback, [&[0x90, length, 0, id], answers].concat().into())
    };
    let last = |code: u8| instead(1, &[vec![1; filters - 1], vec![code]].concat());
    vec![
        on_login("all subscriptions refused", Fault::RefuseSubscriptions, SHORT, &["subscription-refused"]),
        on_login("one subscription refused", last(0x80), SHORT, &["subscription-refused"]),
        on_login("a SUBACK of MQTT 5", last(0x87), SHORT, &["subscription-refused"]),
        on_login("a SUBACK for another packet", instead(9, &vec![1; filters]), SHORT, &["protocol"]),
        on_login("a SUBACK with one answer too few", instead(1, &vec![1; filters - 1]), SHORT, &["protocol"]),
        on_login("a SUBACK with one answer too many", instead(1, &vec![1; filters + 1]), SHORT, &["protocol"]),
        on_login("a SUBACK without answers", instead(1, &[]), SHORT, &["undecodable"]),
        on_login("no SUBACK", Fault::WithholdSubacks, LONG, &["time-out"]),
    ]
}

// === At each login, once the subscriptions are granted

pub(super) fn publish(qos: u8, topic: &'static str, payload: impl Into<Bytes>) -> RawPublish {
    // Out of the way of the bridge's own.
    RawPublish { qos, ..RawPublish::new(topic, payload, 50_000) }
}

/// The topic of a command that would run, were it taken for one.
pub(super) const fn never(kind: Kind) -> &'static str {
    match kind {
        Kind::IotCore => "/devices/gw-1/commands/count/never",
        Kind::IotHub => "devices/gw-1/messages/devicebound/%24.mid=never&method=count",
    }
}

fn poison(kind: Kind) -> Vec<Scenario> {
    let poison = |name, bytes: Bytes, reasons| Scenario {
        name,
        told: Where::Everywhere,
        does: Does::Logins(vec![Fault::After(Stage::Suback, bytes)]),
        lasts: SHORT,
        reasons,
        setup: plain,
    };
    let raw = |name, bytes: &'static [u8], reasons| poison(name, Bytes::from_static(bytes), reasons);
    let never = never(kind);
    let topic = |name, end: &[u8], reasons| {
        let topic = [never.as_bytes(), end].concat();
        poison(name, RawPublish::new(topic, "", 50_000).to_bytes(), reasons)
    };
    let huge = RawPublish::new(never, vec![b' '; 2 * 1024 * 1024], 50_000).to_bytes();
    let (bad, wrong): (&[&str], &[&str]) = (&["undecodable"], &["protocol"]);
    vec![
        raw("a length that does not end", b"\x30\xff\xff\xff\xff\x01", bad),
        raw("a length of 256 MiB, then nothing", b"\x30\xff\xff\xff\x7f", bad),
        raw("packet type 0", b"\0\0", bad),
        raw("packet type 15", b"\xf0\0", bad),
        poison("QoS 3", publish(3, never, "").to_bytes(), bad),
        poison("QoS 2", publish(2, never, "").to_bytes(), wrong),
        poison("packet id 0", RawPublish::new(never, "", 0).to_bytes(), bad),
        topic("a topic that is no UTF-8", b"\xff\xfe", bad),
        topic("a topic with NUL", b"\0", wrong),
        topic("a topic with a wildcard", b"/#", wrong),
        poison("an empty topic", RawPublish::new("", "", 50_000).to_bytes(), wrong),
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

pub(super) fn packet(packet: &Packet) -> Bytes {
    let mut bytes = bytes::BytesMut::new();
    packet.write(&mut bytes, usize::MAX).expect("it can be written");
    bytes.freeze()
}
