//! Stories of manifests that come, change, break and go while the device lives.

use std::fs;

use serde_json::{Value, json};

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::Setup;
use crate::program::{done, json as told_json, problem, status};
use crate::workshop::{HELD, Workshop};

on_both_clouds! {
    a_manifest_that_comes_is_a_method_at_once_and_one_that_goes_is_none,
    a_manifest_that_changes_leaves_the_run_alone_that_was_begun,
    a_manifest_that_is_wrong_takes_nothing_away_and_is_told_until_it_is_mended,
    a_link_to_nothing_switches_a_method_off,
}

fn names(methods: &Value, name: &str) -> bool {
    methods.as_array().is_some_and(|methods| methods.iter().any(|method| method == name))
}

async fn a_manifest_that_comes_is_a_method_at_once_and_one_that_goes_is_none(kind: Kind) {
    // Not even its folder is there.
    let (mut device, mut workshop) = Workshop::online(Setup::on(kind), &[]).await;
    device.send("hello/h-0", "").await;
    device.answer("h-0", 404).await;
    workshop.make(("hello", "description = \"Says hello\"\n", "printf hello\n"));
    device.twin(|twin| names(&twin["methods"], "hello")).await;
    device.send("hello/h-1", "").await;
    assert_eq!(device.answer("h-1", 200).await["payload"], "hello");
    let methods = told_json(&device, &["methods", "--json"]).await;
    let hello = methods["methods"].as_array().and_then(|all| all.iter().find(|method| method["name"] == "hello"));
    let hello = hello.expect("it is listed");
    assert_eq!(hello["description"], "Says hello");
    assert!(hello.to_string().contains(&*workshop.manifest_of("hello").to_string_lossy()), "{hello}");
    fs::remove_file(workshop.manifest_of("hello")).expect("the manifest");
    device.twin(|twin| !names(&twin["methods"], "hello")).await;
    device.send("hello/h-2", "").await;
    device.answer("h-2", 404).await;
    assert_eq!((workshop.runs("hello").len(), device.logins().await), (1, 1));
    device.stop().await;
    workshop.stop().await;
}

async fn a_manifest_that_changes_leaves_the_run_alone_that_was_begun(kind: Kind) {
    let script = format!("{HELD}printf old\n");
    let (mut device, mut workshop) =
        Workshop::online(Setup { answers: "events", ..Setup::on(kind) }, &[("work", "", &script)]).await;
    device.send("work/w-1", "").await;
    workshop.wait_for_runs("work", 1).await;
    // Another program, other limits, and rules.
    let program = workshop.script("new", "printf new\n");
    workshop.manifest("work", &program, "time_limit = \"5s\"\n[payload]\n");
    status(&device, |_| true).await;
    let listed = async {
        loop {
            let methods = told_json(&device, &["methods", "--json"]).await;
            if methods.to_string().contains("\"timeLimitSeconds\":5") || methods.to_string().contains("5s") {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::device::PATIENCE, listed).await.expect("the new one is listed");
    device.send("work/w-2", r#"{"a":1}"#).await;
    device.answer("w-2", 422).await;
    workshop.let_go();
    assert_eq!(device.answer("w-1", 200).await["payload"], "old");
    device.send("work/w-3", "").await;
    assert_eq!(device.answer("w-3", 200).await["payload"], "new");
    device.stop().await;
    workshop.stop().await;
}

async fn a_manifest_that_is_wrong_takes_nothing_away_and_is_told_until_it_is_mended(kind: Kind) {
    let methods = [("good", "", "printf good\n"), ("other", "", "printf other\n")];
    let (mut device, mut workshop) = Workshop::online(Setup::on(kind), &methods).await;
    let path = workshop.manifest_of("good");
    let right = fs::read_to_string(&path).expect("text");
    for (n, (wrong, place, words)) in [
        (format!("{right}time_limit = \"a while\"\n"), ":4", "time_limit"),
        (format!("{right}time_limt = \"5s\"\n"), ":4", "time_limt"),
        ("method = \"rebootDevice\"\nkind = \"program\"\nprogram = \"/bin/true\"\n".to_owned(), ":1", "rebootDevice"),
        ("method = [".to_owned(), ":1", ""),
    ]
    .into_iter()
    .enumerate()
    {
        workshop.write_manifest("good", &wrong);
        let place = format!("{}{place}", path.display());
        let is_it = |text: &str| text.contains(&place) && text.contains(words);
        status(&device, |status| problem(&status["problems"], "handler").is_some_and(is_it)).await;
        // The other one works, and this one is there.
        device.send(&format!("other/o-{n}"), "").await;
        assert_eq!(device.answer(&format!("o-{n}"), 200).await["payload"], "other");
        assert!(names(&device.cloud.reported().await.expect("a document")["methods"], "good"), "{wrong}");
        workshop.write_manifest("good", &right);
        status(&device, |status| status["problems"] == json!([])).await;
    }
    device.twin(|twin| twin["agent"]["health"] == "ok").await;
    device.send("good/g-1", "").await;
    assert_eq!(device.answer("g-1", 200).await["payload"], "good");
    // The same words beforehand, for whoever asks.
    workshop.write_manifest("good", "method = \"good\"\nkind = \"program\"\n");
    let told = crate::program::run(&device, &["check"]).await;
    assert!(told.code == 78 && told.err.contains(&*path.to_string_lossy()), "{told:?}");
    device.twin(|twin| problem(&twin["agent"]["problems"], "handler").is_some()).await;
    device.stop().await;
    workshop.stop().await;
}

async fn a_link_to_nothing_switches_a_method_off(kind: Kind) {
    let (mut device, mut workshop) = Workshop::online(Setup::on(kind), &[("work", "", "printf done\n")]).await;
    fs::remove_file(workshop.manifest_of("work")).expect("the manifest");
    std::os::unix::fs::symlink("/dev/null", workshop.manifest_of("work")).expect("a link");
    device.twin(|twin| !names(&twin["methods"], "work")).await;
    device.send("work/w-1", "").await;
    device.answer("w-1", 404).await;
    let told = done(&device, &["methods"]).await;
    assert!(!told.contains("work"), "{told}");
    assert_eq!(workshop.runs("work").len(), 0);
    device.stop().await;
    workshop.stop().await;
}
