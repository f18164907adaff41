//! What the operator does from the command line: people, rotation of keys, inspection, recovery.
//!
//! Everything here is run by someone who has the configuration and the hub's passphrase; nothing of it
//! is reachable over the network.

use crate::boxes::{self, NewBox, line};
use crate::content::Content;
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::receive::UNNAMED;
use crate::{Hub, people, roles, webhooks};
use bytes::Bytes;
use pli_api::{
    AccountId, BoxKind, IssuedToken, JobId, NewToken, OrganisationId, OrganisationKind, ProblemCode, Role,
    Time,
};
use pli_seal::{ContentDigest, DocumentKey, KeyRing, Manifest};
use pli_storage::{Blobs, Class, DbError, JobFilter, JobState, ObjectKey, Tx, args};
use std::collections::HashMap;
use uuid::Uuid;
use zeroize::Zeroizing;

/// The most bytes of a manifest that are read: some 130,000 segments, 2 TB in 16 MiB.
const MANIFEST_MAX: u64 = pli_seal::MANIFEST_MAX as u64;

/// Adds an organisation.
///
/// # Errors
/// 422 for an empty name; what the database says.
pub async fn add_organisation(
    hub: &Hub,
    kind: OrganisationKind,
    name: &str,
    quota: u64,
) -> Result<OrganisationId> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > 200 {
        return Err(Fault::because(ProblemCode::Invalid, "Nom de 1 à 200 caractères."));
    }
    let quota =
        i64::try_from(quota).map_err(|_| Fault::because(ProblemCode::Invalid, "Quota trop grand."))?;
    let (id, now) = (OrganisationId::new(), hub.now());
    let mut tx = hub.db().write().await?;
    tx.execute(
        "INSERT INTO organisations (id, kind, name, quota, used, takes_unanalysed, created)
         VALUES ($1, $2, $3, $4, 0, FALSE, $5)",
        args![id.0, kind.as_str(), name, quota, now],
    )
    .await?;
    Event::new("organisation.added")
        .detail(serde_json::json!({ "organisation": id }))
        .write(&mut tx, now)
        .await?;
    tx.commit().await?;
    Ok(id)
}

/// The organisation of this id or, exactly, this name.
///
/// # Errors
/// 404 for none, or several.
pub(crate) async fn organisation_named(
    tx: &mut Tx,
    named: &str,
) -> Result<(OrganisationId, OrganisationKind)> {
    let rows = match named.parse::<OrganisationId>() {
        Ok(known) => tx.rows("SELECT id, kind FROM organisations WHERE id = $1", args![known.0]).await?,
        Err(_) => tx.rows("SELECT id, kind FROM organisations WHERE name = $1", args![named.trim()]).await?,
    };
    let [row] = rows.as_slice() else {
        return Err(Fault::because(ProblemCode::NotFound, "Aucune organisation, ou plusieurs, de ce nom."));
    };
    let kind = row.get::<String>("kind")?.parse().map_err(Fault::internal)?;
    Ok((OrganisationId(row.get("id")?), kind))
}

/// Sets the bounds of retention of an organisation, in days, and what is taken when a sender says nothing; what is
/// absent is the operator's.
///
/// # Errors
/// 404 without such an organisation; 422 when a bound is 0 or more than ten years, or they are not in order.
pub async fn set_retention(
    hub: &Hub,
    organisation: OrganisationId,
    least: Option<u32>,
    most: Option<u32>,
    usual: Option<u32>,
) -> Result<()> {
    let given: Vec<u32> = [least, usual, most].into_iter().flatten().collect();
    if given.iter().any(|days| !(1..=3653).contains(days)) || !given.is_sorted() {
        let said = "Durées de conservation : de 1 à 3653 jours, dans l'ordre minimum, usuelle, maximum.";
        return Err(Fault::because(ProblemCode::Invalid, said));
    }
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let changed = tx
        .execute(
            "UPDATE organisations SET retention_min = $2, retention_max = $3, retention_usual = $4 WHERE id = $1",
            args![organisation.0, least.map(i64::from), most.map(i64::from), usual.map(i64::from)],
        )
        .await?;
    if changed == 0 {
        return Err(ProblemCode::NotFound.into());
    }
    let detail =
        serde_json::json!({ "organisation": organisation, "min": least, "max": most, "usual": usual });
    Event::new("organisation.retention_set").detail(detail).write(&mut tx, now).await?;
    tx.commit().await?;
    Ok(())
}

