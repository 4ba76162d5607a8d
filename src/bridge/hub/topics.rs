//! The topics of IoT Hub as a device uses them: what it may subscribe to, what its messages mean, how ours are addressed.
//!
//! Grammar only; no state and no rule about payloads. Source: "Communicate with an IoT hub using the MQTT protocol"
//! (learn.microsoft.com/azure/iot). Where it is silent on topics that are none of the device's, the strict reading is taken:
//! the connection ends.

use crate::bridge::azure::HubName;
use crate::dialect::sas::{percent_decode, percent_encode};

/// Direct methods.
pub(crate) const METHODS: &str = "$iothub/methods/POST/#";
/// Answers about the twin.
pub(crate) const TWIN_ANSWERS: &str = "$iothub/twin/res/#";
/// Changes of the desired properties.
pub(crate) const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/#";
/// Device streams, which the stand-in takes subscriptions for and never begins.
const STREAMS: [&str; 2] = ["$iothub/streams/POST/#", "$iothub/streams/res/#"];

/// Properties of a message, in the order in which they were written.
pub(crate) type Properties = Vec<(String, String)>;

/// What a device said by the topic of a PUBLISH.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    FetchTwin { rid: String },
    PatchReported { rid: String },
    MethodAnswer { status: i64, rid: String },
    Telemetry(Properties),
}

/// The filter of the messages to this device. A module has none.
pub(crate) fn messages_filter(name: &HubName) -> Option<String> {
    name.module.is_none().then(|| format!("devices/{}/messages/devicebound/#", name.device))
}

/// The topic of a message to this device.
pub(crate) fn message_topic(name: &HubName, properties: &[(String, String)]) -> String {
    format!("devices/{}/messages/devicebound/{}", name.device, bag(properties))
}

pub(crate) fn method_topic(method: &str, rid: &str) -> String {
    format!("$iothub/methods/POST/{}/?$rid={rid}", percent_encode(method))
}

/// `rid` is the device's, as it came.
pub(crate) fn twin_answer_topic(status: u16, rid: &str, version: Option<u64>) -> String {
    let version = version.map(|version| format!("&$version={version}")).unwrap_or_default();
    format!("$iothub/twin/res/{status}/?$rid={rid}{version}")
}

pub(crate) fn desired_topic(version: u64) -> String {
    format!("$iothub/twin/PATCH/properties/desired/?$version={version}")
}

/// Whether the hub knows this filter for this identity.
pub(crate) fn is_filter(name: &HubName, filter: &str) -> bool {
    [METHODS, TWIN_ANSWERS, DESIRED].contains(&filter)
        || STREAMS.contains(&filter)
        || match &name.module {
            None => messages_filter(name).is_some_and(|own| own == filter),
            Some(module) => filter == format!("devices/{}/modules/{module}/inputs/#", name.device),
        }
}

/// Whether telemetry, a will included, may go to this topic; the properties that it carries.
pub(crate) fn telemetry(name: &HubName, topic: &str) -> Option<Properties> {
    let module = name.module.as_ref().map(|module| format!("/modules/{module}")).unwrap_or_default();
    let own = format!("devices/{}{module}/messages/events", name.device);
    let bag = match topic.strip_prefix(&own)? {
        "" => "",
        rest => rest.strip_prefix('/')?,
    };
    unbag(bag)
}

/// Reads the topic of a PUBLISH. `None`: it is none of this identity's.
pub(crate) fn said(name: &HubName, topic: &str) -> Option<Said> {
    if let Some(properties) = telemetry(name, topic) {
        return Some(Said::Telemetry(properties));
    }
    let (path, query) = topic.strip_prefix("$iothub/")?.split_once("/?")?;
    let rid = query.split('&').find_map(|pair| pair.strip_prefix("$rid=")).filter(|rid| !rid.is_empty())?.to_owned();
    match path {
        "twin/GET" => Some(Said::FetchTwin { rid }),
        "twin/PATCH/properties/reported" => Some(Said::PatchReported { rid }),
        _ => Some(Said::MethodAnswer { status: path.strip_prefix("methods/res/")?.parse().ok()?, rid }),
    }
}

