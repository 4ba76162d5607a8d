//! The names of the methods that the program has by itself: those that every device answers, and those that
//! `methods.enable` adds. No manifest may take one of them, enabled or not.
//!
//! Names only. What they do stands with the model and the handlers; a test of the daemon holds them together.

use crate::model::command::Method;
use crate::model::nearest::nearest;
pub use crate::model::own::ENABLED;

/// Methods that every device answers, unless `methods.disable` names them.
pub const ALWAYS: [&str; 7] =
    ["cancelCommand", "cancelReboot", "echo", "getStatus", "listMethods", "rebootDevice", "refreshState"];

/// Whether a method of this name is the program's own.
pub fn is_own(method: &Method) -> bool {
    all().any(|own| own == method.as_str())
}

/// What is wrong with a name in `methods.enable`. A method that is always there needs no enabling, and does no harm.
pub(super) fn not_to_be_enabled(method: &Method) -> Option<String> {
    if is_own(method) {
        return None;
    }
    Some(match nearest(method.as_str(), all()) {
        Some(meant) => format!("\"{method}\" is no method that can be enabled; did you mean \"{meant}\"?"),
        None => format!(
            "\"{method}\" is no method that can be enabled: {} are, and what a manifest adds is there without",
            ENABLED.join(", ")
        ),
    })
}

fn all() -> impl Iterator<Item = &'static str> {
    ALWAYS.into_iter().chain(ENABLED)
}
