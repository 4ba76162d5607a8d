//! The HTTP proxy on the way to the cloud, as a configuration says it.
//!
//! Its password is in a file of its own. A text that holds one all the same is never repeated, so every error here is a fixed
//! sentence.

use std::path::PathBuf;

use super::rules;

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
