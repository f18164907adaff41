//! `pli send`, `pli receive` and `pli list` as a user and as a script meet them: folders with French names go
//! through unchanged, whoever is killed in between; what was sent is not sent again; every exit code is the one
//! that the help promises.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

use anyhow::{Context, Result, ensure};
use pli_tests::content::Content;
use pli_tests::{Backend, Gateway, Member, Proxy, Site, SiteOptions, until};
use serde_json::Value;

const MIB: u64 = 1 << 20;
/// Above 256 MiB a file goes in several parts, and comes in several stripes.
const LARGE: u64 = 300 * MIB + 12_345;

struct Case {
    site: Site,
    gateway: Gateway,
    sender: Member,
    reader: Member,
    front: Proxy,
}

impl Case {
    async fn new() -> Result<Self> {
        Self::with(SiteOptions::new(Backend::Embedded)).await
    }

    async fn with(options: SiteOptions) -> Result<Self> {
        let site = Site::new(options).await?;
        let gateway = site.start().await?;
        let sender = site.member("greffe@demo.invalid").await?;
        let reader = site.member("expert@demo.invalid").await?;
        let front = Proxy::start(site.address()).await?;
        Ok(Self { site, gateway, sender, reader, front })
    }

    /// The gateway is killed and started again.
    async fn killed(self) -> Result<Self> {
        let Self { site, gateway, sender, reader, front } = self;
        gateway.kill().await?;
        let gateway = site.start().await?;
        Ok(Self { site, gateway, sender, reader, front })
    }

    fn start(&self, member: &Member, arguments: &[&str]) -> Result<Child> {
        let mut command = self.site.client(member, self.front.address(), arguments)?;
        command.current_dir(self.site.folder());
        Ok(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    async fn run(&self, member: &Member, arguments: &[&str]) -> Result<Said> {
        let child = self.start(member, arguments)?;
        ended(child).await
    }

    async fn send(&self, arguments: &[&str]) -> Result<Said> {
        self.run(&self.sender, &[&["send", "--to", &self.reader.address], arguments].concat()).await
    }

    /// A file of the site's folder.
    fn write(&self, name: &str, content: Content) -> Result<PathBuf> {
        let path = self.site.folder().join(name);
        std::fs::create_dir_all(path.parent().context("a name has a folder")?)?;
        let mut file = std::fs::File::create(&path)?;
        for piece in content.pieces(0, MIB) {
            std::io::Write::write_all(&mut file, &piece)?;
        }
        Ok(path)
    }

    /// Receives a deposit into a fresh folder.
    async fn receive(&self, deposit: &str, into: &str) -> Result<Said> {
        self.run(&self.reader, &["receive", deposit, "--into", into]).await
    }

    async fn drafts(&self) -> Result<usize> {
        let listed = self.run(&self.sender, &["list", "drafts", "--json"]).await?.done()?;
        Ok(serde_json::from_str::<Vec<Value>>(&listed.out)?.len())
    }

    /// Waits until so many bytes have gone through the proxy to the gateway.
    async fn sent(&self, bytes: u64) -> Result<()> {
        until("bytes sent", async || Ok((self.front.up() >= bytes).then_some(()))).await
    }
}

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    fn coded(self, code: i32) -> Result<Self> {
        ensure!(self.code == Some(code), "{:?} instead of {code}\n{}{}", self.code, self.out, self.err);
        Ok(self)
    }

    fn done(self) -> Result<Self> {
        self.coded(0)
    }

    /// The last line, which a script reads.
    fn last(&self) -> Result<String> {
        Ok(self.out.lines().last().context("no line")?.to_owned())
    }
}

async fn ended(child: Child) -> Result<Said> {
    let Output { status, stdout, stderr } =
        tokio::task::spawn_blocking(move || child.wait_with_output()).await??;
    Ok(Said { code: status.code(), out: String::from_utf8(stdout)?, err: String::from_utf8(stderr)? })
}

/// Every file under a folder, by its relative name.
fn tree(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let (mut waiting, mut found) = (vec![folder.to_owned()], BTreeMap::new());
    while let Some(path) = waiting.pop() {
        for entry in std::fs::read_dir(&path)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() {
                let name = entry.path().strip_prefix(folder)?.to_string_lossy().into_owned();
                found.insert(name, std::fs::read(entry.path())?);
            }
        }
    }
    Ok(found)
}

