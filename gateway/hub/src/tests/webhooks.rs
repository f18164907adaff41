//! Webhooks, to a real HTTPS server that reads the signature by other means than the hub's own.

use crate::notices::{self, About};
use crate::testing::*;
use crate::webhooks::{WebhookOptions, Webhooks};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use pli_api::{NoticeKind, WebhookNotice};
use pli_storage::{Dialect, args};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, Once};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

#[derive(Clone)]
struct Got {
    path: String,
    headers: http::HeaderMap,
    body: Bytes,
}

/// An information system: answers with the status it was told, keeps what came.
struct Receiver {
    url: String,
    authority: Vec<u8>,
    status: Arc<Mutex<u16>>,
    got: Arc<Mutex<Vec<Got>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(rustls::crypto::aws_lc_rs::default_provider().install_default()));
}

impl Receiver {
    async fn start() -> Self {
        provider();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (status, got) = (Arc::new(Mutex::new(204)), Arc::new(Mutex::new(Vec::new())));
        let (telling, keeping) = (Arc::clone(&status), Arc::clone(&got));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, status, got) = (acceptor.clone(), Arc::clone(&telling), Arc::clone(&keeping));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                        let (status, got) = (Arc::clone(&status), Arc::clone(&got));
                        async move {
                            let (parts, body) = request.into_parts();
                            let body = body.collect().await?.to_bytes();
                            let path = parts.uri.path_and_query().unwrap().to_string();
                            got.lock().unwrap().push(Got { path, headers: parts.headers, body });
                            let status = *status.lock().unwrap();
                            let answer =
                                Response::builder().status(status).header("location", "https://localhost:1/");
                            Ok::<_, hyper::Error>(answer.body(Full::new(Bytes::new())).unwrap())
                        }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        let url = format!("https://localhost:{port}/pli?source=a%20b");
        Self { url, authority: made.cert.pem().into(), status, got, task }
    }

    fn answer(&self, status: u16) {
        *self.status.lock().unwrap() = status;
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap().to_str().unwrap()
    }

    /// Verifies as RFC 9421, 3.2 says, from the request as it arrived and the public key alone.
    fn is_signed_by(&self, webhook: &Value, url: &str) -> bool {
        let input = self.header("signature-input").strip_prefix("pli=").unwrap();
        let (list, parameters) = input.strip_prefix('(').unwrap().split_once(')').unwrap();
        let mut base = String::new();
        for component in list.split(' ') {
            let value = match component.trim_matches('"') {
                "@method" => "POST",
                "@target-uri" => url,
                field => self.header(field),
            };
            base.push_str(&format!("{component}: {value}\n"));
        }
        base.push_str(&format!("\"@signature-params\": {input}"));
        assert!(parameters.contains(&format!("keyid=\"{}\"", webhook["id"].as_str().unwrap())));
        let digest = format!("sha-256=:{}:", STANDARD.encode(sha256(&self.body)));
        assert_eq!(self.header("content-digest"), digest);
        for covered in ["@method", "@target-uri", "content-type", "content-digest", "pli-delivery"] {
            assert!(list.contains(&format!("\"{covered}\"")), "{covered}");
        }
        let key = STANDARD.decode(webhook["public_key"].as_str().unwrap()).unwrap();
        let signature = self.header("signature").strip_prefix("pli=:").unwrap().strip_suffix(':').unwrap();
        let signature = STANDARD.decode(signature).unwrap();
        UnparsedPublicKey::new(&ED25519, key).verify(base.as_bytes(), &signature).is_ok()
    }
}

/// A world whose sender manages the organisation.
async fn managed(dialect: Dialect, options: WebhookOptions) -> World {
    provider();
    let w = World::on(dialect).await;
    let _ = w.hub.clone().with_webhooks(Webhooks::open(&options).unwrap());
    let sql = "INSERT INTO roles (account, organisation, role, granted) VALUES ($1, $2, 'manager', $3)";
    w.change(sql, args![w.sender.id.0, w.sender.organisation.0, w.now()]).await;
    w
}

async fn reaching(dialect: Dialect, receiver: &Receiver) -> World {
    managed(dialect, WebhookOptions { private_networks: true, authorities: Some(receiver.authority.clone()) })
        .await
}

async fn register(w: &World, url: &str, kinds: &[&str]) -> Reply {
    w.call(ask("POST", "/api/v1/webhooks").by(&w.sender).json(&json!({ "url": url, "kinds": kinds }))).await
}

async fn tell(w: &World, kind: NoticeKind) {
    let mut tx = w.hub.db().write().await.unwrap();
    let about = About::at(w.now()).deposit(pli_api::DepositId::new());
    notices::tell(&mut tx, kind, w.sender.id.into(), about).await.unwrap();
    tx.commit().await.unwrap();
    w.jobs().await;
}

