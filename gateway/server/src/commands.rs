//! The commands an operator types once in a while: thin fronts of what the parts do.
//!
//! Owns what they print, in French, and their exit codes. Must never print a secret, but for the token
//! that `pli token add` is asked for.

use std::{
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use pli_api::{NewService, NewToken};
use pli_hub::{
    admin::{self, CheckOptions, Recoverable},
    antivirus, backup, organisations, services,
};
use pli_storage::{JobFilter, JobState};
use zeroize::Zeroizing;

use crate::{
    backend,
    cli::{
        AntivirusCommand, Backup, Check, DevPki, Init, JobsCommand, KeysCommand, OrgCommand, Recover,
        Restore, RoleCommand, RoleOf, ServiceCommand, Stats, TokenCommand, UserCommand,
    },
    config::Config,
    keyfolder::KeyFolderError,
    pki,
    secret::{make_private_folder, write_private, write_public},
    tls::Tls,
};

/// A command that ended well and has bad news.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Amiss(pub(crate) String);

macro_rules! say {
    ($($text:tt)*) => {
        // A reader that has left (`| head`) is no failure.
        let _ = writeln!(std::io::stdout(), $($text)*);
    };
}
pub(crate) use say;

/// The configuration that `pli init` writes: every option with its default, to be uncommented.
const TEMPLATE: &str = include_str!("pli.toml");

pub(crate) fn init(asked: &Init) -> anyhow::Result<()> {
    let folder = &asked.folder;
    let file = folder.join("pli.toml");
    if file.symlink_metadata().is_ok() {
        bail!("{} existe déjà : rien n'a été écrit", file.display());
    }
    make_private_folder(folder).with_context(|| format!("dossier {}", folder.display()))?;
    write_public(&file, TEMPLATE.as_bytes()).with_context(|| file.display().to_string())?;
    let config = Config::load(Some(&file), [])?;

    let passphrase = &config.keys.passphrase_file;
    if passphrase.symlink_metadata().is_err() {
        make_private_folder(&config.keys.folder)?;
        let mut random = Zeroizing::new([0; 32]);
        getrandom::fill(random.as_mut())?;
        let text = Zeroizing::new(format!("{}\n", Zeroizing::new(hex::encode(random.as_ref())).as_str()));
        write_private(passphrase, text.as_bytes()).with_context(|| passphrase.display().to_string())?;
    }
    let keys = backend::key_folder(&config)?;
    keys.init("Pli")?;
    keys.init_evidence(pli_hub::Clock::System.now(), config.evidence.seal_key.is_some())?;
    say!("{} : configuration", file.display());
    say!("{} : clé du hub et phrase de passe", config.keys.folder.display());
    if asked.dev_pki {
        let tls = folder.join("tls");
        pki::make(&tls, &asked.names, now())?;
        say!("{} : certificat de DÉVELOPPEMENT", tls.display());
    } else {
        say!(
            "Posez le certificat du serveur et sa clé en {} et {}.",
            config.tls.certificate.display(),
            config.tls.key.display()
        );
    }
    say!("Sauvegardez la clé et la phrase de passe, loin l'une de l'autre : sans elles, rien ne se relit.");
    say!("Pour servir : pli --config {} serve", file.display());
    Ok(())
}

pub(crate) fn dev_pki(asked: &DevPki) -> anyhow::Result<()> {
    pki::make(&asked.folder, &asked.names, now())?;
    let shown = |name: &str| asked.folder.join(name).display().to_string();
    say!("Certificats de DÉVELOPPEMENT : à ne faire accepter par aucune machine de production.");
    say!("  à donner aux clients : {}", shown(pki::Names::ROOT));
    say!("  tls.certificate = {:?}", shown(pki::Names::SERVER));
    say!("  tls.key = {:?}", shown(pki::Names::SERVER_KEY));
    Ok(())
}

fn now() -> time::OffsetDateTime {
    let seconds = pli_hub::Clock::System.now().seconds();
    time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

/// Everything that can be checked without serving.
pub(crate) async fn check_config(config: Config, reach: bool) -> anyhow::Result<()> {
    say!("{}", config.shown());
    let mut wrong = Vec::new();
    let mut part = |name: &str, outcome: anyhow::Result<()>| match outcome {
        Ok(()) => {
            say!("# {name} : bon");
        }
        Err(error) => {
            say!("# {name} : {error:#}");
            wrong.push(name.to_owned());
        }
    };
    part("certificat et clé TLS", Tls::open(config.tls_files()).map(drop).map_err(Into::into));
    part("clés du hub", backend::keys(&config).await.map(drop));
    part(
        "clé du journal et cachet",
        async {
            let keys = backend::keys(&config).await?;
            backend::evidence(&config, &keys).map(drop)
        }
        .await,
    );
    part("adresse de la base de données", config.database_url().map(drop).map_err(Into::into));
    part("magasin", backend::store(&config).map(drop));
    part("courriel", backend::mail(&config).map(drop));
    part("webhooks", backend::webhooks(&config).map(drop));
    if reach {
        let database = async {
            let db = backend::database(&config).await?;
            db.ping().await?;
            db.close().await;
            anyhow::Ok(())
        };
        part("base de données", database.await);
        part("accès au magasin", async { Ok(backend::store(&config)?.probe().await?) }.await);
        if let Some(options) = config.antivirus.options()? {
            part("antivirus", antivirus::check(&options).await.map(drop).map_err(Into::into));
        }
    }
    if config.operations.socket()?.is_some_and(|address| !address.ip().is_loopback()) {
        say!("# attention : operations.address est ouverte au réseau, en clair");
    }
    if wrong.is_empty() { Ok(()) } else { Err(Refused(wrong.join(", ")).into()) }
}

/// A configuration that can be read and does not work.
#[derive(Debug, thiserror::Error)]
#[error("à corriger : {0}")]
pub(crate) struct Refused(String);

pub(crate) async fn migrate(config: Config) -> anyhow::Result<()> {
    let db = backend::database(&config).await?;
    backend::migrate(&db).await?;
    db.close().await;
    say!("Base de données à jour.");
    Ok(())
}

pub(crate) async fn keys(config: Config, asked: KeysCommand) -> anyhow::Result<()> {
    let folder = backend::key_folder(&config)?;
    match asked {
        KeysCommand::Init { name } => {
            let own_seal = config.evidence.seal_key.is_some();
            let made = tokio::task::spawn_blocking(move || {
                let hub = folder.init(&name);
                // A folder of an earlier version has a key of the hub and none of the journal.
                match (hub, folder.init_evidence(pli_hub::Clock::System.now(), own_seal)?) {
                    (Err(KeyFolderError::Exists(_)), true) => Ok(()),
                    (hub, _) => hub,
                }
            });
            made.await??;
            show_keys(&config).await
        }
        KeysCommand::Show => show_keys(&config).await,
        KeysCommand::Rotate { name, finish } => {
            if !finish {
                tokio::task::spawn_blocking(move || folder.rotate(&name)).await??;
            }
            let hub = backend::hub(&config).await?;
            let done = admin::rotate_keys(&hub).await?;
            hub.db().close().await;
            say!("Clé actuelle : {}", hub.keys().current());
            say!("Ré-enveloppés : {} clés de documents, {} manifestes.", done.keys, done.manifests);
            for refused in &done.refused {
                say!("non ré-enveloppé, la clé retirée reste nécessaire : {refused}");
            }
            say!(
                "Les passerelles en marche apprennent la nouvelle clé d'elles-mêmes ; après leur redémarrage,"
            );
            say!("« pli keys rotate --finish » ré-enveloppe ce qu'elles ont reçu entre-temps.");
            Ok(())
        }
    }
}

async fn show_keys(config: &Config) -> anyhow::Result<()> {
    let ring = backend::keys(config).await?.ring();
    for (at, fingerprint) in ring.fingerprints().iter().enumerate() {
        say!("{fingerprint} {}", if at == 0 { "actuelle" } else { "retirée" });
    }
    let certificate = ring.certificate()?;
    std::io::stdout().write_all(&certificate)?;
    Ok(())
}

pub(crate) async fn org(config: Config, asked: OrgCommand) -> anyhow::Result<()> {
    let hub = backend::hub(&config).await?;
    match asked {
        OrgCommand::Add { name, kind, quota } => {
            let id = admin::add_organisation(&hub, kind, &name, quota.0).await?;
            say!("{id}");
        }
        OrgCommand::Quota { organisation, quota } => {
            let id = admin::set_quota(&hub, &organisation, quota.0).await?;
            say!("{id}");
        }
        OrgCommand::Court { office, court } => organisations::set_court(&hub, &office, &court).await?,
    }
    hub.db().close().await;
    Ok(())
}

pub(crate) async fn service(config: Config, asked: ServiceCommand) -> anyhow::Result<()> {
    let hub = backend::hub(&config).await?;
    match asked {
        ServiceCommand::Add { address, name, function, org } => {
            let new = NewService { organisation: None, address, name, function };
            let id = services::add_service(&hub, &org, &new).await?;
            say!("{id}");
        }
        ServiceCommand::Member { service, person, remove } => {
            services::set_member(&hub, &service, &person, !remove).await?;
        }
    }
    hub.db().close().await;
    Ok(())
}

pub(crate) async fn role(config: Config, asked: RoleCommand) -> anyhow::Result<()> {
    let (RoleOf { address, role, org }, has) = match asked {
        RoleCommand::Grant(of) => (of, true),
        RoleCommand::Revoke(of) => (of, false),
    };
    let hub = backend::hub(&config).await?;
    organisations::set_role(&hub, &org, &address, role, has).await?;
    hub.db().close().await;
    Ok(())
}

pub(crate) async fn user(config: Config, asked: UserCommand) -> anyhow::Result<()> {
    let UserCommand::Add { address, name, org, password_file } = asked;
    let password = password_file.as_deref().map(read_password).transpose()?;
    let hub = backend::hub(&config).await?;
    let id = admin::add_account(&hub, &org, &address, &name, password).await?;
    hub.db().close().await;
    say!("{id}");
    Ok(())
}

fn read_password(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("entrée standard")?;
    } else {
        File::open(path)
            .and_then(|mut file| file.read_to_string(&mut text))
            .with_context(|| format!("lecture impossible de {}", path.display()))?;
    }
    let kept = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(kept);
    Ok(text)
}

pub(crate) async fn antivirus(config: Config, asked: AntivirusCommand) -> anyhow::Result<()> {
    match asked {
        AntivirusCommand::Check => {
            let Some(options) = config.antivirus.options()? else {
                bail!(Refused("antivirus.clamd : aucun antivirus".to_owned()));
            };
            let version = antivirus::check(&options).await?;
            say!("{version} : trouve, ouvre les archives, dit ses limites et ce qui est chiffré.");
        }
        AntivirusCommand::Rescan { reason } => {
            let hub = backend::hub(&config).await?;
            let asked = antivirus::rescan(&hub, &reason).await?;
            hub.db().close().await;
            say!("{asked} documents à analyser de nouveau.");
        }
        AntivirusCommand::Policy { organisation, takes_unanalysed } => {
            let hub = backend::hub(&config).await?;
            let released = antivirus::set_takes_unanalysed(&hub, &organisation, takes_unanalysed).await?;
            hub.db().close().await;
            say!("{released} dépôts remis.");
        }
    }
    Ok(())
}

pub(crate) async fn token(config: Config, asked: TokenCommand) -> anyhow::Result<()> {
    let TokenCommand::Add { address, name, days } = asked;
    let hub = backend::hub(&config).await?;
    let token = admin::add_token(&hub, &address, &NewToken { name, days }).await?;
    hub.db().close().await;
    eprintln!("Jeton de {address}, jusqu'au {} :", token.expires);
    say!("{}", token.token);
    Ok(())
}

pub(crate) async fn backup(config: Config, asked: &Backup) -> anyhow::Result<()> {
    let folder = &asked.folder;
    if asked.verify {
        let (made, damaged) = backup::verify(folder).await?;
        for item in &damaged {
            say!("endommagé : {item}");
        }
        say!("Sauvegarde du {made}.");
        return match damaged.len() {
            0 => Ok(()),
            n => Err(Amiss(format!("{n} fichiers ou objets endommagés")).into()),
        };
    }
    let keys = if asked.with_keys { backend::key_files(&config)? } else { Vec::new() };
    // Without the keys: whoever backs up needs no passphrase.
    let (blobs, db) = (backend::store(&config)?, backend::migrated(&config).await?);
    let saved = backup::save(&db, &blobs, &keys, folder, &pli_hub::Clock::System).await?;
    db.close().await;
    say!("{} objets, {} octets, dont {} nouveaux objets.", saved.objects, saved.bytes, saved.copied);
    if saved.removed != 0 {
        say!("{} objets que le magasin n'a plus, retirés de la sauvegarde.", saved.removed);
    }
    if !asked.with_keys {
        say!("Sans les clés du hub : gardez-les ailleurs, avec leur phrase de passe.");
    }
    for object in &saved.missing {
        say!("absent du magasin : {object}");
    }
    match saved.missing.len() {
        0 => Ok(()),
        n => Err(Amiss(format!("{n} objets manquent dans le magasin")).into()),
    }
}

pub(crate) async fn restore(config: Config, asked: &Restore) -> anyhow::Result<()> {
    if asked.with_keys {
        backend::require_no_keys(&config)?;
    }
    let url = config.database_url()?;
    if url.reveal().starts_with("sqlite:") {
        make_private_folder(&config.data.0)
            .with_context(|| format!("dossier {}", config.data.0.display()))?;
    }
    let restored = backup::restore(url.reveal(), &backend::store(&config)?, &asked.folder).await?;
    if asked.with_keys {
        backend::write_key_files(&config, &restored.keys)?;
        say!("{} clés remises.", restored.keys.len());
    }
    if let Some(made) = restored.made {
        say!("Sauvegarde du {made} : {} objets remis.", restored.objects);
    }
    say!("« pli check --deep » relit chaque document.");
    for object in &restored.damaged {
        say!("endommagé dans la sauvegarde : {object}");
    }
    match restored.damaged.len() {
        0 => Ok(()),
        n => Err(Amiss(format!("{n} objets n'ont pas été remis")).into()),
    }
}

pub(crate) async fn jobs(config: Config, asked: JobsCommand) -> anyhow::Result<()> {
    let hub = backend::hub(&config).await?;
    match asked {
        JobsCommand::List { state, kind } => {
            let state = match state.as_deref() {
                Some("waiting") => Some(JobState::Waiting),
                Some("leased") => Some(JobState::Leased),
                Some("dead") => Some(JobState::Dead),
                _ => None,
            };
            let mut after = None;
            loop {
                let filter = JobFilter { kind: kind.as_deref(), state, after, limit: 500 };
                let page = hub.db().jobs(filter).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.id);
                for job in &page {
                    let error = job.last_error.as_deref().unwrap_or("");
                    say!(
                        "{}\t{}\t{}\t{}\t{}\t{error}",
                        job.id,
                        job.kind,
                        job.state.as_str(),
                        job.due,
                        job.attempt
                    );
                }
            }
        }
        JobsCommand::Retry { job, .. } => {
            let put = admin::retry_jobs(&hub, job).await?;
            say!("{put} tâches remises en route.");
        }
    }
    hub.db().close().await;
    Ok(())
}

