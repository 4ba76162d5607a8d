//! How the broker is reached, and what lasts from one connection to the next: trust with its sessions of TLS, and names.
//!
//! Opens no connection itself; `mqtt` does. Files are read off the loop.

use std::path::Path;

use anyhow::Context as _;

use crate::config::key_file::{self, KeyFileError};
use crate::config::{Config, IotCore};
use crate::model::wire::{Reason, Secret};
use crate::mqtt::tls::Trust;
use crate::mqtt::{Approach, Endpoint, Proxy, ProxyLogin, Resolver};

/// The longest password of a proxy, in bytes: with it the header of a request is far smaller than what any proxy takes.
const PASSWORD_MAX: usize = 1024;

pub(super) struct Route {
    /// Of the last connection. As long as the roots are the same it is kept, for the sessions that it knows.
    trust: Option<Trust>,
    resolver: Resolver,
}

impl Route {
    /// Needs the tokio runtime in which connections will be made.
    pub(super) fn new() -> Self {
        Self { trust: None, resolver: Resolver::start() }
    }

    /// The way to this broker, for who trusts these roots; none is without TLS.
    pub(super) fn to(
        &mut self,
        cloud: &IotCore,
        config: &Config,
        roots: Option<Trust>,
        proxy: Option<Proxy>,
    ) -> Approach {
        if self.trust != roots {
            self.trust = roots;
        }
        Approach {
            endpoint: Endpoint { host: cloud.host.clone(), port: cloud.port, tls: self.trust.clone(), proxy },
            keep_alive: config.session.keep_alive,
            connect_timeout: config.session.connect_timeout,
            resolver: self.resolver.clone(),
        }
    }
}

/// The proxy on the way to this broker, with the password that its file has now. The inner error is why it cannot be used.
pub(super) async fn proxy(config: &Config, cloud: &IotCore) -> anyhow::Result<Result<Option<Proxy>, Reason>> {
    let Some(proxy) = config.proxy_to(cloud) else { return Ok(Ok(None)) };
    let password = match proxy.password_file.clone() {
        Some(path) => off_the_loop(move || password(&path)).await?,
        None => Ok(Secret::new(String::new())),
    };
    Ok(password.map_err(Reason::Proxy).map(|password| {
        let login = proxy.user.clone().map(|user| ProxyLogin { user, password });
        Some(Proxy { host: proxy.host.clone(), port: proxy.port, login })
    }))
}

/// The one line of a file that is kept as well as a key is.
fn password(path: &Path) -> Result<Secret, String> {
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

async fn off_the_loop<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("the reading of a file for the connection ended in a panic")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_password_is_one_line_of_a_file_that_is_kept_well() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        let read = |text: &[u8], mode| {
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
            password(&path)
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
        assert!(password(&folder.path().join("none")).expect_err("absent").contains("no such file"));
    }
}
