//! The handlers' service (`twinagent run-handlers`): starts the programs that manifests name, as a user of its own, and ends
//! them and all that they leave behind.
//!
//! It is reached by the agent alone, which says which manifest, with which payload. It reads the manifest by itself, so an
//! agent that was taken over can run what the administrator installed, and nothing else.
