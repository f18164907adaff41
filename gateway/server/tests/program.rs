//! The program as an operator runs it: real processes, real sockets, real signals.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, mpsc},
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pli");

/// Long enough for any machine; ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(120);

fn pli(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PLI_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null()).env("RUST_BACKTRACE", "0");
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn must(arguments: &[&str]) -> String {
    let output = pli(arguments).output().unwrap();
    assert!(output.status.success(), "pli {arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The exit code and everything that was said.
fn fails(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{}", said(&output));
    (output.status.code().unwrap(), said(&output))
}

/// A folder prepared by `pli init`, its listeners on free ports.
struct Site {
    folder: tempfile::TempDir,
    config: PathBuf,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("pli");
        must(&["init", home.to_str().unwrap(), "--dev-pki", "--name", "pli.example"]);
        let config = home.join("pli.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let text = text
            .replace("#addresses = [\"127.0.0.1:8443\"]", "addresses = [\"127.0.0.1:0\"]")
            .replace("#address = \"127.0.0.1:9443\"", "address = \"127.0.0.1:0\"");
        std::fs::write(&config, text).unwrap();
        Self { folder, config }
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("pli")
    }

    fn add(&self, lines: &str) {
        let mut text = std::fs::read_to_string(&self.config).unwrap();
        for (section, line) in lines.lines().map(|line| line.split_once(": ").unwrap()) {
            text = text.replace(&format!("[{section}]\n"), &format!("[{section}]\n{line}\n"));
        }
        std::fs::write(&self.config, text).unwrap();
    }

    fn arguments<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        [&["--config", self.config.to_str().unwrap()], rest].concat()
    }

    fn must(&self, rest: &[&str]) -> String {
        must(&self.arguments(rest))
    }

    fn fails(&self, rest: &[&str]) -> (i32, String) {
        fails(&mut pli(&self.arguments(rest)))
    }

    fn serve(&self) -> Server {
        Server::start(pli(&self.arguments(&["serve"])), &self.home())
    }
}

/// A `pli serve` or `pli worker` that runs; killed when dropped.
struct Server {
    child: Child,
    public: Option<SocketAddr>,
    operations: SocketAddr,
    root: PathBuf,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Server {
    fn start(mut command: Command, home: &Path) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (send, lines) = mpsc::channel();
        let log = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        let root = home.join("tls/root.pem");
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut server = Self { child, public: None, operations: nowhere, root, lines, seen: Vec::new() };
        server.log("started");
        for line in &server.seen {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let address = || line["address"].as_str().unwrap().parse().unwrap();
            match line["listener"].as_str() {
                Some("public") => server.public = Some(address()),
                Some("operations") => server.operations = address(),
                _ => {}
            }
        }
        server
    }

    /// Waits for a log line that holds this text.
    fn log(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => {
                    assert!(self.seen.is_empty() && text.is_empty(), "no {text:?} in {:#?}", self.seen);
                }
            }
        }
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(done.unwrap().success());
    }

    fn ended(&mut self) -> ExitStatus {
        // The log ends with the process: no polling.
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.seen.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(mpsc::RecvTimeoutError::Timeout) => unreachable!("it does not end: {:#?}", self.seen),
            }
        }
    }

    fn connect(&self) -> StreamOwned<ClientConnection, TcpStream> {
        self.try_connect(&self.root).unwrap()
    }

    fn try_connect(&self, root: &Path) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(root).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut socket = TcpStream::connect(self.public.unwrap())?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from("pli.example").unwrap();
        let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
        session.complete_io(&mut socket)?;
        Ok(StreamOwned::new(session, socket))
    }

    /// One request on a connection of its own.
    fn ask(&self, line: &str, fields: &str) -> String {
        let mut stream = self.connect();
        let request = format!("{line} HTTP/1.1\r\nHost: pli.example\r\nConnection: close\r\n{fields}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        to_the_end(&mut stream)
    }

    fn operations(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.operations).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        to_the_end(&mut stream)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn to_the_end(stream: &mut impl Read) -> String {
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut piece) {
        all.extend_from_slice(&piece[..n]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// An answer that says its length, on a connection that stays open.
fn answer(stream: &mut impl Read) -> String {
    let mut all = Vec::new();
    let mut octet = [0];
    while !all.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut octet).unwrap();
        all.push(octet[0]);
    }
    let head = String::from_utf8(all).unwrap();
    let length =
        head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    let mut body = vec![0; length.map_or(0, |l| l.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    head + &String::from_utf8(body).unwrap()
}

#[test]
fn init_makes_what_serve_needs_and_nothing_twice() {
    let site = Site::new();
    let mode = |path: &str| std::fs::metadata(site.home().join(path)).unwrap().permissions().mode() & 0o777;
    for private in ["keys/hub.asc", "keys/passphrase", "tls/server-key.pem", "tls/root-key.pem"] {
        assert_eq!(mode(private), 0o600, "{private}");
    }
    let (code, text) = fails(&mut pli(&["init", site.home().to_str().unwrap()]));
    assert!(code == 1 && text.contains("existe déjà"), "{text}");
    let (code, text) = fails(&mut pli(&["dev-pki", site.home().join("tls").to_str().unwrap()]));
    assert!(code == 1 && text.contains("existe déjà"), "{text}");
    let (code, text) = site.fails(&["keys", "init"]);
    assert!(code != 0 && text.contains("rotate"), "{text}");

    let shown = site.must(&["config", "check", "--reach"]);
    let passphrase = std::fs::read_to_string(site.home().join("keys/passphrase")).unwrap();
    assert!(!shown.contains(passphrase.trim()));
    assert_eq!(shown.matches(" : bon").count(), 6, "{shown}");
}

#[test]
fn a_wrong_configuration_is_refused_with_its_key_and_line() {
    let site = Site::new();
    site.add("limits: speed = 1");
    let line =
        std::fs::read_to_string(&site.config).unwrap().lines().position(|l| l == "speed = 1").unwrap() + 1;
    for command in [&["config", "check"][..], &["serve"], &["migrate"]] {
        let (code, text) = site.fails(command);
        assert!(code == 3 && text.contains(&format!("ligne {line}")) && text.contains("`speed`"), "{text}");
    }
    let site = Site::new();
    std::fs::set_permissions(site.home().join("tls/server-key.pem"), PermissionsExt::from_mode(0o644))
        .unwrap();
    let (code, text) = site.fails(&["config", "check"]);
    assert!(code == 3 && text.contains("server-key.pem"), "{text}");
    let (code, _) = site.fails(&["serve"]);
    assert_eq!(code, 3);

    let site = Site::new();
    std::fs::write(site.home().join("keys/passphrase"), "another\n").unwrap();
    let (code, text) = site.fails(&["serve"]);
    assert!(code == 3 && !text.contains("another"), "{text}");
    std::fs::remove_file(site.home().join("keys/hub.asc")).unwrap();
    let (code, text) = site.fails(&["serve"]);
    assert!(code == 3 && text.contains("pli keys init"), "{text}");
    let (code, _) = fails(&mut pli(&["--config", "/nowhere/pli.toml", "serve"]));
    assert_eq!(code, 3);
    let (code, _) = fails(&mut pli(&["serve", "--fast"]));
    assert_eq!(code, 2);
}

#[test]
fn serve_answers_and_logs_nothing_about_anyone() {
    let site = Site::new();
    site.must(&["org", "add", "Cabinet d'instruction no 3"]);
    site.must(&[
        "user",
        "add",
        "greffe@tribunal.example",
        "--name",
        "Greffe",
        "--org",
        "Cabinet d'instruction no 3",
    ]);
    let token = site.must(&["token", "add", "greffe@tribunal.example"]);
    assert!(token.starts_with("pli_") && token.lines().count() == 1);
    let mut server = site.serve();
    assert!(server.operations("/healthz").contains("alive"));
    assert!(server.operations("/readyz").contains("ready"));

    let bearer = format!("Authorization: Bearer {}\r\n", token.trim());
    let me = server.ask("GET /api/v1/me?nom=secret-de-l-instruction", &bearer);
    assert!(me.starts_with("HTTP/1.1 200") && me.contains("greffe@tribunal.example"), "{me}");
    let refused = server.ask("GET /api/v1/me", "");
    assert!(
        refused.starts_with("HTTP/1.1 401") && refused.contains("\"code\":\"sign-in-required\""),
        "{refused}"
    );
    let id = me.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().to_owned();
    let absent = server.ask("GET /dossier-martin", "");
    assert!(absent.contains("\"code\":\"not-found\""), "{absent}");

    let metrics = server.operations("/metrics");
    let counted = r#"pli_http_requests_total{method="GET",route="/api/v1/me",status="200"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
    assert!(
        metrics.contains("pli_connections{listener=\"public\"}")
            && metrics.contains("process_resident_memory_bytes")
    );

    server.signal("TERM");
    assert!(server.ended().success(), "{:#?}", server.seen);
    let log = server.seen.join("\n");
    let line = server.seen.iter().find(|line| line.contains(&id)).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["route"], "/api/v1/me");
    assert_eq!(
        (&line["method"], &line["status"], &line["complete"]),
        (&"GET".into(), &200.into(), &true.into())
    );
    assert!(line["client"].is_null(), "no address unless configured");
    for secret in ["secret-de-l-instruction", "greffe", "martin", token.trim(), "127.0.0.1:5"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    assert!(log.contains("\"orderly\":true"), "{log}");
}

#[test]
fn a_worker_has_no_public_port() {
    let site = Site::new();
    let mut worker = Server::start(pli(&site.arguments(&["worker"])), &site.home());
    assert_eq!(worker.public, None);
    assert!(worker.operations("/readyz").contains("ready"));
    worker.signal("INT");
    assert!(worker.ended().success());
}

#[test]
fn hangup_takes_a_new_certificate_and_the_watch_does_so_by_itself() {
    for by_hand in [true, false] {
        let site = Site::new();
        if !by_hand {
            site.add("tls: check = 0.1");
        }
        let mut server = site.serve();
        let mut before = server.connect();
        let renewed = tempfile::tempdir().unwrap();
        must(&["dev-pki", renewed.path().to_str().unwrap(), "--name", "pli.example"]);
        for name in ["server-key.pem", "server.pem"] {
            let aside = site.home().join("tls/aside");
            std::fs::copy(renewed.path().join(name), &aside).unwrap();
            std::fs::rename(aside, site.home().join("tls").join(name)).unwrap();
        }
        if by_hand {
            server.signal("HUP");
        }
        server.log("\"changed\":true");
        let root = renewed.path().join("root.pem");
        server.try_connect(&root).unwrap();
        server.try_connect(&site.home().join("tls/root.pem")).unwrap_err();
        before.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert!(answer(&mut before).starts_with("HTTP/1.1 404"), "the connection from before goes on");
    }
}

/// Signs up, makes a deposit and an upload in it, and gives its path and the bearer field.
fn upload(site: &Site, server: &Server, length: usize) -> (String, String) {
    let (path, _, bearer) = upload_of(site, server, length);
    (path, bearer)
}

/// The same, with the document's path between the two.
fn upload_of(site: &Site, server: &Server, length: usize) -> (String, String, String) {
    let field = |answer: &str, name: &str| {
        answer
            .lines()
            .find_map(|l| l.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)))
            .unwrap()
            .1
            .to_owned()
    };
    site.must(&["org", "add", "Cabinet"]);
    site.must(&["user", "add", "a@cabinet.example", "--name", "A", "--org", "Cabinet"]);
    let token = site.must(&["token", "add", "a@cabinet.example"]);
    let bearer = format!("Authorization: Bearer {}\r\n", token.trim());
    let deposit = serde_json::json!({ "recipients": ["a@cabinet.example"], "subject": "essai" }).to_string();
    let fields = format!("{bearer}Content-Type: application/json\r\nContent-Length: {}\r\n", deposit.len());
    let mut stream = server.connect();
    write!(stream, "POST /api/v1/deposits HTTP/1.1\r\nHost: a\r\n{fields}\r\n{deposit}").unwrap();
    let made = answer(&mut stream);
    assert!(made.starts_with("HTTP/1.1 201"), "{made}");
    let body: serde_json::Value = serde_json::from_str(made.split_once("\r\n\r\n").unwrap().1).unwrap();
    let base64 = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    let metadata = format!("filename {},deposit {}", base64("a.bin"), base64(body["id"].as_str().unwrap()));
    write!(
        stream,
        "POST /api/v1/uploads HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{bearer}Tus-Resumable: 1.0.0\r\n\
         Upload-Length: {length}\r\nUpload-Metadata: {metadata}\r\nContent-Length: 0\r\n\r\n"
    )
    .unwrap();
    let made = to_the_end(&mut stream);
    assert!(made.starts_with("HTTP/1.1 201"), "{made}");
    let location = field(&made, "location");
    let path = location.split_once("/api/").map(|(_, rest)| format!("/api/{rest}")).unwrap();
    let document = format!("/api/v1/documents/{}", field(&made, "pli-document"));
    (path, document, bearer)
}

fn patch(
    server: &Server,
    path: &str,
    fields: &str,
    offset: usize,
    length: usize,
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut stream = server.connect();
    write!(
        stream,
        "PATCH {path} HTTP/1.1\r\nHost: a\r\n{fields}Tus-Resumable: 1.0.0\r\nUpload-Offset: {offset}\r\n\
         Content-Type: application/offset+octet-stream\r\nContent-Length: {length}\r\n\r\n"
    )
    .unwrap();
    stream
}

fn offset(server: &Server, path: &str, bearer: &str) -> usize {
    let answer = server.ask(&format!("HEAD {path}"), &format!("{bearer}Tus-Resumable: 1.0.0\r\n"));
    let offset = answer
        .lines()
        .find_map(|l| l.to_ascii_lowercase().strip_prefix("upload-offset: ").map(str::to_owned));
    offset.unwrap_or_else(|| unreachable!("{answer}")).parse().unwrap()
}

#[test]
fn a_stop_in_the_middle_of_an_upload_keeps_what_was_received() {
    const SENT: usize = 5 << 20;
    const WHOLE: usize = 6 << 20;
    let site = Site::new();
    let mut server = site.serve();
    let (path, bearer) = upload(&site, &server, WHOLE);
    let mut stream = patch(&server, &path, &bearer, 0, WHOLE);
    stream.write_all(&vec![b'x'; SENT]).unwrap();
    stream.flush().unwrap();
    server.signal("TERM");
    let told = to_the_end(&mut stream);
    assert!(server.ended().success(), "{:#?}", server.seen);
    assert!(server.seen.join("\n").contains("\"orderly\":true"), "{:#?}", server.seen);

    let server = site.serve();
    let kept = offset(&server, &path, &bearer);
    // What the client was told, if it was told anything, is what is kept.
    if let Some(line) = told.lines().find(|l| l.to_ascii_lowercase().starts_with("upload-offset: ")) {
        assert_eq!(line.split_once(": ").unwrap().1, kept.to_string(), "{told}");
    }
    assert!(kept <= SENT);
    let mut stream = patch(&server, &path, &bearer, kept, WHOLE - kept);
    stream.write_all(&vec![b'x'; WHOLE - kept]).unwrap();
    stream.flush().unwrap();
    let done = answer(&mut stream);
    assert!(done.starts_with("HTTP/1.1 204"), "{done}");
    assert!(done.to_ascii_lowercase().contains(&format!("upload-offset: {WHOLE}")), "{done}");
}

#[test]
fn a_stop_ends_at_its_deadline_and_a_second_signal_does_not_wait_for_it() {
    // A client that never takes its answer, so that nothing ends by itself.
    let stuck = |site: &Site| {
        let server = site.serve();
        let mut stream = server.connect();
        // A request whose head is complete and whose body is not.
        let (path, bearer) = upload(site, &server, 1000);
        let held = patch(&server, &path, &bearer, 0, 1000);
        stream.flush().unwrap();
        (server, stream, held)
    };
    let site = Site::new();
    site.add("shutdown: deadline = 0.2");
    let (mut server, ..) = stuck(&site);
    server.signal("TERM");
    assert!(server.ended().success(), "{:#?}", server.seen);

    let site = Site::new();
    site.add("shutdown: deadline = 86400");
    let (mut server, _a, _b) = stuck(&site);
    server.signal("TERM");
    server.log("stopping");
    server.signal("TERM");
    assert!(server.ended().success(), "{:#?}", server.seen);
}

#[test]
fn running_out_of_files_is_survived() {
    let site = Site::new();
    site.add("limits: connections = 200\nlimits: connections_per_address = 0");
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 80; exec \"$0\" \"$@\"", PROGRAM]).args(site.arguments(&["serve"]));
    let mut server = Server::start(limited, &site.home());
    let held: Vec<_> = (0..120).map(|_| TcpStream::connect(server.public.unwrap()).unwrap()).collect();
    server.log("cannot accept");
    drop(held);
    assert!(server.ask("GET /", "").starts_with("HTTP/1.1 404"));
    assert!(server.operations("/metrics").contains("pli_accept_errors_total{listener=\"public\"}"));
}

