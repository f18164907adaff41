//! `pli receive`: the documents of a deposit into a folder.
//!
//! A document is written beside its place as `NAME.part`, and gets its name only when its SHA-256 is
//! the announced one and its bytes are on the disk. A partial file is always a prefix: a later run
//! hashes what is there and asks for the rest. Nothing that is already there is replaced unless asked.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use pli_api::{Deposit, DepositId, DepositState, Document, DocumentId, DocumentState};
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::api::{Api, CallError};
use super::names;
use super::patience::Patience;
use super::progress::{Piece, Progress};
use super::settings::{ConnectionArgs, Settings};
use super::{Failure, Run, conclude, format, print, texts, to_json};

/// Without a byte for this long, a download is cut and asked for again.
const STALL: Duration = Duration::from_secs(60);
/// Pieces between the network and the disk.
const AHEAD: usize = 16;
const READ: usize = 1 << 20;

/// Arguments of `pli receive`.
#[derive(Debug, Args)]
#[command(about = texts::RECEIVE_ABOUT, after_help = texts::EXIT_CODES)]
pub(crate) struct ReceiveArgs {
    #[arg(value_name = "IDENTIFIANT", help = texts::RECEIVE_ID)]
    id: DepositId,
    #[arg(long, value_name = "DOSSIER", help = texts::RECEIVE_INTO)]
    into: Option<PathBuf>,
    #[arg(long, help = texts::RECEIVE_FORCE)]
    force: bool,
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64), help = texts::STREAMS)]
    streams: u16,
    #[arg(long, value_name = "DURÉE", default_value = "15min", value_parser = format::parse_duration, help = texts::GIVE_UP)]
    give_up: Duration,
    #[arg(long, help = texts::JSON)]
    json: bool,
    #[arg(long, short, help = texts::QUIET)]
    quiet: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `pli receive`; the exit codes are those of the module above.
pub(crate) async fn receive(args: ReceiveArgs) -> ExitCode {
    let stop = CancellationToken::new();
    conclude(stop.clone(), true, run(args, stop)).await
}

async fn run(args: ReceiveArgs, stop: CancellationToken) -> Result<(), Failure> {
    let settings = Settings::load(&args.connection).map_err(Failure::Usage)?;
    let streams = usize::from(args.streams);
    let api = Api::new(&settings, streams).map_err(Failure::Usage)?;
    let run = Arc::new(Run { api, progress: Progress::new(args.quiet), stop, give_up: args.give_up });
    let deposit = run.insist(|| run.api.deposit(args.id)).await?;
    let into = args.into.clone().unwrap_or_else(|| PathBuf::from(args.id.to_string()));
    let (items, unready) = items(&run, &deposit, &into)?;
    let total = items.iter().map(|i| i.size).sum();
    run.progress.say(&texts::receiving(items.len(), total, &deposit.sender.address));
    make_folder(&into).map_err(|e| Failure::LocalFile(texts::unreadable(&into, &e)))?;

    let display = run.progress.display();
    run.progress.start(texts::RECEIVING, total, items.len());
    let fetching =
        Arc::new(Fetching { run: run.clone(), force: args.force, items: Mutex::new(items.into()) });
    let mut work = JoinSet::new();
    for stream in 0..streams {
        let fetching = fetching.clone();
        work.spawn(async move { fetching.stream(stream).await });
    }
    let mut outcomes = Vec::new();
    let mut crashed = None;
    while let Some(done) = work.join_next().await {
        match done {
            Ok(done) => outcomes.extend(done),
            Err(e) => crashed = Some(Failure::from(e)),
        }
    }
    drop(display);
    if let Some(crash) = crashed {
        return Err(crash);
    }
    conclude_all(&args, &run, &deposit, &into, outcomes, unready)
}

/// What is to be fetched: a document and its place.
struct Item {
    id: DocumentId,
    name: String,
    size: u64,
    sha256: String,
    path: PathBuf,
    relative: PathBuf,
}

