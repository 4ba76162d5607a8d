//! Whom we do not trust, and in which words: real certificates and real peers, openssl's among them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use twinagent::model::wire::{Reason, TlsFault};
use twinagent::mqtt::{Event, Order, connect};

use crate::authority::{Authority, Shown, listen};
use crate::broker::next;

/// A TLS server of openssl.
struct Peer {
    program: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Peer {
    fn start(shown: &Shown, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&certificate, &shown.certificate).expect("written");
        std::fs::write(&key, &shown.key).expect("written");
        let mut program = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert"])
            .arg(certificate)
            .arg("-key")
            .arg(key)
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed");
        let mut said = BufReader::new(program.stdout.take().expect("piped")).lines();
        let place = said.find_map(|line| Some(line.ok()?.strip_prefix("ACCEPT ")?.to_owned())).expect("it listens");
        // It goes on talking, and must find a reader.
        std::thread::spawn(move || said.count());
        let port = place.rsplit(':').next().and_then(|port| port.trim().parse().ok()).expect("a port");
        Self { program, port, _folder: folder }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

async fn end(order: Order) -> Reason {
    match next(&mut connect(order)).await {
        Event::Ended(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_told_by_its_kind_and_in_words() {
    let (ours, theirs, impostor) = (Authority::new("ours"), Authority::new("theirs"), Authority::new("ours"));
    let named = |names: &[&str]| {
        ours.shown(|params| {
            params.subject_alt_names =
                names.iter().map(|name| rcgen::SanType::DnsName((*name).try_into().expect("a name"))).collect();
        })
    };
    let until = |year| {
        ours.shown(|params| {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(year, 2, 3);
        })
    };
    let from_2200 = ours.shown(|params| {
        params.not_before = rcgen::date_time_ymd(2200, 4, 5);
        params.not_after = rcgen::date_time_ymd(2300, 1, 1);
    });
    let cases = [
        (named(&["elsewhere.example"]), TlsFault::Name, "not for localhost; it is for elsewhere.example"),
        (
            named(&["a.example", "b.example", "c.example", "d.example", "e.example", "*.f.example", "g.example"]),
            TlsFault::Name,
            "e.example and 2 more",
        ),
        (until(2002), TlsFault::Expired, "expired at 2002-02-03T00:00:00.000000Z, and the clock"),
        (from_2200, TlsFault::NotYetValid, "begins at 2200-04-05T00:00:00.000000Z, and the clock"),
        (theirs.shown(|_| ()), TlsFault::UnknownAuthority, "no authority that we trust"),
        (impostor.shown(|_| ()), TlsFault::UnknownAuthority, "another key than its own"),
        (Authority::shown_by_itself(false), TlsFault::UnknownAuthority, "no authority that we trust"),
        (Authority::shown_by_itself(true), TlsFault::UnknownAuthority, "perhaps signed by itself"),
    ];
    for (shown, expected, words) in cases {
        let peer = Peer::start(&shown, &[]);
        let reason = end(ours.order("localhost", peer.port)).await;
        assert!(
            matches!(&reason, Reason::Tls(fault, said) if *fault == expected && said.contains(words)),
            "{words}: {reason:?}"
        );
    }
    // The control: nothing is wrong with the certificate, and it is no broker.
    let mut order = ours.order("localhost", 0);
    let peer = Peer::start(&ours.shown(|_| ()), &[]);
    order.endpoint.port = peer.port;
    let reason = end(order).await;
    assert!(matches!(&reason, Reason::TimedOut { stage, .. } if stage.contains("CONNACK")), "{reason:?}");
}

#[tokio::test]
async fn who_speaks_only_what_is_too_old_or_unknown_is_told_so() {
    let ours = Authority::new("ours");
    let cases: [&[&str]; 4] = [
        &["-tls1", "-cipher", "DEFAULT@SECLEVEL=0"],
        &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "AES128-SHA"],
        &["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"],
    ];
    for options in cases {
        let peer = Peer::start(&ours.shown(|_| ()), options);
        let reason = end(ours.order("localhost", peer.port)).await;
        assert!(matches!(&reason, Reason::Tls(TlsFault::Version, _)), "{options:?}: {reason:?}");
    }
}

#[tokio::test]
async fn who_wants_a_certificate_of_ours_is_told_so() {
    let ours = Authority::new("ours");
    // With TLS 1.3 the refusal comes when we already wait for the CONNACK.
    for (version, expected) in [("-tls1_3", "wants a certificate"), ("-tls1_2", "no version or cipher")] {
        let peer = Peer::start(&ours.shown(|_| ()), &[version, "-Verify", "1"]);
        let reason = end(ours.order("localhost", peer.port)).await;
        assert!(matches!(&reason, Reason::Tls(_, words) if words.contains(expected)), "{version}: {reason:?}");
    }
}

#[tokio::test]
async fn what_answers_in_no_tls_at_all() {
    let cases: [(&[u8], &str); 4] = [
        (b"", "closed the connection instead"),
        (b"220 mail.example ESMTP\r\n", "does not speak TLS"),
        (b"\x20\x02\0\x05", "does not speak TLS"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "does not speak TLS"),
    ];
    for (says, words) in cases {
        let (listener, port) = listen().await;
        let mut link = connect(Authority::new("ours").order("localhost", port));
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.write_all(says).await.expect("written");
        stream.shutdown().await.expect("closed");
        let end = next(&mut link).await;
        assert!(
            matches!(&end, Event::Ended(Reason::Tls(TlsFault::Other, said)) if said.contains(words)),
            "{says:?}: {end:?}"
        );
    }
}

#[tokio::test]
async fn a_captive_portal_is_told_by_its_first_line_and_sees_nothing_of_a_login() {
    let status = "HTTP/1.1 302 Found";
    let page = format!("{status}\r\nLocation: http://portal.example/?\r\n\r\n");
    for (first, rest) in [(page.as_str(), ""), ("HTTP/1.1", " 302 Found\r\n")] {
        let (listener, port) = listen().await;
        let mut link = connect(Authority::new("ours").order("localhost", port));
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.write_all(first.as_bytes()).await.expect("written");
        tokio::time::sleep(Duration::from_millis(50)).await;
        stream.write_all(rest.as_bytes()).await.expect("written");
        assert_eq!(next(&mut link).await, Event::Ended(Reason::CaptivePortal(status.to_owned())));
        let mut seen = Vec::new();
        stream.read_to_end(&mut seen).await.expect("closed");
        assert_eq!(seen.first(), Some(&0x16), "a handshake of TLS");
        assert!(!seen.windows(8).any(|part| part == b"device-1" || part == b"top secr"));
    }
}
