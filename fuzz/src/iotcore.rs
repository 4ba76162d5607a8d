//! Any topic (the first line) with any payload (the rest), as a broker could send it: read without a panic, and what is
//! taken for a command can be named and written down again.

use std::time::Duration;

use twinagent::config::{Answers, IotCore as Settings};
use twinagent::dialect::Dialect as _;
use twinagent::dialect::iotcore::IotCore;
use twinagent::model::cloud::Inbound;
use twinagent::model::command::{CommandId, DeviceId, Identity, Method};
use twinagent::model::wire::{Packet, Qos};

pub const VERDICTS: &[&str] = &["command", "refused", "desired", "dropped", "notopic"];

pub fn read(bytes: &[u8]) -> String {
    let Some((topic, payload)) = parted(bytes) else { return "notopic".to_owned() };
    judge(&dialect().decode(&packet(topic, payload))).to_owned()
}

/// The first line, which is text, and the rest.
pub fn parted(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (topic, payload) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[][..]),
    };
    Some((std::str::from_utf8(topic).ok()?, payload))
}

pub fn packet(topic: &str, payload: &[u8]) -> Packet {
    Packet { topic: topic.to_owned(), payload: payload.to_vec().into(), qos: Qos::AtLeastOnce, retain: false }
}

/// What was heard keeps what its type promises.
pub fn judge(heard: &Inbound) -> &'static str {
    match heard {
        Inbound::Command(request) => {
            assert_eq!(Method::parse(request.method.as_str()).as_ref(), Ok(&request.method));
            if let Identity::Given(id) = &request.identity {
                assert_eq!(CommandId::parse(id.as_str()).as_ref(), Ok(id));
            }
            let text = request.payload.to_string();
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).ok().as_ref(), Some(&request.payload));
            "command"
        }
        Inbound::Malformed { why, .. } => {
            assert!(!why.is_empty() && why.len() < 1_000 && !why.contains(char::is_control), "{why:?}");
            "refused"
        }
        Inbound::Desired { .. } => "desired",
        Inbound::DesiredPatch { .. }
        | Inbound::DesiredUnread { .. }
        | Inbound::Twin { .. }
        | Inbound::Answered { .. } => {
            panic!("{heard:?} is no word of this cloud")
        }
        Inbound::Dropped { .. } => "dropped",
    }
}

pub fn dialect() -> IotCore {
    let settings = Settings {
        host: "localhost".to_owned(),
        port: 8883,
        project_id: "p".to_owned(),
        region: "r".to_owned(),
        registry_id: "g".to_owned(),
        ca_file: None,
        tls: true,
        answers: Answers::State,
        clean_session: true,
    };
    let device = DeviceId::parse("gw-1").expect("a device id");
    IotCore::new(&settings, device, Duration::from_secs(60), Duration::from_secs(3_600))
}
