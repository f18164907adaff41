//! The configuration: one TOML file, variables `PLI_…` over it, defaults under it.
//!
//! Owns every option of the server, its default and its check. Must never print, log or echo a
//! secret: secrets come as files or variables, and a file that holds one in the open is refused.

use std::{
    fmt,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use pli_hub::AntivirusOptions;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    limits::Limits,
    logs::{ClientAddress, LogFormat},
    secret::Secret,
    tls::TlsFiles,
};

/// What every variable of the configuration begins with.
pub(crate) const PREFIX: &str = "PLI_";
const DATABASE_URL: &str = "PLI_DATABASE__URL";
const DATABASE_PASSWORD: &str = "PLI_DATABASE__PASSWORD";
const STORE_SECRET_KEY: &str = "PLI_STORE__SECRET_KEY";
const KEYS_PASSPHRASE: &str = "PLI_KEYS__PASSPHRASE";
const MAIL_PASSWORD: &str = "PLI_MAIL__PASSWORD";

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("lecture impossible de {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    #[error("{}, ligne {line} : {message}", path.display())]
    File { path: PathBuf, line: usize, message: String },
    #[error("{}, {key} : ce fichier ne doit pas contenir de secret ; utilisez {instead}", path.display())]
    SecretInFile { path: PathBuf, key: &'static str, instead: &'static str },
    #[error("variable {variable} : {message}")]
    Variable { variable: String, message: String },
    #[error("{key} : {message}")]
    Value { key: &'static str, message: String },
    #[error("{key} : lecture impossible de {}", path.display())]
    SecretFile { key: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{key} : {} est lisible par tous ; faites « chmod 600 »", path.display())]
    SecretIsOpen { key: &'static str, path: PathBuf },
}

/// The whole configuration. Paths are absolute, or relative to the working folder, once loaded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where everything is that no other option places.
    pub(crate) data: DataFolder,
    pub(crate) listen: Listen,
    pub(crate) tls: TlsOptions,
    pub(crate) operations: Operations,
    pub(crate) database: Database,
    pub(crate) store: Store,
    pub(crate) keys: Keys,
    pub(crate) transfers: Transfers,
    pub(crate) limits: LimitOptions,
    pub(crate) antivirus: Antivirus,
    pub(crate) jobs: Jobs,
    pub(crate) mail: MailServer,
    pub(crate) webhooks: WebhookNetworks,
    pub(crate) evidence: EvidenceOptions,
    pub(crate) logs: Logs,
    pub(crate) shutdown: Shutdown,
}

/// The data folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct DataFolder(pub(crate) PathBuf);

impl Default for DataFolder {
    fn default() -> Self {
        Self(PathBuf::from("pli-data"))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Listen {
    /// Where the gateway answers, with TLS.
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Default for Listen {
    fn default() -> Self {
        Self { addresses: vec![SocketAddr::from(([127, 0, 0, 1], 8443))] }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TlsOptions {
    /// PEM chain, leaf first. Default: `tls/server.pem` of the data folder.
    pub(crate) certificate: PathBuf,
    /// PEM key. Default: `tls/server-key.pem` of the data folder.
    pub(crate) key: PathBuf,
    /// PEM authorities of client certificates; absent: none are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_authorities: Option<PathBuf>,
    /// How often the files are looked at for a change. SIGHUP does it at once.
    pub(crate) check: Every,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Operations {
    /// Plain HTTP for health and metrics; absent when empty. Keep it on the machine.
    pub(crate) address: String,
}

impl Default for Operations {
    fn default() -> Self {
        Self { address: "127.0.0.1:9443".to_owned() }
    }
}

impl Operations {
    pub(crate) fn socket(&self) -> Result<Option<SocketAddr>, ConfigError> {
        if self.address.is_empty() {
            return Ok(None);
        }
        self.address
            .parse()
            .map(Some)
            .map_err(|e: std::net::AddrParseError| value("operations.address", e.to_string()))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Database {
    /// `sqlite:/path` or `postgres://user@host/name`. Default: `pli.db` of the data folder.
    #[serde(serialize_with = "without_password")]
    pub(crate) url: String,
    /// A file with the password of the `postgres:` user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) password_file: Option<PathBuf>,
    #[serde(skip)]
    password: Option<Secret>,
    pub(crate) max_connections: NonZeroU32,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: String::new(),
            password_file: None,
            password: None,
            max_connections: NonZeroU32::MIN.saturating_add(9),
        }
    }
}

/// Where sealed objects are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StoreKind {
    #[default]
    Folder,
    S3,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Store {
    pub(crate) kind: StoreKind,
    /// `folder`: default `objects` of the data folder.
    pub(crate) path: PathBuf,
    /// `s3`: base address of the service.
    pub(crate) endpoint: String,
    pub(crate) region: String,
    pub(crate) bucket: String,
    pub(crate) access_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret_key_file: Option<PathBuf>,
    #[serde(skip)]
    secret_key: Option<Secret>,
    /// `s3`: `endpoint/bucket/key` rather than `bucket.endpoint/key`.
    pub(crate) path_style: bool,
    /// `s3`: PEM authorities of the service, when they are not the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) authorities: Option<PathBuf>,
    /// `s3`: allow `http://` to another machine, on a network that is protected otherwise.
    pub(crate) plain_http: bool,
    /// `s3`: requests under way at once.
    pub(crate) parallel: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            kind: StoreKind::Folder,
            path: PathBuf::new(),
            endpoint: String::new(),
            region: "garage".to_owned(),
            bucket: "pli".to_owned(),
            access_key: String::new(),
            secret_key_file: None,
            secret_key: None,
            path_style: true,
            authorities: None,
            plain_http: false,
            parallel: 32,
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Keys {
    /// `hub.asc`, the current key, and `retired/*.asc`. Default: `keys` of the data folder.
    pub(crate) folder: PathBuf,
    /// Default: `passphrase` of the folder of keys.
    pub(crate) passphrase_file: PathBuf,
    #[serde(skip)]
    passphrase: Option<Secret>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Transfers {
    /// Largest document.
    pub(crate) max_size: Size,
    /// Content of a sealed segment: 4 to 64 MiB.
    pub(crate) segment_size: Size,
    /// What all transfers together may hold in memory.
    pub(crate) memory: Size,
    /// What one upload may hold in memory.
    pub(crate) upload_memory: Size,
    /// Unfinished uploads of one account.
    pub(crate) pending_uploads: u32,
    /// Days after which an upload that does not advance ends.
    pub(crate) upload_days: u32,
    pub(crate) retention_days_min: u32,
    pub(crate) retention_days_max: u32,
    pub(crate) retention_days_default: u32,
    /// Days before the end of a deposit at which who has not read is reminded; 0 for never.
    pub(crate) reminder_days: u32,
    /// Hours that a session of the portal lives.
    pub(crate) session_hours: u32,
}

impl Default for Transfers {
    fn default() -> Self {
        Self {
            max_size: Size(1 << 40),
            segment_size: Size(16 << 20),
            memory: Size(512 << 20),
            upload_memory: Size(48 << 20),
            pending_uploads: 1000,
            upload_days: 7,
            retention_days_min: 1,
            retention_days_max: 30,
            retention_days_default: 30,
            reminder_days: 3,
            session_hours: 12,
        }
    }
}

/// Limits against slow, greedy or hostile clients.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LimitOptions {
    /// Connections at once. 0: as many as the files this process may open allow.
    pub(crate) connections: usize,
    /// Connections at once from one address; 0: no limit, for a service behind a balancer.
    pub(crate) connections_per_address: usize,
    pub(crate) handshakes: usize,
    pub(crate) handshake: Seconds,
    pub(crate) head: Seconds,
    pub(crate) idle: Seconds,
    pub(crate) body: Seconds,
    pub(crate) body_progress: Size,
    pub(crate) stall: Seconds,
    pub(crate) target_bytes: Size,
    pub(crate) head_bytes: Size,
    pub(crate) head_fields: usize,
    pub(crate) streams: u32,
    pub(crate) stream_window: Size,
    pub(crate) connection_window: Size,
    pub(crate) resets: usize,
}

impl Default for LimitOptions {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            connections: 0,
            connections_per_address: limits.per_address,
            handshakes: limits.handshakes,
            handshake: Seconds(limits.handshake),
            head: Seconds(limits.head),
            idle: Seconds(limits.idle),
            body: Seconds(limits.body),
            body_progress: Size(limits.body_progress),
            stall: Seconds(limits.stall),
            target_bytes: Size(limits.target_bytes as u64),
            head_bytes: Size(limits.head_bytes as u64),
            head_fields: limits.head_fields,
            streams: limits.streams,
            stream_window: Size(limits.stream_window.into()),
            connection_window: Size(limits.connection_window.into()),
            resets: limits.resets,
        }
    }
}

/// The antivirus that documents are given to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Antivirus {
    /// Where clamd listens, `unix:/PATH` or `tcp:HOST:PORT`; none when empty.
    pub(crate) clamd: String,
    /// clamd's `MaxScanSize`; its `MaxFileSize` and `StreamMaxLength` must not be less.
    pub(crate) max_size: Size,
    /// How long clamd may take no byte, or leave a command unanswered.
    pub(crate) stall: Seconds,
    /// How long clamd may scan one document.
    pub(crate) scan: Seconds,
    /// How long a clamd that fails is asked again before a document counts as not analysed.
    pub(crate) patience: Seconds,
}

impl Default for Antivirus {
    fn default() -> Self {
        Self {
            clamd: String::new(),
            max_size: Size(100 << 20),
            stall: Seconds(Duration::from_secs(30)),
            scan: Seconds(Duration::from_secs(300)),
            patience: Seconds(Duration::from_secs(4 * 3600)),
        }
    }
}

impl Antivirus {
    /// What the hub is told; `None` without an antivirus.
    pub(crate) fn options(&self) -> Result<Option<AntivirusOptions>, ConfigError> {
        if self.clamd.is_empty() {
            return Ok(None);
        }
        let clamd = self.clamd.parse().map_err(|message: String| value("antivirus.clamd", message))?;
        // clamd reads no file of 2 GiB.
        if !(1 << 20..1 << 31).contains(&self.max_size.0) {
            return Err(value("antivirus.max_size", "de 1 MiB à moins de 2 GiB"));
        }
        if self.stall.0.is_zero() || self.scan.0.is_zero() {
            return Err(value("antivirus", "stall et scan : plus de 0 seconde"));
        }
        let patience = i64::try_from(self.patience.0.as_secs()).unwrap_or(i64::MAX);
        let (max_size, stall, scan) = (self.max_size.0, self.stall.0, self.scan.0);
        Ok(Some(AntivirusOptions { clamd, max_size, stall, scan, patience }))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Jobs {
    /// Whether `pli serve` runs jobs too. `pli worker` always does.
    pub(crate) in_process: bool,
}

impl Default for Jobs {
    fn default() -> Self {
        Self { in_process: true }
    }
}

/// How the connection to the mail server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MailProtection {
    #[default]
    Starttls,
    Implicit,
    /// To a server on this machine only.
    None,
}

/// Where notices are mailed; nowhere without a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MailServer {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: MailProtection,
    /// PEM authorities of the server, when they are not the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) authorities: Option<PathBuf>,
    /// Empty when the server asks for none.
    pub(crate) user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) password_file: Option<PathBuf>,
    #[serde(skip)]
    password: Option<Secret>,
    /// The sender's address.
    pub(crate) from: String,
    /// Where people reach the gateway: `https://…`, the only link in a mail.
    pub(crate) public_url: String,
    /// The hour, UTC, at which digests go.
    pub(crate) digest_hour: u8,
}

impl Default for MailServer {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 587,
            tls: MailProtection::Starttls,
            authorities: None,
            user: String::new(),
            password_file: None,
            password: None,
            from: String::new(),
            public_url: String::new(),
            digest_hour: 5,
        }
    }
}

/// The journal, its checkpoints, and receipts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EvidenceOptions {
    /// The journal's name in its checkpoints, for ever: `pli.example.org/journal`. Default: named after its key.
    pub(crate) origin: String,
    /// Who gives receipts.
    pub(crate) issuer: String,
    /// PEM chain of the seal, its own certificate first. Absent: the development seal of the folder of keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seal_certificate: Option<PathBuf>,
    /// Its key, PKCS #8 in PEM, not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seal_key: Option<PathBuf>,
    /// Address of a timestamp authority (RFC 3161); absent when empty.
    pub(crate) timestamp_url: String,
    /// PEM: its certificate, or the one that issued it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp_authorities: Option<PathBuf>,
    /// Minutes between two timestamps of checkpoints.
    pub(crate) timestamp_minutes: u32,
    /// Years after which events leave the register; 0: never.
    pub(crate) register_years: u32,
}

impl Default for EvidenceOptions {
    fn default() -> Self {
        Self {
            origin: String::new(),
            issuer: "Pli".to_owned(),
            seal_certificate: None,
            seal_key: None,
            timestamp_url: String::new(),
            timestamp_authorities: None,
            timestamp_minutes: 10,
            register_years: 6,
        }
    }
}

/// What webhooks of organisations may reach.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WebhookNetworks {
    /// Whether they may be on private networks and on this machine.
    pub(crate) private_networks: bool,
    /// PEM authorities of their certificates, when they are not the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) authorities: Option<PathBuf>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Logs {
    pub(crate) format: LogFormat,
    /// In the syntax of `RUST_LOG`: `info`, `info,pli_hub=debug`, …
    pub(crate) filter: String,
    /// What of a client's address a request's line shows.
    pub(crate) client_address: ClientAddress,
}

impl Default for Logs {
    fn default() -> Self {
        Self { format: LogFormat::Json, filter: "info".to_owned(), client_address: ClientAddress::None }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Shutdown {
    /// How long transfers have to reach a durable offset and answers to end.
    pub(crate) deadline: Seconds,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { deadline: Seconds(Duration::from_secs(30)) }
    }
}

/// A path counted from a folder, without the `.` that a folder of its own is written as.
fn placed(base: &Path, path: &Path) -> PathBuf {
    base.join(path).components().collect()
}

fn value(key: &'static str, message: impl Into<String>) -> ConfigError {
    ConfigError::Value { key, message: message.into() }
}

impl Config {
    /// Reads the file, if one is given, and the variables.
    ///
    /// `variables` are all of the process's; those of other programs are passed over.
    pub(crate) fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut table = toml::Table::new();
        let mut base = PathBuf::new();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|e| ConfigError::Read(path.to_owned(), e))?;
            let parsed: Self = toml::from_str(&text).map_err(|e| in_file(path, &text, &e))?;
            if password_of(&parsed.database.url).is_some() {
                return Err(ConfigError::SecretInFile {
                    path: path.to_owned(),
                    key: "database.url",
                    instead: "database.password_file, PLI_DATABASE__PASSWORD ou PLI_DATABASE__URL",
                });
            }
            table = toml::from_str(&text).map_err(|e| in_file(path, &text, &e))?;
            base = path.parent().unwrap_or(Path::new("")).to_owned();
        }
        let mut secrets = Secrets::default();
        let mut variables: Vec<_> = variables.into_iter().collect();
        variables.sort();
        for (variable, given) in variables {
            if !secrets.take(&variable, &given) {
                apply(&mut table, &variable, &given)?;
            }
        }
        let mut config: Self = table.try_into().map_err(|e: toml::de::Error| ConfigError::Variable {
            variable: PREFIX.to_owned(),
            message: e.message().to_owned(),
        })?;
        if let Some(url) = secrets.database_url {
            config.database.url = url;
        }
        config.database.password = secrets.database_password;
        config.store.secret_key = secrets.store_secret_key;
        config.keys.passphrase = secrets.keys_passphrase;
        config.mail.password = secrets.mail_password;
        config.place(&base);
        config.validate()?;
        Ok(config)
    }

    /// Puts every path in its place.
    fn place(&mut self, base: &Path) {
        let at = |path: &mut PathBuf, default: PathBuf| {
            *path = if path.as_os_str().is_empty() { default } else { placed(base, path) };
        };
        self.data.0 = placed(base, &self.data.0);
        let data = self.data.0.clone();
        at(&mut self.tls.certificate, data.join("tls/server.pem"));
        at(&mut self.tls.key, data.join("tls/server-key.pem"));
        at(&mut self.store.path, data.join("objects"));
        at(&mut self.keys.folder, data.join("keys"));
        at(&mut self.keys.passphrase_file, self.keys.folder.join("passphrase"));
        for path in [
            &mut self.tls.client_authorities,
            &mut self.database.password_file,
            &mut self.store.secret_key_file,
            &mut self.store.authorities,
            &mut self.mail.authorities,
            &mut self.mail.password_file,
            &mut self.webhooks.authorities,
            &mut self.evidence.seal_certificate,
            &mut self.evidence.seal_key,
            &mut self.evidence.timestamp_authorities,
        ]
        .into_iter()
        .flatten()
        {
            *path = placed(base, path);
        }
        if self.database.url.is_empty() {
            self.database.url = format!("sqlite:{}", data.join("pli.db").display());
        } else if let Some(path) = self.database.url.strip_prefix("sqlite:") {
            self.database.url = format!("sqlite:{}", placed(base, Path::new(path)).display());
        }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        if self.listen.addresses.is_empty() {
            return Err(value("listen.addresses", "au moins une adresse est nécessaire"));
        }
        self.operations.socket()?;
        let url = &self.database.url;
        if !(url.starts_with("sqlite:") || url.starts_with("postgres:") || url.starts_with("postgresql:")) {
            return Err(value("database.url", "doit commencer par sqlite: ou postgres:"));
        }
        if self.store.kind == StoreKind::S3 {
            let needed = [
                ("store.endpoint", &self.store.endpoint),
                ("store.bucket", &self.store.bucket),
                ("store.access_key", &self.store.access_key),
            ];
            for (key, given) in needed {
                if given.is_empty() {
                    return Err(value(key, "nécessaire quand store.kind = \"s3\""));
                }
            }
            if self.store.secret_key_file.is_none() && self.store.secret_key.is_none() {
                return Err(value("store.secret_key_file", "nécessaire quand store.kind = \"s3\""));
            }
            if self.store.parallel == 0 {
                return Err(value("store.parallel", "au moins 1"));
            }
        }
        let t = &self.transfers;
        if !(4 << 20..=64 << 20).contains(&t.segment_size.0) {
            return Err(value("transfers.segment_size", "de 4 MiB à 64 MiB"));
        }
        if t.upload_memory.0 < t.segment_size.0 || t.memory.0 < t.upload_memory.0 {
            return Err(value(
                "transfers.memory",
                "doit valoir au moins upload_memory, et celle-ci segment_size",
            ));
        }
        if t.retention_days_min == 0
            || !(t.retention_days_min..=t.retention_days_max).contains(&t.retention_days_default)
        {
            return Err(value(
                "transfers.retention_days_default",
                "doit être entre les bornes, à partir de 1",
            ));
        }
        if t.pending_uploads == 0 || t.upload_days == 0 || t.session_hours == 0 {
            return Err(value("transfers", "pending_uploads, upload_days et session_hours : au moins 1"));
        }
        self.antivirus.options()?;
        let m = &self.mail;
        if !m.host.is_empty() {
            for (key, given) in [("mail.from", &m.from), ("mail.public_url", &m.public_url)] {
                if given.is_empty() {
                    return Err(value(key, "nécessaire quand mail.host est donné"));
                }
            }
            if m.user.is_empty() != (m.password_file.is_none() && m.password.is_none()) {
                return Err(value(
                    "mail.password_file",
                    "va avec mail.user, l'un et l'autre ou aucun des deux",
                ));
            }
        }
        if m.digest_hour > 23 {
            return Err(value("mail.digest_hour", "de 0 à 23"));
        }
        let e = &self.evidence;
        if e.seal_certificate.is_some() != e.seal_key.is_some() {
            return Err(value("evidence.seal_key", "va avec evidence.seal_certificate"));
        }
        if e.timestamp_url.is_empty() == e.timestamp_authorities.is_some() {
            return Err(value("evidence.timestamp_authorities", "va avec evidence.timestamp_url"));
        }
        if e.timestamp_minutes == 0 || e.issuer.trim().is_empty() {
            return Err(value("evidence", "timestamp_minutes : au moins 1 ; issuer : un nom"));
        }
        if self.tls.check.0.is_some_and(|every| every.is_zero()) {
            return Err(value("tls.check", "plus de 0 seconde, ou \"never\""));
        }
        tracing_subscriber::EnvFilter::builder()
            .parse(&self.logs.filter)
            .map_err(|e| value("logs.filter", e.to_string()))?;
        self.limits().map(drop)
    }

    pub(crate) fn tls_files(&self) -> TlsFiles {
        TlsFiles {
            certificate: self.tls.certificate.clone(),
            key: self.tls.key.clone(),
            client_authorities: self.tls.client_authorities.clone(),
        }
    }

    /// The limits of the public listener.
    pub(crate) fn limits(&self) -> Result<Limits, ConfigError> {
        let l = &self.limits;
        let most = |key, size: Size, most: u64| {
            if (1..=most).contains(&size.0) {
                Ok(size.0)
            } else {
                Err(value(key, format!("de 1 à {most} octets")))
            }
        };
        for (key, seconds) in [
            ("limits.handshake", l.handshake),
            ("limits.head", l.head),
            ("limits.idle", l.idle),
            ("limits.body", l.body),
            ("limits.stall", l.stall),
        ] {
            if seconds.0.is_zero() {
                return Err(value(key, "plus de 0 seconde"));
            }
        }
        if l.handshakes == 0 || l.head_fields == 0 || l.streams == 0 || l.resets == 0 {
            return Err(value("limits", "handshakes, head_fields, streams et resets : au moins 1"));
        }
        let window =
            |key, size| most(key, size, 64 << 20).map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
        let small =
            |key, size| most(key, size, 1 << 20).map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(Limits {
            connections: if l.connections == 0 { connections_by_files() } else { l.connections },
            per_address: l.connections_per_address,
            handshakes: l.handshakes,
            handshake: l.handshake.0,
            head: l.head.0,
            idle: l.idle.0,
            body: l.body.0,
            body_progress: most("limits.body_progress", l.body_progress, 1 << 20)?,
            stall: l.stall.0,
            target_bytes: small("limits.target_bytes", l.target_bytes)?,
            head_bytes: small("limits.head_bytes", l.head_bytes)?,
            head_fields: l.head_fields,
            streams: l.streams,
            stream_window: window("limits.stream_window", l.stream_window)?,
            connection_window: window("limits.connection_window", l.connection_window)?,
            resets: l.resets,
        })
    }

    /// The database's address with its password in it: for the driver only.
    pub(crate) fn database_url(&self) -> Result<Secret, ConfigError> {
        let key = "database.password_file";
        let password = from_file_or(key, self.database.password_file.as_deref(), &self.database.password)?;
        let Some(password) = password else { return Ok(Secret::new(self.database.url.clone())) };
        let mut url = reqwest::Url::parse(&self.database.url)
            .map_err(|_| value("database.url", "n'est pas une adresse bien formée"))?;
        url.set_password(Some(password.reveal()))
            .map_err(|()| value("database.url", "ne peut porter de mot de passe"))?;
        Ok(Secret::new(url.into()))
    }

    pub(crate) fn store_secret_key(&self) -> Result<Secret, ConfigError> {
        let key = "store.secret_key_file";
        from_file_or(key, self.store.secret_key_file.as_deref(), &self.store.secret_key)?
            .ok_or_else(|| value(key, "absent"))
    }

    /// The password of the mail server's user, when there is a user.
    pub(crate) fn mail_password(&self) -> Result<Option<Secret>, ConfigError> {
        from_file_or("mail.password_file", self.mail.password_file.as_deref(), &self.mail.password)
    }

    pub(crate) fn passphrase(&self) -> Result<Secret, ConfigError> {
        let key = "keys.passphrase_file";
        let file =
            if self.keys.passphrase.is_some() { None } else { Some(self.keys.passphrase_file.as_path()) };
        from_file_or(key, file, &self.keys.passphrase)?.ok_or_else(|| value(key, "absent"))
    }

    /// The effective configuration, without secrets.
    pub(crate) fn shown(&self) -> String {
        // Strings, numbers and tables in the order TOML wants: cannot fail.
        let mut shown = toml::to_string(self).unwrap_or_default();
        for (set, variable) in [
            (self.database.password.is_some(), DATABASE_PASSWORD),
            (self.store.secret_key.is_some(), STORE_SECRET_KEY),
            (self.keys.passphrase.is_some(), KEYS_PASSPHRASE),
            (self.mail.password.is_some(), MAIL_PASSWORD),
        ] {
            if set {
                shown.push_str(&format!("\n# {variable} : donnée par l'environnement\n"));
            }
        }
        shown
    }
}

