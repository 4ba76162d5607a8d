//! All processes below this one: the only place that starts them, signals them and takes note of their ends.
//!
//! Each program leads a process group. When it has ended, what is left of its group is killed, and so is what has left the
//! group: this process is a child subreaper (`PR_SET_CHILD_SUBREAPER`, prctl(2)), so that every orphan becomes its child, and
//! is known by a mark in its environment. An orphan that has wiped its mark lives on until no program runs. A number of a
//! process is used only while nobody but this place could free it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::fs::OFlags;
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, getpgid, getpid, kill_process, kill_process_group,
    set_child_subreaper, wait, waitid, waitpid,
};
use tokio::sync::oneshot;

use super::outcome::End;
use super::program_file::ProgramFile;

/// The name of the mark in the environment of a program and of all that it starts.
pub(super) const MARK: &str = "TWINAGENT_RUN";

/// So many orphans are taken note of at once.
pub(super) const MOST: usize = 1024;

/// So much of an input is written before the program starts: an empty pipe takes it without a wait, however short pipes are
/// (`PIPE_BUF`, pipe(7)).
const AT_ONCE: usize = 4096;

/// Scripts use the descriptors below this one for themselves.
const ABOVE: i32 = 10;

/// A program that is to be started.
pub(super) struct Start {
    pub(super) file: ProgramFile,
    pub(super) arguments: Vec<String>,
    /// What it reads from stdin.
    pub(super) input: String,
    /// All of it, but for the mark.
    pub(super) environment: Vec<(&'static str, String)>,
    /// No other run has the same.
    pub(super) mark: String,
}

/// A program that was started.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) pid: Pid,
    /// What it is still to be given.
    pub(super) unfed: Option<Unfed>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// How the program ended.
    pub(super) ended: oneshot::Receiver<End>,
    /// Nothing of it is left, either.
    pub(super) cleared: oneshot::Receiver<()>,
}

/// An input that is too long to wait in the pipe for its reader.
pub(super) struct Unfed {
    pub(super) pipe: OwnedFd,
    pub(super) input: String,
}

#[derive(Debug)]
pub(super) struct Children {
    programs: HashMap<Pid, Program>,
    leftovers: Vec<Leftovers>,
    /// Orphans that run as another user now, by way of sudo(8) perhaps, so that they cannot be killed.
    foreign: HashSet<Pid>,
}

#[derive(Debug)]
struct Program {
    mark: String,
    ended: oneshot::Sender<End>,
    cleared: oneshot::Sender<()>,
}

/// What a program that has ended may have left behind.
#[derive(Debug)]
struct Leftovers {
    group: Pid,
    mark: String,
    /// Killed, and not yet gone.
    dying: HashSet<Pid>,
    cleared: oneshot::Sender<()>,
}

impl fmt::Debug for Start {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Start").field("file", &self.file).field("mark", &self.mark).finish_non_exhaustive()
    }
}

impl fmt::Debug for Unfed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Unfed").field("pipe", &self.pipe).finish_non_exhaustive()
    }
}

impl Children {
    /// From here on orphans come to this process.
    pub(super) fn adopt() -> io::Result<Self> {
        set_child_subreaper(Some(getpid()))?;
        Ok(Self { programs: HashMap::new(), leftovers: Vec::new(), foreign: HashSet::new() })
    }

