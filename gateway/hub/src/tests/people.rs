//! Who comes in, by which way, and for how long.

use crate::admin;
use crate::testing::*;
use pli_api::{NewToken, OrganisationKind};
use pli_storage::args;
use serde_json::json;
use zeroize::Zeroizing;

/// Someone with a password.
async fn with_password(w: &World) -> &'static str {
    let organisation = w.sender.organisation.to_string();
    let password = Some(Zeroizing::new(PASSWORD.to_owned()));
    admin::add_account(&w.hub, &organisation, "Juge@Cabinet.example", "La juge", password).await.unwrap();
    "juge@cabinet.example"
}

fn sign_in(address: &str, password: &str) -> Ask {
    ask("POST", "/api/v1/session").json(&json!({ "address": address, "password": password }))
}

/// The secret in a session's cookie.
fn secret(reply: &Reply) -> String {
    let cookie = reply.header("set-cookie").unwrap();
    cookie.split_once('=').unwrap().1.split_once(';').unwrap().0.to_owned()
}

async fn session(w: &World) -> String {
    let address = with_password(w).await;
    secret(&w.call(sign_in(address, PASSWORD)).await.expect(201))
}

fn with_cookie(method: &str, path: &str, secret: &str) -> Ask {
    ask(method, path).header("cookie", format!("autre=1; __Host-pli={secret}; encore=2"))
}

/// As a page of this host makes it.
fn here(method: &str, path: &str, secret: &str) -> Ask {
    with_cookie(method, path, secret).header("sec-fetch-site", "same-origin")
}

