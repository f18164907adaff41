//! The one error of handlers: a problem with a stable code (RFC 9457), and the cause for the log.
//!
//! The cause is logged once, here, with the request's span around it; it is never sent.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pli_api::{Problem, ProblemCode};
use pli_seal::SealError;
use pli_storage::{BlobError, DbError};

/// Why a request or a job was not done.
#[derive(Debug)]
pub struct Fault {
    code: ProblemCode,
    detail: Option<String>,
    /// Few faults have any; boxed, so that a result stays small.
    headers: Option<Box<HeaderMap>>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of handlers and of what they call.
pub type Result<T, E = Fault> = std::result::Result<T, E>;

impl Fault {
    /// A fault of this code.
    #[must_use]
    pub fn new(code: ProblemCode) -> Self {
        Self { code, detail: None, headers: None, cause: None }
    }

    /// A fault of this code with one more sentence for the person at the other end.
    #[must_use]
    pub fn because(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..Self::new(code) }
    }

    /// A fault of ours, with its cause.
    #[must_use]
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { cause: Some(cause.into()), ..Self::new(ProblemCode::Internal) }
    }

    /// A fault of something outside that may pass by itself, with its cause.
    #[must_use]
    pub fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { cause: Some(cause.into()), ..Self::new(ProblemCode::Unavailable) }
    }

    /// A service that this one needs did not answer; it may later.
    pub(crate) fn unreached(cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::caused(ProblemCode::Unavailable, cause)
    }

    /// The same fault with a header on its answer.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.get_or_insert_default().insert(name, value.into());
        self
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> ProblemCode {
        self.code
    }

    /// What the person at the other end reads.
    #[must_use]
    pub fn sentence(&self) -> &str {
        self.detail.as_deref().unwrap_or(self.code.title())
    }

    /// Whether the same request may succeed later without a change.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self.code, ProblemCode::Unavailable | ProblemCode::Stopping | ProblemCode::StorageFull)
    }

    fn caused(code: ProblemCode, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self { cause: Some(Box::new(cause)), ..Self::new(code) }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code.code())?;
        let mut next: Option<&(dyn std::error::Error + 'static)> = match &self.cause {
            Some(cause) => Some(cause.as_ref()),
            None => None,
        };
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

impl From<ProblemCode> for Fault {
    fn from(code: ProblemCode) -> Self {
        Self::new(code)
    }
}

impl From<pli_api::tus::Refused> for Fault {
    fn from(refused: pli_api::tus::Refused) -> Self {
        let fault = Self { detail: refused.detail, ..Self::new(refused.code) };
        match refused.code {
            ProblemCode::TusVersion => fault.with(pli_api::tus::TUS_VERSION, pli_api::tus::VERSION),
            _ => fault,
        }
    }
}

impl From<DbError> for Fault {
    fn from(error: DbError) -> Self {
        let code = match error {
            DbError::Unavailable(_) => ProblemCode::Unavailable,
            DbError::Full(_) => ProblemCode::StorageFull,
            // A rival made the same row first: what the caller asked is no longer open.
            DbError::Conflict { .. } => ProblemCode::Conflict,
            _ => ProblemCode::Internal,
        };
        Self::caused(code, error)
    }
}

impl From<BlobError> for Fault {
    fn from(error: BlobError) -> Self {
        let code = match error {
            BlobError::Full(_) => ProblemCode::StorageFull,
            BlobError::Unavailable(_) => ProblemCode::Unavailable,
            BlobError::NotFound | BlobError::Truncated => ProblemCode::Damaged,
            // The store refuses us or has gone: nothing the caller did, and the operator can mend it.
            BlobError::Other(_) => ProblemCode::Unavailable,
        };
        Self::caused(code, error)
    }
}

impl From<SealError> for Fault {
    fn from(error: SealError) -> Self {
        let code = match error {
            SealError::Damaged(_) | SealError::WrongKey | SealError::Manifest(_) => ProblemCode::Damaged,
            _ => ProblemCode::Internal,
        };
        Self::caused(code, error)
    }
}

impl From<tokio::task::JoinError> for Fault {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::internal(error)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        if self.code.status() >= 500 {
            tracing::error!(code = self.code.code(), error = %self, "request failed");
        } else if self.cause.is_some() {
            tracing::info!(code = self.code.code(), error = %self, "request refused");
        }
        let mut response = problem_response(self.code, self.detail);
        if matches!(self.code, ProblemCode::Unavailable | ProblemCode::Stopping | ProblemCode::TooMany) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        if let Some(headers) = self.headers {
            response.headers_mut().extend(*headers);
        }
        response
    }
}

/// A problem as an answer. The gateway adds the request's identifier.
#[must_use]
pub fn problem_response(code: ProblemCode, detail: Option<String>) -> Response {
    let body = serde_json::to_vec(&Problem::new(code, detail)).unwrap_or_default();
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = HeaderValue::from_static("application/problem+json");
    (status, [(header::CONTENT_TYPE, kind)], body).into_response()
}
