//! Backups: a folder with the database as it was at one instant, the objects, and digests of both.
//!
//! Owns the layout of that folder, and the table `backups`. Must never make a backup that is there unusable before the next one is whole,
//! take a key or a passphrase by itself, or restore over anything.
//!
//! The order carries it: the database first, the objects after, `backup.json` last, under its name only once it
//! is on the disk. What a run that was killed left behind is named by no `backup.json`. An object has a name that is
//! never used again: one that is there is not copied again. One that the store no longer has (erased, that is)
//! leaves the backup too, once the next `backup.json` stands.

use crate::Clock;
use crate::fault::{Fault, Result};
use crate::journal::Event;
use bytes::Bytes;
use pli_api::{ProblemCode, Time};
use pli_storage::{BlobError, Blobs, Class, Db, Dialect, ObjectKey, args, snapshot};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;
use zeroize::Zeroizing;

/// The list of everything else, written last.
const MANIFEST: &str = "backup.json";
const OBJECTS: &str = "objects";
/// The most bytes of `backup.json` that are read.
const MANIFEST_MAX: u64 = 1 << 20;
/// The most bytes of an object: a segment of 64 MiB, or a manifest.
const OBJECT_MAX: u64 = 128 << 20;
/// Seconds for which a backup is believed to go on without a sign of it, and after which it gives one.
const BELIEVED: i64 = 600;
const SIGN: Duration = Duration::from_secs(60);
/// Objects copied side by side; each is in memory meanwhile.
const PARALLEL: usize = 4;

/// A file of the backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    file: String,
    length: u64,
    /// Hexadecimal.
    sha256: String,
}

/// `backup.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    made: Time,
    /// `sqlite` or `postgres`: one is not restored into the other.
    dialect: String,
    database: Named,
    /// A line for each object: SHA-256, length, key.
    objects: Named,
    keys: Vec<Named>,
}

impl Manifest {
    fn files(&self) -> impl Iterator<Item = &Named> {
        [&self.database, &self.objects].into_iter().chain(&self.keys)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    length: u64,
    sha256: [u8; 32],
}

type Objects = BTreeMap<ObjectKey, Known>;

/// A file of the keys' folder, by its name in it. Sealed under the passphrase, which is none of them.
pub type KeyFile = (String, Zeroizing<Vec<u8>>);

/// What a backup did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Objects in the backup, and their bytes.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that were not there before.
    pub copied: u64,
    /// Objects of an earlier backup that the store no longer has, removed.
    pub removed: u64,
    /// Objects that the database names and the store does not have.
    pub missing: Vec<String>,
}

/// What a restore did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// When the backup was made.
    pub made: Option<Time>,
    /// Objects restored, or there already from a restore that was cut.
    pub objects: u64,
    /// Objects that the backup no longer has as they were.
    pub damaged: Vec<String>,
    /// The keys of the backup.
    pub keys: Vec<KeyFile>,
}

/// Makes a backup in `folder`, or brings the one that is there up to date. Everyone may work meanwhile; no object
/// is deleted before it ends.
///
/// # Errors
/// 409 while another is being made there; what database, store or disk say. The backup of before stays usable.
pub async fn save(db: &Db, blobs: &Blobs, keys: &[KeyFile], folder: &Path, clock: &Clock) -> Result<Saved> {
    make_folder(folder)?;
    let _lock = lock(folder)?;
    let id = Uuid::now_v7();
    let saving = async {
        // Before the copy of the database: what that names is not deleted from here on.
        believe(db, id, clock.now()).await?;
        save_locked(db, blobs, keys, folder, clock.now()).await
    };
    let mut saving = std::pin::pin!(saving);
    let saved = loop {
        tokio::select! {
            saved = &mut saving => break saved,
            () = tokio::time::sleep(SIGN) => believe(db, id, clock.now()).await?,
        }
    };
    let mut tx = db.write().await?;
    tx.execute("DELETE FROM backups WHERE id = $1 OR until <= $2", args![id, clock.now()]).await?;
    tx.commit().await?;
    saved
}

async fn believe(db: &Db, id: Uuid, now: Time) -> Result<()> {
    let mut tx = db.write().await?;
    let sql = "INSERT INTO backups (id, until) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET until = excluded.until";
    tx.execute(sql, args![id, now.plus_seconds(BELIEVED)]).await?;
    Ok(tx.commit().await?)
}

