//! Faults on request: what a test can make the bridge do wrong, per device, for the next times or until taken back.
//!
//! A plan only remembers what was asked for; the broker and the login apply it. Nothing here happens by itself.

use std::fmt;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::sync::watch;

use super::broker::ClientNumber;
use super::client_name::ClientName;
use super::google::ApiError;
use super::owner::Owner;
use super::world::World;

/// An answer of the bridge at which a fault may strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// To a good login.
    Connack,
    /// To a SUBSCRIBE.
    Suback,
}

/// One thing to do wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Take a QoS 1 publish of the device and do not acknowledge it. [`Faults::clear`] sends what was held back, if
    /// the connection is still the same.
    WithholdPubacks,
    /// Neither take a publish of the device nor acknowledge it.
    LosePublishes,
    /// Answer a good login so much later. The old connection of the device is closed at once.
    DelayConnack(Duration),
    /// Answer a good login with this return code.
    RefuseLogin(u8),
    /// Close the connection instead of answering a good login.
    DropLogin,
    /// Answer each filter of a SUBSCRIBE with 0x80.
    RefuseSubscriptions,
    /// Do not answer a SUBSCRIBE.
    WithholdSubacks,
    /// Do what a request about a twin asks for, and do not answer it.
    WithholdTwinAnswers,
    /// Do not answer a PINGREQ.
    WithholdPingresps,
    /// Write half of a PUBLISH to the device, then close the connection.
    CutPublish,
    /// Write these bytes in the place of an answer, and nothing after them: silence, if there are none. The connection
    /// stays open, and what was asked for does not happen.
    Instead(Stage, Bytes),
    /// The same, but the connection is closed behind the bytes.
    Last(Stage, Bytes),
    /// Write these bytes right behind a good answer.
    After(Stage, Bytes),
    /// Write the CONNACK of a good login byte by byte, with so long between two of them.
    Drip(Duration),
    /// Close the connection so long after a good login, as a broker does to two clients of one name, or when the login
    /// expires.
    Kick(Duration),
}

/// What becomes of the connections to MQTT, whoever makes them. It counts before anybody knows which device that is. Within a
/// WebSocket only [`Door::Frozen`] does: the listener is that of HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Door {
    #[default]
    Open,
    /// Connections are accepted, but nothing is read or written, not on those that stand either: a process that was
    /// stopped looks like this. When the door opens they go on where they were.
    Frozen,
    /// A new connection is reset at once.
    Reset,
    /// Whatever a new connection says first, it is told these bytes, and closed.
    Says(Bytes),
    /// The listener without TLS expects TLS of new connections, and the one with TLS expects none.
    WrongLayer,
}

/// How often a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    Next(u32),
    Always,
}

/// The faults asked for on one device, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Plan(Vec<(Fault, Times)>);