#[tokio::test]
async fn a_folder_arrives_as_it_was() -> Result<()> {
    let case = Case::new().await?;
    for (i, name) in
        ["D1/PV d'audition n° 12.pdf", "D1/été/énoncé.txt", "D2/scellé nº 3.jpg"].iter().enumerate()
    {
        case.write(&format!("procédure/{name}"), Content::new(i as u64, 100_000 + i as u64))?;
    }
    case.write("procédure/gros.bin", Content::new(7, 5 * MIB + 3))?;
    case.write("procédure/vide.txt", Content::new(8, 0))?;
    case.write("secret.txt", Content::new(9, 10))?;
    std::os::unix::fs::symlink(
        case.site.folder().join("secret.txt"),
        case.site.folder().join("procédure/lien"),
    )?;

    let sent = case.send(&["procédure", "--subject", "Affaire fictive", "--json"]).await?.done()?;
    ensure!(sent.err.contains("lien"), "the link that was left out is not named:\n{}", sent.err);
    let report: Value = serde_json::from_str(&sent.out)?;
    let deposit = report["deposit"].as_str().context("no deposit")?.to_owned();
    ensure!(report["skipped"].as_array().is_some_and(|skipped| skipped.len() == 1), "{report}");
    let expected = tree(&case.site.folder().join("procédure"))?;
    ensure!(
        report["documents"].as_array().is_some_and(|documents| documents.len() == expected.len()),
        "{report}"
    );

    let received = case.receive(&deposit, "reçu").await?.done()?;
    ensure!(tree(&case.site.folder().join("reçu/procédure"))? == expected, "other bytes or names");
    ensure!(received.last()? == "reçu", "{}", received.out);
    // What it prints is what `sha256sum --check` reads.
    let sums = received.out.lines().filter(|line| *line != "reçu").collect::<Vec<_>>().join("\n") + "\n";
    std::fs::write(case.site.folder().join("sums"), sums)?;
    let mut check = std::process::Command::new("sha256sum");
    check.args(["--check", "--strict", "../sums"]).current_dir(case.site.folder().join("reçu"));
    ensure!(check.output()?.status.success(), "sha256sum disagrees:\n{}", received.out);

    // Both again: nothing is sent twice, nothing is fetched twice.
    let (up, down) = (case.front.up(), case.front.down());
    let again = case.send(&["procédure", "--subject", "Affaire fictive"]).await?.done()?;
    ensure!(again.last()? == deposit && again.err.contains("--again"), "{}{}", again.out, again.err);
    let present = case.receive(&deposit, "reçu").await?.done()?;
    ensure!(present.err.contains("déjà présents"), "{}", present.err);
    ensure!(case.front.up() - up < MIB && case.front.down() - down < MIB, "content went over the wire again");
    ensure!(case.drafts().await? == 0);

    let listed = case.run(&case.reader, &["list"]).await?.done()?;
    ensure!(listed.out.contains(&deposit) && listed.out.contains("Affaire fictive"), "{}", listed.out);
    let listed = case.run(&case.sender, &["list", "sent", "--json"]).await?.done()?;
    ensure!(serde_json::from_str::<Vec<Value>>(&listed.out)?.len() == 1, "{}", listed.out);
    Ok(())
}

