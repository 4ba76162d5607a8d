//! Through an HTTP proxy: CONNECT (RFC 9110 section 9.3.6), and what the proxy says to that.
//!
//! The proxy is told the broker's name, so nothing here is resolved. A password goes to the proxy in clear text, as Basic
//! (RFC 7617) has it, and nowhere else. Sets no time limit; who calls it does.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::plain::status_line;
use crate::model::wire::{Reason, Secret};

/// The largest header of an answer, in bytes. Web servers send no more, so no proxy has to.
const HEADER_MAX: usize = 8 * 1024;

/// A proxy on the way to a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// A name or an address (IPv6 without brackets).
    pub host: String,
    pub port: u16,
    pub login: Option<ProxyLogin>,
}

/// Who we are to a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyLogin {
    /// Without a colon and control characters.
    pub user: String,
    /// Without control characters; may be empty.
    pub password: Secret,
}

impl Proxy {
    /// Has the proxy open a tunnel to this place over a connection to itself.
    pub(super) async fn tunnel(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        host: &str,
        port: u16,
    ) -> Result<(), Reason> {
        let refused = |words: &str| Reason::Proxy(format!("{}:{}: {words}", self.host, self.port));
        let lost = |error: std::io::Error| refused(&format!("the connection to it was lost: {error}"));
        // Onto the wire, and nowhere else.
        stream.write_all(self.request(host, port).reveal().as_bytes()).await.map_err(lost)?;
        let mut answer = Vec::new();
        loop {
            let mut space = [0; 1024];
            let count = stream.read(&mut space).await.map_err(lost)?;
            answer.extend_from_slice(&space[..count]);
            match judge(&answer, count == 0) {
                Verdict::Unclear => {}
                Verdict::Open => return Ok(()),
                Verdict::Refused(words) => return Err(refused(&words)),
                Verdict::Unwelcome(words) => {
                    return Err(Reason::ProxyLogin(format!("{}:{}: {words}", self.host, self.port)));
                }
            }
        }
    }

