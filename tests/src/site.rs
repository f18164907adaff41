//! One installation of Pli for a test: a fresh folder with certificates, the hub's key, the configuration, and
//! behind it a database and a store. Outlives every run of the gateway on it. Everything is made with the
//! program's own commands, as an operator would.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::api::Api;
use crate::gateway::{self, Gateway, command};
use crate::proxy::Proxy;

/// Where the site keeps its rows and its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// SQLite and a folder.
    Embedded,
    /// PostgreSQL (`PLI_TEST_POSTGRES`, from `tests/env/with.sh postgres`) and an S3 server of its own, each
    /// behind a proxy that the test can cut.
    Services,
}

impl Backend {
    /// Both: for tests that must hold on each.
    pub const ALL: [Self; 2] = [Self::Embedded, Self::Services];
}

/// What a test may choose.
#[derive(Clone, Debug)]
pub struct SiteOptions {
    /// Database and store.
    pub backend: Backend,
    /// Lines added to the configuration, in TOML, for instance `[transfers]` and what follows.
    pub configuration: String,
    /// Where the site's folder is made; the system's temporary folder when absent.
    pub parent: Option<PathBuf>,
    /// The quota of the organisation, as the command line takes it.
    pub quota: String,
    /// A PostgreSQL of the test's own, which it may stop; `PLI_TEST_POSTGRES` when absent.
    pub postgres: Option<String>,
}

impl SiteOptions {
    /// The defaults on a backend.
    pub fn new(backend: Backend) -> Self {
        Self {
            backend,
            configuration: String::new(),
            parent: None,
            quota: "1 TiB".to_owned(),
            postgres: None,
        }
    }
}

/// An account of the site.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its address, by which it signs in and is written to.
    pub address: String,
    /// A personal access token.
    pub token: String,
}

/// The services behind a site, with what can break between.
struct Services {
    database: Proxy,
    store: Proxy,
    store_folder: PathBuf,
    scripts: PathBuf,
    database_url: String,
}

/// An installation.
pub struct Site {
    // Dropped in this order: the S3 server is stopped while the folder still tells its process.
    services: Option<Services>,
    folder: TempDir,
    listen: SocketAddr,
    operations: SocketAddr,
    configuration: PathBuf,
    variables: Vec<(String, String)>,
    organisation: OnceCell<()>,
    options: SiteOptions,
}

/// The organisation that every account of a site belongs to.
const ORGANISATION: &str = "Tribunal judiciaire de Démonville (fictif)";

