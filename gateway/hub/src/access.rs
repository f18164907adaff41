//! Who may call what: one table of routes, each with the access it needs.
//!
//! The router is built from the table, and the access matrix test walks it: a route cannot be added
//! without an access, nor an access without its test. No `Caller`, no handler.

use crate::fault::{Fault, Result};
use crate::{
    Hub, delegations, deposits, directory, documents, download, exhibits, export, holds, inbox, invitations,
    labels, log, members, messages, notices, organisations, people, pieces, problem_response, procedures,
    receipts, recipients, sending, services, threads, uploads, webhooks, withdrawal, zip,
};
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, head, options, patch, post, put};
use http::{HeaderMap, HeaderName, Method, header, request::Parts};
use pli_api::{AccountId, DelegationId, OrganisationId, ProblemCode, ProcedureId};
use uuid::Uuid;

/// The session's cookie. `__Host-` makes browsers refuse it unless it is Secure, of this host and for `/`.
pub(crate) const SESSION_COOKIE: &str = "__Host-pli";

/// Names the delegation by which a request is made for someone else.
pub(crate) const DELEGATION: HeaderName = HeaderName::from_static("pli-delegation");

/// Who is calling, found by the middleware of every route but the public ones.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Whose rights count: the person's own account, or the one they act for.
    pub account: AccountId,
    /// Its organisation.
    pub organisation: OrganisationId,
    /// The session, when it came by one.
    pub(crate) session: Option<Uuid>,
    /// Set when a person acts for this account by a delegation.
    pub(crate) acting: Option<Acting>,
}

/// « X pour Y »: who acts in person, and how far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acting {
    pub(crate) person: AccountId,
    /// In this procedure only.
    pub(crate) procedure: Option<ProcedureId>,
}

impl Caller {
    /// Who is at the keyboard.
    #[must_use]
    pub fn person(&self) -> AccountId {
        self.acting.map_or(self.account, |acting| acting.person)
    }

    /// The only procedure that the caller's delegation reaches, for SQL: NULL when nothing limits it.
    pub(crate) fn scope(&self) -> Option<Uuid> {
        self.acting.and_then(|acting| acting.procedure).map(|procedure| procedure.0)
    }
}

/// Who does an act, for the journal: the person, and for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Actor {
    pub(crate) person: AccountId,
    pub(crate) on_behalf: Option<AccountId>,
}

impl From<&Caller> for Actor {
    fn from(caller: &Caller) -> Self {
        Self { person: caller.person(), on_behalf: caller.acting.map(|_| caller.account) }
    }
}

impl From<AccountId> for Actor {
    fn from(person: AccountId) -> Self {
        Self { person, on_behalf: None }
    }
}

/// What a route needs before its handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Public,
    /// An account, by session or by token, in person: no delegation reaches it.
    Account,
    /// An account, also through a delegation that is not limited to one procedure.
    Delegable,
    /// An account, also through a delegation for one procedure, which the handler applies.
    Scoped,
}

/// A row of the table, as tests and documents read it.
#[derive(Clone, Debug)]
pub struct RouteFacts {
    /// Method.
    pub method: Method,
    /// Template.
    pub path: &'static str,
    /// Access.
    pub access: Access,
}

