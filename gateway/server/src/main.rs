//! `pli`: the gateway's program. Serves, works, and does what an operator asks.
//!
//! Owns the start of the process and its exit codes (see [`cli`]). Must never hold what a module can.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test stops at the first surprise"))]

mod activity;
mod backend;
mod body;
mod cli;
mod commands;
mod config;
mod connection;
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
    cli::{Cli, Command, ConfigCommand},
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
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pli : {error:#}");
            ExitCode::from(code_of(&error))
        }
    }
}

/// The codes that `pli --help` lists.
fn code_of(error: &anyhow::Error) -> u8 {
    let mut code = 1;
    for cause in error.chain() {
        if cause.is::<ConfigError>() || cause.is::<commands::Refused>() || cause.is::<tls::TlsError>() {
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

fn run(cli: Cli) -> anyhow::Result<()> {
    // Those that need no configuration.
    match &cli.command {
        Command::Init(asked) => return commands::init(asked),
        Command::DevPki(asked) => return commands::dev_pki(asked),
        _ => {}
    }
    let config = Config::load(cli.config.as_deref(), variables())?;
    let serves = matches!(cli.command, Command::Serve | Command::Worker);
    let format = if serves { config.logs.format } else { LogFormat::Text };
    let filter = if serves { config.logs.filter.as_str() } else { "warn" };
    logs::start(format, filter)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        match cli.command {
            Command::Init(_) | Command::DevPki(_) => Ok(()),
            Command::Serve => serve::serve(config).await,
            Command::Worker => serve::work(config).await,
            Command::Migrate => commands::migrate(config).await,
            Command::Config(ConfigCommand::Check { reach }) => commands::check_config(config, reach).await,
            Command::Keys(asked) => commands::keys(config, asked).await,
            Command::Org(asked) => commands::org(config, asked).await,
            Command::User(asked) => commands::user(config, asked).await,
            Command::Token(asked) => commands::token(config, asked).await,
            Command::Check(asked) => commands::check(config, &asked).await,
            Command::Recover(asked) => commands::recover(config, asked).await,
        }
    })
}

/// The variables that are text; others cannot be ours.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
