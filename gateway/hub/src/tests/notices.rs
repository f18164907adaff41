//! Notices and their mail, through a real mail server (`tests/env/with.sh postgres smtp --`).

use crate::mail::{Mail, MailOptions, MailTls};
use crate::notices::{self, About};
use crate::testing::*;
use pli_api::{BoxId, DepositId, NoticeKind, NoticeTiming};
use pli_storage::{Dialect, args};
use serde_json::{Value, json};
use std::path::PathBuf;
use uuid::Uuid;
use zeroize::Zeroizing;

fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run under tests/env/with.sh postgres smtp --"))
}

fn options(tls: MailTls) -> MailOptions {
    let port =
        variable(if tls == MailTls::Implicit { "PLI_TEST_SMTP_TLS" } else { "PLI_TEST_SMTP_STARTTLS" });
    let password = Zeroizing::new(variable("PLI_TEST_SMTP_PASSWORD"));
    MailOptions {
        host: "localhost".into(),
        port: port.parse().unwrap(),
        tls,
        authorities: Some(std::fs::read(variable("PLI_TEST_SMTP_CA")).unwrap()),
        // The listener without STARTTLS asks for nobody.
        credentials: (tls == MailTls::Starttls).then(|| (variable("PLI_TEST_SMTP_USER"), password)),
        from: "pli@justice.example".into(),
        public_url: "https://pli.justice.example".into(),
        digest_hour: 5,
    }
}

async fn mailing(dialect: Dialect) -> World {
    let w = World::on(dialect).await;
    let _ = w.hub.clone().with_mail(Mail::open(options(MailTls::Starttls)).unwrap());
    w
}

/// An account whose address is no other test's.
async fn person(w: &World, what: &str) -> Who {
    let address = format!("{what}-{}@experts.example", Uuid::now_v7().simple());
    account(&w.hub, w.recipient.organisation, &address, "Zoé d'Été").await
}

/// The messages that arrived for an address, oldest first.
fn inbox(address: &str) -> Vec<String> {
    let folder = PathBuf::from(variable("PLI_TEST_SMTP_MAIL")).join(address);
    let count = std::fs::read_dir(&folder).map_or(0, Iterator::count);
    (0..count).map(|n| std::fs::read_to_string(folder.join(format!("{n}.eml"))).unwrap()).collect()
}

/// A message with its quoted-printable parts decoded (RFC 2045, 6.7).
fn decoded(message: &str) -> String {
    let joined = message.replace("=\r\n", "");
    let mut bytes = Vec::new();
    let mut rest = joined.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| *first == b'=') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn tell(w: &World, kind: NoticeKind, to: BoxId, about: About) {
    let mut tx = w.hub.db().write().await.unwrap();
    notices::tell(&mut tx, kind, to, about).await.unwrap();
    tx.commit().await.unwrap();
}

/// A deposit of the sender's at this person's disposal.
async fn deposit_to(w: &World, to: &Who) -> DepositId {
    let body = json!({ "recipients": [to.address], "subject": "AFFAIRE-SECRETE Dupont" });
    let made = w.call(ask("POST", "/api/v1/deposits").by(&w.sender).json(&body)).await.expect(201).json();
    let deposit = made["id"].as_str().unwrap().parse().unwrap();
    w.upload(deposit, "piece-secrete.pdf", b"contenu secret").await;
    w.send(deposit).await.expect(202);
    w.jobs().await;
    deposit
}

async fn mails(w: &World, who: &Who) -> Vec<String> {
    let sql = "SELECT mail FROM notice_copies WHERE account = $1 ORDER BY id";
    w.rows(sql, args![who.id.0]).await.iter().map(|row| row.get("mail").unwrap()).collect()
}