/// The documents with their places, and a failure for those that cannot be fetched.
fn items(run: &Run, deposit: &Deposit, into: &Path) -> Result<(Vec<Item>, Vec<Failure>), Failure> {
    match deposit.state {
        DepositState::Expired => return Err(Failure::Refused(texts::EXPIRED.into())),
        DepositState::Draft | DepositState::Sent => {
            return Err(Failure::Unreachable(texts::NOT_AVAILABLE.into()));
        }
        DepositState::Available => {}
    }
    let mut documents: Vec<&Document> = deposit.documents.iter().flatten().collect();
    if documents.is_empty() {
        return Err(Failure::Refused(texts::NO_DOCUMENT.into()));
    }
    // In the order they were made, so that a later run gives the same places.
    documents.sort_by_key(|d| d.id);
    let places = names::paths(documents.iter().map(|d| d.name.as_str()));
    let mut items = Vec::new();
    let mut unready = Vec::new();
    for (document, relative) in documents.into_iter().zip(places) {
        match (document.state, document.size, &document.sha256) {
            (DocumentState::Available, Some(size), Some(sha256)) => {
                if Path::new(&document.name) != relative {
                    run.progress.warn(&texts::renamed(&document.name, &relative.to_string_lossy()));
                }
                items.push(Item {
                    id: document.id,
                    name: document.name.clone(),
                    size,
                    sha256: sha256.to_ascii_lowercase(),
                    path: into.join(&relative),
                    relative,
                });
            }
            (DocumentState::Available, ..) => {
                unready.push(Failure::Refused(texts::no_digest(&document.name)))
            }
            (DocumentState::Damaged, ..) => unready.push(Failure::Digest(texts::damaged(&document.name))),
            (DocumentState::Erased, ..) => unready.push(Failure::Refused(texts::EXPIRED.into())),
            _ => unready.push(Failure::Unreachable(texts::not_ready(&document.name))),
        }
    }
    Ok((items, unready))
}

struct Fetching {
    run: Arc<Run>,
    force: bool,
    items: Mutex<VecDeque<Item>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Fetched {
    Downloaded,
    Present,
}

impl Fetching {
    /// One document after the other; what fails for one of them does not stop the others.
    async fn stream(&self, stream: usize) -> Vec<(Item, Result<Fetched, Failure>)> {
        let client = self.run.api.stream(stream);
        let mut outcomes = Vec::new();
        loop {
            let next = self.items.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(item) = next else { return outcomes };
            let outcome = self.fetch(client, &item).await;
            // A full disk or a lost server will not be better for the next document.
            let hopeless = matches!(outcome, Err(Failure::Interrupted | Failure::Unreachable(_)));
            if outcome.is_ok() {
                self.run.progress.file_done();
            }
            outcomes.push((item, outcome));
            if hopeless {
                self.run.stop.cancel();
                return outcomes;
            }
        }
    }

