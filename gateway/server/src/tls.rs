//! TLS of the gateway: TLS 1.3, and TLS 1.2 with ephemeral elliptic-curve keys and AEAD suites only.
//!
//! Owns the certificate and its renewal under running connections. Must never fall back to an older
//! version, keep a key readable by everyone, or drop a working certificate for a broken one.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;

/// Where the TLS material is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// PEM, leaf first, then the intermediates.
    pub(crate) certificate: PathBuf,
    /// PEM, PKCS #8, PKCS #1 or SEC 1.
    pub(crate) key: PathBuf,
    /// PEM: the authorities of client certificates. A client that has none is still served.
    pub(crate) client_authorities: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("{} is not what was expected there: {}", .0.display(), .1)]
    Pem(PathBuf, rustls::pki_types::pem::Error),
    #[error("{} holds no certificate", .0.display())]
    NoCertificate(PathBuf),
    #[error("{} can be read by everyone: chmod 600 it", .0.display())]
    KeyIsOpen(PathBuf),
    #[error("the key of {} does not belong to the certificate of {}", .key.display(), .certificate.display())]
    Mismatch { key: PathBuf, certificate: PathBuf },
    #[error("TLS refuses these files")]
    Refused(#[source] rustls::Error),
    #[error("{} cannot serve to verify clients: {}", .0.display(), .1)]
    ClientAuthorities(PathBuf, String),
}

/// The TLS side of a listener.
#[derive(Debug)]
pub(crate) struct Tls {
    config: Arc<ServerConfig>,
    current: Arc<Current>,
}

/// The certificate in use, exchanged whole.
struct Current {
    files: TlsFiles,
    key: RwLock<(Stamp, Arc<CertifiedKey>)>,
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").field("files", &self.files).finish_non_exhaustive()
    }
}

/// By what a change of the files shows.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.key.read().unwrap_or_else(PoisonError::into_inner).1))
    }
}

impl Tls {
    /// Reads the files. Blocking.
    pub(crate) fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let stamp = stamp(&files);
        let key = load(&files, &provider)?;
        let current = Arc::new(Current { files, key: RwLock::new((stamp, Arc::new(key))) });
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError::Refused)?;
        let builder = match &current.files.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let wrong = |why: String| TlsError::ClientAuthorities(path.clone(), why);
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .allow_unauthenticated()
                    .build()
                    .map_err(|e| wrong(e.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Encrypted under keys of this process that change every six hours.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Refused)?;
        Ok(Self { config: Arc::new(config), current })
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Takes the files as they are now, for new connections. Says whether anything changed. On an
    /// error what was in use stays in use. Blocking.
    pub(crate) fn reload(&self) -> Result<bool, TlsError> {
        let stamp = stamp(&self.current.files);
        let before = {
            let key = self.current.key.read().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&key.1)
        };
        let key = load(&self.current.files, self.config.crypto_provider())?;
        let changed = key.cert != before.cert;
        *self.current.key.write().unwrap_or_else(PoisonError::into_inner) = (stamp, Arc::new(key));
        Ok(changed)
    }

    /// Whether the files differ from when they were last read with success. Blocking.
    pub(crate) fn stale(&self) -> bool {
        let read = self.current.key.read().unwrap_or_else(PoisonError::into_inner).0;
        stamp(&self.current.files) != read
    }
}

fn stamp(files: &TlsFiles) -> Stamp {
    [&files.certificate, &files.key].map(|path| {
        let about = std::fs::metadata(path).ok()?;
        Some((about.modified().ok()?, about.len()))
    })
}

/// All certificates of a PEM file; none is an error.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = std::fs::read(path).map_err(|e| TlsError::Read(path.to_owned(), e))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|e| TlsError::Pem(path.to_owned(), e))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(chain)
}

fn load(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(&files.certificate)?;
    if crate::secret::readable_by_everyone(&files.key).map_err(|e| TlsError::Read(files.key.clone(), e))? {
        return Err(TlsError::KeyIsOpen(files.key.clone()));
    }
    let pem = zeroize::Zeroizing::new(
        std::fs::read(&files.key).map_err(|e| TlsError::Read(files.key.clone(), e))?,
    );
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|e| TlsError::Pem(files.key.clone(), e))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Mismatch { key: files.key.clone(), certificate: files.certificate.clone() }
        }
        other => TlsError::Refused(other),
    })
}
