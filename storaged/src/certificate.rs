//! The certificate of the encrypted port: the operator's, or one of our own that is made once and kept.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Where our own is kept, in the store's directory: the key first, then the certificate, so that both
/// are there or neither.
const OWN: &str = "tls.pem";
const OWN_NEW: &str = "tls.pem.new";
/// What our own is called.
const NAME: &str = "Mobula";

/// Why there is no certificate to serve with.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file can't be read or written.
    #[error("can't {doing} {}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is no certificate or key in a file.
    #[error("{} holds no {what} as PEM", .path.display())]
    Pem {
        /// What should be in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// They do not go together.
    #[error("the certificate in {} can't be used with this key", .path.display())]
    Pair {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// One of our own can't be made.
    #[error("can't make a certificate; give one with --tls-cert and --tls-key")]
    Make(#[source] rcgen::Error),
}

/// Serves with the operator's certificate.
///
/// # Errors
/// When a file can't be read or used.
pub fn given(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, CertificateError> {
    serve_with(certificate, &read(certificate)?, key, &read(key)?)
}

/// Serves with a certificate of our own, which is made if there is none in the store's directory. It names
/// this machine and the address that is served at.
///
/// # Errors
/// When it can't be made, kept or read.
pub fn own(data: &Path, address: IpAddr) -> Result<Arc<ServerConfig>, CertificateError> {
    let path = data.join(OWN);
    if !path.exists() {
        let pem = make(address).map_err(CertificateError::Make)?;
        keep(data, &pem).map_err(|source| CertificateError::Io {
            doing: "keep a certificate at",
            path: path.clone(),
            source,
        })?;
        log::info!("made a certificate of our own: clients may trust {}", path.display());
    }
    let pem = read(&path)?;
    serve_with(&path, &pem, &path, &pem)
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|source| CertificateError::Io {
        doing: "read",
        path: path.to_owned(),
        source,
    })
}

fn serve_with(
    certificate_path: &Path,
    certificate: &[u8],
    key_path: &Path,
    key: &[u8],
) -> Result<Arc<ServerConfig>, CertificateError> {
    let wrong = |what, path: &Path| {
        let path = path.to_owned();
        move |source| CertificateError::Pem { what, path, source }
    };
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(wrong("certificate", certificate_path))?;
    if let Some(first) = chain.first() {
        log::info!("the certificate's SHA-256 fingerprint is {}", fingerprint(first));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(wrong("key", key_path))?;
    let pair = |source| CertificateError::Pair { path: certificate_path.to_owned(), source };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// As openssl-x509(1) writes it with `-fingerprint -sha256`.
fn fingerprint(certificate: &[u8]) -> String {
    let bytes = Sha256::digest(certificate);
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

fn make(address: IpAddr) -> Result<String, rcgen::Error> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    // A host name may be something that is no name of the network.
    names.extend(host.filter(|host| CertificateParams::new([host.clone()]).is_ok()));
    if !address.is_unspecified() {
        names.push(address.to_string());
    }
    names.sort();
    names.dedup();
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, NAME);
    let key = KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    Ok(key.serialize_pem() + &certificate.pem())
}

fn keep(data: &Path, pem: &str) -> io::Result<()> {
    let new = data.join(OWN_NEW);
    // Left by a start that was cut short.
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, data.join(OWN))?;
    File::open(data)?.sync_all()
}

#[cfg(test)]
mod test {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const ADDRESS: &str = "192.0.2.7";

    #[test]
    fn our_own_is_made_once_and_read_by_nobody_else() {
        let data = tempfile::tempdir().unwrap();
        own(data.path(), ADDRESS.parse().unwrap()).unwrap();
        let path = data.path().join(OWN);
        let first = fs::read(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        own(data.path(), ADDRESS.parse().unwrap()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first);
    }

    #[test]
    fn what_is_given_is_used_if_it_fits() {
        let data = tempfile::tempdir().unwrap();
        let write = |name: &str, pem: &str| {
            let path = data.path().join(name);
            fs::write(&path, pem).unwrap();
            path
        };
        let pem = make(ADDRESS.parse().unwrap()).unwrap();
        let other = make(ADDRESS.parse().unwrap()).unwrap();
        let (certificate, key) = (write("c", &pem), write("k", &pem));
        given(&certificate, &key).unwrap();
        let error = given(&certificate, &write("o", &other)).unwrap_err();
        assert!(matches!(error, CertificateError::Pair { .. }), "{error}");
        let error = given(&certificate, &write("r", "rubbish")).unwrap_err();
        assert!(error.to_string().ends_with("/r holds no key as PEM"), "{error}");
        let error = given(&data.path().join("none"), &key).unwrap_err();
        assert!(matches!(error, CertificateError::Io { .. }), "{error}");
    }
}
