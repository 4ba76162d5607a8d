//! Any bytes where the journal should be: judged without a panic, what is left after cutting a torn tail is sound, and
//! what was read is read again when it is written anew.

use twinagent::model::record::Record;
use twinagent::store::{Damage, Scan, scan};

pub const VERDICTS: &[&str] = &["sound", "torn", "corrupt", "newer", "foreign"];

/// A right head. Its length is its own.
const HEAD: &[u8] = b"twinagent journal 1 000000000000002e 38405f3d\n";

pub fn read(bytes: &[u8]) -> String {
    let whole = written(bytes.split(|byte| *byte == b'\n'));
    if let Ok(found) = judge(&whole) {
        is_read_again(&found.records);
    }
    match judge(bytes) {
        Ok(scan) if scan.whole == bytes.len() as u64 => "sound",
        Ok(_) => "torn",
        Err(Damage::Corrupt { .. }) => "corrupt",
        Err(Damage::Newer { .. }) => "newer",
        Err(Damage::Foreign { .. }) => "foreign",
    }
    .to_owned()
}

fn judge(bytes: &[u8]) -> Result<Scan, Damage> {
    let found = scan(bytes)?;
    let whole = usize::try_from(found.whole).expect("no longer than the input");
    assert_eq!(scan(&bytes[..whole]).as_ref(), Ok(&found));
    Ok(found)
}

/// A journal of these records gives them back, whatever they hold.
pub fn is_read_again(records: &[Record]) {
    let lines: Vec<String> =
        records.iter().map(|record| format!("0 {}", serde_json::to_string(record).expect("JSON"))).collect();
    let journal = written(lines.iter().map(String::as_bytes));
    assert_eq!(scan(&journal).map(|scan| scan.records).as_deref(), Ok(records));
}

/// The lines behind a right head and with right checksums, which a fuzzer would hardly ever find: what is behind them is
/// fuzzed.
fn written<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut journal = HEAD.to_vec();
    for line in lines {
        journal.extend_from_slice(format!("{:08x} ", crc32fast::hash(line)).as_bytes());
        journal.extend_from_slice(line);
        journal.push(b'\n');
    }
    journal
}
