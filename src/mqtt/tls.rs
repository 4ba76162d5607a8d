//! Whom to trust and what to show: the roots, and the rustls configuration that is made of them.
//!
//! The crypto provider is named here and never taken from a process-wide default. There is no way to switch a check off.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::OFlags;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};

use super::identity::Identity;
use crate::host::clock;
use crate::model::digest::Digest;
use crate::model::now::{BootInstant, Timestamp};

/// The largest `ca_file` that is read, in bytes. The bundle of all public roots has about 220 KiB.
const CA_FILE_MAX: u64 = 4 * 1024 * 1024;

/// The largest file of a device's certificates that is read, in bytes.
const CHAIN_MAX: u64 = 256 * 1024;

/// Some roots, what is shown to who is trusted by them, and what such connections have in common: the sessions of TLS that
/// can be resumed.
///
/// Two are equal if their roots and what they show are. Keep the first of equal ones, since it knows the sessions.
#[derive(Clone)]
pub struct Trust {
    config: Arc<ClientConfig>,
    roots: Digest,
    shown: Option<Digest>,
    clock: Arc<ToldClock>,
}

/// The time that was told last, and what has passed since by the boot clock, which nobody sets: certificates are judged by the
/// time that we believe in, or a device whose clock was never set could not log in by TLS at all. Holds the moment at which
/// this machine started, in microseconds since 1970.
#[derive(Debug)]
struct ToldClock(AtomicI64);

impl ToldClock {
    fn telling((wall, boot): (Timestamp, BootInstant)) -> Self {
        let clock = Self(AtomicI64::default());
        clock.tell(wall, boot);
        clock
    }

    fn tell(&self, wall: Timestamp, boot: BootInstant) {
        self.0.store(wall.saturating_sub(boot.0).unix_micros(), Ordering::Relaxed);
    }

    fn at(&self, boot: BootInstant) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed)).saturating_add(boot.0)
    }
}

impl TimeProvider for ToldClock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = self.at(clock::boot()).unix_seconds();
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().unwrap_or_default())))
    }
}

impl Trust {
    /// Trusts the certificates in `ca_file` (PEM), or those of the system without one.
    ///
    /// Reads files, so call it where that may take a moment. Certificates that are no trust anchors are passed over, as bundles
    /// have such; an error names the file if none is left.
    pub fn read(ca_file: Option<&Path>) -> Result<Self> {
        Self::showing(ca_file, None)
    }

    /// The same, and shows this certificate to a broker that asks for one.
    pub fn showing(ca_file: Option<&Path>, identity: Option<&Identity>) -> Result<Self> {
        let roots = match ca_file {
            Some(path) => from_file(path).with_context(|| format!("ca_file {}", path.display()))?,
            None => from_system()?,
        };
        let digest = digest(&roots);
        let clock = Arc::new(ToldClock::telling(clock::both()));
        let config = config(roots, identity, clock.clone())?;
        Ok(Self { config, roots: digest, shown: identity.map(Identity::shown), clock })
    }

    /// Says what time it is now. From here on certificates are judged by that, for all who have this trust, whatever becomes of
    /// the wall clock. Until then it is what the wall clock showed when this was read.
    pub fn tell_time(&self, now: Timestamp) {
        self.clock.tell(now, clock::boot());
    }

    /// Goes on with the time that the other one was told.
    pub fn tell_time_of(&self, other: &Self) {
        self.tell_time(other.clock.at(clock::boot()));
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        (self.roots, self.shown) == (other.roots, other.shown)
    }
}

impl Eq for Trust {}

impl fmt::Debug for Trust {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Trust").field("roots", &self.roots).field("shown", &self.shown).finish_non_exhaustive()
    }
}

/// A configuration for TLS 1.2 and 1.3 for one connection. See [`Trust::read`].
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>> {
    Trust::read(ca_file).map(|trust| trust.config)
}

/// What tells these roots from others, in whatever order they were found.
fn digest(roots: &RootCertStore) -> Digest {
    let mut anchors: Vec<_> = roots
        .roots
        .iter()
        .map(|root| (root.subject.as_ref(), root.subject_public_key_info.as_ref(), root.name_constraints.as_deref()))
        .collect();
    anchors.sort_unstable();
    Digest::of(format!("{anchors:?}").as_bytes())
}

