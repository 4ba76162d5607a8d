//! `twinagent-bridge serve`: the stand-in cloud until it is told to stop.
//!
//! Standard output has the one line that says where it can be reached; everything else goes to standard error.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use twinagent::bridge::{Bridge, Options};

use crate::command_line::Serve;
use crate::interrupt::Interrupt;

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
