//! What is kept of what a program writes: the beginning of stdout, the end of stderr. All else is read and forgotten, so
//! that no program waits for us, and none fills our memory.

/// The beginning of a stream, up to a limit.
pub(super) struct Beginning {
    bytes: Vec<u8>,
    limit: usize,
    is_cut: bool,
}

/// The end of a stream, up to a limit.
pub(super) struct Tail {
    bytes: Vec<u8>,
    limit: usize,
}

impl Beginning {
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, is_cut: false }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let fits = bytes.len().min(self.limit - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..fits]);
        self.is_cut |= fits < bytes.len();
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether there was more.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }
}

impl Tail {
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(&bytes[bytes.len().saturating_sub(self.limit)..]);
        // Twice the limit is kept, so that not each small piece moves all the others.
        if self.bytes.len() > 2 * self.limit {
            self.bytes.drain(..self.bytes.len() - self.limit);
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.bytes.len().saturating_sub(self.limit)..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_and_a_tail_are_kept_however_they_come() {
        let all: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for piece in [1, 7, 100, 1000] {
            let (mut beginning, mut tail) = (Beginning::new(300), Tail::new(64));
            for bytes in all.chunks(piece) {
                beginning.push(bytes);
                tail.push(bytes);
                assert!(beginning.bytes.len() <= 300 && tail.bytes.len() <= 128 + 64);
            }
            assert_eq!((beginning.bytes(), beginning.is_cut()), (&all[..300], true));
            assert_eq!(tail.bytes(), &all[936..]);
        }
        let mut whole = Beginning::new(3);
        whole.push(b"abc");
        assert_eq!((whole.bytes(), whole.is_cut()), (&b"abc"[..], false));
        whole.push(b"");
        assert!(!whole.is_cut());
        let mut nothing = Beginning::new(0);
        nothing.push(b"x");
        assert_eq!((nothing.bytes(), nothing.is_cut()), (&b""[..], true));
    }
}