/// A variable wins over the file.
fn from_file_or(
    key: &'static str,
    file: Option<&Path>,
    variable: &Option<Secret>,
) -> Result<Option<Secret>, ConfigError> {
    if let Some(secret) = variable {
        return Ok(Some(secret.clone()));
    }
    let Some(path) = file else { return Ok(None) };
    let unread = |source| ConfigError::SecretFile { key, path: path.to_owned(), source };
    if crate::secret::readable_by_everyone(path).map_err(unread)? {
        return Err(ConfigError::SecretIsOpen { key, path: path.to_owned() });
    }
    Secret::read(path).map(Some).map_err(unread)
}

/// What the variables say that no text of a configuration may.
#[derive(Default)]
struct Secrets {
    database_url: Option<String>,
    database_password: Option<Secret>,
    store_secret_key: Option<Secret>,
    keys_passphrase: Option<Secret>,
    mail_password: Option<Secret>,
}

impl Secrets {
    fn take(&mut self, variable: &str, given: &str) -> bool {
        let secret = || Some(Secret::new(given.to_owned()));
        match variable {
            DATABASE_URL => self.database_url = Some(given.to_owned()),
            DATABASE_PASSWORD => self.database_password = secret(),
            STORE_SECRET_KEY => self.store_secret_key = secret(),
            KEYS_PASSPHRASE => self.keys_passphrase = secret(),
            MAIL_PASSWORD => self.mail_password = secret(),
            _ => return false,
        }
        true
    }
}