#[tokio::test]
async fn a_sender_that_is_killed_goes_on_where_it_was() -> Result<()> {
    let case = Case::new().await?;
    let content = Content::new(11, LARGE);
    case.write("p/gros.bin", content)?;
    case.write("p/petit.bin", Content::new(12, 100))?;
    let to = case.reader.address.clone();
    let arguments = ["send", "p", "--to", &to];

    let mut first = case.start(&case.sender, &arguments)?;
    case.sent(120 * MIB).await?;
    first.kill()?;
    first.wait()?;
    // The gateway dies too, as in a power cut, and the second client is cut off in the middle.
    let case = case.killed().await?;
    let cut = case.front.cut_after(60 * MIB);
    let second = case.run(&case.sender, &arguments).await?.done()?;
    cut.happened().await;
    ensure!(second.err.contains("repris"), "{}", second.err);
    ensure!(second.out.contains(&content.sha256()), "{}", second.out);
    // What is sent again is what had not reached the store, for each of the streams: not the file.
    ensure!(case.front.up() < LARGE + LARGE * 2 / 3, "{} bytes for a file of {LARGE}", case.front.up());
    ensure!(case.drafts().await? == 0);

    case.receive(&second.last()?, "out").await?.done()?;
    ensure!(tree(&case.site.folder().join("out/p"))? == tree(&case.site.folder().join("p"))?);
    case.site.findings(true).await?.sound()?;
    Ok(())
}

#[tokio::test]
async fn a_sender_outlives_the_gateway() -> Result<()> {
    let case = Case::new().await?;
    let content = Content::new(13, LARGE);
    case.write("gros.bin", content)?;
    let sending = case.start(&case.sender, &["send", "gros.bin", "--to", &case.reader.address])?;
    case.sent(100 * MIB).await?;
    let case = case.killed().await?;
    let sent = ended(sending).await?.done()?;
    ensure!(sent.out.contains(&content.sha256()), "{}", sent.out);
    // A graceful stop is a cut like any other to the one who receives.
    let receiving = case.start(&case.reader, &["receive", &sent.last()?, "--into", "out"])?;
    until("bytes received", async || Ok((case.front.down() >= 50 * MIB).then_some(()))).await?;
    let Case { site, gateway, sender, reader, front } = case;
    gateway.stop(std::time::Duration::from_secs(60)).await?;
    let gateway = site.start().await?;
    let case = Case { site, gateway, sender, reader, front };
    ended(receiving).await?.done()?;
    ensure!(std::fs::read(case.site.folder().join("out/gros.bin"))? == content.all(), "other bytes");
    drop(case.gateway);
    Ok(())
}

#[tokio::test]
async fn a_receiver_that_is_killed_goes_on_where_it_was() -> Result<()> {
    let case = Case::new().await?;
    let content = Content::new(14, LARGE);
    case.write("gros.bin", content)?;
    let deposit = case.send(&["gros.bin"]).await?.done()?.last()?;
    for streams in ["4", "1"] {
        let into = format!("out{streams}");
        let arguments = ["receive", &deposit, "--into", &into, "--streams", streams];
        let before = case.front.down();
        let mut first = case.start(&case.reader, &arguments)?;
        until("bytes received", async || Ok((case.front.down() - before >= 200 * MIB).then_some(()))).await?;
        // Interrupted as by Ctrl-C, so that what arrived is noted; the code says so.
        let mut interrupt = std::process::Command::new("kill");
        ensure!(interrupt.args(["-INT", &first.id().to_string()]).status()?.success());
        ensure!(first.wait()?.code() == Some(130), "not 130 after an interruption");
        let folder = case.site.folder().join(&into);
        ensure!(!folder.join("gros.bin").exists() && folder.join("gros.bin.part").exists(), "the wrong name");
        case.front.cut();
        let second = case.run(&case.reader, &arguments).await?.done()?;
        ensure!(second.out.contains(&content.sha256()), "{}", second.out);
        let received = case.front.down() - before;
        ensure!(received < LARGE + LARGE / 2, "{received} bytes for a document of {LARGE}");
        ensure!(std::fs::read(folder.join("gros.bin"))? == content.all(), "other bytes");
        ensure!(std::fs::read_dir(&folder)?.count() == 1, "something is left behind");
    }
    Ok(())
}

