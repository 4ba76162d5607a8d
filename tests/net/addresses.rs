//! Stories of the machine's own addresses: a change is told, what only seems to be one is not, and a session outlives it.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use twinagent::host::network::Network;

use crate::cloud::Kind;
use crate::device::{PATIENCE, Setup};
use crate::namespace::Namespace;
use crate::say;
use crate::site::{CLOUD, DEVICE, Known, setup, story};

/// More than a burst may last.
const QUIET: Duration = Duration::from_millis(2_500);

/// Does this, and expects that it is told once and then no more.
async fn tells(network: &mut Network, far: &Namespace, line: &str) -> Duration {
    let begun = Instant::now();
    far.sh(line);
    timeout(PATIENCE, network.changed()).await.unwrap_or_else(|_| panic!("{line}: not told"));
    let took = begun.elapsed();
    assert!(timeout(QUIET, network.changed()).await.is_err(), "{line}: told twice");
    took
}

async fn is_quiet(network: &mut Network, far: &Namespace, line: &str) {
    far.sh(line);
    assert!(timeout(QUIET, network.changed()).await.is_err(), "{line}: told, and is no matter");
}

/// The kernel's own count of messages for our socket that found no room.
fn lost(sockets: &str) -> u64 {
    // The columns: sk, Eth, Pid, Groups, Rmem, Wmem, Dump, Locks, Drops, Inode. Nobody else listens to these groups.
    let ours =
        sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|line| line[3] == "00000551");
    ours.and_then(|line| line[8].parse().ok()).expect("the socket that watches")
}

on_both_clouds! {
    what_changes_the_network_is_told_once_and_what_only_refreshes_it_is_not,
    a_device_that_gets_another_address_comes_back_by_itself,
    a_device_whose_cable_is_put_back_does_not_wait_for_its_back_off,
}

fn what_changes_the_network_is_told_once_and_what_only_refreshes_it_is_not(cloud: Kind) {
    story(Known::ByFile, setup(cloud), async |site| {
        let far = &site.far;
        // Link-local addresses come by themselves when a link is new.
        let mut network = Network::watch();
        while timeout(QUIET, network.changed()).await.is_ok() {}

        let took = tells(&mut network, far, "ip addr add 10.77.0.7/24 dev wire").await;
        say(&format!("a new address: told after {took:.1?}"));
        tells(&mut network, far, "ip addr add 2001:db8:77::7/64 dev wire valid_lft 600 preferred_lft 600 nodad").await;
        // What a router's advertisement and a DHCP lease do every few minutes.
        let refresh = "ip addr change 2001:db8:77::7/64 dev wire valid_lft 500 preferred_lft 500 nodad";
        for _ in 0..2 {
            is_quiet(&mut network, far, refresh).await;
        }
        tells(&mut network, far, "ip route add default via 10.77.0.2").await;
        is_quiet(&mut network, far, "ip route replace default via 10.77.0.2").await;
        is_quiet(&mut network, far, "ip route add 203.0.113.0/24 via 10.77.0.2").await;
        tells(&mut network, far, "ip route del default").await;
        tells(&mut network, far, "ip addr del 10.77.0.7/24 dev wire && ip addr add 10.77.0.8/24 dev wire").await;
        tells(&mut network, far, "ip link set wire down").await;
        tells(&mut network, far, "ip link set wire up").await;

        is_quiet(&mut network, far, "ip addr add 127.0.0.9/8 dev lo; ip link set lo mtu 1500").await;
        is_quiet(&mut network, far, "ip neigh replace 10.77.0.9 lladdr 02:00:00:00:00:09 dev wire").await;
        // As after a scan of a wireless link: its state once more.
        is_quiet(&mut network, far, "ip link set wire alias again").await;

        // More than the kernel queues (net.core.rmem_default): one change, and the watching goes on.
        let many = "for n in $(seq 1 1000); do echo route add default via 10.77.0.2 metric $n; done";
        far.sh(&format!("{many} | ip -batch -; {many} | sed s/add/del/ | ip -batch -"));
        assert!(lost(&far.sh("cat /proc/net/netlink")) > 0, "nothing was lost");
        timeout(PATIENCE, network.changed()).await.expect("that is told");
        while timeout(QUIET, network.changed()).await.is_ok() {}
        tells(&mut network, far, "ip addr add 10.77.0.9/24 dev wire").await;
    });
}

fn a_device_that_gets_another_address_comes_back_by_itself(cloud: Kind) {
    // Its pings alone would take eighteen seconds.
    let config = "[session]\nkeep_alive = \"12s\"\nconnect_timeout = \"5s\"\nbackoff_max = \"1s\"\n";
    story(Known::ByFile, Setup { config, ..setup(cloud) }, async |mut site| {
        let process = site.online().await;
        site.counts("before").await;
        let moved = Instant::now();
        site.near.sh(&format!("ip addr del {DEVICE}/24 dev wire && ip addr add 10.77.0.5/24 dev wire"));
        site.near.sh(&format!("ip route replace default via {CLOUD}"));
        site.tells("not connected: ", 1, Duration::from_secs(40)).await;
        let noticed = moved.elapsed();
        let reason = site.last_end();
        site.device.wait_until_ready().await;
        say(&format!(
            "another address: noticed after {noticed:.1?} (keep-alive 12 s): {reason}; connected after {:.1?}",
            moved.elapsed()
        ));
        site.counts("after").await;
        site.ends(process, &["before", "after"]).await;
    });
}

fn a_device_whose_cable_is_put_back_does_not_wait_for_its_back_off(cloud: Kind) {
    let config = "[session]\nkeep_alive = \"4s\"\nconnect_timeout = \"2s\"\nbackoff_max = \"10m\"\n";
    story(Known::ByFile, Setup { config, ..setup(cloud) }, async |mut site| {
        let process = site.online().await;
        site.counts("before").await;
        site.near.sh("ip link set wire down");
        // By then a wait may take half a minute; which share of it is left to chance.
        site.tells("not connected: ", 5, Duration::from_secs(100)).await;
        let back = Instant::now();
        site.near.sh(&format!("ip link set wire up && ip route replace default via {CLOUD}"));
        site.device.wait_until_ready().await;
        say(&format!("cable put back after five failures: connected after {:.1?}", back.elapsed()));
        site.counts("after").await;
        site.ends(process, &["before", "after"]).await;
    });
}
