//! The HTTP proxy on the way to the cloud, as a configuration says it.
//!
//! Its password is in a file of its own. A text that holds one all the same is never repeated, so every error here is a fixed
//! sentence.

use std::path::{Path, PathBuf};

use super::key_file::{self, KeyFileError};
use super::rules;
use crate::model::wire::Secret;

/// The longest password, in bytes: with it the header of a request is far smaller than what any proxy takes.
const PASSWORD_MAX: usize = 1024;

/// An HTTP proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// A host name or an IP address (IPv6 without brackets).
    pub host: String,
    pub port: u16,
    /// Up to 255 visible ASCII characters without a colon.
    pub user: Option<String>,
    /// Absolute. Only where there is a user.
    pub password_file: Option<PathBuf>,
}

impl Proxy {
    /// Reads `http://user@host:port`; the user may be missing. The error ends "`session.proxy` is …".
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "not a proxy: \"http://host:port\" or \"http://user@host:port\" is expected";
        let Some(rest) = text.strip_prefix("http://") else {
            return Err(if text.starts_with("https://") {
                "not taken: the way to the proxy is plain HTTP (\"http://…\"); what goes through it is TLS all the same"
            } else {
                FORM
            });
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err("not taken: a password does not belong into the URL; put it into a file and name that \
                        with `proxy_password_file`");
        }
        let is_odd = |user: &str| {
            !(1..=255).contains(&user.len()) || user.contains('%') || !user.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if user.is_some_and(is_odd) {
            return Err("not taken: its user is not 1 to 255 visible ASCII characters, written as they are, without %");
        }
        let (host, port) = place.rsplit_once(':').ok_or(FORM)?;
        let host = match host.strip_prefix('[') {
            Some(address) => address.strip_suffix(']').filter(|address| address.contains(':')).ok_or(FORM)?,
            // An IPv6 address without brackets could as well be one with a port.
            None => Some(host).filter(|host| !host.contains(':')).ok_or(FORM)?,
        };
        let host = rules::host(host).map_err(|_| FORM)?;
        let is_number = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| is_number && *port > 0).ok_or(FORM)?;
        Ok(Self { host, port, user: user.map(str::to_owned), password_file: None })
    }

    /// As [`Proxy::parse`] takes it.
    pub(super) fn url(&self) -> String {
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("http://{user}{host}:{}", self.port)
    }
}

/// The password in a `proxy_password_file`: the one line of a file that is kept as well as a key is. The error names the file,
/// says what is wrong with it, and never what it holds.
pub fn read_password(path: &Path) -> Result<Secret, String> {
    let file = key_file::read_any(path.to_owned()).map_err(|error| {
        let path = path.display();
        match &error {
            KeyFileError::Absent(_) => format!("proxy_password_file {path}: there is no such file"),
            KeyFileError::Unreadable { source, .. } => {
                format!("proxy_password_file {path}: {source}; {}", error.remedy().unwrap_or_default())
            }
            KeyFileError::TooOpen { found, mend, .. } => {
                format!("proxy_password_file {path}: it is open to others ({found}); mend it with: {mend}")
            }
            _ => format!("proxy_password_file {path}: one line of text is expected"),
        }
    })?;
    let text = file.text.reveal();
    let line = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    // No control characters (RFC 7617 section 2), so none that would end a line of the header either.
    if line.is_empty() || line.len() > PASSWORD_MAX || line.chars().any(char::is_control) {
        let path = path.display();
        return Err(format!("proxy_password_file {path}: one line of 1 to {PASSWORD_MAX} bytes is expected"));
    }
    Ok(Secret::new(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_password_is_one_line_of_a_file_that_is_kept_well() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        let read = |text: &[u8], mode| {
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
            read_password(&path)
        };
        for (text, expected) in [("s3cret", "s3cret"), ("s3cret\n", "s3cret"), ("p: w\u{e4}\r\n", "p: w\u{e4}")] {
            assert_eq!(read(text.as_bytes(), 0o600).expect("one line").reveal(), expected);
        }
        for bad in [&b""[..], b"\n", b"one\ntwo\n", b"a\0b", b"a\r\nHost: b", b"\xff", &[b'x'; PASSWORD_MAX + 1]] {
            let why = read(bad, 0o600).expect_err("no password");
            assert!(why.contains("one line") && why.contains(&path.display().to_string()), "{why}");
        }
        let why = read(b"s3cret", 0o644).expect_err("open to others");
        assert!(why.contains("mend it with: ") && !why.contains("s3cret"), "{why}");
        assert!(read_password(&folder.path().join("none")).expect_err("absent").contains("no such file"));
    }

    #[test]
    fn a_proxy_is_a_place_and_perhaps_a_user() {
        for url in [
            "http://proxy.example:3128",
            "http://gw-1@10.0.0.1:80",
            "http://CORP\\gw@corp@[fe80::1]:65535",
            "http://a:1",
        ] {
            assert_eq!(Proxy::parse(url).map(|proxy| proxy.url()).as_deref(), Ok(url));
        }
        let mail = Proxy::parse("http://gw@corp.example@proxy:8080/").expect("the last @ counts");
        assert_eq!((mail.user.as_deref(), mail.host.as_str()), (Some("gw@corp.example"), "proxy"));
        for bad in [
            "",
            "http://",
            "proxy:3128",
            "socks5://proxy:1080",
            "http://proxy",
            "http://proxy:",
            "http://proxy:0",
            "http://proxy:+80",
            "http://proxy:65536",
            "http://proxy:3128/path",
            "http://::1:3128",
            "http://[proxy]:3128",
            "http://[::1:3128",
            "http://@proxy:3128",
            "http://a b@proxy:3128",
            "http://a%40b@proxy:3128",
            "http:// proxy:1",
        ] {
            assert!(Proxy::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Proxy::parse("https://proxy:443").expect_err("TLS to the proxy").contains("plain HTTP"));
        assert!(Proxy::parse("http://u:secret@proxy:3128").expect_err("a password").contains("`proxy_password_file`"));
    }

    proptest! {
        #[test]
        fn what_is_read_is_read_again_from_what_is_shown(text in "(http://)?[a-z@:\\[\\]./%0-9-]{0,30}") {
            if let Ok(proxy) = Proxy::parse(&text) {
                prop_assert_eq!(Proxy::parse(&proxy.url()), Ok(proxy));
            }
        }
    }
}
