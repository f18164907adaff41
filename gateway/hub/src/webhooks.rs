//! Webhooks: notices to an organisation's information system, signed, tried again, and listed when given up.
//!
//! Owns the tables `webhooks` and `webhook_deliveries`. Must never send inside a request, follow a redirect, use a
//! proxy, or connect to an address of a private network unless the operator said so: every address is judged
//! where the connection takes it from, so that a name cannot change its mind between the look and the call.

use crate::access::Caller;
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::roles::{self, Permission};
use crate::signature::Signer;
use crate::{Hub, jobs};
use axum::Json;
use axum::extract::{Path, Query, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{StatusCode, header};
use pli_api::{
    BoxId, DeliveryState, DepositId, DocumentId, MessageId, NewWebhook, NoticeId, NoticeKind, OrganisationId,
    Page, ProblemCode, ProcedureId, Time, Webhook, WebhookDelivery, WebhookDeliveryId, WebhookId,
    WebhookNotice,
};
use pli_storage::{AT_ONCE, Job, NewJob, Row, Tx, args};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, Client, Url, redirect};
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use uuid::Uuid;

/// The job that carries one notice to one webhook.
pub(crate) const DELIVER: &str = "webhook.deliver";

/// Attempts after which a delivery is given up: the waits between them add up to about a day.
const ATTEMPTS: i64 = 30;
/// Webhooks of one organisation.
const WEBHOOKS_MAX: i64 = 20;
const URL_MAX: usize = 2000;
const CONNECTING: Duration = Duration::from_secs(5);
const ANSWERING: Duration = Duration::from_secs(15);

/// What the operator allows.
#[derive(Default)]
pub struct WebhookOptions {
    /// Whether webhooks may be on private networks and on this machine.
    pub private_networks: bool,
    /// Authorities of their certificates, PEM; the machine's when absent.
    pub authorities: Option<Vec<u8>>,
}

/// The way to webhooks.
pub struct Webhooks {
    client: Client,
    private: bool,
}

impl Webhooks {
    /// Prepares the way; connects to nothing.
    ///
    /// # Errors
    /// When an authority is no certificate.
    pub fn open(options: &WebhookOptions) -> Result<Self, reqwest::Error> {
        let mut builder = Client::builder()
            .https_only(true)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECTING)
            .timeout(ANSWERING)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("Pli/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Resolver { private: options.private_networks });
        if let Some(pem) = &options.authorities {
            builder = builder.tls_certs_only(Certificate::from_pem_bundle(pem)?);
        }
        Ok(Self { client: builder.build()?, private: options.private_networks })
    }

    /// An address that a webhook may have.
    ///
    /// # Errors
    /// 422.
    fn url(&self, given: &str) -> Result<Url> {
        let refused =
            |why: &str| Fault::because(ProblemCode::Invalid, format!("Adresse du webhook : {why}."));
        let given = given.trim();
        if given.len() > URL_MAX {
            return Err(refused("2000 caractères au plus"));
        }
        let url = Url::parse(given).map_err(|_| refused("mal formée"))?;
        if url.scheme() != "https" {
            return Err(refused("« https:// » est nécessaire"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(refused("sans identifiant, mot de passe ni fragment"));
        }
        if url.port() == Some(0) || !self.may_reach(&url) {
            return Err(refused("elle ne peut pas désigner un réseau privé"));
        }
        Ok(url)
    }

    /// Whether the address itself forbids it. Names are judged when they are resolved.
    fn may_reach(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) => self.private || is_public(ip),
            Err(_) => true,
        }
    }
}

/// Resolves names and gives only addresses that may be reached; the connection is made to these and no others.
struct Resolver {
    private: bool,
}

