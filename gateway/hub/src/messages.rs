//! Messages: drafts that a box's readers write together, and what they look like to whoever may see them.
//!
//! Owns the tables `messages`, `addressees`, `forwarded_documents`. Every load takes the caller and is filtered
//! in SQL. Must never change a message that was sent, or read markup into a text.

use crate::access::Caller;
use crate::boxes::line;
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::procedures::{self, Right};
use crate::roles::{self, Permission};
use crate::uploads::const_sql;
use crate::{Hub, deposits, documents, etag, labels, people};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use pli_api::{
    AccountId, BoxId, BoxKind, DeliveryRole, DepositId, DocumentId, DraftEdit, Forwarded, InBox, Message,
    MessageDeposit, MessageId, MessageKind, MessageState, NewMessage, OpenDeposit, OrganisationId,
    OrganisationKind, Page, Person, ProblemCode, ProcedureId, Recipient, Role, ThreadId, Time,
};
use pli_storage::{Row, Tx, args};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// The most characters of a subject.
pub(crate) const SUBJECT_MAX: usize = 300;
/// The most characters of a text.
pub(crate) const BODY_MAX: usize = 100_000;
/// The most recipients, copies included.
pub(crate) const RECIPIENTS_MAX: usize = 100;
/// The most documents passed on with one message.
const FORWARDED_MAX: usize = 500;
/// The most drafts of a box.
const DRAFTS_MAX: i64 = 500;

/// The boxes of account `$2`, in SQL: its own, and those of the services that it belongs to.
pub(crate) const MINE: &str =
    "(SELECT id FROM boxes WHERE id = $2 UNION ALL SELECT service FROM service_members WHERE account = $2)";

/// True in SQL when account `$2` may see message `m` within the procedure `$3`, where one limits it: from its
/// boxes, or delivered to one of them and not withdrawn.
const VISIBLE: &str = "($3 IS NULL OR m.procedure = $3) AND (m.sender IN
        (SELECT id FROM boxes WHERE id = $2 UNION ALL SELECT service FROM service_members WHERE account = $2)
    OR EXISTS (SELECT 1 FROM deliveries v WHERE v.message = m.id AND v.withdrawn IS NULL AND v.box IN
        (SELECT id FROM boxes WHERE id = $2 UNION ALL SELECT service FROM service_members WHERE account = $2)))";

/// Who may send which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Senders {
    /// Whoever may write.
    All,
    /// Boxes of courts and of their offices.
    Courts,
    /// Experts, in a thread by which they were given a mission.
    ExpertsOnMission,
    /// Nobody by this way.
    Nobody,
}

/// The table of kinds.
const KINDS: &[(MessageKind, Senders)] = &[
    (MessageKind::Mission, Senders::Courts),
    (MessageKind::Correspondence, Senders::All),
    (MessageKind::DraftReport, Senders::ExpertsOnMission),
    (MessageKind::FinalReport, Senders::ExpertsOnMission),
    // Referrals come by the connectors of administrations.
    (MessageKind::Referral, Senders::Nobody),
    (MessageKind::Notice, Senders::Courts),
];

fn invalid<T>(detail: impl Into<String>) -> Result<T> {
    Err(Fault::because(ProblemCode::Invalid, detail))
}

/// Everything by which it is decided whether a message may be written or sent.
pub(crate) struct Draft {
    pub(crate) sender: Origin,
    pub(crate) kind: MessageKind,
    pub(crate) thread: Option<ThreadId>,
    pub(crate) procedure: Option<ProcedureId>,
    pub(crate) reply_to: Option<MessageId>,
    pub(crate) corrects: Option<MessageId>,
    pub(crate) forwards: Option<MessageId>,
    pub(crate) to: BTreeMap<BoxId, DeliveryRole>,
    pub(crate) documents: BTreeSet<DocumentId>,
}

/// The box that a message comes from.
pub(crate) struct Origin {
    pub(crate) id: BoxId,
    pub(crate) kind: BoxKind,
    pub(crate) organisation: OrganisationId,
    pub(crate) organisation_kind: OrganisationKind,
}

impl Origin {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            id: BoxId(row.get("id")?),
            kind: row.get::<String>("kind")?.parse().map_err(Fault::internal)?,
            organisation: OrganisationId(row.get("organisation")?),
            organisation_kind: row.get::<String>("organisation_kind")?.parse().map_err(Fault::internal)?,
        })
    }
}

const ORIGIN: &str = "SELECT b.id, b.kind, b.organisation, o.kind AS organisation_kind
    FROM boxes b JOIN organisations o ON o.id = b.organisation WHERE b.closed IS NULL AND b.id IN ";

