//! A small client of REST APIs, as anybody could write one: HTTP/1.1 over TLS, JSON.
//!
//! One connection a call. It trusts the stand-in's own authority and nothing else.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, bail};
use axum::body::{Body, to_bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::{Method, Request};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use twinagent::mqtt::tls::client_config;

/// The largest answer: ten states of 64 KiB in base64 fit.
const MOST: usize = 2 * 1024 * 1024;
/// A name in the stand-in's certificate.
const NAME: &str = "localhost";

/// A call that the cloud answered with an error.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {answer}")]
pub(super) struct Refused {
    pub(super) code: u16,
    pub(super) answer: Value,
}

pub(super) struct Rest {
    address: SocketAddr,
    tls: TlsConnector,
    /// What each call carries to show that it may be made.
    authorization: Option<String>,
}

impl Rest {
    pub(super) fn new(address: SocketAddr, ca_file: &Path, authorization: Option<String>) -> anyhow::Result<Self> {
        Ok(Self { address, tls: TlsConnector::from(client_config(Some(ca_file))?), authorization })
    }

    pub(super) fn origin(&self) -> String {
        format!("https://{NAME}:{}", self.address.port())
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::GET, path, Body::empty()).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call(Method::POST, path, Body::from(body.to_string())).await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call(Method::PUT, path, Body::from(body.to_string())).await
    }

    async fn call(&self, method: Method, path: &str, body: Body) -> anyhow::Result<Value> {
        let what = format!("{method} {path}");
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, format!("{NAME}:{}", self.address.port()))
            .header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(body).context("a request that cannot be written")?;
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
        let answer = serde_json::from_slice(&bytes).with_context(|| format!("{what}: the answer is not JSON"))?;
        if code == 200 {
            return Ok(answer);
        }
        bail!(Refused { code, answer })
    }
}
