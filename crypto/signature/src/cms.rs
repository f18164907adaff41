//! CMS SignedData (RFC 5652): written for a seal, read and checked for seals and timestamps.
//!
//! One signer, always with signed attributes. What is written is DER. Reading goes through [`Message`]: it
//! holds the structure and not the encoding, so that a reader of BER can stand beside [`Message::from_der`]
//! and share every check. Signed attributes are encoded anew in DER before they are verified, which is what
//! RFC 5652, 5.4 asks for whatever the encoding on the wire.
//!
//! Must never take a signer's certificate on trust: [`Message::check`] says who signed, the caller compares
//! with what it trusts.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use cms::cert::{CertificateChoices, IssuerAndSerialNumber};
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{
    CertificateSet, EncapsulatedContentInfo, SignedAttributes, SignedData, SignerIdentifier, SignerInfo,
    SignerInfos,
};
use der::asn1::{ObjectIdentifier, OctetString, SetOfVec};
use der::{Any, Decode, Encode, Sequence};
use spki::AlgorithmIdentifierOwned;
use x509_cert::attr::Attribute;
use x509_cert::ext::pkix::SubjectKeyIdentifier;

use crate::algorithm::{self, Digest, SHA_256};
use crate::certificate::Certificate;
use crate::error::SignatureError;
use crate::seal::SealKey;

/// Octets of one CMS message.
pub(crate) const CMS_MAX: usize = 1 << 20;
/// Certificates in one message.
const CERTIFICATES_MAX: usize = 64;

pub(crate) const ID_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const ID_SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SIGNING_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.12");
const SIGNATURE_TIME_STAMP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.14");
const SIGNING_CERTIFICATE_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");

/// ESSCertIDv2 (RFC 5035, 4).
#[derive(Sequence)]
struct EssCertIdV2 {
    /// SHA-256 when absent.
    #[asn1(optional = "true")]
    hash_algorithm: Option<AlgorithmIdentifierOwned>,
    cert_hash: OctetString,
    #[asn1(optional = "true")]
    issuer_serial: Option<Any>,
}

/// SigningCertificateV2 (RFC 5035, 3).
#[derive(Sequence)]
struct SigningCertificateV2 {
    certs: Vec<EssCertIdV2>,
    #[asn1(optional = "true")]
    policies: Option<Any>,
}

/// ESSCertID (RFC 2634, 5.4.1): by SHA-1.
#[derive(Sequence)]
struct EssCertId {
    cert_hash: OctetString,
    #[asn1(optional = "true")]
    issuer_serial: Option<Any>,
}

/// SigningCertificate (RFC 2634, 5.4).
#[derive(Sequence)]
struct SigningCertificate {
    certs: Vec<EssCertId>,
    #[asn1(optional = "true")]
    policies: Option<Any>,
}

fn cannot_encode(_: der::Error) -> SignatureError {
    SignatureError::Library("encoding DER")
}

fn attribute(oid: ObjectIdentifier, value: Any) -> Result<Attribute, SignatureError> {
    Ok(Attribute { oid, values: SetOfVec::try_from(vec![value]).map_err(cannot_encode)? })
}

/// Content type, message digest and signing-certificate-v2. No signing-time: PAdES puts the claimed time
/// into /M (EN 319 142-1, 5.3 and 6.3).
fn signed_attributes(
    certificate: &Certificate,
    content_digest: &[u8],
) -> Result<SignedAttributes, SignatureError> {
    let any = |value: Result<Any, der::Error>| value.map_err(cannot_encode);
    let digest = OctetString::new(content_digest).map_err(cannot_encode)?;
    let signing_certificate = SigningCertificateV2 {
        certs: vec![EssCertIdV2 {
            hash_algorithm: None,
            cert_hash: OctetString::new(&certificate.sha256()[..]).map_err(cannot_encode)?,
            issuer_serial: None,
        }],
        policies: None,
    };
    SetOfVec::try_from(vec![
        attribute(CONTENT_TYPE, any(Any::encode_from(&ID_DATA))?)?,
        attribute(MESSAGE_DIGEST, any(Any::encode_from(&digest))?)?,
        attribute(SIGNING_CERTIFICATE_V2, any(Any::encode_from(&signing_certificate))?)?,
    ])
    .map_err(cannot_encode)
}

