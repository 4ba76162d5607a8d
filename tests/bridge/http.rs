//! Calls of the REST side over plain HTTP/1.1, byte by byte.

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::World;

pub(crate) const PARENT: &str = "/v1/projects/my-project/locations/us-central1/registries";
pub(crate) const DEVICES: &str = "/v1/projects/my-project/locations/us-central1/registries/my-registry/devices";

/// One call: status and JSON of the answer.
pub(crate) async fn call(world: &World, method: &str, path: &str, headers: &str, body: &str) -> (u16, Value) {
    let address = world.bridge.addresses().http.expect("it is on");
    let mut stream = TcpStream::connect(address).await.expect("the bridge listens");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("the bridge reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer in UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    (status, serde_json::from_str(body).expect("JSON"))
}

/// A call that reads.
pub(crate) async fn get(world: &World, path: &str) -> Value {
    let (status, answer) = call(world, "GET", path, "", "").await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// A call that succeeds.
pub(crate) async fn done(world: &World, method: &str, path: &str, body: Value) -> Value {
    let (status, answer) = call(world, method, path, "", &body.to_string()).await;
    assert_eq!(status, 200, "{method} {path}: {answer}");
    answer
}

/// A call that fails: HTTP code and canonical status, which agree.
pub(crate) async fn refused(world: &World, method: &str, path: &str, body: Value) -> (u64, String) {
    let (status, answer) = call(world, method, path, "", &body.to_string()).await;
    let error = &answer["error"];
    assert_eq!(error["code"], status, "{answer}");
    assert!(!error["message"].as_str().expect("a text").is_empty());
    (u64::from(status), error["status"].as_str().expect("a text").to_owned())
}