impl Site {
    /// A fresh site with certificates, keys and an empty, migrated database; nothing runs yet.
    ///
    /// # Errors
    /// A command of the program failed, or a service is missing.
    pub async fn new(options: SiteOptions) -> Result<Self> {
        // Two providers are compiled in by some trees: say which, once.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = match &options.parent {
            Some(parent) => tempfile::Builder::new().prefix("pli-site-").tempdir_in(parent)?,
            None => tempfile::Builder::new().prefix("pli-site-").tempdir()?,
        };
        let (listen, operations) = (free_address()?, free_address()?);
        let mut variables = Vec::new();
        let mut lines = format!(
            "data = \"data\"\n[listen]\naddresses = [\"{listen}\"]\n[operations]\naddress = \"{operations}\"\n"
        );
        let services = match options.backend {
            Backend::Embedded => None,
            Backend::Services => {
                let server = match &options.postgres {
                    Some(server) => server.clone(),
                    None => std::env::var("PLI_TEST_POSTGRES").context(
                        "PLI_TEST_POSTGRES is not set: run under tests/env/with.sh postgres s3 -- …",
                    )?,
                };
                Some(Services::start(server, folder.path(), &mut lines, &mut variables).await?)
            }
        };
        lines.push_str(&options.configuration);
        let configuration = folder.path().join("pli.toml");
        std::fs::write(&configuration, lines)?;
        let site = Self {
            folder,
            listen,
            operations,
            configuration,
            variables,
            services,
            organisation: OnceCell::new(),
            options,
        };
        site.install().await?;
        Ok(site)
    }

    /// A site on SQLite and a folder with a gateway that is ready.
    ///
    /// # Errors
    /// As [`Site::new`] and [`Site::start`].
    pub async fn started(backend: Backend) -> Result<(Self, Gateway)> {
        let site = Self::new(SiteOptions::new(backend)).await?;
        let gateway = site.start().await?;
        Ok((site, gateway))
    }

    async fn install(&self) -> Result<()> {
        let data = self.data();
        std::fs::create_dir_all(data.join("keys"))?;
        let passphrase = data.join("keys/passphrase");
        std::fs::write(&passphrase, "phrase de passe de démonstration, sans secret\n")?;
        private(&passphrase)?;
        let tls = data.join("tls");
        self.run(&["dev-pki", &tls.to_string_lossy()]).await?;
        self.run(&["keys", "init"]).await?;
        self.run(&["migrate"]).await?;
        Ok(())
    }

    /// Starts the gateway and waits until it is ready.
    ///
    /// # Errors
    /// It does not start, or is not ready within a minute.
    pub async fn start(&self) -> Result<Gateway> {
        Gateway::start(self, &self.configuration, &self.operations_url(), &self.variables).await
    }

    /// Starts one more gateway on the same database and store, and gives the address where it answers.
    ///
    /// # Errors
    /// As [`Site::start`].
    pub async fn start_beside(&self) -> Result<(Gateway, SocketAddr)> {
        let (listen, operations) = (free_address()?, free_address()?);
        let lines = std::fs::read_to_string(&self.configuration)?
            .replace(&self.listen.to_string(), &listen.to_string())
            .replace(&self.operations.to_string(), &operations.to_string());
        let configuration = self.folder().join(format!("beside-{}.toml", listen.port()));
        std::fs::write(&configuration, lines)?;
        let operations = format!("http://{operations}");
        let gateway = Gateway::start(self, &configuration, &operations, &self.variables).await?;
        Ok((gateway, listen))
    }

    /// Starts it without waiting: it may be meant to fail.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn spawn(&self) -> Result<Gateway> {
        Gateway::spawn(self, &self.configuration, &self.operations_url(), &self.variables)
    }

    /// Runs a command of the program on this site and gives what it printed.
    ///
    /// # Errors
    /// It exits with another code than 0.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.output(arguments).await?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(
            output.status.success(),
            "pli {} ended with {}\n{out}{err}",
            arguments.join(" "),
            output.status
        );
        Ok(out.into_owned())
    }

    /// The same, whatever the exit code.
    ///
    /// # Errors
    /// The program cannot be run.
    pub async fn output(&self, arguments: &[&str]) -> Result<Output> {
        self.output_with(&self.configuration, arguments).await
    }

    /// The same with another configuration: another machine, with what was carried there.
    ///
    /// # Errors
    /// The program cannot be run.
    pub async fn output_with(&self, configuration: &Path, arguments: &[&str]) -> Result<Output> {
        let mut command = command()?;
        command.arg("--config").arg(configuration).args(arguments).envs(self.variables.iter().cloned());
        gateway::output(command).await.with_context(|| format!("running pli {}", arguments.join(" ")))
    }

    /// The client's side of the program (`pli send`, `pli receive`, `pli list`) as a member; `server` is the
    /// gateway or a proxy before it.
    ///
    /// # Errors
    /// The program is not built.
    pub fn client(&self, member: &Member, server: SocketAddr, arguments: &[&str]) -> Result<Command> {
        let mut command = command()?;
        command.args(arguments).env("PLI_SERVER", format!("https://{server}"));
        command.env("PLI_TOKEN", &member.token).env("PLI_CA", self.root()).env("HOME", self.folder());
        command.env_remove("XDG_CONFIG_HOME");
        Ok(command)
    }

    /// Adds an account with a token, in the one organisation of the site.
    ///
    /// # Errors
    /// The command line refused.
    pub async fn member(&self, address: &str) -> Result<Member> {
        let organisation = async {
            self.run(&["org", "add", ORGANISATION, "--quota", &self.options.quota]).await.map(|_| ())
        };
        self.organisation.get_or_try_init(|| organisation).await?;
        let name = format!("{address} (personne fictive)");
        self.run(&["user", "add", address, "--name", &name, "--org", ORGANISATION]).await?;
        let said = self.run(&["token", "add", address, "--name", "essai"]).await?;
        let token = said.split_whitespace().find(|word| word.starts_with("pli_"));
        let token = token.with_context(|| format!("no token in {said:?}"))?.to_owned();
        Ok(Member { address: address.to_owned(), token })
    }

    /// The HTTP API as a member.
    ///
    /// # Errors
    /// The root certificate cannot be read.
    pub fn api(&self, member: &Member) -> Result<Api> {
        self.api_at(member, self.listen)
    }

    /// The same through another address: a proxy before the gateway.
    ///
    /// # Errors
    /// The root certificate cannot be read.
    pub fn api_at(&self, member: &Member, address: SocketAddr) -> Result<Api> {
        Api::new(address, &std::fs::read(self.root())?, Some(&member.token))
    }

    /// The API as nobody.
    ///
    /// # Errors
    /// The root certificate cannot be read.
    pub fn stranger(&self) -> Result<Api> {
        Api::new(self.listen, &std::fs::read(self.root())?, None)
    }

    /// Where rows and objects are kept.
    pub fn backend(&self) -> Backend {
        self.options.backend
    }

    /// Where the gateway answers.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    pub(crate) fn operations_url(&self) -> String {
        format!("http://{}", self.operations)
    }

    /// Everything of the site: configuration, data, log.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration file.
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// The certificate that a client of the site must trust.
    pub fn root(&self) -> PathBuf {
        self.data().join("tls/root.pem")
    }

    /// The proxy before the database, with [`Backend::Services`].
    ///
    /// # Errors
    /// The site is embedded.
    pub fn database(&self) -> Result<&Proxy> {
        self.services
            .as_ref()
            .map(|services| &services.database)
            .context("an embedded site has no database server")
    }

    /// The proxy before the store, with [`Backend::Services`].
    ///
    /// # Errors
    /// The site is embedded.
    pub fn store(&self) -> Result<&Proxy> {
        self.services.as_ref().map(|services| &services.store).context("an embedded site has no store server")
    }

    /// The address of the database, as the configuration takes it, not through the proxy.
    pub fn database_url(&self) -> String {
        match &self.services {
            Some(services) => services.database_url.clone(),
            None => format!("sqlite:{}", self.data().join("pli.db").display()),
        }
    }

    /// The files of the store's objects, sorted: the folder's own or the S3 server's. `class` is `segments` or
    /// `manifests`.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn objects(&self, class: &str) -> Result<Vec<PathBuf>> {
        let root = match &self.services {
            Some(services) => services.store_folder.join("objects/pli"),
            None => self.data().join("objects"),
        };
        let mut found = files(&root.join(class))?;
        found.sort();
        Ok(found)
    }

    /// The files under the site's folder that hold these bytes: store, database, log, everything.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn holding(&self, needle: &[u8]) -> Result<Vec<PathBuf>> {
        let mut holding = Vec::new();
        for path in files(self.folder())? {
            if contains(&std::fs::read(&path)?, needle) {
                holding.push(path);
            }
        }
        Ok(holding)
    }

    /// What the gateway logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder().join("pli.log")).unwrap_or_default()
    }
}

