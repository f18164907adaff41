//! What a careless or hostile caller sends: each is refused with its status and code, the gateway goes on, and
//! nothing of it is kept.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pli_tests::content::Content;
use pli_tests::exchange::fed;
use pli_tests::{Answer, Backend, Exchange, Site, SiteOptions, Upload, until};
use reqwest::Method;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};

const MIB: u64 = 1 << 20;

fn checks(answer: &Answer, status: u16, code: &str) -> Result<()> {
    ensure!(
        answer.status == status && answer.problem() == code,
        "{} {} instead of {status} {code}",
        answer.status,
        answer.text()
    );
    Ok(())
}

#[tokio::test]
async fn unfinished_uploads_of_an_account_are_limited() -> Result<()> {
    let configuration = "[transfers]\npending_uploads = 3\n".to_owned();
    let site = Site::new(SiteOptions { configuration, ..SiteOptions::new(Backend::Embedded) }).await?;
    let _gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    // Many at once, so that none passes beside the count.
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..12 {
        let (api, deposit) = (exchange.api.clone(), exchange.deposit);
        tasks.spawn(async move { api.create(deposit, &format!("D{number}.bin"), Some(10)).await });
    }
    let mut made = Vec::new();
    while let Some(answer) = tasks.join_next().await {
        let answer = answer??;
        match answer.status.as_u16() {
            201 => made.push(answer.header("location").context("no Location")?.to_owned()),
            _ => checks(&answer, 429, "too-many")?,
        }
    }
    ensure!(made.len() == 3, "{} uploads were let through", made.len());
    // Another account is not held up; an upload that ended gives its place back.
    let other = site.member("juge@demo.invalid").await?;
    let deposit = site.api(&other)?.deposit(&[&exchange.reader.address], "Autre").await?.id;
    site.api(&other)?.create(deposit, "D1.bin", Some(10)).await?.expect(201)?;
    exchange.api.send(exchange.api.tus(Method::DELETE, &made[0])).await?.expect(204)?;
    exchange.api.create(exchange.deposit, "D20.bin", Some(10)).await?.expect(201)?;
    checks(&exchange.api.create(exchange.deposit, "D21.bin", Some(10)).await?, 429, "too-many")?;
    Ok(())
}

#[tokio::test]
async fn the_limit_of_unfinished_uploads_holds_without_being_asked_for() -> Result<()> {
    let site = Site::new(SiteOptions::new(Backend::Embedded)).await?;
    let shown = site.run(&["config", "check"]).await?;
    let line = shown.lines().find(|line| line.starts_with("pending_uploads"));
    let limit = line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).context("no limit")?;
    ensure!((1..10_000).contains(&limit), "{limit} unfinished uploads by default");
    Ok(())
}

