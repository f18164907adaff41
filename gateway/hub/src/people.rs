//! Who comes in, the least of it: accounts, sessions, personal access tokens.
//!
//! Owns the four tables of people. Must never keep a secret that opens anything, tell whether an
//! address has an account, or compare secrets byte by byte.

use crate::access::{Caller, SESSION_COOKIE};
use crate::boxes::misleads;
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::{Hub, delegations, deposits, random32, roles, services};
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, StatusCode, header};
use pli_api::{
    Account, AccountId, IssuedToken, Limits, Me, NewToken, OrganisationId, ProblemCode, SignIn, Time, Token,
    TokenId,
};
use pli_storage::{Row, Tx, args};
use sha2::{Digest as _, Sha256};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;
use zeroize::Zeroizing;

/// How long a sign-in waits for its turn to be hashed.
const TURN: Duration = Duration::from_secs(5);

/// What every token begins with, so that a leaked one can be recognised.
pub(crate) const TOKEN_PREFIX: &str = "pli_";

/// What of a secret is kept: its SHA-256. Secrets are 256 random bits, so that no slower hash is needed,
/// and looking a digest up tells nothing of the secret by its timing.
pub(crate) fn secret_digest(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

pub(crate) fn new_secret() -> Result<Zeroizing<String>> {
    Ok(Zeroizing::new(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random32()?))))
}

/// An address as it is kept and compared.
///
/// # Errors
/// 422 when it is no address.
pub(crate) fn address(given: &str) -> Result<String> {
    let address = given.trim().to_lowercase();
    let (local, domain) = address.split_once('@').unwrap_or_default();
    let odd = |c: char| {
        c.is_control() || c.is_whitespace() || misleads(c) || matches!(c, '<' | '>' | ',' | ';' | '"')
    };
    if local.is_empty()
        || domain.is_empty()
        || domain.contains('@')
        || address.len() > 254
        || address.chars().any(odd)
    {
        return Err(Fault::because(ProblemCode::Invalid, "Adresse électronique mal formée."));
    }
    Ok(address)
}

/// The PHC string of a password, argon2id with the parameters of RFC 9106's second choice as the crate sets them.
pub(crate) fn hash_password(password: &str) -> Result<String> {
    let hash =
        Argon2::default().hash_password(password.as_bytes()).map_err(|e| Fault::internal(e.to_string()))?;
    Ok(hash.to_string())
}

/// A hash of nothing, against which the password of an unknown address is verified: the answer takes as long.
fn decoy() -> &'static str {
    static DECOY: OnceLock<String> = OnceLock::new();
    DECOY.get_or_init(|| hash_password("").unwrap_or_default())
}

fn verifies(password: &str, kept: &str) -> bool {
    PasswordHash::new(kept)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

async fn turn_to_hash(hub: &Hub) -> Result<OwnedSemaphorePermit> {
    let turn = tokio::time::timeout(TURN, Arc::clone(&hub.inner.hashing).acquire_owned()).await;
    turn.ok().and_then(Result::ok).ok_or_else(|| ProblemCode::TooMany.into())
}

/// [`hash_password`], once it is this request's turn.
///
/// # Errors
/// 429 when too many others are hashed.
pub(crate) async fn hash_in_turn(hub: &Hub, password: Zeroizing<String>) -> Result<String> {
    let turn = turn_to_hash(hub).await?;
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        hash_password(&password)
    })
    .await?
}

