//! What to send: files found, named, measured and checked before a byte leaves.
//! Owns the walk, document names, the reference of a draft and the reading of a file whose content
//! must not change meanwhile. Never follows a symbolic link found in a folder.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::Failure;
use super::texts;

/// Read and sent in pieces of this size.
pub(super) const FRAME: usize = 256 * 1024;

/// A file to send, as it was when the command started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    /// The document's name, with `/` between folders.
    pub(super) name: String,
    /// Bytes.
    pub(super) size: u64,
    pub(super) modified: Modified,
}

/// Last modification, nanoseconds since the epoch; what tells two states of a file apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Modified(i128);

impl Modified {
    fn of(metadata: &Metadata) -> io::Result<Self> {
        let at = metadata.modified()?;
        let nanos = |d: std::time::Duration| i128::try_from(d.as_nanos()).unwrap_or(i128::MAX);
        Ok(Self(match at.duration_since(UNIX_EPOCH) {
            Ok(after) => nanos(after),
            Err(before) => -nanos(before.duration()),
        }))
    }
}

impl std::fmt::Display for Modified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What was found under the paths of the command line.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Sorted by name; names are unique.
    pub(super) sources: Vec<Source>,
    /// Sentences about what is left out on purpose.
    pub(super) skipped: Vec<String>,
}

/// Walks files and folders. A folder's files are named from the folder's own name on, as a browser
/// names the files of a folder that is dropped on a page.
///
/// # Errors
/// One failure that lists everything that cannot be sent.
pub(super) fn find(paths: &[PathBuf]) -> Result<Found, Failure> {
    let mut walk = Walk::default();
    for path in paths {
        walk.argument(path)?;
    }
    if !walk.problems.is_empty() {
        return Err(Failure::LocalFile(texts::cannot_send(&walk.problems)));
    }
    let mut found = walk.found;
    found.sources.sort_by(|a, b| a.name.cmp(&b.name));
    let twice = found.sources.windows(2).find(|pair| matches!(pair, [a, b] if a.name == b.name));
    match twice.and_then(<[Source]>::first) {
        Some(source) => Err(Failure::Usage(texts::same_name(&source.name))),
        None => Ok(found),
    }
}

#[derive(Default)]
struct Walk {
    found: Found,
    problems: Vec<String>,
}

impl Walk {
    fn argument(&mut self, path: &Path) -> Result<(), Failure> {
        // What the user names is followed, even when it is a link; what lies in a folder is not.
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(e) => {
                self.problems.push(texts::unreadable(path, &e));
                return Ok(());
            }
        };
        // `.` and `..` have no name of their own.
        let named = match path.file_name() {
            Some(name) => Some(name.to_owned()),
            None => path.canonicalize().ok().and_then(|full| full.file_name().map(ToOwned::to_owned)),
        };
        let name = named.unwrap_or_default();
        if metadata.is_dir() {
            let before = self.found.sources.len() + self.problems.len();
            self.folder(path, &PathBuf::from(name));
            if self.found.sources.len() + self.problems.len() == before {
                return Err(Failure::Usage(texts::empty_folder(path)));
            }
        } else {
            self.file(path, Path::new(&name));
        }
        Ok(())
    }

    fn folder(&mut self, path: &Path, name: &Path) {
        let entries = std::fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(e) => return self.problems.push(texts::unreadable(path, &e)),
        };
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let name = name.join(entry.file_name());
            match entry.file_type() {
                Ok(kind) if kind.is_symlink() => self.found.skipped.push(texts::link_ignored(&path)),
                Ok(kind) if kind.is_dir() => self.folder(&path, &name),
                Ok(kind) if kind.is_file() => self.file(&path, &name),
                Ok(_) => self.found.skipped.push(texts::special_ignored(&path)),
                Err(e) => self.problems.push(texts::unreadable(&path, &e)),
            }
        }
    }

    fn file(&mut self, path: &Path, name: &Path) {
        match std::fs::metadata(path) {
            // Opening a pipe would wait for its writer.
            Ok(metadata) if !metadata.is_file() => {
                return self.found.skipped.push(texts::special_ignored(path));
            }
            Ok(_) => {}
            Err(e) => return self.problems.push(texts::unreadable(path, &e)),
        }
        let Some(name) = name.to_str() else { return self.problems.push(texts::not_utf8(path)) };
        let Some(name) = document_name(name) else { return self.problems.push(texts::control_in_name(path)) };
        let measured =
            File::open(path).and_then(|file| file.metadata()).and_then(|m| Ok((m.len(), Modified::of(&m)?)));
        match measured {
            Ok((size, modified)) => {
                self.found.sources.push(Source { path: path.to_owned(), name, size, modified })
            }
            Err(e) => self.problems.push(texts::unreadable(path, &e)),
        }
    }
}

/// The name in the form that the server keeps (`/` between folders), or `None` when it would refuse it.
/// The same form on both sides is what lets a draft be recognised again.
fn document_name(path: &str) -> Option<String> {
    let name = path.replace('\\', "/");
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let hidden = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let bad = name.chars().any(hidden)
        || name.chars().count() > 1024
        || parts.is_empty()
        || parts.iter().any(|part| *part == ".." || part.trim().is_empty());
    (!bad).then(|| parts.join("/"))
}

