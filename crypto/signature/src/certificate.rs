//! X.509 certificates (RFC 5280): what is read from them, who issued them, which are trusted.
//!
//! Trust here is of one step: a signer is trusted when its certificate is a trusted one, or was issued
//! directly by a trusted one. Paths of any length, policies, name constraints and revocation belong to
//! the judging of reports, which is to come; nothing here may pretend to do them.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;
use std::sync::Arc;

use der::asn1::ObjectIdentifier;
use der::{Decode, Encode};
use pli_api::Time;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};

use crate::algorithm::{self, Digest};
use crate::error::SignatureError;

/// Octets of one certificate.
const CERTIFICATE_MAX: usize = 64 << 10;
/// Certificates in one PEM text.
const PEM_CERTIFICATES_MAX: usize = 32;

/// id-kp-timeStamping.
const TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
/// Extensions that a path of one step can judge: key usage, extended key usage, basic constraints,
/// subject alternative name (names nobody here), certificate policies (every policy is accepted).
const KNOWN_CRITICAL: [ObjectIdentifier; 5] = [
    ObjectIdentifier::new_unwrap("2.5.29.15"),
    ObjectIdentifier::new_unwrap("2.5.29.37"),
    ObjectIdentifier::new_unwrap("2.5.29.19"),
    ObjectIdentifier::new_unwrap("2.5.29.17"),
    ObjectIdentifier::new_unwrap("2.5.29.32"),
];

/// A certificate, as it came and as it was read. Cheap to clone.
#[derive(Clone)]
pub struct Certificate(Arc<Read>);

struct Read {
    der: Vec<u8>,
    read: x509_cert::Certificate,
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate").field(&self.subject()).finish()
    }
}

impl Certificate {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// [`SignatureError::Certificate`] when it is not one, or not in DER.
    pub fn from_der(der: &[u8]) -> Result<Self, SignatureError> {
        if der.len() > CERTIFICATE_MAX {
            return Err(SignatureError::Limit("certificate"));
        }
        let read = x509_cert::Certificate::from_der(der)
            .map_err(|_| SignatureError::Certificate("not an X.509 certificate in DER"))?;
        Self::new(read, Some(der))
    }

    /// The signature covers the encoding: what was read must encode to the same bytes.
    fn new(read: x509_cert::Certificate, given: Option<&[u8]>) -> Result<Self, SignatureError> {
        let der = read.to_der().map_err(|_| SignatureError::Certificate("cannot be encoded"))?;
        if given.is_some_and(|given| given != der) {
            return Err(SignatureError::Certificate("not in DER"));
        }
        Ok(Self(Arc::new(Read { der, read })))
    }

    pub(crate) fn from_read(read: &x509_cert::Certificate) -> Result<Self, SignatureError> {
        Self::new(read.clone(), None)
    }

    pub(crate) fn read(&self) -> &x509_cert::Certificate {
        &self.0.read
    }

    /// Reads the certificates of a PEM text (RFC 7468), in their order.
    ///
    /// # Errors
    /// [`SignatureError::Certificate`] when there is none or one cannot be read.
    pub fn from_pem(pem: &str) -> Result<Vec<Self>, SignatureError> {
        const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
        const END: &str = "-----END CERTIFICATE-----";
        let mut certificates = Vec::new();
        let mut rest = pem;
        while let Some((_, begun)) = rest.split_once(BEGIN) {
            let (body, after) =
                begun.split_once(END).ok_or(SignatureError::Certificate("PEM without an end"))?;
            if certificates.len() >= PEM_CERTIFICATES_MAX {
                return Err(SignatureError::Limit("certificates in a PEM text"));
            }
            let block = format!("{BEGIN}{body}{END}\n");
            let (_, der) = der::Document::from_pem(&block)
                .map_err(|_| SignatureError::Certificate("PEM that cannot be read"))?;
            certificates.push(Self::from_der(der.as_bytes())?);
            rest = after;
        }
        if certificates.is_empty() {
            return Err(SignatureError::Certificate("no certificate in the PEM text"));
        }
        Ok(certificates)
    }

