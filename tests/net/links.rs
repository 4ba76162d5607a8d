//! Stories of links that die, swallow, lose, delay and reset. Whatever happens, a command runs once and is answered.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::cloud::Kind;
use crate::device::{PATIENCE, Setup};
use crate::far::carry;
use crate::say;
use crate::site::{CLOUD, DEAD, KEEP_ALIVE, Known, MARGIN, Site, setup, story};

const DOWN: &str = "not connected: ";

/// Waits for the end of the connection; how long that took since the beginning of the trouble.
async fn noticed(site: &Site, what: &str, since: Instant, keep_alive: Duration) {
    // A dead link is noticed within one and a half keep-alives.
    let promised = keep_alive * 3 / 2;
    site.tells(DOWN, 1, promised + MARGIN).await;
    let after = since.elapsed();
    say(&format!("{what}: noticed after {after:.1?} (keep-alive {keep_alive:?}): {}", site.last_end()));
    assert!(after < promised + MARGIN, "{after:?}");
}

on_both_clouds! {
    a_link_that_dies_in_silence_is_noticed_within_one_and_a_half_keep_alives,
    and_so_with_all_that_can_be_written_waiting_to_be_sent,
    a_link_that_swallows_large_packets_is_noticed_like_a_dead_one_and_cured_with_it,
    where_a_fifth_is_lost_and_all_is_late_no_command_is_lost_and_none_runs_twice,
    a_reset_by_the_other_side_is_noticed_at_once,
    a_stop_does_not_wait_for_a_link_that_is_dead,
}

fn a_link_that_dies_in_silence_is_noticed_within_one_and_a_half_keep_alives(cloud: Kind) {
    // An answer to a ping has half of it: more time than a busy machine keeps the cloud waiting.
    let keep_alive = Duration::from_secs(10);
    let config = "[session]\nkeep_alive = \"10s\"\nconnect_timeout = \"5s\"\nbackoff_max = \"1s\"\n";
    story(Known::ByFile, Setup { config, ..setup(cloud) }, async |mut site| {
        let process = site.online().await;
        site.counts("before").await;
        // The control: as long as the link is there, silence is none.
        sleep(keep_alive * 2).await;
        assert_eq!(site.logged(DOWN), 0, "{}", site.log());
        site.break_wire(DEAD);
        noticed(&site, "half-open link", Instant::now(), keep_alive).await;
        site.mend_wire();
        let mended = Instant::now();
        site.counts("after").await;
        say(&format!("half-open link: the next command is answered {:.1?} after its mending", mended.elapsed()));
        site.ends(process, &["before", "after"]).await;
    });
}

fn and_so_with_all_that_can_be_written_waiting_to_be_sent(cloud: Kind) {
    const MESSAGES: usize = 12;
    story(Known::ByFile, setup(cloud), async |mut site| {
        site.near.sh("echo 4096 16384 32768 >/proc/sys/net/ipv4/tcp_wmem");
        let process = site.online().await;
        site.counts("before").await;
        site.break_wire(DEAD);
        let broken = Instant::now();
        for number in 0..MESSAGES {
            let told = site.ask(&["telemetry", &format!("flood/{number}")], &vec![b'x'; 60_000]).await;
            assert_eq!(told.code, 0, "{}", told.err);
        }
        // Columns: state, bytes to be read, bytes to be sent.
        let sockets = site.near.sh(&format!("ss --no-header --tcp --numeric dst {CLOUD}"));
        let waiting = sockets.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).max();
        assert!(waiting.is_some_and(|bytes| bytes > 16_384), "the kernel has taken all it takes:\n{sockets}");
        noticed(
            &site,
            &format!("half-open link, {} KB in the kernel", waiting.unwrap_or(0) / 1_000),
            broken,
            KEEP_ALIVE,
        )
        .await;
        site.mend_wire();
        site.counts("after").await;
        let mut count = MESSAGES;
        loop {
            let came: BTreeSet<String> =
                site.device.telemetry(count).await.iter().map(|(subfolder, _)| subfolder.clone()).collect();
            if came.len() == MESSAGES {
                break;
            }
            // Some came twice: the PUBACK was lost.
            count += 1;
        }
        say(&format!("half-open link, full buffer: {MESSAGES} messages of telemetry came as {count}"));
        site.ends(process, &["before", "after"]).await;
    });
}

