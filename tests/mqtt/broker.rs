//! A broker of raw bytes: it does what the test says, right or wrong, and reads packets without the codec under test.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use twinagent::model::wire::{Delivery, Login, MessageId, Packet, Qos, Secret, Subscription};
use twinagent::mqtt::{Endpoint, Event, Limits, Link, Order, Resolver, connect};

/// Longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const CONNECT: u8 = 0x10;
pub(crate) const PUBACK: u8 = 0x40;
pub(crate) const SUBSCRIBE: u8 = 0x82;
pub(crate) const PINGREQ: u8 = 0xC0;
pub(crate) const DISCONNECT: u8 = 0xE0;

pub(crate) const WELCOME: &[u8] = &[0x20, 2, 0, 0];
pub(crate) const WELCOME_BACK: &[u8] = &[0x20, 2, 1, 0];
pub(crate) const GRANTED: &[u8] = &[0x90, 3, 0, 1, 1];
pub(crate) const PINGRESP: &[u8] = &[0xD0, 0];

pub(crate) struct Broker {
    pub(crate) stream: TcpStream,
}

/// A listener, and an order for a connection to it.
pub(crate) async fn listen() -> (TcpListener, Order) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    (listener, order("127.0.0.1", port))
}

/// A port where nobody listens, nor will as long as the socket lives: one that was given back is soon another test's.
pub(crate) fn nobody() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
    let port = socket.local_addr().expect("its address").port();
    (socket, port)
}

pub(crate) fn order(host: &str, port: u16) -> Order {
    Order {
        endpoint: Endpoint { host: host.to_owned(), port, tls: None, proxy: None, websocket: None },
        login: Login {
            client_id: "device-1".to_owned(),
            username: "unused".to_owned(),
            password: Secret::new("top secret".to_owned()),
            keep_alive: Duration::from_secs(60),
            clean: false,
            will: None,
        },
        subscriptions: vec![Subscription { filter: "commands/#".to_owned(), qos: Qos::AtLeastOnce }],
        connect_timeout: Duration::from_secs(10),
        resolver: Resolver::start(),
        limits: Limits::default(),
    }
}

/// A link that is online, and the broker at its other end.
pub(crate) async fn online(change: impl FnOnce(&mut Order)) -> (Link, Broker) {
    let (listener, mut order) = listen().await;
    change(&mut order);
    let mut link = connect(order);
    let mut broker = Broker::accept(&listener).await;
    broker.welcome().await;
    assert_eq!(next(&mut link).await, Event::Online { session_kept: false, tls: None });
    (link, broker)
}

pub(crate) async fn next(link: &mut Link) -> Event {
    timeout(PATIENCE, link.event()).await.expect("an event")
}

/// The next event, which must be a message.
pub(crate) async fn received(link: &mut Link) -> (Delivery, Packet) {
    match next(link).await {
        Event::Received(delivery, packet) => (delivery, packet),
        other => panic!("a message was expected, not {other:?}"),
    }
}

pub(crate) fn message(qos: Qos, payload: impl Into<Vec<u8>>) -> Packet {
    Packet { topic: "events".to_owned(), payload: payload.into().into(), qos, retain: false }
}

pub(crate) fn id(number: u64) -> MessageId {
    MessageId(number)
}

impl Broker {
    pub(crate) async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = timeout(PATIENCE, listener.accept()).await.expect("a connection").expect("accepted");
        stream.set_nodelay(true).expect("an option");
        Self { stream }
    }

    /// Takes the login and the subscription.
    pub(crate) async fn welcome(&mut self) {
        self.expect(CONNECT).await;
        self.send(WELCOME).await;
        self.expect(SUBSCRIBE).await;
        self.send(GRANTED).await;
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.expect("written");
    }

    /// To somebody who may have hung up.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("somebody reads")
    }

    /// The next packet: its first byte and what follows the length. None at the end of the stream.
    pub(crate) async fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        timeout(PATIENCE, async {
            let first = self.stream.read_u8().await.ok()?;
            let mut length = 0;
            for shift in [0, 7, 14, 21] {
                let byte = self.stream.read_u8().await.expect("a length");
                length |= usize::from(byte & 0x7F) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await.expect("a whole packet");
            Some((first, body))
        })
        .await
        .expect("a packet or the end")
    }

    pub(crate) async fn expect(&mut self, first: u8) -> Vec<u8> {
        let (found, body) = self.read().await.expect("a packet");
        assert_eq!(found, first, "first byte of the packet, in hex {found:x}");
        body
    }

    /// The packet id of the next packet, which must be a PUBACK.
    pub(crate) async fn puback(&mut self) -> u16 {
        let body = self.expect(PUBACK).await;
        u16::from_be_bytes(body.try_into().expect("two bytes"))
    }

    /// Packet id and payload of the next packet, which must be a PUBLISH with QoS 1.
    pub(crate) async fn publish(&mut self) -> (u16, Vec<u8>) {
        let body = self.expect(0x32).await;
        let topic = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        (u16::from_be_bytes([body[topic], body[topic + 1]]), body[topic + 2..].to_vec())
    }
}

/// A PUBLISH. `flags` are its lower four bits; the id is written where they say QoS 1 or more.
pub(crate) fn publish(flags: u8, topic: &[u8], id: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = u16::try_from(topic.len()).expect("a short topic").to_be_bytes().to_vec();
    body.extend_from_slice(topic);
    if flags & 0b0110 != 0 {
        body.extend_from_slice(&id.to_be_bytes());
    }
    body.extend_from_slice(payload);
    packet(0x30 | flags, &body)
}

pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend(length(body.len()));
    bytes.extend_from_slice(body);
    bytes
}

/// A remaining length (section 2.2.3).
pub(crate) fn length(mut rest: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(rest % 128).expect("seven bits");
        rest /= 128;
        bytes.push(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            return bytes;
        }
    }
}

pub(crate) fn acknowledge(id: u16) -> Vec<u8> {
    packet(PUBACK, &id.to_be_bytes())
}
