//! Stories of a device that asks which hub it belongs to: it keeps the answer, and asks again when that hub is of no use.

use std::time::Duration;

use serde_json::json;
use twinagent::bridge::{Enrollment, HubName, Verdict};
use twinagent::model::fingerprint::Fingerprint;

use crate::cloud::iothub::{KEY, shared};
use crate::device::{Device, PATIENCE, Setup};
use crate::hub::{certificate, certificate_files, configure, hub, key_file, setup};
use crate::living::{DROP_IN, write};
use crate::log::Log;
use crate::program::{done, run, status};

const SCOPE: &str = "0ne00000001";
/// Another name than that of the service, by which nobody logs in to it.
const HUB: &str = "127.0.0.1";

fn enrollment(device: &str, rounds: u32, verdict: Verdict) -> Enrollment {
    Enrollment {
        id_scope: SCOPE.to_owned(),
        registration_id: "gw-1".to_owned(),
        access: shared(),
        hub: HUB.to_owned(),
        device: device.to_owned(),
        rounds,
        throttled: 0,
        retry_after: 1,
        verdict,
    }
}

/// A device that must ask which hub it belongs to.
async fn unassigned() -> Device {
    unassigned_as(setup()).await
}

async fn unassigned_as(setup: Setup) -> Device {
    let device = Device::new(Setup { hubs: &[HUB], ..setup }).await;
    let service = &hub(&device).service;
    service.delete(&hub(&device).name).await.expect("the device");
    let section =
        format!("{}[cloud.iothub.provisioning]\nhost = \"localhost\"\nid_scope = \"{SCOPE}\"\n", key_file(&device));
    configure(&device, &section);
    write(&device, DROP_IN, "device.id = \"gw-1\"\n");
    device
}

async fn ready(service: &twinagent::bridge::Hub, device: &str) -> HubName {
    let name = HubName::device(device).expect("a name");
    let there = async {
        while service.twin(&name).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, there).await.expect("it is made when it is assigned");
    service.wait_until_ready(&name, PATIENCE).await.expect("it subscribes");
    name
}

