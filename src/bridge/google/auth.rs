//! Whether a JWT is a good login of a device, checked independently of the code that makes such tokens.
//!
//! Rules: cloud.google.com/iot/docs/how-tos/credentials/jwts. The `decode` of `jsonwebtoken` is no help here: it needs a
//! provider that is installed for the whole process, which is not this module's to choose.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::credential::Credential;
use super::key::KeyKind;
use crate::model::now::Timestamp;

/// The longest life of a token.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Longer than any honest token with an RSA 4096 signature; what is longer is not looked at.
const LONGEST_TOKEN: usize = 8 * 1024;

/// Why a login is refused. The device learns only "not authorized".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error("the password is not a JWT")]
    NotAToken,
    #[error("the token is signed with `{0}`; RS256 or ES256 is expected")]
    Algorithm(String),
    #[error("no credential of the device fits the token's signature")]
    Signature,
    #[error("`{0}` is missing in the token or not a number of seconds")]
    Missing(&'static str),
    #[error("`aud` of the token is not the project id")]
    Audience,
    #[error("the token expired")]
    Expired,
    #[error("the token was issued in the future")]
    Future,
    #[error("the token is valid for more than 24 hours")]
    TooLong,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Claims {
    aud: Option<serde_json::Value>,
    iat: Option<serde_json::Value>,
    exp: Option<serde_json::Value>,
}

/// Checks a token against the device's credentials; the moment it expires. Skew is allowed on `iat` and on `exp`.
pub(crate) fn verify(
    token: &str,
    credentials: &[Credential],
    project: &str,
    now: Timestamp,
    skew: Duration,
) -> Result<Timestamp, Denied> {
    if token.len() > LONGEST_TOKEN {
        return Err(Denied::NotAToken);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(Denied::NotAToken)?;
    let (header, claims) = message.split_once('.').ok_or(Denied::NotAToken)?;
    let signature = decode(signature)?;
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| Denied::NotAToken)?;
    let kind = match header.alg.as_str() {
        "ES256" => KeyKind::P256,
        "RS256" => KeyKind::Rsa,
        _ => return Err(Denied::Algorithm(header.alg)),
    };
    let fits = credentials
        .iter()
        .filter_map(|credential| credential.login_key(kind, now))
        .any(|key| key.verifies_token(message.as_bytes(), &signature));
    if !fits {
        return Err(Denied::Signature);
    }
    let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| Denied::NotAToken)?;
    if claims.aud.as_ref().and_then(serde_json::Value::as_str) != Some(project) {
        return Err(Denied::Audience);
    }
    let issued = seconds(claims.iat, "iat")?;
    let expires = seconds(claims.exp, "exp")?;
    if expires.saturating_add(skew) <= now {
        return Err(Denied::Expired);
    }
    if issued > now.saturating_add(skew) {
        return Err(Denied::Future);
    }
    if expires.since(issued) > LONGEST_LIFE + skew {
        return Err(Denied::TooLong);
    }
    Ok(expires)
}

/// No padding and no `+` or `/`: RFC 7515 section 2.
fn decode(part: &str) -> Result<Vec<u8>, Denied> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Denied::NotAToken)
}

fn seconds(claim: Option<serde_json::Value>, name: &'static str) -> Result<Timestamp, Denied> {
    let micros = claim.and_then(|value| value.as_i64()).and_then(|seconds| seconds.checked_mul(1_000_000));
    micros.map(Timestamp::from_micros).ok_or(Denied::Missing(name))
}

#[cfg(test)]
mod tests {
    use super::super::credential::{KeyFormat, PublicKey};
    use super::super::device::DeviceBody;
    use super::*;

    /// Keys and tokens made by openssl: `aud` is `my-project`, `iat` this moment, `exp` an hour later.
    const ISSUED: i64 = 1_700_000_000;
    const ES256: (&str, &str) = (
        include_str!("../../../tests/bridge/fixtures/es256.pub.pem"),
        include_str!("../../../tests/bridge/fixtures/es256.jwt"),
    );
    const RS256: (&str, &str) = (
        include_str!("../../../tests/bridge/fixtures/rs256.pub.pem"),
        include_str!("../../../tests/bridge/fixtures/rs256.jwt"),
    );
    const SKEW: i64 = 600;

