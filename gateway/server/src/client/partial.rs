//! A document that is not whole yet, on the recipient's disk.
//!
//! `NAME.part` holds the content at its place. A document fetched by one stream needs nothing more:
//! what is there is a prefix. One that is fetched in several stripes at once has gaps, and
//! `NAME.part.state` says how far each stripe is; it is written after the bytes that it vouches for
//! are on the disk, so that even a power cut costs no more than the last stretch. Whatever these
//! files say, a document gets its name only when its SHA-256 is the announced one.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::digest::RunningDigest;
use super::names::{NEW, PART, STATE};
use super::plan::split;

/// A stripe's progress is made durable every so many bytes.
const STRETCH: u64 = 128 << 20;
const READ: usize = 1 << 20;

/// Content that one stream fetches.
pub(super) struct Stripe {
    pub(super) start: u64,
    pub(super) length: u64,
    /// Bytes from `start` that are written.
    reached: AtomicU64,
    /// What the state file says of it.
    saved: AtomicU64,
}

/// `NAME.part.state`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    sha256: String,
    size: u64,
    reached: Vec<u64>,
}

/// The partial file, locked for this process.
pub(super) struct Partial {
    path: PathBuf,
    state: PathBuf,
    file: File,
    size: u64,
    sha256: String,
    stripes: Vec<Stripe>,
    digest: Mutex<RunningDigest>,
    /// One writer of the state file at a time.
    saving: Mutex<()>,
    /// Whether an earlier run left something in it.
    inherited: AtomicBool,
}

/// Why a partial file cannot be used.
#[derive(Debug)]
pub(super) enum OpenError {
    /// Another process writes it.
    Locked,
    /// Its place is taken by something that is not an ordinary file.
    NotAFile,
    Io(io::Error),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Partial {
    /// Opens or makes the partial file of the document that will be at `place`.
    pub(super) fn open(place: &Path, size: u64, sha256: &str, streams: usize) -> Result<Self, OpenError> {
        let (path, state) = (with_suffix(place, PART), with_suffix(place, STATE));
        if let Some(parent) = path.parent() {
            make_folder(parent)?;
        }
        // Never through a link that somebody else may have put there.
        for path in [&path, &state] {
            if std::fs::symlink_metadata(path).is_ok_and(|m| !m.is_file()) {
                return Err(OpenError::NotAFile);
            }
        }
        let file =
            private(OpenOptions::new().read(true).write(true).create(true).truncate(false)).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(OpenError::Locked),
            // Some network disks have no locks.
            Err(std::fs::TryLockError::Error(_)) => {}
        }
        let mut partial = Self {
            path,
            state,
            file,
            size,
            sha256: sha256.to_owned(),
            stripes: Vec::new(),
            digest: Mutex::default(),
            saving: Mutex::default(),
            inherited: AtomicBool::new(false),
        };
        match partial.left_behind()? {
            Some(reached) => {
                partial.inherited = AtomicBool::new(reached.iter().any(|r| *r > 0));
                partial.stripes = stripes(&split(size, reached.len()), &reached);
            }
            None => {
                partial.file.set_len(0)?;
                partial.stripes = stripes(&split(size, streams), &[]);
                partial.save()?;
            }
        }
        Ok(partial)
    }

