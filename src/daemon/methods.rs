//! The handlers of this device, put together: those that are built in, those that `methods.enable` adds, and those of
//! manifests.

use std::sync::Arc;

use crate::config::{Config, Folders};
use crate::handler::Handler;

/// Handlers that a device has only if its operator says so.
pub(super) fn enabled(folders: &Folders, config: &Config) -> Vec<Arc<dyn Handler>> {
    let _ = (folders, config);
    Vec::new()
}
