//! What may be believed of a journal's bytes, for every way in which they can have suffered.

use std::fmt;
use std::time::Duration;

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{accepted, accepted_with, boot, finished, told};
use crate::model::command::{CommandId, DeviceId, Key, Method, Outcome, ReplyTo, Status};
use crate::model::digest::Digest;
use crate::model::now::{BootId, BootInstant, Doubt, Timestamp};
use crate::model::record::{FORMAT, Record, Told};
use crate::store::lines::{Damage, Scan, push, scan, snapshot};

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((any::<String>(), inner), 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn time() -> impl Strategy<Value = Timestamp> {
    // The years 68 to 9892.
    (-60_000_000_000_000_000..250_000_000_000_000_000_i64).prop_map(Timestamp::from_micros)
}

fn boot_id() -> impl Strategy<Value = BootId> {
    "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}".prop_map(|text| text.parse().expect("a UUID"))
}

fn key() -> impl Strategy<Value = Key> {
    ("[!$-&(-.0-~]{1,20}", "[A-Za-z0-9_-]{1,64}").prop_filter_map("not a device id", |(target, id)| {
        Some(Key { target: DeviceId::parse(&target).ok()?, id: CommandId::parse(&id).ok()? })
    })
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 4]>().prop_map(|bytes| Digest::of(&bytes))
}

fn record() -> impl Strategy<Value = Record> {
    let method = "[A-Za-z][A-Za-z0-9_-]{0,63}".prop_map(|name| Method::parse(&name).expect("a name"));
    let names = btree_set(method.clone(), 0..4);
    let reply_to = option::of(any::<String>().prop_map(ReplyTo));
    let what = prop_oneof![Just(Told::Nothing), Just(Told::Accepted), Just(Told::Outcome)];
    prop_oneof![
        (boot_id(), time(), time(), any::<bool>(), option::of(any::<bool>()))
            .prop_map(|(id, time, at, doubtful, clean)| Record::Boot { id, time, at, doubtful, clean }),
        (boot_id(), time(), time()).prop_map(|(boot, time, at)| Record::BootTime { boot, time, at }),
        (any::<bool>(), time()).prop_map(|(by_hand, at)| Record::GuardCleared { by_hand, at }),
        (
            (key(), method, json(), digest()),
            (any::<[bool; 4]>(), reply_to, option::of(time()), boot_id(), time(), option::of(any::<Duration>()))
        )
            .prop_map(
                |(
                    (key, method, payload, digest),
                    ([derived, local, started, doubtful], reply_to, expires, boot, at, up),
                )| {
                    let up = up.map(BootInstant);
                    Record::Accepted {
                        key,
                        method,
                        payload,
                        digest,
                        derived,
                        local,
                        reply_to,
                        expires,
                        started,
                        boot,
                        at,
                        up,
                        doubtful,
                    }
                }
            ),
        (key(), boot_id(), time(), option::of(time()), option::of(any::<Duration>()), any::<bool>()).prop_map(
            |(key, boot, at, until, up, doubtful)| {
                let up = up.map(BootInstant);
                Record::Started { key, boot, at, until, up, doubtful }
            }
        ),
        (key(), any::<u16>(), json(), time(), option::of((boot_id(), any::<Duration>()))).prop_map(
            |(key, status, payload, at, doubt)| Record::Finished {
                key,
                outcome: Outcome::new(Status(status), payload),
                at,
                doubt: doubt.map(|(boot, up)| Doubt { boot, up: BootInstant(up) }),
            }
        ),
        (key(), what, option::of(any::<u64>())).prop_map(|(key, what, ran)| Record::Told { key, what, ran }),
        (any::<u64>(), option::of(time())).prop_map(|(ran, at)| Record::Seen { ran, at }),
        (boot_id(), time()).prop_map(|(boot, at)| Record::Began { boot, at }),
        vec((any::<String>(), json()), 0..4)
            .prop_map(|members| Record::Reported { patch: members.into_iter().collect() }),
        names.prop_map(|methods| Record::Served { methods }),
        (digest(), option::of(any::<u64>()), any::<u16>()).prop_map(|(digest, version, status)| Record::Desired {
            digest,
            version,
            status
        }),
    ]
}