/// Properties as they stand in a topic.
fn bag(properties: &[(String, String)]) -> String {
    let pair = |(name, value): &(String, String)| format!("{}={}", percent_encode(name), percent_encode(value));
    properties.iter().map(pair).collect::<Vec<_>>().join("&")
}

fn unbag(text: &str) -> Option<Properties> {
    // Some clients write a `?` before it, and a slash behind.
    let text = text.strip_prefix('?').unwrap_or(text).trim_end_matches('/');
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((percent_decode(name)?, percent_decode(value)?))
    };
    text.split('&').filter(|pair| !pair.is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> HubName {
        HubName::device("dev1").expect("a name")
    }

    #[test]
    fn topics_of_a_device_are_read_as_its_clients_write_them() {
        let name = device();
        let read = |topic: &str| said(&name, topic);
        let rid = || "28516bcf-447c".to_owned();
        assert_eq!(read("$iothub/twin/GET/?$rid=28516bcf-447c"), Some(Said::FetchTwin { rid: rid() }));
        assert_eq!(
            read("$iothub/twin/PATCH/properties/reported/?$rid=28516bcf-447c"),
            Some(Said::PatchReported { rid: rid() })
        );
        assert_eq!(
            read("$iothub/methods/res/-1/?$rid=28516bcf-447c"),
            Some(Said::MethodAnswer { status: -1, rid: rid() })
        );
        let bag = "devices/dev1/messages/events/%24.mid=m1&%24.ct=application%2Fjson&a%20b=c%2Fd%26%C3%A9&flag";
        let expected = [("$.mid", "m1"), ("$.ct", "application/json"), ("a b", "c/d&é"), ("flag", "")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        assert_eq!(read(bag), Some(Said::Telemetry(expected)));
        for empty in ["devices/dev1/messages/events", "devices/dev1/messages/events/"] {
            assert_eq!(read(empty), Some(Said::Telemetry(Vec::new())));
        }
        for foreign in [
            "devices/dev2/messages/events/",
            "devices/dev1/messages/eventsx",
            "devices/dev1/messages/events/%zz=1",
            "devices/dev1/modules/m/messages/events/",
            "$iothub/twin/GET/",
            "$iothub/twin/GET/?$rid=",
            "$iothub/twin/PUT/?$rid=1",
            "$iothub/methods/res/ok/?$rid=1",
            "$iothub/methods/res/200",
            "a/b",
            "",
        ] {
            assert_eq!(read(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_module_has_topics_of_its_own() {
        let module = device().module("m1").expect("a name");
        assert!(telemetry(&module, "devices/dev1/modules/m1/messages/events/").is_some());
        assert!(telemetry(&module, "devices/dev1/messages/events/").is_none());
        assert!(is_filter(&module, "devices/dev1/modules/m1/inputs/#"));
        assert!(is_filter(&module, METHODS));
        assert!(!is_filter(&module, "devices/dev1/messages/devicebound/#"));
        assert!(!is_filter(&device(), "devices/dev2/messages/devicebound/#"));
    }

    #[test]
    fn what_goes_out_can_be_read_by_clients_that_split_at_slashes() {
        let properties = [("$.to".to_owned(), "/devices/dev1/x".to_owned()), ("a&b".to_owned(), "=é".to_owned())];
        assert_eq!(
            message_topic(&device(), &properties),
            "devices/dev1/messages/devicebound/%24.to=%2Fdevices%2Fdev1%2Fx&a%26b=%3D%C3%A9"
        );
        assert_eq!(method_topic("a b/c", "1f"), "$iothub/methods/POST/a%20b%2Fc/?$rid=1f");
        assert_eq!(twin_answer_topic(204, "x", Some(3)), "$iothub/twin/res/204/?$rid=x&$version=3");
    }
}