/// The line only: the text around it may hold what someone took for the right place of a secret.
fn in_file(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    ConfigError::File {
        path: path.to_owned(),
        line: before.matches('\n').count() + 1,
        message: error.message().replace('\n', " "),
    }
}

/// `PLI_SECTION__KEY` or `PLI_DATA`. Variables without a section belong to the other commands.
fn apply(table: &mut toml::Table, variable: &str, given: &str) -> Result<(), ConfigError> {
    let Some(name) = variable.strip_prefix(PREFIX) else { return Ok(()) };
    let wrong = |message: String| ConfigError::Variable { variable: variable.to_owned(), message };
    let path: Vec<String> = name.split("__").map(str::to_ascii_lowercase).collect();
    let (section, key) = match path.as_slice() {
        [key] if key == "data" => (None, key),
        [_] => return Ok(()),
        [section, key] => (Some(section), key),
        _ => return Err(wrong("clé inconnue".to_owned())),
    };
    // As a text first: a password of digits is a text. Then as what TOML makes of it.
    let parsed = toml::from_str::<toml::Table>(&format!("v = {given}")).ok().and_then(|mut t| t.remove("v"));
    let candidates = [Some(toml::Value::String(given.to_owned())), parsed];
    let mut last = String::new();
    for candidate in candidates.into_iter().flatten() {
        let mut tried = table.clone();
        let place = match section {
            None => &mut tried,
            Some(section) => tried
                .entry(section.clone())
                .or_insert_with(|| toml::Value::Table(toml::Table::new()))
                .as_table_mut()
                .ok_or_else(|| wrong("clé inconnue".to_owned()))?,
        };
        place.insert(key.clone(), candidate);
        match tried.clone().try_into::<Config>() {
            Ok(_) => {
                *table = tried;
                return Ok(());
            }
            Err(error) => last = error.message().to_owned(),
        }
    }
    Err(wrong(last))
}

