//! Signed notes: a text, and under it one line for each signature (C2SP `signed-note`).
//!
//! A note is worth what its signatures are: reading one decides nothing, [`Note::verify`] does. Whatever is
//! accepted has exactly one form, so that a note that was read is written again byte for byte.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::NoteError;

/// Bytes in the longest note that is read: room for sixteen post-quantum signatures, as the specification asks.
pub const NOTE_MAX: usize = 256 << 10;
/// Signatures on a note, known or not. (The specification asks for at least 16.)
pub const SIGNATURES_MAX: usize = 64;
/// Bytes in the name of a key.
pub const NAME_MAX: usize = 255;

/// The signature type of Ed25519 over the text (C2SP signed-note, "Signature types").
const TYPE_ED25519: u8 = 1;
/// What a signature line begins with: em dash, space.
const DASH: &str = "\u{2014} ";

/// A text and its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// Reads a note. Nothing is verified yet.
    ///
    /// # Errors
    /// [`NoteError::Note`], [`NoteError::Limit`].
    pub fn parse(note: &[u8]) -> Result<Self, NoteError> {
        if note.len() > NOTE_MAX {
            return Err(NoteError::Limit("bytes in a note"));
        }
        let note = std::str::from_utf8(note).map_err(|_| NoteError::Note("not UTF-8"))?;
        // The text may hold empty lines; the last empty line of the note ends it.
        let (before, lines) =
            note.rsplit_once("\n\n").ok_or(NoteError::Note("no line between text and signatures"))?;
        // `before` is its beginning, so both can be counted on.
        let text = note.get(..=before.len()).unwrap_or_default();
        check_text(text)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Note("the last line does not end"))?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() == SIGNATURES_MAX {
                return Err(NoteError::Limit("signatures on a note"));
            }
            signatures.push(NoteSignature::parse(line)?);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// Signs a text, which ends in a newline.
    ///
    /// # Errors
    /// [`NoteError::Note`] when the text cannot be that of a note; [`NoteError::Limit`]; [`NoteError::Library`].
    pub fn sign(text: impl Into<String>, key: &SigningKey) -> Result<Self, NoteError> {
        let text = text.into();
        check_text(&text)?;
        let mut note = Self { text, signatures: Vec::new() };
        note.sign_also(key)?;
        Ok(note)
    }

    /// Signs with one more key. A signature by the same key is replaced.
    ///
    /// # Errors
    /// [`NoteError::Limit`], [`NoteError::Library`].
    pub fn sign_also(&mut self, key: &SigningKey) -> Result<(), NoteError> {
        let signature = key.pair.try_sign(self.text.as_bytes()).map_err(|_| NoteError::Library)?;
        self.add(NoteSignature {
            name: key.name.clone(),
            key_id: key.id,
            signature: signature.as_ref().to_vec(),
        })
    }

    /// Adds a signature that was made elsewhere, such as a witness's; one by the same key is replaced. It is not
    /// verified.
    ///
    /// # Errors
    /// [`NoteError::Limit`]; then the note is as it was.
    pub fn add(&mut self, signature: NoteSignature) -> Result<(), NoteError> {
        let mut signatures = self.signatures.clone();
        signatures.retain(|other| (&other.name, other.key_id) != (&signature.name, signature.key_id));
        signatures.push(signature);
        if signatures.len() > SIGNATURES_MAX {
            return Err(NoteError::Limit("signatures on a note"));
        }
        let note = Self { text: self.text.clone(), signatures };
        if note.to_string().len() > NOTE_MAX {
            return Err(NoteError::Limit("bytes in a note"));
        }
        *self = note;
        Ok(())
    }

    /// Which of these keys have signed the note: at least one.
    ///
    /// Signatures by other keys are ignored, even when they share a name or an id with a known one.
    ///
    /// # Errors
    /// [`NoteError::Signature`] when a signature in the name of one of these keys does not verify, whatever
    /// others say; [`NoteError::Unsigned`]; [`NoteError::Ambiguous`].
    pub fn verify<'a>(&self, keys: &'a [VerifierKey]) -> Result<Vec<&'a VerifierKey>, NoteError> {
        let mut signers: Vec<&VerifierKey> = Vec::new();
        for signature in &self.signatures {
            let mut known =
                keys.iter().filter(|key| key.name == signature.name && key.id == signature.key_id);
            let Some(key) = known.next() else { continue };
            if known.any(|other| other != key) {
                return Err(NoteError::Ambiguous(key.label()));
            }
            UnparsedPublicKey::new(&ED25519, key.public)
                .verify(self.text.as_bytes(), &signature.signature)
                .map_err(|_| NoteError::Signature(key.label()))?;
            if !signers.contains(&key) {
                signers.push(key);
            }
        }
        if signers.is_empty() { Err(NoteError::Unsigned) } else { Ok(signers) }
    }

    /// The text, its last newline included. Not to be believed before [`Note::verify`].
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures in their order, those of unknown keys too.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }
}

impl fmt::Display for Note {
    /// The note as it is kept and sent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

/// A signature on a note, by whomever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    name: String,
    key_id: [u8; 4],
    signature: Vec<u8>,
}

