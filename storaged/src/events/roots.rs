//! Whom `https://` webhooks are believed: the authorities that their certificates must go back to.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

/// Where Debian's package `ca-certificates` keeps the usual ones.
pub const USUAL: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The certificates of authorities.
#[derive(Clone)]
pub struct Roots(Arc<Vec<Certificate<'static>>>);

/// Why there are none.
#[derive(Debug, Error)]
pub enum RootsError {
    /// The file can't be read.
    #[error("can't read {}; name the authorities of https webhooks with --webhook-ca FILE", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A certificate in it can't be read.
    #[error("{} holds something else than certificates as PEM", .path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// There is nothing in it.
    #[error("{} holds no certificate as PEM", .0.display())]
    Empty(PathBuf),
}

impl Roots {
    /// The certificates in a file.
    ///
    /// # Errors
    /// When it can't be read, or holds none.
    pub fn read(path: &Path) -> Result<Roots, RootsError> {
        let path_owned = || path.to_owned();
        let pem =
            fs::read(path).map_err(|source| RootsError::Read { path: path_owned(), source })?;
        let found = CertificateDer::pem_slice_iter(&pem)
            .map(|der| der.map(|der| Certificate::from_der(&der).to_owned()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| RootsError::Pem { path: path_owned(), source })?;
        if found.is_empty() {
            return Err(RootsError::Empty(path_owned()));
        }
        Ok(Roots(Arc::new(found)))
    }

    /// What a client that believes them, and nobody else, is made with.
    pub(super) fn config(&self) -> TlsConfig {
        TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::Specific(Arc::clone(&self.0)))
            .build()
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        assert!(matches!(Roots::read(&path), Err(RootsError::Read { .. })));
        fs::write(&path, "nothing").unwrap();
        assert!(matches!(Roots::read(&path), Err(RootsError::Empty(_))));
        fs::write(&path, "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n").unwrap();
        assert!(matches!(Roots::read(&path), Err(RootsError::Pem { .. })));
    }
}