impl Plan {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add(&mut self, fault: Fault, times: Times) {
        if times != Times::Next(0) {
            self.0.push((fault, times));
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether this fault is to strike now; counts it.
    pub(crate) fn strikes(&mut self, fault: &Fault) -> bool {
        self.take(|asked| (asked == fault).then_some(())).is_some()
    }

    /// The bytes that are to take the place of this answer, and whether the connection stays open behind them.
    pub(crate) fn instead(&mut self, stage: Stage) -> Option<(Bytes, bool)> {
        self.take(|fault| match fault {
            Fault::Instead(at, bytes) if *at == stage => Some((bytes.clone(), true)),
            Fault::Last(at, bytes) if *at == stage => Some((bytes.clone(), false)),
            _ => None,
        })
    }

    /// The bytes that are to follow this answer.
    pub(crate) fn after(&mut self, stage: Stage) -> Option<Bytes> {
        self.take(|fault| match fault {
            Fault::After(at, bytes) if *at == stage => Some(bytes.clone()),
            _ => None,
        })
    }

    /// The first fault that `pick` takes, if it is to strike now; counts it.
    pub(crate) fn take<T>(&mut self, pick: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        let (at, picked) = self.0.iter().enumerate().find_map(|(at, (fault, _))| Some((at, pick(fault)?)))?;
        match &mut self.0[at].1 {
            Times::Always => {}
            Times::Next(1) => drop(self.0.remove(at)),
            Times::Next(left) => *left -= 1,
        }
        Some(picked)
    }
}

/// A PUBLISH to a device, as wrong as a test wants it.
#[derive(Clone)]
pub struct RawPublish {
    /// At most 65 535 bytes; need not be UTF-8, nor one of the device's topics.
    pub topic: Bytes,
    pub payload: Bytes,
    /// 0 to 3, of which 3 is no QoS.
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    /// Written if `qos` is not 0. The bridge counts its own from 1 upwards, so that large ones keep out of its way. It
    /// ignores PUBACKs that it does not wait for.
    pub packet_id: u16,
}

/// Payloads may hold anything, so they are never printed.
impl fmt::Debug for RawPublish {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("RawPublish")
            .field("topic", &self.topic)
            .field("payload_bytes", &self.payload.len())
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("dup", &self.dup)
            .field("packet_id", &self.packet_id)
            .finish()
    }
}

impl RawPublish {
    /// QoS 1, not retained, no duplicate.
    pub fn new(topic: impl Into<Bytes>, payload: impl Into<Bytes>, packet_id: u16) -> Self {
        Self { topic: topic.into(), payload: payload.into(), qos: 1, retain: false, dup: false, packet_id }
    }

    /// The bytes on the wire (MQTT 3.1.1 section 3.3).
    pub fn to_bytes(&self) -> Bytes {
        let id_length = if self.qos == 0 { 0 } else { 2 };
        let mut remaining = 2 + self.topic.len() + id_length + self.payload.len();
        let mut bytes = BytesMut::with_capacity(remaining + 5);
        bytes.put_u8(0x30 | u8::from(self.dup) << 3 | (self.qos & 3) << 1 | u8::from(self.retain));
        loop {
            let low = u8::try_from(remaining % 128).expect("a remainder of 128 is below 128");
            remaining /= 128;
            bytes.put_u8(if remaining == 0 { low } else { low | 0x80 });
            if remaining == 0 {
                break;
            }
        }
        bytes.put_u16(u16::try_from(self.topic.len()).unwrap_or(u16::MAX));
        bytes.extend_from_slice(&self.topic);
        if self.qos != 0 {
            bytes.put_u16(self.packet_id);
        }
        bytes.extend_from_slice(&self.payload);
        bytes.freeze()
    }
}

/// Asks for faults on a client of either cloud. Each call fails with `NOT_FOUND` for an unknown device; those that write to the device fail with
/// `FAILED_PRECONDITION` while it is not connected.
#[derive(Clone, Debug)]
pub struct Faults {
    owner: Owner,
    door: watch::Sender<Door>,
}

impl Faults {
    pub(super) fn new(owner: Owner, door: watch::Sender<Door>) -> Self {
        Self { owner, door }
    }

    /// Runs a function on the state, with the number of a client of either cloud.
    async fn ask_about<T: Send + 'static>(
        &self,
        device: impl Into<ClientName>,
        question: impl FnOnce(&mut World, ClientNumber) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let device = device.into();
        self.owner
            .ask(move |world| {
                let number = world.number_of(&device)?;
                question(world, number)
            })
            .await
    }

    /// Holds for all devices until it is set again.
    pub fn set_door(&self, door: Door) {
        self.door.send_replace(door);
    }

    /// Connections that the listeners for MQTT have accepted since the bridge was started, whatever became of them.
    pub fn accepted(&self) -> u64 {
        self.owner.accepted()
    }

    /// Asks for a fault on this device, after those asked for before.
    pub async fn add(&self, device: impl Into<ClientName>, fault: Fault, times: Times) -> Result<(), ApiError> {
        let add = move |world: &mut World, number| {
            world.broker.plan(number).add(fault, times);
            Ok(())
        };
        self.ask_about(device, add).await
    }

