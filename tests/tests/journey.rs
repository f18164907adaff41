//! The command-line client over a bad line: cut, killed, run again; the recipient gets the same bytes; every exit
//! code that a script may rely on.

use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

use anyhow::{Context, Result, ensure};
use pli_tests::content::Content;
use pli_tests::{Backend, Exchange, Member, Proxy, Site, SiteOptions, until};
use sha2::{Digest as _, Sha256};

const MIB: u64 = 1 << 20;
/// Above what is sent in one piece (256 MiB): it goes in parts, several at a time.
const LARGE: u64 = 270 * MIB + 31;

fn write(path: &Path, content: Content) -> Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path)?;
    for piece in content.pieces(0, MIB) {
        file.write_all(&piece)?;
    }
    Ok(())
}

fn sha256(path: &Path) -> Result<String> {
    use std::io::Read as _;
    let (mut file, mut digest) = (std::fs::File::open(path)?, Sha256::new());
    let mut piece = vec![0; MIB as usize];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex::encode(digest.finalize())),
            length => digest.update(&piece[..length]),
        }
    }
}

/// A folder as an office has it: nested, with accents, an empty file, two of the same content, a large one.
fn procedure(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    let lengths =
        [("D1 – procès-verbal.pdf", 70_001), ("annexes/D2 été.pdf", 3 * MIB), ("annexes/vide.txt", 0)];
    std::fs::create_dir_all(root.join("annexes/photos"))?;
    let mut made = Vec::new();
    for (number, (name, length)) in (90..).zip(lengths) {
        write(&root.join(name), Content::new(number, length))?;
        made.push(PathBuf::from(name));
    }
    for number in 0..20 {
        let name = format!("annexes/photos/{number:02}.jpg");
        write(&root.join(&name), Content::new(100 + number / 2, 40_000 + number / 2))?;
        made.push(PathBuf::from(name));
    }
    write(&root.join("scellé n° 1.img"), Content::new(99, LARGE))?;
    made.push(PathBuf::from("scellé n° 1.img"));
    made.into_iter().map(|name| Ok((name.clone(), sha256(&root.join(&name))?))).collect()
}

