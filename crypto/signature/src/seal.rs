//! The hub's electronic seal: its certificate, the certificates above it, its private key.
//!
//! The key must never be printed, logged or handed out; it is wiped by the library that holds it.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
};
use der::Any;
use pli_api::Time;
use spki::AlgorithmIdentifierOwned;
use zeroize::Zeroizing;

use crate::algorithm::{
    self, Digest, EC_PUBLIC_KEY, ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, P_256, P_384, RSA_ENCRYPTION,
    SHA_256_WITH_RSA,
};
use crate::certificate::Certificate;
use crate::error::SignatureError;

/// The shortest RSA modulus of a seal, in bits: what ANSSI and ETSI TS 119 312 ask for now.
const RSA_BITS_MIN: usize = 3_072;
/// Certificates above the seal's own.
const CHAIN_MAX: usize = 8;

/// The certificate and private key with which the hub seals.
pub struct SealKey {
    /// The seal's own first, then its issuer, and so on.
    chain: Vec<Certificate>,
    key: PrivateKey,
}

enum PrivateKey {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Rsa(signature::RsaKeyPair),
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealKey").field("certificate", &self.certificate()).finish_non_exhaustive()
    }
}

impl SealKey {
    /// From PEM: `certificates` holds the seal's certificate first and then, each issued by the next, those
    /// above it (the root may be left out); `key` is an unencrypted PKCS #8 `PRIVATE KEY`: ECDSA on P-256
    /// or P-384, or RSA of 3,072 bits or more.
    ///
    /// # Errors
    /// [`SignatureError::Certificate`] when a certificate cannot be read, may not sign, or the chain is out
    /// of order; [`SignatureError::Key`] when the key is of another kind or too short;
    /// [`SignatureError::KeyMismatch`] when key and certificate do not belong together.
    pub fn from_pem(certificates: &str, key: &Zeroizing<String>) -> Result<Self, SignatureError> {
        let chain = Certificate::from_pem(certificates)?;
        if chain.len() > CHAIN_MAX.saturating_add(1) {
            return Err(SignatureError::Limit("certificates above the seal's"));
        }
        if !chain.iter().zip(chain.iter().skip(1)).all(|(below, above)| below.is_issued_by(above)) {
            return Err(SignatureError::Certificate(
                "a certificate is not issued by the one that follows it",
            ));
        }
        let own = chain.first().ok_or(SignatureError::Certificate("no certificate"))?;
        if !own.may_sign()? {
            return Err(SignatureError::Certificate(
                "its key usage allows neither digitalSignature nor nonRepudiation",
            ));
        }
        let (label, pkcs8) = der::SecretDocument::from_pem(key.trim_ascii_end())
            .map_err(|_| SignatureError::Key("PEM that cannot be read"))?;
        if label != "PRIVATE KEY" {
            return Err(SignatureError::Key("not an unencrypted PKCS #8 key (PRIVATE KEY)"));
        }
        let key = PrivateKey::read(own, pkcs8.as_bytes())?;
        Ok(Self { chain, key })
    }

    /// The seal's own certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        // `from_pem` refuses an empty chain.
        #[expect(clippy::indexing_slicing, reason = "a seal has a certificate")]
        &self.chain[0]
    }

    /// The seal's certificate and those above it, in order.
    #[must_use]
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    /// Refuses to seal when the certificate is not valid at `time`.
    pub(crate) fn usable_at(&self, time: Time) -> Result<(), SignatureError> {
        if self.certificate().valid_at(time) { Ok(()) } else { Err(SignatureError::NotValidThen) }
    }

    pub(crate) fn digest(&self) -> Digest {
        match self.key {
            PrivateKey::P256(_) | PrivateKey::Rsa(_) => Digest::Sha256,
            PrivateKey::P384(_) => Digest::Sha384,
        }
    }

    pub(crate) fn algorithm(&self) -> AlgorithmIdentifierOwned {
        match self.key {
            PrivateKey::P256(_) => AlgorithmIdentifierOwned { oid: ECDSA_WITH_SHA_256, parameters: None },
            PrivateKey::P384(_) => AlgorithmIdentifierOwned { oid: ECDSA_WITH_SHA_384, parameters: None },
            // PKCS #1 v1.5 and not PSS: readers in the field do not all know PSS inside CMS.
            PrivateKey::Rsa(_) => {
                AlgorithmIdentifierOwned { oid: SHA_256_WITH_RSA, parameters: Some(Any::null()) }
            }
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        const FAILED: SignatureError = SignatureError::Library("signing");
        let random = SystemRandom::new();
        match &self.key {
            PrivateKey::P256(key) | PrivateKey::P384(key) => {
                key.sign(&random, message).map(|value| value.as_ref().to_vec()).map_err(|_| FAILED)
            }
            PrivateKey::Rsa(key) => {
                let mut value = vec![0; key.public_modulus_len()];
                key.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut value).map_err(|_| FAILED)?;
                Ok(value)
            }
        }
    }
}

impl PrivateKey {
    fn read(certificate: &Certificate, pkcs8: &[u8]) -> Result<Self, SignatureError> {
        let public = certificate.key();
        let of_another_kind = |_| SignatureError::Key("not of the certificate's kind, or damaged");
        let (key, half) = match public.algorithm.oid {
            RSA_ENCRYPTION => {
                if algorithm::rsa_bits(public)? < RSA_BITS_MIN {
                    return Err(SignatureError::Key("RSA of less than 3,072 bits"));
                }
                let key = signature::RsaKeyPair::from_pkcs8(pkcs8).map_err(of_another_kind)?;
                let half = key.public_key().as_ref().to_vec();
                (Self::Rsa(key), half)
            }
            EC_PUBLIC_KEY => {
                let (algorithm, wrap): (_, fn(EcdsaKeyPair) -> Self) = match algorithm::curve(public)? {
                    P_256 => (&ECDSA_P256_SHA256_ASN1_SIGNING, Self::P256),
                    P_384 => (&ECDSA_P384_SHA384_ASN1_SIGNING, Self::P384),
                    _ => return Err(SignatureError::Key("neither P-256 nor P-384")),
                };
                let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8).map_err(of_another_kind)?;
                let half = key.public_key().as_ref().to_vec();
                (wrap(key), half)
            }
            _ => return Err(SignatureError::Key("neither ECDSA nor RSA")),
        };
        if public.subject_public_key.as_bytes() == Some(&half[..]) {
            Ok(key)
        } else {
            Err(SignatureError::KeyMismatch)
        }
    }
}
