//! The protocol on any bytes, in any pieces.

use proptest::prelude::*;
use twinagent::varlink::protocol::{Call, Frames, TooLong};

/// All frames of these bytes, when they arrive in pieces of this size.
fn frames(bytes: &[u8], piece: usize, limit: usize) -> Result<Vec<Vec<u8>>, TooLong> {
    let mut frames = Frames::default();
    let mut found = Vec::new();
    for piece in bytes.chunks(piece) {
        frames.push(piece);
        while let Some(frame) = frames.take(limit)? {
            found.push(frame);
        }
        assert!(frames.len() <= limit, "no more is kept than one frame");
    }
    Ok(found)
}

proptest! {
    #[test]
    fn frames_are_the_same_in_whatever_pieces_they_arrive(
        bytes in prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..200),
        piece in 1_usize..20,
    ) {
        let expected: Vec<Vec<u8>> = bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        let whole = &expected[..expected.len() - 1];
        prop_assert_eq!(frames(&bytes, piece, 200).expect("short enough"), whole);
        let longest = expected.iter().map(Vec::len).max().unwrap_or_default();
        if longest > 0 {
            prop_assert_eq!(frames(&bytes, piece, longest - 1), Err(TooLong { limit: longest - 1 }));
        }
    }

    #[test]
    fn any_frame_is_read_or_refused(frame in "[\\[\\]{}:,\"a-z0. ]{0,60}") {
        if let Ok(call) = Call::parse(frame.as_bytes()) {
            prop_assert!(frame.contains("method") && !(call.more && call.oneway));
        }
    }
}

#[test]
fn only_a_call_is_a_call() {
    let right = br#"{"method":"a.B","parameters":{"x":[{"y":1}]},"more":true}"#;
    assert_eq!(Call::parse(right).expect("a call").method, "a.B");
    let nested = format!(r#"{{"method":"a.B","parameters":{{"x":{}}}}}"#, "[".repeat(100_000));
    for (frame, why) in [
        ("", "EOF"),
        ("[]", "an object is expected"),
        (r#"["a.B"]"#, "an object is expected"),
        ("{}", "missing field `method`"),
        (r#"{"method":7}"#, "expected a string"),
        (r#"{"method":"a.B","method":"a.C"}"#, "`method` stands twice"),
        (r#"{"method":"a.B","parameters":{"x":[{"y":1,"y":2}]}}"#, "`y` stands twice"),
        (r#"{"method":"a.B","parameters":[]}"#, "expected a map"),
        (r#"{"method":"a.B","many":true}"#, "unknown field `many`"),
        (r#"{"method":"a.B","more":1}"#, "expected a boolean"),
        (r#"{"method":"a.B","more":true,"oneway":true}"#, "`oneway` takes no reply"),
        (r#"{"method":"a.B"} {}"#, "trailing"),
        (nested.as_str(), "recursion limit"),
    ] {
        let error = Call::parse(frame.as_bytes()).expect_err("no call").to_string();
        assert!(error.starts_with("not a method call: ") && error.contains(why), "{frame:.60}: {error}");
    }
}