    async fn fetch(&self, client: &Client, item: &Item) -> Result<Fetched, Failure> {
        let counter = Arc::new(self.run.progress.piece());
        if self.already_there(item).await? {
            counter.stands_at(item.size);
            return Ok(Fetched::Present);
        }
        let part = part_of(&item.path);
        let mut patience = Patience::new(self.run.give_up);
        let (mut sink, mut inherited) = self.open(item, &part).await?;
        if item.size == 0 {
            // Nothing to write; asked for all the same, so that the journal says it was handed over.
            self.run.insist(|| self.run.api.content(client, item.id, None)).await?;
        }
        loop {
            counter.stands_at(sink.at);
            while sink.at < item.size {
                sink = self.attempt(client, item, &part, sink, &counter, &mut patience).await?;
            }
            let ours = hex::encode(sink.hash.clone().finalize());
            if ours == item.sha256 {
                break;
            }
            if !inherited {
                let gone = blocking(move || sink.discard(&part)).await?;
                gone.map_err(|e| Failure::LocalFile(texts::unreadable(&item.path, &e)))?;
                return Err(Failure::Digest(texts::received_differs(&item.name, &ours, &item.sha256)));
            }
            // What an earlier run left was the start of something else; only this run's bytes count now.
            self.run.progress.say(&texts::restarting(&item.name));
            inherited = false;
            sink = self.on_disk(item, move || sink.restart()).await?;
        }
        let (path, force) = (item.path.clone(), self.force);
        let placed = blocking(move || sink.place(&part, &path, force)).await?;
        placed.map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => Failure::LocalFile(texts::present_differs(&item.path)),
            _ => Failure::LocalFile(texts::unreadable(&item.path, &e)),
        })?;
        Ok(Fetched::Downloaded)
    }

    /// Whether the place holds the document already.
    ///
    /// # Errors
    /// When it holds something else that may not be replaced.
    async fn already_there(&self, item: &Item) -> Result<bool, Failure> {
        let unreadable = |e: io::Error| Failure::LocalFile(texts::unreadable(&item.path, &e));
        let metadata = match std::fs::symlink_metadata(&item.path) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(unreadable(e)),
        };
        if !metadata.is_file() {
            return Err(Failure::LocalFile(texts::not_a_file(&item.path)));
        }
        if metadata.len() == item.size {
            let (path, stop) = (item.path.clone(), self.run.stop.clone());
            let hashed = blocking(move || {
                let mut file = File::open(path)?;
                let mut hash = Sha256::new();
                hash_rest(&mut file, &mut hash, u64::MAX, &stop)?;
                Ok(hex::encode(hash.finalize()))
            });
            let ours = hashed.await?.map_err(unreadable)?;
            if ours == item.sha256 {
                return Ok(true);
            }
        }
        if self.run.stop.is_cancelled() {
            return Err(Failure::Interrupted);
        }
        if self.force { Ok(false) } else { Err(Failure::LocalFile(texts::present_differs(&item.path))) }
    }

    /// The partial file, locked, with the hash of what it holds; and whether it held something.
    async fn open(&self, item: &Item, part: &Path) -> Result<(Sink, bool), Failure> {
        let (path, size, stop) = (part.to_owned(), item.size, self.run.stop.clone());
        let opened = blocking(move || Sink::open(&path, size, &stop)).await?;
        if self.run.stop.is_cancelled() {
            return Err(Failure::Interrupted);
        }
        match opened {
            Ok(sink) => {
                let inherited = sink.at > 0;
                Ok((sink, inherited))
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(Failure::LocalFile(texts::locked(part))),
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                Err(Failure::LocalFile(texts::not_a_file(part)))
            }
            Err(e) => Err(Failure::LocalFile(texts::unreadable(part, &e))),
        }
    }

    /// One request for the rest; gives the file back with what came.
    async fn attempt(
        &self,
        client: &Client,
        item: &Item,
        part: &Path,
        mut sink: Sink,
        counter: &Arc<Piece>,
        patience: &mut Patience,
    ) -> Result<Sink, Failure> {
        let before = sink.at;
        let asked = async {
            let resume = match (&sink.tag, sink.at) {
                (_, 0) => None,
                (Some(tag), at) => Some((at, tag.clone())),
                (None, at) => self.run.api.tag(item.id).await?.map(|tag| (at, tag)),
            };
            self.run.api.content(client, item.id, resume).await
        };
        let response = match self.run.unless_stopped(asked).await? {
            Ok(response) => response,
            Err(error) => {
                self.run.bear(patience, error).await?;
                return Ok(sink);
            }
        };
        let start = match first_byte(&response, item.size) {
            Ok(start) => start,
            Err(error) => return Err(error.into()),
        };
        sink.tag = strong_tag(&response);
        if start != sink.at {
            // The whole content came instead of the rest.
            if start != 0 {
                return Err(CallError::Unexpected("Content-Range").into());
            }
            sink = self.on_disk(item, move || sink.restart()).await?;
            counter.stands_at(0);
        }
        let (sink, trouble) = self.pour(item, part, response, sink, counter).await?;
        if sink.at > before {
            patience.progressed();
        }
        if let Some(error) = trouble {
            self.run.bear(patience, error).await?;
        }
        Ok(sink)
    }

    /// From the network to the disk until the end or a cut.
    async fn pour(
        &self,
        item: &Item,
        part: &Path,
        mut response: Response,
        sink: Sink,
        counter: &Arc<Piece>,
    ) -> Result<(Sink, Option<CallError>), Failure> {
        let (sender, receiver) = mpsc::channel::<Bytes>(AHEAD);
        let mut left = item.size - sink.at;
        let writer = tokio::task::spawn_blocking(move || sink.write(receiver));
        let trouble = loop {
            if left == 0 {
                break None;
            }
            let next = tokio::select! {
                next = tokio::time::timeout(STALL, response.chunk()) => next,
                () = self.run.stop.cancelled() => break None,
            };
            match next {
                Err(_) => break Some(CallError::Stalled),
                Ok(Err(error)) => break Some(error.into()),
                Ok(Ok(None)) => break Some(CallError::Stalled),
                Ok(Ok(Some(piece))) if piece.len() as u64 > left => {
                    break Some(CallError::Unexpected("trop de contenu"));
                }
                Ok(Ok(Some(piece))) => {
                    let bytes = piece.len() as u64;
                    if sender.send(piece).await.is_err() {
                        // The disk refused: the writer says why.
                        break None;
                    }
                    left -= bytes;
                    counter.moved(bytes);
                }
            }
        };
        drop(sender);
        let sink = writer.await?.map_err(|e| Failure::LocalFile(texts::unreadable(part, &e)))?;
        if self.run.stop.is_cancelled() {
            return Err(Failure::Interrupted);
        }
        Ok((sink, trouble))
    }

    async fn on_disk(
        &self,
        item: &Item,
        work: impl FnOnce() -> io::Result<Sink> + Send + 'static,
    ) -> Result<Sink, Failure> {
        blocking(work).await?.map_err(|e| Failure::LocalFile(texts::unreadable(&item.path, &e)))
    }
}

