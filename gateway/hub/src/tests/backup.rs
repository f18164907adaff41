//! Backups and restores, with people at work meanwhile.

use crate::admin::{self, CheckOptions};
use crate::testing::*;
use crate::{Clock, Hub, backup};
use pli_api::{DocumentId, ProblemCode, Time};
use pli_storage::{Blobs, Class, Db, DbOptions, Dialect, JobState, NewJob, args};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The address of an empty database.
async fn empty(dialect: Dialect, folder: &Path, name: &str) -> String {
    match dialect {
        Dialect::Sqlite => format!("sqlite:{}", folder.join(name).display()),
        Dialect::Postgres => pli_storage::testing::postgres().await.unwrap(),
    }
}

impl World {
    fn backup(&self) -> PathBuf {
        self.dir.path().join("backup")
    }

    fn clock(&self) -> Clock {
        Clock::Set(self.clock.clone())
    }

    async fn save(&self) -> backup::Saved {
        self.pass(1);
        backup::save(self.hub.db(), &self.blobs, &[], &self.backup(), &self.clock()).await.unwrap()
    }

    /// The hub on what was restored from the backup.
    async fn restored(&self, name: &str) -> Hub {
        let folder = self.dir.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let url = empty(self.hub.db().dialect(), &folder, "pli.db").await;
        let blobs = Blobs::folder(folder.join("objects")).unwrap();
        let restored = backup::restore(&url, &blobs, &self.backup()).await.unwrap();
        assert_eq!(restored.damaged, [""; 0]);
        self.open(&url, blobs).await
    }

    async fn open(&self, url: &str, blobs: Blobs) -> Hub {
        let db = Db::open(url, DbOptions::default()).await.unwrap();
        let clock = Clock::Set(self.clock.clone());
        Hub::new(db, blobs, self.hub.keys().clone(), self.hub.options().clone(), clock)
    }
}

async fn holds(hub: &Hub, who: &Who, document: DocumentId, content: &[u8]) {
    let reply = call(hub, content_of(document).by(who)).await.expect(200);
    assert!(reply.body == content, "the bytes of {document}");
}

async fn journal(hub: &Hub, until: Time) -> Vec<(uuid::Uuid, String, String)> {
    let sql = "SELECT id, kind, detail FROM events WHERE at <= $1 AND kind <> 'backup.made' ORDER BY id";
    let rows = hub.db().rows(sql, args![until]).await.unwrap();
    rows.iter()
        .map(|row| (row.get("id").unwrap(), row.get("kind").unwrap(), row.get("detail").unwrap()))
        .collect()
}

async fn is_clean(hub: &Hub) {
    let found = admin::check(hub, CheckOptions { deep: true, remove_orphans_after: None }).await.unwrap();
    assert!(found.is_clean(), "{found:?}");
}

fn stored(folder: &Path) -> Blobs {
    Blobs::folder(folder.join("objects")).unwrap()
}

async fn count(blobs: &Blobs) -> u64 {
    let mut all = 0;
    for class in Class::ALL {
        all += blobs.list(class, None, 100_000).await.unwrap().len() as u64;
    }
    all
}

