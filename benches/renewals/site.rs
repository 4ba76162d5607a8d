//! What both kinds of device share: their cloud, which forgives no expired token, and the long way to it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use twinagent::bridge::{Bridge, Cloud, Options, RegistryName};

use crate::relay;

pub(crate) const PROJECT: &str = "my-project";
pub(crate) const REGION: &str = "us-central1";
pub(crate) const REGISTRY: &str = "my-registry";

/// Of each token. Short, so that a thousand renewals are not the work of a month. Long enough that what is left of it at a
/// renewal is more than the second that a token may lose, since it tells its end in whole ones.
pub(crate) const LIFETIME: Duration = Duration::from_secs(20);

/// The cloud and the relay, on a thread and a runtime of their own, so that what measures does not delay them.
pub(crate) struct Site {
    pub(crate) cloud: Cloud,
    pub(crate) registry: RegistryName,
    /// The near end of the long way.
    pub(crate) relay: SocketAddr,
    pub(crate) ca_file: PathBuf,
    _folder: TempDir,
}

pub(crate) async fn start() -> Site {
    let folder = tempfile::tempdir().expect("a folder");
    let options =
        Options { mqtts: Some("127.0.0.1:0".to_owned()), skew: Duration::ZERO, ..Options::new(folder.path()) };
    let (tell, told) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let bridge = Bridge::start(options).await.expect("the stand-in cloud starts");
            let relay = relay::start(bridge.addresses().mqtts.expect("a listener")).await;
            tell.send((bridge.cloud(), relay, bridge.ca_file().to_owned())).expect("somebody waits");
            // Until the process ends.
            std::future::pending::<()>().await;
        });
    });
    let (cloud, relay, ca_file) = told.recv().expect("the stand-in cloud starts");
    let registry = cloud.create_registry(PROJECT, REGION, REGISTRY, true).await.expect("a registry");
    Site { cloud, registry, relay, ca_file, _folder: folder }
}
