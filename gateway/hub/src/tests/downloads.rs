//! What a recipient gets: ranges, validators, the trail of each download, whole deposits, and damage.

use crate::admin::{self, CheckOptions};
use crate::testing::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use pli_api::DocumentId;
use pli_storage::{Class, Dialect, ObjectKey, args};
use serde_json::json;
use std::io::Read as _;
use tower::ServiceExt as _;

/// A document over several segments, some of several chunks, at its recipient's disposal.
async fn ground(dialect: Dialect) -> (World, DocumentId, Vec<u8>) {
    let w = World::on(dialect).await;
    let content = noise(1, 3 * SEGMENT + SEGMENT / 3);
    let (_, documents) = w.available(&[("dossier/procédure n° 7.pdf", &content)]).await;
    (w, documents[0], content)
}

fn etag(content: &[u8]) -> String {
    format!("\"sha256-{}\"", hex::encode(sha256(content)))
}

/// The trail of downloads once nothing is being sent any more.
async fn trail(w: &World) -> Vec<String> {
    until("the end of the downloads", || async { w.hub.running_transfers() == 0 }).await;
    w.kinds("download.").await
}

on_both! {
    async fn the_whole(dialect) {
        let (w, document, content) = ground(dialect).await;
        let reply = w.download(&w.recipient, document).await.expect(200);
        assert_eq!(reply.body, content);
        assert_eq!(reply.header("content-length"), Some(content.len().to_string().as_str()));
        assert_eq!(reply.header("content-type"), Some("application/pdf"));
        assert_eq!(reply.header("etag"), Some(etag(&content).as_str()));
        assert_eq!(reply.header("accept-ranges"), Some("bytes"));
        assert_eq!(reply.header("cache-control"), Some("private, no-store"));
        let digest = format!("sha-256=:{}:", STANDARD.encode(sha256(&content)));
        assert_eq!(reply.header("repr-digest"), Some(digest.as_str()));
        assert_eq!(
            reply.header("content-disposition"),
            Some("attachment; filename=\"proc_dure n_ 7.pdf\"; filename*=UTF-8''proc%C3%A9dure%20n%C2%B0%207.pdf")
        );
        assert_eq!(trail(&w).await, ["download.begun", "download.completed"]);
        let told = w.told("download.begun").await;
        assert_eq!((told[0].actor, told[0].document), (Some(w.recipient.id), Some(document)));
        assert!(told[0].deposit.is_some());
        assert_eq!(told[0].detail, json!({ "from": 0, "bytes": content.len() }));
        assert_eq!(w.told("download.completed").await[0].detail, json!({ "from": 0, "bytes": content.len() }));
    }

    async fn only_its_head(dialect) {
        let (w, document, content) = ground(dialect).await;
        let whole = w.download(&w.recipient, document).await.expect(200);
        let events = trail(&w).await;
        let head = content_of(document).method(&http::Method::HEAD).by(&w.recipient);
        let head = w.call(head).await.expect(200);
        assert!(head.body.is_empty());
        for name in ["content-length", "content-type", "etag", "repr-digest", "content-disposition", "accept-ranges"] {
            assert_eq!(head.header(name), whole.header(name), "{name}");
        }
        // A range is GET's alone (RFC 9110, 14.2).
        let ranged = content_of(document).method(&http::Method::HEAD).header("range", "bytes=0-9").by(&w.recipient);
        assert_eq!(w.call(ranged).await.expect(200).header("content-length"), Some(content.len().to_string().as_str()));
        assert_eq!(trail(&w).await, events, "nothing was handed over");
    }

    async fn ranges_everywhere(dialect) {
        let (w, document, content) = ground(dialect).await;
        let size = content.len();
        let chunk = pli_seal::CHUNK;
        let first = chunk - pli_seal::LITERAL;
        let mut edges = vec![0, first, first + chunk, first + 2 * chunk, SEGMENT, SEGMENT + first, 2 * SEGMENT, 3 * SEGMENT, size];
        edges.push(2 * SEGMENT + first + chunk);
        let mut ranges = vec![(0, size - 1), (0, 0), (size - 1, size - 1), (1, size - 2), (SEGMENT / 2, 3 * SEGMENT + 5)];
        for edge in edges {
            for start in edge.saturating_sub(1)..(edge + 2).min(size) {
                for length in [1, 2, chunk, SEGMENT, 2 * SEGMENT + 1] {
                    ranges.push((start, (start + length - 1).min(size - 1)));
                }
            }
        }
        ranges.sort_unstable();
        ranges.dedup();
        for (first, last) in ranges {
            let ask = content_of(document).header("range", format!("bytes={first}-{last}")).by(&w.recipient);
            let reply = w.call(ask).await.expect(206);
            assert!(reply.body == content[first..=last], "bytes={first}-{last}");
            assert_eq!(reply.header("content-range"), Some(format!("bytes {first}-{last}/{size}").as_str()));
            assert_eq!(reply.header("content-length"), Some((last - first + 1).to_string().as_str()));
            assert_eq!(reply.header("etag"), Some(etag(&content).as_str()));
        }
    }

    async fn every_form_of_range(dialect) {
        let (w, document, content) = ground(dialect).await;
        let size = content.len();
        let get = async |range: &str| w.call(content_of(document).header("range", range).by(&w.recipient)).await;
        for (range, expected) in [
            ("bytes=100-".to_owned(), 100..size),
            ("bytes=-100".to_owned(), size - 100..size),
            (format!("bytes=-{}", size * 2), 0..size),
            (format!("bytes={}-{}", size - 1, u64::MAX), size - 1..size),
            (format!("bytes=5-{}", "9".repeat(40)), 5..size),
        ] {
            let reply = get(&range).await.expect(206);
            assert!(reply.body == content[expected], "{range}");
        }
        // What the RFC lets a server ignore is ignored.
        for ignored in ["bytes=5-4", "bytes=0-1,3-4", "lines=1-2", "bytes", "bytes=a-b", "bytes=--5"] {
            assert!(get(ignored).await.expect(200).body == content, "{ignored}");
        }
        let before = trail(&w).await.len();
        for outside in [format!("bytes={size}-"), format!("bytes={}-{}", size + 5, size + 9), "bytes=-0".to_owned()] {
            let reply = get(&outside).await.problem(416, "range-not-satisfiable");
            assert_eq!(reply.header("content-range"), Some(format!("bytes */{size}").as_str()));
        }
        assert_eq!(trail(&w).await.len(), before, "nothing was handed over");
    }

    async fn validators(dialect) {
        let (w, document, content) = ground(dialect).await;
        let tag = etag(&content);
        let ask = |name: &'static str, value: &str| content_of(document).header(name, value).by(&w.recipient);
        for same in [tag.clone(), format!("W/{tag}"), "*".to_owned(), format!("\"x\", {tag}")] {
            let reply = w.call(ask("if-none-match", &same)).await.expect(304);
            assert!(reply.body.is_empty());
            assert_eq!(reply.header("etag"), Some(tag.as_str()));
        }
        w.call(ask("if-none-match", "\"x\"")).await.expect(200);
        w.call(ask("if-match", "\"x\"")).await.problem(412, "precondition-failed");
        w.call(ask("if-match", &format!("W/{tag}"))).await.problem(412, "precondition-failed");
        w.call(ask("if-match", "*")).await.expect(200);
        w.call(ask("if-match", &tag)).await.expect(200);
        // If-Match is judged first.
        let both = ask("if-match", "\"x\"").header("if-none-match", &tag);
        w.call(both).await.problem(412, "precondition-failed");
        let ranged = |value: &str| ask("if-range", value).header("range", "bytes=3-9");
        assert!(w.call(ranged(&tag)).await.expect(206).body == content[3..=9]);
        for other in [format!("W/{tag}"), "\"x\"".to_owned(), "Sun, 06 Nov 1994 08:49:37 GMT".to_owned()] {
            assert!(w.call(ranged(&other)).await.expect(200).body == content);
        }
    }

    async fn of_nothing(dialect) {
        let w = World::on(dialect).await;
        let (_, documents) = w.available(&[("vide.txt", b"")]).await;
        let reply = w.download(&w.recipient, documents[0]).await.expect(200);
        assert!(reply.body.is_empty());
        assert_eq!(reply.header("content-length"), Some("0"));
        assert_eq!(trail(&w).await, ["download.begun", "download.completed"]);
        let ranged = content_of(documents[0]).header("range", "bytes=0-").by(&w.recipient);
        w.call(ranged).await.problem(416, "range-not-satisfiable");
        // hyper takes nothing of a body that it knows to be empty.
        let response = w.hub.router().oneshot(content_of(documents[0]).by(&w.recipient).into_request()).await.unwrap();
        drop(response);
        assert_eq!(trail(&w).await[2..], ["download.begun", "download.completed"]);
    }

    async fn dropped_in_the_middle(dialect) {
        let w = World::on(dialect).await;
        let content = noise(2, 24 * SEGMENT);
        let (_, documents) = w.available(&[("a", &content)]).await;
        let response = w.hub.router().oneshot(content_of(documents[0]).by(&w.recipient).into_request()).await.unwrap();
        let mut body = response.into_body();
        let mut taken = 0;
        while taken < 2 * SEGMENT {
            taken += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
        }
        drop(body);
        assert_eq!(trail(&w).await, ["download.begun", "download.aborted"]);
        assert_eq!(w.told("download.aborted").await[0].detail, json!({ "from": 0, "bytes": taken }));
        // To the last byte, and then no word of its end.
        let response = w.hub.router().oneshot(content_of(documents[0]).by(&w.recipient).into_request()).await.unwrap();
        let mut body = response.into_body();
        taken = 0;
        while taken < content.len() {
            taken += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
        }
        drop(body);
        assert_eq!(trail(&w).await[2..], ["download.begun", "download.completed"]);
        // Not a byte.
        let response = w.hub.router().oneshot(content_of(documents[0]).by(&w.recipient).into_request()).await.unwrap();
        drop(response);
        assert_eq!(trail(&w).await[4..], ["download.begun", "download.aborted"]);
    }

    /// Dropped at any moment before the answer: what has begun also ends.
    async fn dropped_before_the_answer(dialect) {
        let (w, document, _) = ground(dialect).await;
        for polls in 0..60 {
            drop_after(&w.hub, content_of(document).by(&w.recipient), polls).await;
            let kinds = trail(&w).await;
            let begun = kinds.iter().filter(|kind| *kind == "download.begun").count();
            assert_eq!(kinds.len(), 2 * begun, "{kinds:?}");
        }
    }

    async fn not_yet_and_no_more(dialect) {
        let w = World::on(dialect).await;
        let deposit = w.draft().await;
        let up = w.begin(deposit, "a", Some(5)).await;
        let document = up.document.unwrap();
        w.download(&w.sender, document).await.problem(409, "not-ready");
        w.patch(up.id, 0, b"abcde").await.expect(204);
        w.download(&w.sender, document).await.problem(409, "not-ready");
        let zip = || ask("GET", format!("/api/v1/deposits/{deposit}/zip"));
        w.call(zip().by(&w.sender)).await.problem(409, "not-ready");
        w.download(&w.recipient, document).await.problem(404, "not-found");
        w.send(deposit).await.expect(202);
        w.jobs().await;
        assert_eq!(w.download(&w.recipient, document).await.expect(200).body, &b"abcde"[..]);
        w.pass(31 * DAY);
        w.jobs().await;
        w.download(&w.recipient, document).await.problem(404, "not-found");
        w.download(&w.sender, document).await.problem(410, "gone");
        w.call(zip().by(&w.sender)).await.problem(410, "gone");
        w.call(zip().by(&w.recipient)).await.problem(404, "not-found");
    }

    /// The deposit ends while it is being downloaded: cut, but nothing is called damaged.
    async fn ended_in_the_middle(dialect) {
        let w = World::on(dialect).await;
        let content = noise(3, 40 * SEGMENT);
        let (_, documents) = w.available(&[("a", &content)]).await;
        let response = w.hub.router().oneshot(content_of(documents[0]).by(&w.recipient).into_request()).await.unwrap();
        let mut body = response.into_body();
        let mut taken = body.frame().await.unwrap().unwrap().into_data().unwrap().to_vec();
        w.pass(31 * DAY);
        w.jobs().await;
        w.store_is_empty().await;
        let mut cut = false;
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => taken.extend_from_slice(&frame.into_data().unwrap()),
                Err(_) => {
                    cut = true;
                    break;
                }
            }
        }
        drop(body);
        assert!(cut && taken.len() < content.len() && content.starts_with(&taken));
        assert_eq!(trail(&w).await, ["download.begun", "download.aborted"]);
        assert!(w.told("segment.damaged").await.is_empty());
    }

    async fn a_whole_deposit(dialect) {
        let w = World::on(dialect).await;
        let files: Vec<(&str, Vec<u8>)> = vec![
            ("procédure/pv.pdf", noise(4, 2 * SEGMENT + 5)),
            ("procédure/pv.pdf", noise(5, 10)),
            ("procédure/PV.pdf", noise(6, 11)),
            ("12:30 audition.pdf", noise(7, 12)),
            ("13:30 audition.pdf", noise(8, 12)),
            (r"C:\scellés\n° 4.bin", noise(9, SEGMENT)),
            ("SHA256SUMS", b"pas celles-ci".to_vec()),
            ("vide", vec![]),
            ("tout", b"court".to_vec()),
        ];
        let given: Vec<_> = files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
        let (deposit, documents) = w.available(&given).await;
        let reply = w.call(ask("GET", format!("/api/v1/deposits/{deposit}/zip")).by(&w.recipient)).await.expect(200);
        assert_eq!(reply.header("content-type"), Some("application/zip"));
        let disposition = format!("attachment; filename=\"pli-{deposit}.zip\"; filename*=UTF-8''pli-{deposit}.zip");
        assert_eq!(reply.header("content-disposition"), Some(disposition.as_str()));

        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(reply.body.clone())).unwrap();
        let names = [
            "procédure/pv.pdf", "procédure/pv (2).pdf", "procédure/PV (3).pdf", "12_30 audition.pdf",
            "13_30 audition.pdf", "C_/scellés/n° 4.bin", "SHA256SUMS (2)", "vide", "tout", "SHA256SUMS",
        ];
        let found: Vec<_> = (0..archive.len()).map(|n| archive.by_index(n).unwrap().name().unwrap().into_owned()).collect();
        assert_eq!(found, names);
        let mut sums = String::new();
        for ((_, content), name) in files.iter().zip(names) {
            let mut entry = archive.by_name(name).unwrap();
            assert_eq!(entry.compression(), zip::CompressionMethod::Stored);
            let mut bytes = Vec::new();
            // Reads to the end, where the CRC is checked.
            entry.read_to_end(&mut bytes).unwrap();
            assert!(bytes == *content, "{name}");
            sums.push_str(&format!("{}  {name}\n", hex::encode(sha256(content))));
        }
        let mut list = String::new();
        archive.by_name("SHA256SUMS").unwrap().read_to_string(&mut list).unwrap();
        assert_eq!(list, sums);

        assert_eq!(trail(&w).await, ["download.begun", "download.completed"]);
        let begun = &w.told("download.begun").await[0];
        assert_eq!((begun.actor, begun.deposit, begun.document), (Some(w.recipient.id), Some(deposit), None));
        assert_eq!(begun.detail, json!({ "zip": documents }));
        assert_eq!(w.told("download.completed").await[0].detail, json!({ "bytes": reply.body.len() }));
    }

    async fn a_whole_deposit_dropped(dialect) {
        let w = World::on(dialect).await;
        let content = noise(10, 24 * SEGMENT);
        let (deposit, _) = w.available(&[("a", &content), ("b", b"b")]).await;
        let zip = ask("GET", format!("/api/v1/deposits/{deposit}/zip")).by(&w.recipient);
        let mut body = w.hub.router().oneshot(zip.into_request()).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        drop(body);
        assert_eq!(trail(&w).await, ["download.begun", "download.aborted"]);
    }
}

