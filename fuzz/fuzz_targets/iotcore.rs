//! Any topic (the first line) with any payload (the rest), as a broker could send it: read without a panic, and what
//! is taken for a command can be named and written down again.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use twinagent::config::{Answers, IotCore as Settings};
use twinagent::dialect::Dialect;
use twinagent::dialect::iotcore::IotCore;
use twinagent::model::cloud::Inbound;
use twinagent::model::command::{DeviceId, Method};
use twinagent::model::wire::{Packet, Qos};

fuzz_target!(|bytes: &[u8]| {
    let (topic, payload) = bytes.iter().position(|byte| *byte == b'\n').map_or((bytes, &[][..]), |end| {
        let (topic, rest) = bytes.split_at(end);
        (topic, &rest[1..])
    });
    let Ok(topic) = std::str::from_utf8(topic) else { return };
    let packet =
        Packet { topic: topic.to_owned(), payload: payload.to_vec().into(), qos: Qos::AtLeastOnce, retain: false };
    if let Inbound::Command(request) = dialect().decode(&packet) {
        assert_eq!(Method::parse(request.method.as_str()), Ok(request.method));
        let text = request.payload.to_string();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).ok(), Some(request.payload));
    }
});

fn dialect() -> IotCore {
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
