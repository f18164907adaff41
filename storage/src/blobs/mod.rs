//! The object store: a folder, S3, or memory behind one type, [`Blobs`].
//!
//! Owns objects under unguessable keys that are never used twice. Must never say that an object is
//! kept before it is durable, show half an object, or rely on the store for uniqueness, order or
//! locks: S3 servers may ignore conditional requests without an error.

mod folder;
mod memory;
mod s3;

pub use s3::S3Options;

use bytes::Bytes;
use pli_api::Time;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// A reader gives pieces of at most this many bytes.
pub const PIECE: usize = 1 << 20;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is no such object.
    #[error("no such object")]
    NotFound,
    /// The store has no room: disk or quota. Nothing of the object was kept.
    #[error("no room left in the object store: {0}")]
    Full(String),
    /// The store cannot be reached or does not manage now: later it may.
    #[error("object store unavailable: {0}")]
    Unavailable(String),
    /// The object is shorter than the bytes asked for.
    #[error("the object is shorter than expected")]
    Truncated,
    /// Anything else: refused by the store's configuration, or an answer that makes no sense.
    #[error("object store: {0}")]
    Other(String),
}

/// What an object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// The manifest of a document.
    Manifest,
    /// A sealed segment.
    Segment,
}

impl Class {
    /// Both, in the order of their keys.
    pub const ALL: [Self; 2] = [Self::Manifest, Self::Segment];

    /// The first part of the key.
    #[must_use]
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Manifest => "manifests",
            Self::Segment => "segments",
        }
    }
}

/// The key of an object: `segments/ab/ab…` or `manifests/ab/ab…`, where the last part is 32
/// hexadecimal digits, drawn at random, and the middle its first two.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// A new key: 128 bits from the system.
    ///
    /// # Errors
    /// [`BlobError::Other`] when the system gives no random bytes.
    pub fn random(class: Class) -> Result<Self, BlobError> {
        let mut id = [0u8; 16];
        getrandom::fill(&mut id).map_err(|e| BlobError::Other(format!("no random bytes: {e}")))?;
        let id = hex::encode(id);
        Ok(Self(format!("{}/{}/{id}", class.folder(), id.get(..2).unwrap_or_default())))
    }

    /// The text of the key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the object holds.
    #[must_use]
    pub fn class(&self) -> Class {
        if self.0.starts_with(Class::Manifest.folder()) { Class::Manifest } else { Class::Segment }
    }

    /// The folder and the name in it.
    fn split(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or(("", &self.0))
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not the key of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the key of an object")]
pub struct InvalidKey;

impl FromStr for ObjectKey {
    type Err = InvalidKey;

    /// The exact form only, so that no key leads out of the store.
    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let mut parts = text.split('/');
        let (Some(class), Some(fan), Some(id), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidKey);
        };
        let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        let good = Class::ALL.iter().any(|c| c.folder() == class)
            && id.len() == 32
            && id.bytes().all(hex)
            && fan.len() == 2
            && id.starts_with(fan);
        if good { Ok(Self(text.to_owned())) } else { Err(InvalidKey) }
    }
}

/// What the store says of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its bytes.
    pub length: u64,
    /// When the store took it, by the store's clock.
    pub modified: Time,
}

/// An object in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectEntry {
    /// Its key.
    pub key: ObjectKey,
    /// Its bytes.
    pub length: u64,
    /// When the store took it, by the store's clock.
    pub modified: Time,
}

/// An object store. Clones share it.
#[derive(Clone, Debug)]
pub struct Blobs(Backend);

#[derive(Clone, Debug)]
enum Backend {
    Folder(Arc<folder::Folder>),
    S3(Arc<s3::S3>),
    Memory(Arc<memory::Memory>),
}

impl Blobs {
    /// One file an object in a folder, which is made when absent (mode 0700; files 0600).
    ///
    /// # Errors
    /// [`BlobError::Other`] when the folder cannot be made or read, [`BlobError::Full`].
    pub fn folder(path: impl Into<PathBuf>) -> Result<Self, BlobError> {
        folder::Folder::open(path.into()).map(|f| Self(Backend::Folder(Arc::new(f))))
    }

    /// A bucket of an S3 service. Nothing is sent yet: see [`Self::probe`].
    ///
    /// # Errors
    /// [`BlobError::Other`] when the options make no sense.
    pub fn s3(options: S3Options) -> Result<Self, BlobError> {
        s3::S3::new(options).map(|s| Self(Backend::S3(Arc::new(s))))
    }

    /// In memory, for tests.
    #[must_use]
    pub fn memory() -> Self {
        Self(Backend::Memory(Arc::default()))
    }

