//! Stories of the network that the machine is in, as far as they need none of their own; the others are in tests/net.

use std::fs;

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, Setup};
use crate::process::{Process, log};

on_both_clouds! {
    where_the_kernel_tells_of_no_changes_the_agent_goes_on_without,
}

/// A container or a sandbox may forbid the family of sockets by which the kernel tells of changes.
async fn where_the_kernel_tells_of_no_changes_the_agent_goes_on_without(kind: Kind) {
    let mut device = Device::new(Setup::on(kind)).await;
    let calls = device.path("calls");
    let output = format!("--output={}", calls.display());
    // As a grandchild (`--daemonize`), so that the daemon is the child that is ended. The first socket
    // that has a name is that of the local interface, the second is refused.
    let refuse = "--inject=bind:error=EAFNOSUPPORT:when=2";
    let below = ["strace", "--daemonize", "--follow-forks", "--quiet=all", &output, "--trace=bind", refuse];
    let process = Process::start_below(&device, &below, &[("TWINAGENT_LOG", "debug")]);
    device.wait_until_ready().await;
    let calls = fs::read_to_string(&calls).expect("what strace saw");
    let refused: Vec<&str> = calls.lines().filter(|line| line.contains("(INJECTED)")).collect();
    assert!(!refused.is_empty() && refused.iter().all(|call| call.contains("AF_NETLINK")), "the right one:\n{calls}");
    device.send("count/c-1", "").await;
    device.answer("c-1", 200).await;
    process.stop().await;
    let log = log(&device);
    assert_eq!(log.lines().filter(|line| line.contains("changes of the network")).count(), 1, "{log}");
}
