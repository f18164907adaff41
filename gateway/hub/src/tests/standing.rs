//! What people are in an organisation: services, roles, and the access matrix of their routes.

use crate::testing::*;
use crate::{Access, organisations, services};
use pli_api::{AccountId, NewService, Role, ServiceId};
use pli_storage::args;
use serde_json::json;
use uuid::Uuid;

/// The callers of the matrix, all with an account: the office's manager; who shares the service; another of the
/// office; another organisation's manager; an expert; who managed and shared once and no longer does.
const CALLERS: [&str; 6] = ["manager", "member", "colleague", "foreign manager", "expert", "dismissed"];

struct Row {
    method: &'static str,
    path: &'static str,
    access: Access,
    /// For public routes, the first is everybody's.
    statuses: [u16; 6],
}

const fn row(method: &'static str, path: &'static str, statuses: [u16; 6]) -> Row {
    Row { method, path, access: Access::Account, statuses }
}

const fn public(method: &'static str, path: &'static str, status: u16) -> Row {
    Row { access: Access::Public, ..row(method, path, [status; 6]) }
}

const ROLE: &str = "/api/v1/organisations/{id}/people/{account}/roles/{role}";
const MEMBER: &str = "/api/v1/services/{id}/members/{account}";

const MATRIX: &[Row] = &[
    row("GET", "/api/v1/me/export", [200; 6]),
    // By session only.
    row("POST", "/api/v1/me/opt-out", [403; 6]),
    public("POST", "/api/v1/opt-in", 202),
    public("POST", "/api/v1/invitations/accept", 404),
    Row { access: Access::Delegable, ..row("GET", "/api/v1/directory", [200; 6]) },
    // To someone of the office.
    row("POST", "/api/v1/delegations", [201, 201, 201, 422, 422, 201]),
    row("GET", "/api/v1/delegations", [200; 6]),
    // From the member to the colleague: either ends it.
    row("DELETE", "/api/v1/delegations/{id}", [404, 204, 204, 404, 404, 404]),
    row("POST", "/api/v1/services", [201, 403, 403, 404, 404, 403]),
    row("GET", "/api/v1/services", [200; 6]),
    row("GET", "/api/v1/services/{id}", [200, 200, 404, 404, 404, 404]),
    row("PATCH", "/api/v1/services/{id}", [200, 403, 404, 404, 404, 404]),
    row("DELETE", "/api/v1/services/{id}", [204, 403, 404, 404, 404, 404]),
    row("PUT", MEMBER, [204, 403, 404, 404, 404, 404]),
    row("DELETE", MEMBER, [204, 403, 404, 404, 404, 404]),
    row("GET", "/api/v1/organisations/{id}/people", [200, 403, 403, 404, 404, 403]),
    row("PUT", ROLE, [204, 403, 403, 404, 404, 403]),
    row("DELETE", ROLE, [204, 403, 403, 404, 404, 403]),
];

/// For the completeness of the matrix of all routes.
pub(super) fn rows() -> impl Iterator<Item = String> {
    MATRIX.iter().map(|row| format!("{} {} {:?}", row.method, row.path, row.access))
}

struct People {
    manager: Who,
    member: Who,
    colleague: Who,
    foreign: Who,
    dismissed: Who,
}

impl People {
    async fn of(w: &World) -> Self {
        let office = w.sender.organisation;
        let of_office = async |address: &str| account(&w.hub, office, address, "Quelqu'un").await;
        let people = Self {
            manager: of_office("gestion@cabinet.example").await,
            member: of_office("membre@cabinet.example").await,
            colleague: of_office("collegue@cabinet.example").await,
            foreign: account(&w.hub, w.stranger.organisation, "gestion@cour.example", "Gestion").await,
            dismissed: of_office("ancien@cabinet.example").await,
        };
        for (who, organisation) in [
            (&people.manager, office),
            (&people.foreign, w.stranger.organisation),
            (&people.dismissed, office),
        ] {
            manage(w, who, organisation, true).await;
        }
        manage(w, &people.dismissed, office, false).await;
        people
    }

    fn callers<'a>(&'a self, w: &'a World) -> [&'a Who; 6] {
        [&self.manager, &self.member, &self.colleague, &self.foreign, &w.recipient, &self.dismissed]
    }
}

async fn manage(w: &World, who: &Who, organisation: pli_api::OrganisationId, is: bool) {
    let organisation = organisation.to_string();
    organisations::set_role(&w.hub, &organisation, &who.address, Role::Manager, is).await.unwrap();
}

