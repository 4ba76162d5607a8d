//! Who may call: tokens of policies, for this hub, in time, and a version.

use twinagent::bridge::Options;

use super::super::device::{HubWorld, KEY, token};
use super::{Service, VERSION, owner_key, policy_token};

#[tokio::test]
async fn only_a_token_of_a_policy_opens_the_service() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    let key = owner_key(&world).await;
    let (host, target) = (service.host.clone(), format!("/devices/dev1?{VERSION}"));
    let good = policy_token(&key, "localhost", "iothubowner", 60);
    let lower = lower_escapes(&key, &host);
    for (header, status) in [
        (Some(&good), 200),
        (Some(&policy_token(&key, &host, "iothubowner", 60)), 200),
        (Some(&lower), 200),
        (Some(&policy_token(&key, &host, "iothubowner", -1)), 401),
        (Some(&policy_token(&key, "other.example", "iothubowner", 60)), 401),
        (Some(&policy_token(&key, "localhost/devices/dev1", "iothubowner", 60)), 401),
        (Some(&policy_token(&key, "localhost", "service", 60)), 401),
        (Some(&policy_token(&key, "localhost", "nobody", 60)), 401),
        (Some(&policy_token(KEY, "localhost", "iothubowner", 60)), 401),
        (Some(&token(KEY, "localhost/devices/dev1", 60)), 401),
        (Some(&"Bearer x".to_owned()), 401),
        (None, 401),
    ] {
        let header = header.map(|token| format!("authorization: {token}"));
        let headers: Vec<_> = header.iter().map(String::as_str).collect();
        let reply = service.exchange("GET", &target, &headers, "").await;
        assert_eq!(reply.status, status, "{header:?}");
        if status == 401 {
            assert_eq!(reply.error(), (401_002, "IotHubUnauthorizedAccess"));
        }
    }
}

/// A token whose escapes are in lower case, as the cloud's pages make them.
fn lower_escapes(key: &str, host: &str) -> String {
    let expires = crate::support::unix_now() + 60;
    let resource = host.replace(':', "%3a");
    let signature = twinagent::dialect::sas::SharedKey::parse(key).expect("a key").sign(&resource, expires);
    let signature = signature.replace('+', "%2b").replace('=', "%3d");
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expires}&skn=iothubowner")
}

#[tokio::test]
async fn a_call_names_its_version_and_a_path_that_there_is() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    let authorization = format!("authorization: {}", service.authorization);
    for (target, code) in [
        ("/devices/dev1", 400_001),
        ("/devices/dev1?api-version=", 400_001),
        ("/devices/dev1?api-version=newest", 400_001),
        ("/devices/dev1?api-version=2021-04-13", 400_001),
        ("/devices/a%20b?api-version=2021-04-12", 400_004),
        ("/devices/%ff?api-version=2021-04-12", 400_004),
    ] {
        assert_eq!(service.exchange("GET", target, &[&authorization], "").await.error().0, code, "{target}");
    }
    assert_eq!(service.refused("PATCH", "/devices/dev1", &[], &serde_json::Value::Null).await, 404_000);
}

/// The bearer token guards the other cloud; a hub's callers have tokens of their own.
#[tokio::test]
async fn the_other_clouds_token_is_neither_needed_nor_enough() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "let-me-in\n").expect("a file");
    let world = HubWorld::with(|options: &mut Options| options.token_file = Some(file)).await;
    let mut service = Service::of(&world).await;
    assert_eq!(service.call("GET", "/devices/dev1", &[], "").await.status, 200);
    let target = format!("/devices/dev1?{VERSION}");
    let reply = service.exchange("GET", &target, &["authorization: Bearer let-me-in"], "").await;
    assert_eq!(reply.error(), (401_002, "IotHubUnauthorizedAccess"));
    let google = "/v1/projects/p/locations/l/registries";
    assert_eq!(service.call("GET", google, &[], "").await.status, 401);
}
