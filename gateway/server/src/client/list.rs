//! `pli list`: deposits received, sent or in preparation, as a table or as JSON.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use pli_api::{Deposit, DepositBox, Person};
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::progress::Progress;
use super::settings::{ConnectionArgs, Settings};
use super::{Failure, Run, conclude, format, print, texts, to_json};

/// A list is asked for by someone who waits: no long patience.
const GIVE_UP: Duration = Duration::from_secs(30);
const PAGE: usize = 100;

/// Arguments of `pli list`.
#[derive(Debug, Args)]
#[command(about = texts::LIST_ABOUT, after_help = texts::EXIT_CODES)]
pub(crate) struct ListArgs {
    #[arg(value_enum, default_value_t = Which::Received, hide_possible_values = false, value_name = "BOÎTE", help = texts::LIST_BOX)]
    which: Which,
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..), help = texts::LIST_LIMIT)]
    limit: u32,
    #[arg(long, help = texts::JSON)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    #[value(help = texts::WHICH_RECEIVED)]
    Received,
    #[value(help = texts::WHICH_SENT)]
    Sent,
    #[value(help = texts::WHICH_DRAFTS)]
    Drafts,
}

/// Runs `pli list`; the exit codes are those of the module above.
pub(crate) async fn list(args: ListArgs) -> ExitCode {
    let stop = CancellationToken::new();
    conclude(stop.clone(), false, run(args, stop)).await
}

async fn run(args: ListArgs, stop: CancellationToken) -> Result<(), Failure> {
    let settings = Settings::load(&args.connection).map_err(Failure::Usage)?;
    let api = Api::new(&settings, 1).map_err(Failure::Usage)?;
    let run = Run { api, progress: Progress::new(false), stop, give_up: GIVE_UP };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let (deposits, more) = fetch(&run, args.which, limit).await?;
    if args.json {
        return print(&to_json(&deposits)?);
    }
    if deposits.is_empty() {
        run.progress.say(texts::NOTHING);
        return Ok(());
    }
    print(&table(args.which, &deposits))?;
    if more {
        run.progress.say(&texts::more(limit));
    }
    Ok(())
}

/// At most `limit` deposits, and whether there are more.
async fn fetch(run: &Run, which: Which, limit: usize) -> Result<(Vec<Deposit>, bool), Failure> {
    let of = match which {
        Which::Received => DepositBox::Received,
        Which::Sent => DepositBox::Sent,
        Which::Drafts => DepositBox::Draft,
    };
    let mut deposits = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let want = PAGE.min(limit - deposits.len());
        let page = run.insist(|| run.api.deposits(of, after.as_deref(), want)).await?;
        deposits.extend(page.items);
        deposits.truncate(limit);
        after = page.next;
        if after.is_none() || deposits.len() >= limit {
            return Ok((deposits, after.is_some()));
        }
    }
}

fn table(which: Which, deposits: &[Deposit]) -> String {
    let whom = if which == Which::Received { texts::HEAD_FROM } else { texts::HEAD_TO };
    let head =
        [texts::HEAD_ID, texts::HEAD_DATE, whom, texts::HEAD_STATE, texts::HEAD_EXPIRES, texts::HEAD_SUBJECT];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(deposits.iter().map(|d| row(which, d)));
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let lines = rows.iter().map(|row| {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn row(which: Which, deposit: &Deposit) -> [String; 6] {
    let date = match which {
        Which::Received => deposit.available.or(deposit.sent),
        Which::Sent => deposit.sent,
        Which::Drafts => None,
    };
    let whom = match which {
        Which::Received => person(&deposit.sender),
        _ => deposit.recipients.iter().map(|r| format::plain(&r.address)).collect::<Vec<_>>().join(", "),
    };
    [
        deposit.id.to_string(),
        format::date(date.unwrap_or(deposit.created)),
        whom,
        texts::state(deposit.state).to_owned(),
        deposit.expires.map(format::date).unwrap_or_default(),
        format::plain(&deposit.subject),
    ]
}

fn person(person: &Person) -> String {
    if person.name.is_empty() {
        format::plain(&person.address)
    } else {
        format!("{} <{}>", format::plain(&person.name), format::plain(&person.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up_and_obeys_nobody() {
        let deposit: Deposit = serde_json::from_value(serde_json::json!({
            "id": "019aa7f0-0000-7000-8000-000000000001", "subject": "Énoncé\u{1b}[31m", "sender": {"address": "juge@justice.fr", "name": "É. Juge"},
            "recipients": [{"address": "expert@example.fr", "name": "Expert"}], "state": "available", "retention_days": 30,
            "created": "2026-11-21T22:40:00Z", "sent": null, "available": null, "expires": null
        }))
        .unwrap();
        let text = table(Which::Received, std::slice::from_ref(&deposit));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        let column = |line: &str, word: &str| line.find(word).map(|at| line[..at].chars().count());
        assert_eq!(column(lines[0], "État"), column(lines[1], "disponible"));
        assert_eq!(column(lines[0], "Objet"), column(lines[1], "Énoncé"));
        assert!(!text.contains('\u{1b}') && text.contains("É. Juge <juge@justice.fr>"));
        assert!(table(Which::Sent, &[deposit]).contains("expert@example.fr"));
    }
}