/// The reference by which the same command finds its draft again: recipients, subject, retention,
/// and names, sizes and modification times of what is sent. Each text is preceded by its length, so
/// that no two lists give the same bytes.
pub(super) fn reference(
    recipients: &[String],
    subject: &str,
    days: Option<u32>,
    sources: &[Source],
) -> String {
    let mut hash = Sha256::new();
    let mut text = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    text("pli send 1");
    text(&recipients.len().to_string());
    recipients.iter().for_each(|r| text(r));
    text(subject);
    text(&days.map(|d| d.to_string()).unwrap_or_default());
    for source in sources {
        text(&source.name);
        text(&source.size.to_string());
        text(&source.modified.to_string());
    }
    format!("pli-send-{}", hex::encode(hash.finalize()))
}

/// A media type by the name's extension; the server and the recipient do not rely on it.
pub(super) fn media_type(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase()).unwrap_or_default();
    match extension.as_str() {
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "7z" => "application/x-7z-compressed",
        "txt" | "log" | "md" => "text/plain",
        "csv" => "text/csv",
        "xml" => "application/xml",
        "json" => "application/json",
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "tif" | "tiff" => "image/tiff",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "mp4" => "video/mp4",
        "mkv" => "video/x-matroska",
        "avi" => "video/x-msvideo",
        "eml" => "message/rfc822",
        "doc" => "application/msword",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xls" => "application/vnd.ms-excel",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "odt" => "application/vnd.oasis.opendocument.text",
        "ods" => "application/vnd.oasis.opendocument.spreadsheet",
        _ => "application/octet-stream",
    }
}

/// Why a file could not be read to its end as it was.
#[derive(Debug)]
pub(super) enum ReadError {
    Changed,
    Io(io::Error),
    /// Nobody wants the rest.
    Stopped,
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl ReadError {
    pub(super) fn into_failure(self, source: &Source) -> Failure {
        match self {
            Self::Changed => Failure::Changed(texts::changed(&source.path)),
            Self::Io(e) => Failure::LocalFile(texts::read_failed(&source.path, &e)),
            Self::Stopped => Failure::Interrupted,
        }
    }
}

impl Source {
    /// Whether the file is still the one that was found.
    pub(super) fn unchanged(&self, metadata: &Metadata) -> bool {
        metadata.len() == self.size && Modified::of(metadata).is_ok_and(|m| m == self.modified)
    }

    /// Reads `start..start + length`, and gives each piece with its position to `take`, which says
    /// whether to go on. The file's size and time are compared before and after. Blocks.
    ///
    /// # Errors
    /// `Changed` when the file is no longer the one that was found.
    pub(super) fn read(
        &self,
        start: u64,
        length: u64,
        mut take: impl FnMut(u64, Bytes) -> bool,
    ) -> Result<(), ReadError> {
        let open = || match File::open(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(ReadError::Changed),
            other => Ok(other?),
        };
        let mut file = open()?;
        if !self.unchanged(&file.metadata()?) {
            return Err(ReadError::Changed);
        }
        file.seek(SeekFrom::Start(start))?;
        let mut left = length;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(FRAME);
            let mut piece = Vec::with_capacity(want);
            let got = (&mut file).take(want as u64).read_to_end(&mut piece)?;
            if got != want {
                return Err(ReadError::Changed);
            }
            if !take(start + (length - left), piece.into()) {
                return Err(ReadError::Stopped);
            }
            left -= want as u64;
        }
        // By its path again: the file may have been replaced by another under the same name.
        let same = self.unchanged(&file.metadata()?) && self.unchanged(&open()?.metadata()?);
        if same { Ok(()) } else { Err(ReadError::Changed) }
    }
}