/// A partial file being written: always a prefix of the content, hashed as far as it goes.
struct Sink {
    file: File,
    hash: Sha256,
    at: u64,
    tag: Option<HeaderValue>,
}

impl Sink {
    /// Opens or makes the partial file, alone, and hashes what is there.
    fn open(path: &Path, size: u64, stop: &CancellationToken) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            make_folder(parent)?;
        }
        // Never through a link that somebody else may have put there.
        if std::fs::symlink_metadata(path).is_ok_and(|m| !m.is_file()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let mut file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            // Some network disks have no locks.
            Err(std::fs::TryLockError::Error(_)) => {}
        }
        if file.metadata()?.len() > size {
            file.set_len(0)?;
        }
        let mut hash = Sha256::new();
        let at = hash_rest(&mut file, &mut hash, size, stop)?;
        file.seek(SeekFrom::Start(at))?;
        Ok(Self { file, hash, at, tag: None })
    }

    fn write(mut self, mut pieces: mpsc::Receiver<Bytes>) -> io::Result<Self> {
        while let Some(piece) = pieces.blocking_recv() {
            self.file.write_all(&piece)?;
            self.hash.update(&piece);
            self.at += piece.len() as u64;
        }
        Ok(self)
    }

    fn restart(mut self) -> io::Result<Self> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.hash = Sha256::new();
        self.at = 0;
        Ok(self)
    }

    fn discard(self, part: &Path) -> io::Result<()> {
        drop(self);
        std::fs::remove_file(part)
    }

    /// Gives the file its name, once its bytes are on the disk.
    fn place(self, part: &Path, path: &Path, force: bool) -> io::Result<()> {
        self.file.sync_all()?;
        if !force && std::fs::symlink_metadata(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        std::fs::rename(part, path)?;
        sync_folder(path.parent().unwrap_or(Path::new(".")))
    }
}

/// Hashes from where the file stands to its end, at most `limit` bytes; gives how many. Stops early
/// when asked to: the caller looks at the token.
fn hash_rest(file: &mut File, hash: &mut Sha256, limit: u64, stop: &CancellationToken) -> io::Result<u64> {
    let mut buffer = vec![0; READ];
    let mut at = 0;
    let mut file = file.take(limit);
    while !stop.is_cancelled() {
        let got = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => got,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        hash.update(buffer.get(..got).unwrap_or_default());
        at += got as u64;
    }
    Ok(at)
}

/// Folders of received documents are the recipient's own.
fn make_folder(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path)
}

/// The name is durable only when its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        match File::open(path)?.sync_all() {
            // Some network disks cannot, and say so.
            Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {}
            other => other?,
        }
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

fn part_of(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(names::PART);
    part.into()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<io::Result<T>, Failure> {
    Ok(tokio::task::spawn_blocking(work).await?)
}

fn strong_tag(response: &Response) -> Option<HeaderValue> {
    response.headers().get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")).cloned()
}

/// Where the content of an answer starts; the whole length must be the announced one.
fn first_byte(response: &Response, size: u64) -> Result<u64, CallError> {
    let unexpected = CallError::Unexpected("Content-Range");
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return match response.content_length() {
            Some(length) if length != size => Err(CallError::Unexpected("Content-Length")),
            _ => Ok(0),
        };
    }
    let range = response.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok());
    parse_range(range.unwrap_or_default(), size).ok_or(unexpected)
}

/// `bytes 10-99/100` that goes to the end: 10.
fn parse_range(value: &str, size: u64) -> Option<u64> {
    let (range, whole) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (whole.parse() == Ok(size) && last.checked_add(1) == Some(size) && first <= last).then_some(first)
}

/// What scripts read.
#[derive(Serialize)]
struct Report<'a> {
    deposit: DepositId,
    folder: &'a Path,
    complete: bool,
    documents: Vec<Line<'a>>,
    errors: Vec<&'a str>,
}

