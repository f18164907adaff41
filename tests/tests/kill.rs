//! `kill -9` in every phase of an upload: what HEAD said before, it says after; the rest is sent again; the
//! document has the right digest; database and store agree.

use anyhow::{Result, ensure};
use pli_tests::content::Content;
use pli_tests::exchange::fed;
use pli_tests::{Backend, Exchange, Proxy, Site, SiteOptions, until};

const MIB: u64 = 1 << 20;

/// A site whose segments are of 4 MiB, so that a small upload has several.
async fn site(backend: Backend) -> Result<Site> {
    let configuration = "[transfers]\nsegment_size = \"4 MiB\"\n".to_owned();
    Site::new(SiteOptions { configuration, ..SiteOptions::new(backend) }).await
}

/// Feeds `fed_bytes` of an upload through a proxy, waits until `durable` of them are, kills, comes back.
async fn killed_after(backend: Backend, fed_bytes: u64, durable: u64) -> Result<()> {
    let site = site(backend).await?;
    let gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    let upload = exchange.begin("D1.bin", Content::new(21, 18 * MIB + 77)).await?;
    let front = Proxy::start(site.address()).await?;
    let through = site.api_at(&exchange.sender, front.address())?;
    let before = front.up();
    let (feed, body) = fed();
    let address = upload.location.clone();
    let writer = tokio::spawn(async move { through.patch(&address, 0, body).await });
    for at in (0..fed_bytes).step_by(1 << 18) {
        feed.send(upload.content.bytes(at, (at + (1 << 18)).min(fed_bytes))).await?;
    }
    until("the bytes to reach the gateway", async || {
        let there = front.up() - before > fed_bytes && site.unread()? == 0;
        Ok((there && exchange.api.watched(&upload.location).await? == durable).then_some(()))
    })
    .await?;
    gateway.kill().await?;
    drop(feed);
    ensure!(writer.await?.is_err(), "an answer from a gateway that was killed");

    let _gateway = site.start().await?;
    let offset = exchange.api.offset(&upload.location).await?;
    ensure!(offset == durable, "{offset} after the kill, {durable} before");
    site.findings(true).await?.sound()?;
    exchange.resume(&exchange.api, &upload).await?;
    exchange.settled(&site, &upload).await
}

#[tokio::test]
async fn killed_before_the_first_segment_embedded() -> Result<()> {
    killed_after(Backend::Embedded, 3 * MIB, 0).await
}

#[tokio::test]
async fn killed_before_the_first_segment_with_services() -> Result<()> {
    killed_after(Backend::Services, 3 * MIB, 0).await
}

#[tokio::test]
async fn killed_in_the_middle_of_a_segment_embedded() -> Result<()> {
    killed_after(Backend::Embedded, 10 * MIB, 8 * MIB).await
}

#[tokio::test]
async fn killed_in_the_middle_of_a_segment_with_services() -> Result<()> {
    killed_after(Backend::Services, 10 * MIB, 8 * MIB).await
}

#[tokio::test]
async fn killed_right_after_a_segment_embedded() -> Result<()> {
    killed_after(Backend::Embedded, 8 * MIB, 8 * MIB).await
}

#[tokio::test]
async fn killed_right_after_a_segment_with_services() -> Result<()> {
    killed_after(Backend::Services, 8 * MIB, 8 * MIB).await
}

/// One large upload, killed again and again at other places; the client goes on from HEAD each time.
async fn killed_again_and_again(backend: Backend) -> Result<()> {
    let site = site(backend).await?;
    let mut gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    let upload = exchange.begin("D2.bin", Content::new(22, 160 * MIB + 13)).await?;
    let front = Proxy::start(site.address()).await?;
    let mut durable = 0;
    // Not whole segments, and each kill meets another stage: receiving, sealing, storing, committing.
    for after in [MIB / 3, 4 * MIB, 5 * MIB + 1, 9 * MIB, 2 * MIB, 13 * MIB + 5, 17 * MIB, 7 * MIB + 4096] {
        let through = site.api_at(&exchange.sender, front.address())?;
        let (address, content) = (upload.location.clone(), upload.content);
        let from = front.up();
        let writer = tokio::spawn(async move { through.patch_rest(&address, durable, content).await });
        until("the bytes to go up", async || Ok((front.up() - from >= after).then_some(()))).await?;
        // What is told just before the kill must hold after it.
        let told = exchange.api.watched(&upload.location).await?;
        gateway.kill().await?;
        ensure!(writer.await?.is_err(), "an answer from a gateway that was killed");
        gateway = site.start().await?;
        let offset = exchange.api.offset(&upload.location).await?;
        ensure!(told >= durable && offset >= told, "{durable}, then {told}, then {offset} after the kill");
        durable = offset;
    }
    site.findings(false).await?.sound()?;
    exchange.resume(&exchange.api, &upload).await?;
    exchange.settled(&site, &upload).await
}

