//! A client of clamd, ClamAV's daemon: PING, VERSION and INSTREAM over TCP or a Unix socket (clamd(8)).
//!
//! Owns the line protocol and what its answers mean. Must never take an answer for « nothing found » that is
//! not exactly that, hold more than a piece of what it sends, or wait without a limit.

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// The most bytes of an answer: a line with the name of a signature.
const ANSWER_MAX: u64 = 4096;
/// The most bytes sent behind one length.
const CHUNK: usize = 256 << 10;
/// For a connection to this machine or one beside it.
const CONNECT: Duration = Duration::from_secs(5);

/// Where clamd listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClamdAddress {
    /// `tcp:HOST:PORT`. Content travels in the clear: for this machine, or a network that is protected.
    Tcp(String),
    /// `unix:PATH`.
    Unix(PathBuf),
}

impl FromStr for ClamdAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(PathBuf::from(path))),
            Some(("tcp", host)) => match host.rsplit_once(':') {
                Some((name, port)) if !name.is_empty() && port.parse::<u16>().is_ok() => {
                    Ok(Self::Tcp(host.to_owned()))
                }
                _ => Err("« tcp:MACHINE:PORT »".to_owned()),
            },
            _ => Err("« unix:/CHEMIN » ou « tcp:MACHINE:PORT »".to_owned()),
        }
    }
}

impl fmt::Display for ClamdAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host) => write!(f, "tcp:{host}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why there is no answer. None of it says anything about the content.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClamdError {
    #[error("clamd cannot be reached: {0}")]
    Unreachable(std::io::ErrorKind),
    #[error("clamd ended the connection")]
    Cut,
    #[error("clamd did not {0} in time")]
    Late(&'static str),
    #[error("clamd answered {0:?}")]
    Answer(String),
}

/// What clamd says of a stream it was given whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// `OK`: it found nothing in what it read.
    Nothing,
    /// `… FOUND`: the name of a signature, or of a heuristic.
    Found(String),
    /// Longer than its `StreamMaxLength`.
    StreamTooLong,
}

impl Answer {
    fn parse(line: &str) -> Result<Self, ClamdError> {
        if line.starts_with("INSTREAM size limit exceeded") {
            return Ok(Self::StreamTooLong);
        }
        let said = line.strip_prefix("stream: ").unwrap_or(line);
        match said.strip_suffix(" FOUND") {
            // A name that clamd has lost: some versions say this instead of a limit.
            Some("" | "(null)") => Err(ClamdError::Answer(printable(line))),
            Some(name) => Ok(Self::Found(printable(name))),
            None if line == "stream: OK" => Ok(Self::Nothing),
            None => Err(ClamdError::Answer(printable(line))),
        }
    }
}