#[derive(Serialize)]
struct Line<'a> {
    id: DocumentId,
    name: &'a str,
    path: &'a Path,
    size: u64,
    sha256: &'a str,
    outcome: Fetched,
}

/// Reports what is there, and ends with the gravest failure.
fn conclude_all(
    args: &ReceiveArgs,
    run: &Run,
    deposit: &Deposit,
    into: &Path,
    outcomes: Vec<(Item, Result<Fetched, Failure>)>,
    unready: Vec<Failure>,
) -> Result<(), Failure> {
    let mut done: Vec<(Item, Fetched)> = Vec::new();
    let mut failures = unready;
    for (item, outcome) in outcomes {
        match outcome {
            Ok(fetched) => done.push((item, fetched)),
            Err(failure) => failures.push(failure),
        }
    }
    done.sort_by(|(a, _), (b, _)| a.relative.cmp(&b.relative));
    // Interruptions are consequences when anything else failed; a wrong digest matters most.
    failures.sort_by_key(|f| match f {
        Failure::Digest(_) => 0,
        Failure::Interrupted => 2,
        _ => 1,
    });
    if args.json {
        let lines = done.iter().map(|(item, outcome)| Line {
            id: item.id,
            name: &item.name,
            path: &item.relative,
            size: item.size,
            sha256: &item.sha256,
            outcome: *outcome,
        });
        print(&to_json(&Report {
            deposit: deposit.id,
            folder: into,
            complete: failures.is_empty(),
            documents: lines.collect(),
            errors: failures.iter().map(Failure::text).collect(),
        })?)?;
    } else {
        let mut text: Vec<String> = done
            .iter()
            .map(|(item, _)| format::digest_line(&item.sha256, &item.relative.to_string_lossy()))
            .collect();
        text.push(into.display().to_string());
        print(&text.join("\n"))?;
    }
    let present = done.iter().filter(|(_, fetched)| *fetched == Fetched::Present).count();
    if !done.is_empty() {
        run.progress.say(&texts::received(done.len() - present, present));
    }
    let mut failures = failures.into_iter();
    let Some(first) = failures.next() else { return Ok(()) };
    failures.filter(|f| *f != Failure::Interrupted).for_each(|f| run.progress.warn(f.text()));
    Err(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_must_go_to_the_end_of_the_same_content() {
        assert_eq!(parse_range("bytes 10-99/100", 100), Some(10));
        assert_eq!(parse_range("bytes 0-99/100", 100), Some(0));
        for bad in [
            "",
            "bytes 10-98/100",
            "bytes 10-99/101",
            "bytes 10-99/*",
            "bytes */100",
            "10-99/100",
            "bytes 99-10/100",
        ] {
            assert_eq!(parse_range(bad, 100), None, "{bad}");
        }
    }

    #[test]
    fn a_partial_file_goes_on_where_it_was_and_is_named_at_the_end() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/c.pdf");
        let part = part_of(&path);
        let stop = CancellationToken::new();
        let write = |sink: Sink, content: &'static [u8]| {
            let (sender, receiver) = mpsc::channel(4);
            sender.try_send(Bytes::from_static(content)).unwrap();
            drop(sender);
            sink.write(receiver).unwrap()
        };
        let sink = write(Sink::open(&part, 11, &stop).unwrap(), b"hello ");
        assert!(Sink::open(&part, 11, &stop).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock));
        drop(sink);
        let sink = Sink::open(&part, 11, &stop).unwrap();
        assert_eq!(sink.at, 6);
        let sink = write(sink, b"world");
        assert_eq!(sink.hash.clone().finalize(), Sha256::digest(b"hello world"));
        std::fs::write(&path, "other").unwrap();
        let error = sink.place(&part, &path, false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"other");
        Sink::open(&part, 11, &stop).unwrap().place(&part, &path, true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"hello world");
        assert!(!part.exists());
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
            assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_partial_file_longer_than_the_document_starts_again() {
        let root = tempfile::tempdir().unwrap();
        let part = root.path().join("a.part");
        std::fs::write(&part, "0123456789").unwrap();
        assert_eq!(Sink::open(&part, 9, &CancellationToken::new()).unwrap().at, 0);
        assert_eq!(std::fs::metadata(&part).unwrap().len(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_place_of_the_partial_file_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let (target, part) = (root.path().join("target"), root.path().join("a.part"));
        std::fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &part).unwrap();
        assert!(Sink::open(&part, 9, &CancellationToken::new()).is_err());
        assert_eq!(std::fs::read(&target).unwrap(), b"precious");
    }
}
