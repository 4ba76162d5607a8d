//! The system calls at which a daemon can be ended, found by watching it once.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// The calls that write, make durable or change a file, or write to the connection.
const CALLS: [&str; 19] = [
    "openat",
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "ftruncate",
    "fallocate",
    "fdatasync",
    "fsync",
    "fchmod",
    "renameat",
    "renameat2",
    "unlinkat",
    "mkdirat",
    "linkat",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "shutdown",
];

/// The files and folders of the device that a reboot is about. For strace each is a name of its own.
const FILES: [&str; 10] = [
    "state",
    "state/journal",
    "state/journal.draft",
    "state/farewell",
    "state/farewell.draft",
    "state/config.last-good.json",
    "state/config.last-good.json.draft",
    "run-reboot",
    "run-reboot/request.draft",
    "run-reboot-helper",
];

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// One of [`FILES`], or a name in one of these folders.
    File,
    Connection,
}

/// Right before the n-th call of this name that a thread of the daemon makes there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    place: Place,
    call: String,
    nth: usize,
}

impl fmt::Display for Point {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, call, nth } = self;
        write!(out, "{call} {nth} ({place:?})")
    }
}

impl Point {
    /// strace's options to end the daemon there. strace counts by call and thread, and only what it is to look at.
    pub(crate) fn killing(&self, folder: &Path) -> Vec<String> {
        let Self { place, call, nth } = self;
        let mut options = options([format!("trace={call}"), format!("inject={call}:signal=KILL:when={nth}")]);
        if *place == Place::File {
            for file in FILES {
                options.extend(["-P".to_owned(), folder.join(file).display().to_string()]);
            }
        }
        options
    }
}

/// strace's options to see every call that can be a point.
pub(crate) fn watching() -> Vec<String> {
    options([format!("trace={}", CALLS.join(","))])
}

/// strace's options to make a sync one in name only.
pub(crate) fn unsynced() -> Vec<String> {
    options(["trace=fdatasync,fsync".to_owned(), "inject=fdatasync,fsync:retval=0".to_owned()])
}

fn options<const N: usize>(expressions: [String; N]) -> Vec<String> {
    expressions.into_iter().flat_map(|expression| ["-e".to_owned(), expression]).collect()
}

/// All points in what strace saw of the device with this folder.
pub(crate) fn points(seen: &str, folder: &Path) -> Vec<Point> {
    let mut counts: BTreeMap<(Place, &str, &str), usize> = BTreeMap::new();
    for (thread, place, call) in seen.lines().filter_map(|line| begin(line, folder)) {
        *counts.entry((place, call, thread)).or_default() += 1;
    }
    let mut most: BTreeMap<(Place, &str), usize> = BTreeMap::new();
    for ((place, call, _), count) in counts {
        let most = most.entry((place, call)).or_default();
        *most = count.max(*most);
    }
    let mut points = Vec::new();
    for ((place, call), most) in most {
        points.extend((1..=most).map(|nth| Point { place, call: call.to_owned(), nth }));
    }
    points
}

/// Reads the begin of a call: `812 pwrite64(7</…/state/journal>, "8c"..., 2, 0) = 2`, or as much of it as stands before
/// `<unfinished ...>`. `None` for everything that is no point.
fn begin<'a>(line: &'a str, folder: &Path) -> Option<(&'a str, Place, &'a str)> {
    let (thread, rest) = line.split_once(' ')?;
    let (call, arguments) = rest.trim_start().split_once('(')?;
    let (_, target) = arguments.split_once('<')?;
    let (target, rest) = target.split_once('>')?;
    if target.starts_with("socket:") {
        return Some((thread, Place::Connection, call));
    }
    // A name that is looked up from a folder; what is written is none.
    let name = rest.strip_prefix(", \"/").and_then(|name| name.split_once('"')).map(|(name, _)| format!("/{name}"));
    let is_file = |path: &str| FILES.iter().any(|file| Path::new(path) == folder.join(file));
    let is_ours = is_file(target) || name.is_some_and(|name| is_file(&name));
    is_ours.then_some((thread, Place::File, call))
}
