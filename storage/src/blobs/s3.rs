//! Objects in a bucket of an S3 service.
//!
//! Owns the client: time-outs, bounded retries, bounded parallelism, checksums. Must never rely on
//! conditional requests, versions or locks (servers ignore them without an error), nor send a secret
//! or an object in clear over a network unless the configuration says so.

use super::{BlobError, Class, ObjectEntry, ObjectKey, ObjectMeta, PIECE};
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, DateTime, SdkBody};
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore, rustls_provider::CryptoMode};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pli_api::Time;
use std::convert::Infallible;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// What servers answer when other bytes arrived than were sent; Garage says the last.
const DAMAGED: [&str; 3] = ["BadDigest", "XAmzContentChecksumMismatch", "InvalidDigest"];

/// Where the bucket is and how to speak to it.
#[derive(Clone)]
pub struct S3Options {
    /// Address of the service: `https://…`; `http://` only to this machine, or with `plain_http`.
    pub endpoint: String,
    /// Region, as the service calls it.
    pub region: String,
    /// The bucket, made by the operator.
    pub bucket: String,
    /// Access key.
    pub access_key: String,
    /// Secret key.
    pub secret_key: String,
    /// The bucket is part of the path, not of the host's name. What most services but AWS want.
    pub path_style: bool,
    /// Certificates, in PEM, that alone are trusted; `None`: those of the system.
    pub ca: Option<Vec<u8>>,
    /// Allow `http://` to another machine, for a network that is protected otherwise.
    pub plain_http: bool,
    /// Most requests at once, bodies being read not counted.
    pub parallel: usize,
    /// To open a connection.
    pub connect_timeout: Duration,
    /// For one attempt, from its first byte to the head of the answer; this bounds an object's upload.
    pub attempt_timeout: Duration,
    /// For all attempts of a request together.
    pub operation_timeout: Duration,
    /// How long a body may stand still, either way.
    pub stall: Duration,
    /// Attempts for a request, the first included; also for the rest of a body that was cut.
    pub attempts: u32,
}

impl S3Options {
    /// What is customary, to be completed with the five things that are not.
    #[must_use]
    pub fn new(endpoint: &str, region: &str, bucket: &str, access_key: &str, secret_key: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            region: region.to_owned(),
            bucket: bucket.to_owned(),
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            path_style: true,
            ca: None,
            plain_http: false,
            parallel: 32,
            connect_timeout: Duration::from_secs(3),
            attempt_timeout: Duration::from_secs(60),
            operation_timeout: Duration::from_secs(150),
            stall: Duration::from_secs(20),
            attempts: 4,
        }
    }
}

impl std::fmt::Debug for S3Options {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Options")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("bucket", &self.bucket)
            .field("path_style", &self.path_style)
            .field("parallel", &self.parallel)
            .finish_non_exhaustive()
    }
}

