//! The Device Provisioning Service: who may register, and to which hub a device is assigned. Its rules, without connections.
//!
//! Enrollments are made in this process only and are not kept. Source: "Communicate with your DPS using the MQTT protocol"
//! (learn.microsoft.com/azure/iot).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::azure::sas::Token;
use super::azure::{HubError, HubName, check_validity, thumbprint_matches};
use super::broker::ClientNumber;
use super::hub::Access;
use crate::dialect::sas::SharedKey;
use crate::model::now::Timestamp;

/// The numbers of its clients have this bit; those of the hub have a higher one, those of Cloud IoT Core none so high.
const NUMBERS: ClientNumber = 1 << 62;
/// Enrollments at one time. More than any test has.
const ENROLLMENTS: usize = 10_000;

/// What becomes of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The device is assigned, and made in the hub if it is not there.
    Assigned,
    /// The assignment fails for this reason, with a code of six digits.
    Failed { code: u32, message: String },
    /// The enrollment is disabled.
    Disabled,
}

/// One device that may register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrollment {
    pub id_scope: String,
    pub registration_id: String,
    /// With what the device proves who it is, here and in the hub.
    pub access: Access,
    /// The host name of the hub that it is told.
    pub hub: String,
    /// The device that it is told to be.
    pub device: String,
    /// How often it is told to ask again before the verdict, the answer to its request to register included.
    pub rounds: u32,
    /// After how many seconds it is told to ask again.
    pub retry_after: u32,
    /// Its first requests are answered with 429, so often.
    pub throttled: u32,
    pub verdict: Verdict,
}

impl Enrollment {
    /// Assigned to the device of the same name at `localhost`, after one round of a second.
    pub fn new(id_scope: &str, registration_id: &str, access: Access) -> Self {
        Self {
            id_scope: id_scope.to_owned(),
            registration_id: registration_id.to_owned(),
            access,
            hub: "localhost".to_owned(),
            device: registration_id.to_owned(),
            rounds: 1,
            retry_after: 1,
            throttled: 0,
            verdict: Verdict::Assigned,
        }
    }
}

#[derive(Debug)]
struct Registration {
    enrollment: Enrollment,
    /// The operation under way, and how often it must still be asked for.
    operation: Option<(String, u32)>,
    created: Option<Timestamp>,
}

/// What a device is answered.
#[derive(Debug, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// In seconds.
    pub(crate) retry_after: Option<u32>,
    pub(crate) body: Value,
    /// This device is to be in the hub from now on.
    pub(crate) assigned: Option<(HubName, Access)>,
}

#[derive(Debug, Default)]
pub(crate) struct Provisioning {
    registrations: BTreeMap<ClientNumber, Registration>,
    taken: u64,
}

impl Provisioning {
    /// Whether a CONNECT with this user name is for it: `{scope}/registrations/{id}/api-version=…`.
    pub(crate) fn is_login(username: &str) -> bool {
        read_username(username).is_some()
    }

    pub(crate) fn holds(number: ClientNumber) -> bool {
        number & (NUMBERS | NUMBERS << 1) == NUMBERS
    }

    pub(crate) fn enroll(&mut self, enrollment: Enrollment) -> Result<(), HubError> {
        HubName::device(&enrollment.device)?;
        let known = self.find(&enrollment.id_scope, &enrollment.registration_id);
        if known.is_none() && self.registrations.len() >= ENROLLMENTS {
            return Err(HubError::throttled());
        }
        let next = self.registrations.last_key_value().map_or(NUMBERS, |(last, _)| last + 1);
        let registration = Registration { enrollment, operation: None, created: None };
        self.registrations.insert(known.unwrap_or(next), registration);
        Ok(())
    }

    fn find(&self, id_scope: &str, registration_id: &str) -> Option<ClientNumber> {
        let fits = |registration: &Registration| {
            let Enrollment { id_scope: scope, registration_id: id, .. } = &registration.enrollment;
            scope == id_scope && id == registration_id
        };
        self.registrations.iter().find(|(_, registration)| fits(registration)).map(|(number, _)| *number)
    }

    pub(crate) fn name_of(&self, number: ClientNumber) -> Option<&str> {
        self.registrations.get(&number).map(|registration| registration.enrollment.registration_id.as_str())
    }

    /// Requests to register that were taken.
    pub(crate) fn registrations(&self) -> u64 {
        self.taken
    }

