//! Coming in by an invitation, leaving, coming back; and taking one's own data along.

use crate::experts::{Finding, ImportOptions, import};
use crate::invitations::{self, Letter};
use crate::testing::*;
use crate::{admin, organisations};
use pli_api::Role;
use pli_storage::args;
use serde_json::{Value, json};
use std::io::Cursor;
use uuid::Uuid;
use zeroize::Zeroizing;

const ADDRESS: &str = "zoe@experts.example";
const LIST: &str = "numero;nom;courriel\n1;Zoë;zoe@experts.example\n";

async fn list(w: &World, text: &str) -> Vec<Finding> {
    let options = ImportOptions { company: Some("Experts".into()), apply: true, ..ImportOptions::default() };
    let mut found = Vec::new();
    let report = import(&w.hub, Cursor::new(text.as_bytes().to_vec()), &options, |f| found.push(f.clone()))
        .await
        .unwrap();
    assert!(report.applied);
    found
}

/// The mails that the waiting jobs would send.
async fn letters(w: &World) -> Vec<Letter> {
    let mut letters = Vec::new();
    for row in w.rows("SELECT payload FROM jobs WHERE kind = 'invitation.send' ORDER BY id", args![]).await {
        let payload: Value = serde_json::from_str(&row.get::<String>("payload").unwrap()).unwrap();
        let id: Uuid = payload["invitation"].as_str().unwrap().parse().unwrap();
        let mut tx = w.hub.db().write().await.unwrap();
        letters.extend(invitations::letter(&mut tx, w.now(), id).await.unwrap());
        tx.commit().await.unwrap();
    }
    letters
}

async fn letter(w: &World) -> Letter {
    let mut all = letters(w).await;
    assert_eq!(all.len(), 1);
    all.pop().unwrap()
}

async fn accept(w: &World, secret: &str) -> Reply {
    let body = json!({ "secret": secret, "password": PASSWORD });
    w.call(ask("POST", "/api/v1/invitations/accept").json(&body)).await
}

async fn sign_in(w: &World, address: &str) -> Reply {
    w.call(ask("POST", "/api/v1/session").json(&json!({ "address": address, "password": PASSWORD }))).await
}

fn cookie(reply: &Reply) -> String {
    reply.header("set-cookie").unwrap().split_once(';').unwrap().0.to_owned()
}

fn here(method: &str, path: &str, cookie: &str) -> Ask {
    ask(method, path).header("cookie", cookie).header("sec-fetch-site", "same-origin")
}

/// An expert of the list who has come in, and their session.
async fn expert(w: &World) -> String {
    list(w, LIST).await;
    accept(w, &letter(w).await.secret).await.expect(200);
    cookie(&sign_in(w, ADDRESS).await.expect(201))
}

async fn ask_back(w: &World, address: &str) {
    w.call(ask("POST", "/api/v1/opt-in").json(&json!({ "address": address }))).await.expect(202);
}

async fn invitations_of(w: &World, purpose: &'static str) -> i64 {
    w.number("SELECT COUNT(*) AS n FROM invitations WHERE purpose = $1", args![purpose]).await
}

