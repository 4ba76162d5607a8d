//! What root can read and the service cannot: whoever sets a device up is root, and the daemon that is to read it is not.

use std::path::Path;

use crate::config::Folders;
use crate::config::access::{Obstacle, Readers, obstacle};
use crate::config::account::Account;
use crate::host::unit::Unit;

/// The daemon as a reader of files.
pub(super) struct Reader {
    account: Account,
    hides_homes: bool,
}

impl Reader {
    /// The service of this machine. Only root can judge it, and a daemon of other folders may be anybody.
    pub(super) fn service(folders: &Folders) -> Option<Self> {
        let is_judge = rustix::process::geteuid().is_root() && folders.is_standard();
        let account = Account::service().filter(|_| is_judge)?;
        Some(Self { account, hides_homes: Unit::installed().is_some_and(|unit| unit.hides_homes) })
    }

    /// Whether we are the user that the daemon runs as.
    pub(super) fn is_us() -> bool {
        Account::service().is_some_and(|account| account.user == rustix::process::geteuid().as_raw())
    }

    /// What keeps the daemon from reading this.
    pub(super) fn obstacle(&self, path: &Path, readers: Readers) -> Option<Obstacle> {
        obstacle(path, readers, &self.account, self.hides_homes)
    }
}
