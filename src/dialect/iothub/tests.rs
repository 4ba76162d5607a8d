//! What goes to a hub is what its public pages and its own libraries show, byte for byte, and what comes from one is read as
//! far as it can be trusted.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::{Hub, HubProof};
use crate::dialect::sas::SharedKey;
use crate::model::command::{CommandId, Identity, ReplyTo, Request, Status};
use crate::model::telemetry::Subfolder;

const HUB: &str = "my-hub.example";

fn dialect(change: impl FnOnce(&mut Settings)) -> IotHub {
    let mut settings = Settings {
        hub: Hub::Named(HUB.to_owned()),
        gateway_host: None,
        port: 8883,
        websocket: false,
        ca_file: None,
        module_id: None,
        model_id: None,
        proof: HubProof::Key("/etc/key".into()),
    };
    change(&mut settings);
    let device = DeviceId::parse("gw-1").expect("a device id");
    IotHub::new(&settings, HUB, device, Duration::from_secs(60), Duration::from_secs(3_600), 0xbeef)
}

fn device() -> IotHub {
    dialect(|_| {})
}

fn module() -> IotHub {
    dialect(|settings| settings.module_id = Some("agent".to_owned()))
}

fn packet(topic: &str, payload: impl Into<Bytes>) -> Packet {
    Packet { topic: topic.to_owned(), payload: payload.into(), qos: Qos::AtMostOnce, retain: false }
}

fn heard(topic: &str, payload: impl Into<Bytes>) -> Inbound {
    device().decode(&packet(topic, payload))
}

fn request(inbound: Inbound) -> Request {
    match inbound {
        Inbound::Command(request) => request,
        other => panic!("a command was expected: {other:?}"),
    }
}

fn sent(message: &Outbound) -> (String, String, Qos, Settles) {
    let Encoded { packet, settled_by } = device().encode(MessageId(26), message).expect("a packet");
    assert!(!packet.retain);
    (packet.topic, String::from_utf8(packet.payload.to_vec()).expect("text"), packet.qos, settled_by)
}

#[test]
fn the_login_of_a_device_is_what_the_cloud_asks_for() {
    let key = || Proof::Shared(SharedKey::parse("a2V5a2V5a2V5a2V5").expect("a key"));
    let now = Timestamp::from_micros(1_795_290_091_000_000);
    let version = env!("CARGO_PKG_VERSION");
    let login = device().login(now, &key()).expect("a login");
    assert_eq!(login.client_id, "gw-1");
    assert_eq!(
        login.username,
        format!("my-hub.example/gw-1/?api-version=2021-04-12&DeviceClientType=twinagent%2F{version}")
    );
    let token = login.password.reveal();
    assert!(token.starts_with("SharedAccessSignature sr=my-hub.example%2Fdevices%2Fgw-1&sig="), "{token}");
    assert!(token.ends_with("&se=1795293691") && !format!("{login:?}").contains(token));
    assert!(!login.clean && login.will.is_none());
    assert_eq!(login.keep_alive, Duration::from_secs(60));

    let login = module().login(now, &key()).expect("a login");
    assert_eq!(login.client_id, "gw-1/agent");
    assert!(login.username.starts_with("my-hub.example/gw-1/agent/?api-version="), "{}", login.username);
    let token = login.password.reveal();
    assert!(
        token.starts_with("SharedAccessSignature sr=my-hub.example%2Fdevices%2Fgw-1%2Fmodules%2Fagent&"),
        "{token}"
    );

    let model = dialect(|settings| settings.model_id = Some("dtmi:com:example:Thing;1".to_owned()));
    let login = model.login(now, &Proof::Certificate).expect("a login");
    assert!(login.username.ends_with("&model-id=dtmi%3Acom%3Aexample%3AThing%3B1"), "{}", login.username);
    assert_eq!(login.password.reveal(), "", "whoever showed a certificate sends no password");

    crate::dialect::token::install_provider();
    let (_, own) = crate::dialect::token::generate().expect("a key");
    assert!(matches!(device().login(now, &Proof::Key(own)), Err(LoginError::Unfit(_))));
}