/// What a daemon sent, as it may stand in a log and in an answer.
fn printable(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

/// A clamd and the patience with it.
#[derive(Clone, Debug)]
pub(crate) struct Clamd {
    pub(crate) address: ClamdAddress,
    /// How long it may take no byte, or leave a command unanswered.
    pub(crate) stall: Duration,
    /// How long it may scan once it has all.
    pub(crate) scan: Duration,
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

impl Clamd {
    /// Whether it answers.
    pub(crate) async fn ping(&self) -> Result<(), ClamdError> {
        match self.command("zPING\0").await?.as_str() {
            "PONG" => Ok(()),
            other => Err(ClamdError::Answer(printable(other))),
        }
    }

    /// Version of the program and of its signatures, as it says them.
    pub(crate) async fn version(&self) -> Result<String, ClamdError> {
        let version = self.command("zVERSION\0").await?;
        if version.starts_with("ClamAV ") {
            Ok(printable(&version))
        } else {
            Err(ClamdError::Answer(printable(&version)))
        }
    }

    /// Begins a stream.
    pub(crate) async fn stream(&self) -> Result<Scanning, ClamdError> {
        let (from, mut to) = tokio::io::split(self.connect().await?);
        send(&mut to, b"zINSTREAM\0", self.stall).await?;
        Ok(Scanning { to, answer: Box::pin(answer(from)), early: None, stall: self.stall, scan: self.scan })
    }

    async fn connect(&self) -> Result<Box<dyn Wire>, ClamdError> {
        let connected = async {
            Ok::<Box<dyn Wire>, std::io::Error>(match &self.address {
                ClamdAddress::Tcp(host) => Box::new(TcpStream::connect(host).await?),
                ClamdAddress::Unix(path) => Box::new(UnixStream::connect(path).await?),
            })
        };
        let connected = timeout(CONNECT, connected).await.map_err(|_| ClamdError::Late("connect"))?;
        connected.map_err(|e| ClamdError::Unreachable(e.kind()))
    }

    async fn command(&self, command: &str) -> Result<String, ClamdError> {
        let (from, mut to) = tokio::io::split(self.connect().await?);
        send(&mut to, command.as_bytes(), self.stall).await?;
        timeout(self.stall, answer(from)).await.map_err(|_| ClamdError::Late("answer"))?
    }
}

async fn send(to: &mut WriteHalf<Box<dyn Wire>>, bytes: &[u8], stall: Duration) -> Result<(), ClamdError> {
    let sent = timeout(stall, to.write_all(bytes)).await.map_err(|_| ClamdError::Late("take bytes"))?;
    sent.map_err(|_| ClamdError::Cut)
}

/// One answer, up to its NUL. What ends without one is none.
async fn answer(from: ReadHalf<Box<dyn Wire>>) -> Result<String, ClamdError> {
    let (mut from, mut line) = (from.take(ANSWER_MAX), Vec::new());
    loop {
        match from.read_buf(&mut line).await {
            Ok(0) | Err(_) => return Err(ClamdError::Cut),
            Ok(_) => {
                if let Some(end) = line.iter().position(|byte| *byte == 0) {
                    line.truncate(end);
                    return Ok(String::from_utf8_lossy(&line).into_owned());
                }
            }
        }
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<String, ClamdError>> + Send>>;

/// A stream that clamd is being given. Dropped before its end, clamd forgets it.
pub(crate) struct Scanning {
    to: WriteHalf<Box<dyn Wire>>,
    answer: Answering,
    early: Option<Result<String, ClamdError>>,
    stall: Duration,
    scan: Duration,
}

impl Scanning {
    /// Sends more of the content. False once clamd has answered before the end: it takes no more.
    pub(crate) async fn give(&mut self, bytes: &[u8]) -> Result<bool, ClamdError> {
        for chunk in bytes.chunks(CHUNK) {
            let length = u32::try_from(chunk.len()).unwrap_or(u32::MAX).to_be_bytes();
            if !(self.put(&length).await? && self.put(chunk).await?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The content has ended; what clamd says of it.
    pub(crate) async fn end(mut self) -> Result<Answer, ClamdError> {
        self.put(&[0; 4]).await?;
        if let Some(line) = self.early {
            let line = line?;
            return match Answer::parse(&line)? {
                // Before it had all of it.
                Answer::Nothing => Err(ClamdError::Answer(line)),
                other => Ok(other),
            };
        }
        let line = timeout(self.scan, &mut self.answer).await;
        Answer::parse(&line.map_err(|_| ClamdError::Late("finish a scan"))??)
    }

    async fn put(&mut self, bytes: &[u8]) -> Result<bool, ClamdError> {
        if self.early.is_some() {
            return Ok(false);
        }
        let sent = tokio::select! {
            biased;
            line = &mut self.answer => {
                self.early = Some(line);
                return Ok(false);
            }
            sent = send(&mut self.to, bytes, self.stall) => sent,
        };
        if let Err(ClamdError::Cut) = sent {
            // It says why before it closes, if it says anything.
            let line = timeout(self.stall, &mut self.answer).await.map_err(|_| ClamdError::Cut)?;
            self.early = Some(line);
            return Ok(false);
        }
        sent.map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ok_is_ok() {
        assert_eq!(Answer::parse("stream: OK").unwrap(), Answer::Nothing);
        for line in
            ["OK", "stream: OK ", "stream: ok", "", "stream: ", "PONG", "stream: (null) FOUND", " FOUND"]
        {
            assert!(Answer::parse(line).is_err(), "{line:?}");
        }
        assert!(Answer::parse("stream: Can't allocate memory ERROR").is_err());
        assert!(Answer::parse("COMMAND READ TIMED OUT").is_err());
        assert_eq!(Answer::parse("INSTREAM size limit exceeded. ERROR").unwrap(), Answer::StreamTooLong);
    }

    #[test]
    fn a_name_is_kept_in_bounds() {
        let found = |line: &str| match Answer::parse(line) {
            Ok(Answer::Found(name)) => name,
            other => format!("{other:?}"),
        };
        assert_eq!(found("stream: Win.Test.EICAR_HDB-1 FOUND"), "Win.Test.EICAR_HDB-1");
        assert_eq!(found("stream: a\u{202e}\nb FOUND"), "a??b");
        assert_eq!(found(&format!("stream: {} FOUND", "x".repeat(1000))).len(), 200);
        assert_eq!(found("stream: OK FOUND"), "OK");
    }

    #[test]
    fn addresses() {
        let parsed = |text: &str| text.parse::<ClamdAddress>();
        assert_eq!(parsed("unix:/run/clamav/clamd.ctl").unwrap().to_string(), "unix:/run/clamav/clamd.ctl");
        assert_eq!(parsed("tcp:[::1]:3310").unwrap(), ClamdAddress::Tcp("[::1]:3310".to_owned()));
        for bad in [
            "",
            "unix:",
            "unix:clamd.ctl",
            "tcp:",
            "tcp:host",
            "tcp::3310",
            "tcp:host:99999",
            "localhost:3310",
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }
}
