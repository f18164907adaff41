//! Notices: that something waits, told to a box by mail, in the portal and to its information system.
//!
//! Owns the tables of notices, preferences, bounces and mail certificates. [`tell`] writes a notice in the
//! transaction of the act; who gets it and how is decided by a job, and each mail is a job. Must never carry
//! content, or tell anyone but the box, the members of a service, and the substitutes of who is away.

use crate::access::{Actor, Caller};
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::mail::{Mail, Refusal};
use crate::{Hub, jobs, roles, texts, webhooks};
use axum::Json;
use axum::extract::{Query, State};
use http::StatusCode;
use pli_api::{
    AccountId, Bounce, BoxId, Certificate, Channel, DepositId, DocumentId, MessageId, Notice, NoticeId,
    NoticeKind, NoticePreference, NoticeReason, NoticeTiming, OrganisationId, Page, ProblemCode, ProcedureId,
    SetPreference, Time,
};
use pli_storage::{AT_ONCE, Job, NewJob, Row, Tx, args};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};
use uuid::Uuid;

/// The job that finds who gets a notice.
pub(crate) const DISPATCH: &str = "notice.dispatch";
/// The job that mails one copy of a notice.
pub(crate) const MAIL: &str = "notice.mail";
/// The job that mails a person's digest.
pub(crate) const DIGEST: &str = "notice.digest";

/// How long a server may put a mail off until it counts as refused (RFC 5321, 4.5.4.1: four to five days).
const PATIENCE_DAYS: i64 = 5;
/// Days that notices, their copies and their deliveries stay. The journal keeps what is evidence.
const KEPT_DAYS: i64 = 180;
/// Notices of one digest; the rest goes with the next.
const DIGEST_MAX: i64 = 500;
const DAY: i64 = 86_400;

/// What a notice is about, and when it happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    at: Time,
    deposit: Option<DepositId>,
    document: Option<DocumentId>,
    procedure: Option<ProcedureId>,
    message: Option<MessageId>,
}

impl About {
    /// About nothing yet, at the instant of the act.
    pub(crate) fn at(now: Time) -> Self {
        Self { at: now, deposit: None, document: None, procedure: None, message: None }
    }

    /// This deposit.
    pub(crate) fn deposit(mut self, deposit: DepositId) -> Self {
        self.deposit = Some(deposit);
        self
    }

    /// This document.
    pub(crate) fn document(mut self, document: DocumentId) -> Self {
        self.document = Some(document);
        self
    }

    /// In this procedure: it reaches substitutes whose delegation is limited to it.
    pub(crate) fn procedure(mut self, procedure: impl Into<Option<ProcedureId>>) -> Self {
        self.procedure = procedure.into();
        self
    }

    /// This message.
    pub(crate) fn message(mut self, message: MessageId) -> Self {
        self.message = Some(message);
        self
    }
}

/// Tells a box of something, once this transaction is committed. The caller rings the bell.
pub(crate) async fn tell(tx: &mut Tx, kind: NoticeKind, to: BoxId, about: About) -> Result<()> {
    let id = NoticeId::new();
    tx.execute(
        "INSERT INTO notices (id, kind, box, deposit, document, procedure, message, created)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        args![
            id.0,
            kind.as_str(),
            to.0,
            about.deposit.map(|d| d.0),
            about.document.map(|d| d.0),
            about.procedure.map(|p| p.0),
            about.message.map(|m| m.0),
            about.at
        ],
    )
    .await?;
    let payload = serde_json::json!({ "notice": id });
    tx.enqueue(NewJob { kind: DISPATCH, payload, run_at: AT_ONCE, unique: None }).await?;
    Ok(())
}

/// Tells every recipient of a deposit that it is at their disposal.
pub(crate) async fn deposit_available(tx: &mut Tx, now: Time, deposit: DepositId) -> Result<()> {
    let sql = "SELECT box FROM recipients WHERE deposit = $1 AND withdrawn IS NULL ORDER BY box";
    for row in tx.rows(sql, args![deposit.0]).await? {
        let about = About::at(now).deposit(deposit);
        tell(tx, NoticeKind::DepositAvailable, BoxId(row.get("box")?), about).await?;
    }
    Ok(())
}