/// Whether a backup is being made, so that objects have to stay.
pub(crate) async fn is_under_way(db: &Db, now: Time) -> Result<bool> {
    Ok(!db.rows("SELECT 1 AS yes FROM backups WHERE until > $1 LIMIT 1", args![now]).await?.is_empty())
}

async fn save_locked(db: &Db, blobs: &Blobs, keys: &[KeyFile], folder: &Path, now: Time) -> Result<Saved> {
    let before = manifest(folder)?;
    let known = match &before {
        Some(before) => objects(folder, before).await.unwrap_or_default(),
        None => Objects::new(),
    };
    // What a run that was killed left.
    keep_files(folder, before.as_ref())?;

    let stamp = now.micros();
    let database = format!("database-{stamp}");
    db.save(&folder.join(&database)).await?;
    let database = named(folder, database).await?;
    let kept = Blobs::folder(folder.join(OBJECTS))?;
    let mut saved = Saved::default();
    let mut copied = copy_all(blobs, &kept, &known, &mut saved).await?;
    missing(db, blobs, &known, &mut copied, &mut saved).await?;
    saved.objects = copied.len() as u64;
    saved.bytes = copied.values().map(|known| known.length).sum();

    let list: String =
        copied.iter().map(|(key, k)| format!("{} {} {key}\n", hex::encode(k.sha256), k.length)).collect();
    let list = write_named(folder, format!("objects-{stamp}"), list.as_bytes())?;
    let mut key_files = Vec::new();
    for (name, content) in keys {
        key_files.push(write_named(folder, format!("keys-{stamp}/{name}"), content)?);
    }
    let dialect = dialect_word(db.dialect()).to_owned();
    let made = Manifest { format: 1, made: now, dialect, database, objects: list, keys: key_files };
    let text = serde_json::to_vec_pretty(&made).map_err(Fault::internal)?;
    write_last(folder, &text)?;

    keep_files(folder, Some(&made))?;
    for class in Class::ALL {
        for key in listed(&kept, class).await?.into_keys() {
            if !copied.contains_key(&key) {
                kept.delete(&key).await?;
                saved.removed = saved.removed.saturating_add(1);
            }
        }
    }
    let detail = serde_json::json!({
        "database": made.database.sha256, "objects": saved.objects, "keys": !made.keys.is_empty(),
    });
    let mut tx = db.write().await?;
    Event::new("backup.made").detail(detail).write(&mut tx, now).await?;
    tx.commit().await?;
    Ok(saved)
}

async fn copy_all(from: &Blobs, to: &Blobs, known: &Objects, saved: &mut Saved) -> Result<Objects> {
    let mut all = Objects::new();
    for class in Class::ALL {
        let there = listed(to, class).await?;
        let entries: Vec<_> = listed(from, class).await?.into_iter().collect();
        for some in entries.chunks(PARALLEL) {
            let each = some.iter().map(|(key, length)| {
                let there = there.get(key) == Some(length);
                one(from, to, key, *length, known.get(key).copied(), there)
            });
            for ((key, _), done) in some.iter().zip(futures_util::future::join_all(each).await) {
                // None: deleted since it was listed.
                let Some((known, new)) = done? else { continue };
                saved.copied = saved.copied.saturating_add(u64::from(new));
                all.insert(key.clone(), known);
            }
        }
    }
    Ok(all)
}

/// Makes sure of one object; gives what it is, and whether it had to be copied.
async fn one(
    from: &Blobs,
    to: &Blobs,
    key: &ObjectKey,
    length: u64,
    known: Option<Known>,
    there: bool,
) -> Result<Option<(Known, bool)>> {
    match known {
        Some(known) if there && known.length == length => Ok(Some((known, false))),
        // Copied by a run that was killed: whole, since nothing half-written has a name.
        _ if there => Ok(read_object(to, key, length).await?.map(|(known, _)| (known, false))),
        _ => Ok(copy(from, to, key, length).await?.map(|known| (known, true))),
    }
}

async fn copy(from: &Blobs, to: &Blobs, key: &ObjectKey, length: u64) -> Result<Option<Known>> {
    let Some((known, parts)) = read_object(from, key, length).await? else { return Ok(None) };
    to.put(key, parts).await?;
    Ok(Some(known))
}

