//! The folder of the hub's keys: `hub.asc`, the current one, and `retired/FINGERPRINT.asc`.
//!
//! Owns how keys lie on disk and the order of writes that makes a rotation safe to interrupt: there is
//! a current key at every moment, and no key is lost. Must never delete a key.

use std::{
    io,
    path::{Path, PathBuf},
};

use pli_hub::backup::KeyFile;
use pli_seal::{KeyRing, Passphrase, SealError};

use crate::secret::write_private;

const CURRENT: &str = "hub.asc";
const NEXT: &str = "next.asc";
const RETIRED: &str = "retired";

#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyFolderError {
    #[error("{} contient déjà une clé : « pli keys rotate » la remplace", .0.display())]
    Exists(PathBuf),
    #[error("pas de clé dans {} : « pli keys init » en fait une", .0.display())]
    None(PathBuf),
    #[error("{} est lisible par tous ; faites « chmod 600 »", .0.display())]
    Open(PathBuf),
    #[error("lecture ou écriture impossible : {}", .0.display())]
    Io(PathBuf, #[source] io::Error),
    #[error("clés du hub")]
    Seal(#[from] SealError),
}

/// A folder of keys and what opens them.
#[derive(Clone, Debug)]
pub(crate) struct KeyFolder {
    path: PathBuf,
    passphrase: Passphrase,
}

impl KeyFolder {
    pub(crate) fn new(path: PathBuf, passphrase: Passphrase) -> Self {
        Self { path, passphrase }
    }

    /// Makes the first key. Blocking.
    pub(crate) fn init(&self, name: &str) -> Result<(), KeyFolderError> {
        let current = self.path.join(CURRENT);
        if current.symlink_metadata().is_ok() {
            return Err(KeyFolderError::Exists(self.path.clone()));
        }
        make_folder(&self.path)?;
        let key = zeroize::Zeroizing::new(KeyRing::generate(name, &self.passphrase)?);
        write_private(&current, &key).map_err(|e| KeyFolderError::Io(current, e))
    }

    /// Makes a new key the current one and keeps the old one as retired. An interrupted rotation is
    /// taken up where it stopped. Blocking.
    pub(crate) fn rotate(&self, name: &str) -> Result<(), KeyFolderError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |e| KeyFolderError::Io(path, e)
        };
        let (current, next, retired) =
            (self.path.join(CURRENT), self.path.join(NEXT), self.path.join(RETIRED));
        let ring = self.open()?;
        let old = ring.current().fingerprint();
        let whole =
            std::fs::read(&next).ok().is_some_and(|key| KeyRing::open(&[key], &self.passphrase).is_ok());
        if !whole {
            // Cut short while it was written: nothing can be wrapped for it.
            match std::fs::remove_file(&next) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io(&next)(e)),
                _ => {}
            }
            let key = zeroize::Zeroizing::new(KeyRing::generate(name, &self.passphrase)?);
            write_private(&next, &key).map_err(io(&next))?;
        }
        make_folder(&retired)?;
        let kept = retired.join(format!("{old}.asc"));
        match std::fs::hard_link(&current, &kept) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(io(&kept)(e)),
            _ => sync(&retired)?,
        }
        std::fs::rename(&next, &current).map_err(io(&current))?;
        sync(&self.path)
    }

    /// Opens every key. Blocking, and slow on purpose: each costs an Argon2.
    pub(crate) fn open(&self) -> Result<KeyRing, KeyFolderError> {
        let current = self.path.join(CURRENT);
        if !current.exists() {
            return Err(KeyFolderError::None(self.path.clone()));
        }
        let mut keys = vec![read(&current)?];
        let retired = self.path.join(RETIRED);
        let mut paths = match std::fs::read_dir(&retired) {
            Ok(entries) => entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<io::Result<Vec<_>>>()
                .map_err(|e| KeyFolderError::Io(retired, e))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(KeyFolderError::Io(retired, e)),
        };
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "asc"));
        paths.sort();
        for path in paths {
            let key = read(&path)?;
            // In the middle of a rotation the current key is already among the retired.
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        Ok(KeyRing::open(&keys, &self.passphrase)?)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, KeyFolderError> {
    let io = |e| KeyFolderError::Io(path.to_owned(), e);
    if crate::secret::readable_by_everyone(path).map_err(io)? {
        return Err(KeyFolderError::Open(path.to_owned()));
    }
    std::fs::read(path).map_err(io)
}

fn make_folder(path: &Path) -> Result<(), KeyFolderError> {
    crate::secret::make_private_folder(path).map_err(|e| KeyFolderError::Io(path.to_owned(), e))
}

fn sync(folder: &Path) -> Result<(), KeyFolderError> {
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|e| KeyFolderError::Io(folder.to_owned(), e))
}