fn start(site: &Site, member: &Member, line: &Proxy, arguments: &[&str]) -> Result<Child> {
    let mut command = site.client(member, line.address(), arguments)?;
    Ok(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
}

async fn end(child: Child) -> Result<Output> {
    Ok(tokio::task::spawn_blocking(move || child.wait_with_output()).await??)
}

async fn run(site: &Site, member: &Member, line: &Proxy, arguments: &[&str]) -> Result<Output> {
    end(start(site, member, line, arguments)?).await
}

fn said(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{} {out}{err}", output.status)
}

/// Runs the client, cuts its line every so many bytes, kills it once they moved, and runs it again to its end.
async fn through_cuts_and_a_kill(
    site: &Site,
    member: &Member,
    line: &Proxy,
    moved: impl Fn() -> u64,
    arguments: &[&str],
) -> Result<Output> {
    let before = moved();
    let mut client = start(site, member, line, arguments)?;
    for cut in 1..=3 {
        until("bytes to move before a cut", async || {
            ensure!(client.try_wait()?.is_none(), "the client ended by itself");
            Ok((moved() - before > cut * 20 * MIB).then_some(()))
        })
        .await?;
        line.cut();
    }
    until("bytes to move before the kill", async || {
        ensure!(client.try_wait()?.is_none(), "the client ended by itself");
        Ok((moved() - before > 80 * MIB).then_some(()))
    })
    .await?;
    client.kill()?;
    end(client).await?;
    let again = moved();
    let client = start(site, member, line, arguments)?;
    until("the client to be at it again", async || Ok((moved() - again > 20 * MIB).then_some(()))).await?;
    line.cut();
    end(client).await
}

async fn sent_and_received(backend: Backend) -> Result<()> {
    let site = Site::new(SiteOptions::new(backend)).await?;
    let mut gateway = site.start().await?;
    let reader = site.member("expert@demo.invalid").await?;
    let sender = site.member("greffe@demo.invalid").await?;
    let line = Proxy::start(site.address()).await?;
    let folder = site.folder().join("procédure");
    let files = procedure(&folder)?;
    let total: u64 =
        files.iter().map(|(name, _)| std::fs::metadata(folder.join(name)).map_or(0, |m| m.len())).sum();

    let path = folder.to_str().context("not UTF-8")?;
    let arguments = ["send", path, "--to", &reader.address, "--json"];
    let output = through_cuts_and_a_kill(&site, &sender, &line, || line.up(), &arguments).await?;
    ensure!(output.status.success(), "{}", said(&output));
    let deposit: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let id = deposit["deposit"].as_str().with_context(|| said(&output))?.to_owned();
    // Resumed, not begun again: five cuts and a kill cost far less than a second time.
    ensure!(line.up() < total + total / 2 + 40 * MIB, "{} went up for {total}", line.up());
    // Run once more: it is already sent, and not sent twice.
    let before = line.up();
    let output = run(&site, &sender, &line, &arguments).await?;
    ensure!(output.status.success() && line.up() - before < MIB, "{}", said(&output));
    let sent = site.api(&sender)?.get("/api/v1/deposits?box=sent").await?.json::<serde_json::Value>()?;
    ensure!(sent["items"].as_array().is_some_and(|items| items.len() == 1), "{sent}");
    ensure!(site.api(&sender)?.pending().await?.is_empty(), "uploads were left unfinished");

    // The gateway too is killed, in the middle of the way back.
    let to = site.folder().join("reçu");
    let to_text = to.to_str().context("not UTF-8")?;
    let arguments = ["receive", &id, "--into", to_text];
    until("the deposit to be there", async || {
        let deposit = site.api(&sender)?.deposit_by_id(&id).await?;
        Ok((deposit.state == pli_api::DepositState::Available).then_some(()))
    })
    .await?;
    let client = start(&site, &reader, &line, &arguments)?;
    let before = line.down();
    until("bytes to come", async || Ok((line.down() - before > 30 * MIB).then_some(()))).await?;
    gateway.kill().await?;
    gateway = site.start().await?;
    let output = end(client).await?;
    ensure!(output.status.success(), "{}", said(&output));
    std::fs::remove_dir_all(&to)?;
    let output = through_cuts_and_a_kill(&site, &reader, &line, || line.down(), &arguments).await?;
    ensure!(output.status.success(), "{}", said(&output));
    for (name, expected) in &files {
        let got = sha256(&to.join("procédure").join(name)).with_context(|| name.display().to_string())?;
        ensure!(got == *expected, "{} came back as something else", name.display());
    }
    let count = files_under(&to)?;
    ensure!(count == files.len(), "{count} files instead of {}", files.len());
    site.findings(true).await?.sound()?;
    drop(gateway);
    Ok(())
}

fn files_under(folder: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { files_under(&entry.path())? } else { 1 };
    }
    Ok(count)
}

#[tokio::test]
async fn a_procedure_arrives_whole_over_a_bad_line_embedded() -> Result<()> {
    sent_and_received(Backend::Embedded).await
}

#[tokio::test]
async fn a_procedure_arrives_whole_over_a_bad_line_with_services() -> Result<()> {
    sent_and_received(Backend::Services).await
}

