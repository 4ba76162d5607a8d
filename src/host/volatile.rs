//! Whether a folder is forgotten at the next boot.
//!
//! Known by the kind of its file system (statfs(2)); what follows from it, the model decides.

use std::io;
use std::path::Path;

use rustix::fs::statfs;

/// Kinds that live in memory, or in a layer that images with a read-only root put there (linux/magic.h). An overlay may
/// also lie on a disk, but that cannot be told from here, and to believe too little costs less than to believe too much.
const KINDS: [(u32, &str); 3] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs"), (0x794c_7630, "overlay")];

/// The kind of file system by which what is in the folder is gone after a reboot; `None`: it stays.
pub fn kind(folder: &Path) -> io::Result<Option<&'static str>> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "32 bits, in a field as wide as a long")]
    let magic = statfs(folder)?.f_type as u32;
    Ok(KINDS.iter().find(|(kind, _)| *kind == magic).map(|(_, name)| *name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_from_a_disk() {
        assert_eq!(kind(Path::new("/dev/shm")).expect("it is there"), Some("tmpfs"));
        assert_eq!(kind(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("it is there"), None);
        assert!(kind(Path::new("/nonexistent")).is_err());
    }
}
