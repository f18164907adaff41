//! The text of a signed head (C2SP `tlog-checkpoint`).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::{HASH, Hash, Note, NoteError, SigningKey, TreeHead, VerifierKey};

/// Bytes in an origin.
pub const ORIGIN_MAX: usize = 255;
/// Extension lines of a checkpoint.
pub const EXTENSIONS_MAX: usize = 16;

/// The head of a log, as it is signed.
///
/// A log must never sign two checkpoints of which neither extends the other: whoever signs has to come from
/// [`crate::Edge::open`] on the head signed last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    head: TreeHead,
    extensions: Vec<String>,
}

impl Checkpoint {
    /// The checkpoint of this head. The origin names the log for ever; it should look like `example.org/journal`.
    ///
    /// # Errors
    /// [`NoteError::Checkpoint`] when the origin is empty, longer than [`ORIGIN_MAX`], or not one line; or when a
    /// tree without leaves has another root than [`Hash::empty`].
    pub fn new(origin: &str, head: TreeHead) -> Result<Self, NoteError> {
        check_line(origin)?;
        if origin.len() > ORIGIN_MAX {
            return Err(NoteError::Checkpoint("the origin is too long"));
        }
        if head.size == 0 && head.root != Hash::empty() {
            return Err(NoteError::Checkpoint("an empty tree with the root of another"));
        }
        Ok(Self { origin: origin.to_owned(), head, extensions: Vec::new() })
    }

    /// The same with one more extension line. The specification advises against them: no witness looks at what
    /// they say.
    ///
    /// # Errors
    /// [`NoteError::Checkpoint`] when it is not one line; [`NoteError::Limit`] when there are [`EXTENSIONS_MAX`].
    pub fn with_extension(mut self, line: &str) -> Result<Self, NoteError> {
        check_line(line)?;
        if self.extensions.len() == EXTENSIONS_MAX {
            return Err(NoteError::Limit("extension lines of a checkpoint"));
        }
        self.extensions.push(line.to_owned());
        Ok(self)
    }

    /// Reads the text of a checkpoint. For a text that someone has vouched for: a note goes to
    /// [`Checkpoint::open`].
    ///
    /// # Errors
    /// [`NoteError::Checkpoint`], [`NoteError::Limit`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let text = text.strip_suffix('\n').ok_or(NoteError::Checkpoint("the last line does not end"))?;
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(NoteError::Checkpoint("fewer than three lines"));
        };
        let size = decimal(size).ok_or(NoteError::Checkpoint("the size is not a number in its one form"))?;
        let root = hash(root).ok_or(NoteError::Checkpoint("the root is not a hash in base 64"))?;
        let checkpoint = Self::new(origin, TreeHead { size, root })?;
        lines.try_fold(checkpoint, Self::with_extension)
    }

    /// Opens a note that is to hold a checkpoint of the log `origin`, signed with one of these keys: the log's, which
    /// are several when it has changed its key. A witness's key is none of them: what a witness has signed is asked
    /// of the note ([`Note::verify`]).
    ///
    /// # Errors
    /// What [`Note::parse`], [`Note::verify`] and [`Checkpoint::parse`] refuse; [`NoteError::Origin`].
    pub fn open(note: &[u8], origin: &str, keys: &[VerifierKey]) -> Result<(Self, Note), NoteError> {
        let note = Note::parse(note)?;
        let checkpoint = Self::open_note(&note, origin, keys)?;
        Ok((checkpoint, note))
    }

    /// The same of a note that was read already.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_note(note: &Note, origin: &str, keys: &[VerifierKey]) -> Result<Self, NoteError> {
        note.verify(keys)?;
        let checkpoint = Self::parse(note.text())?;
        if checkpoint.origin != origin {
            return Err(NoteError::Origin);
        }
        Ok(checkpoint)
    }

    /// Signs the checkpoint. The name of the key should be the origin.
    ///
    /// # Errors
    /// [`NoteError::Limit`], [`NoteError::Library`].
    pub fn sign(&self, key: &SigningKey) -> Result<Note, NoteError> {
        Note::sign(self.text(), key)
    }

    /// What is signed.
    pub fn text(&self) -> String {
        let TreeHead { size, root } = self.head;
        let mut text = format!("{}\n{size}\n{}\n", self.origin, STANDARD.encode(root.as_bytes()));
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// The log that it is of.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Size and root.
    pub fn head(&self) -> TreeHead {
        self.head
    }

    /// Its extension lines: signed, and opaque.
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }
}

fn check_line(line: &str) -> Result<(), NoteError> {
    if line.is_empty() || line.bytes().any(|byte| byte < b' ') {
        return Err(NoteError::Checkpoint("an empty line or a control character"));
    }
    Ok(())
}

/// A number in ASCII digits, without leading zeroes.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = digits && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok()).flatten()
}

/// A hash in base 64.
pub(crate) fn hash(text: &str) -> Option<Hash> {
    // 32 bytes are 44 characters: longer ones are not decoded at all.
    let bytes = (text.len() == 44).then(|| STANDARD.decode(text).ok()).flatten()?;
    <[u8; HASH]>::try_from(bytes).ok().map(Hash::from_bytes)
}
