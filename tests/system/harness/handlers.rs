//! Handlers of a machine: put there as an operator does it, by files and by the lines of the examples.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use super::machine::Machine;
use super::patience::eventually;

/// Where the package brings the examples.
const EXAMPLES: &str = "/usr/share/twinagent/examples";
/// Where programs are kept.
const PROGRAMS: &str = "/usr/local/lib/twinagent";

impl Machine {
    /// Adds a method that runs this script of a shell; `lines` are further ones for its manifest.
    #[track_caller]
    pub(crate) fn add_program(&self, method: &str, script: &str, lines: &str) {
        let program = format!("{PROGRAMS}/{method}");
        self.write(&program, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(self.path(&program), Permissions::from_mode(0o755)).expect("a file of ours");
        self.add_method(method, &format!("kind = \"program\"\nprogram = \"{program}\"\n{lines}"));
    }

    /// Adds a method that runs this script of a shell as a job of root's; `lines` are further ones for its manifest.
    #[track_caller]
    pub(crate) fn add_job(&self, method: &str, script: &str, lines: &str) {
        let name = method.to_lowercase();
        let program = format!("{PROGRAMS}/{method}");
        self.write(&program, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(self.path(&program), Permissions::from_mode(0o755)).expect("a file of ours");
        self.write(
            &format!("/etc/systemd/system/twinagent-job-{name}@.service"),
            &format!(
                "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={program}\n\
                 LoadCredential=payload:/run/twinagent-jobs/%N.json\n"
            ),
        );
        self.sh("systemctl daemon-reload");
        self.add_method(method, &format!("kind = \"unit\"\nunit = \"{name}\"\n{lines}"));
    }

    #[track_caller]
    fn add_method(&self, method: &str, lines: &str) {
        let lines =
            if lines.contains("time_limit") { lines.to_owned() } else { format!("{lines}time_limit = \"1m\"\n") };
        self.write(
            &format!("/etc/twinagent/handlers.d/{method}.toml"),
            &format!(
                "method = \"{method}\"\ndescription = \"Of a story\"\nclass = \"parallel\"\nparallel = 4\n{lines}"
            ),
        );
        self.wait_for_method(method);
    }

    /// Puts an example to use, by the lines that stand in the head of its manifest.
    #[track_caller]
    pub(crate) fn use_example(&self, name: &str, method: &str) {
        let folder = format!("{EXAMPLES}/{name}");
        let manifest = self.read(&format!("{folder}/{name}.toml"));
        let lines: Vec<&str> = manifest.lines().filter_map(|line| line.strip_prefix("#   ")).collect();
        assert!(lines.last().is_some_and(|line| line.ends_with(" /etc/twinagent/handlers.d/")), "{lines:?}");
        self.sh(&format!("cd {folder}\n{}", lines.join("\n")));
        self.wait_for_method(method);
    }

    /// The agent sees new manifests by itself.
    #[track_caller]
    fn wait_for_method(&self, method: &str) {
        eventually(format!("the device offers {method}"), || {
            let told = self.order(["twinagent", "methods"]).run().out;
            told.lines().any(|line| line.split(' ').next() == Some(method)).then_some(())
        });
    }

    /// The processes of the user that programs run as, one a line.
    pub(crate) fn processes_of_programs(&self) -> String {
        // A process may end while it is looked at.
        self.sh("find /proc -maxdepth 1 -user twinagent-handlers | while read -r process; do
                 if line=$(tr '\\0' ' ' <$process/cmdline); then echo \"$line\"; fi
             done 2>/dev/null")
    }
}
