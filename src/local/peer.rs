//! Who is calling, and what that caller may do: the kernel's word on user and groups, and the configured groups.
//!
//! `SO_PEERCRED` (unix(7)) names user, group and process of whoever connected. It does not name the supplementary
//! groups; those stand in `/proc/PID/status`. The process may be gone and its id used again, so its word counts only if
//! it still has the user that connected, in all four places: then it is a process of the very same user, and its groups
//! are groups of that user. Where it cannot be seen (`hidepid`, another pid namespace), the groups that `/etc/group`
//! gives that user count.

use std::fs::File;
use std::io::{self, Read as _};

use tokio::net::UnixStream;

/// The largest `/etc/passwd`, `/etc/group` or `/proc/PID/status` that is read. A process has at most 65 536 groups.
const LARGEST: u64 = 1024 * 1024;

/// The groups that may use the local interface, beside root and the daemon's own user, which may do everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// May ask what changes nothing.
    pub read_group: Option<u32>,
    /// May ask everything.
    pub act_group: Option<u32>,
}

/// What a caller may do; each includes the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Nothing,
    Reads,
    Acts,
}

/// Whoever connected.
#[derive(Debug)]
pub(super) struct Peer {
    user: u32,
    group: u32,
    process: Option<i32>,
    /// Supplementary groups, once they were asked for. They hold for the life of the connection.
    groups: Option<Vec<u32>>,
}

impl Peer {
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        let found = stream.peer_cred()?;
        Ok(Self { user: found.uid(), group: found.gid(), process: found.pid(), groups: None })
    }

    pub(super) fn user(&self) -> u32 {
        self.user
    }

    /// Root, or the user that the daemon runs as.
    pub(super) fn is_trusted(&self) -> bool {
        self.user == 0 || self.user == rustix::process::geteuid().as_raw()
    }

    pub(super) fn standing(&mut self, rights: &Rights) -> Standing {
        if self.is_trusted() || self.is_in(rights.act_group) {
            Standing::Acts
        } else if self.is_in(rights.read_group) {
            Standing::Reads
        } else {
            Standing::Nothing
        }
    }

    fn is_in(&mut self, group: Option<u32>) -> bool {
        let Some(group) = group else { return false };
        let (user, process) = (self.user, self.process);
        self.group == group || self.groups.get_or_insert_with(|| groups(user, process)).contains(&group)
    }
}

fn groups(user: u32, process: Option<i32>) -> Vec<u32> {
    process
        .and_then(|process| of_process(&text(&format!("/proc/{process}/status"))?, user))
        .or_else(|| Some(of_user(&name_of(&text("/etc/passwd")?, user)?, &text("/etc/group")?)))
        .unwrap_or_default()
}

fn text(path: &str) -> Option<String> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(LARGEST).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// The groups of a process (`proc_pid_status(5)`), if it is one of this user.
fn of_process(status: &str, user: u32) -> Option<Vec<u32>> {
    let numbers = |name: &str| -> Option<Vec<u32>> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().map(|number| number.parse().ok()).collect()
    };
    (numbers("Uid:")? == [user; 4]).then(|| numbers("Groups:")).flatten()
}

/// The name of a user (`passwd(5)`).
fn name_of(passwd: &str, user: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(user)).then(|| name.to_owned())
    })
}

/// The groups that list this user (`group(5)`).
fn of_user(name: &str, groups: &str) -> Vec<u32> {
    // An empty list of members must not match a nameless user.
    let listed = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, id, members] = fields[..] else { return None };
        members.split(',').any(|member| !member.is_empty() && member == name).then(|| id.parse().ok()).flatten()
    };
    groups.lines().filter_map(listed).collect()
}

/// The id of the group with this name, or with this number as its name. `None`: the machine has no such group.
///
/// Reads `/etc/group` each time.
pub fn group_id(name: &str) -> Option<u32> {
    if name.is_empty() {
        return None;
    }
    let number = name.parse().ok();
    number.or_else(|| {
        text("/etc/group")?.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_speaks_for_its_user_only_while_it_is_wholly_that_user() {
        let status = |uids: &str| format!("Name:\tsh\nUid:\t{uids}\nGid:\t5\t5\t5\t5\nGroups:\t4 27 \nNgid:\t0\n");
        assert_eq!(of_process(&status("1000\t1000\t1000\t1000"), 1000), Some(vec![4, 27]));
        assert_eq!(of_process(&status("1000\t0\t0\t0"), 1000), None, "it became root by a set-user-id program");
        assert_eq!(of_process(&status("1000\t1000\t0\t1000"), 1000), None, "it can become root again");
        assert_eq!(of_process(&status("1001\t1001\t1001\t1001"), 1000), None, "its number was used again");
        assert_eq!(of_process("Name:\tsh\n", 1000), None);
        assert_eq!(of_process("", 0), None);
    }

    #[test]
    fn where_no_process_is_seen_the_files_of_the_machine_count() {
        let passwd =
            "root:x:0:0::/root:/bin/sh\nbroken\npi:x:1000:1000::/home/pi:/bin/sh\npi2:x:1001:1001::/:/bin/sh\n";
        assert_eq!(name_of(passwd, 1000).as_deref(), Some("pi"));
        assert_eq!(name_of(passwd, 7), None);
        let groups = "adm:x:4:pi\nsudo:x:27:pi2,pi\nvideo:x:44:pi2\nempty:x:45:\nbroken:x\nodd:x:y:pi\n";
        assert_eq!(of_user("pi", groups), [4, 27]);
        assert_eq!(of_user("", groups), Vec::<u32>::new());
    }

    #[test]
    fn a_group_is_found_by_name_or_number() {
        assert_eq!(group_id("root"), Some(0));
        assert_eq!(group_id("4711"), Some(4711));
        assert_eq!(group_id(""), None);
        assert_eq!(group_id("no-such-group"), None);
    }
}