on_both! {
    async fn what_was_there_is_there_again(dialect) {
        let w = Ground::on(dialect).build().await;
        let (one, two) = (noise(1, 3 * SEGMENT + 5), noise(2, 100));
        let (_, documents) = w.available(&[("un", &one), ("deux", &two), ("vide", b"")]).await;
        // Half an upload is a part of it too.
        let draft = w.draft().await;
        let begun = w.begin(draft, "à moitié", Some(2 * SEGMENT)).await;
        w.patch(begun.id, 0, &one[..SEGMENT + 9]).await.expect(204);
        let at = w.now();
        let saved = w.save().await;
        assert_eq!((saved.copied, saved.removed), (saved.objects, 0));
        assert_eq!(saved.missing, [""; 0]);
        assert_eq!(saved.objects, count(&w.blobs).await);
        // What comes after it is not in it.
        w.available(&[("trois", b"trois")]).await;

        let hub = w.restored("r").await;
        for (document, content) in documents.iter().zip([&one[..], &two, b""]) {
            holds(&hub, &w.recipient, *document, content).await;
        }
        assert_eq!(journal(&hub, at).await, journal(&w.hub, at).await);
        is_clean(&hub).await;
        let offset = offset(&hub, &w.sender, begun.id).await;
        assert_eq!(offset, SEGMENT + 9);
        call(&hub, append(begun.id, offset).octets(&one[offset..2 * SEGMENT]).by(&w.sender)).await.expect(204);
        hub.run_due_jobs().await.unwrap();
        holds(&hub, &w.sender, begun.document.unwrap(), &one[..2 * SEGMENT]).await;
        is_clean(&hub).await;
    }

    async fn people_work_while_it_is_made(dialect) {
        let w = Ground::on(dialect).build().await;
        let content = noise(3, SEGMENT + 1);
        let (_, mut documents) = w.available(&[("avant", &content)]).await;
        let mut made = Vec::new();
        for _ in 0..3 {
            let work = async {
                let mut some = Vec::new();
                for _ in 0..4 {
                    some.extend(w.available(&[("pendant", &content)]).await.1);
                }
                some
            };
            let (some, _) = tokio::join!(work, w.save());
            made.extend(some);
        }
        let hub = w.restored("r").await;
        is_clean(&hub).await;
        documents.extend(made);
        let mut there = 0;
        for document in documents {
            let known = call(&hub, ask("GET", format!("/api/v1/documents/{document}")).by(&w.sender)).await;
            if known.status == 200 && known.json()["state"] == "available" {
                holds(&hub, &w.sender, document, &content).await;
                there += 1;
            }
        }
        assert!(there > 8, "at the least those of before the last run: {there}");
    }

    async fn the_next_one_copies_what_is_new_and_forgets_what_is_erased(dialect) {
        let w = Ground::on(dialect).build().await;
        w.available(&[("un", &noise(4, 2 * SEGMENT))]).await;
        let first = w.save().await;
        assert_eq!(first.copied, first.objects);
        let none = w.save().await;
        assert_eq!((none.copied, none.removed, none.objects), (0, 0, first.objects));
        w.pass(20 * DAY);
        let (_, kept) = w.available(&[("deux", b"deux")]).await;
        let more = w.save().await;
        assert_eq!((more.copied, more.objects), (2, first.objects + 2));
        // The first expires: its keys and objects leave the backup with the next run.
        w.pass(15 * DAY);
        w.jobs().await;
        w.jobs().await;
        let less = w.save().await;
        assert_eq!((less.copied, less.removed, less.objects), (0, first.objects, 2));
        assert_eq!(count(&stored(&w.backup())).await, 2);
        let names = std::fs::read_dir(w.backup()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.map(|name| name.trim_end_matches(char::is_numeric).to_owned()).collect();
        names.sort();
        assert_eq!(names, ["backup.json", "database-", "lock", "objects", "objects-"]);
        let hub = w.restored("r").await;
        holds(&hub, &w.recipient, kept[0], b"deux").await;
        is_clean(&hub).await;
    }

    /// Dropped after any number of polls, the one of before is still there.
    async fn one_that_is_cut_leaves_the_one_before(dialect) {
        let w = Ground::on(dialect).build().await;
        let content = noise(5, 2 * SEGMENT);
        let (_, documents) = w.available(&[("un", &content)]).await;
        w.save().await;
        let before = w.now();
        let mut cut = 0;
        for polls in 0..60 {
            if polls % 10 == 0 {
                w.available(&[("encore", &noise(polls, SEGMENT))]).await;
            }
            w.pass(1);
            let (folder, clock) = (w.backup(), w.clock());
            let mut saving = Box::pin(backup::save(w.hub.db(), &w.blobs, &[], &folder, &clock));
            let mut done = false;
            for _ in 0..polls {
                done = done || futures_util::poll!(saving.as_mut()).is_ready();
                if done {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(saving);
            let (made, damaged) = backup::verify(&folder).await.unwrap();
            assert_eq!(damaged, [""; 0], "after {polls} polls");
            assert!(made >= before && made <= w.now());
            cut += u32::from(made < w.now());
        }
        assert!(cut > 5, "{cut}");
        let hub = w.restored("r").await;
        holds(&hub, &w.recipient, documents[0], &content).await;
        is_clean(&hub).await;
        // And what was left behind does not stay.
        w.pass(1);
        until("a copy that still runs to end", || async {
            backup::save(w.hub.db(), &w.blobs, &[], &w.backup(), &w.clock()).await.is_ok()
        })
        .await;
        w.save().await;
        let databases = std::fs::read_dir(w.backup()).unwrap();
        let databases = databases.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("database"));
        assert_eq!(databases.count(), 1);
    }

    /// An upload goes on while the database is copied: the last segment that the copy names is replaced, and stays.
    async fn nothing_is_deleted_while_it_is_made(dialect) {
        let w = Ground::on(dialect).build().await;
        let content = noise(10, 2 * SEGMENT);
        let draft = w.draft().await;
        let begun = w.begin(draft, "un", Some(content.len())).await;
        w.patch(begun.id, 0, &content[..1000]).await.expect(204);
        let doomed = w.draft().await;
        w.upload(doomed, "deux", b"deux").await;
        w.jobs().await;
        let before = count(&w.blobs).await;
        // As a backup that is being made, and was killed.
        let sql = "INSERT INTO backups (id, until) VALUES ($1, $2)";
        w.change(sql, args![uuid::Uuid::now_v7(), w.now().plus_seconds(600)]).await;
        w.patch(begun.id, 1000, &content[1000..]).await.expect(204);
        w.call(ask("DELETE", format!("/api/v1/deposits/{doomed}")).by(&w.sender)).await.expect(204);
        w.jobs().await;
        w.pass(300);
        w.jobs().await;
        assert!(count(&w.blobs).await > before, "nothing has left");
        w.pass(400);
        w.jobs().await;
        w.is_sound().await;
        w.holds(begun.document.unwrap(), &content).await;
        w.save().await;
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM backups", args![]).await, 0);
    }

    async fn a_restore_that_is_cut_is_run_again(dialect) {
        let w = Ground::on(dialect).build().await;
        let content = noise(6, 3 * SEGMENT);
        let (_, documents) = w.available(&[("un", &content), ("deux", b"deux")]).await;
        w.save().await;
        let folder = w.dir.path().join("r");
        std::fs::create_dir(&folder).unwrap();
        let url = empty(dialect, &folder, "pli.db").await;
        let blobs = Blobs::memory();
        {
            let from = w.backup();
            let mut restoring = Box::pin(backup::restore(&url, &blobs, &from));
            // Driven by hand until an object is there, and dropped in the middle of the next.
            while count(&blobs).await == 0 {
                assert!(futures_util::poll!(restoring.as_mut()).is_pending());
                tokio::task::yield_now().await;
            }
        }
        backup::restore(&url, &blobs, &w.backup()).await.unwrap();
        let hub = w.open(&url, blobs.clone()).await;
        holds(&hub, &w.recipient, documents[0], &content).await;
        is_clean(&hub).await;
        hub.db().close().await;

        // Over something, never.
        let fault = backup::restore(&url, &blobs, &w.backup()).await.unwrap_err();
        assert_eq!(fault.code(), ProblemCode::Conflict);
        let other = empty(dialect, &folder, "other.db").await;
        let (foreign, key) = (Blobs::memory(), pli_storage::ObjectKey::random(Class::Segment).unwrap());
        foreign.put(&key, vec!["x".into()]).await.unwrap();
        let fault = backup::restore(&other, &foreign, &w.backup()).await.unwrap_err();
        assert_eq!(fault.code(), ProblemCode::Conflict);
        assert_eq!(count(&foreign).await, 1, "nothing was added");
        let fault = backup::restore(&other, &Blobs::memory(), w.dir.path()).await.unwrap_err();
        assert_eq!(fault.code(), ProblemCode::NotFound);
    }

    async fn damage_is_told_and_does_not_keep_the_rest(dialect) {
        let w = Ground::on(dialect).build().await;
        let (good, bad) = (noise(7, 2 * SEGMENT), noise(8, 2 * SEGMENT));
        let (_, documents) = w.available(&[("bon", &good), ("mauvais", &bad)]).await;
        w.save().await;
        let kept = stored(&w.backup());
        let object = w.pieces(documents[1]).await.pop().unwrap();
        let mut bytes = kept.read(&object, 1 << 30).await.unwrap();
        bytes[100] ^= 1;
        kept.put(&object, vec![bytes.into()]).await.unwrap();
        let lost = w.pieces(documents[1]).await.remove(0);
        kept.delete(&lost).await.unwrap();
        let mut expected = [object.to_string(), lost.to_string()];
        expected.sort();
        assert_eq!(backup::verify(&w.backup()).await.unwrap().1, expected);
        let folder = w.dir.path().join("r");
        std::fs::create_dir(&folder).unwrap();
        let url = empty(dialect, &folder, "pli.db").await;
        let blobs = Blobs::memory();
        assert_eq!(backup::restore(&url, &blobs, &w.backup()).await.unwrap().damaged, expected);
        let hub = w.open(&url, blobs).await;
        holds(&hub, &w.recipient, documents[0], &good).await;
        let options = CheckOptions { deep: false, remove_orphans_after: None };
        let mut missing = admin::check(&hub, options).await.unwrap().missing;
        missing.sort();
        assert_eq!(missing, expected);
        hub.db().close().await;

        // The copy of the database and the lists are what all rests on.
        for prefix in ["database-", "objects-", "backup.json"] {
            let mut names = std::fs::read_dir(w.backup()).unwrap().map(|entry| entry.unwrap().path());
            let path = names.find(|p| p.file_name().unwrap().to_string_lossy().starts_with(prefix)).unwrap();
            let whole = std::fs::read(&path).unwrap();
            std::fs::write(&path, &whole[..whole.len() - 7]).unwrap();
            let other = empty(dialect, &folder, prefix).await;
            let fault = backup::restore(&other, &Blobs::memory(), &w.backup()).await.unwrap_err();
            assert_eq!(fault.code(), ProblemCode::Damaged, "{prefix}");
            std::fs::write(&path, whole).unwrap();
        }
    }

    /// A store that is not there does not empty the backup.
    async fn what_the_store_has_lost_stays_in_the_backup(dialect) {
        let w = Ground::on(dialect).build().await;
        let content = noise(9, 2 * SEGMENT);
        let (_, documents) = w.available(&[("un", &content)]).await;
        let all = w.save().await.objects;
        let mut gone = Vec::new();
        for class in Class::ALL {
            for object in w.objects(class).await {
                w.blobs.delete(&object).await.unwrap();
                gone.push(object.to_string());
            }
        }
        gone.sort();
        let saved = w.save().await;
        assert_eq!(saved.missing, gone);
        assert_eq!((saved.objects, saved.removed, saved.copied), (all, 0, 0));
        let hub = w.restored("r").await;
        holds(&hub, &w.recipient, documents[0], &content).await;
        is_clean(&hub).await;
    }

    async fn keys_are_in_it_only_when_they_are_given(dialect) {
        let w = Ground::on(dialect).build().await;
        let keys: Vec<backup::KeyFile> =
            ["hub.asc", "retired/AB.asc"].map(|name| (name.to_owned(), name.as_bytes().to_vec().into())).into();
        backup::save(w.hub.db(), &w.blobs, &keys, &w.backup(), &w.clock()).await.unwrap();
        let url = empty(dialect, w.dir.path(), "r.db").await;
        assert_eq!(backup::restore(&url, &Blobs::memory(), &w.backup()).await.unwrap().keys, keys);
        w.save().await;
        let mut names = std::fs::read_dir(w.backup()).unwrap().map(|e| e.unwrap().file_name());
        assert!(!names.any(|name| name.to_string_lossy().starts_with("keys")));
    }

    async fn quotas_jobs_and_figures(dialect) {
        let w = Ground::on(dialect).build().await;
        let begin = w.now();
        let (_, documents) = w.available(&[("un", b"bonjour"), ("deux", b"a")]).await;
        w.download(&w.recipient, documents[0]).await.expect(200);
        w.draft().await;
        until("the end of the download to be journalled", || async { w.hub.running_transfers() == 0 }).await;
        let figures = admin::figures(&w.hub, begin, w.now().plus_seconds(1)).await.unwrap();
        let of = |who: &Who| figures.iter().find(|f| f.organisation == who.organisation).unwrap().clone();
        let office = of(&w.sender);
        assert_eq!((office.accounts, office.deposits, office.documents, office.bytes), (1, 1, 2, 8));
        assert_eq!((office.infected, office.not_analysed, office.downloads), (0, 2, 1));
        assert_eq!(office.used, w.used().await);
        assert_eq!((of(&w.recipient).deposits, of(&w.recipient).bytes, figures.len()), (0, 0, 3));
        let later = admin::figures(&w.hub, w.now().plus_seconds(1), w.now().plus_seconds(2)).await.unwrap();
        assert!(later.iter().all(|f| f.deposits == 0 && f.downloads == 0));

        admin::set_quota(&w.hub, &w.sender.organisation.to_string(), 10).await.unwrap();
        let draft = w.draft().await;
        w.call(creation(draft, "a", Some(20)).by(&w.sender)).await.problem(413, "quota-exceeded");
        admin::set_quota(&w.hub, "Cabinet d'instruction", 1000).await.unwrap();
        w.begin(draft, "a", Some(20)).await;
        assert_eq!(admin::set_quota(&w.hub, "Nulle part", 1).await.unwrap_err().code(), ProblemCode::NotFound);

        let mut tx = w.hub.db().write().await.unwrap();
        for unique in [Some("x"), None] {
            let payload = json!({ "objects": [] });
            tx.enqueue(NewJob { kind: "objects.delete", payload, run_at: pli_storage::AT_ONCE, unique }).await.unwrap();
        }
        tx.execute("UPDATE jobs SET state = 'dead' WHERE kind = 'objects.delete'", args![]).await.unwrap();
        tx.commit().await.unwrap();
        let dead = async || w.hub.db().job_counts().await.unwrap().iter().filter(|c| c.state == JobState::Dead).map(|c| c.count).sum::<u64>();
        assert_eq!(dead().await, 2);
        let filter = pli_storage::JobFilter { kind: Some("objects.delete"), ..Default::default() };
        let first = w.hub.db().jobs(filter).await.unwrap().remove(0).id;
        assert_eq!(admin::retry_jobs(&w.hub, Some(first)).await.unwrap(), 1);
        assert_eq!(admin::retry_jobs(&w.hub, Some(first)).await.unwrap_err().code(), ProblemCode::NotFound);
        assert_eq!(admin::retry_jobs(&w.hub, None).await.unwrap(), 1);
        w.jobs().await;
        let sql = "SELECT COUNT(*) AS n FROM jobs WHERE kind = 'objects.delete'";
        assert_eq!(w.number(sql, args![]).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_kind_of_database_is_not_restored_into_the_other() {
    let w = World::on(Dialect::Sqlite).await;
    w.save().await;
    let url = empty(Dialect::Postgres, w.dir.path(), "").await;
    let fault = backup::restore(&url, &Blobs::memory(), &w.backup()).await.unwrap_err();
    assert_eq!(fault.code(), ProblemCode::Conflict);
    assert!(fault.sentence().contains("sqlite"), "{}", fault.sentence());
}
