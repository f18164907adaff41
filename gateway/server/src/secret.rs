//! Secrets in memory and on disk.
//!
//! Owns the type that never prints, and the question who may read a file. Must never put a secret
//! into an error, a log or a configuration that is shown.

use std::{
    fmt, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use zeroize::Zeroizing;

/// A secret text. Wiped when dropped; `Debug` shows nothing of it.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The content of a file without the line end that editors and `echo` put there.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let mut text = Zeroizing::new(std::fs::read_to_string(path)?);
        let kept = text.trim_end_matches(['\r', '\n']).len();
        text.truncate(kept);
        Ok(Self(text))
    }

    /// The secret itself: for the one call that needs it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Whether the permissions let every account of the machine read the file.
pub(crate) fn readable_by_everyone(path: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o004 != 0)
}

/// Makes a folder, and those above it, that only its owner can enter. One that exists is left as it is.
pub(crate) fn make_private_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a new file that only its owner can read, durably. An existing file is never touched.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    write_new(path, content, 0o600)
}

/// The same for a file that anyone may read.
pub(crate) fn write_public(path: &Path, content: &[u8]) -> io::Result<()> {
    write_new(path, content, 0o644)
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}
