//! Certificates: the hub's own secret ones, and the public ones of recipients.
//!
//! The hub holds one current certificate, to which new document keys are wrapped and with which
//! manifests are signed, and any number of retired ones, which still open what was wrapped to them and
//! still vouch for what they signed. Being in the ring is what makes a hub certificate trusted: whether
//! one has expired is judged at the time of its own last self-signature, so that a clock that is wrong
//! cannot lock the hub out of its documents.
//!
//! A secret key must never be written or printed unprotected, and never leaves the ring.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use sequoia_openpgp::cert::amalgamation::key::PrimaryKey;
use sequoia_openpgp::cert::{CertBuilder, CipherSuite};
use sequoia_openpgp::crypto::{KeyPair, Password, S2K, SessionKey};
use sequoia_openpgp::packet::key::{KeyRole, PublicParts, SecretKeyMaterial, SecretParts, UnspecifiedRole};
use sequoia_openpgp::packet::{Key, pkesk::PKESK6};
use sequoia_openpgp::parse::Parse;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::SerializeInto;
use sequoia_openpgp::types::{AEADAlgorithm, KeyFlags, RevocationStatus, SymmetricAlgorithm};
use sequoia_openpgp::{Cert, Fingerprint, Packet, Profile};
use zeroize::Zeroizing;

use crate::error::SealError;
use crate::key::library;

/// Octets of a certificate, armor included. Certificates with many third-party signatures are larger,
/// and need not come here.
const CERTIFICATE_MAX: usize = 1 << 20;

/// Argon2id as RFC 9106 recommends where memory is constrained: 3 passes, 4 lanes, 2^16 KiB.
const ARGON2_PASSES: u8 = 3;
const ARGON2_LANES: u8 = 4;
const ARGON2_MEMORY: u8 = 16;

/// What protects the hub's secret keys. Kept encrypted in memory, wiped when dropped, never printed.
#[derive(Clone)]
pub struct Passphrase(Password);

impl fmt::Debug for Passphrase {
    // Sequoia's own would print it in a debug build.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

impl Passphrase {
    /// A passphrase as it is.
    ///
    /// # Errors
    /// [`SealError::Passphrase`] when it is empty.
    pub fn new(passphrase: impl Into<Vec<u8>>) -> Result<Self, SealError> {
        let passphrase = Zeroizing::new(passphrase.into());
        if passphrase.is_empty() {
            return Err(SealError::Passphrase);
        }
        Ok(Self(Password::from(&passphrase[..])))
    }

    /// The content of a passphrase file, whose one line may end in a line break.
    ///
    /// # Errors
    /// [`SealError::Passphrase`] when nothing is left.
    pub fn from_file_content(content: impl Into<Vec<u8>>) -> Result<Self, SealError> {
        let content = Zeroizing::new(content.into());
        let line = content.strip_suffix(b"\n").unwrap_or(&content);
        Self::new(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// A public certificate to which document keys may be wrapped.
#[derive(Clone)]
pub struct Recipient {
    fingerprint: Fingerprint,
    keys: Vec<Key<PublicParts, UnspecifiedRole>>,
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.fingerprint)
    }
}

impl Recipient {
    /// Reads a certificate, armored or not, and chooses its encryption keys as they stand at the time
    /// `at`. Sequoia's standard policy decides which signatures and algorithms still count. Whether its
    /// holder's software reads encrypted data packets of version 2 is not judged here: certificates of
    /// version 4 rarely say so.
    ///
    /// # Errors
    /// [`SealError::Certificate`] when this is not one certificate, holds a secret key, or has no
    /// live, unrevoked subkey for transport or storage encryption.
    pub fn parse(certificate: &[u8], at: SystemTime) -> Result<Self, SealError> {
        let cert = parse(certificate)?;
        if cert.is_tsk() {
            return Err(SealError::Certificate("it contains a secret key"));
        }
        Self::choose(&cert, at)
    }

    fn choose(cert: &Cert, at: SystemTime) -> Result<Self, SealError> {
        let policy = StandardPolicy::new();
        let valid = cert
            .with_policy(&policy, at)
            .map_err(|_| SealError::Certificate("no valid self-signature at this time"))?;
        valid.alive().map_err(|_| SealError::Certificate("expired or not yet valid"))?;
        if let RevocationStatus::Revoked(_) = valid.revocation_status() {
            return Err(SealError::Certificate("revoked"));
        }
        let keys: Vec<_> = valid
            .keys()
            .subkeys()
            .supported()
            .alive()
            .revoked(false)
            .for_transport_encryption()
            .for_storage_encryption()
            .map(|key| key.key().clone().role_into_unspecified())
            .collect();
        if keys.is_empty() {
            return Err(SealError::Certificate("no usable encryption key"));
        }
        Ok(Self { fingerprint: cert.fingerprint(), keys })
    }

