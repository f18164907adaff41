//! The strict reading of HTTP/1.1 message framing (RFC 9112), in front of hyper.
//!
//! Owns the answer to one question: where does each request on a connection begin and end, said so
//! plainly that no two readers can differ? hyper follows the RFC's permissions (a bare LF ends a
//! line, `Transfer-Encoding` silently wins over `Content-Length`); a proxy in front may follow
//! others, and in the gap between two readings a second request can be smuggled. This gate takes the
//! narrowest grammar and refuses the rest, so that what passes has one meaning. Must never buffer a
//! message, rewrite one, or look at a body.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::activity::Activity;

/// Longest of the two field names that decide the framing.
const NAME: usize = b"transfer-encoding".len();
/// Longest value of those two that can be meant honestly.
const VALUE: usize = 24;
/// Bytes of chunk extensions accepted with one chunk. No known client sends any.
const EXTENSION: u32 = 256;

/// Why a message is refused: the label of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// CR without LF, LF without CR, NUL or another control character.
    Control,
    /// A field line that continues the one before (obs-fold).
    Fold,
    /// A field name that is empty, holds a space or a character outside of the token set.
    Name,
    /// `Content-Length` repeated, signed, listed, not decimal or out of range.
    Length,
    /// `Transfer-Encoding` other than exactly `chunked`, or repeated.
    Coding,
    /// Both `Content-Length` and `Transfer-Encoding`.
    Both,
    /// A chunk whose size, extension or end is malformed.
    Chunk,
}

impl Refusal {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Fold => "fold",
            Self::Name => "name",
            Self::Length => "length",
            Self::Coding => "coding",
            Self::Both => "both",
            Self::Chunk => "chunk",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between messages. An empty line before a request line is tolerated (RFC 9112, 2.2).
    Between,
    BetweenLf,
    RequestLine,
    RequestLineLf,
    /// First octet of a field line, or the CR of the empty line that ends the section.
    FieldStart,
    FieldName,
    FieldValue,
    FieldLf,
    SectionLf,
    /// A body of known length.
    Body(u64),
    ChunkSize {
        digits: u8,
        size: u64,
    },
    ChunkExtension {
        size: u64,
        seen: u32,
    },
    ChunkSizeLf(u64),
    ChunkData(u64),
    ChunkCr,
    ChunkLf,
}

/// The reading so far of one connection's incoming bytes.
#[derive(Debug)]
pub(crate) struct Framing {
    state: State,
    trailers: bool,
    name: [u8; NAME],
    name_length: usize,
    value: [u8; VALUE],
    value_length: usize,
    length: Option<u64>,
    chunked: bool,
}

impl Framing {
    pub(crate) const fn new() -> Self {
        Self {
            state: State::Between,
            trailers: false,
            name: [0; NAME],
            name_length: 0,
            value: [0; VALUE],
            value_length: 0,
            length: None,
            chunked: false,
        }
    }

    /// Whether everything read so far was whole messages.
    pub(crate) const fn between(&self) -> bool {
        matches!(self.state, State::Between)
    }

    /// Whether a head has begun and has not ended.
    pub(crate) const fn in_head(&self) -> bool {
        match self.state {
            State::RequestLine | State::RequestLineLf => true,
            State::FieldStart | State::FieldName | State::FieldValue | State::FieldLf | State::SectionLf => {
                !self.trailers
            }
            _ => false,
        }
    }

