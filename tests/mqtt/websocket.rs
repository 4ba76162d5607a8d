//! MQTT within a WebSocket, against a server of this test that reads and writes frames byte by byte: in good order, in every
//! order that the standard allows, and in many that it does not.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use twinagent::model::wire::{Qos, Reason};
use twinagent::mqtt::{Ask, Event, Link, Order, connect};

use crate::broker::{
    CONNECT, DISCONNECT, GRANTED, PINGRESP, SUBSCRIBE, WELCOME, id, listen, message, next, publish, received,
};

const PATIENCE: Duration = Duration::from_secs(15);
const PATH: &str = "/$iothub/websocket?iothub-no-client-cert=true";

const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;

/// The server's end of a WebSocket.
pub(crate) struct Server<S> {
    stream: S,
    /// Bytes of MQTT that came and were not asked for yet.
    bytes: Vec<u8>,
}

/// A listener, and an order for a WebSocket to it.
async fn place() -> (TcpListener, Order) {
    let (listener, mut order) = listen().await;
    order.endpoint.websocket = Some(PATH.to_owned());
    (listener, order)
}

/// Reads a request up to its empty line.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(timeout(PATIENCE, stream.read_u8()).await.expect("a request").expect("all of it"));
    }
    String::from_utf8(request).expect("text")
}

/// What opens the WebSocket that was asked for.
fn welcome(request: &str) -> String {
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
    let proof = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let proof = STANDARD.encode(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, proof.as_bytes()));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {proof}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    )
}

/// A frame as a server writes it: without a mask.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(u8::try_from(short).expect("short")),
        middle @ 126..65_536 => {
            bytes.push(126);
            bytes.extend(u16::try_from(middle).expect("two bytes").to_be_bytes());
        }
        long => {
            bytes.push(127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend(payload);
    bytes
}

impl<S: AsyncRead + AsyncWrite + Unpin> Server<S> {
    pub(crate) async fn open(mut stream: S) -> Self {
        let request = request(&mut stream).await;
        assert!(request.starts_with(&format!("GET {PATH} HTTP/1.1\r\n")), "{request}");
        stream.write_all(welcome(&request).as_bytes()).await.expect("written");
        Self { stream, bytes: Vec::new() }
    }

    async fn write(&mut self, bytes: &[u8]) {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("somebody reads").expect("written");
        self.stream.flush().await.expect("written");
    }

    pub(crate) async fn send(&mut self, mqtt: &[u8]) {
        self.write(&frame(BINARY, mqtt)).await;
    }

    /// The next frame, whose mask must be there.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        timeout(PATIENCE, async {
            let first = self.stream.read_u8().await.ok()?;
            let second = self.stream.read_u8().await.expect("a length");
            assert_ne!(second & 0x80, 0, "a client masks its frames");
            let length = match second & 0x7F {
                126 => usize::from(self.stream.read_u16().await.expect("a length")),
                127 => panic!("no frame of ours is that long"),
                short => usize::from(short),
            };
            let mut mask = [0; 4];
            self.stream.read_exact(&mut mask).await.expect("a mask");
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload).await.expect("a payload");
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            Some((first, payload))
        })
        .await
        .expect("a frame or the end")
    }

    /// So many bytes of MQTT.
    async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.bytes.len() < count {
            let (first, payload) = self.frame().await.expect("more bytes");
            assert_eq!(first, BINARY);
            self.bytes.extend(payload);
        }
        self.bytes.drain(..count).collect()
    }

    /// The next packet, which must be short and of this kind.
    pub(crate) async fn expect(&mut self, kind: u8) {
        let head = self.take(2).await;
        assert_eq!(head[0], kind);
        self.take(usize::from(head[1])).await;
    }

    /// Takes login and subscription.
    async fn log_in(&mut self) {
        self.expect(CONNECT).await;
        self.send(WELCOME).await;
        self.expect(SUBSCRIBE).await;
        self.send(GRANTED).await;
    }
}

async fn online() -> (Link, Server<TcpStream>) {
    let (listener, order) = place().await;
    let mut link = connect(order);
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.expect("a connection").expect("accepted");
    let mut server = Server::open(stream).await;
    server.log_in().await;
    assert_eq!(next(&mut link).await, Event::Online { session_kept: false, tls: None });
    (link, server)
}

#[tokio::test]
async fn messages_of_every_size_pass_both_ways() {
    let (mut link, mut server) = online().await;
    for size in [0, 1, 100, 125, 126, 20_000, 70_000, 250_000] {
        let payload: Vec<u8> = (0..size).map(|at: usize| u8::try_from(at % 251).expect("a byte")).collect();
        link.ask(Ask::Publish(id(1), message(Qos::AtMostOnce, payload.clone()))).expect("taken");
        let packet = publish(0, b"events", 0, &payload);
        assert!(server.take(packet.len()).await == packet, "{size} bytes");
        assert_eq!(next(&mut link).await, Event::Settled(id(1)));
        server.send(&packet).await;
        let (_, came) = received(&mut link).await;
        assert!(came.payload == payload, "{size} bytes");
    }
    link.ask(Ask::Disconnect).expect("taken");
    server.expect(DISCONNECT).await;
    let (first, status) = server.frame().await.expect("a close");
    assert_eq!((first, status), (CLOSE, vec![0x03, 0xE8]));
    drop(server);
    assert_eq!(next(&mut link).await, Event::Ended(Reason::Planned));
}

