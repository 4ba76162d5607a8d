//! The bare echo: the least that a client on rumqttc can do with a command. This program, started once more.

use std::process::{Command, Stdio};

use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, NetworkOptions, QoS};

use crate::agent::Client;
use crate::broker::{Broker, DEVICE};

const ARGUMENT: &str = "--bare-echo";

/// Messages that may wait for the event loop; more than ever are under way.
const REQUESTS: usize = 256;

/// The broker's port, if this process is to be the echo.
pub(crate) fn port_of_this_process() -> Option<u16> {
    let mut arguments = std::env::args().skip_while(|argument| argument != ARGUMENT);
    arguments.next()?;
    Some(arguments.next().and_then(|port| port.parse().ok()).expect("a port"))
}

/// Starts the echo and takes its connection.
pub(crate) fn start(broker: &Broker) -> Client {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args([ARGUMENT, &broker.port().to_string()]).stdin(Stdio::null());
    Client::start(broker, command, false)
}

/// Echoes until the broker is gone.
pub(crate) fn live(port: u16) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(echo(port));
}

async fn echo(port: u16) {
    let options = MqttOptions::new("bare", "127.0.0.1", port);
    let (client, mut events) = AsyncClient::new(options, REQUESTS);
    // Off by default in rumqttc: the answer behind a PUBACK would wait for the broker's delayed ACK, some 40 ms.
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    events.set_network_options(network);
    client.subscribe(format!("/devices/{DEVICE}/commands/#"), QoS::AtLeastOnce).await.expect("room for a request");
    let answers = format!("/devices/{DEVICE}/events/responses");
    while let Ok(event) = events.poll().await {
        let Event::Incoming(Incoming::Publish(command)) = event else { continue };
        let id = command.topic.rsplit('/').next().unwrap_or_default();
        let mut body = format!(r#"{{"id":"{id}","status":200,"payload":"#).into_bytes();
        body.extend_from_slice(&command.payload);
        body.push(b'}');
        client.try_publish(&answers, QoS::AtLeastOnce, false, body).expect("room for a request");
    }
}
