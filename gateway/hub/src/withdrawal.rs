//! An expert's withdrawal (droit d'opposition, RGPD art. 21), and the way back.
//!
//! The account then opens nothing and receives nothing: sessions, tokens, delegations and invitations end, the
//! password is deleted, the box closes and leaves the directory. What the law keeps stays: the journal, what was
//! sent and received until it expires, and the address, so that no list makes the account anew.
//!
//! The way back is the mailbox of the address on record and nothing else. Anyone may ask ([`opt_in`]); only whoever
//! reads that mail gets further. Neither a manager, the operator's commands nor an import of the list reopens the
//! account, and the import leaves its address as it is, so that nobody can send the mail elsewhere.

use crate::access::{Caller, SESSION_COOKIE};
use crate::fault::Result;
use crate::invitations::{self, Purpose};
use crate::journal::Event;
use crate::{Hub, delegations, people};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use pli_api::{AccountId, OptIn, ProblemCode, Time};
use pli_storage::{Tx, args};
use std::sync::Arc;

/// Seconds between two invitations to come back that one account is sent.
const BETWEEN: i64 = 3600;

/// Ends everything by which an account is used, and closes its box; gives whether the box was open. The account's
/// row has to be held by the caller's transaction.
pub(crate) async fn shut(tx: &mut Tx, now: Time, account: AccountId) -> Result<bool> {
    let sql = "UPDATE boxes SET closed = $2, version = version + 1 WHERE id = $1 AND closed IS NULL";
    let closed = tx.execute(sql, args![account.0, now]).await?;
    tx.execute("DELETE FROM sessions WHERE account = $1", args![account.0]).await?;
    let sql = "UPDATE access_tokens SET revoked = $2 WHERE account = $1 AND revoked IS NULL";
    tx.execute(sql, args![account.0, now]).await?;
    delegations::end_all(tx, now, account).await?;
    invitations::end(tx, now, account).await?;
    Ok(closed > 0)
}

/// POST /me/opt-out, by an expert, signed in: a stolen token must not be able to.
pub(crate) async fn opt_out(State(hub): State<Hub>, caller: Caller) -> Result<Response> {
    if caller.session.is_none() {
        return Err(ProblemCode::Forbidden.into());
    }
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let gone = tx
        .execute(
            "UPDATE accounts SET opted_out = $2, password = NULL WHERE id = $1 AND opted_out IS NULL
             AND (expert_number IS NOT NULL
                OR EXISTS (SELECT 1 FROM roles r WHERE r.account = $1 AND r.role = 'expert'))",
            args![caller.account.0, now],
        )
        .await?;
    if gone == 0 {
        return Err(ProblemCode::Forbidden.into());
    }
    shut(&mut tx, now, caller.account).await?;
    let detail = serde_json::json!({ "account": caller.account });
    Event::new("account.opted_out").by(&caller).detail(detail).write(&mut tx, now).await?;
    tx.commit().await?;
    let cookie = format!("{SESSION_COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0");
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// POST /opt-in: asks for the mail by which one comes back. The answer is the same whoever asks for whichever
/// address, and does not wait for the work: neither says who has left.
pub(crate) async fn opt_in(State(hub): State<Hub>, Json(asked): Json<OptIn>) -> Result<StatusCode> {
    let Ok(turn) = Arc::clone(&hub.inner.returning).try_acquire_owned() else {
        return Err(ProblemCode::TooMany.into());
    };
    if let Ok(address) = people::address(&asked.address) {
        tokio::spawn(async move {
            let _turn = turn;
            if let Err(fault) = offer_return(&hub, &address).await {
                tracing::warn!(error = %fault, "an invitation to come back could not be made");
            }
        });
    }
    Ok(StatusCode::ACCEPTED)
}

async fn offer_return(hub: &Hub, address: &str) -> Result<()> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let sql = "SELECT a.id FROM accounts a JOIN boxes b ON b.id = a.id WHERE b.address = $1 AND a.opted_out IS NOT NULL";
    let Some(row) = tx.optional(sql, args![address]).await? else { return Ok(()) };
    let account = AccountId(row.get("id")?);
    // Asked twice at once, mailed once.
    tx.lock(&format!("invitations of {account}")).await?;
    let sql = "SELECT id FROM invitations WHERE account = $1 AND purpose = $2 AND created > $3";
    let recent = tx.optional(sql, args![account.0, "return", now.plus_seconds(-BETWEEN)]).await?;
    if recent.is_some() {
        return Ok(());
    }
    invitations::invite(&mut tx, now, account, Purpose::Return).await?;
    // Without an actor: who asked is not known yet.
    let detail = serde_json::json!({ "account": account });
    Event::new("account.return_asked").detail(detail).write(&mut tx, now).await?;
    tx.commit().await?;
    hub.inner.bell.notify_waiters();
    Ok(())
}
