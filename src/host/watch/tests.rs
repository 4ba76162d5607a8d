//! Stories of watched files: everything that people, editors and packages do to them, on real folders.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::host::clock;

/// Long enough on a busy machine; an expected change never takes it.
const SOON: Duration = Duration::from_secs(20);
/// More than a burst may last.
const QUIET: Duration = Duration::from_millis(2500);

struct Watched {
    root: TempDir,
    watcher: Watcher,
}

impl Watched {
    /// Watches names in a folder of the test's own, which `prepare` fills before.
    fn new(names: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let root = TempDir::new().expect("a folder");
        prepare(root.path());
        let paths = names.iter().map(|name| root.path().join(name));
        let watcher = Watcher::new(paths).expect("inotify");
        Self { root, watcher }
    }

    /// Does something, and expects that it is told once and then no more.
    async fn tells(&mut self, what: &str, doing: impl FnOnce(&Path)) {
        doing(self.root.path());
        timeout(SOON, self.watcher.changed()).await.unwrap_or_else(|_| panic!("{what}: not told"));
        let again = timeout(Duration::from_millis(400), self.watcher.changed()).await;
        assert!(again.is_err(), "{what}: told twice");
    }

    async fn is_quiet(&mut self, what: &str, doing: impl FnOnce(&Path)) {
        doing(self.root.path());
        let told = timeout(QUIET, self.watcher.changed()).await;
        assert!(told.is_err(), "{what}: told, and is no matter");
    }
}

fn write(path: &Path) {
    fs::write(path, "x").expect("a file");
}

fn folder(path: &Path) {
    fs::create_dir_all(path).expect("a folder");
}

#[tokio::test]
async fn what_is_done_to_a_file_is_told() {
    let mut watched = Watched::new(&["etc/main.toml"], |root| folder(&root.join("etc")));
    watched.tells("made", |root| write(&root.join("etc/main.toml"))).await;
    watched.tells("written", |root| write(&root.join("etc/main.toml"))).await;
    let append = |root: &Path| {
        let mut file = File::options().append(true).open(root.join("etc/main.toml")).expect("the file");
        file.write_all(b"y").expect("written");
    };
    watched.tells("appended to", append).await;
    let mode = |root: &Path| {
        fs::set_permissions(root.join("etc/main.toml"), Permissions::from_mode(0o600)).expect("a mode");
    };
    watched.tells("its mode", mode).await;
    // vim, sed -i, dpkg, ConfigMaps: another file takes the name.
    for _ in 0..3 {
        let replace = |root: &Path| {
            write(&root.join("etc/.main.toml.swp"));
            fs::rename(root.join("etc/.main.toml.swp"), root.join("etc/main.toml")).expect("renamed");
        };
        watched.tells("replaced", replace).await;
        watched.tells("written after it was replaced", |root| write(&root.join("etc/main.toml"))).await;
    }
    // emacs and others: the old one goes away first.
    let backup = |root: &Path| {
        fs::rename(root.join("etc/main.toml"), root.join("etc/main.toml~")).expect("renamed");
        write(&root.join("etc/main.toml"));
    };
    watched.tells("kept as a backup and written anew", backup).await;
    watched.tells("removed", |root| fs::remove_file(root.join("etc/main.toml")).expect("removed")).await;
    watched.tells("made again", |root| write(&root.join("etc/main.toml"))).await;
    let link = |root: &Path| fs::hard_link(root.join("etc/main.toml"), root.join("etc/other")).expect("a link");
    watched.tells("linked", link).await;
    watched.tells("written by another name", |root| write(&root.join("etc/other"))).await;
}

