//! From samples to figures, and on which machine they were taken.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// Times of commands, unsorted.
#[derive(Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The time that this share of the samples does not exceed.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "an index of some thousand samples"
    )]
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted[((sorted.len() - 1) as f64 * share).round() as usize]
    }
}

pub(crate) fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len().is_multiple_of(2) { f64::midpoint(numbers[middle - 1], numbers[middle]) } else { numbers[middle] }
}

/// The median of the ratios, and between which bounds the middle half of them lies.
pub(crate) fn print_ratios(what: &str, mut ratios: Vec<f64>) {
    let middle = median(&mut ratios);
    let quarter = ratios.len() / 4;
    let (low, high) = (ratios[quarter], ratios[ratios.len() - 1 - quarter]);
    println!("  {what}: {middle:.2} (half of {} pairs within {low:.2} to {high:.2})", ratios.len());
}

/// The processor, the kernel, and where the state folder lies.
pub(crate) fn machine(folder: &Path) -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{processors} x {}, Linux {}, load {}; state on {}",
        model.unwrap_or("unknown processor"),
        kernel.trim(),
        load.split_whitespace().next().unwrap_or("unknown"),
        file_system(folder)
    )
}

/// Type and device of the file system below a folder, by the longest mount point above it (proc(5), `mounts`).
fn file_system(folder: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let found = mounts.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (device, place, kind) = (words.next()?, words.next()?, words.next()?);
        folder.starts_with(place).then(|| (place.len(), format!("{kind} ({device})")))
    });
    found.max_by_key(|(length, _)| *length).map_or_else(|| "an unknown file system".to_owned(), |(_, name)| name)
}
