//! What one client may ask of the network half: sizes, counts and time limits.
//!
//! Owns the numbers and their defaults, nothing else. There is no limit on how long a whole transfer
//! lasts: only on how long it may stand still.

use std::time::Duration;

/// Bytes of ciphertext read from the kernel at once. rustls alone reads 4 KiB at a time.
pub(crate) const WIRE: usize = 64 * 1024;

/// Bytes of a request line and fields together that the router may see; hyper's own limit is twice
/// that, so that the refusal is ours to word. The same for the count of fields.
pub(crate) const HARD_FACTOR: usize = 2;

/// The limits of one listener.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Connections open at once.
    pub(crate) connections: usize,
    /// Connections open at once from one IPv4 address or one IPv6 /64; 0 is no limit.
    pub(crate) per_address: usize,
    /// TLS handshakes under way at once.
    pub(crate) handshakes: usize,
    /// From the accepted connection to the end of its handshake.
    pub(crate) handshake: Duration,
    /// From the first octet of a request head to its last, and from the end of the handshake to the
    /// end of the first head.
    pub(crate) head: Duration,
    /// A connection without a request.
    pub(crate) idle: Duration,
    /// Time in which a body under way has to bring `body_progress` bytes. Time that the handler takes
    /// before it reads on does not count.
    pub(crate) body: Duration,
    /// Bytes.
    pub(crate) body_progress: u64,
    /// A piece of an answer that the peer does not take.
    pub(crate) stall: Duration,
    /// Bytes of a request target.
    pub(crate) target_bytes: usize,
    /// Bytes of all fields of a head.
    pub(crate) head_bytes: usize,
    /// Fields of a head.
    pub(crate) head_fields: usize,
    /// HTTP/2 streams open at once on one connection.
    pub(crate) streams: u32,
    /// HTTP/2: bytes a client may send on a stream before the handler reads them.
    pub(crate) stream_window: u32,
    /// HTTP/2: the same for a connection.
    pub(crate) connection_window: u32,
    /// HTTP/2: streams that the client reset before they were handled, and streams that we had to
    /// reset, before the connection is ended.
    pub(crate) resets: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 448,
            per_address: 64,
            handshakes: 128,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(15),
            idle: Duration::from_secs(75),
            body: Duration::from_secs(30),
            body_progress: 1024,
            stall: Duration::from_secs(60),
            target_bytes: 8 * 1024,
            head_bytes: 32 * 1024,
            head_fields: 100,
            streams: 64,
            stream_window: 1 << 20,
            connection_window: 2 << 20,
            resets: 20,
        }
    }
}

impl Limits {
    /// How often the watch of a connection looks: often enough that no limit is overdrawn by more
    /// than a quarter.
    pub(crate) fn watch(&self) -> Duration {
        let shortest = self.head.min(self.idle).min(self.stall);
        (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(5))
    }
}
