//! Seeds, changed at random and each time in the same way: what a fuzzer does first, without what it learns.

/// What trips parsers.
const MORSELS: &[&[u8]] = &[
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\x7f",
    b"\r\n",
    b"\n",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b"[[[[[[[[",
    b",",
    b":",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"9999-12-31T23:59:60Z",
    b"\xe2\x80\xae",
    b"\xf0\x9f\x92\xa9",
    b"%",
    b"..",
    b"/",
    b"#",
    b"+",
    b" = ",
    b"'''",
    b"-----BEGIN PRIVATE KEY-----",
    b"\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\xff\xff\xff\x7f",
    b"\x80\x80\x80\x80\x01",
];

/// An endless row of inputs.
pub(crate) struct Mutations {
    seeds: Vec<Vec<u8>>,
    largest: usize,
    dice: Dice,
}

impl Mutations {
    /// The same name gives the same inputs.
    pub(crate) fn new(name: &str, seeds: Vec<Vec<u8>>, largest: usize) -> Self {
        assert!(!seeds.is_empty(), "there is a seed that is small enough");
        Self { seeds, largest, dice: Dice(u64::from(crc32fast::hash(name.as_bytes()))) }
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.dice.below(bytes.len() + 1);
        let end = (at + 1 + self.dice.below(16)).min(bytes.len());
        match self.dice.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.dice.below(8),
            1 if at < bytes.len() => bytes[at] = self.dice.byte(),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let again = bytes[at..end].to_vec();
                let times = 1 + self.dice.below(40);
                bytes.splice(at..at, again.repeat(times));
            }
            4 => {
                let morsel = MORSELS[self.dice.below(MORSELS.len())];
                bytes.splice(at..at, morsel.iter().copied());
            }
            5 => {
                let morsel = MORSELS[self.dice.below(MORSELS.len())];
                bytes.splice(at..end, morsel.iter().copied());
            }
            6 => {
                let other = &self.seeds[self.dice.below(self.seeds.len())];
                let from = self.dice.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => bytes.truncate(at),
        }
        bytes.truncate(self.largest);
    }
}

impl Iterator for Mutations {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut bytes = self.seeds[self.dice.below(self.seeds.len())].clone();
        for _ in 0..=self.dice.below(4) {
            self.change(&mut bytes);
        }
        Some(bytes)
    }
}

/// `SplitMix64` (Steele, Lea and Flood, 2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// 0 to `end`, without it.
    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("64 bits");
        usize::try_from(self.next() % end).expect("less than a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}
