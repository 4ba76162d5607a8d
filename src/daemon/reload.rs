//! What happens when files have changed: configuration and manifests are read again, and the parts and the model get what is
//! new. Nothing that is under way is stopped by it.

use super::settings::{rights, settings};
use super::{Daemon, systemd};
use crate::host::clock as clocks;
use crate::model::agent::Input;
use crate::model::now::BootInstant;
use crate::model::problems::Code;

impl Daemon {
    /// Reads configuration and manifests again and tells the model what is new.
    pub(super) async fn reload(&mut self, inputs: &mut Vec<Input>) -> anyhow::Result<()> {
        let before = self.watchdog.pet_while(self.configuration.reload()).await?;
        let has_other_methods = self.watchdog.pet_while(self.methods.reload()).await?;
        let config = self.configuration.current();
        let mut anew = false;
        if let Some(before) = &before {
            anew = !config.connects_as(before);
            self.clock.set_wait(config.session.clock_wait);
            self.session.reconfigure(config, anew);
            self.callers.set_rights(rights(config));
            self.power.set_mode(config.reboot.mode);
        }
        if before.is_some() || has_other_methods {
            self.workers.replace(&self.methods.handlers(config));
            inputs.push(self.reloaded(anew));
        }
        inputs.extend(self.problems());
        if self.callers.open(clocks::boot()) {
            self.tell_status();
        }
        Ok(())
    }

    /// What the model has to go by now.
    pub(super) fn reloaded(&self, anew: bool) -> Input {
        let config = self.configuration.current();
        let settings = settings(config, &self.session, &self.workers, self.volatile.as_deref(), &self.started);
        Input::Reloaded { settings: Box::new(settings), anew }
    }

    /// What is wrong with the files, or that nothing is.
    pub(super) fn problems(&self) -> [Input; 2] {
        let problem = |code, text: Option<&str>| Input::Problem { code, text: text.map(str::to_owned) };
        [problem(Code::Config, self.configuration.problem()), problem(Code::Handler, self.methods.problem())]
    }

    /// When the configuration is due to be kept for bad times, if a session shows that it is good.
    pub(super) fn is_to_be_kept(&self) -> Option<BootInstant> {
        self.configuration.keep_due().filter(|_| self.session.proves(self.configuration.current()))
    }

    /// One line for `systemctl status`: what the model says, and what only this loop knows.
    pub(super) fn tell_status(&self) {
        match self.callers.trouble() {
            None => systemd::status(&self.sentence),
            Some(why) => systemd::status(&format!("no local interface: {why}; {}", self.sentence)),
        }
    }
}
