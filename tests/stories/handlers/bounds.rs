//! Stories of what bounds a run: its time, whoever cancels it, and what else may run beside it.

use serde_json::{Value, json};

use super::IMPATIENT;
use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, Setup};
use crate::workshop::{HELD, IN_ORDER, Workshop};

on_both_clouds! {
    a_run_beyond_its_time_is_ended_and_the_next_one_works,
    a_running_command_is_cancelled_in_good_order_and_a_waiting_one_never_runs,
    an_exclusive_method_is_alone_but_for_harmless_ones,
    of_a_serial_method_one_runs_some_wait_and_more_are_refused,
    of_a_parallel_method_so_many_run_at_a_time,
}

async fn a_run_beyond_its_time_is_ended_and_the_next_one_works(kind: Kind) {
    let stubborn = "trap '' TERM\n[ -e \"$notes/go\" ] && exit 0\necho 'still at it' >&2\nsleep 60 & wait; sleep 60\n";
    let (mut device, mut workshop) =
        Workshop::online(Setup { answers: "events", ..Setup::on(kind) }, &[("stubborn", IMPATIENT, stubborn)]).await;
    device.send("stubborn/s-1", "").await;
    let told = device.answer("s-1", 408).await;
    assert!(told["payload"]["error"].is_string(), "{told}");
    assert!(told["payload"]["stderr"].as_str().is_some_and(|tail| tail.contains("still at it")), "{told}");
    workshop.let_go();
    device.send("stubborn/s-2", "").await;
    device.answer("s-2", 200).await;
    assert_eq!(workshop.runs("stubborn"), ["s-1", "s-2"]);
    device.stop().await;
    workshop.stop().await;
}

/// Tells a command to end, and the answer to that.
async fn cancel(device: &mut Device, ask: &str, id: &str, status: u16) -> Value {
    device.send(&format!("cancelCommand/{ask}"), &json!({ "commandId": id }).to_string()).await;
    device.answer(ask, status).await["payload"].clone()
}

async fn a_running_command_is_cancelled_in_good_order_and_a_waiting_one_never_runs(kind: Kind) {
    let script = format!("{IN_ORDER}{HELD}");
    let more = "time_limit = \"1m\"\ngrace = \"20s\"\nqueue = 4\n";
    let (mut device, mut workshop) =
        Workshop::online(Setup { answers: "events", ..Setup::on(kind) }, &[("work", more, &script)]).await;
    device.send("work/w-1", "").await;
    workshop.wait_for("trapped").await;
    device.send("work/w-2", "").await;
    device.send("work/w-3", "").await;
    cancel(&mut device, "x-2", "w-2", 200).await;
    device.answer("w-2", 499).await;
    assert_eq!(cancel(&mut device, "x-1", "w-1", 200).await["cancelling"], "w-1");
    device.answer("w-1", 499).await;
    assert_eq!(workshop.notes("order"), "ended\n");
    workshop.let_go();
    device.answer("w-3", 200).await;
    assert_eq!(workshop.runs("work"), ["w-1", "w-3"]);
    // What has ended and what never was cannot be.
    cancel(&mut device, "x-3", "w-1", 409).await;
    cancel(&mut device, "x-4", "nobody", 409).await;
    // The same command again is told how it ended, and not run.
    device.send("work/w-1", "").await;
    device.send("work/w-2", "").await;
    device.send("echo/after", "").await;
    device.answer("after", 200).await;
    assert_eq!(workshop.runs("work"), ["w-1", "w-3"]);
    device.stop().await;
    workshop.stop().await;
}

async fn an_exclusive_method_is_alone_but_for_harmless_ones(kind: Kind) {
    let methods = [
        ("alone", "class = \"exclusive\"\n", HELD),
        ("look", "harmless = true\n", "printf seen\n"),
        ("work", "", HELD),
    ];
    let (mut device, mut workshop) = Workshop::online(Setup { answers: "events", ..Setup::on(kind) }, &methods).await;
    device.send("alone/a-1", "").await;
    workshop.wait_for_runs("alone", 1).await;
    device.send("count/c-1", "").await;
    device.send("alone/a-2", "").await;
    device.answer("a-2", 429).await;
    device.send("look/l-1", "").await;
    assert_eq!(device.answer("l-1", 200).await["payload"], "seen");
    assert_eq!(device.counted(), [].into(), "it waits");
    workshop.let_go();
    device.answer("a-1", 200).await;
    device.answer("c-1", 200).await;
    // Nor does it begin beside another one.
    workshop.hold();
    device.send("work/w-1", "").await;
    workshop.wait_for_runs("work", 1).await;
    device.send("alone/a-3", "").await;
    let refused = device.answer("a-3", 429).await;
    assert!(refused["payload"]["retryAfterSeconds"].is_u64(), "{refused}");
    workshop.let_go();
    device.answer("w-1", 200).await;
    assert_eq!(workshop.runs("alone"), ["a-1"]);
    device.stop().await;
    workshop.stop().await;
}

/// Whether or not the ledger has them.
async fn of_a_serial_method_one_runs_some_wait_and_more_are_refused(kind: Kind) {
    let methods = [("line", "queue = 2\n", HELD), ("look", "queue = 2\nharmless = true\n", HELD)];
    let (mut device, mut workshop) = Workshop::online(Setup { answers: "events", ..Setup::on(kind) }, &methods).await;
    for (method, _, _) in methods {
        for n in 1..=5 {
            device.send(&format!("{method}/{method}-{n}"), "").await;
        }
        device.answer(&format!("{method}-4"), 429).await;
        device.answer(&format!("{method}-5"), 429).await;
        workshop.wait_for_runs(method, 1).await;
        assert_eq!(workshop.runs(method).len(), 1, "one at a time");
        workshop.let_go();
        for n in 1..=3 {
            device.answer(&format!("{method}-{n}"), 200).await;
        }
        assert_eq!(workshop.runs(method), [1, 2, 3].map(|n| format!("{method}-{n}")));
        // There is room again.
        device.send(&format!("{method}/{method}-6"), "").await;
        device.answer(&format!("{method}-6"), 200).await;
        workshop.hold();
    }
    device.stop().await;
    workshop.stop().await;
}

async fn of_a_parallel_method_so_many_run_at_a_time(kind: Kind) {
    let (mut device, mut workshop) = Workshop::online(
        Setup { answers: "events", ..Setup::on(kind) },
        &[("many", "class = \"parallel\"\nparallel = 3\n", HELD)],
    )
    .await;
    for n in 1..=5 {
        device.send(&format!("many/m-{n}"), "").await;
    }
    workshop.wait_for_runs("many", 3).await;
    // Far longer than a fourth one would take to begin.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(workshop.runs("many").len(), 3);
    workshop.let_go();
    for n in 1..=5 {
        device.answer(&format!("m-{n}"), 200).await;
    }
    assert_eq!(workshop.runs("many").len(), 5);
    device.stop().await;
    workshop.stop().await;
}
