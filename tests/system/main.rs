//! Stories of the installed package: a real Debian with systemd as process 1, a real cloud beside it, real reboots.
//!
//! One module a theme, one test a story; how a machine is made and handled is the business of `harness`. Root is needed,
//! and from the environment may come
//!
//! * `TWINAGENT_DEB_DIR`: the folder of the package, if not target/debian, where packaging/build.sh leaves it;
//! * `TWINAGENT_TEST_CACHE`: the folder of the plain Debians, if not /var/cache/twinagent-tests;
//! * `TWINAGENT_TEST_MIRROR`: where they come from, if not from where apt on this host gets its packages;
//! * `TWINAGENT_TEST_KEEP`: anything, to keep the machines' folders in target/system.
#![allow(clippy::disallowed_methods, reason = "these tests read the environment, and bound their waits by the clock")]

mod harness;

mod configuration;
mod credential;
mod day_one;
mod endurance;
mod handlers;
mod install;
mod journal;
mod loops;
mod privileges;
mod reboot;
mod reboot_logind;
mod removal;
mod sandbox;
mod upgrade;
