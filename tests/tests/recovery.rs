//! The hub's keys and the store alone: documents come back without the database; a rotation touches no
//! segment, whether a gateway runs or not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use pli_tests::content::Content;
use pli_tests::{Backend, Exchange, Site, SiteOptions};
use sha2::{Digest as _, Sha256};

const MIB: u64 = 1 << 20;

async fn site(backend: Backend) -> Result<Site> {
    let configuration = "[transfers]\nsegment_size = \"4 MiB\"\n".to_owned();
    Site::new(SiteOptions { configuration, ..SiteOptions::new(backend) }).await
}

/// Documents of several kinds, with their digests: several segments, a concatenation, one byte, nothing.
async fn documents(exchange: &Exchange) -> Result<BTreeMap<String, String>> {
    let mut made = BTreeMap::new();
    for (name, length) in [("D1 – procès-verbal.bin", 10 * MIB + 7), ("D2/annexe.bin", 1), ("D3.bin", 0)] {
        let upload = exchange.begin(name, Content::new(51, length)).await?;
        exchange.resume(&exchange.api, &upload).await?;
        made.insert(upload.document.clone(), upload.content.sha256());
    }
    let contents = [Content::new(52, 5 * MIB), Content::new(53, 3)];
    let mut parts = Vec::new();
    let mut digest = Sha256::new();
    for content in contents {
        let part = exchange.begin_part(content).await?;
        exchange.resume(&exchange.api, &part).await?;
        digest.update(content.all());
        parts.push(part);
    }
    made.insert(exchange.join("D4.bin", &parts).await?, hex::encode(digest.finalize()));
    for (document, sha256) in &made {
        exchange.available(document, sha256).await?;
    }
    Ok(made)
}

/// The files under a folder of recovery, by the document's identifier, with their digests.
fn recovered(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().context("no name")?.to_string_lossy().into_owned();
        let document = name.get(..36).with_context(|| name.clone())?.to_owned();
        found.insert(document, hex::encode(Sha256::digest(std::fs::read(&path)?)));
    }
    Ok(found)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_copy_of_objects_and_keys_alone_gives_every_document_back() -> Result<()> {
    let site = site(Backend::Embedded).await?;
    let gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    let made = documents(&exchange).await?;
    // An upload that is not finished, and one that was given up, come back as nothing.
    let pending = exchange.begin("D9.bin", Content::new(54, 20 * MIB)).await?;
    exchange.api.patch(&pending.location, 0, pending.content.bytes(0, 5 * MIB)).await?.expect(204)?;
    gateway.kill().await?;

    let elsewhere = tempfile::tempdir()?;
    for folder in ["objects", "keys"] {
        copy(&site.data().join(folder), &elsewhere.path().join(folder))?;
    }
    let configuration = elsewhere.path().join("pli.toml");
    std::fs::write(&configuration, "data = \".\"\n")?;
    let to = elsewhere.path().join("relus");
    let to_text = to.to_str().context("not UTF-8")?;
    let output = site.output_with(&configuration, &["recover", "--all", "--to", to_text]).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(recovered(&to)? == made, "other documents: {:?} instead of {made:?}", recovered(&to)?);
    ensure!(!elsewhere.path().join("pli.db").exists(), "recovery made a database");

    // Damage to one of them is told, and the others come back all the same.
    let hit = std::fs::read_dir(elsewhere.path().join("objects/segments"))?
        .flatten()
        .flat_map(|fan| std::fs::read_dir(fan.path()).into_iter().flatten().flatten())
        .find(|entry| entry.metadata().is_ok_and(|metadata| metadata.len() > 4 * MIB))
        .context("no large segment")?
        .path();
    let named = site.segments(made.keys().next().context("no document")?).await?;
    let mut bytes = std::fs::read(&hit)?;
    bytes[100_000] ^= 1;
    std::fs::write(&hit, bytes)?;
    let again = elsewhere.path().join("encore");
    let again_text = again.to_str().context("not UTF-8")?;
    let output = site.output_with(&configuration, &["recover", "--all", "--to", again_text]).await?;
    let of_pending = site.segments(&pending.document).await?;
    let unnamed = of_pending.iter().any(|(key, ..)| hit.ends_with(key));
    ensure!(output.status.code() == Some(if unnamed { 0 } else { 5 }), "{:?} {named:?}", output.status);
    let found = recovered(&again)?;
    ensure!(found.len() + usize::from(!unnamed) == made.len(), "{found:?}");
    ensure!(
        found.iter().all(|(document, sha256)| made.get(document) == Some(sha256)),
        "wrong bytes came back"
    );
    Ok(())
}