pub(crate) async fn stats(config: Config, asked: &Stats) -> anyhow::Result<()> {
    let hub = backend::hub(&config).await?;
    let to = hub.now();
    let from = to.plus_seconds(i64::from(asked.days).saturating_mul(-86_400));
    let all = admin::figures(&hub, from, to).await?;
    hub.db().close().await;
    say!(
        "organisation,nom,genre,quota,occupe,comptes,depots,documents,octets,infectes,non_analyses,telechargements"
    );
    for f in &all {
        say!(
            "{},{},{},{},{},{},{},{},{},{},{},{}",
            f.organisation,
            csv(&f.name),
            f.kind,
            f.quota,
            f.used,
            f.accounts,
            f.deposits,
            f.documents,
            f.bytes,
            f.infected,
            f.not_analysed,
            f.downloads
        );
    }
    Ok(())
}

/// A field (RFC 4180). What a spreadsheet would take for a formula begins with an apostrophe.
fn csv(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

pub(crate) async fn check(config: Config, asked: &Check) -> anyhow::Result<()> {
    let hub = backend::hub(&config).await?;
    let options = CheckOptions {
        deep: asked.deep,
        remove_orphans_after: asked.remove_orphans.map(|days| i64::from(days) * 86_400),
    };
    let found = admin::check(&hub, options).await?;
    hub.db().close().await;
    say!("{} objets nommés par la base de données.", found.objects);
    for (what, items) in [
        ("objet absent du magasin", &found.missing),
        ("objet d'une autre longueur", &found.wrong_length),
        ("document endommagé", &found.damaged),
        ("objet que rien ne nomme", &found.orphans),
        ("objet récent que rien ne nomme encore", &found.recent),
        ("organisation dont l'espace compté est faux", &found.quotas),
    ] {
        for item in items {
            say!("{what} : {item}");
        }
    }
    if found.leaving != 0 {
        say!("{} objets attendent leur suppression.", found.leaving);
    }
    if found.removed != 0 {
        say!("{} objets supprimés.", found.removed);
    }
    if found.is_clean() {
        say!("Rien à signaler.");
        Ok(())
    } else {
        Err(Amiss("des écarts ont été trouvés".to_owned()).into())
    }
}

pub(crate) async fn recover(config: Config, asked: Recover) -> anyhow::Result<()> {
    let blobs = backend::store(&config)?;
    let ring = backend::keys(&config).await?.ring();
    let (documents, refused) = admin::recoverable(&blobs, &ring).await?;
    for line in &refused {
        eprintln!("manifeste illisible : {line}");
    }
    let mut failed = refused.len();
    let Some(folder) = &asked.to else {
        for Recoverable { manifest, .. } in &documents {
            say!(
                "{}  {}  {} octets  sha256:{}",
                manifest.document,
                manifest.deposit,
                manifest.size,
                manifest.sha256
            );
        }
        return outcome(failed);
    };
    make_private_folder(folder).with_context(|| format!("dossier {}", folder.display()))?;
    for wanted in &asked.documents {
        if !documents.iter().any(|document| document.manifest.document == *wanted) {
            eprintln!("aucun manifeste lisible pour {wanted}");
            failed += 1;
        }
    }
    for document in &documents {
        let manifest = &document.manifest;
        if !(asked.all || asked.documents.contains(&manifest.document)) {
            continue;
        }
        match write_back(document, folder).await {
            Ok(path) => {
                say!("{}  sha256:{}", path.display(), manifest.sha256);
            }
            Err(error) => {
                eprintln!("{} : {error:#}", manifest.document);
                failed += 1;
            }
        }
    }
    outcome(failed)
}

fn outcome(failed: usize) -> anyhow::Result<()> {
    if failed == 0 {
        Ok(())
    } else {
        Err(Amiss(format!("{failed} documents ou manifestes n'ont pas été relus")).into())
    }
}

/// Writes a document as `DOCUMENT-NAME`, under that name only once its digest is the signed one.
async fn write_back(document: &Recoverable, folder: &Path) -> anyhow::Result<PathBuf> {
    let manifest = &document.manifest;
    let path = folder.join(format!("{}-{}", file_name(&manifest.document), file_name(&manifest.name)));
    let unfinished = folder.join(format!("{}.part", file_name(&manifest.document)));
    if path.symlink_metadata().is_ok() {
        bail!("{} existe déjà", path.display());
    }
    write_private(&unfinished, b"").with_context(|| unfinished.display().to_string())?;
    let mut file = File::options().write(true).open(&unfinished)?;
    let read = document.read(|bytes| file.write_all(bytes)).await;
    if let Err(fault) = read {
        drop(file);
        std::fs::remove_file(&unfinished)?;
        return Err(fault.into());
    }
    file.sync_all()?;
    std::fs::rename(&unfinished, &path)?;
    File::open(folder)?.sync_all()?;
    Ok(path)
}

/// A name as one part of a path: what the sender chose goes nowhere else.
fn file_name(name: &str) -> String {
    let mut safe: String =
        name.chars().map(|c| if c.is_control() || matches!(c, '/' | '\\' | ':') { '_' } else { c }).collect();
    // With the identifier in front and a file system that ends at 255 bytes.
    while safe.len() > 200 {
        safe.pop();
    }
    safe.trim_start_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_path() {
        assert_eq!(file_name("../../etc/passwd"), "_.._etc_passwd");
        assert_eq!(file_name("pièce n° 1.pdf"), "pièce n° 1.pdf");
        assert_eq!(file_name("a\n\0b"), "a__b");
        assert!(file_name(&"é".repeat(300)).len() <= 200);
    }

    #[test]
    fn a_field_of_a_csv_is_one_field() {
        assert_eq!(csv("Cabinet d'instruction"), "Cabinet d'instruction");
        assert_eq!(csv("a,\"b\"\nc"), "\"a,\"\"b\"\"\nc\"");
        assert_eq!(csv("=1+1"), "'=1+1");
    }

    #[test]
    fn the_template_is_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pli.toml");
        std::fs::write(&file, TEMPLATE).unwrap();
        let written = Config::load(Some(&file), []).unwrap();
        // Every line that is commented out is an option with its default value.
        let mut all = String::new();
        for line in TEMPLATE.lines() {
            all.push_str(line.strip_prefix("#").filter(|rest| !rest.starts_with(' ')).unwrap_or(line));
            all.push('\n');
        }
        std::fs::write(&file, &all).unwrap();
        let spelled = Config::load(Some(&file), []).unwrap();
        assert_eq!(written.shown(), spelled.shown());
        // And every option is there.
        let shown: toml::Table = toml::from_str(&written.shown()).unwrap();
        let spelled: toml::Table = toml::from_str(&all).unwrap();
        for (section, options) in &shown {
            let Some(options) = options.as_table() else { continue };
            for option in options.keys() {
                assert!(spelled[section].get(option).is_some(), "{section}.{option} is not in the template");
            }
        }
    }
}
