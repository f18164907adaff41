//! What the hub signs and seals evidence with: the key of its journal, its seal, the authority of time.
//!
//! Owns these keys while the process runs. Must never print, log or hand out a private one.

use crate::fault::{Fault, Result};
use pli_journal::{SigningKey, VerifierKey};
use pli_signature::{Certificate, SealKey, TimestampRequest, TimestampToken};
use std::sync::Arc;
use std::time::Duration;

/// Octets of a timestamp authority's answer.
const ANSWER_MAX: usize = 64 << 10;
/// How long a timestamp authority may take. A receipt that waits longer goes without.
const PATIENCE: Duration = Duration::from_secs(5);

/// What evidence is made with. A clone is cheap.
#[derive(Clone)]
pub struct Evidence(Arc<EvidenceKeys>);

/// The parts of [`Evidence`].
pub struct EvidenceKeys {
    /// Signs checkpoints; its name is the origin of the log.
    pub journal: SigningKey,
    /// Keys of the same log that signed before it.
    pub retired: Vec<VerifierKey>,
    /// Seals receipts.
    pub seal: SealKey,
    /// Who gives receipts, at their head.
    pub issuer: String,
    /// Who says when, if anyone does.
    pub timestamps: Option<TimestampAuthority>,
    /// Years after which events leave the register; 0: never.
    pub register_years: u32,
}

/// A timestamp authority (RFC 3161), over HTTP.
#[derive(Clone, Debug)]
pub struct TimestampAuthority {
    /// Where it answers.
    pub url: String,
    /// Its certificate, or the one that issued it.
    pub anchors: Vec<Certificate>,
    /// Seconds between two timestamps of checkpoints.
    pub every: i64,
    client: reqwest::Client,
}

impl TimestampAuthority {
    /// An authority at this address.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(url: String, anchors: Vec<Certificate>, every: i64) -> Result<Self> {
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(Fault::internal)?;
        Ok(Self { url, anchors, every, client })
    }

    /// Asks for a timestamp.
    ///
    /// # Errors
    /// When there is none to be had, or the token is not what was asked for.
    pub(crate) async fn stamp(&self, request: &TimestampRequest) -> Result<TimestampToken> {
        let outcome = self.ask(request).await;
        let word = if outcome.is_ok() { "granted" } else { "failed" };
        metrics::counter!("pli_timestamps_total", "outcome" => word).increment(1);
        outcome
    }

    async fn ask(&self, request: &TimestampRequest) -> Result<TimestampToken> {
        let unreached = |error: reqwest::Error| Fault::unreached(error.without_url());
        let mut answer = self
            .client
            .post(&self.url)
            .header(http::header::CONTENT_TYPE, "application/timestamp-query")
            .body(request.der().to_vec())
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map_err(unreached)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreached)? {
            if body.len().saturating_add(chunk.len()) > ANSWER_MAX {
                return Err(Fault::internal("the answer of the timestamp authority is too long"));
            }
            body.extend_from_slice(&chunk);
        }
        request.read(&body, &self.anchors).map_err(Fault::internal)
    }
}

impl Evidence {
    /// From its parts.
    #[must_use]
    pub fn new(keys: EvidenceKeys) -> Self {
        Self(Arc::new(keys))
    }

    /// The name of the log, for ever.
    #[must_use]
    pub fn origin(&self) -> String {
        self.0.journal.verifier_key().name().to_owned()
    }

    /// The keys that may have signed a checkpoint of this log, the present one first.
    #[must_use]
    pub fn verifier_keys(&self) -> Vec<VerifierKey> {
        std::iter::once(self.0.journal.verifier_key()).chain(self.0.retired.iter().cloned()).collect()
    }
}

impl std::ops::Deref for Evidence {
    type Target = EvidenceKeys;

    fn deref(&self) -> &EvidenceKeys {
        &self.0
    }
}

impl std::fmt::Debug for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evidence")
            .field("journal", &self.journal)
            .field("seal", &self.seal)
            .finish_non_exhaustive()
    }
}
