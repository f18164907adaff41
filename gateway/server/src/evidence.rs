//! `pli journal` and `pli receipt`: evidence checked, exported, read.
//!
//! Owns what they print, in French. Must never need the database to check a receipt.

use std::{
    fs::File,
    io::{BufWriter, Read, Write},
    path::Path,
};

use anyhow::{Context, bail};
use pli_hub::{
    audit,
    receipts::{self, CheckedReceipt, ReceiptTrust},
};
use pli_journal::{NOTE_MAX, VerifierKey};
use pli_signature::{Certificate, PDF_MAX};

use crate::{
    backend,
    cli::{JournalCommand, ReceiptVerify},
    commands::Amiss,
    config::Config,
    keyfolder::SEAL_AUTHORITY,
    secret::{make_private_folder, write_public},
};

macro_rules! say {
    ($($text:tt)*) => {
        // A reader that has left (`| head`) is no failure.
        let _ = writeln!(std::io::stdout(), $($text)*);
    };
}

/// How a third party checks an export: beside the files, in their folder.
const PROCEDURE: &str = include_str!("export.txt");

pub(crate) async fn journal(config: Config, asked: JournalCommand) -> anyhow::Result<()> {
    match asked {
        JournalCommand::Key => {
            let keys = backend::keys(&config).await?;
            for key in backend::evidence(&config, &keys)?.verifier_keys() {
                say!("{key}");
            }
            Ok(())
        }
        JournalCommand::Checkpoint => {
            let hub = backend::hub(&config).await?;
            let note = audit::checkpoint(&hub).await?;
            hub.db().close().await;
            std::io::stdout().write_all(note.as_bytes())?;
            Ok(())
        }
        JournalCommand::Verify { witnesses } => {
            let witnesses =
                witnesses.iter().map(|path| read(path, NOTE_MAX)).collect::<anyhow::Result<Vec<_>>>()?;
            let hub = backend::hub(&config).await?;
            let verdict = audit::verify(&hub, &witnesses).await?;
            hub.db().close().await;
            let audited = verdict.map_err(|tampered| Amiss(format!("journal altéré : {tampered}")))?;
            say!(
                "{} événements, {} points de contrôle : tout concorde.",
                audited.events,
                audited.checkpoints
            );
            if audited.removed > 0 {
                say!(
                    "{} lignes retirées en fin de durée ; leurs empreintes restent prouvées.",
                    audited.removed
                );
            }
            if audited.covered < audited.events {
                say!("{} événements que rien de signé ne couvre encore.", audited.events - audited.covered);
            }
            if audited.waiting > 0 {
                say!("{} événements attendent leur place.", audited.waiting);
            }
            Ok(())
        }
        JournalCommand::Export { folder } => export(config, &folder).await,
    }
}

async fn export(config: Config, folder: &Path) -> anyhow::Result<()> {
    if folder.symlink_metadata().is_ok() {
        bail!("{} existe déjà : rien n'a été écrit", folder.display());
    }
    let hub = backend::hub(&config).await?;
    make_private_folder(folder).with_context(|| folder.display().to_string())?;
    let create = |name: &str| {
        let path = folder.join(name);
        File::create_new(&path).with_context(|| path.display().to_string()).map(BufWriter::new)
    };
    let (mut events, mut checkpoints) = (create("events.ndjson")?, create("checkpoints.ndjson")?);
    let (count, signed) = audit::export(&hub, &mut events, &mut checkpoints).await?;
    hub.db().close().await;
    for file in [events, checkpoints] {
        file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    }
    let keys = backend::keys(&config).await?;
    let keys: String =
        backend::evidence(&config, &keys)?.verifier_keys().iter().map(|key| format!("{key}\n")).collect();
    for (name, text) in [("journal.vkey", keys.as_str()), ("LISEZMOI.txt", PROCEDURE)] {
        let path = folder.join(name);
        write_public(&path, text.as_bytes()).with_context(|| path.display().to_string())?;
    }
    say!("{} : {count} événements, {signed} points de contrôle.", folder.display());
    Ok(())
}

/// A file, no longer than it may be.
fn read(path: &Path, most: usize) -> anyhow::Result<Vec<u8>> {
    let unread = || format!("lecture impossible de {}", path.display());
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).with_context(unread)?;
    if bytes.len() > most {
        bail!("{} : plus de {most} octets", path.display());
    }
    Ok(bytes)
}

/// Without a configuration, what the command line names is all that is believed.
pub(crate) fn verify_receipt(config: Option<&Config>, asked: &ReceiptVerify) -> anyhow::Result<()> {
    let certificates = |path: &Path| {
        let text = String::from_utf8(read(path, 1 << 20)?).with_context(|| path.display().to_string())?;
        Certificate::from_pem(&text).with_context(|| path.display().to_string())
    };
    let mut trust = ReceiptTrust::default();
    if let Some(path) = &asked.certificate {
        trust.seals = certificates(path)?;
    }
    if let Some(path) = &asked.timestamp_certificate {
        trust.timestamps = certificates(path)?;
    }
    if let Some(path) = &asked.journal_key {
        let text = String::from_utf8(read(path, 64 << 10)?).with_context(|| path.display().to_string())?;
        for line in text.lines().filter(|line| !line.is_empty()) {
            trust.journal.push(VerifierKey::parse(line).with_context(|| path.display().to_string())?);
        }
    }
    if let Some(config) = config {
        let path = match &config.evidence.seal_certificate {
            Some(path) => path.clone(),
            None => config.keys.folder.join(SEAL_AUTHORITY),
        };
        trust.seals = certificates(&path)?;
        if let Some(path) = &config.evidence.timestamp_authorities {
            trust.timestamps = certificates(path)?;
        }
    }
    let file = read(&asked.file, PDF_MAX)?;
    let checked = receipts::check(&file, &trust).map_err(|refused| {
        let told = anyhow::Error::new(refused);
        Amiss(format!("reçu refusé : {told:#}"))
    })?;
    tell(&checked);
    Ok(())
}

fn tell(checked: &CheckedReceipt) {
    let receipt = &checked.receipt;
    say!("{} {} : vérifié.", receipt.kind.title(), receipt.id);
    say!("  modelé sur {}", receipt.modelled_on);
    say!("  délivré par {}", receipt.issuer);
    for party in &receipt.given_to {
        say!("  à {} <{}>", party.name, party.address);
    }
    say!("  dépôt {}, envoyé le {}", receipt.deposit.id, receipt.deposit.sent);
    for document in &receipt.documents {
        let sha256 = document.sha256.as_deref().unwrap_or("en cours de calcul");
        say!("  {} : {} octets, SHA-256 {sha256}", document.name, document.size);
    }
    let rest = receipt.documents.len() - checked.proved;
    if rest > 0 {
        say!("  {rest} empreintes ne tiennent qu'au cachet, pas au journal");
    }
    match &checked.seal {
        Some((subject, time)) => {
            say!("  cachet de {subject}, le {time}");
        }
        None => {
            say!("  sans cachet : JSON vérifié par la clé du journal");
        }
    }
    if let Some(time) = checked.timestamp {
        say!("  horodaté le {time}");
    }
}