/// One of each thing, new for each request.
struct Objects {
    service: ServiceId,
    delegation: Uuid,
    organisation: Uuid,
    account: AccountId,
    version: i64,
}

impl Objects {
    async fn new(w: &World, people: &People) -> Self {
        let office = w.sender.organisation;
        let address = format!("service-{}@cabinet.example", Uuid::now_v7());
        let new = NewService { organisation: None, address, name: "Greffe".into(), function: String::new() };
        let service = services::add_service(&w.hub, &office.to_string(), &new).await.unwrap();
        for who in [&people.member, &people.dismissed, &w.sender] {
            let sql = "INSERT INTO service_members (service, account, added) VALUES ($1, $2, $3)";
            w.change(sql, args![service.0, who.id.0, w.now()]).await;
        }
        let sql = "DELETE FROM service_members WHERE service = $1 AND account = $2";
        w.change(sql, args![service.0, people.dismissed.id.0]).await;
        let sql = "INSERT INTO roles (account, organisation, role, granted) VALUES ($1, $2, 'auditor', $3)
                   ON CONFLICT (account, organisation, role) DO NOTHING";
        w.change(sql, args![w.sender.id.0, office.0, w.now()]).await;
        // A person has only so many at a time.
        w.change("DELETE FROM delegations WHERE delegator = $1", args![people.member.id.0]).await;
        let ends = w.now().plus_seconds(DAY);
        let delegation = w.delegated(&people.member, &people.colleague, None, w.now(), ends).await;
        Self { service, delegation, organisation: office.0, account: w.sender.id, version: 0 }
    }

    fn unknown() -> Self {
        Self {
            service: ServiceId::new(),
            delegation: Uuid::now_v7(),
            organisation: Uuid::now_v7(),
            account: AccountId::new(),
            version: 0,
        }
    }

    fn ask(&self, w: &World, row: &Row) -> Ask {
        let id = match row.path {
            path if path.contains("/services/{id}") => self.service.0,
            path if path.contains("/delegations/{id}") => self.delegation,
            _ => self.organisation,
        };
        let path = row.path.replace("{id}", &id.to_string());
        let path = path.replace("{account}", &self.account.to_string()).replace("{role}", "auditor");
        match (row.method, row.path) {
            ("GET", "/api/v1/delegations") => ask("GET", path + "?side=given"),
            ("POST", "/api/v1/delegations") => {
                let ends = w.now().plus_seconds(DAY).to_string();
                ask("POST", path).json(&json!({ "delegate": w.sender.address, "ends": ends }))
            }
            ("POST", "/api/v1/services") => {
                let address = format!("{}@cabinet.example", Uuid::now_v7());
                ask("POST", path).json(&json!({
                    "organisation": self.organisation, "address": address, "name": "Greffe" }))
            }
            ("PATCH", _) => ask("PATCH", path).json(&json!({ "version": self.version, "name": "Autre nom" })),
            ("POST", "/api/v1/opt-in") => ask("POST", path).json(&json!({ "address": "x@y.example" })),
            ("POST", "/api/v1/invitations/accept") => {
                ask("POST", path).json(&json!({ "secret": "pli_faux", "password": PASSWORD }))
            }
            (method, _) => ask(method, path),
        }
    }
}

fn service_body(address: &str, name: &str) -> serde_json::Value {
    json!({ "address": address, "name": name })
}

