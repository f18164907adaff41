//! The store or the database goes away in the middle of an upload, slows down, hangs; the disk is full; the
//! service stops. Nothing durable is lost, nothing half-written stays, the upload goes on afterwards.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pli_tests::content::Content;
use pli_tests::exchange::fed;
use pli_tests::{Backend, Exchange, Gateway, Proxy, Site, SiteOptions, Upload, until};
use reqwest::Method;

const MIB: u64 = 1 << 20;

fn options(backend: Backend) -> SiteOptions {
    let configuration = "[transfers]\nsegment_size = \"4 MiB\"\n".to_owned();
    SiteOptions { configuration, ..SiteOptions::new(backend) }
}

async fn readiness_is(gateway: &Gateway, status: u16) -> Result<()> {
    until(&format!("/readyz to say {status}"), async || {
        Ok((gateway.readiness().await? == status).then_some(()))
    })
    .await
}

/// An upload in whose middle something breaks: its first 5 MiB are sent, 4 MiB are durable, the body waits.
struct Midway {
    feed: tokio::sync::mpsc::Sender<Vec<u8>>,
    writer: tokio::task::JoinHandle<Result<pli_tests::Answer>>,
}

impl Midway {
    async fn reach(exchange: &Exchange, upload: &Upload) -> Result<Self> {
        let (feed, body) = fed();
        let (api, address) = (exchange.api.clone(), upload.location.clone());
        let writer = tokio::spawn(async move { api.patch(&address, 0, body).await });
        feed.send(upload.content.bytes(0, 5 * MIB)).await?;
        until("the first segment", async || {
            Ok((exchange.api.watched(&upload.location).await? == 4 * MIB).then_some(()))
        })
        .await?;
        Ok(Self { feed, writer })
    }

    /// Sends the rest; the gateway may refuse it at any place.
    async fn send_rest(self, content: Content) -> Result<u16> {
        let Self { feed, writer } = self;
        for piece in content.pieces(5 * MIB, 1 << 18) {
            if feed.send(piece).await.is_err() {
                break;
            }
        }
        drop(feed);
        // A connection that ends without an answer counts as none.
        Ok(writer.await?.map_or(0, |answer| answer.status.as_u16()))
    }
}

/// Breaks a part behind the gateway in the middle of an upload, mends it, and resumes.
async fn gone_in_the_middle(of: impl Fn(&Site) -> Result<&Proxy>, length: u64) -> Result<()> {
    let site = Site::new(options(Backend::Services)).await?;
    let gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    let upload = exchange.begin("D1.bin", Content::new(41, length)).await?;
    let midway = Midway::reach(&exchange, &upload).await?;
    readiness_is(&gateway, 200).await?;
    of(&site)?.refuse().await;
    of(&site)?.cut();
    let status = midway.send_rest(upload.content).await?;
    ensure!(matches!(status, 0 | 503), "{status} while a part is gone\n{}", site.log());
    readiness_is(&gateway, 503).await?;
    of(&site)?.accept().await?;
    readiness_is(&gateway, 200).await?;
    let offset = exchange.api.offset(&upload.location).await?;
    ensure!(offset >= 4 * MIB, "{offset} after the outage, 4 MiB before");
    exchange.resume(&exchange.api, &upload).await?;
    exchange.settled(&site, &upload).await
}

#[tokio::test]
async fn the_store_goes_away_in_the_middle() -> Result<()> {
    gone_in_the_middle(Site::store, 50 * MIB + 1).await
}

#[tokio::test]
async fn the_database_goes_away_in_the_middle() -> Result<()> {
    gone_in_the_middle(Site::database, 50 * MIB + 1).await
}

/// Half-open: the connections stand and carry nothing.
async fn silent_in_the_middle(of: impl Fn(&Site) -> Result<&Proxy>) -> Result<()> {
    let site = Site::new(options(Backend::Services)).await?;
    let gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    let upload = exchange.begin("D1.bin", Content::new(42, 30 * MIB + 1)).await?;
    let midway = Midway::reach(&exchange, &upload).await?;
    of(&site)?.stall(true);
    let content = upload.content;
    let rest = tokio::spawn(midway.send_rest(content));
    readiness_is(&gateway, 503).await?;
    of(&site)?.stall(false);
    readiness_is(&gateway, 200).await?;
    let status = rest.await??;
    ensure!(matches!(status, 0 | 204 | 503), "{status} after a silence");
    ensure!(exchange.api.offset(&upload.location).await? >= 4 * MIB);
    exchange.resume(&exchange.api, &upload).await?;
    exchange.settled(&site, &upload).await
}

#[tokio::test]
async fn the_store_falls_silent_in_the_middle() -> Result<()> {
    silent_in_the_middle(Site::store).await
}

#[tokio::test]
async fn the_database_falls_silent_in_the_middle() -> Result<()> {
    silent_in_the_middle(Site::database).await
}