/// What a message signs.
#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    /// Detached: pieces that follow one another.
    Detached(&'a [&'a [u8]]),
    /// Inside the message, of this type.
    Inside(ObjectIdentifier),
}

/// Which attribute must bind the signer's certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
    /// signing-certificate-v2 alone, as PAdES asks.
    V2,
    /// signing-certificate (by SHA-1) will do, as RFC 3161 has it: the hash only tells certificates apart.
    AnyVersion,
}

/// What a check found. The signer is known, not yet trusted.
pub(crate) struct Checked {
    pub(crate) signer: Certificate,
    /// The content, when it was inside.
    pub(crate) content: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    /// The signature timestamp in DER, when there is one.
    pub(crate) timestamp: Option<Vec<u8>>,
}

/// A SignedData with one signer.
#[derive(Clone)]
pub(crate) struct Message {
    signed: SignedData,
}

impl Message {
    /// Signs detached content by its digest (made with [`SealKey::digest`]).
    pub(crate) fn sign(seal: &SealKey, content_digest: &[u8]) -> Result<Self, SignatureError> {
        let signer = seal.certificate();
        let attributes = signed_attributes(signer, content_digest)?;
        let signature = seal.sign(&attributes.to_der().map_err(cannot_encode)?)?;
        let tbs = signer.read().tbs_certificate();
        let info = SignerInfo {
            version: CmsVersion::V1,
            sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
                issuer: tbs.issuer().clone(),
                serial_number: tbs.serial_number().clone(),
            }),
            digest_alg: seal.digest().identifier(),
            signed_attrs: Some(attributes),
            signature_algorithm: seal.algorithm(),
            signature: OctetString::new(signature).map_err(cannot_encode)?,
            unsigned_attrs: None,
        };
        let chain = seal.chain().iter().map(|one| CertificateChoices::Certificate(one.read().clone()));
        let signed = SignedData {
            version: CmsVersion::V1,
            digest_algorithms: SetOfVec::try_from(vec![seal.digest().identifier()]).map_err(cannot_encode)?,
            encap_content_info: EncapsulatedContentInfo { econtent_type: ID_DATA, econtent: None },
            certificates: Some(CertificateSet::try_from(chain.collect::<Vec<_>>()).map_err(cannot_encode)?),
            crls: None,
            signer_infos: SignerInfos::try_from(vec![info]).map_err(cannot_encode)?,
        };
        Ok(Self { signed })
    }

    /// Reads a ContentInfo that holds SignedData, in DER, with nothing after it.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, SignatureError> {
        if der.len() > CMS_MAX {
            return Err(SignatureError::Limit("CMS message"));
        }
        let info = ContentInfo::from_der(der).map_err(|_| SignatureError::Cms("not a ContentInfo in DER"))?;
        if info.content_type != ID_SIGNED_DATA {
            return Err(SignatureError::Cms("not SignedData"));
        }
        let signed: SignedData =
            info.content.decode_as().map_err(|_| SignatureError::Cms("SignedData that cannot be read"))?;
        let message = Self { signed };
        if message.to_der()? != der {
            return Err(SignatureError::Cms("not in DER"));
        }
        Ok(message)
    }

    pub(crate) fn to_der(&self) -> Result<Vec<u8>, SignatureError> {
        let content = Any::encode_from(&self.signed).map_err(cannot_encode)?;
        ContentInfo { content_type: ID_SIGNED_DATA, content }.to_der().map_err(cannot_encode)
    }

    fn signer_info(&self) -> Result<&SignerInfo, SignatureError> {
        match self.signed.signer_infos.0.as_slice() {
            [info] => Ok(info),
            _ => Err(SignatureError::Cms("not exactly one signer")),
        }
    }

    /// The octets of the signature value: what a signature timestamp is asked for.
    pub(crate) fn signature(&self) -> Result<&[u8], SignatureError> {
        Ok(self.signer_info()?.signature.as_bytes())
    }

    /// Puts a signature timestamp (a ContentInfo in DER) among the unsigned attributes, in place of any.
    pub(crate) fn set_timestamp(&mut self, token: &[u8]) -> Result<(), SignatureError> {
        let token = Any::from_der(token).map_err(|_| SignatureError::Cms("timestamp that cannot be read"))?;
        let mut info = self.signer_info()?.clone();
        let attributes = vec![attribute(SIGNATURE_TIME_STAMP, token)?];
        info.unsigned_attrs = Some(SetOfVec::try_from(attributes).map_err(cannot_encode)?);
        self.signed.signer_infos = SignerInfos::try_from(vec![info]).map_err(cannot_encode)?;
        Ok(())
    }

    fn certificates(&self) -> impl Iterator<Item = &x509_cert::Certificate> {
        self.signed.certificates.iter().flat_map(|set| set.0.iter()).filter_map(|choice| match choice {
            CertificateChoices::Certificate(certificate) => Some(certificate),
            CertificateChoices::Other(_) => None,
        })
    }

    /// The certificate that the SignerInfo names.
    fn signer(&self, sid: &SignerIdentifier) -> Result<Certificate, SignatureError> {
        if self.certificates().count() > CERTIFICATES_MAX {
            return Err(SignatureError::Limit("certificates in a CMS message"));
        }
        let named = |certificate: &&x509_cert::Certificate| {
            let tbs = certificate.tbs_certificate();
            match sid {
                SignerIdentifier::IssuerAndSerialNumber(id) => {
                    *tbs.issuer() == id.issuer && *tbs.serial_number() == id.serial_number
                }
                SignerIdentifier::SubjectKeyIdentifier(id) => {
                    matches!(tbs.get_extension::<SubjectKeyIdentifier>(), Ok(Some((_, found))) if found == *id)
                }
            }
        };
        let found =
            self.certificates().find(named).ok_or(SignatureError::Cms("without the signer's certificate"))?;
        Certificate::from_read(found)
    }

    /// Checks everything but trust: one signer, its certificate at hand and bound by a signed attribute,
    /// content type and message digest, the signature value.
    pub(crate) fn check(&self, content: Content<'_>, binding: Binding) -> Result<Checked, SignatureError> {
        let info = self.signer_info()?;
        let digest = Digest::from_identifier(&info.digest_alg)?;
        let inside = &self.signed.encap_content_info;
        let (pieces, content_type, content) = match content {
            Content::Detached(pieces) => {
                if inside.econtent.is_some() {
                    return Err(SignatureError::Cms("content inside a detached signature"));
                }
                (digest.of(pieces), ID_DATA, Vec::new())
            }
            Content::Inside(content_type) => {
                let octets: OctetString = inside
                    .econtent
                    .as_ref()
                    .and_then(|any| any.decode_as().ok())
                    .ok_or(SignatureError::Cms("no content inside"))?;
                let octets = octets.as_bytes().to_vec();
                (digest.of(&[&octets]), content_type, octets)
            }
        };
        if inside.econtent_type != content_type {
            return Err(SignatureError::Cms("content of another type"));
        }

        let attributes = info.signed_attrs.as_ref().ok_or(SignatureError::Cms("no signed attributes"))?;
        if single::<ObjectIdentifier>(attributes, CONTENT_TYPE)? != Some(content_type) {
            return Err(SignatureError::Cms("content-type attribute"));
        }
        let claimed = single::<OctetString>(attributes, MESSAGE_DIGEST)?
            .ok_or(SignatureError::Cms("no message-digest attribute"))?;
        if claimed.as_bytes() != pieces {
            return Err(SignatureError::Digest);
        }

        let signer = self.signer(&info.sid)?;
        bound(attributes, &signer, binding)?;
        if !signer.may_sign()? {
            return Err(SignatureError::Certificate("its key usage does not allow signatures"));
        }
        let message = attributes.to_der().map_err(cannot_encode)?;
        let signature = info.signature.as_bytes();
        algorithm::verify(signer.key(), &info.signature_algorithm, Some(digest), &message, signature)?;

        let timestamp = match &info.unsigned_attrs {
            None => None,
            Some(attributes) => single::<Any>(attributes, SIGNATURE_TIME_STAMP)?
                .map(|token| token.to_der().map_err(cannot_encode))
                .transpose()?,
        };
        Ok(Checked { signer, content, signature: signature.to_vec(), timestamp })
    }

    /// Refuses what a seal of ours never holds: other versions, digests, revocation data, unsigned
    /// attributes, or certificates that do not belong to the signer's chain.
    pub(crate) fn check_own_form(&self, signer: &Certificate) -> Result<(), SignatureError> {
        let info = self.signer_info()?;
        let unsigned = info.unsigned_attrs.iter().flat_map(|set| set.iter());
        if self.signed.version != CmsVersion::V1
            || info.version != CmsVersion::V1
            || self.signed.digest_algorithms.as_slice() != [info.digest_alg.clone()]
            || self.signed.crls.is_some()
            || unsigned.clone().count() > 1
            || unsigned.clone().any(|attribute| attribute.oid != SIGNATURE_TIME_STAMP)
        {
            return Err(SignatureError::Cms("not in the form of a seal"));
        }
        // Each certificate beside the signer's issued one of the others; a root also vouches for itself.
        let all: Vec<Certificate> =
            self.certificates().map(Certificate::from_read).collect::<Result<_, _>>()?;
        let choices = self.signed.certificates.as_ref().map_or(0, |set| set.0.len());
        let needed = |one: &Certificate| {
            let tbs = one.read().tbs_certificate();
            let sound = tbs.issuer() != tbs.subject() || one.is_issued_by(one);
            one == signer || sound && all.iter().any(|other| other != one && other.is_issued_by(one))
        };
        if all.len() == choices && all.iter().all(needed) {
            Ok(())
        } else {
            Err(SignatureError::Cms("certificates that do not belong to the signer's chain"))
        }
    }
}

