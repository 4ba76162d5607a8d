//! The opening of a WebSocket: a request in HTTP/1.1 and what is answered to it (RFC 6455 section 4, MQTT 3.1.1 section 6).
//!
//! Sets no time limit; who calls it does. An answer is read up to a bound, and what stands behind it is kept.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::super::plain::status_line;
use super::super::{Endpoint, distrust};
use crate::model::wire::{Reason, Schedule};

/// The largest header of an answer, in bytes. Web servers send no more.
const HEADER_MAX: usize = 8 * 1024;

/// What a server joins to our key, so that its answer proves that it has read it (RFC 6455 1.3).
const PROOF: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The name of MQTT among the subprotocols (MQTT 3.1.1 section 6).
const SUBPROTOCOL: &str = "mqtt";

/// Asks for a WebSocket on `path`, with 16 random bytes. What came behind the answer is returned: it is of the first frames.
pub(super) async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    endpoint: &Endpoint,
    path: &str,
    nonce: [u8; 16],
) -> Result<Vec<u8>, Reason> {
    let lost = |error: std::io::Error| {
        distrust::reason(&error).unwrap_or_else(|| Reason::Lost(format!("while the WebSocket was opened: {error}")))
    };
    let key = STANDARD.encode(nonce);
    stream.write_all(request(endpoint, path, &key).as_bytes()).await.map_err(lost)?;
    stream.flush().await.map_err(lost)?;
    let mut answer = Vec::new();
    loop {
        let mut space = [0; 1024];
        let count = stream.read(&mut space).await.map_err(lost)?;
        answer.extend_from_slice(&space[..count]);
        if let Some(end) = end_of_header(&answer) {
            let rest = answer.split_off(end);
            return judge(&answer, &key, endpoint.tls.is_some()).map(|()| rest);
        }
        if count == 0 || answer.len() > HEADER_MAX {
            return Err(no_websocket(&answer, endpoint.tls.is_some()));
        }
    }
}

fn request(endpoint: &Endpoint, path: &str, key: &str) -> String {
    let Endpoint { host, port, tls, .. } = endpoint;
    let name = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    // The port that goes without saying is left out (RFC 9110 section 7.2), as some servers compare the whole.
    let usual = if tls.is_some() { 443 } else { 80 };
    let place = if *port == usual { name } else { format!("{name}:{port}") };
    format!(
        "GET {path} HTTP/1.1\r\nHost: {place}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    )
}

fn end_of_header(answer: &[u8]) -> Option<usize> {
    answer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4).filter(|end| *end <= HEADER_MAX)
}

/// Why there is no WebSocket, by the status line of the answer. Within TLS nobody but the broker can have given it.
fn no_websocket(answer: &[u8], tls: bool) -> Reason {
    if !answer.starts_with(b"HTTP/") {
        return Reason::Protocol("the WebSocket was not answered in HTTP".to_owned());
    }
    if !tls {
        return Reason::CaptivePortal(status_line(answer));
    }
    if answer.starts_with(b"HTTP/1.1 101") {
        return Reason::Protocol("the header of the answer to the opening of the WebSocket has no end".to_owned());
    }
    let schedule = match answer.split(|byte| *byte == b' ').nth(1) {
        Some([b'5', ..] | [b'4', b'2', b'9', ..]) => Schedule::Busy,
        _ => Schedule::Refused,
    };
    Reason::WebSocket(schedule, status_line(answer))
}

