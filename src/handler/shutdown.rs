//! `shutdown`: switches the machine off, by logind, unless somebody holds that back.
//!
//! Only if `methods.enable` names it, and a rule for polkit gives the right. The run lasts until logind has taken it on:
//! were the outcome given before, commands could begin while the machine goes off, and an agent that restarts in between
//! would have answered for what never came. logind tells everybody of the shutdown before it answers us, so the goodbye
//! waits for the outcome: the machine may never be switched on again to tell it.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Context, Handler, Running};
use crate::config::veto::Vetoes;
use crate::config::{Folders, Mode};
use crate::host::logind::{Logind, Right};
use crate::host::{boot, clock};
use crate::model::command::{Class, Command, Method, MethodSpec, Outcome, Status};
use crate::model::payload::PayloadRules;
use crate::model::reboot::facts::{Facts, Inhibitor, Veto, Way};

/// After logind has answered: word of the shutdown comes to the agent by another connection, and from then on nothing begins.
/// Short, as the goodbye has three seconds for all that is to be sent.
const HEARD_WITHIN: Duration = Duration::from_millis(500);

/// logind's answer is waited for, though the run is told to stop: nothing takes the call back.
const GRACE: Duration = Duration::from_secs(30);

/// What lets the agent do it.
const RULE: &str = "sudo ln -s /usr/share/twinagent/polkit/55-twinagent-shutdown.rules /etc/polkit-1/rules.d/";

#[derive(Clone, Debug)]
pub struct Shutdown {
    bus: String,
    mode: Mode,
    vetoes: [PathBuf; 2],
}

impl Shutdown {
    /// `mode`: who reboots the machine. In a simulation it is not switched off either.
    pub fn new(folders: &Folders, mode: Mode) -> Self {
        Self { bus: folders.bus.clone(), mode, vetoes: [folders.vetoes.clone(), folders.kept_vetoes()] }
    }
}

impl Handler for Shutdown {
    fn spec(&self) -> MethodSpec {
        MethodSpec {
            class: Class::Exclusive,
            description: "Switches the machine off; somebody has to switch it on again".to_owned(),
            payload: Some(PayloadRules::default()),
            ..MethodSpec::new(Method::parse("shutdown").expect("`shutdown` is a method name"))
        }
    }

    fn run(&self, _: &Command, _: Context) -> Running {
        let this = self.clone();
        Box::pin(async move { this.begin().await.unwrap_or_else(|outcome| outcome) })
    }

    fn grace(&self) -> Duration {
        GRACE
    }
}

impl Shutdown {
    /// Both are outcomes; the error one that holds it back.
    async fn begin(self) -> Result<Outcome, Outcome> {
        let cannot = |why: String| Outcome::failed(Status::CANNOT_NOW, why);
        let vetoes = self.vetoes().await?;
        if self.mode == Mode::Simulate {
            held(Vec::new(), vetoes)?;
            return Ok(Outcome::new(Status::DONE, json!({ "simulated": true })));
        }
        if self.mode == Mode::Helper {
            let why = "the machine is switched off by logind alone, and `mode` under [reboot] is \"helper\"";
            return Err(cannot(why.to_owned()));
        }
        let unreachable = |error| cannot(format!("{error}; hint: without D-Bus and systemd-logind nobody can do this"));
        let logind = Logind::connect(&self.bus).await.map_err(unreachable)?;
        let inhibitors = logind.inhibitors().await.map_err(unreachable)?;
        held(inhibitors, vetoes)?;
        match logind.can_power_off().await.map_err(unreachable)? {
            Right::Yes => {}
            Right::Impossible => return Err(cannot("logind says that this machine cannot be switched off".to_owned())),
            Right::Challenge | Right::No => {
                let why = format!("logind does not let the agent switch the machine off; hint: `{RULE}`, with polkit");
                return Err(cannot(why));
            }
        }
        tracing::info!("logind is asked to switch the machine off");
        let failed = |error| Outcome::failed(Status::FAILED, format!("the machine is not switched off: {error}"));
        logind.power_off().await.map_err(failed)?;
        tokio::time::sleep(HEARD_WITHIN).await;
        Ok(Outcome::new(Status::DONE, json!({ "state": "poweringOff" })))
    }

    /// Those that are not over.
    async fn vetoes(&self) -> Result<Vec<Veto>, Outcome> {
        let folders = self.vetoes.clone();
        let read = tokio::task::spawn_blocking(move || {
            let now = clock::now(boot::id()?);
            let found = Vetoes::read(folders.iter().map(PathBuf::as_path)).vetoes;
            let standing = found.into_iter().filter(|veto| !veto.is_over(&now));
            anyhow::Ok(
                standing
                    .map(|veto| Veto { expires: veto.expires(&now), name: veto.name, reason: veto.reason })
                    .collect::<Vec<Veto>>(),
            )
        });
        let read = read.await.unwrap_or_else(|error| Err(error.into()));
        read.map_err(|error| Outcome::failed(Status::FAILED, format!("vetoes cannot be read: {error:#}")))
    }
}

/// Held back, by whom, as a reboot says it.
fn held(inhibitors: Vec<Inhibitor>, vetoes: Vec<Veto>) -> Result<(), Outcome> {
    let by = [("inhibitor", !inhibitors.is_empty()), ("veto", !vetoes.is_empty())];
    let by: Vec<&str> = by.into_iter().filter(|(_, holds)| *holds).map(|(by, _)| by).collect();
    if by.is_empty() {
        return Ok(());
    }
    let facts = Facts { inhibitors, vetoes, ..Facts::clear(Way::Logind) };
    let now = boot::id().map(clock::now);
    let mut payload = now.map_or_else(|_| json!({}), |now| facts.holders(&now));
    payload["heldBy"] = json!(by);
    payload["error"] = Value::from(format!("held back by {}", by.join(" and ")));
    Err(Outcome::new(Status::HELD_BACK, payload))
}

#[cfg(test)]
mod tests;
