//! What only Garage shows: a cluster that loses a node, a quota, a bucket that is absent. Run with
//! `tests/env/with.sh garage3 -- cargo test -p pli-storage --test suite -- --ignored garage::`.

use crate::blobs::{all, bucket, content, key, parts};
use pli_storage::{BlobError, Blobs, Class, S3Options, testing};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

fn script(line: &[&str]) {
    let folder = std::env::var("PLI_TEST_GARAGE")
        .expect("PLI_TEST_GARAGE is not set: run this test under `tests/env/with.sh garage3 -- …`");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/env/garage.sh");
    let out = Command::new(script).args(line).arg(folder).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[tokio::test]
#[ignore = "needs Garage: make test-garage"]
async fn a_bucket_that_is_absent() {
    let options = S3Options { bucket: "absent-bucket".to_owned(), ..testing::s3().unwrap() };
    let done = Blobs::s3(options).unwrap().probe().await;
    assert!(matches!(done, Err(BlobError::Other(_))), "{done:?}");
}

#[tokio::test]
#[ignore = "needs Garage: make test-garage"]
async fn a_bucket_that_is_full() {
    let name = format!("small-{}", uuid::Uuid::now_v7().simple());
    script(&["bucket", &name, "3MiB"]);
    let blobs = Blobs::s3(S3Options { bucket: name, ..testing::s3().unwrap() }).unwrap();
    let mut kept = Vec::new();
    let error = loop {
        let key = key();
        match blobs.put(&key, parts(&content(1_000_000, 1))).await {
            Ok(()) => kept.push(key),
            Err(e) => {
                assert_eq!(blobs.head(&key).await.unwrap(), None);
                break e;
            }
        }
        assert!(kept.len() < 20);
    };
    assert!(matches!(error, BlobError::Full(_)), "{error}");
    // Room again once something is gone.
    blobs.delete(kept.first().unwrap()).await.unwrap();
    blobs.delete(kept.get(1).unwrap()).await.unwrap();
    for _ in 0..100 {
        // The cluster counts after the deletion, not with it.
        match blobs.put(&key(), parts(&content(1_000_000, 1))).await {
            Ok(()) => return,
            Err(e) => assert!(matches!(e, BlobError::Full(_)), "{e}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    unreachable!("still full");
}

/// One of three nodes is killed while objects are put and read: no call fails, nothing is lost; and
/// again when it has come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a Garage of three nodes: make test-garage"]
async fn one_node_of_three_is_killed() {
    testing::s3().unwrap();
    let blobs = bucket();
    let stop = Arc::new(AtomicBool::new(false));
    let puts = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..6u64)
        .map(|writer| {
            let (blobs, stop, puts) = (blobs.clone(), stop.clone(), puts.clone());
            tokio::spawn(async move {
                let mut kept = Vec::new();
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = key();
                    let (size, seed) = (1_500_000 + usize::try_from(n).unwrap(), writer * 1_000_000 + n);
                    let was = content(size, seed);
                    blobs.put(&key, parts(&was)).await.unwrap();
                    assert!(all(&blobs, &key, 0..size as u64).await.unwrap() == was);
                    kept.push((key, size, seed));
                    puts.fetch_add(1, Ordering::Relaxed);
                }
                kept
            })
        })
        .collect();
    let progress = async |more: usize| {
        let until = puts.load(Ordering::Relaxed) + more;
        while puts.load(Ordering::Relaxed) < until && writers.iter().all(|w| !w.is_finished()) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    progress(40).await;
    script(&["kill", "3"]);
    progress(80).await;
    script(&["revive", "3"]);
    progress(40).await;
    stop.store(true, Ordering::Relaxed);
    let mut kept = Vec::new();
    for writer in writers {
        kept.extend(writer.await.unwrap());
    }
    println!("{} objects put and read while a node was killed and came back", kept.len());
    // Another node dies; what was put while the third was away is on two nodes all the same.
    script(&["kill", "2"]);
    for (key, size, seed) in &kept {
        assert!(all(&blobs, key, 0..*size as u64).await.unwrap() == content(*size, *seed));
    }
    let mut listed = Vec::new();
    loop {
        let page = blobs.list(Class::Segment, listed.last(), 500).await.unwrap();
        listed.extend(page.iter().map(|e| e.key.clone()));
        if page.len() < 500 {
            break;
        }
    }
    assert!(kept.iter().all(|(key, _, _)| listed.contains(key)));
    script(&["revive", "2"]);
}
