//! The service's API of the hub over plain HTTP/1.1, byte by byte. Each caller keeps one connection for all its calls.

mod callers;
mod identities;
mod methods;
mod queries;
mod twins;

use std::collections::HashMap;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use twinagent::dialect::sas::{SharedKey, mint};
use twinagent::model::now::Timestamp;

use super::device::HubWorld;
use crate::support::{LIMIT, unix_now};

const VERSION: &str = "api-version=2021-04-12";

/// Someone who calls, as the policy `iothubowner`.
pub(crate) struct Service {
    stream: BufReader<TcpStream>,
    host: String,
    authorization: String,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// By their names in lower case.
    pub(crate) headers: HashMap<String, String>,
    /// `Null` if there is none.
    pub(crate) body: Value,
}

impl Reply {
    /// The error in it: code and name of the code, which belong to the status.
    #[track_caller]
    pub(crate) fn error(&self) -> (u64, &str) {
        let text = self.body["Message"].as_str().unwrap_or_else(|| panic!("no error: {self:?}"));
        let error: Value = serde_json::from_str(text).expect("JSON in a text");
        let code = error["errorCode"].as_u64().expect("a code");
        assert_eq!((code / 1_000, &self.body["ExceptionMessage"]), (u64::from(self.status), &Value::from("")));
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
        let tracking = error["trackingId"].as_str().expect("an id");
        assert!(tracking.len() > 50 && tracking.contains("-G:0-TimeStamp:"), "{tracking}");
        assert!(error["timestampUtc"].as_str().is_some_and(|time| time.ends_with('Z')), "{error}");
        (code, &self.headers["iothub-errorcode"])
    }

    /// The `info` of the error in it.
    pub(crate) fn waited(&self) -> Value {
        let error: Value = serde_json::from_str(self.body["Message"].as_str().expect("a text")).expect("JSON");
        error["info"]["timeout"].clone()
    }
}

/// The key of the policy `iothubowner`, in base64.
pub(crate) async fn owner_key(world: &HubWorld) -> String {
    let text = world.hub.service_connection_string("localhost").await.expect("the bridge runs");
    text.split_once(";SharedAccessKey=").expect("a key").1.to_owned()
}

/// A token of a policy for this resource, so many seconds from now.
pub(crate) fn policy_token(key: &str, resource: &str, policy: &str, life: i64) -> String {
    let expires = Timestamp::from_micros((unix_now() + life) * 1_000_000);
    mint(&SharedKey::parse(key).expect("a key"), resource, expires, Some(policy)).reveal().to_owned()
}

impl Service {
    pub(crate) async fn of(world: &HubWorld) -> Self {
        let key = owner_key(world).await;
        let address = world.bridge.addresses().http.expect("it is on");
        let stream = TcpStream::connect(address).await.expect("the bridge listens");
        let host = format!("localhost:{}", address.port());
        let authorization = policy_token(&key, &host, "iothubowner", 3_600);
        Self { stream: BufReader::new(stream), host, authorization }
    }

    /// One call, with a token and a version; `headers` are whole lines.
    pub(crate) async fn call(&mut self, method: &str, path: &str, headers: &[&str], body: &str) -> Reply {
        let joint = if path.contains('?') { '&' } else { '?' };
        let authorization = format!("authorization: {}", self.authorization);
        let headers: Vec<_> = headers.iter().copied().chain([&*authorization]).collect();
        self.exchange(method, &format!("{path}{joint}{VERSION}"), &headers, body).await
    }

    /// One call as it is given.
    pub(crate) async fn exchange(&mut self, method: &str, target: &str, headers: &[&str], body: &str) -> Reply {
        let lines: String = headers.iter().flat_map(|header| [*header, "\r\n"]).collect();
        let (host, length) = (&self.host, body.len());
        let request =
            format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n{lines}content-length: {length}\r\n\r\n{body}");
        self.stream.get_mut().write_all(request.as_bytes()).await.expect("the bridge reads");
        timeout(LIMIT, self.reply()).await.expect("an answer in time")
    }

    async fn reply(&mut self) -> Reply {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.stream.read_line(&mut line).await.expect("an answer in UTF-8");
            assert!(read > 0, "the connection stays");
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let status = lines[0].split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        let headers = lines[1..].iter().map(|line| line.split_once(": ").expect("a header"));
        let headers: HashMap<_, _> =
            headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a number"));
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.expect("the whole body");
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
        Reply { status, headers, body }
    }

    /// A call that succeeds with 200: its body.
    pub(crate) async fn done(&mut self, method: &str, path: &str, body: Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let reply = self.call(method, path, &[], &body).await;
        assert_eq!(reply.status, 200, "{method} {path}: {reply:?}");
        reply.body
    }

    /// A call that fails: its code.
    pub(crate) async fn refused(&mut self, method: &str, path: &str, headers: &[&str], body: &Value) -> u64 {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.call(method, path, headers, &body).await.error().0
    }
}