    /// The certificate's fingerprint, in upper-case hexadecimal.
    pub fn fingerprint(&self) -> String {
        self.fingerprint.to_hex()
    }

    pub(crate) fn encryption_keys(&self) -> &[Key<PublicParts, UnspecifiedRole>] {
        &self.keys
    }
}

/// The hub's secret certificates, opened. Cheap to clone.
#[derive(Clone)]
pub struct KeyRing(Arc<Inner>);

struct Inner {
    signer: KeyPair,
    recipient: Recipient,
    /// Without secrets, the current one first.
    certs: Vec<Cert>,
    openers: Vec<(Fingerprint, KeyPair)>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyRing").field(&self.fingerprints()).finish()
    }
}

impl KeyRing {
    /// Makes a certificate for a hub: version 6 (RFC 9580), a primary key that only certifies, an
    /// Ed25519 subkey that signs, an X25519 subkey for encryption, no expiry. Returns the secret key,
    /// armored, each secret part protected by the passphrase with Argon2id and AES-256-OCB.
    ///
    /// # Errors
    /// [`SealError::Library`] only.
    pub fn generate(name: &str, passphrase: &Passphrase) -> Result<Vec<u8>, SealError> {
        let (cert, _revocation) = CertBuilder::new()
            .set_profile(Profile::RFC9580)
            .map_err(library)?
            .set_cipher_suite(CipherSuite::Cv25519)
            .add_userid(name)
            .set_primary_key_flags(KeyFlags::empty().set_certification())
            .add_signing_subkey()
            .add_subkey(KeyFlags::empty().set_transport_encryption().set_storage_encryption(), None, None)
            .generate()
            .map_err(library)?;
        let mut protected: Vec<Packet> = Vec::new();
        for key in cert.keys().secret() {
            let primary = key.primary();
            let (key, mut secret) = key.key().clone().take_secret();
            if primary {
                let key = key.role_into_primary();
                protect(&mut secret, &key, passphrase)?;
                protected.push(key.add_secret(secret).0.into());
            } else {
                let key = key.role_into_subordinate();
                protect(&mut secret, &key, passphrase)?;
                protected.push(key.add_secret(secret).0.into());
            }
        }
        let (cert, _) = cert.insert_packets(protected).map_err(library)?;
        if cert.keys().unencrypted_secret().next().is_some() {
            return Err(library("a secret part was left without protection"));
        }
        cert.as_tsk().armored().to_vec().map_err(library)
    }

    /// Opens the hub's secret keys: the first is current, the others are retired.
    ///
    /// # Errors
    /// [`SealError::Passphrase`] when the passphrase does not open one of them;
    /// [`SealError::Certificate`] when one is not a protected secret key, can neither sign nor
    /// decrypt, or is given twice, when none is given, or when the current one is revoked.
    pub fn open(armored: &[Vec<u8>], passphrase: &Passphrase) -> Result<Self, SealError> {
        let mut certs: Vec<Cert> = Vec::new();
        let mut openers = Vec::new();
        let mut current = None;
        for bytes in armored {
            let cert = parse(bytes)?;
            if certs.iter().any(|known| known.fingerprint() == cert.fingerprint()) {
                return Err(SealError::Certificate("the same key is given twice"));
            }
            let at = settled(&cert);
            if current.is_none() {
                current = Some((open_signer(&cert, at, passphrase)?, Recipient::choose(&cert, at)?));
            }
            let mut opened = open_openers(&cert, at, passphrase)?;
            if opened.is_empty() {
                return Err(SealError::Certificate("no secret key that decrypts"));
            }
            openers.append(&mut opened);
            certs.push(cert.strip_secret_key_material());
        }
        let Some((signer, recipient)) = current else {
            return Err(SealError::Certificate("no secret key is given"));
        };
        Ok(Self(Arc::new(Inner { signer, recipient, certs, openers })))
    }

    /// The current certificate, to wrap document keys to.
    pub fn current(&self) -> Recipient {
        self.0.recipient.clone()
    }