on_both! {
    async fn an_invitation_opens_once(dialect) {
        let w = World::on(dialect).await;
        list(&w, LIST).await;
        sign_in(&w, ADDRESS).await.problem(401, "sign-in-refused");
        let first = letter(&w).await;
        assert_eq!((first.address.as_str(), first.name.as_str()), (ADDRESS, "Zoë"));
        assert!(first.purpose == invitations::Purpose::Join && first.expires == w.now().plus_seconds(30 * DAY));
        // A mail written anew has another secret, and only that one is of use.
        let second = letter(&w).await;
        accept(&w, &first.secret).await.problem(404, "not-found");
        let short = json!({ "secret": second.secret.as_str(), "password": "trop court" });
        w.call(ask("POST", "/api/v1/invitations/accept").json(&short)).await.problem(422, "invalid");
        let endless = json!({ "secret": second.secret.as_str(), "password": "x".repeat(1001) });
        w.call(ask("POST", "/api/v1/invitations/accept").json(&endless)).await.problem(422, "invalid");
        assert_eq!(accept(&w, &second.secret).await.expect(200).json(), json!({ "open": true }));
        accept(&w, &second.secret).await.problem(404, "not-found");
        sign_in(&w, ADDRESS).await.expect(201);
        assert!(letters(&w).await.is_empty(), "who has come in is not invited again");
        // The secret stands nowhere.
        let row = &w.rows("SELECT secret FROM invitations", args![]).await[0];
        assert_eq!(row.get::<Vec<u8>>("secret").unwrap(), sha256(second.secret.as_bytes()));
        let jobs = w.rows("SELECT payload FROM jobs", args![]).await;
        assert!(jobs.iter().all(|row| !row.get::<String>("payload").unwrap().contains("pli_")));
        assert!(w.journal().await.iter().all(|told| !told.detail.to_string().contains("pli_")));
        assert_eq!(w.told("account.joined").await.len(), 1);
    }

    async fn an_invitation_ends(dialect) {
        let w = World::on(dialect).await;
        list(&w, LIST).await;
        let mail = letter(&w).await;
        w.pass(30 * DAY);
        accept(&w, &mail.secret).await.problem(404, "not-found");
        assert!(letters(&w).await.is_empty());
        for wrong in ["", "pli_", "x", &"y".repeat(10_000)] {
            accept(&w, wrong).await.problem(404, "not-found");
        }
    }

    async fn two_who_accept_at_once(dialect) {
        let w = World::on(dialect).await;
        list(&w, LIST).await;
        let mail = letter(&w).await;
        let (a, b) = tokio::join!(accept(&w, &mail.secret), accept(&w, &mail.secret));
        let mut statuses = [a.status.as_u16(), b.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 404]);
    }

    async fn leaving_ends_all_use(dialect) {
        let w = World::on(dialect).await;
        let session = expert(&w).await;
        let me = w.call(here("GET", "/api/v1/me", &session)).await.expect(200).json();
        let id: Uuid = me["account"]["id"].as_str().unwrap().parse().unwrap();
        let token = w.call(here("POST", "/api/v1/tokens", &session).json(&json!({ "name": "x", "days": 9 }))).await.expect(201).json();
        let token = token["token"].as_str().unwrap().to_owned();
        let ends = json!(w.now().plus_seconds(DAY));
        let given = here("POST", "/api/v1/delegations", &session).json(&json!({ "delegate": w.recipient.address, "ends": ends }));
        let given = w.call(given).await.expect(201).json();
        // A token cannot; nor can a page of another origin.
        w.call(ask("POST", "/api/v1/me/opt-out").token(&token)).await.problem(403, "forbidden");
        w.call(ask("POST", "/api/v1/me/opt-out").header("cookie", &session)).await.problem(403, "cross-origin");
        let body = json!({ "recipients": [ADDRESS], "subject": "Mission" });
        let deposit = w.call(ask("POST", "/api/v1/deposits").by(&w.sender).json(&body)).await.expect(201).json();

        let gone = w.call(here("POST", "/api/v1/me/opt-out", &session)).await.expect(204);
        assert!(gone.header("set-cookie").unwrap().contains("Max-Age=0"));
        w.call(here("GET", "/api/v1/me", &session)).await.problem(401, "sign-in-required");
        w.call(ask("GET", "/api/v1/me").token(&token)).await.problem(401, "sign-in-required");
        sign_in(&w, ADDRESS).await.problem(401, "sign-in-refused");
        let acting = ask("GET", "/api/v1/directory").by(&w.recipient).header("pli-delegation", given["id"].as_str().unwrap());
        w.call(acting).await.problem(403, "not-delegated");
        w.call(ask("POST", "/api/v1/deposits").by(&w.sender).json(&body)).await.problem(422, "unknown-recipient");
        let found = w.call(ask("GET", "/api/v1/directory?q=zoe").by(&w.sender)).await.expect(200).json();
        assert_eq!(found["items"], json!([]));
        let row = &w.rows("SELECT password, opted_out FROM accounts WHERE id = $1", args![id]).await[0];
        assert_eq!(row.get::<Option<String>>("password").unwrap(), None);
        // What the law keeps.
        assert_eq!(w.told("account.opted_out").await[0].actor.unwrap().0, id);
        let kept = w.deposit(&w.sender, deposit["id"].as_str().unwrap().parse().unwrap()).await.expect(200).json();
        assert_eq!(kept["recipients"][0]["address"], ADDRESS);
        // The operator cannot give a token either.
        let new = pli_api::NewToken { name: "x".into(), days: 1 };
        assert_eq!(admin::add_token(&w.hub, ADDRESS, &new).await.err().unwrap().code().status(), 404);
    }

    async fn only_experts_may_leave(dialect) {
        let w = World::on(dialect).await;
        let password = Some(Zeroizing::new(PASSWORD.to_owned()));
        admin::add_account(&w.hub, "Cabinet d'instruction", "juge@cabinet.example", "Juge", password).await.unwrap();
        let session = cookie(&sign_in(&w, "juge@cabinet.example").await.expect(201));
        w.call(here("POST", "/api/v1/me/opt-out", &session)).await.problem(403, "forbidden");
        w.call(here("GET", "/api/v1/me", &session)).await.expect(200);
        // An expert may, also the last manager of their company: it is their right.
        let session = expert(&w).await;
        organisations::set_role(&w.hub, "Experts", ADDRESS, Role::Manager, true).await.unwrap();
        w.call(here("POST", "/api/v1/me/opt-out", &session)).await.expect(204);
    }

    async fn no_list_brings_them_back(dialect) {
        let w = World::on(dialect).await;
        let session = expert(&w).await;
        w.call(here("POST", "/api/v1/me/opt-out", &session)).await.expect(204);
        let opted_out = Finding::OptedOut { line: 2, number: "1".into() };
        for text in [LIST, "numero;nom;courriel\n1;Autre;autre@experts.example\n", "numero;nom;courriel\n1;Zoë;autre@experts.example\n"] {
            assert_eq!(list(&w, text).await, std::slice::from_ref(&opted_out));
        }
        // Under another number, the address stays theirs.
        let options = ImportOptions { company: Some("Experts".into()), apply: true, skip_wrong: true, ..ImportOptions::default() };
        let other = Cursor::new(b"numero;nom;courriel\n2;Zo;zoe@experts.example\n".to_vec());
        assert_eq!(import(&w.hub, other, &options, |_| {}).await.unwrap().wrong, 1);
        // Gone from the list and on it again.
        list(&w, "numero;nom;courriel\n").await;
        assert_eq!(list(&w, LIST).await, [opted_out]);
        let row = &w.rows("SELECT b.closed, b.address, b.name, a.opted_out, a.delisted FROM accounts a JOIN boxes b ON b.id = a.id WHERE a.expert_number = '1'", args![]).await[0];
        assert!(row.get::<Option<i64>>("closed").unwrap().is_some() && row.get::<Option<i64>>("opted_out").unwrap().is_some());
        assert_eq!((row.get::<String>("address").unwrap(), row.get::<Option<i64>>("delisted").unwrap()), (ADDRESS.to_owned(), None));
        assert_eq!(row.get::<String>("name").unwrap(), "Zoë");
        assert_eq!(invitations_of(&w, "join").await, 1, "nobody is invited who has left");
    }

    async fn only_they_come_back_and_only_by_their_mail(dialect) {
        let w = World::on(dialect).await;
        let session = expert(&w).await;
        ask_back(&w, ADDRESS).await;
        w.call(here("POST", "/api/v1/me/opt-out", &session)).await.expect(204);
        // The answer is the same for every address, and no one else is mailed.
        for address in ["inconnue@y.example", &w.recipient.address, "pas une adresse", ""] {
            ask_back(&w, address).await;
        }
        ask_back(&w, " ZOE@experts.example").await;
        until("an invitation", async || invitations_of(&w, "return").await == 1).await;
        // Asked again within the hour, mailed once.
        for _ in 0..5 {
            ask_back(&w, ADDRESS).await;
        }
        until("all are looked into", async || w.hub.inner.returning.available_permits() == 16).await;
        assert_eq!(invitations_of(&w, "return").await, 1);
        let mail = letter(&w).await;
        assert!(mail.address == ADDRESS && mail.purpose == invitations::Purpose::Return);
        assert_eq!(accept(&w, &mail.secret).await.expect(200).json(), json!({ "open": true }));
        let session = cookie(&sign_in(&w, ADDRESS).await.expect(201));
        let tokens = w.call(here("GET", "/api/v1/tokens", &session)).await.expect(200).json();
        assert_eq!(tokens, json!([]), "what ended stays ended");
        assert_eq!(w.told("account.return_asked").await[0].actor, None);
        assert_eq!(w.told("account.opted_in").await.len(), 1);
        assert_eq!(list(&w, LIST).await, []);
        // The secret of the mail works once, and for a day.
        accept(&w, &mail.secret).await.problem(404, "not-found");
        w.call(here("POST", "/api/v1/me/opt-out", &session)).await.expect(204);
        w.pass(3600);
        ask_back(&w, ADDRESS).await;
        until("an invitation", async || invitations_of(&w, "return").await == 2).await;
        let mail = letter(&w).await;
        w.pass(DAY);
        accept(&w, &mail.secret).await.problem(404, "not-found");
    }

    async fn back_but_no_longer_on_the_list(dialect) {
        let w = World::on(dialect).await;
        let session = expert(&w).await;
        w.call(here("POST", "/api/v1/me/opt-out", &session)).await.expect(204);
        list(&w, "numero;nom;courriel\n").await;
        ask_back(&w, ADDRESS).await;
        until("an invitation", async || invitations_of(&w, "return").await == 1).await;
        let mail = letter(&w).await;
        assert_eq!(accept(&w, &mail.secret).await.expect(200).json(), json!({ "open": false }));
        sign_in(&w, ADDRESS).await.problem(401, "sign-in-refused");
        // The list takes them back, now that they want it.
        assert!(matches!(list(&w, LIST).await.as_slice(), [Finding::Changed { returned: true, .. }]));
        sign_in(&w, ADDRESS).await.expect(201);
    }

    async fn ones_own_data(dialect) {
        let w = World::on(dialect).await;
        let (sent, documents) = w.available(&[("rapport Dupont.pdf", b"abc")]).await;
        w.download(&w.recipient, documents[0]).await.expect(200);
        w.delegated(&w.sender, &w.stranger, None, w.now(), w.now().plus_seconds(DAY)).await;
        // More events than one page holds.
        for _ in 0..1100 {
            let sql = "INSERT INTO events (id, at, kind, actor, detail) VALUES ($1, $2, 'essai.fait', $3, '{}')";
            w.change(sql, args![Uuid::now_v7(), w.now(), w.sender.id.0]).await;
        }
        let export = async |who: &Who| {
            let reply = w.call(ask("GET", "/api/v1/me/export").by(who)).await.expect(200);
            assert_eq!(reply.header("content-type"), Some("application/json"));
            assert!(reply.header("content-disposition").unwrap().starts_with("attachment"));
            reply.json()
        };
        let mine = export(&w.sender).await;
        assert_eq!(mine["account"]["address"], w.sender.address);
        assert_eq!(mine["roles"][0]["role"], "agent");
        assert_eq!((&mine["deposits_sent"][0]["id"], &mine["deposits_sent"][0]["subject"]), (&json!(sent), &json!("Procédure 24/1234")));
        assert_eq!(mine["documents_sent"][0]["name"], "rapport Dupont.pdf");
        assert_eq!(mine["delegations"][0]["delegate"], w.stranger.address);
        assert_eq!(mine["tokens"].as_array().unwrap().len(), 1);
        let events = mine["events"].as_array().unwrap();
        assert_eq!(events.iter().filter(|event| event["kind"] == "essai.fait").count(), 1100);
        assert_eq!(events.last().unwrap()["kind"], "account.exported");
        // Of what others sent: that they did, and nothing of what they wrote.
        let theirs = export(&w.recipient).await;
        assert_eq!(theirs["deposits_received"][0]["sender"], w.sender.address);
        let text = theirs.to_string();
        for secret in ["24/1234", "rapport Dupont", "essai.fait", "pli_", "argon2"] {
            assert!(!text.contains(secret), "{secret}");
        }
        assert!(export(&w.stranger).await["deposits_received"].as_array().unwrap().is_empty());
    }
}
