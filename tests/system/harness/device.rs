//! A machine whose agent is a device of its cloud.

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
        let mut machine = Machine::installed(suite);
        let cloud = Cloud::at(&machine);
        machine.write("/etc/twinagent/conf.d/40-story.toml", config);
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
