//! What this machine runs, for people who look after many.

use std::fs::File;
use std::io::Read as _;

/// The most of `/etc/os-release` that is read, in bytes.
const LARGEST: u64 = 64 * 1_024;

/// Operating system and architecture in Debian's words, such as `Debian 12 arm64`; see `os-release(5)`.
pub fn describe() -> Option<String> {
    let mut text = String::new();
    File::open("/etc/os-release").ok()?.take(LARGEST).read_to_string(&mut text).ok()?;
    name(&text, std::env::consts::ARCH)
}

fn name(os_release: &str, architecture: &str) -> Option<String> {
    let value = |key: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim_matches(['"', '\'']).chars().filter(|letter| !letter.is_control()).take(64).collect::<String>())
    };
    // The first word is the name; "GNU/Linux" says nothing.
    let name = value("NAME")?.split_whitespace().next()?.to_owned();
    let architecture = match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "armhf",
        other => other,
    };
    let words = [Some(name), value("VERSION_ID"), Some(architecture.to_owned())];
    Some(words.into_iter().flatten().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_are_called_as_people_call_them() {
        let debian = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n";
        assert_eq!(name(debian, "aarch64").as_deref(), Some("Debian 12 arm64"));
        assert_eq!(name("NAME=Arch\n", "x86_64").as_deref(), Some("Arch amd64"));
        assert_eq!(name("", "x86_64"), None);
    }
}