impl NoteSignature {
    /// Reads a signature line, without its newline.
    ///
    /// # Errors
    /// [`NoteError::Note`], [`NoteError::Limit`].
    pub fn parse(line: &str) -> Result<Self, NoteError> {
        if line.len() > NOTE_MAX {
            return Err(NoteError::Limit("bytes in a note"));
        }
        let (name, encoded) = line
            .strip_prefix(DASH)
            .and_then(|rest| rest.split_once(' '))
            .ok_or(NoteError::Note("not a signature line"))?;
        check_name(name)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| NoteError::Note("a signature is not base 64"))?;
        match bytes.split_first_chunk() {
            Some((key_id, signature)) if !signature.is_empty() => {
                Ok(Self { name: name.to_owned(), key_id: *key_id, signature: signature.to_vec() })
            }
            _ => Err(NoteError::Note("a signature is too short")),
        }
    }

    /// The name of the key that is said to have signed.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the key that is said to have signed.
    pub fn key_id(&self) -> [u8; 4] {
        self.key_id
    }
}

impl fmt::Display for NoteSignature {
    /// The signature line, without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.key_id[..], &self.signature].concat();
        write!(f, "{DASH}{} {}", self.name, STANDARD.encode(bytes))
    }
}

/// A key that signs notes. It is wiped from memory when dropped, and never printed.
pub struct SigningKey {
    name: String,
    id: [u8; 4],
    public: [u8; 32],
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// The Ed25519 key of this seed (RFC 8032, 5.1.5: the "private key").
    ///
    /// # Errors
    /// [`NoteError::Key`] when the name is refused.
    pub fn from_seed(name: &str, seed: &Zeroizing<[u8; 32]>) -> Result<Self, NoteError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed[..])
            .map_err(|_| NoteError::Key("not an Ed25519 seed"))?;
        Self::from_pair(name, pair)
    }

    /// The Ed25519 key of a PKCS #8 structure (RFC 8410) in DER, not encrypted, with or without the public key.
    ///
    /// # Errors
    /// [`NoteError::Key`] when the structure or the name is refused.
    pub fn from_pkcs8(name: &str, pkcs8: &Zeroizing<Vec<u8>>) -> Result<Self, NoteError> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8)
            .map_err(|_| NoteError::Key("not an Ed25519 key in PKCS #8, not encrypted"))?;
        Self::from_pair(name, pair)
    }

    fn from_pair(name: &str, pair: Ed25519KeyPair) -> Result<Self, NoteError> {
        let public = pair.public_key().as_ref().try_into().map_err(|_| NoteError::Library)?;
        let key = VerifierKey::new(name, &public)?;
        Ok(Self { name: key.name, id: key.id, public, pair })
    }

    /// The key that verifies what this one signs.
    pub fn verifier_key(&self) -> VerifierKey {
        VerifierKey { name: self.name.clone(), id: self.id, public: self.public }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.verifier_key().label()).finish()
    }
}

/// A key that verifies notes: a name, and an Ed25519 public key. Its text form, `name+id+base64`, is the one that
/// Go's `golang.org/x/mod/sumdb/note` writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    public: [u8; 32],
}

impl VerifierKey {
    /// The key of this name. The name is part of the key's id; for a log it should be the origin of its
    /// checkpoints.
    ///
    /// # Errors
    /// [`NoteError::Key`] when the name is empty, too long, or holds a space, a plus sign or a control character.
    pub fn new(name: &str, public: &[u8; 32]) -> Result<Self, NoteError> {
        check_name(name).map_err(|_| NoteError::Key("the name is not one of a key"))?;
        let hash =
            Sha256::new_with_prefix(name).chain_update([b'\n', TYPE_ED25519]).chain_update(public).finalize();
        let id = hash.first_chunk().copied().ok_or(NoteError::Library)?;
        Ok(Self { name: name.to_owned(), id, public: *public })
    }

    /// Reads a key's text form.
    ///
    /// # Errors
    /// [`NoteError::Key`] when it is malformed, of another type than Ed25519 over the text (such as a witness's
    /// timestamped cosignatures), or its id is not the one of its name and key.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        // The base 64 may hold plus signs, the name may not.
        let mut fields = text.splitn(3, '+');
        let (Some(name), Some(id), Some(encoded)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(NoteError::Key("not name, id and key"));
        };
        if encoded.len() > 64 {
            return Err(NoteError::Key("not an Ed25519 key"));
        }
        let bytes = STANDARD.decode(encoded).map_err(|_| NoteError::Key("the key is not base 64"))?;
        let public = match bytes.split_first() {
            Some((&TYPE_ED25519, public)) => {
                public.try_into().map_err(|_| NoteError::Key("not an Ed25519 key"))?
            }
            _ => return Err(NoteError::Key("not of the type Ed25519")),
        };
        let key = Self::new(name, public)?;
        if hex::encode(key.id) != id {
            return Err(NoteError::Key("the id is not the one of this name and key"));
        }
        Ok(key)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id: the first four bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key).
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// The Ed25519 public key (RFC 8032, 5.1.2).
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// Name and id, which is how a key is spoken of.
    fn label(&self) -> String {
        format!("{}+{}", self.name, hex::encode(self.id))
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&[TYPE_ED25519][..], &self.public].concat();
        write!(f, "{}+{}", self.label(), STANDARD.encode(bytes))
    }
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if text.len() > NOTE_MAX {
        return Err(NoteError::Limit("bytes in a note"));
    }
    if !text.ends_with('\n') {
        return Err(NoteError::Note("the text does not end with a line"));
    }
    if text.bytes().any(|byte| byte < b' ' && byte != b'\n') {
        return Err(NoteError::Note("a control character"));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), NoteError> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(NoteError::Note("the name of a key is empty or too long"));
    }
    if name.chars().any(|character| character < ' ' || character.is_whitespace() || character == '+') {
        return Err(NoteError::Note("the name of a key holds what it may not"));
    }
    Ok(())
}
