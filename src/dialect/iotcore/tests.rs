//! What the bridge sends is read as the public pages say, and what it must not send does no harm.

use proptest::prelude::*;

use super::*;
use crate::dialect::token::generate;
use crate::model::command::Request;
use crate::model::telemetry::Subfolder;

fn dialect(answers: Answers) -> IotCore {
    let settings = Settings {
        host: "localhost".to_owned(),
        port: 8883,
        project_id: "my-project".to_owned(),
        region: "us-central1".to_owned(),
        registry_id: "my-registry".to_owned(),
        ca_file: None,
        tls: true,
        answers,
        clean_session: true,
    };
    let device = DeviceId::parse("gw-1").expect("a device id");
    IotCore::new(&settings, device, Duration::from_secs(60), Duration::from_secs(3_600))
}

fn heard(topic: &str, payload: impl Into<Bytes>) -> Inbound {
    let packet = Packet { topic: topic.to_owned(), payload: payload.into(), qos: Qos::AtLeastOnce, retain: false };
    dialect(Answers::State).decode(&packet)
}

fn request(inbound: Inbound) -> Request {
    match inbound {
        Inbound::Command(request) => request,
        other => panic!("a command was expected: {other:?}"),
    }
}

/// Status and reason of what was refused, with the id and method that address the refusal.
fn refusal(inbound: Inbound) -> (u16, String, Option<String>, Option<String>) {
    match inbound {
        Inbound::Malformed { id, method, status, why, .. } => {
            (status.0, why, id.map(String::from), method.map(String::from))
        }
        other => panic!("a refusal was expected: {other:?}"),
    }
}

#[test]
fn the_login_is_what_the_bridge_asks_for() {
    crate::dialect::token::install_provider();
    let (_, key) = generate().expect("a key");
    let now = "2026-11-22T10:00:00Z".parse().expect("a time");
    let login = dialect(Answers::State).login(now, &Proof::Key(key)).expect("a login");
    assert_eq!(login.client_id, "projects/my-project/locations/us-central1/registries/my-registry/devices/gw-1");
    assert_eq!(login.password.reveal().split('.').count(), 3);
    assert!(login.clean && login.will.is_none());
    assert!(!format!("{login:?}").contains(login.password.reveal()));
    let filters: Vec<String> =
        dialect(Answers::State).subscriptions().into_iter().map(|subscription| subscription.filter).collect();
    assert_eq!(filters, ["/devices/gw-1/config", "/devices/gw-1/commands/#"]);
}

