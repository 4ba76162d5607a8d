//! What an attempt is, what it is given, and how one is made with a tool of the machine where safe Rust cannot.

use std::env::consts::ARCH;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, anyhow, bail};

/// One thing to try. `Ok`: it could be done, with what came of it; an error: it was refused.
pub(crate) struct Attempt {
    pub(crate) name: &'static str,
    pub(crate) make: fn(&Given) -> anyhow::Result<String>,
}

/// The attempt could not be made, so that nothing is known: in the chain of an error.
#[derive(Debug, thiserror::Error)]
#[error("not made: {0}")]
pub(crate) struct Unmade(pub(crate) String);

/// What the test that runs the probe knows and the probe cannot.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Given {
    /// Something that accepts connections
    #[arg(long)]
    connect: Option<SocketAddr>,
    /// A name that DNS knows
    #[arg(long)]
    resolve: Option<String>,
    /// A file in the machine's own /tmp, which the unit must not see
    #[arg(long)]
    marker: Option<PathBuf>,
    /// Wait for a caller of another user
    #[arg(long)]
    peer: bool,
}

impl Given {
    /// The same words again, for a process that makes one attempt.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let mut words = Vec::new();
        let mut add = |name: &str, value: OsString| words.extend([OsString::from(name), value]);
        if let Some(address) = self.connect {
            add("--connect", address.to_string().into());
        }
        if let Some(name) = &self.resolve {
            add("--resolve", name.into());
        }
        if let Some(path) = &self.marker {
            add("--marker", path.into());
        }
        if self.peer {
            words.push("--peer".into());
        }
        words
    }

    pub(crate) fn connect(&self) -> Result<SocketAddr, Unmade> {
        self.connect.ok_or_else(|| missing("--connect"))
    }

    pub(crate) fn resolve(&self) -> Result<&str, Unmade> {
        self.resolve.as_deref().ok_or_else(|| missing("--resolve"))
    }

    pub(crate) fn marker(&self) -> Result<&Path, Unmade> {
        self.marker.as_deref().ok_or_else(|| missing("--marker"))
    }

    pub(crate) fn peer(&self) -> Result<(), Unmade> {
        if self.peer { Ok(()) } else { Err(missing("--peer")) }
    }
}

fn missing(option: &str) -> Unmade {
    Unmade(format!("{option} is not given"))
}

/// A folder that systemd made for the unit.
#[expect(clippy::disallowed_methods, reason = "systemd tells its units' folders by the environment")]
pub(crate) fn folder(variable: &str) -> Result<PathBuf, Unmade> {
    std::env::var_os(variable).map(PathBuf::from).ok_or_else(|| Unmade(format!("${variable} is not set")))
}

/// Runs a tool to its end: a refusal is its exit code, with what it said.
pub(crate) fn tool(name: &str, words: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(name)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Unmade(format!("{name} cannot be run: {error}")))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(format!("{name} did it")) } else { bail!("{name}, {}: {said}", output.status) }
}

/// A system call by its number, which Debian's essential perl can make and safe Rust cannot.
pub(crate) fn system_call(x86_64: u32, aarch64: u32, arguments: &str) -> anyhow::Result<String> {
    let number = match ARCH {
        "x86_64" => x86_64,
        "aarch64" => aarch64,
        other => return Err(Unmade(format!("its number on {other} is not known")).into()),
    };
    let script = format!("$r = syscall({number}, {arguments}); if ($r == -1) {{ print STDERR $!; exit 9 }}");
    tool("perl", &["-e", &script])
}

/// Makes a file where nobody has one, and removes it again.
pub(crate) fn write_in(folder: &Path) -> anyhow::Result<String> {
    let file = folder.join(format!(".twinagent-probe.{}", std::process::id()));
    let made = std::fs::File::options().write(true).create_new(true).open(&file);
    match made {
        Ok(made) => {
            let synced = made.sync_all();
            std::fs::remove_file(&file)?;
            synced?;
            Ok(format!("{} was written", file.display()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.exists() => {
            // To those who may not see it, it is as good as away; a machine without it proves nothing, but harms nobody.
            Err(anyhow!("{} is not there", folder.display()))
        }
        Err(error) => Err(error).with_context(|| file.display().to_string()),
    }
}
