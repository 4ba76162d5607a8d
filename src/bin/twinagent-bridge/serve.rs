//! `twinagent-bridge serve`: the stand-in cloud until it is told to stop.
//!
//! Standard output has the one line that says where it can be reached; everything else goes to standard error.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use twinagent::bridge::{Bridge, Options};

use crate::interrupt::Interrupt;

#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
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

impl Serve {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(tracing::Level::INFO).init();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
        runtime.block_on(self.serve())
    }

    async fn serve(self) -> anyhow::Result<()> {
        let mut interrupt = Interrupt::listen()?;
        let bridge = Bridge::start(Options {
            mqtt: self.mqtt,
            mqtts: self.mqtts,
            http: self.http,
            https: self.https,
            names: self.names,
            token_file: self.token_file,
            sessions: self.sessions,
            skew: Duration::from_secs(self.skew),
            event_log: true,
            ..Options::new(self.data)
        })
        .await?;
        let mut out = io::stdout();
        writeln!(out, "{}", bridge.announcement())
            .and_then(|()| out.flush())
            .context("cannot write to standard output")?;
        interrupt.wait().await;
        tracing::info!("stopping");
        bridge.stop().await;
        Ok(())
    }
}
