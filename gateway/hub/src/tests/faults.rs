//! What fails underneath: a disk that is full or gone, a database that stops or whose answer is lost, and
//! requests that are dropped at any moment.
//!
//! Nothing is imitated: disks are mounted small, PostgreSQL is stopped, connections are cut.

use crate::testing::*;
use pli_api::UploadId;
use pli_storage::{Blobs, Class, Db, DbOptions, Dialect, args};
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// A running PATCH that is fed by hand.
fn running(hub: &crate::Hub, w: &World, id: UploadId, at: usize) -> (Feed, tokio::task::JoinHandle<Reply>) {
    let (feed, body) = Feed::new();
    let (hub, ask) = (hub.clone(), append(id, at).body(body).by(&w.sender));
    (feed, tokio::spawn(async move { call(&hub, ask).await }))
}

on_both! {
    /// The folder of the store is moved away or replaced while an upload runs, as when a disk is not mounted.
    async fn the_store_gone_for_a_while(dialect) {
        let w = Ground::on(dialect).folder().build().await;
        let store = w.dir.path().join("store");
        let deposit = w.draft().await;
        for (name, by_a_file) in [("segments", false), ("segments", true), ("unfinished", false), ("unfinished", true), ("", true)] {
            let content = noise(1, 4 * SEGMENT);
            let up = w.begin(deposit, "a", Some(content.len())).await;
            let (feed, patch) = running(&w.hub, &w, up.id, 0);
            assert!(feed.give(&content[..SEGMENT + 10]).await);
            until("the first segment", || async { w.watched(up.id).await == SEGMENT }).await;

            let (folder, aside) = (store.join(name), w.dir.path().join("aside"));
            std::fs::rename(&folder, &aside).unwrap();
            if by_a_file {
                std::fs::write(folder.as_os_str().to_str().unwrap().trim_end_matches('/'), b"x").unwrap();
            }
            // It ends by itself at the next segment, though more would come.
            assert!(feed.give(&content[SEGMENT + 10..2 * SEGMENT + 10]).await);
            patch.await.unwrap().problem(503, "unavailable");
            w.patch(up.id, SEGMENT, &content[SEGMENT..]).await.problem(503, "unavailable");
            assert_eq!(w.offset(up.id).await, SEGMENT);
            if name != "segments" {
                assert!(w.hub.ready().await.is_err());
            }

            let at = folder.as_os_str().to_str().unwrap().trim_end_matches('/').to_owned();
            if by_a_file {
                std::fs::remove_file(&at).unwrap();
            }
            std::fs::rename(&aside, &at).unwrap();
            w.hub.ready().await.unwrap();
            assert_eq!(w.stored(up.id).await, &content[..SEGMENT]);
            w.patch(up.id, SEGMENT, &content[SEGMENT..]).await.expect(204);
            w.jobs().await;
            w.holds(up.document.unwrap(), &content).await;
            assert!(std::fs::read_dir(store.join("unfinished")).unwrap().next().is_none(), "nothing half-written");
        }
        w.is_sound().await;
    }

    /// A store that has gone is not a document that is damaged.
    async fn reading_while_the_store_is_gone(dialect) {
        let w = Ground::on(dialect).folder().build().await;
        let content = noise(2, 2 * SEGMENT);
        let (_, documents) = w.available(&[("a", &content)]).await;
        let deposit = w.draft().await;
        let parts = [w.begin_part(3).await.id, w.begin_part(3).await.id];
        for id in parts {
            w.patch(id, 0, b"abc").await.expect(204);
        }
        let given = metadata(&[("filename", "x"), ("deposit", &deposit.to_string())]);
        let joined = tus("POST", "/api/v1/uploads").header("upload-metadata", given);
        let joined = joined.header("upload-concat", format!("final;{} {}", parts[0], parts[1]));
        let joined = w.call(joined.by(&w.sender)).await.expect(201).begun().document.unwrap();
        let (store, aside) = (w.dir.path().join("store"), w.dir.path().join("aside"));
        std::fs::rename(&store, &aside).unwrap();
        std::fs::create_dir(&store).unwrap();
        w.download(&w.recipient, documents[0]).await.problem(503, "unavailable");
        for _ in 0..8 {
            // Far more often than a damaged document is tried.
            w.pass(7200);
            w.jobs().await;
        }
        assert_eq!(w.document(joined).await["state"], "finishing");
        assert!(w.told("segment.damaged").await.is_empty() && w.told("document.damaged").await.is_empty());
        std::fs::remove_dir(&store).unwrap();
        std::fs::rename(&aside, &store).unwrap();
        w.pass(7200);
        w.jobs().await;
        w.holds(joined, b"abcabc").await;
        w.holds(documents[0], &content).await;
        w.is_sound().await;
    }

    /// Dropped after any number of polls: what is there is whole, and what was promised is charged.
    async fn requests_dropped_at_any_moment(dialect) {
        let w = Ground::on(dialect).options(|o| o.pending_uploads = 10_000).build().await;
        let content = noise(3, SEGMENT + 700);
        let drop_after = async |ask: Ask, polls: usize| drop_after(&w.hub, ask, polls).await;
        for polls in 0..40 {
            let deposit = w.draft().await;
            let octets = "application/offset+octet-stream";
            let with = creation(deposit, "a", Some(content.len())).octets(&content[..SEGMENT + 3]);
            drop_after(with.header("content-type", octets).by(&w.sender), polls).await;
            let up = w.begin(deposit, "b", Some(content.len())).await;
            w.patch(up.id, 0, &content[..10]).await.expect(204);
            drop_after(append(up.id, 10).octets(&content[10..]).by(&w.sender), polls).await;
            let doomed = w.begin(deposit, "c", None).await;
            w.patch(doomed.id, 0, &content[..10]).await.expect(204);
            drop_after(tus("DELETE", format!("/api/v1/uploads/{}", doomed.id)).by(&w.sender), polls).await;
            until("the transfers to end", || async { w.hub.running_transfers() == 0 }).await;
            let at = w.offset(up.id).await;
            assert_eq!(w.stored(up.id).await, &content[..at]);
            if at < content.len() {
                w.patch(up.id, at, &content[at..]).await.expect(204);
            }
            w.jobs().await;
            w.holds(up.document.unwrap(), &content).await;
            let whole = w.draft().await;
            w.upload(whole, "d", b"abc").await;
            drop_after(ask("POST", format!("/api/v1/deposits/{whole}/send")).by(&w.sender), polls).await;
            drop_after(ask("DELETE", format!("/api/v1/deposits/{deposit}")).by(&w.sender), polls).await;
        }
        w.is_sound().await;
        let sent = w.told("deposit.sent").await.len();
        assert_eq!(w.told("deposit.available").await.len(), sent);
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM deposits WHERE state = 'available'", args![]).await, sent as i64);
    }
}

