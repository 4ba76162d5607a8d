//! A machine whose agent is a device of its cloud.

use twinagent::bridge::Options;

use super::base::Suite;
use super::cloud::{Cloud, DEVICE};
use super::machine::Machine;

pub(crate) struct Device {
    // Its files are in the machine's folder, so it goes first.
    pub(crate) cloud: Cloud,
    pub(crate) machine: Machine,
}

impl Device {
    /// An installed machine that was set up and registered, and is connected. `config`: lines for twinagent.toml.
    pub(crate) fn online(suite: Suite, config: &str) -> Self {
        Self::prepared(suite, config, |_| {}, |_| {})
    }

    /// The same, with a cloud that is not the usual one, on a machine that is changed before it boots.
    pub(crate) fn prepared(
        suite: Suite,
        config: &str,
        cloud: impl FnOnce(&mut Options),
        prepare: impl FnOnce(&Machine),
    ) -> Self {
        let mut machine = Machine::installed(suite);
        let cloud = Cloud::with(&machine, cloud);
        machine.write("/etc/twinagent/conf.d/40-story.toml", config);
        prepare(&machine);
        machine.boot();
        let device = Self { cloud, machine };
        device.set_up();
        device
    }

    /// Gives the agent its key and its cloud, by its own commands.
    fn set_up(&self) {
        let Self { cloud, machine } = self;
        let host = machine.host_address();
        machine.sh("twinagent keygen");
        cloud.register(&machine.sh("twinagent pubkey"));
        machine.sh(&format!(
            "twinagent setup --kind iotcore --device {DEVICE} --host {host} --port {} --project my-project \
             --region us-central1 --registry my-registry",
            cloud.port()
        ));
        // The agent sees that the file was written.
        cloud.wait_for_login(0);
    }

    /// What `twinagent status --json` says.
    #[track_caller]
    pub(crate) fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.machine.sh("twinagent status --json")).expect("JSON")
    }
}