#[tokio::test]
async fn an_interrupted_sender_says_how_to_resume() -> Result<()> {
    let case = Case::new().await?;
    case.write("l'été.bin", Content::new(15, 40 * MIB))?;
    case.front.stall(true);
    let sending = case.start(&case.sender, &["send", "l'été.bin", "--to", &case.reader.address])?;
    until("a connection", async || Ok((case.front.connections().0 > 0).then_some(()))).await?;
    let mut interrupt = std::process::Command::new("kill");
    ensure!(interrupt.args(["-TERM", &sending.id().to_string()]).status()?.success());
    let said = ended(sending).await?.coded(130)?;
    let expected = format!(r"pli send 'l'\''été.bin' --to {}", case.reader.address);
    ensure!(said.err.contains(&expected), "{}", said.err);
    Ok(())
}

#[tokio::test]
async fn a_file_that_changes_meanwhile_is_not_sent() -> Result<()> {
    let case = Case::new().await?;
    let path = case.write("gros.bin", Content::new(16, LARGE))?;
    let sending = case.start(&case.sender, &["send", "gros.bin", "--to", &case.reader.address])?;
    case.sent(20 * MIB).await?;
    case.front.stall(true);
    let mut file = std::fs::File::options().append(true).open(&path)?;
    std::io::Write::write_all(&mut file, b"x")?;
    drop(file);
    case.front.stall(false);
    let said = ended(sending).await?.coded(6)?;
    ensure!(said.err.contains("a changé"), "{}", said.err);
    ensure!(case.drafts().await? == 0, "its draft is still there");
    ensure!(case.site.api(&case.sender)?.pending().await?.is_empty(), "its uploads are still there");
    // As it is now, it goes.
    case.send(&["gros.bin"]).await?.done()?;
    Ok(())
}

#[tokio::test]
async fn what_is_there_is_not_replaced_unless_asked() -> Result<()> {
    let case = Case::new().await?;
    let content = Content::new(17, 200_000);
    case.write("a.bin", content)?;
    case.write("b.bin", Content::new(18, 10))?;
    let deposit = case.send(&["a.bin", "b.bin"]).await?.done()?.last()?;
    let out = case.site.folder().join("out");
    std::fs::create_dir(&out)?;
    std::fs::write(out.join("a.bin"), "autre contenu")?;
    // The start of something else, under the name of what is not whole yet.
    std::fs::write(out.join("b.bin.part"), "12345")?;

    let said = case.receive(&deposit, "out").await?.coded(6)?;
    ensure!(said.err.contains("a.bin existe déjà"), "{}", said.err);
    ensure!(std::fs::read(out.join("a.bin"))? == b"autre contenu");
    ensure!(
        std::fs::read(out.join("b.bin"))? == Content::new(18, 10).all(),
        "one failure stopped the others"
    );
    case.run(&case.reader, &["receive", &deposit, "--into", "out", "--force"]).await?.done()?;
    ensure!(std::fs::read(out.join("a.bin"))? == content.all());
    ensure!(std::fs::read_dir(&out)?.count() == 2, "something is left behind");

    std::fs::remove_file(out.join("a.bin"))?;
    std::fs::write(case.site.folder().join("ailleurs"), "précieux")?;
    std::os::unix::fs::symlink(case.site.folder().join("ailleurs"), out.join("a.bin"))?;
    case.run(&case.reader, &["receive", &deposit, "--into", "out", "--force"]).await?.coded(6)?;
    ensure!(std::fs::read(case.site.folder().join("ailleurs"))? == "précieux".as_bytes(), "through a link");
    Ok(())
}

#[tokio::test]
async fn damage_is_an_error_of_its_own_and_the_rest_arrives() -> Result<()> {
    let case = Case::new().await?;
    case.write("p/un.bin", Content::new(19, 20 * MIB))?;
    let deposit = case.send(&["p"]).await?.done()?.last()?;
    let hit = case.site.objects("segments")?;
    for path in &hit {
        let mut bytes = std::fs::read(path)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes)?;
    }
    let said = case.receive(&deposit, "out").await?.coded(5)?;
    ensure!(said.err.contains("endommagé") || said.err.contains("endommagée"), "{}", said.err);
    ensure!(!case.site.folder().join("out/p/un.bin").exists(), "a damaged document has its name");
    Ok(())
}

