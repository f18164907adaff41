//! The command-line client: `pli send`, `pli receive`, `pli list`.
//!
//! Owns what runs on the machine of a sender or of a recipient; knows a server by its HTTP API only
//! and must never touch the hub, the database or the store. Every sentence it says is in `texts.rs`.
//!
//! Exit codes, for scripts (the same table ends the help of each command):
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | internal error, or standard output closed |
//! | 2 | arguments or settings wrong |
//! | 3 | refused by the server (4xx): token, rights, unknown recipient |
//! | 4 | server out of reach after retries, or content not available yet: try again later |
//! | 5 | a SHA-256 differs, or the server says that a document is damaged |
//! | 6 | a local file is unreadable, changed while it was sent, is already there, or the disk is full |
//! | 7 | over a size limit or a quota |
//! | 130 | interrupted; the same command run again resumes |

mod api;
mod digest;
mod fetch;
mod files;
mod format;
mod list;
mod names;
mod partial;
mod patience;
mod plan;
mod progress;
mod receive;
mod send;
mod settings;
mod texts;
mod upload;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub(crate) use list::{ListArgs, list};
pub(crate) use receive::{ReceiveArgs, receive};
pub(crate) use send::{SendArgs, send};

use api::CallError;
use patience::Patience;
use pli_api::ProblemCode;
use progress::Progress;

/// Why a command ends without having done its work: which exit code, and the sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Failure {
    Internal(String),
    Usage(String),
    Refused(String),
    Unreachable(String),
    Digest(String),
    LocalFile(String),
    /// A file changed while it was sent: what the draft holds will never be asked for again.
    Changed(String),
    Limit(String),
    Interrupted,
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Internal(_) => 1,
            Self::Usage(_) => 2,
            Self::Refused(_) => 3,
            Self::Unreachable(_) => 4,
            Self::Digest(_) => 5,
            Self::LocalFile(_) | Self::Changed(_) => 6,
            Self::Limit(_) => 7,
            Self::Interrupted => 130,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Internal(text)
            | Self::Usage(text)
            | Self::Refused(text)
            | Self::Unreachable(text)
            | Self::Digest(text)
            | Self::LocalFile(text)
            | Self::Changed(text)
            | Self::Limit(text) => text,
            Self::Interrupted => texts::INTERRUPTED,
        }
    }

    /// Whether running the same command again is the thing to do.
    fn resumes(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Interrupted)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let text = error.to_string();
        match &error {
            CallError::Network(_) | CallError::Stalled | CallError::Untrusted(_) => Self::Unreachable(text),
            _ if error.is(ProblemCode::Damaged) => Self::Digest(text),
            _ if error.status() == Some(413) => Self::Limit(text),
            CallError::Unavailable { .. } => Self::Unreachable(text),
            CallError::Refused(_) | CallError::Unexpected(_) => Self::Refused(text),
        }
    }
}

impl From<tokio::task::JoinError> for Failure {
    fn from(_: tokio::task::JoinError) -> Self {
        Self::Internal(texts::CRASHED.into())
    }
}

/// What the parts of one command share.
struct Run {
    api: api::Api,
    progress: Progress,
    /// Set by Ctrl-C, or by the first failure: every wait ends.
    stop: CancellationToken,
    give_up: Duration,
}

impl Run {
    /// Calls until it succeeds, is refused, or nothing has moved for the time to give up.
    async fn insist<T, C, F>(&self, call: C) -> Result<T, Failure>
    where
        C: Fn() -> F,
        F: Future<Output = Result<T, CallError>>,
    {
        let mut patience = Patience::new(self.give_up);
        loop {
            match self.unless_stopped(call()).await? {
                Ok(value) => return Ok(value),
                Err(error) => self.bear(&mut patience, error).await?,
            }
        }
    }

    /// Waits before a next attempt, or fails when there is to be none.
    async fn bear(&self, patience: &mut Patience, error: CallError) -> Result<(), Failure> {
        if !error.may_pass() {
            return Err(error.into());
        }
        match patience.pause(error.retry_after()) {
            Some(pause) => {
                self.progress.trouble(&error.to_string(), pause);
                self.unless_stopped(tokio::time::sleep(pause)).await
            }
            None => match Failure::from(error) {
                Failure::Unreachable(why) => Err(Failure::Unreachable(texts::gave_up(&why, self.give_up))),
                other => Err(other),
            },
        }
    }

    async fn unless_stopped<F: Future>(&self, work: F) -> Result<F::Output, Failure> {
        self.stop.run_until_cancelled(work).await.ok_or(Failure::Interrupted)
    }
}

/// Runs a command's work, stops it cleanly at Ctrl-C or SIGTERM, says what went wrong and how to resume.
async fn conclude<F>(stop: CancellationToken, resumable: bool, work: F) -> ExitCode
where
    F: Future<Output = Result<(), Failure>>,
{
    let listener = tokio::spawn(async move {
        asked_to_stop().await;
        stop.cancel();
        // Asked twice, it does not wait for what it was doing: nothing on the server depends on it.
        asked_to_stop().await;
        std::process::exit(Failure::Interrupted.exit_code().into());
    });
    let outcome = work.await;
    listener.abort();
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    let mut stderr = std::io::stderr().lock();
    // Nothing can be done about a closed standard error.
    let _ = match &failure {
        Failure::Interrupted if resumable => writeln!(stderr, "{}", texts::interrupted(&command_line())),
        _ => writeln!(stderr, "pli : {}", failure.text()),
    };
    if resumable && failure.resumes() && failure != Failure::Interrupted {
        let _ = writeln!(stderr, "{}", texts::resume_hint(&command_line()));
    }
    ExitCode::from(failure.exit_code())
}

async fn asked_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// The command as it was typed; never holds the token, which no option takes.
fn command_line() -> String {
    // `--restart` again would throw away what this run sent.
    let words = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).filter(|a| a != "--restart");
    let mut words: Vec<String> = words.map(|a| format::shell(&a)).collect();
    if let Some(program) = words.first_mut() {
        *program = "pli".into();
    }
    words.join(" ")
}

/// Writes the result of a command on standard output.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .map_err(|e| Failure::Internal(texts::unreadable(std::path::Path::new("stdout"), &e)))
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|_| Failure::Internal(texts::CRASHED.into()))
}