async fn service(w: &World, members: &[&Who]) -> BoxId {
    let id = Uuid::now_v7();
    let sql =
        "INSERT INTO boxes (id, kind, organisation, address, name, function, speciality, folded, created)
               VALUES ($1, 'service', $2, $3, 'Greffe', '', '', 'greffe', $4)";
    let address = format!("greffe-{}@cabinet.example", id.simple());
    w.change(sql, args![id, w.sender.organisation.0, address, w.now()]).await;
    for member in members {
        let sql = "INSERT INTO service_members (service, account, added) VALUES ($1, $2, $3)";
        w.change(sql, args![id, member.id.0, w.now()]).await;
    }
    BoxId(id)
}

async fn absent(w: &World, who: &Who, substitute: &Who) {
    let sql = "INSERT INTO delegations (id, delegator, delegate, kind, starts, ends, created)
               VALUES ($1, $2, $3, 'absence', $4, $5, $4)";
    let ends = w.now().plus_seconds(DAY);
    w.change(sql, args![Uuid::now_v7(), who.id.0, substitute.id.0, w.now(), ends]).await;
}

async fn portal(w: &World, who: &Who) -> Vec<(String, String)> {
    let list = w.call(ask("GET", "/api/v1/notices").by(who)).await.expect(200).json();
    let words = |item: &Value| {
        let word = |field: &str| item[field].as_str().unwrap().to_owned();
        (word("kind"), word("reason"))
    };
    list["items"].as_array().unwrap().iter().map(words).collect()
}

async fn prefer(w: &World, who: &Who, kind: &str, channel: &str, timing: &str) -> Reply {
    let body = json!([{ "kind": kind, "channel": channel, "timing": timing }]);
    w.call(ask("PUT", "/api/v1/notices/preferences").by(who).json(&body)).await
}

