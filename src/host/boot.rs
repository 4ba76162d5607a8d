//! Which run of the kernel this is.
//!
//! Read once, when the daemon starts: it does not change while we live.

use std::fs;

use anyhow::Context;

use crate::model::now::BootId;

const FILE: &str = "/proc/sys/kernel/random/boot_id";

/// The boot id of the running kernel. Without it no reboot could ever be proved, so this error ends the start.
pub fn id() -> anyhow::Result<BootId> {
    let text = fs::read_to_string(FILE).with_context(|| {
        format!("{FILE} cannot be read; if the unit has ProcSubset=pid, take it away, for it hides this file")
    })?;
    text.parse().with_context(|| format!("{FILE} does not hold what Linux writes there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_an_id_and_keeps_it() {
        let id = id().expect("Linux has one");
        let text = fs::read_to_string(FILE).expect("readable");
        assert_eq!(id.to_string(), text.trim_end());
    }
}
