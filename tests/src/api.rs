//! The HTTP API as a client sees it: thin, so that a test shows what goes over the wire. Owns no retry and no
//! judgement: an answer is given back whatever its status.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pli_api::{Deposit, Document, DocumentState, Problem};
use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Body, Certificate, Client, Method, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;

use crate::content::Content;

/// How long the jobs of a gateway may take to finish a document.
const FINISHED: Duration = Duration::from_secs(60);
/// What is handed to the connection at once.
const PIECE: u64 = 256 << 10;

/// A caller of the API.
#[derive(Clone)]
pub struct Api {
    client: Client,
    address: SocketAddr,
    token: Option<String>,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header field's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let name = HeaderName::try_from(name).ok()?;
        self.headers.get(name)?.to_str().ok()
    }

    /// `Upload-Offset`.
    ///
    /// # Errors
    /// It is absent or no number.
    pub fn offset(&self) -> Result<u64> {
        let text = self.header("upload-offset").with_context(|| format!("no Upload-Offset in {self:?}"))?;
        Ok(text.parse()?)
    }

    /// The body as JSON, when the status is one of success.
    ///
    /// # Errors
    /// Another status, or another shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        ensure!(self.status.is_success(), "{}: {}", self.status, self.text());
        serde_json::from_slice(&self.body).with_context(|| self.text())
    }

    /// The stable code of a problem; empty when the body is none.
    pub fn problem(&self) -> String {
        serde_json::from_slice::<Problem>(&self.body).map(|problem| problem.code).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Fails unless the status is the expected one.
    ///
    /// # Errors
    /// It is another; the body is in the error.
    pub fn expect(self, status: u16) -> Result<Self> {
        ensure!(self.status.as_u16() == status, "{} instead of {status}: {}", self.status, self.text());
        Ok(self)
    }
}

/// tus `Upload-Metadata` of these pairs.
pub fn metadata<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    use base64::Engine as _;
    let encode = |(key, value): (&str, &str)| {
        format!("{key} {}", base64::engine::general_purpose::STANDARD.encode(value))
    };
    pairs.into_iter().map(encode).collect::<Vec<_>>().join(",")
}

impl Api {
    pub(crate) fn new(address: SocketAddr, root: &[u8], token: Option<&str>) -> Result<Self> {
        let client = Client::builder()
            .tls_certs_only([Certificate::from_pem(root)?])
            // Each test says what it retries.
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .build()?;
        Ok(Self { client, address, token: token.map(str::to_owned) })
    }

