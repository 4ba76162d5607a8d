//! Devices that ask the provisioning service for their hub.

use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Publish};

use super::login::{Unwelcome, Welcome};
use super::{World, wall};
use crate::bridge::broker::ClientNumber;
use crate::bridge::google::{Canonical, Violation, quoted};
use crate::bridge::peer::Certificate;
use crate::bridge::provisioning::Reply;
use crate::dialect::sas::percent_decode;

const ANSWERS: &str = "$dps/registrations/res/#";
const REGISTER: &str = "$dps/registrations/PUT/iotdps-register/?";
const POLL: &str = "$dps/registrations/GET/iotdps-get-operationstatus/?";

impl World {
    pub(super) fn provisioning_login(
        &self,
        connect: &Connect,
        peer: Option<&Certificate>,
    ) -> Result<Welcome, Unwelcome> {
        let (username, password) =
            connect.login.as_ref().map_or(("", ""), |login| (login.username.as_str(), login.password.as_str()));
        let (skew, der) = (self.azure.skew(), peer.map(Certificate::der));
        let admitted = self.provisioning.login(username, &connect.client_id, password, der, skew, wall());
        let (number, expires) = admitted.map_err(|why| Unwelcome { code: Some(5), why })?;
        // There are no kept sessions, whatever the client asks for.
        Ok(Welcome { number, until: expires.map(|expires| expires.saturating_add(skew)), keep: false })
    }

    pub(super) fn provisioning_takes(filter: &str) -> Result<bool, Violation> {
        if filter == ANSWERS {
            return Ok(true);
        }
        let text = format!("the filter {} is none of the provisioning service", quoted(filter));
        Err(Violation::new(Canonical::InvalidArgument, text))
    }

    pub(super) fn provisioning_published(&mut self, number: ClientNumber, message: &Publish) -> Result<(), Violation> {
        let invalid = |text: String| Violation::new(Canonical::InvalidArgument, text);
        if message.qos == QoS::ExactlyOnce {
            return Err(invalid("QoS 2 is not supported".to_owned()));
        }
        let foreign = || invalid(format!("the topic {} is none of the provisioning service", quoted(&message.topic)));
        let parameter = |query: &str, name: &str| {
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
        };
        let (rid, reply) = if let Some(query) = message.topic.strip_prefix(REGISTER) {
            let rid = parameter(query, "$rid").ok_or_else(foreign)?;
            (rid, self.provisioning.register(number, &message.payload, wall()))
        } else if let Some(query) = message.topic.strip_prefix(POLL) {
            let rid = parameter(query, "$rid").ok_or_else(foreign)?;
            let operation = parameter(query, "operationId").and_then(|text| percent_decode(&text));
            (rid, self.provisioning.poll(number, &operation.ok_or_else(foreign)?, wall()))
        } else {
            return Err(foreign());
        };
        self.broker.acknowledge(number, message);
        self.reply(number, &rid, reply);
        Ok(())
    }

    fn reply(&mut self, number: ClientNumber, rid: &str, reply: Reply) {
        let Reply { status, retry_after, body, assigned } = reply;
        if let Some((name, access)) = assigned
            && self.azure.number_of(&name).is_err()
            && let Err(error) = self.put_identity(&name, access.body(), None)
        {
            tracing::error!("an assigned device cannot be made: {error}");
        }
        if self.is_granted(number, ANSWERS).is_some() {
            let retry_after = retry_after.map(|seconds| format!("&retry-after={seconds}")).unwrap_or_default();
            let topic = format!("$dps/registrations/res/{status}/?$rid={rid}{retry_after}");
            self.tell(number, topic, Bytes::from(body.to_string()));
        }
    }
}
