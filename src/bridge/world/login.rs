//! Logins: which cloud is meant, what it says, and how a client goes on line.

use bytes::Bytes;
use rumqttc::mqttbytes::v4::Connect;
use tokio::time::Instant;

use super::{World, wall};
use crate::bridge::azure::Azure;
use crate::bridge::broker::ClientNumber;
use crate::bridge::broker::connection::{ConnectionId, Orders};
use crate::bridge::faults::{Fault, Stage};
use crate::bridge::google::{Canonical, LogLevel, Violation, quoted};
use crate::bridge::owner::Timer;
use crate::bridge::peer::Certificate;
use crate::bridge::provisioning::Provisioning;
use crate::model::now::Timestamp;

/// The cloud that a client belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    IotCore,
    IotHub,
    Provisioning,
}

impl Side {
    /// By what a CONNECT says: both clouds may share a listener.
    fn of_login(connect: &Connect) -> Self {
        let username = connect.login.as_ref().map_or("", |login| login.username.as_str());
        if connect.client_id.starts_with("projects/") {
            Self::IotCore
        } else if Azure::is_login(username) {
            Self::IotHub
        } else if Provisioning::is_login(username) {
            Self::Provisioning
        } else {
            Self::IotCore
        }
    }

    pub(super) fn of(number: ClientNumber) -> Self {
        if Azure::holds(number) {
            Self::IotHub
        } else if Provisioning::holds(number) {
            Self::Provisioning
        } else {
            Self::IotCore
        }
    }
}

/// A login that its cloud has taken.
pub(super) struct Welcome {
    pub(super) number: ClientNumber,
    /// The wall clock at which its connection is closed.
    pub(super) until: Option<Timestamp>,
    /// Its session is to be kept.
    pub(super) keep: bool,
}

/// A login that was not taken.
pub(super) struct Unwelcome {
    /// The return code of the CONNACK; `None`: the connection is closed without one.
    pub(super) code: Option<u8>,
    pub(super) why: String,
}

impl World {
    pub(super) fn login(&mut self, id: ConnectionId, connect: &Connect, peer: Option<&Certificate>, orders: Orders) {
        let side = Side::of_login(connect);
        let judged = match side {
            Side::IotCore => self.google_login(connect),
            Side::IotHub => self.hub_login(connect, peer),
            Side::Provisioning => self.provisioning_login(connect, peer),
        };
        let welcome = match judged {
            Ok(welcome) => welcome,
            Err(Unwelcome { code, why }) => {
                tracing::warn!(client = quoted(&connect.client_id), "login refused: {why}");
                if side != Side::IotCore {
                    self.hub.refused(why);
                }
                if let Some(code) = code {
                    orders.send(connack(false, code));
                }
                return;
            }
        };
        let number = welcome.number;
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
        self.open(id, connect, &welcome, orders);
    }

    /// Puts a client on line whose login was taken.
    fn open(&mut self, id: ConnectionId, connect: &Connect, welcome: &Welcome, orders: Orders) {
        let Welcome { number, until, keep } = *welcome;
        if self.broker.connection_of(number).is_some() {
            let reason = "SERVER: The connection was closed because there is another active connection with the same \
                          device ID.";
            self.violated(number, Violation::new(Canonical::AlreadyExists, reason));
        }
        *self.logins.entry(number).or_default() += 1;
        if Side::of(number) == Side::IotHub {
            self.hub_connection_begins(id, number, connect, keep);
        }
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
        if let Some(until) = until {
            let left = until.since(wall());
            self.expiries.insert(id, self.timers.add(Instant::now() + left, Timer::Expire(id)));
        }
        self.log(number, LogLevel::Info, if present { "connected to its kept session" } else { "connected" });
        if Side::of(number) == Side::IotHub {
            self.hub_deliver(number);
        }
    }
}

/// A CONNACK with any code: MQTT 3.1.1 section 3.2.
fn connack(session_present: bool, code: u8) -> Bytes {
    Bytes::copy_from_slice(&[0x20, 2, u8::from(session_present), code])
}
