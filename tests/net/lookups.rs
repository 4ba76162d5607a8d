//! Stories of names: nobody answers, somebody answers late, and the first address of several leads nowhere.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cloud::Kind;
use crate::device::{PATIENCE, Setup};
use crate::names::serve;
use crate::program::finish;
use crate::say;
use crate::site::{CLOUD, Known, MARGIN, NAME, OTHER, setup, story};

const UNANSWERED: &str = "udp dport 53 drop";

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

on_both_clouds! {
    a_name_server_that_is_silent_holds_up_nothing_but_the_connection,
    a_session_that_ends_while_no_name_is_answered_is_followed_by_one_at_the_last_good_address,
    an_address_that_leads_nowhere_hides_none,
}

fn a_name_server_that_is_silent_holds_up_nothing_but_the_connection(cloud: Kind) {
    story(Known::ByDns, setup(cloud), async |mut site| {
        let names = serve(&[address(CLOUD)]).await;
        site.break_wire(UNANSWERED);
        let begun = Instant::now();
        let process = site.start();
        site.tells("not connected: ", 1, PATIENCE).await;
        let bounded = begun.elapsed();
        let reason = site.last_end();
        assert!(reason.contains("name"), "{reason}");
        let asked = Instant::now();
        let told = site.ask(&["status", "--json"], b"").await;
        let answered = asked.elapsed();
        let status: Value = serde_json::from_str(&told.out).expect("a document");
        assert_ne!(status["state"], "connected", "{status}");
        let stopped = Instant::now();
        process.stop().await;
        let stopped = stopped.elapsed();
        say(&format!(
            "silent name server: a try ends after {bounded:.1?}: {reason}; `status` is answered within {answered:.1?}, a stop \
             takes {stopped:.1?}"
        ));
        assert!(bounded < Duration::from_secs(5) + MARGIN, "{bounded:?}");
        assert!(answered < MARGIN, "{answered:?}");
        assert!(stopped < MARGIN, "{stopped:?}");

        let process = site.start();
        site.tells("not connected: ", 2, PATIENCE).await;
        site.mend_wire();
        let mended = Instant::now();
        site.device.wait_until_ready().await;
        say(&format!("silent name server: connected {:.1?} after it answers again", mended.elapsed()));
        site.counts("after").await;
        site.ends(process, &["after"]).await;
        names.abort();
    });
}

fn a_session_that_ends_while_no_name_is_answered_is_followed_by_one_at_the_last_good_address(cloud: Kind) {
    story(Known::ByDns, setup(cloud), async |mut site| {
        let names = serve(&[address(CLOUD)]).await;
        let process = site.online().await;
        site.counts("before").await;
        site.break_wire(UNANSWERED);
        let ended = Instant::now();
        site.far.sh("ss --kill --tcp dst 10.77.0.2");
        site.tells("not connected: ", 1, MARGIN).await;
        site.device.wait_until_ready().await;
        say(&format!(
            "silent name server: connected {:.1?} after a session was reset, where it was before",
            ended.elapsed()
        ));
        site.counts("after").await;
        site.ends(process, &["before", "after"]).await;
        names.abort();
    });
}

fn an_address_that_leads_nowhere_hides_none(cloud: Kind) {
    let hole = |address: &str| format!("{address} drop");
    for (first, rule) in [(OTHER, hole("ip daddr 10.77.0.3")), ("2001:db8:77::1", hole("ip6 daddr 2001:db8:77::1"))] {
        // With time for one address only, the second would never be tried.
        let config = "[session]\nconnect_timeout = \"30s\"\n";
        story(Known::ByDns, Setup { config, ..setup(cloud) }, async |mut site| {
            // An address from which IPv6 would be spoken, so that the resolver prefers it.
            for (end, last) in [(&site.near, 2), (&site.far, 1)] {
                end.sh(&format!("ip addr add 2001:db8:77::{last}/64 dev wire nodad"));
            }
            let names = serve(&[address(first), address(CLOUD)]).await;
            let asked = finish(site.near.command(&["getent", "ahosts", NAME]), b"").await.out;
            assert!(asked.starts_with(&format!("{first} ")), "the resolver prefers {first}: {asked}");
            site.break_wire(&rule);
            let begun = Instant::now();
            let process = site.online().await;
            let took = begun.elapsed();
            say(&format!("first address {first} a black hole: connected {took:.2?} after the start"));
            assert!(took < Duration::from_secs(15), "{took:?}");
            site.counts("after").await;
            assert_eq!(site.logged("not connected"), 0, "{}", site.log());
            site.ends(process, &["after"]).await;
            names.abort();
        });
    }
}