/// MQTT 3.1.1 section 6: where its packets end has nothing to do with where frames do.
#[tokio::test]
async fn packets_come_in_pieces_of_frames_and_frames_in_pieces_of_bytes() {
    let (mut link, mut server) = online().await;
    let packet = publish(0, b"commands/a", 0, &[7; 300]);
    let mut bytes = frame(0x02, &packet[..1]);
    bytes.extend(frame(PING, b"within a message"));
    bytes.extend(frame(0x00, &[]));
    bytes.extend(frame(0x00, &packet[1..200]));
    bytes.extend(frame(0x80, &packet[200..]));
    bytes.extend(frame(BINARY, &[packet.clone(), packet.clone()].concat()));
    for byte in bytes {
        server.write(&[byte]).await;
    }
    for _ in 0..3 {
        let (_, came) = received(&mut link).await;
        assert_eq!(came.payload, vec![7; 300]);
    }
    assert_eq!(server.frame().await, Some((PONG, b"within a message".to_vec())));
}

#[tokio::test]
async fn pings_are_answered_while_nobody_has_anything_to_say() {
    let (mut link, mut server) = online().await;
    for payload in [&b""[..], b"one", &[0; 125]] {
        server.write(&frame(PING, payload)).await;
        server.write(&frame(PONG, b"of nothing")).await;
        assert_eq!(server.frame().await, Some((PONG, payload.to_vec())));
    }
    // A flood of them holds up nothing, and costs no answer for each.
    server.write(&frame(PING, b"again").repeat(10_000)).await;
    server.send(&publish(0, b"commands/a", 0, b"after them")).await;
    assert_eq!(received(&mut link).await.1.payload, "after them");
    link.ask(Ask::Check).expect("taken");
    let mut answers = 0;
    loop {
        match server.frame().await.expect("a frame") {
            (PONG, _) => answers += 1,
            (first, ping) => {
                assert_eq!((first, &ping[..]), (BINARY, &[0xC0, 0][..]));
                break;
            }
        }
    }
    assert!((1..=10_000).contains(&answers), "{answers}");
    server.send(PINGRESP).await;
}

#[tokio::test]
async fn an_end_that_is_announced_is_an_end_and_is_answered() {
    let (mut link, mut server) = online().await;
    server.write(&frame(CLOSE, &[0x03, 0xE9])).await;
    assert_eq!(server.frame().await, Some((CLOSE, vec![0x03, 0xE8])));
    assert_eq!(next(&mut link).await, Event::Ended(Reason::Closed));

    let (mut link, server) = online().await;
    drop(server);
    assert_eq!(next(&mut link).await, Event::Ended(Reason::Closed), "without a word");
}

#[tokio::test]
async fn frames_that_must_not_be_end_the_connection_in_words() {
    let masked = [0x82, 0x82, 1, 2, 3, 4, 0xD1, 2];
    for (wrong, told) in [
        (&masked[..], "mask"),
        (&[0x81, 2, b'h', b'i'], "text frame"),
        (&[0xC2, 1, 0], "extension"),
        (&[0x80, 1, 0], "continuation"),
        (&[0x83, 0], "nobody knows"),
        (&[0x89, 126, 0, 126], "control frame"),
        (&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], "length"),
    ] {
        let (mut link, mut server) = online().await;
        server.write(wrong).await;
        let end = next(&mut link).await;
        assert!(matches!(&end, Event::Ended(Reason::Protocol(words)) if words.contains(told)), "{end:?}");
    }
}

/// The largest packet that is taken is bounded above frames: a frame of any size is passed on and never stored.
#[tokio::test]
async fn a_frame_without_end_costs_no_memory_and_a_packet_without_end_is_refused() {
    let (mut link, mut server) = online().await;
    let mut endless = vec![0x82, 127];
    endless.extend((1_u64 << 40).to_be_bytes());
    endless.extend(publish(0, b"commands/a", 0, b"begins"));
    server.write(&endless).await;
    assert_eq!(received(&mut link).await.1.payload, "begins");
    server.write(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]).await;
    let end = next(&mut link).await;
    assert!(matches!(end, Event::Ended(Reason::Undecodable(_))), "{end:?}");
}

