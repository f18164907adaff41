//! Prometheus metrics of the process.
//!
//! Owns the recorder, the buckets and the descriptions of what this crate measures. Must never carry
//! a label whose values a client or a person chooses.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// From a health check to a transfer of hours.
const SECONDS: [f64; 14] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 900.0, 7200.0];

/// Installs the recorder. Once in a process.
pub(crate) fn start() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install_recorder()?;
    describe_counter!(
        "pli_http_requests_total",
        "Requests answered, by method, route and status (0: the client left first)."
    );
    describe_histogram!(
        "pli_http_request_seconds",
        Unit::Seconds,
        "From a request's head to the last byte of its answer."
    );
    describe_counter!(
        "pli_http_received_bytes_total",
        Unit::Bytes,
        "Bytes of request bodies, counted when requests end."
    );
    describe_counter!(
        "pli_http_sent_bytes_total",
        Unit::Bytes,
        "Bytes of answers' bodies, counted when requests end."
    );
    describe_counter!("pli_http_refused_total", "HTTP/1.1 messages refused for their framing, by reason.");
    describe_counter!("pli_http_bodies_cut_total", "Request bodies ended because they stood still.");
    describe_gauge!("pli_connections", "Connections open, by listener.");
    describe_counter!("pli_connections_total", "Connections accepted, by listener.");
    describe_counter!("pli_connections_refused_total", "Connections closed at once, by reason.");
    describe_counter!("pli_connections_closed_total", "Connections ended, by reason.");
    describe_counter!("pli_connections_full_total", "Times that new connections had to wait for a place.");
    describe_counter!("pli_accept_errors_total", "Errors of the listening socket, such as no file left.");
    describe_counter!("pli_tls_handshakes_total", "TLS handshakes, by result.");
    describe_counter!("pli_tls_reloads_total", "Readings of the certificate files, by result.");
    describe_counter!("pli_panics_total", "Panics that became an answer.");
    describe_gauge!("pli_jobs", "Background jobs, by kind and state; dead ones wait for the operator.");
    describe_counter!("pli_scans_total", "Documents scanned, by what the antivirus says.");
    describe_counter!("pli_scans_failed_total", "Scans that the antivirus did not answer, or failed at.");
    describe_counter!("pli_scanned_bytes_total", Unit::Bytes, "Bytes given to the antivirus.");
    describe_histogram!(
        "pli_scan_seconds",
        Unit::Seconds,
        "From the first byte read to the antivirus's answer."
    );
    describe_gauge!("pli_info", "Always 1; the version is its label.");
    describe_gauge!("process_resident_memory_bytes", Unit::Bytes, "Resident memory.");
    describe_gauge!("process_open_fds", "Open files.");
    describe_gauge!("pli_uptime_seconds", Unit::Seconds, "Seconds since the start.");
    gauge!("pli_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    begun();
    Ok(handle)
}

fn begun() -> Instant {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    *BEGUN.get_or_init(Instant::now)
}

/// The text of `/metrics`. Blocking, for a few small files of `/proc`.
pub(crate) fn render(handle: &PrometheusHandle) -> String {
    gauge!("pli_uptime_seconds").set(begun().elapsed().as_secs_f64());
    if let Some(kib) = resident_kib() {
        gauge!("process_resident_memory_bytes").set(kib * 1024.0);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        // The listing itself opens one.
        let open = u32::try_from(files.count().saturating_sub(1)).unwrap_or(u32::MAX);
        gauge!("process_open_fds").set(f64::from(open));
    }
    handle.render()
}

fn resident_kib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

/// Moves what was measured out of its buffers from time to time. Ends never.
pub(crate) async fn keep(handle: PrometheusHandle) {
    let mut every = tokio::time::interval(Duration::from_secs(5));
    loop {
        every.tick().await;
        handle.run_upkeep();
    }
}