#[tokio::test]
async fn what_is_done_in_a_folder_is_told_and_beside_it_is_not() {
    let mut watched = Watched::new(&["etc/conf.d", "etc/main.toml"], |root| folder(&root.join("etc/conf.d")));
    watched.tells("a file comes", |root| write(&root.join("etc/conf.d/10.toml"))).await;
    watched.tells("and goes", |root| fs::remove_file(root.join("etc/conf.d/10.toml")).expect("removed")).await;
    watched.tells("a link", |root| symlink("/dev/null", root.join("etc/conf.d/10.toml")).expect("a link")).await;
    let beside = |root: &Path| {
        write(&root.join("etc/other.toml"));
        write(&root.join("other"));
        folder(&root.join("etc/other"));
        fs::read_dir(root.join("etc/conf.d")).expect("a folder").for_each(drop);
        let _ = fs::read(root.join("etc/main.toml"));
    };
    watched.is_quiet("beside it, and reading", beside).await;
}

#[tokio::test]
async fn a_path_may_begin_anywhere_and_end_at_any_time() {
    let mut watched = Watched::new(&["a/b/conf.d", "a/b/ca.pem"], |_| {});
    watched.is_quiet("a folder of another name", |root| folder(&root.join("b"))).await;
    watched.tells("the first part", |root| folder(&root.join("a"))).await;
    watched.tells("the second part", |root| folder(&root.join("a/b"))).await;
    let mode = |root: &Path| fs::set_permissions(root.join("a"), Permissions::from_mode(0o700)).expect("a mode");
    watched.tells("a way that opens or closes", mode).await;
    watched.tells("the folder", |root| folder(&root.join("a/b/conf.d"))).await;
    watched.tells("a file in it", |root| write(&root.join("a/b/conf.d/1.toml"))).await;
    watched.tells("the other file", |root| write(&root.join("a/b/ca.pem"))).await;
    watched.tells("all removed", |root| fs::remove_dir_all(root.join("a")).expect("removed")).await;
    let again = |root: &Path| {
        folder(&root.join("a/b/conf.d"));
        write(&root.join("a/b/conf.d/1.toml"));
    };
    watched.tells("all at once again", again).await;
    watched.tells("a file in the new folder", |root| write(&root.join("a/b/conf.d/2.toml"))).await;
    let exchange = |root: &Path| {
        folder(&root.join("new/b/conf.d"));
        fs::rename(root.join("a"), root.join("old")).expect("renamed");
        fs::rename(root.join("new"), root.join("a")).expect("renamed");
    };
    watched.tells("exchanged high above", exchange).await;
    watched.is_quiet("in the old one", |root| write(&root.join("old/b/conf.d/2.toml"))).await;
    watched.tells("in the new one", |root| write(&root.join("a/b/conf.d/2.toml"))).await;
    let file = |root: &Path| {
        fs::remove_dir_all(root.join("a/b")).expect("removed");
        write(&root.join("a/b"));
    };
    watched.tells("a file in the place of a folder", file).await;
}

#[tokio::test]
async fn links_are_followed_at_every_step() {
    // As Kubernetes mounts a ConfigMap: file → ..data/file, ..data → ..1
    let prepare = |root: &Path| {
        folder(&root.join("mount/..1"));
        folder(&root.join("mount/..2"));
        write(&root.join("mount/..1/ca.pem"));
        write(&root.join("mount/..2/ca.pem"));
        symlink("..1", root.join("mount/..data")).expect("a link");
        symlink("..data/ca.pem", root.join("mount/ca.pem")).expect("a link");
        folder(&root.join("etc"));
        symlink(root.join("mount/../mount/ca.pem"), root.join("etc/ca.pem")).expect("a link");
    };
    let mut watched = Watched::new(&["etc/ca.pem"], prepare);
    watched.tells("the file at its end", |root| write(&root.join("mount/..1/ca.pem"))).await;
    let turn = |root: &Path| {
        symlink("..2", root.join("mount/..tmp")).expect("a link");
        fs::rename(root.join("mount/..tmp"), root.join("mount/..data")).expect("renamed");
    };
    watched.tells("a link in the middle", turn).await;
    watched.tells("the other file", |root| write(&root.join("mount/..2/ca.pem"))).await;
    watched.is_quiet("the file it led to before", |root| write(&root.join("mount/..1/ca.pem"))).await;
    let circle = |root: &Path| {
        fs::remove_file(root.join("mount/ca.pem")).expect("removed");
        symlink("ca.pem", root.join("mount/ca.pem")).expect("a link");
    };
    watched.tells("a circle", circle).await;
    let mend = |root: &Path| {
        fs::remove_file(root.join("mount/ca.pem")).expect("removed");
        write(&root.join("mount/ca.pem"));
    };
    watched.tells("mended", mend).await;
}

