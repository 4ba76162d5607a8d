//! The authority and the certificate of the TLS listeners: made once in the data folder, used again afterwards.
//!
//! Files: `ca.pem` (for clients), `ca.key`, `server.pem`, `server.key`, `server.names`. A further name makes a new
//! certificate of the same authority, so clients go on trusting it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::peer::AnyClient;
use super::persist;

/// What the listeners show.
#[derive(Debug)]
pub(crate) struct Identity {
    ca_file: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Identity {
    /// Uses what is in the folder; makes what is missing. `names` come in addition to those of this machine.
    pub(crate) fn load_or_make(folder: &Path, names: &[String]) -> anyhow::Result<Self> {
        let ca_file = folder.join("ca.pem");
        let ca_key_file = folder.join("ca.key");
        let certificate = folder.join("server.pem");
        let key = folder.join("server.key");
        let names_file = folder.join("server.names");

        let mut all = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned(), host_name()];
        all.extend(names.iter().cloned());
        all.sort();
        all.dedup();
        let all_text = all.join("\n") + "\n";

        let ca_key = if ca_file.exists() && ca_key_file.exists() {
            let pem = fs::read_to_string(&ca_key_file).with_context(|| cannot("read", &ca_key_file))?;
            KeyPair::from_pem(&pem).with_context(|| cannot("read", &ca_key_file))?
        } else {
            let ca_key = KeyPair::generate().context("cannot make a key")?;
            let ca = authority().self_signed(&ca_key).context("cannot make the authority's certificate")?;
            write(&ca_key_file, &ca_key.serialize_pem(), 0o600)?;
            write(&ca_file, &ca.pem(), 0o644)?;
            let _ = fs::remove_file(&names_file);
            ca_key
        };
        let made_for = fs::read_to_string(&names_file).unwrap_or_default();
        if made_for != all_text || !certificate.exists() || !key.exists() {
            let server_key = KeyPair::generate().context("cannot make a key")?;
            let signed = server(all)?
                .signed_by(&server_key, &Issuer::new(authority(), ca_key))
                .context("cannot make the certificate")?;
            write(&key, &server_key.serialize_pem(), 0o600)?;
            write(&certificate, &signed.pem(), 0o644)?;
            write(&names_file, &all_text, 0o644)?;
        }
        Ok(Self { ca_file, certificate, key })
    }

    pub(crate) fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// TLS 1.2 and 1.3: some clients of the real services speak no more than 1.2. Clients may show a certificate.
    pub(crate) fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect)
            .with_context(|| cannot("read", &self.certificate))?;
        let key = PrivateKeyDer::from_pem_file(&self.key).with_context(|| cannot("read", &self.key))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .context("no common TLS versions")?
            .with_client_cert_verifier(Arc::new(AnyClient(provider)))
            .with_single_cert(chain, key)
            .with_context(|| cannot("use", &self.certificate))?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// The name of this machine, `localhost` if it has none that a certificate can hold.
pub(crate) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let fits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    if fits { name } else { "localhost".to_owned() }
}

fn authority() -> CertificateParams {
    let mut params = lasting(CertificateParams::default(), "twinagent-bridge test authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn server(names: Vec<String>) -> anyhow::Result<CertificateParams> {
    let said = names.join(", ");
    let params = CertificateParams::new(names)
        .with_context(|| format!("a name cannot be put into a certificate; the names are {said}"))?;
    let mut params = lasting(params, "twinagent-bridge");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.distinguished_name.push(DnType::OrganizationalUnitName, "stand-in cloud, not for production");
    Ok(params)
}

/// Valid for machines whose clock is years off; 2049 is the last year that all readers of certificates take.
fn lasting(mut params: CertificateParams, name: &str) -> CertificateParams {
    params.not_before = date_time_ymd(1975, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn cannot(what: &str, path: &Path) -> String {
    format!("cannot {what} {}", path.display())
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    persist::replace(path, text.as_bytes(), mode).with_context(|| cannot("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_authority_stays_and_a_new_name_makes_a_new_certificate() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("the file is there");
        let first = Identity::load_or_make(folder.path(), &[]).expect("made");
        first.acceptor().expect("it can be served");
        let (ca, server) = (read("ca.pem"), read("server.pem"));
        Identity::load_or_make(folder.path(), &[]).expect("used again");
        assert_eq!((read("ca.pem"), read("server.pem")), (ca.clone(), server.clone()));
        let renewed = Identity::load_or_make(folder.path(), &["bridge.test".to_owned()]).expect("made");
        renewed.acceptor().expect("it can be served");
        assert_eq!(read("ca.pem"), ca);
        assert_ne!(read("server.pem"), server);
        for secret in ["ca.key", "server.key"] {
            let mode = fs::metadata(folder.path().join(secret)).expect("the file is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{secret}");
        }
        assert!(Identity::load_or_make(folder.path(), &["nö".to_owned()]).is_err());
    }
}