pub(super) struct S3 {
    client: Client,
    bucket: String,
    turns: Semaphore,
    attempts: u32,
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

impl S3 {
    pub(super) fn new(o: S3Options) -> Result<Self, BlobError> {
        let refuse = |text: &str| Err(BlobError::Other(text.to_owned()));
        let Ok(endpoint) = o.endpoint.parse::<http::Uri>() else {
            return refuse("the S3 endpoint is not an address");
        };
        let host = endpoint.host().unwrap_or("");
        let here = host == "localhost"
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        match endpoint.scheme_str() {
            Some("https") => {}
            Some("http") if here || o.plain_http => {}
            Some("http") => {
                return refuse(
                    "the S3 endpoint is http:// on another machine: use https://, or set plain_http",
                );
            }
            _ => return refuse("the S3 endpoint must start with https:// or http://"),
        }
        if host.is_empty() || o.bucket.is_empty() || o.access_key.is_empty() || o.secret_key.is_empty() {
            return refuse("the S3 endpoint, bucket and keys must be given");
        }
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&o.endpoint)
            .region(Region::new(o.region))
            .credentials_provider(Credentials::new(o.access_key, o.secret_key, None, None, "pli"))
            .force_path_style(o.path_style)
            .http_client(http_client(o.ca)?)
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(o.connect_timeout)
                    .read_timeout(o.attempt_timeout)
                    .operation_attempt_timeout(o.attempt_timeout)
                    .operation_timeout(o.operation_timeout)
                    .build(),
            )
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(o.attempts.max(1))
                    .with_initial_backoff(Duration::from_millis(200))
                    .with_max_backoff(Duration::from_secs(5)),
            )
            .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(o.stall).build())
            // A checksum of each object is sent as a header, made from its parts (see `put`). The SDK's
            // own way is a trailer after an aws-chunked body, which not every service reads.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Ok(Self {
            client: Client::from_conf(config),
            bucket: o.bucket,
            turns: Semaphore::new(o.parallel.max(1)),
            attempts: o.attempts.max(1),
        })
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, BlobError> {
        self.turns.acquire().await.map_err(|_| BlobError::Unavailable("closed".to_owned()))
    }

    pub(super) async fn put(&self, key: &ObjectKey, parts: Vec<Bytes>) -> Result<(), BlobError> {
        let length: u64 = parts.iter().map(|p| p.len() as u64).sum();
        let length = i64::try_from(length).map_err(|_| BlobError::Other("an object too long".to_owned()))?;
        let mut crc = crc32fast::Hasher::new();
        for part in &parts {
            crc.update(part);
        }
        let crc = aws_smithy_types::base64::encode(crc.finalize().to_be_bytes());
        let parts: Arc<[Bytes]> = parts.into();
        let _turn = self.turn().await?;
        let mut left = self.attempts;
        loop {
            left = left.saturating_sub(1);
            // Every attempt, the SDK's and ours, sends the same parts again, without a copy.
            let parts = parts.clone();
            let body = SdkBody::retryable(move || SdkBody::from_body_1_x(Parts::new(parts.clone())));
            let answer = self
                .client
                .put_object()
                .bucket(&self.bucket)
                .key(key.as_str())
                .content_type("application/octet-stream")
                .content_length(length)
                .checksum_crc32(&crc)
                .body(ByteStream::new(body))
                .send()
                .await;
            let damaged = match &answer {
                // What it says to have kept, where it says it.
                Ok(kept) => kept.checksum_crc32().is_some_and(|kept| kept != crc),
                Err(e) => e.code().is_some_and(|code| DAMAGED.contains(&code)),
            };
            match answer {
                _ if damaged && left > 0 => {
                    tracing::warn!(%key, "object damaged on its way to the store: sent again")
                }
                _ if damaged => {
                    return Err(BlobError::Unavailable(
                        "an object is damaged on its way to the store".to_owned(),
                    ));
                }
                Ok(_) => return Ok(()),
                Err(e) => return Err(sort(e)),
            }
        }
    }

    pub(super) async fn get(
        self: Arc<Self>,
        key: &ObjectKey,
        range: Range<u64>,
    ) -> Result<S3Reader, BlobError> {
        let mut reader = S3Reader {
            attempts: self.attempts,
            store: self,
            key: key.clone(),
            at: range.start,
            end: range.end,
            body: None,
            rest: Bytes::new(),
        };
        if range.is_empty() {
            // No range names nothing: only look whether the object is there and reaches so far.
            let meta = reader.store.head(key).await?.ok_or(BlobError::NotFound)?;
            return if meta.length < range.end { Err(BlobError::Truncated) } else { Ok(reader) };
        }
        reader.open().await?;
        Ok(reader)
    }

    pub(super) async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, BlobError> {
        let _turn = self.turn().await?;
        match self.client.head_object().bucket(&self.bucket).key(key.as_str()).send().await.map_err(sort) {
            Ok(head) => {
                let length = head.content_length().and_then(|l| u64::try_from(l).ok());
                Ok(Some(ObjectMeta {
                    length: length.ok_or_else(|| no("length of an object"))?,
                    modified: time(head.last_modified())?,
                }))
            }
            Err(BlobError::NotFound) => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub(super) async fn delete(&self, key: &ObjectKey) -> Result<(), BlobError> {
        let _turn = self.turn().await?;
        match self.client.delete_object().bucket(&self.bucket).key(key.as_str()).send().await.map_err(sort) {
            Ok(_) | Err(BlobError::NotFound) => Ok(()),
            Err(e) => Err(e),
        }
    }

    pub(super) async fn list(
        &self,
        class: Class,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectEntry>, BlobError> {
        let mut out: Vec<ObjectEntry> = Vec::new();
        let mut start = after.map(|key| key.as_str().to_owned());
        while out.len() < limit {
            let page = i32::try_from((limit - out.len()).min(1000)).unwrap_or(1000);
            let answer = {
                let _turn = self.turn().await?;
                self.client
                    .list_objects_v2()
                    .bucket(&self.bucket)
                    .prefix(format!("{}/", class.folder()))
                    .set_start_after(start.clone())
                    .max_keys(page)
                    .send()
                    .await
                    .map_err(sort)?
            };
            let before = start.clone();
            for object in answer.contents() {
                let Some(name) = object.key() else { continue };
                // What the server counts as given before is not taken twice, whatever it answers.
                if start.as_deref().is_some_and(|s| name <= s) {
                    continue;
                }
                start = Some(name.to_owned());
                let Ok(key) = name.parse::<ObjectKey>() else { continue };
                let length = object.size().and_then(|l| u64::try_from(l).ok());
                out.push(ObjectEntry {
                    key,
                    length: length.ok_or_else(|| no("length of an object"))?,
                    modified: time(object.last_modified())?,
                });
            }
            // Pages follow by key, not by the server's token: a key is the same on every node.
            if answer.is_truncated() != Some(true) || start == before {
                break;
            }
        }
        out.truncate(limit);
        Ok(out)
    }
}

fn http_client(ca: Option<Vec<u8>>) -> Result<SharedHttpClient, BlobError> {
    let store = match ca {
        Some(pem) => TrustStore::empty().with_pem_certificate(pem),
        None => TrustStore::default(),
    };
    let context = TlsContext::builder()
        .with_trust_store(store)
        .build()
        .map_err(|e| BlobError::Other(format!("S3 certificates: {e}")))?;
    Ok(aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context)
        .build_https())
}

fn time(t: Option<&DateTime>) -> Result<Time, BlobError> {
    let micros = t.map(|t| t.as_nanos() / 1000).and_then(|m| i64::try_from(m).ok());
    micros.map(Time::from_micros).ok_or_else(|| no("time of an object"))
}

fn no(what: &str) -> BlobError {
    BlobError::Other(format!("the store did not say the {what}"))
}

/// A body made of parts that lie where they are.
struct Parts {
    parts: Arc<[Bytes]>,
    next: usize,
    left: u64,
}

impl Parts {
    fn new(parts: Arc<[Bytes]>) -> Self {
        let left = parts.iter().map(|p| p.len() as u64).sum();
        Self { parts, next: 0, left }
    }
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while let Some(part) = self.parts.get(self.next).cloned() {
            self.next += 1;
            if !part.is_empty() {
                self.left = self.left.saturating_sub(part.len() as u64);
                return Poll::Ready(Some(Ok(Frame::data(part))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Reads a range; when the connection is cut, asks for the rest.
pub(super) struct S3Reader {
    store: Arc<S3>,
    key: ObjectKey,
    /// Next byte of the object that the server is to send.
    at: u64,
    end: u64,
    body: Option<ByteStream>,
    /// Of a frame longer than a piece, what was not given yet.
    rest: Bytes,
    attempts: u32,
}

impl std::fmt::Debug for S3Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Reader").field("key", &self.key).field("at", &self.at).finish_non_exhaustive()
    }
}

impl S3Reader {
    async fn open(&mut self) -> Result<(), BlobError> {
        let _turn = self.store.turn().await?;
        let answer = self
            .store
            .client
            .get_object()
            .bucket(&self.store.bucket)
            .key(self.key.as_str())
            .range(format!("bytes={}-{}", self.at, self.end.saturating_sub(1)))
            .send()
            .await
            .map_err(sort)?;
        let length = answer.content_length().and_then(|l| u64::try_from(l).ok());
        let length = length.ok_or_else(|| no("length of a range"))?;
        let starts = format!("bytes {}-", self.at);
        match answer.content_range() {
            Some(range) if !range.starts_with(&starts) => return Err(no("range that was asked for")),
            // The whole object for an answer is right only when the whole was asked for.
            None if self.at != 0 => return Err(no("range that was asked for")),
            _ => {}
        }
        let want = self.end.saturating_sub(self.at);
        if length < want {
            return Err(BlobError::Truncated);
        }
        if length > want {
            return Err(BlobError::Other("the store ignored the range that was asked for".to_owned()));
        }
        self.body = Some(answer.body);
        Ok(())
    }

    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, BlobError> {
        loop {
            if !self.rest.is_empty() {
                let piece = self.rest.split_to(self.rest.len().min(PIECE));
                return Ok(Some(piece));
            }
            if self.at >= self.end {
                return Ok(None);
            }
            let Some(body) = self.body.as_mut() else {
                self.open().await?;
                continue;
            };
            match body.next().await {
                Some(Ok(frame)) if frame.len() as u64 <= self.end.saturating_sub(self.at) => {
                    self.at += frame.len() as u64;
                    self.rest = frame;
                }
                Some(Ok(_)) => {
                    return Err(BlobError::Other("the store sent more bytes than it said".to_owned()));
                }
                // Cut, or standing still: the rest is asked for anew.
                cut => {
                    self.body = None;
                    self.attempts = self.attempts.saturating_sub(1);
                    if self.attempts == 0 {
                        let why = cut.and_then(Result::err).map_or("early end".to_owned(), |e| e.to_string());
                        return Err(BlobError::Unavailable(format!("reading an object: {why}")));
                    }
                }
            }
        }
    }
}

/// Sorts an SDK error. The texts of S3 services hold keys and request ids, never content.
fn sort<E>(error: SdkError<E>) -> BlobError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let status = error.raw_response().map_or(0, |r| r.status().as_u16());
    match &error {
        SdkError::TimeoutError(_) => BlobError::Unavailable("no answer in time".to_owned()),
        SdkError::DispatchFailure(e) => {
            let why = if e.is_timeout() { "connection timed out" } else { "connection failed" };
            BlobError::Unavailable(why.to_owned())
        }
        SdkError::ResponseError(_) => BlobError::Unavailable(format!("unreadable answer, status {status}")),
        SdkError::ServiceError(e) => {
            let code = e.err().code().unwrap_or("");
            let message = e.err().message().unwrap_or("");
            let text = format!("{status} {code} {message}");
            let full = status == 507
                || ["InsufficientStorage", "QuotaExceeded", "ServiceFull", "XMinioStorageFull"].contains(&code)
                // Garage and Ceph answer 403 for a full quota, and say so in words only.
                || message.to_ascii_lowercase().contains("quota");
            match (status, code) {
                _ if full => BlobError::Full(text),
                (_, "NoSuchBucket") => BlobError::Other(text),
                (404, _) | (_, "NoSuchKey" | "NotFound") => BlobError::NotFound,
                (416, _) | (_, "InvalidRange") => BlobError::Truncated,
                (408 | 429, _)
                | (500..=599, _)
                | (_, "SlowDown" | "RequestTimeout" | "RequestTimeTooSkewed") => BlobError::Unavailable(text),
                (_, "IncompleteBody") => BlobError::Unavailable(text),
                _ => BlobError::Other(text),
            }
        }
        _ => BlobError::Other("the request could not be made".to_owned()),
    }
}
