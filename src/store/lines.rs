//! The journal as text: how records become lines, and what may be believed of the bytes that are found. Pure.
//!
//! ```text
//! twinagent journal 1 0000000000000121 5d1c09f4          head: format, length of the snapshot, CRC of what stands before
//! 8c2f1a3e 0 {"record":"boot","id":…}                     CRC of what follows it, synced length, record
//! 1b7700aa 121 {"record":"accepted","target":…}
//! ```
//!
//! It is text so that a person can read it on site with nothing but `less`. Lengths and CRC-32s are hexadecimal.
//!
//! **Torn or damaged?** A loss of power may leave anything in the part of a file that was not synced: blocks reach the
//! disk in any order, and those that did not read as zeros. That part was never promised to anybody and is cut off.
//! Damage to what *was* synced must never be mistaken for it, or commands that ran would be forgotten and run again. So
//! each line carries the length of the file that was known to be on disk when the line was written, and the head the
//! length of the snapshot, which is synced before the file gets its name. Let X be the first place without a whole line
//! (or the end of the file):
//!
//! * some whole line, before or behind X, says that more than X bytes were synced: **damaged** at X;
//! * none does: X and all behind it is a **torn tail**.
//!
//! What remains: damage in the very last synced batch looks like a torn tail, since no line was written after it that
//! could tell. Only a second write for every sync would close this gap.
//!
//! A whole line that is no [`Record`] is no damage: somebody wrote it on purpose and this program must not guess.

use crate::model::record::{FORMAT, Record};

/// What stands at the head of the journal of every format, before the number.
const TITLE: &str = "twinagent journal ";

/// How deep the JSON of a line may be nested. `serde_json` takes 127 levels from the wire and a record adds its own, so
/// its usual limit would refuse to read what it let us write.
const MAX_DEPTH: usize = 256;

/// A journal that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Scan {
    pub records: Vec<Record>,
    /// The length of the snapshot at its start, in bytes.
    pub snapshot: u64,
    /// The length up to which every line is whole, in bytes. What lies behind it is a torn tail.
    pub whole: u64,
}

/// Why a journal must be left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Bytes that had been on disk are missing or changed, first at this offset.
    Corrupt { offset: u64 },
    /// The head names a higher format than [`FORMAT`].
    Newer { format: u32 },
    /// The whole line at this offset is no record that we know.
    Foreign { offset: u64 },
}

/// A whole journal that begins with these records.
pub(super) fn snapshot(records: &[Record]) -> Vec<u8> {
    let mut bytes = head(0).into_bytes();
    for record in records {
        push(&mut bytes, 0, record);
    }
    let head = head(bytes.len() as u64);
    bytes[..head.len()].copy_from_slice(head.as_bytes());
    bytes
}

/// Adds the line of a record that is written while `synced` bytes of the file are known to be on disk.
pub(super) fn push(bytes: &mut Vec<u8>, synced: u64, record: &Record) {
    let json = serde_json::to_string(record).expect("a record is made of texts, numbers and JSON only");
    let checked = format!("{synced:x} {json}");
    bytes.extend_from_slice(format!("{} {checked}\n", checksum(checked.as_bytes())).as_bytes());
}

/// The head of a journal whose first `length` bytes, the head's own included, are its snapshot. Of one width always.
fn head(length: u64) -> String {
    let checked = format!("{TITLE}{FORMAT} {length:016x}");
    format!("{checked} {}\n", checksum(checked.as_bytes()))
}

/// CRC-32 as it is written. Compared as text, so that no other spelling passes for it.
fn checksum(bytes: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(bytes))
}

/// Reads a journal by the rule of this module. Takes any bytes.
pub fn scan(bytes: &[u8]) -> Result<Scan, Damage> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let snapshot = read_head(first)?;

    let mut records = Vec::new();
    let mut offset = first.len() as u64;
    let mut promised = snapshot;
    let mut torn_at = None;
    for line in lines {
        match (read_line(line), torn_at) {
            (Some((synced, _)), _) if synced > offset => {
                // It was written behind more than what stands before it now.
                return Err(Damage::Corrupt { offset: torn_at.unwrap_or(offset) });
            }
            (Some((synced, json)), None) => {
                promised = promised.max(synced);
                records.push(read_record(json).ok_or(Damage::Foreign { offset })?);
            }
            (Some((synced, _)), Some(_)) => promised = promised.max(synced),
            (None, None) => torn_at = Some(offset),
            (None, Some(_)) => {}
        }
        offset += line.len() as u64;
    }
    let whole = torn_at.unwrap_or(offset);
    if promised > whole { Err(Damage::Corrupt { offset: whole }) } else { Ok(Scan { records, snapshot, whole }) }
}

/// The length of the snapshot. The head is written together with it, so there is no head that is merely torn.
fn read_head(line: &[u8]) -> Result<u64, Damage> {
    let corrupt = Damage::Corrupt { offset: 0 };
    let line = std::str::from_utf8(line).ok().and_then(|line| line.strip_suffix('\n')).ok_or(corrupt)?;
    let rest = line.strip_prefix(TITLE).ok_or(corrupt)?;
    let format = rest.split(' ').next().and_then(decimal).ok_or(corrupt)?;
    if format > FORMAT {
        return Err(Damage::Newer { format });
    }
    let (checked, sum) = line.rsplit_once(' ').ok_or(corrupt)?;
    if sum != checksum(checked.as_bytes()) || format != FORMAT {
        return Err(corrupt);
    }
    checked.rsplit_once(' ').and_then(|(_, length)| hexadecimal(length)).ok_or(corrupt)
}

/// Synced length and JSON of a line, if it is whole.
fn read_line(line: &[u8]) -> Option<(u64, &[u8])> {
    let line = line.strip_suffix(b"\n")?;
    let (sum, checked) = line.split_at_checked(8)?;
    let checked = checked.strip_prefix(b" ")?;
    if sum != checksum(checked).as_bytes() {
        return None;
    }
    let space = checked.iter().position(|byte| *byte == b' ')?;
    let synced = std::str::from_utf8(&checked[..space]).ok().and_then(hexadecimal)?;
    Some((synced, &checked[space + 1..]))
}

fn read_record(json: &[u8]) -> Option<Record> {
    if depth(json) > MAX_DEPTH {
        return None;
    }
    let mut input = serde_json::Deserializer::from_slice(json);
    input.disable_recursion_limit();
    let record = serde::Deserialize::deserialize(&mut input).ok()?;
    input.end().ok()?;
    Some(record)
}

/// How deep arrays and objects are nested, at least: strings are skipped, whether the rest is JSON is not looked at.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn decimal(digits: &str) -> Option<u32> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

fn hexadecimal(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}
