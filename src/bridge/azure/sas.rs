//! Shared access signatures as the cloud reads them: taken apart, and verified over the bytes that came.
//!
//! Pages of the cloud write escapes in lower case, its libraries in upper case, and one of them leaves `/` as it is: what was
//! signed is what stands in the token, never what we would have written. How tokens are made is `dialect::sas`'s.
//!
//! Source: "Control access to IoT Hub by using shared access signatures" (learn.microsoft.com/azure/iot-hub).

use std::time::Duration;

use super::names::host_of;
use crate::dialect::sas::{SharedKey, percent_decode};
use crate::model::now::Timestamp;

/// The longest token, in bytes: that of a device has some 200.
const LONGEST_TOKEN: usize = 4_096;
/// The longest expiry, in digits; seconds since 1970 have ten for the next 260 years.
const LONGEST_EXPIRY: usize = 12;

/// Why a token is no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error("not a SharedAccessSignature with sr, sig and se, each once")]
    NotAToken,
    #[error("its signature is not that of a key which counts here, over the bytes of sr and se")]
    Signature,
    #[error("it is for another resource")]
    Resource,
    #[error("it has expired")]
    Expired,
}

/// A token that has been read and proves nothing yet.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// As it stands in the token: this is what was signed.
    resource: String,
    /// The same.
    expiry: String,
    /// Base64.
    signature: String,
    policy: Option<String>,
    expires: Timestamp,
    /// What the token is for: the host in lower case and without its port, then the segments of the path.
    scope: Vec<String>,
}

impl Token {
    /// Reads `SharedAccessSignature sr=…&sig=…&se=…[&skn=…]`, in any order of its fields.
    pub(crate) fn parse(text: &str) -> Result<Self, Denied> {
        if text.len() > LONGEST_TOKEN {
            return Err(Denied::NotAToken);
        }
        let fields = text.strip_prefix("SharedAccessSignature ").ok_or(Denied::NotAToken)?;
        let [mut resource, mut signature, mut expiry, mut policy] = [None; 4];
        for field in fields.split('&') {
            let (name, value) = field.split_once('=').ok_or(Denied::NotAToken)?;
            let place = match name {
                "sr" => &mut resource,
                "sig" => &mut signature,
                "se" => &mut expiry,
                "skn" => &mut policy,
                _ => return Err(Denied::NotAToken),
            };
            if place.replace(value).is_some() {
                return Err(Denied::NotAToken);
            }
        }
        let (Some(resource), Some(signature), Some(expiry)) = (resource, signature, expiry) else {
            return Err(Denied::NotAToken);
        };
        if expiry.is_empty() || expiry.len() > LONGEST_EXPIRY || !expiry.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Denied::NotAToken);
        }
        let seconds: i64 = expiry.parse().map_err(|_| Denied::NotAToken)?;
        let decoded = |text: &str| percent_decode(text).ok_or(Denied::NotAToken);
        Ok(Self {
            scope: segments(&decoded(resource)?).ok_or(Denied::NotAToken)?,
            signature: decoded(signature)?,
            // A policy without a name is what a device's library writes for none.
            policy: policy.map(decoded).transpose()?.filter(|policy| !policy.is_empty()),
            expires: Timestamp::from_micros(seconds.saturating_mul(1_000_000)),
            resource: resource.to_owned(),
            expiry: expiry.to_owned(),
        })
    }

    /// The name of the key that it was signed with, where its owner has several: `skn`.
    pub(crate) fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    /// Whether one of these keys signed it for this resource (`{host}/…`, not encoded) or one above it, and it holds `now`,
    /// by a clock that may be off by `skew`. Returns when it expires.
    pub(crate) fn verify(
        &self,
        keys: &[SharedKey],
        resource: &str,
        now: Timestamp,
        skew: Duration,
    ) -> Result<Timestamp, Denied> {
        if !keys.iter().any(|key| key.verifies(&self.resource, &self.expiry, &self.signature)) {
            return Err(Denied::Signature);
        }
        if !segments(resource).is_some_and(|wanted| wanted.starts_with(&self.scope)) {
            return Err(Denied::Resource);
        }
        if self.expires.saturating_add(skew) <= now {
            return Err(Denied::Expired);
        }
        Ok(self.expires)
    }
}