async fn read_object(blobs: &Blobs, key: &ObjectKey, length: u64) -> Result<Option<(Known, Vec<Bytes>)>> {
    if length > OBJECT_MAX {
        return Err(Fault::internal(format!("object {key} of {length} bytes")));
    }
    let mut reader = match blobs.get(key, 0..length).await {
        Ok(reader) => reader,
        Err(BlobError::NotFound) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let (mut digest, mut parts) = (Sha256::new(), Vec::new());
    while let Some(piece) = reader.next().await? {
        digest.update(&piece);
        parts.push(piece);
    }
    Ok(Some((Known { length, sha256: digest.finalize().into() }, parts)))
}

/// Objects of a class with their lengths. Memory: about 100 bytes an object.
async fn listed(blobs: &Blobs, class: Class) -> Result<BTreeMap<ObjectKey, u64>> {
    let mut all = BTreeMap::new();
    let mut after: Option<ObjectKey> = None;
    loop {
        let page = blobs.list(class, after.as_ref(), 1000).await?;
        let last = page.len() < 1000;
        after = page.last().map(|entry| entry.key.clone());
        all.extend(page.into_iter().map(|entry| (entry.key, entry.length)));
        if last {
            return Ok(all);
        }
    }
}

/// What the database names and the store does not have is told; what an earlier backup has of it stays.
async fn missing(
    db: &Db,
    blobs: &Blobs,
    known: &Objects,
    copied: &mut Objects,
    saved: &mut Saved,
) -> Result<()> {
    let mut suspects = BTreeSet::new();
    let (mut upload, mut idx) = (Uuid::nil(), -1_i64);
    loop {
        let sql = "SELECT upload, idx, object FROM segments WHERE upload > $1 OR (upload = $1 AND idx > $2)
                   ORDER BY upload, idx LIMIT 1000";
        let rows = db.rows(sql, args![upload, idx]).await?;
        let Some(last) = rows.last() else { break };
        (upload, idx) = (last.get("upload")?, last.get("idx")?);
        for row in &rows {
            let object: ObjectKey = row.get::<String>("object")?.parse().map_err(Fault::internal)?;
            if !copied.contains_key(&object) {
                suspects.insert(object);
            }
        }
    }
    let mut id = Uuid::nil();
    loop {
        let sql = "SELECT id, manifest FROM documents WHERE manifest IS NOT NULL AND id > $1 ORDER BY id LIMIT 1000";
        let rows = db.rows(sql, args![id]).await?;
        let Some(last) = rows.last() else { break };
        id = last.get("id")?;
        for row in &rows {
            let object: ObjectKey = row.get::<String>("manifest")?.parse().map_err(Fault::internal)?;
            if !copied.contains_key(&object) {
                suspects.insert(object);
            }
        }
    }
    for object in suspects {
        // Named since the store was listed, or erased since the rows were read.
        if blobs.head(&object).await?.is_some() || !is_named(db, &object).await? {
            continue;
        }
        if let Some(known) = known.get(&object) {
            copied.insert(object.clone(), *known);
        }
        saved.missing.push(object.to_string());
    }
    Ok(())
}

async fn is_named(db: &Db, object: &ObjectKey) -> Result<bool> {
    let sql = "SELECT 1 AS named FROM segments WHERE object = $1
               UNION ALL SELECT 1 AS named FROM documents WHERE manifest = $1";
    Ok(!db.rows(sql, args![object.as_str()]).await?.is_empty())
}

/// Reads a backup through and compares every digest. Gives when it was made, and what is damaged.
///
/// # Errors
/// 404 where there is none; `Damaged` when the list of what should be there is.
pub async fn verify(folder: &Path) -> Result<(Time, Vec<String>)> {
    let made = manifest(folder)?.ok_or_else(none)?;
    let mut damaged = Vec::new();
    for file in made.files() {
        if !is_whole(folder, file).await? {
            damaged.push(file.file.clone());
        }
    }
    let kept = Blobs::folder(folder.join(OBJECTS))?;
    for (key, known) in objects(folder, &made).await? {
        if whole_object(&kept, &key, known).await?.is_none() {
            damaged.push(key.to_string());
        }
    }
    Ok((made.made, damaged))
}

/// Restores a backup into the empty database at `url` and an empty store. The database comes last: a restore that
/// was cut may be run again, and until it is through there is nothing to serve. Damaged objects do not keep the rest.
///
/// # Errors
/// 404 without a backup, 409 when database or store hold something else, `Damaged` when the copy of the database or
/// the list of objects is; what database, store or disk say.
pub async fn restore(url: &str, blobs: &Blobs, folder: &Path) -> Result<Restored> {
    let made = manifest(folder)?.ok_or_else(none)?;
    let dialect = if url.starts_with("sqlite:") { Dialect::Sqlite } else { Dialect::Postgres };
    if made.dialect != dialect_word(dialect) {
        let detail = format!("La sauvegarde est celle d'une base {}.", made.dialect);
        return Err(Fault::because(ProblemCode::Conflict, detail));
    }
    for file in made.files() {
        if !is_whole(folder, file).await? {
            return Err(Fault::because(ProblemCode::Damaged, format!("Fichier endommagé : {}.", file.file)));
        }
    }
    let wanted = objects(folder, &made).await?;
    snapshot::require_empty(url).await.map_err(|_| {
        Fault::because(ProblemCode::Conflict, "La base de données n'est pas vide, ou hors d'atteinte.")
    })?;
    let mut restored = Restored { made: Some(made.made), ..Restored::default() };
    let kept = Blobs::folder(folder.join(OBJECTS))?;
    // All is looked at before anything is added.
    let mut there = BTreeMap::new();
    for class in Class::ALL {
        there.extend(listed(blobs, class).await?);
    }
    if there.iter().any(|(key, length)| wanted.get(key).is_none_or(|known| known.length != *length)) {
        return Err(Fault::because(ProblemCode::Conflict, "Le magasin n'est pas vide."));
    }
    for (key, known) in &wanted {
        if !there.contains_key(key) {
            let Some(parts) = whole_object(&kept, key, *known).await? else {
                restored.damaged.push(key.to_string());
                continue;
            };
            blobs.put(key, parts).await?;
        }
        restored.objects = restored.objects.saturating_add(1);
    }
    for file in &made.keys {
        let content = Zeroizing::new(std::fs::read(inside(folder, &file.file)?).map_err(|e| of_file(&e))?);
        let name = file.file.split_once('/').map_or(file.file.as_str(), |(_, name)| name);
        restored.keys.push((name.to_owned(), content));
    }
    snapshot::restore(url, &inside(folder, &made.database.file)?).await?;
    Ok(restored)
}

/// The object's bytes, if they are those that were saved.
async fn whole_object(kept: &Blobs, key: &ObjectKey, known: Known) -> Result<Option<Vec<Bytes>>> {
    match read_object(kept, key, known.length).await {
        Ok(Some((found, parts))) if found == known => Ok(Some(parts)),
        Ok(_) => Ok(None),
        Err(fault) if fault.code() == ProblemCode::Damaged => Ok(None),
        Err(fault) => Err(fault),
    }
}

fn none() -> Fault {
    Fault::because(ProblemCode::NotFound, "Ce dossier ne contient pas de sauvegarde.")
}

const fn dialect_word(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "sqlite",
        Dialect::Postgres => "postgres",
    }
}

