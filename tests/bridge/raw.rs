//! A device that sends and sees single packets, for what a well-behaved client cannot do.

use std::net::SocketAddr;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    Codec, Connect, Packet, PubAck, Publish, Subscribe, SubscribeFilter, SubscribeReasonCode,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::codec::Framed;

use crate::support::{LIMIT, World};

pub(crate) struct Raw(Framed<Pin<Box<dyn Transport>>, Codec>);

/// What packets can go over.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Transport for S {}

/// What came of waiting for a packet.
#[derive(Debug, PartialEq)]
pub(crate) enum Seen {
    Packet(Packet),
    Closed,
    Undecodable,
}

impl Raw {
    pub(crate) async fn open(world: &World) -> Self {
        Self::dial(world.mqtt()).await
    }

    pub(crate) async fn dial(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("the bridge listens"))
    }

    pub(crate) fn over(stream: impl Transport + 'static) -> Self {
        let size = 4 * 1024 * 1024;
        Self(Framed::new(Box::pin(stream), Codec { max_incoming_size: size, max_outgoing_size: size }))
    }

    /// Logs in with a good token and sees the CONNACK.
    pub(crate) async fn login(world: &World) -> Self {
        let mut raw = Self::open(world).await;
        raw.send(Packet::Connect(connect(world))).await;
        assert_eq!(raw.connack().await, (0, false));
        raw
    }

    /// Logs in and subscribes to both feeds; the first configuration has been acknowledged.
    pub(crate) async fn ready(world: &World) -> Self {
        let mut raw = Self::login(world).await;
        assert_eq!(raw.subscribe(&both(world)).await, [SubscribeReasonCode::Success(QoS::AtLeastOnce); 2]);
        let config = raw.publish().await;
        raw.send(Packet::PubAck(PubAck::new(config.pkid))).await;
        raw
    }

    pub(crate) async fn send(&mut self, packet: Packet) {
        self.0.send(packet).await.expect("the bridge reads");
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).await.expect("the bridge reads");
    }

    pub(crate) async fn next(&mut self) -> Seen {
        match timeout(LIMIT, self.0.next()).await.expect("something happens") {
            Some(Ok(packet)) => Seen::Packet(packet),
            // A connection reset is how a close looks when something of ours was not read.
            None | Some(Err(rumqttc::mqttbytes::Error::Io(_))) => Seen::Closed,
            Some(Err(_)) => Seen::Undecodable,
        }
    }

    /// The next packet, which must be a publish.
    pub(crate) async fn publish(&mut self) -> Publish {
        match self.next().await {
            Seen::Packet(Packet::Publish(publish)) => publish,
            other => panic!("a publish was waited for, not {other:?}"),
        }
    }

    /// Code and session present.
    pub(crate) async fn connack(&mut self) -> (u8, bool) {
        match self.next().await {
            Seen::Packet(Packet::ConnAck(ack)) => (ack.code as u8, ack.session_present),
            other => panic!("a CONNACK was waited for, not {other:?}"),
        }
    }

    pub(crate) async fn subscribe(&mut self, filters: &[(String, QoS)]) -> Vec<SubscribeReasonCode> {
        self.send(subscribe(filters)).await;
        match self.next().await {
            Seen::Packet(Packet::SubAck(ack)) => ack.return_codes,
            other => panic!("a SUBACK was waited for, not {other:?}"),
        }
    }

    /// Publishes with QoS 1 and waits for the PUBACK.
    pub(crate) async fn publish_acknowledged(&mut self, topic: &str, payload: impl Into<Bytes>) {
        self.send(publish(topic, payload)).await;
        assert_eq!(self.next().await, Seen::Packet(Packet::PubAck(PubAck::new(1))));
    }

    /// Sees to it that the connection is alive.
    pub(crate) async fn ping(&mut self) {
        self.send(Packet::PingReq).await;
        assert_eq!(self.next().await, Seen::Packet(Packet::PingResp));
    }
}

pub(crate) fn connect(world: &World) -> Connect {
    let mut connect = Connect::new(world.device.to_string());
    connect.set_login("unused", world.key.token(3600));
    connect
}

pub(crate) fn subscribe(filters: &[(String, QoS)]) -> Packet {
    let filters = filters.iter().map(|(path, qos)| SubscribeFilter::new(path.clone(), *qos));
    let mut subscribe = Subscribe::new_many(filters);
    subscribe.pkid = 7;
    Packet::Subscribe(subscribe)
}

/// Both feeds of the device, QoS 1.
pub(crate) fn both(world: &World) -> [(String, QoS); 2] {
    let device = &world.device.device;
    [
        (format!("/devices/{device}/commands/#"), QoS::AtLeastOnce),
        (format!("/devices/{device}/config"), QoS::AtLeastOnce),
    ]
}

/// A publish with QoS 1 and packet id 1.
pub(crate) fn publish(topic: &str, payload: impl Into<Bytes>) -> Packet {
    let mut publish = Publish::from_bytes(topic, QoS::AtLeastOnce, payload.into());
    publish.pkid = 1;
    Packet::Publish(publish)
}
