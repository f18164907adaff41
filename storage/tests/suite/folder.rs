//! What holds in a folder alone: the order in which things reach the disk, a full disk, modes, leftovers.

use crate::blobs::{all, content, key, parts};
use crate::child;
use pli_api::Time;
use pli_storage::{BlobError, Blobs, Class, ObjectKey};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

fn files(root: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { out.extend(files(&path)) } else { out.push(path) }
    }
    out
}

#[tokio::test]
async fn only_its_owner_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    let blobs = Blobs::folder(&root).unwrap();
    blobs.put(&key(), parts(b"x")).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&root), 0o700);
    assert_eq!(mode(&root.join("segments")), 0o700);
    assert_eq!(mode(&root.join("segments/7f")), 0o700);
    let all = files(&root);
    assert_eq!(all.len(), 1);
    assert_eq!(mode(&all[0]), 0o600);
}

#[tokio::test]
async fn opened_twice_and_after_folders_were_lost() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    let blobs = Blobs::folder(&root).unwrap();
    let again = Blobs::folder(&root).unwrap();
    let key = key();
    again.put(&key, parts(b"x")).await.unwrap();
    assert_eq!(all(&blobs, &key, 0..1).await.unwrap(), b"x");
    // As a backup that leaves out empty folders gives it back.
    for class in ["segments", "manifests"] {
        fs::remove_dir_all(root.join(class)).unwrap();
        fs::create_dir(root.join(class)).unwrap();
    }
    blobs.put(&key, parts(b"yz")).await.unwrap();
    assert_eq!(all(&blobs, &key, 0..2).await.unwrap(), b"yz");
    assert_eq!(blobs.list(Class::Segment, None, 10).await.unwrap().len(), 1);
    // Gone altogether: an error, not a panic, and not « not found ».
    fs::remove_dir_all(&root).unwrap();
    assert!(matches!(blobs.put(&key, parts(b"x")).await, Err(BlobError::Other(_))));
}

#[tokio::test]
async fn places_that_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"x").unwrap();
    for bad in [file.clone(), file.join("store"), folder.path().join("a/b/c")] {
        assert!(Blobs::folder(bad).is_err());
    }
}

#[tokio::test]
async fn foreign_files_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::folder(folder.path()).unwrap();
    let key = key();
    blobs.put(&key, parts(b"x")).await.unwrap();
    for name in ["segments/00/README", "segments/lost+found", "segments/00/.nfs0001"] {
        fs::write(folder.path().join(name), b"?").unwrap();
    }
    let list = blobs.list(Class::Segment, None, 10).await.unwrap();
    assert_eq!(list.iter().map(|e| &e.key).collect::<Vec<_>>(), [&key]);
}

#[tokio::test]
async fn an_object_cut_short_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::folder(folder.path()).unwrap();
    let key = key();
    let was = content(3 << 20, 1);
    blobs.put(&key, parts(&was)).await.unwrap();
    let path = folder.path().join(key.as_str());
    // Cut while a reader is in it.
    let mut reader = blobs.get(&key, 0..was.len() as u64).await.unwrap();
    reader.next().await.unwrap().unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
    let error = loop {
        match reader.next().await {
            Ok(piece) => assert!(piece.is_some(), "ended as if it were whole"),
            Err(e) => break e,
        }
    };
    assert!(matches!(error, BlobError::Truncated), "{error}");
    assert!(matches!(blobs.get(&key, 0..was.len() as u64).await, Err(BlobError::Truncated)));
}

/// The line of `trace` from `from` on that holds all of `what`.
fn line_after(trace: &[&str], from: usize, what: &[&str]) -> usize {
    let found = trace.iter().skip(from).position(|line| what.iter().all(|w| line.contains(w)));
    match found {
        Some(at) => from + at,
        None => unreachable!("no line with {what:?} after line {from}:\n{}", trace.join("\n")),
    }
}

/// A power cut shows what reached the disk: the bytes before the name, the name before the return.
#[test]
fn synced_in_order_before_it_returns() {
    let folder = tempfile::tempdir().unwrap();
    let status = child::traced(
        &["-e", "trace=openat,writev,pwritev,write,fsync,fdatasync,rename,renameat,renameat2,mkdir,unlink"],
        "folder::child_that_puts",
        folder.path(),
    )
    .status()
    .unwrap();
    assert!(status.success());
    let trace = fs::read_to_string(folder.path().join("trace")).unwrap();
    let trace: Vec<&str> = trace.lines().collect();
    let key = fs::read_to_string(folder.path().join("key")).unwrap();
    let (fan, name) = key.rsplit_once('/').unwrap();
    let fan = format!("/{fan}>");

    // When it was opened: every folder made is on the disk before anything is put.
    let made = line_after(&trace, 0, &["mkdir(", "/segments/ff\""]);
    let class = line_after(&trace, made, &["fsync(", "/segments>"]);
    let opened = line_after(&trace, class, &["opened"]);
    line_after(&trace, class, &["fsync(", "/store>"]);

    let created = line_after(&trace, opened, &["openat(", "/unfinished/", "O_EXCL", "0600"]);
    let written = line_after(&trace, created, &["writev(", "/unfinished/"]);
    let synced = line_after(&trace, written, &["fsync(", "/unfinished/"]);
    let renamed = line_after(&trace, synced, &["rename", "/unfinished/", name]);
    let named = line_after(&trace, renamed, &["fsync(", &fan]);
    line_after(&trace, named, &["returned"]);
    // And nothing is written to the file after its sync.
    assert!(!trace[synced..].iter().any(|l| l.contains("write") && l.contains("/unfinished/")));
    assert!(!trace[..renamed].iter().any(|l| l.contains("O_CREAT") && l.contains(name)));
}