/// The token of this hub, device, key and time is one that another program has made.
#[test]
fn the_token_is_that_of_the_clouds_own_library() {
    let settings = dialect(|_| {});
    let device =
        IotHub { hub: "myhub.azure-devices.net".to_owned(), device: DeviceId::parse("dev1").expect("one"), ..settings };
    let key = Proof::Shared(SharedKey::parse("a2V5a2V5a2V5a2V5").expect("a key"));
    let login = device.login(Timestamp::from_micros(1_795_290_091_000_000), &key).expect("a login");
    assert_eq!(
        login.password.reveal(),
        "SharedAccessSignature sr=myhub.azure-devices.net%2Fdevices%2Fdev1&sig=rx5J8uc4K0QcgeCoC3YHNT5%2Bqsze5R2JUH45v17Yo0w%3D&se=1795293691"
    );
    let module = IotHub { module: Some("m1".to_owned()), ..device };
    let login = module.login(Timestamp::from_micros(1_795_398_802_000_000), &key).expect("a login");
    assert_eq!(
        login.password.reveal(),
        "SharedAccessSignature sr=myhub.azure-devices.net%2Fdevices%2Fdev1%2Fmodules%2Fm1&sig=h5HcjSz45d9EL1QD7lchEE%2FnxYKgmDLR8XoFBLP4Jgo%3D&se=1795402402"
    );
}

#[test]
fn no_more_is_subscribed_to_than_the_hub_allows() {
    let filters = |dialect: IotHub| -> Vec<String> {
        dialect.subscriptions().into_iter().map(|subscription| subscription.filter).collect()
    };
    let of_both = ["$iothub/methods/POST/#", "$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#"];
    assert_eq!(filters(module()), of_both);
    assert_eq!(filters(device()), [&of_both[..], &["devices/gw-1/messages/devicebound/#"]].concat());
}

/// One that came again would be another command: nothing in it tells it from a new one.
#[test]
fn a_direct_method_comes_once_or_not_at_all_and_the_rest_comes_again() {
    for Subscription { filter, qos } in device().subscriptions() {
        let may_be_lost = filter == "$iothub/methods/POST/#";
        assert_eq!(qos == Qos::AtMostOnce, may_be_lost, "{filter}");
    }
}

