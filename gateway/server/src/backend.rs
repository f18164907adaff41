//! What stands behind the listeners: database, store, keys and the hub, opened as configured.
//!
//! Owns the translation of the configuration into their options. Must never start a task.

use std::sync::Arc;

use anyhow::{Context, bail};
use pli_hub::evidence::{Evidence, EvidenceKeys, TimestampAuthority};
use pli_hub::{
    Clock, Hub, HubOptions, KeySource, Mail, MailOptions, MailTls, WebhookOptions, Webhooks, backup::KeyFile,
};
use pli_seal::Passphrase;
use pli_signature::{Certificate, SealKey};
use pli_storage::{Blobs, Db, DbOptions, Dialect, JOBS_OWNER, S3Options, Sql, args};
use zeroize::Zeroizing;

use crate::{
    config::{Config, MailProtection, StoreKind},
    keyfolder::{self, KeyFolder, KeyFolderError},
};

/// A database whose schema this program does not serve on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Schema {
    #[error("la base de données n'est pas migrée : « pli migrate » le fait")]
    Older,
    #[error("la base de données a été migrée par une version plus récente de Pli")]
    Newer,
}

/// Opens the database. What goes wrong is told without its address, which may hold a password.
pub(crate) async fn database(config: &Config) -> anyhow::Result<Db> {
    let url = config.database_url()?;
    if url.reveal().starts_with("sqlite:") {
        crate::secret::make_private_folder(&config.data.0)
            .with_context(|| format!("dossier {}", config.data.0.display()))?;
    }
    let options =
        DbOptions { max_connections: config.database.max_connections.get(), ..DbOptions::default() };
    Db::open(url.reveal(), options).await.context("base de données")
}

/// Brings the schema up to date.
pub(crate) async fn migrate(db: &Db) -> anyhow::Result<()> {
    db.migrate_jobs().await?;
    db.migrate(pli_hub::OWNER, pli_hub::MIGRATIONS).await?;
    Ok(())
}

/// For a process that serves: the embedded database is brought up to date, a PostgreSQL has to be.
/// There several gateways may run, perhaps without the right to change the schema, and when it changes
/// is the operator's to say.
pub(crate) async fn migrated(config: &Config) -> anyhow::Result<Db> {
    let db = database(config).await?;
    if db.dialect() == Dialect::Sqlite {
        migrate(&db).await?;
        return Ok(db);
    }
    let wanted = pli_hub::MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0);
    let applied = async |owner: &str| {
        let sql = Sql::assembled(format!("SELECT MAX(version) AS version FROM {owner}_migrations"));
        let row = db.optional(sql, args![]).await?;
        row.map_or(Ok(None), |row| row.get::<Option<i64>>("version"))
    };
    db.ping().await.context("base de données")?;
    match (applied(JOBS_OWNER).await, applied(pli_hub::OWNER).await) {
        (Ok(Some(_)), Ok(Some(version))) if version == wanted => Ok(db),
        (Ok(Some(_)), Ok(Some(version))) if version > wanted => bail!(Schema::Newer),
        _ => bail!(Schema::Older),
    }
}

/// Opens the object store.
pub(crate) fn store(config: &Config) -> anyhow::Result<Blobs> {
    let store = &config.store;
    let blobs = match store.kind {
        StoreKind::Folder => {
            Blobs::folder(&store.path).with_context(|| format!("dossier {}", store.path.display()))?
        }
        StoreKind::S3 => {
            let secret = config.store_secret_key()?;
            let ca = store.authorities.as_ref().map(|path| {
                std::fs::read(path).with_context(|| format!("lecture impossible de {}", path.display()))
            });
            Blobs::s3(S3Options {
                path_style: store.path_style,
                ca: ca.transpose()?,
                parallel: store.parallel,
                plain_http: store.plain_http,
                ..S3Options::new(
                    &store.endpoint,
                    &store.region,
                    &store.bucket,
                    &store.access_key,
                    secret.reveal(),
                )
            })
            .context("service S3")?
        }
    };
    Ok(blobs)
}

pub(crate) fn key_folder(config: &Config) -> anyhow::Result<KeyFolder> {
    let passphrase = Passphrase::new(config.passphrase()?.reveal()).context("keys.passphrase_file")?;
    Ok(KeyFolder::new(config.keys.folder.clone(), passphrase))
}

/// The files of the hub's keys, as they lie: sealed under the passphrase.
pub(crate) fn key_files(config: &Config) -> Result<Vec<KeyFile>, KeyFolderError> {
    keyfolder::files(&config.keys.folder)
}

/// Refuses a folder of keys that has one.
pub(crate) fn require_no_keys(config: &Config) -> Result<(), KeyFolderError> {
    keyfolder::require_none(&config.keys.folder)
}

/// Puts the files of keys into a folder that has none.
pub(crate) fn write_key_files(config: &Config, files: &[KeyFile]) -> Result<(), KeyFolderError> {
    keyfolder::write_files(&config.keys.folder, files)
}

