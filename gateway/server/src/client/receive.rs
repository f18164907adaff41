//! `pli receive`: the documents of a deposit into a folder.
//!
//! Owns the command: which documents, at which places, and what is reported; `fetch.rs` brings them.
//! Never chooses a place outside the folder, whatever the names that others gave.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use pli_api::{Deposit, DepositId, DepositState, Document, DocumentId, DocumentState};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::fetch::{self, Fetched, Item, Outcome};
use super::names;
use super::partial::make_folder;
use super::progress::Progress;
use super::settings::{ConnectionArgs, Settings};
use super::{Failure, Run, conclude, format, print, texts, to_json};

/// Arguments of `pli receive`.
#[derive(Debug, Args)]
#[command(about = texts::RECEIVE_ABOUT, after_help = texts::EXIT_CODES)]
pub(crate) struct ReceiveArgs {
    #[arg(value_name = "IDENTIFIANT", help = texts::RECEIVE_ID)]
    id: DepositId,
    #[arg(long, value_name = "DOSSIER", help = texts::RECEIVE_INTO)]
    into: Option<PathBuf>,
    #[arg(long, help = texts::RECEIVE_FORCE)]
    force: bool,
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64), help = texts::STREAMS)]
    streams: u16,
    #[arg(long, value_name = "DURÉE", default_value = "15min", value_parser = format::parse_duration, help = texts::GIVE_UP)]
    give_up: Duration,
    #[arg(long, help = texts::JSON)]
    json: bool,
    #[arg(long, short, help = texts::QUIET)]
    quiet: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `pli receive`; the exit codes are those of the module above.
pub(crate) async fn receive(args: ReceiveArgs) -> ExitCode {
    let stop = CancellationToken::new();
    conclude(stop.clone(), true, run(args, stop)).await
}

async fn run(args: ReceiveArgs, stop: CancellationToken) -> Result<(), Failure> {
    let settings = Settings::load(&args.connection).map_err(Failure::Usage)?;
    let streams = usize::from(args.streams);
    let api = Api::new(&settings, streams).map_err(Failure::Usage)?;
    let run = Arc::new(Run { api, progress: Progress::new(args.quiet), stop, give_up: args.give_up });
    let deposit = run.insist(|| run.api.deposit(args.id)).await?;
    let into = args.into.clone().unwrap_or_else(|| PathBuf::from(args.id.to_string()));
    let (items, unready) = items(&run, &deposit, &into)?;
    let total = items.iter().map(|i| i.size).sum();
    run.progress.say(&texts::receiving(items.len(), total, &deposit.sender.address));
    make_folder(&into).map_err(|e| Failure::LocalFile(texts::unreadable(&into, &e)))?;

    let display = run.progress.display();
    run.progress.start(texts::RECEIVING, total, items.len());
    let outcomes = fetch::all(&run, items, args.force, streams).await;
    drop(display);
    conclude_all(&args, &run, &deposit, &into, outcomes?, unready)
}

/// The documents with their places, and a failure for those that cannot be fetched.
fn items(run: &Run, deposit: &Deposit, into: &Path) -> Result<(Vec<Item>, Vec<Failure>), Failure> {
    match deposit.state {
        DepositState::Expired => return Err(Failure::Refused(texts::EXPIRED.into())),
        DepositState::Draft | DepositState::Sent => {
            return Err(Failure::Unreachable(texts::NOT_AVAILABLE.into()));
        }
        DepositState::Available => {}
    }
    let mut documents: Vec<&Document> = deposit.documents.iter().flatten().collect();
    if documents.is_empty() {
        return Err(Failure::Refused(texts::NO_DOCUMENT.into()));
    }
    // In the order they were made, so that a later run gives the same places.
    documents.sort_by_key(|d| d.id);
    let places = names::paths(documents.iter().map(|d| d.name.as_str()));
    let mut items = Vec::new();
    let mut unready = Vec::new();
    for (document, relative) in documents.into_iter().zip(places) {
        match (document.state, document.size, &document.sha256) {
            (DocumentState::Available, Some(size), Some(sha256)) => {
                if Path::new(&document.name) != relative {
                    run.progress.warn(&texts::renamed(&document.name, &relative.to_string_lossy()));
                }
                items.push(Item {
                    id: document.id,
                    name: document.name.clone(),
                    size,
                    sha256: sha256.to_ascii_lowercase(),
                    path: into.join(&relative),
                    relative,
                });
            }
            (DocumentState::Available, ..) => {
                unready.push(Failure::Refused(texts::no_digest(&document.name)))
            }
            (DocumentState::Damaged, ..) => unready.push(Failure::Digest(texts::damaged(&document.name))),
            (DocumentState::Erased, ..) => unready.push(Failure::Refused(texts::EXPIRED.into())),
            _ => unready.push(Failure::Unreachable(texts::not_ready(&document.name))),
        }
    }
    Ok((items, unready))
}

/// What scripts read.
#[derive(Serialize)]
struct Report<'a> {
    deposit: DepositId,
    folder: &'a Path,
    complete: bool,
    documents: Vec<Line<'a>>,
    errors: Vec<&'a str>,
}

#[derive(Serialize)]
struct Line<'a> {
    id: DocumentId,
    name: &'a str,
    path: &'a Path,
    size: u64,
    sha256: &'a str,
    outcome: Fetched,
}

/// Reports what is there, and ends with the gravest failure.
fn conclude_all(
    args: &ReceiveArgs,
    run: &Run,
    deposit: &Deposit,
    into: &Path,
    outcomes: Vec<Outcome>,
    unready: Vec<Failure>,
) -> Result<(), Failure> {
    let mut done: Vec<(Arc<Item>, Fetched)> = Vec::new();
    let mut failures = unready;
    for (item, outcome) in outcomes {
        match outcome {
            Ok(fetched) => done.push((item, fetched)),
            Err(failure) => failures.push(failure),
        }
    }
    done.sort_by(|(a, _), (b, _)| a.relative.cmp(&b.relative));
    // Interruptions are consequences when anything else failed; a wrong digest matters most.
    failures.sort_by_key(|f| match f {
        Failure::Digest(_) => 0,
        Failure::Interrupted => 2,
        _ => 1,
    });
    if args.json {
        let lines = done.iter().map(|(item, outcome)| Line {
            id: item.id,
            name: &item.name,
            path: &item.relative,
            size: item.size,
            sha256: &item.sha256,
            outcome: *outcome,
        });
        print(&to_json(&Report {
            deposit: deposit.id,
            folder: into,
            complete: failures.is_empty(),
            documents: lines.collect(),
            errors: failures.iter().map(Failure::text).collect(),
        })?)?;
    } else {
        let mut text: Vec<String> = done
            .iter()
            .map(|(item, _)| format::digest_line(&item.sha256, &item.relative.to_string_lossy()))
            .collect();
        text.push(into.display().to_string());
        print(&text.join("\n"))?;
    }
    let present = done.iter().filter(|(_, fetched)| *fetched == Fetched::Present).count();
    if !done.is_empty() {
        run.progress.say(&texts::received(done.len() - present, present));
    }
    let mut failures = failures.into_iter();
    let Some(first) = failures.next() else { return Ok(()) };
    failures.filter(|f| *f != Failure::Interrupted).for_each(|f| run.progress.warn(f.text()));
    Err(first)
}
