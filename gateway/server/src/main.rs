//! `pli`: the gateway's program.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test stops at the first surprise"))]
mod activity;
mod body;
mod config;
mod connection;
mod framing;
mod limits;
mod listen;
mod logs;
mod metrics;
mod operations;
mod pki;
mod request;
mod secret;
#[cfg(test)]
mod testing;
mod tls;

fn main() {}
