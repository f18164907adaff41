//! Fresh databases and buckets for tests, here and in the crates above (feature `testing`).
//!
//! Owns what `tests/env/with.sh` tells by environment variables. Must never let a test pass because
//! a service is missing: every function says which script starts it.

use crate::{Args, Db, DbOptions, S3Options, Sql};

const POSTGRES: &str = "PLI_TEST_POSTGRES is not set: run the tests under `tests/env/with.sh postgres -- …`";
const S3: &str = "PLI_TEST_S3_ENDPOINT (and _REGION, _BUCKET, _ACCESS_KEY, _SECRET_KEY) is not set: \
                  run the tests under `tests/env/with.sh s3 -- …`";

/// The address of a new, empty database on the PostgreSQL given for tests.
///
/// # Errors
/// A sentence to be shown: which service is missing and how to start it, or why it refused.
pub async fn postgres() -> Result<String, String> {
    let server = std::env::var("PLI_TEST_POSTGRES").map_err(|_| POSTGRES.to_owned())?;
    postgres_on(&server).await
}

/// The address of a new, empty database on a PostgreSQL server of one's own.
///
/// # Errors
/// Why it refused.
pub async fn postgres_on(server: &str) -> Result<String, String> {
    let name = format!("pli_{}", uuid::Uuid::now_v7().simple());
    let options = DbOptions { max_connections: 1, ..DbOptions::default() };
    let db = Db::open(server, options).await.map_err(|e| e.to_string())?;
    db.rows(Sql::assembled(format!("CREATE DATABASE {name}")), Args::default())
        .await
        .map_err(|e| e.to_string())?;
    db.close().await;
    let (base, _) = server.rsplit_once('/').ok_or("PLI_TEST_POSTGRES has no path")?;
    Ok(format!("{base}/{name}"))
}

/// The bucket of the S3 service given for tests. Tests share it: each looks at its own keys only.
///
/// # Errors
/// A sentence to be shown: which service is missing and how to start it.
pub fn s3() -> Result<S3Options, String> {
    let get = |name: &str| std::env::var(format!("PLI_TEST_S3_{name}")).map_err(|_| S3.to_owned());
    Ok(S3Options::new(
        &get("ENDPOINT")?,
        &get("REGION")?,
        &get("BUCKET")?,
        &get("ACCESS_KEY")?,
        &get("SECRET_KEY")?,
    ))
}
