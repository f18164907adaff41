//! Invitations: how someone sets their first password, or a new one after they had left.
//!
//! Owns the table `invitations`. The secret is made when the mail is written ([`letter`]), goes into that mail
//! and nowhere else: table, job, journal, logs and answers hold its digest at most. Must never open an account
//! to anyone but whoever reads the mail of its address.

use crate::Hub;
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::mail::Refusal;
use crate::{jobs, people, texts};
use axum::Json;
use axum::extract::State;
use pli_api::{AcceptInvitation, AcceptedInvitation, AccountId, ProblemCode, Time};
use pli_storage::{AT_ONCE, Job, NewJob, Tx, args};
use uuid::Uuid;
use zeroize::Zeroizing;

/// The job that writes the mail: its payload names the invitation, and nothing else.
pub(crate) const SEND: &str = "invitation.send";

/// What an invitation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To come in for the first time.
    Join,
    /// To come back after an opt-out.
    Return,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Return => "return",
        }
    }

    /// How long the mail's secret is of use, in seconds. Whoever asked for it waits for it; whoever is on the
    /// list may be away.
    const fn seconds(self) -> i64 {
        match self {
            Self::Join => 30 * 86_400,
            Self::Return => 86_400,
        }
    }
}

/// Invites, instead of any invitation before.
pub(crate) async fn invite(tx: &mut Tx, now: Time, account: AccountId, purpose: Purpose) -> Result<()> {
    end(tx, now, account).await?;
    invite_new(tx, now, account, purpose).await
}

/// Invites someone who has no other invitation.
pub(crate) async fn invite_new(tx: &mut Tx, now: Time, account: AccountId, purpose: Purpose) -> Result<()> {
    let id = Uuid::now_v7();
    tx.execute(
        "INSERT INTO invitations (id, account, purpose, created) VALUES ($1, $2, $3, $4)",
        args![id, account.0, purpose.as_str(), now],
    )
    .await?;
    let payload = serde_json::json!({ "invitation": id });
    tx.enqueue(NewJob { kind: SEND, payload, run_at: AT_ONCE, unique: Some(&id.to_string()) }).await?;
    Ok(())
}

/// Makes every unused invitation of an account useless, also one whose mail is yet to be written.
pub(crate) async fn end(tx: &mut Tx, now: Time, account: AccountId) -> Result<()> {
    let sql = "UPDATE invitations SET expires = $2 WHERE account = $1 AND used IS NULL AND (expires IS NULL OR expires > $2)";
    tx.execute(sql, args![account.0, now]).await?;
    Ok(())
}

/// What the mail of an invitation says.
pub(crate) struct Letter {
    /// To whom.
    pub(crate) address: String,
    /// Their name.
    pub(crate) name: String,
    /// Why.
    pub(crate) purpose: Purpose,
    /// The secret, for `POST /invitations/accept`.
    pub(crate) secret: Zeroizing<String>,
    /// Until when it is of use.
    pub(crate) expires: Time,
}

