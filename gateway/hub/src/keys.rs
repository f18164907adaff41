//! The hub's certificates while it runs.
//!
//! Owns the ring and its renewal: a rotation made by another process is learnt when a wrap turns up
//! that no certificate at hand opens. Must never log a key.

use crate::fault::Result;
use pli_seal::{DocumentKey, KeyRing, SealError};
use std::sync::{Arc, RwLock};

type Load = dyn Fn() -> std::result::Result<KeyRing, Box<dyn std::error::Error + Send + Sync>> + Send + Sync;

/// The ring of the hub, and the way to read it anew.
#[derive(Clone)]
pub struct KeySource {
    ring: Arc<RwLock<KeyRing>>,
    load: Arc<Load>,
}

impl KeySource {
    /// Reads the ring once, and keeps how.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new<F>(load: F) -> std::result::Result<Self, Box<dyn std::error::Error + Send + Sync>>
    where
        F: Fn() -> std::result::Result<KeyRing, Box<dyn std::error::Error + Send + Sync>>
            + Send
            + Sync
            + 'static,
    {
        let ring = load()?;
        Ok(Self { ring: Arc::new(RwLock::new(ring)), load: Arc::new(load) })
    }

    /// The ring at hand.
    #[must_use]
    pub fn ring(&self) -> KeyRing {
        match self.ring.read() {
            Ok(ring) => ring.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }

    /// The fingerprint of the current certificate.
    #[must_use]
    pub fn current(&self) -> String {
        self.ring().current().fingerprint()
    }

    /// A new document key, with its wrapping for the current certificate.
    pub(crate) fn new_key(&self) -> Result<(DocumentKey, Vec<u8>, String)> {
        let ring = self.ring();
        let key = DocumentKey::random()?;
        let wrapped = key.wrap(&[ring.current()])?;
        Ok((key, wrapped, ring.current().fingerprint()))
    }

    /// The key in a wrapping; the ring is read anew when none of its certificates opens it.
    pub(crate) fn unwrap(&self, wrapped: &[u8]) -> Result<DocumentKey> {
        match DocumentKey::unwrap(wrapped, &self.ring()) {
            Err(SealError::NotOurs) => {
                let ring = (self.load)().map_err(crate::Fault::internal)?;
                let key = DocumentKey::unwrap(wrapped, &ring)?;
                match self.ring.write() {
                    Ok(mut held) => *held = ring,
                    Err(poisoned) => *poisoned.into_inner() = ring,
                }
                tracing::info!("key ring read anew");
                Ok(key)
            }
            other => Ok(other?),
        }
    }
}
