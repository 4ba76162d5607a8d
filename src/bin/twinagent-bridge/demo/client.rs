//! A small client of the cloud's REST API, as anybody could write one: HTTP/1.1 over TLS, JSON, base64.
//!
//! One connection a call. It trusts the stand-in's own authority and nothing else.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, bail};
use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{Method, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use twinagent::mqtt::tls::client_config;

/// The largest answer: ten states of 64 KiB in base64 fit.
const MOST: usize = 2 * 1024 * 1024;
/// A name in the stand-in's certificate.
const NAME: &str = "localhost";

/// A call that the cloud answered with an error.
#[derive(Debug, thiserror::Error)]
#[error("{code} {status}: {message}")]
pub(super) struct Refused {
    pub(super) code: u16,
    /// The canonical code, such as `FAILED_PRECONDITION`.
    pub(super) status: String,
    pub(super) message: String,
}

pub(super) struct Rest {
    address: SocketAddr,
    tls: TlsConnector,
    /// The path of the device's resource.
    device: String,
}

impl Rest {
    pub(super) fn new(address: SocketAddr, ca_file: &Path, device: String) -> anyhow::Result<Self> {
        Ok(Self { address, tls: TlsConnector::from(client_config(Some(ca_file))?), device })
    }

    pub(super) fn origin(&self) -> String {
        format!("https://{NAME}:{}", self.address.port())
    }

    /// The URL of the device's resource.
    pub(super) fn device_url(&self) -> String {
        format!("{}{}", self.origin(), self.device)
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call(Method::POST, path, Body::from(body.to_string())).await
    }

    /// Sends a command to the device; returns when the device has acknowledged it.
    pub(super) async fn command(&self, subfolder: &str, payload: &str) -> anyhow::Result<()> {
        let body = json!({ "subfolder": subfolder, "binaryData": STANDARD.encode(payload) });
        self.post(&format!("{}:sendCommandToDevice", self.device), &body).await.map(drop)
    }

    /// The device's last states, the newest first.
    pub(super) async fn states(&self) -> anyhow::Result<Vec<Value>> {
        let answer = self.call(Method::GET, &format!("{}/states", self.device), Body::empty()).await?;
        let states = answer["deviceStates"].as_array().map(Vec::as_slice).unwrap_or_default();
        let read = |state: &Value| {
            let data = STANDARD.decode(state["binaryData"].as_str().unwrap_or_default())?;
            anyhow::Ok(serde_json::from_slice(&data)?)
        };
        states.iter().map(|state| read(state).context("a state is not JSON in base64")).collect()
    }

    async fn call(&self, method: Method, path: &str, body: Body) -> anyhow::Result<Value> {
        let what = format!("{method} {path}");
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, format!("{NAME}:{}", self.address.port()))
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .context("a request that cannot be written")?;
        let stream = TcpStream::connect(self.address).await.with_context(|| what.clone())?;
        let name = NAME.try_into().context("the name of the cloud")?;
        let stream = self.tls.connect(name, stream).await.with_context(|| what.clone())?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.with_context(|| what.clone())?;
        let talk = async {
            let answer = sender.send_request(request).await?;
            let code = answer.status().as_u16();
            let bytes = to_bytes(Body::new(answer.into_body()), MOST).await?;
            anyhow::Ok((code, bytes))
        };
        // The connection moves nothing unless it is polled, and ends with the answer or with the call.
        tokio::pin!(talk);
        let (code, bytes) = tokio::select! {
            answered = &mut talk => answered,
            ended = connection => match ended {
                Ok(()) => talk.await,
                Err(error) => Err(error.into()),
            },
        }
        .with_context(|| what.clone())?;
        let answer: Value =
            serde_json::from_slice(&bytes).with_context(|| format!("{what}: the answer is not JSON"))?;
        if code == 200 {
            return Ok(answer);
        }
        let error = &answer["error"];
        let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        bail!(Refused { code, status: text("status"), message: text("message") })
    }
}