#[tokio::test]
async fn exit_codes_tell_scripts_what_happened() -> Result<()> {
    let configuration = "[transfers]\nmax_size = \"64 MiB\"\n".to_owned();
    let site = Site::new(SiteOptions { configuration, ..SiteOptions::new(Backend::Embedded) }).await?;
    let gateway = site.start().await?;
    let exchange = Exchange::new(&site).await?;
    let (reader, sender) = (&exchange.reader, &exchange.sender);
    let line = Proxy::start(site.address()).await?;
    let file = site.folder().join("pièce.bin");
    write(&file, Content::new(81, 5 * MIB))?;
    let huge = site.folder().join("énorme.bin");
    std::fs::File::create(&huge)?.set_len(64 * MIB + 1)?;
    let (path, huge) = (file.to_str().context("not UTF-8")?, huge.to_str().context("not UTF-8")?);
    let nobody = Member { token: "pli_".to_owned() + &"A".repeat(43), ..sender.clone() };
    let upload = exchange.begin("D1.bin", Content::new(82, MIB)).await?;
    exchange.resume(&exchange.api, &upload).await?;
    exchange.settled(&site, &upload).await?;
    let id = exchange.deposit.to_string();
    let into = site.folder().join("reçu");
    let into = into.to_str().context("not UTF-8")?;

    let codes = async |code: i32, member: &Member, arguments: &[&str]| -> Result<()> {
        let output = run(&site, member, &line, arguments).await?;
        ensure!(output.status.code() == Some(code), "{arguments:?}: {code} expected, {}", said(&output));
        ensure!(code == 0 || !output.stderr.is_empty(), "{arguments:?} said nothing");
        ensure!(!said(&output).contains(&member.token), "{arguments:?} showed the token");
        Ok(())
    };
    codes(0, sender, &["send", path, "--to", &reader.address]).await?;
    codes(0, reader, &["receive", &id, "--into", into]).await?;
    codes(2, sender, &["send", path]).await?;
    codes(2, sender, &["send", path, "--to", &reader.address, "--server", "http://serveur.invalid"]).await?;
    codes(3, &nobody, &["send", path, "--to", &reader.address]).await?;
    codes(3, sender, &["send", path, "--to", "inconnu@demo.invalid"]).await?;
    let stranger = site.member("avocat@demo.invalid").await?;
    codes(3, &stranger, &["receive", &id, "--into", into]).await?;
    codes(6, sender, &["send", "/n/existe/pas", "--to", &reader.address]).await?;
    codes(7, sender, &["send", huge, "--to", &reader.address]).await?;
    // Something else lies where the document should go.
    std::fs::write(Path::new(into).join("D1.bin"), "autre chose")?;
    codes(6, reader, &["receive", &id, "--into", into]).await?;

    // A damaged segment.
    let (key, ..) = site.segments(&upload.document).await?.remove(0);
    let object = site.data().join("objects").join(key);
    let mut bytes = std::fs::read(&object)?;
    bytes[500_000] ^= 1;
    std::fs::write(&object, &bytes)?;
    let other = site.folder().join("endommagé");
    let other = other.to_str().context("not UTF-8")?;
    codes(5, reader, &["receive", &id, "--into", other, "--give-up", "5s"]).await?;
    ensure!(!Path::new(other).join("D1.bin").exists(), "a damaged document got its name");

    // Interrupted.
    let before = line.up();
    line.delay(std::time::Duration::from_millis(20));
    let client = start(&site, sender, &line, &["send", path, "--to", &reader.address, "--subject", "Deux"])?;
    until("the client to send", async || Ok((line.up() - before > MIB).then_some(()))).await?;
    let kill = std::process::Command::new("kill").arg("-TERM").arg(client.id().to_string()).status()?;
    ensure!(kill.success());
    let output = end(client).await?;
    ensure!(output.status.code() == Some(130), "{}", said(&output));
    line.delay(std::time::Duration::ZERO);
    codes(0, sender, &["send", path, "--to", &reader.address, "--subject", "Deux"]).await?;

    // Nobody answers.
    gateway.kill().await?;
    codes(4, sender, &["send", path, "--to", &reader.address, "--give-up", "2s", "--subject", "Trois"])
        .await?;
    codes(4, reader, &["receive", &id, "--into", other, "--give-up", "2s"]).await?;
    Ok(())
}
