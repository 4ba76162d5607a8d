//! The state of the stand-in, and what happens to it: logins, packets, timers, commands.
//!
//! It joins the broker, which has no rules, with the cloud, which has no connections. A second cloud is a second
//! branch at the login and at each packet.

use std::collections::HashMap;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Packet, Publish, SubAck, Subscribe, SubscribeReasonCode, UnsubAck};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::broker::connection::{ConnectionId, End, Heard, Orders};
use super::broker::{Broker, ClientNumber, Receipt};
use super::faults::{Fault, Stage};
use super::google::{
    ApiError, Canonical, Feed, Google, LogLevel, Payload, Published, Violation, command_topic, config_topic, quoted,
};
use super::owner::{Timer, TimerKey, Timers};
use super::taps::{StateChange, Taps, Telemetry};
use crate::model::now::Timestamp;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) google: Google,
    pub(crate) taps: Taps,
    pub(crate) timers: Timers,
    logins: HashMap<ClientNumber, u64>,
    /// When the token of each connection expires.
    expiries: HashMap<ConnectionId, TimerKey>,
    /// Connections that a fault keeps open although nobody has logged in on them.
    mute: HashMap<ConnectionId, Orders>,
}

/// The wall clock.
pub(crate) fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

impl World {
    pub(crate) fn new(google: Google, taps: Taps) -> Self {
        Self {
            broker: Broker::default(),
            google,
            taps,
            timers: Timers::default(),
            logins: HashMap::new(),
            expiries: HashMap::new(),
            mute: HashMap::new(),
        }
    }

    /// A connection says something.
    pub(crate) fn hear(&mut self, id: ConnectionId, heard: Heard) {
        match heard {
            Heard::Login(connect, orders) => self.login(id, &connect, orders),
            Heard::Packets(packets) => {
                for packet in packets {
                    // A packet may have ended the connection; what was read behind it is not looked at.
                    let Some(number) = self.broker.client_of(id) else { return };
                    if let Err(violation) = self.packet(number, packet) {
                        self.violated(number, violation);
                    }
                }
            }
            Heard::Gone(end) => {
                self.mute.remove(&id);
                if let Some(key) = self.expiries.remove(&id) {
                    self.timers.cancel(key);
                }
                if let Some(number) = self.broker.gone(id) {
                    let level = if matches!(end, End::Ours | End::Eof) { LogLevel::Info } else { LogLevel::Error };
                    self.log(number, level, format_args!("disconnected: {end}"));
                } else {
                    tracing::debug!("a connection ended that was not logged in, or not any more: {end}");
                }
            }
        }
    }

