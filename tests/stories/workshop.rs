//! The handlers of a device, as an operator adds them: programs, their manifests, and the handlers' service beside the
//! daemon, which is the real program with the socket that systemd would give it.
//!
//! Programs lie below the target folder, since the service runs none that others could exchange, as in `/tmp`. Each run of
//! a program notes its command's id, and a program can be held up until the story lets it go on.

use std::fs::{self, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use twinagent::varlink::handlers::SOCKET;

use crate::device::{Device, PATIENCE, Setup};
use crate::process::{ended, pid};
use crate::program::beside;

/// Holds a program up until [`Workshop::let_go`]; a minute at most, so that nothing is left behind by a story that failed.
pub(crate) const HELD: &str = "n=0; while [ ! -e \"$notes/go\" ] && [ $n -lt 1200 ]; do sleep 0.05; n=$((n+1)); done\n";

/// Ends a program in good order when it is told to end, and notes that; that it would do so is noted as well, since its run
/// is noted before that.
pub(crate) const IN_ORDER: &str = "trap 'echo ended >>\"$notes/order\"; exit 7' TERM\n: >\"$notes/trapped\"\n";

/// A method of kind `program`: its name, more lines of its manifest, and what follows the first lines of its script.
pub(crate) type Made<'a> = (&'a str, &'a str, &'a str);

pub(crate) struct Workshop {
    folder: TempDir,
    manifests: PathBuf,
    socket: PathBuf,
    service: Option<Child>,
}

impl Workshop {
    /// With these methods, and without the service.
    pub(crate) fn beside(device: &Device, methods: &[Made<'_>]) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let (manifests, launcher) = (device.path("etc/handlers.d"), device.folders().launcher());
        for place in [&folder.path().join("notes"), &folder.path().join("own"), &manifests, &launcher] {
            fs::create_dir(place).expect("a folder");
            // Whatever the umask of those who run the tests may be.
            fs::set_permissions(place, Permissions::from_mode(0o755)).expect("a mode");
        }
        let workshop = Self { folder, manifests, socket: launcher.join(SOCKET), service: None };
        for method in methods {
            workshop.make(*method);
        }
        workshop
    }

    /// A device that is connected and has these methods.
    pub(crate) async fn online(setup: Setup, methods: &[Made<'_>]) -> (Device, Self) {
        let mut device = Device::new(setup).await;
        let mut workshop = Self::beside(&device, methods);
        workshop.start(&device);
        device.start();
        device.wait_until_ready().await;
        (device, workshop)
    }

    // === What an operator writes

    /// Writes program and manifest of a method.
    pub(crate) fn make(&self, (method, more, script): Made<'_>) {
        let program = self.script(method, script);
        self.manifest(method, &program, more);
    }

    /// Writes a script that notes its run before it does anything else.
    pub(crate) fn script(&self, name: &str, script: &str) -> PathBuf {
        let notes = self.folder.path().join("notes");
        let text = format!(
            "#!/bin/sh\nnotes={}\necho \"$TWINAGENT_COMMAND_ID\" >>\"$notes/{name}\"\n{script}",
            notes.display()
        );
        self.program(name, &text)
    }

    /// Writes an executable file, in the place of an old one if there is one.
    ///
    /// By another process: a child of another story could inherit a file that is open for writing in this one, and the
    /// kernel runs no program that somebody may write to (`ETXTBSY`).
    pub(crate) fn program(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let draft = path.with_extension("draft");
        let write = r#"printf %s "$1" >"$0" && chmod 755 "$0""#;
        let written = Command::new("/bin/sh").args(["-c", write]).arg(&draft).arg(text).status().expect("a shell");
        assert!(written.success(), "{written}");
        fs::rename(&draft, &path).expect("in its place");
        path
    }

    pub(crate) fn manifest(&self, method: &str, program: &Path, more: &str) {
        let program = program.display();
        self.write_manifest(
            method,
            &format!("method = \"{method}\"\nkind = \"program\"\nprogram = \"{program}\"\n{more}"),
        );
    }

    pub(crate) fn write_manifest(&self, name: &str, text: &str) {
        replace(&self.manifest_of(name), text);
    }

    pub(crate) fn manifest_of(&self, name: &str) -> PathBuf {
        self.manifests.join(format!("{name}.toml"))
    }

    /// A place of the workshop's own, for what a story does besides.
    pub(crate) fn path(&self, rest: &str) -> PathBuf {
        self.folder.path().join(rest)
    }

    // === What the programs do

    /// The ids of the commands that this program was run for, in this order.
    pub(crate) fn runs(&self, name: &str) -> Vec<String> {
        self.notes(name).lines().map(str::to_owned).collect()
    }

    /// What a program has noted under this name.
    pub(crate) fn notes(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join("notes").join(name)).unwrap_or_default()
    }

    /// Waits until a program has been begun so often.
    pub(crate) async fn wait_for_runs(&self, name: &str, count: usize) {
        let begun = async {
            while self.runs(name).len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, begun).await.is_ok();
        assert!(in_time, "{name} ran for {:?}, which is not {count}", self.runs(name));
    }

    /// Waits until a program has made this note.
    pub(crate) async fn wait_for(&self, name: &str) {
        let note = self.path("notes").join(name);
        let noted = async {
            while !note.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, noted).await.is_ok(), "{name} is not noted");
    }

