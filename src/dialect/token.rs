//! Login tokens: a JWT signed with the device's private key, as Cloud IoT Core and its heirs want it for a password.
//!
//! Owns the key, the claims and the signing; also the request for a certificate, which the same key signs. It reads no file and no clock: key and time are given. What is secret here never
//! shows in `Debug` or in an error.

mod csr;
mod der;
mod key;
mod pem;
mod provider;

use std::time::Duration;

use jsonwebtoken::Header;
use serde::{Deserialize, Serialize};

use crate::model::now::Timestamp;
use crate::model::wire::Secret;

pub use csr::CsrError;
pub use jsonwebtoken::Algorithm;
pub use key::{Key, KeyError, generate};
pub use provider::install as install_provider;

/// The longest time from `iat` to `exp` that is accepted.
///
/// cloud.google.com/iot/docs/how-tos/credentials/jwts: 24 hours.
pub const LONGEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// How far `iat` lies in the past, so that a device whose clock runs ahead of the cloud's by less is not refused.
///
/// Brokers without Google's 10 minutes of tolerance exist; RFC 7519 4.1.6 gives none.
const BACKDATED: Duration = Duration::from_secs(60);

/// The claims of a login token; times are whole seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Issued at.
    pub iat: i64,
    /// Expires at.
    pub exp: i64,
    /// Audience: the project id, for Cloud IoT Core.
    pub aud: String,
}

impl Claims {
    /// Claims that hold for `lifetime` from `now`, at most for [`LONGEST_LIFE`].
    pub fn new(audience: &str, now: Timestamp, lifetime: Duration) -> Self {
        let lifetime = lifetime.min(LONGEST_LIFE);
        // The backdated part counts as life too, and must not push a token of 24 h over the limit.
        let backdated = BACKDATED.min(LONGEST_LIFE.saturating_sub(lifetime));
        let iat = now.saturating_sub(backdated).unix_seconds();
        let exp = now.saturating_add(lifetime).unix_seconds();
        Self { iat, exp, aud: audience.to_owned() }
    }

    /// `iat` for people.
    pub fn issued(&self) -> Timestamp {
        Timestamp::from_micros(self.iat.saturating_mul(1_000_000))
    }

    /// `exp` for people.
    pub fn expires(&self) -> Timestamp {
        Timestamp::from_micros(self.exp.saturating_mul(1_000_000))
    }
}

/// The key could not sign. A key that was read can; what is left is a failure of the machine's randomness.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token could not be signed: {0}")]
pub struct SignError(String);

/// A token for `audience` that holds for `lifetime` from `now`; see [`Claims::new`].
pub fn mint(key: &Key, audience: &str, now: Timestamp, lifetime: Duration) -> Result<Secret, SignError> {
    sign(key, &Claims::new(audience, now, lifetime))
}

/// The claims as a signed token. ES256 signatures are the raw `r || s` of RFC 7518 3.4.
pub fn sign(key: &Key, claims: &Claims) -> Result<Secret, SignError> {
    install_provider();
    jsonwebtoken::encode(&Header::new(key.algorithm()), claims, key.signing())
        .map(Secret::new)
        .map_err(|error| SignError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_token_is_never_longer_than_a_day_and_never_shorter_than_asked() {
        let now = 1_800_000_000;
        for (asked, iat, exp) in [
            (60, now - 60, now + 60),
            (3_600, now - 60, now + 3_600),
            (86_380, now - 20, now + 86_380),
            (86_400, now, now + 86_400),
            (1_000_000, now, now + 86_400),
        ] {
            let claims = Claims::new("p", at(now), Duration::from_secs(asked));
            assert_eq!((claims.iat, claims.exp), (iat, exp), "lifetime {asked} s");
        }
    }

    #[test]
    fn a_token_says_what_the_cloud_reads_and_nothing_more() {
        let (_, key) = generate().expect("a key");
        let token = mint(&key, "my-project", at(1_800_000_000), Duration::from_secs(3_600)).expect("a token");
        let header = jsonwebtoken::decode_header(token.reveal()).expect("a header");
        assert_eq!((header.alg, header.typ.as_deref()), (Algorithm::ES256, Some("JWT")));
        let claims: serde_json::Value =
            jsonwebtoken::dangerous::insecure_decode_claims(token.reveal()).expect("claims");
        assert_eq!(claims, serde_json::json!({ "iat": 1_799_999_940, "exp": 1_800_003_600, "aud": "my-project" }));
        assert!(token.reveal().len() < 300, "{} bytes", token.reveal().len());
    }
}