    /// How far an earlier run got with each stripe of this very content, if it did.
    fn left_behind(&self) -> io::Result<Option<Vec<u64>>> {
        let length = self.file.metadata()?.len();
        let state = match std::fs::read(&self.state) {
            Ok(state) => state,
            // Without a state, what is there is a prefix.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok((1..=self.size).contains(&length).then(|| vec![length]));
            }
            Err(e) => return Err(e),
        };
        let Ok(state) = serde_json::from_slice::<State>(&state) else { return Ok(None) };
        let lengths = split(self.size, state.reached.len());
        let fits =
            state.sha256 == self.sha256 && state.size == self.size && lengths.len() == state.reached.len();
        let mut start = 0;
        let written = lengths.iter().zip(&state.reached).all(|(whole, reached)| {
            let ok = reached <= whole && (*reached == 0 || start + reached <= length);
            start += whole;
            ok
        });
        Ok((fits && written).then_some(state.reached))
    }

    pub(super) fn stripes(&self) -> &[Stripe] {
        &self.stripes
    }

    /// Writes a piece at the end of what a stripe has.
    pub(super) fn write(&self, stripe: &Stripe, piece: &[u8]) -> io::Result<()> {
        let reached = stripe.reached();
        let at = stripe.start + reached;
        write_all_at(&self.file, piece, at)?;
        self.digest.lock().unwrap_or_else(PoisonError::into_inner).take(at, piece);
        let reached = reached + piece.len() as u64;
        stripe.reached.store(reached, Ordering::Release);
        if self.stripes.len() > 1 && reached - stripe.saved.load(Ordering::Acquire) >= STRETCH {
            self.save()?;
        }
        Ok(())
    }

    /// Makes what was written so far durable, and says so.
    pub(super) fn save(&self) -> io::Result<()> {
        if self.stripes.len() < 2 {
            return match std::fs::remove_file(&self.state) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            };
        }
        let _one = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let reached: Vec<u64> = self.stripes.iter().map(Stripe::reached).collect();
        self.file.sync_data()?;
        let state = State { sha256: self.sha256.clone(), size: self.size, reached };
        let new = with_suffix(&self.state, NEW);
        {
            use std::io::Write as _;
            let mut file = private(OpenOptions::new().write(true).create(true).truncate(true)).open(&new)?;
            file.write_all(&serde_json::to_vec(&state)?)?;
            file.sync_all()?;
        }
        std::fs::rename(&new, &self.state)?;
        for (stripe, reached) in self.stripes.iter().zip(state.reached) {
            stripe.saved.store(reached, Ordering::Release);
        }
        Ok(())
    }

    /// The SHA-256 of the whole, in hexadecimal; reads what was not hashed while it was written.
    /// `None` when `go_on` says no.
    pub(super) fn digest(&self, go_on: impl Fn() -> bool) -> io::Result<Option<String>> {
        let mut digest = std::mem::take(&mut *self.digest.lock().unwrap_or_else(PoisonError::into_inner));
        let mut buffer = vec![0; READ];
        while digest.upto() < self.size {
            if !go_on() {
                return Ok(None);
            }
            let at = digest.upto();
            let want = usize::try_from(self.size - at).unwrap_or(READ).min(READ);
            let got = read_at(&self.file, buffer.get_mut(..want).unwrap_or_default(), at)?;
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            digest.take(at, buffer.get(..got).unwrap_or_default());
        }
        Ok(Some(digest.finish()))
    }

    /// Whether what an earlier run left counts in it.
    pub(super) fn inherited(&self) -> bool {
        self.inherited.load(Ordering::Acquire)
    }

    /// Forgets everything that was written.
    pub(super) fn restart(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.stripes.iter().for_each(|stripe| self.restart_stripe(stripe));
        self.inherited.store(false, Ordering::Release);
        self.save()
    }

    /// Forgets what a stripe has, when its content must come again.
    pub(super) fn restart_stripe(&self, stripe: &Stripe) {
        stripe.reached.store(0, Ordering::Release);
        stripe.saved.store(0, Ordering::Release);
        *self.digest.lock().unwrap_or_else(PoisonError::into_inner) = RunningDigest::default();
    }

    pub(super) fn discard(&self) -> io::Result<()> {
        remove_if_there(&self.state)?;
        std::fs::remove_file(&self.path)
    }

    /// Gives the file its name, once its bytes are on the disk.
    pub(super) fn place(&self, place: &Path, replace: bool) -> io::Result<()> {
        self.file.set_len(self.size)?;
        self.file.sync_all()?;
        if !replace && std::fs::symlink_metadata(place).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        // Without its state, a file that is whole is a prefix of full length: true at every moment.
        remove_if_there(&self.state)?;
        std::fs::rename(&self.path, place)?;
        sync_folder(place.parent().unwrap_or(Path::new(".")))
    }
}

impl Stripe {
    pub(super) fn reached(&self) -> u64 {
        self.reached.load(Ordering::Acquire)
    }

    pub(super) fn left(&self) -> u64 {
        self.length - self.reached()
    }
}

fn stripes(lengths: &[u64], reached: &[u64]) -> Vec<Stripe> {
    let mut start = 0;
    let mut stripes = Vec::with_capacity(lengths.len());
    for (i, length) in lengths.iter().copied().enumerate() {
        let reached = reached.get(i).copied().unwrap_or(0);
        stripes.push(Stripe { start, length, reached: reached.into(), saved: reached.into() });
        start += length;
    }
    stripes
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Received documents are the recipient's own.
fn private(options: &mut OpenOptions) -> &OpenOptions {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options
}

pub(super) fn make_folder(path: &Path) -> io::Result<()> {
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

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, bytes, at)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let wrote = std::os::windows::fs::FileExt::seek_write(file, bytes, at)?;
        if wrote == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(wrote..).unwrap_or_default();
        at += wrote as u64;
    }
    Ok(())
}

