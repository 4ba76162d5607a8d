//! Devices of Cloud IoT Core: their logins, messages, configurations and commands.

use bytes::Bytes;
use rumqttc::mqttbytes::v4::{Connect, Publish};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::login::{Unwelcome, Welcome};
use super::{World, wall};
use crate::bridge::broker::{ClientNumber, Receipt};
use crate::bridge::google::{
    ApiError, Canonical, Feed, LogLevel, Payload, Published, Violation, command_topic, config_topic, quoted,
};
use crate::bridge::owner::Timer;
use crate::bridge::taps::{StateChange, Telemetry};

impl World {
    pub(super) fn google_login(&self, connect: &Connect) -> Result<Welcome, Unwelcome> {
        let settings = self.google.settings();
        let admitted = self.google.login(connect, wall());
        let admitted = admitted.map_err(|refused| Unwelcome { code: refused.code, why: refused.why })?;
        Ok(Welcome {
            number: admitted.number,
            until: (!settings.sessions).then(|| admitted.expires.saturating_add(settings.skew)),
            keep: settings.sessions && !connect.clean_session,
        })
    }

    pub(super) fn google_published(&mut self, number: ClientNumber, message: &Publish) -> Result<(), Violation> {
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

    /// Whether a filter is one of the device's.
    pub(super) fn google_takes(&self, number: ClientNumber, filter: &str) -> Result<bool, Violation> {
        let feed = self.google.feed(number, filter);
        if feed.is_none() && !self.google.settings().sessions {
            let text = format!("mqtt: the filter {} is not one of the device's", quoted(filter));
            return Err(Violation::new(Canonical::InvalidArgument, text));
        }
        Ok(feed.is_some())
    }

    /// These filters were granted.
    pub(super) fn google_subscribed(&mut self, number: ClientNumber, filters: &[&str]) {
        if filters.iter().any(|filter| self.google.feed(number, filter) == Some(Feed::Config)) {
            self.send_config(number, true);
        }
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

    /// Deletes a device, and its connection with it.
    pub(crate) fn delete_device(&mut self, number: ClientNumber) -> serde_json::Value {
        self.broker.remove(number);
        self.logins.remove(&number);
        self.google.delete_device(number)
    }
}