    fn check(key: &str, token: &str, project: &str, at: i64) -> Result<Timestamp, Denied> {
        let credentials = DeviceBody::with_key("device", key).credentials;
        let now = Timestamp::from_micros((ISSUED + at) * 1_000_000);
        verify(token, &credentials, project, now, Duration::from_secs(SKEW.unsigned_abs()))
    }

    #[test]
    fn tokens_of_openssl_are_good_from_skew_before_their_time_to_skew_after() {
        for (key, token) in [ES256, RS256] {
            let expires = Ok(Timestamp::from_micros((ISSUED + 3600) * 1_000_000));
            for good in [-SKEW, 0, 3600, 3600 + SKEW - 1] {
                assert_eq!(check(key, token, "my-project", good), expires, "{good}");
            }
            assert_eq!(check(key, token, "my-project", -SKEW - 1), Err(Denied::Future));
            assert_eq!(check(key, token, "my-project", 3600 + SKEW), Err(Denied::Expired));
            assert_eq!(check(key, token, "other-project", 0), Err(Denied::Audience));
        }
        assert_eq!(check(ES256.0, RS256.1, "my-project", 0), Err(Denied::Signature));
        assert_eq!(check(RS256.0, ES256.1, "my-project", 0), Err(Denied::Signature));
    }

    #[test]
    fn a_certificate_is_as_good_as_the_key_in_it_whatever_its_dates_say() {
        let es256 = include_str!("../../../tests/bridge/fixtures/es256.cert.pem");
        let rs256 = include_str!("../../../tests/bridge/fixtures/rs256.cert.pem");
        let now = Timestamp::from_micros(ISSUED * 1_000_000);
        for (format, key, token, good) in [
            (KeyFormat::Es256X509, es256, ES256.1, true),
            (KeyFormat::RsaX509, rs256, RS256.1, true),
            (KeyFormat::Es256X509, rs256, RS256.1, false),
            (KeyFormat::RsaX509, es256, ES256.1, false),
            (KeyFormat::Es256, es256, ES256.1, false),
            (KeyFormat::Es256X509, ES256.0, ES256.1, false),
        ] {
            let public_key = PublicKey { format, key: key.to_owned() };
            let credentials = [Credential { expiration_time: None, public_key }];
            let verified = verify(token, &credentials, "my-project", now, Duration::ZERO);
            assert_eq!(verified.is_ok(), good, "{format:?}");
        }
    }

    #[test]
    fn any_credential_will_do_and_an_expired_one_will_not() {
        let mut credentials = DeviceBody::with_key("device", RS256.0).credentials;
        credentials.extend(DeviceBody::with_key("device", ES256.0).credentials);
        let now = Timestamp::from_micros(ISSUED * 1_000_000);
        let verify = |credentials: &[Credential]| verify(ES256.1, credentials, "my-project", now, Duration::ZERO);
        for (expires, good) in [(0, true), (ISSUED, false), (ISSUED + 1, true)] {
            credentials[1].expiration_time = Some(Timestamp::from_micros(expires * 1_000_000));
            assert_eq!(verify(&credentials).is_ok(), good, "{expires}");
        }
        assert_eq!(verify(&credentials[..1]), Err(Denied::Signature));
    }

    #[test]
    fn a_token_that_was_touched_anywhere_is_refused() {
        let (key, token) = ES256;
        for at in 0..token.len() {
            let mut touched = token.as_bytes().to_vec();
            touched[at] = if touched[at] == b'A' { b'B' } else { b'A' };
            let touched = String::from_utf8(touched).expect("still a text");
            // The last letter holds two bits that base64 does not use; strict readers refuse them too.
            assert!(check(key, &touched, "my-project", 0).is_err(), "letter {at}");
        }
        for broken in
            ["", ".", "..", "a.b", "a.b.c", &format!("{token}="), &token.replace('.', "+"), &"a.".repeat(9_000)]
        {
            assert_eq!(check(key, broken, "my-project", 0), Err(Denied::NotAToken), "{broken:.40}");
        }
    }
}