/// The caller's box of this address; without one, the box of theirs that holds `prior`, their own first.
async fn origin(
    tx: &mut Tx,
    caller: &Caller,
    from: Option<&str>,
    prior: Option<MessageId>,
) -> Result<Origin> {
    let row = match (from, prior) {
        (Some(from), _) => {
            let sql = const_sql(&[ORIGIN, MINE, " AND b.address = $1"]);
            tx.optional(sql, args![people::address(from)?, caller.account.0]).await?
        }
        (None, Some(prior)) => {
            let sql = const_sql(&[
                ORIGIN,
                MINE,
                " AND EXISTS (SELECT 1 FROM deliveries v WHERE v.box = b.id AND v.message = $1 AND v.withdrawn IS NULL)
                  ORDER BY CASE WHEN b.id = $2 THEN 0 ELSE 1 END, b.id LIMIT 1",
            ]);
            tx.optional(sql, args![prior.0, caller.account.0]).await?
        }
        (None, None) => {
            let sql = const_sql(&[ORIGIN, "($1)"]);
            tx.optional(sql, args![caller.account.0]).await?
        }
    };
    match row {
        Some(row) => Origin::from_row(&row),
        None => invalid("Expéditeur : cette boîte n'est pas parmi les vôtres."),
    }
}

/// A sent message that another one follows.
struct Prior {
    thread: ThreadId,
    procedure: Option<ProcedureId>,
    kind: MessageKind,
    sender: BoxId,
}

/// A sent message that lies in this box.
async fn prior(tx: &mut Tx, sender: BoxId, id: MessageId) -> Result<Prior> {
    let row = tx
        .optional(
            "SELECT m.thread, m.procedure, m.kind, m.sender FROM messages m JOIN deliveries v ON v.message = m.id
             WHERE m.id = $1 AND m.state = 'sent' AND v.box = $2 AND v.withdrawn IS NULL",
            args![id.0, sender.0],
        )
        .await?;
    let Some(row) = row else {
        return invalid("Message d'origine : introuvable dans la boîte de l'expéditeur.");
    };
    Ok(Prior {
        thread: ThreadId(row.get("thread")?),
        procedure: row.get::<Option<Uuid>>("procedure")?.map(ProcedureId),
        kind: row.get::<String>("kind")?.parse().map_err(Fault::internal)?,
        sender: BoxId(row.get("sender")?),
    })
}

/// Those who have a message before them: its sender, and its recipients who were not withdrawn.
async fn participants(tx: &mut Tx, id: MessageId) -> Result<BTreeMap<BoxId, DeliveryRole>> {
    let sql = "SELECT box, role FROM deliveries WHERE message = $1 AND withdrawn IS NULL";
    let rows = tx.rows(sql, args![id.0]).await?;
    rows.iter()
        .map(|row| {
            let role = row.get::<String>("role")?.parse::<DeliveryRole>().map_err(Fault::internal)?;
            Ok((BoxId(row.get("box")?), role))
        })
        .collect()
}

/// Whether the caller may write this message now, to these recipients. Asked at each change of a draft and
/// again when it is sent: rights may have ended meanwhile.
///
/// # Errors
/// 403 for a right that is missing, 404 for a procedure that the caller does not see, 422 for what does not go together.
pub(crate) async fn judge(tx: &mut Tx, caller: &Caller, now: Time, draft: &Draft) -> Result<()> {
    roles::require(tx, caller, draft.sender.organisation, Permission::Write).await?;
    if caller.scope().is_some_and(|scope| draft.procedure != Some(ProcedureId(scope))) {
        return Err(ProblemCode::NotDelegated.into());
    }
    if [draft.reply_to, draft.corrects, draft.forwards].into_iter().flatten().count() > 1 {
        return invalid("Un message répond, corrige ou transmet : un seul des trois.");
    }
    let mut among_participants = false;
    for id in [draft.reply_to, draft.corrects].into_iter().flatten() {
        let prior = prior(tx, draft.sender.id, id).await?;
        if draft.thread != Some(prior.thread) || draft.procedure != prior.procedure {
            return invalid(
                "Dossier : une réponse ou une correction reste dans le dossier du message d'origine.",
            );
        }
        if draft.corrects.is_some() {
            if prior.sender != draft.sender.id {
                return invalid("Correction : seule la boîte qui a envoyé un message le corrige.");
            }
            if prior.kind != draft.kind {
                return invalid("Type : une correction est du même type que le message corrigé.");
            }
        }
        let known = participants(tx, id).await?;
        among_participants = draft.to.keys().all(|to| known.contains_key(to));
    }
    judge_kind(tx, draft).await?;
    if let Some(id) = draft.forwards {
        let prior = prior(tx, draft.sender.id, id).await?;
        if draft.procedure != prior.procedure {
            return invalid("Dossier : un message transmis reste dans son dossier.");
        }
        if let Some(procedure) = draft.procedure {
            procedures::require(tx, caller, procedure, Right::Write, now).await?;
        }
    } else if let (Some(procedure), false) = (draft.procedure, among_participants) {
        // Who was written to in a procedure may answer there; anything else takes a right in it.
        procedures::require(tx, caller, procedure, Right::Deposit, now).await?;
    }
    judge_documents(tx, now, draft).await
}