/// POST /session.
pub(crate) async fn sign_in(State(hub): State<Hub>, Json(given): Json<SignIn>) -> Result<Response> {
    let password = Zeroizing::new(given.password);
    // What is no address has no account.
    let address = address(&given.address).unwrap_or_default();
    let row = hub
        .db()
        .optional("SELECT a.id, a.password FROM accounts a JOIN boxes b ON b.id = a.id WHERE b.address = $1 AND b.closed IS NULL", args![address])
        .await?;
    let (account, kept) = match &row {
        Some(row) => (Some(AccountId(row.get::<Uuid>("id")?)), row.get::<Option<String>>("password")?),
        None => (None, None),
    };
    let known = kept.is_some();
    let turn = turn_to_hash(&hub).await?;
    let right = tokio::task::spawn_blocking(move || {
        // Held until the work is done, also when the request is dropped meanwhile.
        let _turn = turn;
        // Made by whoever comes first, so that an unknown address does not answer later than a known one.
        let decoy = decoy();
        verifies(&password, kept.as_deref().unwrap_or(decoy))
    })
    .await?;
    let Some(account) = account.filter(|_| right && known) else {
        return Err(ProblemCode::SignInRefused.into());
    };

    let now = hub.now();
    let seconds = hub.options().session_seconds;
    let secret = new_secret()?;
    let mut tx = hub.db().write().await?;
    tx.execute(
        "INSERT INTO sessions (id, account, secret, created, seen, expires) VALUES ($1, $2, $3, $4, $4, $5)",
        args![Uuid::now_v7(), account.0, secret_digest(&secret), now, now.plus_seconds(seconds)],
    )
    .await?;
    Event::new("session.opened").by(account).write(&mut tx, now).await?;
    tx.commit().await?;
    let cookie = format!(
        "{SESSION_COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={seconds}",
        secret.as_str()
    );
    let mut cookie = HeaderValue::from_str(&cookie).map_err(Fault::internal)?;
    cookie.set_sensitive(true);
    Ok((StatusCode::CREATED, [(header::SET_COOKIE, cookie)]).into_response())
}

/// DELETE /session.
pub(crate) async fn sign_out(State(hub): State<Hub>, caller: Caller) -> Result<Response> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    if let Some(session) = caller.session {
        tx.execute("DELETE FROM sessions WHERE id = $1", args![session]).await?;
        Event::new("session.closed").by(&caller).write(&mut tx, now).await?;
    }
    tx.commit().await?;
    let gone = format!("{SESSION_COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0");
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, gone)]).into_response())
}

/// GET /me.
pub(crate) async fn me(State(hub): State<Hub>, caller: Caller) -> Result<Json<Me>> {
    let mut tx = hub.db().read().await?;
    let row = tx
        .one(
            "SELECT a.address, a.name, o.name AS organisation, o.quota, o.used
             FROM boxes a JOIN organisations o ON o.id = a.organisation WHERE a.id = $1",
            args![caller.account.0],
        )
        .await?;
    let options = hub.options();
    let (least, most, _) = deposits::retention_bounds(&hub, &mut tx, caller.organisation).await?;
    let bytes = |column: &str| -> Result<u64> { Ok(u64::try_from(row.get::<i64>(column)?).unwrap_or(0)) };
    Ok(Json(Me {
        account: Account {
            id: caller.account,
            address: row.get("address")?,
            name: row.get("name")?,
            organisation: row.get("organisation")?,
        },
        limits: Limits {
            max_size: options.max_size,
            quota: bytes("quota")?,
            used: bytes("used")?,
            retention_days_min: least,
            retention_days_max: most,
            pending_uploads: options.pending_uploads,
        },
        roles: roles::held(&mut tx, caller.account).await?,
        services: services::shared_with(&mut tx, caller.account).await?,
        delegations: delegations::usable(&mut tx, caller.account, hub.now()).await?,
    }))
}

/// Makes a token; its secret is in the answer and nowhere else.
pub(crate) async fn issue_token(
    hub: &Hub,
    tx: &mut Tx,
    account: AccountId,
    new: &NewToken,
) -> Result<IssuedToken> {
    let name = new.name.trim();
    let odd = name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control);
    if odd || !(1..=366).contains(&new.days) {
        return Err(Fault::because(
            ProblemCode::Invalid,
            "Un nom (100 caractères au plus) et une durée de 1 à 366 jours.",
        ));
    }
    let (id, now, secret) = (TokenId::new(), hub.now(), new_secret()?);
    let expires = now.plus_seconds(i64::from(new.days) * 86_400);
    tx.execute(
        "INSERT INTO access_tokens (id, account, name, secret, created, expires) VALUES ($1, $2, $3, $4, $5, $6)",
        args![id.0, account.0, name, secret_digest(&secret), now, expires],
    )
    .await?;
    Event::new("token.issued").by(account).detail(serde_json::json!({ "token": id })).write(tx, now).await?;
    Ok(IssuedToken { id, token: secret.to_string(), expires })
}