/// Totals by name, to say what is too large.
pub(super) fn larger_than(sources: &[Source], max: u64) -> Vec<(String, u64)> {
    sources.iter().filter(|s| s.size > max).map(|s| (s.name.clone(), s.size)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: &Found) -> Vec<&str> {
        found.sources.iter().map(|s| s.name.as_str()).collect()
    }

    #[test]
    fn folders_are_walked_in_order_under_their_name() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("procédure");
        std::fs::create_dir_all(folder.join("D2/vide")).unwrap();
        std::fs::create_dir_all(folder.join("D1")).unwrap();
        for name in ["z.pdf", "D2/b.pdf", "D1/a.pdf", ".caché"] {
            std::fs::write(folder.join(name), name).unwrap();
        }
        let single = root.path().join("seul.txt");
        std::fs::write(&single, "").unwrap();
        let found = find(&[single, folder.clone()]).unwrap();
        let expected =
            ["procédure/.caché", "procédure/D1/a.pdf", "procédure/D2/b.pdf", "procédure/z.pdf", "seul.txt"];
        assert_eq!(names(&found), expected);
        assert_eq!(found.sources[1].size, 8);
        assert!(found.skipped.is_empty());
        assert_eq!(names(&find(&[folder.join(".")]).unwrap()), &expected[..4]);
        assert_eq!(names(&find(&[folder.join("D1/..")]).unwrap()), &expected[..4]);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_pipes_are_reported_and_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("f");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(root.path().join("secret"), "secret").unwrap();
        std::fs::write(folder.join("a"), "a").unwrap();
        std::os::unix::fs::symlink(root.path().join("secret"), folder.join("link")).unwrap();
        std::os::unix::fs::symlink(root.path(), folder.join("loop")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
        let found = find(std::slice::from_ref(&folder)).unwrap();
        assert_eq!(names(&found), ["f/a"]);
        assert_eq!(found.skipped.len(), 3);
        // Named by the user, a link is followed.
        assert_eq!(names(&find(&[folder.join("link")]).unwrap()), ["link"]);
    }

    #[test]
    fn everything_that_cannot_be_read_is_said_at_once() {
        let root = tempfile::tempdir().unwrap();
        let failure = find(&[root.path().join("absent1"), root.path().join("absent2")]).unwrap_err();
        assert_eq!(failure.exit_code(), 6);
        assert!(failure.text().contains("absent1") && failure.text().contains("absent2"));
        let failure = find(&[root.path().to_owned()]).unwrap_err();
        assert_eq!(failure.exit_code(), 2, "{}", failure.text());
    }

    #[test]
    fn same_name_twice_is_refused() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["1", "2"] {
            std::fs::create_dir(root.path().join(folder)).unwrap();
            std::fs::write(root.path().join(folder).join("pv.pdf"), folder).unwrap();
        }
        let failure = find(&[root.path().join("1/pv.pdf"), root.path().join("2/pv.pdf")]).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        assert!(find(&[root.path().join("1"), root.path().join("2")]).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn names_that_the_server_would_refuse_are_said_before() {
        use std::os::unix::ffi::OsStrExt as _;
        let root = tempfile::tempdir().unwrap();
        for name in [b"a\nb".as_slice(), b"a\xffb", b"a\x1b[2Jb", "fdp\u{202e}.exe".as_bytes()] {
            let path = root.path().join(std::ffi::OsStr::from_bytes(name));
            std::fs::write(&path, "x").unwrap();
            assert_eq!(find(std::slice::from_ref(&path)).unwrap_err().exit_code(), 6, "{path:?}");
        }
        assert_eq!(document_name("a\\b//c/./d"), Some("a/b/c/d".into()));
        assert_eq!(document_name("a/../b"), None);
    }

    fn source(name: &str, size: u64, modified: i128) -> Source {
        Source { path: name.into(), name: name.into(), size, modified: Modified(modified) }
    }

    #[test]
    fn reference_is_stable_and_depends_on_everything() {
        let to = vec!["a@b.fr".to_owned()];
        let files = [source("x", 1, 2), source("y", 3, 4)];
        let base = reference(&to, "objet", None, &files);
        assert_eq!(base, reference(&to, "objet", None, &files.clone()));
        assert_eq!(base.len(), "pli-send-".len() + 64);
        let others = [
            reference(&["c@d.fr".into()], "objet", None, &files),
            reference(&to, "autre", None, &files),
            reference(&to, "objet", Some(3), &files),
            reference(&to, "objet", None, &files[..1]),
            reference(&to, "objet", None, &[source("x", 1, 2), source("y", 3, 5)]),
            reference(&to, "objet", None, &[source("x", 1, 2), source("y", 4, 4)]),
            reference(&to, "objet", None, &[source("x1", 1, 2), source("y", 3, 4)]),
        ];
        assert!(others.iter().all(|other| *other != base));
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a");
        std::fs::write(&path, vec![7; FRAME * 3 + 5]).unwrap();
        let find_it = || find(std::slice::from_ref(&path)).unwrap().sources.remove(0);
        let found = find_it();
        let mut total = 0;
        found
            .read(10, found.size - 10, |at, piece| {
                assert_eq!(at, 10 + total);
                total += piece.len() as u64;
                true
            })
            .unwrap();
        assert_eq!(total, found.size - 10);

        let grow = |_, _| {
            use std::io::Write as _;
            File::options().append(true).open(&path).unwrap().write_all(b"x").is_ok()
        };
        assert!(matches!(found.read(0, found.size, grow), Err(ReadError::Changed)));
        assert!(matches!(found.read(0, found.size, |_, _| true), Err(ReadError::Changed)), "before");

        let found = find_it();
        let shrink =
            |_, _| File::options().write(true).open(&path).unwrap().set_len(FRAME as u64 + 1).is_ok();
        assert!(matches!(found.read(0, found.size, shrink), Err(ReadError::Changed)));

        let found = find_it();
        let replace = |_, _| {
            let other = root.path().join("b");
            std::fs::write(&other, "other").unwrap();
            std::fs::rename(&other, &path).is_ok()
        };
        assert!(matches!(found.read(0, found.size, replace), Err(ReadError::Changed)));
        let found = find_it();
        assert!(matches!(found.read(0, found.size, |_, _| false), Err(ReadError::Stopped)));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(found.read(0, found.size, |_, _| true), Err(ReadError::Changed)));
    }
}
