//! Who the daemon runs as where it is a service: the user and group `twinagent`, which the package makes.
//!
//! Reads `/etc/passwd` and `/etc/group` only: systemd-sysusers writes there.

use std::fs::File;
use std::io::Read as _;

/// The group that the daemon runs in.
pub const GROUP: &str = "twinagent";
/// The user that the daemon runs as.
const USER: &str = "twinagent";
/// The user that the handlers' service runs as.
const HANDLERS: &str = "twinagent-handlers";

/// The largest list of users or groups that is searched, in bytes.
const LARGEST: u64 = 1 << 20;

/// A user, with all groups that count for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub user: u32,
    pub groups: Vec<u32>,
}

impl Account {
    /// The daemon's, if the machine has it.
    pub fn service() -> Option<Self> {
        Self::read(USER, &list("/etc/passwd")?, &list("/etc/group")?)
    }

    /// That of the handlers' service, if the machine has it.
    pub fn handlers() -> Option<Self> {
        Self::read(HANDLERS, &list("/etc/passwd")?, &list("/etc/group")?)
    }

    /// That of this process.
    pub fn own() -> Self {
        let mut groups = rustix::process::getgroups().unwrap_or_default();
        groups.push(rustix::process::getegid());
        Self {
            user: rustix::process::geteuid().as_raw(),
            groups: groups.into_iter().map(rustix::process::Gid::as_raw).collect(),
        }
    }

    fn read(name: &str, users: &str, groups: &str) -> Option<Self> {
        let (user, own_group) = users.lines().find_map(|line| match line.split(':').collect::<Vec<_>>()[..] {
            [found, _, user, group, ..] if found == name => Some((user.parse().ok()?, group.parse().ok()?)),
            _ => None,
        })?;
        let is_member =
            |line: &&str| line.rsplit(':').next().is_some_and(|all| all.split(',').any(|member| member == name));
        let further = groups.lines().filter(is_member).filter_map(|line| line.split(':').nth(2)?.parse().ok());
        Some(Self { user, groups: std::iter::once(own_group).chain(further).collect() })
    }
}

/// The id of the user that the daemon runs as, if the machine has it.
pub fn service_user() -> Option<u32> {
    Account::service().map(|account| account.user)
}

/// The id of the group [`GROUP`], if the machine has it.
pub fn service_group() -> Option<u32> {
    group_id(&list("/etc/group")?)
}

fn group_id(groups: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(GROUP)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

fn list(path: &str) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(LARGEST).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found_by_its_whole_name() {
        let groups = "root:x:0:\nmytwinagent:x:5:\ntwinagent2:x:6:\ntwinagent:x:990:pi\n";
        assert_eq!(group_id(groups), Some(990));
        assert_eq!(group_id("root:x:0:\n"), None);
        assert_eq!(group_id("twinagent:x:\ntwinagent"), None);
    }

    #[test]
    fn an_account_has_its_own_group_and_those_that_name_it() {
        let users = "root:x:0:0:root:/root:/bin/bash\ntwinagent:x:991:990:::/usr/sbin/nologin\n";
        let groups = "root:x:0:\nadm:x:4:pi,twinagent\ngpio:x:8:mytwinagent\ntwinagent:x:990:\n";
        assert_eq!(Account::read(USER, users, groups), Some(Account { user: 991, groups: vec![990, 4] }));
        assert_eq!(Account::read(USER, "root:x:0:0:::\n", groups), None);
        assert_eq!(Account::read(USER, "twinagent:x:many:990:::\n", groups), None);
    }
}
