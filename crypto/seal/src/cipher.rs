//! Key derivation and the AEAD of one packet, chunk by chunk (RFC 9580, 5.13.2).
//!
//! Owns the nonces: a chunk's index and its packet's salt decide them, so that a caller cannot reuse
//! one by accident. It must never leave unauthenticated plaintext in a buffer that a caller reads.

use openssl::cipher::{Cipher, CipherRef};
use openssl::cipher_ctx::CipherCtx;
use openssl::md::Md;
use openssl::pkey::Id;
use openssl::pkey_ctx::PkeyCtx;
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Part, SealError};
use crate::key::DocumentKey;
use crate::packet::{AES_256, CHUNK_OCTET, Mode, SALT, SEIPD_VERSION, TAG};

/// The packet tag as it stands in the associated data.
const TAG_OCTET: u8 = 0xD2;
/// Octets of the message key.
const KEY: usize = 32;
/// Octets of the longest nonce in use (OCB).
const NONCE_MAX: usize = 15;
/// Octets of the chunk index at the end of a nonce.
const INDEX: usize = 8;

/// One packet's cipher: the message key is scheduled once, each chunk sets its nonce.
pub(crate) struct PacketCipher {
    context: CipherCtx,
    nonce: [u8; NONCE_MAX],
    nonce_length: usize,
    associated: [u8; 5],
    seals: bool,
}

impl PacketCipher {
    /// To seal with the parameters that this crate writes.
    pub(crate) fn sealing(key: &DocumentKey, salt: &[u8; SALT]) -> Result<Self, SealError> {
        Self::new(key, salt, Mode::Ocb, CHUNK_OCTET, true)
    }

    /// To open what [`Self::sealing`] sealed.
    pub(crate) fn opening(key: &DocumentKey, salt: &[u8; SALT]) -> Result<Self, SealError> {
        Self::new(key, salt, Mode::Ocb, CHUNK_OCTET, false)
    }

    /// To open a packet with parameters of another's choice.
    pub(crate) fn opening_foreign(
        key: &DocumentKey,
        salt: &[u8; SALT],
        mode: Mode,
        chunk_octet: u8,
    ) -> Result<Self, SealError> {
        Self::new(key, salt, mode, chunk_octet, false)
    }

    fn new(
        key: &DocumentKey,
        salt: &[u8; SALT],
        mode: Mode,
        chunk_octet: u8,
        seals: bool,
    ) -> Result<Self, SealError> {
        let (cipher, nonce_length): (&CipherRef, usize) = match mode {
            Mode::Ocb => (Cipher::aes_256_ocb(), 15),
            Mode::Gcm => (Cipher::aes_256_gcm(), 12),
        };
        let associated = [TAG_OCTET, SEIPD_VERSION, AES_256, mode.octet(), chunk_octet];
        let mut derived = Zeroizing::new([0; KEY + NONCE_MAX - INDEX]);
        let length = KEY + nonce_length - INDEX;
        hkdf_sha256(key.as_bytes(), salt, &associated, &mut derived[..length])?;

        let mut context = CipherCtx::new()?;
        // The nonce length belongs to the key schedule of OCB: it is set before the key.
        if seals {
            context.encrypt_init(Some(cipher), None, None)?;
            context.set_iv_length(nonce_length)?;
            context.encrypt_init(None, Some(&derived[..KEY]), None)?;
        } else {
            context.decrypt_init(Some(cipher), None, None)?;
            context.set_iv_length(nonce_length)?;
            context.decrypt_init(None, Some(&derived[..KEY]), None)?;
        }
        let mut nonce = [0; NONCE_MAX];
        nonce[..nonce_length - INDEX].copy_from_slice(&derived[KEY..length]);
        Ok(Self { context, nonce, nonce_length, associated, seals })
    }