    /// Reads on. On a refusal also gives how many of these bytes were still sound: none of the rest
    /// may reach anyone.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Result<(), (usize, Refusal)> {
        let mut at = 0;
        while let Some(&octet) = bytes.get(at) {
            if let State::Body(left) | State::ChunkData(left) = self.state {
                // Lengths over the address space only mean that all of `bytes` is body.
                let here = (bytes.len() - at) as u64;
                let taken = left.min(here);
                let left = left - taken;
                self.state = match (self.state, left) {
                    (State::Body(_), 0) => State::Between,
                    (State::Body(_), left) => State::Body(left),
                    (_, 0) => State::ChunkCr,
                    (_, left) => State::ChunkData(left),
                };
                at += usize::try_from(taken).unwrap_or(bytes.len() - at);
                continue;
            }
            self.state = self.step(octet).map_err(|why| (at, why))?;
            at += 1;
        }
        Ok(())
    }

    fn step(&mut self, octet: u8) -> Result<State, Refusal> {
        Ok(match (self.state, octet) {
            (State::Between, b'\r') => State::BetweenLf,
            (State::BetweenLf, b'\n') => State::Between,
            (State::Between | State::RequestLine, octet) if printable(octet) => {
                if self.state == State::Between {
                    self.length = None;
                    self.chunked = false;
                    self.trailers = false;
                }
                State::RequestLine
            }
            (State::RequestLine, b'\r') => State::RequestLineLf,
            (State::RequestLineLf | State::FieldLf, b'\n') => State::FieldStart,
            (State::FieldStart, b'\r') => State::SectionLf,
            (State::FieldStart, b' ' | b'\t') => return Err(Refusal::Fold),
            (State::FieldStart, octet) if token(octet) => {
                self.name_length = 0;
                self.value_length = 0;
                self.push_name(octet);
                State::FieldName
            }
            (State::FieldName, b':') => State::FieldValue,
            (State::FieldName, octet) if token(octet) => {
                self.push_name(octet);
                State::FieldName
            }
            (State::FieldStart | State::FieldName, octet) if printable(octet) => return Err(Refusal::Name),
            (State::FieldValue, b'\r') => {
                self.field_ends()?;
                State::FieldLf
            }
            (State::FieldValue, octet) if printable(octet) || octet == b'\t' => {
                self.push_value(octet)?;
                State::FieldValue
            }
            (State::SectionLf, b'\n') => self.section_ends(),
            (State::ChunkSize { digits: 1.., size }, b'\r') => State::ChunkSizeLf(size),
            (State::ChunkSize { digits: 1.., size }, b';') => State::ChunkExtension { size, seen: 0 },
            (State::ChunkSize { digits, size }, octet) => {
                let digit = char::from(octet).to_digit(16).ok_or(Refusal::Chunk)?;
                // 15 digits stay well inside of i64, the largest length the rest of Pli can name.
                if digits == 15 {
                    return Err(Refusal::Chunk);
                }
                State::ChunkSize { digits: digits + 1, size: size * 16 + u64::from(digit) }
            }
            (State::ChunkExtension { size, .. }, b'\r') => State::ChunkSizeLf(size),
            (State::ChunkExtension { size, seen }, octet) if printable(octet) && seen < EXTENSION => {
                State::ChunkExtension { size, seen: seen + 1 }
            }
            (State::ChunkExtension { .. }, _) => return Err(Refusal::Chunk),
            (State::ChunkSizeLf(0), b'\n') => {
                self.trailers = true;
                State::FieldStart
            }
            (State::ChunkSizeLf(size), b'\n') => State::ChunkData(size),
            (State::ChunkCr, b'\r') => State::ChunkLf,
            (State::ChunkLf, b'\n') => State::ChunkSize { digits: 0, size: 0 },
            (State::ChunkCr | State::ChunkLf | State::ChunkSizeLf(_), _) => return Err(Refusal::Chunk),
            _ => return Err(Refusal::Control),
        })
    }

    fn push_name(&mut self, octet: u8) {
        if let Some(place) = self.name.get_mut(self.name_length) {
            *place = octet.to_ascii_lowercase();
        }
        // One over the longest name of interest says "another one".
        self.name_length = (self.name_length + 1).min(NAME + 1);
    }

    fn name_is(&self, name: &[u8]) -> bool {
        self.name.get(..self.name_length) == Some(name)
    }

    fn push_value(&mut self, octet: u8) -> Result<(), Refusal> {
        let length = self.name_is(b"content-length");
        if !(length || self.name_is(b"transfer-encoding")) {
            return Ok(());
        }
        if self.value_length == 0 && matches!(octet, b' ' | b'\t') {
            return Ok(());
        }
        let Some(place) = self.value.get_mut(self.value_length) else {
            return Err(if length { Refusal::Length } else { Refusal::Coding });
        };
        *place = octet.to_ascii_lowercase();
        self.value_length += 1;
        Ok(())
    }

    fn field_ends(&mut self) -> Result<(), Refusal> {
        let value = self.value.get(..self.value_length).unwrap_or_default().trim_ascii_end();
        if self.name_is(b"content-length") {
            let length = decimal(value).ok_or(Refusal::Length)?;
            if self.chunked || self.trailers {
                return Err(Refusal::Both);
            }
            if self.length.replace(length).is_some() {
                return Err(Refusal::Length);
            }
        } else if self.name_is(b"transfer-encoding") {
            if value != b"chunked" || self.chunked {
                return Err(Refusal::Coding);
            }
            if self.length.is_some() || self.trailers {
                return Err(Refusal::Both);
            }
            self.chunked = true;
        }
        Ok(())
    }

    fn section_ends(&self) -> State {
        match (self.trailers, self.chunked, self.length) {
            (false, true, _) => State::ChunkSize { digits: 0, size: 0 },
            (false, false, Some(length @ 1..)) => State::Body(length),
            _ => State::Between,
        }
    }
}

