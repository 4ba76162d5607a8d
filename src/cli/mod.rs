//! The command line: what can be asked, and which file answers it.
//!
//! Each sub-command is a file with one function that is given its arguments. Man pages and completions come from the
//! definitions here, so their comments are words for users.

mod adopt;
mod allow_units;
mod ask;
mod check;
pub mod completions;
mod config;
mod daemon_key;
mod document;
mod exit;
mod history;
mod hub_token;
mod invoke;
mod keygen;
mod methods;
mod output;
mod pubkey;
mod reboot_guard;
mod reset;
pub mod run;
mod run_handlers;
mod run_logs;
mod run_reboot;
mod service_reader;
mod setup;
mod slot;
mod status;
mod telemetry;
mod token;
mod twin;
mod veto;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

pub use exit::{Exit, Failure};

use crate::config::key_file::{self, KeyFileError};
use crate::config::{Config, DropIn, Faults, Folders, Loaded, Sources};
use crate::dialect::token::Key;
use crate::handler;
use crate::host::names;
use crate::model::device_key::KeySlot;
use crate::model::fingerprint::Fingerprint;

/// Device agent: commands and twin state over one MQTT session that is kept for years
#[derive(Debug, Parser)]
#[command(name = "twinagent", version, disable_help_subcommand = true)]
pub struct Cli {
    /// Read FILE in place of /etc/twinagent/twinagent.toml; drop-ins and keys stay where they are
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground, until SIGTERM; what the unit starts
    Run,
    /// Say which device this is and which cloud it has, and make its key
    Setup(Box<setup::Arguments>),
    /// Read the configuration and tell everything that is wrong with it, with file and line
    Check(check::Arguments),
    /// Print the configuration that holds, merged from all its places
    Config(config::Arguments),
    /// Make a private key (ES256) and print its public key
    Keygen(keygen::Arguments),
    /// Print the public key of this device, to be registered with the cloud
    Pubkey(pubkey::Arguments),
    /// Forget all commands and reboots of this device; not while a daemon runs
    Reset(reset::Arguments),
    /// Show the claims of a fresh login token
    Token(token::Arguments),
    /// Show what the daemon is doing, and what troubles it
    Status(status::Arguments),
    /// List the methods that this device answers
    Methods(methods::Arguments),
    /// Run a command as the cloud would, and print its outcome; exit 0 if its status is below 400, 1 if not, and 69 if the
    /// daemon ended before it was known, as it does when the machine reboots
    Invoke(invoke::Arguments),
    /// Show what is known of past commands and reboots
    History(history::Arguments),
    /// Show the desired and the reported document
    Twin(twin::Arguments),
    /// Send telemetry from stdin, at most 256 KiB
    Telemetry(telemetry::Arguments),
    /// Hold reboots back from this machine
    Veto(veto::Arguments),
    /// Show what stops reboots that come too often, or let them go on
    RebootGuard(reboot_guard::Arguments),
    /// Let the agent start, stop and restart units that are none of its jobs, for the method restartService
    AllowUnits(allow_units::Arguments),
    /// Print a shell's completions
    Completions(completions::Arguments),
    /// Run the programs that manifests name; what twinagent-handlers.service starts
    #[command(hide = true)]
    RunHandlers,
    /// Do the reboot that the daemon has asked for; what twinagent-reboot.service starts
    #[command(hide = true)]
    RunReboot,
    /// Read the journal of the system for the daemon; what twinagent-logs@.service starts
    #[command(hide = true)]
    RunLogs(run_logs::Arguments),
}

impl Cli {
    /// Does what was asked.
    pub fn run(self) -> Result<(), Failure> {
        let folders = Folders::from_env();
        let file = self.config.as_deref();
        match self.command {
            Command::Run => run::run(&folders, file, handler::built_in()),
            Command::Setup(arguments) => setup::run(&folders, file, *arguments),
            Command::Check(arguments) => check::run(&folders, file, &arguments),
            Command::Config(arguments) => config::run(&folders, file, arguments),
            Command::Keygen(arguments) => keygen::run(&folders, file, &arguments),
            Command::Pubkey(arguments) => pubkey::run(&folders, file, arguments),
            Command::Reset(arguments) => reset::run(&folders, file, arguments),
            Command::Token(arguments) => token::run(&folders, file, arguments),
            Command::Status(arguments) => status::run(&folders, arguments),
            Command::Methods(arguments) => methods::run(&folders, arguments),
            Command::Invoke(arguments) => invoke::run(&folders, &arguments),
            Command::History(arguments) => history::run(&folders, &arguments),
            Command::Twin(arguments) => twin::run(&folders, arguments),
            Command::Telemetry(arguments) => telemetry::run(&folders, &arguments),
            Command::Veto(arguments) => veto::run(&folders, arguments),
            Command::RebootGuard(arguments) => reboot_guard::run(&folders, arguments),
            Command::AllowUnits(arguments) => allow_units::run(&arguments),
            Command::Completions(arguments) => completions::run(arguments),
            Command::RunHandlers => run_handlers::run(&folders),
            Command::RunReboot => run_reboot::run(),
            Command::RunLogs(arguments) => run_logs::run(&folders, file, arguments),
        }
    }
}

/// The configuration, for a command that cannot do without a right one. Unknown keys are `check`'s business.
fn configuration(folders: &Folders, file: Option<&Path>) -> Result<Config, Failure> {
    Ok(loaded(folders, file)?.config)
}

/// The same, with where each value stands.
fn loaded(folders: &Folders, file: Option<&Path>) -> Result<Loaded, Failure> {
    match read_configuration(folders, file, None) {
        Ok(loaded) => Ok(loaded),
        Err(faults) => Err(Failure::new(Exit::Failed, faults).hint("`twinagent check` tells all that is wrong")),
    }
}

/// Reads the configuration with what this machine tells of itself.
fn read_configuration(folders: &Folders, file: Option<&Path>, drop_in: Option<DropIn<'_>>) -> Result<Loaded, Faults> {
    Sources { folders, file, drop_in, specifiers: &names::specifiers() }.load()
}

/// The device's key and the file it is in.
fn device_key(folders: &Folders) -> Result<(PathBuf, Key), Failure> {
    key_in(folders, KeySlot::Current)
}

/// The key in this slot and the file it is in.
fn key_in(folders: &Folders, slot: KeySlot) -> Result<(PathBuf, Key), Failure> {
    let file = key_file::read(folders, slot, &machine()).map_err(|error| match error {
        // A device is in order without one, so nobody is told to make it.
        KeyFileError::Absent(_) if slot != KeySlot::Current => anyhow::Error::new(error).into(),
        error => key_file_failure(error),
    });
    parse(file?)
}

/// What tells this machine from others.
fn machine() -> Fingerprint {
    names::fingerprint(Path::new("/"))
}

fn parse(file: key_file::KeyFile) -> Result<(PathBuf, Key), Failure> {
    match Key::parse(&file.text) {
        Ok(key) => Ok((file.path, key)),
        Err(error) => {
            let hint = error.hint();
            let error = anyhow::Error::new(error).context(format!("{} cannot be used", file.path.display()));
            Err(Failure::from(error).hint(hint))
        }
    }
}

fn key_file_failure(error: KeyFileError) -> Failure {
    let hint = match &error {
        KeyFileError::Absent(_) => Some("`twinagent keygen` makes one".to_owned()),
        error => error.remedy(),
    };
    let failure = Failure::from(anyhow::Error::new(error));
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