/// A name that leads into a private network.
#[derive(Debug, thiserror::Error)]
#[error("the name leads into a private network")]
struct PrivateNetwork;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let private = self.private;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // One private address among public ones is no accident.
            if !private && !found.iter().all(|address| is_public(address.ip())) {
                return Err(PrivateNetwork.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is of the public network: what the IANA registries of special-purpose addresses (RFC 6890)
/// do not keep for another use.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(a == 0
        || a == 10
        || a == 127
        || (a == 100 && (64..128).contains(&b))
        || (a == 169 && b == 254)
        || (a == 172 && (16..32).contains(&b))
        || (a == 192 && b == 168)
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b))
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113)
        || a >= 224)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    // Global unicast, but for what tunnels an IPv4 address (Teredo and its neighbours, 6to4) or documents.
    a & 0xe000 == 0x2000
        && !(a == 0x2001 && (b < 0x200 || b == 0xdb8))
        && a != 0x2002
        && !(a == 0x3fff && b < 0x1000)
}

async fn managed(tx: &mut Tx, caller: &Caller) -> Result<()> {
    roles::require(tx, caller, caller.organisation, Permission::Manage).await
}

fn kinds_of(text: &str) -> Result<Vec<NoticeKind>> {
    text.split_whitespace().map(|word| word.parse().map_err(|e: String| Fault::internal(e))).collect()
}

fn from_row(row: &Row) -> Result<Webhook> {
    Ok(Webhook {
        id: WebhookId(row.get("id")?),
        url: row.get("url")?,
        kinds: kinds_of(&row.get::<String>("kinds")?)?,
        public_key: STANDARD.encode(row.get::<Vec<u8>>("public_key")?),
        created: row.get("created")?,
    })
}

/// POST /webhooks: for who manages the organisation. Its key is made here; the public half is in the answer.
pub(crate) async fn register(
    State(hub): State<Hub>,
    caller: Caller,
    Json(new): Json<NewWebhook>,
) -> Result<(StatusCode, Json<Webhook>)> {
    let (now, way) = (hub.now(), hub.webhooks()?);
    let mut tx = hub.db().write().await?;
    managed(&mut tx, &caller).await?;
    let url = way.url(&new.url)?;
    let mut kinds = new.kinds;
    kinds.sort_by_key(|kind| kind.as_str());
    kinds.dedup();
    let sql = "SELECT COUNT(*) AS n FROM webhooks WHERE organisation = $1 AND removed IS NULL";
    if tx.one(sql, args![caller.organisation.0]).await?.get::<i64>("n")? >= WEBHOOKS_MAX {
        let said = format!("{WEBHOOKS_MAX} webhooks au plus par organisation.");
        return Err(Fault::because(ProblemCode::Invalid, said));
    }
    // A key of its own, of 256 random bits, wrapped as document keys are: it is the seed of the signing key.
    let (seed, wrapped, wrapped_for) = hub.keys().new_key()?;
    let public_key = Signer::from_seed(seed.as_bytes())?.public_key().to_vec();
    let id = WebhookId::new();
    let words: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
    tx.execute(
        "INSERT INTO webhooks (id, organisation, url, kinds, wrapped_key, wrapped_for, public_key, created, created_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        args![
            id.0,
            caller.organisation.0,
            url.as_str(),
            words.join(" "),
            wrapped,
            wrapped_for,
            public_key.clone(),
            now,
            caller.person().0
        ],
    )
    .await?;
    let detail = serde_json::json!({ "webhook": id, "organisation": caller.organisation });
    Event::new("webhook.registered").by(&caller).detail(detail).write(&mut tx, now).await?;
    tx.commit().await?;
    let webhook =
        Webhook { id, url: url.into(), kinds, public_key: STANDARD.encode(public_key), created: now };
    Ok((StatusCode::CREATED, Json(webhook)))
}

/// GET /webhooks: the organisation's.
pub(crate) async fn list(State(hub): State<Hub>, caller: Caller) -> Result<Json<Vec<Webhook>>> {
    let mut tx = hub.db().read().await?;
    managed(&mut tx, &caller).await?;
    let sql = "SELECT id, url, kinds, public_key, created FROM webhooks
               WHERE organisation = $1 AND removed IS NULL ORDER BY id";
    let rows = tx.rows(sql, args![caller.organisation.0]).await?;
    Ok(Json(rows.iter().map(from_row).collect::<Result<_>>()?))
}