    /// Programs that are held up go on, and those to come are not held up.
    pub(crate) fn let_go(&self) {
        fs::write(self.folder.path().join("notes/go"), "").expect("a file");
    }

    /// Those to come are held up again.
    pub(crate) fn hold(&self) {
        fs::remove_file(self.folder.path().join("notes/go")).expect("they were let go");
    }

    // === The service

    /// Opens the socket and starts the service on it, as systemd does with the first connection.
    pub(crate) fn start(&mut self, device: &Device) {
        let listener = UnixListener::bind(&self.socket).expect("a socket");
        let log = File::options().create(true).append(true).open(device.path("log.handlers")).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_twinagent"));
        command.arg("run-handlers");
        beside(device, &mut command);
        command.env("RUNTIME_DIRECTORY", self.folder.path().join("own"));
        command.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).stderr(log);
        self.service = Some(command.spawn().expect("the service starts"));
    }

    /// Ends the service in good order, and its socket with it.
    pub(crate) async fn stop(&mut self) {
        self.wait_until_it_listens().await;
        let mut service = self.service.take().expect("the service runs");
        kill_process(pid(&service), Signal::TERM).expect("our child");
        let status = ended(&mut service).await;
        assert!(status.success(), "{status}");
        fs::remove_file(&self.socket).expect("the socket");
    }

    /// Before that, SIGTERM would be its end and no good order. Whoever comes and wants nothing is let go at once.
    async fn wait_until_it_listens(&self) {
        let caller = async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            stream.shutdown().await?;
            stream.read(&mut [0]).await
        };
        let let_go = tokio::time::timeout(PATIENCE, caller).await.expect("the service comes");
        assert_eq!(let_go.expect("its socket"), 0, "nothing is told");
    }

    /// SIGKILL. The socket stays, and nobody listens there.
    pub(crate) async fn kill(&mut self) {
        let mut service = self.service.take().expect("the service runs");
        service.kill().expect("our child");
        ended(&mut service).await;
    }

    /// The service's process.
    pub(crate) fn id(&self) -> u32 {
        self.service.as_ref().expect("the service runs").id()
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        if let Some(mut service) = self.service.take() {
            // In good order first, for the sake of what it has started.
            let _ = kill_process(pid(&service), Signal::TERM);
            for _ in 0..100 {
                if service.try_wait().is_ok_and(|status| status.is_some()) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = service.kill();
            let _ = service.wait();
        }
    }
}

/// Writes a file as an editor does: a new one takes the place of the old one.
fn replace(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).expect("a file");
    fs::set_permissions(&draft, Permissions::from_mode(0o644)).expect("a mode");
    fs::rename(&draft, path).expect("in its place");
}