pub(crate) fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    needle.first().is_some_and(|first| {
        let mut at = 0;
        while let Some(found) = bytes[at..].iter().position(|byte| byte == first) {
            at += found;
            if bytes[at..].starts_with(needle) {
                return true;
            }
            at += 1;
        }
        false
    })
}

/// The files under a folder, at any depth; none when it does not exist.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut waiting, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(path) = waiting.pop() {
        match std::fs::read_dir(&path) {
            Ok(entries) => {
                for entry in entries {
                    let entry = entry?;
                    if entry.file_type()?.is_dir() { &mut waiting } else { &mut found }.push(entry.path());
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }
    Ok(found)
}

fn private(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?)
}

/// An address of this machine where nothing listens. Below the ports that the system gives to clients, so that
/// a gateway that comes back finds its own free.
fn free_address() -> Result<SocketAddr> {
    for _ in 0..200 {
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), ());
        let port = 10_000 + (random % 22_000) as u16;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    anyhow::bail!("no free port")
}

impl Services {
    /// A database of its own on the PostgreSQL given for tests, an S3 server of its own, a proxy before each.
    async fn start(
        server: String,
        folder: &Path,
        lines: &mut String,
        variables: &mut Vec<(String, String)>,
    ) -> Result<Self> {
        let (base, _) = server.rsplit_once('/').context("PLI_TEST_POSTGRES has no path")?;
        let name =
            folder.file_name().map(|name| name.to_string_lossy().to_lowercase()).context("no folder name")?;
        let name = format!(
            "{}_{}",
            name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_"),
            std::process::id()
        );
        let mut psql = Command::new("psql");
        psql.args([&server, "-qc", &format!("CREATE DATABASE {name}")]);
        let made = gateway::output(psql).await.context("running psql")?;
        ensure!(made.status.success(), "psql: {}", String::from_utf8_lossy(&made.stderr));
        let database_url = format!("{base}/{name}");
        let database = Proxy::start(authority(&database_url)?).await?;
        let through =
            database_url.replace(&authority(&database_url)?.to_string(), &database.address().to_string());

        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("env");
        let store_folder = folder.join("s3");
        let mut script = Command::new(scripts.join("s3.sh"));
        script.arg("start").arg(&store_folder);
        let started = gateway::output(script).await.context("running s3.sh")?;
        ensure!(started.status.success(), "s3.sh: {}", String::from_utf8_lossy(&started.stderr));
        let said = String::from_utf8(started.stdout)?;
        let get = |name: &str| {
            let prefix = format!("export PLI_TEST_S3_{name}=");
            let value = said.lines().find_map(|line| line.strip_prefix(prefix.as_str()));
            value.map(str::to_owned).with_context(|| format!("s3.sh did not tell {name}"))
        };
        let endpoint = get("ENDPOINT")?;
        let store = Proxy::start(authority(&endpoint)?).await?;

        lines.push_str(&format!("[database]\nurl = \"{through}\"\n"));
        lines.push_str(&format!(
            "[store]\nkind = \"s3\"\nendpoint = \"http://{}\"\nregion = \"{}\"\nbucket = \"{}\"\naccess_key = \"{}\"\n",
            store.address(),
            get("REGION")?,
            get("BUCKET")?,
            get("ACCESS_KEY")?
        ));
        variables.push(("PLI_STORE__SECRET_KEY".to_owned(), get("SECRET_KEY")?));
        Ok(Self { database, store, store_folder, scripts, database_url })
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        // A server that is not there any more needs no stop.
        let _ = Command::new(self.scripts.join("s3.sh")).arg("stop").arg(&self.store_folder).status();
    }
}

/// The host and port of an address such as `postgres://pli@127.0.0.1:1234/name`.
fn authority(url: &str) -> Result<SocketAddr> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest);
    let host = host.rsplit('@').next().unwrap_or(host);
    host.parse().with_context(|| format!("{url} has no address of this machine"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_urls() -> Result<()> {
        assert_eq!(authority("postgres://pli@127.0.0.1:1234/name")?.port(), 1234);
        assert_eq!(authority("http://127.0.0.1:80")?.port(), 80);
        assert!(authority("http://localhost").is_err());
        Ok(())
    }

    #[test]
    fn a_needle_is_found_wherever_it_stands() {
        assert!(contains(b"abc", b"abc") && contains(b"ababc", b"abc") && contains(b"xabc", b"abc"));
        assert!(!contains(b"ab", b"abc") && !contains(b"", b"abc") && !contains(b"abc", b""));
    }
}