/// DELETE /webhooks/{id}: what still waits is not sent.
pub(crate) async fn remove(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<WebhookId>,
) -> Result<StatusCode> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    managed(&mut tx, &caller).await?;
    let removed = tx
        .execute(
            "UPDATE webhooks SET removed = $3 WHERE id = $1 AND organisation = $2 AND removed IS NULL",
            args![id.0, caller.organisation.0, now],
        )
        .await?;
    if removed == 0 {
        return Err(ProblemCode::NotFound.into());
    }
    let sql = "UPDATE webhook_deliveries SET state = 'cancelled', settled = $2 WHERE webhook = $1 AND state = 'waiting'";
    tx.execute(sql, args![id.0, now]).await?;
    let detail = serde_json::json!({ "webhook": id, "organisation": caller.organisation });
    Event::new("webhook.removed").by(&caller).detail(detail).write(&mut tx, now).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The webhook, when it is of the organisation that the caller manages.
async fn own(tx: &mut Tx, caller: &Caller, id: WebhookId) -> Result<()> {
    managed(tx, caller).await?;
    let sql = "SELECT id FROM webhooks WHERE id = $1 AND organisation = $2 AND removed IS NULL";
    tx.optional(sql, args![id.0, caller.organisation.0]).await?.ok_or(ProblemCode::NotFound)?;
    Ok(())
}

/// What a list of deliveries may be narrowed by.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeliveryFilter {
    state: Option<DeliveryState>,
    after: Option<WebhookDeliveryId>,
    limit: Option<u32>,
}

/// GET /webhooks/{id}/deliveries: the newest first; `state=dead` are the dead letters.
pub(crate) async fn deliveries(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<WebhookId>,
    Query(filter): Query<DeliveryFilter>,
) -> Result<Json<Page<WebhookDelivery>>> {
    let limit = filter.limit.unwrap_or(50).clamp(1, 200) as usize;
    let mut tx = hub.db().read().await?;
    own(&mut tx, &caller, id).await?;
    let rows = tx
        .rows(
            "SELECT d.id, d.state, d.attempts, d.status, d.failure, d.created, d.settled, n.kind
             FROM webhook_deliveries d JOIN notices n ON n.id = d.notice
             WHERE d.webhook = $1 AND d.id < $2 AND ($3 = '' OR d.state = $3) ORDER BY d.id DESC LIMIT $4",
            args![
                id.0,
                filter.after.map_or(Uuid::max(), |after| after.0),
                filter.state.map_or("", DeliveryState::as_str),
                (limit as i64).saturating_add(1)
            ],
        )
        .await?;
    let delivery = |row: &Row| -> Result<WebhookDelivery> {
        Ok(WebhookDelivery {
            id: WebhookDeliveryId(row.get("id")?),
            kind: row.get::<String>("kind")?.parse().map_err(|e: String| Fault::internal(e))?,
            state: row.get::<String>("state")?.parse().map_err(|e: String| Fault::internal(e))?,
            attempts: u32::try_from(row.get::<i64>("attempts")?).unwrap_or(0),
            status: row.get::<Option<i64>>("status")?.and_then(|status| u16::try_from(status).ok()),
            failure: row.get("failure")?,
            created: row.get("created")?,
            settled: row.get("settled")?,
        })
    };
    let items: Vec<WebhookDelivery> = rows.iter().take(limit).map(delivery).collect::<Result<_>>()?;
    let next = if rows.len() > limit { items.last().map(|d| d.id.to_string()) } else { None };
    Ok(Json(Page { items, next }))
}