    /// Starts a program. Returns when it runs, or cannot.
    pub(super) fn start(&mut self, start: Start) -> io::Result<Started> {
        // The kernel opens the path before it closes the descriptor. An interpreter opens it afterwards, so a script's stays
        // open in it. No other thread of this process starts programs, so no other one gets it.
        let file = start.file.file();
        let run = fcntl_dupfd_cloexec(file, ABOVE)?;
        if start.file.is_script() {
            fcntl_setfd(&run, FdFlags::empty())?;
        }
        let (input, mut pipe) = io::pipe()?;
        let unfed = if start.input.len() <= AT_ONCE {
            pipe.write_all(start.input.as_bytes())?;
            None
        } else {
            Some(Unfed { pipe: pipe.into(), input: start.input })
        };
        let mut command = Command::new(format!("/proc/self/fd/{}", run.as_raw_fd()));
        command.arg0(start.file.path()).args(&start.arguments);
        command.env_clear().envs(start.environment.iter().map(|(name, value)| (name, value))).env(MARK, &start.mark);
        command.current_dir("/").process_group(0);
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let pid = Pid::from_child(&child);
        let (ended, hears_end) = oneshot::channel();
        let (cleared, hears_cleared) = oneshot::channel();
        self.programs.insert(pid, Program { mark: start.mark, ended, cleared });
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            self.signal(pid, Signal::KILL);
            return Err(io::Error::other("its pipes are missing"));
        };
        Ok(Started {
            pid,
            unfed,
            stdout: stdout.into(),
            stderr: stderr.into(),
            ended: hears_end,
            cleared: hears_cleared,
        })
    }

    /// Signals a program and its group; nothing happens if it has ended.
    pub(super) fn signal(&self, pid: Pid, signal: Signal) {
        if self.programs.contains_key(&pid) {
            signal_group(pid, signal);
        }
    }

    /// Takes note of programs that have ended, and of orphans, [`MOST`] at once; clears up after them. How many orphans
    /// it were.
    pub(super) fn reap(&mut self) -> usize {
        let ended: Vec<Pid> = self.programs.keys().copied().filter(|pid| has_ended(*pid)).collect();
        for pid in ended {
            // As long as its end was not taken note of, the number is that of this group and of no other.
            signal_group(pid, Signal::KILL);
            if let Ok(Some((_, status))) = waitpid(Some(pid), WaitOptions::NOHANG) {
                self.ended(pid, status);
            }
        }
        let mut orphans = 0;
        while orphans < MOST
            && let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG)
        {
            orphans += usize::from(!self.programs.contains_key(&pid));
            self.ended(pid, status);
        }
        self.clear_up();
        orphans
    }

    /// Whether something is left behind that does not end, while no program runs.
    pub(super) fn are_haunted(&self) -> bool {
        self.programs.is_empty() && self.orphans().iter().any(|orphan| !self.foreign.contains(orphan))
    }

    /// Kills everything.
    pub(super) fn kill_all(&mut self) {
        for pid in self.programs.keys() {
            signal_group(*pid, Signal::KILL);
        }
        for orphan in self.orphans() {
            self.kill(orphan);
        }
    }

    fn ended(&mut self, pid: Pid, status: WaitStatus) {
        self.foreign.remove(&pid);
        for leftovers in &mut self.leftovers {
            leftovers.dying.remove(&pid);
        }
        let Some(program) = self.programs.remove(&pid) else { return };
        // It may have ended after `reap` asked. Of a group that has members the number is still its own.
        signal_group(pid, Signal::KILL);
        let end = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => End::Exited(code),
            (None, signal) => End::Killed(signal.unwrap_or_default()),
        };
        // Fails if whoever has started it is gone; then nobody asks how it ended.
        let _ = program.ended.send(end);
        self.leftovers.push(Leftovers {
            group: pid,
            mark: program.mark,
            dying: HashSet::new(),
            cleared: program.cleared,
        });
    }

    /// Kills the orphans whose program has ended; all, if none runs.
    fn clear_up(&mut self) {
        if self.leftovers.is_empty() && !self.programs.is_empty() {
            return;
        }
        let is_alone = self.programs.is_empty();
        for orphan in self.orphans() {
            let group = getpgid(Some(orphan)).ok();
            let marks = fs::read(format!("/proc/{}/environ", orphan.as_raw_pid())).unwrap_or_default();
            let is_of = |left: &Leftovers| Some(left.group) == group || has_mark(&marks, &left.mark);
            let found: Vec<usize> =
                (0..self.leftovers.len()).filter(|at| is_alone || is_of(&self.leftovers[*at])).collect();
            if (is_alone || !found.is_empty()) && self.kill(orphan) {
                for at in found {
                    self.leftovers[at].dying.insert(orphan);
                }
            }
        }
        let (cleared, left) = std::mem::take(&mut self.leftovers).into_iter().partition(|left| left.dying.is_empty());
        self.leftovers = left;
        for leftovers in cleared as Vec<Leftovers> {
            // Fails if nobody waits any more.
            let _ = leftovers.cleared.send(());
        }
    }

    /// Kills an orphan. False: it cannot be, and is not waited for.
    fn kill(&mut self, orphan: Pid) -> bool {
        match kill_process(orphan, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => true,
            Err(error) => {
                if self.foreign.insert(orphan) {
                    let pid = orphan.as_raw_pid();
                    tracing::warn!(%error, pid, "a process that a program has left behind cannot be killed, and stays");
                }
                false
            }
        }
    }

    /// Children that no run has started: they have lost their parent.
    fn orphans(&self) -> Vec<Pid> {
        if self.programs.is_empty() && !has_children() {
            return Vec::new();
        }
        let mut orphans = children();
        orphans.retain(|pid| !self.programs.contains_key(pid));
        orphans
    }
}

