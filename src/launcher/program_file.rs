//! The file of a program: opened and judged on the way, so that what was judged is what runs.
//!
//! It and each folder above it must belong to somebody who is trusted, and nobody else may be able to write there; there is
//! no link on the way. The file stays open, and is run by its descriptor: a file that takes its name afterwards is another.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;

use crate::model::command::Status;

/// Who may own a program and its folders: root, and in tests whoever runs them.
pub type Owners = std::collections::BTreeSet<u32>;

/// How much of a file is looked at for its interpreter: as much as the kernel does (`BINPRM_BUF_SIZE`, execve(2)).
const HEAD: usize = 256;

/// A program that may be run.
#[derive(Debug)]
pub(super) struct ProgramFile {
    path: PathBuf,
    file: OwnedFd,
    interpreter: Option<PathBuf>,
}

/// What is to be known of a program that the kernel refuses.
#[derive(Debug)]
pub(super) struct Refusal {
    program: PathBuf,
    interpreter: Option<PathBuf>,
}

/// Why a program is not run, in a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    program: PathBuf,
    why: String,
    /// It is not the program that is wrong: processes, memory or descriptors are short.
    is_shortage: bool,
}

/// The first line of a script, after `#!`.
#[derive(Debug)]
struct FirstLine {
    interpreter: PathBuf,
    /// It ends as lines do under DOS. The kernel takes that for a part of a name.
    is_of_dos: bool,
}

impl Unfit {
    /// What it means for a command.
    pub(super) fn status(&self) -> Status {
        if self.is_shortage { Status::CANNOT_NOW } else { Status::FAILED }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} cannot be run: {}", self.program.display(), self.why)
    }
}

impl ProgramFile {
    /// Walks from the root to the file and judges each step on what it has opened.
    pub(super) fn open(path: &Path, owners: &Owners) -> Result<Self, Unfit> {
        let unfit = |why: String| Unfit { program: path.to_owned(), why, is_shortage: false };
        let file = walk(path, owners).map_err(unfit)?;
        let line = first_line(&file).map_err(|error| Unfit {
            is_shortage: is_shortage(&error),
            ..unfit(format!("it cannot be read ({error})"))
        })?;
        if line.as_ref().is_some_and(|line| line.is_of_dos) {
            let mending = format!("sed -i 's/\\r$//' {}", path.display());
            return Err(unfit(format!("it has the line ends of DOS; mend it with: {mending}")));
        }
        Ok(Self { path: path.to_owned(), file, interpreter: line.map(|line| line.interpreter) })
    }

    /// Whether the interpreter is there, for who wants to know before. At a start the kernel says so.
    pub(super) fn judge_interpreter(&self) -> Result<(), Unfit> {
        match &self.interpreter {
            Some(interpreter) if !interpreter.exists() => {
                Err(self.refusal().because(&io::Error::from_raw_os_error(Errno::NOENT.raw_os_error())))
            }
            _ => Ok(()),
        }
    }

    /// As the manifest names it. What stands at this path now may be something else.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// A script is opened once more, by its interpreter, when the kernel has closed what it closes at an execve(2).
    pub(super) fn is_script(&self) -> bool {
        self.interpreter.is_some()
    }

    /// To say afterwards why it could not be started.
    pub(super) fn refusal(&self) -> Refusal {
        Refusal { program: self.path.clone(), interpreter: self.interpreter.clone() }
    }
}

impl Refusal {
    /// What an error of execve(2) means for this file.
    pub(super) fn because(self, error: &io::Error) -> Unfit {
        let why = match (error.raw_os_error().map(Errno::from_raw_os_error), &self.interpreter) {
            (Some(Errno::NOENT), Some(interpreter)) => {
                format!("its interpreter {} is missing", interpreter.display())
            }
            (Some(Errno::NOENT), None) => {
                "the loader that it names is missing; it was made for another system".to_owned()
            }
            (Some(Errno::NOEXEC), _) => {
                "it is no program of this machine; a script begins with `#!` and its interpreter".to_owned()
            }
            (Some(Errno::ACCESS), Some(interpreter)) => format!(
                "the user of the handlers' service may not execute it or its interpreter {}",
                interpreter.display()
            ),
            (Some(Errno::ACCESS), None) => "the user of the handlers' service may not execute it".to_owned(),
            (Some(Errno::TXTBSY), _) => "it is being written".to_owned(),
            _ => error.to_string(),
        };
        Unfit { program: self.program, why, is_shortage: is_shortage(error) }
    }
}

