//! What `Blobs` promises, on every backend.

use bytes::Bytes;
use pli_api::Time;
use pli_storage::blobs::PIECE;
use pli_storage::{BlobError, Blobs, Class, ObjectKey, testing};

/// Runs each case on memory, on a folder and on S3, as tests of their own.
macro_rules! on_all {
    ($($case:ident)*) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                super::$case(pli_storage::Blobs::memory()).await;
            })*
        }
        mod folder {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                let folder = tempfile::tempdir().unwrap();
                super::$case(pli_storage::Blobs::folder(folder.path().join("store")).unwrap()).await;
            })*
        }
        mod s3 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                super::$case(super::bucket()).await;
            })*
        }
    };
}

on_all! {
    bytes_come_back
    ranges
    ranges_past_the_end
    pieces_are_bounded
    absent_objects
    what_is_said_of_an_object
    deletion
    a_put_may_be_repeated
    lists_in_pages
    many_at_once
    readers_may_stop
    a_dropped_next_loses_nothing
    an_object_deleted_while_it_is_read
    probe
    small_objects_in_one_piece
}

pub(crate) fn bucket() -> Blobs {
    Blobs::s3(testing::s3().unwrap()).unwrap()
}

/// Bytes that differ at every place, so that a shifted or repeated piece shows.
pub(crate) fn content(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(length);
    out
}

pub(crate) fn key() -> ObjectKey {
    ObjectKey::random(Class::Segment).unwrap()
}

/// As the hub does: blocks of a megabyte and a little, with a small head and tail.
pub(crate) fn parts(content: &[u8]) -> Vec<Bytes> {
    let mut parts = vec![Bytes::new()];
    let head = content.len().min(42);
    parts.push(Bytes::copy_from_slice(content.get(..head).unwrap()));
    parts.extend(content.get(head..).unwrap().chunks(PIECE + 256).map(Bytes::copy_from_slice));
    parts.push(Bytes::new());
    parts
}

pub(crate) async fn all(
    blobs: &Blobs,
    key: &ObjectKey,
    range: std::ops::Range<u64>,
) -> Result<Vec<u8>, BlobError> {
    let mut reader = blobs.get(key, range).await?;
    let mut out = Vec::new();
    while let Some(piece) = reader.next().await? {
        assert!(!piece.is_empty() && piece.len() <= PIECE);
        out.extend_from_slice(&piece);
    }
    // Ended stays ended.
    assert!(reader.next().await?.is_none());
    Ok(out)
}

async fn bytes_come_back(blobs: Blobs) {
    let sizes = [0, 1, 41, 42, 43, 65_536, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, (16 << 20) + 4166];
    for (n, size) in sizes.into_iter().enumerate() {
        let key = key();
        let was = content(size, n as u64);
        blobs.put(&key, parts(&was)).await.unwrap();
        assert!(all(&blobs, &key, 0..size as u64).await.unwrap() == was, "{size}");
    }
    let none = key();
    blobs.put(&none, Vec::new()).await.unwrap();
    assert_eq!(blobs.head(&none).await.unwrap().unwrap().length, 0);
}

async fn ranges(blobs: Blobs) {
    let key = key();
    let was = content(3 * PIECE + 777, 7);
    blobs.put(&key, parts(&was)).await.unwrap();
    let end = was.len();
    for (from, to) in [
        (0, 1),
        (end - 1, end),
        (41, 43),
        (PIECE - 1, PIECE + 1),
        (PIECE, 2 * PIECE),
        (1, end),
        (12_345, 2 * PIECE + 54_321),
        (500, 500),
        (end, end),
    ] {
        let got = all(&blobs, &key, from as u64..to as u64).await.unwrap();
        assert!(got == was.get(from..to).unwrap(), "{from}..{to}");
    }
}

async fn ranges_past_the_end(blobs: Blobs) {
    let key = key();
    blobs.put(&key, parts(&content(1000, 1))).await.unwrap();
    for range in [0..1001, 999..1001, 1000..1001, 5000..6000, 0..(100 << 20), 1001..1001] {
        let done = all(&blobs, &key, range.clone()).await;
        assert!(matches!(done, Err(BlobError::Truncated)), "{range:?}: {done:?}");
    }
    let backwards = std::ops::Range { start: 5, end: 4 };
    assert!(matches!(blobs.get(&key, backwards).await, Err(BlobError::Other(_))));
}

