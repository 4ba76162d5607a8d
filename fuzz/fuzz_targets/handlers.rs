//! See `decoders::handlers`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    decoders::handlers::read(bytes);
});
