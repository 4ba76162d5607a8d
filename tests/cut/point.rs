//! The system calls at which a daemon can be ended, found by watching it once, and strace(1) as the means of both.

use std::collections::{BTreeMap, BTreeSet};
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

/// What strace does to a daemon.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Strace<'a> {
    Absent,
    /// Sees every call that can be a point.
    Watching,
    /// Ends the daemon there.
    Killing(&'a Point),
    /// Makes a sync one in name only.
    Unsyncing,
}

/// Right before the n-th call of this name that a thread of the daemon makes, as strace counts.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    place: Place,
    call: String,
    nth: usize,
    /// Its number among all such calls to this place.
    number: usize,
}

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    State,
    Request,
    Connection,
    Elsewhere,
}

impl fmt::Display for Point {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, call, number, .. } = self;
        write!(out, "{call} {number} ({place:?})")
    }
}

impl Strace<'_> {
    /// On the command line, for the device with this folder.
    pub(crate) fn options(self, folder: &Path) -> Vec<String> {
        // With one thread beside the main one, for whom tokio's blocking tasks then wait, what it does has an order, and
        // its calls are counted as they come: strace counts by thread.
        let one_worker = "inject=?clone,?clone3:error=EAGAIN:when=2+".to_owned();
        let expressions = match self {
            Self::Absent => return Vec::new(),
            Self::Watching => vec![format!("trace=?{},?clone,?clone3", CALLS.join(",?")), one_worker],
            Self::Killing(Point { call, nth, .. }) => {
                let kill = format!("inject={call}:signal=KILL:when={nth}");
                vec![format!("trace={call},?clone,?clone3"), kill, one_worker]
            }
            Self::Unsyncing => {
                vec!["trace=fdatasync,fsync".to_owned(), "inject=fdatasync,fsync:retval=0".to_owned()]
            }
        };
        let mut options: Vec<String> =
            expressions.into_iter().flat_map(|expression| ["-e".to_owned(), expression]).collect();
        if let Self::Killing(Point { place, call, .. }) = self
            && place.counts(call)
        {
            for file in place.files() {
                options.extend(["-P".to_owned(), folder.join(file).display().to_string()]);
            }
        }
        options
    }
}

impl Point {
    /// Whether this is where strace saw the daemon end. It is another point when the daemon has come there in another way
    /// than the one that was watched.
    pub(crate) fn is_last_of(&self, seen: &str, folder: &Path) -> bool {
        let calls = seen.lines().filter_map(|line| Call::begin(line, folder));
        calls.filter(|call| call.place == self.place && call.name == self.call).count() == self.number
    }
}

impl Place {
    /// For strace each is a name of its own.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::State => &[
                "state",
                "state/journal",
                "state/journal.draft",
                "state/farewell",
                "state/farewell.draft",
                "state/config.last-good.json",
                "state/config.last-good.json.draft",
            ],
            Self::Request => &["run-reboot", "run-reboot/request", "run-reboot/request.draft"],
            Self::Connection | Self::Elsewhere => &[],
        }
    }

    /// Whether strace is to count these calls only where they are about these files. It sees no threads begin then. So it
    /// is for what the main thread alone does, and for what every thread does at any time, to wake another one.
    fn counts(self, call: &str) -> bool {
        match self {
            Self::State => call == "write",
            Self::Request => true,
            Self::Connection | Self::Elsewhere => false,
        }
    }
}

/// All points after the first lines of what strace saw of the device with this folder. Two that strace cannot tell apart,
/// since two threads make the same call as often, are one.
pub(crate) fn points(seen: &str, first: usize, folder: &Path) -> Vec<Point> {
    let mut numbers: BTreeMap<(Place, &str), usize> = BTreeMap::new();
    let mut by_thread: BTreeMap<(Option<Place>, &str, &str), usize> = BTreeMap::new();
    let mut known = BTreeSet::new();
    let mut points = Vec::new();
    for (line, text) in seen.lines().enumerate() {
        let Some(Call { thread, place, name, changes }) = Call::begin(text, folder) else { continue };
        let number = numbers.entry((place, name)).or_default();
        *number += 1;
        for counted in [None, Some(place)] {
            let nth = by_thread.entry((counted, name, thread)).or_default();
            *nth += 1;
            if counted.is_some() == place.counts(name)
                && known.insert((counted, name, *nth))
                && line >= first
                && changes
                && place != Place::Elsewhere
            {
                points.push(Point { place, call: name.to_owned(), nth: *nth, number: *number });
            }
        }
    }
    points
}

/// The begin of a call, in a line of strace.
struct Call<'a> {
    thread: &'a str,
    place: Place,
    name: &'a str,
    /// Only opening a file to read it does not.
    changes: bool,
}

impl<'a> Call<'a> {
    /// Reads `812 pwrite64(7</…/state/journal>, "8c"..., 2, 0) = 2`, or as much of it as stands before `<unfinished ...>`.
    /// `None` for everything else.
    fn begin(line: &'a str, folder: &Path) -> Option<Self> {
        let (thread, rest) = line.split_once(' ')?;
        let (name, arguments) = rest.trim_start().split_once('(')?;
        if !CALLS.contains(&name) {
            return None;
        }
        let (_, target) = arguments.split_once('<')?;
        let (target, rest) = target.split_once('>')?;
        let changes = name != "openat" || rest.contains("O_CREAT");
        // A name that is looked up from a folder; what is written to a file is none.
        let name_there = rest.strip_prefix(", \"/").and_then(|name| name.split_once('"'));
        let name_there = name_there.map(|(name, _)| format!("/{name}"));
        let is_about = |place: &Place| {
            let mut files = place.files().iter().map(|file| folder.join(file));
            files.any(|file| {
                Path::new(target) == file || name_there.as_ref().is_some_and(|name| Path::new(name) == file)
            })
        };
        let place = match [Place::State, Place::Request].into_iter().find(is_about) {
            Some(place) => place,
            None if target.starts_with("socket:") => Place::Connection,
            None => Place::Elsewhere,
        };
        Some(Self { thread, place, name, changes })
    }
}