#[tokio::test]
async fn a_burst_is_told_once_and_without_end_it_is_told_soon() {
    let mut watched = Watched::new(&["conf.d"], |root| folder(&root.join("conf.d")));
    let burst = |root: &Path| {
        for number in 0..500 {
            write(&root.join(format!("conf.d/{number}.toml")));
        }
    };
    watched.tells("500 files", burst).await;

    let path = watched.root.path().join("conf.d/0.toml");
    let writer = tokio::spawn(async move {
        loop {
            write(&path);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let start = clock::boot();
    for _ in 0..2 {
        timeout(SOON, watched.watcher.changed()).await.expect("told, though it never settles");
    }
    let passed = clock::boot().since(start);
    assert!(passed < SOON, "{passed:?}");
    writer.abort();
}

#[tokio::test]
async fn more_than_the_kernel_queues_is_one_change() {
    let mut watched = Watched::new(&["conf.d/main.toml"], |root| folder(&root.join("conf.d")));
    let flood = |root: &Path| {
        let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("the limit");
        let limit: usize = limit.trim().parse().expect("a number");
        let (one, other) = (root.join("conf.d/a"), root.join("conf.d/b"));
        write(&one);
        // Nothing that matters, until the queue is full; then what matters is lost.
        for _ in 0..=limit / 4 {
            fs::rename(&one, &other).expect("renamed");
            fs::rename(&other, &one).expect("renamed");
        }
        write(&root.join("conf.d/main.toml"));
    };
    watched.tells("lost in the flood", flood).await;
    watched.tells("after it", |root| write(&root.join("conf.d/main.toml"))).await;
}

#[tokio::test]
async fn a_wait_that_is_given_up_loses_nothing() {
    let mut watched = Watched::new(&["main.toml"], |_| {});
    write(&watched.root.path().join("main.toml"));
    let mut told = 0;
    for _ in 0..400 {
        if timeout(Duration::from_millis(5), watched.watcher.changed()).await.is_ok() {
            told += 1;
        }
    }
    assert_eq!(told, 1);
}

#[tokio::test]
async fn other_paths_take_the_place_of_those_before_and_count_as_a_change() {
    let mut watched = Watched::new(&["one"], |_| {});
    let two = watched.root.path().join("two");
    watched.watcher.watch([two.clone()]).expect("watched");
    watched.tells("other paths", |_| {}).await;
    watched.tells("the new one", |root| write(&root.join("two"))).await;
    watched.watcher.watch([two]).expect("watched");
    watched.is_quiet("the same paths, and the old one", |root| write(&root.join("one"))).await;
}

#[tokio::test]
async fn what_cannot_be_watched_is_an_error_at_once() {
    assert!(Watcher::new([PathBuf::from("relative")]).is_err());
    assert!(Watcher::new((0..65).map(|number| PathBuf::from(format!("/nowhere/{number}")))).is_err());
    assert!(Watcher::new([PathBuf::from("/"), PathBuf::from("/nowhere/at/all")]).is_ok());
}

#[tokio::test]
async fn memory_stays_bounded_however_often_everything_is_made_anew() {
    let mut watched = Watched::new(&["a/conf.d", "a/main.toml"], |_| {});
    let mut most = 0;
    for _ in 0..20 {
        let root = watched.root.path().to_owned();
        folder(&root.join("a/conf.d"));
        write(&root.join("a/main.toml"));
        timeout(SOON, watched.watcher.changed()).await.expect("told");
        most = most.max(watched.watcher.watches.len());
        fs::remove_dir_all(root.join("a")).expect("removed");
        timeout(SOON, watched.watcher.changed()).await.expect("told");
    }
    let ours = fs::read_to_string(format!(
        "/proc/self/fdinfo/{}",
        std::os::fd::AsRawFd::as_raw_fd(watched.watcher.inotify.get_ref())
    ));
    let kernels = ours.expect("readable").lines().filter(|line| line.starts_with("inotify wd:")).count();
    assert_eq!(kernels, watched.watcher.watches.len());
    assert!(most <= 8, "{most} watches");
}

/// What a reader sees of the watched file and folder: contents, or that there is nothing.
fn seen(root: &Path) -> (Option<Vec<u8>>, Vec<Option<Vec<u8>>>) {
    let names = (0..3).map(|number| root.join(format!("a/b/conf.d/{number}")));
    (fs::read(root.join("a/b/main")).ok(), names.map(|path| fs::read(path).ok()).collect())
}

/// One of the things that can be done to the ways; most fail, for there is nothing or something in the place.
fn meddle(root: &Path, random: u64, text: &str) {
    let at = |name: &str| root.join(name);
    let file = at(&format!("a/b/conf.d/{}", random % 3));
    let _ = match random / 3 % 12 {
        0 | 1 => fs::create_dir_all(at("a/b/conf.d")),
        2 => fs::remove_dir_all(at("a/b")),
        3 => fs::remove_dir_all(at("a/b/conf.d")),
        4 => fs::rename(at("a/b"), at("a/c")),
        5 => fs::remove_dir_all(at("a/b")).and_then(|()| fs::rename(at("a/c"), at("a/b"))),
        6 => symlink("c", at("a/b")),
        7 => fs::remove_file(at("a/b")),
        8 => symlink("conf.d/0", at("a/b/main")),
        9 => fs::write(at("a/b/new"), text).and_then(|()| fs::rename(at("a/b/new"), at("a/b/main"))),
        10 => fs::write(file, text),
        _ => fs::remove_file(file),
    };
}

/// Whoever reads after each change that is told has read the last of them, whatever was done meanwhile.
#[tokio::test]
async fn nothing_is_missed_while_somebody_meddles_with_the_ways() {
    let mut watched = Watched::new(&["a/b/main", "a/b/conf.d"], |root| folder(&root.join("a/b/conf.d")));
    let mut random = 1_u64;
    let mut draw = move |below: u64| {
        // Knuth's MMIX; its high bits are good enough.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut read = seen(watched.root.path());
    for round in 0..16 {
        // In turns a few things, which must be seen by watches that are right, and many, while the ways are walked.
        let many = if round % 3 == 0 { 300 } else { 1 + draw(2) };
        let steps: Vec<(u64, Duration)> = (0..many).map(|_| (draw(36), Duration::from_millis(draw(4)))).collect();
        let root = watched.root.path().to_owned();
        let meddler = std::thread::spawn(move || {
            for (step, (choice, pause)) in steps.into_iter().enumerate() {
                meddle(&root, choice, &format!("{round} {step}"));
                std::thread::sleep(pause);
            }
        });
        let begun = clock::boot();
        loop {
            let was_finished = meddler.is_finished();
            if timeout(2 * SETTLE, watched.watcher.changed()).await.is_ok() {
                read = seen(watched.root.path());
            } else if was_finished && (read == seen(watched.root.path()) || clock::boot().since(begun) > SOON) {
                // What is still to be told may take longer on a machine that stalls.
                break;
            }
        }
        meddler.join().expect("no panic");
        assert_eq!(read, seen(watched.root.path()), "round {round}");
    }
}