// A small disk. It is mounted in a namespace of its own, so that neither root nor a sudo is needed: the
// test binary calls itself there with the name of an ignored test.

const CHILD: &str = "PLI_TEST_SMALL_DISK";

fn on_a_small_disk(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let apart: &[&[&str]] = &[&["--user", "--map-root-user", "--mount"], &["--mount"]];
    let works = |flags: &&&[&str]| {
        let tried = Command::new("unshare").args(**flags).arg("true").stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    };
    let flags = apart.iter().find(works);
    let flags = flags.expect("a small disk needs unshare (util-linux) and either user namespaces or root");
    let done = Command::new("unshare")
        .args(*flags)
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD, folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// A mounted disk of so many KiB, and a file on it that can take up all room but so much.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` when the ignored test was called by somebody else.
    fn mount(kib: usize) -> Option<Self> {
        let folder = PathBuf::from(std::env::var_os(CHILD)?);
        let size = format!("size={kib}k");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "pli-test"]).arg(&folder).status();
        assert!(mounted.unwrap().success());
        Some(Self(folder))
    }

    fn fill(&self, leave: usize) {
        let path = self.0.join("filler");
        let mut step = MIB;
        let mut held = 0;
        let file = std::fs::File::create(&path).unwrap();
        // As large as it can be, then shorter by what is to be left.
        while step >= 4096 {
            use std::os::unix::fs::FileExt as _;
            match file.write_at(&vec![1; step], held) {
                Ok(written) => held += written as u64,
                Err(_) => step /= 2,
            }
        }
        file.set_len(held.saturating_sub(leave as u64)).unwrap();
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

async fn a_full_store(dialect: Dialect) {
    let Some(disk) = SmallDisk::mount(8 * 1024) else { return };
    let mut ground = Ground::on(dialect);
    ground.blobs = Some(Blobs::folder(disk.0.join("store")).unwrap());
    let w = ground.build().await;
    let deposit = w.draft().await;
    let content = noise(1, 5 * SEGMENT + 100);
    for room in [0, SEGMENT / 2, 2 * SEGMENT + SEGMENT / 2] {
        let up = w.begin(deposit, "a", Some(content.len())).await;
        disk.fill(room);
        let full = w.call(append(up.id, 0).body(chunked(&content, 50_000)).by(&w.sender)).await;
        full.problem(507, "storage-full");
        let at = w.offset(up.id).await;
        assert!(at % SEGMENT == 0 && at <= room, "{at} of {room}");
        assert!(w.stored(up.id).await == content[..at]);
        let objects: usize = w.objects(Class::Segment).await.len();
        assert_eq!(objects, at / SEGMENT, "what was not named is not kept");
        let left = std::fs::read_dir(disk.0.join("store/unfinished")).unwrap().count();
        assert_eq!(left, 0, "nothing half-written");
        assert!(w.hub.ready().await.is_err() || room > 0);
        disk.free();
        w.patch(up.id, at, &content[at..]).await.expect(204);

        // Full again when it is to be finished: the job waits for room, as long as it takes.
        disk.fill(0);
        for _ in 0..15 {
            w.jobs().await;
            assert_eq!(w.document(up.document.unwrap()).await["state"], "finishing");
            w.pass(7200);
        }
        disk.free();
        w.jobs().await;
        w.holds(up.document.unwrap(), &content).await;
        w.call(tus("DELETE", format!("/api/v1/uploads/{}", up.id)).by(&w.sender)).await.expect(204);
        w.jobs().await;
        w.store_is_empty().await;
    }
    w.is_sound().await;
}

#[test]
fn a_full_store_beside_sqlite() {
    on_a_small_disk("tests::faults::child_full_store_sqlite");
}

#[test]
fn a_full_store_beside_postgres() {
    on_a_small_disk("tests::faults::child_full_store_postgres");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by a_full_store_beside_sqlite"]
async fn child_full_store_sqlite() {
    a_full_store(Dialect::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by a_full_store_beside_postgres"]
async fn child_full_store_postgres() {
    a_full_store(Dialect::Postgres).await;
}

#[test]
fn a_full_disk_under_sqlite() {
    on_a_small_disk("tests::faults::child_full_database");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by a_full_disk_under_sqlite"]
async fn child_full_database() {
    let Some(disk) = SmallDisk::mount(4 * 1024) else { return };
    let mut ground = Ground::on(Dialect::Sqlite);
    ground.url = Some(format!("sqlite:{}", disk.0.join("pli.db").display()));
    let w = ground.build().await;
    let deposit = w.draft().await;
    let content = noise(1, 40 * SEGMENT);
    let up = w.begin(deposit, "a", Some(content.len())).await;
    w.patch(up.id, 0, &content[..SEGMENT]).await.expect(204);
    disk.fill(0);
    // The log has some room of its own; then nothing can be named any more.
    let mut at = SEGMENT;
    let full = loop {
        let next = (at + 1000).min(content.len());
        let reply = w.patch(up.id, at, &content[at..next]).await;
        if reply.status != 204 {
            break reply;
        }
        at = next;
        assert!(at < content.len(), "the disk was never full");
    };
    full.problem(507, "storage-full");
    assert_eq!(w.offset(up.id).await, at, "reading still works");
    assert!(w.stored(up.id).await == content[..at]);
    disk.free();
    w.patch(up.id, at, &content[at..]).await.expect(204);
    w.jobs().await;
    w.holds(up.document.unwrap(), &content).await;
    // A commit that failed for want of room may have left its object for the sweep, and no more.
    let options = crate::admin::CheckOptions { deep: true, remove_orphans_after: None };
    let found = crate::admin::check(&w.hub, options).await.unwrap();
    assert!(found.missing.is_empty() && found.damaged.is_empty() && found.quotas.is_empty(), "{found:?}");
    assert!(found.orphans.is_empty() && found.recent.len() <= 1, "{found:?}");
}

// PostgreSQL that is stopped, and connections that are cut.

/// A cluster of this test's own, because it is stopped.
struct Cluster {
    folder: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Self {
        // Where the script is told that PostgreSQL may be used: the same complaint as for every test.
        assert!(
            std::env::var_os("PLI_TEST_POSTGRES").is_some(),
            "run the tests under `tests/env/with.sh postgres -- …`"
        );
        let folder = tempfile::tempdir().unwrap();
        // The user postgres passes through.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let cluster = Self { folder };
        cluster.script(&["start"]);
        cluster
    }

    fn script(&self, line: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/env/postgres.sh");
        let (action, rest) = line.split_first().unwrap();
        let folder = self.folder.path().join("postgres");
        let out = Command::new(script).arg(action).arg(folder).args(rest).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    async fn world(&self) -> World {
        let mut ground = Ground::on(Dialect::Postgres);
        ground.url = Some(pli_storage::testing::postgres_on(&self.script(&["url"])).await.unwrap());
        ground.db = DbOptions { acquire_timeout: Duration::from_millis(300), ..ground.db };
        ground.build().await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.script(&["stop", "immediate"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_down_for_a_moment() {
    let cluster = Cluster::start();
    let w = cluster.world().await;
    let deposit = w.draft().await;
    let content = noise(1, 4 * SEGMENT);
    let up = w.begin(deposit, "a", Some(content.len())).await;
    let (feed, patch) = running(&w.hub, &w, up.id, 0);
    assert!(feed.give(&content[..SEGMENT + 10]).await);
    until("the first segment", || async { w.watched(up.id).await == SEGMENT }).await;
    cluster.script(&["stop", "immediate"]);
    assert!(feed.give(&content[SEGMENT + 10..3 * SEGMENT]).await);
    until("the next to be stored", || async { w.objects(Class::Segment).await.len() >= 2 }).await;
    for ask in [tus("HEAD", format!("/api/v1/uploads/{}", up.id)), ask("GET", "/api/v1/me")] {
        assert_eq!(w.call(ask.by(&w.sender)).await.status, 503);
    }
    assert!(w.hub.ready().await.is_err() && w.hub.run_due_jobs().await.is_err());
    // The request has not noticed but for the wait.
    cluster.script(&["start"]);
    until("the segments to be named", || async { w.watched(up.id).await == 3 * SEGMENT }).await;
    assert!(feed.give(&content[3 * SEGMENT..]).await);
    drop(feed);
    patch.await.unwrap().expect(204);
    w.jobs().await;
    w.holds(up.document.unwrap(), &content).await;
    w.is_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_down_for_longer() {
    let cluster = Cluster::start();
    let w = cluster.world().await;
    let (_, documents) = w.available(&[("b", &noise(9, SEGMENT))]).await;
    let deposit = w.draft().await;
    let content = noise(2, 4 * SEGMENT);
    let up = w.begin(deposit, "a", Some(content.len())).await;
    let (feed, patch) = running(&w.hub, &w, up.id, 0);
    assert!(feed.give(&content[..SEGMENT + 10]).await);
    until("the first segment", || async { w.watched(up.id).await == SEGMENT }).await;
    cluster.script(&["stop", "fast"]);
    assert!(feed.give(&content[SEGMENT + 10..3 * SEGMENT]).await);
    let reply = patch.await.unwrap().problem(503, "unavailable");
    assert!(reply.header("retry-after").is_some());
    assert!(!feed.give(&content[3 * SEGMENT..]).await);
    w.patch(up.id, SEGMENT, &content[SEGMENT..]).await.problem(503, "unavailable");
    w.download(&w.sender, documents[0]).await.problem(503, "unavailable");
    cluster.script(&["start"]);
    assert_eq!(w.offset(up.id).await, SEGMENT);
    assert!(w.stored(up.id).await == content[..SEGMENT]);
    w.patch(up.id, SEGMENT, &content[SEGMENT..]).await.expect(204);
    w.jobs().await;
    w.holds(up.document.unwrap(), &content).await;
    w.is_sound().await;
}

/// What becomes of the next commit on a connection.
enum Plan {
    /// It is done and its answer is lost; the connection is cut when told.
    LoseAnswer(oneshot::Sender<()>, oneshot::Receiver<()>),
    /// The connection is cut before it arrives.
    CutBefore,
}

/// Stands between a hub and PostgreSQL.
struct Between {
    port: u16,
    plan: Arc<Mutex<Option<Plan>>>,
}

impl Between {
    async fn to(url: &str) -> Self {
        let server = url.split_once('@').unwrap().1.split_once('/').unwrap().0.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let plan: Arc<Mutex<Option<Plan>>> = Arc::default();
        let next = plan.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(carry(client, server, next.clone()));
            }
        });
        Self { port, plan }
    }

    fn url(&self, url: &str) -> String {
        let (user, rest) = url.split_once('@').unwrap();
        let database = rest.rsplit_once('/').unwrap().1;
        format!("{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// Lost at the next commit; gives the word that it was done, and the leave to cut.
    fn lose_answer(&self) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let ((done, told), (leave, go)) = (oneshot::channel(), oneshot::channel());
        *self.plan.lock().unwrap() = Some(Plan::LoseAnswer(done, go));
        (told, leave)
    }

    fn cut_before(&self) {
        *self.plan.lock().unwrap() = Some(Plan::CutBefore);
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, plan: Arc<Mutex<Option<Plan>>>) {
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(n @ 1..) = read else { return };
                // A simple query: its text and a zero octet.
                let commits = up[..n].windows(7).any(|seen| seen == b"COMMIT\0");
                let planned = if commits { plan.lock().unwrap().take() } else { None };
                match planned {
                    Some(Plan::CutBefore) => return,
                    Some(Plan::LoseAnswer(done, go)) => {
                        server.write_all(&up[..n]).await.unwrap();
                        assert!(server.read(&mut down).await.unwrap() > 0);
                        let _ = done.send(());
                        let _ = go.await;
                        return;
                    }
                    None => if server.write_all(&up[..n]).await.is_err() { return },
                }
            }
            read = server.read(&mut down) => {
                let Ok(n @ 1..) = read else { return };
                if client.write_all(&down[..n]).await.is_err() { return }
            }
        }
    }
}

/// A hub behind a bad connection, and an upload with one segment of it durable.
struct Cut {
    w: World,
    between: Between,
    node: crate::Hub,
    up: Begun,
    content: Vec<u8>,
}

async fn behind_a_bad_connection(size: Option<usize>) -> Cut {
    let w = World::on(Dialect::Postgres).await;
    let between = Between::to(&w.url).await;
    let node = w.node_with(w.hub.keys().clone(), &between.url(&w.url)).await;
    let deposit = w.draft().await;
    let content = noise(7, 4 * SEGMENT);
    let up = w.begin(deposit, "a", size).await;
    Cut { w, between, node, up, content }
}

impl Cut {
    /// A PATCH whose first segment is durable and whose second is about to be given.
    async fn begin(&self) -> (Feed, tokio::task::JoinHandle<Reply>) {
        let (feed, patch) = running(&self.node, &self.w, self.up.id, 0);
        assert!(feed.give(&self.content[..SEGMENT]).await);
        until("the first segment", || async { self.w.watched(self.up.id).await == SEGMENT }).await;
        (feed, patch)
    }

    async fn ends_well(&self) {
        self.w.jobs().await;
        self.w.holds(self.up.document.unwrap(), &self.content).await;
        assert_eq!(self.w.told("document.received").await.len(), 1);
        assert_eq!(self.w.told("document.sealed").await.len(), 1);
        self.w.is_sound().await;
    }
}

/// A segment is named, and the answer lost: it is not named twice, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_a_commit_is_lost() {
    let cut = behind_a_bad_connection(Some(4 * SEGMENT)).await;
    let (feed, patch) = cut.begin().await;
    let (done, leave) = cut.between.lose_answer();
    assert!(feed.give(&cut.content[SEGMENT..2 * SEGMENT]).await);
    done.await.unwrap();
    assert_eq!(cut.w.watched(cut.up.id).await, 2 * SEGMENT, "it was done");
    leave.send(()).unwrap();
    assert!(feed.give(&cut.content[2 * SEGMENT..]).await);
    drop(feed);
    patch.await.unwrap().expect(204);
    cut.ends_well().await;
}

/// The last segment, and with it the end of the document.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_the_last_commit_is_lost() {
    let cut = behind_a_bad_connection(Some(4 * SEGMENT)).await;
    let (feed, patch) = cut.begin().await;
    assert!(feed.give(&cut.content[SEGMENT..3 * SEGMENT]).await);
    until("the third segment", || async { cut.w.watched(cut.up.id).await == 3 * SEGMENT }).await;
    let (done, leave) = cut.between.lose_answer();
    assert!(feed.give(&cut.content[3 * SEGMENT..]).await);
    drop(feed);
    done.await.unwrap();
    leave.send(()).unwrap();
    let reply = patch.await.unwrap().expect(204);
    assert_eq!(reply.header("upload-offset"), Some((4 * SEGMENT).to_string().as_str()));
    cut.ends_well().await;
}

/// Only the length was told, with no byte: the end itself is what was committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_the_end_alone_is_lost() {
    let cut = behind_a_bad_connection(None).await;
    cut.w.patch(cut.up.id, 0, &cut.content).await.expect(204);
    let told =
        append(cut.up.id, 4 * SEGMENT).header("upload-length", 4 * SEGMENT).octets(b"").by(&cut.w.sender);
    // Its first commit takes the upload; the second ends it.
    let (feed, body) = Feed::new();
    let (node, ask) = (cut.node.clone(), told.body(body));
    let patch = tokio::spawn(async move { call(&node, ask).await });
    until("the upload to be taken", || async {
        cut.w.number("SELECT fence AS n FROM uploads WHERE id = $1", args![cut.up.id.0]).await == 2
    })
    .await;
    let (done, leave) = cut.between.lose_answer();
    drop(feed);
    done.await.unwrap();
    leave.send(()).unwrap();
    patch.await.unwrap().expect(204);
    cut.ends_well().await;
}

/// A tail is taken up and replaced, and the answer lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_is_lost_when_a_tail_is_replaced() {
    let cut = behind_a_bad_connection(Some(4 * SEGMENT)).await;
    cut.w.patch(cut.up.id, 0, &cut.content[..1000]).await.expect(204);
    let (feed, patch) = running(&cut.node, &cut.w, cut.up.id, 1000);
    until("the upload to be taken", || async {
        cut.w.number("SELECT fence AS n FROM uploads WHERE id = $1", args![cut.up.id.0]).await == 2
    })
    .await;
    let (done, leave) = cut.between.lose_answer();
    assert!(feed.give(&cut.content[1000..SEGMENT]).await);
    done.await.unwrap();
    leave.send(()).unwrap();
    assert!(feed.give(&cut.content[SEGMENT..]).await);
    drop(feed);
    patch.await.unwrap().expect(204);
    cut.ends_well().await;
}

/// Cut before the commit arrives: it is made anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_does_not_arrive() {
    let cut = behind_a_bad_connection(Some(4 * SEGMENT)).await;
    let (feed, patch) = cut.begin().await;
    cut.between.cut_before();
    assert!(feed.give(&cut.content[SEGMENT..]).await);
    drop(feed);
    patch.await.unwrap().expect(204);
    cut.ends_well().await;
}

/// A segment is named, the answer lost, and before it can be asked for again another writer has come: the
/// older has lost the upload, and what it had named stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_is_lost_and_another_takes_over() {
    let cut = behind_a_bad_connection(Some(4 * SEGMENT)).await;
    let w = &cut.w;
    let (feed, patch) = cut.begin().await;
    let (done, leave) = cut.between.lose_answer();
    assert!(feed.give(&cut.content[SEGMENT..2 * SEGMENT]).await);
    done.await.unwrap();
    w.patch(cut.up.id, 2 * SEGMENT, &cut.content[2 * SEGMENT..3 * SEGMENT]).await.expect(204);
    leave.send(()).unwrap();
    patch.await.unwrap().problem(409, "taken-over");
    assert!(!feed.give(&cut.content[..10]).await);
    assert!(w.stored(cut.up.id).await == cut.content[..3 * SEGMENT], "every named object is there");
    w.patch(cut.up.id, 3 * SEGMENT, &cut.content[3 * SEGMENT..]).await.expect(204);
    cut.ends_well().await;
}

/// Connections that die under jobs: each is done in the end, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_a_finished_job_is_lost() {
    for lost in [true, false] {
        let cut = behind_a_bad_connection(Some(4 * SEGMENT)).await;
        let w = &cut.w;
        w.patch(cut.up.id, 0, &cut.content).await.expect(204);
        let db = Db::open(&w.url, DbOptions::default()).await.unwrap();
        let job = db.lease(&[crate::documents::FINISH], w.now(), 60_000_000).await.unwrap().unwrap();
        if lost {
            let (_done, leave) = cut.between.lose_answer();
            leave.send(()).unwrap();
        } else {
            cut.between.cut_before();
        }
        assert!(crate::documents::finish(&cut.node, &job).await.is_err());
        assert_eq!(
            w.document(cut.up.document.unwrap()).await["state"],
            if lost { "available" } else { "finishing" }
        );
        w.pass(61);
        // The server may still hold the rows of the connection that was cut: the job is passed over until it sees that.
        let document = cut.up.document.unwrap();
        until("the document to be finished", || async {
            w.jobs().await;
            w.document(document).await["state"] == "available"
        })
        .await;
        w.holds(document, &cut.content).await;
        assert_eq!(w.told("document.sealed").await.len(), 1);
        let manifests = w.objects(Class::Manifest).await.len();
        assert!(manifests == 1 || !lost && manifests == 2, "{manifests}");
        assert_eq!(
            json!([]),
            w.call(ask("GET", "/api/v1/uploads").by(&w.sender)).await.expect(200).json()["items"]
        );
    }
}
