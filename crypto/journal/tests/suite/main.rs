//! The log as its callers use it: against the text of the RFC, against published vectors, and against whoever would
//! have it say something else.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod naive;
mod notes;
mod proofs;
mod tree;
mod verifier;