/// Up to 18 digits and nothing else: every such number fits in an i64.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 {
        return None;
    }
    value.iter().try_fold(0_u64, |n, octet| octet.is_ascii_digit().then(|| n * 10 + u64::from(octet - b'0')))
}

/// Octets that may stand in a line: no control character. What a method, a target or a value may
/// hold beyond that is hyper's to check.
const fn printable(octet: u8) -> bool {
    octet >= b' ' && octet != 0x7f
}

/// `tchar` of RFC 9110, 5.6.2.
const fn token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(
            octet,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// What a refused connection reads in place of its rest, before the end of the stream. A NUL is an
/// error wherever a head, a chunk size or a trailer may stand; the empty line makes hyper look, as it
/// does not read an unfinished head twice.
const REFUSED: &[u8] = b"\0\r\n\r\n";

/// A connection whose incoming bytes are read by [`Framing`] before hyper sees them.
///
/// At a refusal the rest of the input is replaced by [`REFUSED`], so that hyper itself says 400 in
/// its turn, behind answers still under way, and closes; or ends a body with an error.
pub(crate) struct Gate<S> {
    io: S,
    framing: Framing,
    /// After a refusal: what hyper has not yet read of [`REFUSED`].
    instead: Option<&'static [u8]>,
    activity: Arc<Activity>,
    linger: Linger,
}

/// The end of a connection whose peer may still be sending: closing at once would make the kernel
/// answer with a reset, which can take our last answer out of the peer's hands before it is read.
enum Linger {
    /// The longest that the peer's remaining bytes are read and thrown away.
    Not(Duration),
    Until(Pin<Box<Sleep>>),
}

impl<S> Gate<S> {
    pub(crate) fn new(io: S, activity: Arc<Activity>, linger: Duration) -> Self {
        Self { io, framing: Framing::new(), instead: None, activity, linger: Linger::Not(linger) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if me.instead.is_none() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut me.io).poll_read(cx, buf))?;
            let fresh = buf.filled().get(before..).unwrap_or_default();
            if let Err((sound, why)) = me.framing.scan(fresh) {
                ::metrics::counter!("pli_http_refused_total", "reason" => why.label()).increment(1);
                tracing::debug!(reason = why.label(), "request refused for its framing");
                buf.set_filled(before + sound);
                me.instead = Some(REFUSED);
            }
            me.activity.head(me.framing.in_head());
        }
        if let Some(instead) = &mut me.instead {
            let (now, later) = instead.split_at(instead.len().min(buf.remaining()));
            buf.put_slice(now);
            *instead = later;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if let Linger::Not(longest) = me.linger {
            ready!(Pin::new(&mut me.io).poll_shutdown(cx))?;
            if me.framing.between() && me.instead.is_none() {
                return Poll::Ready(Ok(()));
            }
            me.linger = Linger::Until(Box::pin(sleep(longest)));
        }
        let Linger::Until(end) = &mut me.linger else { return Poll::Ready(Ok(())) };
        let mut dregs = [0; 8192];
        loop {
            if end.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut read = ReadBuf::new(&mut dregs);
            match ready!(Pin::new(&mut me.io).poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However the bytes are cut into reads, the verdict and its place are the same.
    fn verdict(bytes: &[u8]) -> Result<State, (usize, Refusal)> {
        let whole = {
            let mut framing = Framing::new();
            framing.scan(bytes).map(|()| framing.state)
        };
        for cut in 1..8 {
            let mut framing = Framing::new();
            let mut read = 0;
            let pieces = bytes
                .chunks(cut)
                .try_for_each(|piece| {
                    framing.scan(piece).map_err(|(at, why)| (read + at, why))?;
                    read += piece.len();
                    Ok(())
                })
                .map(|()| framing.state);
            assert_eq!(pieces, whole, "in pieces of {cut}");
        }
        whole
    }

    fn refusal(bytes: &[u8]) -> Refusal {
        verdict(bytes).expect_err("must be refused").1
    }

    #[test]
    fn honest_messages_end_where_they_should() {
        for message in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"PATCH /u HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: \t 5 \r\n\r\nhello",
            b"PATCH /u HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            b"PATCH /u HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\nA;x=\"y\"\r\n0123456789\r\n000\r\nDigest: z\r\n\r\n",
            b"GET / HTTP/1.1\r\nX-Obs: \xe9t\xe9\r\nX-Empty:\r\n\r\n",
        ] {
            let mut twice = message.to_vec();
            twice.extend_from_slice(message);
            assert_eq!(verdict(&twice), Ok(State::Between), "{}", message.escape_ascii());
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        let head = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        for (fields, why) in [
            ("Content-Length: 5\r\nTransfer-Encoding: chunked", Refusal::Both),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5", Refusal::Both),
            ("Content-Length: 5\r\nContent-Length: 6", Refusal::Length),
            ("Content-Length: 5\r\nContent-Length: 5", Refusal::Length),
            ("Content-Length: 5, 5", Refusal::Length),
            ("Content-Length: +5", Refusal::Length),
            ("Content-Length: -1", Refusal::Length),
            ("Content-Length: 0x5", Refusal::Length),
            ("Content-Length: 5 5", Refusal::Length),
            ("Content-Length:", Refusal::Length),
            ("Content-Length: 9999999999999999999", Refusal::Length),
            ("Content-Length: 00000000000000000000000000000005", Refusal::Length),
            ("Transfer-Encoding: chunked, identity", Refusal::Coding),
            ("Transfer-Encoding: identity", Refusal::Coding),
            ("Transfer-Encoding: gzip, chunked", Refusal::Coding),
            ("Transfer-Encoding: xchunked", Refusal::Coding),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Refusal::Coding),
            ("Transfer-Encoding: \"chunked\"", Refusal::Coding),
            ("Transfer-Encoding:\x0bchunked", Refusal::Control),
            ("Transfer-Encoding : chunked", Refusal::Name),
            ("X: a\r\n Transfer-Encoding: chunked", Refusal::Fold),
            ("X: a\r\n\tb", Refusal::Fold),
            ("X: a\rTransfer-Encoding: chunked", Refusal::Control),
            ("X: a\nTransfer-Encoding: chunked", Refusal::Control),
            ("X: a\0b", Refusal::Control),
            (": a", Refusal::Name),
            ("X(: a", Refusal::Name),
            ("no colon", Refusal::Name),
        ] {
            assert_eq!(refusal(head(fields).as_bytes()), why, "{}", fields.escape_debug());
        }
        assert_eq!(refusal(b"GET / HTTP/1.1\nHost: a\n\n"), Refusal::Control);
        assert_eq!(refusal(b"\nGET / HTTP/1.1\r\n\r\n"), Refusal::Control);
        assert_eq!(refusal(b"\x16\x03\x01"), Refusal::Control);
    }

    #[test]
    fn chunks_are_read_to_the_letter() {
        let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for body in [
            &b"\r\n"[..],
            b"-1\r\n",
            b"+5\r\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b" 5\r\nhello\r\n",
            b"5 \r\nhello\r\n",
            b"5\nhello\r\n",
            b"5\rhello",
            b"5\r\nhelloX\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhello\r0",
            b"FFFFFFFFFFFFFFFF\r\n",
            b"10000000000000005\r\nhello",
            b"0000000000000005\r\nhello",
            b"5;a\nb\r\nhello",
        ] {
            let mut message = head.to_vec();
            message.extend_from_slice(body);
            assert_eq!(refusal(&message), Refusal::Chunk, "{}", body.escape_ascii());
        }
        let mut long = head.to_vec();
        long.extend_from_slice(b"5;");
        long.extend_from_slice(&[b'x'; EXTENSION as usize + 1]);
        assert_eq!(refusal(&long), Refusal::Chunk);
        let mut trailer = head.to_vec();
        trailer.extend_from_slice(b"0\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(refusal(&trailer), Refusal::Both);
    }

    #[test]
    fn the_head_is_open_from_its_first_octet_to_its_last() {
        let mut framing = Framing::new();
        assert!(!framing.in_head());
        framing.scan(b"\r\n").expect("sound");
        assert!(!framing.in_head());
        framing.scan(b"P").expect("sound");
        assert!(framing.in_head());
        framing.scan(b"ATCH / HTTP/1.1\r\nContent-Length: 3\r\n\r").expect("sound");
        assert!(framing.in_head());
        framing.scan(b"\n").expect("sound");
        assert!(!framing.in_head());
        framing.scan(b"abcG").expect("sound");
        assert!(framing.in_head());
    }
}
