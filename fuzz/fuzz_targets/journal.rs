//! Any bytes where the journal should be: judged without a panic, and what is left after cutting a torn tail is sound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twinagent::store::scan;

fuzz_target!(|bytes: &[u8]| {
    judge(bytes);
    judge(&whole_lines(bytes));
});

fn judge(bytes: &[u8]) {
    if let Ok(found) = scan(bytes) {
        let whole = usize::try_from(found.whole).expect("no longer than the input");
        assert_eq!(scan(&bytes[..whole]), Ok(found));
    }
}

/// The input with a right head and right checksums, which a fuzzer would hardly ever find: what is behind them is fuzzed.
fn whole_lines(bytes: &[u8]) -> Vec<u8> {
    let mut journal = b"twinagent journal 1 000000000000002e 38405f3d\n".to_vec();
    for line in bytes.split(|byte| *byte == b'\n') {
        journal.extend_from_slice(format!("{:08x} ", crc32fast::hash(line)).as_bytes());
        journal.extend_from_slice(line);
        journal.push(b'\n');
    }
    journal
}