async fn judge_kind(tx: &mut Tx, draft: &Draft) -> Result<()> {
    let senders = KINDS.iter().find(|(kind, _)| *kind == draft.kind).map_or(Senders::Nobody, |(_, s)| *s);
    match senders {
        Senders::All => Ok(()),
        Senders::Courts => match draft.sender.organisation_kind {
            OrganisationKind::Court | OrganisationKind::Office => Ok(()),
            _ => Err(Fault::because(
                ProblemCode::Forbidden,
                "Type : réservé aux juridictions et à leurs cabinets et services.",
            )),
        },
        Senders::ExpertsOnMission => {
            let account = AccountId(draft.sender.id.0);
            let expert = draft.sender.kind == BoxKind::Person
                && roles::of(tx, account, draft.sender.organisation).await?.contains(&Role::Expert);
            let mission = tx
                .optional(
                    "SELECT 1 AS one FROM messages k JOIN deliveries v ON v.message = k.id AND v.box = $2
                     WHERE k.thread = $1 AND k.kind = 'mission' AND v.role = 'to' AND v.withdrawn IS NULL LIMIT 1",
                    args![draft.thread.map(|thread| thread.0), draft.sender.id.0],
                )
                .await?;
            if expert && mission.is_some() {
                return Ok(());
            }
            Err(Fault::because(
                ProblemCode::Forbidden,
                "Type : un rapport est envoyé par l'expert, en réponse à la mission qu'il a reçue.",
            ))
        }
        Senders::Nobody => Err(Fault::because(
            ProblemCode::Forbidden,
            "Type : les saisines passent par le système d'information de l'administration.",
        )),
    }
}

/// Only what the box that passes on has from its sender, and while it is at its disposal.
async fn judge_documents(tx: &mut Tx, now: Time, draft: &Draft) -> Result<()> {
    let Some(forwards) = draft.forwards else {
        return match draft.documents.is_empty() {
            true => Ok(()),
            false => invalid("Documents transmis : seulement avec le message dont ils viennent."),
        };
    };
    for document in &draft.documents {
        let may = tx
            .optional(
                "SELECT 1 AS one FROM messages m JOIN deposits p ON p.id = m.deposit JOIN documents d ON d.deposit = p.id
                 WHERE m.id = $1 AND d.id = $2 AND d.state = 'available' AND p.state = 'available' AND p.expires > $4
                 AND (p.sender = $3 OR EXISTS (SELECT 1 FROM recipients r
                     WHERE r.deposit = p.id AND r.box = $3 AND r.withdrawn IS NULL))",
                args![forwards.0, document.0, draft.sender.id.0, now],
            )
            .await?;
        if may.is_none() {
            return invalid(
                "Documents transmis : l'un d'eux n'est pas, ou n'est plus, à la disposition de cette boîte.",
            );
        }
    }
    Ok(())
}

