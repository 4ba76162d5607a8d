//! The stand-in cloud as a program: reads the command line, serves until it is told to stop.
//!
//! Standard output has the one line that says where it can be reached; everything else goes to standard error.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use twinagent::bridge::{Bridge, Options};

/// A stand-in for the cloud: Cloud IoT Core's MQTT bridge and REST API on this machine, for trying out and for tests.
#[derive(Debug, Parser)]
#[command(name = "twinagent-bridge", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until stopped. When all listeners are bound it prints one JSON line with their addresses.
    Serve(Serve),
}

#[derive(Debug, Args)]
struct Serve {
    /// The folder for certificates, registries, devices and events.jsonl; made if it is not there
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Serve MQTT without TLS here; port 0 takes any free port
    #[arg(long, value_name = "ADDR")]
    mqtt: Option<String>,
    /// Serve MQTT over TLS here
    #[arg(long, value_name = "ADDR")]
    mqtts: Option<String>,
    /// Serve REST without TLS here
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Serve REST over TLS here
    #[arg(long, value_name = "ADDR")]
    https: Option<String>,
    /// A further name or address in the certificate; may be given several times
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// A file with the bearer token for REST; needed to serve REST beyond loopback
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Keep sessions and forgive, as brokers do that came after the closed service
    #[arg(long)]
    sessions: bool,
    /// Seconds that a device's clock may be off
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    skew: u64,
}

fn main() -> ExitCode {
    let Command::Serve(serve) = Cli::parse().command;
    tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(tracing::Level::INFO).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = runtime.context("cannot start").and_then(|runtime| runtime.block_on(run(serve)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is gone there is nobody to tell.
            let _ = writeln!(io::stderr(), "twinagent-bridge: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(serve: Serve) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let bridge = Bridge::start(Options {
        mqtt: serve.mqtt,
        mqtts: serve.mqtts,
        http: serve.http,
        https: serve.https,
        names: serve.names,
        token_file: serve.token_file,
        sessions: serve.sessions,
        skew: Duration::from_secs(serve.skew),
        event_log: true,
        ..Options::new(serve.data)
    })
    .await?;
    let mut out = io::stdout();
    writeln!(out, "{}", bridge.announcement()).and_then(|()| out.flush()).context("cannot write to standard output")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    bridge.stop().await;
    Ok(())
}
