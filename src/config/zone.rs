//! The rules of a time zone, from the system's zoneinfo (tzfile(5)).
//!
//! Read with the configuration, so that the model gets them as a value. Bounded like every file that is read.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use rustix::fs::OFlags;

/// Where Debian's tzdata puts them.
const FOLDER: &str = "/usr/share/zoneinfo";
/// The longest name, in bytes; twice that of tzdata's own.
const LONGEST: usize = 64;
/// The largest file, in bytes; some twenty times the largest of tzdata.
const LARGEST: u64 = 64 * 1024;

/// The file of a zone; `None` where the text cannot be the name of one.
pub(super) fn file(name: &str) -> Option<PathBuf> {
    let fits = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphanumeric())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+-".contains(&byte))
    };
    (name.len() <= LONGEST && name.split('/').all(fits)).then(|| Path::new(FOLDER).join(name))
}

/// The rules. The error goes on after "the zone …". UTC needs no file.
pub(super) fn read(name: &str) -> Result<TimeZone, String> {
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    let path = file(name).ok_or("is no name of a time zone")?;
    let shown = path.display();
    let open = || OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(&path);
    let file = open().map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("is not known here: there is no {shown}; hint: is tzdata installed?"),
        _ => format!("cannot be read: {shown}: {error}"),
    })?;
    if !file.metadata().is_ok_and(|facts| facts.is_file()) {
        return Err(format!("is no time zone: {shown} is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {shown}: {error}"))?;
    TimeZone::tzif(name, &bytes).map_err(|_| format!("is no time zone: {shown} does not hold the rules of one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zones_of_this_machine_can_be_read() {
        for name in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+12"] {
            read(name).expect(name);
        }
        let summer = "2027-07-01T00:00:00Z".parse().expect("a time");
        let offset = read("Europe/Berlin").expect("a zone").to_offset(summer);
        assert_eq!(offset.seconds(), 7_200);
    }

    #[test]
    fn what_is_no_zone_says_why_and_leads_nowhere_else() {
        for (name, words) in [
            ("", "is no name"),
            ("/etc/passwd", "is no name"),
            ("../../../etc/passwd", "is no name"),
            ("Europe/../Europe/Berlin", "is no name"),
            ("tzdata.zi", "is no name"),
            (&"a".repeat(65), "is no name"),
            ("Mars/Base", "there is no /usr/share/zoneinfo/Mars/Base"),
            ("Europe", "is not a regular file"),
            ("leapseconds", "does not hold the rules of one"),
        ] {
            let error = read(name).expect_err(name);
            assert!(error.contains(words), "{name}: {error}");
        }
    }
}
