//! The client of the transfer benchmark: one HTTP/1.1 request over TLS 1.3 per run, with as little work as
//! possible, so that the server is what is measured. curl seals one record of 16 KiB a system call and was
//! found close to one full core at the speed of nginx; this one hands over a mebibyte at a time.
//!
//! Prints one line of JSON with the names that curl uses: `http_code`, `size_upload`, `size_download`,
//! `time_total`, and the header fields. Must never be used but for measuring: it retries nothing, follows
//! nothing, and knows no transfer coding.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

const PIECE: usize = 1 << 20;

/// One request, measured.
#[derive(Parser)]
struct Arguments {
    method: String,
    /// https://ADDRESS:PORT/PATH
    url: String,
    /// PEM file of the authority to trust.
    #[arg(long)]
    ca: PathBuf,
    /// A header field, `Name: value`.
    #[arg(long)]
    header: Vec<String>,
    /// The file to send.
    #[arg(long)]
    file: Option<PathBuf>,
}

/// The socket, read through a large buffer: the TLS layer asks for 4 KiB at a time.
struct Wire {
    reading: BufReader<TcpStream>,
    writing: TcpStream,
    tls: ClientConnection,
}

impl Wire {
    fn connect(authority: &str, ca: &PathBuf) -> Result<Self> {
        let stream = TcpStream::connect(authority)?;
        stream.set_nodelay(true)?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca)? {
            roots.add(certificate?)?;
        }
        // The same cipher for every server, whatever it would prefer.
        let provider = CryptoProvider {
            cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384],
            ..aws_lc_rs::default_provider()
        };
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host).to_owned();
        let mut tls = ClientConnection::new(Arc::new(config), ServerName::try_from(host)?)?;
        tls.set_buffer_limit(Some(4 * PIECE));
        Ok(Self { reading: BufReader::with_capacity(PIECE, stream.try_clone()?), writing: stream, tls })
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.tls.writer().write_all(bytes)?;
        while self.tls.wants_write() {
            if self.tls.is_handshaking() {
                self.tls.complete_io(&mut Both { wire: (&mut self.reading, &mut self.writing) })?;
            } else {
                self.tls.write_tls(&mut self.writing)?;
            }
        }
        Ok(())
    }

    /// Plaintext that has come, at least one byte unless the server ended.
    fn receive(&mut self, into: &mut [u8]) -> Result<usize> {
        loop {
            match self.tls.reader().read(into) {
                Ok(length) => return Ok(length),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            if self.tls.read_tls(&mut self.reading)? == 0 {
                return Ok(0);
            }
            self.tls.process_new_packets()?;
        }
    }
}

/// Both directions as one, for the handshake.
struct Both<'a> {
    wire: (&'a mut BufReader<TcpStream>, &'a mut TcpStream),
}

impl Read for Both<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.wire.0.read(into)
    }
}

impl Write for Both<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.wire.1.write(from)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.wire.1.flush()
    }
}

fn main() -> Result<()> {
    let given = Arguments::parse();
    let rest = given.url.strip_prefix("https://").context("only https")?;
    let (authority, path) = rest.split_once('/').context("no path")?;
    let mut file = given.file.as_ref().map(File::open).transpose()?;
    let length = file.as_ref().map(|file| file.metadata()).transpose()?.map(|metadata| metadata.len());

    let mut head = format!("{} /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n", given.method);
    for header in &given.header {
        head.push_str(&format!("{header}\r\n"));
    }
    if let Some(length) = length {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    } else if given.method == "POST" {
        head.push_str("Content-Length: 0\r\n");
    }
    head.push_str("\r\n");

    let start = Instant::now();
    let mut wire = Wire::connect(authority, &given.ca)?;
    wire.send(head.as_bytes())?;
    let mut piece = vec![0; PIECE];
    let mut sent = 0;
    while let Some(file) = &mut file {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        wire.send(&piece[..read])?;
        sent += read as u64;
    }

    let mut answer = Vec::new();
    let end = loop {
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        ensure!(answer.len() < 64 << 10, "the head of the answer has no end");
        let read = wire.receive(&mut piece)?;
        ensure!(read > 0, "the server closed before it answered");
        answer.extend_from_slice(&piece[..read]);
    };
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.lines();
    let status: u16 = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?.parse()?;
    let headers: serde_json::Map<String, serde_json::Value> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().into()))
        .collect();
    // Only a download's body is counted; that of any other answer is left on the connection.
    let expected: u64 = match headers.get("content-length").and_then(|value| value.as_str()) {
        Some(length) if given.method == "GET" => length.parse()?,
        None if given.method == "GET" => bail!("the answer has no length: {status}"),
        _ => 0,
    };
    let mut received = (answer.len() - end) as u64;
    while received < expected {
        let read = wire.receive(&mut piece)?;
        ensure!(read > 0, "the answer ended after {received} of {expected} bytes");
        received += read as u64;
    }
    let seconds = start.elapsed().as_secs_f64();
    let told = serde_json::json!({
        "http_code": status,
        "size_upload": sent,
        "size_download": received,
        "time_total": seconds,
        "headers": headers,
    });
    writeln!(io::stdout(), "{told}")?;
    Ok(())
}