async fn pieces_are_bounded(blobs: Blobs) {
    let key = key();
    let was = content(5 * PIECE + 5, 3);
    // One part larger than a piece.
    blobs.put(&key, vec![Bytes::from(was.clone())]).await.unwrap();
    assert!(all(&blobs, &key, 0..was.len() as u64).await.unwrap() == was);
}

async fn absent_objects(blobs: Blobs) {
    let key = key();
    assert!(matches!(blobs.get(&key, 0..10).await, Err(BlobError::NotFound)));
    assert!(matches!(blobs.get(&key, 0..0).await, Err(BlobError::NotFound)));
    assert!(matches!(blobs.read(&key, 10).await, Err(BlobError::NotFound)));
    assert_eq!(blobs.head(&key).await.unwrap(), None);
    blobs.delete(&key).await.unwrap();
}

async fn what_is_said_of_an_object(blobs: Blobs) {
    let before = crate::clock();
    let key = key();
    blobs.put(&key, parts(&content(123_456, 1))).await.unwrap();
    let meta = blobs.head(&key).await.unwrap().unwrap();
    assert_eq!(meta.length, 123_456);
    // S3 says whole seconds.
    assert!(meta.modified >= before.plus_seconds(-2) && meta.modified <= before.plus_seconds(120));
}

async fn deletion(blobs: Blobs) {
    let (one, other) = (key(), key());
    blobs.put(&one, parts(b"one")).await.unwrap();
    blobs.put(&other, parts(b"other")).await.unwrap();
    blobs.delete(&one).await.unwrap();
    blobs.delete(&one).await.unwrap();
    assert_eq!(blobs.head(&one).await.unwrap(), None);
    assert!(matches!(blobs.get(&one, 0..3).await, Err(BlobError::NotFound)));
    assert_eq!(all(&blobs, &other, 0..5).await.unwrap(), b"other");
}

async fn a_put_may_be_repeated(blobs: Blobs) {
    let key = key();
    let was = content(PIECE + 10, 4);
    for _ in 0..3 {
        blobs.put(&key, parts(&was)).await.unwrap();
    }
    assert!(all(&blobs, &key, 0..was.len() as u64).await.unwrap() == was);
}

async fn lists_in_pages(blobs: Blobs) {
    let mut mine = Vec::new();
    for n in 0..60usize {
        let class = if n % 3 == 0 { Class::Manifest } else { Class::Segment };
        let key = ObjectKey::random(class).unwrap();
        blobs.put(&key, vec![Bytes::from(vec![1; n])]).await.unwrap();
        mine.push((key, n as u64));
    }
    mine.sort();
    for class in Class::ALL {
        for limit in [7, 1000] {
            let mut seen = Vec::new();
            let mut after = None;
            loop {
                let page = blobs.list(class, after.as_ref(), limit).await.unwrap();
                assert!(page.len() <= limit);
                assert!(page.iter().all(|e| e.key.class() == class));
                let last = page.len() < limit;
                after = page.last().map(|e| e.key.clone()).or(after);
                seen.extend(page);
                if last {
                    break;
                }
            }
            assert!(seen.windows(2).all(|w| w[0].key < w[1].key), "in order, each once");
            // Other tests share a bucket.
            let seen: Vec<_> =
                seen.into_iter().map(|e| (e.key, e.length)).filter(|e| mine.contains(e)).collect();
            let expected: Vec<_> = mine.iter().filter(|e| e.0.class() == class).cloned().collect();
            assert_eq!(seen, expected);
        }
        assert!(blobs.list(class, None, 0).await.unwrap().is_empty());
    }
    let last: ObjectKey = format!("segments/ff/{}", "f".repeat(32)).parse().unwrap();
    assert!(blobs.list(Class::Segment, Some(&last), 10).await.unwrap().is_empty());
}