fn a_link_that_swallows_large_packets_is_noticed_like_a_dead_one_and_cured_with_it(cloud: Kind) {
    story(Known::ByFile, setup(cloud), async |mut site| {
        let process = site.online().await;
        site.counts("before").await;
        site.break_wire("ip length > 500 drop");
        // Pings would pass, were they not behind it.
        let swallowed = Instant::now();
        assert_eq!(site.ask(&["telemetry", "large"], &vec![b'x'; 20_000]).await.code, 0);
        noticed(&site, "PMTU black hole", swallowed, KEEP_ALIVE).await;
        // The next connection gets no further.
        site.tells(DOWN, 2, PATIENCE).await;
        say(&format!("PMTU black hole: then {}", site.last_end()));
        site.mend_wire();
        site.counts("after").await;
        assert!(site.device.telemetry(1).await.iter().all(|(subfolder, _)| subfolder == "large"));
        site.ends(process, &["before", "after"]).await;
    });
}

/// Where a fifth is lost in both directions, a ping may be late by seconds: with a keep-alive as here, that is no dead link.
fn where_a_fifth_is_lost_and_all_is_late_no_command_is_lost_and_none_runs_twice(cloud: Kind) {
    const COMMANDS: usize = 30;
    const DELAY: Duration = Duration::from_millis(60);
    let config = "[session]\nkeep_alive = \"30s\"\nbackoff_max = \"1s\"\n";
    story(Known::ByFile, Setup { config, answers: "events", ..setup(cloud) }, async |mut site| {
        let port = site.device.bridge.addresses().mqtts.expect("it listens").port();
        let slow = TcpListener::bind((CLOUD, 0)).await.expect("a port");
        let way = slow.local_addr().expect("its address").port();
        let delayed = tokio::spawn(carry(slow, (std::net::Ipv4Addr::new(10, 77, 0, 1), port).into(), DELAY));
        site.far.nft(&format!(
            "table ip far {{ chain in {{ type nat hook prerouting priority -100; tcp dport {port} redirect to :{way}; }}; }}"
        ));
        let process = site.online().await;
        site.break_wire("meta protocol ip numgen random mod 100 < 20 counter drop");
        let ids: Vec<String> = (0..COMMANDS).map(|number| format!("c-{number}")).collect();
        let mut took = Vec::new();
        let begun = Instant::now();
        for id in &ids {
            took.push(site.counts(id).await);
        }
        let whole = begun.elapsed();
        let lost = site.dropped();
        site.mend_wire();
        took.sort();
        say(&format!(
            "20 % loss both ways and 2 x {DELAY:?} delay: {COMMANDS} commands in {whole:.1?}, median {:.2?}, slowest {:.2?}, \
             {lost} packets lost, {} reconnects",
            took[COMMANDS / 2],
            took[COMMANDS - 1],
            site.logged(DOWN)
        ));
        assert!(took[0] >= DELAY * 2, "there and back: {took:?}");
        assert!(lost > 0, "nothing was lost");
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        site.ends(process, &ids).await;
        delayed.abort();
    });
}

fn a_reset_by_the_other_side_is_noticed_at_once(cloud: Kind) {
    story(Known::ByFile, setup(cloud), async |mut site| {
        let process = site.online().await;
        site.counts("before").await;
        let reset = Instant::now();
        site.far.sh("ss --kill --tcp dst 10.77.0.2");
        site.tells(DOWN, 1, MARGIN).await;
        say(&format!("reset: noticed after {:.1?}: {}", reset.elapsed(), site.last_end()));
        site.counts("after").await;
        site.ends(process, &["before", "after"]).await;
    });
}

fn a_stop_does_not_wait_for_a_link_that_is_dead(cloud: Kind) {
    story(Known::ByFile, setup(cloud), async |mut site| {
        site.break_wire(DEAD);
        let process = site.start();
        // The second try is under way, or about to be.
        site.tells("not connected: ", 1, PATIENCE).await;
        sleep(Duration::from_secs(2)).await;
        let asked = Instant::now();
        process.stop().await;
        let dialling = asked.elapsed();
        assert!(dialling < MARGIN, "{dialling:?}");
        site.mend_wire();

        // And with a session that it believes in.
        let process = site.online().await;
        site.break_wire(DEAD);
        let asked = Instant::now();
        process.stop().await;
        let believing = asked.elapsed();
        say(&format!("stop: {dialling:.1?} while dialling a black hole, {believing:.1?} on a link that is dead"));
        assert!(believing < Duration::from_secs(20), "{believing:?}");
    });
}
