//! The harness proves itself: a gateway starts, takes a document, is killed, comes back with the same data, on
//! both backends; and the proxies before it and behind it carry what they should.

use anyhow::{Context, Result, ensure};
use pli_tests::content::Content;
use pli_tests::{Backend, Proxy, Site};

async fn kill_and_return(backend: Backend) -> Result<()> {
    let (site, gateway) = Site::started(backend).await?;
    let reader = site.member("expert@demo.invalid").await?;
    let sender = site.member("greffe@demo.invalid").await?;
    let api = site.api(&sender)?;
    let content = Content::new(3, (17 << 20) + 5);
    let deposit = api.deposit(&[&reader.address], "Procédure fictive").await?;
    let document = api.upload(deposit.id, "D1 – procès-verbal.bin", content).await?;
    api.send_deposit(deposit.id).await?.expect(202)?;

    gateway.kill().await?;
    let gateway = site.start().await?;
    let front = Proxy::start(site.address()).await?;
    let there = site.api_at(&reader, front.address())?;
    let got = there.content(document.id, None).await?.expect(200)?;
    ensure!(got.body == content.all(), "other bytes after a kill");
    ensure!(front.down() > content.length(), "the proxy was not on the way");

    // The canary method: the plaintext is nowhere, and what is everywhere is found.
    let needle = content.bytes(8 << 20, (8 << 20) + 32);
    ensure!(site.holding(&needle)?.is_empty(), "plaintext on a disk");
    ensure!(!site.holding(b"addresses")?.is_empty(), "the configuration was not searched");
    ensure!(
        site.objects("segments")?.len() >= 2 && site.objects("manifests")?.len() == 1,
        "{:?}",
        site.objects("")?
    );
    ensure!(gateway.memory()?.1 > 0 && site.stranger()?.get("/api/v1/me").await?.status == 401);
    site.run(&["check", "--deep"]).await?;

    let status = gateway.stop(std::time::Duration::from_secs(30)).await?;
    ensure!(status.success(), "the graceful stop ended with {status}");
    Ok(())
}

#[tokio::test]
async fn a_killed_gateway_comes_back_embedded() -> Result<()> {
    kill_and_return(Backend::Embedded).await
}

#[tokio::test]
async fn a_killed_gateway_comes_back_with_services() -> Result<()> {
    kill_and_return(Backend::Services).await
}

#[tokio::test]
async fn the_command_line_client_sends_through_a_proxy() -> Result<()> {
    let (site, _gateway) = Site::started(Backend::Embedded).await?;
    let reader = site.member("expert@demo.invalid").await?;
    let sender = site.member("greffe@demo.invalid").await?;
    let file = site.folder().join("pièce n° 1.bin");
    std::fs::write(&file, Content::new(9, 3 << 20).all())?;
    let front = Proxy::start(site.address()).await?;
    let path = file.to_str().context("the temporary folder is not UTF-8")?;
    let mut send = site.client(&sender, front.address(), &["send", path, "--to", &reader.address])?;
    let output = tokio::task::spawn_blocking(move || send.output()).await??;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(front.up() > 3 << 20, "the proxy was not on the way");
    Ok(())
}
