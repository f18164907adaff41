//! Identifiers of algorithms, digests, and the verification of signature values.
//!
//! Owns the list of what is accepted: SHA-256, SHA-384, SHA-512; RSA of 2,048 bits or more (PKCS #1 v1.5
//! and PSS); ECDSA on P-256 and P-384. SHA-1 only names a certificate in old timestamps, and must never
//! stand behind a signature.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use aws_lc_rs::{digest, signature};
use der::asn1::{ObjectIdentifier, UintRef};
use der::{Any, AnyRef, Decode, Sequence};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use crate::error::SignatureError;

pub(crate) const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA_384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA_512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");

pub(crate) const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const MGF_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.8");
pub(crate) const SHA_256_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const SHA_384_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const SHA_512_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");

pub(crate) const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
pub(crate) const P_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
pub(crate) const P_384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
pub(crate) const ECDSA_WITH_SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
pub(crate) const ECDSA_WITH_SHA_384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const ECDSA_WITH_SHA_512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");

/// A digest algorithm that may stand behind a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Digest {
    Sha256,
    Sha384,
    Sha512,
}

impl Digest {
    pub(crate) fn from_oid(oid: ObjectIdentifier) -> Result<Self, SignatureError> {
        match oid {
            SHA_256 => Ok(Self::Sha256),
            SHA_384 => Ok(Self::Sha384),
            SHA_512 => Ok(Self::Sha512),
            _ => Err(SignatureError::Algorithm("digest")),
        }
    }

    /// From an AlgorithmIdentifier, whose parameters must be absent or NULL (RFC 5754, 2).
    pub(crate) fn from_identifier(identifier: &AlgorithmIdentifierOwned) -> Result<Self, SignatureError> {
        absent_or_null(identifier.parameters.as_ref())?;
        Self::from_oid(identifier.oid)
    }

    fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Sha256 => SHA_256,
            Self::Sha384 => SHA_384,
            Self::Sha512 => SHA_512,
        }
    }

    /// With absent parameters, as RFC 5754, 2 asks of writers.
    pub(crate) fn identifier(self) -> AlgorithmIdentifierOwned {
        AlgorithmIdentifierOwned { oid: self.oid(), parameters: None }
    }

    fn length(self) -> u32 {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The digest of pieces that follow one another.
    pub(crate) fn of(self, pieces: &[&[u8]]) -> Vec<u8> {
        let mut context = digest::Context::new(match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        });
        for piece in pieces {
            context.update(piece);
        }
        context.finish().as_ref().to_vec()
    }
}

/// Names a certificate in timestamps that follow RFC 2634 alone.
pub(crate) fn sha1(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec()
}

fn absent_or_null(parameters: Option<&Any>) -> Result<(), SignatureError> {
    match parameters {
        None => Ok(()),
        Some(any) if any.is_null() => Ok(()),
        Some(_) => Err(SignatureError::Algorithm("parameters")),
    }
}

/// RSASSA-PSS-params (RFC 4055, 3.1).
#[derive(Sequence)]
struct PssParameters<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    hash: Option<AlgorithmIdentifierOwned>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    mask: Option<AlgorithmIdentifierOwned>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    salt: Option<UintRef<'a>>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    trailer: Option<AnyRef<'a>>,
}

/// The digest of a PSS signature: one digest everywhere, a salt of its length.
fn pss_digest(parameters: Option<&Any>) -> Result<Digest, SignatureError> {
    const REFUSED: SignatureError = SignatureError::Algorithm("PSS parameters");
    let parameters: PssParameters<'_> = parameters.ok_or(REFUSED)?.decode_as().map_err(|_| REFUSED)?;
    let hash = Digest::from_identifier(parameters.hash.as_ref().ok_or(REFUSED)?)?;
    let mask = parameters.mask.as_ref().ok_or(REFUSED)?;
    let mask_hash: AlgorithmIdentifierOwned =
        mask.parameters.as_ref().ok_or(REFUSED)?.decode_as().map_err(|_| REFUSED)?;
    let salt = match parameters.salt.map(|salt| salt.as_bytes().to_vec()).as_deref() {
        Some([salt]) => u32::from(*salt),
        _ => return Err(REFUSED),
    };
    // DER leaves the default out; some write it all the same.
    let trailer_is_one = parameters.trailer.is_none_or(|trailer| trailer.value() == [1]);
    if mask.oid == MGF_1
        && Digest::from_identifier(&mask_hash)? == hash
        && salt == hash.length()
        && trailer_is_one
    {
        Ok(hash)
    } else {
        Err(REFUSED)
    }
}

