//! What the daemon of one story logs, to be read by the story.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use tempfile::NamedTempFile;
use tracing::Dispatch;
use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing_subscriber::layer::SubscriberExt as _;

use crate::device::PATIENCE;

pub(crate) struct Log {
    file: NamedTempFile,
    _guard: DefaultGuard,
    _second: Dispatch,
}

impl Log {
    /// From now on, of everything that runs on this thread: a story's daemon runs on the story's.
    pub(crate) fn listen() -> Self {
        // If ours were the only one it would be asked what it wants to hear in the thread that comes to a line first: where
        // that is another story's, nobody is there, and the line is left out for all.
        let second = Dispatch::new(NoSubscriber::new());
        let file = NamedTempFile::new().expect("a file");
        let writer: Arc<File> = Arc::new(file.reopen().expect("a file"));
        let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
        let log = tracing_subscriber::registry().with(tracing::level_filters::LevelFilter::INFO).with(layer);
        Self { file, _guard: tracing::subscriber::set_default(log), _second: second }
    }

    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(self.file.path()).expect("UTF-8")
    }

    /// Lines of the daemon with this in them. The bridge logs on the same thread.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.text().lines().filter(|line| line.contains("twinagent::daemon") && line.contains(part)).count()
    }

    /// Waits for such a line.
    pub(crate) async fn wait_for(&self, part: &str) {
        let told = async {
            while self.count(part) == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let told = tokio::time::timeout(PATIENCE, told).await;
        assert!(told.is_ok(), "`{part}` is not logged:\n{}", self.text());
    }
}
