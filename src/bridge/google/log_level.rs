//! How much is logged of what a device does: a setting of the device, or else of its registry.
//!
//! Levels: cloud.google.com/iot/docs/how-tos/device-logs. Refused logins are logged whatever is set here, because nobody
//! knows yet that it is the device.

use serde::{Deserialize, Serialize};

/// From nothing to everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum LogLevel {
    #[default]
    #[serde(rename = "LOG_LEVEL_UNSPECIFIED")]
    Unspecified,
    None,
    /// What was refused, and connections that broke.
    Error,
    /// Also the beginning and the end of connections.
    Info,
    /// Also each message, subscription and ping.
    Debug,
}

impl LogLevel {
    /// Whether an event of this level is logged. Where nothing is set it is as with `INFO`: the cloud would then log
    /// nothing, but its logs cost money.
    pub(crate) fn logs(self, registry: Self, event: Self) -> bool {
        let set = [self, registry].into_iter().find(|level| *level != Self::Unspecified);
        event <= set.unwrap_or(Self::Info)
    }
}

#[cfg(test)]
mod tests {
    use super::LogLevel::{self, Debug, Error, Info, None, Unspecified};

    #[test]
    fn the_device_decides_then_the_registry() {
        for (device, registry, logged) in [
            (Unspecified, Unspecified, &[Error, Info][..]),
            (Unspecified, None, &[]),
            (Unspecified, Debug, &[Error, Info, Debug]),
            (None, Debug, &[]),
            (Error, Debug, &[Error]),
            (Info, None, &[Error, Info]),
            (Debug, Error, &[Error, Info, Debug]),
        ] {
            let seen: Vec<LogLevel> =
                [Error, Info, Debug].into_iter().filter(|event| device.logs(registry, *event)).collect();
            assert_eq!(seen, logged, "{device:?} in {registry:?}");
        }
    }
}
