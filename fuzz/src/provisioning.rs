//! Any topic (the first line) with any payload (the rest), as a provisioning service could send it: read without a panic, and
//! what it says next can be done.

use std::time::Duration;

use twinagent::config::{Provisioning as Settings, host_name, hub_device};
use twinagent::dialect::provisioning::{Progress, Provisioning};

use super::iotcore::{packet, parted};

pub const VERDICTS: &[&str] = &["assigning", "assigned", "later", "refused", "nothing", "notopic"];

pub fn read(bytes: &[u8]) -> String {
    let Some((topic, payload)) = parted(bytes) else { return "notopic".to_owned() };
    let settings =
        Settings { host: "dps.example".to_owned(), id_scope: "0ne1".to_owned(), registration_id: "gw-1".to_owned() };
    let service = Provisioning::new(&settings, Duration::from_secs(60), Duration::from_secs(3_600), 0xbeef);
    match service.decode(&packet(topic, payload)) {
        Progress::Assigning { operation, after } => {
            assert!((Duration::from_secs(1)..=Duration::from_secs(60)).contains(&after), "{after:?}");
            let asked = service.poll(&operation).topic;
            let operation = asked.split_once("&operationId=").expect("the operation is named").1;
            assert!(!operation.is_empty() && !operation.contains(['+', '#', '/', '&', '\0']), "{operation:?}");
            "assigning"
        }
        Progress::Assigned { hub, device } => {
            assert!(host_name(&hub).is_ok() && hub_device(device.as_str()).is_ok());
            "assigned"
        }
        Progress::Later { after } => {
            assert!((Duration::from_secs(1)..=Duration::from_secs(60)).contains(&after), "{after:?}");
            "later"
        }
        Progress::Refused { status, why } => {
            assert!(!why.is_empty() && why.len() < 1_000 && !why.contains(char::is_control), "{status} {why:?}");
            "refused"
        }
        Progress::Nothing => "nothing",
    }
    .to_owned()
}