    /// The current public certificate, armored, to publish.
    ///
    /// # Errors
    /// [`SealError::Library`] only.
    pub fn certificate(&self) -> Result<Vec<u8>, SealError> {
        match self.0.certs.first() {
            Some(cert) => cert.armored().to_vec().map_err(library),
            None => Err(SealError::Certificate("no secret key is given")),
        }
    }

    /// Fingerprints of all certificates, the current one first, in upper-case hexadecimal.
    pub fn fingerprints(&self) -> Vec<String> {
        self.0.certs.iter().map(|cert| cert.fingerprint().to_hex()).collect()
    }

    pub(crate) fn certs(&self) -> &[Cert] {
        &self.0.certs
    }

    /// A copy of the current signing key: signing wants to own it.
    pub(crate) fn signer(&self) -> KeyPair {
        self.0.signer.clone()
    }

    /// From when on signatures of the current key are valid.
    pub(crate) fn signing_since(&self) -> SystemTime {
        self.0.certs.first().map_or(SystemTime::UNIX_EPOCH, settled)
    }

    pub(crate) fn holds(&self, recipient: Option<&Fingerprint>) -> bool {
        recipient.is_some_and(|wanted| self.0.openers.iter().any(|(held, _)| held == wanted))
    }

    /// Decrypts a session key that names one of our keys.
    pub(crate) fn open_wrap(&self, pkesk: &PKESK6) -> Option<SessionKey> {
        let wanted = pkesk.recipient()?;
        let (_, opener) = self.0.openers.iter().find(|(held, _)| held == wanted)?;
        pkesk.decrypt(&mut opener.clone(), Some(SymmetricAlgorithm::AES256))
    }
}

fn protect<R: KeyRole>(
    secret: &mut SecretKeyMaterial,
    key: &Key<PublicParts, R>,
    passphrase: &Passphrase,
) -> Result<(), SealError> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt)?;
    let s2k = S2K::Argon2 { salt, t: ARGON2_PASSES, p: ARGON2_LANES, m: ARGON2_MEMORY };
    secret
        .encrypt_in_place_with(key, s2k, SymmetricAlgorithm::AES256, Some(AEADAlgorithm::OCB), &passphrase.0)
        .map_err(library)
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Cert, SealError> {
    if bytes.len() > CERTIFICATE_MAX {
        return Err(SealError::Limit("certificate"));
    }
    Cert::from_bytes(bytes).map_err(|_| SealError::Certificate("not one OpenPGP certificate"))
}

/// The time of the newest self-signature: from then on a certificate says of itself what it says now.
fn settled(cert: &Cert) -> SystemTime {
    let primary = cert.primary_key().key().creation_time();
    let keys = cert.keys().flat_map(|key| key.self_signatures().collect::<Vec<_>>());
    let userids = cert.userids().flat_map(|id| id.self_signatures().collect::<Vec<_>>());
    keys.chain(userids)
        .filter_map(|signature| signature.signature_creation_time())
        .fold(primary, SystemTime::max)
}

fn open_signer(cert: &Cert, at: SystemTime, passphrase: &Passphrase) -> Result<KeyPair, SealError> {
    let policy = StandardPolicy::new();
    let key = cert
        .keys()
        .with_policy(&policy, at)
        .supported()
        .alive()
        .revoked(false)
        .for_signing()
        .secret()
        .next()
        .ok_or(SealError::Certificate("no secret key that signs"))?;
    open_secret(key.key().clone(), passphrase)
}

fn open_openers(
    cert: &Cert,
    at: SystemTime,
    passphrase: &Passphrase,
) -> Result<Vec<(Fingerprint, KeyPair)>, SealError> {
    let policy = StandardPolicy::new();
    // Expired and revoked keys still open what was wrapped to them.
    cert.keys()
        .with_policy(&policy, at)
        .subkeys()
        .supported()
        .for_transport_encryption()
        .for_storage_encryption()
        .secret()
        .map(|key| {
            let key = key.key().clone();
            Ok((key.fingerprint(), open_secret(key, passphrase)?))
        })
        .collect()
}

/// The key keeps its role: the protection is bound to it.
fn open_secret<R: KeyRole>(key: Key<SecretParts, R>, passphrase: &Passphrase) -> Result<KeyPair, SealError> {
    if !key.has_secret() || key.has_unencrypted_secret() {
        return Err(SealError::Certificate("the secret key is not protected by a passphrase"));
    }
    key.decrypt_secret(&passphrase.0).map_err(|_| SealError::Passphrase)?.into_keypair().map_err(library)
}