#[test]
fn a_subfolder_names_method_and_id() {
    let command = request(heard("/devices/gw-1/commands/rebootDevice", r#"{"reason":"x"}"#));
    assert_eq!((command.method.as_str(), &command.identity), ("rebootDevice", &Identity::Derived));
    assert_eq!(command.payload, json!({ "reason": "x" }));
    let command = request(heard("/devices/gw-1/commands/echo/42", ""));
    assert_eq!(command.identity, Identity::Given(CommandId::parse("42").expect("an id")));
    assert_eq!(command.payload, Value::Null);
}

#[test]
fn an_envelope_names_everything() {
    let envelope = r#"{"method":"echo","id":"a-1","payload":{"n":1},"expiresAt":"2026-11-22T10:00:00Z","note":"mine"}"#;
    for topic in ["/devices/gw-1/commands", "/devices/gw-1/commands/"] {
        let command = request(heard(topic, envelope));
        assert_eq!(command.method.as_str(), "echo");
        assert_eq!(command.identity, Identity::Given(CommandId::parse("a-1").expect("an id")));
        assert_eq!(command.payload, json!({ "n": 1 }));
        assert_eq!(command.expires, "2026-11-22T10:00:00Z".parse().ok());
    }
    let command = request(heard("/devices/gw-1/commands", r#"{"method":"echo","payload":"{\"n\":1}"}"#));
    assert_eq!((command.payload, command.identity), (json!({ "n": 1 }), Identity::Derived));
}

#[test]
fn a_bare_payload_is_for_the_default_method_if_there_is_one() {
    let dialect = dialect(Answers::State).with_default_method(Method::parse("echo").ok());
    let decode = |payload: &'static str| {
        let topic = "/devices/gw-1/commands".to_owned();
        dialect.decode(&Packet { topic, payload: payload.into(), qos: Qos::AtLeastOnce, retain: false })
    };
    for (payload, expected) in
        [("", json!(null)), ("7", json!(7)), (r#"{"n":1,"id":"x"}"#, json!({ "n": 1, "id": "x" }))]
    {
        let command = request(decode(payload));
        assert_eq!((command.method.as_str(), command.payload, command.identity), ("echo", expected, Identity::Derived));
    }
    assert_eq!(request(decode(r#"{"method":"count","id":"x"}"#)).method.as_str(), "count");
    assert_eq!(refusal(decode("{")).0, 400);
    assert_eq!(refusal(decode(r#"{"method":7}"#)).0, 400);
}

#[test]
fn telemetry_goes_to_its_subfolder() {
    for (subfolder, topic) in [("", "/devices/gw-1/events"), ("a/b", "/devices/gw-1/events/a/b")] {
        let message =
            Message { subfolder: Subfolder::parse(subfolder).expect("one"), payload: Bytes::from_static(b"x") };
        let Encoded { packet, .. } =
            dialect(Answers::State).encode(MessageId(1), &Outbound::Telemetry(message)).expect("a packet");
        assert_eq!((packet.topic.as_str(), &packet.payload[..], packet.qos), (topic, &b"x"[..], Qos::AtLeastOnce));
    }
    let large = Message { subfolder: Subfolder::default(), payload: vec![0; COMMAND + 1].into() };
    assert!(dialect(Answers::State).encode(MessageId(1), &Outbound::Telemetry(large)).is_err());
}

#[test]
fn what_is_no_command_is_refused_and_says_why() {
    let nested = "[".repeat(100_000);
    let large = vec![b' '; COMMAND + 1];
    let commands = "/devices/gw-1/commands";
    let cases: Vec<(String, Bytes, u16, &str)> = vec![
        (format!("{commands}/../../bin/sh"), "".into(), 400, "second level"),
        (format!("{commands}/reboot\n"), "".into(), 400, "not a method name"),
        (format!("{commands}/rebo\u{43e}t"), "".into(), 400, "not a method name"),
        (format!("{commands}/echo/1/2"), "".into(), 400, "not a command id"),
        (format!("{commands}/echo/"), "".into(), 400, "not a command id"),
        (format!("{commands}//"), "".into(), 400, "second level"),
        (format!("{commands}/echo"), "{".into(), 400, "not JSON"),
        (format!("{commands}/echo"), nested.into(), 400, "recursion"),
        (format!("{commands}/echo"), r#"{"a":1,"a":2}"#.into(), 400, "stands twice"),
        (format!("{commands}/echo/9"), large.clone().into(), 413, "at most 262144"),
        (commands.to_owned(), large.into(), 413, "at most 262144"),
        (commands.to_owned(), "".into(), 400, "`method` is expected"),
        (commands.to_owned(), "[]".into(), 400, "`method` is expected"),
        (commands.to_owned(), "{}".into(), 400, "`method`: is missing"),
        (commands.to_owned(), r#"{"method":7}"#.into(), 400, "a string is expected"),
        (commands.to_owned(), r#"{"method":"echo","method":"count"}"#.into(), 400, "stands twice"),
        (commands.to_owned(), r#"{"method":"echo","id":1e3}"#.into(), 400, "`id`: a string"),
        (commands.to_owned(), r#"{"method":"echo","id":"a/b"}"#.into(), 400, "not a command id"),
        (commands.to_owned(), r#"{"method":"echo","expiresAt":"tomorrow"}"#.into(), 400, "RFC 3339"),
        (commands.to_owned(), r#"{"method":"echo","expiresat":"2026-11-22T10:00:00Z"}"#.into(), 400, "`expiresAt`?"),
    ];
    for (topic, payload, status, why) in cases {
        let refused = refusal(heard(&topic, payload));
        assert_eq!(refused.0, status, "{topic}: {}", refused.1);
        assert!(refused.1.contains(why), "{topic}: {}", refused.1);
    }
}

#[test]
fn a_refusal_is_addressed_with_all_that_could_be_read() {
    let (status, _, id, method) = refusal(heard("/devices/gw-1/commands/echo/42", "{"));
    assert_eq!((status, id.as_deref(), method.as_deref()), (400, Some("42"), Some("echo")));
    let (_, _, id, method) = refusal(heard("/devices/gw-1/commands", r#"{"id":"42","method":"../sh"}"#));
    assert_eq!((id.as_deref(), method.as_deref()), (Some("42"), None));
}

#[test]
fn what_is_not_for_us_is_dropped() {
    for topic in [
        "/devices/gw-2/commands/echo",
        "/devices/gw-10/commands/echo",
        "/devices/gw-1",
        "devices/gw-1/commands/echo",
        "/devices/gw-1/commandsX",
        "/devices/gw-1/state",
        "",
    ] {
        assert!(matches!(heard(topic, ""), Inbound::Dropped { .. }), "{topic}");
    }
}

#[test]
fn a_retained_command_is_dropped_and_a_retained_config_is_read() {
    for (topic, is_dropped) in [
        ("/devices/gw-1/commands/rebootDevice", true),
        ("/devices/gw-1/commands", true),
        ("/devices/gw-1/config", false),
    ] {
        let packet = Packet { topic: topic.to_owned(), payload: Bytes::new(), qos: Qos::AtLeastOnce, retain: true };
        let inbound = dialect(Answers::State).decode(&packet);
        assert_eq!(matches!(inbound, Inbound::Dropped { .. }), is_dropped, "{topic}");
    }
}

#[test]
fn any_config_is_the_desired_state_also_an_empty_one() {
    for body in ["", "{}", "not JSON"] {
        let inbound = heard("/devices/gw-1/config", body);
        assert_eq!(inbound, Inbound::Desired { body: Bytes::from(body), version: None });
    }
}

fn answer(payload: Value) -> Outbound {
    Outbound::Answer(Answer {
        id: CommandId::parse("42").expect("an id"),
        method: Method::parse("echo").ok(),
        status: Status::DONE,
        payload,
        last: true,
        reply_to: None,
    })
}

#[test]
fn answers_go_to_telemetry_and_the_document_to_state() {
    let Encoded { packet, .. } =
        dialect(Answers::Events).encode(MessageId(1), &answer(json!({ "n": 1 }))).expect("a packet");
    assert_eq!((packet.topic.as_str(), packet.qos), ("/devices/gw-1/events/responses", Qos::AtLeastOnce));
    let body: Value = serde_json::from_slice(&packet.payload).expect("JSON");
    assert_eq!(body, json!({ "id": "42", "method": "echo", "status": 200, "payload": { "n": 1 }, "final": true }));
    let Encoded { packet, .. } =
        dialect(Answers::State).encode(MessageId(1), &Outbound::Reported(json!({}))).expect("a packet");
    assert_eq!((packet.topic.as_str(), &packet.payload[..], packet.retain), ("/devices/gw-1/state", &b"{}"[..], false));
}

#[test]
fn nothing_goes_out_that_the_bridge_would_close_the_connection_for() {
    let Encoded { packet, .. } =
        dialect(Answers::Events).encode(MessageId(1), &answer(json!("x".repeat(COMMAND)))).expect("a packet");
    let body: Value = serde_json::from_slice(&packet.payload).expect("JSON");
    assert_eq!((&body["status"], &body["payload"]["payloadDropped"]), (&json!(200), &json!(true)));
    let error = dialect(Answers::State)
        .encode(MessageId(1), &Outbound::Reported(json!("x".repeat(STATE))))
        .expect_err("too large");
    assert_eq!(error, EncodeError::TooLarge { bytes: STATE + 2, limit: STATE });
}

proptest! {
    #[test]
    fn no_topic_and_no_payload_makes_it_panic(topic in "(/devices/gw-1/(commands|config))?[/a-z.#+\\PC]{0,12}", payload: Vec<u8>) {
        heard(&topic, payload);
    }

    #[test]
    fn what_is_read_as_a_command_has_fit_names(subfolder in "[a-zA-Z0-9/_.-]{0,20}") {
        if let Inbound::Command(request) = heard(&format!("/devices/gw-1/commands/{subfolder}"), "1") {
            prop_assert!(subfolder.starts_with(request.method.as_str()));
            prop_assert_eq!(request.payload, json!(1));
        }
    }
}
