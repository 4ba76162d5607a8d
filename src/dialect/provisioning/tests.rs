//! The dialogue with the service as its public page shows it, and what it must not answer.

use super::*;
use crate::dialect::sas::SharedKey;

fn provisioning() -> Provisioning {
    let settings = Settings {
        host: "dps.example".to_owned(),
        id_scope: "0ne00000001".to_owned(),
        registration_id: "gw-1".to_owned(),
    };
    Provisioning::new(&settings, Duration::from_secs(60), Duration::from_secs(3_600), 0xbeef)
}

fn heard(topic: &str, body: impl Into<Bytes>) -> Progress {
    provisioning().decode(&Packet { qos: Qos::AtMostOnce, ..packet(topic.to_owned(), body.into()) })
}

fn answer(body: &str) -> Progress {
    heard("$dps/registrations/res/200/?$rid=beef-2", body.to_owned())
}

#[test]
fn the_login_is_for_the_registration() {
    let key = SharedKey::parse("a2V5a2V5a2V5a2V5").expect("a key");
    let now = Timestamp::from_micros(1_795_290_088_000_000);
    let login = provisioning().login(now, &Proof::Shared(key)).expect("a login");
    assert_eq!(login.client_id, "gw-1");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        login.username,
        format!("0ne00000001/registrations/gw-1/api-version=2019-03-31&ClientVersion=twinagent%2F{version}")
    );
    let token = login.password.reveal();
    assert!(token.starts_with("SharedAccessSignature sr=0ne00000001%2Fregistrations%2Fgw-1&sig="), "{token}");
    assert!(token.ends_with("&se=1795293688&skn=registration") && login.clean, "{token}");
    let login = provisioning().login(now, &Proof::Certificate).expect("a login");
    assert_eq!(login.password.reveal(), "");
}

/// As the cloud's own library signs for this registration; it leaves the name of the policy out, which its page asks for.
#[test]
fn the_token_is_that_of_the_clouds_own_library() {
    let (id_scope, registration_id) = ("0ne0001".to_owned(), "dev1".to_owned());
    let service = Provisioning { id_scope, registration_id, ..provisioning() };
    let key = SharedKey::parse("a2V5a2V5a2V5a2V5").expect("a key");
    let now = Timestamp::from_micros(1_795_398_808_000_000);
    let login = service.login(now, &Proof::Shared(key)).expect("a login");
    assert_eq!(
        login.password.reveal(),
        "SharedAccessSignature sr=0ne0001%2Fregistrations%2Fdev1&sig=NwETpVp7y6WX%2FppQmGJJBvAFfZ8lD5W1V45B70Pj2tQ%3D&se=1795402408&skn=registration"
    );
}

#[test]
fn the_dialogue_goes_from_the_request_to_the_hub() {
    let register = provisioning().register();
    assert_eq!(register.topic, "$dps/registrations/PUT/iotdps-register/?$rid=beef-1");
    assert_eq!(&register.payload[..], br#"{"registrationId":"gw-1"}"#);
    let assigning = Progress::Assigning { operation: "4.d0a6.1f".to_owned(), after: Duration::from_secs(3) };
    assert_eq!(
        heard(
            "$dps/registrations/res/202/?$rid=beef-1&retry-after=3",
            r#"{"operationId":"4.d0a6.1f","status":"assigning"}"#
        ),
        assigning
    );
    assert_eq!(
        provisioning().poll("4.d0a6.1f").topic,
        "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=beef-2&operationId=4.d0a6.1f"
    );
    assert_eq!(
        answer(
            r#"{"operationId":"4.d0a6.1f","status":"assigned","registrationState":{"registrationId":"gw-1",
                "assignedHub":"my-hub.example","deviceId":"gw-one","status":"assigned","substatus":"initialAssignment"}}"#
        ),
        Progress::Assigned {
            hub: "my-hub.example".to_owned(),
            device: DeviceId::parse("gw-one").expect("a device id")
        }
    );
}

#[test]
fn the_wait_is_bounded_both_ways() {
    for (said, seconds) in [("&retry-after=0", 1), ("&retry-after=99999999999", 60), ("&retry-after=-1", 2), ("", 2)] {
        let topic = format!("$dps/registrations/res/202/?$rid=beef-1{said}");
        let Progress::Assigning { after, .. } = heard(&topic, r#"{"operationId":"o","status":"unassigned"}"#) else {
            panic!("{said}")
        };
        assert_eq!(after, Duration::from_secs(seconds), "{said}");
    }
}