    /// A request with the token, to be completed.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, self.url(path));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// A request of the tus protocol.
    pub fn tus(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).header("Tus-Resumable", "1.0.0")
    }

    /// The address of a path; a full address stays as it is.
    pub fn url(&self, path: &str) -> String {
        if path.starts_with("https://") { path.to_owned() } else { format!("https://{}{path}", self.address) }
    }

    /// Sends and reads to the end.
    ///
    /// # Errors
    /// The connection failed before the end of the answer.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer> {
        let answer = request.send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await?.to_vec();
        Ok(Answer { status, headers, body })
    }

    /// GET of a path.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(self.request(Method::GET, path)).await
    }

    /// A new draft to these recipients.
    ///
    /// # Errors
    /// It was refused.
    pub async fn deposit(&self, recipients: &[&str], subject: &str) -> Result<Deposit> {
        let body = serde_json::json!({ "recipients": recipients, "subject": subject });
        self.send(self.request(Method::POST, "/api/v1/deposits").json(&body)).await?.json()
    }

    /// A deposit with its documents.
    ///
    /// # Errors
    /// It is not the caller's.
    pub async fn deposit_by_id(&self, id: impl std::fmt::Display) -> Result<Deposit> {
        self.get(&format!("/api/v1/deposits/{id}")).await?.json()
    }

    /// Sends a draft.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn send_deposit(&self, id: impl std::fmt::Display) -> Result<Answer> {
        self.send(self.request(Method::POST, &format!("/api/v1/deposits/{id}/send"))).await
    }

    /// Creates an upload of a whole document; the answer has `Location` and `Pli-Document`.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn create(
        &self,
        deposit: impl std::fmt::Display,
        name: &str,
        length: Option<u64>,
    ) -> Result<Answer> {
        let pairs = metadata([("filename", name), ("deposit", &deposit.to_string())]);
        let request = self.tus(Method::POST, "/api/v1/uploads").header("Upload-Metadata", pairs);
        let request = match length {
            Some(length) => request.header("Upload-Length", length),
            None => request.header("Upload-Defer-Length", "1"),
        };
        self.send(request).await
    }

    /// The durable offset of an upload.
    ///
    /// # Errors
    /// It is not the caller's, or the connection failed.
    pub async fn offset(&self, upload: &str) -> Result<u64> {
        self.send(self.tus(Method::HEAD, upload)).await?.expect(200)?.offset()
    }

    /// The durable offset of an unfinished upload as the list tells it, which touches nothing: HEAD ends a writer
    /// that is under way.
    ///
    /// # Errors
    /// The connection failed, or there is no such unfinished upload.
    pub async fn watched(&self, upload: &str) -> Result<u64> {
        let id = upload.rsplit('/').next().unwrap_or_default();
        self.pending()
            .await?
            .get(id)
            .copied()
            .with_context(|| format!("{upload} is not among the unfinished"))
    }

    /// One PATCH with these bytes at this offset.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn patch(&self, upload: &str, offset: u64, bytes: impl Into<Body>) -> Result<Answer> {
        self.send(self.patching(upload, offset).body(bytes)).await
    }

    /// A PATCH to be completed: with a checksum, with a length.
    pub fn patching(&self, upload: &str, offset: u64) -> RequestBuilder {
        self.tus(Method::PATCH, upload)
            .header("Upload-Offset", offset)
            .header("Content-Type", "application/offset+octet-stream")
    }

    /// One PATCH with the rest of a content from an offset, made while it is sent, without `Content-Length`.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn patch_rest(&self, upload: &str, offset: u64, content: Content) -> Result<Answer> {
        let pieces = content.pieces(offset, PIECE).map(Ok::<_, std::io::Error>);
        self.patch(upload, offset, Body::wrap_stream(futures_util::stream::iter(pieces))).await
    }

    /// Uploads a content whole, in one PATCH, and gives its document once it is available.
    ///
    /// # Errors
    /// Anything on the way, or another SHA-256 than the content's.
    pub async fn upload(
        &self,
        deposit: impl std::fmt::Display,
        name: &str,
        content: Content,
    ) -> Result<Document> {
        let made = self.create(deposit, name, Some(content.length())).await?.expect(201)?;
        let location = made.header("location").context("no Location")?.to_owned();
        if content.length() > 0 {
            self.patch_rest(&location, 0, content).await?.expect(204)?;
        }
        let id = made.header("pli-document").context("no Pli-Document")?;
        let document = self.finished(id).await?;
        ensure!(
            document.sha256.as_deref() == Some(content.sha256().as_str()),
            "another content: {document:?}"
        );
        Ok(document)
    }

    /// A document's row.
    ///
    /// # Errors
    /// It is not the caller's.
    pub async fn document(&self, id: impl std::fmt::Display) -> Result<Document> {
        self.get(&format!("/api/v1/documents/{id}")).await?.json()
    }

    /// Waits until a document is available or damaged. The API has no event to wait for: it is asked again.
    ///
    /// # Errors
    /// Neither within a minute.
    pub async fn finished(&self, id: impl std::fmt::Display) -> Result<Document> {
        let deadline = Instant::now() + FINISHED;
        loop {
            let document = self.document(&id).await?;
            if matches!(document.state, DocumentState::Available | DocumentState::Damaged) {
                return Ok(document);
            }
            if Instant::now() > deadline {
                bail!("not finished after {FINISHED:?}: {document:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The content of a document, whole or a range (`bytes=0-9`).
    ///
    /// # Errors
    /// The connection failed, or the answer ended before its length: a damaged segment cuts it short.
    pub async fn content(&self, document: impl std::fmt::Display, range: Option<&str>) -> Result<Answer> {
        let request = self.request(Method::GET, &format!("/api/v1/documents/{document}/content"));
        let request = match range {
            Some(range) => request.header("Range", range),
            None => request,
        };
        self.send(request).await
    }

    /// The caller's unfinished uploads: id and durable offset.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn pending(&self) -> Result<BTreeMap<String, u64>> {
        let answer: serde_json::Value = self.get("/api/v1/uploads").await?.json()?;
        let items = answer["items"].as_array().context("no items")?;
        let one =
            |item: &serde_json::Value| Some((item["id"].as_str()?.to_owned(), item["offset"].as_u64()?));
        items.iter().map(one).collect::<Option<_>>().context("an item without id or offset")
    }
}