fn password_of(url: &str) -> Option<String> {
    let parsed = reqwest::Url::parse(url).ok()?;
    parsed.password().map(str::to_owned).or_else(|| {
        parsed.query_pairs().find(|(name, _)| name == "password").map(|(_, password)| password.into_owned())
    })
}

fn without_password<S: Serializer>(url: &str, to: S) -> Result<S::Ok, S::Error> {
    if password_of(url).is_none() {
        return to.serialize_str(url);
    }
    let (scheme, _) = url.split_once(':').unwrap_or_default();
    let host = reqwest::Url::parse(url).ok();
    let host = host.as_ref().and_then(reqwest::Url::host_str).unwrap_or("…");
    to.collect_str(&format_args!("{scheme}://[masqué]@{host}"))
}

/// Half of what this process may open, as each transfer may need a file beside its connection.
fn connections_by_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    files.map_or_else(
        || Limits::default().connections,
        |files| (files.saturating_sub(128) / 2).clamp(64, 4096),
    )
}

/// A length of time, written in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seconds(pub(crate) Duration);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0.subsec_nanos() == 0 {
            to.serialize_u64(self.0.as_secs())
        } else {
            to.serialize_f64(self.0.as_secs_f64())
        }
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Seconds;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds")
            }
            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Seconds, E> {
                u64::try_from(seconds).map(|s| Seconds(Duration::from_secs(s))).map_err(E::custom)
            }
            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Seconds, E> {
                Duration::try_from_secs_f64(seconds).map(Seconds).map_err(E::custom)
            }
        }
        from.deserialize_any(Visitor)
    }
}

