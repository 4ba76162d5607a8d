//! What strangers say, made fit for one line of a log.

/// The text with at most so many characters; whatever is not a visible ASCII character or a space becomes a question mark.
pub(super) fn plain(bytes: &[u8], longest: usize) -> String {
    let fit = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '?' };
    bytes.trim_ascii().iter().take(longest).map(fit).collect()
}

/// The status line of an answer in HTTP, or as much of it as is of use.
pub(super) fn status_line(answer: &[u8]) -> String {
    const LONGEST: usize = 120;
    plain(answer.split(|byte| *byte == b'\n').next().unwrap_or_default(), LONGEST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_status_line_is_told_without_what_follows() {
        assert_eq!(status_line(b"HTTP/1.1 302 Found\r\nLocation: x\r\n"), "HTTP/1.1 302 Found");
        assert_eq!(status_line(b"HTTP/1.1 200 \x1b[31mO\xc3\xa4\0"), "HTTP/1.1 200 ?[31mO???");
    }

    proptest! {
        #[test]
        fn one_short_line_comes_of_anything(bytes: Vec<u8>) {
            let line = status_line(&bytes);
            prop_assert!(line.len() <= 120 && line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
        }
    }
}
