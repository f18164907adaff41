//! The folder of the hub's keys: `hub.asc`, the current one, and `retired/FINGERPRINT.asc`; beside them the keys of
//! evidence: `journal.key` signs the journal's checkpoints, `seal.key` with `seal.pem` seals receipts.
//!
//! The keys of evidence are OpenPGP messages to the hub's own certificate: the one passphrase opens everything.
//!
//! Owns how keys lie on disk and the order of writes that makes a rotation safe to interrupt: there is
//! a current key at every moment, and no key is lost. Must never delete a key.

use std::{
    io,
    path::{Path, PathBuf},
};

use pli_api::Time;
use pli_hub::backup::KeyFile;
use pli_journal::SigningKey;
use pli_seal::{DocumentKey, KeyRing, Passphrase, SealError, open_message, seal_small};
use pli_signature::SealKey;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::secret::write_private;

const CURRENT: &str = "hub.asc";
const NEXT: &str = "next.asc";
const RETIRED: &str = "retired";
const JOURNAL: &str = "journal.key";
const SEAL_KEY: &str = "seal.key";
const SEAL: &str = "seal.pem";
/// The certificate that a development seal is checked with.
pub(crate) const SEAL_AUTHORITY: &str = "seal-authority.pem";
/// Octets of a key of evidence.
const KEY_MAX: usize = 64 << 10;
/// Days that a development seal lasts.
const DEVELOPMENT_DAYS: u16 = 3650;

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
    #[error("pas de {} : « pli keys init » le fait", .0.display())]
    NoEvidence(PathBuf),
    #[error("clé du journal")]
    Journal(#[from] pli_journal::NoteError),
    #[error("cachet")]
    Stamp(#[from] pli_signature::SignatureError),
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
        sync(&self.path)?;
        self.rewrap_evidence()
    }

    /// Makes the keys of evidence that are not there: the journal's, and a development seal unless the operator has
    /// a seal of their own. Whether any was made. Blocking.
    pub(crate) fn init_evidence(&self, now: Time, own_seal: bool) -> Result<bool, KeyFolderError> {
        let (journal, seal) = (self.path.join(JOURNAL), self.path.join(SEAL_KEY));
        let wanted = [&journal, &seal].map(|path| path.symlink_metadata().is_err());
        let [no_journal, no_seal] = wanted;
        if !no_journal && (own_seal || !no_seal) {
            return Ok(false);
        }
        let ring = self.open()?;
        if no_journal {
            let mut seed = Zeroizing::new([0; 32]);
            getrandom::fill(seed.as_mut())
                .map_err(|e| KeyFolderError::Io(journal.clone(), io::Error::other(e)))?;
            self.put(&journal, &ring, seed.as_ref())?;
        }
        if no_seal && !own_seal {
            let made = pli_signature::development_seal(now, DEVELOPMENT_DAYS)?;
            for (name, text) in [(SEAL, &made.certificates), (SEAL_AUTHORITY, &made.authority)] {
                let path = self.path.join(name);
                // Left by a run that was cut: without its key it is worth nothing.
                let _ = std::fs::remove_file(&path);
                crate::secret::write_public(&path, text.as_bytes())
                    .map_err(|e| KeyFolderError::Io(path, e))?;
            }
            self.put(&seal, &ring, made.key.as_bytes())?;
        }
        Ok(true)
    }

    /// The key that signs the journal. Without an origin, the journal is named after its key.
    pub(crate) fn journal(&self, ring: &KeyRing, origin: &str) -> Result<SigningKey, KeyFolderError> {
        let bytes = self.take(JOURNAL, ring)?;
        let mut seed = Zeroizing::new([0; 32]);
        if bytes.len() != seed.len() {
            return Err(KeyFolderError::NoEvidence(self.path.join(JOURNAL)));
        }
        seed.copy_from_slice(&bytes);
        if !origin.is_empty() {
            return Ok(SigningKey::from_seed(origin, &seed)?);
        }
        let key = SigningKey::from_seed("pli", &seed)?.verifier_key();
        let mut name = hex::encode(Sha256::digest(key.public()));
        name.truncate(8);
        Ok(SigningKey::from_seed(&format!("pli-{name}/journal"), &seed)?)
    }

    /// The seal that `init_evidence` made.
    pub(crate) fn seal(&self, ring: &KeyRing) -> Result<SealKey, KeyFolderError> {
        let key = self.take(SEAL_KEY, ring)?;
        let path = self.path.join(SEAL);
        let certificates = std::fs::read_to_string(&path).map_err(|e| KeyFolderError::Io(path, e))?;
        let unread = |_| KeyFolderError::NoEvidence(self.path.join(SEAL_KEY));
        let key = Zeroizing::new(std::str::from_utf8(&key).map_err(unread)?.to_owned());
        Ok(SealKey::from_pem(&certificates, &key)?)
    }

    /// Wraps the keys of evidence for the current certificate.
    fn rewrap_evidence(&self) -> Result<(), KeyFolderError> {
        let ring = self.open()?;
        for name in [JOURNAL, SEAL_KEY] {
            match self.take(name, &ring) {
                Ok(bytes) => self.put(&self.path.join(name), &ring, &bytes)?,
                Err(KeyFolderError::NoEvidence(_)) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    fn take(&self, name: &str, ring: &KeyRing) -> Result<Zeroizing<Vec<u8>>, KeyFolderError> {
        let path = self.path.join(name);
        if path.symlink_metadata().is_err() {
            return Err(KeyFolderError::NoEvidence(path));
        }
        let (_, bytes) = open_message(&read(&path)?, ring, KEY_MAX)?;
        Ok(Zeroizing::new(bytes))
    }

    /// Whole or not at all.
    fn put(&self, path: &Path, ring: &KeyRing, secret: &[u8]) -> Result<(), KeyFolderError> {
        let key = DocumentKey::random()?;
        let message = [key.wrap(&[ring.current()])?, seal_small(&key, secret)?].concat();
        let next = path.with_extension("next");
        let io = |e| KeyFolderError::Io(path.to_owned(), e);
        match std::fs::remove_file(&next) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io(e)),
            _ => {}
        }
        write_private(&next, &message).map_err(io)?;
        std::fs::rename(&next, path).map_err(io)?;
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
    fn the_keys_of_evidence_are_made_once_and_outlive_a_rotation() {
        let (_temporary, keys) = folder();
        let now = Time::from_micros(1_795_820_373_000_000);
        keys.init("test").unwrap();
        assert!(matches!(keys.journal(&keys.open().unwrap(), ""), Err(KeyFolderError::NoEvidence(_))));
        assert!(keys.init_evidence(now, false).unwrap());
        assert!(!keys.init_evidence(now, false).unwrap());
        let ring = keys.open().unwrap();
        let journal = keys.journal(&ring, "").unwrap().verifier_key();
        assert!(journal.name().starts_with("pli-") && journal.name().ends_with("/journal"));
        let seal = keys.seal(&ring).unwrap().certificate().sha256();
        keys.rotate("test").unwrap();
        std::fs::remove_dir_all(keys.path.join(RETIRED)).unwrap();
        let ring = keys.open().unwrap();
        assert_eq!(keys.journal(&ring, "").unwrap().verifier_key(), journal, "it is the new certificate's");
        assert_eq!(keys.seal(&ring).unwrap().certificate().sha256(), seal);
        assert_eq!(
            keys.journal(&ring, "example.org/journal").unwrap().verifier_key().name(),
            "example.org/journal"
        );
    }

    #[test]
    fn an_operator_with_a_seal_needs_no_other() {
        let (_temporary, keys) = folder();
        keys.init("test").unwrap();
        assert!(keys.init_evidence(Time::from_micros(0), true).unwrap());
        assert!(matches!(keys.seal(&keys.open().unwrap()), Err(KeyFolderError::NoEvidence(_))));
        assert!(!keys.init_evidence(Time::from_micros(0), true).unwrap());
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