/// Verifies a signature value over `message`.
///
/// `digest` is the digest that the structure around names (a SignerInfo does, a certificate does not); it
/// must agree with the signature algorithm.
pub(crate) fn verify(
    key: &SubjectPublicKeyInfoOwned,
    algorithm: &AlgorithmIdentifierOwned,
    digest: Option<Digest>,
    message: &[u8],
    value: &[u8],
) -> Result<(), SignatureError> {
    use Digest::{Sha256, Sha384, Sha512};
    let named = |named: Digest| match digest {
        Some(around) if around != named => Err(SignatureError::Algorithm("two digests")),
        _ => Ok(named),
    };
    let pkcs1 = |digest| -> &'static dyn signature::VerificationAlgorithm {
        match digest {
            Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        }
    };
    let parameters = algorithm.parameters.as_ref();
    let key_is = |oid| {
        if key.algorithm.oid == oid { Ok(()) } else { Err(SignatureError::Algorithm("key of another kind")) }
    };
    let verification: &dyn signature::VerificationAlgorithm = match algorithm.oid {
        RSA_ENCRYPTION => {
            key_is(RSA_ENCRYPTION)?;
            absent_or_null(parameters)?;
            pkcs1(digest.ok_or(SignatureError::Algorithm("no digest"))?)
        }
        oid @ (SHA_256_WITH_RSA | SHA_384_WITH_RSA | SHA_512_WITH_RSA) => {
            key_is(RSA_ENCRYPTION)?;
            absent_or_null(parameters)?;
            pkcs1(named(match oid {
                SHA_256_WITH_RSA => Sha256,
                SHA_384_WITH_RSA => Sha384,
                _ => Sha512,
            })?)
        }
        RSASSA_PSS => {
            key_is(RSA_ENCRYPTION)?;
            match named(pss_digest(parameters)?)? {
                Sha256 => &signature::RSA_PSS_2048_8192_SHA256,
                Sha384 => &signature::RSA_PSS_2048_8192_SHA384,
                Sha512 => &signature::RSA_PSS_2048_8192_SHA512,
            }
        }
        oid @ (ECDSA_WITH_SHA_256 | ECDSA_WITH_SHA_384 | ECDSA_WITH_SHA_512) => {
            if parameters.is_some() {
                return Err(SignatureError::Algorithm("parameters"));
            }
            let digest = named(match oid {
                ECDSA_WITH_SHA_256 => Sha256,
                ECDSA_WITH_SHA_384 => Sha384,
                _ => Sha512,
            })?;
            match (curve(key)?, digest) {
                (P_256, Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
                (P_256, Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
                (P_256, Sha512) => &signature::ECDSA_P256_SHA512_ASN1,
                (P_384, Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
                (P_384, Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
                (P_384, Sha512) => &signature::ECDSA_P384_SHA512_ASN1,
                _ => return Err(SignatureError::Algorithm("curve")),
            }
        }
        _ => return Err(SignatureError::Algorithm("signature")),
    };
    let key = key.subject_public_key.as_bytes().ok_or(SignatureError::Algorithm("public key"))?;
    signature::UnparsedPublicKey::new(verification, key)
        .verify(message, value)
        .map_err(|_| SignatureError::Value)
}

/// The named curve of an EC key.
pub(crate) fn curve(key: &SubjectPublicKeyInfoOwned) -> Result<ObjectIdentifier, SignatureError> {
    if key.algorithm.oid != EC_PUBLIC_KEY {
        return Err(SignatureError::Algorithm("key of another kind"));
    }
    key.algorithm
        .parameters
        .as_ref()
        .and_then(|curve| curve.decode_as().ok())
        .ok_or(SignatureError::Algorithm("curve"))
}

/// Bits of an RSA modulus.
pub(crate) fn rsa_bits(key: &SubjectPublicKeyInfoOwned) -> Result<usize, SignatureError> {
    /// RSAPublicKey (RFC 8017, A.1.1).
    #[derive(Sequence)]
    struct RsaPublicKey<'a> {
        modulus: UintRef<'a>,
        exponent: UintRef<'a>,
    }
    const REFUSED: SignatureError = SignatureError::Algorithm("public key");
    let bytes = key.subject_public_key.as_bytes().ok_or(REFUSED)?;
    let key = RsaPublicKey::from_der(bytes).map_err(|_| REFUSED)?;
    let modulus = key.modulus.as_bytes();
    let first = modulus.first().ok_or(REFUSED)?;
    if key.exponent.as_bytes().is_empty() {
        return Err(REFUSED);
    }
    Ok(modulus.len().saturating_mul(8).saturating_sub(first.leading_zeros() as usize))
}
