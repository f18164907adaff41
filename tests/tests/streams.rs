//! One request without an end in sight, and two writers of one upload: the durable offset advances while the
//! request runs and never goes back; the newer writer wins and nothing of the older one gets in.

use anyhow::{Result, ensure};
use pli_tests::content::Content;
use pli_tests::exchange::fed;
use pli_tests::{Api, Backend, Exchange, Gateway, Proxy, Site, SiteOptions, Upload, until};

const MIB: u64 = 1 << 20;
/// The default segment.
const SEGMENT: u64 = 16 * MIB;

/// The bytes that each PATCH received which has ended, as the log tells.
fn ended_requests(site: &Site) -> Vec<u64> {
    let log = site.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines
        .filter(|line| line["method"] == "PATCH" && line["message"] == "request")
        .filter_map(|line| line["received"].as_u64())
        .collect()
}

/// 200 MB in one PATCH without `Content-Length`, made while it is sent; cut twice on its way.
async fn one_long_request(backend: Backend) -> Result<()> {
    let (site, _gateway) = Site::started(backend).await?;
    let exchange = Exchange::new(&site).await?;
    let upload = exchange.begin("D1.bin", Content::new(71, 200_000_003)).await?;
    let front = Proxy::start(site.address()).await?;
    let mut durable = 0;
    for cut_at in [70 * MIB + 5, 60 * MIB] {
        let through = site.api_at(&exchange.sender, front.address())?;
        let requests = ended_requests(&site).len();
        let cut = front.cut_after(cut_at);
        let (feed, body) = fed();
        let address = upload.location.clone();
        let writer = tokio::spawn(async move { through.patch(&address, durable, body).await });
        let mut seen = vec![durable];
        // The client pauses after 40 MiB and goes on once two segments of them are durable.
        for (number, piece) in upload.content.pieces(durable, MIB).enumerate() {
            if number == 40 {
                until("two segments of a request that runs", async || {
                    let offset = exchange.api.watched(&upload.location).await?;
                    seen.push(offset);
                    Ok((offset >= durable + 2 * SEGMENT).then_some(()))
                })
                .await?;
                ensure!(!writer.is_finished(), "the request ended before the cut");
            }
            if feed.send(piece).await.is_err() {
                break;
            }
        }
        drop(feed);
        cut.happened().await;
        ensure!(writer.await?.is_err(), "an answer through a cut");
        let received = until("the request to end at the gateway", async || {
            Ok(ended_requests(&site).get(requests).copied())
        })
        .await?;
        let offset = exchange.api.offset(&upload.location).await?;
        seen.push(offset);
        ensure!(seen.is_sorted(), "the offset went back: {seen:?}");
        ensure!(
            offset <= durable + received && durable + received - offset <= SEGMENT,
            "{received} bytes were received from {durable}, and {offset} are durable"
        );
        durable = offset;
    }
    let through = site.api_at(&exchange.sender, front.address())?;
    exchange.resume(&through, &upload).await?;
    exchange.settled(&site, &upload).await
}

#[tokio::test]
async fn one_long_request_is_durable_while_it_runs_embedded() -> Result<()> {
    one_long_request(Backend::Embedded).await
}

#[tokio::test]
async fn one_long_request_is_durable_while_it_runs_with_services() -> Result<()> {
    one_long_request(Backend::Services).await
}

/// A writer that fell silent: 6 MiB sent, 4 MiB durable, the connection half-open.
struct Silent {
    front: Proxy,
    feed: tokio::sync::mpsc::Sender<Vec<u8>>,
    writer: tokio::task::JoinHandle<Result<pli_tests::Answer>>,
}

impl Silent {
    async fn reach(site: &Site, exchange: &Exchange, upload: &Upload) -> Result<Self> {
        let front = Proxy::start(site.address()).await?;
        let through = site.api_at(&exchange.sender, front.address())?;
        let (feed, body) = fed();
        let address = upload.location.clone();
        let writer = tokio::spawn(async move { through.patch(&address, 0, body).await });
        // Other bytes than the content's after the first segment: they must never be found in the document.
        feed.send(upload.content.bytes(0, 4 * MIB)).await?;
        feed.send(vec![0xEE; (2 * MIB) as usize]).await?;
        until("the first segment", async || {
            let durable = exchange.api.watched(&upload.location).await?;
            Ok((durable == 4 * MIB && front.up() > 6 * MIB && site.unread()? == 0).then_some(()))
        })
        .await?;
        front.stall(true);
        Ok(Self { front, feed, writer })
    }