#[tokio::test]
async fn killed_again_and_again_during_one_upload_embedded() -> Result<()> {
    killed_again_and_again(Backend::Embedded).await
}

#[tokio::test]
async fn killed_again_and_again_during_one_upload_with_services() -> Result<()> {
    killed_again_and_again(Backend::Services).await
}

/// The last byte's 204 is a promise: the document becomes available whatever happens then.
async fn killed_after_the_last_answer(backend: Backend) -> Result<()> {
    let site = site(backend).await?;
    let gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    let upload = exchange.begin("D3.bin", Content::new(23, 9 * MIB + 1)).await?;
    exchange.api.patch_rest(&upload.location, 0, upload.content).await?.expect(204)?;
    gateway.kill().await?;
    let _gateway = site.start().await?;
    ensure!(exchange.api.offset(&upload.location).await? == upload.content.length());
    exchange.settled(&site, &upload).await
}

#[tokio::test]
async fn killed_just_after_the_last_answer_embedded() -> Result<()> {
    killed_after_the_last_answer(Backend::Embedded).await
}

#[tokio::test]
async fn killed_just_after_the_last_answer_with_services() -> Result<()> {
    killed_after_the_last_answer(Backend::Services).await
}

/// Killed while the job of a concatenation reads everything back: another run of it finishes the document.
async fn killed_during_the_finish_of_a_concatenation(backend: Backend) -> Result<()> {
    let site = site(backend).await?;
    let mut gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    let contents = [Content::new(24, 40 * MIB + 3), Content::new(25, 1), Content::new(26, 40 * MIB - 11)];
    let whole = {
        use sha2::{Digest as _, Sha256};
        let mut digest = Sha256::new();
        for piece in contents.iter().flat_map(|content| content.pieces(0, MIB)) {
            digest.update(&piece);
        }
        hex::encode(digest.finalize())
    };
    let mut caught = false;
    // The job may be quicker than the kill: then another one is tried, so that one is met while it runs.
    for attempt in 0..5 {
        let mut parts = Vec::new();
        for content in contents {
            let part = exchange.begin_part(content).await?;
            exchange.api.patch_rest(&part.location, 0, content).await?.expect(204)?;
            parts.push(part);
        }
        if backend == Backend::Services {
            site.store()?.delay(std::time::Duration::from_millis(5));
        }
        let document = exchange.join(&format!("D4-{attempt}.bin"), &parts).await?;
        let leased = "SELECT COUNT(*) FROM jobs WHERE kind = 'document.finish' AND state = 'leased'";
        let sql = format!("SELECT ({leased}), state FROM documents WHERE id = {}", site.literal(&document));
        until("the job to be leased", async || {
            let row = site.rows(&sql).await?.concat();
            Ok((row[0] == "1" || row[1] != "finishing").then_some(()))
        })
        .await?;
        gateway.kill().await?;
        if backend == Backend::Services {
            site.store()?.delay(std::time::Duration::ZERO);
        }
        let state = site.rows(&sql).await?.concat();
        gateway = site.start().await?;
        exchange.available(&document, &whole).await?;
        caught = state == ["1", "finishing"];
        if caught {
            break;
        }
    }
    ensure!(caught, "the job was always quicker than the kill");
    exchange.send().await?;
    let sent = exchange.api.deposit_by_id(exchange.deposit).await?.documents.unwrap_or_default();
    for document in sent {
        ensure!(exchange.read(&site, &document.id.to_string()).await? == whole, "other bytes");
    }
    site.findings(true).await?.sound()?;
    drop(gateway);
    Ok(())
}

