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
    let pem =
        zeroize::Zeroizing::new(std::fs::read(&files.key).map_err(|e| TlsError::Read(files.key.clone(), e))?);
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|e| TlsError::Pem(files.key.clone(), e))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Mismatch { key: files.key.clone(), certificate: files.certificate.clone() }
        }
        other => TlsError::Refused(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        brief, client_config, client_config_of, one_answer, pki_folder, soon, start, start_with, tls_files,
        until_closed,
    };
    use rustls::{ClientConfig, NamedGroup, ProtocolVersion, pki_types::PrivatePkcs8KeyDer};
    use std::os::unix::fs::PermissionsExt;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    /// A ClientHello of TLS 1.2 or older, by hand: rustls would not say such a thing.
    fn hello(version: [u8; 2], suites: &[u16]) -> Vec<u8> {
        let mut body = version.to_vec();
        body.extend_from_slice(&[7; 32]);
        body.push(0);
        body.extend_from_slice(&u16::try_from(suites.len() * 2).unwrap().to_be_bytes());
        body.extend(suites.iter().flat_map(|suite| suite.to_be_bytes()));
        body.extend_from_slice(&[1, 0]);
        let extensions: &[(u16, &[u8])] = &[
            (10, &[0, 4, 0, 29, 0, 23]),
            (11, &[1, 0]),
            (13, &[0, 8, 4, 3, 8, 4, 4, 1, 8, 7]),
            (23, &[]),
            (0xff01, &[0]),
        ];
        let mut all = Vec::new();
        for (kind, content) in extensions {
            all.extend_from_slice(&kind.to_be_bytes());
            all.extend_from_slice(&u16::try_from(content.len()).unwrap().to_be_bytes());
            all.extend_from_slice(content);
        }
        body.extend_from_slice(&u16::try_from(all.len()).unwrap().to_be_bytes());
        body.extend_from_slice(&all);
        let mut message = vec![1, 0];
        message.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
        message.extend_from_slice(&body);
        let mut record = vec![22, 3, 1];
        record.extend_from_slice(&u16::try_from(message.len()).unwrap().to_be_bytes());
        record.extend_from_slice(&message);
        record
    }

    async fn answer_to(hello: &[u8]) -> Vec<u8> {
        let server = start(Limits::default()).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(hello).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        soon(stream.read_to_end(&mut answer)).await.unwrap();
        assert_eq!(server.seen.requests(), 0);
        answer
    }

    use crate::limits::Limits;

    const ECDHE_ECDSA_AES128_GCM: u16 = 0xc02b;
    const FATAL: u8 = 2;
    const HANDSHAKE_FAILURE: u8 = 40;
    const PROTOCOL_VERSION: u8 = 70;

    #[tokio::test]
    async fn the_hand_made_hello_is_a_good_one() {
        let answer = answer_to(&hello([3, 3], &[ECDHE_ECDSA_AES128_GCM])).await;
        // A handshake record with a ServerHello of TLS 1.2.
        assert_eq!((answer[0], answer[5], &answer[9..11]), (22, 2, &[3, 3][..]));
    }

    #[tokio::test]
    async fn tls_1_1_and_older_are_refused() {
        for version in [[3, 0], [3, 1], [3, 2]] {
            let answer = answer_to(&hello(version, &[ECDHE_ECDSA_AES128_GCM])).await;
            assert_eq!((answer[0], &answer[5..7]), (21, &[FATAL, PROTOCOL_VERSION][..]), "{version:?}");
        }
    }

    #[tokio::test]
    async fn suites_without_aead_or_without_ephemeral_keys_are_refused() {
        for (suite, name) in [
            (0xc009, "ECDHE_ECDSA_AES128_CBC_SHA"),
            (0xc013, "ECDHE_RSA_AES128_CBC_SHA"),
            (0xc023, "ECDHE_ECDSA_AES128_CBC_SHA256"),
            (0xc007, "ECDHE_ECDSA_RC4_128_SHA"),
            (0x009c, "RSA_AES128_GCM_SHA256"),
            (0x009e, "DHE_RSA_AES128_GCM_SHA256"),
            (0x000a, "RSA_3DES_EDE_CBC_SHA"),
        ] {
            let answer = answer_to(&hello([3, 3], &[suite])).await;
            assert_eq!((answer[0], &answer[5..7]), (21, &[FATAL, HANDSHAKE_FAILURE][..]), "{name}");
        }
    }

    #[tokio::test]
    async fn plain_http_on_the_tls_port_is_closed_cleanly() {
        let server = start(Limits::default()).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        // No reset: the alert arrives, and then the end.
        soon(stream.read_to_end(&mut answer)).await.unwrap();
        assert_eq!((answer[0], answer.len()), (21, 7));
        drop(stream);
        assert!(server.ask("GET /", "").await.contains("200 OK"), "others are served meanwhile");
        assert_eq!(server.seen.requests(), 1);
    }

    #[tokio::test]
    async fn a_handshake_that_stands_still_is_ended() {
        let server = start(brief()).await;
        let mut silent = TcpStream::connect(server.address).await.unwrap();
        let mut halting = TcpStream::connect(server.address).await.unwrap();
        halting.write_all(&hello([3, 3], &[ECDHE_ECDSA_AES128_GCM])[..20]).await.unwrap();
        until_closed(&mut silent).await;
        until_closed(&mut halting).await;
    }

    #[tokio::test]
    async fn handshakes_queue_for_their_turn() {
        let server = start(Limits { handshakes: 1, ..Limits::default() }).await;
        let mut holding = TcpStream::connect(server.address).await.unwrap();
        holding.write_all(&[22]).await.unwrap();
        let asked = server.ask("GET /", "");
        let mut asked = std::pin::pin!(asked);
        // The first holds the only turn; its leaving, not a time limit, lets the second in.
        tokio::select! {
            biased;
            answer = asked.as_mut() => assert!(answer.contains("200 OK"), "came before the turn was taken"),
            () = async { drop(holding); std::future::pending::<()>().await } => {}
        }
    }

    #[tokio::test]
    async fn both_versions_are_served_and_the_post_quantum_group_is_preferred() {
        let server = start(Limits::default()).await;
        let stream = server.connect_with(client_config(&["h2", "http/1.1"])).await.unwrap();
        let (_, session) = stream.get_ref();
        assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
        let group = session.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, NamedGroup::X25519MLKEM768);

        let provider = Arc::new(CryptoProvider {
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        });
        let mut roots = RootCertStore::empty();
        for root in certificates(&pki_folder().join("root.pem")).unwrap() {
            roots.add(root).unwrap();
        }
        let older = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = server.connect_with(older).await.unwrap();
        let (_, session) = stream.get_ref();
        assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_2));
        let suite = format!("{:?}", session.negotiated_cipher_suite().unwrap().suite());
        assert!(suite.contains("ECDHE") && (suite.contains("GCM") || suite.contains("POLY1305")), "{suite}");
    }

    #[test]
    fn every_suite_offered_is_ephemeral_and_aead() {
        let tls = Tls::open(tls_files(pki_folder())).unwrap();
        for suite in &tls.config.crypto_provider().cipher_suites {
            let name = format!("{:?}", suite.suite());
            assert!(name.starts_with("TLS13_") || name.starts_with("TLS_ECDHE_"), "{name}");
            assert!(name.contains("GCM") || name.contains("POLY1305"), "{name}");
        }
        assert_eq!(tls.config.max_early_data_size, 0, "what may be replayed is not taken");
    }

    #[tokio::test]
    async fn sessions_are_resumed_with_tickets() {
        let server = start(Limits::default()).await;
        let config = client_config(&["http/1.1"]);
        for (turn, kind) in [(1, rustls::HandshakeKind::Full), (2, rustls::HandshakeKind::Resumed)] {
            let mut stream = server.connect_with(config.clone()).await.unwrap();
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind), "turn {turn}");
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
            assert!(until_closed(&mut stream).await.contains("200 OK"));
        }
    }

    /// A folder of its own, with a PKI of its own.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        crate::pki::make(folder.path(), &[], time::OffsetDateTime::now_utc()).unwrap();
        folder
    }

    fn replace(with: &Path, at: &Path) {
        for name in ["server.pem", "server-key.pem"] {
            let beside = at.join("new");
            std::fs::copy(with.join(name), &beside).unwrap();
            std::fs::rename(beside, at.join(name)).unwrap();
        }
    }

    #[tokio::test]
    async fn a_new_certificate_is_taken_without_dropping_a_connection() {
        let (old, new) = (folder(), folder());
        let served = folder();
        replace(old.path(), served.path());
        let server = start_with(Limits::default(), tls_files(served.path())).await;
        let trusting = |folder: &tempfile::TempDir| client_config_of(folder.path(), &["http/1.1"]);
        let mut before = server.connect_with(trusting(&old)).await.unwrap();
        before.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(one_answer(&mut before).await.contains("200 OK"));
        assert!(!server.tls.stale());

        replace(new.path(), served.path());
        assert!(server.tls.stale());
        assert!(server.tls.reload().unwrap());
        assert!(!server.tls.stale());
        server.connect_with(trusting(&new)).await.unwrap();
        server.connect_with(trusting(&old)).await.unwrap_err();
        before.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(one_answer(&mut before).await.contains("200 OK"), "the connection from before goes on");

        // Half-way through a renewal, or after a broken one, the last good pair stays.
        std::fs::copy(old.path().join("server.pem"), served.path().join("server.pem")).unwrap();
        assert!(matches!(server.tls.reload(), Err(TlsError::Mismatch { .. })));
        std::fs::write(served.path().join("server.pem"), "no certificate").unwrap();
        assert!(matches!(server.tls.reload(), Err(TlsError::NoCertificate(_))));
        std::fs::remove_file(served.path().join("server.pem")).unwrap();
        assert!(matches!(server.tls.reload(), Err(TlsError::Read(..))));
        assert!(server.tls.stale(), "so that it is tried again");
        server.connect_with(trusting(&new)).await.unwrap();
    }

    #[test]
    fn a_key_that_everyone_reads_is_refused() {
        let folder = folder();
        let files = tls_files(folder.path());
        std::fs::set_permissions(&files.key, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(matches!(Tls::open(files.clone()), Err(TlsError::KeyIsOpen(_))));
        std::fs::set_permissions(&files.key, PermissionsExt::from_mode(0o640)).unwrap();
        Tls::open(files).unwrap();
    }

    #[tokio::test]
    async fn a_verified_client_certificate_reaches_the_handlers_and_a_foreign_one_does_not() {
        let authority = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let certificate = params.self_signed(&key).unwrap();
            (certificate, rcgen::Issuer::new(params, key))
        };
        let client = |issuer: &rcgen::Issuer<'_, rcgen::KeyPair>| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::default();
            params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
            (params.signed_by(&key, issuer).unwrap(), key)
        };
        let (trusted, trusted_issuer) = authority("parties");
        let (_, foreign_issuer) = authority("others");
        let folder = folder();
        let authorities = folder.path().join("parties.pem");
        std::fs::write(&authorities, trusted.pem()).unwrap();
        let files = TlsFiles { client_authorities: Some(authorities), ..tls_files(folder.path()) };
        let server = start_with(Limits::default(), files).await;

        let ask = async |identity: Option<(rcgen::Certificate, rcgen::KeyPair)>| {
            let mut roots = RootCertStore::empty();
            for root in certificates(&folder.path().join("root.pem")).unwrap() {
                roots.add(root).unwrap();
            }
            let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots);
            let config = match identity {
                None => builder.with_no_client_auth(),
                Some((certificate, key)) => builder
                    .with_client_auth_cert(
                        vec![certificate.der().clone()],
                        PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
                    )
                    .unwrap(),
            };
            let Ok(mut stream) = server.connect_with(config).await else { return String::new() };
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
            until_closed(&mut stream).await
        };
        assert!(ask(None).await.contains("200 OK"));
        let (certificate, key) = client(&trusted_issuer);
        let leaf = certificate.der().clone();
        assert!(ask(Some((certificate, key))).await.contains("200 OK"));
        assert!(!ask(Some(client(&foreign_issuer))).await.contains("200 OK"));
        let peers = server.seen.peers.lock().unwrap();
        let chains: Vec<_> =
            peers.iter().map(|peer| peer.certificates.as_ref().map(|c| c[0].clone())).collect();
        assert_eq!(chains, [None, Some(leaf)]);
    }
}