on_both! {
    async fn every_route_and_every_caller(dialect) {
        let w = World::on(dialect).await;
        let people = People::of(&w).await;
        let closed = account(&w.hub, w.sender.organisation, "parti@cabinet.example", "Parti").await;
        manage(&w, &closed, w.sender.organisation, true).await;
        w.change("UPDATE boxes SET closed = $2 WHERE id = $1", args![closed.id.0, w.now()]).await;
        let forged = format!("pli_{}", "A".repeat(43));
        for row in MATRIX {
            for (who, token) in [("nobody", None), ("a forger", Some(&forged)), ("a closed account", Some(&closed.token))] {
                let mut ask = Objects::new(&w, &people).await.ask(&w, row);
                if let Some(token) = token {
                    ask = ask.token(token);
                }
                let expected = if row.access == Access::Public { row.statuses[0] } else { 401 };
                assert_eq!(w.call(ask).await.status, expected, "{} {} by {who}", row.method, row.path);
            }
            for ((name, caller), expected) in CALLERS.iter().zip(people.callers(&w)).zip(row.statuses) {
                let said = format!("{} {} by {name}", row.method, row.path);
                let missing = w.call(Objects::unknown().ask(&w, row).by(caller)).await;
                if row.path.contains("{id}") {
                    assert_eq!(missing.status, 404, "{said}, of nothing");
                }
                let objects = Objects::new(&w, &people).await;
                let reply = w.call(objects.ask(&w, row).by(caller)).await;
                assert_eq!(reply.status, expected, "{said} {:?}", reply.body);
                if reply.status == 404 && row.path.contains("{id}") {
                    assert_eq!((reply.body, reply.headers), (missing.body, missing.headers), "{said}");
                }
            }
        }
    }

    /// Whoever acts for a manager manages nothing: what they gave would outlast the delegation.
    async fn a_delegate_changes_no_organisation(dialect) {
        let w = World::on(dialect).await;
        let people = People::of(&w).await;
        let ends = w.now().plus_seconds(DAY);
        let delegation = w.delegated(&people.manager, &people.colleague, None, w.now(), ends).await;
        for row in MATRIX.iter().filter(|row| row.access != Access::Public) {
            let objects = Objects::new(&w, &people).await;
            let ask = objects.ask(&w, row).by(&people.colleague).header("pli-delegation", delegation);
            let expected = if row.access == Access::Account { 403 } else { row.statuses[0] };
            assert_eq!(w.call(ask).await.status, expected, "{} {}", row.method, row.path);
        }
    }

    async fn a_service_and_its_life(dialect) {
        let w = World::on(dialect).await;
        let people = People::of(&w).await;
        let create = |body| ask("POST", "/api/v1/services").by(&people.manager).json(&body);
        let made = w.call(create(service_body("Greffe.2@Cabinet.example", "  Greffe n° 2 "))).await.expect(201).json();
        assert_eq!((&made["address"], &made["name"]), (&json!("greffe.2@cabinet.example"), &json!("Greffe n° 2")));
        assert_eq!(made["members"], json!([]));
        w.call(create(service_body("GREFFE.2@cabinet.example", "x"))).await.problem(409, "conflict");
        w.call(create(service_body(&w.recipient.address, "x"))).await.problem(409, "conflict");
        let path = format!("/api/v1/services/{}", made["id"].as_str().unwrap());
        let member = |who: &Who| format!("{path}/members/{}", who.id);
        w.call(ask("PUT", member(&people.member)).by(&people.manager)).await.expect(204);
        w.call(ask("PUT", member(&people.member)).by(&people.manager)).await.expect(204);
        // Nobody from elsewhere, nobody who is gone.
        w.call(ask("PUT", member(&w.recipient)).by(&people.manager)).await.problem(404, "not-found");
        let shown = w.call(ask("GET", &path).by(&people.member)).await.expect(200).json();
        assert_eq!(shown["members"][0]["address"], people.member.address);
        let me = w.call(ask("GET", "/api/v1/me").by(&people.member)).await.expect(200).json();
        assert_eq!(me["services"], json!([{ "id": made["id"], "address": made["address"], "name": "Greffe n° 2" }]));
        // Its box takes deposits, and its member reads them.
        let body = json!({ "recipients": [made["address"]] });
        w.call(ask("POST", "/api/v1/deposits").by(&w.recipient).json(&body)).await.expect(201);
        w.call(ask("DELETE", &path).by(&people.manager)).await.expect(204);
        w.call(ask("DELETE", &path).by(&people.manager)).await.problem(409, "conflict");
        w.call(ask("POST", "/api/v1/deposits").by(&w.recipient).json(&body)).await.problem(422, "unknown-recipient");
        w.call(ask("PUT", member(&people.colleague)).by(&people.manager)).await.problem(409, "conflict");
        let change = json!({ "version": 1, "name": "y" });
        w.call(ask("PATCH", &path).by(&people.manager).json(&change)).await.problem(409, "conflict");
        // The past stays with those who shared it; the address is never another's.
        assert!(w.call(ask("GET", &path).by(&people.member)).await.expect(200).json()["closed"].is_string());
        w.call(create(service_body("greffe.2@cabinet.example", "x"))).await.problem(409, "conflict");
        let me = w.call(ask("GET", "/api/v1/me").by(&people.member)).await.expect(200).json();
        assert_eq!(me["services"], json!([]));
        w.call(ask("DELETE", member(&people.member)).by(&people.manager)).await.expect(204);
        w.call(ask("DELETE", member(&people.member)).by(&people.manager)).await.problem(404, "not-found");
        assert_eq!(w.kinds("service.").await, ["service.added", "service.member_added", "service.closed", "service.member_removed"]);
        assert!(w.journal().await.iter().all(|told| !told.detail.to_string().contains("reffe")));
    }

    async fn two_managers_at_once(dialect) {
        let w = World::on(dialect).await;
        let people = People::of(&w).await;
        manage(&w, &people.colleague, w.sender.organisation, true).await;
        let body = service_body("greffe.3@cabinet.example", "Greffe");
        let made = w.call(ask("POST", "/api/v1/services").by(&people.manager).json(&body)).await.expect(201).json();
        let path = format!("/api/v1/services/{}", made["id"].as_str().unwrap());
        let change = |who: &Who, version: i64, name: &str| {
            ask("PATCH", &path).by(who).json(&json!({ "version": version, "name": name }))
        };
        // Both read version 0; one of the two is told.
        let (a, b) = tokio::join!(
            w.call(change(&people.manager, 0, "Greffe A")), w.call(change(&people.colleague, 0, "Greffe B")));
        let mut statuses = [a.status.as_u16(), b.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409]);
        let won = if a.status == 200 { a } else { b };
        let shown = w.call(ask("GET", &path).by(&people.manager)).await.expect(200).json();
        assert_eq!((&shown["name"], &shown["version"]), (&won.json()["name"], &json!(1)));
        for version in [-1, 0, 2, i64::MAX] {
            w.call(change(&people.manager, version, "Greffe C")).await.problem(409, "conflict");
        }
        w.call(change(&people.manager, 1, "Greffe C")).await.expect(200);

        // Two who dismiss each other: an organisation keeps a manager.
        let path = |who: &Who| {
            format!("/api/v1/organisations/{}/people/{}/roles/manager", w.sender.organisation, who.id)
        };
        let (a, b) = tokio::join!(
            w.call(ask("DELETE", path(&people.colleague)).by(&people.manager)),
            w.call(ask("DELETE", path(&people.manager)).by(&people.colleague)));
        let mut statuses = [a.status.as_u16(), b.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [204, 403]);
        let left = w.number("SELECT COUNT(*) AS n FROM roles WHERE role = 'manager' AND organisation = $1",
            args![w.sender.organisation.0]).await;
        assert_eq!(left, 1);
    }

    async fn roles_in_an_organisation(dialect) {
        let w = World::on(dialect).await;
        let people = People::of(&w).await;
        let office = w.sender.organisation;
        let path = |who: &Who, role: &str| format!("/api/v1/organisations/{office}/people/{}/roles/{role}", who.id);
        let by_manager = |method: &str, who: &Who, role: &str| ask(method, path(who, role)).by(&people.manager);
        // Not one's own last manager, by the API or by the operator.
        w.call(by_manager("DELETE", &people.manager, "manager")).await.problem(409, "conflict");
        let last = organisations::set_role(&w.hub, &office.to_string(), &people.manager.address, Role::Manager, false).await;
        assert_eq!(last.err().unwrap().code().status(), 409);
        // A manager who cannot come in does not count.
        w.call(by_manager("PUT", &people.colleague, "manager")).await.expect(204);
        w.change("UPDATE boxes SET closed = 1 WHERE id = $1", args![people.colleague.id.0]).await;
        w.call(by_manager("DELETE", &people.manager, "manager")).await.problem(409, "conflict");
        w.change("UPDATE boxes SET closed = NULL WHERE id = $1", args![people.colleague.id.0]).await;

        w.call(by_manager("PUT", &people.member, "magistrate")).await.expect(204);
        w.call(by_manager("PUT", &people.member, "magistrate")).await.expect(204);
        let me = w.call(ask("GET", "/api/v1/me").by(&people.member)).await.expect(200).json();
        let named = |role: &str| json!({ "organisation": office, "name": "Cabinet d'instruction", "role": role });
        assert_eq!(me["roles"], json!([named("agent"), named("magistrate")]));
        for (who, role) in [(&w.recipient, "agent"), (&people.member, "roi"), (&people.member, "Manager")] {
            w.call(by_manager("PUT", who, role)).await.problem(404, "not-found");
        }
        w.call(by_manager("DELETE", &people.member, "auditor")).await.problem(404, "not-found");
        // Only the operator lets someone in from elsewhere; from then on the manager sees them.
        organisations::set_role(&w.hub, &office.to_string(), &w.recipient.address, Role::Auditor, true).await.unwrap();
        let list = ask("GET", format!("/api/v1/organisations/{office}/people?limit=200")).by(&people.manager);
        let list = w.call(list).await.expect(200).json();
        let of = |who: &Who| list["items"].as_array().unwrap().iter().find(|p| p["account"] == who.id.to_string()).cloned();
        assert_eq!(of(&w.recipient).unwrap()["roles"], json!(["auditor"]));
        assert_eq!(of(&people.manager).unwrap()["roles"], json!(["agent", "manager"]));
        assert!(of(&w.stranger).is_none());
        w.call(by_manager("DELETE", &w.recipient, "auditor")).await.expect(204);
        assert_eq!(w.told("role.granted").await.len(), 6, "those of the ground, then one for each that changed something");
        let told = w.told("role.revoked").await.pop().unwrap();
        assert_eq!((told.actor, &told.detail["role"]), (Some(people.manager.id), &json!("auditor")));

        // A page at a time, each once.
        let (mut after, mut all) = (String::new(), Vec::new());
        loop {
            let page = ask("GET", format!("/api/v1/organisations/{office}/people?limit=2{after}")).by(&people.manager);
            let page = w.call(page).await.expect(200).json();
            all.extend(page["items"].as_array().unwrap().iter().map(|p| p["account"].clone()));
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(all.len(), 5, "the four made here, and the sender");
    }

    async fn names_of_every_kind(dialect) {
        let w = World::on(dialect).await;
        let people = People::of(&w).await;
        let create = async |n: usize, name: &str| {
            let body = service_body(&format!("s{n}@cabinet.example"), name);
            w.call(ask("POST", "/api/v1/services").by(&people.manager).json(&body)).await
        };
        let good = ["Cabinet d'Été — n° 4", "L\u{2019}Œuvre « Zoë »", "\"guillemets\" et <balises>", "../../etc\\passwd", "; DROP TABLE boxes --",
            "قلم التحقيق", "a%_b", &"é".repeat(200)];
        for (n, name) in good.iter().enumerate() {
            let made = create(n, name).await.expect(201).json();
            assert_eq!(made["name"], **name);
        }
        let long = "x".repeat(500);
        for bad in ["", "  ", "a\nb", "a\0b", "a\u{1b}[31mb", "a\u{202e}b", "a\u{200f}b", "a\u{feff}b", &long] {
            let reply = create(90, bad).await.problem(422, "invalid");
            assert!(reply.json()["detail"].as_str().unwrap().starts_with("Nom : "));
        }
        for bad in ["", "x", "a@b\u{202e}c.example", "a b@c.example", &format!("{long}@c.example")] {
            let body = service_body(bad, "Greffe");
            w.call(ask("POST", "/api/v1/services").by(&people.manager).json(&body)).await.problem(422, "invalid");
        }
    }

    async fn services_by_the_operator(dialect) {
        let w = World::on(dialect).await;
        let office = w.sender.organisation.to_string();
        let new = |address: &str| NewService {
            organisation: None, address: address.into(), name: "Greffe".into(), function: "Greffe pénal".into() };
        services::add_service(&w.hub, &office, &new("greffe.5@cabinet.example")).await.unwrap();
        let status = |fault: crate::Fault| fault.code().status();
        assert_eq!(status(services::add_service(&w.hub, &office, &new("greffe.5@cabinet.example")).await.err().unwrap()), 409);
        assert_eq!(status(services::add_service(&w.hub, "Inconnue", &new("z@cabinet.example")).await.err().unwrap()), 404);
        let set = async |person: &str, shares| services::set_member(&w.hub, "greffe.5@cabinet.example", person, shares).await;
        set(&w.sender.address, true).await.unwrap();
        set(&w.sender.address, true).await.unwrap();
        assert_eq!(status(set(&w.recipient.address, true).await.err().unwrap()), 404);
        set(&w.sender.address, false).await.unwrap();
        assert_eq!(status(set(&w.sender.address, false).await.err().unwrap()), 404);
        assert_eq!(w.kinds("service.").await, ["service.added", "service.member_added", "service.member_removed"]);
    }
}
