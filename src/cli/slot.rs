//! Which of the device's keys is meant, as people say it.

use crate::model::device_key::KeySlot;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Slot {
    /// device.key, with which the device logs in
    Current,
    /// next.key, which is tried when the current one is refused
    Next,
    /// previous.key, likewise
    Previous,
}

impl From<Slot> for KeySlot {
    fn from(slot: Slot) -> Self {
        match slot {
            Slot::Current => Self::Current,
            Slot::Next => Self::Next,
            Slot::Previous => Self::Previous,
        }
    }
}