/// POST /webhooks/{id}/deliveries/{delivery}/redeliver: once more, from the first attempt.
pub(crate) async fn redeliver(
    State(hub): State<Hub>,
    caller: Caller,
    Path((id, delivery)): Path<(WebhookId, WebhookDeliveryId)>,
) -> Result<StatusCode> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    own(&mut tx, &caller, id).await?;
    let again = tx
        .execute(
            "UPDATE webhook_deliveries SET state = 'waiting', attempts = 0, settled = NULL
             WHERE id = $1 AND webhook = $2 AND state IN ('dead', 'delivered')",
            args![delivery.0, id.0],
        )
        .await?;
    if again == 0 {
        let sql = "SELECT id FROM webhook_deliveries WHERE id = $1 AND webhook = $2";
        let known = tx.optional(sql, args![delivery.0, id.0]).await?.is_some();
        return Err(if known { ProblemCode::Conflict } else { ProblemCode::NotFound }.into());
    }
    enqueue(&mut tx, delivery).await?;
    let detail = serde_json::json!({ "webhook": id, "delivery": delivery });
    Event::new("webhook.redelivered").by(&caller).detail(detail).write(&mut tx, now).await?;
    tx.commit().await?;
    hub.inner.bell.notify_waiters();
    Ok(StatusCode::ACCEPTED)
}

async fn enqueue(tx: &mut Tx, delivery: WebhookDeliveryId) -> Result<()> {
    let (payload, unique) = (serde_json::json!({ "delivery": delivery }), delivery.to_string());
    tx.enqueue(NewJob { kind: DELIVER, payload, run_at: AT_ONCE, unique: Some(&unique) }).await?;
    Ok(())
}

/// A delivery for each webhook of the organisation that asked for this kind.
pub(crate) async fn dispatch(
    tx: &mut Tx,
    now: Time,
    organisation: OrganisationId,
    notice: NoticeId,
    kind: NoticeKind,
) -> Result<()> {
    let sql = "SELECT id, kinds FROM webhooks WHERE organisation = $1 AND removed IS NULL ORDER BY id";
    for row in tx.rows(sql, args![organisation.0]).await? {
        let kinds = kinds_of(&row.get::<String>("kinds")?)?;
        if !kinds.is_empty() && !kinds.contains(&kind) {
            continue;
        }
        let id = WebhookDeliveryId::new();
        let made = tx
            .execute(
                "INSERT INTO webhook_deliveries (id, webhook, notice, state, attempts, created)
                 VALUES ($1, $2, $3, 'waiting', 0, $4) ON CONFLICT (webhook, notice) DO NOTHING",
                args![id.0, row.get::<Uuid>("id")?, notice.0, now],
            )
            .await?;
        if made == 1 {
            enqueue(tx, id).await?;
        }
    }
    Ok(())
}

/// The job: one attempt.
pub(crate) async fn deliver(hub: &Hub, job: &Job) -> Result<()> {
    let id: WebhookDeliveryId =
        serde_json::from_value(job.payload["delivery"].clone()).map_err(Fault::internal)?;
    let row = hub
        .db()
        .optional(
            "SELECT w.id AS webhook, w.url, w.wrapped_key, d.attempts, n.id, n.kind, n.box, n.deposit, n.document,
                 n.procedure, n.message, n.created
             FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook JOIN notices n ON n.id = d.notice
             WHERE d.id = $1 AND d.state = 'waiting' AND w.removed IS NULL",
            args![id.0],
        )
        .await?;
    let Some(row) = row else { return jobs::complete_alone(hub, job).await };
    let attempts = row.get::<i64>("attempts")?.saturating_add(1);
    let outcome = send(hub, id, &row).await?;
    let now = hub.now();
    let (status, failure) = match &outcome {
        Ok(status) => (Some(i64::from(status.as_u16())), None),
        Err(failure) => (None, Some(*failure)),
    };
    let delivered = outcome.as_ref().is_ok_and(StatusCode::is_success);
    let state = match delivered {
        true => DeliveryState::Delivered,
        false if attempts >= ATTEMPTS => DeliveryState::Dead,
        false => DeliveryState::Waiting,
    };
    let ended = state != DeliveryState::Waiting;
    let mut tx = hub.db().write().await?;
    tx.execute(
        "UPDATE webhook_deliveries SET state = $2, attempts = $3, status = $4, failure = $5, settled = $6
         WHERE id = $1 AND state = 'waiting'",
        args![id.0, state.as_str(), attempts, status, failure, ended.then_some(now)],
    )
    .await?;
    metrics::counter!("pli_webhook_attempts_total", "outcome" => if delivered { "delivered" } else { "failed" })
        .increment(1);
    if !ended {
        tx.commit().await?;
        let said = status.map_or_else(|| failure.unwrap_or("?").to_owned(), |status| status.to_string());
        return Err(Fault::unavailable(format!("the webhook answered: {said}")));
    }
    if tx.complete(job).await? {
        tx.commit().await?;
    }
    Ok(())
}

