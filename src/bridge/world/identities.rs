//! Identities of IoT Hub, as far as a change of one concerns its connection and what waits for it.

use serde_json::Value;

use super::{World, wall};
use crate::bridge::azure::{HubError, HubName, IdentityBody, IfMatch};
use crate::bridge::broker::ClientNumber;
use crate::bridge::google::{Canonical, Violation};

impl World {
    /// Makes or changes an identity. A connection that it could not make any more ends.
    pub(crate) fn put_identity(
        &mut self,
        name: &HubName,
        body: IdentityBody,
        if_match: Option<&IfMatch>,
    ) -> Result<Value, HubError> {
        let identity = self.azure.put_identity(name, body, if_match, wall())?;
        self.end_if_disabled(self.azure.number_of(name)?);
        Ok(identity)
    }

    pub(crate) fn set_enabled(&mut self, number: ClientNumber, enabled: bool) -> Result<(), HubError> {
        self.azure.set_enabled(number, enabled, wall())?;
        self.end_if_disabled(number);
        Ok(())
    }

    fn end_if_disabled(&mut self, number: ClientNumber) {
        if self.azure.is_enabled(number) {
            return;
        }
        let mut affected = vec![number];
        if let Some(HubName { device, module: None }) = self.azure.name_of(number) {
            affected.extend(self.azure.modules_of(device));
        }
        for number in affected {
            if self.broker.connection_of(number).is_some() {
                self.violated(number, Violation::new(Canonical::PermissionDenied, "the identity is disabled"));
            }
        }
    }

    /// Deletes an identity, its modules, their connections and all that waits for them.
    pub(crate) fn delete_identity(&mut self, name: &HubName, if_match: &IfMatch) -> Result<(), HubError> {
        for number in self.azure.delete_identity(name, if_match)? {
            self.broker.remove(number);
            self.hub.remove(number);
            self.logins.remove(&number);
        }
        Ok(())
    }
}