fn of_file(e: &io::Error) -> Fault {
    let code = match e.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ProblemCode::StorageFull,
        _ => ProblemCode::Internal,
    };
    Fault::because(code, format!("Dossier de sauvegarde : {}.", e.kind()))
}

fn make_folder(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| of_file(&e))
}

/// One backup at a time in a folder; the lock goes with the process.
fn lock(folder: &Path) -> Result<File> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join("lock"));
    let file = file.map_err(|e| of_file(&e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Fault::because(ProblemCode::Conflict, "Une sauvegarde est en cours dans ce dossier."))
        }
        Err(TryLockError::Error(e)) => Err(of_file(&e)),
    }
}

/// `backup.json`, if there is one.
fn manifest(folder: &Path) -> Result<Option<Manifest>> {
    let file = match File::open(folder.join(MANIFEST)) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(of_file(&e)),
    };
    let mut text = Vec::new();
    file.take(MANIFEST_MAX).read_to_end(&mut text).map_err(|e| of_file(&e))?;
    let damaged = || Fault::because(ProblemCode::Damaged, format!("{MANIFEST} est endommagé."));
    let made: Manifest = serde_json::from_slice(&text).map_err(|_| damaged())?;
    if made.format != 1 {
        return Err(Fault::because(ProblemCode::Conflict, "Sauvegarde d'une version plus récente de Pli."));
    }
    for file in made.files() {
        inside(folder, &file.file)?;
    }
    Ok(Some(made))
}

/// A file of the backup; no name leads out of it.
fn inside(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = Path::new(name);
    if name.is_empty() || path.components().any(|part| !matches!(part, Component::Normal(_))) {
        return Err(Fault::because(ProblemCode::Damaged, format!("{MANIFEST} est endommagé.")));
    }
    Ok(folder.join(path))
}

