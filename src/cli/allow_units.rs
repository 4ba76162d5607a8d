//! `twinagent allow-units`: which units of the machine the agent may start, stop and restart.
//!
//! Works on a rule for polkit and on nothing else, so what it shows is what holds. polkit sees a change at once.

mod installed;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};

use super::output::{note, print};
use super::{Exit, Failure};
use crate::config::polkit;
use crate::model::unit_name::{NotAUnitName, UnitName};

/// Where polkit reads rules of the administrator (polkit(8)).
const FOLDER: &str = "/etc/polkit-1/rules.d";

const FILE: &str = "60-twinagent-units.rules";

/// The largest file that is read, in bytes.
const LARGEST: u64 = 128 * 1_024;

const NO_RULES: &str = "rules are read by polkit 0.106 or newer (Debian 12, Ubuntu 24.04): `apt install polkitd`; an older one \
                        lets the agent restart no foreign unit";

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Units that the agent may start, stop and restart from now on, such as nginx.service
    #[arg(value_name = "UNIT", value_parser = unit, required_unless_present = "list")]
    units: Vec<UnitName>,
    /// Take the right to these units back
    #[arg(long, conflicts_with = "list")]
    remove: bool,
    /// Show the units that are allowed
    #[arg(long, conflicts_with = "units")]
    list: bool,
    /// The folder of polkit's rules, for tests
    #[arg(long, hide = true, default_value = FOLDER)]
    rules: PathBuf,
    /// The folders of systemd's units, for tests
    #[arg(long, hide = true, default_values = polkit::FOLDERS)]
    units_in: Vec<PathBuf>,
}

/// A unit as `systemctl` takes it: a name without its kind is that of a service.
fn unit(text: &str) -> Result<UnitName, NotAUnitName> {
    if text.contains('.') { UnitName::parse(text) } else { UnitName::parse(&format!("{text}.service")) }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let path = arguments.rules.join(FILE);
    let allowed = read(&path)?;
    if arguments.list {
        return Ok(allowed.iter().try_for_each(|unit| print(&format!("{unit}\n")))?);
    }
    let find = |unit: &UnitName| installed::first_name(&arguments.units_in, unit);
    let wanted: BTreeSet<UnitName> = if arguments.remove {
        // Also one that was installed before.
        let asked = arguments.units.iter().flat_map(|unit| [Some(unit.clone()), find(unit).ok()]).flatten().collect();
        allowed.difference(&asked).cloned().collect()
    } else {
        let asked: BTreeSet<UnitName> = arguments.units.iter().map(find).collect::<Result<_, _>>()?;
        refuse_own(&asked)?;
        allowed.union(&asked).cloned().collect()
    };
    if wanted.len() > polkit::MOST {
        let why = anyhow!("{} units; at most {} are taken", wanted.len(), polkit::MOST);
        return Err(Failure::new(Exit::Failed, why));
    }
    if wanted == allowed {
        return Ok(note(if arguments.remove { "they were not allowed before" } else { "they were allowed already" })?);
    }
    if wanted.is_empty() {
        fs::remove_file(&path).with_context(|| format!("{} cannot be removed", path.display()))?;
        return Ok(note(&format!("removed {}; the agent may start and stop its own jobs only", path.display()))?);
    }
    if !arguments.rules.is_dir() {
        let why = anyhow!("{} is not there", arguments.rules.display());
        return Err(Failure::new(Exit::Failed, why).hint(NO_RULES));
    }
    write(&arguments.rules, &path, &polkit::text(&wanted))?;
    let names: Vec<&str> = wanted.iter().map(UnitName::as_str).collect();
    Ok(note(&format!("wrote {}; the agent may start, stop and restart {}", path.display(), names.join(", ")))?)
}

/// The agent's own unit may be restarted by it. The services around it hold rights that it must not have, and its jobs are
/// allowed by the rule of the package.
fn refuse_own(asked: &BTreeSet<UnitName>) -> Result<(), Failure> {
    let is_own = |unit: &&UnitName| unit.as_str().starts_with("twinagent-");
    match asked.iter().find(is_own) {
        Some(unit) if unit.as_str().starts_with("twinagent-job-") => {
            Err(Failure::new(Exit::Failed, anyhow!("{unit} is a job, and the agent may start its jobs already")))
        }
        Some(unit) => {
            Err(Failure::new(Exit::Failed, anyhow!("{unit} belongs to the agent, which must not start or stop it")))
        }
        None => Ok(()),
    }
}

/// The units that are allowed; none, where nothing was written yet.
fn read(path: &Path) -> Result<BTreeSet<UnitName>, Failure> {
    let mut text = String::new();
    let file = match OpenOptions::new().read(true).custom_flags(nofollow()).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        file => file.with_context(|| format!("{} cannot be read", path.display()))?,
    };
    file.take(LARGEST).read_to_string(&mut text).with_context(|| format!("{} cannot be read", path.display()))?;
    polkit::units(&text).map_err(|why| {
        let hint = format!("move what is wanted of it into a file of another name, and remove {}", path.display());
        Failure::new(Exit::Failed, anyhow!("{}: {why}", path.display())).hint(hint)
    })
}

/// The file appears whole or not at all. polkitd is not root, so everybody may read it.
fn write(folder: &Path, path: &Path, text: &str) -> anyhow::Result<()> {
    let put = || {
        // Not a name that polkit reads.
        let draft = path.with_extension("draft");
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&draft)?;
        // Whatever the umask of the administrator is.
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(folder)?.sync_all()
    };
    put().with_context(|| format!("{} cannot be written", path.display()))
}

fn nofollow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}