/// Whether the answer opens what was asked for (RFC 6455 4.1).
fn judge(answer: &[u8], key: &str, tls: bool) -> Result<(), Reason> {
    let wrong = |what: &str| Reason::Protocol(format!("the server opened something else than this WebSocket: {what}"));
    let mut lines = answer.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let status = lines.next().unwrap_or_default();
    if !status.starts_with(b"HTTP/1.1 101") {
        return Err(no_websocket(status, tls));
    }
    let fields: Vec<(&[u8], &[u8])> = lines
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
        .collect();
    let all = |name: &'static str| fields.iter().filter(move |(found, _)| found.eq_ignore_ascii_case(name.as_bytes()));
    let only = |name: &'static str| {
        let mut found = all(name).map(|(_, value)| *value);
        found.next().filter(|_| found.next().is_none())
    };
    if !only("upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
        return Err(wrong("no `Upgrade: websocket`"));
    }
    let mut tokens = all("connection").flat_map(|(_, value)| value.split(|byte| *byte == b','));
    if !tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade")) {
        return Err(wrong("no `Connection: Upgrade`"));
    }
    if only("sec-websocket-accept") != Some(proof(key).as_bytes()) {
        return Err(wrong("its proof does not fit our key"));
    }
    if only("sec-websocket-protocol") != Some(SUBPROTOCOL.as_bytes()) {
        return Err(wrong("it does not speak the subprotocol `mqtt`"));
    }
    if all("sec-websocket-extensions").next().is_some() {
        return Err(wrong("an extension that nobody asked for"));
    }
    Ok(())
}

fn proof(key: &str) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{PROOF}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn endpoint(host: &str, port: u16) -> Endpoint {
        Endpoint { host: host.to_owned(), port, tls: None, proxy: None, websocket: None }
    }

    /// RFC 6455 section 1.3 has this pair.
    #[test]
    fn the_proof_is_that_of_the_standard() {
        assert_eq!(proof(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn the_host_is_named_with_its_port_unless_that_goes_without_saying() {
        for (host, port, named) in [
            ("hub.example", 80, "Host: hub.example\r\n"),
            ("hub.example", 81, ":81\r\n"),
            ("::1", 81, "Host: [::1]:81\r\n"),
        ] {
            let request = request(&endpoint(host, port), "/path?query", KEY);
            assert!(request.starts_with("GET /path?query HTTP/1.1\r\n") && request.contains(named), "{request}");
            assert!(request.contains("Sec-WebSocket-Protocol: mqtt\r\n") && request.ends_with("\r\n\r\n"), "{request}");
        }
    }

    #[test]
    fn within_tls_it_is_the_broker_that_says_no_and_its_status_says_for_how_long() {
        for (status, schedule) in [
            ("200 OK", Schedule::Refused),
            ("302 Found", Schedule::Refused),
            ("401 Unauthorized", Schedule::Refused),
            ("403 Forbidden", Schedule::Refused),
            ("404 Not Found", Schedule::Refused),
            ("429 Too Many Requests", Schedule::Busy),
            ("500 Internal Server Error", Schedule::Busy),
            ("503", Schedule::Busy),
            ("", Schedule::Refused),
        ] {
            let line = format!("HTTP/1.1 {status}");
            let answer = format!("{line}\r\nContent-Length: 0\r\n\r\n");
            let line = line.trim_end().to_owned();
            assert_eq!(judge(answer.as_bytes(), KEY, true), Err(Reason::WebSocket(schedule, line.clone())));
            assert_eq!(judge(answer.as_bytes(), KEY, false), Err(Reason::CaptivePortal(line)));
        }
    }

    #[test]
    fn nothing_but_what_was_asked_for_is_taken() {
        let right = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
            proof(KEY)
        );
        assert_eq!(judge(right.as_bytes(), KEY, true), Ok(()));
        for (from, to, told) in [
            ("101", "404", "404"),
            ("HTTP/1.1 101", "SSH-2.0", "not answered in HTTP"),
            ("upgrade: WebSocket", "upgrade: h2c", "Upgrade: websocket"),
            ("Connection: keep-alive, Upgrade", "Connection: close", "Connection: Upgrade"),
            ("s3pPLM", "s3pPLN", "proof"),
            ("Protocol: mqtt", "Protocol: amqp", "subprotocol"),
            ("Sec-WebSocket-Protocol: mqtt\r\n", "", "subprotocol"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", "extension"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Protocol: amqp\r\n\r\n", "subprotocol"),
        ] {
            let wrong = right.replace(from, to);
            assert_ne!(wrong, right);
            let told_of = judge(wrong.as_bytes(), KEY, true).expect_err(told).to_string();
            assert!(told_of.contains(told), "{told_of}");
        }
    }
}