    /// Takes all faults of this device back and sends the PUBACKs that were withheld; how many there were.
    pub async fn clear(&self, device: impl Into<ClientName>) -> Result<usize, ApiError> {
        let clear = |world: &mut World, number| {
            world.broker.plan(number).clear();
            Ok(world.broker.release(number))
        };
        self.ask_about(device, clear).await
    }

    /// Closes the connection now. False if there is none.
    pub async fn close(&self, device: impl Into<ClientName>) -> Result<bool, ApiError> {
        self.ask_about(device, |world, number| Ok(world.broker.close(number))).await
    }

    /// Writes half of a PUBLISH and closes the connection.
    pub async fn cut(&self, device: impl Into<ClientName>) -> Result<(), ApiError> {
        let device = device.into();
        let topic = match &device {
            ClientName::IotCore(name) => format!("/devices/{}/commands", name.device),
            ClientName::IotHub(name) => format!("devices/{}/messages/devicebound/", name.device),
        };
        let whole = RawPublish::new(topic, "cut in the middle", 1).to_bytes();
        self.send(&device, whole.slice(..whole.len() / 2)).await?;
        self.close(&device).await.map(drop)
    }

    /// Closes the connection, if there is one, and drops a kept session with all that it holds.
    pub async fn forget_session(&self, device: impl Into<ClientName>) -> Result<(), ApiError> {
        let forget = |world: &mut World, number| {
            world.forget_session(number);
            Ok(())
        };
        self.ask_about(device, forget).await
    }

    /// Puts these bytes into the session of the device: they are written now, and again whenever the session goes on with
    /// another connection, until it is dropped. `FAILED_PRECONDITION` if the device has none.
    pub async fn poison(&self, device: impl Into<ClientName>, bytes: impl Into<Bytes>) -> Result<(), ApiError> {
        let bytes = bytes.into();
        let poison = move |world: &mut World, number| Ok(world.broker.poison(number, bytes));
        let device = device.into();
        let done = self.ask_about(&device, poison).await?;
        if done { Ok(()) } else { Err(ApiError::not_connected(&device)) }
    }

    /// Writes these bytes as they are.
    pub async fn send(&self, device: impl Into<ClientName>, bytes: impl Into<Bytes>) -> Result<(), ApiError> {
        let (device, bytes) = (device.into(), bytes.into());
        let sent = self.ask_about(&device, |world, number| Ok(world.broker.send(number, bytes))).await?;
        if sent { Ok(()) } else { Err(ApiError::not_connected(&device)) }
    }

    /// Writes these messages in one go, past the session: nothing retries them or waits for their PUBACKs.
    pub async fn publish(&self, device: impl Into<ClientName>, messages: &[RawPublish]) -> Result<(), ApiError> {
        let bytes: BytesMut = messages.iter().flat_map(|message| message.to_bytes().to_vec()).collect();
        self.send(device, bytes).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::broker::wire::bytes_of;
    use rumqttc::mqttbytes::{QoS, v4};

    #[test]
    fn a_raw_publish_without_faults_is_what_the_codec_writes() {
        for size in [0, 100, 20_000, 2 * 1024 * 1024 + 1] {
            let mut packet = v4::Publish::new("a/b", QoS::AtLeastOnce, vec![7; size]);
            packet.pkid = 10;
            packet.dup = true;
            packet.retain = true;
            let mut raw = RawPublish::new("a/b", vec![7; size], 10);
            raw.dup = true;
            raw.retain = true;
            assert_eq!(raw.to_bytes(), bytes_of(v4::Packet::Publish(packet)), "{size}");
        }
    }

    #[test]
    fn a_fault_strikes_as_often_as_asked_and_the_oldest_first() {
        let mut plan = Plan::default();
        plan.add(Fault::RefuseLogin(3), Times::Next(2));
        plan.add(Fault::RefuseLogin(5), Times::Always);
        let code = |fault: &Fault| if let Fault::RefuseLogin(code) = fault { Some(*code) } else { None };
        let codes: Vec<_> = (0..4).filter_map(|_| plan.take(code)).collect();
        assert_eq!(codes, [3, 3, 5, 5]);
        assert!(!plan.strikes(&Fault::CutPublish));
    }
}
