//! Varlink (varlink.org), as both interfaces of this program speak it: its frames, and the words of the interface by which
//! the agent asks the handlers' service for runs. Pure: bytes in, values out; no socket.
//!
//! The agent's own interface, for people and programs of this machine, is `local`'s.
//!
//! The first news of a run is `begun`, sent right before the program starts. A connection that ends without it means 503,
//! nothing has happened; one that ends after it means 500, it may have taken effect. Both sides keep the time limit: the
//! service first, and a moment behind it the agent, should the service hang.

pub mod handlers;
pub mod protocol;
