//! Every decoder that reads bytes which somebody else may have written, as a function that takes any bytes, asserts what
//! must hold of them, and says what they were taken for.
//!
//! The targets of the fuzzer call these, and so does `tests/decoders` of the project, on a stable compiler: it judges the
//! seeds, and goes a little further on its own.

pub mod command;
pub mod config;
pub mod connection_string;
pub mod desired;
pub mod farewell;
pub mod iotcore;
pub mod iothub;
pub mod journal;
pub mod key;
pub mod last_good;
pub mod local;
pub mod manifest;
pub mod model;
pub mod mqtt;
pub mod note;
pub mod provisioning;
pub mod sas;
pub mod veto;

/// One decoder.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// Of the target, of its file, and of the folder of its seeds.
    pub name: &'static str,
    /// Panics if a promise is broken.
    pub read: fn(&[u8]) -> String,
    /// All that it can say. There is a seed for each.
    pub verdicts: &'static [&'static str],
}

pub const ALL: &[Decoder] = &[
    Decoder { name: "command", read: command::read, verdicts: command::VERDICTS },
    Decoder { name: "config", read: config::read, verdicts: config::VERDICTS },
    Decoder { name: "connection-string", read: connection_string::read, verdicts: connection_string::VERDICTS },
    Decoder { name: "desired", read: desired::read, verdicts: desired::VERDICTS },
    Decoder { name: "farewell", read: farewell::read, verdicts: farewell::VERDICTS },
    Decoder { name: "iotcore", read: iotcore::read, verdicts: iotcore::VERDICTS },
    Decoder { name: "iothub", read: iothub::read, verdicts: iothub::VERDICTS },
    Decoder { name: "journal", read: journal::read, verdicts: journal::VERDICTS },
    Decoder { name: "key", read: key::read, verdicts: key::VERDICTS },
    Decoder { name: "last-good", read: last_good::read, verdicts: last_good::VERDICTS },
    Decoder { name: "local", read: local::read, verdicts: local::VERDICTS },
    Decoder { name: "manifest", read: manifest::read, verdicts: manifest::VERDICTS },
    Decoder { name: "mqtt", read: mqtt::read, verdicts: mqtt::VERDICTS },
    Decoder { name: "note", read: note::read, verdicts: note::VERDICTS },
    Decoder { name: "provisioning", read: provisioning::read, verdicts: provisioning::VERDICTS },
    Decoder { name: "sas", read: sas::read, verdicts: sas::VERDICTS },
    Decoder { name: "veto", read: veto::read, verdicts: veto::VERDICTS },
];
