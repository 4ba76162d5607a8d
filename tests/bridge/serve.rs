//! `twinagent-bridge serve` as a process: what it prints, and how it ends.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

/// A bridge that has said where it is; it ends with this value.
struct Served {
    bridge: Child,
    line: Value,
}

impl Served {
    fn start(data: &Path, arguments: &[&str]) -> Self {
        let mut bridge = serve(data, arguments);
        let mut line = String::new();
        BufReader::new(bridge.stdout.take().expect("it is piped")).read_line(&mut line).expect("a line");
        Self { line: serde_json::from_str(&line).expect("JSON"), bridge }
    }

    /// Speaks TLS with the listener of this name, trusting nobody but `ca`, and only a server of this host name.
    fn tls(&self, listener: &str, host: &str) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let address = self.line[listener].as_str().expect("an address");
        let port = address.rsplit_once(':').expect("a port").1.parse::<u16>().expect("a number");
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(self.line["ca"].as_str().expect("a path"));
        roots.add(authority.expect("a certificate")).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).expect("a name");
        let client = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut stream = StreamOwned::new(client, TcpStream::connect(("127.0.0.1", port)).expect("it listens"));
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.bridge.kill();
        let _ = self.bridge.wait();
    }
}

/// The status of the answer to a GET with these headers.
fn status(mut stream: impl io::Read + io::Write, headers: &str) -> u16 {
    let path = "/v1/projects/my-project/locations/us-central1/registries";
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line")
}

fn serve(data: &Path, listeners: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_twinagent-bridge"))
        .arg("serve")
        .arg("--data")
        .arg(data)
        .args(listeners)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

#[test]
fn one_line_says_where_it_is_and_a_signal_ends_it_cleanly() {
    let folder = tempfile::tempdir().expect("a folder");
    for signal in [Signal::TERM, Signal::INT] {
        let mut bridge = serve(folder.path(), &["--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        let mut out = BufReader::new(bridge.stdout.take().expect("it is piped"));
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        let mqtt = line["mqtt"].as_str().expect("an address");
        let http = line["http"].as_str().and_then(|url| url.strip_prefix("http://")).expect("a URL");
        for address in [mqtt, http] {
            TcpStream::connect(address).expect("it listens");
        }
        assert_eq!(line["ca"].as_str(), folder.path().join("ca.pem").to_str());
        assert!(line.get("mqtts").is_none() && line.get("https").is_none(), "what was not named is off: {line}");

        let pid = Pid::from_child(&bridge);
        kill_process(pid, signal).expect("it runs");
        assert!(bridge.wait().expect("it ends").success());
        let mut rest = String::new();
        out.read_to_string(&mut rest).expect("the end");
        assert_eq!(rest, "");
    }
}

#[test]
fn what_cannot_be_served_is_said_in_one_line_with_a_hint() {
    let folder = tempfile::tempdir().expect("a folder");
    for listener in ["--http", "--https"] {
        let bridge = serve(folder.path(), &[listener, "0.0.0.0:0"]).wait_with_output().expect("it ends");
        assert_eq!(bridge.status.code(), Some(1), "{listener}");
        let text = String::from_utf8(bridge.stderr).expect("a text");
        assert!(text.contains("could be reached from other machines") && text.contains("hint: "), "{text}");
        assert!(bridge.stdout.is_empty());
    }
    let usage = serve(folder.path(), &["--no-such"]).wait_with_output().expect("it ends");
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn both_tls_listeners_go_by_each_name_that_was_given_and_by_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let listeners = ["--mqtts", "127.0.0.1:0", "--https", "127.0.0.1:0"];
    let names = ["--name", "bridge.test", "--name", "*.fleet.test", "--name", "192.0.2.7"];
    let served = Served::start(folder.path(), &[&listeners[..], &names].concat());
    for host in ["localhost", "127.0.0.1", "bridge.test", "a.fleet.test", "192.0.2.7"] {
        assert_eq!(status(served.tls("https", host).expect("trusted"), ""), 200, "{host}");
        let mut mqtts = served.tls("mqtts", host).expect("trusted");
        // A CONNECT of a protocol level that is not spoken: answered by code 1.
        mqtts.write_all(b"\x10\x0f\0\x04MQTT\x05\x02\0\x3c\0\x03abc").expect("sent");
        let mut connack = [0; 4];
        mqtts.read_exact(&mut connack).expect("an answer");
        assert_eq!(connack, [0x20, 2, 0, 1], "{host}");
    }
    for host in ["other.test", "fleet.test", "192.0.2.8"] {
        for listener in ["mqtts", "https"] {
            assert!(served.tls(listener, host).is_err(), "{listener} as {host}");
        }
    }
    drop(served);

    // Without the names it is another certificate of the same authority.
    let served = Served::start(folder.path(), &listeners);
    assert!(served.tls("https", "bridge.test").is_err());
    assert_eq!(status(served.tls("https", "localhost").expect("trusted"), ""), 200);
}

#[test]
fn the_first_line_of_the_token_file_is_what_rest_asks_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "  s3cret-1\nnot this\n").expect("written");
    let file = token.to_str().expect("a text");
    let listeners = ["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--token-file", file];
    let served = Served::start(folder.path(), &listeners);
    for (headers, expected) in [
        ("", 401),
        ("authorization: Bearer\r\n", 401),
        ("authorization: Bearer not this\r\n", 401),
        ("authorization: Bearer s3cret-\r\n", 401),
        ("authorization: Bearer s3cret-1\r\n", 200),
    ] {
        let http = served.line["http"].as_str().and_then(|url| url.strip_prefix("http://")).expect("a URL");
        assert_eq!(status(TcpStream::connect(http).expect("it listens"), headers), expected, "{headers}");
        assert_eq!(status(served.tls("https", "localhost").expect("trusted"), headers), expected, "{headers}");
    }
    drop(served);

    for (why, content) in [("cannot read the token file", None), ("is empty", Some("\ns3cret\n"))] {
        // Still there from before, or gone.
        let _ = std::fs::remove_file(&token);
        if let Some(content) = content {
            std::fs::write(&token, content).expect("written");
        }
        let ended = serve(folder.path(), &listeners).wait_with_output().expect("it ends");
        let text = String::from_utf8(ended.stderr).expect("a text");
        assert!(ended.status.code() == Some(1) && text.contains(why) && text.contains(file), "{why}: {text}");
    }
}
