//! Stories of the handlers' service that is away, comes, and goes in the middle of a run.

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, Setup};
use crate::workshop::{HELD, IN_ORDER, Workshop};

on_both_clouds! {
    without_the_service_the_answer_is_503_and_with_it_things_work_at_once,
    a_service_that_dies_in_the_middle_is_told_and_nothing_is_run_twice,
    a_service_that_is_stopped_ends_what_runs_and_the_next_one_works,
}

async fn without_the_service_the_answer_is_503_and_with_it_things_work_at_once(kind: Kind) {
    let mut device = Device::new(Setup { answers: "events", ..Setup::on(kind) }).await;
    let mut workshop = Workshop::beside(&device, &[("work", "", "printf done\n")]);
    device.start();
    device.wait_until_ready().await;
    // Nothing is there at all.
    device.send("work/w-1", "").await;
    let told = device.answer("w-1", 503).await;
    assert!(told["payload"].to_string().contains("twinagent-handlers"), "who is to be looked at is named: {told}");
    workshop.start(&device);
    device.send("work/w-2", "").await;
    assert_eq!(device.answer("w-2", 200).await["payload"], "done");
    // The file is there, and nobody listens.
    workshop.kill().await;
    device.send("work/w-3", "").await;
    device.answer("w-3", 503).await;
    std::fs::remove_file(workshop.socket()).expect("the socket");
    workshop.start(&device);
    device.send("work/w-4", "").await;
    device.answer("w-4", 200).await;
    assert_eq!(workshop.runs("work"), ["w-2", "w-4"]);
    assert_eq!(device.logins().await, 1);
    device.stop().await;
    workshop.stop().await;
}

async fn a_service_that_dies_in_the_middle_is_told_and_nothing_is_run_twice(kind: Kind) {
    let (mut device, mut workshop) =
        Workshop::online(Setup { answers: "events", ..Setup::on(kind) }, &[("work", "time_limit = \"1m\"\n", HELD)])
            .await;
    device.send("work/w-1", "").await;
    workshop.wait_for_runs("work", 1).await;
    workshop.kill().await;
    // It may have taken effect, so it is no refusal.
    let told = device.answer("w-1", 500).await;
    assert!(told["payload"]["error"].is_string(), "{told}");
    workshop.let_go();
    std::fs::remove_file(workshop.socket()).expect("the socket");
    workshop.start(&device);
    device.send("work/w-1", "").await;
    device.send("work/w-2", "").await;
    device.answer("w-2", 200).await;
    assert_eq!(workshop.runs("work"), ["w-1", "w-2"]);
    device.stop().await;
    workshop.stop().await;
}

async fn a_service_that_is_stopped_ends_what_runs_and_the_next_one_works(kind: Kind) {
    let script = format!("{IN_ORDER}{HELD}");
    let more = "time_limit = \"1m\"\ngrace = \"20s\"\n";
    let (mut device, mut workshop) =
        Workshop::online(Setup { answers: "events", ..Setup::on(kind) }, &[("work", more, &script)]).await;
    device.send("work/w-1", "").await;
    workshop.wait_for("trapped").await;
    workshop.stop().await;
    assert_eq!(workshop.notes("order"), "ended\n");
    let wait = async {
        loop {
            let told = device.answers_to("w-1");
            if let Some(last) = told.into_iter().find(|answer| answer["status"] != 202) {
                return last;
            }
            device.hear_until_quiet(std::time::Duration::from_millis(50)).await;
        }
    };
    let told = tokio::time::timeout(crate::device::PATIENCE, wait).await.expect("an outcome");
    assert!(told["status"].as_u64().is_some_and(|status| status >= 499), "{told}");
    workshop.let_go();
    workshop.start(&device);
    device.send("work/w-2", "").await;
    device.answer("w-2", 200).await;
    assert_eq!(workshop.runs("work"), ["w-1", "w-2"]);
    device.stop().await;
    workshop.stop().await;
}