async fn deliveries(w: &World, webhook: &Value, query: &str) -> Vec<Value> {
    let path = format!("/api/v1/webhooks/{}/deliveries?{query}", webhook["id"].as_str().unwrap());
    let list = w.call(ask("GET", path).by(&w.sender)).await.expect(200).json();
    list["items"].as_array().unwrap().clone()
}

on_both! {
    async fn a_notice_is_carried_and_signed(dialect) {
        let receiver = Receiver::start().await;
        let w = reaching(dialect, &receiver).await;
        let webhook = register(&w, &receiver.url, &["message.received", "deposit.unread"]).await.expect(201).json();
        tell(&w, NoticeKind::MessageReceived).await;
        tell(&w, NoticeKind::PieceFiled).await;
        let got = receiver.got();
        assert_eq!(got.len(), 1, "the other kind was not asked for");
        assert_eq!(got[0].path, "/pli?source=a%20b");
        assert!(got[0].is_signed_by(&webhook, &receiver.url));
        let notice: WebhookNotice = serde_json::from_slice(&got[0].body).unwrap();
        assert_eq!((notice.kind, notice.which, notice.at), (NoticeKind::MessageReceived, w.sender.id.into(), w.now()));
        assert!(notice.deposit.is_some() && notice.message.is_none());
        let text = String::from_utf8(got[0].body.to_vec()).unwrap();
        assert!(!text.contains(&w.sender.address) && !text.contains("Greffe"));
        let listed = deliveries(&w, &webhook, "").await;
        assert_eq!((&listed[0]["state"], &listed[0]["status"], &listed[0]["attempts"]), (&json!("delivered"), &json!(204), &json!(1)));
        assert_eq!(got[0].header("pli-delivery"), listed[0]["id"]);
        // Something altered on the way does not verify.
        for field in ["signature", "pli-delivery", "content-type"] {
            let mut altered = got[0].clone();
            let other = if field == "signature" { format!("pli=:{}:", STANDARD.encode([1; 64])) } else { "x".to_owned() };
            altered.headers.insert(field, other.parse().unwrap());
            assert!(!altered.is_signed_by(&webhook, &receiver.url), "{field}");
        }
        assert!(!got[0].is_signed_by(&webhook, "https://localhost/ailleurs"));
        // The key outlives the hub's certificate.
        let rotated = w.node_with(crate::KeySource::new(|| Ok(rotated().both.clone())).unwrap(), &w.url).await;
        let options = WebhookOptions { private_networks: true, authorities: Some(receiver.authority.clone()) };
        let rotated = rotated.with_webhooks(Webhooks::open(&options).unwrap());
        assert!(crate::admin::rotate_keys(&rotated).await.unwrap().refused.is_empty());
        let alone = w.node_with(crate::KeySource::new(|| Ok(crate::testing::rotated().new.clone())).unwrap(), &w.url).await;
        let alone = alone.with_webhooks(Webhooks::open(&options).unwrap());
        let mut tx = w.hub.db().write().await.unwrap();
        notices::tell(&mut tx, NoticeKind::DepositUnread, w.sender.id.into(), About::at(w.now())).await.unwrap();
        tx.commit().await.unwrap();
        alone.run_due_jobs().await.unwrap();
        assert_eq!(receiver.got().len(), 2);
        assert!(receiver.got()[1].is_signed_by(&webhook, &receiver.url));
    }

    async fn tried_again_then_given_up_then_asked_for_again(dialect) {
        let receiver = Receiver::start().await;
        let w = reaching(dialect, &receiver).await;
        let webhook = register(&w, &receiver.url, &[]).await.expect(201).json();
        receiver.answer(503);
        tell(&w, NoticeKind::MessageReceived).await;
        let state = deliveries(&w, &webhook, "state=waiting").await;
        assert_eq!((&state[0]["status"], &state[0]["attempts"]), (&json!(503), &json!(1)));
        // Not before its time.
        w.jobs().await;
        assert_eq!(receiver.got().len(), 1);
        // A redirect is not followed, and is no success.
        receiver.answer(307);
        for _ in 1..30 {
            w.pass(2 * 3600);
            w.jobs().await;
        }
        assert_eq!(receiver.got().len(), 30);
        let ids: std::collections::BTreeSet<_> = receiver.got().iter().map(|got| got.header("pli-delivery").to_owned()).collect();
        assert_eq!(ids.len(), 1);
        let dead = deliveries(&w, &webhook, "state=dead").await;
        assert_eq!((dead.len(), &dead[0]["status"], &dead[0]["attempts"]), (1, &json!(307), &json!(30)));
        w.pass(DAY);
        w.jobs().await;
        assert_eq!(receiver.got().len(), 30, "given up");
        assert!(w.hub.db().jobs(Default::default()).await.unwrap().is_empty());

        let path = format!("/api/v1/webhooks/{}/deliveries/{}/redeliver", webhook["id"].as_str().unwrap(), dead[0]["id"].as_str().unwrap());
        receiver.answer(200);
        w.call(ask("POST", &path).by(&w.sender)).await.expect(202);
        w.call(ask("POST", &path).by(&w.sender)).await.problem(409, "conflict");
        w.jobs().await;
        assert_eq!(deliveries(&w, &webhook, "state=delivered").await.len(), 1);
        assert_eq!(receiver.got().len(), 31);
        w.call(ask("POST", &path).by(&w.sender)).await.expect(202);
        w.jobs().await;
        assert_eq!(receiver.got().len(), 32, "what arrived may be asked for again too");
    }

    async fn one_that_is_removed(dialect) {
        let receiver = Receiver::start().await;
        let w = reaching(dialect, &receiver).await;
        let webhook = register(&w, &receiver.url, &[]).await.expect(201).json();
        receiver.answer(500);
        tell(&w, NoticeKind::MessageReceived).await;
        let path = format!("/api/v1/webhooks/{}", webhook["id"].as_str().unwrap());
        w.call(ask("DELETE", &path).by(&w.sender)).await.expect(204);
        w.call(ask("DELETE", &path).by(&w.sender)).await.problem(404, "not-found");
        w.pass(3600);
        tell(&w, NoticeKind::MessageReceived).await;
        assert_eq!(receiver.got().len(), 1);
        assert_eq!(w.call(ask("GET", "/api/v1/webhooks").by(&w.sender)).await.expect(200).json(), json!([]));
        let states = w.rows("SELECT state FROM webhook_deliveries", args![]).await;
        assert_eq!(states.iter().map(|row| row.get::<String>("state").unwrap()).collect::<Vec<_>>(), ["cancelled"]);
    }

    async fn addresses_that_may_not_be(dialect) {
        let w = managed(dialect, WebhookOptions::default()).await;
        for url in [
            "", "pli", "http://si.example/", "ftp://si.example/", "https://", "https://a:b@si.example/", "https://a@si.example/",
            "https://si.example/#x", "https://127.0.0.1/", "https://[::1]/", "https://10.0.0.1:8443/", "https://2130706433/",
            "https://0x7f.1/", "https://[::ffff:169.254.169.254]/", "https://si.example:0/", &format!("https://si.example/{}", "x".repeat(2000)),
        ] {
            register(&w, url, &[]).await.problem(422, "invalid");
        }
        for _ in 0..20 {
            register(&w, "https://si.example/pli", &[]).await.expect(201);
        }
        register(&w, "https://si.example/pli", &[]).await.problem(422, "invalid");
    }

    /// A name that leads to this machine is found out when it is resolved, and nothing is sent.
    async fn a_name_into_a_private_network(dialect) {
        let receiver = Receiver::start().await;
        let w = managed(dialect, WebhookOptions { private_networks: false, authorities: Some(receiver.authority.clone()) }).await;
        let webhook = register(&w, &receiver.url, &[]).await.expect(201).json();
        tell(&w, NoticeKind::MessageReceived).await;
        assert!(receiver.got().is_empty());
        let state = deliveries(&w, &webhook, "").await;
        assert_eq!((&state[0]["failure"], &state[0]["status"]), (&json!("private-network"), &Value::Null));
    }

    /// A server that is not the one its name says gets nothing.
    async fn a_server_that_cannot_prove_its_name(dialect) {
        let (receiver, other) = (Receiver::start().await, Receiver::start().await);
        let w = reaching(dialect, &other).await;
        let webhook = register(&w, &receiver.url, &[]).await.expect(201).json();
        tell(&w, NoticeKind::MessageReceived).await;
        assert!(receiver.got().is_empty());
        assert_eq!(deliveries(&w, &webhook, "").await[0]["failure"], "connection");
    }

    /// Each organisation hears of its own boxes only.
    async fn anothers_notices(dialect) {
        let receiver = Receiver::start().await;
        let w = reaching(dialect, &receiver).await;
        register(&w, &receiver.url, &[]).await.expect(201);
        let mut tx = w.hub.db().write().await.unwrap();
        notices::tell(&mut tx, NoticeKind::MessageReceived, w.recipient.id.into(), About::at(w.now())).await.unwrap();
        tx.commit().await.unwrap();
        w.jobs().await;
        assert!(receiver.got().is_empty());
    }
}