/// One request; the outer error is ours.
async fn send(hub: &Hub, id: WebhookDeliveryId, row: &Row) -> Result<Result<StatusCode, &'static str>> {
    let notice = WebhookNotice {
        id: NoticeId(row.get("id")?),
        kind: row.get::<String>("kind")?.parse().map_err(|e: String| Fault::internal(e))?,
        which: BoxId(row.get("box")?),
        deposit: row.get::<Option<Uuid>>("deposit")?.map(DepositId),
        document: row.get::<Option<Uuid>>("document")?.map(DocumentId),
        procedure: row.get::<Option<Uuid>>("procedure")?.map(ProcedureId),
        message: row.get::<Option<Uuid>>("message")?.map(MessageId),
        at: row.get("created")?,
    };
    let body = serde_json::to_vec(&notice).map_err(Fault::internal)?;
    let webhooks = hub.webhooks()?;
    let url: Url = row.get::<String>("url")?.parse().map_err(Fault::internal)?;
    if !webhooks.may_reach(&url) {
        return Ok(Err("private-network"));
    }
    let seed = hub.keys().unwrap(&row.get::<Vec<u8>>("wrapped_key")?)?;
    let signer = Signer::from_seed(seed.as_bytes())?;
    let (delivery, keyid) = (id.to_string(), WebhookId(row.get("webhook")?).to_string());
    let signed = signer.sign(url.as_str(), &body, &delivery, &keyid, hub.now());
    let request = webhooks
        .client
        .post(url)
        .header(header::CONTENT_TYPE, "application/json")
        .header("content-digest", signed.content_digest)
        .header("signature-input", signed.signature_input)
        .header("signature", signed.signature)
        .header("pli-delivery", delivery)
        .body(body);
    // The answer's body is of no interest, and is not read.
    Ok(request.send().await.map(|answer| answer.status()).map_err(|error| failure_of(&error)))
}

fn failure_of(error: &reqwest::Error) -> &'static str {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<PrivateNetwork>() {
            return "private-network";
        }
        cause = error.source();
    }
    if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "connection"
    } else {
        "answer"
    }
}

/// Wraps the keys of webhooks for the hub's current certificate; gives how many, and adds those that none opens.
pub(crate) async fn rotate(hub: &Hub, current: &str, refused: &mut Vec<String>) -> Result<u64> {
    let mut moved: u64 = 0;
    let sql = "SELECT id, wrapped_key, wrapped_for FROM webhooks WHERE wrapped_for <> $1 ORDER BY id";
    for row in hub.db().rows(sql, args![current]).await? {
        let id: Uuid = row.get("id")?;
        let key = match hub.keys().unwrap(&row.get::<Vec<u8>>("wrapped_key")?) {
            Ok(key) => key,
            Err(fault) => {
                refused.push(format!("webhook {id}: {fault}"));
                continue;
            }
        };
        let wrapped = key.wrap(&[hub.keys().ring().current()])?;
        let mut tx = hub.db().write().await?;
        let sql = "UPDATE webhooks SET wrapped_key = $2, wrapped_for = $3 WHERE id = $1 AND wrapped_for = $4";
        let done = tx.execute(sql, args![id, wrapped, current, row.get::<String>("wrapped_for")?]).await?;
        tx.commit().await?;
        moved = moved.saturating_add(done);
    }
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_networks_are_known() {
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "::7f00:1",
            "64:ff9b::a00:1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in
            ["1.1.1.1", "100.128.0.1", "172.32.0.1", "193.0.0.1", "2001:4860:4860::8888", "2a01:e0a::1"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }
}
