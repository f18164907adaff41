//! tus-js-client and tuspy, unchanged, against `pli serve`: upload, cut, resume, verify. The scripts and their
//! locks are in `tests/clients/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pli_tests::content::Content;
use pli_tests::{Backend, Member, Site};

/// The folder with the libraries, from `tests/clients/install.sh`.
fn installed() -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/install.sh");
    let output = Command::new(script).output()?;
    ensure!(output.status.success(), "install.sh: {}", String::from_utf8_lossy(&output.stderr));
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// Runs a client's script with a deposit and a file of 40 MB, two and a half segments.
async fn run(site: &Site, member: &Member, program: PathBuf, script: &str) -> Result<String> {
    let api = site.api(member)?;
    let deposit = api.deposit(&["expert@demo.invalid"], "Procédure fictive").await?;
    let file = site.folder().join("piece.bin");
    std::fs::write(&file, Content::new(11, 40_000_001).all())?;
    let mut command = Command::new(program);
    command
        .arg(installed()?.join(script))
        .arg(deposit.id.to_string())
        .arg(&file)
        .env("PLI_SERVER", format!("https://{}", site.address()))
        .env("PLI_TOKEN", &member.token)
        .env("PLI_CA", site.root())
        .env("NODE_EXTRA_CA_CERTS", site.root());
    let output = tokio::task::spawn_blocking(move || command.output()).await?.context(script.to_owned())?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{script} ended with {}\n{out}{err}", output.status);
    Ok(out.into_owned())
}

async fn members(site: &Site) -> Result<Member> {
    site.member("expert@demo.invalid").await?;
    site.member("greffe@demo.invalid").await
}

async fn tus_js(backend: Backend) -> Result<()> {
    let (site, _gateway) = Site::started(backend).await?;
    let member = members(&site).await?;
    let said = run(&site, &member, PathBuf::from("node"), "tus-js.mjs").await?;
    for scenario in ["plain", "checksum", "parallel", "creation", "deferred", "terminate"] {
        ensure!(said.contains(&format!("{scenario}: ")), "{scenario} did not run: {said}");
    }
    ensure!(site.api(&member)?.pending().await?.is_empty(), "an upload was left unfinished");
    Ok(())
}

async fn tuspy(backend: Backend) -> Result<()> {
    let (site, _gateway) = Site::started(backend).await?;
    let member = members(&site).await?;
    let said = run(&site, &member, installed()?.join("python/bin/python"), "tuspy_client.py").await?;
    ensure!(said.contains("wrong checksum: 460"), "{said}");
    Ok(())
}

#[tokio::test]
async fn tus_js_client_resumes_and_agrees_on_the_digest_embedded() -> Result<()> {
    tus_js(Backend::Embedded).await
}

#[tokio::test]
async fn tus_js_client_resumes_and_agrees_on_the_digest_with_services() -> Result<()> {
    tus_js(Backend::Services).await
}

#[tokio::test]
async fn tuspy_resumes_and_agrees_on_the_digest_embedded() -> Result<()> {
    tuspy(Backend::Embedded).await
}

#[tokio::test]
async fn tuspy_resumes_and_agrees_on_the_digest_with_services() -> Result<()> {
    tuspy(Backend::Services).await
}
