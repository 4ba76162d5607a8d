//! Stories of handlers that are no part of the program: manifests, programs, units, programs of this machine that serve.

mod answers;
mod bounds;
mod desired;
mod interrupted;
mod manifests;
mod methods;
mod reboots;
mod served;
mod service;
mod zoo;

/// Commands end soon after they were told to, however they are made; and yet they have done something before that, on a
/// machine that stands still for seconds, too.
const IMPATIENT: &str = "time_limit = \"6s\"\ngrace = \"0s\"\n";