/// Opens the hub's keys, in a way that a rotation by another process is learnt.
pub(crate) async fn keys(config: &Config) -> anyhow::Result<KeySource> {
    let folder = key_folder(config)?;
    let source = tokio::task::spawn_blocking(move || KeySource::new(move || Ok(folder.open()?))).await?;
    source.map_err(|error| match error.downcast::<KeyFolderError>() {
        Ok(error) => anyhow::Error::new(*error),
        Err(other) => anyhow::Error::from_boxed(other),
    })
}

/// The hub on a database that is up to date. The database comes last: nothing is changed in it when
/// something else is amiss.
pub(crate) async fn hub(config: &Config) -> anyhow::Result<Hub> {
    let (blobs, keys) = (store(config)?, keys(config).await?);
    let (mail, webhooks, evidence) = (mail(config)?, webhooks(config)?, evidence(config, &keys)?);
    let db = migrated(config).await?;
    let options = HubOptions { evidence: Some(evidence), ..options(config)? };
    let hub = Hub::new(db, blobs, keys, options, Clock::System).with_webhooks(webhooks);
    Ok(match mail {
        Some(mail) => hub.with_mail(mail),
        None => hub,
    })
}

/// What evidence is signed and sealed with.
pub(crate) fn evidence(config: &Config, keys: &KeySource) -> anyhow::Result<Evidence> {
    let (folder, asked, ring) = (key_folder(config)?, &config.evidence, keys.ring());
    let seal = match (&asked.seal_certificate, &asked.seal_key) {
        (Some(certificate), Some(key)) => {
            if crate::secret::readable_by_everyone(key).with_context(|| key.display().to_string())? {
                bail!(KeyFolderError::Open(key.clone()));
            }
            let read = |path: &std::path::Path| {
                std::fs::read_to_string(path).with_context(|| path.display().to_string())
            };
            let key = zeroize::Zeroizing::new(read(key)?);
            SealKey::from_pem(&read(certificate)?, &key).context("evidence.seal_certificate")?
        }
        _ => folder.seal(&ring)?,
    };
    let timestamps = match &asked.timestamp_authorities {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            let anchors = Certificate::from_pem(&text).context("evidence.timestamp_authorities")?;
            let every = i64::from(asked.timestamp_minutes).saturating_mul(60);
            Some(TimestampAuthority::new(asked.timestamp_url.clone(), anchors, every)?)
        }
        None => None,
    };
    Ok(Evidence::new(EvidenceKeys {
        journal: folder.journal(&ring, &asked.origin)?,
        retired: Vec::new(),
        seal,
        issuer: asked.issuer.clone(),
        timestamps,
        register_years: asked.register_years,
    }))
}

fn pem(path: Option<&std::path::PathBuf>) -> anyhow::Result<Option<Vec<u8>>> {
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).with_context(|| format!("lecture impossible de {}", path.display()))
    };
    path.map(read).transpose()
}

pub(crate) fn mail(config: &Config) -> anyhow::Result<Option<Mail>> {
    let m = &config.mail;
    if m.host.is_empty() {
        return Ok(None);
    }
    let password = config.mail_password()?;
    let mail = Mail::open(MailOptions {
        host: m.host.clone(),
        port: m.port,
        tls: match m.tls {
            MailProtection::Starttls => MailTls::Starttls,
            MailProtection::Implicit => MailTls::Implicit,
            MailProtection::None => MailTls::None,
        },
        authorities: pem(m.authorities.as_ref())?,
        credentials: password.map(|p| (m.user.clone(), Zeroizing::new(p.reveal().to_owned()))),
        from: m.from.clone(),
        public_url: m.public_url.clone(),
        digest_hour: m.digest_hour,
    });
    Ok(Some(mail.context("section [mail]")?))
}

pub(crate) fn webhooks(config: &Config) -> anyhow::Result<Webhooks> {
    let options = WebhookOptions {
        private_networks: config.webhooks.private_networks,
        authorities: pem(config.webhooks.authorities.as_ref())?,
    };
    Webhooks::open(&options).context("section [webhooks]")
}

fn options(config: &Config) -> anyhow::Result<HubOptions> {
    let t = &config.transfers;
    let bytes = |size: crate::config::Size| usize::try_from(size.0).unwrap_or(usize::MAX);
    Ok(HubOptions {
        max_size: t.max_size.0,
        segment_size: bytes(t.segment_size),
        transfer_memory: bytes(t.memory),
        upload_memory: bytes(t.upload_memory),
        pending_uploads: t.pending_uploads,
        upload_expiry: i64::from(t.upload_days) * 86_400,
        retention_days: (t.retention_days_min, t.retention_days_max, t.retention_days_default),
        reminder_days: t.reminder_days,
        session_seconds: i64::from(t.session_hours) * 3600,
        antivirus: config.antivirus.options()?,
        ..HubOptions::default()
    })
}

/// Whether database and store answer.
pub(crate) fn readiness(hub: Hub) -> crate::operations::Readiness {
    Arc::new(move || {
        let hub = hub.clone();
        Box::pin(async move {
            hub.ready().await.map_err(|fault| {
                tracing::warn!(error = %fault, "not ready");
                "database-or-store"
            })
        })
    })
}