#[tokio::test]
async fn wrong_requests_have_their_own_answers() -> Result<()> {
    let configuration = "[transfers]\nmax_size = \"32 MiB\"\nsegment_size = \"4 MiB\"\n".to_owned();
    let site = Site::new(SiteOptions { configuration, ..SiteOptions::new(Backend::Embedded) }).await?;
    let _gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    let api = &exchange.api;
    let content = Content::new(61, 9 * MIB);
    let upload = exchange.begin("D1.bin", content).await?;
    let at = upload.location.as_str();
    let offset_is = async |expected: u64| -> Result<()> {
        let offset = api.offset(at).await?;
        ensure!(offset == expected, "{offset} instead of {expected}");
        Ok(())
    };

    // 460: over several segments, so that what was stored before the verdict must go again.
    let wrong = format!("sha256 {}", "A".repeat(43) + "=");
    let sent = api.patching(at, 0).header("Upload-Checksum", &wrong).body(content.bytes(0, 9 * MIB - 1));
    checks(&api.send(sent).await?, 460, "checksum-mismatch")?;
    offset_is(0).await?;
    let sent = api.patching(at, 0).header("Upload-Checksum", "md5 AAAA").body(vec![1, 2, 3]);
    checks(&api.send(sent).await?, 400, "bad-checksum")?;
    offset_is(0).await?;
    // Nothing of it stays in the store.
    until("the refused segments to be gone", async || Ok(site.objects("segments")?.is_empty().then_some(())))
        .await?;

    // 409: ahead, behind, with the durable offset in the answer.
    api.patch(at, 0, content.bytes(0, 5 * MIB)).await?.expect(204)?;
    for wrong in [0, 5 * MIB - 1, 5 * MIB + 1, 9 * MIB] {
        let answer = api.patch(at, wrong, vec![7; 10]).await?;
        checks(&answer, 409, "wrong-offset")?;
        ensure!(answer.offset()? == 5 * MIB);
    }
    offset_is(5 * MIB).await?;

    // 413: more than announced, with and without Content-Length; more than the limit; more than the quota.
    // The gateway closes a connection whose request it did not read to its end, and says so: the same client goes on.
    checks(&api.patch(at, 5 * MIB, vec![0; (4 * MIB + 1) as usize]).await?, 413, "too-large")?;
    let (feed, body) = fed();
    let (other, address) = (api.clone(), at.to_owned());
    let writer = tokio::spawn(async move { other.patch(&address, 5 * MIB, body).await });
    for _ in 0..17 {
        if feed.send(vec![0; 1 << 18]).await.is_err() {
            break;
        }
    }
    drop(feed);
    checks(&writer.await??, 413, "too-large")?;
    let reached = api.offset(at).await?;
    ensure!(reached <= 9 * MIB, "{reached}");
    let answer = api.create(exchange.deposit, "D2.bin", Some(32 * MIB + 1)).await?;
    checks(&answer, 413, "too-large")?;
    ensure!(answer.header("tus-max-size") == Some("33554432"));
    let deferred = api.create(exchange.deposit, "D3.bin", None).await?.expect(201)?;
    let deferred = deferred.header("location").context("no Location")?;
    let sent = api.patching(deferred, 0).header("Upload-Length", 32 * MIB + 1).body(vec![1]);
    checks(&api.send(sent).await?, 413, "too-large")?;

    // 400: metadata, lengths, offsets.
    let deposit = exchange.deposit.to_string();
    let good = pli_tests::api::metadata([("filename", "a.bin"), ("deposit", deposit.as_str())]);
    for (metadata, length) in [
        (None, "10"),
        (Some("filename"), "10"),
        (Some("filename !!!"), "10"),
        (Some("filename YQ==,filename YQ=="), "10"),
        (Some(good.as_str()), "-1"),
        (Some(good.as_str()), "1e3"),
        (Some(good.as_str()), "99999999999999999999999"),
        (Some(&pli_tests::api::metadata([("filename", "a.bin"), ("deposit", "pas un identifiant")])), "10"),
        (Some(&pli_tests::api::metadata([("filename", "../../etc/passwd\0"), ("deposit", &deposit)])), "10"),
    ] {
        let request = api.tus(Method::POST, "/api/v1/uploads").header("Upload-Length", length);
        let request = match metadata {
            Some(metadata) => request.header("Upload-Metadata", metadata),
            None => request,
        };
        checks(&api.send(request).await?, 400, "bad-metadata")
            .with_context(|| format!("{metadata:?} {length}"))?;
    }
    let request = api.request(Method::POST, "/api/v1/uploads").header("Upload-Length", 1);
    checks(&api.send(request).await?, 412, "tus-version")?;
    let request = api.tus(Method::PATCH, at).header("Upload-Offset", "0").body("x");
    checks(&api.send(request).await?, 415, "media-type")?;

    // 404: unknown and somebody else's are not told apart; what is no identifier is malformed.
    ensure!(api.send(api.tus(Method::HEAD, "/api/v1/uploads/x")).await?.status.is_client_error());
    let stranger = site.member("avocat@demo.invalid").await?;
    let unknown = "/api/v1/uploads/0197f3a0-0000-7000-8000-000000000000";
    let document = format!("/api/v1/documents/{}", upload.document);
    for (who, path) in [(&exchange.sender, unknown), (&stranger, at)] {
        let who = site.api(who)?;
        checks(&who.patch(path, 5 * MIB, "x").await?, 404, "not-found")?;
        ensure!(who.send(who.tus(Method::HEAD, path)).await?.status == 404);
        checks(&who.send(who.tus(Method::DELETE, path)).await?, 404, "not-found")?;
    }
    for path in [document.clone(), format!("{document}/content"), format!("/api/v1/deposits/{deposit}")] {
        checks(&site.api(&stranger)?.get(&path).await?, 404, "not-found")?;
    }
    // A draft is nobody's but its sender's.
    checks(&site.api(&exchange.reader)?.get(&format!("{document}/content")).await?, 404, "not-found")?;
    checks(&site.stranger()?.get(&document).await?, 401, "sign-in-required")?;
    ensure!(api.offset(at).await? == reached);
    site.findings(true).await?.sound()?;
    Ok(())
}

