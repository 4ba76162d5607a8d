//! Stories of brokers that freeze and forget.
//!
//! A cloud whose only thread does nothing looks from outside like one that was stopped with SIGSTOP: the kernel goes on taking
//! connections and acknowledging bytes, and nobody answers.

use std::time::{Duration, Instant};

use crate::cloud::Kind;
use crate::device::{PATIENCE, Setup};
use crate::say;
use crate::site::{DEAD, KEEP_ALIVE, Known, MARGIN, setup, story};

on_both_clouds! {
    a_broker_that_freezes_for_a_moment_is_waited_for,
    a_broker_that_freezes_for_long_is_given_up_and_found_again,
    a_broker_that_loses_its_power_and_its_memory_costs_no_outcome,
    a_broker_that_is_back_before_it_is_missed_resets_what_it_does_not_know,
}

fn a_broker_that_freezes_for_a_moment_is_waited_for(cloud: Kind) {
    // Half of it is for an answer to a ping, and more than a busy machine adds to the freeze.
    let config = "[session]\nkeep_alive = \"10s\"\nconnect_timeout = \"5s\"\nbackoff_max = \"1s\"\n";
    story(Known::ByFile, Setup { config, ..setup(cloud) }, async |mut site| {
        let process = site.online().await;
        site.send("count/during", r#"{"sleepMillis": 1000}"#).await;
        std::thread::sleep(Duration::from_secs(5));
        site.device.answer("during", 200).await;
        site.counts("after").await;
        assert_eq!(site.logged("not connected"), 0, "{}", site.log());
        site.ends(process, &["during", "after"]).await;
    });
}

fn a_broker_that_freezes_for_long_is_given_up_and_found_again(cloud: Kind) {
    story(Known::ByFile, setup(cloud), async |mut site| {
        let process = site.online().await;
        // Its outcome comes while nobody listens.
        site.send("count/during", r#"{"sleepMillis": 1000}"#).await;
        let frozen = Instant::now();
        let noticed = site.tells_while_frozen("not connected: ", 1, KEEP_ALIVE * 3 / 2 + MARGIN);
        let reason = site.last_end();
        // Nor is a login answered.
        site.tells_while_frozen("not connected: ", 2, PATIENCE);
        let (second, frozen) = (site.last_end(), frozen.elapsed());
        let thawed = Instant::now();
        site.device.answer("during", 200).await;
        say(&format!(
            "frozen broker: noticed after {noticed:.1?} (keep-alive {KEEP_ALIVE:?}): {reason}; then {second}; thawed after \
             {frozen:.1?}, an outcome of meanwhile is told {:.1?} later",
            thawed.elapsed()
        ));
        site.counts("after").await;
        site.ends(process, &["during", "after"]).await;
    });
}

fn a_broker_that_loses_its_power_and_its_memory_costs_no_outcome(cloud: Kind) {
    let setup = Setup { sessions: true, ..setup(cloud) };
    story(Known::ByFile, setup, async |mut site| {
        let process = site.online().await;
        site.send("count/during", r#"{"sleepMillis": 3000}"#).await;
        // Nobody says goodbye.
        site.break_wire(DEAD);
        site.device.lose_cloud().await;
        site.tells("not connected: ", 1, KEEP_ALIVE * 3 / 2 + MARGIN).await;
        let reason = site.last_end();
        site.device.restore_cloud().await;
        site.mend_wire();
        let back = Instant::now();
        site.device.wait_until_ready().await;
        let ready = back.elapsed();
        site.device.answer("during", 200).await;
        say(&format!(
            "broker lost with its sessions: {reason}; connected {ready:.1?} after its return, an outcome of meanwhile told after \
             {:.1?}",
            back.elapsed()
        ));
        let kept = site.logged("connected session_kept=true");
        assert_eq!((kept, site.logged("connected session_kept=false")), (0, 2), "{}", site.log());
        site.counts("after").await;
        site.ends(process, &["during", "after"]).await;
    });
}

/// Quicker than anybody could notice: the next packet to an address that knows of no connection is answered with a reset.
fn a_broker_that_is_back_before_it_is_missed_resets_what_it_does_not_know(cloud: Kind) {
    story(Known::ByFile, Setup { sessions: true, ..setup(cloud) }, async |mut site| {
        let process = site.online().await;
        site.counts("before").await;
        site.break_wire(DEAD);
        site.device.lose_cloud().await;
        // What it still wants to say to its old connections is not said.
        site.far.sh("ss --kill --tcp dst 10.77.0.2");
        site.device.restore_cloud().await;
        site.mend_wire();
        let back = Instant::now();
        site.device.wait_until_ready().await;
        say(&format!(
            "broker restarted at once: {}; connected {:.1?} after its return",
            site.last_end(),
            back.elapsed()
        ));
        assert!(back.elapsed() < KEEP_ALIVE * 2 + MARGIN + Duration::from_secs(5));
        site.counts("after").await;
        site.ends(process, &["before", "after"]).await;
    });
}