#[test]
fn a_direct_method_has_one_caller_who_waits() {
    let command = request(heard("$iothub/methods/POST/rebootDevice/?$rid=1f", r#"{"reason":"x"}"#));
    assert_eq!((command.method.as_str(), &command.identity), ("rebootDevice", &Identity::Unique));
    assert_eq!(command.reply_to, Some(ReplyTo("1f".to_owned())));
    assert_eq!((command.payload, command.expires), (json!({ "reason": "x" }), None));
    // The second is what the tutorial's own service program sends, the last what the library sends for no payload.
    for (body, payload) in [
        ("", json!(null)),
        (r#""{\"method_number\":\"42\"}""#, json!({ "method_number": "42" })),
        ("null", json!(null)),
        ("[1]", json!([1])),
        ("7", json!(7)),
        (r#""text""#, json!("text")),
        (r#""""#, json!(null)),
    ] {
        let command = request(heard("$iothub/methods/POST/echo/?$rid=a-b.c%20", body));
        assert_eq!((command.payload, command.reply_to), (payload, Some(ReplyTo("a-b.c%20".to_owned()))), "{body}");
    }
    assert_eq!(request(module().decode(&packet("$iothub/methods/POST/echo/?$rid=1", ""))).target.as_str(), "gw-1");
}

#[test]
fn what_is_wrong_with_a_direct_method_is_told_its_caller() {
    let large = vec![b' '; METHOD + 1];
    let deep = "[".repeat(100_000);
    let cases: [(&str, Bytes, u16, &str); 8] = [
        ("1st", "".into(), 400, "not a method name"),
        ("../sh", "".into(), 400, "not a method name"),
        ("a%62", "".into(), 400, "not a method name"),
        ("", "".into(), 400, "not a method name"),
        ("echo", "{".into(), 400, "not JSON"),
        ("echo", r#"{"a":1,"a":2}"#.into(), 400, "stands twice"),
        ("echo", deep.into(), 400, "recursion"),
        ("echo", large.into(), 413, "at most 131072"),
    ];
    for (method, body, expected, words) in cases {
        let Inbound::Malformed { reply_to, status, why, .. } =
            heard(&format!("$iothub/methods/POST/{method}/?$rid=5"), body)
        else {
            panic!("{method} was taken")
        };
        assert_eq!((reply_to, status), (Some(ReplyTo("5".to_owned())), Status(expected)), "{method}");
        assert!(why.contains(words), "{why}");
    }
    for nobody in ["", "/", "/?", "/?$rid=", "/?$rid=a/b", "/?$rid=#", "/?rid=1"] {
        let inbound = heard(&format!("$iothub/methods/POST/echo{nobody}"), "");
        assert!(matches!(inbound, Inbound::Dropped { .. }), "{nobody}");
    }
}

#[test]
fn an_answer_goes_back_with_its_status_and_its_request_id() {
    let answer = |payload, reply_to: Option<&str>| {
        Outbound::Answer(Answer {
            id: CommandId::parse("42").expect("an id"),
            method: None,
            status: Status(202),
            payload,
            last: false,
            reply_to: reply_to.map(|rid| ReplyTo(rid.to_owned())),
        })
    };
    let (topic, payload, qos, settled_by) = sent(&answer(json!({ "commandId": "x1" }), Some("1f")));
    assert_eq!((topic.as_str(), payload.as_str()), ("$iothub/methods/res/202/?$rid=1f", r#"{"commandId":"x1"}"#));
    assert_eq!((qos, settled_by), (Qos::AtLeastOnce, Settles::Puback));
    assert_eq!(sent(&answer(Value::Null, Some("1"))).1, "null");
    let (_, payload, ..) = sent(&answer(json!("x".repeat(METHOD)), Some("1")));
    assert_eq!(payload, r#"{"payloadDropped":true}"#);
    let (_, payload, ..) = sent(&answer(json!("x".repeat(METHOD - 2)), Some("1")));
    assert_eq!(payload.len(), METHOD);
    assert!(device().encode(MessageId(1), &answer(Value::Null, None)).is_err());
}

#[test]
fn the_twin_is_asked_for_and_changed_and_the_hub_answers_both() {
    let get = sent(&Outbound::FetchTwin);
    assert_eq!(get, ("$iothub/twin/GET/?$rid=beef-1a".into(), " ".into(), Qos::AtMostOnce, Settles::Answer));
    let patch = sent(&Outbound::ReportedPatch(json!({ "a": null })));
    let topic = "$iothub/twin/PATCH/properties/reported/?$rid=beef-1a";
    assert_eq!(patch, (topic.into(), r#"{"a":null}"#.into(), Qos::AtMostOnce, Settles::Answer));
    assert_eq!(
        device().encode(MessageId(1), &Outbound::Reported(json!({}))),
        Err(EncodeError::Unknown("state as a whole"))
    );

    let twin = r#"{"desired":{"a":{"$x":1},"$version":4},"reported":{"b":[1],"$version":9,"$metadata":{}}}"#;
    let Inbound::Twin { id, desired, version, reported } = heard("$iothub/twin/res/200/?$rid=beef-1a", twin) else {
        panic!("no twin")
    };
    assert_eq!((id, version), (MessageId(26), 4));
    assert_eq!((Value::Object(desired), Value::Object(reported)), (json!({ "a": { "$x": 1 } }), json!({ "b": [1] })));
    for (topic, status) in [
        ("$iothub/twin/res/204/?$rid=beef-1a&$version=10", 204),
        ("$iothub/twin/res/200/?$rid=beef-1a&$version=10", 200),
        ("$iothub/twin/res/429/?$rid=beef-1a", 429),
        ("$iothub/twin/res/500/?%24rid=beef-1a", 500),
    ] {
        assert_eq!(heard(topic, ""), Inbound::Answered { id: MessageId(26), status }, "{topic}");
    }
}

#[test]
fn an_answer_to_another_life_is_none_to_this() {
    for topic in [
        "$iothub/twin/res/204/?$rid=beee-1a",
        "$iothub/twin/res/204/?$rid=BEEF-1a",
        "$iothub/twin/res/204/?$rid=beef-01a",
        "$iothub/twin/res/204/?$rid=beef-+1a",
        "$iothub/twin/res/204/?$rid=beef-",
        "$iothub/twin/res/204/?$rid=beef-10000000000000000",
        "$iothub/twin/res/204/?$rid=beef",
        "$iothub/twin/res/204/",
        "$iothub/twin/res//?$rid=beef-1a",
        "$iothub/twin/res/-1/?$rid=beef-1a",
        "$iothub/twin/res/99999/?$rid=beef-1a",
    ] {
        assert!(matches!(heard(topic, ""), Inbound::Dropped { .. }), "{topic}");
    }
}

#[test]
fn what_is_no_twin_is_an_answer_and_nothing_more() {
    let large = format!(r#"{{"desired":{{"$version":1}},"reported":{{"a":"{}"}}}}"#, "x".repeat(300_000));
    for body in [
        "",
        " ",
        "[]",
        "null",
        "{",
        r#"{"desired":{},"reported":{}}"#,
        r#"{"desired":{"$version":-1},"reported":{}}"#,
        r#"{"desired":{"$version":"1"},"reported":{}}"#,
        r#"{"desired":{"$version":1},"reported":null}"#,
        r#"{"desired":null,"reported":{}}"#,
        r#"{"desired":{"$version":1},"desired":{"$version":2},"reported":{}}"#,
        &large,
    ] {
        let inbound = heard("$iothub/twin/res/200/?$rid=beef-1a", body.to_owned());
        assert_eq!(inbound, Inbound::Answered { id: MessageId(26), status: 200 }, "{body:.60}");
    }
}

#[test]
fn a_change_of_desired_says_which_version_it_makes() {
    let topic = "$iothub/twin/PATCH/properties/desired/?$version=5";
    let patch = |topic: &str, body: &str| match heard(topic, body.to_owned()) {
        Inbound::DesiredPatch { patch, version } => Ok((Value::Object(patch), version)),
        Inbound::DesiredUnread { version } => Err(version),
        other => panic!("{other:?}"),
    };
    let expected = Ok((json!({ "a": null, "b": { "c": 1 } }), 5));
    assert_eq!(patch(topic, r#"{"a":null,"b":{"c":1},"$version":5}"#), expected);
    assert_eq!(patch(topic, r#"{"a":null,"b":{"c":1}}"#), expected);
    let without = "$iothub/twin/PATCH/properties/desired/";
    assert_eq!(patch(without, r#"{"a":null,"b":{"c":1},"$version":5}"#), expected);
    assert_eq!(patch(topic, "{}"), Ok((json!({}), 5)));
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(300_000));
    for (topic, body, version) in [
        (topic, r#"{"$version":6}"#, None),
        (topic, r#"{"$version":"5"}"#, None),
        (topic, r#"{"a":1,"a":2}"#, Some(5)),
        (topic, "[]", Some(5)),
        (topic, "", Some(5)),
        (topic, &large, Some(5)),
        (without, "{}", None),
        (without, "[]", None),
        ("$iothub/twin/PATCH/properties/desired/?$version=-1", "{}", None),
    ] {
        assert_eq!(patch(topic, body), Err(version), "{topic} {body:.60}: the twin is to be read again");
    }
}

/// The topic is one that a hub has sent.
const MESSAGE: &str = "devices/gw-1/messages/devicebound/%24.mid=d411e727-98f&%24.to=%2Fdevices%2Fgw-1%2Fmessages%2Fdevicebound&%24.ce=utf-8&iothub-ack=none";

#[test]
fn a_message_is_an_envelope_and_its_topic_fills_the_gaps() {
    let given = |id: &str| Identity::Given(CommandId::parse(id).expect("an id"));
    let command = request(heard(MESSAGE, r#"{"method":"echo","payload":{"n":1}}"#));
    assert_eq!((command.method.as_str(), command.identity, command.reply_to), ("echo", given("d411e727-98f"), None));
    assert_eq!((command.payload, command.expires), (json!({ "n": 1 }), None));

    let until = format!("{MESSAGE}&%24.exp=2020-07-25T14%3A14%3A25.1720000Z");
    let command = request(heard(&until, r#"{"method":"echo"}"#));
    assert_eq!(command.expires, "2020-07-25T14:14:25.172Z".parse().ok());
    let command = request(heard(&until, r#"{"method":"echo","id":"7","expiresAt":"2021-01-01T00:00:00Z"}"#));
    assert_eq!((command.identity, command.expires), (given("7"), "2021-01-01T00:00:00Z".parse().ok()));
    assert_eq!(request(heard(&format!("{MESSAGE}&%24.exp=0"), r#"{"method":"echo"}"#)).expires, None);

    let command = request(heard(&format!("{MESSAGE}&method=rebootDevice"), r#"{"delay":"30s"}"#));
    assert_eq!((command.method.as_str(), command.payload), ("rebootDevice", json!({ "delay": "30s" })));
    let command = request(heard("devices/gw-1/messages/devicebound/%24.mid=a%3Ab", r#"{"method":"echo"}"#));
    assert_eq!(command.identity, Identity::Derived, "what is no id of ours names nothing");
    for bare in ["devices/gw-1/messages/devicebound", "devices/gw%2D1/messages/devicebound/"] {
        assert_eq!(request(heard(bare, r#"{"method":"echo"}"#)).identity, Identity::Derived, "{bare}");
    }
    let default = device().with_default_method(Method::parse("echo").ok());
    let command = request(default.decode(&packet(&until, "5")));
    assert_eq!((command.method.as_str(), command.payload, command.identity), ("echo", json!(5), given("d411e727-98f")));
    assert!(command.expires.is_some());
}

#[test]
fn a_message_that_is_no_command_says_why() {
    let large = vec![b' '; 64 * 1_024 + 1];
    let cases: [(String, Bytes, u16); 5] = [
        (MESSAGE.to_owned(), "hello".into(), 400),
        (MESSAGE.to_owned(), "{}".into(), 400),
        (MESSAGE.to_owned(), large.into(), 413),
        (format!("{MESSAGE}&method=1st"), "".into(), 400),
        (format!("{MESSAGE}&%24.exp=tomorrow"), r#"{"method":"echo"}"#.into(), 400),
    ];
    for (topic, body, expected) in cases {
        let Inbound::Malformed { id, reply_to, status, .. } = heard(&topic, body) else { panic!("{topic} was taken") };
        assert_eq!((status.0, reply_to), (expected, None), "{topic}");
        assert_eq!(id.map(String::from).as_deref(), Some("d411e727-98f"));
    }
}

#[test]
fn what_is_not_for_us_is_dropped() {
    let body = r#"{"method":"echo"}"#;
    for topic in [
        "",
        "$iothub",
        "$iothub/methods/POST",
        "$iothub/methods/GET/echo/?$rid=1",
        "$iothub/twin/PATCH/properties/reported/?$version=1",
        "devices/gw-2/messages/devicebound/%24.mid=1",
        "devices/gw-10/messages/devicebound/%24.mid=1",
        "devices/gw-1/messages/devicebound2/%24.mid=1",
        "devices/gw-1/messages/events/",
        "devices/gw-1",
        "/devices/gw-1/commands/echo",
    ] {
        assert!(matches!(heard(topic, body), Inbound::Dropped { .. }), "{topic}");
    }
    for topic in [MESSAGE, "$iothub/methods/POST/echo/?$rid=1", "$iothub/twin/PATCH/properties/desired/?$version=5"] {
        assert!(!matches!(heard(topic, body), Inbound::Dropped { .. }), "{topic}");
        let retained = Packet { retain: true, ..packet(topic, body) };
        assert!(matches!(device().decode(&retained), Inbound::Dropped { .. }), "{topic} is retained");
    }
}

#[test]
fn telemetry_says_what_it_is_and_where_it_belongs() {
    let message = |subfolder: &str, payload: &[u8]| {
        let subfolder = Subfolder::parse(subfolder).expect("a subfolder");
        Outbound::Telemetry(Message { subfolder, payload: payload.to_vec().into() })
    };
    let events = "devices/gw-1/messages/events/";
    for (subfolder, payload, bag) in [
        ("", r#"{"t":21.5}"#, "%24.ct=application%2Fjson&%24.ce=utf-8"),
        ("a/b", "21.5 C", "%24.ct=text%2Fplain&%24.ce=utf-8&subfolder=a%2Fb"),
    ] {
        let expected = (format!("{events}{bag}"), payload.to_owned(), Qos::AtLeastOnce, Settles::Puback);
        assert_eq!(sent(&message(subfolder, payload.as_bytes())), expected);
    }
    let topic = |dialect: IotHub, payload: &[u8]| {
        dialect.encode(MessageId(1), &message("", payload)).map(|encoded| encoded.packet.topic)
    };
    assert_eq!(topic(device(), b"\xff"), Ok(format!("{events}%24.ct=application%2Foctet-stream")));
    let of_module = topic(module(), b"1").expect("a packet");
    assert!(of_module.starts_with("devices/gw-1/modules/agent/messages/events/%24.ct="), "{of_module}");
    assert!(matches!(
        topic(device(), &vec![b'x'; MESSAGE_SIZE]),
        Err(EncodeError::TooLarge { limit: MESSAGE_SIZE, .. })
    ));
}

const MESSAGE_SIZE: usize = super::MESSAGE;

proptest! {
    #[test]
    fn no_topic_and_no_payload_makes_it_panic(
        topic in "((\\$iothub/(methods/POST/echo|twin/res/200|twin/PATCH/properties/desired)|devices/gw-1/messages/devicebound)/)?[/?&=a-z0-9%$.#+\\PC]{0,24}",
        payload: Vec<u8>
    ) {
        heard(&topic, payload);
    }

    #[test]
    fn every_request_id_of_ours_comes_back(run: u32, id: u64, other: u32) {
        let ours = IotHub { run, ..device() };
        let topic = format!("$iothub/twin/res/204/?$rid={}", ours.rid(MessageId(id)));
        prop_assert_eq!(ours.decode(&packet(&topic, "")), Inbound::Answered { id: MessageId(id), status: 204 });
        let foreign = matches!(IotHub { run: other, ..ours }.decode(&packet(&topic, "")), Inbound::Dropped { .. });
        prop_assert_eq!(foreign, other != run);
    }
}
