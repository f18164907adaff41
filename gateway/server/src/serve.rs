//! `pli serve` and `pli worker`: from the configuration to the last connection.
//!
//! Owns the order of starting and of stopping. Must never exit while a transfer that was told to stop
//! still has time to reach a durable offset.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use axum::Router;
use pli_hub::Hub;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    backend,
    config::Config,
    limits::Limits,
    listen::{Listener, Stop},
    metrics, operations,
    request::Front,
    tls::Tls,
};

/// For the database to write what it has in memory.
const CLOSING: Duration = Duration::from_secs(5);

/// Serves until a signal says otherwise.
pub(crate) async fn serve(config: Config) -> anyhow::Result<()> {
    let limits = Arc::new(config.limits()?);
    let files = config.tls_files();
    let tls = Arc::new(tokio::task::spawn_blocking(move || Tls::open(files)).await??);
    let hub = backend::hub(&config).await?;
    let mut sockets = Vec::new();
    for address in &config.listen.addresses {
        sockets.push(bind(*address).await?);
    }
    let jobs = config.jobs.in_process;
    let public = Public { router: hub.router(), sockets, tls, limits };
    run(config, hub, Some(public), jobs).await
}

/// Runs jobs until a signal says otherwise.
pub(crate) async fn work(config: Config) -> anyhow::Result<()> {
    let hub = backend::hub(&config).await?;
    run(config, hub, None, true).await
}

struct Public {
    router: Router,
    sockets: Vec<TcpListener>,
    tls: Arc<Tls>,
    limits: Arc<Limits>,
}

async fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("écoute sur {address}"))
}

async fn run(config: Config, hub: Hub, public: Option<Public>, jobs: bool) -> anyhow::Result<()> {
    // Before anything is told to be up: a signal from here on is a stop, not a death.
    let mut signals = Signals::new()?;
    let recorder = metrics::start()?;
    let stop = Stop::default();
    let jobs_stop = CancellationToken::new();
    let mut tasks = JoinSet::new();

    // Health and metrics answer until everything else has ended, so that what takes long shows.
    let operations_stop = Stop::default();
    let mut operations_tasks = JoinSet::new();
    operations_tasks.spawn(metrics::keep(recorder.clone()));
    if let Some(address) = config.operations.socket()? {
        let socket = bind(address).await?;
        tracing::info!(listener = "operations", address = %socket.local_addr()?, "listening");
        let router = operations::router(recorder, backend::readiness(hub.clone()), stop.gentle.clone());
        let limits = Arc::new(operations::limits());
        let front = Front::new(router, Arc::clone(&limits), false, config.logs.client_address).quiet();
        let listener = Listener::new("operations", socket, front, None, limits, operations_stop.clone());
        operations_tasks.spawn(listener.run());
    }
    if jobs {
        let (hub, stop) = (hub.clone(), jobs_stop.clone());
        tasks.spawn(async move { hub.run_jobs(stop).await });
    }
    let mut tls = None;
    if let Some(public) = public {
        let front = Front::new(public.router, Arc::clone(&public.limits), true, config.logs.client_address);
        for socket in public.sockets {
            tracing::info!(listener = "public", address = %socket.local_addr()?, "listening");
            let (front, tls, limits) = (front.clone(), Arc::clone(&public.tls), Arc::clone(&public.limits));
            tasks.spawn(Listener::new("public", socket, front, Some(tls), limits, stop.clone()).run());
        }
        tls = Some(public.tls);
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "started");

    let asked = wait(config.tls.check.0, &mut signals, tls, &mut tasks).await;

    // The answer of a transfer that ends here says where it can be taken up.
    tracing::info!(transfers = hub.running_transfers(), "stopping");
    stop.gentle.cancel();
    hub.stop_transfers();
    jobs_stop.cancel();
    let ended = async {
        while tasks.join_next().await.is_some() {}
        hub.transfers_ended().await;
    };
    let deadline = config.shutdown.deadline.0;
    let orderly = tokio::select! {
        () = ended => true,
        () = tokio::time::sleep(deadline) => {
            tracing::warn!(seconds = deadline.as_secs_f64(), "not everything ended in time");
            false
        }
        () = signals.second_stop() => {
            tracing::warn!("second signal: ending at once");
            false
        }
    };
    stop.now.cancel();
    operations_stop.gentle.cancel();
    operations_stop.now.cancel();
    tasks.shutdown().await;
    operations_tasks.shutdown().await;
    // Whatever was cut off above may still hold a connection.
    let closed = tokio::time::timeout(CLOSING, hub.db().close()).await.is_ok();
    tracing::info!(orderly, closed, "stopped");
    asked
}

/// Until a signal; an error when a task that should not end did.
async fn wait(
    every: Option<Duration>,
    signals: &mut Signals,
    tls: Option<Arc<Tls>>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let mut look = tokio::time::interval(every.unwrap_or(Duration::from_secs(3600)));
    look.reset();
    loop {
        let asked = tokio::select! {
            told = signals.next() => match told {
                Told::Stop => return Ok(()),
                Told::Reload => true,
            },
            Some(ended) = tasks.join_next() => {
                // A listener or the jobs: without them this process only seems to work. Something
                // outside starts it anew.
                tracing::error!(panicked = ended.is_err(), "a part of the program ended by itself");
                anyhow::bail!("une partie du programme s'est arrêtée d'elle-même");
            }
            _ = look.tick(), if every.is_some() => false,
        };
        if let Some(tls) = &tls {
            let tls = Arc::clone(tls);
            // Reading files must not hold up what else waits here.
            tokio::task::spawn_blocking(move || reload(&tls, asked));
        }
    }
}

fn reload(tls: &Tls, asked: bool) {
    if !(asked || tls.stale()) {
        return;
    }
    let result = match tls.reload() {
        Ok(changed) => {
            tracing::info!(changed, "certificate read");
            "done"
        }
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, "certificate not read; the one before stays in use");
            "failed"
        }
    };
    ::metrics::counter!("pli_tls_reloads_total", "result" => result).increment(1);
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

enum Told {
    Stop,
    Reload,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reload,
        }
    }

    async fn second_stop(&mut self) {
        while let Told::Reload = self.next().await {}
    }
}
