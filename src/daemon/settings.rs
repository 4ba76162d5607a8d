//! What the configuration means to the parts: plain values in, plain values out.

use std::path::Path;

use crate::config::{Cloud, Config, HubProof, Mode as RebootMode};
use crate::host::{system, volatile};
use crate::local::{Rights, group_id};
use crate::model::agent::Settings;
use crate::model::connection::Terms;
use crate::model::digest::Digest;
use crate::model::now::Now;
use crate::model::reboot::window::Windows;
use crate::model::reboot::{Mode, Policy};
use crate::model::twin::About;

use super::home;
use super::session::Session;
use super::workers::Workers;

/// Who may use the local interface, as far as this machine has these groups.
pub(super) fn rights(config: &Config) -> Rights {
    let group = |key: &str, name: &Option<String>| {
        let name = name.as_deref()?;
        let id = group_id(name);
        if id.is_none() {
            tracing::warn!("`local.{key}`: this machine has no group `{name}`, so nobody is let in by it");
        }
        id
    };
    Rights {
        read_group: group("read_group", &config.local.read_group),
        act_group: group("act_group", &config.local.act_group),
    }
}

/// What the model has to go by.
pub(super) fn settings(
    config: &Config,
    session: &Session,
    workers: &Workers,
    volatile: Option<&str>,
    started: &Now,
) -> Settings {
    let Config { auth, session: timing, methods, commands, report, .. } = config;
    let (cloud, device) = session.names();
    Settings {
        cloud: session.limits(),
        terms: Terms {
            lease: (!is_certified(config)).then_some(auth.lifetime),
            backoff_max: timing.backoff_max,
            backoff_max_refused: timing.backoff_max_refused,
            provisioned: home::service(config).is_some(),
        },
        clock_wait: timing.clock_wait,
        reboot: reboot_policy(config),
        volatile: volatile.map(str::to_owned),
        methods: workers.methods(),
        disabled: methods.disable.iter().cloned().collect(),
        enabled: methods.enable.iter().cloned().collect(),
        aliases: commands.alias.clone(),
        heartbeat: report.heartbeat,
        about: About {
            version: env!("CARGO_PKG_VERSION"),
            started: started.wall,
            device,
            cloud,
            config_hash: Some(config.hash().to_string()),
            os: system::describe(),
        },
    }
}

/// A login without a token holds as long as the connection does.
fn is_certified(config: &Config) -> bool {
    matches!(&config.cloud, Some(Cloud::IotHub(hub)) if matches!(hub.proof, HubProof::Certificate { .. }))
}

/// What is to be said of a state folder that forgets at a reboot.
pub(super) fn volatile_state(folder: &Path) -> Option<String> {
    let kind = volatile::kind(folder)
        .inspect_err(|error| tracing::debug!("{}: its file system is not known: {error}", folder.display()))
        .ok()??;
    Some(format!(
        "{} is on a file system ({kind}) that forgets at a reboot: no command is recognised afterwards, so no reboot is put \
         off; hint: mount one there that stays",
        folder.display()
    ))
}

fn reboot_policy(config: &Config) -> Policy {
    let reboot = &config.reboot;
    Policy {
        mode: match reboot.mode {
            RebootMode::Simulate => Mode::Simulated(reboot.simulate_for),
            RebootMode::Auto | RebootMode::Logind | RebootMode::Helper => Mode::Machine,
        },
        min_interval: reboot.min_interval,
        min_uptime: reboot.min_uptime,
        max_reboots: reboot.max_reboots,
        per: reboot.per,
        healthy: reboot.healthy,
        too_soon: reboot.too_soon,
        grace: reboot.grace,
        drain: reboot.drain,
        inhibitor_wait: reboot.inhibitor_wait,
        windows: Windows {
            list: reboot.windows.clone(),
            spread: reboot.spread,
            seed: config.device.as_ref().map_or(0, |id| Digest::of(id.as_str().as_bytes()).number()),
        },
        allow_force: reboot.allow_force,
    }
}