/// Tells the sender of a deposit that a recipient has downloaded of it, the first time. To be called before the
/// download's end is written.
pub(crate) async fn deposit_downloaded(
    tx: &mut Tx,
    now: Time,
    deposit: DepositId,
    actor: Actor,
) -> Result<()> {
    let reader = actor.on_behalf.unwrap_or(actor.person);
    let row = tx
        .optional(
            "SELECT p.sender FROM deposits p WHERE p.id = $1 AND EXISTS (
                 SELECT 1 FROM recipients r WHERE r.deposit = p.id AND r.withdrawn IS NULL
                 AND r.box IN (SELECT id FROM boxes WHERE id = $2
                     UNION ALL SELECT service FROM service_members WHERE account = $2))
             AND NOT EXISTS (SELECT 1 FROM events e WHERE e.deposit = p.id AND e.kind = 'download.completed'
                 AND COALESCE(e.on_behalf, e.actor) = $2)",
            args![deposit.0, reader.0],
        )
        .await?;
    match row {
        Some(row) => {
            let about = About::at(now).deposit(deposit);
            tell(tx, NoticeKind::DepositDownloaded, BoxId(row.get("sender")?), about).await
        }
        None => Ok(()),
    }
}

fn word<T: std::str::FromStr<Err = String>>(row: &Row, column: &str) -> Result<T> {
    row.get::<String>(column)?.parse().map_err(|e: String| Fault::internal(e))
}

fn id_of(job: &Job, field: &str) -> Result<Uuid> {
    serde_json::from_value(job.payload[field].clone()).map_err(Fault::internal)
}

/// Who gets a notice: the person, or the members of the service; and whoever replaces one of them today. Closed
/// accounts and those that were opted out of get nothing. `$1` the box, `$2` the procedure, `$3` the instant.
const PEOPLE: &str = "
    WITH people AS (
        SELECT id AS account, 'own' AS reason FROM accounts WHERE id = $1
        UNION ALL SELECT account, 'member' AS reason FROM service_members WHERE service = $1),
    reached AS (
        SELECT account, reason FROM people
        UNION ALL SELECT d.delegate AS account, 'substitute' AS reason
        FROM people p JOIN delegations d ON d.delegator = p.account
        WHERE d.kind = 'absence' AND d.revoked IS NULL AND d.starts <= $3 AND d.ends > $3
        AND (d.procedure IS NULL OR d.procedure = $2))
    SELECT r.account, r.reason FROM reached r
    JOIN accounts a ON a.id = r.account JOIN boxes b ON b.id = r.account
    WHERE b.closed IS NULL AND (a.opted_out IS NULL OR a.opted_out > $3)";

/// The job: a copy for each person, a delivery for each webhook.
pub(crate) async fn dispatch(hub: &Hub, job: &Job) -> Result<()> {
    let (id, now) = (id_of(job, "notice")?, hub.now());
    let mut tx = hub.db().write().await?;
    let sql = "SELECT n.kind, n.box, n.procedure, b.organisation FROM notices n JOIN boxes b ON b.id = n.box WHERE n.id = $1";
    let Some(row) = tx.optional(sql, args![id]).await? else {
        drop(tx);
        return jobs::complete_alone(hub, job).await;
    };
    let kind: NoticeKind = word(&row, "kind")?;
    let rows =
        tx.rows(PEOPLE, args![row.get::<Uuid>("box")?, row.get::<Option<Uuid>>("procedure")?, now]).await?;
    let mut people: BTreeMap<Uuid, NoticeReason> = BTreeMap::new();
    for row in &rows {
        // The reason nearest to the person is the one that they are told.
        let reason: NoticeReason = word(row, "reason")?;
        let rank = |reason: NoticeReason| NoticeReason::ALL.iter().position(|r| *r == reason);
        people
            .entry(row.get("account")?)
            .and_modify(|kept| {
                if rank(reason) < rank(*kept) {
                    *kept = reason;
                }
            })
            .or_insert(reason);
    }
    for (account, reason) in people {
        copy(hub, &mut tx, now, NoticeId(id), kind, AccountId(account), reason).await?;
    }
    webhooks::dispatch(&mut tx, now, OrganisationId(row.get("organisation")?), NoticeId(id), kind).await?;
    if tx.complete(job).await? {
        tx.commit().await?;
        hub.inner.bell.notify_waiters();
    }
    Ok(())
}