#[tokio::test]
async fn the_assigned_hub_is_kept_over_restarts_and_asked_for_again_when_it_refuses_for_long() {
    let log = Log::listen();
    let mut device = unassigned().await;
    let service = hub(&device).service.clone();
    service.enroll(enrollment("assigned-1", 2, Verdict::Assigned)).await.expect("an enrolment");
    device.start();
    let first = ready(&service, "assigned-1").await;
    assert_eq!(service.registrations().await, Ok(1));
    let answer = service.invoke(&first, "count", Some(json!({})), Duration::ZERO, PATIENCE).await;
    assert_eq!(answer.expect("an answer").0, 200);

    device.crash().await;
    device.start();
    service.wait_until_ready(&first, PATIENCE).await.expect("it is back");
    tokio::time::timeout(PATIENCE, async {
        while service.logins(&first).await != Ok(2) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("it logs in again");
    assert_eq!(service.registrations().await, Ok(1), "what was assigned is known");

    // The hub does not know it any more, and another device is its own from now on.
    service.enroll(enrollment("assigned-2", 0, Verdict::Assigned)).await.expect("an enrolment");
    service.set_enabled(&first, false).await.expect("the device");
    let second = tokio::time::timeout(Duration::from_secs(90), ready_slowly(&service, "assigned-2")).await;
    let second = second.unwrap_or_else(|_| panic!("it asks again: {}", log.text()));
    let refused = log.count("login refused by the broker");
    assert!((10..=40).contains(&refused), "{refused} refusals\n{}", log.text());
    let answer = service.invoke(&second, "echo", Some(json!(1)), Duration::ZERO, PATIENCE).await;
    assert_eq!(answer, Ok((200, json!(1))));
    device.stop().await;
}

/// As [`ready`], without its limit.
async fn ready_slowly(service: &twinagent::bridge::Hub, device: &str) -> HubName {
    let name = HubName::device(device).expect("a name");
    while service.twin(&name).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    service.wait_until_ready(&name, PATIENCE).await.expect("it subscribes");
    name
}

/// What another machine was told is not for a copy of its card.
#[tokio::test]
async fn a_copy_asks_for_itself_which_hub_it_belongs_to() {
    let mut device = unassigned().await;
    let service = hub(&device).service.clone();
    service.enroll(enrollment("assigned-1", 0, Verdict::Assigned)).await.expect("an enrolment");
    device.machine = Fingerprint::new(Some("b-1"), Some("m-1"));
    device.start();
    let name = ready(&service, "assigned-1").await;
    device.crash().await;
    // The same machine, as it was installed anew.
    for (board, logins, registrations) in [("b-1", 2, 1), ("b-2", 3, 2)] {
        device.machine = Fingerprint::new(Some(board), Some("m-2"));
        device.start();
        let there = async {
            while service.logins(&name).await != Ok(logins) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, there).await.expect("it logs in again");
        assert_eq!(service.registrations().await, Ok(registrations), "{board}");
        device.crash().await;
    }
}

#[tokio::test]
async fn a_device_that_is_assigned_nowhere_says_so_and_goes_on_asking_in_peace() {
    let log = Log::listen();
    let mut device = unassigned().await;
    let service = hub(&device).service.clone();
    let verdict = Verdict::Failed { code: 401_002, message: "nobody knows it".to_owned() };
    service.enroll(enrollment("assigned-1", 1, verdict)).await.expect("an enrolment");
    device.start();
    log.wait_for("not connected: ").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let asked = service.registrations().await.expect("a count");
    assert!((1..=20).contains(&asked), "{asked}\n{}", log.text());
    status(&device, |status| {
        status["sentence"]
            .as_str()
            .is_some_and(|text| text.contains("no hub was assigned to this device: localhost: nobody knows it"))
    })
    .await;
    service.enroll(enrollment("assigned-1", 0, Verdict::Disabled)).await.expect("an enrolment");
    tokio::time::sleep(Duration::from_secs(2)).await;
    service.enroll(enrollment("assigned-1", 1, Verdict::Assigned)).await.expect("an enrolment");
    ready(&service, "assigned-1").await;
    device.stop().await;
}

#[tokio::test]
async fn a_device_with_a_certificate_is_assigned_too() {
    let mut device = unassigned().await;
    let service = hub(&device).service.clone();
    let access = certificate(&device, "gw-1");
    let section = format!(
        "{}[cloud.iothub.provisioning]\nhost = \"localhost\"\nid_scope = \"{SCOPE}\"\n",
        certificate_files(&device)
    );
    configure(&device, &section);
    service
        .enroll(Enrollment { access, ..enrollment("assigned-1", 1, Verdict::Assigned) })
        .await
        .expect("an enrolment");
    device.start();
    let name = ready(&service, "assigned-1").await;
    let answer = service.invoke(&name, "count", Some(json!({})), Duration::ZERO, PATIENCE).await;
    assert_eq!(answer.expect("an answer").0, 200);
    assert!(!done(&device, &["status"]).await.contains(KEY));
    assert_eq!(run(&device, &["check"]).await.code, 0);
    device.stop().await;
}

#[tokio::test]
async fn a_service_with_too_much_to_do_is_asked_again_when_it_says_and_over_the_same_connection() {
    let log = Log::listen();
    let mut device = unassigned().await;
    let service = hub(&device).service.clone();
    let busy = Enrollment { throttled: 2, retry_after: 2, ..enrollment("assigned-1", 1, Verdict::Assigned) };
    service.enroll(busy).await.expect("an enrolment");
    let began = twinagent::host::clock::boot();
    device.start();
    ready(&service, "assigned-1").await;
    assert!(twinagent::host::clock::boot().since(began) >= Duration::from_secs(6), "{}", log.text());
    assert_eq!(log.count("the service that assigns hubs is busy"), 2, "{}", log.text());
    assert_eq!(log.count("not connected: "), 0, "{}", log.text());
    device.stop().await;
}

/// Both tokens live as long, and that of the hub begins when the hub is dialled.
#[tokio::test]
async fn a_service_that_takes_its_time_takes_none_of_the_login_at_the_hub() {
    let log = Log::listen();
    let mut device = unassigned_as(Setup { skew: Duration::ZERO, ..setup() }).await;
    write(&device, DROP_IN, "device.id = \"gw-1\"\nauth.lifetime = \"15s\"\n");
    let service = hub(&device).service.clone();
    let slow = Enrollment { retry_after: 12, ..enrollment("assigned-1", 1, Verdict::Assigned) };
    service.enroll(slow).await.expect("an enrolment");
    device.start();
    ready(&service, "assigned-1").await;
    // More than was left of the first, and less than it takes to the renewal of the second.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(log.count("not connected: "), 0, "{}", log.text());
    device.stop().await;
}
