//! The daemon on bad networks: links that die, lose and delay, names that are not answered, brokers that freeze and forget.
//!
//! Each story has two network namespaces of its own with a wire between them, the real daemon in one and the stand-in cloud in the
//! other, and prints one line with what it measured. Root is needed. The stories mostly wait, so `--test-threads=8` is wise:
//! `cargo test --all-features --test net -- --test-threads=8 --nocapture`.
#![allow(clippy::disallowed_methods, reason = "these tests measure times, and bound their waits by the clock")]

#[expect(dead_code, reason = "the stories use the rest of it")]
#[path = "../stories/cloud/mod.rs"]
mod cloud;
#[path = "../support/count.rs"]
mod count;
#[expect(dead_code, reason = "the stories use the rest of it")]
#[path = "../stories/device.rs"]
mod device;
#[expect(dead_code, reason = "the stories use the rest of it")]
#[path = "../stories/process.rs"]
mod process;
#[expect(dead_code, reason = "the stories use the rest of it")]
#[path = "../stories/program.rs"]
mod program;

/// Makes two tests of each of these stories: `story::iotcore` and `story::iothub`.
macro_rules! on_both_clouds {
    ($($story:ident),+ $(,)?) => {$(
        mod $story {
            #[test]
            fn iotcore() {
                super::$story(crate::cloud::Kind::IotCore);
            }

            #[test]
            fn iothub() {
                super::$story(crate::cloud::Kind::IotHub);
            }
        }
    )+};
}

mod far;
mod names;
mod namespace;
mod site;

mod addresses;
mod broker;
mod links;
mod lookups;

/// What a story has measured, for people.
#[expect(clippy::print_stdout, reason = "a person wants to know what was measured")]
fn say(text: &str) {
    println!("{text}");
}
