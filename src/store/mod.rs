//! What outlives the process: the only writer under the state folder.
//!
//! * `dir`: the folder itself, and the lock that keeps a second daemon out.
//! * `journal`: the records of the model, in the order in which they happened.
//! * `lines`: how records are written and what may be believed of what is read. Pure.
//! * `last_good`: the configuration that last led to a session, as bytes.
//! * `farewell`: the mark of an orderly end.
//! * `assignment`: which hub this device was assigned to.
//! * `machine`: whose state this is, and the journal of another machine.
//! * `reset`: forgets all of it.
//! * `atomic`: a file appears whole or not at all. `small`: it is read whole or not at all.
//!
//! Plain blocking code: an SD card can stall for seconds, so the daemon calls it from a thread that may wait.

pub mod assignment;
mod atomic;
mod dir;
pub mod farewell;
mod journal;
pub mod last_good;
mod lines;
pub mod machine;
mod reset;
mod small;
#[cfg(test)]
mod tests;

pub use dir::{LockError, StateDir};
pub use journal::{Journal, OpenError, StoreError};
pub use lines::{Damage, Scan, scan};
pub use reset::{forget, forget_assignment};