    /// Judges a CONNECT: the number, and when its token expires.
    pub(crate) fn login(
        &self,
        username: &str,
        client_id: &str,
        password: &str,
        certificate: Option<&[u8]>,
        skew: Duration,
        now: Timestamp,
    ) -> Result<(ClientNumber, Option<Timestamp>), String> {
        let (scope, id) = read_username(username).ok_or("the user name is none of the provisioning service")?;
        if id != client_id {
            return Err("client id and user name name different registrations".to_owned());
        }
        let number = self.find(scope, id).ok_or("the registration is unknown")?;
        let enrollment = &self.registrations.get(&number).expect("it was just found").enrollment;
        match &enrollment.access {
            Access::Thumbprint(thumbprint) => match certificate {
                Some(der) if thumbprint_matches(thumbprint, der) => {
                    check_validity(der, now)?;
                    Ok((number, None))
                }
                Some(_) => Err("the certificate is not that of the enrollment".to_owned()),
                None => Err("a certificate is expected".to_owned()),
            },
            Access::Key { primary, secondary } => {
                let keys = [Some(primary), secondary.as_ref()].into_iter().flatten();
                let keys: Vec<_> = keys.filter_map(|key| SharedKey::parse(key).ok()).collect();
                let token = Token::parse(password).map_err(|denied| denied.to_string())?;
                if token.policy().is_some_and(|policy| policy != "registration") {
                    return Err("the token is signed with another policy than `registration`".to_owned());
                }
                let resource = format!("{scope}/registrations/{id}");
                let expires = token.verify(&keys, &resource, now, skew).map_err(|denied| denied.to_string())?;
                Ok((number, Some(expires)))
            }
        }
    }

    /// Takes a request to register.
    pub(crate) fn register(&mut self, number: ClientNumber, body: &[u8], now: Timestamp) -> Reply {
        let Some(registration) = self.registrations.get_mut(&number) else { return Reply::unknown() };
        // What is no JSON names nobody, and is refused for that.
        let body: Option<Value> = serde_json::from_slice(body).ok();
        let named = body.as_ref().and_then(|body| body["registrationId"].as_str());
        if named != Some(registration.enrollment.registration_id.as_str()) {
            return Reply::error(400, 400_004, "The body does not name the registration.");
        }
        if registration.enrollment.throttled > 0 {
            registration.enrollment.throttled -= 1;
            let retry_after = Some(registration.enrollment.retry_after);
            return Reply { retry_after, ..Reply::error(429, 429_001, "Too many requests.") };
        }
        self.taken += 1;
        registration.created.get_or_insert(now);
        let operation = format!("4.{:016x}.{:016x}", number, self.taken);
        registration.operation = Some((operation.clone(), registration.enrollment.rounds));
        registration.ask(&operation, now)
    }

    /// Tells how far an operation is.
    pub(crate) fn poll(&mut self, number: ClientNumber, operation: &str, now: Timestamp) -> Reply {
        match self.registrations.get_mut(&number) {
            Some(registration) => registration.ask(operation, now),
            None => Reply::unknown(),
        }
    }
}

impl Registration {
    fn ask(&mut self, operation: &str, now: Timestamp) -> Reply {
        let enrollment = &self.enrollment;
        let left = match &mut self.operation {
            Some((known, left)) if known == operation => left,
            _ => return Reply::error(404, 404_204, "There is no such operation."),
        };
        if enrollment.verdict == Verdict::Disabled {
            let mut state = self.state("disabled", now);
            state["errorCode"] = json!(401_002);
            return Reply::done("disabled", operation, &state);
        }
        if *left > 0 {
            *left -= 1;
            let body = json!({ "operationId": operation, "status": "assigning" });
            return Reply { status: 202, retry_after: Some(enrollment.retry_after), body, assigned: None };
        }
        match &enrollment.verdict {
            Verdict::Failed { code, message } => {
                let mut state = self.state("failed", now);
                state["errorCode"] = json!(code);
                state["errorMessage"] = json!(message);
                Reply::done("failed", operation, &state)
            }
            Verdict::Assigned | Verdict::Disabled => {
                let mut state = self.state("assigned", now);
                state["assignedHub"] = json!(enrollment.hub);
                state["deviceId"] = json!(enrollment.device);
                state["substatus"] = json!("initialAssignment");
                let name = HubName::device(&enrollment.device).expect("the name was checked at the enrollment");
                let assigned = Some((name, enrollment.access.clone()));
                Reply { assigned, ..Reply::done("assigned", operation, &state) }
            }
        }
    }

    fn state(&self, status: &str, now: Timestamp) -> Value {
        json!({
            "registrationId": self.enrollment.registration_id,
            "createdDateTimeUtc": self.created,
            "lastUpdatedDateTimeUtc": now,
            "status": status,
            "etag": "IjAi",
        })
    }
}

impl Reply {
    fn done(status: &str, operation: &str, state: &Value) -> Self {
        let body = json!({ "operationId": operation, "status": status, "registrationState": state });
        Self { status: 200, retry_after: None, body, assigned: None }
    }

    fn error(status: u16, code: u32, message: &str) -> Self {
        let body = json!({ "errorCode": code, "message": message });
        Self { status, retry_after: None, body, assigned: None }
    }

    fn unknown() -> Self {
        Self::error(404, 404_201, "The registration is unknown.")
    }
}