// Damage. Each case changes what the store holds of the second segment of four, or of its neighbours.

struct Damaged {
    w: World,
    document: DocumentId,
    content: Vec<u8>,
    pieces: Vec<ObjectKey>,
}

async fn to_damage(dialect: Dialect) -> Damaged {
    let (w, document, content) = ground(dialect).await;
    let pieces = w.pieces(document).await;
    assert_eq!(pieces.len(), 4);
    Damaged { w, document, content, pieces }
}

impl Damaged {
    async fn object(&self, piece: usize) -> Vec<u8> {
        self.w.blobs.read(&self.pieces[piece], 1 << 30).await.unwrap()
    }

    async fn put(&self, piece: usize, bytes: Vec<u8>) {
        self.w.blobs.put(&self.pieces[piece], vec![Bytes::from(bytes)]).await.unwrap();
    }

    async fn range(&self, from: usize, to: usize) -> Reply {
        let ask = content_of(self.document).header("range", format!("bytes={from}-{}", to - 1));
        self.w.call(ask.by(&self.w.recipient)).await
    }

    async fn check(&self, deep: bool) -> admin::Findings {
        admin::check(&self.w.hub, CheckOptions { deep, remove_orphans_after: None }).await.unwrap()
    }

    /// These segments are damaged, wholly, and no others.
    async fn judge(&self, damaged: &[usize]) {
        let w = &self.w;
        for piece in 0..4 {
            let (from, to) = (piece * SEGMENT, self.content.len().min((piece + 1) * SEGMENT));
            // Within a chunk, over chunks, the whole segment.
            for (from, to) in [(from + 5, from + 90), (from + 100, to - 100), (from, to)] {
                let reply = self.range(from, to).await;
                if damaged.contains(&piece) {
                    let told = w.told("segment.damaged").await.len();
                    reply.problem(500, "damaged");
                    assert!(told > 0);
                    let last = w.told("segment.damaged").await.pop().unwrap();
                    assert_eq!(last.document, Some(self.document));
                    assert_eq!(last.detail["segment"], piece);
                } else {
                    assert!(reply.expect(206).body == self.content[from..to], "segment {piece} is whole");
                }
            }
        }
        // The ends of those that came before are written by then.
        trail(w).await;
        // Begun before the damage: cut, and never a wrong byte.
        let reply = w.download(&w.recipient, self.document).await;
        if damaged.contains(&0) {
            reply.problem(500, "damaged");
        } else {
            assert_eq!(reply.status, 200);
            assert!(reply.cut, "the client must not take it for whole");
            assert!(self.content.starts_with(&reply.body));
            assert!(reply.body.len() >= damaged[0] * SEGMENT, "what came before was given");
        }
        assert_eq!(trail(w).await.pop().unwrap(), "download.aborted");
        let deep = self.check(true).await;
        assert_eq!(deep.damaged, [self.document.to_string()]);
        assert!(!deep.is_clean());
    }
}

