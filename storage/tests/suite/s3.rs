//! What holds on S3 alone: a server that cuts, stands still, damages, refuses or is not there.

use crate::blobs::{all, content, key, parts};
use crate::proxy::{Plan, Proxy};
use pli_storage::blobs::PIECE;
use pli_storage::{BlobError, Blobs, S3Options, testing};
use std::time::Duration;

/// The server for tests behind a proxy; times short enough for a test, long enough for a busy machine.
async fn through_proxy() -> (Proxy, S3Options) {
    let mut options = testing::s3().unwrap();
    let server = options.endpoint.rsplit('/').next().unwrap().parse().unwrap();
    let proxy = Proxy::to(server).await;
    options.endpoint = format!("http://{}", proxy.address);
    options.stall = Duration::from_secs(2);
    options.attempt_timeout = Duration::from_secs(5);
    options.operation_timeout = Duration::from_secs(20);
    (proxy, options)
}

const SIZE: usize = 8 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_is_cut_goes_on() {
    let (proxy, options) = through_proxy().await;
    let key = key();
    let was = content(SIZE, 1);
    crate::blobs::bucket().put(&key, parts(&was)).await.unwrap();
    let blobs = Blobs::s3(options).unwrap();
    proxy.plan([Plan::CutDown(3_000_000), Plan::CutDown(700), Plan::CutDown(2_000_000)]);
    let got = all(&blobs, &key, 5..SIZE as u64 - 3).await.unwrap();
    assert!(got == was.get(5..SIZE - 3).unwrap());
    assert!(proxy.accepted() >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_is_always_cut_ends_with_an_error() {
    let (proxy, options) = through_proxy().await;
    let key = key();
    crate::blobs::bucket().put(&key, parts(&content(SIZE, 1))).await.unwrap();
    let blobs = Blobs::s3(options).unwrap();
    proxy.plan(vec![Plan::CutDown(500_000); 100]);
    let done = all(&blobs, &key, 0..SIZE as u64).await;
    assert!(matches!(done, Err(BlobError::Unavailable(_))), "{done:?}");
    assert!(proxy.accepted() < 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_stands_still_goes_on() {
    let (proxy, options) = through_proxy().await;
    let key = key();
    let was = content(SIZE, 1);
    crate::blobs::bucket().put(&key, parts(&was)).await.unwrap();
    let blobs = Blobs::s3(options).unwrap();
    proxy.plan([Plan::StandStill(1_000_000)]);
    assert!(all(&blobs, &key, 0..SIZE as u64).await.unwrap() == was);
}

/// A slow client of ours is not a stalled server.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_its_time() {
    let (_proxy, options) = through_proxy().await;
    let stall = options.stall;
    let key = key();
    let was = content(SIZE, 1);
    let blobs = Blobs::s3(options).unwrap();
    blobs.put(&key, parts(&was)).await.unwrap();
    let mut reader = blobs.get(&key, 0..SIZE as u64).await.unwrap();
    let mut got = reader.next().await.unwrap().unwrap().to_vec();
    tokio::time::sleep(stall * 2).await;
    while let Some(piece) = reader.next().await.unwrap() {
        assert!(piece.len() <= PIECE);
        got.extend_from_slice(&piece);
    }
    assert!(got == was);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_cut_is_sent_again() {
    let (proxy, options) = through_proxy().await;
    let blobs = Blobs::s3(options).unwrap();
    let key = key();
    let was = content(SIZE, 2);
    proxy.plan([Plan::CutUp(3_000_000), Plan::CutUp(100)]);
    blobs.put(&key, parts(&was)).await.unwrap();
    assert!(all(&blobs, &key, 0..SIZE as u64).await.unwrap() == was);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_always_cut_leaves_nothing() {
    let (proxy, options) = through_proxy().await;
    let blobs = Blobs::s3(options).unwrap();
    let key = key();
    proxy.plan(vec![Plan::CutUp(3_000_000); 100]);
    let done = blobs.put(&key, parts(&content(SIZE, 2))).await;
    assert!(matches!(done, Err(BlobError::Unavailable(_))), "{done:?}");
    assert!(proxy.accepted() < 20);
    assert_eq!(crate::blobs::bucket().head(&key).await.unwrap(), None);
}

/// Refused by the server, or kept by it and seen from the checksum in its answer: sent again.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_damaged_on_its_way_is_sent_again() {
    let (proxy, options) = through_proxy().await;
    let was = content(SIZE, 2);
    for (attempts, damaged) in [(4u32, 2), (1, 1)] {
        let blobs = Blobs::s3(S3Options { attempts, ..options.clone() }).unwrap();
        let key = key();
        proxy.plan((0..damaged).map(|_| Plan::FlipUp(SIZE / 2)));
        let done = blobs.put(&key, parts(&was)).await;
        if attempts > damaged {
            done.unwrap();
            assert!(all(&blobs, &key, 0..SIZE as u64).await.unwrap() == was);
        } else {
            assert!(matches!(done, Err(BlobError::Unavailable(_))), "{done:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_holds_everything() {
    let (proxy, mut options) = through_proxy().await;
    options.attempt_timeout = Duration::from_millis(500);
    options.operation_timeout = Duration::from_secs(2);
    let blobs = Blobs::s3(options).unwrap();
    blobs.probe().await.unwrap();
    proxy.hold(true);
    let key = key();
    assert!(matches!(blobs.put(&key, parts(b"x")).await, Err(BlobError::Unavailable(_))));
    assert!(matches!(blobs.get(&key, 0..1).await, Err(BlobError::Unavailable(_))));
    assert!(matches!(blobs.head(&key).await, Err(BlobError::Unavailable(_))));
    assert!(matches!(blobs.delete(&key).await, Err(BlobError::Unavailable(_))));
    assert!(matches!(blobs.probe().await, Err(BlobError::Unavailable(_))));
    proxy.hold(false);
    blobs.probe().await.unwrap();
}

macro_rules! answer {
    ($status:literal, $code:literal) => {
        concat!(
            "HTTP/1.1 ",
            $status,
            "\r\nContent-Type: application/xml\r\nConnection: close\r\n\r\n",
            "<?xml version=\"1.0\"?><Error><Code>",
            $code,
            "</Code><Message>said</Message></Error>"
        )
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_sorted() {
    let cases = [
        (answer!("507 Insufficient Storage", "InsufficientStorage"), "full"),
        (answer!("403 Forbidden", "QuotaExceeded"), "full"),
        (answer!("500 Internal Server Error", "InternalError"), "unavailable"),
        (answer!("503 Service Unavailable", "SlowDown"), "unavailable"),
        (answer!("503 Service Unavailable", "ServiceUnavailable"), "unavailable"),
        (answer!("429 Too Many Requests", "TooManyRequests"), "unavailable"),
        (answer!("403 Forbidden", "AccessDenied"), "other"),
        (answer!("403 Forbidden", "SignatureDoesNotMatch"), "other"),
        (answer!("404 Not Found", "NoSuchBucket"), "other"),
        (answer!("400 Bad Request", "BadDigest"), "unavailable"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", "kept"),
        ("not HTTP at all\r\n\r\n", "unavailable"),
    ];
    for (answer, sorted) in cases {
        let (proxy, options) = through_proxy().await;
        let blobs = Blobs::s3(options).unwrap();
        proxy.plan(vec![Plan::Answer(answer); 10]);
        let is = match blobs.put(&key(), parts(b"x")).await {
            Ok(()) => "kept",
            Err(BlobError::Full(_)) => "full",
            Err(BlobError::Unavailable(_)) => "unavailable",
            Err(BlobError::NotFound) => "not found",
            Err(BlobError::Truncated) => "truncated",
            Err(BlobError::Other(_)) => "other",
        };
        assert_eq!(is, sorted, "{answer}");
    }
}

/// Answers of a server that does not do what it says.
#[tokio::test(flavor = "multi_thread")]
async fn ranges_that_were_not_asked_for() {
    for answer in [
        "HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\nContent-Range: bytes 5-8/100\r\nConnection: close\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nabcd",
        "HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 4-8/100\r\nConnection: close\r\n\r\nabcde",
        "HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\nContent-Range: bytes 4-6/7\r\nConnection: close\r\n\r\nabc",
    ] {
        let (proxy, options) = through_proxy().await;
        let blobs = Blobs::s3(options).unwrap();
        proxy.plan(vec![Plan::Answer(answer); 10]);
        let done = all(&blobs, &key(), 4..8).await;
        assert!(matches!(done, Err(BlobError::Other(_) | BlobError::Truncated)), "{answer}: {done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_there() {
    let mut options = S3Options::new("http://127.0.0.1:1", "garage", "pli", "key", "secret");
    options.connect_timeout = Duration::from_millis(500);
    let blobs = Blobs::s3(options).unwrap();
    assert!(matches!(blobs.probe().await, Err(BlobError::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_wrong() {
    let good = testing::s3().unwrap();
    let secret = S3Options { secret_key: "0".repeat(64), ..good.clone() };
    let access = S3Options { access_key: "GK0000000000000000000000ff".to_owned(), ..good.clone() };
    for options in [secret, access] {
        let shown = format!("{options:?}");
        let done = Blobs::s3(options).unwrap().probe().await;
        assert!(matches!(done, Err(BlobError::Other(_))), "{shown}: {done:?}");
    }
    assert!(!format!("{good:?} {:?}", Blobs::s3(good.clone()).unwrap()).contains(&good.secret_key));
}

#[test]
fn options_that_make_no_sense() {
    let new = |endpoint: &str| S3Options::new(endpoint, "r", "b", "k", "s");
    for bad in [
        "",
        "ftp://127.0.0.1",
        "127.0.0.1:9000",
        "http://192.0.2.1:9000",
        "http://s3.example",
        "http://localhost.example",
    ] {
        assert!(matches!(Blobs::s3(new(bad)), Err(BlobError::Other(_))), "{bad}");
    }
    for good in ["https://s3.example", "http://127.0.0.1:9000", "http://[::1]:9000", "http://localhost:9000"]
    {
        Blobs::s3(new(good)).unwrap();
    }
    Blobs::s3(S3Options { plain_http: true, ..new("http://s3.example") }).unwrap();
    assert!(Blobs::s3(S3Options { secret_key: String::new(), ..new("https://s3.example") }).is_err());
}

/// Turns are given back whatever happens to those who had them.
#[tokio::test(flavor = "multi_thread")]
async fn turns_are_bounded_and_come_back() {
    let (proxy, mut options) = through_proxy().await;
    options.parallel = 2;
    let blobs = Blobs::s3(options).unwrap();
    proxy.hold(true);
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let blobs = blobs.clone();
            tokio::spawn(async move { blobs.put(&key(), parts(b"x")).await })
        })
        .collect();
    while proxy.accepted() < 2 {
        tokio::task::yield_now().await;
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
        assert_eq!(proxy.accepted(), 2);
    }
    // Some give up while they wait or while they have their turn.
    for task in tasks.iter().step_by(2) {
        task.abort();
    }
    proxy.hold(false);
    for task in tasks {
        match task.await {
            Ok(done) => done.unwrap(),
            Err(e) => assert!(e.is_cancelled()),
        }
    }
    blobs.probe().await.unwrap();
}
