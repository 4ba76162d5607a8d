//! The state of the stand-in, and what happens to it: logins, packets, timers.
//!
//! It joins the broker, which has no rules, with the clouds, which have no connections. `google` is the first of them; `hub`,
//! `identities`, `twins`, `methods` and `messages` are the second, and `provisioning` is its front door. A client's number
//! says to which cloud it belongs.

mod google;
mod hub;
mod identities;
mod login;
mod messages;
mod methods;
mod provisioning;
mod twins;

use std::collections::HashMap;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, Publish, SubAck, Subscribe, SubscribeReasonCode, UnsubAck};
use tokio::time::Instant;

use self::login::Side;
use super::azure::{Azure, HubError};
use super::broker::connection::{ConnectionId, End, Heard, Orders};
use super::broker::{Broker, ClientNumber, Receipt};
use super::client_name::ClientName;
use super::faults::{Fault, Stage};
use super::google::{ApiError, Canonical, FileChange, Google, LogLevel, Violation, quoted};
use super::hub::HubTraffic;
use super::owner::{Timer, TimerKey, Timers};
use super::provisioning::Provisioning;
use super::taps::Taps;
use crate::model::now::Timestamp;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) google: Google,
    pub(crate) azure: Azure,
    pub(crate) hub: HubTraffic,
    pub(crate) provisioning: Provisioning,
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
    pub(crate) fn new(google: Google, azure: Azure, provisioning: Provisioning, taps: Taps) -> Self {
        Self {
            broker: Broker::default(),
            google,
            azure,
            hub: HubTraffic::default(),
            provisioning,
            taps,
            timers: Timers::default(),
            logins: HashMap::new(),
            expiries: HashMap::new(),
            mute: HashMap::new(),
        }
    }

    pub(crate) fn has_changes(&self) -> bool {
        self.google.has_changes() || self.azure.has_changes()
    }

    /// The files that are out of date.
    pub(crate) fn take_changes(&mut self) -> Vec<FileChange> {
        let mut changes = self.google.take_changes();
        changes.append(&mut self.azure.take_changes());
        changes
    }

    /// A connection says something.
    pub(crate) fn hear(&mut self, id: ConnectionId, heard: Heard) {
        match heard {
            Heard::Login(connect, peer, orders) => self.login(id, &connect, peer.as_ref(), orders),
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
                self.hub_connection_ended(id);
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
            Timer::Method(call) => self.method_overdue(call),
            Timer::Save => {}
        }
    }

    fn packet(&mut self, number: ClientNumber, packet: Packet) -> Result<(), Violation> {
        match packet {
            Packet::Publish(message) => {
                if self.broker.plan(number).strikes(&Fault::LosePublishes) {
                    return Ok(());
                }
                match Side::of(number) {
                    Side::IotCore => self.google_published(number, &message)?,
                    Side::IotHub => self.hub_published(number, &message)?,
                    Side::Provisioning => self.provisioning_published(number, &message)?,
                }
            }
            Packet::PubAck(ack) => {
                match self.broker.settled(number, ack.pkid) {
                    Some(Receipt::Caller(caller)) => {
                        // The caller may have given up.
                        let _ = caller.send(());
                    }
                    Some(Receipt::Version(version)) => self.google.config_acknowledged(number, version, wall()),
                    Some(Receipt::Nobody) | None => {}
                }
                if Side::of(number) == Side::IotHub {
                    self.count_queue(number);
                }
            }
            Packet::Subscribe(subscribe) => self.subscribed(number, &subscribe)?,
            Packet::Unsubscribe(unsubscribe) => {
                if let Some(session) = self.broker.session(number) {
                    unsubscribe.topics.iter().for_each(|filter| session.unsubscribe(filter));
                }
                self.broker.send(number, Packet::UnsubAck(UnsubAck::new(unsubscribe.pkid)));
            }
            Packet::PingReq => {
                if Side::of(number) == Side::IotCore {
                    self.google.heartbeat(number, wall());
                }
                self.log(number, LogLevel::Debug, "ping");
                if !self.broker.plan(number).strikes(&Fault::WithholdPingresps) {
                    self.broker.send(number, Packet::PingResp);
                }
            }
            Packet::Disconnect => {
                if let Some(id) = self.broker.connection_of(number) {
                    // MQTT-3.14.4-3.
                    self.hub.forget_will(id);
                }
                self.broker.close(number);
            }
            _ => return Err(Violation::new(Canonical::InvalidArgument, "mqtt: unexpected packet")),
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
        let refused = self.broker.plan(number).strikes(&Fault::RefuseSubscriptions);
        for filter in &subscribe.filters {
            let taken = match Side::of(number) {
                Side::IotCore => self.google_takes(number, &filter.path)?,
                Side::IotHub => self.hub_takes(number, &filter.path)?,
                Side::Provisioning => Self::provisioning_takes(&filter.path)?,
            };
            self.log(number, LogLevel::Debug, format_args!("subscribes to {}", quoted(&filter.path)));
            codes.push(match self.broker.session(number) {
                Some(session) if taken && !refused => {
                    let qos = if filter.qos == QoS::AtMostOnce { QoS::AtMostOnce } else { QoS::AtLeastOnce };
                    session.subscribe(filter.path.clone(), qos);
                    SubscribeReasonCode::Success(qos)
                }
                _ => SubscribeReasonCode::Failure,
            });
        }
        if self.broker.plan(number).strikes(&Fault::WithholdSubacks) {
            return Ok(());
        }
        let granted = codes.iter().map(|code| *code != SubscribeReasonCode::Failure).collect::<Vec<_>>();
        self.broker.send(number, Packet::SubAck(SubAck::new(subscribe.pkid, codes)));
        if let Some(bytes) = self.broker.plan(number).after(Stage::Suback) {
            self.broker.send(number, bytes);
        }
        match Side::of(number) {
            Side::IotCore => {
                let filters = subscribe.filters.iter().zip(granted).filter(|(_, granted)| *granted);
                let filters = filters.map(|(filter, _)| filter.path.as_str()).collect::<Vec<_>>();
                self.google_subscribed(number, &filters);
            }
            Side::IotHub => self.hub_deliver(number),
            Side::Provisioning => {}
        }
        Ok(())
    }

    /// The number of a client of either cloud.
    pub(crate) fn number_of(&self, name: &ClientName) -> Result<ClientNumber, ApiError> {
        match name {
            ClientName::IotCore(name) => self.google.number_of(name),
            ClientName::IotHub(name) => self.azure.number_of(name).map_err(|error: HubError| {
                tracing::debug!("a fault for nobody: {error}");
                ApiError::not_found("Device", &name.to_string())
            }),
        }
    }

    /// Logins of this device that were taken.
    pub(crate) fn logins(&self, number: ClientNumber) -> u64 {
        self.logins.get(&number).copied().unwrap_or(0)
    }

    /// Logs what a client did. A device of Cloud IoT Core, if its log level or that of its registry asks for it.
    fn log(&self, number: ClientNumber, level: LogLevel, event: impl fmt::Display) {
        let device = match Side::of(number) {
            Side::IotCore if !self.google.logs(number, level) => return,
            Side::IotCore => self.google.name_of(number).map(ToString::to_string),
            Side::IotHub => self.azure.name_of(number).map(ToString::to_string),
            Side::Provisioning => self.provisioning.name_of(number).map(ToOwned::to_owned),
        };
        match level {
            LogLevel::Error => tracing::warn!(device, "{event}"),
            LogLevel::Debug if Side::of(number) != Side::IotCore => tracing::debug!(device, "{event}"),
            _ => tracing::info!(device, "{event}"),
        }
    }

    /// Ends the connection of a client for a reason that can be asked for later.
    pub(crate) fn violated(&mut self, number: ClientNumber, violation: Violation) {
        self.log(number, LogLevel::Error, format_args!("connection closed: {}", violation.message));
        if Side::of(number) == Side::IotCore {
            self.google.violated(number, violation, wall());
        } else {
            self.hub.complain(number, violation.message);
        }
        self.broker.close(number);
    }

    /// Whether the client is subscribed to this, in an open connection or a kept session.
    fn is_granted(&mut self, number: ClientNumber, filter: &str) -> Option<QoS> {
        self.broker.session(number).and_then(|session| session.granted(filter))
    }

    /// Sends with QoS 0 to a client that is connected: nothing waits for it, nothing is kept.
    fn tell(&mut self, number: ClientNumber, topic: String, payload: impl Into<Bytes>) {
        let message = Publish::from_bytes(topic, QoS::AtMostOnce, payload.into());
        if self.broker.connection_of(number).is_some() && self.broker.publish(number, message, Receipt::Nobody).is_err()
        {
            tracing::warn!("a client that acknowledges nothing is not told any more");
        }
    }
}