/// A text of several lines: no control characters but line feeds and tabs, nothing that turns the reading
/// direction of what follows.
fn text(given: &str) -> Result<String> {
    let text = given.replace("\r\n", "\n").replace('\r', "\n");
    let odd = |c: char| {
        c.is_control() && !matches!(c, '\n' | '\t')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.chars().count() > BODY_MAX || text.chars().any(odd) {
        return invalid(format!("Texte : {BODY_MAX} caractères au plus, sans caractère de contrôle."));
    }
    Ok(text)
}

/// A draft's subject may still be missing.
fn subject(given: &str) -> Result<&str> {
    if given.trim().is_empty() { Ok("") } else { line("Objet", given, SUBJECT_MAX) }
}

/// The box of this address, if it can be written to.
///
/// # Errors
/// 422 for an address that is none or has no open box.
pub(crate) async fn recipient(tx: &mut Tx, given: &str) -> Result<BoxId> {
    let address = people::address(given)?;
    let row = tx
        .optional(
            "SELECT b.id FROM boxes b LEFT JOIN accounts a ON a.id = b.id
             WHERE b.address = $1 AND b.closed IS NULL AND a.opted_out IS NULL",
            args![address.as_str()],
        )
        .await?;
    match row {
        Some(row) => Ok(BoxId(row.get("id")?)),
        None => Err(Fault::because(ProblemCode::UnknownRecipient, format!("Pas de boîte pour {address}."))),
    }
}

async fn recipients(tx: &mut Tx, to: &[String], copy: &[String]) -> Result<BTreeMap<BoxId, DeliveryRole>> {
    if to.len().saturating_add(copy.len()) > RECIPIENTS_MAX {
        return invalid(format!("Destinataires : {RECIPIENTS_MAX} au plus, copies comprises."));
    }
    let mut boxes = BTreeMap::new();
    for (addresses, role) in [(to, DeliveryRole::To), (copy, DeliveryRole::Copy)] {
        for address in addresses {
            boxes.entry(recipient(tx, address).await?).or_insert(role);
        }
    }
    Ok(boxes)
}

fn forwarded(given: &[DocumentId]) -> Result<BTreeSet<DocumentId>> {
    if given.len() > FORWARDED_MAX {
        return invalid(format!("Documents transmis : {FORWARDED_MAX} au plus."));
    }
    Ok(given.iter().copied().collect())
}

/// Replaces whom a draft goes to and what it passes on.
async fn put_lists(tx: &mut Tx, id: MessageId, draft: &Draft) -> Result<()> {
    tx.execute("DELETE FROM addressees WHERE message = $1", args![id.0]).await?;
    for (to, role) in &draft.to {
        let sql = "INSERT INTO addressees (message, box, role) VALUES ($1, $2, $3)";
        tx.execute(sql, args![id.0, to.0, role.as_str()]).await?;
    }
    tx.execute("DELETE FROM forwarded_documents WHERE message = $1", args![id.0]).await?;
    for document in &draft.documents {
        let sql = "INSERT INTO forwarded_documents (message, document) VALUES ($1, $2)";
        tx.execute(sql, args![id.0, document.0]).await?;
    }
    Ok(())
}

/// POST /messages: a draft.
pub(crate) async fn create(
    State(hub): State<Hub>,
    caller: Caller,
    Json(new): Json<NewMessage>,
) -> Result<Response> {
    let (subject, body, documents) =
        (subject(&new.subject)?, text(&new.body)?, forwarded(&new.forwarded_documents)?);
    let (id, now) = (MessageId::new(), hub.now());
    let mut tx = hub.db().write().await?;
    let followed = new.reply_to.or(new.corrects).or(new.forwards);
    let sender = origin(&mut tx, &caller, new.from.as_deref(), followed).await?;
    let mut draft = Draft {
        kind: new.kind.unwrap_or(MessageKind::Correspondence),
        thread: None,
        procedure: new.procedure,
        reply_to: new.reply_to,
        corrects: new.corrects,
        forwards: new.forwards,
        to: recipients(&mut tx, &new.to, &new.copy).await?,
        documents,
        sender,
    };
    if let Some(followed) = followed {
        let prior = prior(&mut tx, draft.sender.id, followed).await?;
        draft.procedure = draft.procedure.or(prior.procedure);
        if new.forwards.is_none() {
            draft.thread = Some(prior.thread);
        }
        if new.corrects.is_some() && new.kind.is_none() {
            draft.kind = prior.kind;
        }
        if draft.to.is_empty() && new.forwards.is_none() {
            // An answer goes to whoever wrote, a correction to whoever got what it corrects.
            draft.to = participants(&mut tx, followed).await?;
            let (own, own_answer) = (draft.sender.id, prior.sender == draft.sender.id);
            draft.to.retain(|to, _| *to != own && (own_answer || *to == prior.sender));
            draft.to.values_mut().filter(|r| **r == DeliveryRole::Sender).for_each(|r| *r = DeliveryRole::To);
        }
    }
    judge(&mut tx, &caller, now, &draft).await?;
    // Counted one request after the other, or many at once would pass together.
    tx.lock(&format!("drafts of {}", draft.sender.id)).await?;
    let sql = "SELECT COUNT(*) AS n FROM messages WHERE sender = $1 AND state = 'draft'";
    if tx.one(sql, args![draft.sender.id.0]).await?.get::<i64>("n")? >= DRAFTS_MAX {
        return Err(Fault::because(
            ProblemCode::TooMany,
            format!("Brouillons : {DRAFTS_MAX} au plus par boîte."),
        ));
    }
    tx.execute(
        "INSERT INTO messages (id, thread, procedure, kind, state, sender, author, on_behalf, subject, body, folded,
                               reply_to, corrects, forwards, version, created)
         VALUES ($1, $2, $3, $4, 'draft', $5, $6, $7, $8, $9, '', $10, $11, $12, 1, $13)",
        args![
            id.0,
            draft.thread.map(|thread| thread.0),
            draft.procedure.map(|procedure| procedure.0),
            draft.kind.as_str(),
            draft.sender.id.0,
            caller.person().0,
            caller.acting.map(|_| caller.account.0),
            subject,
            body,
            draft.reply_to.map(|id| id.0),
            draft.corrects.map(|id| id.0),
            draft.forwards.map(|id| id.0),
            now
        ],
    )
    .await?;
    put_lists(&mut tx, id, &draft).await?;
    Event::new("message.drafted")
        .by(&caller)
        .message(id)
        .procedure(draft.procedure)
        .write(&mut tx, now)
        .await?;
    let message = load(&mut tx, &caller, id).await?.ok_or(ProblemCode::NotFound)?;
    tx.commit().await?;
    tagged(StatusCode::CREATED, &message)
}

/// The answer with the version as its strong validator.
pub(crate) fn tagged(status: StatusCode, message: &Message) -> Result<Response> {
    let mut response = etag::tagged(message.version, message)?;
    *response.status_mut() = status;
    Ok(response)
}

