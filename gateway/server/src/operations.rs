//! The operations listener: health and metrics, plain HTTP, on the machine itself by default.
//!
//! Must never answer anything about a person or a document.

use std::{pin::Pin, sync::Arc, time::Duration};

use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header::CONTENT_TYPE};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use crate::limits::Limits;

/// What a process needs to work, asked anew each time. The error names the part, nothing more.
pub(crate) type Readiness =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), &'static str>> + Send>> + Send + Sync>;

/// An answer that takes longer than this is no readiness.
const PATIENCE: Duration = Duration::from_secs(5);

/// `/healthz`: this process turns. `/readyz`: it can do its work, and is not about to stop.
pub(crate) fn router(metrics: PrometheusHandle, ready: Readiness, leaving: CancellationToken) -> Router {
    let readyz = move || {
        let (ready, leaving) = (Arc::clone(&ready), leaving.clone());
        async move {
            if leaving.is_cancelled() {
                return state(StatusCode::SERVICE_UNAVAILABLE, "stopping");
            }
            match tokio::time::timeout(PATIENCE, ready()).await {
                Ok(Ok(())) => state(StatusCode::OK, "ready"),
                Ok(Err(part)) => state(StatusCode::SERVICE_UNAVAILABLE, part),
                Err(_) => state(StatusCode::SERVICE_UNAVAILABLE, "slow"),
            }
        }
    };
    let show = move || {
        let metrics = metrics.clone();
        async move {
            match tokio::task::spawn_blocking(move || crate::metrics::render(&metrics)).await {
                Ok(text) => {
                    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
                }
                Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            }
        }
    };
    Router::new()
        .route("/healthz", get(async || state(StatusCode::OK, "alive")))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show))
}

fn state(status: StatusCode, state: &'static str) -> Response {
    (status, axum::Json(serde_json::json!({ "state": state }))).into_response()
}

/// Few clients, all of the house, none of them slow.
pub(crate) fn limits() -> Limits {
    Limits { connections: 64, per_address: 0, ..Limits::default() }
}