#[tokio::test]
async fn a_slow_store_loses_nothing() -> Result<()> {
    let site = Site::new(options(Backend::Services)).await?;
    let _gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    let upload = exchange.begin("D1.bin", Content::new(43, 22 * MIB + 1)).await?;
    // Some 6 MiB a second and connection.
    site.store()?.delay(Duration::from_millis(10));
    exchange.api.patch_rest(&upload.location, 0, upload.content).await?.expect(204)?;
    site.store()?.delay(Duration::ZERO);
    exchange.settled(&site, &upload).await
}

/// A PostgreSQL that the test may stop.
struct Cluster(tempfile::TempDir);

impl Cluster {
    fn script(&self, action: &str, more: &[&str]) -> Result<String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("env/postgres.sh");
        let output = Command::new(script).arg(action).arg(self.0.path()).args(more).output()?;
        ensure!(output.status.success(), "postgres.sh: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    fn new() -> Result<(Self, String)> {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::Builder::new().prefix("pli-cluster-").tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711))?;
        let cluster = Self(folder);
        let url = cluster.script("start", &[])?;
        Ok((cluster, url))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // What is gone already needs no stop.
        let _ = self.script("stop", &["immediate"]);
    }
}

#[tokio::test]
async fn a_database_that_crashes_and_comes_back_is_found_again() -> Result<()> {
    let (cluster, url) = Cluster::new()?;
    let site = Site::new(SiteOptions { postgres: Some(url), ..options(Backend::Services) }).await?;
    let mut gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    let upload = exchange.begin("D1.bin", Content::new(44, 40 * MIB + 1)).await?;
    let midway = Midway::reach(&exchange, &upload).await?;
    cluster.script("stop", &["immediate"])?;
    readiness_is(&gateway, 503).await?;
    let status = midway.send_rest(upload.content).await?;
    ensure!(matches!(status, 0 | 503), "{status} without a database\n{}", site.log());
    cluster.script("start", &[])?;
    readiness_is(&gateway, 200).await?;
    ensure!(gateway.runs()?, "the gateway ended with its database");
    ensure!(exchange.api.offset(&upload.location).await? >= 4 * MIB);
    exchange.resume(&exchange.api, &upload).await?;
    exchange.settled(&site, &upload).await
}

/// A file system of its own in memory, of a set size.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: &Path, size: &str) -> Result<Self> {
        run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], at)?;
        Ok(Self(at.to_owned()))
    }

    fn resize(&self, size: &str) -> Result<()> {
        run("mount", &["-o", &format!("remount,size={size}")], &self.0)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a process that is about to end may still have a file open.
        let _ = run("umount", &["-l"], &self.0);
    }
}

