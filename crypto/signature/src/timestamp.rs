//! Timestamps (RFC 3161, RFC 5816): the request, the answer, the token.
//!
//! Bytes only: asking the authority over HTTP is the caller's. A token must never be believed before its
//! imprint, its signature, the authority's purpose and certificate were checked.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use der::asn1::{BitString, Int, ObjectIdentifier, OctetString};
use der::{Any, Decode, Encode, Sequence, Tag, Tagged};
use pli_api::Time;
use spki::AlgorithmIdentifierOwned;
use time::{Date, Month, PrimitiveDateTime};

use crate::algorithm::Digest;
use crate::certificate::{Certificate, anchored};
use crate::cms::{Binding, CMS_MAX, Content, Message};
use crate::error::{SignatureError, TimestampError};

const ID_CT_TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");

/// MessageImprint (RFC 3161, 2.4.1).
#[derive(Sequence)]
struct MessageImprint {
    hash_algorithm: AlgorithmIdentifierOwned,
    hashed_message: OctetString,
}

/// TimeStampReq (RFC 3161, 2.4.1).
#[derive(Sequence)]
struct TimeStampReq {
    version: u8,
    message_imprint: MessageImprint,
    #[asn1(optional = "true")]
    req_policy: Option<ObjectIdentifier>,
    #[asn1(optional = "true")]
    nonce: Option<Int>,
    #[asn1(default = "no")]
    cert_req: bool,
}

/// PKIStatusInfo (RFC 3161, 2.4.2).
#[derive(Sequence)]
struct PkiStatusInfo {
    status: u32,
    #[asn1(optional = "true")]
    status_string: Option<Vec<String>>,
    #[asn1(optional = "true")]
    fail_info: Option<BitString>,
}

/// TimeStampResp (RFC 3161, 2.4.2).
#[derive(Sequence)]
struct TimeStampResp {
    status: PkiStatusInfo,
    #[asn1(optional = "true")]
    time_stamp_token: Option<Any>,
}

/// Accuracy (RFC 3161, 2.4.2).
#[derive(Sequence)]
struct Accuracy {
    #[asn1(optional = "true")]
    seconds: Option<u32>,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    millis: Option<u16>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    micros: Option<u16>,
}

/// TSTInfo (RFC 3161, 2.4.2). The time is kept as it stands, because it may have a fraction of a second,
/// which the type of the ASN.1 crate refuses.
#[derive(Sequence)]
struct TstInfo {
    version: u8,
    policy: ObjectIdentifier,
    message_imprint: MessageImprint,
    serial_number: Int,
    gen_time: Any,
    #[asn1(optional = "true")]
    accuracy: Option<Accuracy>,
    #[asn1(default = "no")]
    ordering: bool,
    #[asn1(optional = "true")]
    nonce: Option<Int>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    tsa: Option<Any>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", constructed = "true", optional = "true")]
    extensions: Option<x509_cert::ext::Extensions>,
}

fn no() -> bool {
    false
}

/// A request for a timestamp over some bytes: SHA-256, with a nonce, asking for the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimestampRequest {
    imprint: Vec<u8>,
    nonce: Int,
    der: Vec<u8>,
}

impl TimestampRequest {
    /// A request over the SHA-256 of `data`. `nonce` must be fresh and random.
    ///
    /// # Errors
    /// [`SignatureError::Library`].
    pub fn new(data: &[u8], nonce: [u8; 16]) -> Result<Self, SignatureError> {
        let failed = |_| SignatureError::Library("encoding a timestamp request");
        // A positive INTEGER in its shortest form, as DER wants it.
        let mut integer = nonce.to_vec();
        if let Some(first) = integer.first_mut() {
            *first = (*first & 0x7F) | 0x40;
        }
        let nonce = Int::new(&integer).map_err(failed)?;
        let imprint = Digest::Sha256.of(&[data]);
        let request = TimeStampReq {
            version: 1,
            message_imprint: MessageImprint {
                hash_algorithm: Digest::Sha256.identifier(),
                hashed_message: OctetString::new(&imprint[..]).map_err(failed)?,
            },
            req_policy: None,
            nonce: Some(nonce.clone()),
            cert_req: true,
        };
        let der = request.to_der().map_err(failed)?;
        Ok(Self { imprint, nonce, der })
    }

    /// The body of the HTTP request, of type `application/timestamp-query`.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Reads the body of the answer (`application/timestamp-reply`) and checks it in full: status, imprint,
    /// nonce, the token's signature, the authority's purpose, and its certificate against `anchors` at the
    /// time of the token.
    ///
    /// # Errors
    /// [`SignatureError::Timestamp`]; [`SignatureError::Untrusted`] and [`SignatureError::NotValidThen`]
    /// are its source when the authority is not among, or under, the anchors.
    pub fn read(&self, answer: &[u8], anchors: &[Certificate]) -> Result<TimestampToken, SignatureError> {
        let form = |what| SignatureError::Timestamp(TimestampError::Form(what));
        if answer.len() > CMS_MAX {
            return Err(SignatureError::Limit("timestamp"));
        }
        let answer = TimeStampResp::from_der(answer).map_err(|_| form("not an answer in DER"))?;
        // 0 granted, 1 granted with modifications (RFC 3161, 2.4.2).
        if answer.status.status > 1 {
            return Err(TimestampError::Refused {
                status: answer.status.status,
                failure: failure_bits(answer.status.fail_info.as_ref()),
            }
            .into());
        }
        let token = answer.time_stamp_token.ok_or_else(|| form("no token"))?;
        let token = token.to_der().map_err(|_| form("token"))?;
        let token = TimestampToken::read(&token, &self.imprint, anchors)?;
        if token.nonce.as_ref() != Some(&self.nonce) {
            return Err(TimestampError::Nonce.into());
        }
        Ok(token)
    }
}