#[tokio::test]
async fn documents_come_back_from_s3_while_the_database_is_gone() -> Result<()> {
    let site = site(Backend::Services).await?;
    let gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    let made = documents(&exchange).await?;
    gateway.kill().await?;
    site.database()?.refuse().await;
    site.database()?.cut();
    let to = site.folder().join("relus");
    site.run(&["recover", "--all", "--to", to.to_str().context("not UTF-8")?]).await?;
    ensure!(recovered(&to)? == made, "other documents");
    Ok(())
}

/// Name, length and time of change of every segment's file.
fn segments(site: &Site) -> Result<Vec<(PathBuf, u64, SystemTime)>> {
    let files = site.objects("segments")?;
    files
        .into_iter()
        .map(|path| {
            let metadata = std::fs::metadata(&path)?;
            Ok((path, metadata.len(), metadata.modified()?))
        })
        .collect()
}

async fn rotated(backend: Backend) -> Result<()> {
    let site = site(backend).await?;
    let gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    let made = documents(&exchange).await?;
    let half = exchange.begin("D7.bin", Content::new(55, 9 * MIB)).await?;
    exchange.api.patch(&half.location, 0, half.content.bytes(0, 6 * MIB)).await?.expect(204)?;
    let before = segments(&site)?;
    let manifests = site.objects("manifests")?;
    let shown = site.run(&["keys", "show"]).await?;
    let old = shown.split_whitespace().next().context("no key")?.to_owned();

    // While the gateway runs.
    site.run(&["keys", "rotate"]).await?;
    ensure!(segments(&site)? == before, "a segment was touched");
    let shown = site.run(&["keys", "show"]).await?;
    ensure!(!shown.starts_with(&old), "the key is the same");
    // The gateway that still holds the former ring: what is there reads, what was begun goes on, new comes in.
    exchange.resume(&exchange.api, &half).await?;
    exchange.available(&half.document, &half.content.sha256()).await?;
    let new = exchange.begin("D8.bin", Content::new(56, 5 * MIB)).await?;
    exchange.resume(&exchange.api, &new).await?;
    exchange.available(&new.document, &new.content.sha256()).await?;
    exchange.send().await?;
    for (document, sha256) in &made {
        ensure!(exchange.read(&site, document).await? == *sha256, "other bytes while the gateway runs on");
    }
    site.findings(true).await?.sound()?;

    // After a restart.
    gateway.kill().await?;
    let _gateway = site.start().await?;
    let untouched = segments(&site)?;
    site.run(&["keys", "rotate", "--finish"]).await?;
    ensure!(segments(&site)? == untouched, "a segment was touched");
    ensure!(before.iter().filter(|segment| untouched.contains(segment)).count() >= before.len() - 1);
    for (document, sha256) in &made {
        ensure!(exchange.read(&site, document).await? == *sha256, "other bytes after the restart");
    }
    // Nothing is wrapped for the former key any more, in the database or in the store.
    let left = format!(
        "SELECT (SELECT COUNT(*) FROM uploads WHERE wrapped_for = '{old}' AND wrapped_key IS NOT NULL)
              + (SELECT COUNT(*) FROM documents WHERE wrapped_for = '{old}' AND manifest IS NOT NULL)"
    );
    ensure!(site.number(&left).await? == 0, "something is still wrapped for the former key");
    pli_tests::until("the former manifests to be deleted", async || {
        let now = site.objects("manifests")?;
        Ok((now.len() == made.len() + 2 && manifests.iter().all(|gone| !now.contains(gone))).then_some(()))
    })
    .await?;
    site.findings(true).await?.sound()?;

    let to = site.folder().join("relus");
    site.run(&["recover", "--all", "--to", to.to_str().context("not UTF-8")?]).await?;
    let mut all = made;
    all.insert(half.document, half.content.sha256());
    all.insert(new.document, new.content.sha256());
    ensure!(recovered(&to)? == all, "other documents after a rotation");
    Ok(())
}

#[tokio::test]
async fn a_rotation_touches_no_segment_and_loses_no_document_embedded() -> Result<()> {
    rotated(Backend::Embedded).await
}

#[tokio::test]
async fn a_rotation_touches_no_segment_and_loses_no_document_with_services() -> Result<()> {
    rotated(Backend::Services).await
}
