//! The pure part: every decision this program makes, without a clock, a file, a socket or a task.
//!
//! Time, randomness and the outcome of every effect come in as values; what is to be done goes out as values. That is
//! what makes a crash between any two effects something a unit test can try.

pub mod admission;
pub mod advance;
pub mod agent;
pub mod answers;
pub mod ask;
pub mod asked;
pub mod cancel;
pub mod clock;
pub mod cloud;
pub mod command;
pub mod connection;
pub mod desired;
pub mod device_key;
pub mod digest;
pub mod durable;
pub mod duration;
pub mod fingerprint;
pub mod fit;
pub mod goodbye;
pub mod intake;
pub mod json;
pub mod ledger;
pub mod nearest;
pub mod now;
pub mod outage;
pub mod outbox;
pub mod own;
pub mod patch;
pub mod payload;
pub mod places;
pub mod problems;
pub mod reboot;
pub mod record;
pub mod running;
pub mod runs;
pub mod serving;
pub mod standing;
pub mod status;
pub mod telemetry;
pub mod turn;
pub mod twin;
pub mod unit_name;
pub mod upkeep;
pub mod wire;
