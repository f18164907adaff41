//! What can fail, in terms a caller can act on. The texts quote nothing from the input: they go to logs.

/// Why sealing or verifying failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// A private key is refused.
    #[error("private key refused: {0}")]
    Key(&'static str),
    /// A certificate is refused: not readable, or not for this use.
    #[error("certificate refused: {0}")]
    Certificate(&'static str),
    /// The private key and the certificate do not belong together.
    #[error("the private key is not the certificate's")]
    KeyMismatch,
    /// The certificate was not valid at the time that counts.
    #[error("the certificate is not valid at this time")]
    NotValidThen,
    /// The PDF cannot be read by the minimal reader.
    #[error("PDF refused: {0}")]
    Pdf(&'static str),
    /// More than this crate handles.
    #[error("limit exceeded: {0}")]
    Limit(&'static str),
    /// There is no seal in the file.
    #[error("the file holds no seal")]
    NoSeal,
    /// The seal does not cover the whole file, or the file's form around it is not exact.
    #[error("the seal does not cover the file: {0}")]
    Coverage(&'static str),
    /// The CMS structure is not what a seal holds.
    #[error("CMS refused: {0}")]
    Cms(&'static str),
    /// The content is not what was signed.
    #[error("the content is not what was signed")]
    Digest,
    /// The signature value does not verify with the signer's key.
    #[error("the signature value is false")]
    Value,
    /// An algorithm that is not accepted.
    #[error("algorithm refused: {0}")]
    Algorithm(&'static str),
    /// The signer's certificate is not a trusted one, nor issued by a trusted one.
    #[error("the signer's certificate is not trusted")]
    Untrusted,
    /// The CMS does not fit in the room that was reserved for it.
    #[error("the signature needs {needed} octets and {reserved} are reserved")]
    Room {
        /// Octets of the CMS.
        needed: usize,
        /// Octets reserved.
        reserved: usize,
    },
    /// The file has no such attachment, or more than one.
    #[error("attachment refused: {0}")]
    Attachment(&'static str),
    /// The timestamp is refused.
    #[error("timestamp refused")]
    Timestamp(#[source] TimestampError),
    /// A time outside what certificates and PDF dates can say (years 1970 to 9999).
    #[error("the time cannot be written")]
    Time,
    /// The cryptographic library failed: not a verdict on any input.
    #[error("the cryptographic library failed: {0}")]
    Library(&'static str),
}

/// Why a timestamp is refused (RFC 3161).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimestampError {
    /// The answer or the token is not readable.
    #[error("not a timestamp: {0}")]
    Form(&'static str),
    /// The authority refused: PKIStatus, and the bits of PKIFailureInfo when it gave them.
    #[error("the authority answered with status {status}")]
    Refused {
        /// PKIStatus (RFC 3161, 2.4.2).
        status: u32,
        /// PKIFailureInfo: the numbers of the bits that are set.
        failure: Vec<u8>,
    },
    /// The token is for other data.
    #[error("the token is for other data")]
    Imprint,
    /// The token does not answer this request.
    #[error("the nonce is not that of the request")]
    Nonce,
    /// The signer may not sign timestamps: extended key usage must be critical and nothing but
    /// timeStamping (RFC 3161, 2.3).
    #[error("the certificate is not that of a timestamp authority")]
    Purpose,
    /// The signature of the token is refused.
    #[error("the token's signature is refused")]
    Signature(#[source] Box<SignatureError>),
}

impl From<TimestampError> for SignatureError {
    fn from(error: TimestampError) -> Self {
        SignatureError::Timestamp(error)
    }
}