    fn request(&self, host: &str, port: u16) -> Secret {
        let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let login = self.login.as_ref().map_or(String::new(), |ProxyLogin { user, password }| {
            let pair = STANDARD.encode(format!("{user}:{}", password.reveal()));
            format!("Proxy-Authorization: Basic {pair}\r\n")
        });
        Secret::new(format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{login}\r\n"))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// More of the answer is needed.
    Unclear,
    Open,
    /// The words say why.
    Refused(String),
    /// It does not take our user and password.
    Unwelcome(String),
}

/// What the proxy said so far; `is_all`: and will ever say.
fn judge(answer: &[u8], is_all: bool) -> Verdict {
    let refused = |why: &str| Verdict::Refused(why.to_owned());
    if answer.is_empty() && is_all {
        return refused("it closed the connection instead of an answer");
    }
    let head = &answer[..answer.len().min(HEADER_MAX)];
    let Some(line) = head.iter().position(|byte| *byte == b'\n').map(|end| &head[..end]) else {
        if !begins_as_http(head) {
            return Verdict::Refused(format!("it does not speak HTTP: {}", status_line(head)));
        }
        return match (is_all, head.len() == HEADER_MAX) {
            (false, false) => Verdict::Unclear,
            _ => Verdict::Refused(format!("its answer breaks off: {}", status_line(head))),
        };
    };
    let shown = status_line(line);
    let Some(status) = status(line) else {
        return Verdict::Refused(format!("it does not speak HTTP: {shown}"));
    };
    let why = match status {
        200..=299 => return opened(head, answer.len(), is_all),
        407 => "it wants a user and a password, or others than `proxy` and `proxy_password_file` have",
        403 => "it allows no connection to this host and port",
        500..=599 => "it could not reach the broker",
        _ => "it does not open tunnels; is it a proxy at all?",
    };
    let words = format!("{shown}: {why}");
    if status == 407 { Verdict::Unwelcome(words) } else { Verdict::Refused(words) }
}

/// Judges a header that begins well: nothing may stand behind it, since no broker speaks first.
fn opened(head: &[u8], length: usize, is_all: bool) -> Verdict {
    // A lone line feed ends a line too (RFC 9112 section 2.2).
    let ends =
        |pattern: &[u8]| head.windows(pattern.len()).position(|part| part == pattern).map(|at| at + pattern.len());
    match [ends(b"\n\r\n"), ends(b"\n\n")].into_iter().flatten().min() {
        Some(end) if end == length => Verdict::Open,
        Some(_) => Verdict::Refused("it sent more than an answer, and no broker speaks first".to_owned()),
        None if length >= HEADER_MAX => {
            Verdict::Refused(format!("the header of its answer is larger than {HEADER_MAX} bytes"))
        }
        None if is_all => Verdict::Refused("its answer breaks off in the header".to_owned()),
        None => Verdict::Unclear,
    }
}

fn begins_as_http(head: &[u8]) -> bool {
    const VERSION: &[u8] = b"HTTP/1.";
    let count = head.len().min(VERSION.len());
    head[..count] == VERSION[..count]
}

/// The status of a status line (RFC 9112 section 4).
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let [b'0' | b'1', b' ', code @ ..] = rest else { return None };
    let (code, rest) = code.split_at_checked(3)?;
    if !rest.first().is_none_or(u8::is_ascii_whitespace) || !code.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(code).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxy(login: Option<(&str, &str)>) -> Proxy {
        let login = login
            .map(|(user, password)| ProxyLogin { user: user.to_owned(), password: Secret::new(password.to_owned()) });
        Proxy { host: "proxy".to_owned(), port: 3128, login }
    }

    #[test]
    fn the_request_names_the_place_and_who_asks() {
        assert_eq!(
            proxy(None).request("mqtt.example", 8883).reveal(),
            "CONNECT mqtt.example:8883 HTTP/1.1\r\nHost: mqtt.example:8883\r\n\r\n"
        );
        // The example of RFC 7617 section 2.
        assert_eq!(
            proxy(Some(("Aladdin", "open sesame"))).request("::1", 443).reveal(),
            "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"
        );
        assert!(!format!("{:?}", proxy(Some(("Aladdin", "open sesame")))).contains("sesame"));
    }

    #[test]
    fn only_2xx_and_nothing_behind_it_opens() {
        for good in
            ["HTTP/1.1 200 Connection established\r\n\r\n", "HTTP/1.0 200\n\n", "HTTP/1.1 204 x\r\nA: b\r\n\r\n"]
        {
            assert_eq!(judge(good.as_bytes(), false), Verdict::Open, "{good:?}");
            for end in 0..good.len() {
                assert_eq!(judge(&good.as_bytes()[..end], false), Verdict::Unclear, "{:?}", &good[..end]);
            }
        }
        for (bad, words) in [
            ("HTTP/1.1 407 Proxy Authentication Required\r\n", "`proxy_password_file`"),
            ("HTTP/1.1 403 Forbidden\n", "allows no connection"),
            ("HTTP/1.1 502 Bad Gateway\r\n", "could not reach"),
            ("HTTP/1.1 404 Not Found\r\n", "a proxy at all?"),
            ("HTTP/1.1 100 Continue\r\n\r\n", "a proxy at all?"),
            ("HTTP/1.1 200 OK\r\n\r\nx", "more than an answer"),
            ("HTTP/1.1 2000 OK\r\n", "does not speak HTTP"),
            ("HTTP/1.1 +20 OK\r\n", "does not speak HTTP"),
            ("HTTP/2 200\r\n", "does not speak HTTP"),
            ("SSH-2.0-OpenSSH", "does not speak HTTP: SSH-2.0-OpenSSH"),
            ("\u{5}\0", "does not speak HTTP"),
        ] {
            let verdict = judge(bad.as_bytes(), false);
            assert!(
                matches!(&verdict, Verdict::Refused(why) | Verdict::Unwelcome(why) if why.contains(words)),
                "{bad:?}: {verdict:?}"
            );
        }
        for cut in ["", "HTT", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n"] {
            assert!(matches!(judge(cut.as_bytes(), true), Verdict::Refused(_)), "{cut:?}");
        }
    }

    #[test]
    fn a_header_without_end_is_not_waited_for() {
        for begin in ["HTTP/1.1 200 OK\r\nA: ", "HTTP/1.1 200 "] {
            let answer = [begin.as_bytes(), &vec![b'x'; HEADER_MAX]].concat();
            assert_eq!(judge(&answer[..HEADER_MAX - 1], false), Verdict::Unclear);
            assert!(matches!(judge(&answer[..HEADER_MAX], false), Verdict::Refused(_)));
        }
    }

    fn answers() -> impl Strategy<Value = Vec<u8>> {
        let parts = prop_oneof![
            Just(b"HTTP/1.1 200 OK".to_vec()),
            Just(b"HTTP/1.".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\n".to_vec()),
            Just(b" 407 ".to_vec()),
            prop::collection::vec(any::<u8>(), 0..20),
            Just(vec![b'a'; 5000]),
        ];
        prop::collection::vec(parts, 0..8).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn every_answer_has_one_verdict_that_more_bytes_do_not_turn_into_open(answer in answers()) {
            let mut refused = false;
            for end in (0..=answer.len().min(9000)).step_by(1 + answer.len() / 300) {
                match judge(&answer[..end], false) {
                    Verdict::Open => {
                        prop_assert!(!refused);
                        prop_assert!(answer[..end].starts_with(b"HTTP/1.") && answer[..end].ends_with(b"\n"));
                    }
                    Verdict::Unclear => prop_assert!(!refused && end < HEADER_MAX),
                    Verdict::Refused(why) | Verdict::Unwelcome(why) => {
                        refused = true;
                        prop_assert!(why.len() < 300 && why.chars().all(|each| (' '..='~').contains(&each)), "{why:?}");
                    }
                }
            }
            prop_assert!(judge(&answer, true) != Verdict::Unclear);
        }
    }
}
