//! Varlink (varlink.org), as both interfaces of this program speak it: its frames, and the words of the interface by which
//! the agent asks the handlers' service for runs. Pure: bytes in, values out; no socket.
//!
//! The agent's own interface, for people and programs of this machine, is `local`'s.

pub mod handlers;
pub mod protocol;