fn walk(path: &Path, owners: &Owners) -> Result<OwnedFd, String> {
    let mut at = PathBuf::from("/");
    let mut steps = Vec::new();
    for (place, component) in path.components().enumerate() {
        match component {
            Component::RootDir if place == 0 => {}
            Component::Normal(name) if place > 0 => steps.push(name),
            _ => return Err("an absolute path without `..` is expected".to_owned()),
        }
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut opened = openat(CWD, "/", flags, Mode::empty()).map_err(|error| format!("/: {error}"))?;
    for name in steps {
        judge_folder(&at, &opened, owners)?;
        at.push(name);
        opened = openat(&opened, name, flags, Mode::empty()).map_err(|error| match error {
            Errno::NOENT => format!("{} is missing", at.display()),
            Errno::ACCESS => format!("the user of the handlers' service may not reach {}", at.display()),
            error => format!("{}: {error}", at.display()),
        })?;
    }
    judge_file(&at, &opened, owners)?;
    Ok(opened)
}

fn judge_folder(at: &Path, opened: &OwnedFd, owners: &Owners) -> Result<(), String> {
    let facts = facts(at, opened)?;
    match FileType::from_raw_mode(facts.st_mode) {
        FileType::Directory => judge_owner(at, &facts, owners),
        FileType::Symlink => Err(link(at)),
        _ => Err(format!("{} is no folder", at.display())),
    }
}

fn judge_file(at: &Path, opened: &OwnedFd, owners: &Owners) -> Result<(), String> {
    let facts = facts(at, opened)?;
    match FileType::from_raw_mode(facts.st_mode) {
        FileType::RegularFile => {}
        FileType::Symlink => return Err(link(at)),
        FileType::Directory => return Err("it is a folder".to_owned()),
        FileType::Fifo => return Err("it is a FIFO".to_owned()),
        _ => return Err("it is no regular file".to_owned()),
    }
    judge_owner(at, &facts, owners)?;
    if facts.st_mode & 0o111 == 0 {
        return Err(format!("it is not executable; mend it with: chmod a+x {}", at.display()));
    }
    // As another user it could not be ended: kill(2) needs the same one.
    if facts.st_mode & 0o6000 != 0 {
        return Err(
            "it would run as another user (set-user-id or set-group-id), whom this service cannot end".to_owned()
        );
    }
    Ok(())
}

fn judge_owner(at: &Path, facts: &Stat, owners: &Owners) -> Result<(), String> {
    if !owners.contains(&facts.st_uid) {
        let (at, user) = (at.display(), facts.st_uid);
        return Err(format!("{at} belongs to user {user} and not to root; mend it with: chown root {at}"));
    }
    // A sticky folder is no better: somebody else may put a file there under a name that is free.
    if facts.st_mode & 0o022 != 0 {
        let whom = if facts.st_mode & 0o002 == 0 { "its group" } else { "everybody" };
        let (path, mode) = (at.display(), facts.st_mode & 0o7777);
        // Closing `/tmp` would mend nothing.
        let mending = if facts.st_mode & 0o1000 == 0 {
            format!("mend it with: chmod go-w {path}")
        } else {
            "put the program into a folder of root's".to_owned()
        };
        return Err(format!("{path} can be written by {whom} (mode {mode:04o}); {mending}"));
    }
    Ok(())
}

fn facts(at: &Path, opened: &OwnedFd) -> Result<Stat, String> {
    fstat(opened).map_err(|error| format!("{}: {error}", at.display()))
}

fn link(at: &Path) -> String {
    format!("{} is a link; name the file that it leads to", at.display())
}

/// Whether it may work later: fork(2), open(2).
fn is_shortage(error: &io::Error) -> bool {
    let short = [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE];
    error.raw_os_error().is_some_and(|number| short.contains(&Errno::from_raw_os_error(number)))
}

/// The first line of a script. A file that may be executed but not read is none (execve(2)).
fn first_line(file: &OwnedFd) -> io::Result<Option<FirstLine>> {
    // The descriptor has the right to the name only; by way of it the same file is opened (`/proc/PID/fd`, proc(5)).
    let opened = match File::open(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut head = Vec::with_capacity(HEAD);
    opened.take(HEAD as u64).read_to_end(&mut head)?;
    let Some(line) = head.strip_prefix(b"#!") else { return Ok(None) };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let name = line.split(|byte| b" \t\r".contains(byte)).find(|word| !word.is_empty()).unwrap_or_default();
    let interpreter = PathBuf::from(std::ffi::OsStr::from_bytes(name));
    Ok(Some(FirstLine { interpreter, is_of_dos: line.ends_with(b"\r") }))
}
