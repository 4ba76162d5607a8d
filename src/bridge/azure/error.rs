//! The errors of IoT Hub: an HTTP status, a code of six digits that begins with it, and the name of the code.
//!
//! Sources: "Understand and resolve Azure IoT Hub errors" (learn.microsoft.com/azure/iot-hub/troubleshoot-error-codes), and
//! the list of codes in Azure's service library for .NET.

use super::HubName;
use crate::bridge::owner::Stopped;

/// A refused call of the service's API, or a refused request of a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct HubError {
    /// As in HTTP, and in the topic of an answer to a device.
    pub status: u16,
    /// Six digits, such as 404103.
    pub code: u32,
    pub message: String,
}

impl HubError {
    fn new(code: u32, message: impl Into<String>) -> Self {
        let status = u16::try_from(code / 1_000).expect("codes have six digits");
        Self { status, code, message: message.into() }
    }

    /// The request is wrong in itself.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400_004, message)
    }

    pub(crate) fn no_version() -> Self {
        Self::new(400_001, "The query has no api-version that is a date, such as 2021-04-12.")
    }

    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(401_002, message)
    }

    /// More messages wait for a device than may.
    pub(crate) fn queue_full(name: &HubName) -> Self {
        Self::new(403_004, format!("The queue of messages for {name} is full."))
    }

    pub(crate) fn not_found(name: &HubName) -> Self {
        match &name.module {
            None => Self::new(404_001, format!("Device {name} is not registered.")),
            Some(module) => Self::new(404_010, format!("Module {module} is not registered on device {}.", name.device)),
        }
    }

    /// The identity was deleted while it was asked about.
    pub(crate) fn gone() -> Self {
        Self::new(404_001, "The device is not registered any more.")
    }

    /// There is no such call.
    pub(crate) fn no_call(message: impl Into<String>) -> Self {
        Self::new(404_000, message)
    }

    /// A method was called, and nobody is connected that takes methods.
    pub(crate) fn not_online() -> Self {
        Self::new(
            404_103,
            "The operation failed because the requested device isn't online or hasn't registered the direct method \
             callback. To learn more, see https://aka.ms/iothub404103",
        )
    }

    pub(crate) fn already_exists(name: &HubName) -> Self {
        match &name.module {
            None => Self::new(409_001, format!("A device with the id {name} is already registered.")),
            Some(module) => {
                let device = &name.device;
                Self::new(409_301, format!("A module with the id {module} is already registered on device {device}."))
            }
        }
    }

    /// `If-Match` names another version than there is.
    pub(crate) fn precondition() -> Self {
        Self::new(412_001, "The ETag of the request is not that of the resource: it was changed, read it again.")
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(413_001, message)
    }

    pub(crate) fn too_many_modules(name: &HubName, most: usize) -> Self {
        Self::new(413_003, format!("Device {} has {most} modules, which is the most.", name.device))
    }

    pub(crate) fn throttled() -> Self {
        Self::new(429_001, "Too many requests: the limit of this operation is reached.")
    }

    /// A call has taken longer than any may.
    pub(crate) fn too_slow() -> Self {
        Self::new(504_000, "The call took too long.")
    }

    /// A method was called, and the device took it and did not answer.
    pub(crate) fn no_answer() -> Self {
        Self::new(504_101, "Timed out waiting for the response from device.")
    }

    /// The name of the code: the header `iothub-errorcode`.
    pub fn code_name(&self) -> &'static str {
        match self.code {
            400_001 => "InvalidProtocolVersion",
            400_004 => "ArgumentInvalid",
            401_002 => "IotHubUnauthorizedAccess",
            403_004 => "DeviceMaximumQueueDepthExceeded",
            404_001 => "DeviceNotFound",
            404_010 => "ModuleNotFound",
            404_103 => "DeviceNotOnline",
            409_001 => "DeviceAlreadyExists",
            409_301 => "ModuleAlreadyExistsOnDevice",
            412_001 => "PreconditionFailed",
            413_001 => "MessageTooLarge",
            413_003 => "TooManyModulesOnDevice",
            429_001 => "ThrottlingException",
            503_001 => "ServiceUnavailable",
            504_101 => "GatewayTimeout",
            _ => "InvalidErrorCode",
        }
    }
}

/// The bridge has been stopped; nobody answers any more.
impl From<Stopped> for HubError {
    fn from(_: Stopped) -> Self {
        Self::new(503_001, "The service is shutting down.")
    }
}