/// A journal as it grows in life: a snapshot, batches, and one batch that was written and not synced yet.
#[derive(Clone)]
struct Written {
    bytes: Vec<u8>,
    snapshot: u64,
    /// Where each line after the head begins, what it claims to be synced, and where it ends.
    lines: Vec<(u64, u64, u64)>,
    records: Vec<Record>,
    /// What was on disk when the last batch was written.
    synced: u64,
}

/// As a person would see it.
impl fmt::Debug for Written {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "synced {:#x}, lines {:?}:\n{}", self.synced, self.lines, String::from_utf8_lossy(&self.bytes))
    }
}

impl Written {
    fn new(first: Vec<Record>, batches: Vec<Vec<Record>>) -> Self {
        let bytes = snapshot(&first);
        let mut lines = Vec::new();
        let mut start = bytes.iter().position(|byte| *byte == b'\n').expect("a head") as u64 + 1;
        for line in bytes[usize::try_from(start).expect("small")..].split_inclusive(|byte| *byte == b'\n') {
            lines.push((start, 0, start + line.len() as u64));
            start += line.len() as u64;
        }
        let synced = bytes.len() as u64;
        let mut written = Self { bytes, snapshot: synced, lines, records: first, synced };
        let last = batches.len().saturating_sub(1);
        for (number, batch) in batches.into_iter().enumerate() {
            for record in &batch {
                let start = written.bytes.len() as u64;
                push(&mut written.bytes, written.synced, record);
                written.lines.push((start, written.synced, written.bytes.len() as u64));
            }
            if number < last && batch.iter().any(Record::must_be_synced) {
                written.synced = written.bytes.len() as u64;
            }
            written.records.extend(batch);
        }
        written
    }

    /// The records whose lines end at or before this offset.
    fn until(&self, offset: u64) -> &[Record] {
        &self.records[..self.lines.iter().filter(|(_, _, end)| *end <= offset).count()]
    }
}

