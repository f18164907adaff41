//! Objects as files of a folder.
//!
//! Owns `segments/`, `manifests/` and `unfinished/` under one root, all in one file system. Must never
//! let a name appear under `segments/` or `manifests/` before its bytes are on the disk, nor return
//! from a put before the name is: write, fsync the file, rename, fsync the folder, return.
//!
//! A deletion is not synced: undone by a power cut, it leaves an orphan, which the sweep of the hub
//! finds again; the key of the document is gone from the database all the same.

use super::{BlobError, Class, ObjectEntry, ObjectKey, ObjectMeta, PIECE};
use bytes::Bytes;
use pli_api::Time;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::task::{JoinHandle, spawn_blocking};

/// Files being written; never listed, cleared when old.
const UNFINISHED: &str = "unfinished";

#[derive(Debug)]
pub(super) struct Folder {
    root: Arc<Path>,
}

impl Folder {
    /// Makes every folder an object may lie in, and syncs them, so that a put has only its own to sync.
    pub(super) fn open(root: PathBuf) -> Result<Self, BlobError> {
        let made = || -> io::Result<()> {
            make_folder(&root)?;
            if let Some(parent) = root.parent().filter(|p| !p.as_os_str().is_empty()) {
                sync_folder(parent)?;
            }
            make_folder(&root.join(UNFINISHED))?;
            for class in Class::ALL {
                let class = root.join(class.folder());
                make_folder(&class)?;
                for fan in 0..=255u8 {
                    make_folder(&class.join(hex::encode([fan])))?;
                }
                sync_folder(&class)?;
            }
            sync_folder(&root)
        };
        made().map_err(|e| sort(&e))?;
        Ok(Self { root: root.into() })
    }

    fn path(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(key.as_str())
    }

    pub(super) async fn put(&self, key: &ObjectKey, parts: Vec<Bytes>) -> Result<(), BlobError> {
        let mut id = [0u8; 16];
        getrandom::fill(&mut id).map_err(|e| BlobError::Other(format!("no random bytes: {e}")))?;
        let root = self.root.clone();
        let key = key.clone();
        blocking(move || {
            let unfinished = root.join(UNFINISHED).join(hex::encode(id));
            let done = write_object(&root, &unfinished, &key, &parts);
            if done.is_err() {
                // Nothing half-written stays; when even this fails, the sweep of unfinished files has it.
                let _ = fs::remove_file(&unfinished);
            }
            done
        })
        .await
        .map_err(|e| match e {
            BlobError::NotFound => BlobError::Other("the folder of the store is gone".to_owned()),
            e => e,
        })
    }

    pub(super) async fn get(&self, key: &ObjectKey, range: Range<u64>) -> Result<FolderReader, BlobError> {
        let path = self.path(key);
        // Opened, checked and its first piece read in one trip to the blocking pool.
        let read = spawn_blocking(move || {
            let mut file = File::open(path)?;
            if file.metadata()?.len() < range.end {
                return Err(io::Error::from(ErrorKind::UnexpectedEof));
            }
            file.seek(SeekFrom::Start(range.start))?;
            let left = range.end.saturating_sub(range.start);
            read_piece(file, left)
        });
        let mut reader = FolderReader { ahead: Some(read), ready: None };
        reader.settle().await?;
        Ok(reader)
    }

    pub(super) async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, BlobError> {
        let path = self.path(key);
        blocking(move || match fs::metadata(path) {
            Ok(meta) => Ok(Some(ObjectMeta { length: meta.len(), modified: Time::from(meta.modified()?) })),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        })
        .await
    }

    pub(super) async fn delete(&self, key: &ObjectKey) -> Result<(), BlobError> {
        let path = self.path(key);
        blocking(move || match fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        })
        .await
    }

    pub(super) async fn list(
        &self,
        class: Class,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectEntry>, BlobError> {
        let root = self.root.clone();
        let after = after.cloned();
        blocking(move || list_objects(&root, class, after.as_ref(), limit)).await
    }

    pub(super) async fn clear_unfinished(&self, before: Time) -> Result<u64, BlobError> {
        let folder = self.root.join(UNFINISHED);
        blocking(move || {
            let mut cleared = 0;
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                // It may have been renamed, that is finished, since.
                let Ok(meta) = entry.metadata() else { continue };
                if Time::from(meta.modified()?) < before && fs::remove_file(entry.path()).is_ok() {
                    cleared += 1;
                }
            }
            Ok(cleared)
        })
        .await
    }
}