#[tokio::test]
async fn what_does_not_open_a_websocket_is_told_by_its_first_line() {
    for (answer, told) in [
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            Reason::CaptivePortal("HTTP/1.1 404 Not Found".to_owned()),
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://portal/\r\n\r\n<html>",
            Reason::CaptivePortal("HTTP/1.1 302 Found".to_owned()),
        ),
        ("HTTP/1.0 200 OK\r\n", Reason::CaptivePortal("HTTP/1.0 200 OK".to_owned())),
        ("\u{20}\u{2}\0\0\r\n\r\n", Reason::Protocol("the WebSocket was not answered in HTTP".to_owned())),
        ("", Reason::Protocol("the WebSocket was not answered in HTTP".to_owned())),
    ] {
        let (listener, order) = place().await;
        let mut link = connect(order);
        let (mut stream, _) = listener.accept().await.expect("a connection");
        request(&mut stream).await;
        stream.write_all(answer.as_bytes()).await.expect("written");
        stream.shutdown().await.expect("ended");
        assert_eq!(next(&mut link).await, Event::Ended(told), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_and_one_that_never_comes_is_waited_for_no_longer_than_was_said() {
    let (listener, order) = place().await;
    let mut link = connect(order);
    let (mut stream, _) = listener.accept().await.expect("a connection");
    request(&mut stream).await;
    stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n").await.expect("written");
    let endless = b"X-Filler: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n".repeat(200);
    // It may hang up before all of it is written.
    let _ = stream.write_all(&endless).await;
    let end = next(&mut link).await;
    assert!(matches!(&end, Event::Ended(Reason::CaptivePortal(words)) if words.contains("101")), "{end:?}");

    let (_listener, mut order) = place().await;
    order.connect_timeout = Duration::from_secs(5);
    let end = next(&mut connect(order)).await;
    assert!(matches!(&end, Event::Ended(Reason::TimedOut { stage, .. }) if stage.contains("WebSocket")), "{end:?}");
}

/// A server may send its first frames right behind the answer.
#[tokio::test]
async fn what_stands_behind_the_answer_is_not_lost() {
    let (listener, order) = place().await;
    let mut link = connect(order);
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let request = request(&mut stream).await;
    let mut answer = welcome(&request).into_bytes();
    answer.extend(frame(PING, b"early"));
    answer.extend(frame(BINARY, WELCOME));
    stream.write_all(&answer).await.expect("written");
    let mut server = Server { stream, bytes: Vec::new() };
    let mut frames = [server.frame().await.expect("a frame"), server.frame().await.expect("a frame")];
    frames.sort_by_key(|(first, _)| *first);
    assert_eq!(frames[0].1[0], CONNECT);
    assert_eq!(frames[1], (PONG, b"early".to_vec()));
    server.expect(SUBSCRIBE).await;
    server.send(GRANTED).await;
    assert_eq!(next(&mut link).await, Event::Online { session_kept: false, tls: None });
}

/// Behind a certificate that holds stands no captive portal.
#[cfg(feature = "bridge")]
#[tokio::test]
async fn a_broker_that_opens_no_websocket_is_told_from_somebody_on_the_way() {
    use twinagent::model::wire::Schedule;

    let authority = crate::authority::Authority::new("ours");
    for (status, schedule) in [("503 Service Unavailable", Schedule::Busy), ("404 Not Found", Schedule::Refused)] {
        let (listener, port) = crate::authority::listen().await;
        let mut order = authority.order("localhost", port);
        order.endpoint.websocket = Some(PATH.to_owned());
        let mut link = connect(order);
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut stream = authority.broker("localhost").accept(stream).await.expect("TLS");
        request(&mut stream).await;
        let first = format!("HTTP/1.1 {status}");
        let answer = format!("{first}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.expect("written");
        stream.flush().await.expect("sent");
        let told = Reason::WebSocket(schedule, first);
        assert_eq!(told.schedule(), schedule);
        assert_eq!(next(&mut link).await, Event::Ended(told));
    }
}

#[cfg(feature = "bridge")]
#[tokio::test]
async fn a_websocket_runs_over_tls() {
    use twinagent::model::wire::Handshake;

    let authority = crate::authority::Authority::new("ours");
    let (listener, port) = crate::authority::listen().await;
    let mut order = authority.order("localhost", port);
    order.endpoint.websocket = Some(PATH.to_owned());
    let mut link = connect(order);
    let (stream, _) = listener.accept().await.expect("a connection");
    let stream = authority.broker("localhost").accept(stream).await.expect("TLS");
    let mut server = Server::open(stream).await;
    server.log_in().await;
    assert_eq!(next(&mut link).await, Event::Online { session_kept: false, tls: Some(Handshake::Full) });
    link.ask(Ask::Publish(id(1), message(Qos::AtMostOnce, vec![7; 100_000]))).expect("taken");
    let packet = publish(0, b"events", 0, &vec![7; 100_000]);
    assert!(server.take(packet.len()).await == packet);
    assert_eq!(next(&mut link).await, Event::Settled(id(1)));
}