fn failure_bits(bits: Option<&BitString>) -> Vec<u8> {
    let set = bits.into_iter().flat_map(|bits| bits.bits().enumerate());
    // PKIFailureInfo ends at bit 25.
    set.take(26).filter(|(_, set)| *set).filter_map(|(bit, _)| u8::try_from(bit).ok()).collect()
}

/// A checked timestamp token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimestampToken {
    der: Vec<u8>,
    time: Time,
    authority: Certificate,
    nonce: Option<Int>,
    imprint: Vec<u8>,
}

impl TimestampToken {
    /// Whether it is a token over `data`.
    pub(crate) fn is_over(&self, data: &[u8]) -> bool {
        self.imprint == Digest::Sha256.of(&[data])
    }

    /// The time of the token, cut to the microsecond.
    #[must_use]
    pub fn time(&self) -> Time {
        self.time
    }

    /// The certificate that signed it.
    #[must_use]
    pub fn authority(&self) -> &Certificate {
        &self.authority
    }

    /// The token in DER: a CMS ContentInfo.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Checks a token over `data`, without a request at hand: all but the nonce.
    ///
    /// # Errors
    /// As [`TimestampRequest::read`].
    pub fn verify(token: &[u8], data: &[u8], anchors: &[Certificate]) -> Result<Self, SignatureError> {
        Self::read(token, &Digest::Sha256.of(&[data]), anchors)
    }

    fn read(der: &[u8], imprint: &[u8], anchors: &[Certificate]) -> Result<Self, SignatureError> {
        let form = |what| SignatureError::Timestamp(TimestampError::Form(what));
        let refused = |error| SignatureError::Timestamp(TimestampError::Signature(Box::new(error)));
        let checked = Message::from_der(der)
            .and_then(|message| message.check(Content::Inside(ID_CT_TST_INFO), Binding::AnyVersion))
            .map_err(refused)?;
        let info = TstInfo::from_der(&checked.content).map_err(|_| form("TSTInfo"))?;
        if info.version != 1 {
            return Err(form("version"));
        }
        if info.extensions.iter().flatten().any(|extension| extension.critical) {
            return Err(form("critical extension"));
        }
        let time = generalized_time(&info.gen_time).ok_or_else(|| form("time"))?;
        let named = &info.message_imprint;
        // The only algorithm that is asked for.
        if Digest::from_identifier(&named.hash_algorithm) != Ok(Digest::Sha256)
            || named.hashed_message.as_bytes() != imprint
        {
            return Err(TimestampError::Imprint.into());
        }
        if !checked.signer.is_timestamp_authority() {
            return Err(TimestampError::Purpose.into());
        }
        anchored(&checked.signer, anchors, time).map_err(refused)?;
        Ok(Self {
            der: der.to_vec(),
            time,
            authority: checked.signer,
            nonce: info.nonce,
            imprint: imprint.to_vec(),
        })
    }
}

/// A GeneralizedTime in UTC, with or without a fraction (`20261127225933.25Z`), cut to the microsecond.
fn generalized_time(any: &Any) -> Option<Time> {
    if any.tag() != Tag::GeneralizedTime {
        return None;
    }
    let text = std::str::from_utf8(any.value()).ok()?.strip_suffix('Z')?;
    let (whole, fraction) = match text.split_once('.') {
        // RFC 3161, 2.4.2: no empty fraction and no zeros at its end.
        Some((_, fraction)) if fraction.is_empty() || fraction.len() > 32 || fraction.ends_with('0') => {
            return None;
        }
        Some((whole, fraction)) => (whole, fraction),
        None => (text, ""),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() != 14 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let number = |range| whole.get(range).and_then(|digits: &str| digits.parse::<u8>().ok());
    let year = whole.get(..4)?.parse::<i32>().ok()?;
    let date = Date::from_calendar_date(year, Month::try_from(number(4..6)?).ok()?, number(6..8)?).ok()?;
    let time = time::Time::from_hms(number(8..10)?, number(10..12)?, number(12..14)?).ok()?;
    let seconds = PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp();
    let micros = format!("{fraction:0<6}").get(..6)?.parse::<i64>().ok()?;
    Some(Time::from_micros(seconds.checked_mul(1_000_000)?.checked_add(micros)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<i64> {
        generalized_time(&Any::new(Tag::GeneralizedTime, text.as_bytes()).unwrap()).map(Time::micros)
    }

    #[test]
    fn times_may_have_a_fraction_of_a_second() {
        assert_eq!(read("20261127225933Z"), Some(1_795_820_373_000_000));
        assert_eq!(read("20261127225933.25Z"), Some(1_795_820_373_250_000));
        assert_eq!(read("20261127225933.123456789Z"), Some(1_795_820_373_123_456));
    }

    #[test]
    fn other_forms_of_time_are_refused() {
        for text in [
            "20261127225933",
            "20261127225933+0100",
            "20261127225933.Z",
            "20261127225933.10Z",
            "20261327225933Z",
            "20261127225960Z",
            "2026112722593Z",
            "20261127225933.1-Z",
            "２0261127225933Z",
            "",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