/// Makes the secret of an invitation, in the transaction of the job that sends it; none when there is no longer
/// a reason to send it. A mail that is written anew has another secret, and the one before opens nothing.
pub(crate) async fn letter(tx: &mut Tx, now: Time, id: Uuid) -> Result<Option<Letter>> {
    let row = tx
        .optional(
            "SELECT i.purpose, i.secret, i.expires, b.address, b.name FROM invitations i
             JOIN accounts a ON a.id = i.account JOIN boxes b ON b.id = i.account
             WHERE i.id = $1 AND i.used IS NULL AND (
                (i.purpose = 'join' AND a.opted_out IS NULL AND a.password IS NULL AND b.closed IS NULL)
                OR (i.purpose = 'return' AND a.opted_out IS NOT NULL))",
            args![id],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let ended = row.get::<Option<Time>>("expires")?.is_some_and(|expires| expires <= now);
    if ended {
        return Ok(None);
    }
    let purpose = match row.get::<String>("purpose")?.as_str() {
        "join" => Purpose::Join,
        "return" => Purpose::Return,
        other => return Err(Fault::internal(format!("unknown purpose of an invitation: {other}"))),
    };
    let (secret, expires) = (people::new_secret()?, now.plus_seconds(purpose.seconds()));
    tx.execute(
        "UPDATE invitations SET secret = $2, expires = $3 WHERE id = $1 AND used IS NULL",
        args![id, people::secret_digest(&secret), expires],
    )
    .await?;
    Ok(Some(Letter { address: row.get("address")?, name: row.get("name")?, purpose, secret, expires }))
}

/// The job: makes the secret and mails it. What could not be handed over is made and mailed anew.
pub(crate) async fn send(hub: &Hub, job: &Job) -> Result<()> {
    let id: Uuid = serde_json::from_value(job.payload["invitation"].clone()).map_err(Fault::internal)?;
    let mail = hub.mail().ok_or_else(|| Fault::unavailable("no mail server is configured here"))?;
    let mut tx = hub.db().write().await?;
    let Some(letter) = letter(&mut tx, hub.now(), id).await? else {
        tx.rollback().await?;
        return jobs::complete_alone(hub, job).await;
    };
    tx.commit().await?;
    let back = letter.purpose == Purpose::Return;
    let parts = texts::invitation(back, letter.expires, mail.public_url(), &letter.secret);
    let to = (letter.address.as_str(), letter.name.as_str());
    let composed = mail.compose(to, texts::INVITATION_SUBJECT, &parts, id, hub.now(), None);
    let sent = match composed {
        Ok(message) => mail.send(message).await,
        Err(refusal) => Err(refusal),
    };
    match sent {
        Ok(()) => jobs::complete_alone(hub, job).await,
        Err(Refusal::Passing(fault)) => Err(fault),
        Err(Refusal::Permanent(code)) => {
            let (now, detail) = (hub.now(), serde_json::json!({ "invitation": id, "code": code }));
            let mut tx = hub.db().write().await?;
            Event::new("invitation.refused").detail(detail).write(&mut tx, now).await?;
            if tx.complete(job).await? {
                tx.commit().await?;
            }
            Ok(())
        }
    }
}

/// The most characters of a password: what is hashed is bounded.
const PASSWORD_MAX: usize = 1000;

/// POST /invitations/accept. Whoever has the secret reads the mail of the account's address; it works once.
pub(crate) async fn accept(
    State(hub): State<Hub>,
    Json(given): Json<AcceptInvitation>,
) -> Result<Json<AcceptedInvitation>> {
    let (secret, password) = (Zeroizing::new(given.secret), Zeroizing::new(given.password));
    if !(12..=PASSWORD_MAX).contains(&password.chars().count()) {
        let why = format!("Mot de passe : de 12 à {PASSWORD_MAX} caractères.");
        return Err(Fault::because(ProblemCode::Invalid, why));
    }
    let none = || Fault::because(ProblemCode::NotFound, "Invitation inconnue, déjà utilisée ou passée.");
    // Looked up before anything is hashed: a guess costs nothing but a look.
    let row = hub
        .db()
        .optional(
            "SELECT i.id, i.account, i.purpose FROM invitations i
             JOIN accounts a ON a.id = i.account JOIN boxes b ON b.id = i.account
             WHERE i.secret = $1 AND i.used IS NULL AND i.expires > $2 AND (
                (i.purpose = 'join' AND a.opted_out IS NULL AND a.password IS NULL AND b.closed IS NULL)
                OR (i.purpose = 'return' AND a.opted_out IS NOT NULL))",
            args![people::secret_digest(&secret), hub.now()],
        )
        .await?
        .ok_or_else(none)?;
    let (id, account) = (row.get::<Uuid>("id")?, AccountId(row.get("account")?));
    let returns = row.get::<String>("purpose")? == Purpose::Return.as_str();
    let hash = people::hash_in_turn(&hub, password).await?;

    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let sql = "UPDATE invitations SET used = $2 WHERE id = $1 AND used IS NULL AND expires > $2";
    if tx.execute(sql, args![id, now]).await? == 0 {
        return Err(none());
    }
    let condition = if returns { "opted_out IS NOT NULL" } else { "opted_out IS NULL AND password IS NULL" };
    let sql = crate::uploads::const_sql(&[
        "UPDATE accounts SET password = $2, opted_out = NULL WHERE id = $1 AND ",
        condition,
        " RETURNING delisted",
    ]);
    let row = tx.optional(sql, args![account.0, hash]).await?.ok_or_else(none)?;
    if returns && row.get::<Option<Time>>("delisted")?.is_none() {
        let sql = "UPDATE boxes SET closed = NULL, version = version + 1 WHERE id = $1";
        tx.execute(sql, args![account.0]).await?;
    }
    end(&mut tx, now, account).await?;
    let kind = if returns { "account.opted_in" } else { "account.joined" };
    Event::new(kind)
        .by(account)
        .detail(serde_json::json!({ "account": account }))
        .write(&mut tx, now)
        .await?;
    let open = tx.one("SELECT closed FROM boxes WHERE id = $1", args![account.0]).await?;
    let open = open.get::<Option<Time>>("closed")?.is_none();
    tx.commit().await?;
    Ok(Json(AcceptedInvitation { open }))
}
