//! Where the server is, which authorities vouch for it and which token speaks for the caller.
//! Order: command line, environment, configuration file. The token is never taken from the command
//! line, where other users of the machine could read it, and is never printed.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use reqwest::{Certificate, Url};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::texts;

/// Options shared by the commands of the client.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ConnectionArgs {
    #[arg(long, value_name = "URL", help = texts::SERVER)]
    server: Option<String>,
    #[arg(long, value_name = "FICHIER", help = texts::CA)]
    ca: Option<PathBuf>,
    #[arg(long, value_name = "FICHIER", help = texts::TOKEN_FILE)]
    token_file: Option<PathBuf>,
}

/// `~/.config/pli/client.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    server: Option<String>,
    ca: Option<PathBuf>,
    token_file: Option<PathBuf>,
}

/// Checked settings of one run.
pub(super) struct Settings {
    /// Ends with '/'.
    pub(super) server: Url,
    pub(super) roots: Vec<Certificate>,
    pub(super) token: Zeroizing<String>,
}

/// Reads a variable of the environment; an empty one counts as absent.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Settings {
    /// # Errors
    /// A sentence for the user.
    pub(super) fn load(args: &ConnectionArgs) -> Result<Self, String> {
        Self::from_parts(args, &|name| std::env::var(name).ok().filter(|v| !v.is_empty()))
    }

    fn from_parts(args: &ConnectionArgs, environment: Environment<'_>) -> Result<Self, String> {
        let file = ConfigFile::load(environment)?;
        let server = args
            .server
            .clone()
            .or_else(|| environment("PLI_SERVER"))
            .or(file.server)
            .ok_or(texts::NO_SERVER)?;
        let ca = args.ca.clone().or_else(|| environment("PLI_CA").map(PathBuf::from)).or(file.ca);
        let token = if let Some(path) = &args.token_file {
            read_token(path)?
        } else if let Some(token) = environment("PLI_TOKEN") {
            Zeroizing::new(token)
        } else {
            let path = environment("PLI_TOKEN_FILE").map(PathBuf::from).or(file.token_file);
            read_token(&path.ok_or(texts::NO_TOKEN)?)?
        };
        let token = Zeroizing::new(token.trim().to_owned());
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(texts::BAD_TOKEN.into());
        }
        Ok(Self {
            server: parse_server(&server)?,
            roots: ca.as_deref().map(read_roots).transpose()?.unwrap_or_default(),
            token,
        })
    }
}