/// Adds an account to an organisation, named by its id or by its exact name.
///
/// # Errors
/// 404 without such an organisation, 409 for an address that has an account, 422 for a malformed address
/// or a password of fewer than 12 characters.
pub async fn add_account(
    hub: &Hub,
    organisation: &str,
    address: &str,
    name: &str,
    password: Option<Zeroizing<String>>,
) -> Result<AccountId> {
    let address = people::address(address)?;
    let password = match password {
        Some(password) if password.chars().count() < 12 => {
            return Err(Fault::because(ProblemCode::Invalid, "Mot de passe : 12 caractères au moins."));
        }
        Some(password) => Some(tokio::task::spawn_blocking(move || people::hash_password(&password)).await??),
        None => None,
    };
    let (id, now) = (AccountId::new(), hub.now());
    let mut tx = hub.db().write().await?;
    let (organisation, kind) = organisation_named(&mut tx, organisation).await?;
    let new = NewBox {
        id: id.into(),
        kind: BoxKind::Person,
        organisation,
        address: &address,
        name: line("Nom", name, 200)?,
        function: "",
        speciality: "",
    };
    boxes::insert(&mut tx, now, &new).await?;
    tx.execute("INSERT INTO accounts (id, password) VALUES ($1, $2)", args![id.0, password]).await?;
    let role = if kind == OrganisationKind::Company { Role::Expert } else { Role::Agent };
    roles::grant(&mut tx, now, id, organisation, role).await?;
    Event::new("account.added").detail(serde_json::json!({ "account": id })).write(&mut tx, now).await?;
    tx.commit().await?;
    Ok(id)
}

/// Makes a personal access token for an account; its secret is told here and never again.
///
/// # Errors
/// 404 without such an account, 422 for a name or a duration out of bounds.
pub async fn add_token(hub: &Hub, address: &str, new: &NewToken) -> Result<IssuedToken> {
    let mut tx = hub.db().write().await?;
    let row = tx
        .optional(
            "SELECT id FROM boxes WHERE address = $1 AND kind = 'person' AND closed IS NULL",
            args![people::address(address)?],
        )
        .await?
        .ok_or(ProblemCode::NotFound)?;
    let token = people::issue_token(hub, &mut tx, AccountId(row.get("id")?), new).await?;
    tx.commit().await?;
    Ok(token)
}

/// Gives an organisation another quota, in bytes. Less than it uses is allowed: it then receives nothing more.
///
/// # Errors
/// 404 without such an organisation, or with several of that name; 422 for a quota out of bounds.
pub async fn set_quota(hub: &Hub, organisation: &str, quota: u64) -> Result<OrganisationId> {
    let quota =
        i64::try_from(quota).map_err(|_| Fault::because(ProblemCode::Invalid, "Quota trop grand."))?;
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let (id, _) = organisation_named(&mut tx, organisation).await?;
    tx.execute("UPDATE organisations SET quota = $2 WHERE id = $1", args![id.0, quota]).await?;
    let detail = serde_json::json!({ "organisation": id, "quota": quota });
    Event::new("organisation.changed").detail(detail).write(&mut tx, now).await?;
    tx.commit().await?;
    Ok(id)
}