async fn copy(
    hub: &Hub,
    tx: &mut Tx,
    now: Time,
    notice: NoticeId,
    kind: NoticeKind,
    account: AccountId,
    reason: NoticeReason,
) -> Result<()> {
    let shown = timing(tx, account, kind, Channel::Portal).await? != NoticeTiming::None;
    let (mail, due) = match (timing(tx, account, kind, Channel::Mail).await?, hub.mail()) {
        (NoticeTiming::None, _) | (_, None) => ("none", None),
        (NoticeTiming::AtOnce, Some(_)) => ("waiting", None),
        (NoticeTiming::Daily, Some(mail)) => ("daily", Some(mail.next_digest(now))),
    };
    let id = Uuid::now_v7();
    let made = tx
        .execute(
            "INSERT INTO notice_copies (id, notice, account, reason, shown, mail, due) VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (notice, account) DO NOTHING",
            args![id, notice.0, account.0, reason.as_str(), shown, mail, due],
        )
        .await?;
    if made == 1 && mail == "waiting" {
        let payload = serde_json::json!({ "copy": id });
        tx.enqueue(NewJob { kind: MAIL, payload, run_at: AT_ONCE, unique: None }).await?;
    }
    Ok(())
}

/// When a person wants to be told. A choice that is no longer offered does not count.
async fn timing(tx: &mut Tx, account: AccountId, kind: NoticeKind, channel: Channel) -> Result<NoticeTiming> {
    let row = tx
        .optional(
            "SELECT timing FROM notice_preferences WHERE account = $1 AND kind = $2 AND channel = $3",
            args![account.0, kind.as_str(), channel.as_str()],
        )
        .await?;
    let chosen = row.map(|row| word::<NoticeTiming>(&row, "timing")).transpose()?;
    Ok(chosen.filter(|t| kind.choices(channel).contains(t)).unwrap_or(kind.usual(channel)))
}

/// A copy of a notice that is mailed.
struct Copy {
    id: Uuid,
    notice: NoticeId,
    kind: NoticeKind,
    deposit: Option<Uuid>,
    created: Time,
}

impl Copy {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            notice: NoticeId(row.get("notice")?),
            kind: word(row, "kind")?,
            deposit: row.get("deposit")?,
            created: row.get("created")?,
        })
    }
}

/// Where a person's mail goes.
struct Addressee {
    account: AccountId,
    address: String,
    name: String,
    certificate: Option<Vec<u8>>,
}

impl Addressee {
    async fn load(tx: &mut Tx, account: AccountId) -> Result<Self> {
        let row = tx
            .one(
                "SELECT b.address, b.name, c.certificate FROM boxes b LEFT JOIN box_certificates c ON c.box = b.id
                 WHERE b.id = $1",
                args![account.0],
            )
            .await?;
        Ok(Self {
            account,
            address: row.get("address")?,
            name: row.get("name")?,
            certificate: row.get("certificate")?,
        })
    }
}

