//! Messages for people to open with their own software: OpenPGP as mail carries it.
//!
//! Unlike what is kept in the store, such a message takes the form that the certificate says its holder reads:
//! version 2 of encrypted data (RFC 9580) where it says so, version 1 with its integrity check otherwise.

use std::io::Write;
use std::time::SystemTime;

use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::stream::{Armorer, Encryptor, LiteralWriter, Message};

use crate::error::SealError;
use crate::key::library;
use crate::ring::{Recipient, parse};

/// Encrypts a small content to a certificate, armored, for mail (RFC 3156). Not signed: the hub's key vouches for
/// manifests only.
///
/// # Errors
/// [`SealError::Certificate`] when the certificate cannot be encrypted to at the time `at`.
pub fn encrypt_to(certificate: &[u8], at: SystemTime, content: &[u8]) -> Result<String, SealError> {
    Recipient::parse(certificate, at)?;
    let cert = parse(certificate)?;
    let policy = StandardPolicy::new();
    let keys = cert
        .keys()
        .subkeys()
        .with_policy(&policy, at)
        .supported()
        .alive()
        .revoked(false)
        .for_transport_encryption()
        .for_storage_encryption();
    let mut out = Vec::new();
    let message = Armorer::new(Message::new(&mut out)).build().map_err(library)?;
    let message = Encryptor::for_recipients(message, keys).build().map_err(library)?;
    let mut message = LiteralWriter::new(message).build().map_err(library)?;
    message.write_all(content).map_err(library)?;
    message.finalize().map_err(library)?;
    String::from_utf8(out).map_err(library)
}
