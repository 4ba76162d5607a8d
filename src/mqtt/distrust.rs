//! Why TLS came to nothing, in one word for the program and a sentence for people.
//!
//! What certificates say of themselves is cut and made plain before it is repeated: anybody can put anything there.

use std::io;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription as Alert, CertificateError, Error};

use super::plain::plain;
use super::screen::WebPage;
use crate::model::now::Timestamp;
use crate::model::wire::{Reason, TlsFault};

/// Names of a certificate that are told.
const NAMES: usize = 5;

/// The longest sentence of the library that is repeated, and the longest name, in characters.
const LONGEST: usize = 200;

/// How webpki says that a certificate for a CA was shown as a broker's own, which is what signing one for oneself often makes.
const CA_AS_BROKER: &str = "CaUsedAsEndEntity";

/// The end of a handshake that failed.
pub(super) fn handshake(error: &io::Error) -> Reason {
    reason(error).unwrap_or_else(|| {
        let words = match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                "the other side closed the connection instead of agreeing on TLS".to_owned()
            }
            _ => format!("the connection was lost while agreeing on TLS: {error}"),
        };
        Reason::Tls(TlsFault::Other, words)
    })
}

/// What an error of a stream means, if it comes from TLS or what stands in its place.
pub(super) fn reason(error: &io::Error) -> Option<Reason> {
    let inner = error.get_ref()?;
    if let Some(WebPage(line)) = inner.downcast_ref() {
        return Some(Reason::CaptivePortal(line.clone()));
    }
    let (fault, words) = judge(inner.downcast_ref()?);
    Some(Reason::Tls(fault, words))
}

fn judge(error: &Error) -> (TlsFault, String) {
    let told = |fault, words: &str| (fault, words.to_owned());
    match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::PeerIncompatible(_) => told(TlsFault::Version, "the other side speaks neither TLS 1.2 nor 1.3 as we do"),
        Error::AlertReceived(
            Alert::ProtocolVersion
            | Alert::HandshakeFailure
            | Alert::InsufficientSecurity
            | Alert::InappropriateFallback,
        ) => told(TlsFault::Version, "the other side knows no version or cipher of TLS that we know"),
        Error::AlertReceived(Alert::UnrecognisedName) => {
            told(TlsFault::Name, "the other side has no certificate for the name of the broker")
        }
        Error::AlertReceived(Alert::CertificateRequired) => {
            told(TlsFault::Other, "the other side wants a certificate of ours, and we have none")
        }
        Error::AlertReceived(alert) => (TlsFault::Other, format!("the other side gave up with the alert {alert:?}")),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            told(TlsFault::Other, "what answers there does not speak TLS as it should")
        }
        other => (TlsFault::Other, plain(other.to_string().as_bytes(), LONGEST)),
    }
}

fn certificate(error: &CertificateError) -> (TlsFault, String) {
    let told = |fault, words: &str| (fault, words.to_owned());
    match error {
        CertificateError::ExpiredContext { time, not_after } => {
            let (clock, end) = (moment(*time), moment(*not_after));
            (TlsFault::Expired, format!("the certificate expired at {end}, and the clock of this machine says {clock}"))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            let (clock, begin) = (moment(*time), moment(*not_before));
            (
                TlsFault::NotYetValid,
                format!("the certificate begins at {begin}, and the clock of this machine says {clock}"),
            )
        }
        CertificateError::Expired => told(TlsFault::Expired, "the certificate has expired"),
        CertificateError::NotValidYet => told(TlsFault::NotYetValid, "the certificate is not valid yet"),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let wanted = plain(expected.to_str().as_bytes(), LONGEST);
            (TlsFault::Name, format!("the certificate is not for {wanted}; it is for {}", names(presented)))
        }
        CertificateError::NotValidForName => told(TlsFault::Name, "the certificate is for other names"),
        CertificateError::UnknownIssuer => {
            told(TlsFault::UnknownAuthority, "the certificate comes from no authority that we trust")
        }
        CertificateError::BadSignature => told(
            TlsFault::UnknownAuthority,
            "the certificate names an authority that we trust, and another key than its own has signed it",
        ),
        CertificateError::Other(other) if other.to_string() == CA_AS_BROKER => {
            told(TlsFault::UnknownAuthority, "the certificate is one of an authority, perhaps signed by itself")
        }
        other => {
            (TlsFault::Other, format!("the certificate is not taken: {}", plain(other.to_string().as_bytes(), LONGEST)))
        }
    }
}

/// The names in a certificate, as webpki shows them: `DnsName("a.example")`, `IpAddress(127.0.0.1)`.
fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no name at all".to_owned();
    }
    let bare = |name: &String| {
        let name = name.split_once('(').and_then(|(_, name)| name.strip_suffix(')')).unwrap_or(name);
        plain(name.trim_matches('"').as_bytes(), LONGEST)
    };
    let names = presented.iter().take(NAMES).map(bare).collect::<Vec<_>>().join(", ");
    match presented.len().saturating_sub(NAMES) {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

/// A second of a certificate or of our clock.
fn moment(time: UnixTime) -> Timestamp {
    Timestamp::from_micros(i64::try_from(time.as_secs()).unwrap_or(i64::MAX).saturating_mul(1_000_000))
}
