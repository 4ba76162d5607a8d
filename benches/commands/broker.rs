//! A broker for one client at a time, on blocking sockets: no thread and no queue of it stands between the clock and the
//! wire. It grants every login, and measures nothing itself.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use rcgen::generate_simple_self_signed;
use rumqttc::QoS;
use rumqttc::mqttbytes::Error;
use rumqttc::mqttbytes::v4::{
    ConnAck, ConnectReturnCode, Packet, PubAck, Publish, SubAck, Subscribe, SubscribeReasonCode,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The name of the device in all topics.
pub(crate) const DEVICE: &str = "bench-1";

/// Where a device of a hub reports.
const REPORTED: &str = "$iothub/twin/PATCH/properties/reported/";

/// Larger than all packets of this bench.
const PACKET: usize = 64 * 1024;

pub(crate) struct Broker {
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    certificate: String,
}

impl Broker {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let made = generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of the ring provider")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .expect("a key and its certificate");
        Self { listener, tls: Arc::new(tls), certificate: made.cert.pem() }
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().expect("a bound listener").port()
    }

    /// Writes the certificate that the broker shows, for a client to trust.
    pub(crate) fn write_certificate(&self, path: &Path) {
        std::fs::write(path, &self.certificate).expect("a file for the certificate");
    }

    /// Takes the next client, until it has subscribed; says when that was.
    pub(crate) fn accept(&self, tls: bool) -> (Line, Instant) {
        let (stream, _) = self.listener.accept().expect("a client");
        stream.set_nodelay(true).expect("a socket option");
        let stream: Box<dyn Stream> = if tls {
            let session = ServerConnection::new(self.tls.clone()).expect("a TLS session");
            Box::new(StreamOwned::new(session, stream))
        } else {
            Box::new(stream)
        };
        let mut line = Line {
            stream,
            unread: BytesMut::new(),
            unwritten: BytesMut::new(),
            early: VecDeque::new(),
            sent: 0,
            hub: false,
        };
        let Packet::Connect(connect) = line.read() else { panic!("a client begins with CONNECT") };
        line.hub = connect.login.is_some_and(|login| login.username.contains("/?api-version="));
        line.write(&Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false)));
        line.flush();
        let Packet::Subscribe(Subscribe { pkid, filters }) = line.read() else { panic!("then it subscribes") };
        let subscribed = Instant::now();
        let granted = filters.iter().map(|_| SubscribeReasonCode::Success(QoS::AtLeastOnce)).collect();
        line.write(&Packet::SubAck(SubAck::new(pkid, granted)));
        line.flush();
        (line, subscribed)
    }
}

fn is_answer(topic: &str) -> bool {
    topic.ends_with("/events/responses") || topic.starts_with("$iothub/methods/res/")
}

trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// The connection of one client.
pub(crate) struct Line {
    stream: Box<dyn Stream>,
    unread: BytesMut,
    unwritten: BytesMut,
    /// Answers that came while something else was waited for.
    early: VecDeque<Publish>,
    sent: u64,
    /// Whether the client takes this for an IoT Hub.
    hub: bool,
}

impl Line {
    /// Queues a command with an id of its own.
    pub(crate) fn command(&mut self, method: &str) {
        self.sent += 1;
        if self.hub {
            let topic = format!("$iothub/methods/POST/{method}/?$rid={:x}", self.sent);
            let publish = Publish::new(topic, QoS::AtMostOnce, r#"{"reason":"bench"}"#);
            return self.write(&Packet::Publish(publish));
        }
        let topic = format!("/devices/{DEVICE}/commands/{method}/{:08}", self.sent);
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, r#"{"reason":"bench"}"#);
        publish.pkid = u16::try_from(self.sent % 60_000).expect("below 60 000") + 1;
        self.write(&Packet::Publish(publish));
    }

    /// Waits for the next answer and queues its PUBACK.
    pub(crate) fn answer(&mut self) {
        let publish = self.early.pop_front().unwrap_or_else(|| self.published(is_answer));
        let body = std::str::from_utf8(&publish.payload).expect("an answer is text");
        let is_good = publish.topic.starts_with("$iothub/methods/res/200/") || body.contains(r#""status":200"#);
        assert!(is_good, "a command was refused: {body}");
    }

    /// Waits for the first report of an agent.
    pub(crate) fn report(&mut self) {
        self.published(|topic| topic.ends_with("/state") || topic.starts_with(REPORTED));
        self.flush();
    }

    fn published(&mut self, wanted: impl Fn(&str) -> bool) -> Publish {
        loop {
            if let Packet::Publish(publish) = self.read() {
                if publish.qos == QoS::AtLeastOnce {
                    self.write(&Packet::PubAck(PubAck::new(publish.pkid)));
                }
                self.answer_about_the_twin(&publish.topic);
                if wanted(&publish.topic) {
                    return publish;
                }
                if is_answer(&publish.topic) {
                    self.early.push_back(publish);
                }
            }
        }
    }

    /// A hub's twin is empty, and takes whatever is reported.
    fn answer_about_the_twin(&mut self, topic: &str) {
        let Some((request, rid)) = topic.split_once('?').filter(|_| self.hub) else { return };
        let (status, twin) = match request {
            "$iothub/twin/GET/" => (200, r#"{"desired":{"$version":1},"reported":{"$version":1}}"#),
            REPORTED => (204, ""),
            _ => return,
        };
        let publish = Publish::new(format!("$iothub/twin/res/{status}/?{rid}&$version=2"), QoS::AtMostOnce, twin);
        self.write(&Packet::Publish(publish));
    }

    /// Writes what is queued. Reading does so too before it waits.
    pub(crate) fn flush(&mut self) {
        if self.unwritten.is_empty() {
            return;
        }
        self.stream.write_all(&self.unwritten).and_then(|()| self.stream.flush()).expect("the client is there");
        self.unwritten.clear();
    }

    fn write(&mut self, packet: &Packet) {
        packet.write(&mut self.unwritten, PACKET).expect("a small packet");
    }

    fn read(&mut self) -> Packet {
        loop {
            match Packet::read(&mut self.unread, PACKET) {
                Ok(packet) => return packet,
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("the client sent {error}"),
            }
            // What the client waits for must not wait for the client.
            self.flush();
            let mut bytes = [0; 16 * 1024];
            let length = self.stream.read(&mut bytes).expect("the client is there");
            assert_ne!(length, 0, "the client hung up");
            self.unread.extend_from_slice(&bytes[..length]);
        }
    }
}