/// Whether this child has ended. Takes no note of it.
fn has_ended(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_)))
}

/// Whether there is any child, alive or not. Takes no note of it.
fn has_children() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::All, options), Err(Errno::CHILD))
}

fn signal_group(pid: Pid, signal: Signal) {
    match kill_process_group(pid, signal) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => tracing::warn!(%error, "a process group cannot be signalled"),
    }
}

fn has_mark(environment: &[u8], mark: &str) -> bool {
    let is_ours = |entry: &[u8]| {
        entry.strip_prefix(MARK.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) == Some(mark.as_bytes())
    };
    environment.split(|byte| *byte == 0).any(is_ours)
}

/// Descriptors that every program would inherit: those that whoever has started this process left open in it.
pub(super) fn inherited() -> Vec<String> {
    let is_inherited = |name: &str| {
        // A descriptor that is closed meanwhile is inherited by nobody.
        let facts = fs::read_to_string(format!("/proc/self/fdinfo/{name}")).unwrap_or_default();
        let flags = facts.lines().find_map(|line| i64::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
        let is_standard = name.parse().is_ok_and(|number: u32| number <= 2);
        !is_standard && flags.is_some_and(|flags| flags & i64::from(OFlags::CLOEXEC.bits()) == 0)
    };
    let names = fs::read_dir("/proc/self/fdinfo").into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_inherited(name)).collect()
}

/// All children of this process.
fn children() -> Vec<Pid> {
    children_of_threads().unwrap_or_else(children_of_all)
}

/// As the kernel lists them (`/proc/PID/task/TID/children`, proc(5)); `None`: this kernel does not (`CONFIG_PROC_CHILDREN`).
fn children_of_threads() -> Option<Vec<Pid>> {
    let mut found = Vec::new();
    let own = format!("/proc/self/task/{}/children", getpid().as_raw_pid());
    for thread in fs::read_dir("/proc/self/task").ok()?.flatten() {
        let path = thread.path().join("children");
        match fs::read_to_string(&path) {
            Ok(list) => found.extend(list.split_ascii_whitespace().filter_map(pid)),
            Err(_) if path.as_os_str() == own.as_str() => return None,
            // A thread that has ended meanwhile. Its children are those of another one now.
            Err(_) => {}
        }
    }
    Some(found)
}

/// Asks every process for its parent (`/proc/PID/stat`, proc(5)).
fn children_of_all() -> Vec<Pid> {
    let own = getpid().as_raw_pid().to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| pid(entry.file_name().to_str()?));
    numbers
        .filter(|pid| {
            // A process that has ended meanwhile is nobody's child.
            let stat = fs::read(format!("/proc/{}/stat", pid.as_raw_pid())).unwrap_or_default();
            let stat = String::from_utf8_lossy(&stat);
            // The name before it may hold anything.
            let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
            parent == Some(own.as_str())
        })
        .collect()
}

fn pid(text: &str) -> Option<Pid> {
    Pid::from_raw(text.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn both_ways_find_the_same_children() {
        let mut child = Command::new("/bin/sleep").arg("100").spawn().expect("sleep");
        let own = Pid::from_child(&child);
        let found = [children_of_threads().unwrap_or_else(|| vec![own]), children_of_all()];
        child.kill().expect("it is ours");
        child.wait().expect("it ends");
        assert!(found.iter().all(|found| found.contains(&own) && !found.contains(&getpid())), "{own:?} {found:?}");
    }

    #[test]
    fn what_a_program_is_given_is_not_shown() {
        let file = ProgramFile::open(Path::new("/usr/bin/env"), &[0].into()).expect("a program of root's");
        let (input, mark) = ("hunter2".to_owned(), "1-2".to_owned());
        let start = Start { file, arguments: Vec::new(), input, environment: Vec::new(), mark };
        assert!(!format!("{start:?}").contains("hunter2"));
        let (_, pipe) = io::pipe().expect("a pipe");
        assert!(!format!("{:?}", Unfed { pipe: pipe.into(), input: start.input }).contains("hunter2"));
    }

    #[test]
    fn a_mark_is_found_whole() {
        let environment = b"A=TWINAGENT_RUN=1-2\0TWINAGENT_RUN=1-23\0TWINAGENT_RUNS=1-2\0";
        assert!(has_mark(environment, "1-23"));
        assert!(!has_mark(environment, "1-2"));
        assert!(!has_mark(b"", ""));
    }
}