#[tokio::test]
#[ignore = "run by synced_in_order_before_it_returns"]
async fn child_that_puts() {
    let Some(folder) = child::folder() else { return };
    let blobs = Blobs::folder(folder.join("store")).unwrap();
    let key = key();
    fs::write(folder.join("key"), key.as_str()).unwrap();
    fs::write(folder.join("log"), "opened").unwrap();
    blobs.put(&key, parts(&content((3 << 20) + 5, 1))).await.unwrap();
    fs::write(folder.join("log"), "returned").unwrap();
}

/// The system refuses, at each step where it may: the caller is told what it was, and nothing
/// half-written stays, whole or in part, under any name.
#[test]
fn refused_at_any_step() {
    for (inject, result) in [
        ("writev:error=ENOSPC", "full"),
        ("writev:error=EDQUOT", "full"),
        ("writev:error=EIO", "unavailable"),
        // strace counts by thread. Opening a store that is there syncs four folders on one thread; two
        // puts that succeed make four syncs on the other; then come the file and its folder.
        ("fsync:error=ENOSPC:when=5", "full"),
        ("fsync:error=EIO:when=5", "unavailable"),
        ("fsync:error=EDQUOT:when=6", "full"),
        ("fsync:error=EIO:when=6", "unavailable"),
        ("?rename,?renameat,?renameat2:error=ENOSPC", "full"),
        ("?rename,?renameat,?renameat2:error=EDQUOT", "full"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        Blobs::folder(&store).unwrap();
        fs::write(folder.path().join("before"), if inject.contains("when") { "2" } else { "0" }).unwrap();
        let inject = format!("inject={inject}");
        let options = ["-e", "trace=writev,fsync,?rename,?renameat,?renameat2", "-e", inject.as_str()];
        let status =
            child::traced(&options, "folder::child_that_is_refused", folder.path()).status().unwrap();
        assert!(status.success(), "{inject}");
        let trace = fs::read_to_string(folder.path().join("trace")).unwrap();
        assert!(trace.contains("INJECTED"), "{inject}:\n{trace}");
        assert_eq!(fs::read_to_string(folder.path().join("result")).unwrap(), result, "{inject}");
        assert_eq!(files(&store), Vec::<PathBuf>::new(), "{inject}");
    }
}

#[test]
#[ignore = "run by refused_at_any_step"]
fn child_that_is_refused() {
    let Some(folder) = child::folder() else { return };
    let blobs = Blobs::folder(folder.join("store")).unwrap();
    let one_thread = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    one_thread.block_on(async {
        for _ in 0..fs::read_to_string(folder.join("before")).unwrap().parse().unwrap() {
            let key = key();
            blobs.put(&key, parts(b"before")).await.unwrap();
            blobs.delete(&key).await.unwrap();
        }
        let key = key();
        let result = match blobs.put(&key, parts(&content(3 << 20, 1))).await {
            Err(BlobError::Full(_)) => "full",
            Err(BlobError::Unavailable(_)) => "unavailable",
            _ => "something else",
        };
        assert_eq!(blobs.head(&key).await.unwrap(), None);
        fs::write(folder.join("result"), result).unwrap();
    });
}

/// `kill -9` at any moment: every object that is there is whole, every put that returned is there.
#[tokio::test]
async fn a_killed_process_leaves_whole_objects() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let mut told: Vec<ObjectKey> = Vec::new();
    for round in 0..6u64 {
        let mut child = child::command("folder::child_that_puts_until_killed", folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        while seen < 2 + round * 3 {
            let line = lines.next().unwrap().unwrap();
            if let Some(key) = line.strip_prefix("kept ") {
                told.push(key.parse().unwrap());
                seen += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        told.extend(lines.map_while(Result::ok).filter_map(|l| l.strip_prefix("kept ")?.parse().ok()));
    }
    let blobs = Blobs::folder(&store).unwrap();
    let list = blobs.list(Class::Segment, None, 10_000).await.unwrap();
    for key in &told {
        assert!(list.iter().any(|e| e.key == *key), "{key} was told and is gone");
    }
    let was = content(5_000_000, 1);
    for entry in &list {
        assert!(all(&blobs, &entry.key, 0..entry.length).await.unwrap() == was, "{} is not whole", entry.key);
    }
    // What was in the making is cleared once it is old, and only then.
    let left = fs::read_dir(store.join("unfinished")).unwrap().count() as u64;
    assert_eq!(blobs.clear_unfinished(Time::from_micros(0)).await.unwrap(), 0);
    let now = crate::clock();
    assert_eq!(blobs.clear_unfinished(now.plus_seconds(10)).await.unwrap(), left);
    assert_eq!(fs::read_dir(store.join("unfinished")).unwrap().count(), 0);
    assert_eq!(blobs.list(Class::Segment, None, 10_000).await.unwrap(), list);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "run by a_killed_process_leaves_whole_objects"]
async fn child_that_puts_until_killed() {
    let Some(folder) = child::folder() else { return };
    let blobs = Blobs::folder(folder.join("store")).unwrap();
    let was = content(5_000_000, 1);
    for _ in 0..4 {
        let (blobs, was) = (blobs.clone(), was.clone());
        tokio::spawn(async move {
            loop {
                let key = key();
                blobs.put(&key, parts(&was)).await.unwrap();
                println!("kept {key}");
            }
        });
    }
    std::future::pending::<()>().await;
}