    /// The certificate in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The SHA-256 of the DER: the certificate's fingerprint.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        let mut fingerprint = [0; 32];
        let digest = Digest::Sha256.of(&[self.der()]);
        for (to, from) in fingerprint.iter_mut().zip(digest) {
            *to = from;
        }
        fingerprint
    }

    /// The subject, in the form of RFC 4514.
    #[must_use]
    pub fn subject(&self) -> String {
        self.0.read.tbs_certificate().subject().to_string()
    }

    /// The issuer, in the form of RFC 4514.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.0.read.tbs_certificate().issuer().to_string()
    }

    /// The first instant of validity.
    #[must_use]
    pub fn not_before(&self) -> Time {
        to_time(&self.0.read.tbs_certificate().validity().not_before)
    }

    /// The last second of validity.
    #[must_use]
    pub fn not_after(&self) -> Time {
        to_time(&self.0.read.tbs_certificate().validity().not_after)
    }

    /// Whether `time` lies in the period of validity; the last second counts whole (RFC 5280, 4.1.2.5).
    pub(crate) fn valid_at(&self, time: Time) -> bool {
        self.not_before() <= time && time < self.not_after().plus_seconds(1)
    }

    pub(crate) fn key(&self) -> &spki::SubjectPublicKeyInfoOwned {
        self.0.read.tbs_certificate().subject_public_key_info()
    }

    fn key_usage(&self) -> Result<Option<KeyUsage>, SignatureError> {
        let found = self.0.read.tbs_certificate().get_extension::<KeyUsage>();
        Ok(found.map_err(|_| SignatureError::Certificate("key usage"))?.map(|(_, usage)| usage))
    }

    /// Whether the key may sign documents: digitalSignature or nonRepudiation, or no key usage at all.
    pub(crate) fn may_sign(&self) -> Result<bool, SignatureError> {
        Ok(self.key_usage()?.is_none_or(|usage| usage.digital_signature() || usage.non_repudiation()))
    }

    /// Whether the extended key usage is critical and is timeStamping alone (RFC 3161, 2.3).
    pub(crate) fn is_timestamp_authority(&self) -> bool {
        match self.0.read.tbs_certificate().get_extension::<ExtendedKeyUsage>() {
            Ok(Some((critical, usage))) => critical && usage.0.as_slice() == [TIME_STAMPING],
            _ => false,
        }
    }

    fn may_issue(&self) -> Result<bool, SignatureError> {
        let constraints = self.0.read.tbs_certificate().get_extension::<BasicConstraints>();
        let constraints = constraints.map_err(|_| SignatureError::Certificate("basic constraints"))?;
        Ok(constraints.is_some_and(|(_, constraints)| constraints.ca)
            && self.key_usage()?.is_none_or(|usage| usage.key_cert_sign()))
    }

    fn has_unknown_critical_extension(&self) -> bool {
        let extensions = self.0.read.tbs_certificate().extensions();
        extensions
            .into_iter()
            .flatten()
            .any(|extension| extension.critical && !KNOWN_CRITICAL.contains(&extension.extn_id))
    }

    /// Whether `issuer` issued this certificate: names, signature, and the right to issue.
    pub(crate) fn is_issued_by(&self, issuer: &Certificate) -> bool {
        let read = &self.0.read;
        let tbs = read.tbs_certificate();
        if tbs.issuer() != issuer.0.read.tbs_certificate().subject()
            || read.signature_algorithm() != tbs.signature()
            || !issuer.may_issue().unwrap_or(false)
        {
            return false;
        }
        let (Ok(message), Some(value)) = (tbs.to_der(), read.signature().as_bytes()) else {
            return false;
        };
        algorithm::verify(issuer.key(), read.signature_algorithm(), None, &message, value).is_ok()
    }
}

fn to_time(time: &x509_cert::time::Time) -> Time {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    Time::from_micros(seconds.saturating_mul(1_000_000))
}

/// Certificates that are believed, each for its purpose: as signers themselves or as direct issuers.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Of seals.
    pub seals: Vec<Certificate>,
    /// Of timestamp authorities.
    pub timestamps: Vec<Certificate>,
}

/// Whether `signer` is one of `anchors` or directly issued by one of them, valid at `time` in both cases.
pub(crate) fn anchored(
    signer: &Certificate,
    anchors: &[Certificate],
    time: Time,
) -> Result<(), SignatureError> {
    if signer.has_unknown_critical_extension() {
        return Err(SignatureError::Certificate("critical extension"));
    }
    let mut issuers = anchors.iter().filter(|anchor| signer.is_issued_by(anchor)).peekable();
    if anchors.contains(signer) {
        return if signer.valid_at(time) { Ok(()) } else { Err(SignatureError::NotValidThen) };
    }
    if issuers.peek().is_none() {
        return Err(SignatureError::Untrusted);
    }
    if signer.valid_at(time) && issuers.any(|issuer| issuer.valid_at(time)) {
        Ok(())
    } else {
        Err(SignatureError::NotValidThen)
    }
}
