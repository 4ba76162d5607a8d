//! See `decoders::last_good`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    decoders::last_good::read(bytes);
});