on_both! {
    async fn the_right_password(dialect) {
        let w = World::on(dialect).await;
        let address = with_password(&w).await;
        let reply = w.call(sign_in(&format!("  {} ", address.to_uppercase()), PASSWORD)).await.expect(201);
        let cookie = reply.header("set-cookie").unwrap();
        let (value, attributes) = cookie.split_once("; ").unwrap();
        assert!(value.starts_with("__Host-pli=pli_") && value.len() > 11 + 43);
        assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=43200");
        assert!(reply.headers["set-cookie"].is_sensitive(), "no log may show it");
        let me = w.call(with_cookie("GET", "/api/v1/me", &secret(&reply))).await.expect(200).json();
        assert_eq!(me["account"]["address"], address);
        assert_eq!(me["account"]["organisation"], "Cabinet d'instruction");
        assert_eq!(me["limits"]["max_size"], 1 << 30);
        // The database holds a digest of it.
        let row = &w.rows("SELECT secret, expires FROM sessions", args![]).await[0];
        assert_eq!(row.get::<Vec<u8>>("secret").unwrap(), sha256(secret(&reply).as_bytes()));
        assert_eq!(row.get::<pli_api::Time>("expires").unwrap(), w.now().plus_seconds(43200));
        assert_eq!(w.told("session.opened").await.len(), 1);
        assert_eq!(w.told("session.opened").await[0].detail, json!({}));
    }

    async fn wrong_or_unknown(dialect) {
        let w = World::on(dialect).await;
        let address = with_password(&w).await;
        let mut answers = Vec::new();
        for (address, password) in [(address, "pas le bon mot"), ("inconnue@nulle.example", PASSWORD), (address, ""),
            // An account without a password; none at all; what no database takes.
            (&w.sender.address, ""), (&w.sender.address, PASSWORD), ("", ""), ("a\0b@c", "\0"), ("x", &"y".repeat(100_000))] {
            let reply = w.call(sign_in(address, password)).await.problem(401, "sign-in-refused");
            assert_eq!(reply.header("set-cookie"), None);
            answers.push((reply.body.clone(), reply.headers.clone()));
        }
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "the answer is the same");
        w.change("UPDATE boxes SET closed = 1 WHERE address = $1", args![address]).await;
        let disabled = w.call(sign_in(address, PASSWORD)).await.problem(401, "sign-in-refused");
        assert_eq!(disabled.body, answers[0].0);
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM sessions", args![]).await, 0);
        for odd in [json!({}), json!({ "address": "a" }), json!({ "address": "a", "password": "b", "c": 1 })] {
            let reply = w.call(ask("POST", "/api/v1/session").json(&odd)).await;
            assert!(reply.status.is_client_error());
        }
    }

    /// More at a time than are hashed at a time: they wait for their turn.
    async fn many_at_nine_o_clock(dialect) {
        let w = World::on(dialect).await;
        let address = with_password(&w).await;
        let all: Vec<_> = (0..12).map(|n| {
            let (hub, ask) = (w.hub.clone(), sign_in(address, if n % 3 == 0 { "faux" } else { PASSWORD }));
            tokio::spawn(async move { (n, call(&hub, ask).await.status.as_u16()) })
        }).collect();
        for one in all {
            let (n, status) = one.await.unwrap();
            assert_eq!(status, if n % 3 == 0 { 401 } else { 201 });
        }
    }

    async fn a_session_ends(dialect) {
        let w = World::on(dialect).await;
        let secret = session(&w).await;
        let me = || with_cookie("GET", "/api/v1/me", &secret);
        w.call(me()).await.expect(200);
        // The secret opens as a cookie only; a token as a bearer only.
        w.call(ask("GET", "/api/v1/me").token(&secret)).await.problem(401, "sign-in-required");
        w.call(with_cookie("GET", "/api/v1/me", &w.sender.token)).await.problem(401, "sign-in-required");
        // A wrong bearer is not overlooked for a right cookie.
        w.call(me().token("pli_faux")).await.problem(401, "sign-in-required");
        w.pass(43_199);
        w.call(me()).await.expect(200);
        w.pass(1);
        let reply = w.call(me()).await.problem(401, "sign-in-required");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"pli\""));
        w.jobs().await;
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM sessions", args![]).await, 0);
    }

    async fn signing_out(dialect) {
        let w = World::on(dialect).await;
        let secret = session(&w).await;
        let reply = w.call(here("DELETE", "/api/v1/session", &secret)).await.expect(204);
        assert_eq!(reply.header("set-cookie"), Some("__Host-pli=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0"));
        w.call(with_cookie("GET", "/api/v1/me", &secret)).await.problem(401, "sign-in-required");
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM sessions", args![]).await, 0);
        assert_eq!(w.kinds("session.").await, ["session.opened", "session.closed"]);
    }

    async fn pages_of_other_origins(dialect) {
        let w = World::on(dialect).await;
        let secret = session(&w).await;
        let body = json!({ "name": "x", "days": 3 });
        let post = |secret: &str| with_cookie("POST", "/api/v1/tokens", secret).json(&body);
        for (name, value) in [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("sec-fetch-site", "none"),
            ("origin", "https://evil.example"), ("origin", "null"), ("origin", "http://pli.example"), ("referer", "https://pli.example/")] {
            w.call(post(&secret).header(name, value)).await.problem(403, "cross-origin");
        }
        w.call(post(&secret)).await.problem(403, "cross-origin");
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM access_tokens WHERE name = 'x'", args![]).await, 0);
        w.call(post(&secret).header("origin", "https://pli.example")).await.expect(201);
        w.call(post(&secret).header("sec-fetch-site", "same-origin")).await.expect(201);
        // What changes nothing may come from anywhere; a bearer is no cookie.
        w.call(with_cookie("GET", "/api/v1/me", &secret).header("sec-fetch-site", "cross-site")).await.expect(200);
        let body = json!({ "recipients": [w.recipient.address] });
        let bearer = ask("POST", "/api/v1/deposits").by(&w.sender).header("origin", "https://evil.example");
        w.call(bearer.json(&body)).await.expect(201);
        // A method in disguise is judged as what it is sent as.
        let disguised = with_cookie("POST", "/api/v1/uploads/0193e4a0-0000-7000-8000-000000000000", &secret);
        w.call(disguised.header("x-http-method-override", "HEAD").header("tus-resumable", "1.0.0")).await.problem(403, "cross-origin");
    }

    async fn tokens(dialect) {
        let w = World::on(dialect).await;
        let secret = session(&w).await;
        let new = |name: &str, days: u32| json!({ "name": name, "days": days });
        // Whoever steals a token cannot outlive it.
        let by_token = ask("POST", "/api/v1/tokens").by(&w.sender).json(&new("x", 3));
        w.call(by_token).await.problem(403, "forbidden");
        for bad in [new("", 3), new("  ", 3), new("x", 0), new("x", 367), new(&"x".repeat(101), 3), new("a\0b", 3), new("a\nb", 3)] {
            w.call(here("POST", "/api/v1/tokens", &secret).json(&bad)).await.problem(422, "invalid");
        }
        let made = w.call(here("POST", "/api/v1/tokens", &secret).json(&new(" poste 4 ", 3))).await.expect(201).json();
        let token = made["token"].as_str().unwrap().to_owned();
        assert!(token.starts_with("pli_") && token.len() == 4 + 43);
        assert_eq!(made["expires"], w.now().plus_seconds(3 * DAY).to_string());
        let me = w.call(ask("GET", "/api/v1/me").token(&token)).await.expect(200).json();
        assert_eq!(me["account"]["address"], "juge@cabinet.example");
        w.call(ask("GET", "/api/v1/me").header("authorization", format!("bearer {token}"))).await.expect(200);

        // The database holds a digest of it, no answer shows it again, and no event.
        let row = &w.rows("SELECT secret FROM access_tokens WHERE name = 'poste 4'", args![]).await[0];
        assert_eq!(row.get::<Vec<u8>>("secret").unwrap(), sha256(token.as_bytes()));
        let list = w.call(ask("GET", "/api/v1/tokens").token(&token)).await.expect(200);
        assert!(!String::from_utf8_lossy(&list.body).contains(&token));
        assert_eq!(list.json()[0]["name"], "poste 4");
        assert_eq!(list.json().as_array().unwrap().len(), 1, "one's own only");
        assert!(w.journal().await.iter().all(|told| !told.detail.to_string().contains("pli_")));
        assert_eq!(w.told("token.issued").await.pop().unwrap().detail, json!({ "token": made["id"] }));

        // Revoked by its owner only.
        let path = format!("/api/v1/tokens/{}", made["id"].as_str().unwrap());
        w.call(ask("DELETE", &path).by(&w.stranger)).await.problem(404, "not-found");
        w.call(ask("GET", "/api/v1/me").token(&token)).await.expect(200);
        w.call(here("DELETE", &path, &secret)).await.expect(204);
        w.call(ask("GET", "/api/v1/me").token(&token)).await.problem(401, "sign-in-required");
        w.call(here("DELETE", &path, &secret)).await.problem(404, "not-found");
        let list = w.call(with_cookie("GET", "/api/v1/tokens", &secret)).await.expect(200).json();
        assert_eq!(list, json!([]));
        assert_eq!(w.told("token.revoked").await[0].detail, json!({ "token": made["id"] }));

        // Or ended by time.
        let made = w.call(here("POST", "/api/v1/tokens", &secret).json(&new("court", 1))).await.expect(201).json();
        let token = made["token"].as_str().unwrap();
        w.pass(DAY - 1);
        w.call(ask("GET", "/api/v1/me").token(token)).await.expect(200);
        w.pass(1);
        w.call(ask("GET", "/api/v1/me").token(token)).await.problem(401, "sign-in-required");
    }

    async fn a_disabled_account(dialect) {
        let w = World::on(dialect).await;
        let secret = session(&w).await;
        w.call(ask("GET", "/api/v1/me").by(&w.sender)).await.expect(200);
        w.change("UPDATE boxes SET closed = 1", args![]).await;
        w.call(ask("GET", "/api/v1/me").by(&w.sender)).await.problem(401, "sign-in-required");
        w.call(with_cookie("GET", "/api/v1/me", &secret)).await.problem(401, "sign-in-required");
        let token = NewToken { name: "x".into(), days: 1 };
        assert_eq!(admin::add_token(&w.hub, &w.sender.address, &token).await.err().unwrap().code().status(), 404);
    }

    async fn credentials_that_are_none(dialect) {
        let w = World::on(dialect).await;
        for (name, value) in [("authorization", "Bearer"), ("authorization", "Bearer "), ("authorization", "Basic Zm9v"),
            ("authorization", "pli_x"), ("cookie", "__Host-pli="), ("cookie", "__Host-pli"), ("cookie", "pli=x")] {
            w.call(ask("GET", "/api/v1/me").header(name, value)).await.problem(401, "sign-in-required");
        }
    }

    async fn people_by_the_operator(dialect) {
        let w = World::on(dialect).await;
        let code = |result: crate::Result<pli_api::AccountId>| result.err().unwrap().code().status();
        let add = async |organisation: &str, address: &str, password: Option<&str>| {
            let password = password.map(|p| Zeroizing::new(p.to_owned()));
            admin::add_account(&w.hub, organisation, address, "X", password).await
        };
        assert_eq!(code(add("Experts", "GREFFE@cabinet.example", None).await), 409, "one address, one account");
        assert_eq!(code(add("Inconnue", "x@y.example", None).await), 404);
        assert_eq!(code(add("Experts", "x", None).await), 422);
        assert_eq!(code(add("Experts", "x@y.example", Some("trop court")).await), 422);
        add("Experts", "x@y.example", Some(PASSWORD)).await.unwrap();
        w.call(sign_in("x@y.example", PASSWORD)).await.expect(201);
        // Two of one name: the id says which.
        let twin = admin::add_organisation(&w.hub, OrganisationKind::Company, "Experts", 5).await.unwrap();
        assert_eq!(code(add("Experts", "z@y.example", None).await), 404);
        add(&twin.to_string(), "z@y.example", None).await.unwrap();
        assert!(admin::add_organisation(&w.hub, OrganisationKind::Company, " ", 5).await.is_err());
        assert!(admin::add_organisation(&w.hub, OrganisationKind::Company, "Y", u64::MAX).await.is_err());
        let token = NewToken { name: "x".into(), days: 1 };
        assert_eq!(admin::add_token(&w.hub, "inconnue@y.example", &token).await.err().unwrap().code().status(), 404);
        // No address in the journal.
        assert!(w.journal().await.iter().all(|told| !told.detail.to_string().contains('@')));
        let hash = &w.rows("SELECT a.password FROM accounts a JOIN boxes b ON b.id = a.id WHERE b.address = 'x@y.example'", args![]).await[0];
        assert!(hash.get::<String>("password").unwrap().starts_with("$argon2id$"));
    }
}
