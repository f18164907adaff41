//! Segments that the store does not give back as they were: flipped, truncated, swapped, taken from another
//! document, repeated, removed. Each is told apart from good bytes, named, and costs nothing but itself.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use pli_tests::content::Content;
use pli_tests::{Backend, Exchange, Findings, Site, SiteOptions};

const MIB: u64 = 1 << 20;
const SEGMENT: u64 = 4 * MIB;

struct Case {
    site: Site,
    exchange: Exchange,
    document: String,
    content: Content,
    /// The objects' files, in the order of the content.
    files: Vec<PathBuf>,
}

impl Case {
    fn file(&self, segment: usize) -> &Path {
        &self.files[segment]
    }

    fn key(&self, segment: usize) -> String {
        let mut parts: Vec<_> = self.file(segment).iter().rev().take(3).collect();
        parts.reverse();
        parts.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
    }

    /// Reads `length` bytes from `from` as the recipient.
    async fn range(&self, from: u64, length: u64) -> Result<Vec<u8>> {
        let to = (from + length).min(self.content.length());
        let there = self.site.api(&self.exchange.reader)?;
        let answer = there.content(&self.document, Some(&format!("bytes={from}-{}", to - 1))).await?;
        ensure!(answer.status == 206, "{} {}", answer.status, answer.problem());
        ensure!(answer.body == self.content.bytes(from, to), "other bytes from {from}");
        Ok(answer.body)
    }

    /// What must hold while these segments are damaged; `at` is a place in each that does not open.
    async fn is_told(&self, what: &str, damaged: &[usize], at: u64, seen_by_check: bool) -> Result<()> {
        let there = self.site.api(&self.exchange.reader)?;
        for segment in 0..self.files.len() {
            let start = segment as u64 * SEGMENT;
            if damaged.contains(&segment) {
                let before = self.site.journal("segment.damaged", &self.document).await?.len();
                let from = start + at;
                let range = format!("bytes={from}-{}", from + 99);
                let answer = there.content(&self.document, Some(&range)).await?;
                ensure!(
                    answer.status == 500 && answer.problem() == "damaged",
                    "{what}, segment {segment}: {} {}",
                    answer.status,
                    answer.text().chars().take(300).collect::<String>()
                );
                let journal = self.site.journal("segment.damaged", &self.document).await?;
                let named = journal.last().is_some_and(|detail| {
                    serde_json::from_str::<serde_json::Value>(detail)
                        .is_ok_and(|detail| detail["segment"] == segment)
                });
                ensure!(journal.len() > before && named, "{what}: the journal says {journal:?}");
            } else {
                let length = (SEGMENT).min(self.content.length() - start);
                self.range(start, length).await.with_context(|| format!("{what}, segment {segment}"))?;
            }
        }
        // Whole: an answer with a status when the first bytes are hit, else a cut after good bytes.
        let whole = there.content(&self.document, None).await;
        match whole {
            Err(_) => {}
            Ok(answer) => {
                ensure!(answer.status == 500 && answer.problem() == "damaged", "{what}: {}", answer.status);
            }
        }
        let shallow = self.site.findings(false).await?;
        let deep = self.site.findings(true).await?;
        let named: Vec<String> = damaged.iter().map(|segment| self.key(*segment)).collect();
        let listed = |found: &Findings| {
            let all: Vec<String> = found.missing.iter().chain(&found.wrong_length).cloned().collect();
            named.iter().all(|key| all.contains(key))
        };
        if seen_by_check {
            ensure!(shallow.code == 5 && listed(&shallow), "{what}: check says {shallow:?}, not {named:?}");
        } else {
            ensure!(shallow.code == 0, "{what}: check says {shallow:?}");
        }
        ensure!(
            deep.code == 5 && deep.damaged == [self.document.clone()],
            "{what}: deep check says {deep:?}"
        );
        Ok(())
    }

    /// Nothing is amiss any more.
    async fn is_whole_again(&self) -> Result<()> {
        ensure!(self.exchange.read(&self.site, &self.document).await? == self.content.sha256());
        let found = self.site.findings(true).await?;
        ensure!(found.code == 0, "{found:?}");
        Ok(())
    }
}

async fn damaged_segments(backend: Backend) -> Result<()> {
    let configuration = "[transfers]\nsegment_size = \"4 MiB\"\n".to_owned();
    let site = Site::new(SiteOptions { configuration, ..SiteOptions::new(backend) }).await?;
    let _gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    let content = Content::new(31, 4 * SEGMENT + 2 * MIB + 9);
    let upload = exchange.begin("D1.bin", content).await?;
    exchange.resume(&exchange.api, &upload).await?;
    let other = exchange.begin("D2.bin", Content::new(32, 2 * SEGMENT)).await?;
    exchange.resume(&exchange.api, &other).await?;
    exchange.available(&other.document, &other.content.sha256()).await?;
    exchange.settled(&site, &upload).await?;

    let objects = site.objects("segments")?;
    let file_of = |key: &str| {
        let found = objects.iter().find(|path| path.ends_with(key)).cloned();
        found.with_context(|| format!("no file of {key}"))
    };
    let rows = site.segments(&upload.document).await?;
    ensure!(rows.len() == 5 && rows.iter().take(4).all(|row| row.2 == SEGMENT), "{rows:?}");
    let files = rows.iter().map(|row| file_of(&row.0)).collect::<Result<Vec<_>>>()?;
    let foreign = file_of(&site.segments(&other.document).await?[0].0)?;
    let case = Case { site, exchange, document: upload.document, content, files };
    let originals = case.files.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
    let put_back = || -> Result<()> {
        for (file, original) in case.files.iter().zip(&originals) {
            std::fs::write(file, original)?;
        }
        Ok(())
    };

    for segment in [0, 2, 4] {
        let mut flipped = originals[segment].clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 4;
        std::fs::write(case.file(segment), &flipped)?;
        // Object layout: 42 bytes of header, chunks of 64 KiB with a tag of 16; 12 bytes before the content.
        let chunk = (middle - 42) / 65_552;
        case.is_told("flipped", &[segment], chunk as u64 * 65_536 + 100, false).await?;
        put_back()?;
    }

    std::fs::write(case.file(2), &originals[2][..originals[2].len() / 2])?;
    case.is_told("truncated", &[2], 3 * MIB, true).await?;
    put_back()?;

    std::fs::write(case.file(3), [originals[3].as_slice(), b"more"].concat())?;
    let longer = case.site.findings(false).await?;
    ensure!(longer.code == 5 && longer.wrong_length == [case.key(3)], "{longer:?}");
    put_back()?;

    std::fs::write(case.file(1), &originals[2])?;
    std::fs::write(case.file(2), &originals[1])?;
    case.is_told("swapped", &[1, 2], 0, false).await?;
    put_back()?;

    std::fs::copy(&foreign, case.file(0))?;
    case.is_told("another document's", &[0], 0, false).await?;
    put_back()?;

    std::fs::write(case.file(3), &originals[2])?;
    case.is_told("repeated", &[3], 0, false).await?;
    put_back()?;

    std::fs::remove_file(case.file(1))?;
    case.is_told("removed", &[1], 0, true).await?;
    put_back()?;

    case.is_whole_again().await
}

#[tokio::test]
async fn a_damaged_segment_is_told_and_the_others_still_open_embedded() -> Result<()> {
    damaged_segments(Backend::Embedded).await
}

#[tokio::test]
async fn a_damaged_segment_is_told_and_the_others_still_open_with_services() -> Result<()> {
    damaged_segments(Backend::Services).await
}