/// A draft of the caller's boxes as the rules see it, with its version and its deposit.
///
/// # Errors
/// 404 when the caller does not see it, 409 when it was sent.
pub(crate) async fn draft_of(
    tx: &mut Tx,
    caller: &Caller,
    id: MessageId,
) -> Result<(Draft, u64, Option<DepositId>)> {
    let sql = const_sql(&[
        "SELECT m.thread, m.procedure, m.kind AS message_kind, m.state, m.reply_to, m.corrects, m.forwards, m.version, m.deposit,
         b.id, b.kind, b.organisation, o.kind AS organisation_kind
         FROM messages m JOIN boxes b ON b.id = m.sender JOIN organisations o ON o.id = b.organisation
         WHERE m.id = $1 AND ",
        VISIBLE,
    ]);
    let row = tx.optional(sql, args![id.0, caller.account.0, caller.scope()]).await?;
    let row = row.ok_or(ProblemCode::NotFound)?;
    let of = |column: &str| row.get::<Option<Uuid>>(column);
    if row.get::<String>("state")? != MessageState::Draft.as_str() {
        return Err(ProblemCode::MessageSent.into());
    }
    let rows = tx.rows("SELECT box, role FROM addressees WHERE message = $1", args![id.0]).await?;
    let mut to = BTreeMap::new();
    for row in &rows {
        let role = row.get::<String>("role")?.parse::<DeliveryRole>().map_err(Fault::internal)?;
        to.insert(BoxId(row.get("box")?), role);
    }
    let rows = tx.rows("SELECT document FROM forwarded_documents WHERE message = $1", args![id.0]).await?;
    let documents = rows.iter().map(|row| Ok(DocumentId(row.get("document")?)));
    let draft = Draft {
        sender: Origin::from_row(&row)?,
        kind: row.get::<String>("message_kind")?.parse().map_err(Fault::internal)?,
        thread: of("thread")?.map(ThreadId),
        procedure: of("procedure")?.map(ProcedureId),
        reply_to: of("reply_to")?.map(MessageId),
        corrects: of("corrects")?.map(MessageId),
        forwards: of("forwards")?.map(MessageId),
        to,
        documents: documents.collect::<Result<_>>()?,
    };
    let version = u64::try_from(row.get::<i64>("version")?).map_err(Fault::internal)?;
    Ok((draft, version, of("deposit")?.map(DepositId)))
}

/// PUT /messages/{id}: all of a draft, on the version that `If-Match` names.
pub(crate) async fn edit(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<MessageId>,
    headers: HeaderMap,
    Json(edit): Json<DraftEdit>,
) -> Result<Response> {
    let (subject, body) = (subject(&edit.subject)?, text(&edit.body)?);
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let (draft, version, _) = draft_of(&mut tx, &caller, id).await?;
    etag::require(&headers, version)?;
    let draft = Draft {
        kind: edit.kind.unwrap_or(draft.kind),
        // What follows a message stays in its procedure.
        procedure: match draft.reply_to.or(draft.corrects).or(draft.forwards) {
            Some(_) => edit.procedure.or(draft.procedure),
            None => edit.procedure,
        },
        to: recipients(&mut tx, &edit.to, &edit.copy).await?,
        documents: forwarded(&edit.forwarded_documents)?,
        ..draft
    };
    judge(&mut tx, &caller, now, &draft).await?;
    let changed = tx
        .execute(
            "UPDATE messages SET kind = $3, procedure = $4, subject = $5, body = $6, version = version + 1
             WHERE id = $1 AND version = $2 AND state = 'draft'",
            args![
                id.0,
                version,
                draft.kind.as_str(),
                draft.procedure.map(|procedure| procedure.0),
                subject,
                body
            ],
        )
        .await?;
    if changed == 0 {
        return Err(ProblemCode::PreconditionFailed.into());
    }
    put_lists(&mut tx, id, &draft).await?;
    let message = load(&mut tx, &caller, id).await?.ok_or(ProblemCode::NotFound)?;
    tx.commit().await?;
    tagged(StatusCode::OK, &message)
}

/// DELETE /messages/{id}: a draft, with the documents that were put into it.
pub(crate) async fn discard(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<MessageId>,
) -> Result<StatusCode> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let (draft, _, deposit) = draft_of(&mut tx, &caller, id).await?;
    let uploads = match deposit {
        Some(deposit) => {
            deposits::hold(&mut tx, deposit).await?;
            lock(&mut tx, id, Some(deposit)).await?;
            deposits::remove_draft(&mut tx, deposit).await?
        }
        None => {
            lock(&mut tx, id, None).await?;
            Vec::new()
        }
    };
    for sql in [
        "DELETE FROM addressees WHERE message = $1",
        "DELETE FROM forwarded_documents WHERE message = $1",
        "DELETE FROM messages WHERE id = $1",
    ] {
        tx.execute(sql, args![id.0]).await?;
    }
    Event::new("message.discarded")
        .by(&caller)
        .message(id)
        .procedure(draft.procedure)
        .write(&mut tx, now)
        .await?;
    tx.commit().await?;
    uploads.into_iter().for_each(|upload| hub.end_writer(upload));
    hub.inner.bell.notify_waiters();
    Ok(StatusCode::NO_CONTENT)
}