type Route = (Method, &'static str, Access, MethodRouter<Hub>);

fn table() -> Vec<Route> {
    use Access::{Account, Delegable, Public, Scoped};
    vec![
        (Method::POST, "/api/v1/session", Public, post(people::sign_in)),
        (Method::DELETE, "/api/v1/session", Account, delete(people::sign_out)),
        (Method::GET, "/api/v1/me", Account, get(people::me)),
        (Method::GET, "/api/v1/me/export", Account, get(export::export)),
        (Method::POST, "/api/v1/me/opt-out", Account, post(withdrawal::opt_out)),
        (Method::POST, "/api/v1/opt-in", Public, post(withdrawal::opt_in)),
        (Method::POST, "/api/v1/invitations/accept", Public, post(invitations::accept)),
        (Method::GET, "/api/v1/directory", Delegable, get(directory::list)),
        (Method::POST, "/api/v1/delegations", Account, post(delegations::create)),
        (Method::GET, "/api/v1/delegations", Account, get(delegations::list)),
        (Method::DELETE, "/api/v1/delegations/{id}", Account, delete(delegations::revoke)),
        (Method::POST, "/api/v1/services", Account, post(services::create)),
        (Method::GET, "/api/v1/services", Account, get(services::list)),
        (Method::GET, "/api/v1/services/{id}", Account, get(services::show)),
        (Method::PATCH, "/api/v1/services/{id}", Account, patch(services::change)),
        (Method::DELETE, "/api/v1/services/{id}", Account, delete(services::close)),
        (Method::PUT, "/api/v1/services/{id}/members/{account}", Account, put(services::put_member)),
        (Method::DELETE, "/api/v1/services/{id}/members/{account}", Account, delete(services::delete_member)),
        (Method::GET, "/api/v1/organisations/{id}/people", Account, get(organisations::list_people)),
        (
            Method::PUT,
            "/api/v1/organisations/{id}/people/{account}/roles/{role}",
            Account,
            put(organisations::grant),
        ),
        (
            Method::DELETE,
            "/api/v1/organisations/{id}/people/{account}/roles/{role}",
            Account,
            delete(organisations::revoke),
        ),
        (Method::POST, "/api/v1/tokens", Account, post(people::create_token)),
        (Method::GET, "/api/v1/tokens", Account, get(people::list_tokens)),
        (Method::DELETE, "/api/v1/tokens/{id}", Account, delete(people::revoke_token)),
        (Method::POST, "/api/v1/deposits", Delegable, post(deposits::create)),
        (Method::GET, "/api/v1/deposits", Delegable, get(deposits::list)),
        (Method::GET, "/api/v1/deposits/{id}", Scoped, get(deposits::show)),
        (Method::DELETE, "/api/v1/deposits/{id}", Delegable, delete(deposits::discard)),
        (Method::POST, "/api/v1/deposits/{id}/send", Delegable, post(deposits::send)),
        (Method::GET, "/api/v1/deposits/{id}/zip", Scoped, get(zip::download)),
        (Method::GET, "/api/v1/deposits/{id}/trail", Delegable, get(receipts::trail)),
        // To open one is outside of any delegation that is limited to one.
        (Method::POST, "/api/v1/procedures", Delegable, post(procedures::create)),
        (Method::GET, "/api/v1/procedures", Scoped, get(procedures::list)),
        (Method::GET, "/api/v1/procedures/{id}", Scoped, get(procedures::show)),
        (Method::PATCH, "/api/v1/procedures/{id}", Scoped, patch(procedures::change)),
        (Method::POST, "/api/v1/procedures/{id}/close", Scoped, post(procedures::close)),
        (Method::POST, "/api/v1/procedures/{id}/reopen", Scoped, post(procedures::reopen)),
        (Method::GET, "/api/v1/procedures/{id}/members", Scoped, get(members::list)),
        (Method::POST, "/api/v1/procedures/{id}/members", Scoped, post(members::add)),
        (Method::PATCH, "/api/v1/procedures/{id}/members/{box}", Scoped, patch(members::change)),
        (Method::DELETE, "/api/v1/procedures/{id}/members/{box}", Scoped, delete(members::remove)),
        (Method::GET, "/api/v1/procedures/{id}/pieces", Scoped, get(pieces::list)),
        (Method::POST, "/api/v1/procedures/{id}/pieces", Scoped, post(pieces::file)),
        (Method::GET, "/api/v1/procedures/{id}/pieces/{piece}", Scoped, get(pieces::show)),
        (Method::PATCH, "/api/v1/procedures/{id}/pieces/{piece}", Scoped, patch(pieces::change)),
        (Method::POST, "/api/v1/procedures/{id}/pieces/{piece}/withdraw", Scoped, post(pieces::withdraw)),
        (Method::GET, "/api/v1/procedures/{id}/exhibits", Scoped, get(exhibits::list)),
        (Method::POST, "/api/v1/procedures/{id}/exhibits", Scoped, post(exhibits::place)),
        (Method::GET, "/api/v1/procedures/{id}/exhibits/{exhibit}", Scoped, get(exhibits::show)),
        (Method::PATCH, "/api/v1/procedures/{id}/exhibits/{exhibit}", Scoped, patch(exhibits::change)),
        (
            Method::POST,
            "/api/v1/procedures/{id}/exhibits/{exhibit}/movements",
            Scoped,
            post(exhibits::relocate),
        ),
        (Method::GET, "/api/v1/documents/{id}", Scoped, get(documents::show)),
        (Method::GET, "/api/v1/documents/{id}/content", Scoped, get(download::content)),
        (Method::GET, "/api/v1/inbox", Scoped, get(inbox::list)),
        (Method::GET, "/api/v1/inbox/boxes", Scoped, get(inbox::boxes)),
        (Method::POST, "/api/v1/messages", Scoped, post(messages::create)),
        (Method::GET, "/api/v1/messages", Scoped, get(messages::drafts)),
        (Method::GET, "/api/v1/messages/{id}", Scoped, get(messages::show)),
        (Method::PUT, "/api/v1/messages/{id}", Scoped, put(messages::edit)),
        (Method::DELETE, "/api/v1/messages/{id}", Scoped, delete(messages::discard)),
        (Method::POST, "/api/v1/messages/{id}/deposit", Scoped, post(messages::open_deposit)),
        (Method::POST, "/api/v1/messages/{id}/send", Scoped, post(sending::send)),
        (Method::POST, "/api/v1/messages/{id}/read", Scoped, post(inbox::read)),
        (Method::PUT, "/api/v1/messages/{id}/archive", Scoped, put(inbox::archive)),
        (Method::DELETE, "/api/v1/messages/{id}/archive", Scoped, delete(inbox::unarchive)),
        (Method::PUT, "/api/v1/messages/{id}/labels/{label}", Scoped, put(labels::put)),
        (Method::DELETE, "/api/v1/messages/{id}/labels/{label}", Scoped, delete(labels::take_off)),
        (Method::POST, "/api/v1/messages/{id}/recipients", Scoped, post(sending::add_recipient)),
        (
            Method::DELETE,
            "/api/v1/messages/{id}/recipients/{address}",
            Scoped,
            delete(sending::withdraw_recipient),
        ),
        (Method::GET, "/api/v1/messages/{id}/trail", Scoped, get(sending::trail)),
        (Method::GET, "/api/v1/threads/{id}", Scoped, get(threads::show)),
        // Labels are the whole box's.
        (Method::POST, "/api/v1/labels", Delegable, post(labels::create)),
        (Method::GET, "/api/v1/labels", Delegable, get(labels::list)),
        (Method::PUT, "/api/v1/labels/{id}", Delegable, put(labels::rename)),
        (Method::DELETE, "/api/v1/labels/{id}", Delegable, delete(labels::remove)),
        (Method::OPTIONS, "/api/v1/uploads", Public, options(uploads::capabilities)),
        (Method::POST, "/api/v1/uploads", Delegable, post(uploads::create)),
        (Method::GET, "/api/v1/uploads", Delegable, get(uploads::list)),
        (Method::OPTIONS, "/api/v1/uploads/{id}", Public, options(uploads::capabilities)),
        (Method::HEAD, "/api/v1/uploads/{id}", Delegable, head(uploads::state)),
        (Method::PATCH, "/api/v1/uploads/{id}", Delegable, patch(uploads::append)),
        (Method::DELETE, "/api/v1/uploads/{id}", Delegable, delete(uploads::terminate)),
        (Method::POST, "/api/v1/uploads/{id}", Delegable, post(uploads::overridden)),
        (Method::GET, "/api/v1/deposits/{id}/recipients", Delegable, get(recipients::list)),
        (Method::POST, "/api/v1/deposits/{id}/recipients", Delegable, post(recipients::add)),
        (Method::DELETE, "/api/v1/deposits/{id}/recipients/{box}", Delegable, delete(recipients::withdraw)),
        (Method::POST, "/api/v1/holds", Delegable, post(holds::place)),
        (Method::GET, "/api/v1/holds", Delegable, get(holds::list)),
        (Method::POST, "/api/v1/holds/{id}/lift", Delegable, post(holds::lift)),
        (Method::GET, "/api/v1/notices", Account, get(notices::list)),
        (Method::GET, "/api/v1/notices/preferences", Account, get(notices::preferences)),
        (Method::PUT, "/api/v1/notices/preferences", Account, put(notices::set_preferences)),
        (Method::GET, "/api/v1/bounces", Delegable, get(notices::bounces)),
        (Method::GET, "/api/v1/me/certificate", Account, get(notices::certificate)),
        (Method::PUT, "/api/v1/me/certificate", Account, put(notices::set_certificate)),
        (Method::DELETE, "/api/v1/me/certificate", Account, delete(notices::remove_certificate)),
        (Method::POST, "/api/v1/webhooks", Account, post(webhooks::register)),
        (Method::GET, "/api/v1/webhooks", Account, get(webhooks::list)),
        (Method::DELETE, "/api/v1/webhooks/{id}", Account, delete(webhooks::remove)),
        (Method::GET, "/api/v1/webhooks/{id}/deliveries", Account, get(webhooks::deliveries)),
        (
            Method::POST,
            "/api/v1/webhooks/{id}/deliveries/{delivery}/redeliver",
            Account,
            post(webhooks::redeliver),
        ),
        (Method::GET, "/api/v1/receipts", Delegable, get(receipts::list)),
        (Method::GET, "/api/v1/receipts/{id}", Delegable, get(receipts::show)),
        (Method::GET, "/api/v1/journal/checkpoint", Delegable, get(log::show_checkpoint)),
        (Method::GET, "/api/v1/journal/proof/inclusion", Delegable, get(log::prove_inclusion)),
        (Method::GET, "/api/v1/journal/proof/consistency", Delegable, get(log::prove_consistency)),
    ]
}

/// Every route with its access.
#[must_use]
pub fn routes() -> Vec<RouteFacts> {
    table().into_iter().map(|(method, path, access, _)| RouteFacts { method, path, access }).collect()
}

pub(crate) fn router(hub: Hub) -> axum::Router {
    let mut router = axum::Router::new();
    for (_, path, access, handler) in table() {
        let handler = match access {
            Access::Public => handler,
            _ => handler.layer(middleware::from_fn_with_state((hub.clone(), access), require_account)),
        };
        router = router.route(path, handler);
    }
    router
        .method_not_allowed_fallback(|| async { problem_response(ProblemCode::MethodNotAllowed, None) })
        .fallback(|| async { problem_response(ProblemCode::NotFound, None) })
        .with_state(hub)
}

async fn require_account(
    State((hub, access)): State<(Hub, Access)>,
    mut request: Request,
    next: Next,
) -> Response {
    match identify(&hub, access, request.method(), request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(fault) => fault.into_response(),
    }
}

/// Who is calling, and for whom.
async fn identify(hub: &Hub, access: Access, method: &Method, headers: &HeaderMap) -> Result<Caller> {
    let caller = authenticate(hub, method, headers).await?;
    let Some(named) = headers.get(DELEGATION) else { return Ok(caller) };
    let refused = || Fault::new(ProblemCode::NotDelegated);
    let named: DelegationId = named.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(refused)?;
    let acting = delegations::act(hub, &caller, named).await?.ok_or_else(refused)?;
    match (access, acting.scope()) {
        (Access::Scoped, _) | (Access::Delegable, None) => Ok(acting),
        _ => Err(refused()),
    }
}

async fn authenticate(hub: &Hub, method: &Method, headers: &HeaderMap) -> Result<Caller> {
    let refused = || {
        let realm = http::HeaderValue::from_static("Bearer realm=\"pli\"");
        Fault::new(ProblemCode::SignInRequired).with(header::WWW_AUTHENTICATE, realm)
    };
    let now = hub.now();
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let secret = value
            .to_str()
            .ok()
            .and_then(|v| v.split_once(' '))
            .filter(|(s, _)| s.eq_ignore_ascii_case("bearer"));
        let Some((_, secret)) = secret else { return Err(refused()) };
        return people::account_of(hub, secret.trim(), now, false).await?.ok_or_else(refused);
    }
    let Some(secret) = session_secret(headers) else { return Err(refused()) };
    let caller = people::account_of(hub, secret, now, true).await?.ok_or_else(refused)?;
    if !(method.is_safe() || same_origin(headers)) {
        return Err(ProblemCode::CrossOrigin.into());
    }
    Ok(caller)
}

