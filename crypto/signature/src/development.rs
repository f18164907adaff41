//! A seal for development and tests. Its names say that it is not to be trusted.

use pli_api::Time;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::error::SignatureError;

const ORGANISATION: &str = "Pli (développement, sans valeur)";

/// A development seal, in PEM.
pub struct Development {
    /// The seal's certificate, then its authority's: what [`crate::SealKey::from_pem`] reads.
    pub certificates: String,
    /// The authority's certificate alone: what verifiers trust.
    pub authority: String,
    /// The seal's private key, PKCS #8. The authority's key is not kept.
    pub key: Zeroizing<String>,
}

/// Makes an authority and a seal that it issues: ECDSA P-256, `CN=Pli – cachet de développement`, key usage
/// digitalSignature and contentCommitment (nonRepudiation), valid for `days` from `from`.
///
/// # Errors
/// [`SignatureError::Time`] when a date cannot be written; [`SignatureError::Library`].
pub fn development_seal(from: Time, days: u16) -> Result<Development, SignatureError> {
    let failed = |_| SignatureError::Library("certificate for development");
    let not_before = OffsetDateTime::from_unix_timestamp(from.seconds()).map_err(|_| SignatureError::Time)?;
    let not_after = not_before.checked_add(Duration::days(days.into())).ok_or(SignatureError::Time)?;
    let named = |name: &str| {
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (not_before, not_after);
        params.distinguished_name.push(DnType::CountryName, "FR");
        params.distinguished_name.push(DnType::OrganizationName, ORGANISATION);
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };

    let mut authority = named("Pli – autorité de développement");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let authority_pem = authority.self_signed(&authority_key).map_err(failed)?.pem();
    let issuer = Issuer::new(authority, &authority_key);

    let mut seal = named("Pli – cachet de développement");
    seal.is_ca = IsCa::ExplicitNoCa;
    seal.use_authority_key_identifier_extension = true;
    seal.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::ContentCommitment];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let seal_pem = seal.signed_by(&key, &issuer).map_err(failed)?.pem();

    Ok(Development {
        certificates: seal_pem + &authority_pem,
        authority: authority_pem,
        key: Zeroizing::new(key.serialize_pem()),
    })
}
