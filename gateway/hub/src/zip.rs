//! A whole deposit as one ZIP, streamed: stored, ZIP64 where needed, with the digests of its documents.
//!
//! Nothing is prepared on a disk and nothing is held: memory is the same for one page and for 100 GB.

use crate::access::{Actor, Caller};
use crate::content::Content;
use crate::deposits;
use crate::download::{Outlet, Trail, disposition, outlet};
use crate::fault::{Fault, Result};
use crate::{Hub, antivirus};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, header};
use pli_api::{Deposit, DepositId, Document, DocumentState, ProblemCode};
use rawzip::{CompressionMethod, ZipArchiveWriter};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// The name of the list of digests inside, in the format of `sha256sum`.
const SUMS: &str = "SHA256SUMS";

/// GET /deposits/{id}/zip.
pub(crate) async fn download(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<DepositId>,
) -> Result<Response> {
    let mut tx = hub.db().read().await?;
    let deposit = deposits::load(&mut tx, &caller, id, hub.now()).await?.ok_or(ProblemCode::NotFound)?;
    let documents = deposit.documents.clone().unwrap_or_default();
    if documents.iter().any(|d| d.state == DocumentState::Erased) {
        return Err(ProblemCode::Gone.into());
    }
    if documents.is_empty() || documents.iter().any(|d| d.state != DocumentState::Available) {
        return Err(ProblemCode::NotReady.into());
    }
    antivirus::require_released(&mut tx, &caller, &documents).await?;
    drop(tx);
    let trail = Trail { hub: hub.clone(), actor: Actor::from(&caller), deposit: id, document: None };
    let list: Vec<_> = documents.iter().map(|d| d.id).collect();
    let begun = trail.begin(serde_json::json!({ "zip": list })).await?;
    let (outlet, body) = outlet(None);
    let sending = hub.clone();
    hub.inner.running.spawn(async move {
        let sent = write(&sending, &outlet, &documents).await;
        if let Err(fault) = &sent {
            tracing::warn!(error = %fault, "ZIP cut short");
        }
        begun.end(outlet.finish(sent.is_ok()).await).await;
    });
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    headers.insert(header::CONTENT_DISPOSITION, disposition(&name(&deposit))?);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    Ok(response)
}

fn name(deposit: &Deposit) -> String {
    format!("pli-{}.zip", deposit.id)
}

/// Takes what the archive writer writes, to be sent on.
#[derive(Clone, Default)]
struct Basin(Arc<Mutex<Vec<u8>>>);

impl Write for Basin {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut held = self.0.lock().map_err(|_| io::Error::other("poisoned"))?;
        held.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Basin {
    async fn empty_into(&self, outlet: &Outlet) -> Result<()> {
        let held = match self.0.lock() {
            Ok(mut held) => std::mem::take(&mut *held),
            Err(_) => return Err(Fault::internal("poisoned")),
        };
        // A client that has gone ends the work; the outlet knows what was taken.
        if held.is_empty() || outlet.send(Bytes::from(held)).await {
            Ok(())
        } else {
            Err(Fault::internal("client gone"))
        }
    }
}

async fn write(hub: &Hub, outlet: &Outlet, documents: &[Document]) -> Result<()> {
    let basin = Basin::default();
    let mut archive = ZipArchiveWriter::new(basin.clone());
    let mut names = BTreeSet::from([SUMS.to_lowercase()]);
    let mut sums = String::new();
    for document in documents {
        let name = unique(&mut names, &document.name);
        sums.push_str(&format!("{}  {name}\n", document.sha256.as_deref().unwrap_or_default()));
        let mut tx = hub.db().read().await?;
        let content = Content::load(hub, &mut tx, document.id).await?;
        drop(tx);
        if Some(content.size) != document.size {
            return Err(Fault::because(ProblemCode::Damaged, "Il manque une partie."));
        }
        let file = archive.new_file(&name).compression_method(CompressionMethod::STORE);
        let (mut entry, config) = file.start().map_err(Fault::internal)?;
        let mut data = config.wrap(&mut entry);
        let mut reader = content.reader(hub.clone(), 0..content.size);
        while let Some(bytes) = reader.next().await? {
            data.write_all(&bytes).map_err(Fault::internal)?;
            basin.empty_into(outlet).await?;
        }
        let (_, descriptor) = data.finish().map_err(Fault::internal)?;
        entry.finish(descriptor).map_err(Fault::internal)?;
    }
    let (mut entry, config) = archive.new_file(SUMS).start().map_err(Fault::internal)?;
    let mut data = config.wrap(&mut entry);
    data.write_all(sums.as_bytes()).map_err(Fault::internal)?;
    let (_, descriptor) = data.finish().map_err(Fault::internal)?;
    entry.finish(descriptor).map_err(Fault::internal)?;
    archive.finish().map_err(Fault::internal)?;
    basin.empty_into(outlet).await
}

/// A name that is in the archive once: `pv.pdf`, then `pv (2).pdf`. Systems that do not tell capitals
/// apart, or give a meaning to `:` and the like, must be able to extract it too.
fn unique(taken: &mut BTreeSet<String>, name: &str) -> String {
    let name = name.replace(['<', '>', ':', '"', '|', '?', '*'], "_");
    let name = name.as_str();
    let mut candidate = name.to_owned();
    let mut number = 2_u32;
    while !taken.insert(candidate.to_lowercase()) {
        let (folder, base) = name.rsplit_once('/').map_or(("", name), |(f, b)| (f, b));
        let (stem, ending) = base.rsplit_once('.').filter(|(s, _)| !s.is_empty()).unwrap_or((base, ""));
        let dot = if ending.is_empty() { "" } else { "." };
        let slash = if folder.is_empty() { "" } else { "/" };
        candidate = format!("{folder}{slash}{stem} ({number}){dot}{ending}");
        number = number.saturating_add(1);
    }
    candidate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_unique() {
        let mut taken = BTreeSet::new();
        let names = ["a/pv.pdf", "a/pv.pdf", "a/pv.pdf", "pv", "pv", "a/.x", "a/.x"];
        let made: Vec<_> = names.iter().map(|name| unique(&mut taken, name)).collect();
        assert_eq!(made, ["a/pv.pdf", "a/pv (2).pdf", "a/pv (3).pdf", "pv", "pv (2)", "a/.x", "a/.x (2)"]);
    }
}
