//! TLS to PostgreSQL and to S3: the right authority and name are accepted, others are not.

use crate::blobs::{all, content, key, parts};
use crate::outage::Cluster;
use pli_storage::{BlobError, Blobs, Db, DbError, DbOptions, S3Options, args, testing};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivatePkcs8KeyDer};

struct Pki {
    /// PEM of the authority.
    authority: String,
    certificate: rcgen::Certificate,
    key: KeyPair,
}

/// An authority and a certificate of it for `name`.
fn pki(name: &str) -> Pki {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let authority_key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    Pki { authority: authority.pem(), certificate, key }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_known_by_its_certificate() {
    let cluster = Cluster::start();
    let server = cluster.script(&["url"]);
    let pki = pki("localhost");
    let data = cluster.path().join("data");
    let owner = std::fs::metadata(&data).unwrap();
    for (name, text) in [("server.crt", pki.certificate.pem()), ("server.key", pki.key.serialize_pem())] {
        let path = data.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let options = DbOptions { acquire_timeout: Duration::from_secs(2), ..DbOptions::default() };
    let admin = Db::open(&server, options.clone()).await.unwrap();
    admin.rows("ALTER SYSTEM SET ssl = on", args![]).await.unwrap();
    admin.close().await;
    cluster.script(&["stop"]);
    cluster.script(&["start"]);

    let here = cluster.path();
    let authority = here.join("authority.pem");
    std::fs::write(&authority, &pki.authority).unwrap();
    let other = here.join("other.pem");
    std::fs::write(&other, self::pki("localhost").authority).unwrap();
    let named = server.replace("127.0.0.1", "localhost");
    let full =
        |url: &str, ca: &std::path::Path| format!("{url}?sslmode=verify-full&sslrootcert={}", ca.display());

    let db = Db::open(&full(&named, &authority), options.clone()).await.unwrap();
    let row = db.optional("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", args![]).await.unwrap();
    assert!(row.unwrap().get::<bool>("ssl").unwrap());
    // Another authority; the right one for another name.
    for url in [full(&named, &other), full(&server, &authority)] {
        let e = Db::open(&url, options.clone()).await.unwrap_err();
        assert!(matches!(e, DbError::Unavailable(_)), "{e}");
    }
}

/// Ends TLS in front of the server for tests.
async fn tls_before_s3(pki: &Pki) -> (u16, S3Options) {
    let options = testing::s3().unwrap();
    let server: std::net::SocketAddr = options.endpoint.rsplit('/').next().unwrap().parse().unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![pki.certificate.der().clone()],
            PrivatePkcs8KeyDer::from(pki.key.serialize_der()).into(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut client = acceptor.accept(client).await?;
                let mut server = tokio::net::TcpStream::connect(server).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    (port, options)
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_is_known_by_its_certificate() {
    let pki = pki("localhost");
    let (port, options) = tls_before_s3(&pki).await;
    let ca = Some(pki.authority.clone().into_bytes());
    let by_name = S3Options { endpoint: format!("https://localhost:{port}"), ca, ..options };
    let blobs = Blobs::s3(by_name.clone()).unwrap();
    let (key, was) = (key(), content(3 << 20, 1));
    blobs.put(&key, parts(&was)).await.unwrap();
    assert!(all(&blobs, &key, 0..was.len() as u64).await.unwrap() == was);
    // The system's authorities, another authority, another name.
    let other = self::pki("localhost").authority.into_bytes();
    for options in [
        S3Options { ca: None, ..by_name.clone() },
        S3Options { ca: Some(other), ..by_name.clone() },
        S3Options { endpoint: format!("https://127.0.0.1:{port}"), ..by_name },
    ] {
        let done = Blobs::s3(options).unwrap().probe().await;
        assert!(matches!(done, Err(BlobError::Unavailable(_))), "{done:?}");
    }
}
