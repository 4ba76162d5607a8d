//! What can be asked of the stand-in cloud's program, and nothing of what it then does.
//!
//! The manual page and the completions are made from these definitions (`packaging/pages`), so their comments are words
//! for users.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// A stand-in for the cloud: Cloud IoT Core and Azure IoT Hub on this machine, MQTT and REST, for trying out and for tests.
#[derive(Debug, Parser)]
#[command(name = "twinagent-bridge", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serves until stopped. When all listeners are bound it prints one JSON line with their addresses; with --https also the
    /// connection string for clients of IoT Hub's service API (`iothub`).
    Serve(Serve),
    /// Plays the whole job on this machine: cloud, device, agent, a simulated reboot, the state it leads to.
    Demo(Demo),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// The folder for certificates, registries, devices, twins and events.jsonl; made if it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Serve MQTT without TLS here; port 0 takes any free port
    #[arg(long, value_name = "ADDR")]
    pub(crate) mqtt: Option<String>,
    /// Serve MQTT over TLS here
    #[arg(long, value_name = "ADDR")]
    pub(crate) mqtts: Option<String>,
    /// Serve REST without TLS here
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<String>,
    /// Serve REST over TLS here, and MQTT within a WebSocket
    #[arg(long, value_name = "ADDR")]
    pub(crate) https: Option<String>,
    /// A further name or address in the certificate, and of the hub of IoT Hub; may be given several times
    #[arg(long = "name", value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// A file with the bearer token for Cloud IoT Core's REST; needed to serve REST beyond loopback
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Keep sessions and forgive, as brokers do that came after Cloud IoT Core; IoT Hub stays as it is
    #[arg(long)]
    pub(crate) sessions: bool,
    /// Seconds that a device's clock may be off; IoT Hub takes no token that has ended
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(crate) skew: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// Stay up afterwards, and say what to try
    #[arg(long)]
    pub(crate) keep: bool,
    /// Which cloud
    #[arg(long, value_enum, value_name = "KIND", default_value = "iotcore")]
    pub(crate) cloud: CloudKind,
}

/// As `cloud.kind` of the agent's configuration has them.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum CloudKind {
    /// Cloud IoT Core: commands and states
    Iotcore,
    /// Azure IoT Hub: direct methods and the device's twin
    Iothub,
}
