//! Objects in memory, for tests of what stands above.
//!
//! Owns a map. Must never be offered to an operator: it keeps nothing.

use super::{BlobError, Class, ObjectEntry, ObjectKey, ObjectMeta, PIECE};
use bytes::Bytes;
use pli_api::Time;
use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<BTreeMap<ObjectKey, Object>>);

#[derive(Debug)]
struct Object {
    parts: Vec<Bytes>,
    meta: ObjectMeta,
}

impl Memory {
    /// A panic elsewhere leaves the map whole: each change of it is one call.
    fn map(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Object>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(clippy::disallowed_methods, reason = "the clock of this store, as a file system has its own")]
    pub(super) fn put(&self, key: &ObjectKey, parts: Vec<Bytes>) {
        let length = parts.iter().map(|p| p.len() as u64).sum();
        // Copied: a part may be a pooled buffer, which the pool wants back.
        let parts = parts.iter().map(|p| Bytes::copy_from_slice(p)).collect();
        let modified = Time::from(std::time::SystemTime::now());
        self.map().insert(key.clone(), Object { parts, meta: ObjectMeta { length, modified } });
    }

    pub(super) fn get(&self, key: &ObjectKey, range: Range<u64>) -> Result<MemoryReader, BlobError> {
        let map = self.map();
        let object = map.get(key).ok_or(BlobError::NotFound)?;
        if range.end > object.meta.length {
            return Err(BlobError::Truncated);
        }
        let mut pieces = VecDeque::new();
        let mut at = 0u64;
        for part in &object.parts {
            let from = range.start.saturating_sub(at).min(part.len() as u64);
            let to = range.end.saturating_sub(at).min(part.len() as u64);
            at += part.len() as u64;
            if from < to {
                let (from, to) = (usize::try_from(from).unwrap_or(0), usize::try_from(to).unwrap_or(0));
                pieces.push_back(part.slice(from..to));
            }
        }
        Ok(MemoryReader(pieces))
    }

    pub(super) fn head(&self, key: &ObjectKey) -> Option<ObjectMeta> {
        self.map().get(key).map(|o| o.meta)
    }

    pub(super) fn delete(&self, key: &ObjectKey) {
        self.map().remove(key);
    }

    pub(super) fn list(&self, class: Class, after: Option<&ObjectKey>, limit: usize) -> Vec<ObjectEntry> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.map()
            .range::<ObjectKey, _>((from, Bound::Unbounded))
            .filter(|(key, _)| key.class() == class)
            .take(limit)
            .map(|(key, o)| ObjectEntry {
                key: key.clone(),
                length: o.meta.length,
                modified: o.meta.modified,
            })
            .collect()
    }
}

#[derive(Debug)]
pub(super) struct MemoryReader(VecDeque<Bytes>);

impl MemoryReader {
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, BlobError> {
        let Some(mut piece) = self.0.pop_front() else { return Ok(None) };
        if piece.len() > PIECE {
            self.0.push_front(piece.split_off(PIECE));
        }
        Ok(Some(piece))
    }
}