/// Holds a draft whose deposit was read before: a rival that sent it, discarded it or opened its deposit in
/// between is told apart here.
pub(crate) async fn lock(tx: &mut Tx, id: MessageId, deposit: Option<DepositId>) -> Result<()> {
    let sql = "UPDATE messages SET version = version + 1 WHERE id = $1 AND state = 'draft' RETURNING deposit";
    let row = tx.optional(sql, args![id.0]).await?.ok_or(ProblemCode::Conflict)?;
    if row.get::<Option<Uuid>>("deposit")? != deposit.map(|deposit| deposit.0) {
        return Err(ProblemCode::Conflict.into());
    }
    Ok(())
}

/// POST /messages/{id}/deposit: the deposit of a draft, made on demand; uploads go into it. Said again, its
/// retention is set anew.
pub(crate) async fn open_deposit(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<MessageId>,
    Json(open): Json<OpenDeposit>,
) -> Result<Response> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let (draft, _, deposit) = draft_of(&mut tx, &caller, id).await?;
    roles::require(&mut tx, &caller, draft.sender.organisation, Permission::Write).await?;
    let organisation = draft.sender.organisation;
    let status = match deposit {
        Some(deposit) => {
            deposits::lock_draft(&mut tx, &caller, deposit).await?;
            if open.retention_days.is_some() {
                let days = deposits::retention(&mut tx, &hub, organisation, open.retention_days).await?;
                let sql = "UPDATE deposits SET retention_days = $2 WHERE id = $1";
                tx.execute(sql, args![deposit.0, days]).await?;
            }
            StatusCode::OK
        }
        None => {
            let days = deposits::retention(&mut tx, &hub, organisation, open.retention_days).await?;
            let deposit = DepositId::new();
            tx.execute(
                "INSERT INTO deposits (id, sender, author, organisation, subject, state, retention_days, version, created)
                 VALUES ($1, $2, $3, $4, '', 'draft', $5, 0, $6)",
                args![deposit.0, draft.sender.id.0, caller.person().0, organisation.0, days, now],
            )
            .await?;
            // The text keeps its version: whoever writes it meanwhile loses nothing.
            let sql =
                "UPDATE messages SET deposit = $2 WHERE id = $1 AND state = 'draft' AND deposit IS NULL";
            if tx.execute(sql, args![id.0, deposit.0]).await? == 0 {
                return Err(ProblemCode::Conflict.into());
            }
            Event::new("deposit.drafted")
                .by(&caller)
                .deposit(deposit)
                .message(id)
                .procedure(draft.procedure)
                .write(&mut tx, now)
                .await?;
            StatusCode::CREATED
        }
    };
    let message = load(&mut tx, &caller, id).await?.ok_or(ProblemCode::NotFound)?;
    tx.commit().await?;
    tagged(status, &message)
}

