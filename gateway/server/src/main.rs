//! `pli`: the gateway's program. Serves, works, and does what an operator asks.
//!
//! Owns the start of the process and its exit codes (see [`cli`]). Must never hold what a module can.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test stops at the first surprise"))]

mod activity;
mod backend;
mod body;
mod cli;
mod client;
mod commands;
mod config;
mod connection;
mod evidence;
mod experts;
mod framing;
mod keyfolder;
mod limits;
mod listen;
mod logs;
mod metrics;
mod operations;
mod pki;
mod request;
mod secret;
mod serve;
#[cfg(test)]
mod testing;
mod tls;

use std::process::ExitCode;

use clap::Parser;
use pli_storage::{BlobError, DbError};

use crate::{
    cli::{Cli, Command, ConfigCommand, ReceiptCommand},
    config::{Config, ConfigError},
    logs::LogFormat,
};

fn main() -> ExitCode {
    // Before anything can ask for TLS: there is one provider in this process.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pli : {}", told(&error));
            ExitCode::from(code_of(&error))
        }
    }
}

/// What went wrong, with the sentence that a person would read over the network too.
fn told(error: &anyhow::Error) -> String {
    let sentence = error.chain().find_map(|cause| cause.downcast_ref().map(pli_hub::Fault::sentence));
    match sentence {
        Some(sentence) => format!("{sentence} ({error:#})"),
        None => format!("{error:#}"),
    }
}

/// The codes that `pli --help` lists.
fn code_of(error: &anyhow::Error) -> u8 {
    let mut code = 1;
    for cause in error.chain() {
        let configuration = cause.is::<ConfigError>()
            || cause.is::<commands::Refused>()
            || cause.is::<tls::TlsError>()
            || cause.is::<keyfolder::KeyFolderError>()
            || cause.is::<backend::Schema>();
        if configuration {
            return 3;
        }
        if cause.is::<commands::Amiss>() {
            return 5;
        }
        let passing = matches!(cause.downcast_ref(), Some(DbError::Unavailable(_)))
            || matches!(cause.downcast_ref(), Some(BlobError::Unavailable(_)))
            || cause.downcast_ref::<pli_hub::Fault>().is_some_and(pli_hub::Fault::is_passing);
        if passing {
            code = 4;
        }
    }
    code
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let command = match cli.command {
        Command::Init(asked) => return commands::init(&asked).map(done),
        Command::DevPki(asked) => return commands::dev_pki(&asked).map(done),
        // The client knows a server by its address only, and has exit codes of its own.
        Command::Send(asked) => return Ok(runtime()?.block_on(client::send(asked))),
        Command::Receive(asked) => return Ok(runtime()?.block_on(client::receive(asked))),
        Command::List(asked) => return Ok(runtime()?.block_on(client::list(asked))),
        // A third party has no configuration.
        Command::Receipt(ReceiptCommand::Verify(asked))
            if asked.certificate.is_some() || asked.journal_key.is_some() =>
        {
            return evidence::verify_receipt(None, &asked).map(done);
        }
        other => other,
    };
    let config = Config::load(cli.config.as_deref(), variables())?;
    let (format, filter) = match command {
        Command::Serve | Command::Worker => (config.logs.format, config.logs.filter.as_str()),
        _ => (LogFormat::Text, "warn"),
    };
    logs::start(format, filter)?;
    let outcome = async {
        match command {
            Command::Serve => serve::serve(config).await,
            Command::Worker => serve::work(config).await,
            Command::Migrate => commands::migrate(config).await,
            Command::Config(ConfigCommand::Check { reach }) => commands::check_config(config, reach).await,
            Command::Keys(asked) => commands::keys(config, asked).await,
            Command::Org(asked) => commands::org(config, asked).await,
            Command::User(asked) => commands::user(config, asked).await,
            Command::Service(asked) => commands::service(config, asked).await,
            Command::Role(asked) => commands::role(config, asked).await,
            Command::Experts(asked) => experts::run(config, asked).await,
            Command::Token(asked) => commands::token(config, asked).await,
            Command::Antivirus(asked) => commands::antivirus(config, asked).await,
            Command::Journal(asked) => evidence::journal(config, asked).await,
            Command::Receipt(ReceiptCommand::Verify(asked)) => {
                evidence::verify_receipt(Some(&config), &asked)
            }
            Command::Backup(asked) => commands::backup(config, &asked).await,
            Command::Restore(asked) => commands::restore(config, &asked).await,
            Command::Jobs(asked) => commands::jobs(config, asked).await,
            Command::Stats(asked) => commands::stats(config, &asked).await,
            Command::Check(asked) => commands::check(config, &asked).await,
            Command::Recover(asked) => commands::recover(config, asked).await,
            // Done above.
            Command::Init(_)
            | Command::DevPki(_)
            | Command::Send(_)
            | Command::Receive(_)
            | Command::List(_) => Ok(()),
        }
    };
    runtime()?.block_on(outcome).map(done)
}

fn done((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// The variables that are text; others cannot be ours.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