    fn start(&mut self, index: u64) -> Result<(), SealError> {
        let prefix = self.nonce_length - INDEX;
        self.nonce[prefix..self.nonce_length].copy_from_slice(&index.to_be_bytes());
        let nonce = Some(&self.nonce[..self.nonce_length]);
        if self.seals {
            self.context.encrypt_init(None, None, nonce)?;
        } else {
            self.context.decrypt_init(None, None, nonce)?;
        }
        self.context.cipher_update(&self.associated, None)?;
        Ok(())
    }

    /// Runs the cipher over all of `buffer` but the tag at its end, in place.
    fn run(&mut self, buffer: &mut [u8]) -> Result<(), openssl::error::ErrorStack> {
        let length = buffer.len() - TAG;
        let done = self.context.cipher_update_inplace(buffer, length)?;
        self.context.cipher_final(&mut buffer[done..])?;
        Ok(())
    }

    /// Encrypts a chunk in place; the last [`TAG`] bytes of `buffer` are room for its tag.
    pub(crate) fn seal_chunk(&mut self, index: u64, buffer: &mut [u8]) -> Result<(), SealError> {
        debug_assert!(self.seals && buffer.len() > TAG);
        self.start(index)?;
        self.run(buffer)?;
        let end = buffer.len() - TAG;
        self.context.tag(&mut buffer[end..])?;
        Ok(())
    }

    /// Decrypts a chunk in place; the last [`TAG`] bytes of `buffer` are its tag and are overwritten
    /// with nothing of use. When the tag does not match, the whole buffer is wiped.
    pub(crate) fn open_chunk(&mut self, index: u64, buffer: &mut [u8]) -> Result<(), SealError> {
        debug_assert!(!self.seals && buffer.len() > TAG);
        let outcome = self.try_open_chunk(index, buffer);
        if outcome.is_err() {
            buffer.zeroize();
        }
        outcome
    }

    fn try_open_chunk(&mut self, index: u64, buffer: &mut [u8]) -> Result<(), SealError> {
        self.start(index)?;
        let end = buffer.len() - TAG;
        self.context.set_tag(&buffer[end..])?;
        // OpenSSL reports a wrong tag as any other failure of the last step.
        self.run(buffer).map_err(|_| SealError::Damaged(Part::Chunk(index)))
    }

    fn start_final(&mut self, chunks: u64, plain: u64) -> Result<(), SealError> {
        self.start(chunks)?;
        self.context.cipher_update(&plain.to_be_bytes(), None)?;
        Ok(())
    }

    /// The tag that closes a packet of `chunks` chunks and `plain` plaintext bytes.
    pub(crate) fn final_tag(&mut self, chunks: u64, plain: u64) -> Result<[u8; TAG], SealError> {
        debug_assert!(self.seals);
        self.start_final(chunks, plain)?;
        self.context.cipher_final(&mut [0; TAG])?;
        let mut tag = [0; TAG];
        self.context.tag(&mut tag)?;
        Ok(tag)
    }

    /// Checks a closing tag. It depends on the key, the salt and the length: when it matches, these
    /// three belong together.
    pub(crate) fn check_final_tag(
        &mut self,
        chunks: u64,
        plain: u64,
        tag: &[u8; TAG],
    ) -> Result<(), SealError> {
        debug_assert!(!self.seals);
        self.start_final(chunks, plain)?;
        self.context.set_tag(tag)?;
        self.context.cipher_final(&mut [0; TAG]).map_err(|_| SealError::WrongKey)?;
        Ok(())
    }
}

/// HKDF with SHA-256 (RFC 5869).
pub(crate) fn hkdf_sha256(secret: &[u8], salt: &[u8], info: &[u8], out: &mut [u8]) -> Result<(), SealError> {
    let mut context = PkeyCtx::new_id(Id::HKDF)?;
    context.derive_init()?;
    context.set_hkdf_md(Md::sha256())?;
    context.set_hkdf_key(secret)?;
    context.set_hkdf_salt(salt)?;
    context.add_hkdf_info(info)?;
    let written = context.derive(Some(out))?;
    debug_assert_eq!(written, out.len());
    Ok(())
}