/// The one value of an attribute that may stand once at most.
fn single<'a, T>(
    attributes: &'a SetOfVec<Attribute>,
    oid: ObjectIdentifier,
) -> Result<Option<T>, SignatureError>
where
    T: der::Choice<'a> + der::DecodeValue<'a, Error = der::Error>,
{
    let mut found = attributes.iter().filter(|attribute| attribute.oid == oid);
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some(attribute), None) => match attribute.values.as_slice() {
            [value] => value.decode_as().map(Some).map_err(|_| SignatureError::Cms("attribute")),
            _ => Err(SignatureError::Cms("attribute without exactly one value")),
        },
        (Some(_), Some(_)) => Err(SignatureError::Cms("attribute that stands twice")),
    }
}

/// Whether the first certificate that the signed attribute names is the signer's (RFC 5035, 5.4).
fn bound(
    attributes: &SignedAttributes,
    signer: &Certificate,
    binding: Binding,
) -> Result<(), SignatureError> {
    const OTHER: SignatureError = SignatureError::Cms("signing-certificate names another certificate");
    if let Some(v2) = single::<SigningCertificateV2>(attributes, SIGNING_CERTIFICATE_V2)? {
        let first = v2.certs.first().ok_or(OTHER)?;
        let digest = match &first.hash_algorithm {
            None => Digest::from_oid(SHA_256)?,
            Some(identifier) => Digest::from_identifier(identifier)?,
        };
        return if first.cert_hash.as_bytes() == digest.of(&[signer.der()]) { Ok(()) } else { Err(OTHER) };
    }
    if binding == Binding::AnyVersion
        && let Some(v1) = single::<SigningCertificate>(attributes, SIGNING_CERTIFICATE)?
    {
        let first = v1.certs.first().ok_or(OTHER)?;
        let hash = algorithm::sha1(signer.der());
        return if first.cert_hash.as_bytes() == hash { Ok(()) } else { Err(OTHER) };
    }
    Err(SignatureError::Cms("no signing-certificate attribute"))
}