/// Takes every file below a folder for one of two days ago.
fn make_old(folder: &Path) {
    let then = std::fs::metadata(folder).unwrap().modified().unwrap() - Duration::from_secs(2 * 86_400);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            make_old(&path);
        } else {
            std::fs::File::options().append(true).open(&path).unwrap().set_modified(then).unwrap();
        }
    }
}

fn a_file(folder: &Path) -> Option<PathBuf> {
    std::fs::read_dir(folder).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() { a_file(&path) } else { Some(path) }
    })
}

#[test]
fn rotation_check_and_recovery_by_the_command_line() {
    let site = Site::new();
    let mut server = site.serve();
    let (path, document, bearer) = upload_of(&site, &server, 3);
    let mut stream = patch(&server, &path, &bearer, 0, 3);
    stream.write_all(b"abc").unwrap();
    stream.flush().unwrap();
    assert!(answer(&mut stream).starts_with("HTTP/1.1 204"));
    drop(stream);
    // A job finishes the document; its state is the only thing that tells.
    let mut state = String::new();
    while !state.contains("\"state\":\"available\"") {
        state = server.ask(&format!("GET {document}"), &bearer);
        assert!(state.starts_with("HTTP/1.1 200"), "{state}");
    }
    server.signal("TERM");
    assert!(server.ended().success());

    let before = site.must(&["keys", "show"]);
    let rotated = site.must(&["keys", "rotate"]);
    assert!(rotated.contains("1 clés de documents"), "{rotated}");
    let after = site.must(&["keys", "show"]);
    let first = |text: &str| text.lines().next().unwrap().split_once(' ').unwrap().0.to_owned();
    assert_ne!(first(&before), first(&after));
    assert!(
        after.contains(&format!("{} retirée", first(&before)))
            && after.contains("BEGIN PGP PUBLIC KEY BLOCK")
    );
    assert!(site.must(&["keys", "rotate", "--finish"]).contains("0 clés de documents"));

    // The manifest from before the rotation is named by nothing but the job that will delete it.
    assert!(site.must(&["check"]).contains("1 objets attendent leur suppression"));
    let objects = site.home().join("objects");
    let named = a_file(&objects.join("segments")).unwrap();
    let name = named.file_name().unwrap().to_str().unwrap();
    let unnamed = format!("{}{}", &name[..2], "0".repeat(name.len() - 2));
    std::fs::copy(&named, named.with_file_name(&unnamed)).unwrap();
    let recent = site.must(&["check"]);
    assert!(recent.contains("récent que rien ne nomme") && recent.contains(&unnamed), "{recent}");
    make_old(&objects);
    let (code, text) = site.fails(&["check"]);
    assert!(
        code == 5 && text.contains(&format!("objet que rien ne nomme : segments/{}/{unnamed}", &name[..2])),
        "{text}"
    );
    assert!(site.must(&["check", "--remove-orphans", "1"]).contains("1 objets supprimés"));
    assert!(site.must(&["check", "--deep"]).contains("Rien à signaler"));
    let (code, _) = site.fails(&["check", "--remove-orphans", "0"]);
    assert_eq!(code, 2, "what is younger than a day may belong to an upload");
    std::fs::remove_file(&named).unwrap();
    let (code, text) = site.fails(&["check"]);
    assert!(code == 5 && text.contains("objet absent"), "{text}");
    site.must(&["recover"]);
}

