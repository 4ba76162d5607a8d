//! MQTT within a WebSocket, by a client that writes its frames byte by byte.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Codec, Connect, Packet};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_util::codec::{Decoder as _, Encoder as _};
use twinagent::bridge::Access;

use super::device::{HubWorld, METHODS, TWIN_ANSWERS, good, quiet};
use super::tls::{Own, dial};
use crate::raw::{Transport, subscribe};
use crate::support::LIMIT;

const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A client after its handshake.
struct Socket {
    stream: std::pin::Pin<Box<dyn Transport>>,
    bytes: BytesMut,
    packets: BytesMut,
}

/// Sends the head of a request for this path with these fields; the head of the answer.
async fn request(stream: &mut (impl Transport + Unpin), path: &str, fields: &str) -> String {
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n{fields}\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("the bridge reads");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let byte = timeout(LIMIT, stream.read_u8()).await.expect("an answer");
        let Ok(byte) = byte else { break };
        answer.push(byte);
    }
    String::from_utf8(answer).expect("a text")
}

impl Socket {
    async fn open(mut stream: std::pin::Pin<Box<dyn Transport>>, path: &str) -> Self {
        let head = request(&mut stream, path, "sec-websocket-protocol: mqtt\r\n").await.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(head.contains("sec-websocket-protocol: mqtt\r\n"), "{head}");
        assert!(head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        Self { stream, bytes: BytesMut::new(), packets: BytesMut::new() }
    }

    async fn send(&mut self, opcode: u8, payload: &[u8]) {
        let mut frame = BytesMut::new();
        frame.put_u8(0x80 | opcode);
        if payload.len() < 126 {
            frame.put_u8(0x80 | u8::try_from(payload.len()).expect("it is short"));
        } else {
            frame.put_u8(0x80 | 127);
            frame.put_u64(payload.len() as u64);
        }
        let mask = [1, 2, 3, 4];
        frame.put_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.stream.write_all(&frame).await.expect("the bridge reads");
    }

    async fn send_packet(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        codec().encode(packet, &mut bytes).expect("a packet");
        // In pieces that are no packets.
        let middle = bytes.len() / 2;
        self.send(BINARY, &bytes[..middle]).await;
        self.send(BINARY, &bytes[middle..]).await;
    }

    /// The next frame: opcode and payload. `None`: the connection has ended.
    async fn frame(&mut self) -> Option<(u8, Bytes)> {
        loop {
            if let Some(frame) = self.parsed() {
                return Some(frame);
            }
            let read = timeout(LIMIT, self.stream.read_buf(&mut self.bytes)).await.expect("something comes");
            if matches!(read, Ok(0) | Err(_)) {
                return None;
            }
        }
    }

    fn parsed(&mut self) -> Option<(u8, Bytes)> {
        let [first, second, ..] = self.bytes[..] else { return None };
        assert!(first & 0x80 != 0 && second & 0x80 == 0, "whole frames without masks");
        let (head, length) = match second {
            126 => (4, usize::from(u16::from_be_bytes(self.bytes.get(2..4)?.try_into().expect("two")))),
            127 => panic!("no frame of the bridge is so large"),
            length => (2, usize::from(length)),
        };
        if self.bytes.len() < head + length {
            return None;
        }
        self.bytes.advance(head);
        Some((first & 0xF, self.bytes.split_to(length).freeze()))
    }

    async fn packet(&mut self) -> Packet {
        loop {
            if let Some(packet) = codec().decode(&mut self.packets).expect("MQTT") {
                return packet;
            }
            match self.frame().await.expect("the connection stays") {
                (BINARY, bytes) => self.packets.extend_from_slice(&bytes),
                other => panic!("a packet was waited for, not {other:?}"),
            }
        }
    }
}

fn codec() -> Codec {
    Codec { max_incoming_size: 1024 * 1024, max_outgoing_size: 1024 * 1024 }
}

async fn with_https() -> HubWorld {
    HubWorld::with(|options| options.https = Some("127.0.0.1:0".to_owned())).await
}

async fn dialled(world: &HubWorld, own: Option<&Own>) -> std::pin::Pin<Box<dyn Transport>> {
    let port = world.bridge.addresses().https.expect("it is on").port();
    Box::pin(dial(world, port, own, &rustls::version::TLS12).await)
}

#[tokio::test]
async fn a_device_lives_within_a_websocket() {
    let world = with_https().await;
    let mut socket = Socket::open(dialled(&world, None).await, "/$iothub/websocket?iothub-no-client-cert=true").await;
    socket.send_packet(Packet::Connect(good())).await;
    assert!(matches!(socket.packet().await, Packet::ConnAck(ack) if ack.code as u8 == 0));
    for filter in [METHODS, TWIN_ANSWERS] {
        socket.send_packet(subscribe(&[(filter.to_owned(), QoS::AtLeastOnce)])).await;
        assert!(matches!(socket.packet().await, Packet::SubAck(_)));
    }
    socket.send(PING, b"there?").await;
    assert_eq!(socket.frame().await, Some((PONG, Bytes::from_static(b"there?"))));
    // Larger than a frame of ours, each way.
    let large = json!("x".repeat(100_000));
    let (hub, device, payload) = (world.hub.clone(), world.device.clone(), large.clone());
    let calling = tokio::spawn(async move { hub.invoke(&device, "m", Some(payload), LIMIT, LIMIT).await });
    let Packet::Publish(request) = socket.packet().await else { panic!("a method was waited for") };
    assert_eq!(request.payload.len(), 100_002);
    let rid = request.topic.split_once("$rid=").expect("a request id").1;
    socket.send_packet(quiet(&format!("$iothub/methods/res/200/?$rid={rid}"), &large.to_string())).await;
    assert_eq!(calling.await.expect("no panic"), Ok((200, large)));
    socket.send(CLOSE, &1000_u16.to_be_bytes()).await;
    assert_eq!(socket.frame().await.map(|(opcode, _)| opcode), Some(CLOSE));
    assert_eq!(socket.frame().await, None);
    world.gone().await;
}

#[tokio::test]
async fn the_bridge_closes_in_good_order_and_certificates_count_here_too() {
    let world = with_https().await;
    let own = Own::new();
    world.hub.create_device("dev2", Access::Thumbprint(own.sha256())).await.expect("a device");
    let mut connect = Connect::new("dev2");
    connect.set_login("localhost/dev2/?api-version=2021-04-12", "");
    for (own, code) in [(Some(&own), 0), (None, 5)] {
        let mut socket = Socket::open(dialled(&world, own).await, "/$iothub/websocket").await;
        socket.send_packet(Packet::Connect(connect.clone())).await;
        assert!(matches!(socket.packet().await, Packet::ConnAck(ack) if ack.code as u8 == code));
        if code == 0 {
            socket.send_packet(Packet::Disconnect).await;
        }
        assert_eq!(socket.frame().await.map(|(opcode, _)| opcode), Some(CLOSE));
        assert_eq!(socket.frame().await, None);
    }
}

#[tokio::test]
async fn what_is_no_handshake_for_mqtt_is_refused() {
    let world = with_https().await;
    for (path, fields, status) in [
        ("/$iothub/websocket", "", "400"),
        ("/$iothub/websocket", "sec-websocket-protocol: amqp\r\n", "400"),
        ("/websocket", "sec-websocket-protocol: mqtt\r\n", "404"),
    ] {
        let head = request(&mut dialled(&world, None).await, path, fields).await;
        assert_eq!(head.split(' ').nth(1), Some(status), "{path} {fields}");
    }
    // A frame without a mask ends the connection, and with it the session.
    let mut socket = Socket::open(dialled(&world, None).await, "/$iothub/websocket").await;
    socket.send_packet(Packet::Connect(good())).await;
    socket.packet().await;
    socket.stream.write_all(&[0x82, 1, 0]).await.expect("the bridge reads");
    while let Some((opcode, _)) = socket.frame().await {
        assert_eq!(opcode, CLOSE);
    }
    world.gone().await;
}
