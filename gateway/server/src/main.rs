//! `pli`: the gateway's program.
mod activity;
mod body;
mod connection;
mod framing;
mod limits;
mod listen;
mod logs;
mod request;
mod secret;
mod tls;

fn main() {}