fn written() -> impl Strategy<Value = Written> {
    (vec(record(), 0..4), vec(vec(record(), 1..4), 1..5)).prop_map(|(first, batches)| Written::new(first, batches))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read(journal in written()) {
        let whole = journal.bytes.len() as u64;
        prop_assert_eq!(
            scan(&journal.bytes),
            Ok(Scan { records: journal.records, snapshot: journal.snapshot, whole })
        );
    }

    #[test]
    fn a_cut_leaves_the_records_before_it_and_is_noticed_inside_the_snapshot(
        (journal, cut) in written().prop_flat_map(|journal| { let end = journal.bytes.len(); (Just(journal), 0..=end) })
    ) {
        match scan(&journal.bytes[..cut]) {
            Ok(scan) => {
                prop_assert!(cut as u64 >= journal.snapshot);
                prop_assert_eq!(&scan.records, journal.until(cut as u64));
                prop_assert!(scan.whole <= cut as u64);
            }
            Err(damage) => {
                prop_assert!((cut as u64) < journal.snapshot, "{:?}", damage);
                let corrupt = matches!(damage, Damage::Corrupt { .. });
                prop_assert!(corrupt, "{:?}", damage);
            }
        }
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed_and_in_the_synced_part_it_is_damage(
        (journal, place, bit) in
            written().prop_flat_map(|journal| { let end = journal.bytes.len(); (Just(journal), 0..end, 0..8_u32) })
    ) {
        let mut bytes = journal.bytes.clone();
        bytes[place] ^= 1_u8 << bit;
        let place = place as u64;
        let hit = journal.lines.iter().position(|(_, _, end)| place < *end);
        let start = match hit {
            Some(line) if place >= journal.lines[line].0 => journal.lines[line].0,
            _ => 0,
        };
        // A line that lost its newline takes the next one with it.
        let claimed = journal.lines.iter().filter(|(begin, _, end)| *end <= start || *begin > place + 1);
        let claimed = claimed.map(|(_, claim, _)| *claim).fold(journal.snapshot, u64::max);
        match scan(&bytes) {
            Ok(scan) => {
                prop_assert!(claimed <= start, "accepted although {} bytes were on disk", claimed);
                prop_assert_eq!(scan.whole, start);
                prop_assert_eq!(&scan.records, journal.until(start));
            }
            Err(Damage::Corrupt { offset }) => {
                prop_assert!(claimed > start, "a torn tail was taken for damage");
                prop_assert_eq!(offset, start);
            }
            Err(Damage::Newer { .. }) => prop_assert_eq!(start, 0),
            Err(Damage::Foreign { .. }) => prop_assert!(false, "a changed line was taken for a whole one"),
        }
    }

    /// After a loss of power each block of the unsynced part is there, or reads as zeros, in any pattern.
    #[test]
    fn blocks_that_were_not_synced_may_be_lost_in_any_pattern(
        journal in written(), lost in vec(any::<bool>(), 64), block in 1_usize..200, cut in any::<prop::sample::Index>()
    ) {
        let synced = usize::try_from(journal.synced).expect("small");
        let mut bytes = journal.bytes.clone();
        for (block, lost) in bytes[synced..].chunks_mut(block).zip(lost.iter().cycle()) {
            if *lost {
                block.fill(0);
            }
        }
        bytes.truncate(synced + cut.index(bytes.len() - synced + 1));
        let scan = scan(&bytes);
        prop_assert!(scan.is_ok(), "{:?}", scan);
        let scan = scan.expect("checked");
        prop_assert!(scan.whole >= journal.synced);
        prop_assert_eq!(&scan.records, journal.until(scan.whole));
    }

    /// The control of the story above: the same loss, among bytes that a later line knows to have been on disk. (Two lines
    /// are behind it: zeros right up to a line's start take that line along.)
    #[test]
    fn synced_blocks_that_read_as_zeros_are_damage(
        first in vec(record(), 0..3), batch in vec(record(), 1..4), place in any::<prop::sample::Index>(),
        length in 1_usize..4096
    ) {
        let journal = Written::new(first, vec![vec![boot()], batch, vec![told(1), told(2)]]);
        let claimed = usize::try_from(journal.lines.last().expect("a line").1).expect("small");
        let place = place.index(claimed);
        let mut bytes = journal.bytes;
        bytes[place..claimed.min(place + length)].fill(0);
        let found = scan(&bytes);
        let corrupt = matches!(found, Err(Damage::Corrupt { offset }) if offset <= place as u64);
        prop_assert!(corrupt, "{:?}", found);
    }

    #[test]
    fn any_bytes_are_judged_and_cutting_is_final(journal in written(), tail in vec(any::<u8>(), 0..300)) {
        let _ = scan(&tail);
        let mut bytes = journal.bytes;
        bytes.extend_from_slice(&tail);
        if let Ok(found) = scan(&bytes) {
            bytes.truncate(usize::try_from(found.whole).expect("small"));
            prop_assert_eq!(scan(&bytes), Ok(found));
        }
    }
}

#[test]
fn the_format_on_disk_is_this_one() {
    let mut bytes = snapshot(&[boot()]);
    let length = bytes.len() as u64;
    push(&mut bytes, length, &finished(7));
    let text = String::from_utf8(bytes.clone()).expect("text");
    assert_eq!(text, GOLDEN, "a change needs a new FORMAT");
    assert_eq!(scan(GOLDEN.as_bytes()).map(|scan| scan.records), Ok(vec![boot(), finished(7)]));
}

const GOLDEN: &str = r#"twinagent journal 1 00000000000000bf 1bf253d3
e4ecdfdd 0 {"record":"boot","id":"7c1a0f0e-3c5b-4d0a-9c41-2f4f5b8e8a10","time":"2026-11-21T04:00:07.120000Z","at":"2026-11-21T04:00:07.120000Z"}
45883382 bf {"record":"finished","target":"gw-1","id":"7","status":200,"payload":"done","at":"2026-11-21T04:00:07.120000Z"}
"#;

#[test]
fn a_head_of_a_higher_format_is_newer_and_any_other_head_is_damage() {
    for newer in ["twinagent journal 2\n", "twinagent journal 17 and whatever comes then\n\0\0"] {
        assert!(matches!(scan(newer.as_bytes()), Err(Damage::Newer { format }) if format > FORMAT), "{newer:?}");
    }
    let sound = String::from_utf8(snapshot(&[])).expect("text");
    assert!(scan(sound.as_bytes()).is_ok());
    for wrong in [
        "",
        "\n",
        "twinagent journal 1\n",
        "twinagent journal 0 0000000000000034 00000000\n",
        "twinagent journal 99999999999999999999\n",
        "something else\n",
        sound.trim_end(),
        &sound.to_uppercase(),
        &format!(" {sound}"),
        &sound.replace('\n', "\r\n"),
    ] {
        assert_eq!(scan(wrong.as_bytes()), Err(Damage::Corrupt { offset: 0 }), "{wrong:?}");
    }
}

#[test]
fn a_line_that_was_taken_out_is_damage() {
    let journal = Written::new(vec![], vec![vec![accepted(1)], vec![accepted(2)], vec![accepted(3)]]);
    let (start, _, end) = journal.lines[1];
    let mut bytes = journal.bytes;
    bytes.drain(usize::try_from(start).expect("small")..usize::try_from(end).expect("small"));
    assert_eq!(scan(&bytes), Err(Damage::Corrupt { offset: start }));
}

#[test]
fn a_whole_line_that_is_no_record_is_foreign() {
    for json in [
        r#"{"record":"reversed","target":"gw-1"}"#,
        r#"{"record":"told","target":"gw-1","id":"1","what":"everything"}"#,
        r#"{"record":"told","target":"gw-1","id":"1","what":"outcome"} {}"#,
        "no JSON",
        &"[".repeat(100_000),
    ] {
        let mut bytes = snapshot(&[boot()]);
        let offset = bytes.len() as u64;
        let checked = format!("{offset:x} {json}");
        bytes.extend_from_slice(format!("{:08x} {checked}\n", crc32fast::hash(checked.as_bytes())).as_bytes());
        assert_eq!(scan(&bytes), Err(Damage::Foreign { offset }), "{json:.60}");
    }
}

#[test]
fn a_member_that_a_later_version_added_is_passed_over() {
    let checked = r#"0 {"record":"told","target":"gw-1","id":"1","what":"outcome","later":{"a":[1]}}"#;
    let mut bytes = snapshot(&[]);
    bytes.extend_from_slice(format!("{:08x} {checked}\n", crc32fast::hash(checked.as_bytes())).as_bytes());
    assert_eq!(scan(&bytes).map(|scan| scan.records), Ok(vec![told(1)]));
}

/// `serde_json` reads 127 levels from the wire; within a record they are one more than it would read again by itself.
#[test]
fn the_deepest_payload_that_can_arrive_is_read_back() {
    let deepest = format!("{}{}", "[".repeat(127), "]".repeat(127));
    let payload: Value = serde_json::from_str(&deepest).expect("the limit of the wire");
    let records = vec![accepted_with(1, payload.clone()), accepted_with(2, json!({ "\"[{\\": "]}\"" }))];
    assert!(serde_json::from_str::<Record>(&serde_json::to_string(&records[0]).expect("JSON")).is_err(), "the control");
    assert_eq!(scan(&snapshot(&records)).map(|scan| scan.records), Ok(records));
}
