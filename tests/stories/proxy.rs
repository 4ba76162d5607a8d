//! Stories of a device whose only way out is an HTTP proxy.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, Setup};
use crate::log::Log;
use crate::program::status;

on_both_clouds! {
    the_way_leads_through_a_proxy_that_wants_a_password_and_tls_is_resumed_behind_it,
}

/// A name that only the proxy knows. The certificate of the stand-in cloud has it.
const BEHIND: &str = "mqtt.invalid";

/// A proxy that asks for a password and knows one host, and that tells what it was asked.
async fn serve(listener: TcpListener, asked: mpsc::Sender<String>, mut cut: mpsc::Receiver<()>) {
    let mut tunnels = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.expect("a connection");
                tunnels.spawn(tunnel(stream, asked.clone()));
            }
            Some(()) = cut.recv() => tunnels.abort_all(),
        }
    }
}

async fn tunnel(mut near: TcpStream, asked: mpsc::Sender<String>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = near.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).expect("text");
    let place = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).expect("a place").to_owned();
    let knows_us = head.contains("Proxy-Authorization: Basic Z3ctMTpzM2NyZXQ=\r\n");
    asked.send(head).await.expect("somebody listens");
    if !knows_us {
        near.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.expect("written");
        return;
    }
    let port = place.strip_prefix(BEHIND).and_then(|port| port.strip_prefix(':')).expect("the one host");
    let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, port.parse().expect("a port"))).await.expect("the cloud");
    near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.expect("written");
    // However it ends, both sides are closed.
    let _ = copy_bidirectional(&mut near, &mut far).await;
}

async fn the_way_leads_through_a_proxy_that_wants_a_password_and_tls_is_resumed_behind_it(kind: Kind) {
    let log = Log::listen();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    let (ask, mut asked) = mpsc::channel(64);
    let (cut, cuts) = mpsc::channel(1);
    let proxy = tokio::spawn(serve(listener, ask, cuts));

    let config = "[session]\nbackoff_max = \"1s\"\nbackoff_max_refused = \"1s\"\n";
    let mut device = Device::new(Setup { tls: true, host: BEHIND, config, ..Setup::on(kind) }).await;
    let password = device.path("etc/keys/proxy-password");
    let write = |text: &str| {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut file = std::fs::OpenOptions::new();
        let mut file = file.write(true).create(true).truncate(true).mode(0o600).open(&password).expect("a file");
        std::io::Write::write_all(&mut file, text.as_bytes()).expect("written");
    };
    write("wrong\n");
    std::fs::create_dir(device.path("etc/conf.d")).expect("a folder");
    let drop_in = format!(
        "{} = \"{BEHIND}\"\nsession.proxy = \"http://gw-1@127.0.0.1:{port}\"\n\
         session.proxy_password_file = \"{}\"\n",
        kind.way(),
        password.display()
    );
    std::fs::write(device.path("etc/conf.d/proxy.toml"), drop_in).expect("a file");

    device.start();
    log.wait_for("the proxy does not let us through: 127.0.0.1").await;
    assert!(log.text().contains("hint: check `proxy` under [session]"), "{}", log.text());
    assert_eq!(device.logins().await, 0);
    write("s3cret\n");
    device.wait_until_ready().await;
    while let Ok(head) = asked.try_recv() {
        assert!(head.starts_with(&format!("CONNECT {BEHIND}:")), "never resolved here: {head}");
    }
    status(&device, |status| status.pointer("/session/tls").is_some_and(|tls| tls == "full")).await;

    cut.send(()).await.expect("the proxy serves");
    device.wait_until_ready().await;
    status(&device, |status| status.pointer("/session/tls").is_some_and(|tls| tls == "resumed")).await;
    assert!(log.text().contains("tls=\"resumed\"") || log.text().contains("tls=resumed"), "{}", log.text());
    for secret in ["s3cret", "Z3ctMTpzM2NyZXQ"] {
        assert!(!log.text().contains(secret), "{}", log.text());
    }
    device.stop().await;
    proxy.abort();
}