on_both! {
    async fn a_flipped_byte(dialect) {
        let d = to_damage(dialect).await;
        let good = d.object(1).await;
        // In each chunk in turn: ranges that lie elsewhere in the segment are still whole.
        let sealed = pli_seal::CHUNK + pli_seal::TAG;
        for chunk in 0..4 {
            let mut bad = good.clone();
            bad[pli_seal::HEADER + chunk * sealed + 1000] ^= 1;
            d.put(1, bad).await;
            for other in 0..4 {
                let from = SEGMENT + other * pli_seal::CHUNK + 2000;
                let reply = d.range(from, from + 500).await;
                if other == chunk {
                    reply.problem(500, "damaged");
                } else {
                    assert!(reply.expect(206).body == d.content[from..from + 500]);
                }
            }
            let found = d.check(false).await;
            assert!(found.is_clean(), "length and presence say nothing of it: {found:?}");
            assert_eq!(d.check(true).await.damaged, [d.document.to_string()]);
        }
        let told = d.w.told("segment.damaged").await;
        assert_eq!(told[0].detail["segment"], 1);
        assert!(told[0].detail["why"].as_str().unwrap().contains("chunk 0"));
        // In the header and in the final tag: found when the whole segment is read.
        for place in [3, 20, good.len() - 1] {
            let mut bad = good.clone();
            bad[place] ^= 1;
            d.put(1, bad).await;
            assert_eq!(d.check(true).await.damaged, [d.document.to_string()]);
            d.range(SEGMENT, 2 * SEGMENT).await;
        }
        d.put(1, good).await;
        assert!(d.check(true).await.is_clean());
        d.w.holds(d.document, &d.content).await;
    }

    async fn a_truncated_segment(dialect) {
        let d = to_damage(dialect).await;
        for keep in [0, 10, pli_seal::HEADER] {
            let good = d.object(1).await;
            d.put(1, good[..keep].to_vec()).await;
            assert_eq!(d.check(false).await.wrong_length, [d.pieces[1].to_string()]);
            d.judge(&[1]).await;
            d.put(1, good).await;
        }
        // To the half: the first half still opens.
        let good = d.object(1).await;
        d.put(1, good[..good.len() / 2].to_vec()).await;
        assert_eq!(d.check(false).await.wrong_length, [d.pieces[1].to_string()]);
        assert!(d.range(SEGMENT + 5, SEGMENT + 900).await.expect(206).body == d.content[SEGMENT + 5..SEGMENT + 900]);
        d.range(2 * SEGMENT - 900, 2 * SEGMENT).await.problem(500, "damaged");
        assert_eq!(d.check(true).await.damaged, [d.document.to_string()]);
        // Something more at the end.
        d.put(1, [good.clone(), b"more".to_vec()].concat()).await;
        assert_eq!(d.check(false).await.wrong_length, [d.pieces[1].to_string()]);
    }

    async fn two_segments_swapped(dialect) {
        let d = to_damage(dialect).await;
        let (one, two) = (d.object(1).await, d.object(2).await);
        d.put(1, two).await;
        d.put(2, one).await;
        assert!(d.check(false).await.is_clean());
        d.judge(&[1, 2]).await;
    }

    async fn a_segment_repeated(dialect) {
        let d = to_damage(dialect).await;
        d.put(1, d.object(0).await).await;
        assert!(d.check(false).await.is_clean());
        d.judge(&[1]).await;
        d.put(0, d.object(2).await).await;
        d.judge(&[0, 1]).await;
    }

    async fn another_documents_segment(dialect) {
        let d = to_damage(dialect).await;
        // Of the same place, length and even content: another key.
        let (_, others) = d.w.available(&[("jumeau", &d.content)]).await;
        let foreign = d.w.pieces(others[0]).await;
        d.put(1, d.w.blobs.read(&foreign[1], 1 << 30).await.unwrap()).await;
        d.judge(&[1]).await;
        d.w.holds(others[0], &d.content).await;
    }

    async fn a_segment_missing(dialect) {
        let d = to_damage(dialect).await;
        d.w.blobs.delete(&d.pieces[1]).await.unwrap();
        assert_eq!(d.check(false).await.missing, [d.pieces[1].to_string()]);
        d.judge(&[1]).await;
    }

    /// Rows are not trusted either: a segment's row exchanged for another's.
    async fn rows_that_were_exchanged(dialect) {
        let d = to_damage(dialect).await;
        let sql = "UPDATE segments SET object = $1 WHERE object = $2";
        let aside = ObjectKey::random(Class::Segment).unwrap();
        for (to, from) in [(&aside, &d.pieces[1]), (&d.pieces[1], &d.pieces[2]), (&d.pieces[2], &aside)] {
            assert_eq!(d.w.change(sql, args![to.as_str(), from.as_str()]).await, 1);
        }
        d.judge(&[1, 2]).await;
    }

    async fn a_row_missing(dialect) {
        let d = to_damage(dialect).await;
        d.w.change("DELETE FROM segments WHERE object = $1", args![d.pieces[3].as_str()]).await;
        d.w.download(&d.w.recipient, d.document).await.problem(500, "damaged");
        let found = d.check(true).await;
        assert_eq!((found.damaged, found.recent), (vec![d.document.to_string()], vec![d.pieces[3].to_string()]));
    }

    async fn damage_cuts_a_whole_deposit(dialect) {
        let d = to_damage(dialect).await;
        d.w.blobs.delete(&d.pieces[1]).await.unwrap();
        let row = &d.w.rows("SELECT id FROM deposits", args![]).await[0];
        let deposit = pli_api::DepositId(row.get("id").unwrap());
        let reply = d.w.call(ask("GET", format!("/api/v1/deposits/{deposit}/zip")).by(&d.w.recipient)).await;
        assert!(reply.cut, "no archive may look whole");
        assert!(zip::ZipArchive::new(std::io::Cursor::new(reply.body)).is_err());
        assert_eq!(trail(&d.w).await, ["download.begun", "download.aborted"]);
        assert_eq!(d.w.told("segment.damaged").await.len(), 1);
    }

    /// A document of several parts, damaged in one.
    async fn a_part_damaged(dialect) {
        let w = World::on(dialect).await;
        let deposit = w.draft().await;
        let content = noise(11, 3000);
        let mut parts = Vec::new();
        for piece in content.chunks(1000) {
            let begun = w.begin_part(piece.len()).await;
            w.patch(begun.id, 0, piece).await.expect(204);
            parts.push(begun.id.to_string());
        }
        let given = metadata(&[("filename", "x"), ("deposit", &deposit.to_string())]);
        let ask = tus("POST", "/api/v1/uploads").header("upload-metadata", given);
        let ask = ask.header("upload-concat", format!("final;{}", parts.join(" "))).by(&w.sender);
        let document = w.call(ask).await.expect(201).begun().document.unwrap();
        w.jobs().await;
        w.holds(document, &content).await;
        let pieces = w.pieces(document).await;
        // The parts have keys of their own: one cannot stand for another.
        let (a, b) = (w.blobs.read(&pieces[1], 9999).await.unwrap(), w.blobs.read(&pieces[2], 9999).await.unwrap());
        w.blobs.put(&pieces[1], vec![b.into()]).await.unwrap();
        w.blobs.put(&pieces[2], vec![a.into()]).await.unwrap();
        let get = async |range: &str| w.call(content_of(document).header("range", range).by(&w.sender)).await;
        assert!(get("bytes=10-999").await.expect(206).body == content[10..1000]);
        get("bytes=1000-1010").await.problem(500, "damaged");
        get("bytes=2990-").await.problem(500, "damaged");
        let found = admin::check(&w.hub, CheckOptions { deep: true, remove_orphans_after: None }).await.unwrap();
        assert_eq!(found.damaged, [document.to_string()]);
    }
}
