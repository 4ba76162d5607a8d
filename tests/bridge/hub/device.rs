//! What the stories share: a bridge with one device of the hub, and that device on raw packets.

use std::time::Duration;

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Packet, PubAck, Publish, SubscribeReasonCode};
use tempfile::TempDir;
use twinagent::bridge::{Access, Bridge, Faults, Hub, HubName, Options};
use twinagent::dialect::sas::{SharedKey, mint};
use twinagent::model::now::Timestamp;

use crate::raw::{Raw, Seen};
use crate::support::{LIMIT, start, unix_now};

pub(crate) const KEY: &str = "a2V5a2V5a2V5a2V5";
pub(crate) const OTHER_KEY: &str = "b3RoZXJvdGhlcm90aGVy";

pub(crate) const METHODS: &str = "$iothub/methods/POST/#";
pub(crate) const TWIN_ANSWERS: &str = "$iothub/twin/res/#";
pub(crate) const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/#";
pub(crate) const MESSAGES: &str = "devices/dev1/messages/devicebound/#";

pub(crate) struct HubWorld {
    pub(crate) bridge: Bridge,
    pub(crate) hub: Hub,
    pub(crate) faults: Faults,
    pub(crate) device: HubName,
    pub(crate) folder: TempDir,
}

/// A key as the cloud shows it, with no second one.
pub(crate) fn with_key(key: &str) -> Access {
    Access::Key { primary: key.to_owned(), secondary: None }
}

/// A token for this resource, so many seconds from now.
pub(crate) fn token(key: &str, resource: &str, life: i64) -> String {
    let key = SharedKey::parse(key).expect("a key");
    mint(&key, resource, Timestamp::from_micros((unix_now() + life) * 1_000_000), None).reveal().to_owned()
}

/// The CONNECT of `dev1`, with a clean session.
pub(crate) fn connect(password: &str) -> Connect {
    let mut connect = Connect::new("dev1");
    connect.set_login("localhost/dev1/?api-version=2021-04-12", password);
    connect
}

/// A good CONNECT of `dev1`, with a clean session.
pub(crate) fn good() -> Connect {
    connect(&token(KEY, "localhost/devices/dev1", 3600))
}

impl HubWorld {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let bridge = start(&folder, change).await;
        let hub = bridge.hub();
        let device = hub.create_device("dev1", with_key(KEY)).await.expect("a device");
        Self { hub, faults: bridge.faults(), device, bridge, folder }
    }

    pub(crate) async fn open(&self) -> Raw {
        Raw::dial(self.bridge.addresses().mqtt.expect("it is on")).await
    }

    /// The return code that this CONNECT gets; 255: the connection was closed without one.
    pub(crate) async fn login(&self, connect: Connect) -> u8 {
        let mut raw = self.open().await;
        raw.send(Packet::Connect(connect)).await;
        match raw.next().await {
            Seen::Packet(Packet::ConnAck(ack)) => ack.code as u8,
            Seen::Closed => 255,
            other => panic!("a CONNACK was waited for, not {other:?}"),
        }
    }

    /// The device, online and subscribed to these.
    pub(crate) async fn online(&self, filters: &[&str]) -> Raw {
        let (raw, _) = self.online_with(good(), filters).await;
        raw
    }

    /// The same with this CONNECT; also whether a session was there.
    pub(crate) async fn online_with(&self, connect: Connect, filters: &[&str]) -> (Raw, bool) {
        let mut raw = self.open().await;
        raw.send(Packet::Connect(connect)).await;
        let (code, present) = raw.connack().await;
        assert_eq!(code, 0);
        for filter in filters {
            let filter = [((*filter).to_owned(), QoS::AtLeastOnce)];
            assert_eq!(raw.subscribe(&filter).await, [SubscribeReasonCode::Success(QoS::AtLeastOnce)]);
        }
        (raw, present)
    }

    pub(crate) async fn last_error(&self) -> String {
        self.hub.last_error(&self.device).await.expect("the device is there").unwrap_or_default()
    }

    /// Waits until the bridge knows that the device has gone.
    pub(crate) async fn gone(&self) {
        self.until(|connected| !connected).await;
    }

    async fn until(&self, wanted: impl Fn(bool) -> bool) {
        let seen = async {
            while !wanted(self.hub.connected(&self.device).await.expect("the device is there")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, seen).await.expect("the bridge notices");
    }
}

/// A publish with QoS 0, as our own daemon asks for its twin.
pub(crate) fn quiet(topic: &str, payload: &str) -> Packet {
    Packet::Publish(Publish::new(topic, QoS::AtMostOnce, payload))
}

pub(crate) async fn acknowledge(raw: &mut Raw, message: &Publish) {
    raw.send(Packet::PubAck(PubAck::new(message.pkid))).await;
}