    /// Keeps an object: durable and whole once this returns. Half an object is never seen. When the
    /// future is dropped or gives [`BlobError::Unavailable`], the whole object may have been kept all
    /// the same: it is then an orphan for the sweep, or the put is tried again.
    ///
    /// Putting the same object under its key again is allowed; that is how a put is retried.
    ///
    /// # Errors
    /// [`BlobError::Full`], [`BlobError::Unavailable`], [`BlobError::Other`].
    pub async fn put(&self, key: &ObjectKey, parts: Vec<Bytes>) -> Result<(), BlobError> {
        match &self.0 {
            Backend::Folder(f) => f.put(key, parts).await,
            Backend::S3(s) => s.put(key, parts).await,
            Backend::Memory(m) => {
                m.put(key, parts);
                Ok(())
            }
        }
    }

    /// Opens bytes `range` of an object.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], [`BlobError::Unavailable`], [`BlobError::Other`];
    /// [`BlobError::Truncated`] here or from [`BlobReader::next`] when the object ends before the
    /// range does.
    pub async fn get(&self, key: &ObjectKey, range: Range<u64>) -> Result<BlobReader, BlobError> {
        if range.start > range.end {
            return Err(BlobError::Other("a range that ends before it starts".to_owned()));
        }
        match &self.0 {
            Backend::Folder(f) => f.get(key, range).await.map(|r| BlobReader(Reader::Folder(r))),
            Backend::S3(s) => s.clone().get(key, range).await.map(|r| BlobReader(Reader::S3(Box::new(r)))),
            Backend::Memory(m) => m.get(key, range).map(|r| BlobReader(Reader::Memory(r))),
        }
    }

    /// A whole object of at most `most` bytes, for manifests.
    ///
    /// # Errors
    /// As [`Self::get`]; [`BlobError::Other`] when it is longer.
    pub async fn read(&self, key: &ObjectKey, most: u64) -> Result<Vec<u8>, BlobError> {
        let length = self.head(key).await?.ok_or(BlobError::NotFound)?.length;
        if length > most {
            return Err(BlobError::Other(format!(
                "an object of {length} bytes where at most {most} are expected"
            )));
        }
        let mut out = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        let mut reader = self.get(key, 0..length).await?;
        while let Some(piece) = reader.next().await? {
            out.extend_from_slice(&piece);
        }
        Ok(out)
    }

    /// Length and time of an object; `None` when there is none.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`], [`BlobError::Other`].
    pub async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, BlobError> {
        match &self.0 {
            Backend::Folder(f) => f.head(key).await,
            Backend::S3(s) => s.head(key).await,
            Backend::Memory(m) => Ok(m.head(key)),
        }
    }

    /// Removes an object; one that is not there is no error. A deletion may be undone by a power cut:
    /// the object is then an orphan for the sweep.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`], [`BlobError::Other`].
    pub async fn delete(&self, key: &ObjectKey) -> Result<(), BlobError> {
        match &self.0 {
            Backend::Folder(f) => f.delete(key).await,
            Backend::S3(s) => s.delete(key).await,
            Backend::Memory(m) => {
                m.delete(key);
                Ok(())
            }
        }
    }

    /// Up to `limit` objects of a class in the order of their keys, those after `after`. Fewer than
    /// `limit` means that these are the last. Names that are not keys are passed over.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`], [`BlobError::Other`].
    pub async fn list(
        &self,
        class: Class,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectEntry>, BlobError> {
        match &self.0 {
            Backend::Folder(f) => f.list(class, after, limit).await,
            Backend::S3(s) => s.list(class, after, limit).await,
            Backend::Memory(m) => Ok(m.list(class, after, limit)),
        }
    }

    /// Whether the store takes and gives objects now: a small one is put, read and removed.
    ///
    /// # Errors
    /// Any [`BlobError`].
    pub async fn probe(&self) -> Result<(), BlobError> {
        let key = ObjectKey::random(Class::Manifest)?;
        let content = Bytes::from_static(b"probe");
        self.put(&key, vec![content.clone()]).await?;
        let read = self.read(&key, 16).await;
        self.delete(&key).await?;
        if read? == content { Ok(()) } else { Err(BlobError::Other("gave back other bytes".to_owned())) }
    }

    /// Removes what puts that were killed half-way left behind before `before`, by the store's clock;
    /// gives how many. Only a folder keeps such things.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`], [`BlobError::Other`].
    pub async fn clear_unfinished(&self, before: Time) -> Result<u64, BlobError> {
        match &self.0 {
            Backend::Folder(f) => f.clear_unfinished(before).await,
            Backend::S3(_) | Backend::Memory(_) => Ok(0),
        }
    }
}

/// The bytes of a range, piece by piece.
#[derive(Debug)]
pub struct BlobReader(Reader);

#[derive(Debug)]
enum Reader {
    Folder(folder::FolderReader),
    S3(Box<s3::S3Reader>),
    Memory(memory::MemoryReader),
}

impl BlobReader {
    /// The next piece, of at most [`PIECE`] bytes and never empty; `None` once all bytes of the range
    /// were given. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// [`BlobError::Truncated`], [`BlobError::Unavailable`], [`BlobError::Other`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, BlobError> {
        match &mut self.0 {
            Reader::Folder(r) => r.next().await,
            Reader::S3(r) => r.next().await,
            Reader::Memory(r) => r.next(),
        }
    }
}