#[cfg(windows)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, bytes, at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    /// Large enough to be cut in stripes, and cheap: the file is sparse but for its edges.
    const LARGE: u64 = (256 << 20) + 1000;

    fn open(place: &Path, size: u64) -> Partial {
        Partial::open(place, size, "abc", 4).unwrap()
    }

    #[test]
    fn a_small_one_is_a_prefix_and_is_named_at_the_end() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("a/b/c.pdf");
        let partial = open(&place, 11);
        assert_eq!(partial.stripes().len(), 1);
        partial.write(&partial.stripes()[0], b"hello ").unwrap();
        assert!(matches!(Partial::open(&place, 11, "abc", 4), Err(OpenError::Locked)));
        drop(partial);
        let partial = open(&place, 11);
        assert!(partial.inherited());
        assert_eq!(partial.stripes()[0].reached(), 6);
        partial.write(&partial.stripes()[0], b"world").unwrap();
        assert_eq!(partial.digest(|| true).unwrap(), Some(hex::encode(Sha256::digest(b"hello world"))));
        std::fs::write(&place, "other").unwrap();
        assert_eq!(partial.place(&place, false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&place).unwrap(), b"other");
        drop(partial);
        open(&place, 11).place(&place, true).unwrap();
        assert_eq!(std::fs::read(&place).unwrap(), b"hello world");
        let left: Vec<_> = std::fs::read_dir(place.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            assert_eq!(std::fs::metadata(&place).unwrap().mode() & 0o777, 0o600);
            assert_eq!(std::fs::metadata(place.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn stripes_are_remembered_only_as_far_as_they_are_durable() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("big.bin");
        let partial = open(&place, LARGE);
        assert!(partial.stripes().len() > 1 && !partial.inherited());
        partial.write(&partial.stripes()[0], &[1; 10]).unwrap();
        partial.write(&partial.stripes()[2], &[2; 20]).unwrap();
        partial.save().unwrap();
        partial.write(&partial.stripes()[2], &[3; 30]).unwrap();
        drop(partial);
        let partial = open(&place, LARGE);
        let reached: Vec<u64> = partial.stripes().iter().map(Stripe::reached).collect();
        assert_eq!(&reached[..3], [10, 0, 20]);
        assert!(partial.inherited());
        drop(partial);
        // The cut of before counts, whatever the streams of now.
        assert_eq!(Partial::open(&place, LARGE, "abc", 2).unwrap().stripes().len(), reached.len());
        // The same place for other content, or a file that lost its end: from the start.
        let other = Partial::open(&place, LARGE, "def", 4).unwrap();
        assert!(!other.inherited() && other.stripes().iter().all(|s| s.reached() == 0));
        other.write(&other.stripes()[1], &[4; 10]).unwrap();
        other.save().unwrap();
        drop(other);
        File::options().write(true).open(root.path().join("big.bin.part")).unwrap().set_len(5).unwrap();
        assert!(!Partial::open(&place, LARGE, "def", 4).unwrap().inherited());
        std::fs::write(root.path().join("big.bin.part.state"), "{}").unwrap();
        assert!(!open(&place, LARGE).inherited());
    }

    #[test]
    fn stripes_make_one_document() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("big.bin");
        let partial = open(&place, LARGE);
        let block: Vec<u8> = (0..(1_u32 << 20)).map(|i| (i % 253) as u8).collect();
        let mut expected = Sha256::new();
        for (i, stripe) in partial.stripes().iter().enumerate().rev() {
            while stripe.left() > 0 {
                let take = (block.len() - i).min(stripe.left() as usize);
                partial.write(stripe, &block[i..i + take]).unwrap();
            }
        }
        for (i, stripe) in partial.stripes().iter().enumerate() {
            let mut left = stripe.length as usize;
            while left > 0 {
                let take = (block.len() - i).min(left);
                expected.update(&block[i..i + take]);
                left -= take;
            }
        }
        assert_eq!(partial.digest(|| false).unwrap(), None);
        assert_eq!(partial.digest(|| true).unwrap(), Some(hex::encode(expected.finalize())));
        partial.place(&place, false).unwrap();
        assert_eq!(std::fs::metadata(&place).unwrap().len(), LARGE);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_partial_file_longer_than_the_document_starts_again() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("a");
        std::fs::write(root.path().join("a.part"), "0123456789").unwrap();
        let partial = open(&place, 9);
        assert!(!partial.inherited());
        assert_eq!(std::fs::metadata(root.path().join("a.part")).unwrap().len(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_place_of_the_partial_file_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let (target, place) = (root.path().join("target"), root.path().join("a"));
        std::fs::write(&target, "precious").unwrap();
        for name in ["a.part", "a.part.state"] {
            std::os::unix::fs::symlink(&target, root.path().join(name)).unwrap();
            assert!(matches!(Partial::open(&place, 9, "abc", 4), Err(OpenError::NotAFile)), "{name}");
            std::fs::remove_file(root.path().join(name)).unwrap();
        }
        assert_eq!(std::fs::read(&target).unwrap(), b"precious");
    }
}
