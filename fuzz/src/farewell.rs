//! Any bytes where the mark of an orderly end should be: the id of a boot, which reads back as it was, or nothing.

use twinagent::store::farewell::parse;

pub const VERDICTS: &[&str] = &["boot", "nothing"];

pub fn read(bytes: &[u8]) -> String {
    match parse(bytes) {
        Some(boot) => {
            assert_eq!(parse(format!("{boot}\n").as_bytes()), Some(boot));
            "boot"
        }
        None => "nothing",
    }
    .to_owned()
}