/// POST /tokens. A token makes no token: whoever steals one cannot outlive it.
pub(crate) async fn create_token(
    State(hub): State<Hub>,
    caller: Caller,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, Json<IssuedToken>)> {
    if caller.session.is_none() {
        return Err(ProblemCode::Forbidden.into());
    }
    let mut tx = hub.db().write().await?;
    let token = issue_token(&hub, &mut tx, caller.account, &new).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(token)))
}

/// GET /tokens: those that still open something.
pub(crate) async fn list_tokens(State(hub): State<Hub>, caller: Caller) -> Result<Json<Vec<Token>>> {
    let mut tx = hub.db().read().await?;
    let rows = tx
        .rows(
            "SELECT id, name, created, expires FROM access_tokens
             WHERE account = $1 AND revoked IS NULL AND expires > $2 ORDER BY id",
            args![caller.account.0, hub.now()],
        )
        .await?;
    let token = |row: &Row| -> Result<Token> {
        Ok(Token {
            id: TokenId(row.get("id")?),
            name: row.get("name")?,
            created: row.get("created")?,
            expires: row.get("expires")?,
        })
    };
    Ok(Json(rows.iter().map(token).collect::<Result<_>>()?))
}

/// DELETE /tokens/{id}.
pub(crate) async fn revoke_token(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<TokenId>,
) -> Result<StatusCode> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let revoked = tx
        .execute(
            "UPDATE access_tokens SET revoked = $3 WHERE id = $1 AND account = $2 AND revoked IS NULL",
            args![id.0, caller.account.0, now],
        )
        .await?;
    if revoked == 0 {
        return Err(ProblemCode::NotFound.into());
    }
    Event::new("token.revoked")
        .by(&caller)
        .detail(serde_json::json!({ "token": id }))
        .write(&mut tx, now)
        .await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The account behind a session's or a token's secret, and the session's id.
pub(crate) async fn account_of(hub: &Hub, secret: &str, now: Time, cookie: bool) -> Result<Option<Caller>> {
    let sql = if cookie {
        "SELECT s.id AS credential, a.id, a.organisation FROM sessions s JOIN boxes a ON a.id = s.account
         WHERE s.secret = $1 AND s.expires > $2 AND a.closed IS NULL"
    } else {
        "SELECT t.id AS credential, a.id, a.organisation FROM access_tokens t JOIN boxes a ON a.id = t.account
         WHERE t.secret = $1 AND t.expires > $2 AND t.revoked IS NULL AND a.closed IS NULL"
    };
    let row = hub.db().optional(sql, args![secret_digest(secret), now]).await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Caller {
        account: AccountId(row.get("id")?),
        organisation: OrganisationId(row.get("organisation")?),
        session: if cookie { Some(row.get("credential")?) } else { None },
        acting: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_form() {
        assert_eq!(
            address("  Greffe.Instruction@Tribunal.Example ").unwrap(),
            "greffe.instruction@tribunal.example"
        );
        for bad in [
            "",
            "a",
            "@b",
            "a@",
            "a@b@c",
            "a b@c",
            "a@b\nc",
            "a\u{202e}@b",
            "a\u{200b}@b",
            "<a@b>",
            "a@b,c@d",
        ] {
            assert!(address(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn passwords_are_argon2id_and_salted() {
        let (a, b) = (hash_password("un mot de passe").unwrap(), hash_password("un mot de passe").unwrap());
        assert!(a.starts_with("$argon2id$") && a != b);
        assert!(verifies("un mot de passe", &a) && !verifies("un autre", &a));
        assert!(!verifies("", "not a hash"));
    }
}
