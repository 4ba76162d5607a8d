//! The names by which this machine is told from others: host name, machine id, serial number of its board.
//!
//! A name that many machines have in common (`localhost`, `To be filled by O.E.M.`) is none: two devices with one id would
//! throw each other out of their session for ever. Only facts; what is made of them, `config` and the model know.
//!
//! A fingerprint is made of what everybody may read (device tree, `/proc/cpuinfo`), else root and the service would see two
//! machines. The price is that a PC is known by its machine id alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::model::fingerprint::Fingerprint;

/// The longest file that is read for a name, in bytes.
const LONGEST: u64 = 4096;

/// Where a board tells its serial number, the first that is there. The device tree first: PC firmware is often told
/// nothing by its maker. Of DMI the board's own before the case's. (Documentation/ABI/testing/sysfs-firmware-ofw and
/// sysfs-class-dmi of the kernel.)
const SERIALS: [&str; 3] =
    ["proc/device-tree/serial-number", "sys/class/dmi/id/board_serial", "sys/class/dmi/id/product_serial"];

/// Where the kernel of an older Raspberry Pi tells the serial number of its board, as a line `Serial : …`.
const CPU: &str = "proc/cpuinfo";

/// What makers write where they have nothing to say, in lower case.
const SAYS_NOTHING: [&str; 11] = [
    "none",
    "n/a",
    "na",
    "default string",
    "not specified",
    "not applicable",
    "to be filled by o.e.m.",
    "system serial number",
    "base board serial number",
    "123456789",
    "0123456789abcdef",
];

/// The value of each specifier of `device.id` (`H`, `m`, `s`), or why there is none.
pub fn specifiers() -> BTreeMap<char, Result<String, String>> {
    let root = Path::new("/");
    [('H', host_name()), ('m', machine_id(root)), ('s', board_serial(root))].into()
}

/// What tells the machine whose files are below `root` (that is `/`) from others.
///
/// Only what everybody may read: what root alone sees would make another machine of it, depending on who asks.
pub fn fingerprint(root: &Path) -> Fingerprint {
    let serials = [read(&root.join(SERIALS[0])).ok(), cpu_serial(root)];
    let serial = serials.into_iter().flatten().find(|serial| !says_nothing(serial));
    // A machine that cannot keep an id is given one for this boot only (machine-id(5)); it is mounted over the file.
    let place = |file: &str| root.join(file).metadata().ok().map(|facts| (facts.dev(), facts.ino()));
    let (id, passing) = (place("etc/machine-id"), place("run/machine-id"));
    let machine_id = machine_id(root).ok().filter(|_| id != passing);
    Fingerprint::new(serial.as_deref(), machine_id.as_deref())
}

fn cpu_serial(root: &Path) -> Option<String> {
    // Of a machine with many cores the line, which comes last, may be beyond what is read; no such machine has one.
    let text = read(&root.join(CPU)).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("Serial")?.trim_start().strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

fn host_name() -> Result<String, String> {
    let system = rustix::system::uname();
    match system.nodename().to_str().map(str::trim) {
        Ok("" | "localhost" | "localhost.localdomain" | "(none)") => {
            Err("this machine has no host name yet".to_owned())
        }
        Ok(name) => Ok(name.to_owned()),
        Err(_) => Err("the host name is not UTF-8".to_owned()),
    }
}

/// machine-id(5): 32 lower-case hexadecimal digits, or `uninitialized` early in the first boot.
fn machine_id(root: &Path) -> Result<String, String> {
    let path = root.join("etc/machine-id");
    let text = read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let is_id = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_id && text.bytes().any(|byte| byte != b'0') {
        Ok(text)
    } else {
        Err(format!("{} holds no machine id", path.display()))
    }
}

fn board_serial(root: &Path) -> Result<String, String> {
    for file in SERIALS {
        let path = root.join(file);
        match read(&path) {
            Ok(serial) if says_nothing(&serial) => {}
            Ok(serial) => return Ok(serial),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Going on would give the device another id, depending on who asks.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(format!(
                    "only root may read {}; hint: take %m, or write the serial number to a file and take @/path",
                    path.display()
                ));
            }
            Err(error) => return Err(format!("{}: {error}", path.display())),
        }
    }
    Err("this board tells no serial number; hint: take %m or @/path".to_owned())
}