/// Scope and registration id.
fn read_username(text: &str) -> Option<(&str, &str)> {
    let (scope, rest) = text.split_once("/registrations/")?;
    let (id, parameters) = rest.split_once('/')?;
    let version = parameters.trim_start_matches('?').split('&').find_map(|pair| pair.strip_prefix("api-version="))?;
    (!scope.is_empty() && !id.is_empty() && !version.is_empty()).then_some((scope, id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::sas::mint;

    const KEY: &str = "a2V5a2V5a2V5a2V5";
    const USERNAME: &str = "0ne0001/registrations/dev1/api-version=2019-03-31&ClientVersion=x%2F1";

    fn enrolled(change: impl FnOnce(&mut Enrollment)) -> Provisioning {
        let access = Access::Key { primary: KEY.to_owned(), secondary: None };
        let mut enrollment = Enrollment::new("0ne0001", "dev1", access);
        change(&mut enrollment);
        let mut provisioning = Provisioning::default();
        provisioning.enroll(enrollment).expect("it is right");
        provisioning
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn login(provisioning: &Provisioning, id: &str, password: &str) -> Result<ClientNumber, String> {
        let skew = Duration::from_secs(10);
        provisioning.login(USERNAME, id, password, None, skew, at(1000)).map(|(number, _)| number)
    }

    #[test]
    fn a_device_registers_and_is_assigned_after_its_rounds() {
        let mut provisioning = enrolled(|enrollment| enrollment.rounds = 2);
        let key = SharedKey::parse(KEY).expect("a key");
        for policy in [None, Some("registration")] {
            let token = mint(&key, "0ne0001/registrations/dev1", at(1500), policy);
            let number = login(&provisioning, "dev1", token.reveal()).expect("taken");
            assert!(Provisioning::holds(number));
        }
        let first = provisioning.register(NUMBERS, br#"{"registrationId":"dev1"}"#, at(1));
        assert_eq!((first.status, first.retry_after), (202, Some(1)));
        let operation = first.body["operationId"].as_str().expect("an operation").to_owned();
        assert_eq!(provisioning.poll(NUMBERS, &operation, at(2)).status, 202);
        let last = provisioning.poll(NUMBERS, &operation, at(3));
        assert_eq!((last.status, &last.body["status"]), (200, &json!("assigned")));
        assert_eq!(last.body["registrationState"]["assignedHub"], "localhost");
        assert_eq!(last.assigned.map(|(name, _)| name.to_string()).as_deref(), Some("dev1"));
        assert_eq!(provisioning.poll(NUMBERS, "4.x", at(3)).status, 404);
        assert_eq!(provisioning.registrations(), 1);
    }

    #[test]
    fn verdicts_and_throttles_are_told_as_asked_for() {
        let body = br#"{"registrationId":"dev1"}"#;
        let mut throttled = enrolled(|enrollment| (enrollment.throttled, enrollment.rounds) = (1, 0));
        assert_eq!(throttled.register(NUMBERS, body, at(1)).status, 429);
        assert_eq!(throttled.register(NUMBERS, body, at(1)).body["status"], "assigned");
        assert_eq!(throttled.register(NUMBERS, b"{}", at(1)).status, 400);
        let verdict = Verdict::Failed { code: 400_207, message: "no hub".to_owned() };
        let mut failed = enrolled(|enrollment| (enrollment.verdict, enrollment.rounds) = (verdict, 0));
        let reply = failed.register(NUMBERS, body, at(1));
        assert_eq!((reply.status, &reply.body["status"]), (200, &json!("failed")));
        assert_eq!(reply.body["registrationState"]["errorCode"], 400_207);
        let mut disabled = enrolled(|enrollment| enrollment.verdict = Verdict::Disabled);
        assert_eq!(disabled.register(NUMBERS, body, at(1)).body["status"], "disabled");
    }

    #[test]
    fn whoever_proves_nothing_is_refused() {
        let provisioning = enrolled(|_| {});
        let key = SharedKey::parse(KEY).expect("a key");
        let other = SharedKey::parse("b3RoZXJvdGhlcm90aGVy").expect("a key");
        let resource = "0ne0001/registrations/dev1";
        for (id, token) in [
            ("dev2", mint(&key, resource, at(1500), None)),
            ("dev1", mint(&other, resource, at(1500), None)),
            ("dev1", mint(&key, "0ne0001/registrations/dev2", at(1500), None)),
            ("dev1", mint(&key, resource, at(900), None)),
            ("dev1", mint(&key, resource, at(1500), Some("iothubowner"))),
        ] {
            assert!(login(&provisioning, id, token.reveal()).is_err(), "{}", token.reveal());
        }
        assert!(login(&provisioning, "dev1", "").is_err());
        for username in
            ["", "a/registrations/b", "a/registrations/b/x=1", "/registrations/b/api-version=1", "hub/d/?api-version=1"]
        {
            assert!(!Provisioning::is_login(username), "{username}");
        }
    }
}