/// Whatever else such an answer holds.
#[test]
fn a_service_with_too_much_to_do_says_when() {
    for (said, seconds) in [
        ("429/?$rid=beef-1&retry-after=9", 9),
        ("429/?$rid=beef-2&retry-after=0", 1),
        ("503/?retry-after=3600&$rid=beef-2", 60),
    ] {
        for body in [r#"{"errorCode":429001,"message":"…"}"#, ""] {
            let progress = heard(&format!("$dps/registrations/res/{said}"), body);
            assert_eq!(progress, Progress::Later { after: Duration::from_secs(seconds) }, "{said} {body}");
        }
    }
}

#[test]
fn a_refusal_has_a_status_and_words() {
    let refusal = |progress| match progress {
        Progress::Refused { status, why } => (status, why),
        other => panic!("a refusal was expected: {other:?}"),
    };
    let (status, why) = refusal(heard(
        "$dps/registrations/res/401/?$rid=beef-1",
        r#"{"errorCode":401002,"trackingId":"t","message":"Invalid\ncertificate.","timestampUtc":"…"}"#,
    ));
    assert_eq!((status, why.as_str()), (401, "Invalid certificate. (401002)"));
    for (code, body) in [("429", r#"{"errorCode":429001}"#), ("503", r#"{"errorCode":503001}"#)] {
        let (status, _) = refusal(heard(&format!("$dps/registrations/res/{code}/?$rid=beef-1"), body));
        assert_eq!(status.to_string(), code, "it does not say when");
    }
    let (status, _) =
        refusal(heard("$dps/registrations/res/401/?$rid=beef-1&retry-after=9", r#"{"errorCode":401002}"#));
    assert_eq!(status, 401, "later it is the same");
    let long = "x".repeat(100_000);
    let cases = [
        (
            r#"{"status":"failed","registrationState":{"errorCode":400209,"errorMessage":"no"}}"#.to_owned(),
            400,
            "no (400209)",
        ),
        (r#"{"status":"failed"}"#.to_owned(), 400, "no reason was given"),
        (r#"{"status":"failed","registrationState":{"errorCode":99999999999999}}"#.to_owned(), 400, "no reason"),
        (r#"{"status":"disabled"}"#.to_owned(), 403, "is disabled"),
        (r#"{"status":"unassigned"}"#.to_owned(), 502, "no operation"),
        (format!(r#"{{"status":"assigning","operationId":"{}"}}"#, &long[..257]), 502, "no operation"),
        (r#"{"status":"assigning","operationId":"a\u0000b"}"#.to_owned(), 502, "no operation"),
        (r#"{"status":"assigned"}"#.to_owned(), 502, "missing"),
        (
            r#"{"status":"assigned","registrationState":{"assignedHub":"a/b","deviceId":"d"}}"#.to_owned(),
            502,
            "the hub",
        ),
        (
            r#"{"status":"assigned","registrationState":{"assignedHub":"a.b","deviceId":"a#"}}"#.to_owned(),
            502,
            "device id",
        ),
        (r#"{"status":"somehow"}"#.to_owned(), 502, "not known: somehow"),
        (r#"{"status":7}"#.to_owned(), 502, "says nothing"),
        (r#"{"status":"assigned","status":"failed"}"#.to_owned(), 200, "no JSON object"),
        ("[]".to_owned(), 200, "no JSON object"),
        (String::new(), 200, "no JSON object"),
        ("[".repeat(50_000), 200, "no JSON object"),
        (long, 200, "at most 65536"),
    ];
    for (body, expected, words) in cases {
        let (status, why) = refusal(answer(&body));
        assert!(status == expected && why.contains(words) && why.len() < 400, "{status} {why}: {body:.60}");
    }
}

#[test]
fn what_is_no_answer_to_us_is_nothing() {
    let good = r#"{"status":"disabled"}"#;
    for topic in [
        "",
        "$dps/registrations/res/200/",
        "$dps/registrations/res/200/?$rid=beef",
        "$dps/registrations/res/200/?$rid=bee-1",
        "$dps/registrations/res/200/?$rid=beef-3",
        "$dps/registrations/res/xx/?$rid=beef-1",
        "$dps/registrations/res/99999/?$rid=beef-1",
        "$dps/registrations/PUT/200/?$rid=beef-1",
        "$iothub/twin/res/200/?$rid=beef-1",
    ] {
        assert_eq!(heard(topic, good), Progress::Nothing, "{topic}");
    }
    let topic = "$dps/registrations/res/200/?$rid=beef-1".to_owned();
    let retained = Packet { retain: true, ..packet(topic, good.into()) };
    assert_eq!(provisioning().decode(&retained), Progress::Nothing);
}