    /// A timer is due.
    pub(crate) fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Expire(id) => {
                if let Some(number) = self.broker.client_of(id) {
                    self.violated(
                        number,
                        Violation::new(Canonical::Unauthenticated, "mqtt: SERVER: The authorization token expired."),
                    );
                }
            }
            Timer::RetryConfig { id, packet, version } => {
                let Some(number) = self.broker.client_of(id) else { return };
                // A newer version has a timer of its own and replaces this one.
                let newest = self.google.config_version(number) == Some(version);
                if newest && self.broker.repeat(number, packet, version) {
                    self.timers.add(Instant::now() + self.google.settings().config_retry, timer);
                }
            }
            Timer::Kick(id) => {
                if let Some(number) = self.broker.client_of(id) {
                    self.broker.close(number);
                }
            }
            Timer::Save => {}
        }
    }

    fn login(&mut self, id: ConnectionId, connect: &Connect, orders: Orders) {
        let admitted = match self.google.login(connect, wall()) {
            Ok(admitted) => admitted,
            Err(refused) => {
                tracing::warn!(client = quoted(&connect.client_id), "login refused: {}", refused.why);
                if let Some(code) = refused.code {
                    orders.send(connack(false, code));
                }
                return;
            }
        };
        let number = admitted.number;
        let plan = self.broker.plan(number);
        if plan.strikes(&Fault::DropLogin) {
            return;
        }
        if let Some((bytes, stays)) = plan.instead(Stage::Connack) {
            orders.send(bytes);
            if stays {
                self.mute.insert(id, orders);
            }
            return;
        }
        let code = plan.take(|fault| if let Fault::RefuseLogin(code) = fault { Some(*code) } else { None });
        if let Some(code) = code {
            orders.send(connack(false, code));
            return;
        }
        let delay = plan.take(|fault| if let Fault::DelayConnack(time) = fault { Some(*time) } else { None });
        if let Some(time) = delay {
            orders.pause(time);
        }
        if self.broker.connection_of(number).is_some() {
            let reason = "SERVER: The connection was closed because there is another active connection with the same \
                          device ID.";
            self.violated(number, Violation::new(Canonical::AlreadyExists, reason));
        }
        let settings = self.google.settings();
        let keep = settings.sessions && !connect.clean_session;
        *self.logins.entry(number).or_default() += 1;
        let present = self.broker.open(id, number, orders, keep);
        let connack = connack(present, 0);
        let plan = self.broker.plan(number);
        let drip = plan.take(|fault| if let Fault::Drip(every) = fault { Some(*every) } else { None });
        let kick = plan.take(|fault| if let Fault::Kick(time) = fault { Some(*time) } else { None });
        let after = plan.after(Stage::Connack);
        match drip {
            Some(every) => self.broker.drip(number, &connack, every),
            None => drop(self.broker.send(number, connack)),
        }
        if let Some(bytes) = after {
            self.broker.send(number, bytes);
        }
        if let Some(time) = kick {
            self.timers.add(Instant::now() + time, Timer::Kick(id));
        }
        self.broker.resume(number);
        if !settings.sessions {
            let left = admitted.expires.saturating_add(settings.skew).since(wall());
            self.expiries.insert(id, self.timers.add(Instant::now() + left, Timer::Expire(id)));
        }
        self.log(number, LogLevel::Info, if present { "connected to its kept session" } else { "connected" });
    }

    fn packet(&mut self, number: ClientNumber, packet: Packet) -> Result<(), Violation> {
        match packet {
            Packet::Publish(message) => self.published(number, &message)?,
            Packet::PubAck(ack) => match self.broker.settled(number, ack.pkid) {
                Some(Receipt::Caller(caller)) => {
                    // The caller may have given up.
                    let _ = caller.send(());
                }
                Some(Receipt::Version(version)) => self.google.config_acknowledged(number, version, wall()),
                Some(Receipt::Nobody) | None => {}
            },
            Packet::Subscribe(subscribe) => self.subscribed(number, &subscribe)?,
            Packet::Unsubscribe(unsubscribe) => {
                if let Some(session) = self.broker.session(number) {
                    unsubscribe.topics.iter().for_each(|filter| session.unsubscribe(filter));
                }
                self.broker.send(number, Packet::UnsubAck(UnsubAck::new(unsubscribe.pkid)));
            }
            Packet::PingReq => {
                self.google.heartbeat(number, wall());
                self.log(number, LogLevel::Debug, "ping");
                if !self.broker.plan(number).strikes(&Fault::WithholdPingresps) {
                    self.broker.send(number, Packet::PingResp);
                }
            }
            Packet::Disconnect => {
                self.broker.close(number);
            }
            _ => return Err(Violation::new(Canonical::InvalidArgument, "mqtt: unexpected packet")),
        }
        Ok(())
    }

    fn published(&mut self, number: ClientNumber, message: &Publish) -> Result<(), Violation> {
        if self.broker.plan(number).strikes(&Fault::LosePublishes) {
            return Ok(());
        }
        let time = wall();
        let published = self.google.published(number, message, time, Instant::now())?;
        let device = self.google.name_of(number).expect("its message was just judged").clone();
        let payload = Bytes::copy_from_slice(&message.payload);
        match published {
            Published::State => {
                self.log(number, LogLevel::Debug, format_args!("state of {} bytes", payload.len()));
                self.taps.states.put(&StateChange { device, payload, time });
                if self.broker.acknowledge(number, message) {
                    self.google.state_acknowledged(number, Instant::now());
                }
            }
            Published::Event { subfolder, topic } => {
                let size = payload.len();
                self.log(number, LogLevel::Debug, format_args!("event of {size} bytes in {}", quoted(&subfolder)));
                if self.taps.take_event(number, &Telemetry { device, subfolder, topic, payload, time }) {
                    self.broker.acknowledge(number, message);
                }
            }
        }
        Ok(())
    }

    fn subscribed(&mut self, number: ClientNumber, subscribe: &Subscribe) -> Result<(), Violation> {
        if let Some((bytes, stays)) = self.broker.plan(number).instead(Stage::Suback) {
            self.broker.send(number, bytes);
            if !stays {
                self.broker.close(number);
            }
            return Ok(());
        }
        let mut codes = Vec::new();
        let mut wants_config = false;
        let refused = self.broker.plan(number).strikes(&Fault::RefuseSubscriptions);
        for filter in &subscribe.filters {
            let feed = self.google.feed(number, &filter.path);
            if feed.is_none() && !self.google.settings().sessions {
                let text = format!("mqtt: the filter {} is not one of the device's", quoted(&filter.path));
                return Err(Violation::new(Canonical::InvalidArgument, text));
            }
            self.log(number, LogLevel::Debug, format_args!("subscribes to {}", quoted(&filter.path)));
            codes.push(match (feed, self.broker.session(number)) {
                (Some(feed), Some(session)) if !refused => {
                    let qos = if filter.qos == QoS::AtMostOnce { QoS::AtMostOnce } else { QoS::AtLeastOnce };
                    session.subscribe(filter.path.clone(), qos);
                    wants_config |= feed == Feed::Config;
                    SubscribeReasonCode::Success(qos)
                }
                _ => SubscribeReasonCode::Failure,
            });
        }
        if self.broker.plan(number).strikes(&Fault::WithholdSubacks) {
            return Ok(());
        }
        self.broker.send(number, Packet::SubAck(SubAck::new(subscribe.pkid, codes)));
        if let Some(bytes) = self.broker.plan(number).after(Stage::Suback) {
            self.broker.send(number, bytes);
        }
        if wants_config {
            self.send_config(number, true);
        }
        Ok(())
    }

    /// Sends the newest configuration to a device that is subscribed to it.
    ///
    /// With kept sessions it is what such brokers make of it: a retained message, which cannot be empty.
    fn send_config(&mut self, number: ClientNumber, subscribing: bool) {
        let Some(name) = self.google.name_of(number) else { return };
        let topic = config_topic(name);
        let Some(qos) = self.broker.session(number).and_then(|session| session.granted(&topic)) else { return };
        let Some((version, payload)) = self.google.config_to_send(number, wall()) else { return };
        let sessions = self.google.settings().sessions;
        if sessions && payload.is_empty() && subscribing {
            return;
        }
        let mut message = Publish::from_bytes(topic, qos, payload);
        message.retain = sessions && subscribing;
        // No room: the device gets this version when it subscribes again.
        let sent = self.broker.publish(number, message, Receipt::Version(version)).ok().flatten();
        if let (Some(packet @ 1..), Some(id), false) = (sent, self.broker.connection_of(number), sessions) {
            let retry = Timer::RetryConfig { id, packet, version };
            self.timers.add(Instant::now() + self.google.settings().config_retry, retry);
        }
    }

    /// Makes a new version of the configuration and sends it.
    pub(crate) fn set_config(
        &mut self,
        number: ClientNumber,
        expected: u64,
        data: Payload,
    ) -> Result<serde_json::Value, ApiError> {
        let answer = self.google.set_config(number, expected, data, wall())?;
        self.send_config(number, false);
        Ok(answer)
    }

    /// Sends a command. The receiver is told at the device's PUBACK; it fails when that cannot come any more.
    pub(crate) fn send_command(
        &mut self,
        number: ClientNumber,
        subfolder: &str,
        payload: Bytes,
    ) -> Result<oneshot::Receiver<()>, ApiError> {
        let name = self.google.name_of(number).ok_or_else(|| ApiError::not_found("Device", &number.to_string()))?;
        let filter = Feed::Commands.filter(name);
        let granted = self.broker.session(number).and_then(|session| session.granted(&filter));
        let Some(qos) = granted else {
            return Err(ApiError::new(
                Canonical::FailedPrecondition,
                format!("Device '{}' is not subscribed to the commands topic.", name.device),
            ));
        };
        let message = Publish::from_bytes(command_topic(name, subfolder), qos, payload);
        let full = |_| ApiError::new(Canonical::ResourceExhausted, "Too many commands wait for this device.");
        let (settled, receipt) = oneshot::channel();
        if self.broker.connection_of(number).is_some() {
            self.broker.publish(number, message, Receipt::Caller(settled)).map_err(full)?;
        } else {
            // Queued for a device that is away: no more can be promised.
            self.broker.publish(number, message, Receipt::Nobody).map_err(full)?;
            // The receiver is still here.
            let _ = settled.send(());
        }
        Ok(receipt)
    }

    /// Whether a command for this device would be taken.
    pub(crate) fn takes_commands(&mut self, number: ClientNumber) -> bool {
        let Some(filter) = self.google.name_of(number).map(|name| Feed::Commands.filter(name)) else { return false };
        self.broker.session(number).is_some_and(|session| session.granted(&filter).is_some())
    }

    /// Logins of this device that were taken.
    pub(crate) fn logins(&self, number: ClientNumber) -> u64 {
        self.logins.get(&number).copied().unwrap_or(0)
    }

    /// Deletes a device, and its connection with it.
    pub(crate) fn delete_device(&mut self, number: ClientNumber) -> serde_json::Value {
        self.broker.remove(number);
        self.logins.remove(&number);
        self.google.delete_device(number)
    }

    /// Logs what a device did, if its log level or that of its registry asks for it.
    fn log(&self, number: ClientNumber, level: LogLevel, event: impl fmt::Display) {
        if self.google.logs(number, level) {
            let device = self.google.name_of(number).map(ToString::to_string);
            if level == LogLevel::Error {
                tracing::warn!(device, "{event}");
            } else {
                tracing::info!(device, "{event}");
            }
        }
    }

    /// Ends the connection of a device for a reason that it can be asked for later.
    pub(crate) fn violated(&mut self, number: ClientNumber, violation: Violation) {
        self.log(number, LogLevel::Error, format_args!("connection closed: {}", violation.message));
        self.google.violated(number, violation, wall());
        self.broker.close(number);
    }
}

/// A CONNACK with any code: MQTT 3.1.1 section 3.2.
fn connack(session_present: bool, code: u8) -> Bytes {
    Bytes::copy_from_slice(&[0x20, 2, u8::from(session_present), code])
}
