//! One deposit under way between a sender and a recipient: uploads that are fed piece by piece, cut, resumed,
//! and read back by the recipient. Owns the waiting for conditions: each has a bound.

use std::ops::AsyncFnMut;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pli_api::{DepositId, DepositState, DocumentState};
use reqwest::{Body, Method};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::api::Api;
use crate::content::Content;
use crate::site::{Member, Site};

/// How long a condition may take on a busy machine. A job that died with its process is taken up again after
/// its lease of a minute.
const BOUND: Duration = Duration::from_secs(240);

/// Asks again until there is an answer.
///
/// # Errors
/// What `ask` says, or none within the bound.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + BOUND;
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("{what}: not within {BOUND:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A body that the test feeds: it ends when the sender is dropped.
pub fn fed() -> (mpsc::Sender<Vec<u8>>, Body) {
    let (feed, pieces) = mpsc::channel::<Vec<u8>>(4);
    let pieces = futures_util::stream::unfold(pieces, async |mut pieces| {
        let piece = pieces.recv().await?;
        Some((Ok::<_, std::io::Error>(piece), pieces))
    });
    (feed, Body::wrap_stream(pieces))
}

/// An upload and the document it will be.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Its address.
    pub location: String,
    /// Of the document; none for a part.
    pub document: String,
    /// What it is to hold.
    pub content: Content,
}

/// A draft with its two sides.
pub struct Exchange {
    /// Who is written to.
    pub reader: Member,
    /// Who sends.
    pub sender: Member,
    /// The sender, at the gateway itself.
    pub api: Api,
    /// The draft.
    pub deposit: DepositId,
}

impl Exchange {
    /// Two members and a draft between them.
    ///
    /// # Errors
    /// Anything on the way.
    pub async fn new(site: &Site) -> Result<Self> {
        let reader = site.member("expert@demo.invalid").await?;
        let sender = site.member("greffe@demo.invalid").await?;
        let api = site.api(&sender)?;
        let deposit = api.deposit(&[&reader.address], "Procédure fictive").await?.id;
        Ok(Self { reader, sender, api, deposit })
    }

    /// An upload of this content; nothing is sent yet.
    ///
    /// # Errors
    /// It was refused.
    pub async fn begin(&self, name: &str, content: Content) -> Result<Upload> {
        let made = self.api.create(self.deposit, name, Some(content.length())).await?.expect(201)?;
        Ok(Upload {
            location: made.header("location").context("no Location")?.to_owned(),
            document: made.header("pli-document").context("no Pli-Document")?.to_owned(),
            content,
        })
    }

    /// An upload of a part, to be concatenated.
    ///
    /// # Errors
    /// It was refused.
    pub async fn begin_part(&self, content: Content) -> Result<Upload> {
        let request = self.api.tus(Method::POST, "/api/v1/uploads").header("Upload-Concat", "partial");
        let made = self.api.send(request.header("Upload-Length", content.length())).await?.expect(201)?;
        let location = made.header("location").context("no Location")?.to_owned();
        Ok(Upload { location, document: String::new(), content })
    }

    /// Concatenates parts to a document, and gives its identifier.
    ///
    /// # Errors
    /// It was refused.
    pub async fn join(&self, name: &str, parts: &[Upload]) -> Result<String> {
        let list: Vec<&str> = parts.iter().map(|part| part.location.as_str()).collect();
        let request = self
            .api
            .tus(Method::POST, "/api/v1/uploads")
            .header("Upload-Concat", format!("final;{}", list.join(" ")))
            .header(
                "Upload-Metadata",
                crate::api::metadata([("filename", name), ("deposit", &self.deposit.to_string())]),
            );
        let made = self.api.send(request).await?.expect(201)?;
        Ok(made.header("pli-document").context("no Pli-Document")?.to_owned())
    }

    /// Sends what is missing, from the durable offset, as often as it is cut.
    ///
    /// # Errors
    /// Twenty attempts in a row did not bring it to its end.
    pub async fn resume(&self, api: &Api, upload: &Upload) -> Result<()> {
        let mut last = String::new();
        for _ in 0..20 {
            let offset = match api.offset(&upload.location).await {
                Ok(offset) if offset == upload.content.length() => return Ok(()),
                Ok(offset) => offset,
                Err(error) => {
                    last = format!("{error:#}");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            };
            last = match api.patch_rest(&upload.location, offset, upload.content).await {
                Ok(answer) => format!("{}: {}", answer.status, answer.text()),
                Err(error) => format!("{error:#}"),
            };
        }
        bail!("the upload did not come to its end: {last}")
    }

    /// Waits until a document is available with this digest.
    ///
    /// # Errors
    /// It is damaged, or has another digest.
    pub async fn available(&self, document: &str, sha256: &str) -> Result<()> {
        let state = until("a document to be available", async || {
            let document = self.api.document(document).await?;
            let ended = matches!(document.state, DocumentState::Available | DocumentState::Damaged);
            Ok(ended.then_some(document))
        })
        .await?;
        ensure!(
            state.state == DocumentState::Available && state.sha256.as_deref() == Some(sha256),
            "{state:?} instead of {sha256}"
        );
        Ok(())
    }

    /// Sends the deposit and waits until the recipient has it.
    ///
    /// # Errors
    /// It was refused.
    pub async fn send(&self) -> Result<()> {
        self.api.send_deposit(self.deposit).await?.expect(202)?;
        until("the deposit to be available", async || {
            let deposit = self.api.deposit_by_id(self.deposit).await?;
            Ok((deposit.state == DepositState::Available).then_some(()))
        })
        .await
    }

    /// The SHA-256 of what the recipient reads.
    ///
    /// # Errors
    /// Another status than 200, or a cut.
    pub async fn read(&self, site: &Site, document: &str) -> Result<String> {
        let there = site.api(&self.reader)?;
        let request = there.request(Method::GET, &format!("/api/v1/documents/{document}/content"));
        let mut answer = request.send().await?;
        ensure!(answer.status() == 200, "{}", answer.status());
        let mut digest = Sha256::new();
        while let Some(piece) = answer.chunk().await? {
            digest.update(&piece);
        }
        Ok(hex::encode(digest.finalize()))
    }

    /// All of what must hold at the end: the document is available with the right digest, the recipient reads
    /// the same bytes, and database and store agree, every segment opened.
    ///
    /// # Errors
    /// One of these does not hold.
    pub async fn settled(&self, site: &Site, upload: &Upload) -> Result<()> {
        let expected = upload.content.sha256();
        self.available(&upload.document, &expected).await?;
        self.send().await?;
        ensure!(self.read(site, &upload.document).await? == expected, "the recipient read other bytes");
        site.findings(true).await?.sound()?;
        Ok(())
    }
}
