//! tus: what is asked, what is durable, what is refused, and who may write.

use crate::testing::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pli_api::UploadId;
use pli_storage::{Class, Dialect, args};
use serde_json::json;
use sha1::{Digest as _, Sha1};

async fn first(dialect: Dialect) -> (World, pli_api::DepositId) {
    let w = World::on(dialect).await;
    let deposit = w.draft().await;
    (w, deposit)
}

on_both! {
    async fn what_the_server_can_do(dialect) {
        let w = World::on(dialect).await;
        for path in ["/api/v1/uploads", &format!("/api/v1/uploads/{}", UploadId::new())] {
            // Before any version is agreed on, and without an account.
            let reply = w.call(ask("OPTIONS", path)).await.expect(204);
            assert_eq!(reply.header("tus-version"), Some("1.0.0"));
            assert_eq!(reply.header("tus-resumable"), Some("1.0.0"));
            assert_eq!(reply.header("tus-max-size"), Some("1073741824"));
            assert_eq!(reply.header("tus-checksum-algorithm"), Some("sha256,sha1"));
            let extensions: Vec<_> = reply.header("tus-extension").unwrap().split(',').collect();
            let expected = ["creation", "creation-with-upload", "creation-defer-length", "checksum", "expiration",
                "termination", "concatenation"];
            assert_eq!(extensions, expected);
        }
    }

    async fn in_several_pieces(dialect) {
        let (w, deposit) = first(dialect).await;
        let content = noise(1, 3 * SEGMENT + 1000);
        let up = w.begin(deposit, "procédure/pv n° 12.pdf", Some(content.len())).await;
        let mut at = 0;
        for piece in [1, 99, SEGMENT, 2 * SEGMENT - 50, 950] {
            assert_eq!(w.offset(up.id).await, at);
            let reply = w.patch(up.id, at, &content[at..at + piece]).await.expect(204);
            at += piece;
            assert_eq!(reply.header("upload-offset"), Some(at.to_string().as_str()));
            assert_eq!(reply.header("tus-resumable"), Some("1.0.0"));
            assert_eq!(w.stored(up.id).await, &content[..at], "what the offset promises is in the store");
        }
        assert_eq!(at, content.len());
        let document = up.document.unwrap();
        assert_eq!(w.document(document).await["state"], "finishing");
        w.jobs().await;
        w.holds(document, &content).await;
        assert_eq!(w.document(document).await["name"], "procédure/pv n° 12.pdf");
        assert_eq!(w.document(document).await["media_type"], "application/pdf");
        assert_eq!(w.used().await, i64::try_from(content.len()).unwrap());
        let received = w.told("document.received").await;
        assert_eq!(received.len(), 1);
        assert_eq!(received[0].actor, Some(w.sender.id));
        assert_eq!(received[0].document, Some(document));
        assert_eq!(received[0].detail, json!({ "upload": up.id, "size": content.len() }));
        let sealed = w.told("document.sealed").await;
        assert_eq!(sealed[0].detail["sha256"], hex::encode(sha256(&content)));
        w.is_sound().await;
    }

    /// Every length around the edges of chunks, blocks and segments.
    async fn at_every_edge(dialect) {
        let (w, deposit) = first(dialect).await;
        let chunk = pli_seal::CHUNK;
        let mut documents = Vec::new();
        for base in [chunk - pli_seal::LITERAL, chunk, SEGMENT - pli_seal::LITERAL, SEGMENT, 2 * SEGMENT] {
            for length in base - 1..=base + 1 {
                let content = noise(length as u64, length);
                let begun = w.begin(deposit, &format!("{length}.bin"), Some(length)).await;
                w.call(append(begun.id, 0).body(chunked(&content, 10_007)).by(&w.sender)).await.expect(204);
                documents.push((begun.document.unwrap(), content));
            }
        }
        w.jobs().await;
        for (document, content) in &documents {
            w.holds(*document, content).await;
        }
        w.is_sound().await;
    }

    async fn creation_says_where(dialect) {
        let (w, deposit) = first(dialect).await;
        let reply = w.call(creation(deposit, "a.pdf", Some(100)).by(&w.sender)).await.expect(201);
        let begun = reply.begun();
        assert_eq!(reply.header("tus-resumable"), Some("1.0.0"));
        assert_eq!(reply.header("upload-offset"), Some("0"));
        let expires = w.now().plus_seconds(7 * DAY).http_date();
        assert_eq!(reply.header("upload-expires"), Some(expires.as_str()));
        let head = w.call(tus("HEAD", format!("/api/v1/uploads/{}", begun.id)).by(&w.sender)).await.expect(200);
        assert_eq!(head.header("upload-length"), Some("100"));
        assert_eq!(head.header("upload-offset"), Some("0"));
        assert_eq!(head.header("cache-control"), Some("no-store"));
        assert_eq!(head.header("upload-expires"), Some(expires.as_str()));
        let given = metadata(&[("filename", "a.pdf"), ("deposit", &deposit.to_string()), ("filetype", "application/pdf")]);
        assert_eq!(head.header("upload-metadata"), Some(given.as_str()));
        assert_eq!(head.header("upload-concat"), None);
        assert_eq!(head.header("upload-defer-length"), None);
        let document = w.document(begun.document.unwrap()).await;
        assert_eq!(document["state"], "receiving");
        assert_eq!(document["size"], 100);
        assert_eq!(document["deposit"], deposit.to_string());
    }

    async fn creation_with_upload(dialect) {
        let (w, deposit) = first(dialect).await;
        let content = noise(2, SEGMENT + 77);
        let with = |size: usize, bytes: &[u8]| {
            let ask = creation(deposit, "a.pdf", Some(size)).octets(bytes);
            ask.header("content-type", "application/offset+octet-stream").by(&w.sender)
        };
        let whole = w.call(with(content.len(), &content)).await.expect(201);
        assert_eq!(whole.header("upload-offset"), Some(content.len().to_string().as_str()));
        let part = w.call(with(content.len(), &content[..SEGMENT + 5])).await.expect(201);
        assert_eq!(part.header("upload-offset"), Some((SEGMENT + 5).to_string().as_str()));
        assert_eq!(w.offset(part.begun().id).await, SEGMENT + 5);
        w.patch(part.begun().id, SEGMENT + 5, &content[SEGMENT + 5..]).await.expect(204);
        // A body of another type is not taken for the file's.
        let other = w.call(creation(deposit, "b.pdf", Some(4)).octets(b"abcd").by(&w.sender)).await.expect(201);
        assert_eq!(other.header("upload-offset"), Some("0"));
        w.patch(other.begun().id, 0, b"abcd").await.expect(204);
        w.jobs().await;
        w.holds(whole.begun().document.unwrap(), &content).await;
        w.holds(part.begun().document.unwrap(), &content).await;
        w.is_sound().await;
    }

    async fn creation_with_upload_that_must_fail_creates_nothing(dialect) {
        let (w, deposit) = first(dialect).await;
        let octets = "application/offset+octet-stream";
        let with = |size, bytes: &[u8]| creation(deposit, "a", Some(size)).octets(bytes).header("content-type", octets);
        w.call(with(3, b"abcd").by(&w.sender)).await.problem(413, "too-large");
        w.call(with(4, b"abcd").header("upload-checksum", "md5 AAAA").by(&w.sender)).await.problem(400, "bad-checksum");
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM uploads", args![]).await, 0);
        // What only the bytes can tell leaves an upload, and says where it is.
        let wrong = format!("sha256 {}", STANDARD.encode([0; 32]));
        let reply = w.call(with(4, b"abcd").header("upload-checksum", wrong).by(&w.sender)).await;
        let id = reply.problem(460, "checksum-mismatch").begun().id;
        assert_eq!(w.offset(id).await, 0);
        w.patch(id, 0, b"abcd").await.expect(204);
        w.is_sound().await;
    }

    async fn a_length_told_later(dialect) {
        let (w, deposit) = first(dialect).await;
        let content = noise(3, SEGMENT + 4000);
        let up = w.begin(deposit, "flux.bin", None).await;
        let head = w.call(tus("HEAD", format!("/api/v1/uploads/{}", up.id)).by(&w.sender)).await.expect(200);
        assert_eq!(head.header("upload-defer-length"), Some("1"));
        assert_eq!(head.header("upload-length"), None);
        assert_eq!(w.used().await, 0);
        w.patch(up.id, 0, &content[..SEGMENT + 10]).await.expect(204);
        assert_eq!(w.used().await, (SEGMENT + 10) as i64, "what is received is charged as it comes");
        let length = |length: usize, bytes| append(up.id, SEGMENT + 10).header("upload-length", length).octets(bytes);
        // Shorter than what is there, or than what comes with it.
        w.call(length(SEGMENT, b"").by(&w.sender)).await.problem(400, "bad-metadata");
        w.call(length(SEGMENT + 11, b"xyz").by(&w.sender)).await.problem(413, "too-large");
        w.call(length(2 << 30, b"").by(&w.sender)).await.problem(413, "too-large");
        w.call(length(content.len(), &content[SEGMENT + 10..SEGMENT + 20]).by(&w.sender)).await.expect(204);
        assert_eq!(w.used().await, content.len() as i64);
        // Told once, it stays.
        let again = append(up.id, SEGMENT + 20).header("upload-length", content.len() - 1).octets(b"");
        w.call(again.by(&w.sender)).await.problem(400, "bad-metadata");
        let same = append(up.id, SEGMENT + 20).header("upload-length", content.len());
        w.call(same.octets(&content[SEGMENT + 20..]).by(&w.sender)).await.expect(204);
        w.jobs().await;
        w.holds(up.document.unwrap(), &content).await;
        w.is_sound().await;
    }

    /// The length is the last thing the client tells, with nothing else.
    async fn a_length_told_at_the_end(dialect) {
        let (w, deposit) = first(dialect).await;
        for (name, content) in [("rien", vec![]), ("un peu", noise(4, 5000)), ("plus", noise(5, 2 * SEGMENT))] {
            let up = w.begin(deposit, name, None).await;
            if !content.is_empty() {
                w.patch(up.id, 0, &content).await.expect(204);
            }
            let told = append(up.id, content.len()).header("upload-length", content.len()).octets(b"");
            w.call(told.by(&w.sender)).await.expect(204);
            w.jobs().await;
            w.holds(up.document.unwrap(), &content).await;
        }
        w.is_sound().await;
    }

    async fn nothing_at_all(dialect) {
        let (w, deposit) = first(dialect).await;
        let document = w.upload(deposit, "vide.txt", b"").await;
        w.jobs().await;
        w.holds(document, b"").await;
        assert_eq!(w.objects(Class::Segment).await, []);
        assert_eq!(w.document(document).await["sha256"], hex::encode(sha256(b"")));
        w.is_sound().await;
    }

    async fn the_version_is_agreed_on(dialect) {
        let (w, deposit) = first(dialect).await;
        let up = w.begin(deposit, "a", Some(3)).await;
        let path = format!("/api/v1/uploads/{}", up.id);
        for method in ["POST", "HEAD", "PATCH", "DELETE"] {
            let at = if method == "POST" { "/api/v1/uploads" } else { &path };
            for version in [None, Some("0.2.2"), Some("1.0.0, 0.2.2")] {
                let mut ask = ask(method, at).by(&w.sender);
                if let Some(version) = version {
                    ask = ask.header("tus-resumable", version);
                }
                let reply = w.call(ask).await.expect(412);
                assert_eq!(reply.header("tus-version"), Some("1.0.0"), "{method}");
            }
        }
        assert_eq!(w.number("SELECT fence AS n FROM uploads WHERE id = $1", args![up.id.0]).await, 0);
        assert_eq!(w.offset(up.id).await, 0);
    }

    async fn another_type_of_content(dialect) {
        let (w, deposit) = first(dialect).await;
        let up = w.begin(deposit, "a", Some(3)).await;
        for kind in [None, Some("application/octet-stream"), Some("text/plain")] {
            let mut ask = tus("PATCH", format!("/api/v1/uploads/{}", up.id)).header("upload-offset", 0).octets(b"abc");
            if let Some(kind) = kind {
                ask = ask.header("content-type", kind);
            }
            w.call(ask.by(&w.sender)).await.problem(415, "media-type");
        }
        assert_eq!(w.offset(up.id).await, 0);
        w.store_is_empty().await;
    }

    async fn another_offset(dialect) {
        let (w, deposit) = first(dialect).await;
        let content = noise(6, 2 * SEGMENT);
        let up = w.begin(deposit, "a", Some(content.len())).await;
        w.patch(up.id, 0, &content[..100]).await.expect(204);
        // Before, after, far after.
        for offset in [0, 99, 101, content.len(), usize::MAX >> 1] {
            let reply = w.patch(up.id, offset, b"xyz").await.problem(409, "wrong-offset");
            assert_eq!(reply.header("upload-offset"), Some("100"));
        }
        for bad in ["-1", "x", "", "1.5", "99999999999999999999"] {
            let ask = tus("PATCH", format!("/api/v1/uploads/{}", up.id)).header("upload-offset", bad);
            let ask = ask.header("content-type", "application/offset+octet-stream").octets(b"xyz");
            w.call(ask.by(&w.sender)).await.problem(400, "bad-metadata");
        }
        assert_eq!(w.stored(up.id).await, &content[..100]);
        assert_eq!(w.number("SELECT fence AS n FROM uploads WHERE id = $1", args![up.id.0]).await, 1, "untouched");

        // Nor is a writer at work disturbed by it.
        let (feed, body) = Feed::new();
        let hub = w.hub.clone();
        let running = tokio::spawn({
            let ask = append(up.id, 100).body(body).by(&w.sender);
            async move { call(&hub, ask).await }
        });
        assert!(feed.give(&content[100..SEGMENT + 5000]).await);
        until("a segment", || async { w.watched(up.id).await == SEGMENT }).await;
        w.patch(up.id, 100, b"xyz").await.problem(409, "wrong-offset");
        w.patch(up.id, SEGMENT + 5000, b"xyz").await.problem(409, "wrong-offset");
        assert!(feed.give(&content[SEGMENT + 5000..]).await);
        drop(feed);
        running.await.unwrap().expect(204);
        w.jobs().await;
        w.holds(up.document.unwrap(), &content).await;
        w.is_sound().await;
    }

    async fn too_much(dialect) {
        let (w, deposit) = first(dialect).await;
        w.call(creation(deposit, "a", Some((1 << 30) + 1)).by(&w.sender)).await.problem(413, "too-large");
        let content = noise(7, SEGMENT + 100);
        // Announced: refused before a byte is taken.
        let up = w.begin(deposit, "a", Some(content.len() - 1)).await;
        w.patch(up.id, 0, &content).await.problem(413, "too-large");
        assert_eq!(w.offset(up.id).await, 0);
        w.store_is_empty().await;
        // Not announced: refused where the limit is passed; whole segments before it may stay.
        w.call(append(up.id, 0).body(chunked(&content, 1000)).by(&w.sender)).await.problem(413, "too-large");
        let at = w.offset(up.id).await;
        assert!(at <= SEGMENT, "{at}");
        assert_eq!(w.stored(up.id).await, &content[..at]);
        w.patch(up.id, at, &content[at..content.len() - 1]).await.expect(204);
        // Complete: nothing more, but the same end may be told again.
        w.patch(up.id, content.len() - 1, b"x").await.problem(413, "too-large");
        w.patch(up.id, content.len() - 1, b"").await.expect(204);
        // As HTTP/2 tells it: a body that has ended, without a length.
        w.call(append(up.id, content.len() - 1).by(&w.sender)).await.expect(204);
        w.jobs().await;
        w.holds(up.document.unwrap(), &content[..content.len() - 1]).await;
        w.is_sound().await;
    }

    async fn too_much_without_a_length(dialect) {
        let w = Ground::on(dialect).options(|o| o.max_size = (SEGMENT + 10) as u64).build().await;
        let deposit = w.draft().await;
        let content = noise(8, SEGMENT + 11);
        let up = w.begin(deposit, "a", None).await;
        w.patch(up.id, 0, &content).await.problem(413, "too-large");
        w.call(append(up.id, 0).body(chunked(&content, 999)).by(&w.sender)).await.problem(413, "too-large");
        let at = w.offset(up.id).await;
        w.patch(up.id, at, &content[at..SEGMENT + 10]).await.expect(204);
        w.call(append(up.id, SEGMENT + 10).header("upload-length", SEGMENT + 10).octets(b"").by(&w.sender)).await.expect(204);
        w.jobs().await;
        w.holds(up.document.unwrap(), &content[..SEGMENT + 10]).await;
        w.is_sound().await;
    }

    async fn malformed_creations(dialect) {
        let (w, deposit) = first(dialect).await;
        let deposit = deposit.to_string();
        let good = [("filename", "a.pdf"), ("deposit", deposit.as_str())];
        let long = "x".repeat(7000);
        let cases = [
            ("no metadata", None),
            ("not base64", Some("filename !!!".to_owned())),
            ("no file name", Some(metadata(&good[1..]))),
            ("no deposit", Some(metadata(&good[..1]))),
            ("a deposit that is none", Some(metadata(&[good[0], ("deposit", "7")]))),
            ("a repeated key", Some(format!("{},filename YQ==", metadata(&good)))),
            ("a name out of its folder", Some(metadata(&[("filename", "../etc/passwd"), good[1]]))),
            ("a name with a line end", Some(metadata(&[("filename", "a\nb"), good[1]]))),
            ("an empty name", Some(metadata(&[("filename", " "), good[1]]))),
            ("too long", Some(metadata(&[good[0], good[1], ("x", &long)]))),
        ];
        for (what, given) in cases {
            let mut ask = tus("POST", "/api/v1/uploads").header("upload-length", 3);
            if let Some(given) = given {
                ask = ask.header("upload-metadata", given);
            }
            let reply = w.call(ask.by(&w.sender)).await;
            assert_eq!((reply.status.as_u16(), reply.json()["code"].as_str()), (400, Some("bad-metadata")), "{what}");
        }
        for lengths in [&[][..], &[("upload-length", "-1")], &[("upload-length", "3"), ("upload-length", "3")],
            &[("upload-length", "3"), ("upload-defer-length", "1")], &[("upload-defer-length", "2")],
            &[("upload-length", "3"), ("upload-concat", "partiel")], &[("upload-concat", "final;")]] {
            let mut ask = tus("POST", "/api/v1/uploads").header("upload-metadata", metadata(&good));
            for (name, value) in lengths {
                ask = ask.header(name, value);
            }
            w.call(ask.by(&w.sender)).await.problem(400, "bad-metadata");
        }
        let twice = tus("POST", "/api/v1/uploads").header("upload-length", 3);
        let twice = twice.header("upload-metadata", metadata(&good)).header("upload-metadata", metadata(&good));
        w.call(twice.by(&w.sender)).await.problem(400, "bad-metadata");
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM uploads", args![]).await, 0);
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM documents", args![]).await, 0);
        assert_eq!(w.used().await, 0);
    }

    async fn names_and_types(dialect) {
        let (w, deposit) = first(dialect).await;
        let cases = [
            ("/procédure//cote D1/./pv.pdf", "procédure/cote D1/pv.pdf"),
            (r"C:\dossier\pv.pdf", "C:/dossier/pv.pdf"),
            ("Réquisition « 2 » – d'expertise.pdf", "Réquisition « 2 » – d'expertise.pdf"),
        ];
        for (given, kept) in cases {
            let begun = w.begin(deposit, given, Some(3)).await;
            assert_eq!(w.document(begun.document.unwrap()).await["name"], kept);
        }
        let deposit = deposit.to_string();
        for (given, kept) in [("Application/PDF; x=y", "application/pdf"), ("n'importe quoi", "application/octet-stream"),
            ("text/html\r\nx: y", "application/octet-stream"), ("", "application/octet-stream")] {
            let pairs = [("filename", "a"), ("deposit", deposit.as_str()), ("filetype", given), ("autre", "valeur")];
            let ask = tus("POST", "/api/v1/uploads").header("upload-length", 3).header("upload-metadata", metadata(&pairs));
            let begun = w.call(ask.by(&w.sender)).await.expect(201).begun();
            assert_eq!(w.document(begun.document.unwrap()).await["media_type"], kept, "{given:?}");
        }
        // Uppy calls the name « name ».
        let pairs = [("name", "b.pdf"), ("deposit", deposit.as_str())];
        let ask = tus("POST", "/api/v1/uploads").header("upload-length", 3).header("upload-metadata", metadata(&pairs));
        let begun = w.call(ask.by(&w.sender)).await.expect(201).begun();
        assert_eq!(w.document(begun.document.unwrap()).await["name"], "b.pdf");
    }

    async fn checksums(dialect) {
        let (w, deposit) = first(dialect).await;
        let content = noise(9, 2 * SEGMENT + 500);
        let up = w.begin(deposit, "a", Some(content.len())).await;
        let patch = |at: usize, bytes: &[u8], sum: String| {
            w.call(append(up.id, at).header("upload-checksum", sum).octets(bytes).by(&w.sender))
        };
        for bad in ["md5 AAAA", "sha256", "sha256 AAAA", "sha1 ???", "sha256  ", "SHA256 x"] {
            patch(0, &content, bad.to_owned()).await.problem(400, "bad-checksum");
        }
        let of_sha256 = |bytes: &[u8]| format!("sha256 {}", STANDARD.encode(sha256(bytes)));
        let of_sha1 = |bytes: &[u8]| format!("sha1 {}", STANDARD.encode(Sha1::digest(bytes)));
        for wrong in [of_sha256(b"autre chose"), of_sha1(b"autre chose")] {
            // Over several segments, and within one.
            for length in [content.len(), 1000] {
                patch(0, &content[..length], wrong.clone()).await.problem(460, "checksum-mismatch");
                assert_eq!(w.offset(up.id).await, 0);
                w.store_is_empty().await;
                assert!(w.segments(up.id).await.is_empty());
            }
        }
        patch(0, &content[..1000], of_sha1(&content[..1000])).await.expect(204);
        assert_eq!(w.stored(up.id).await, &content[..1000]);
        // The tail that is there is taken up again only by bytes that are right.
        patch(1000, &content[1000..], of_sha256(b"")).await.problem(460, "checksum-mismatch");
        assert_eq!(w.stored(up.id).await, &content[..1000]);
        // A cut: what came cannot be judged.
        let cut = append(up.id, 1000).header("upload-checksum", of_sha256(&content[1000..]));
        let cut = cut.body(cut_after(&content[1000..SEGMENT + 2000], 5000));
        w.call(cut.by(&w.sender)).await.expect(400);
        assert_eq!(w.offset(up.id).await, 1000);
        patch(1000, &content[1000..], of_sha256(&content[1000..])).await.expect(204);
        w.jobs().await;
        w.holds(up.document.unwrap(), &content).await;
        w.is_sound().await;
    }

    async fn none_of_the_callers(dialect) {
        let (w, deposit) = first(dialect).await;
        let up = w.begin(deposit, "a", Some(3)).await;
        for id in [up.id, UploadId::new()] {
            let path = format!("/api/v1/uploads/{id}");
            for who in [&w.stranger, &w.recipient] {
                w.call(tus("HEAD", &path).by(who)).await.expect(404);
                w.call(append(id, 0).octets(b"abc").by(who)).await.problem(404, "not-found");
                w.call(tus("DELETE", &path).by(who)).await.problem(404, "not-found");
                w.call(append(id, 0).octets(b"abc").method(&http::Method::POST).header("x-http-method-override", "PATCH").by(who))
                    .await
                    .problem(404, "not-found");
            }
        }
        // Nor into another's deposit.
        w.call(creation(deposit, "a", Some(3)).by(&w.stranger)).await.problem(404, "not-found");
        w.call(creation(deposit, "a", Some(3)).by(&w.recipient)).await.problem(404, "not-found");
        w.call(creation(pli_api::DepositId::new(), "a", Some(3)).by(&w.sender)).await.problem(404, "not-found");
        assert_eq!(w.number("SELECT fence AS n FROM uploads WHERE id = $1", args![up.id.0]).await, 0);
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM uploads", args![]).await, 1);
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM documents", args![]).await, 1);
    }

    async fn methods_in_disguise(dialect) {
        let (w, deposit) = first(dialect).await;
        let up = w.begin(deposit, "a", Some(6)).await;
        let path = format!("/api/v1/uploads/{}", up.id);
        let post = |method: &'static str| tus("POST", path.clone()).header("x-http-method-override", method).by(&w.sender);
        let patch = post("patch").header("upload-offset", 0).header("content-type", "application/offset+octet-stream");
        w.call(patch.octets(b"abc")).await.expect(204);
        assert_eq!(w.call(post("HEAD")).await.expect(200).header("upload-offset"), Some("3"));
        for other in ["GET", "PUT", ""] {
            w.call(post(other)).await.problem(405, "method-not-allowed");
        }
        w.call(tus("POST", &path).by(&w.sender)).await.problem(405, "method-not-allowed");
        w.call(post("DELETE")).await.expect(204);
        w.call(tus("HEAD", &path).by(&w.sender)).await.expect(410);
    }

    async fn termination(dialect) {
        let (w, deposit) = first(dialect).await;
        let content = noise(10, 2 * SEGMENT);
        let up = w.begin(deposit, "a", Some(content.len())).await;
        w.patch(up.id, 0, &content[..SEGMENT + 9]).await.expect(204);
        // One that is complete goes too, as long as the deposit is a draft.
        let whole = w.upload(deposit, "b", &content).await;
        w.jobs().await;
        let row = &w.rows("SELECT upload FROM document_parts WHERE document = $1", args![whole.0]).await[0];
        let complete = UploadId(row.get("upload").unwrap());
        assert_eq!(w.used().await, 4 * SEGMENT as i64);
        for id in [up.id, complete] {
            let path = format!("/api/v1/uploads/{id}");
            let reply = w.call(tus("DELETE", &path).by(&w.sender)).await.expect(204);
            assert_eq!(reply.header("tus-resumable"), Some("1.0.0"));
            // The key is gone at once, and the name.
            let row = &w.rows("SELECT wrapped_key, digest, metadata FROM uploads WHERE id = $1", args![id.0]).await[0];
            assert_eq!(row.get::<Option<Vec<u8>>>("wrapped_key").unwrap(), None);
            assert_eq!(row.get::<Option<Vec<u8>>>("digest").unwrap(), None);
            assert_eq!(row.get::<String>("metadata").unwrap(), "");
            assert!(w.segments(id).await.is_empty());
            w.call(tus("HEAD", &path).by(&w.sender)).await.expect(410);
            w.call(append(id, 0).octets(b"abc").by(&w.sender)).await.problem(410, "gone");
            w.call(tus("DELETE", &path).by(&w.sender)).await.problem(410, "gone");
        }
        assert_eq!(w.used().await, 0);
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM documents", args![]).await, 0);
        w.call(ask("GET", format!("/api/v1/documents/{whole}")).by(&w.sender)).await.problem(404, "not-found");
        w.jobs().await;
        w.store_is_empty().await;
        let told = w.told("upload.terminated").await;
        assert_eq!(told.iter().map(|t| &t.detail).collect::<Vec<_>>(), [&json!({ "upload": up.id }), &json!({ "upload": complete })]);
        w.send(deposit).await.problem(409, "deposit-empty");
        w.is_sound().await;
    }

    async fn termination_ends_the_writer(dialect) {
        let (w, deposit) = first(dialect).await;
        let content = noise(11, 4 * SEGMENT);
        let up = w.begin(deposit, "a", Some(content.len())).await;
        let (feed, running) = w.feed(up.id, 0);
        assert!(feed.give(&content[..SEGMENT + 100]).await);
        until("a segment", || async { w.watched(up.id).await == SEGMENT }).await;
        w.call(tus("DELETE", format!("/api/v1/uploads/{}", up.id)).by(&w.sender)).await.expect(204);
        // At once, though the client sends nothing more.
        running.await.unwrap().problem(409, "taken-over");
        w.jobs().await;
        w.store_is_empty().await;
        assert_eq!(w.used().await, 0);
    }

    async fn too_many_unfinished(dialect) {
        let w = Ground::on(dialect).options(|o| o.pending_uploads = 3).build().await;
        let deposit = w.draft().await;
        let one = w.begin(deposit, "1", Some(10)).await;
        w.begin(deposit, "2", None).await;
        // A part that waits to be concatenated is unfinished too, even an empty one.
        let part = w.begin_part(0).await;
        let refused = w.call(creation(deposit, "4", Some(10)).by(&w.sender)).await.problem(429, "too-many");
        assert!(refused.header("retry-after").is_some());
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM documents", args![]).await, 2, "nothing is left of it");
        w.patch(one.id, 0, &[7; 10]).await.expect(204);
        w.begin(deposit, "4", Some(10)).await;
        w.call(creation(deposit, "5", Some(10)).by(&w.sender)).await.problem(429, "too-many");
        w.call(tus("DELETE", format!("/api/v1/uploads/{}", part.id)).by(&w.sender)).await.expect(204);
        // Many at once do not pass together.
        let all: Vec<_> = (0..8).map(|n| {
            let (hub, ask) = (w.hub.clone(), creation(deposit, &n.to_string(), Some(1)).by(&w.sender));
            let part = tus("POST", "/api/v1/uploads").header("upload-concat", "partial").header("upload-length", 5);
            let part = part.by(&w.sender);
            tokio::spawn(async move { call(&hub, if n % 2 == 0 { ask } else { part }).await.status.as_u16() })
        }).collect();
        let mut made = 0;
        for one in all {
            made += match one.await.unwrap() { 201 => 1, 429 => 0, other => panic!("{other}") };
        }
        assert_eq!(made, 1);
    }

    /// As many as one would never need, under the limit that stands when nobody sets one.
    async fn ten_thousand_unfinished(dialect) {
        let w = Ground::on(dialect).options(|o| o.pending_uploads = crate::HubOptions::default().pending_uploads).build().await;
        let deposit = w.draft().await;
        let (mut made, mut refused) = (0, 0);
        for n in 0..10_000_u32 {
            let status = w.call(creation(deposit, &n.to_string(), Some(1)).by(&w.sender)).await.status.as_u16();
            match status { 201 => made += 1, 429 => refused += 1, other => panic!("{other}") }
        }
        assert_eq!((made, refused), (1000, 9000));
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM uploads", args![]).await, 1000, "a refusal leaves nothing");
        assert_eq!(w.used().await, 1000);
    }

    async fn the_quota(dialect) {
        let mut ground = Ground::on(dialect);
        ground.quota = 3 * SEGMENT as u64;
        let w = ground.build().await;
        let deposit = w.draft().await;
        let content = noise(12, 2 * SEGMENT);
        let first = w.begin(deposit, "a", Some(content.len())).await;
        assert_eq!(w.used().await, 2 * SEGMENT as i64, "promised when announced");
        w.call(creation(deposit, "b", Some(SEGMENT + 1)).by(&w.sender)).await.problem(413, "quota-exceeded");
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM documents", args![]).await, 1);
        // Without a length it is charged as it comes, and ends where the quota does.
        let open = w.begin(deposit, "c", None).await;
        let reply = w.call(append(open.id, 0).body(chunked(&content, 4096)).by(&w.sender)).await;
        reply.problem(413, "quota-exceeded");
        assert_eq!(w.offset(open.id).await, SEGMENT);
        assert_eq!(w.used().await, 3 * SEGMENT as i64);
        assert_eq!(w.objects(Class::Segment).await.len(), 1, "what could not be charged is not kept");
        let me = w.call(ask("GET", "/api/v1/me").by(&w.sender)).await.expect(200).json();
        assert_eq!((me["limits"]["used"].as_u64(), me["limits"]["quota"].as_u64()), (Some(3 * SEGMENT as u64), Some(3 * SEGMENT as u64)));
        // What a termination gives back is there for another.
        w.call(tus("DELETE", format!("/api/v1/uploads/{}", first.id)).by(&w.sender)).await.expect(204);
        assert_eq!(w.used().await, SEGMENT as i64);
        w.patch(open.id, SEGMENT, &content[SEGMENT..]).await.expect(204);
        let told = append(open.id, 2 * SEGMENT).header("upload-length", 4 * SEGMENT).octets(b"");
        w.call(told.by(&w.sender)).await.problem(413, "quota-exceeded");
        let told = append(open.id, 2 * SEGMENT).header("upload-length", 2 * SEGMENT).octets(b"");
        w.call(told.by(&w.sender)).await.expect(204);
        assert_eq!(w.used().await, 2 * SEGMENT as i64);
        w.jobs().await;
        w.holds(open.document.unwrap(), &content).await;
        w.is_sound().await;
    }

    async fn expiration(dialect) {
        let (w, deposit) = first(dialect).await;
        let content = noise(13, 2 * SEGMENT);
        let stale = w.begin(deposit, "a", Some(content.len())).await;
        w.patch(stale.id, 0, &content[..SEGMENT + 9]).await.expect(204);
        let part = w.begin_part(5).await;
        w.patch(part.id, 0, b"abcde").await.expect(204);
        let kept = w.upload(deposit, "b", &content).await;
        w.pass(4 * DAY);
        // Whatever advances lives on.
        let alive = w.begin(deposit, "c", Some(10)).await;
        w.patch(alive.id, 0, b"abc").await.expect(204);
        w.jobs().await;
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM uploads WHERE state = 'ended'", args![]).await, 0);
        w.pass(3 * DAY);
        let path = format!("/api/v1/uploads/{}", stale.id);
        // Ended for its owner at that instant, swept or not.
        w.call(tus("HEAD", &path).by(&w.sender)).await.expect(410);
        w.call(append(stale.id, SEGMENT + 9).octets(b"x").by(&w.sender)).await.problem(410, "gone");
        w.jobs().await;
        w.call(tus("HEAD", &path).by(&w.sender)).await.expect(410);
        assert_eq!(w.call(tus("HEAD", format!("/api/v1/uploads/{}", part.id)).by(&w.sender)).await.expect(410).body, "");
        assert!(w.segments(stale.id).await.is_empty() && w.segments(part.id).await.is_empty());
        assert_eq!(w.offset(alive.id).await, 3);
        let documents = w.deposit(&w.sender, deposit).await.expect(200).json()["documents"].clone();
        let names: Vec<_> = documents.as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(names, ["b", "c"]);
        assert_eq!(w.told("upload.expired").await.len(), 2);
        w.holds(kept, &content).await;
        assert_eq!(w.used().await, (content.len() + 10) as i64);
        assert_eq!(w.objects(Class::Segment).await.len(), 3);
        // And then the rest.
        w.call(ask("DELETE", format!("/api/v1/deposits/{deposit}")).by(&w.sender)).await.expect(204);
        w.jobs().await;
        w.store_is_empty().await;
        assert_eq!(w.used().await, 0);
        w.is_sound().await;
    }

    /// The clock is put back and forth while bytes come: nothing is lost, nothing waits for a time that is gone.
    async fn a_clock_that_is_moved(dialect) {
        let (w, deposit) = first(dialect).await;
        let content = noise(31, 3 * SEGMENT + 5);
        let up = w.begin(deposit, "a", Some(content.len())).await;
        for jump in [-DAY, 3600, -3650 * DAY, 6 * DAY] {
            let at = w.offset(up.id).await;
            let (feed, running) = w.feed(up.id, at);
            assert!(feed.give(&content[at..at + SEGMENT / 2]).await);
            w.pass(jump);
            assert!(feed.give(&content[at + SEGMENT / 2..at + SEGMENT / 2 + 700]).await);
            drop(feed);
            running.await.unwrap().expect(204);
            // A request that is begun while the clock is wrong does not bring the end of the upload nearer.
            w.patch(up.id, at + SEGMENT / 2 + 700, &content[at + SEGMENT / 2 + 700..][..9]).await.expect(204);
            assert_eq!(w.stored(up.id).await, &content[..at + SEGMENT / 2 + 709]);
            // Back where it was, as when the mistake is seen.
            w.pass(-jump);
            w.jobs().await;
        }
        let at = w.offset(up.id).await;
        // The last bytes come while it is ten years ahead, and the job is asked for then.
        w.pass(6 * DAY);
        w.patch(up.id, at, &content[at..]).await.expect(204);
        w.pass(-6 * DAY);
        w.jobs().await;
        w.holds(up.document.unwrap(), &content).await;
        w.is_sound().await;
    }

    async fn each_request_moves_the_expiry(dialect) {
        let (w, deposit) = first(dialect).await;
        let up = w.begin(deposit, "a", Some(10)).await;
        for bytes in [&b"abc"[..], b""] {
            w.pass(DAY);
            let at = w.offset(up.id).await;
            let told = w.now().plus_seconds(7 * DAY).http_date();
            let patched = w.patch(up.id, at, bytes).await.expect(204);
            assert_eq!(patched.header("upload-expires"), Some(told.as_str()));
            let head = w.call(tus("HEAD", format!("/api/v1/uploads/{}", up.id)).by(&w.sender)).await.expect(200);
            assert_eq!(head.header("upload-expires"), Some(told.as_str()));
        }
    }

    async fn unfinished_are_listed(dialect) {
        let (w, deposit) = first(dialect).await;
        let other = w.draft().await;
        let a = w.begin(deposit, "dossier/a.pdf", Some(10)).await;
        w.patch(a.id, 0, b"abc").await.expect(204);
        let b = w.begin(other, "b.pdf", None).await;
        let said = [("filename", "c.pdf"), ("deposit", &deposit.to_string()), ("empreinte", "xyz")];
        let part = tus("POST", "/api/v1/uploads").header("upload-concat", "partial").header("upload-length", 2);
        let c = w.call(part.header("upload-metadata", metadata(&said)).by(&w.sender)).await.expect(201).begun();
        w.patch(c.id, 0, b"xy").await.expect(204);
        w.upload(deposit, "fini.pdf", b"abc").await;

        let list = async |query: String| {
            w.call(ask("GET", format!("/api/v1/uploads{query}")).by(&w.sender)).await.expect(200).json()
        };
        let all = list(String::new()).await;
        let ids: Vec<_> = all["items"].as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(ids, [a.id.to_string(), b.id.to_string(), c.id.to_string()]);
        let first = &all["items"][0];
        assert_eq!((&first["name"], &first["offset"], &first["size"], &first["kind"]), (&json!("dossier/a.pdf"), &json!(3), &json!(10), &json!("whole")));
        assert_eq!(all["items"][1]["size"], json!(null));
        assert_eq!((&all["items"][2]["kind"], &all["items"][2]["metadata"]["empreinte"]), (&json!("partial"), &json!("xyz")));
        let of = list(format!("?deposit={deposit}")).await;
        let ids: Vec<_> = of["items"].as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(ids, [a.id.to_string(), c.id.to_string()]);
        let after = list(format!("?after={}", b.id)).await;
        assert_eq!(after["items"].as_array().unwrap().len(), 1);
        let theirs = w.call(ask("GET", "/api/v1/uploads").by(&w.stranger)).await.expect(200).json();
        assert_eq!(theirs["items"], json!([]));
        w.pass(8 * DAY);
        assert_eq!(list(String::new()).await["items"], json!([]));
    }

    async fn a_body_that_fails_in_the_middle(dialect) {
        let (w, deposit) = first(dialect).await;
        let content = noise(14, 3 * SEGMENT + 321);
        let up = w.begin(deposit, "a", Some(content.len())).await;
        // Below a segment, across one, on its edge, at one byte, at none.
        let mut at = 0;
        for piece in [1000, 1, SEGMENT, 0, SEGMENT - 1001, SEGMENT / 2] {
            let reply = w.call(append(up.id, at).body(cut_after(&content[at..at + piece], 777)).by(&w.sender)).await;
            at += piece;
            assert_eq!(reply.expect(400).header("upload-offset"), Some(at.to_string().as_str()));
            assert_eq!(w.offset(up.id).await, at, "what was received is durable");
            assert_eq!(w.stored(up.id).await, &content[..at]);
        }
        w.patch(up.id, at, &content[at..]).await.expect(204);
        w.jobs().await;
        w.holds(up.document.unwrap(), &content).await;
        w.is_sound().await;
    }

    /// The server gave it up, as its connection says by the kind of the error: 408, and what came is kept.
    async fn a_body_that_stands_still(dialect) {
        let (w, deposit) = first(dialect).await;
        let content = noise(33, SEGMENT + 9);
        let up = w.begin(deposit, "a", Some(content.len())).await;
        let (feed, running) = w.feed(up.id, 0);
        assert!(feed.give(&content[..1000]).await);
        feed.give_up().await;
        let slow = running.await.unwrap().problem(408, "too-slow");
        assert_eq!(slow.header("upload-offset"), Some("1000"));
        w.patch(up.id, 1000, &content[1000..]).await.expect(204);
        w.jobs().await;
        w.holds(up.document.unwrap(), &content).await;
        w.is_sound().await;
    }

    async fn many_tiny_requests(dialect) {
        let (w, deposit) = first(dialect).await;
        let content = noise(15, 300 * 1000);
        let up = w.begin(deposit, "a", Some(content.len())).await;
        for (n, piece) in content.chunks(1000).enumerate() {
            // Every seventh is cut after its last byte.
            if n % 7 == 0 {
                w.call(append(up.id, n * 1000).body(cut_after(piece, 100)).by(&w.sender)).await.expect(400);
            } else {
                w.patch(up.id, n * 1000, piece).await.expect(204);
            }
        }
        let segments = w.segments(up.id).await;
        assert_eq!(segments.iter().map(|(length, _)| *length).collect::<Vec<_>>(), [SEGMENT, content.len() - SEGMENT]);
        w.jobs().await;
        assert_eq!(w.objects(Class::Segment).await.len(), 2, "the tails that were taken up are deleted");
        w.holds(up.document.unwrap(), &content).await;
        w.is_sound().await;
    }

    async fn the_offset_advances_meanwhile(dialect) {
        let (w, deposit) = first(dialect).await;
        let content = noise(16, 4 * SEGMENT + 10);
        let up = w.begin(deposit, "a", Some(content.len())).await;
        let (feed, running) = w.feed(up.id, 0);
        let mut given = 0;
        for segment in 1..=4 {
            while given < segment * SEGMENT {
                let next = (given + 50_000).min(segment * SEGMENT);
                assert!(feed.give(&content[given..next]).await);
                given = next;
            }
            until("the offset of a segment", || async { w.watched(up.id).await == segment * SEGMENT }).await;
            assert_eq!(w.stored(up.id).await, &content[..segment * SEGMENT]);
        }
        assert_eq!(w.hub.running_transfers(), 1);
        assert!(feed.give(&content[given..]).await);
        drop(feed);
        running.await.unwrap().expect(204);
        assert_eq!(w.hub.running_transfers(), 0);
        w.jobs().await;
        w.holds(up.document.unwrap(), &content).await;
        w.is_sound().await;
    }

    /// The request is dropped while its bytes come, as when a connection dies or a proxy gives up.
    async fn a_request_that_is_dropped(dialect) {
        let (w, deposit) = first(dialect).await;
        let content = noise(17, 2 * SEGMENT);
        let up = w.begin(deposit, "a", Some(content.len())).await;
        let (feed, running) = w.feed(up.id, 0);
        assert!(feed.give(&content[..SEGMENT + 1000]).await);
        until("a segment", || async { w.watched(up.id).await == SEGMENT }).await;
        running.abort();
        assert!(running.await.is_err());
        feed.cut().await;
        until("the rest", || async { w.watched(up.id).await == SEGMENT + 1000 }).await;
        w.hub.transfers_ended().await;
        w.patch(up.id, SEGMENT + 1000, &content[SEGMENT + 1000..]).await.expect(204);
        w.jobs().await;
        w.holds(up.document.unwrap(), &content).await;
        w.is_sound().await;
    }

    async fn the_newer_writer_takes_over(dialect) {
        let (w, deposit) = first(dialect).await;
        let content = noise(18, 4 * SEGMENT);
        let up = w.begin(deposit, "a", Some(content.len())).await;
        w.patch(up.id, 0, &content[..500]).await.expect(204);
        let (feed, older) = w.feed(up.id, 500);
        assert!(feed.give(&noise(99, SEGMENT / 2)).await, "another content, that must not be seen again");
        // Not one byte of the older is durable yet: the newer begins where it did.
        until("the older to have begun", || async {
            w.number("SELECT fence AS n FROM uploads WHERE id = $1", args![up.id.0]).await == 2
        }).await;
        w.patch(up.id, 500, &content[500..SEGMENT]).await.expect(204);
        older.await.unwrap().problem(409, "taken-over");
        assert_eq!(w.stored(up.id).await, &content[..SEGMENT]);
        w.patch(up.id, SEGMENT, &content[SEGMENT..]).await.expect(204);
        assert!(!feed.give(b"more").await, "nobody listens to the older");
        w.jobs().await;
        w.holds(up.document.unwrap(), &content).await;
        w.is_sound().await;
    }

    /// Two processes: the older learns it from the database, at its next segment.
    async fn the_newer_writer_on_another_node(dialect) {
        let (w, deposit) = first(dialect).await;
        let node = w.node().await;
        let content = noise(19, 4 * SEGMENT);
        let up = w.begin(deposit, "a", Some(content.len())).await;
        w.patch(up.id, 0, &content[..500]).await.expect(204);
        let (feed, older) = w.feed(up.id, 500);
        assert!(feed.give(&content[500..1000]).await);
        until("the older to have begun", || async {
            w.number("SELECT fence AS n FROM uploads WHERE id = $1", args![up.id.0]).await == 2
        }).await;
        let newer = call(&node, append(up.id, 500).octets(&content[500..2 * SEGMENT]).by(&w.sender)).await;
        newer.expect(204);
        // The older goes on with bytes of its own, over a segment and more.
        let wrong = noise(98, 2 * SEGMENT);
        let mut heard = true;
        for piece in wrong.chunks(20_000) {
            heard = heard && feed.give(piece).await;
        }
        drop(feed);
        older.await.unwrap().problem(409, "taken-over");
        assert_eq!(w.stored(up.id).await, &content[..2 * SEGMENT], "the older has committed nothing");
        call(&node, append(up.id, 2 * SEGMENT).octets(&content[2 * SEGMENT..]).by(&w.sender)).await.expect(204);
        w.jobs().await;
        w.holds(up.document.unwrap(), &content).await;
        assert!(w.told("segment.damaged").await.is_empty());
        w.is_sound().await;
    }

    /// The older has not looked at the tail yet when the newer takes it up and its object is deleted:
    /// it has lost the upload, and nothing is damaged.
    async fn a_tail_taken_up_by_another_node(dialect) {
        let (w, deposit) = first(dialect).await;
        let node = w.node().await;
        let content = noise(20, SEGMENT);
        let up = w.begin(deposit, "a", Some(content.len())).await;
        w.patch(up.id, 0, &content[..500]).await.expect(204);
        let (feed, older) = w.feed(up.id, 500);
        until("the older to have begun", || async {
            w.number("SELECT fence AS n FROM uploads WHERE id = $1", args![up.id.0]).await == 2
        }).await;
        call(&node, append(up.id, 500).octets(&content[500..1000]).by(&w.sender)).await.expect(204);
        w.jobs().await;
        assert_eq!(w.objects(Class::Segment).await.len(), 1);
        feed.give(&content[500..600]).await;
        drop(feed);
        older.await.unwrap().problem(409, "taken-over");
        assert!(w.told("segment.damaged").await.is_empty());
        w.patch(up.id, 1000, &content[1000..]).await.expect(204);
        w.jobs().await;
        w.holds(up.document.unwrap(), &content).await;
        w.is_sound().await;
    }

    /// A client that was cut asks how far it came while its old connection still stands here: what it is told
    /// holds until it goes on.
    async fn what_head_tells_holds(dialect) {
        let (w, deposit) = first(dialect).await;
        let node = w.node().await;
        let content = noise(34, 2 * SEGMENT);
        let up = w.begin(deposit, "a", Some(content.len())).await;
        let open = async |at: usize| {
            let (feed, older) = w.feed(up.id, at);
            assert!(feed.give(&content[at..at + 1000]).await);
            // The channel holds one: that it takes these says that the one before was taken.
            assert!(feed.give(&[]).await && feed.give(&[]).await);
            (feed, older)
        };
        let (feed, older) = open(0).await;
        assert_eq!(w.watched(up.id).await, 0, "whoever watches ends nothing");
        assert_eq!(w.hub.running_transfers(), 1);
        assert_eq!(w.offset(up.id).await, 1000, "what was received is kept");
        assert!(!feed.give(&content[1000..]).await, "nobody listens any more");
        older.await.unwrap().problem(409, "taken-over");
        assert_eq!(w.hub.running_transfers(), 0);
        // Asked of another node, which cannot reach the older writer: that one has lost the upload.
        let (feed, older) = open(1000).await;
        assert_eq!(offset(&node, &w.sender, up.id).await, 1000);
        drop(feed);
        older.await.unwrap().problem(409, "taken-over");
        w.patch(up.id, 1000, &content[1000..]).await.expect(204);
        // Complete: asking changes nothing.
        let fence = w.number("SELECT fence AS n FROM uploads WHERE id = $1", args![up.id.0]).await;
        assert_eq!(w.offset(up.id).await, content.len());
        assert_eq!(w.number("SELECT fence AS n FROM uploads WHERE id = $1", args![up.id.0]).await, fence);
        w.jobs().await;
        w.holds(up.document.unwrap(), &content).await;
        w.is_sound().await;
    }

    /// Several clients at the same offset at the same moment, again and again.
    async fn a_crowd_of_writers(dialect) {
        let (w, deposit) = first(dialect).await;
        let node = w.node().await;
        let content = noise(21, SEGMENT + SEGMENT / 2);
        let up = w.begin(deposit, "a", Some(content.len())).await;
        let mut at = 0;
        while at < content.len() {
            let next = (at + 60_000).min(content.len());
            let crowd: Vec<_> = (0..6).map(|n| {
                let hub = if n % 2 == 0 { w.hub.clone() } else { node.clone() };
                let ask = append(up.id, at).body(chunked(&content[at..next], 10_000)).by(&w.sender);
                tokio::spawn(async move { call(&hub, ask).await })
            }).collect();
            let mut won = 0;
            for one in crowd {
                let reply = one.await.unwrap();
                match reply.status.as_u16() {
                    204 => won += 1,
                    409 => assert!(["taken-over", "wrong-offset", "too-large"].contains(&reply.json()["code"].as_str().unwrap())),
                    // The twin came when the upload was complete.
                    413 => assert_eq!(next, content.len()),
                    other => panic!("{other} {:?}", reply.body),
                }
            }
            let now = w.offset(up.id).await;
            assert!(won <= 1, "{won} writers were told that the same bytes were theirs");
            assert!(now == next || (won == 0 && now == at), "{at} {now} {next}");
            at = now;
        }
        w.jobs().await;
        w.holds(up.document.unwrap(), &content).await;
        w.is_sound().await;
    }

    async fn stopping(dialect) {
        let (w, deposit) = first(dialect).await;
        let node = w.node().await;
        let content = noise(22, 2 * SEGMENT);
        let up = w.begin(deposit, "a", Some(content.len())).await;
        let (feed, running) = w.feed(up.id, 0);
        assert!(feed.give(&content[..SEGMENT]).await && feed.give(&content[SEGMENT..SEGMENT + 1234]).await);
        // The channel holds one: that it takes the next says that the one before was taken.
        assert!(feed.give(&[]).await && feed.give(&[]).await);
        w.hub.stop_transfers();
        let reply = running.await.unwrap().problem(503, "stopping");
        assert_eq!(reply.header("upload-offset"), Some((SEGMENT + 1234).to_string().as_str()));
        assert!(reply.header("retry-after").is_some());
        w.hub.transfers_ended().await;
        assert_eq!(w.stored(up.id).await, &content[..SEGMENT + 1234]);
        // Nothing new begins here; elsewhere it goes on.
        w.patch(up.id, SEGMENT + 1234, b"x").await.problem(503, "stopping");
        w.call(creation(deposit, "b", Some(4)).by(&w.sender)).await.problem(503, "stopping");
        let rest = append(up.id, SEGMENT + 1234).octets(&content[SEGMENT + 1234..]).by(&w.sender);
        call(&node, rest).await.expect(204);
        w.jobs().await;
        w.holds(up.document.unwrap(), &content).await;
        w.is_sound().await;
    }

    /// Fewer blocks than transfers, and segments larger than what there is.
    async fn little_memory(dialect) {
        for blocks in [1, 3] {
            let ground = Ground::on(dialect).options(|o| {
                o.transfer_memory = blocks * pli_seal::BLOCK;
                o.segment_size = 4 * MIB;
                o.upload_memory = 8 * MIB;
            });
            let w = ground.build().await;
            let deposit = w.draft().await;
            let mut all = Vec::new();
            for n in 0..6_u64 {
                let content = noise(23 + n, 3 * MIB + 17 * n as usize);
                let up = w.begin(deposit, &n.to_string(), Some(content.len())).await;
                all.push((up, content));
            }
            let running: Vec<_> = all.iter().map(|(up, content)| {
                let (hub, ask) = (w.hub.clone(), append(up.id, 0).body(chunked(content, 100_003)).by(&w.sender));
                tokio::spawn(async move { call(&hub, ask).await })
            }).collect();
            for one in running {
                one.await.unwrap().expect(204);
            }
            w.jobs().await;
            for (up, content) in &all {
                w.holds(up.document.unwrap(), content).await;
            }
            w.is_sound().await;
        }
    }

    /// A tail as long as a tail may be, taken up while there is one block in all: it goes whole into the
    /// segment that takes its place.
    async fn a_long_tail_and_little_memory(dialect) {
        let ground = Ground::on(dialect).options(|o| {
            o.transfer_memory = pli_seal::BLOCK;
            o.segment_size = 4 * MIB;
        });
        let w = ground.build().await;
        let deposit = w.draft().await;
        let block = pli_seal::content_of_blocks(1);
        for (n, tail) in [block - 1, block, block + 1, MIB - 1, MIB].into_iter().enumerate() {
            let content = noise(30 + n as u64, tail + 2 * MIB);
            let up = w.begin(deposit, &tail.to_string(), Some(content.len())).await;
            w.patch(up.id, 0, &content[..tail]).await.expect(204);
            assert_eq!(w.stored(up.id).await, &content[..tail]);
            w.patch(up.id, tail, &content[tail..]).await.expect(204);
            assert!(w.stored(up.id).await == content);
            w.jobs().await;
            w.holds(up.document.unwrap(), &content).await;
        }
        w.is_sound().await;
    }

    /// Ended while it waits for memory that another holds.
    async fn ended_while_waiting_for_memory(dialect) {
        let w = Ground::on(dialect).options(|o| o.transfer_memory = pli_seal::BLOCK).build().await;
        let deposit = w.draft().await;
        let content = noise(40, 1000);
        let holder = w.begin(deposit, "a", Some(content.len())).await;
        let waiter = w.begin(deposit, "b", Some(content.len())).await;
        w.patch(waiter.id, 0, &content[..10]).await.expect(204);
        let (feed, holding) = w.feed(holder.id, 0);
        assert!(feed.give(&content[..500]).await && feed.give(&[]).await && feed.give(&[]).await);
        let hub = w.hub.clone();
        let ask = append(waiter.id, 10).octets(&content[10..]).by(&w.sender);
        let waiting = tokio::spawn(async move { call(&hub, ask).await });
        until("the waiter to have begun", || async {
            w.number("SELECT fence AS n FROM uploads WHERE id = $1", args![waiter.id.0]).await == 2
        }).await;
        w.call(tus("DELETE", format!("/api/v1/uploads/{}", waiter.id)).by(&w.sender)).await.expect(204);
        waiting.await.unwrap().problem(409, "taken-over");
        let third = w.begin(deposit, "c", Some(content.len())).await;
        let hub = w.hub.clone();
        let ask = append(third.id, 0).octets(&content).by(&w.sender);
        let waiting = tokio::spawn(async move { call(&hub, ask).await });
        until("the third to have begun", || async {
            w.number("SELECT fence AS n FROM uploads WHERE id = $1", args![third.id.0]).await == 1
        }).await;
        w.hub.stop_transfers();
        waiting.await.unwrap().problem(503, "stopping");
        holding.await.unwrap().problem(503, "stopping");
        assert_eq!(w.stored(holder.id).await, &content[..500]);
        w.is_sound().await;
    }
}

/// Two requests took an upload one after the other, and come to tell their process the other way round.
#[tokio::test]
async fn writers_registered_out_of_order() {
    let w = World::on(Dialect::Sqlite).await;
    let id = UploadId::new();
    let newer = w.hub.take_writer(id, 2);
    let older = w.hub.take_writer(id, 1);
    assert!(older.token.is_cancelled() && !newer.token.is_cancelled());
    drop(older);
    let newest = w.hub.take_writer(id, 3);
    assert!(newer.token.is_cancelled() && !newest.token.is_cancelled());
    drop(newer);
    w.hub.end_writer(id);
    assert!(newest.token.is_cancelled());
}