/// Puts every dead job back, or one. Gives how many.
///
/// # Errors
/// 404 without such a dead job.
pub async fn retry_jobs(hub: &Hub, job: Option<JobId>) -> Result<u64> {
    let now = hub.now();
    if let Some(job) = job {
        // A living job that does the same work is as good.
        return match hub.db().requeue(job, now).await {
            Ok(true) => Ok(1),
            Ok(false) => Err(ProblemCode::NotFound.into()),
            Err(error) => Err(error.into()),
        };
    }
    let (mut done, mut after) = (0_u64, None);
    loop {
        let filter = JobFilter { state: Some(JobState::Dead), after, ..JobFilter::default() };
        let page = hub.db().jobs(filter).await?;
        let Some(last) = page.last() else { return Ok(done) };
        after = Some(last.id);
        for job in &page {
            match hub.db().requeue(job.id, now).await {
                Ok(put) => done = done.saturating_add(u64::from(put)),
                Err(DbError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// What an organisation did in a time, and what it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Identifier.
    pub organisation: OrganisationId,
    /// Name.
    pub name: String,
    /// The word of its kind.
    pub kind: String,
    /// Bytes it may keep.
    pub quota: i64,
    /// Bytes promised and kept, now.
    pub used: i64,
    /// Its people's accounts that are open, now.
    pub accounts: i64,
    /// Deposits sent in the time.
    pub deposits: i64,
    /// Documents of those.
    pub documents: i64,
    /// Their bytes.
    pub bytes: i64,
    /// Those of the documents that are infected.
    pub infected: i64,
    /// Those of the documents that were not analysed, for whatever reason.
    pub not_analysed: i64,
    /// Downloads of those deposits that were completed, whenever.
    pub downloads: i64,
}

/// Figures of every organisation, in the order of their making; deposits sent from `from` to before `to`.
///
/// # Errors
/// When the database does not answer.
pub async fn figures(hub: &Hub, from: Time, to: Time) -> Result<Vec<Figures>> {
    let mut all = Vec::new();
    let mut after = Uuid::nil();
    loop {
        let sql = "SELECT o.id, o.name, o.kind, o.quota, o.used,
                 (SELECT COUNT(*) FROM boxes b WHERE b.organisation = o.id AND b.kind = 'person' AND b.closed IS NULL)
                     AS accounts,
                 COUNT(p.id) AS deposits,
                 CAST(COALESCE(SUM(p.documents), 0) AS BIGINT) AS documents,
                 CAST(COALESCE(SUM(p.bytes), 0) AS BIGINT) AS bytes,
                 CAST(COALESCE(SUM(p.infected), 0) AS BIGINT) AS infected,
                 CAST(COALESCE(SUM(p.not_analysed), 0) AS BIGINT) AS not_analysed,
                 CAST(COALESCE(SUM(p.downloads), 0) AS BIGINT) AS downloads
             FROM organisations o LEFT JOIN (
                 SELECT d.id, d.organisation, COUNT(t.id) AS documents, SUM(t.size) AS bytes,
                     SUM(CASE WHEN t.scan = 'infected' THEN 1 ELSE 0 END) AS infected,
                     SUM(CASE WHEN t.scan = 'not_analysed' THEN 1 ELSE 0 END) AS not_analysed,
                     (SELECT COUNT(*) FROM events e WHERE e.deposit = d.id AND e.kind = 'download.completed') AS downloads
                 FROM deposits d LEFT JOIN documents t ON t.deposit = d.id
                 WHERE d.sent >= $1 AND d.sent < $2 GROUP BY d.id, d.organisation) p ON p.organisation = o.id
             WHERE o.id > $3 GROUP BY o.id, o.name, o.kind, o.quota, o.used ORDER BY o.id LIMIT 200";
        let rows = hub.db().rows(sql, args![from, to, after]).await?;
        let Some(last) = rows.last() else { return Ok(all) };
        after = last.get("id")?;
        for row in &rows {
            let number = |column: &str| row.get::<i64>(column);
            all.push(Figures {
                organisation: OrganisationId(row.get("id")?),
                name: row.get("name")?,
                kind: row.get("kind")?,
                quota: number("quota")?,
                used: number("used")?,
                accounts: number("accounts")?,
                deposits: number("deposits")?,
                documents: number("documents")?,
                bytes: number("bytes")?,
                infected: number("infected")?,
                not_analysed: number("not_analysed")?,
                downloads: number("downloads")?,
            });
        }
    }
}

/// What a rotation did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Document keys wrapped anew in the database.
    pub keys: u64,
    /// Manifests whose wrapping in the store was replaced.
    pub manifests: u64,
    /// Uploads and documents whose key could not be wrapped anew, each with the reason: they still need the
    /// older certificate, which must then not be thrown away.
    pub refused: Vec<String>,
}

/// Wraps every document key for the current certificate of the ring, in the database and in the manifests'
/// heads. No segment is touched. To be run again until it finds nothing, as long as a process with the older
/// ring may still make documents. What is damaged is told and does not keep the rest.
///
/// # Errors
/// What database or store say when they do not answer; what was done stays done.
pub async fn rotate_keys(hub: &Hub) -> Result<Rotation> {
    let mut done = Rotation::default();
    let current = hub.keys().current();
    rotate_wraps(hub, &current, &mut done).await?;
    let webhooks = webhooks::rotate(hub, &current, &mut done.refused).await?;
    done.keys = done.keys.saturating_add(webhooks);
    rotate_manifests(hub, &current, &mut done).await?;
    let now = hub.now();
    let detail = serde_json::json!({
        "to": current, "keys": done.keys, "manifests": done.manifests, "refused": done.refused.len(),
    });
    let mut tx = hub.db().write().await?;
    Event::new("keys.rotated").detail(detail).write(&mut tx, now).await?;
    tx.commit().await?;
    Ok(done)
}

async fn rotate_wraps(hub: &Hub, current: &str, done: &mut Rotation) -> Result<()> {
    let mut after = Uuid::nil();
    loop {
        let rows = hub
            .db()
            .rows(
                "SELECT id, wrapped_key, wrapped_for FROM uploads
                 WHERE wrapped_key IS NOT NULL AND wrapped_for <> $1 AND id > $2 ORDER BY id LIMIT 500",
                args![current, after],
            )
            .await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.get("id")?;
        for row in &rows {
            let id: Uuid = row.get("id")?;
            let key = match hub.keys().unwrap(&row.get::<Vec<u8>>("wrapped_key")?) {
                Ok(key) => key,
                Err(fault) => {
                    done.refused.push(format!("upload {id}: {fault}"));
                    continue;
                }
            };
            let wrapped = key.wrap(&[hub.keys().ring().current()])?;
            let mut tx = hub.db().write().await?;
            let moved = tx
                .execute(
                    "UPDATE uploads SET wrapped_key = $2, wrapped_for = $3
                     WHERE id = $1 AND wrapped_for = $4 AND wrapped_key IS NOT NULL",
                    args![id, wrapped, current, row.get::<String>("wrapped_for")?],
                )
                .await?;
            tx.commit().await?;
            done.keys = done.keys.saturating_add(moved);
        }
    }
}

async fn rotate_manifests(hub: &Hub, current: &str, done: &mut Rotation) -> Result<()> {
    let mut after = Uuid::nil();
    loop {
        let rows = hub
            .db()
            .rows(
                "SELECT id, manifest FROM documents
                 WHERE manifest IS NOT NULL AND wrapped_for <> $1 AND id > $2 ORDER BY id LIMIT 500",
                args![current, after],
            )
            .await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.get("id")?;
        for row in &rows {
            let id: Uuid = row.get("id")?;
            match rotate_manifest(hub, current, id, &row.get::<String>("manifest")?).await {
                Ok(moved) => done.manifests = done.manifests.saturating_add(moved),
                Err(fault) if fault.code() == ProblemCode::Damaged => {
                    done.refused.push(format!("document {id}: {fault}"));
                }
                Err(fault) => return Err(fault),
            }
        }
    }
}

async fn rotate_manifest(hub: &Hub, current: &str, document: Uuid, old: &str) -> Result<u64> {
    let old: ObjectKey = old.parse().map_err(Fault::internal)?;
    let ring = hub.keys().ring();
    let bytes = match hub.blobs().read(&old, MANIFEST_MAX).await {
        Ok(bytes) => bytes,
        // Erased, or rotated by another, since the page was read.
        Err(_) if !is_named(hub, &old).await? => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let bytes = Manifest::rewrap(&bytes, &ring, &[ring.current()])?;
    let object = ObjectKey::random(Class::Manifest)?;
    hub.blobs().put(&object, vec![Bytes::from(bytes)]).await?;
    let mut tx = hub.db().write().await?;
    let moved = tx
        .execute(
            "UPDATE documents SET manifest = $2, wrapped_for = $3 WHERE id = $1 AND manifest = $4",
            args![document, object.as_str(), current, old.as_str()],
        )
        .await?;
    // Whichever lost is named nowhere.
    let unnamed = if moved == 1 { &old } else { &object };
    crate::jobs::delete_objects(&mut tx, &[unnamed.as_str()]).await?;
    tx.commit().await?;
    Ok(moved)
}

/// How to check.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions {
    /// Opens every segment and compares every digest, beyond presence and length.
    pub deep: bool,
    /// Removes orphans older than this many seconds, a day at the least: younger ones may be about to be
    /// named by an upload under way.
    pub remove_orphans_after: Option<i64>,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Objects that rows name.
    pub objects: u64,
    /// Named objects that the store does not have.
    pub missing: Vec<String>,
    /// Named objects of another length than the row says.
    pub wrong_length: Vec<String>,
    /// Documents whose content does not open or has another digest.
    pub damaged: Vec<String>,
    /// Objects that no row names, and that none is about to name.
    pub orphans: Vec<String>,
    /// Objects that no row names, younger than a day: an upload under way, or one that was cut, left them.
    pub recent: Vec<String>,
    /// Objects that a job is about to delete.
    pub leaving: u64,
    /// Orphans removed.
    pub removed: u64,
    /// Organisations whose account of used bytes is not the sum of what they keep.
    pub quotas: Vec<String>,
}

impl Findings {
    /// Whether nothing is amiss. What an upload under way may yet name, or a job is about to delete, is not.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty()
            && self.wrong_length.is_empty()
            && self.damaged.is_empty()
            && self.quotas.is_empty()
            && self.orphans.len() as u64 == self.removed
    }
}

/// Compares database and store. Memory: about 100 bytes an object.
///
/// # Errors
/// What database or store say; damage is a finding, not an error. 422 for orphans younger than a day.
pub async fn check(hub: &Hub, options: CheckOptions) -> Result<Findings> {
    if options.remove_orphans_after.is_some_and(|age| age < 2 * UNNAMED) {
        return Err(Fault::because(ProblemCode::Invalid, "Objets sans maître : un jour au moins."));
    }
    let mut found = Findings::default();
    // The store first: what is named later and not listed is looked up by itself.
    let mut listed = HashMap::new();
    for class in Class::ALL {
        let mut after: Option<ObjectKey> = None;
        loop {
            let page = hub.blobs().list(class, after.as_ref(), 1000).await?;
            after = page.last().map(|entry| entry.key.clone());
            let last = page.len() < 1000;
            for entry in page {
                listed.insert(entry.key.as_str().to_owned(), (entry.length, entry.modified));
            }
            if last {
                break;
            }
        }
    }
    named_objects(hub, &mut listed, &mut found).await?;
    let leaving = crate::jobs::objects_to_delete(hub).await?;
    for (key, (_, modified)) in listed {
        let object: ObjectKey = key.parse().map_err(Fault::internal)?;
        // Named by a commit that came after the listing, or deleted since.
        if is_named(hub, &object).await? || hub.blobs().head(&object).await?.is_none() {
            continue;
        }
        if leaving.contains(&key) {
            found.leaving = found.leaving.saturating_add(1);
        } else if modified.plus_seconds(2 * UNNAMED) > hub.now() {
            found.recent.push(key);
        } else {
            found.orphans.push(key);
            if options.remove_orphans_after.is_some_and(|age| modified.plus_seconds(age) <= hub.now()) {
                hub.blobs().delete(&object).await?;
                found.removed = found.removed.saturating_add(1);
            }
        }
    }
    found.orphans.sort();
    found.recent.sort();
    if let Some(age) = options.remove_orphans_after {
        hub.blobs().clear_unfinished(hub.now().plus_seconds(-age)).await?;
    }
    quotas(hub, &mut found).await?;
    if options.deep {
        deep(hub, &mut found).await?;
    }
    Ok(found)
}

type Listed = HashMap<String, (u64, pli_api::Time)>;

async fn named_objects(hub: &Hub, listed: &mut Listed, found: &mut Findings) -> Result<()> {
    let (mut upload, mut idx) = (Uuid::nil(), -1_i64);
    loop {
        let rows = hub
            .db()
            .rows(
                "SELECT upload, idx, object, object_length FROM segments
                 WHERE upload > $1 OR (upload = $1 AND idx > $2) ORDER BY upload, idx LIMIT 1000",
                args![upload, idx],
            )
            .await?;
        let Some(last) = rows.last() else { break };
        (upload, idx) = (last.get("upload")?, last.get("idx")?);
        for row in &rows {
            let length = u64::try_from(row.get::<i64>("object_length")?).unwrap_or(0);
            compare(hub, row.get("object")?, Some(length), listed, found).await?;
        }
    }
    let mut id = Uuid::nil();
    loop {
        let sql = "SELECT id, manifest FROM documents WHERE manifest IS NOT NULL AND id > $1 ORDER BY id LIMIT 1000";
        let rows = hub.db().rows(sql, args![id]).await?;
        let Some(last) = rows.last() else { break };
        id = last.get("id")?;
        for row in &rows {
            compare(hub, row.get("manifest")?, None, listed, found).await?;
        }
    }
    Ok(())
}

async fn compare(
    hub: &Hub,
    object: String,
    length: Option<u64>,
    listed: &mut Listed,
    found: &mut Findings,
) -> Result<()> {
    found.objects = found.objects.saturating_add(1);
    let there = match listed.remove(&object) {
        Some((length, _)) => Some(length),
        None => hub.blobs().head(&object.parse().map_err(Fault::internal)?).await?.map(|meta| meta.length),
    };
    match there {
        // Deleted, with its row, since the page was read.
        None if !is_named(hub, &object.parse().map_err(Fault::internal)?).await? => {}
        None => found.missing.push(object),
        Some(there) if length.is_some_and(|length| length != there) => found.wrong_length.push(object),
        Some(_) => {}
    }
    Ok(())
}

async fn is_named(hub: &Hub, object: &ObjectKey) -> Result<bool> {
    let sql = "SELECT 1 AS named FROM segments WHERE object = $1
               UNION ALL SELECT 1 FROM documents WHERE manifest = $1";
    Ok(hub.db().optional(sql, args![object.as_str()]).await?.is_some())
}

async fn quotas(hub: &Hub, found: &mut Findings) -> Result<()> {
    let rows = hub
        .db()
        .rows(
            "SELECT o.id FROM organisations o
             WHERE o.used <> COALESCE((SELECT SUM(u.reserved) FROM uploads u WHERE u.organisation = o.id), 0)",
            args![],
        )
        .await?;
    for row in &rows {
        found.quotas.push(row.get::<Uuid>("id")?.to_string());
    }
    Ok(())
}

async fn deep(hub: &Hub, found: &mut Findings) -> Result<()> {
    let mut id = Uuid::nil();
    loop {
        let sql =
            "SELECT id, sha256 FROM documents WHERE state = 'available' AND id > $1 ORDER BY id LIMIT 500";
        let rows = hub.db().rows(sql, args![id]).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        id = last.get("id")?;
        for row in &rows {
            let document = pli_api::DocumentId(row.get("id")?);
            let expected: Option<Vec<u8>> = row.get("sha256")?;
            match digest(hub, document).await {
                Ok(digest) if Some(digest.as_slice()) == expected.as_deref() => {}
                Ok(_) => found.damaged.push(document.to_string()),
                Err(fault) if fault.code() == ProblemCode::Damaged => {
                    found.damaged.push(document.to_string())
                }
                // Erased since the page was read.
                Err(fault) if fault.code() == ProblemCode::Gone => {}
                Err(fault) => return Err(fault),
            }
        }
    }
}

async fn digest(hub: &Hub, document: pli_api::DocumentId) -> Result<[u8; 32]> {
    let mut tx = hub.db().read().await?;
    let content = Content::load(hub, &mut tx, document).await?;
    drop(tx);
    let mut reader = content.reader(hub.clone(), 0..content.size);
    let mut digest = ContentDigest::new();
    while let Some(bytes) = reader.next().await? {
        digest.update(&bytes);
    }
    Ok(digest.finalize())
}

/// A document that the store alone tells of.
pub struct Recoverable {
    /// What the manifest says.
    pub manifest: Manifest,
    keys: Vec<DocumentKey>,
    blobs: Blobs,
}

/// What a store holds that the ring can open: each document once, and the manifests that could not be read.
///
/// # Errors
/// When the store does not answer.
pub async fn recoverable(blobs: &Blobs, ring: &KeyRing) -> Result<(Vec<Recoverable>, Vec<String>)> {
    let mut documents: HashMap<String, Recoverable> = HashMap::new();
    let mut refused = Vec::new();
    let mut after: Option<ObjectKey> = None;
    loop {
        let page = blobs.list(Class::Manifest, after.as_ref(), 1000).await?;
        after = page.last().map(|entry| entry.key.clone());
        for entry in &page {
            let opened = match blobs.read(&entry.key, MANIFEST_MAX).await {
                Ok(bytes) => Manifest::open(&bytes, ring).map_err(Fault::from),
                Err(error) => Err(error.into()),
            };
            match opened {
                Ok((manifest, keys)) => {
                    let id = manifest.document.clone();
                    documents.insert(id, Recoverable { manifest, keys, blobs: blobs.clone() });
                }
                Err(fault) => refused.push(format!("{}: {fault}", entry.key)),
            }
        }
        if page.len() < 1000 {
            break;
        }
    }
    let mut documents: Vec<_> = documents.into_values().collect();
    documents.sort_by(|a, b| a.manifest.document.cmp(&b.manifest.document));
    Ok((documents, refused))
}

impl Recoverable {
    /// Reads the document back and gives its bytes in order.
    ///
    /// # Errors
    /// `Damaged` when a segment does not open or the whole has another digest than the manifest signed;
    /// the error of `take`.
    pub async fn read<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        &self,
        mut take: impl FnMut(&[u8]) -> std::result::Result<(), E>,
    ) -> Result<()> {
        let content = Content::of_manifest(&self.manifest, self.keys.clone())?;
        let mut reader = content.bare_reader(self.blobs.clone(), 0..content.size);
        let mut digest = ContentDigest::new();
        while let Some(bytes) = reader.next().await? {
            digest.update(&bytes);
            take(&bytes).map_err(Fault::internal)?;
        }
        if hex::encode(digest.finalize()) == self.manifest.sha256 {
            Ok(())
        } else {
            Err(Fault::because(ProblemCode::Damaged, "L'empreinte n'est pas celle du manifeste."))
        }
    }
}