on_both! {
    /// The secret stands in the mail and nowhere else; it opens the account once.
    async fn an_invitation_by_mail(dialect) {
        let w = mailing(dialect).await;
        let who = person(&w, "invitee").await;
        let mut tx = w.hub.db().write().await.unwrap();
        crate::invitations::invite(&mut tx, w.now(), who.id, crate::invitations::Purpose::Join).await.unwrap();
        tx.commit().await.unwrap();
        w.jobs().await;
        let mails: Vec<String> = inbox(&who.address).iter().map(|mail| decoded(mail)).collect();
        let [mail] = mails.as_slice() else { panic!("{} mails", mails.len()) };
        let (_, rest) = mail.split_once("https://pli.justice.example/invitation#").unwrap();
        let secret: String = rest.chars().take_while(|c| !c.is_whitespace()).collect();
        let kept = w.rows("SELECT payload AS text FROM jobs UNION ALL SELECT detail FROM events", args![]).await;
        assert!(kept.iter().all(|row| !row.get::<String>("text").unwrap().contains(&secret)));
        let accept = |secret: &str| {
            ask("POST", "/api/v1/invitations/accept")
                .json(&json!({ "secret": secret, "password": "un mot de passe tout neuf" }))
        };
        w.call(accept("pli_faux")).await.problem(404, "not-found");
        w.call(accept(&secret)).await.expect(200);
        w.call(accept(&secret)).await.problem(404, "not-found");
        let sign_in = ask("POST", "/api/v1/session")
            .json(&json!({ "address": who.address, "password": "un mot de passe tout neuf" }));
        w.call(sign_in).await.expect(201);
    }

    async fn availability_is_told_without_content(dialect) {
        let w = mailing(dialect).await;
        let to = person(&w, "zoe").await;
        let deposit = deposit_to(&w, &to).await;
        let arrived = inbox(&to.address);
        assert_eq!(arrived.len(), 1);
        let text = decoded(&arrived[0]);
        assert!(text.contains("Un dépôt de documents est mis à disposition."), "{text}");
        assert!(text.contains("Ouvrir Pli : https://pli.justice.example"));
        assert!(text.contains("<html lang=\"fr\">") && text.contains("href=\"https://pli.justice.example\""));
        assert!(text.contains("Auto-Submitted: auto-generated"));
        for secret in ["AFFAIRE", "Dupont", "piece-secrete", "contenu secret", "pli_", &deposit.to_string(), &w.sender.address] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        assert_eq!(mails(&w, &to).await, ["sent"]);
        let told = w.told("notice.sent").await;
        assert_eq!((told.len(), told[0].deposit, told[0].actor), (1, Some(deposit), None));
        assert_eq!(told[0].detail["to"], to.id.to_string());
        assert_eq!(told[0].detail["about"], "deposit.available");
        assert_eq!(portal(&w, &to).await, [("deposit.available".into(), "own".into())]);
        assert_eq!(portal(&w, &w.stranger).await, []);
        // Once.
        w.jobs().await;
        assert_eq!(inbox(&to.address).len(), 1);
    }

    async fn with_tls_from_the_first_byte(dialect) {
        let w = World::on(dialect).await;
        let _ = w.hub.clone().with_mail(Mail::open(options(MailTls::Implicit)).unwrap());
        let to = person(&w, "implicite").await;
        tell(&w, NoticeKind::MessageReceived, to.id.into(), About::at(w.now())).await;
        w.jobs().await;
        assert_eq!(inbox(&to.address).len(), 1);
    }

    /// A service's members, who replaces one of them, and nobody twice.
    async fn a_service_and_the_absent(dialect) {
        let w = mailing(dialect).await;
        let (a, b, c) = (person(&w, "a").await, person(&w, "b").await, person(&w, "c").await);
        let gone = person(&w, "parti").await;
        w.change("UPDATE boxes SET closed = $2 WHERE id = $1", args![gone.id.0, w.now()]).await;
        let service = service(&w, &[&a, &b, &gone]).await;
        absent(&w, &a, &c).await;
        absent(&w, &b, &a).await;
        tell(&w, NoticeKind::MessageReceived, service, About::at(w.now())).await;
        w.jobs().await;
        for (who, reason) in [(&a, "member"), (&b, "member"), (&c, "substitute")] {
            assert_eq!(inbox(&who.address).len(), 1, "{}", who.address);
            assert_eq!(portal(&w, who).await, [("message.received".into(), reason.into())]);
        }
        assert!(decoded(&inbox(&a.address)[0]).contains("la boîte d'un service dont vous êtes membre"));
        assert!(decoded(&inbox(&c.address)[0]).contains("en remplacement d'une personne absente"));
        assert!(inbox(&gone.address).is_empty());
        // Back.
        w.pass(DAY);
        tell(&w, NoticeKind::MessageReceived, a.id.into(), About::at(w.now())).await;
        w.jobs().await;
        assert_eq!((inbox(&a.address).len(), inbox(&c.address).len()), (2, 1));
    }

    /// A substitute in one procedure hears of that procedure only.
    async fn a_substitute_in_one_procedure(dialect) {
        let w = mailing(dialect).await;
        let (a, c) = (person(&w, "a").await, person(&w, "c").await);
        absent(&w, &a, &c).await;
        let procedure = pli_api::ProcedureId::new();
        w.change("UPDATE delegations SET procedure = $1 WHERE delegator = $2", args![procedure.0, a.id.0]).await;
        for about in [None, Some(pli_api::ProcedureId::new()), Some(procedure)] {
            tell(&w, NoticeKind::PieceFiled, a.id.into(), About::at(w.now()).procedure(about)).await;
        }
        w.jobs().await;
        assert_eq!((portal(&w, &a).await.len(), portal(&w, &c).await.len()), (3, 1));
    }

    async fn preferences(dialect) {
        let w = mailing(dialect).await;
        let to = person(&w, "choix").await;
        let all = w.call(ask("GET", "/api/v1/notices/preferences").by(&to)).await.expect(200).json();
        assert_eq!(all.as_array().unwrap().len(), 2 * NoticeKind::ALL.len());
        prefer(&w, &to, "message.received", "mail", "none").await.expect(200);
        prefer(&w, &to, "piece.filed", "portal", "none").await.expect(200);
        // What carries a delay or a right cannot be switched off.
        prefer(&w, &to, "deposit.available", "mail", "none").await.problem(422, "invalid");
        prefer(&w, &to, "scan.infected", "mail", "daily").await.problem(422, "invalid");
        prefer(&w, &to, "message.received", "portal", "daily").await.problem(422, "invalid");
        let bad = json!([{ "kind": "rien", "channel": "mail", "timing": "none" }]);
        let reply = w.call(ask("PUT", "/api/v1/notices/preferences").by(&to).json(&bad)).await;
        assert!(reply.status.is_client_error());
        for kind in [NoticeKind::MessageReceived, NoticeKind::PieceFiled, NoticeKind::DepositAvailable] {
            tell(&w, kind, to.id.into(), About::at(w.now())).await;
        }
        w.jobs().await;
        assert_eq!(mails(&w, &to).await, ["none", "daily", "sent"]);
        let listed: Vec<_> = portal(&w, &to).await.into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(listed, ["deposit.available", "message.received"]);
        // Another's choices are their own.
        let other = person(&w, "autre").await;
        tell(&w, NoticeKind::MessageReceived, other.id.into(), About::at(w.now())).await;
        w.jobs().await;
        assert_eq!(mails(&w, &other).await, ["sent"]);
    }

    async fn the_digest_of_a_day(dialect) {
        let w = mailing(dialect).await;
        let to = person(&w, "jour").await;
        prefer(&w, &to, "message.received", "mail", NoticeTiming::Daily.as_str()).await.expect(200);
        for kind in [NoticeKind::MessageReceived, NoticeKind::PieceFiled, NoticeKind::MessageReceived] {
            tell(&w, kind, to.id.into(), About::at(w.now())).await;
        }
        w.jobs().await;
        assert!(inbox(&to.address).is_empty());
        w.pass(DAY);
        w.jobs().await;
        let arrived = inbox(&to.address);
        assert_eq!(arrived.len(), 1);
        let text = decoded(&arrived[0]);
        assert!(text.contains("- 2 nouveaux messages") && text.contains("- 1 pièce versée"), "{text}");
        assert_eq!(mails(&w, &to).await, ["sent", "sent", "sent"]);
        assert_eq!(w.told("notice.sent").await.len(), 3, "each has its event");
        w.pass(DAY);
        w.jobs().await;
        assert_eq!(inbox(&to.address).len(), 1, "nothing new, no mail");
    }

    /// Refused for good: the box is marked, the office sees it and is told, once; a mail that arrives ends it.
    async fn an_address_that_is_refused(dialect) {
        let w = mailing(dialect).await;
        let to = person(&w, "refuse").await;
        let deposit = deposit_to(&w, &to).await;
        assert_eq!(mails(&w, &to).await, ["bounced"]);
        let told = w.told("notice.bounced").await;
        assert_eq!((told.len(), told[0].deposit, &told[0].detail["code"]), (1, Some(deposit), &json!(550)));
        assert_eq!(portal(&w, &w.sender).await, [("notice.bounced".into(), "own".into())]);
        let list = |who: Who| { let w = &w; async move { w.call(ask("GET", "/api/v1/bounces").by(&who)).await.expect(200).json()["items"].clone() } };
        let seen = list(w.sender.clone()).await;
        assert_eq!((&seen[0]["address"], &seen[0]["code"], seen.as_array().unwrap().len()), (&json!(to.address), &json!(550), 1));
        assert_eq!(list(w.stranger.clone()).await, json!([]));
        let colleague = account(&w.hub, to.organisation, "gestion@experts.example", "Gestion").await;
        assert_eq!(list(colleague.clone()).await, json!([]));
        let sql = "INSERT INTO roles (account, organisation, role, granted) VALUES ($1, $2, 'manager', $3)";
        w.change(sql, args![colleague.id.0, to.organisation.0, w.now()]).await;
        assert_eq!(list(colleague).await.as_array().unwrap().len(), 1);
        let recipients = format!("/api/v1/deposits/{deposit}/recipients");
        let states = w.call(ask("GET", &recipients).by(&w.sender)).await.expect(200).json();
        assert!(states[0]["bounced"].is_string());
        // The sender is not told again of the same.
        deposit_to(&w, &to).await;
        assert_eq!(portal(&w, &w.sender).await.len(), 1);
        // No job is left that would try for ever.
        assert!(w.hub.db().jobs(Default::default()).await.unwrap().is_empty());

        let address = to.address.replace("refuse", "accepte");
        w.change("UPDATE boxes SET address = $2 WHERE id = $1", args![to.id.0, address.as_str()]).await;
        deposit_to(&w, &Who { address: address.clone(), ..to }).await;
        assert_eq!(inbox(&address).len(), 1);
        assert_eq!(list(w.sender.clone()).await, json!([]));
    }

    async fn an_address_that_is_none(dialect) {
        let w = mailing(dialect).await;
        let to = person(&w, "x").await;
        let espion = format!("espion-{}@x.example", Uuid::now_v7().simple());
        let injected = format!("zoe@experts.example\r\nBcc: {espion}");
        w.change("UPDATE boxes SET address = $2 WHERE id = $1", args![to.id.0, injected]).await;
        tell(&w, NoticeKind::MessageReceived, to.id.into(), About::at(w.now())).await;
        // A name may hold anything: it stays in its field.
        let named = person(&w, "nomme").await;
        let name = format!("Zoé\r\nBcc: {espion}\r\n\r\nCorps");
        w.change("UPDATE boxes SET name = $2 WHERE id = $1", args![named.id.0, name]).await;
        tell(&w, NoticeKind::MessageReceived, named.id.into(), About::at(w.now())).await;
        w.jobs().await;
        assert_eq!(mails(&w, &to).await, ["bounced"]);
        let arrived = inbox(&named.address);
        assert_eq!(arrived.len(), 1);
        assert!(!arrived[0].lines().any(|line| line.to_lowercase().starts_with("bcc:")));
        assert!(inbox(&espion).is_empty());
    }

    async fn put_off_and_then_taken(dialect) {
        let w = mailing(dialect).await;
        let to = person(&w, "tard").await;
        tell(&w, NoticeKind::MessageReceived, to.id.into(), About::at(w.now())).await;
        w.jobs().await;
        assert_eq!(mails(&w, &to).await, ["waiting"]);
        let jobs = w.hub.db().jobs(Default::default()).await.unwrap();
        let said = jobs[0].last_error.clone().unwrap();
        assert!(said.contains("451") && !said.contains(&to.address), "{said}");
        w.pass(10);
        w.jobs().await;
        assert_eq!((mails(&w, &to).await, inbox(&to.address).len()), (vec!["sent".to_owned()], 1));
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM bounces", args![]).await, 0);
    }

    async fn put_off_for_days(dialect) {
        let w = mailing(dialect).await;
        let to = person(&w, "jamais").await;
        tell(&w, NoticeKind::MessageReceived, to.id.into(), About::at(w.now())).await;
        for _ in 0..4 {
            w.jobs().await;
            assert_eq!(mails(&w, &to).await, ["waiting"]);
            w.pass(DAY);
        }
        w.pass(DAY);
        w.jobs().await;
        assert_eq!(mails(&w, &to).await, ["bounced"]);
        assert_eq!(w.told("notice.bounced").await[0].detail["code"], Value::Null);
    }

    /// Nobody's address is at fault when the server is away, lets nobody in, or is not the one it should be.
    async fn a_server_that_is_not_there(dialect) {
        let wrong: [fn(&mut MailOptions); 3] = [
            |o| o.port = 1,
            |o| o.credentials = Some(("pli".into(), Zeroizing::new("faux".into()))),
            |o| o.authorities = Some(rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem().into()),
        ];
        for change in wrong {
            let w = World::on(dialect).await;
            let mut options = options(MailTls::Starttls);
            change(&mut options);
            let _ = w.hub.clone().with_mail(Mail::open(options).unwrap());
            let to = person(&w, "serveur").await;
            tell(&w, NoticeKind::MessageReceived, to.id.into(), About::at(w.now())).await;
            w.jobs().await;
            assert_eq!(mails(&w, &to).await, ["waiting"]);
            let job = w.hub.db().jobs(Default::default()).await.unwrap().pop().unwrap();
            assert_eq!(job.state, pli_storage::JobState::Waiting, "{:?}", job.last_error);
            assert!(inbox(&to.address).is_empty());
        }
    }

    async fn mail_to_a_certificate_is_encrypted(dialect) {
        let w = mailing(dialect).await;
        let to = person(&w, "chiffre").await;
        let path = "/api/v1/me/certificate";
        w.call(ask("GET", path).by(&to)).await.problem(404, "not-found");
        w.call(ask("PUT", path).by(&to).octets(b"pas un certificat")).await.problem(422, "invalid");
        let certificate = ring().certificate().unwrap();
        let set = w.call(ask("PUT", path).by(&to).octets(&certificate)).await.expect(200).json();
        assert_eq!(set["fingerprint"], ring().current().fingerprint());
        tell(&w, NoticeKind::MessageReceived, to.id.into(), About::at(w.now())).await;
        w.jobs().await;
        let arrived = inbox(&to.address);
        assert_eq!(arrived.len(), 1);
        let text = decoded(&arrived[0]);
        assert!(text.contains("multipart/encrypted") && text.contains("protocol=\"application/pgp-encrypted\""), "{text}");
        assert!(text.contains("Version: 1") && text.contains("-----BEGIN PGP MESSAGE-----"));
        assert!(!text.contains("nouveau message") && !text.contains("Bonjour"));
        w.call(ask("DELETE", path).by(&to)).await.expect(204);
        tell(&w, NoticeKind::MessageReceived, to.id.into(), About::at(w.now())).await;
        w.jobs().await;
        assert!(decoded(&inbox(&to.address)[1]).contains("Un nouveau message est arrivé."));
    }

    /// Nothing is mailed where no server is configured, and nothing waits for one.
    async fn without_a_server(dialect) {
        let w = World::on(dialect).await;
        let to = person(&w, "portail").await;
        tell(&w, NoticeKind::MessageReceived, to.id.into(), About::at(w.now())).await;
        w.jobs().await;
        assert_eq!(mails(&w, &to).await, ["none"]);
        assert_eq!(portal(&w, &to).await.len(), 1);
        assert!(w.hub.db().jobs(Default::default()).await.unwrap().is_empty());
    }

    /// No act, no notice.
    async fn a_transaction_that_is_given_up(dialect) {
        let w = World::on(dialect).await;
        let to = person(&w, "rien").await;
        let mut tx = w.hub.db().write().await.unwrap();
        notices::tell(&mut tx, NoticeKind::MessageReceived, to.id.into(), About::at(w.now())).await.unwrap();
        tx.rollback().await.unwrap();
        w.jobs().await;
        assert_eq!(portal(&w, &to).await, []);
    }

    async fn pages_and_old_notices(dialect) {
        let w = World::on(dialect).await;
        let to = person(&w, "pages").await;
        for _ in 0..5 {
            tell(&w, NoticeKind::MessageReceived, to.id.into(), About::at(w.now())).await;
        }
        w.jobs().await;
        let (mut seen, mut after) = (std::collections::BTreeSet::new(), String::new());
        loop {
            let page = w.call(ask("GET", format!("/api/v1/notices?limit=2{after}")).by(&to)).await.expect(200).json();
            seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(seen.len(), 5);
        w.pass(181 * DAY);
        w.jobs().await;
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM notices", args![]).await, 0);
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM notice_copies", args![]).await, 0);
    }
}
