//! Versions against lost updates: strong entity tags and `If-Match` (RFC 9110, 8.8.3 and 13.1.1).

use crate::fault::{Fault, Result};
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use pli_api::ProblemCode;
use serde::Serialize;

/// Whether a list of entity tags names this one; weakly, also its weak form.
pub(crate) fn names(value: &HeaderValue, etag: &str, weakly: bool) -> bool {
    let Ok(text) = value.to_str() else { return false };
    text.trim() == "*"
        || text
            .split(',')
            .map(str::trim)
            .any(|tag| tag == etag || (weakly && tag.strip_prefix("W/") == Some(etag)))
}

/// The entity tag of a version: the number in quotes.
fn of(version: u64) -> String {
    format!("\"{version}\"")
}

/// Refuses a change of another version than the one the caller has read. To be asked once the row is held.
///
/// # Errors
/// 428 when the request names none, 412 when it names another.
pub(crate) fn require(headers: &HeaderMap, version: u64) -> Result<()> {
    if !headers.contains_key(header::IF_MATCH) {
        return Err(ProblemCode::PreconditionRequired.into());
    }
    check(headers, version)
}

/// The same for what the state guards already: a request that names no version is let through.
///
/// # Errors
/// 412.
pub(crate) fn check(headers: &HeaderMap, version: u64) -> Result<()> {
    let etag = of(version);
    let named = headers.get_all(header::IF_MATCH);
    if headers.contains_key(header::IF_MATCH) && !named.iter().any(|value| names(value, &etag, false)) {
        return Err(Fault::because(
            ProblemCode::PreconditionFailed,
            "Cet élément a été modifié entre-temps ; relisez-le avant de le modifier.",
        ));
    }
    Ok(())
}

/// A body with the entity tag of its version.
pub(crate) fn tagged<T: Serialize>(version: u64, body: T) -> Result<Response> {
    let etag = HeaderValue::from_str(&of(version)).map_err(Fault::internal)?;
    Ok(([(header::ETAG, etag)], Json(body)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_version_that_was_read_may_be_changed() {
        let with = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::IF_MATCH, HeaderValue::from_static(value));
            }
            (
                require(&headers, 3).map_err(|fault| fault.code().status()),
                check(&headers, 3).map_err(|fault| fault.code().status()),
            )
        };
        assert_eq!(with(&[]), (Err(428), Ok(())));
        for right in [["\"3\""].as_slice(), &["\"1\", \"3\""], &["\"1\"", "\"3\""], &["*"]] {
            assert_eq!(with(right), (Ok(()), Ok(())), "{right:?}");
        }
        for wrong in ["\"2\"", "3", "W/\"3\"", "", "\"33\""] {
            assert_eq!(with(&[wrong]), (Err(412), Err(412)), "{wrong}");
        }
    }
}