/// Bytes over TLS as they are, and all that comes back until the gateway closes or is silent.
async fn raw(site: &Site, request: Vec<u8>) -> Result<String> {
    let (root, address) = (site.root(), site.address());
    let work = move || -> Result<String> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(root)?)?;
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from(address.ip().to_string())?;
        let mut connection = rustls::ClientConnection::new(Arc::new(config), name)?;
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        // The gateway may close before it has taken all.
        let _ = stream.write_all(&request).and_then(|()| stream.flush());
        let (mut said, mut piece) = (Vec::new(), [0; 4096]);
        // Ends at the end of the connection, whichever way it comes.
        while let Ok(length @ 1..) = stream.read(&mut piece) {
            said.extend_from_slice(&piece[..length]);
        }
        Ok(String::from_utf8_lossy(&said).into_owned())
    };
    tokio::task::spawn_blocking(work).await?
}

/// A message that two readers could end at different places, with a request behind it that must never be seen.
#[tokio::test]
async fn nothing_is_smuggled_behind_an_upload() -> Result<()> {
    let site = Site::new(SiteOptions::new(Backend::Embedded)).await?;
    let gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    let victim = exchange.begin("D1.bin", Content::new(62, 1000)).await?;
    let host = site.address();
    let token = &exchange.sender.token;
    let hidden = format!(
        "DELETE {} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nTus-Resumable: 1.0.0\r\n\r\n",
        victim.location
    );
    let message = |upload: &Upload, framing: &str, body: &str| {
        format!(
            "PATCH {} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nTus-Resumable: 1.0.0\r\n\
             Upload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\n{framing}\r\n\r\n{body}",
            upload.location
        )
        .into_bytes()
    };
    let length = hidden.len();
    let cases = [
        (
            "both lengths",
            format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"),
            format!("0\r\n\r\n{hidden}"),
        ),
        (
            "both, the other way",
            "Transfer-Encoding: chunked\r\nContent-Length: 5".to_owned(),
            format!("0\r\n\r\n{hidden}"),
        ),
        ("two lengths", format!("Content-Length: 0\r\nContent-Length: {length}"), hidden.clone()),
        ("a list of lengths", format!("Content-Length: 0, {length}"), hidden.clone()),
        ("a signed length", "Content-Length: +0".to_owned(), hidden.clone()),
        ("another coding", "Transfer-Encoding: xchunked".to_owned(), format!("0\r\n\r\n{hidden}")),
        (
            "a coding in a list",
            "Transfer-Encoding: identity, chunked".to_owned(),
            format!("0\r\n\r\n{hidden}"),
        ),
        ("a coding with a tab", "Transfer-Encoding:\x0bchunked".to_owned(), format!("0\r\n\r\n{hidden}")),
        ("a space before the colon", "Transfer-Encoding : chunked".to_owned(), format!("0\r\n\r\n{hidden}")),
        ("a folded line", "X: a\r\n Transfer-Encoding: chunked".to_owned(), format!("0\r\n\r\n{hidden}")),
        ("a bare line feed", "X: a\nTransfer-Encoding: chunked".to_owned(), format!("0\r\n\r\n{hidden}")),
        ("a chunk size with a sign", "Transfer-Encoding: chunked".to_owned(), format!("+0\r\n\r\n{hidden}")),
        (
            "a chunk size in another base",
            "Transfer-Encoding: chunked".to_owned(),
            format!("0x0\r\n\r\n{hidden}"),
        ),
        (
            "a chunk without its end",
            "Transfer-Encoding: chunked".to_owned(),
            format!("1\r\nab0\r\n\r\n{hidden}"),
        ),
        (
            "a chunk of 2^64",
            "Transfer-Encoding: chunked".to_owned(),
            format!("10000000000000000\r\n\r\n{hidden}"),
        ),
    ];
    for (number, (what, framing, body)) in cases.into_iter().enumerate() {
        let upload = exchange.begin(&format!("D{}.bin", number + 10), Content::new(63, 100_000)).await?;
        let said = raw(&site, message(&upload, &framing, &body)).await?;
        let answers = said.matches("HTTP/1.1 ").count();
        ensure!(answers <= 1, "{what}: {answers} answers\n{said}");
        ensure!(!said.contains("HTTP/1.1 2"), "{what}: taken as good\n{said}");
        ensure!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{what}: {said}");
        ensure!(exchange.api.offset(&victim.location).await? == 0, "{what}: the hidden request was done");
        // At most what stood before the place where the message broke.
        ensure!(exchange.api.offset(&upload.location).await? <= 1, "{what}: bytes were kept");
    }
    // The same connection does serve two requests one after the other when nothing is ambiguous.
    let upload = exchange.begin("D99.bin", Content::new(64, 4)).await?;
    let plain = message(&upload, "Content-Length: 4", "abcd");
    let end = format!("GET /api/v1/me HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let said = raw(&site, [plain, end.into_bytes()].concat()).await?;
    ensure!(said.starts_with("HTTP/1.1 204") && said.contains("HTTP/1.1 401"), "{said}");
    drop(gateway);
    Ok(())
}

#[tokio::test]
async fn header_bombs_at_an_upload_are_refused() -> Result<()> {
    let site = Site::new(SiteOptions::new(Backend::Embedded)).await?;
    let mut gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    let upload = exchange.begin("D1.bin", Content::new(65, 10)).await?;
    let head = |more: &str| {
        format!(
            "PATCH {} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n\
             Content-Type: application/offset+octet-stream\r\nContent-Length: 10\r\n{more}\r\n0123456789",
            upload.location,
            site.address(),
            exchange.sender.token
        )
        .into_bytes()
    };
    let before = gateway.memory()?.0;
    for (what, more) in [
        ("one field of 1 MiB", format!("X: {}\r\n", "a".repeat(1 << 20))),
        ("fields of 40 KiB in all", "X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(1000)),
        ("two hundred fields", "X: a\r\n".repeat(200)),
        ("a name of 64 KiB", format!("{}: a\r\n", "x".repeat(64 << 10))),
        ("metadata of 64 KiB", format!("Upload-Metadata: a {}\r\n", "A".repeat(64 << 10))),
    ] {
        let said = raw(&site, head(&more)).await?;
        ensure!(
            said.is_empty() || said.starts_with("HTTP/1.1 431") || said.starts_with("HTTP/1.1 400"),
            "{what}: {said}"
        );
    }
    let target = format!("GET /api/v1/me?{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(1 << 20)).into_bytes();
    let said = raw(&site, target).await?;
    ensure!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
    ensure!(gateway.runs()? && gateway.memory()?.0 < before + (64 << 20), "memory grew by more than 64 MiB");
    // The upload is as it was, and still takes its bytes.
    exchange.resume(&exchange.api, &upload).await?;
    exchange.settled(&site, &upload).await
}