/// The order in which these steps reach the disk is what a power cut may show: tested with strace.
fn write_object(root: &Path, unfinished: &Path, key: &ObjectKey, parts: &[Bytes]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(unfinished)?;
    write_all(&mut file, parts)?;
    file.sync_all()?;
    drop(file);
    let target = root.join(key.as_str());
    let (folder, _) = key.split();
    let folder = root.join(folder);
    match fs::rename(unfinished, &target) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            // Its folder was removed, as some backup tools do to empty ones.
            make_folder(&folder)?;
            if let Some(class) = folder.parent() {
                sync_folder(class)?;
            }
            fs::rename(unfinished, &target)?;
        }
        done => done?,
    }
    sync_folder(&folder).inspect_err(|_| {
        // The name may not be on the disk: the caller is told so, and finds nothing.
        let _ = fs::remove_file(&target);
    })
}

fn write_all(file: &mut File, parts: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> =
        parts.iter().filter(|p| !p.is_empty()).map(|p| IoSlice::new(p)).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        match file.write_vectored(left) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut left, written),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        done => done,
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn list_objects(
    root: &Path,
    class: Class,
    after: Option<&ObjectKey>,
    limit: usize,
) -> io::Result<Vec<ObjectEntry>> {
    let first = after.map_or(0, |key| {
        let (folder, _) = key.split();
        folder.rsplit('/').next().and_then(|fan| u8::from_str_radix(fan, 16).ok()).unwrap_or(0)
    });
    let mut out = Vec::new();
    for fan in first..=255u8 {
        let folder = format!("{}/{}", class.folder(), hex::encode([fan]));
        let entries = match fs::read_dir(root.join(&folder)) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        let mut keys = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let key = name.to_str().and_then(|name| format!("{folder}/{name}").parse::<ObjectKey>().ok());
            if let Some(key) = key.filter(|key| after.is_none_or(|after| key > after)) {
                keys.push(key);
            }
        }
        keys.sort_unstable();
        for key in keys {
            if out.len() == limit {
                return Ok(out);
            }
            // Deleted since the folder was read: not there.
            let Ok(meta) = fs::metadata(root.join(key.as_str())) else { continue };
            out.push(ObjectEntry { key, length: meta.len(), modified: Time::from(meta.modified()?) });
        }
    }
    Ok(out)
}

/// What one trip to the blocking pool gives: the file back, what is left of the range, a piece.
type Piece = (File, u64, Vec<u8>);

fn read_piece(mut file: File, left: u64) -> io::Result<Piece> {
    let want = left.min(PIECE as u64);
    // Filled by the kernel: read_to_end does not zero the room first.
    let mut piece = Vec::with_capacity(usize::try_from(want).unwrap_or(PIECE));
    (&mut file).take(want).read_to_end(&mut piece)?;
    if (piece.len() as u64) < want {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok((file, left.saturating_sub(want), piece))
}

/// Reads one piece ahead of what was given.
#[derive(Debug)]
pub(super) struct FolderReader {
    ahead: Option<JoinHandle<io::Result<Piece>>>,
    ready: Option<Bytes>,
}

impl FolderReader {
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, BlobError> {
        if self.ready.is_none() {
            self.settle().await?;
        }
        Ok(self.ready.take())
    }

    /// Waits for the piece under way and starts the one after it.
    async fn settle(&mut self) -> Result<(), BlobError> {
        let Some(ahead) = self.ahead.as_mut() else { return Ok(()) };
        // Awaited in place: dropped half-way, it is still there.
        let done = ahead.await;
        self.ahead = None;
        let (file, left, piece) = done.map_err(|_| interrupted())?.map_err(|e| sort(&e))?;
        if left > 0 {
            self.ahead = Some(spawn_blocking(move || read_piece(file, left)));
        }
        if !piece.is_empty() {
            self.ready = Some(Bytes::from(piece));
        }
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, BlobError> {
    spawn_blocking(work).await.map_err(|_| interrupted())?.map_err(|e| sort(&e))
}

fn interrupted() -> BlobError {
    BlobError::Unavailable("the work on a file was interrupted".to_owned())
}

/// The kind only: a path is not for logs.
fn sort(e: &io::Error) -> BlobError {
    let text = e.kind().to_string();
    match e.kind() {
        ErrorKind::NotFound => BlobError::NotFound,
        ErrorKind::UnexpectedEof => BlobError::Truncated,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => BlobError::Full(text),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory => {
            BlobError::Other(text)
        }
        _ => BlobError::Unavailable(format!("{text} (os error {})", e.raw_os_error().unwrap_or(0))),
    }
}