/// The job: one mail.
pub(crate) async fn mail(hub: &Hub, job: &Job) -> Result<()> {
    let id = id_of(job, "copy")?;
    let mut tx = hub.db().read().await?;
    let row = tx
        .optional(
            "SELECT c.id, c.notice, c.account, c.reason, n.kind, n.deposit, n.created
             FROM notice_copies c JOIN notices n ON n.id = c.notice WHERE c.id = $1 AND c.mail = 'waiting'",
            args![id],
        )
        .await?;
    let Some(row) = row else {
        drop(tx);
        return jobs::complete_alone(hub, job).await;
    };
    let to = Addressee::load(&mut tx, AccountId(row.get("account")?)).await?;
    drop(tx);
    let copy = Copy::from_row(&row)?;
    let reason: NoticeReason = word(&row, "reason")?;
    let mail = hub.mail().ok_or_else(|| Fault::unavailable("no mail server is configured here"))?;
    let parts = texts::single(copy.kind, reason, mail.public_url());
    let outcome = deliver(hub, mail, &to, texts::of(copy.kind).subject, &parts, id).await;
    settle(hub, job, &to, &[copy], outcome).await
}

/// The job: the mail of a person's day.
pub(crate) async fn digest(hub: &Hub, job: &Job) -> Result<()> {
    let account = AccountId(id_of(job, "account")?);
    let mut tx = hub.db().read().await?;
    let rows = tx
        .rows(
            "SELECT c.id, c.notice, n.kind, n.deposit, n.created FROM notice_copies c JOIN notices n ON n.id = c.notice
             WHERE c.account = $1 AND c.mail = 'gathered' ORDER BY c.id LIMIT $2",
            args![account.0, DIGEST_MAX],
        )
        .await?;
    if rows.is_empty() {
        drop(tx);
        return jobs::complete_alone(hub, job).await;
    }
    let to = Addressee::load(&mut tx, account).await?;
    drop(tx);
    let copies = rows.iter().map(Copy::from_row).collect::<Result<Vec<_>>>()?;
    let count = |kind: &NoticeKind| (*kind, copies.iter().filter(|copy| copy.kind == *kind).count());
    let counts: Vec<_> = NoticeKind::ALL.iter().map(count).filter(|(_, count)| *count > 0).collect();
    let mail = hub.mail().ok_or_else(|| Fault::unavailable("no mail server is configured here"))?;
    let parts = texts::digest(&counts, mail.public_url());
    let outcome = deliver(hub, mail, &to, texts::DIGEST_SUBJECT, &parts, job.id.0).await;
    settle(hub, job, &to, &copies, outcome).await
}

async fn deliver(
    hub: &Hub,
    mail: &Mail,
    to: &Addressee,
    subject: &str,
    parts: &[texts::Part],
    id: Uuid,
) -> Result<(), Refusal> {
    let person = (to.address.as_str(), to.name.as_str());
    let message = mail.compose(person, subject, parts, id, hub.now(), to.certificate.as_deref())?;
    mail.send(message).await
}

/// Writes down what became of a mail; a passing refusal goes back to the job's own patience, for some days.
async fn settle(
    hub: &Hub,
    job: &Job,
    to: &Addressee,
    copies: &[Copy],
    outcome: Result<(), Refusal>,
) -> Result<()> {
    let now = hub.now();
    let oldest = copies.iter().map(|copy| copy.created).min().unwrap_or(now);
    let code = match outcome {
        Ok(()) => None,
        Err(Refusal::Permanent(code)) => Some(code),
        Err(Refusal::Passing(fault)) if now < oldest.plus_seconds(PATIENCE_DAYS * DAY) => return Err(fault),
        Err(Refusal::Passing(_)) => Some(None),
    };
    let mut tx = hub.db().write().await?;
    let (state, event) = if code.is_none() { ("sent", "notice.sent") } else { ("bounced", "notice.bounced") };
    for copy in copies {
        let sql = "UPDATE notice_copies SET mail = $2, settled = $3 WHERE id = $1 AND mail IN ('waiting', 'gathered')";
        if tx.execute(sql, args![copy.id, state, now]).await? == 0 {
            continue;
        }
        let mut detail = serde_json::json!({ "notice": copy.notice, "about": copy.kind, "to": to.account });
        if let Some(code) = code {
            detail["code"] = code.into();
        }
        let mut event = Event::new(event).detail(detail);
        if let Some(deposit) = copy.deposit {
            event = event.deposit(DepositId(deposit));
        }
        event.write(&mut tx, now).await?;
    }
    if let Some(code) = code {
        bounced(&mut tx, now, to.account, copies, code).await?;
    } else {
        tx.execute("DELETE FROM bounces WHERE box = $1", args![to.account.0]).await?;
    }
    if tx.complete(job).await? {
        tx.commit().await?;
        hub.inner.bell.notify_waiters();
        metrics::counter!("pli_mails_total", "outcome" => state).increment(1);
    }
    Ok(())
}