#[test]
fn an_unmigrated_postgresql_is_refused_until_it_is_migrated() {
    let Ok(base) = std::env::var("PLI_TEST_POSTGRES") else {
        eprintln!("PLI_TEST_POSTGRES is not set: run under `tests/env/with.sh postgres -- …`");
        return;
    };
    let site = Site::new();
    let schema = format!("serve_{}", std::process::id());
    let separator = if base.contains('?') { '&' } else { '?' };
    let url = format!("{base}{separator}options=-c%20search_path%3D{schema}");
    let made =
        Command::new("psql").args([&base, "-qc", &format!("CREATE SCHEMA {schema}")]).status().unwrap();
    assert!(made.success());
    let run = |rest: &[&str]| {
        let mut command = pli(&site.arguments(rest));
        command.env("PLI_DATABASE__URL", &url);
        command
    };
    let (code, text) = fails(&mut run(&["serve"]));
    assert!(code == 3 && text.contains("pli migrate"), "{text}");
    assert!(run(&["migrate"]).status().unwrap().success());
    assert!(run(&["migrate"]).status().unwrap().success(), "twice is once");
    let mut server = Server::start(run(&["serve"]), &site.home());
    assert!(server.operations("/readyz").contains("ready"));
    server.signal("TERM");
    assert!(server.ended().success());
    let dropped =
        Command::new("psql").args([&base, "-qc", &format!("DROP SCHEMA {schema} CASCADE")]).status();
    assert!(dropped.unwrap().success());
}
