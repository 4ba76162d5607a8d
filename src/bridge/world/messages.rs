//! Cloud-to-device messages of IoT Hub: queued, delivered, counted.

use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::Publish;
use tokio::sync::oneshot;

use super::World;
use crate::bridge::azure::HubError;
use crate::bridge::broker::{ClientNumber, Receipt};
use crate::bridge::hub::QUEUE;
use crate::bridge::hub::topics::{self, Properties};

/// The largest message, in bytes of payload.
const MAX_MESSAGE: usize = 64 * 1024;

impl World {
    /// Queues a message. The receiver is told at the device's PUBACK; it fails when that cannot come any more.
    pub(crate) fn send_message(
        &mut self,
        number: ClientNumber,
        mut properties: Properties,
        body: Bytes,
    ) -> Result<oneshot::Receiver<()>, HubError> {
        let name = self.azure.name_of(number).ok_or_else(|| HubError::invalid("The device was deleted."))?.clone();
        if name.module.is_some() {
            return Err(HubError::invalid("Messages are for devices, not for modules."));
        }
        if body.len() > MAX_MESSAGE {
            return Err(HubError::too_large(format!("The message has more than {MAX_MESSAGE} bytes.")));
        }
        if self.queued(number) >= QUEUE {
            return Err(HubError::queue_full(&name));
        }
        let to = ("$.to".to_owned(), format!("/devices/{}/messages/devicebound", name.device));
        if properties.iter().all(|(name, _)| *name != to.0) {
            properties.insert(0, to);
        }
        let topic = topics::message_topic(&name, &properties);
        if topic.len() > usize::from(u16::MAX) {
            return Err(HubError::too_large("The properties do not fit into a topic."));
        }
        let (settled, receipt) = oneshot::channel();
        let message = Publish::from_bytes(topic, QoS::AtLeastOnce, body);
        self.hub.mailboxes.put(number, message, Receipt::Caller(settled));
        self.hub_deliver(number);
        Ok(receipt)
    }

    /// Messages to a device that it has not acknowledged, sent or not.
    pub(crate) fn queued(&self, number: ClientNumber) -> usize {
        self.hub.mailboxes.len(number) + self.broker.unsettled(number)
    }

    pub(super) fn count_queue(&mut self, number: ClientNumber) {
        let queued = self.queued(number);
        self.azure.set_queued(number, queued);
    }

    /// Drops the session of a client, and its connection with it.
    pub(crate) fn forget_session(&mut self, number: ClientNumber) {
        self.broker.forget(number);
        self.count_queue(number);
    }

    /// Drops the messages to a device; how many there were.
    pub(crate) fn purge_messages(&mut self, number: ClientNumber) -> usize {
        let dropped = self.broker.take_messages(number).len() + self.hub.mailboxes.take(number).len();
        self.count_queue(number);
        dropped
    }
}
