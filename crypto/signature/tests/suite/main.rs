//! Seals and timestamps against other people's programs: OpenSSL, qpdf, poppler, pyHanko.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod authority;
mod keys;
mod seals;
mod timestamps;

use pli_api::Time;

/// 27 November 2026, 22:59:33 UTC.
pub(crate) const NOW: Time = Time::from_micros(1_795_820_373_000_000);