/// GET /messages/{id}.
pub(crate) async fn show(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<MessageId>,
) -> Result<Response> {
    let mut tx = hub.db().read().await?;
    let message = load(&mut tx, &caller, id).await?.ok_or(ProblemCode::NotFound)?;
    tagged(StatusCode::OK, &message)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DraftFilter {
    after: Option<MessageId>,
    limit: Option<u32>,
}

/// GET /messages: the drafts of the caller's boxes, the newest first. What was sent is in GET /inbox.
pub(crate) async fn drafts(
    State(hub): State<Hub>,
    caller: Caller,
    Query(filter): Query<DraftFilter>,
) -> Result<Json<Page<Message>>> {
    let limit = filter.limit.unwrap_or(20).clamp(1, 50) as usize;
    let after = filter.after.map_or(Uuid::max(), |id| id.0);
    let mut tx = hub.db().read().await?;
    let mut ids = Vec::new();
    for mine in boxes(&mut tx, &caller).await? {
        let rows = tx
            .rows(
                "SELECT m.id FROM messages m WHERE m.sender = $1 AND m.state = 'draft' AND m.id < $2
                 AND ($3 IS NULL OR m.procedure = $3) ORDER BY m.id DESC LIMIT $4",
                args![mine.id.0, after, caller.scope(), i64::try_from(limit + 1).unwrap_or(1)],
            )
            .await?;
        for row in &rows {
            ids.push(MessageId(row.get("id")?));
        }
    }
    ids.sort_unstable_by_key(|id| std::cmp::Reverse(id.0));
    let more = ids.len() > limit;
    let mut items = Vec::new();
    for id in ids.into_iter().take(limit) {
        items.extend(load(&mut tx, &caller, id).await?);
    }
    let next = if more { items.last().map(|last| last.id.to_string()) } else { None };
    Ok(Json(Page { items, next }))
}

/// A box that the caller reads.
pub(crate) struct Mine {
    pub(crate) id: BoxId,
    pub(crate) address: String,
    pub(crate) name: String,
    pub(crate) kind: BoxKind,
}

/// The caller's boxes, their own first.
pub(crate) async fn boxes(tx: &mut Tx, caller: &Caller) -> Result<Vec<Mine>> {
    let sql = const_sql(&[
        "SELECT id, address, name, kind FROM boxes WHERE id IN ",
        MINE,
        " ORDER BY CASE WHEN id = $1 THEN 0 ELSE 1 END, folded, id",
    ]);
    let rows = tx.rows(sql, args![caller.account.0, caller.account.0]).await?;
    rows.iter()
        .map(|row| {
            Ok(Mine {
                id: BoxId(row.get("id")?),
                address: row.get("address")?,
                name: row.get("name")?,
                kind: row.get::<String>("kind")?.parse().map_err(Fault::internal)?,
            })
        })
        .collect()
}

pub(crate) fn person(row: &Row, address: &str, name: &str) -> Result<Option<Person>> {
    let (address, name) = (row.get::<Option<String>>(address)?, row.get::<Option<String>>(name)?);
    Ok(address.zip(name).map(|(address, name)| Person { address, name }))
}

fn named(row: &Row, address: &str, name: &str) -> Result<Person> {
    Ok(Person { address: row.get(address)?, name: row.get(name)? })
}

/// The message, if the caller may see it.
pub(crate) async fn load(tx: &mut Tx, caller: &Caller, id: MessageId) -> Result<Option<Message>> {
    let sql = const_sql(&[
        "SELECT m.id, m.thread, m.procedure, m.kind, m.state, m.subject, m.body, m.reply_to, m.corrects, m.forwards, m.deposit,
         m.version, m.created, m.sent, s.address AS sender_address, s.name AS sender_name, w.address AS author_address,
         w.name AS author_name, y.address AS behalf_address, y.name AS behalf_name,
         CASE WHEN m.sender IN ",
        MINE,
        " THEN 1 ELSE 0 END AS ours
         FROM messages m JOIN boxes s ON s.id = m.sender JOIN boxes w ON w.id = m.author
         LEFT JOIN boxes y ON y.id = m.on_behalf WHERE m.id = $1 AND ",
        VISIBLE,
    ]);
    let Some(row) = tx.optional(sql, args![id.0, caller.account.0, caller.scope()]).await? else {
        return Ok(None);
    };
    let state: MessageState = row.get::<String>("state")?.parse().map_err(Fault::internal)?;
    let ours = row.get::<i64>("ours")? == 1;
    let of = |column: &str| row.get::<Option<Uuid>>(column);
    Ok(Some(Message {
        id,
        thread: of("thread")?.map(ThreadId),
        procedure: of("procedure")?.map(ProcedureId),
        kind: row.get::<String>("kind")?.parse().map_err(Fault::internal)?,
        state,
        sender: named(&row, "sender_address", "sender_name")?,
        author: named(&row, "author_address", "author_name")?,
        on_behalf: person(&row, "behalf_address", "behalf_name")?,
        subject: row.get("subject")?,
        body: row.get("body")?,
        recipients: recipients_of(tx, id, state, ours).await?,
        reply_to: of("reply_to")?.map(MessageId),
        corrects: of("corrects")?.map(MessageId),
        corrected_by: corrections(tx, caller, id).await?,
        forwarded: match of("forwards")? {
            Some(forwards) => Some(forwarded_of(tx, id, MessageId(forwards)).await?),
            None => None,
        },
        deposit: match of("deposit")? {
            Some(deposit) => Some(deposit_of(tx, DepositId(deposit)).await?),
            None => None,
        },
        version: u64::try_from(row.get::<i64>("version")?).map_err(Fault::internal)?,
        created: row.get("created")?,
        sent: row.get("sent")?,
        boxes: lies_in(tx, caller, id).await?,
    }))
}

async fn recipients_of(
    tx: &mut Tx,
    id: MessageId,
    state: MessageState,
    ours: bool,
) -> Result<Vec<Recipient>> {
    let sql = match state {
        MessageState::Draft => {
            "SELECT b.address, b.name, v.role, NULL AS at, NULL AS read, NULL AS withdrawn FROM addressees v
             JOIN boxes b ON b.id = v.box WHERE v.message = $1 ORDER BY v.role DESC, b.address"
        }
        MessageState::Sent => {
            "SELECT b.address, b.name, v.role, v.at, v.read, v.withdrawn FROM deliveries v
             JOIN boxes b ON b.id = v.box WHERE v.message = $1 AND v.role <> 'sender' ORDER BY v.role DESC, b.address"
        }
    };
    let mut list = Vec::new();
    for row in tx.rows(sql, args![id.0]).await? {
        let sent = state == MessageState::Sent;
        let withdrawn = if sent { row.get::<Option<Time>>("withdrawn")? } else { None };
        if withdrawn.is_some() && !ours {
            continue;
        }
        list.push(Recipient {
            address: row.get("address")?,
            name: row.get("name")?,
            role: row.get::<String>("role")?.parse().map_err(Fault::internal)?,
            delivered: if sent { row.get("at")? } else { None },
            read: if sent && ours { row.get("read")? } else { None },
            withdrawn,
        });
    }
    Ok(list)
}

/// The sent messages that correct this one, where they lie in the caller's boxes.
async fn corrections(tx: &mut Tx, caller: &Caller, id: MessageId) -> Result<Vec<MessageId>> {
    let sql = const_sql(&[
        "SELECT m.id FROM messages m WHERE m.corrects = $1 AND m.state = 'sent' AND ",
        VISIBLE,
        " ORDER BY m.sent, m.id",
    ]);
    let rows = tx.rows(sql, args![id.0, caller.account.0, caller.scope()]).await?;
    rows.iter().map(|row| Ok(MessageId(row.get("id")?))).collect()
}

/// What was passed on: its text stands in the message that passes it on, whoever reads that.
async fn forwarded_of(tx: &mut Tx, by: MessageId, id: MessageId) -> Result<Forwarded> {
    let row = tx
        .one(
            "SELECT m.subject, m.body, m.sent, s.address, s.name FROM messages m JOIN boxes s ON s.id = m.sender WHERE m.id = $1",
            args![id.0],
        )
        .await?;
    Ok(Forwarded {
        message: id,
        sender: named(&row, "address", "name")?,
        sent: row.get("sent")?,
        subject: row.get("subject")?,
        body: row.get("body")?,
        documents: documents::forwarded_by(tx, by).await?,
    })
}

async fn deposit_of(tx: &mut Tx, id: DepositId) -> Result<MessageDeposit> {
    let sql = "SELECT state, retention_days, available, expires FROM deposits WHERE id = $1";
    let row = tx.one(sql, args![id.0]).await?;
    Ok(MessageDeposit {
        id,
        state: deposits::state_of(&row)?,
        retention_days: u32::try_from(row.get::<i64>("retention_days")?).unwrap_or(0),
        available: row.get("available")?,
        expires: row.get("expires")?,
        documents: documents::of_deposit(tx, id).await?,
    })
}

/// In which of the caller's boxes a message lies.
async fn lies_in(tx: &mut Tx, caller: &Caller, id: MessageId) -> Result<Vec<InBox>> {
    let sql = const_sql(&[
        "SELECT v.box, v.role, v.at, v.read, v.archived, b.address, b.name, r.address AS reader_address, r.name AS reader_name,
         CASE WHEN EXISTS (SELECT 1 FROM readings g WHERE g.message = v.message AND g.box = v.box AND g.account = $3)
              THEN 1 ELSE 0 END AS by_me
         FROM deliveries v JOIN boxes b ON b.id = v.box LEFT JOIN boxes r ON r.id = v.read_by
         WHERE v.message = $1 AND v.withdrawn IS NULL AND v.box IN ",
        MINE,
        " ORDER BY CASE WHEN v.box = $2 THEN 0 ELSE 1 END, b.address",
    ]);
    let rows = tx.rows(sql, args![id.0, caller.account.0, caller.person().0]).await?;
    let mut list = Vec::new();
    for row in &rows {
        let address: String = row.get("address")?;
        list.push(InBox {
            labels: labels::on(tx, BoxId(row.get("box")?), id).await?,
            address,
            name: row.get("name")?,
            role: row.get::<String>("role")?.parse().map_err(Fault::internal)?,
            at: row.get("at")?,
            read: row.get("read")?,
            read_by: person(row, "reader_address", "reader_name")?,
            read_by_me: row.get::<i64>("by_me")? == 1,
            archived: row.get("archived")?,
        });
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_stands_once_in_the_table() {
        for kind in MessageKind::ALL {
            assert_eq!(KINDS.iter().filter(|(named, _)| named == kind).count(), 1, "{}", kind.as_str());
        }
    }

    #[test]
    fn a_text_is_kept_as_it_is() {
        let markup = "<script>alert('x')</script>\n\tÉté & hiver \u{200f}שלום";
        assert_eq!(text(markup).unwrap(), markup);
        assert_eq!(text("a\r\nb\rc").unwrap(), "a\nb\nc");
        assert!(text(&"é".repeat(BODY_MAX)).is_ok());
        for bad in ["a\0", "a\u{1b}[31m", "a\u{202e}b", "a\u{2066}b", "a\u{85}", &"é".repeat(BODY_MAX + 1)] {
            assert!(text(bad).is_err());
        }
    }
}