fn config(roots: RootCertStore, identity: Option<&Identity>, clock: Arc<ToldClock>) -> Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_details(Arc::new(ring::default_provider()), clock)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .context("TLS versions of the ring provider")?
        .with_root_certificates(roots);
    Ok(Arc::new(match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified()))),
        None => builder.with_no_client_auth(),
    }))
}

/// Reads a file of a device's own certificates, which are no secret. An error names the file.
pub fn read_chain(path: &Path) -> Result<Vec<u8>> {
    read_file(path, CHAIN_MAX).with_context(|| format!("cert_file {}", path.display()))
}

fn read_file(path: &Path, largest: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // A pipe in this place must hold up nobody, so it is opened without waiting and then refused.
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    ensure!(file.metadata()?.is_file(), "is not a regular file");
    file.take(largest + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= largest, "larger than {largest} bytes");
    Ok(bytes)
}

fn from_file(path: &Path) -> Result<RootCertStore> {
    let pem = read_file(path, CA_FILE_MAX)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().context("not PEM")?;
    ensure!(!certificates.is_empty(), "no certificate in it (PEM is expected: -----BEGIN CERTIFICATE-----)");
    let mut roots = RootCertStore::empty();
    if roots.add_parsable_certificates(certificates).0 == 0 {
        bail!("none of its certificates can be read");
    }
    Ok(roots)
}

fn from_system() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    if roots.add_parsable_certificates(found.certs).0 == 0 {
        let why: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        bail!(
            "no root certificates on this system (package ca-certificates), and no ca_file is set: {}",
            why.join("; ")
        );
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(content: &[u8]) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, content).expect("a file");
        let error = client_config(Some(&path)).expect_err("no certificate");
        let words = format!("{error:#}");
        assert!(words.contains("ca.pem"), "{words}");
        words
    }

    #[test]
    fn the_time_that_was_told_goes_on_by_the_boot_clock() {
        let (told, passed) = (Timestamp::from_micros(1_800_000_000_000_000), Duration::from_secs(90));
        let boot = BootInstant(Duration::from_secs(1_000));
        let clock = ToldClock::telling(clock::both());
        clock.tell(told, boot);
        assert_eq!((clock.at(boot), clock.at(boot + passed)), (told, told.saturating_add(passed)));
    }

    #[test]
    fn other_roots_go_on_with_the_time_that_was_told() {
        let trust = || {
            let clock = Arc::new(ToldClock::telling(clock::both()));
            let config = config(RootCertStore::empty(), None, clock.clone()).expect("a configuration");
            Trust { config, roots: Digest::of(b""), shown: None, clock }
        };
        let (one, other) = (trust(), trust());
        let told = Timestamp::from_micros(1_900_000_000_000_000);
        one.tell_time(told);
        other.tell_time_of(&one);
        for trust in [one, other] {
            let now = trust.clock.current_time().expect("a time").as_secs();
            assert!((0..3_600).contains(&(now.cast_signed() - told.unix_seconds())), "{now}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        assert!(refusal(b"").contains("no certificate in it"));
        assert!(refusal(b"\x30\x82 der").contains("no certificate in it"));
        assert!(refusal(b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n").contains("not PEM"));
        assert!(
            refusal(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
                .contains("none of its certificates")
        );
    }

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ca.pem");
        let file = std::fs::File::create(&path).expect("a file");
        file.set_len(CA_FILE_MAX + 1).expect("a hole");
        let error = client_config(Some(&path)).expect_err("too large");
        assert!(format!("{error:#}").contains("larger than"), "{error:#}");
    }

    #[test]
    fn what_is_no_file_is_refused_without_waiting() {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
        for path in [&pipe, Path::new("/dev/zero"), dir.path()] {
            let error = client_config(Some(path)).expect_err("no file");
            assert!(format!("{error:#}").contains("not a regular file"), "{error:#}");
        }
    }
}