/// Marks the box, and the first time tells the senders of what it was to be told of.
async fn bounced(
    tx: &mut Tx,
    now: Time,
    account: AccountId,
    copies: &[Copy],
    code: Option<u16>,
) -> Result<()> {
    let known = tx.optional("SELECT box FROM bounces WHERE box = $1", args![account.0]).await?.is_some();
    tx.execute(
        "INSERT INTO bounces (box, since, last, code) VALUES ($1, $2, $2, $3)
         ON CONFLICT (box) DO UPDATE SET last = excluded.last, code = excluded.code",
        args![account.0, now, code.map(i64::from)],
    )
    .await?;
    if known {
        return Ok(());
    }
    for copy in copies {
        let Some(deposit) = copy.deposit.filter(|_| copy.kind == NoticeKind::DepositAvailable) else {
            continue;
        };
        let row = tx.optional("SELECT sender FROM deposits WHERE id = $1", args![deposit]).await?;
        let Some(sender) = row.map(|row| row.get::<Uuid>("sender")).transpose()? else { continue };
        let about = About::at(now).deposit(DepositId(deposit));
        tell(tx, NoticeKind::NoticeBounced, BoxId(sender), about).await?;
    }
    Ok(())
}

/// Hands the digests that are due to their jobs. Part of the sweep.
pub(crate) async fn gather(hub: &Hub) -> Result<()> {
    let now = hub.now();
    let sql = "SELECT DISTINCT account FROM notice_copies WHERE mail = 'daily' AND due <= $1 LIMIT 200";
    for row in hub.db().rows(sql, args![now]).await? {
        let account: Uuid = row.get("account")?;
        let mut tx = hub.db().write().await?;
        let sql =
            "UPDATE notice_copies SET mail = 'gathered' WHERE account = $1 AND mail = 'daily' AND due <= $2";
        if tx.execute(sql, args![account, now]).await? == 0 {
            continue;
        }
        let (payload, unique) = (serde_json::json!({ "account": account }), account.to_string());
        tx.enqueue(NewJob { kind: DIGEST, payload, run_at: AT_ONCE, unique: Some(&unique) }).await?;
        tx.commit().await?;
        hub.inner.bell.notify_waiters();
    }
    Ok(())
}