/// How often; `"never"` is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Every(pub(crate) Option<Duration>);

impl Default for Every {
    fn default() -> Self {
        Self(Some(Duration::from_secs(60)))
    }
}

impl Serialize for Every {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(every) => Seconds(every).serialize(to),
            None => to.serialize_str("never"),
        }
    }
}

impl<'de> Deserialize<'de> for Every {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(from)? {
            toml::Value::String(word) if word == "never" => Ok(Self(None)),
            other => {
                let Seconds(every) = Seconds::deserialize(other).map_err(de::Error::custom)?;
                Ok(Self(Some(every)))
            }
        }
    }
}

/// A number of bytes: an integer, or a text with a unit such as `"16 MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

const UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
];

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no size: write bytes, or a number with KiB, MiB, GiB or TiB");
        let (number, unit) = UNITS
            .iter()
            .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)))
            .unwrap_or((text, 1));
        let number: u64 = number.trim().parse().map_err(|_| wrong())?;
        number.checked_mul(unit).filter(|bytes| i64::try_from(*bytes).is_ok()).map(Size).ok_or_else(wrong)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match UNITS.iter().take(4).find(|(_, unit)| self.0 != 0 && self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => to.collect_str(&format_args!("{} {name}", self.0 / unit)),
            None => to.serialize_u64(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes, or a text such as \"16 MiB\"")
            }
            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes).map(Size).map_err(E::custom)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
        }
        from.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pli.toml");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let (_folder, path) = file(text);
        Config::load(Some(&path), variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    fn refusal(text: &str, variables: &[(&str, &str)]) -> String {
        load(text, variables).unwrap_err().to_string()
    }

    #[test]
    fn nothing_is_enough() {
        let config = Config::load(None, []).unwrap();
        assert_eq!(config.database.url, "sqlite:pli-data/pli.db");
        assert_eq!(config.store.path, Path::new("pli-data/objects"));
        assert_eq!(config.tls.certificate, Path::new("pli-data/tls/server.pem"));
        assert_eq!(config.keys.passphrase_file, Path::new("pli-data/keys/passphrase"));
        assert!(config.limits().unwrap().connections >= 64);
    }

    #[test]
    fn what_is_shown_reads_back_as_itself() {
        let (folder, path) = file("data = \"d\"\n[limits]\nhead = 0.5\n[tls]\ncheck = \"never\"\n");
        let config = Config::load(Some(&path), []).unwrap();
        assert_eq!(config.data.0, folder.path().join("d"));
        let again = load(&config.shown(), &[]).unwrap();
        assert_eq!(again.shown(), config.shown());
        assert_eq!(again.limits.head, Seconds(Duration::from_millis(500)));
    }

    #[test]
    fn paths_are_counted_from_the_file() {
        let (folder, path) = file("data = \"d\"\n[tls]\ncertificate = \"c.pem\"\nkey = \"/k.pem\"\n");
        let config = Config::load(Some(&path), []).unwrap();
        assert_eq!(config.tls.certificate, folder.path().join("c.pem"));
        assert_eq!(config.tls.key, Path::new("/k.pem"));
        assert_eq!(config.database.url, format!("sqlite:{}", folder.path().join("d/pli.db").display()));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let text = refusal("data = \"d\"\n\n[listen]\naddress = [\"127.0.0.1:1\"]\n", &[]);
        assert!(text.contains("pli.toml, ligne 4"), "{text}");
        assert!(text.contains("`address`"), "{text}");
        let text = refusal("lisen = 1\n", &[]);
        assert!(text.contains("ligne 1") && text.contains("`lisen`"), "{text}");
        let text = refusal("[listen]\naddresses = [\"localhost\"]\n", &[]);
        assert!(text.contains("ligne 2"), "{text}");
        let text = refusal("data = \"d\ndata = 2", &[]);
        assert!(text.contains("ligne 1"), "{text}");
    }

    #[test]
    fn variables_win_and_unknown_ones_are_refused() {
        let config = load(
            "data = \"d\"\n[jobs]\nin_process = true\n",
            &[
                ("PLI_DATA", "/elsewhere"),
                ("PLI_JOBS__IN_PROCESS", "false"),
                ("PLI_LISTEN__ADDRESSES", "[\"127.0.0.1:1\", \"[::1]:2\"]"),
                ("PLI_LIMITS__HEAD_BYTES", "16 KiB"),
                ("PLI_LIMITS__HEAD", "2.5"),
                ("PLI_STORE__BUCKET", "1234"),
                ("PLI_TOKEN", "of the client"),
                ("HOME", "/root"),
            ],
        )
        .unwrap();
        assert_eq!(config.data.0, Path::new("/elsewhere"));
        assert!(!config.jobs.in_process);
        assert_eq!(config.listen.addresses.len(), 2);
        assert_eq!(config.limits.head_bytes, Size(16 << 10));
        assert_eq!(config.limits.head.0, Duration::from_millis(2500));
        assert_eq!(config.store.bucket, "1234");

        let text = refusal("", &[("PLI_JOBS__IN_PROCES", "false")]);
        assert!(text.contains("PLI_JOBS__IN_PROCES") && text.contains("in_proces"), "{text}");
        let text = refusal("", &[("PLI_LIMITS__HEAD", "soon")]);
        assert!(text.contains("PLI_LIMITS__HEAD"), "{text}");
        refusal("", &[("PLI_A__B__C", "1")]);
    }

    #[test]
    fn secrets_are_neither_in_the_file_nor_in_what_is_shown() {
        let text = refusal("[database]\nurl = \"postgres://pli:hunter2@db/pli\"\n", &[]);
        assert!(text.contains("database.url") && !text.contains("hunter2"), "{text}");
        let text = refusal("[database]\nurl = \"postgres://pli@db/pli?password=hunter2\"\n", &[]);
        assert!(!text.contains("hunter2"), "{text}");
        let text = refusal("[database]\npassword = \"hunter2\"\n", &[]);
        assert!(text.contains("`password`") && !text.contains("hunter2"), "{text}");

        let config = load(
            "[store]\nkind = \"s3\"\nendpoint = \"https://s3\"\naccess_key = \"k\"\n",
            &[
                ("PLI_DATABASE__URL", "postgres://pli:hunter2@db/pli"),
                ("PLI_DATABASE__PASSWORD", "hunter3/é"),
                ("PLI_STORE__SECRET_KEY", "hunter4"),
                ("PLI_KEYS__PASSPHRASE", "hunter5"),
                ("PLI_MAIL__PASSWORD", "hunter6"),
            ],
        )
        .unwrap();
        for text in [
            config.shown(),
            format!("{:?}", config.store),
            format!("{:?}", config.keys),
            format!("{:?}", config.mail),
        ] {
            assert!(!text.contains("hunter"), "{text}");
        }
        assert!(config.shown().contains("PLI_KEYS__PASSPHRASE"));
        assert_eq!(config.database_url().unwrap().reveal(), "postgres://pli:hunter3%2F%C3%A9@db/pli");
        assert_eq!(config.store_secret_key().unwrap().reveal(), "hunter4");
        assert_eq!(config.passphrase().unwrap().reveal(), "hunter5");
        assert_eq!(config.mail_password().unwrap().unwrap().reveal(), "hunter6");
    }

    #[test]
    fn a_secret_file_that_everyone_reads_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let (folder, path) = file("[keys]\npassphrase_file = \"p\"\n");
        let secret = folder.path().join("p");
        std::fs::write(&secret, "phrase with an end of line\n").unwrap();
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o644)).unwrap();
        let config = Config::load(Some(&path), []).unwrap();
        assert!(matches!(config.passphrase(), Err(ConfigError::SecretIsOpen { .. })));
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o640)).unwrap();
        assert_eq!(config.passphrase().unwrap().reveal(), "phrase with an end of line");
    }

    #[test]
    fn values_that_make_no_sense_are_named() {
        for (text, key) in [
            ("[listen]\naddresses = []\n", "listen.addresses"),
            ("[operations]\naddress = \"here\"\n", "operations.address"),
            ("[database]\nurl = \"mysql://db\"\n", "database.url"),
            ("[store]\nkind = \"s3\"\n", "store.endpoint"),
            ("[transfers]\nsegment_size = \"1 MiB\"\n", "transfers.segment_size"),
            ("[transfers]\nretention_days_default = 31\n", "transfers.retention_days_default"),
            ("[limits]\nidle = 0\n", "limits.idle"),
            ("[limits]\nhead_bytes = \"2 MiB\"\n", "limits.head_bytes"),
            ("[mail]\nhost = \"smtp.example\"\n", "mail.from"),
            (
                "[mail]\nhost = \"s\"\nfrom = \"a@b\"\npublic_url = \"https://p\"\nuser = \"u\"\n",
                "mail.password_file",
            ),
            ("[mail]\ndigest_hour = 24\n", "mail.digest_hour"),
            ("[logs]\nfilter = \"pli=loud\"\n", "logs.filter"),
        ] {
            let said = refusal(text, &[]);
            assert!(said.starts_with(key), "{said}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!("16 MiB".parse(), Ok(Size(16 << 20)));
        assert_eq!("5kB".parse(), Ok(Size(5000)));
        assert_eq!("7".parse(), Ok(Size(7)));
        for wrong in ["", "MiB", "1.5 GiB", "-1", "9999999999 TiB", "1 mib"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }
}