#[tokio::test]
async fn killed_during_the_finish_of_a_concatenation_embedded() -> Result<()> {
    killed_during_the_finish_of_a_concatenation(Backend::Embedded).await
}

#[tokio::test]
async fn killed_during_the_finish_of_a_concatenation_with_services() -> Result<()> {
    killed_during_the_finish_of_a_concatenation(Backend::Services).await
}

/// The plaintext is on no disk: neither while an upload runs, in files that have no name any more, nor after a
/// kill in the middle of it, in the store, the database with its journal files, or the log. The canary is
/// repeated without a gap, so that any 31 bytes of it, a tail or the buffer of a midstate, hold it whole.
async fn no_plaintext(backend: Backend) -> Result<()> {
    let site = site(backend).await?;
    let gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    let canary = b"Kq7#canari-9vXz!";
    let length = 9 * MIB + 63;
    let bytes = canary.repeat((length / 16 + 1) as usize)[..length as usize].to_vec();
    let made = exchange.api.create(exchange.deposit, "D5.bin", Some(2 * length)).await?.expect(201)?;
    let location = made.header("location").unwrap_or_default().to_owned();
    // A tail that ends inside a block of SHA-256, twice, so that it is taken up again.
    exchange.api.patch(&location, 0, bytes[..(4 * MIB + 163) as usize].to_vec()).await?.expect(204)?;
    let offset = exchange.api.watched(&location).await?;
    ensure!(offset == 4 * MIB + 163);
    let (feed, body) = fed();
    let (through, address) = (exchange.api.clone(), location.clone());
    let writer = tokio::spawn(async move { through.patch(&address, offset, body).await });
    feed.send(bytes[offset as usize..].to_vec()).await?;
    until("a segment", async || {
        Ok((exchange.api.watched(&location).await? > offset && site.unread()? == 0).then_some(()))
    })
    .await?;
    let open = gateway.open_files_holding(canary)?;
    ensure!(open.is_empty(), "plaintext in {open:?}");
    ensure!(!gateway.open_files_holding(b"CREATE TABLE")?.is_empty() || backend == Backend::Services);
    let held = site.holding(canary)?;
    ensure!(held.is_empty(), "plaintext in {held:?}");
    gateway.kill().await?;
    drop(feed);
    ensure!(writer.await?.is_err());
    let held = site.holding(canary)?;
    ensure!(held.is_empty(), "plaintext in {held:?} after the kill");
    if backend == Backend::Embedded {
        ensure!(site.data().join("pli.db-wal").exists(), "the write-ahead log was not searched");
        let identifier = location.rsplit('/').next().unwrap_or_default().replace('-', "");
        ensure!(!site.holding(&hex::decode(identifier)?)?.is_empty(), "the search finds nothing at all");
    } else {
        // PostgreSQL keeps its rows elsewhere: they are looked at through it.
        for (table, column) in
            [("uploads", "digest"), ("uploads", "digest_before"), ("uploads", "wrapped_key")]
        {
            let needle = hex::encode(canary);
            let sql =
                format!("SELECT COUNT(*) FROM {table} WHERE position('\\x{needle}'::bytea in {column}) > 0");
            ensure!(site.number(&sql).await? == 0, "plaintext in {table}.{column}");
        }
        let sql = "SELECT COUNT(*) FROM uploads WHERE digest IS NOT NULL";
        ensure!(site.number(sql).await? == 1, "there was no midstate to look at");
    }
    let _gateway = site.start().await?;
    let held = site.holding(canary)?;
    ensure!(held.is_empty(), "plaintext in {held:?} after the restart");
    Ok(())
}

#[tokio::test]
async fn no_plaintext_on_a_disk_during_an_upload_or_after_a_kill_embedded() -> Result<()> {
    no_plaintext(Backend::Embedded).await
}

#[tokio::test]
async fn no_plaintext_on_a_disk_during_an_upload_or_after_a_kill_with_services() -> Result<()> {
    no_plaintext(Backend::Services).await
}