/// Deletes notices whose time is over, and what belongs to them. Part of the sweep.
pub(crate) async fn forget(hub: &Hub) -> Result<()> {
    let sql = "SELECT id FROM notices WHERE created <= $1 ORDER BY created LIMIT 200";
    let rows = hub.db().rows(sql, args![hub.now().plus_seconds(-KEPT_DAYS * DAY)]).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let mut tx = hub.db().write().await?;
    for row in &rows {
        let id: Uuid = row.get("id")?;
        tx.execute("DELETE FROM notice_copies WHERE notice = $1", args![id]).await?;
        tx.execute("DELETE FROM webhook_deliveries WHERE notice = $1", args![id]).await?;
        tx.execute("DELETE FROM notices WHERE id = $1", args![id]).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// A page of a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageOf {
    after: Option<Uuid>,
    limit: Option<u32>,
}

impl PageOf {
    /// Where the page begins, for lists with the newest first, and how many rows it has.
    pub(crate) fn bounds(&self) -> (Uuid, usize) {
        (self.after.unwrap_or(Uuid::max()), self.limit.unwrap_or(50).clamp(1, 200) as usize)
    }
}

/// GET /notices: the caller's own, the newest first.
pub(crate) async fn list(
    State(hub): State<Hub>,
    caller: Caller,
    Query(page): Query<PageOf>,
) -> Result<Json<Page<Notice>>> {
    let (after, limit) = page.bounds();
    let rows = hub
        .db()
        .rows(
            "SELECT c.id AS copy, c.reason, n.id, n.kind, n.box, n.deposit, n.document, n.procedure, n.message, n.created
             FROM notice_copies c JOIN notices n ON n.id = c.notice
             WHERE c.account = $1 AND c.shown = TRUE AND c.id < $2 ORDER BY c.id DESC LIMIT $3",
            args![caller.account.0, after, (limit as i64).saturating_add(1)],
        )
        .await?;
    let notice = |row: &Row| -> Result<Notice> {
        Ok(Notice {
            id: NoticeId(row.get("id")?),
            kind: word(row, "kind")?,
            which: BoxId(row.get("box")?),
            reason: word(row, "reason")?,
            deposit: row.get::<Option<Uuid>>("deposit")?.map(DepositId),
            document: row.get::<Option<Uuid>>("document")?.map(DocumentId),
            procedure: row.get::<Option<Uuid>>("procedure")?.map(ProcedureId),
            message: row.get::<Option<Uuid>>("message")?.map(MessageId),
            created: row.get("created")?,
        })
    };
    let items = rows.iter().take(limit).map(notice).collect::<Result<_>>()?;
    let last = if rows.len() > limit { rows.get(limit.saturating_sub(1)) } else { None };
    let next = last.map(|row| row.get::<Uuid>("copy")).transpose()?.map(|id| id.to_string());
    Ok(Json(Page { items, next }))
}

async fn chosen(tx: &mut Tx, account: AccountId) -> Result<Vec<NoticePreference>> {
    let mut all = Vec::new();
    for kind in NoticeKind::ALL {
        for channel in Channel::ALL {
            let timing = timing(tx, account, *kind, *channel).await?;
            let choices = kind.choices(*channel).to_vec();
            all.push(NoticePreference { kind: *kind, channel: *channel, timing, choices });
        }
    }
    Ok(all)
}

/// GET /notices/preferences: every kind and channel, with what may be chosen.
pub(crate) async fn preferences(
    State(hub): State<Hub>,
    caller: Caller,
) -> Result<Json<Vec<NoticePreference>>> {
    let mut tx = hub.db().read().await?;
    Ok(Json(chosen(&mut tx, caller.account).await?))
}

/// PUT /notices/preferences: all of the choices given, or none when one of them is not offered.
pub(crate) async fn set_preferences(
    State(hub): State<Hub>,
    caller: Caller,
    Json(given): Json<Vec<SetPreference>>,
) -> Result<Json<Vec<NoticePreference>>> {
    let mut tx = hub.db().write().await?;
    for choice in given {
        if !choice.kind.choices(choice.channel).contains(&choice.timing) {
            let said = format!("« {} » : ce choix n'est pas offert pour cet avis.", choice.kind.as_str());
            return Err(Fault::because(ProblemCode::Invalid, said));
        }
        tx.execute(
            "INSERT INTO notice_preferences (account, kind, channel, timing) VALUES ($1, $2, $3, $4)
             ON CONFLICT (account, kind, channel) DO UPDATE SET timing = excluded.timing",
            args![caller.account.0, choice.kind.as_str(), choice.channel.as_str(), choice.timing.as_str()],
        )
        .await?;
    }
    let all = chosen(&mut tx, caller.account).await?;
    tx.commit().await?;
    Ok(Json(all))
}

/// GET /bounces: boxes whose address refuses mail, among those that the caller's boxes have sent deposits to
/// and, for who manages the organisation, its own.
pub(crate) async fn bounces(
    State(hub): State<Hub>,
    caller: Caller,
    Query(page): Query<PageOf>,
) -> Result<Json<Page<Bounce>>> {
    let (after, limit) = page.bounds();
    let mut tx = hub.db().read().await?;
    let manages = roles::of(&mut tx, caller.account, caller.organisation)
        .await?
        .into_iter()
        .any(|role| roles::allows(role, roles::Permission::Manage));
    let rows = tx
        .rows(
            "SELECT b.id, b.address, b.name, k.since, k.last, k.code FROM bounces k JOIN boxes b ON b.id = k.box
             WHERE b.id < $3 AND (($4 = TRUE AND b.organisation = $1) OR EXISTS (
                 SELECT 1 FROM recipients r JOIN deposits p ON p.id = r.deposit
                 WHERE r.box IN (SELECT b.id UNION ALL SELECT service FROM service_members WHERE account = b.id)
                 AND p.state <> 'draft' AND p.sender IN (SELECT id FROM boxes WHERE id = $2
                     UNION ALL SELECT service FROM service_members WHERE account = $2)))
             ORDER BY b.id DESC LIMIT $5",
            args![caller.organisation.0, caller.account.0, after, manages, (limit as i64).saturating_add(1)],
        )
        .await?;
    let bounce = |row: &Row| -> Result<Bounce> {
        Ok(Bounce {
            which: BoxId(row.get("id")?),
            address: row.get("address")?,
            name: row.get("name")?,
            since: row.get("since")?,
            last: row.get("last")?,
            code: row.get::<Option<i64>>("code")?.and_then(|code| u16::try_from(code).ok()),
        })
    };
    let items: Vec<Bounce> = rows.iter().take(limit).map(bounce).collect::<Result<_>>()?;
    let next = if rows.len() > limit { items.last().map(|b| b.which.to_string()) } else { None };
    Ok(Json(Page { items, next }))
}

/// GET /me/certificate.
pub(crate) async fn certificate(State(hub): State<Hub>, caller: Caller) -> Result<Json<Certificate>> {
    let row = hub
        .db()
        .optional("SELECT fingerprint, added FROM box_certificates WHERE box = $1", args![caller.account.0])
        .await?
        .ok_or(ProblemCode::NotFound)?;
    Ok(Json(Certificate { fingerprint: row.get("fingerprint")?, added: row.get("added")? }))
}

/// PUT /me/certificate: an OpenPGP certificate, armored or not. From then on mail to the caller is encrypted to it.
pub(crate) async fn set_certificate(
    State(hub): State<Hub>,
    caller: Caller,
    body: axum::body::Bytes,
) -> Result<Json<Certificate>> {
    let now = hub.now();
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(now.seconds()).unwrap_or(0));
    let given = body.clone();
    // Many signatures take their time: not on a thread that serves others.
    let parsed = tokio::task::spawn_blocking(move || pli_seal::Recipient::parse(&given, at)).await?;
    let parsed = parsed.map_err(|_| {
        Fault::because(
            ProblemCode::Invalid,
            "Il faut un certificat OpenPGP public, en cours de validité et fait pour le chiffrement.",
        )
    })?;
    let certificate = Certificate { fingerprint: parsed.fingerprint(), added: now };
    let mut tx = hub.db().write().await?;
    tx.execute(
        "INSERT INTO box_certificates (box, certificate, fingerprint, added) VALUES ($1, $2, $3, $4)
         ON CONFLICT (box) DO UPDATE SET certificate = excluded.certificate, fingerprint = excluded.fingerprint,
             added = excluded.added",
        args![caller.account.0, body.to_vec(), certificate.fingerprint.as_str(), now],
    )
    .await?;
    let detail = serde_json::json!({ "fingerprint": certificate.fingerprint });
    Event::new("certificate.registered").by(&caller).detail(detail).write(&mut tx, now).await?;
    tx.commit().await?;
    Ok(Json(certificate))
}

/// DELETE /me/certificate.
pub(crate) async fn remove_certificate(State(hub): State<Hub>, caller: Caller) -> Result<StatusCode> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let sql = "DELETE FROM box_certificates WHERE box = $1 RETURNING fingerprint";
    let row = tx.optional(sql, args![caller.account.0]).await?.ok_or(ProblemCode::NotFound)?;
    let detail = serde_json::json!({ "fingerprint": row.get::<String>("fingerprint")? });
    Event::new("certificate.removed").by(&caller).detail(detail).write(&mut tx, now).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