async fn objects(folder: &Path, made: &Manifest) -> Result<Objects> {
    let damaged =
        || Fault::because(ProblemCode::Damaged, format!("Fichier endommagé : {}.", made.objects.file));
    if !is_whole(folder, &made.objects).await? {
        return Err(damaged());
    }
    let text = std::fs::read_to_string(inside(folder, &made.objects.file)?).map_err(|_| damaged())?;
    parse(&text).ok_or_else(damaged)
}

fn parse(list: &str) -> Option<Objects> {
    list.lines()
        .map(|line| {
            let mut words = line.split(' ');
            let (Some(sha256), Some(length), Some(key), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                return None;
            };
            let sha256 = hex::decode(sha256).ok()?.try_into().ok()?;
            Some((key.parse().ok()?, Known { length: length.parse().ok()?, sha256 }))
        })
        .collect()
}

async fn named(folder: &Path, name: String) -> Result<Named> {
    let (length, sha256) =
        digest(folder.join(&name)).await?.ok_or_else(|| Fault::internal("a file that was just written"))?;
    Ok(Named { file: name, length, sha256 })
}

async fn is_whole(folder: &Path, file: &Named) -> Result<bool> {
    let found = digest(inside(folder, &file.file)?).await?;
    Ok(found.is_some_and(|(length, sha256)| length == file.length && sha256 == file.sha256))
}

/// Length and SHA-256 of a file; `None` when there is none.
async fn digest(path: PathBuf) -> Result<Option<(u64, String)>> {
    tokio::task::spawn_blocking(move || {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(of_file(&e)),
        };
        let (mut digest, mut length) = (Sha256::new(), 0_u64);
        let mut piece = vec![0; 1 << 20];
        loop {
            let read = file.read(&mut piece).map_err(|e| of_file(&e))?;
            let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            digest.update(bytes);
            length = length.saturating_add(read as u64);
        }
        Ok(Some((length, hex::encode(digest.finalize()))))
    })
    .await?
}

fn write_named(folder: &Path, name: String, content: &[u8]) -> Result<Named> {
    let path = inside(folder, &name)?;
    let parent = path.parent().unwrap_or(folder);
    make_folder(parent)?;
    write_new(&path, content).and_then(|()| sync(parent)).map_err(|e| of_file(&e))?;
    let sha256 = hex::encode(Sha256::digest(content));
    Ok(Named { file: name, length: content.len() as u64, sha256 })
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn write_last(folder: &Path, text: &[u8]) -> Result<()> {
    let unfinished = folder.join("backup.json.part");
    let written = || {
        match std::fs::remove_file(&unfinished) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        // The names of all the rest before this one.
        sync(folder)?;
        write_new(&unfinished, text)?;
        std::fs::rename(&unfinished, folder.join(MANIFEST))?;
        sync(folder)
    };
    written().map_err(|e| of_file(&e))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes the files of other backups than this one. Nothing that Pli did not name is touched.
fn keep_files(folder: &Path, made: Option<&Manifest>) -> Result<()> {
    let first = |name: &str| name.split('/').next().unwrap_or_default().to_owned();
    let kept: BTreeSet<String> =
        made.into_iter().flat_map(Manifest::files).map(|file| first(&file.file)).collect();
    let remove = || -> io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let stamped =
                |prefix| name.strip_prefix(prefix).is_some_and(|rest: &str| rest.parse::<i64>().is_ok());
            if kept.contains(&name) {
                continue;
            }
            if stamped("database-") || stamped("objects-") {
                std::fs::remove_file(entry.path())?;
            } else if stamped("keys-") {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    };
    remove().map_err(|e| of_file(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let folder = Path::new("/sauvegarde");
        assert_eq!(
            inside(folder, "keys-1/retired/a.asc").unwrap(),
            Path::new("/sauvegarde/keys-1/retired/a.asc")
        );
        for bad in ["", "..", "../a", "a/../../b", "/etc/passwd", "./../a"] {
            assert!(inside(folder, bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_list_is_read_whole_or_not_at_all() {
        let key = "segments/ab/ab000000000000000000000000000000";
        let line = format!("{} 12 {key}", "0".repeat(64));
        assert_eq!(parse(&format!("{line}\n")).unwrap().len(), 1);
        assert!(parse("").unwrap().is_empty());
        for bad in [
            format!("{line} x"),
            format!("00 12 {key}"),
            line.replace(" 12 ", " -1 "),
            line.replace("ab/ab", "ab/.."),
        ] {
            assert!(parse(&format!("{line}\n{bad}\n")).is_none(), "{bad:?}");
        }
    }
}