/// Every key of a folder, by its name there, sealed as it lies. The passphrase is none of them, wherever it is.
pub(crate) fn files(folder: &Path) -> Result<Vec<KeyFile>, KeyFolderError> {
    let mut names = vec![CURRENT.to_owned()];
    match std::fs::read_dir(folder.join(RETIRED)) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry.map_err(|e| KeyFolderError::Io(folder.join(RETIRED), e))?;
                if let Ok(name) = entry.file_name().into_string()
                    && name.ends_with(".asc")
                {
                    names.push(format!("{RETIRED}/{name}"));
                }
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(KeyFolderError::Io(folder.join(RETIRED), e)),
    }
    names.sort();
    let mut files = Vec::with_capacity(names.len());
    for name in names {
        let path = folder.join(&name);
        match std::fs::read(&path) {
            Ok(content) => files.push((name, zeroize::Zeroizing::new(content))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(KeyFolderError::None(folder.to_owned()));
            }
            Err(e) => return Err(KeyFolderError::Io(path, e)),
        }
    }
    Ok(files)
}

/// Refuses a folder that has a key.
pub(crate) fn require_none(folder: &Path) -> Result<(), KeyFolderError> {
    if folder.join(CURRENT).symlink_metadata().is_ok() {
        return Err(KeyFolderError::Exists(folder.to_owned()));
    }
    Ok(())
}

/// Writes what [`files`] gave into a folder without a key; the current one last.
pub(crate) fn write_files(folder: &Path, files: &[KeyFile]) -> Result<(), KeyFolderError> {
    require_none(folder)?;
    make_folder(folder)?;
    make_folder(&folder.join(RETIRED))?;
    let (current, retired): (Vec<_>, Vec<_>) = files.iter().partition(|(name, _)| name == CURRENT);
    for (name, content) in retired.into_iter().chain(current) {
        let path = folder.join(name);
        write_private(&path, content).map_err(|e| KeyFolderError::Io(path, e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pli_seal::DocumentKey;

    fn folder() -> (tempfile::TempDir, KeyFolder) {
        let temporary = tempfile::tempdir().unwrap();
        let keys = KeyFolder::new(temporary.path().join("keys"), Passphrase::new("a passphrase").unwrap());
        (temporary, keys)
    }

    #[test]
    fn keys_are_made_once_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let (_temporary, keys) = folder();
        assert!(matches!(keys.open(), Err(KeyFolderError::None(_))));
        keys.init("test").unwrap();
        assert!(matches!(keys.init("test"), Err(KeyFolderError::Exists(_))));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&keys.path.join(CURRENT)), 0o600);
        assert_eq!(mode(&keys.path), 0o700);
        std::fs::set_permissions(keys.path.join(CURRENT), PermissionsExt::from_mode(0o644)).unwrap();
        assert!(matches!(keys.open(), Err(KeyFolderError::Open(_))));
    }

    #[test]
    fn a_retired_key_still_opens_what_was_wrapped_for_it() {
        let (_temporary, keys) = folder();
        keys.init("test").unwrap();
        let before = keys.open().unwrap();
        let key = DocumentKey::random().unwrap();
        let wrapped = key.wrap(&[before.current()]).unwrap();
        keys.rotate("test").unwrap();
        let after = keys.open().unwrap();
        assert_ne!(after.current().fingerprint(), before.current().fingerprint());
        assert_eq!(after.fingerprints().len(), 2);
        assert_eq!(DocumentKey::unwrap(&wrapped, &after).unwrap().as_bytes(), key.as_bytes());
    }

    #[test]
    fn a_rotation_cut_anywhere_is_taken_up() {
        let (_temporary, keys) = folder();
        keys.init("test").unwrap();
        let first = keys.open().unwrap().current().fingerprint();
        // Cut while the next key was written.
        write_private(&keys.path.join(NEXT), b"half a key").unwrap();
        assert_eq!(keys.open().unwrap().current().fingerprint(), first);
        // Cut after the old one was retired.
        let retired = keys.path.join(RETIRED);
        std::fs::create_dir(&retired).unwrap();
        std::fs::copy(keys.path.join(CURRENT), retired.join(format!("{first}.asc"))).unwrap();
        assert_eq!(keys.open().unwrap().fingerprints(), std::slice::from_ref(&first));
        keys.rotate("test").unwrap();
        let ring = keys.open().unwrap();
        assert_ne!(ring.current().fingerprint(), first);
        assert_eq!(ring.fingerprints().len(), 2);
    }
}