fn run(program: &str, arguments: &[&str], last: &Path) -> Result<()> {
    let output = Command::new(program).args(arguments).arg(last).output().context(program.to_owned())?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Whoever is not root runs this test again as root of a name space of its own. True when that was done.
fn done_as_root(test: &str) -> Result<bool> {
    let id = Command::new("id").arg("-u").output()?;
    if id.stdout.trim_ascii() == b"0" {
        return Ok(false);
    }
    let own = std::env::current_exe()?;
    let mut unshare = Command::new("unshare");
    let status = unshare.arg("-rm").arg(own).args(["--exact", test, "--nocapture"]).status()?;
    ensure!(status.success(), "as root of a name space: {status}");
    Ok(true)
}

#[tokio::test]
async fn a_full_disk_is_507_and_leaves_nothing_half_written() -> Result<()> {
    if done_as_root("a_full_disk_is_507_and_leaves_nothing_half_written")? {
        return Ok(());
    }
    let point = tempfile::tempdir()?;
    let disk = Tmpfs::mount(point.path(), "30m")?;
    // Everything of the site lies on it: objects, database and log.
    let parent = Some(point.path().to_owned());
    let site = Site::new(SiteOptions { parent, ..options(Backend::Embedded) }).await?;
    let gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    let upload = exchange.begin("D1.bin", Content::new(45, 48 * MIB + 5)).await?;
    let (feed, body) = fed();
    let (api, address) = (exchange.api.clone(), upload.location.clone());
    let writer = tokio::spawn(async move { api.patch(&address, 0, body).await });
    let content = upload.content;
    let feeder = tokio::spawn(async move {
        for piece in content.pieces(0, 1 << 18) {
            if feed.send(piece).await.is_err() {
                return;
            }
        }
    });
    // The answer may be lost when the connection ends while the client still sends; a small request is not.
    if let Ok(answer) = writer.await? {
        ensure!(answer.status == 507 && answer.problem() == "storage-full", "{}", answer.text());
    }
    feeder.await?;
    let offset = exchange.api.offset(&upload.location).await?;
    ensure!(offset >= 8 * MIB && offset < upload.content.length(), "{offset} on a disk of 30 MiB");
    // Small requests until there is room for nothing at all: the last answers say so.
    let mut at = offset;
    let refused = loop {
        let answer = exchange.api.patch(&upload.location, at, content.bytes(at, at + 2 * MIB)).await?;
        match answer.status.as_u16() {
            204 => at = answer.offset()?,
            _ => break answer,
        }
    };
    ensure!(refused.status == 507 && refused.problem() == "storage-full", "{}", refused.text());

    let unfinished: Vec<_> = std::fs::read_dir(site.data().join("objects/unfinished"))?.collect();
    ensure!(unfinished.is_empty(), "half-written: {unfinished:?}");
    let durable = exchange.api.offset(&upload.location).await?;
    ensure!(durable == at, "{durable} is durable, {at} was told");
    // Each object is a whole segment that a row names, but the short ones that were just replaced.
    let found = site.findings(false).await?;
    ensure!(found.code == 0 && found.recent.len() <= 1, "{found:?}");

    // Killed and started with the disk as full as it is: nothing is lost either.
    gateway.kill().await?;
    disk.resize("300m")?;
    let _gateway = site.start().await?;
    ensure!(exchange.api.offset(&upload.location).await? == durable);
    exchange.resume(&exchange.api, &upload).await?;
    exchange.settled(&site, &upload).await
}

/// Asked to stop in the middle of an upload: 503, and what had arrived is durable.
async fn stopped_during_an_upload(backend: Backend) -> Result<()> {
    let site = Site::new(options(backend)).await?;
    let gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    let upload = exchange.begin("D1.bin", Content::new(46, 20 * MIB + 1)).await?;
    let front = Proxy::start(site.address()).await?;
    let through = site.api_at(&exchange.sender, front.address())?;
    let (feed, body) = fed();
    let address = upload.location.clone();
    let writer = tokio::spawn(async move { through.patch(&address, 0, body).await });
    let sent = 7 * MIB + 12_345;
    for at in (0..sent).step_by(1 << 17) {
        feed.send(upload.content.bytes(at, (at + (1 << 17)).min(sent))).await?;
    }
    until("the gateway to read all of it", async || {
        let durable = exchange.api.watched(&upload.location).await?;
        Ok((front.up() > sent && site.unread()? == 0 && durable == 4 * MIB).then_some(()))
    })
    .await?;
    let stopping = tokio::spawn(gateway.stop(Duration::from_secs(60)));
    let answer = writer.await??;
    ensure!(answer.status == 503 && answer.problem() == "stopping", "{}", answer.text());
    let told = answer.offset()?;
    drop(feed);
    let status = stopping.await??;
    ensure!(status.success(), "the graceful stop ended with {status}");
    // What may be missing are the frames between the socket and the segment.
    ensure!(told <= sent && sent - told <= MIB, "{told} of {sent} were kept");
    let _gateway = site.start().await?;
    ensure!(exchange.api.offset(&upload.location).await? == told, "HEAD says another offset than the 503");
    exchange.resume(&exchange.api, &upload).await?;
    exchange.settled(&site, &upload).await
}

#[tokio::test]
async fn a_graceful_stop_keeps_what_had_arrived_embedded() -> Result<()> {
    stopped_during_an_upload(Backend::Embedded).await
}

#[tokio::test]
async fn a_graceful_stop_keeps_what_had_arrived_with_services() -> Result<()> {
    stopped_during_an_upload(Backend::Services).await
}

#[tokio::test]
async fn a_download_in_flight_ends_before_a_graceful_stop() -> Result<()> {
    let site = Site::new(options(Backend::Embedded)).await?;
    let gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    let upload = exchange.begin("D1.bin", Content::new(47, 40 * MIB + 1)).await?;
    exchange.resume(&exchange.api, &upload).await?;
    exchange.settled(&site, &upload).await?;
    let there = site.api(&exchange.reader)?;
    let path = format!("/api/v1/documents/{}/content", upload.document);
    let mut answer = there.request(Method::GET, &path).send().await?;
    let mut got = answer.chunk().await?.context("no first piece")?.to_vec();
    gateway.signal("TERM").await?;
    // From here on nobody new is taken; this download goes on.
    until("the gateway to be stopping", async || {
        Ok((!matches!(gateway.readiness().await, Ok(200))).then_some(()))
    })
    .await?;
    while let Some(piece) = answer.chunk().await? {
        got.extend_from_slice(&piece);
    }
    ensure!(got == upload.content.all(), "other bytes during a stop");
    let status = gateway.stop(Duration::from_secs(60)).await;
    // It may be gone before it is asked a second time.
    ensure!(status.is_err() || status?.success());
    let ended = site.journal("download.completed", &upload.document);
    ensure!(ended.await?.len() == 2, "the journal does not know that the download came to its end");
    Ok(())
}
