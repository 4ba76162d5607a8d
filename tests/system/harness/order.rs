//! A command that is run in a machine.

use std::process::Command;
use std::time::Duration;

use super::command::{Told, run};
use super::machine::{Machine, NAMESPACES};

/// After this time it is ended, and its code is 124.
const LIMIT: Duration = Duration::from_secs(90);

#[derive(Debug)]
pub(crate) struct Order<'m> {
    machine: &'m Machine,
    words: Vec<String>,
    user: Option<&'m str>,
    is_unit: bool,
    limit: Duration,
}

impl<'m> Order<'m> {
    pub(super) fn new(machine: &'m Machine, words: impl IntoIterator<Item = &'m str>) -> Self {
        let words = words.into_iter().map(str::to_owned).collect();
        Self { machine, words, user: None, is_unit: false, limit: LIMIT }
    }

    /// As this user, with its groups.
    pub(crate) fn by(mut self, user: &'m str) -> Self {
        self.user = Some(user);
        self
    }

    /// In a unit of its own, in the machine's cgroups. It must not end the system: its end is waited for.
    pub(crate) fn in_a_unit(mut self) -> Self {
        self.is_unit = true;
        self
    }

    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end, whatever that is. In a machine that is down the code is -1.
    pub(crate) fn run(self) -> Told {
        let Some(leader) = self.machine.leader() else {
            return Told { code: -1, out: String::new(), err: "the machine is down".to_owned() };
        };
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(leader.to_string()).args(NAMESPACES).arg("--wdns=/root");
        command.args(["env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
        command.args(["HOME=/root", "LC_ALL=C.UTF-8", "TERM=dumb"]);
        command.args(["timeout", "--kill-after=5", &self.limit.as_secs().to_string()]);
        if self.is_unit {
            command.args(["systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--service-type=exec"]);
            command.args(self.user.map(|user| format!("--uid={user}")));
            // systemd-run would put variables in.
            command.arg("--").args(self.words.iter().map(|word| word.replace('$', "$$")));
        } else {
            command.args(self.user.into_iter().flat_map(|user| ["runuser", "-u", user, "--"]));
            command.args(&self.words);
        }
        run(&mut command)
    }

    /// What it prints, without the last line's end. It must succeed.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        let what = self.words.join(" ");
        self.run().good(&what)
    }
}
