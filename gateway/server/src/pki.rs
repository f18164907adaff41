//! A certificate authority for development and tests.
//!
//! Owns the files of `pli dev-pki`. Must never overwrite anything, and never be taken for an
//! authority to trust: its names say so.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use time::{Duration, OffsetDateTime};

use crate::secret::{write_private, write_public};

#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    #[error("{} existe déjà : rien n'a été écrit", .0.display())]
    Exists(PathBuf),
    #[error("écriture impossible dans {}", .0.display())]
    Write(PathBuf, #[source] std::io::Error),
    #[error("{0:?} n'est pas un nom de serveur")]
    Name(String),
    #[error("certificat de développement")]
    Certificate(#[from] rcgen::Error),
}

/// The files, by what they are for.
pub(crate) struct Names;

impl Names {
    /// What clients trust: `--cacert`.
    pub(crate) const ROOT: &str = "root.pem";
    pub(crate) const ROOT_KEY: &str = "root-key.pem";
    pub(crate) const INTERMEDIATE: &str = "intermediate.pem";
    pub(crate) const INTERMEDIATE_KEY: &str = "intermediate-key.pem";
    /// Leaf and intermediate.
    pub(crate) const SERVER: &str = "server.pem";
    pub(crate) const SERVER_KEY: &str = "server-key.pem";

    const ALL: [&str; 6] = [
        Self::ROOT,
        Self::ROOT_KEY,
        Self::INTERMEDIATE,
        Self::INTERMEDIATE_KEY,
        Self::SERVER,
        Self::SERVER_KEY,
    ];
}

/// Writes a root, an intermediate and a server certificate for this machine and the names given.
pub(crate) fn make(folder: &Path, names: &[String], now: OffsetDateTime) -> Result<(), PkiError> {
    for name in Names::ALL {
        let path = folder.join(name);
        if path.symlink_metadata().is_ok() {
            return Err(PkiError::Exists(path));
        }
    }
    std::fs::create_dir_all(folder).map_err(|e| PkiError::Write(folder.to_owned(), e))?;

    // An hour back, for machines whose clocks are not quite the same.
    let from = now - Duration::HOUR;
    let root_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let root = authority("Pli (développement) racine", from, Duration::days(3650), None);
    let root_certificate = root.self_signed(&root_key)?;
    let root = Issuer::new(root, &root_key);

    let intermediate_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let intermediate = authority("Pli (développement) intermédiaire", from, Duration::days(3640), Some(0));
    let intermediate_certificate = intermediate.signed_by(&intermediate_key, &root)?;
    let intermediate = Issuer::new(intermediate, &intermediate_key);

    let server_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let server = server(names, from)?.signed_by(&server_key, &intermediate)?;

    let chain = server.pem() + &intermediate_certificate.pem();
    let public = [
        (Names::ROOT, root_certificate.pem()),
        (Names::INTERMEDIATE, intermediate_certificate.pem()),
        (Names::SERVER, chain),
    ];
    let private = [
        (Names::ROOT_KEY, &root_key),
        (Names::INTERMEDIATE_KEY, &intermediate_key),
        (Names::SERVER_KEY, &server_key),
    ];
    for (name, key) in private {
        let path = folder.join(name);
        let pem = zeroize::Zeroizing::new(key.serialize_pem());
        write_private(&path, pem.as_bytes()).map_err(|e| PkiError::Write(path, e))?;
    }
    for (name, pem) in public {
        let path = folder.join(name);
        write_public(&path, pem.as_bytes()).map_err(|e| PkiError::Write(path, e))?;
    }
    Ok(())
}

fn authority(name: &str, from: OffsetDateTime, length: Duration, depth: Option<u8>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = from;
    params.not_after = from + length;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(depth.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = depth.is_some();
    params
}

fn server(names: &[String], from: OffsetDateTime) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.not_before = from;
    params.not_after = from + Duration::days(397);
    params.distinguished_name.push(DnType::CommonName, "Pli (développement)");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let own = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    for name in own.iter().chain(names) {
        let alternative = match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) if rustls::pki_types::ServerName::try_from(name.as_str()).is_ok() => {
                SanType::DnsName(name.as_str().try_into()?)
            }
            Err(_) => return Err(PkiError::Name(name.clone())),
        };
        if !params.subject_alt_names.contains(&alternative) {
            params.subject_alt_names.push(alternative);
        }
    }
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_are_private_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        make(folder.path(), &["pli.example".to_owned()], now).unwrap();
        for name in [Names::ROOT_KEY, Names::INTERMEDIATE_KEY, Names::SERVER_KEY] {
            let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let before = std::fs::read(folder.path().join(Names::SERVER)).unwrap();
        assert!(matches!(make(folder.path(), &[], now), Err(PkiError::Exists(_))));
        assert_eq!(std::fs::read(folder.path().join(Names::SERVER)).unwrap(), before);
    }

    #[test]
    fn a_name_that_is_none_is_refused_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let made = make(folder.path(), &["not a name".to_owned()], OffsetDateTime::now_utc());
        assert!(matches!(made, Err(PkiError::Name(_))));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