#[tokio::test]
async fn exit_codes_are_those_of_the_help() -> Result<()> {
    let mut options = SiteOptions::new(Backend::Embedded);
    options.quota = "50 MiB".into();
    options.configuration = "[transfers]\nmax_size = \"40 MiB\"\n".into();
    let case = Case::with(options).await?;
    case.write("a.bin", Content::new(20, 1000))?;
    case.write("grand.bin", Content::new(21, 41 * MIB))?;
    case.write("moyen1.bin", Content::new(22, 30 * MIB))?;
    case.write("moyen2.bin", Content::new(23, 30 * MIB))?;
    std::fs::create_dir(case.site.folder().join("vide"))?;
    let to = case.reader.address.as_str();
    let nowhere = "0199aaaa-0000-7000-8000-000000000000";
    let cases: [(&[&str], i32); 13] = [
        (&["send"], 2),
        (&["send", "vide", "--to", to], 2),
        (&["send", "a.bin", "a.bin", "--to", to], 2),
        (&["receive", "pas-un-identifiant"], 2),
        (&["list", "--token-file", "absent"], 2),
        (&["list", "--server", "http://pli.invalid"], 2),
        (&["send", "a.bin", "--to", "inconnu@demo.invalid"], 3),
        (&["receive", nowhere], 3),
        (&["send", "absent.bin", "--to", to], 6),
        (&["send", "grand.bin", "--to", to], 7),
        (&["send", "moyen1.bin", "moyen2.bin", "--to", to], 7),
        (&["send", "a.bin", "--to", to, "--retention-days", "400"], 7),
        (&["send", "a.bin", "--to", to], 0),
    ];
    for (arguments, code) in cases {
        let said = case.run(&case.sender, arguments).await?;
        said.coded(code).with_context(|| format!("{arguments:?}"))?;
    }
    ensure!(case.drafts().await? == 0, "a refusal left a draft behind");

    let stranger = Member { address: case.sender.address.clone(), token: "pli_faux".into() };
    case.run(&stranger, &["list"]).await?.coded(3)?;
    // An authority that nobody vouches for is refused at once, not after the time to give up.
    let mut command = case.site.client(&case.sender, case.front.address(), &["list"])?;
    command.env_remove("PLI_CA").stdout(Stdio::piped()).stderr(Stdio::piped());
    let said = ended(command.spawn()?).await?;
    ensure!(matches!(said.code, Some(2 | 4)) && said.err.contains("certificat"), "{}", said.err);
    case.front.refuse().await;
    let said = case
        .run(&case.sender, &["send", "a.bin", "--to", to, "--again", "--give-up", "1s"])
        .await?
        .coded(4)?;
    ensure!(said.err.contains("Pour reprendre"), "{}", said.err);
    Ok(())
}

#[tokio::test]
async fn a_token_that_others_can_read_is_refused() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let case = Case::new().await?;
    let token = case.site.folder().join("token");
    std::fs::write(&token, &case.sender.token)?;
    let with = ["list", "--token-file", "token"];
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644))?;
    let said = case.run(&case.sender, &with).await?.coded(2)?;
    ensure!(said.err.contains("chmod 600") && !said.err.contains(&case.sender.token), "{}", said.err);
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600))?;
    case.run(&case.sender, &with).await?.done()?;
    // From the configuration file, relative to it.
    let folder = case.site.folder().join(".config/pli");
    std::fs::create_dir_all(&folder)?;
    std::fs::copy(&token, folder.join("token"))?;
    std::fs::write(folder.join("client.toml"), "token_file = \"token\"\n")?;
    let mut command = case.site.client(&case.sender, case.front.address(), &["list"])?;
    command.env_remove("PLI_TOKEN").stdout(Stdio::piped()).stderr(Stdio::piped());
    ended(command.spawn()?).await?.done()?;
    std::fs::write(folder.join("client.toml"), "token = \"pli_x\"\n")?;
    let said = case.run(&case.sender, &["list"]).await?.coded(2)?;
    ensure!(said.err.contains("client.toml"), "{}", said.err);
    Ok(())
}