impl ConfigFile {
    fn load(environment: Environment<'_>) -> Result<Self, String> {
        let folder = environment("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
            .or_else(|| environment("HOME").map(|home| Path::new(&home).join(".config")))
            .or_else(|| environment("APPDATA").map(PathBuf::from));
        let Some(path) = folder.map(|f| f.join("pli").join("client.toml")) else {
            return Ok(Self::default());
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(texts::unreadable(&path, &e)),
        };
        let mut file: Self = toml::from_str(&text).map_err(|e| texts::bad_config(&path, &e.to_string()))?;
        // A relative path in the file starts at the file, not at where the command happens to run.
        let parent = path.parent().unwrap_or(Path::new("."));
        file.ca = file.ca.map(|p| parent.join(p));
        file.token_file = file.token_file.map(|p| parent.join(p));
        Ok(file)
    }
}

fn parse_server(text: &str) -> Result<Url, String> {
    let mut url: Url = text.trim().parse().map_err(|_| texts::bad_server(text))?;
    let host = url.host_str().ok_or_else(|| texts::bad_server(text))?;
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let loopback = address.is_ok_and(|ip| ip.is_loopback());
    match url.scheme() {
        "https" => {}
        // A proxy on the same machine may end TLS.
        "http" if loopback => {}
        "http" => return Err(texts::clear_text(text)),
        _ => return Err(texts::bad_server(text)),
    }
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(texts::bad_server(text));
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

fn read_roots(path: &Path) -> Result<Vec<Certificate>, String> {
    let pem = std::fs::read(path).map_err(|e| texts::unreadable(path, &e))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(roots) if !roots.is_empty() => Ok(roots),
        _ => Err(texts::bad_ca(path)),
    }
}

/// The mode is read from the file that was opened, so that it cannot be swapped in between.
fn read_token(path: &Path) -> Result<Zeroizing<String>, String> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|e| texts::unreadable(path, &e))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = file.metadata().map_err(|e| texts::unreadable(path, &e))?;
        let mode = metadata.mode() & 0o777;
        if metadata.is_file() && mode & 0o077 != 0 {
            return Err(texts::token_open_to_others(path, mode));
        }
    }
    let mut token = Zeroizing::new(String::new());
    file.take(4_096).read_to_string(&mut token).map_err(|e| texts::unreadable(path, &e))?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn load(args: &ConnectionArgs, variables: &[(&str, &str)]) -> Result<Settings, String> {
        let variables: HashMap<&str, &str> = variables.iter().copied().collect();
        Settings::from_parts(args, &|name| variables.get(name).map(|v| (*v).to_owned()))
    }

    #[test]
    fn server_must_be_encrypted() {
        for (text, ok) in [
            ("https://pli.example.fr", true),
            ("https://pli.example.fr:8443/pli", true),
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("http://pli.example.fr", false),
            ("http://localhost.example.fr", false),
            ("ftp://pli.example.fr", false),
            ("pli.example.fr", false),
            ("https://user:secret@pli.example.fr", false),
            ("https://pli.example.fr/?x", false),
        ] {
            assert_eq!(parse_server(text).is_ok(), ok, "{text}");
        }
        assert_eq!(parse_server("https://a.fr/pli").unwrap().as_str(), "https://a.fr/pli/");
    }

    #[test]
    fn order_is_arguments_environment_file() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("pli");
        std::fs::create_dir(&config).unwrap();
        std::fs::write(config.join("client.toml"), "server = 'https://file.fr'\ntoken_file = 'token'\n")
            .unwrap();
        write_private(&config.join("token"), "pli_file\n");
        let home = folder.path().to_str().unwrap();
        let none = ConnectionArgs::default();

        let settings = load(&none, &[("XDG_CONFIG_HOME", home)]).unwrap();
        assert_eq!((settings.server.as_str(), settings.token.as_str()), ("https://file.fr/", "pli_file"));

        let variables =
            [("XDG_CONFIG_HOME", home), ("PLI_SERVER", "https://env.fr"), ("PLI_TOKEN", "pli_env")];
        let settings = load(&none, &variables).unwrap();
        assert_eq!((settings.server.as_str(), settings.token.as_str()), ("https://env.fr/", "pli_env"));

        let other = folder.path().join("other");
        write_private(&other, "pli_argument");
        let args =
            ConnectionArgs { server: Some("https://argument.fr".into()), ca: None, token_file: Some(other) };
        let settings = load(&args, &variables).unwrap();
        assert_eq!(
            (settings.server.as_str(), settings.token.as_str()),
            ("https://argument.fr/", "pli_argument")
        );

        std::fs::write(config.join("client.toml"), "server = 'https://file.fr'\ntoken = 'pli_x'\n").unwrap();
        assert!(load(&none, &variables).is_err_and(|text| text.contains("client.toml")));
    }

    #[cfg(unix)]
    #[test]
    fn token_file_of_everybody_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write_private(&path, "pli_x");
        assert_eq!(read_token(&path).unwrap().as_str(), "pli_x");
        for mode in [0o640, 0o604, 0o660, 0o644] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(read_token(&path).is_err_and(|text| text.contains("chmod 600")), "{mode:o}");
        }
    }

    #[test]
    fn tokens_that_cannot_be_a_header_are_refused() {
        for token in [" ", "pli_é", "pli_a\nb", "pli a"] {
            let variables = [("PLI_SERVER", "https://a.fr"), ("PLI_TOKEN", token)];
            assert!(load(&ConnectionArgs::default(), &variables).is_err(), "{token:?}");
        }
    }

    fn write_private(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}