    /// Comes back to life after another took over.
    async fn wakes(self) -> Result<()> {
        self.front.stall(false);
        for _ in 0..32 {
            if self.feed.send(vec![0xEE; 1 << 18]).await.is_err() {
                break;
            }
        }
        drop(self.feed);
        if let Ok(answer) = self.writer.await? {
            ensure!(answer.status == 409 && answer.problem() == "taken-over", "{}", answer.text());
        }
        Ok(())
    }
}

fn options(backend: Backend) -> SiteOptions {
    let configuration = "[transfers]\nsegment_size = \"4 MiB\"\n".to_owned();
    SiteOptions { configuration, ..SiteOptions::new(backend) }
}

/// The second writer goes to `second`: the same gateway, or another one on the same database and store.
async fn taken_over(site: &Site, exchange: &Exchange, second: &Api) -> Result<()> {
    let upload = exchange.begin("D1.bin", Content::new(72, 30 * MIB + 9)).await?;
    // The older one wakes after the newer one has finished.
    let silent = Silent::reach(site, exchange, &upload).await?;
    // Not by HEAD, which would keep what the older one has received.
    let offset = second.watched(&upload.location).await?;
    ensure!(offset == 4 * MIB, "{offset}");
    second.patch_rest(&upload.location, offset, upload.content).await?.expect(204)?;
    silent.wakes().await?;
    exchange.available(&upload.document, &upload.content.sha256()).await?;

    // The older one wakes while the newer one is at it.
    let other = exchange.begin("D2.bin", Content::new(73, 30 * MIB + 9)).await?;
    let silent = Silent::reach(site, exchange, &other).await?;
    let (feed, body) = fed();
    let (api, address) = (second.clone(), other.location.clone());
    let writer = tokio::spawn(async move { api.patch(&address, 4 * MIB, body).await });
    feed.send(other.content.bytes(4 * MIB, 9 * MIB)).await?;
    until("the newer writer's segment", async || {
        Ok((second.watched(&other.location).await? == 8 * MIB).then_some(()))
    })
    .await?;
    silent.wakes().await?;
    for piece in other.content.pieces(9 * MIB, 1 << 18) {
        feed.send(piece).await?;
    }
    drop(feed);
    writer.await??.expect(204)?;

    // Both at once, again and again, from the same offset: as many as want to, one content.
    let rivals = exchange.begin("D3.bin", Content::new(74, 24 * MIB + 1)).await?;
    let both = tokio::join!(
        exchange.resume(&exchange.api, &rivals),
        exchange.resume(second, &rivals),
        exchange.resume(second, &rivals)
    );
    ensure!(both.0.is_ok() || both.1.is_ok() || both.2.is_ok(), "{both:?}");
    exchange.resume(&exchange.api, &rivals).await?;
    exchange.available(&rivals.document, &rivals.content.sha256()).await?;
    exchange.available(&upload.document, &upload.content.sha256()).await?;
    exchange.settled(site, &other).await?;
    ensure!(exchange.read(site, &rivals.document).await? == rivals.content.sha256());
    ensure!(exchange.read(site, &upload.document).await? == upload.content.sha256());
    Ok(())
}

#[tokio::test]
async fn the_newer_of_two_writers_wins_embedded() -> Result<()> {
    let site = Site::new(options(Backend::Embedded)).await?;
    let _gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    taken_over(&site, &exchange, &exchange.api).await
}

#[tokio::test]
async fn the_newer_of_two_writers_wins_with_services() -> Result<()> {
    let site = Site::new(options(Backend::Services)).await?;
    let _gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    taken_over(&site, &exchange, &exchange.api).await
}

async fn two_gateways() -> Result<(Site, [Gateway; 2], Exchange, Api)> {
    let site = Site::new(options(Backend::Services)).await?;
    let first = site.start().await?;
    let (second, address) = site.start_beside().await?;
    let exchange = Exchange::new(&site).await?;
    let api = site.api_at(&exchange.sender, address)?;
    Ok((site, [first, second], exchange, api))
}

#[tokio::test]
async fn the_newer_of_two_writers_wins_at_two_gateways() -> Result<()> {
    let (site, _gateways, exchange, second) = two_gateways().await?;
    taken_over(&site, &exchange, &second).await
}

#[tokio::test]
async fn an_upload_goes_on_at_another_gateway_when_its_own_is_killed() -> Result<()> {
    let (site, [first, _second], exchange, second) = two_gateways().await?;
    let upload = exchange.begin("D1.bin", Content::new(75, 40 * MIB + 1)).await?;
    let silent = Silent::reach(&site, &exchange, &upload).await?;
    first.kill().await?;
    drop(silent);
    ensure!(second.offset(&upload.location).await? == 4 * MIB);
    exchange.resume(&second, &upload).await?;
    let _first = site.start().await?;
    exchange.settled(&site, &upload).await
}
