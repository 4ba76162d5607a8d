//! See `decoders::connection_string`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    decoders::connection_string::read(bytes);
});