/// The parts of `{host}[:{port}]/{segment}/…`. A `/` at its end says nothing.
fn segments(resource: &str) -> Option<Vec<String>> {
    let resource = resource.strip_suffix('/').unwrap_or(resource);
    let (host, path) = resource.split_once('/').map_or((resource, None), |(host, path)| (host, Some(path)));
    let mut parts = vec![host_of(host)];
    parts.extend(path.into_iter().flat_map(|path| path.split('/')).map(str::to_owned));
    // An empty segment is nobody's, and an empty host would be everybody's.
    (!parts.iter().any(String::is_empty)).then_some(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dialect::sas::{mint, percent_encode};

    const KEY: &str = "a2V5a2V5a2V5a2V5";
    const OTHER: &str = "b3RoZXJvdGhlcm90aGVy";
    const EXPIRY: i64 = 1_795_293_688;

    fn key(text: &str) -> SharedKey {
        SharedKey::parse(text).expect("a key")
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn judge(token: &str, resource: &str, now: i64) -> Result<Timestamp, Denied> {
        Token::parse(token)?.verify(&[key(OTHER), key(KEY)], resource, at(now), Duration::from_secs(300))
    }

    /// Signed over what is given, whatever that is.
    fn token(resource: &str, expiry: &str) -> String {
        let signature = {
            let signed = key(KEY).sign(resource, expiry.parse().expect("a number"));
            percent_encode(&signed)
        };
        format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}")
    }

    #[test]
    fn what_the_clouds_own_libraries_write_is_good_until_its_time_and_the_skew() {
        let device = "SharedAccessSignature \
                      sr=localhost%2Fdevices%2Fdev1&sig=VUKG0ijCG%2FdiZLtajUBqLeMeGMhruAta5muj6OXt9TE%3D&se=1795293688";
        for (now, verdict) in
            [(0, Ok(at(EXPIRY))), (EXPIRY + 299, Ok(at(EXPIRY))), (EXPIRY + 300, Err(Denied::Expired))]
        {
            assert_eq!(judge(device, "localhost/devices/dev1", now), verdict);
        }
        // The fields in another order, and `/` in the signature as the service's library leaves it.
        let sloppy = "SharedAccessSignature \
                      se=1795293688&sr=localhost%2Fdevices%2Fdev1&sig=VUKG0ijCG/diZLtajUBqLeMeGMhruAta5muj6OXt9TE%3D";
        assert_eq!(judge(sloppy, "localhost/devices/dev1", 0), Ok(at(EXPIRY)));
    }

    #[test]
    fn escapes_count_as_they_were_signed() {
        for resource in ["hub%2fdevices%2fd", "hub%2Fdevices%2fd", "hub/devices/d", "%68ub%2Fdevices%2Fd"] {
            assert_eq!(judge(&token(resource, "1795293688"), "hub/devices/d", 0), Ok(at(EXPIRY)), "{resource}");
        }
        let changed = token("hub%2fdevices%2fd", "1795293688").replace("%2f", "%2F");
        assert_eq!(judge(&changed, "hub/devices/d", 0), Err(Denied::Signature));
    }

    #[test]
    fn a_token_is_for_its_resource_and_what_is_below_it() {
        for (resource, wanted, good) in [
            ("hub", "hub/devices/d", true),
            ("hub%2F", "hub/devices/d", true),
            ("HUB%3A8443", "hub/devices/d", true),
            ("hub%2Fdevices", "hub/devices/d", true),
            ("hub%2Fdevices%2Fd", "hub/devices/d/modules/m", true),
            ("hub%2Fdevices%2Fd", "hub/devices/dd", false),
            ("hub%2Fdevices%2FD", "hub/devices/d", false),
            ("hub%2Fdevices%2Fd%2Fmodules%2Fm", "hub/devices/d", false),
            ("hub2", "hub/devices/d", false),
            ("hu", "hub", false),
        ] {
            let verdict = judge(&token(resource, "1795293688"), wanted, 0);
            assert_eq!(verdict, if good { Ok(at(EXPIRY)) } else { Err(Denied::Resource) }, "{resource} {wanted}");
        }
    }

    #[test]
    fn other_keys_and_other_expiries_are_no_proof() {
        let good = mint(&key(KEY), "hub/devices/d", at(EXPIRY), Some("device"));
        let read = Token::parse(good.reveal()).expect("a token");
        assert_eq!(read.policy(), Some("device"));
        assert_eq!(read.verify(&[key(OTHER)], "hub/devices/d", at(0), Duration::ZERO), Err(Denied::Signature));
        assert_eq!(read.verify(&[], "hub/devices/d", at(0), Duration::ZERO), Err(Denied::Signature));
        let later = good.reveal().replace("1795293688", "1895293688");
        assert_eq!(judge(&later, "hub/devices/d", 0), Err(Denied::Signature));
    }

    #[test]
    fn what_is_no_token_is_not_read() {
        for text in [
            "",
            "SharedAccessSignature",
            "SharedAccessSignature ",
            "sharedaccesssignature sr=a&sig=b&se=1",
            "SharedAccessSignature sr=a&sig=b",
            "SharedAccessSignature sr=a&se=1",
            "SharedAccessSignature sig=b&se=1",
            "SharedAccessSignature sr=&sig=b&se=1",
            "SharedAccessSignature sr=a&sig=b&se=",
            "SharedAccessSignature sr=a&sig=b&se=-1",
            "SharedAccessSignature sr=a&sig=b&se=1e9",
            "SharedAccessSignature sr=a&sig=b&se=9999999999999",
            "SharedAccessSignature sr=a&sr=a&sig=b&se=1",
            "SharedAccessSignature sr=a&sig=b&se=1&x=y",
            "SharedAccessSignature sr=%2&sig=b&se=1",
            "SharedAccessSignature sr=a%2F%2Fb&sig=b&se=1",
            "SharedAccessSignature sr=%2Fb&sig=b&se=1",
            &format!("SharedAccessSignature sr=a&sig={}&se=1", "A".repeat(5_000)),
        ] {
            assert_eq!(Token::parse(text).err(), Some(Denied::NotAToken), "{text}");
        }
    }

    proptest! {
        /// What was minted is good for its resource, whatever that is; other texts are refused without a panic.
        #[test]
        fn tokens_of_any_resource_are_good_and_any_text_is_judged(
            path in "(/[!-~ü&&[^/]]{1,8}){0,4}",
            text in "SharedAccessSignature (sr|sig|se|skn|x|=|&|%2f|%|/|[0-9a-f:ü]){0,20}",
        ) {
            let resource = format!("hub{path}");
            let token = mint(&key(KEY), &resource, at(EXPIRY), None);
            prop_assert_eq!(judge(token.reveal(), &resource, 0), Ok(at(EXPIRY)));
            prop_assert!(judge(token.reveal(), "hub2", 0).is_err());
            prop_assert!(judge(&text, &resource, 0).is_err());
        }
    }
}