fn says_nothing(serial: &str) -> bool {
    SAYS_NOTHING.contains(&serial.to_lowercase().as_str())
        || serial.bytes().all(|byte| byte == b'0' || !byte.is_ascii_alphanumeric())
}

/// The text without the NUL that ends it in the device tree, and without white space around.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
    Ok(text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    fn machine(files: &[(&str, &str)]) -> TempDir {
        let root = TempDir::new().expect("a folder");
        for (file, text) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        root
    }

    #[test]
    fn the_serial_number_is_the_boards_own_and_never_what_all_boards_say() {
        const ID: &str = "sys/class/dmi/id";
        let [tree, board, product] = SERIALS;
        assert!(board.starts_with(ID) && product.starts_with(ID));
        for (files, serial) in [
            (&[(tree, "10000000d34d\0"), (board, "B1\n")][..], Some("10000000d34d")),
            (&[(board, " B1 \n"), (product, "P1\n")], Some("B1")),
            (&[(board, "To Be Filled By O.E.M.\n"), (product, "P1\n")], Some("P1")),
            (&[(tree, "0000000000000000\0"), (board, "...\n"), (product, "Default string\n")], None),
            (&[(board, "\n")], None),
            (&[], None),
        ] {
            assert_eq!(board_serial(machine(files).path()).ok().as_deref(), serial, "{files:?}");
        }
        let odd = machine(&[("proc/device-tree/serial-number/x", "")]);
        assert!(board_serial(odd.path()).expect_err("a folder").contains("serial-number: "));
    }

    #[test]
    fn a_machine_id_is_one_that_was_set() {
        let id = "0123456789abcdef0123456789abcdef";
        for (text, expected) in [
            (format!("{id}\n"), Some(id)),
            ("uninitialized\n".to_owned(), None),
            ("0".repeat(32), None),
            (String::new(), None),
            (id.to_uppercase(), None),
        ] {
            let root = machine(&[("etc/machine-id", &text)]);
            assert_eq!(machine_id(root.path()).ok().as_deref(), expected, "{text:?}");
        }
        assert!(machine_id(Path::new("/nowhere")).expect_err("no file").starts_with("/nowhere/etc/machine-id: "));
    }

    #[test]
    fn a_machine_is_told_from_others_by_what_everybody_may_read_and_what_stays() {
        let tree = SERIALS[0];
        let (id, other) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
        let pi = "processor : 0\nmodel name : ARMv6\n\nHardware : BCM2835\nSerial\t\t: 00000000d34db33f\n";
        for (files, serial, machine_id) in [
            (&[(tree, "10000000d34d\0"), ("etc/machine-id", id)][..], Some("10000000d34d"), Some(id)),
            (&[(CPU, pi)], Some("00000000d34db33f"), None),
            (&[(tree, "0000000000000000\0"), (CPU, "Serial : 0000000000000000\n")], None, None),
            (&[(tree, "0000000000000000\0"), (CPU, "Serial : 7\n")], Some("7"), None),
            // Only root may read it, and a service is not root.
            (&[(SERIALS[1], "B1"), (SERIALS[2], "P1"), ("etc/machine-id", id)], None, Some(id)),
            (&[("etc/machine-id", id), ("run/machine-id", other)], None, Some(id)),
            (&[("etc/machine-id", "uninitialized\n")], None, None),
            (&[], None, None),
        ] {
            assert_eq!(fingerprint(machine(files).path()), Fingerprint::new(serial, machine_id), "{files:?}");
        }
        let passing = machine(&[("run/machine-id", id), ("etc/other", "")]);
        let root = passing.path();
        fs::hard_link(root.join("run/machine-id"), root.join("etc/machine-id")).expect("one file in both places");
        assert!(fingerprint(root).is_unknown(), "it lasts until the next boot");
    }

    #[test]
    fn the_host_name_is_that_of_the_kernel() {
        let kernel = fs::read_to_string("/proc/sys/kernel/hostname").expect("readable");
        match host_name() {
            Ok(name) => assert_eq!(name, kernel.trim_end()),
            Err(_) => assert!(["", "localhost", "localhost.localdomain", "(none)"].contains(&kernel.trim_end())),
        }
        assert_eq!(specifiers().keys().collect::<String>(), "Hms");
    }
}
