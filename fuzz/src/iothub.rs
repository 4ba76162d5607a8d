//! Any topic (the first line) with any payload (the rest), as an IoT hub could send it: read without a panic, what is taken
//! for a command can be named, written down and answered, and of twins only what is not the hub's own is handed on. What the
//! agent does about it, before it has read the twin and after, is fit for the journal and for the hub.

use std::time::Duration;

use serde_json::{Map, Value, json};
use twinagent::config::{Hub, HubProof, IotHub as Settings};
use twinagent::dialect::Dialect as _;
use twinagent::dialect::iothub::IotHub;
use twinagent::model::agent::Effect;
use twinagent::model::cloud::{Answer, Inbound, Outbound};
use twinagent::model::command::{CommandId, DeviceId, ReplyTo, Status};
use twinagent::model::wire::MessageId;

use super::iotcore::{judge as judge_shared, packet, parted};
use super::model::Online;

pub const VERDICTS: &[&str] = &["command", "refused", "patch", "unread", "twin", "answered", "dropped", "notopic"];

/// The random number of this run, as it stands in the request ids of the seeds.
const RUN: u32 = 0xbeef;

pub fn read(bytes: &[u8]) -> String {
    let Some((topic, payload)) = parted(bytes) else { return "notopic".to_owned() };
    live(topic, payload);
    judge(&dialect().decode(&packet(topic, payload))).to_owned()
}

/// The agent hears it while it waits for the twin, also as the answer that it waits for, and twice more when it has one.
fn live(topic: &str, payload: &[u8]) {
    let (mut online, first) = Online::at_hub();
    let asked = first.iter().find_map(|effect| match effect {
        Effect::Send(id, Outbound::FetchTwin) => Some(id.0),
        _ => None,
    });
    let asked = asked.expect("the twin is asked for first");
    online.hear(topic, payload);
    if topic.starts_with("$iothub/twin/res/200/") {
        online.hear(&format!("$iothub/twin/res/200/?$rid={RUN:x}-{asked:x}"), payload);
    }
    let twin = br#"{"desired":{"a":1,"$version":4},"reported":{"b":{"c":1},"$version":9}}"#;
    online.hear(&format!("$iothub/twin/res/200/?$rid={RUN:x}-{asked:x}"), twin);
    online.hear(topic, payload);
    online.hear(topic, payload);
    online.is_on_disk();
}

/// What was heard keeps what its type promises.
pub fn judge(heard: &Inbound) -> &'static str {
    match heard {
        Inbound::Command(request) => {
            request.reply_to.as_ref().inspect(|reply_to| can_be_answered(reply_to));
            judge_shared(heard)
        }
        Inbound::Malformed { reply_to, .. } => {
            reply_to.as_ref().inspect(|reply_to| can_be_answered(reply_to));
            judge_shared(heard)
        }
        Inbound::DesiredPatch { patch, .. } => {
            is_the_users(patch);
            "patch"
        }
        Inbound::DesiredUnread { .. } => "unread",
        Inbound::Twin { desired, reported, .. } => {
            is_the_users(desired);
            is_the_users(reported);
            "twin"
        }
        Inbound::Answered { .. } => "answered",
        Inbound::Dropped { .. } => "dropped",
        Inbound::Desired { .. } => panic!("{heard:?} is no word of this cloud"),
    }
}

/// The answer goes to a topic that MQTT allows, and to nobody else.
fn can_be_answered(reply_to: &ReplyTo) {
    let answer = Answer {
        id: CommandId::parse("x").expect("an id"),
        method: None,
        status: Status::DONE,
        payload: json!({}),
        last: true,
        reply_to: Some(reply_to.clone()),
    };
    let encoded = dialect().encode(MessageId(1), &Outbound::Answer(answer)).expect("an answer has room");
    let rid = encoded.packet.topic.strip_prefix("$iothub/methods/res/200/?$rid=").expect("the topic of answers");
    assert!(!rid.is_empty() && rid.len() <= 256 && !rid.contains(['+', '#', '/', '&', '\0']), "{rid:?}");
}

fn is_the_users(document: &Map<String, Value>) {
    assert!(document.keys().all(|name| !name.starts_with('$')));
}

pub fn dialect() -> IotHub {
    let settings = Settings {
        hub: Hub::Named("hub.example".to_owned()),
        gateway_host: None,
        port: 8883,
        websocket: false,
        ca_file: None,
        module_id: None,
        model_id: None,
        proof: HubProof::Key("/nonexistent".into()),
    };
    let device = DeviceId::parse("gw-1").expect("a device id");
    IotHub::new(&settings, "hub.example", device, Duration::from_secs(60), Duration::from_secs(3_600), RUN)
}