fn session_secret(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|v| v.to_str().ok());
    let mut pairs = cookies.flat_map(|v| v.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == SESSION_COOKIE).map(|(_, value)| value)
}

/// A request that a browser makes with the cookie must come from a page of this host: browsers of this
/// decade send `Sec-Fetch-Site` or `Origin` with every unsafe request.
fn same_origin(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|v: &http::HeaderValue| v.to_str().ok());
    if let Some(site) = text(http::HeaderName::from_static("sec-fetch-site")) {
        return site == "same-origin";
    }
    let host = text(header::HOST);
    text(header::ORIGIN).and_then(|o| o.strip_prefix("https://")).is_some_and(|origin| Some(origin) == host)
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        // Absent only when a handler that takes a caller was put behind `Access::Public`.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| ProblemCode::SignInRequired.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_route_once() {
        let rows = routes();
        let unique: BTreeSet<_> = rows.iter().map(|r| format!("{} {}", r.method, r.path)).collect();
        assert_eq!(unique.len(), rows.len());
    }

    #[test]
    fn a_foreign_page_is_told_by_its_origin() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in pairs {
                map.insert(*name, http::HeaderValue::from_static(value));
            }
            same_origin(&map)
        };
        assert!(of(&[("sec-fetch-site", "same-origin")]));
        assert!(of(&[("host", "pli.example"), ("origin", "https://pli.example")]));
        assert!(!of(&[("host", "pli.example"), ("origin", "https://evil.example")]));
        assert!(!of(&[("sec-fetch-site", "cross-site"), ("host", "a"), ("origin", "https://a")]));
        assert!(!of(&[("sec-fetch-site", "none")]));
        assert!(!of(&[("host", "pli.example")]));
        assert!(!of(&[("host", "pli.example"), ("origin", "null")]));
    }
}
