//! The pure part: every decision this program makes, without a clock, a file, a socket or a task.
//!
//! Time, randomness and the outcome of every effect come in as values; what is to be done goes out as values. That is
//! what makes a crash between any two effects something a unit test can try.
//!
//! `agent` takes the inputs and keeps the parts in step; `turn` holds the words of a turn.
//!
//! * A command: `intake` hears it, `admission` says whether it is taken on, `advance` when it may start; `running` and
//!   `runs` follow its run, `serving` where a local program performs it, `cancel` takes it back. `own` has the model's own
//!   methods, `payload` the rules for what a method is sent. What is harmless waits in `queue`.
//! * What lasts: `record` is the format on disk, `durable` what its replay gives, `ledger` the commands in it. `outage`:
//!   while the journal cannot be written. `places` keeps answers that are never recorded.
//! * To the cloud: `outbox` is all that is sent. `twin` makes the reported document, with `answers`, `status` and
//!   `problems` in it and within the rules of `fit`; `telemetry` waits behind it.
//! * From the cloud: `desired` follows the wanted document, `applying` runs handlers for its members, and `application` is
//!   what is remembered of that; `patch` merges.
//! * The connection: `connection` says when there is one, `standing` what its begin and end mean for all else, `clock` what
//!   the wall clock does, `goodbye` how a shutdown is told.
//! * The machine: `reboot` and, beside commands, `upkeep`; `fingerprint` tells it from others, `device_key` with what it
//!   proves itself.
//! * Callers on this machine: `ask` has their words, `asked` answers them.
//! * Words and values: `cloud`, `wire`, `command`, `now`, `duration`, `digest`, `json`, `unit_name`, `nearest`.

pub mod admission;
pub mod advance;
pub mod agent;
pub mod answers;
pub mod application;
pub mod applying;
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
pub mod queue;
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