async fn many_at_once(blobs: Blobs) {
    let tasks: Vec<_> = (0..64u64)
        .map(|n| {
            let blobs = blobs.clone();
            tokio::spawn(async move {
                let key = key();
                let was = content(200_000 + n as usize, n);
                blobs.put(&key, parts(&was)).await.unwrap();
                assert!(all(&blobs, &key, 0..was.len() as u64).await.unwrap() == was);
                blobs.delete(&key).await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

async fn readers_may_stop(blobs: Blobs) {
    let key = key();
    let was = content(4 * PIECE, 9);
    blobs.put(&key, parts(&was)).await.unwrap();
    // More readers left half-way than there are turns.
    for _ in 0..80 {
        let mut reader = blobs.get(&key, 0..was.len() as u64).await.unwrap();
        reader.next().await.unwrap().unwrap();
    }
    assert!(all(&blobs, &key, 0..was.len() as u64).await.unwrap() == was);
}

async fn a_dropped_next_loses_nothing(blobs: Blobs) {
    let key = key();
    let was = content(4 * PIECE + 1, 9);
    blobs.put(&key, parts(&was)).await.unwrap();
    let mut reader = blobs.get(&key, 0..was.len() as u64).await.unwrap();
    let mut got = Vec::new();
    loop {
        // Polled once and dropped, most times before it is ready.
        let mut next = Box::pin(reader.next());
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(next.as_mut().poll(cx))).await;
        drop(next);
        match polled {
            std::task::Poll::Ready(piece) => match piece.unwrap() {
                Some(piece) => got.extend_from_slice(&piece),
                None => break,
            },
            std::task::Poll::Pending => tokio::task::yield_now().await,
        }
    }
    assert!(got == was);
}

/// A sweep may remove what a reader is reading: the reader gets the right bytes or an error.
async fn an_object_deleted_while_it_is_read(blobs: Blobs) {
    let key = key();
    let was = content(8 * PIECE, 11);
    blobs.put(&key, parts(&was)).await.unwrap();
    let mut reader = blobs.get(&key, 0..was.len() as u64).await.unwrap();
    let mut got = reader.next().await.unwrap().unwrap().to_vec();
    blobs.delete(&key).await.unwrap();
    loop {
        match reader.next().await {
            Ok(Some(piece)) => got.extend_from_slice(&piece),
            Ok(None) => break assert!(got == was),
            Err(e) => {
                assert!(matches!(e, BlobError::NotFound | BlobError::Unavailable(_)), "{e}");
                break;
            }
        }
    }
}

async fn probe(blobs: Blobs) {
    blobs.probe().await.unwrap();
    assert_eq!(blobs.clear_unfinished(Time::from_micros(0)).await.unwrap(), 0);
}

async fn small_objects_in_one_piece(blobs: Blobs) {
    let key = ObjectKey::random(Class::Manifest).unwrap();
    let was = content(100_000, 5);
    blobs.put(&key, parts(&was)).await.unwrap();
    assert_eq!(blobs.read(&key, 100_000).await.unwrap(), was);
    assert!(matches!(blobs.read(&key, 99_999).await, Err(BlobError::Other(_))));
}

#[test]
fn keys_have_one_form() {
    for class in Class::ALL {
        let key = ObjectKey::random(class).unwrap();
        assert_eq!(key.class(), class);
        assert_eq!(key.as_str().parse::<ObjectKey>().unwrap(), key);
    }
    let good = "segments/ab/ab000000000000000000000000000000";
    assert!(good.parse::<ObjectKey>().is_ok());
    for bad in [
        "",
        "segments",
        "segments/ab",
        "segments/ab/",
        "/segments/ab/ab000000000000000000000000000000",
        "segments/ab/ab000000000000000000000000000000/",
        "segments/ab/ab00000000000000000000000000000",
        "segments/ab/ab0000000000000000000000000000000",
        "segments/ac/ab000000000000000000000000000000",
        "segments/a/ab000000000000000000000000000000",
        "segments//ab000000000000000000000000000000",
        "segments/AB/AB000000000000000000000000000000",
        "segments/ab/ab00000000000000000000000000000g",
        "segments/../ab000000000000000000000000000000",
        "segments/ab/../../../../../../etc/passwd",
        "unfinished/ab/ab000000000000000000000000000000",
        "Segments/ab/ab000000000000000000000000000000",
        " segments/ab/ab000000000000000000000000000000",
        "segments/éé/éé0000000000000000000000000000",
    ] {
        assert!(bad.parse::<ObjectKey>().is_err(), "{bad}");
    }
}
