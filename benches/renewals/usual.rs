//! The usual way: rumqttc's own client, thrown away and made anew for each token, with a clean session.
//!
//! Its TLS is switched off in this tree, so it speaks plain to a tunnel beside it, which opens TLS over the same long way
//! and keeps TLS sessions, as a client with one configuration for all its connections would.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, NetworkOptions, Outgoing, QoS};
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsConnector;
use twinagent::bridge::DeviceName;
use twinagent::dialect::token::{Key, mint};
use twinagent::host::{boot, clock};
use twinagent::mqtt::tls;

use crate::site::{LIFETIME, PROJECT};

/// Requests that may wait for the event loop; more than there ever are.
const REQUESTS: usize = 256;

/// The share of a token's life after which it is thrown away, as the samples of the cloud do it.
const RENEW_AFTER: Duration = Duration::from_millis(8 * LIFETIME.as_secs() * 100);

/// A port that leads to the bridge, through TLS and the long way.
pub(crate) async fn tunnel(relay: SocketAddr, ca_file: &Path) -> u16 {
    let trust = tls::client_config(Some(ca_file)).expect("the bridge's CA");
    let connector = TlsConnector::from(Arc::clone(&trust));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("a bound listener").port();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.expect("a connection");
            let connector = connector.clone();
            tokio::spawn(async move {
                near.set_nodelay(true).expect("a socket option");
                let far = TcpStream::connect(relay).await.expect("the relay");
                far.set_nodelay(true).expect("a socket option");
                let name = ServerName::try_from("localhost").expect("a name");
                let Ok(mut far) = connector.connect(name, far).await else { return };
                // Ends with either end; the client notices by itself.
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    port
}

/// Answers commands until the task is dropped, and tells the id of each that it runs.
pub(crate) async fn live(device: DeviceName, key: Key, port: u16, ran: mpsc::Sender<String>) {
    let boot = boot::id().expect("Linux");
    loop {
        let born = Instant::now();
        let password = mint(&key, PROJECT, clock::now(boot).wall, LIFETIME).expect("a token");
        let mut options = MqttOptions::new(device.to_string(), "127.0.0.1", port);
        options.set_credentials("unused", password.reveal()).set_keep_alive(Duration::from_secs(60));
        options.set_clean_session(true).set_max_packet_size(300 * 1024, 300 * 1024);
        let (client, mut events) = AsyncClient::new(options, REQUESTS);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        events.set_network_options(network);
        for rest in ["config", "commands/#"] {
            client.subscribe(format!("/devices/{}/{rest}", device.device), QoS::AtLeastOnce).await.expect("room");
        }
        let answers = format!("/devices/{}/events/responses", device.device);
        let mut leaves = false;
        loop {
            let event = tokio::select! {
                event = events.poll() => event,
                () = sleep_until(born + RENEW_AFTER), if !leaves => {
                    leaves = true;
                    client.disconnect().await.expect("room for a request");
                    continue;
                }
            };
            match event {
                Ok(Event::Incoming(Incoming::Publish(command))) if command.topic.contains("/commands/") => {
                    let id = command.topic.rsplit('/').next().unwrap_or_default().to_owned();
                    let body = format!(r#"{{"id":"{id}","status":200,"final":true}}"#);
                    ran.send(id).await.expect("somebody counts");
                    client.try_publish(&answers, QoS::AtLeastOnce, false, body).expect("room for a request");
                }
                Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_) => break,
                Ok(_) => {}
            }
        }
    }
}

/// How often each command ran, from what [`live`] tells.
pub(crate) async fn count(mut ran: mpsc::Receiver<String>, counts: &mut HashMap<String, usize>) {
    while let Some(id) = ran.recv().await {
        *counts.entry(id).or_default() += 1;
    }
}
