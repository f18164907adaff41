//! Mail: how a notice becomes a message and reaches the SMTP server.
//!
//! Owns the connection to the server and the form of the message. Must never send inside a request or with a
//! transaction open, put content, a case's name or a secret into a message, or speak without TLS to another
//! machine. Headers are lettre's typed ones: a line break in a name or an address cannot become a header.

use crate::fault::{Fault, Result};
use crate::texts::{self, Part};
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::{self, PoolConfig};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use pli_api::Time;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

/// How long connecting to the server may take.
const CONNECTING: Duration = Duration::from_secs(30);
/// How long a whole conversation with the server may take: lettre waits for an answer without end.
const TALKING: Duration = Duration::from_secs(120);
/// Connections to the server at once.
const CONNECTIONS: u32 = 4;

/// How the connection to the server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    /// STARTTLS (RFC 3207), and nothing is sent without it.
    Starttls,
    /// TLS from the first byte (RFC 8314).
    Implicit,
    /// None: to a server on this machine only.
    None,
}

/// Where mail goes, and from whom.
pub struct MailOptions {
    /// The server's name, which its certificate must bear.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: MailTls,
    /// Authorities of the server's certificate, PEM; the machine's when absent.
    pub authorities: Option<Vec<u8>>,
    /// User and password, when the server asks for them.
    pub credentials: Option<(String, Zeroizing<String>)>,
    /// The sender's address: of the envelope, of `From` and of the message identifiers.
    pub from: String,
    /// Where people reach Pli; the only link in a mail.
    pub public_url: String,
    /// The hour of the day, UTC, at which digests go.
    pub digest_hour: u8,
}

/// What is wrong with the options of mail.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// Without TLS, the server must be this machine.
    #[error("without TLS, the mail server must be a loopback address")]
    Unprotected,
    /// The sender is no address.
    #[error("the sender's address is malformed")]
    From,
    /// Not an address that people can be sent to.
    #[error("the public address must begin with https:// and hold no space")]
    PublicUrl,
    /// Not an hour.
    #[error("the hour of the digest goes from 0 to 23")]
    Hour,
    /// An authority is no certificate.
    #[error("TLS: {0}")]
    Tls(#[source] smtp::Error),
}

/// The way to the mail server.
pub struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    public_url: String,
    digest_hour: u8,
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mail").field("from", &self.from).finish_non_exhaustive()
    }
}

/// What became of a message that was not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// For good: nothing that is sent to this address arrives. The reply code, when there was one.
    Permanent(Option<u16>),
    /// For now, or for a reason that has nothing to do with the recipient.
    Passing(Fault),
}

impl Mail {
    /// Prepares the way; connects to nothing.
    ///
    /// # Errors
    /// Options that cannot be.
    pub fn open(options: MailOptions) -> Result<Self, MailError> {
        let email: Address = options.from.parse().map_err(|_| MailError::From)?;
        let url = options.public_url.trim_end_matches('/');
        if !url.starts_with("https://")
            || url.len() <= 8
            || url.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            return Err(MailError::PublicUrl);
        }
        if options.digest_hour > 23 {
            return Err(MailError::Hour);
        }
        let tls = match options.tls {
            MailTls::None if !is_loopback(&options.host) => return Err(MailError::Unprotected),
            MailTls::None => Tls::None,
            MailTls::Starttls => Tls::Required(parameters(&options)?),
            MailTls::Implicit => Tls::Wrapper(parameters(&options)?),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(options.host)
            .port(options.port)
            .tls(tls)
            .timeout(Some(CONNECTING))
            .pool_config(PoolConfig::new().max_size(CONNECTIONS));
        if let Some((user, password)) = options.credentials {
            builder = builder.credentials(Credentials::new(user, password.as_str().to_owned()));
        }
        Ok(Self {
            transport: builder.build(),
            from: Mailbox::new(Some("Pli".to_owned()), email),
            public_url: url.to_owned(),
            digest_hour: options.digest_hour,
        })
    }

    /// Where people reach Pli.
    pub(crate) fn public_url(&self) -> &str {
        &self.public_url
    }

    /// The next instant at which digests go.
    pub(crate) fn next_digest(&self, now: Time) -> Time {
        const DAY: i64 = 86_400;
        let midnight = now.seconds().div_euclid(DAY).saturating_mul(DAY);
        let hour = midnight.saturating_add(i64::from(self.digest_hour).saturating_mul(3600));
        let next = if hour > now.seconds() { hour } else { hour.saturating_add(DAY) };
        Time::from_micros(next.saturating_mul(1_000_000))
    }

    /// A message to one person. `id` makes its Message-ID, the same at every attempt, so that one that arrives
    /// twice is known for one. With a certificate it is PGP/MIME (RFC 3156), and its subject says nothing.
    ///
    /// # Errors
    /// [`Refusal::Permanent`] when the address is none; [`Refusal::Passing`] when it cannot be encrypted.
    pub(crate) fn compose(
        &self,
        to: (&str, &str),
        subject: &str,
        parts: &[Part],
        id: uuid::Uuid,
        now: Time,
        certificate: Option<&[u8]>,
    ) -> Result<Message, Refusal> {
        let (address, name) = to;
        let address: Address = address.parse().map_err(|_| Refusal::Permanent(None))?;
        // lettre panics on a name that a header cannot hold.
        let name: String = name.chars().filter(|c| !c.is_control()).collect();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(now.seconds()).unwrap_or(0));
        let body = MultiPart::alternative_plain_html(texts::plain(parts), texts::html(parts));
        let (subject, body) = match certificate {
            None => (subject, body),
            Some(certificate) => {
                let sealed = pli_seal::encrypt_to(certificate, at, &body.formatted());
                let sealed = sealed.map_err(|error| Refusal::Passing(Fault::unavailable(error)))?;
                (texts::SEALED_SUBJECT, encrypted(sealed))
            }
        };
        let builder = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(Some(name), address))
            .subject(subject)
            .date(at)
            .message_id(Some(format!("<{id}@{}>", self.from.email.domain())))
            // RFC 3834: nobody's out-of-office answers this.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        builder.multipart(body).map_err(|error| Refusal::Passing(Fault::internal(error)))
    }

    /// Hands a message to the server.
    ///
    /// # Errors
    /// What the server, or the way to it, said. No text of the server's is kept: it may hold an address.
    pub(crate) async fn send(&self, message: Message) -> Result<(), Refusal> {
        self.send_within(message, TALKING).await
    }

    async fn send_within(&self, message: Message, most: Duration) -> Result<(), Refusal> {
        let silent = || Refusal::Passing(Fault::unavailable("the mail server did not answer in time"));
        let sending = tokio::time::timeout(most, self.transport.send(message));
        let error = match sending.await.map_err(|_| silent())? {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let code = error.status().map(u16::from);
        // A server that lets nobody in refuses for good too; that is no fault of the recipient's.
        let of_server = matches!(code, Some(421 | 454 | 500..=504 | 521 | 530 | 534 | 535 | 538));
        if error.is_permanent() && !of_server {
            let testing = tokio::time::timeout(most, self.transport.test_connection());
            if matches!(testing.await.map_err(|_| silent())?, Ok(true)) {
                return Err(Refusal::Permanent(code));
            }
        }
        // lettre's own refusals too: a server without STARTTLS, or without a way to sign in that both know.
        let what = match code {
            Some(code) => format!("the mail server answered {code}"),
            None if error.is_tls() => "TLS with the mail server failed".to_owned(),
            None if error.is_timeout() => "the mail server did not answer in time".to_owned(),
            None => "the mail server could not be reached or did not speak SMTP".to_owned(),
        };
        Err(Refusal::Passing(Fault::unavailable(what)))
    }
}

fn parameters(options: &MailOptions) -> Result<TlsParameters, MailError> {
    let mut builder = TlsParameters::builder(options.host.clone());
    if let Some(pem) = &options.authorities {
        builder = builder.certificate_store(CertificateStore::None);
        builder = builder.add_root_certificate(Certificate::from_pem(pem).map_err(MailError::Tls)?);
    }
    builder.build_rustls().map_err(MailError::Tls)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// RFC 3156, 4: a part that names the format, and the armored message. As a text, so that lettre ends its lines as
/// mail must.
fn encrypted(armored: String) -> MultiPart {
    let kind = |text: &str| ContentType::parse(text).unwrap_or(ContentType::TEXT_PLAIN);
    MultiPart::encrypted("application/pgp-encrypted".to_owned())
        .singlepart(
            SinglePart::builder().header(kind("application/pgp-encrypted")).body("Version: 1\r\n".to_owned()),
        )
        .singlepart(SinglePart::builder().header(kind("application/octet-stream")).body(armored))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pli_api::{NoticeKind, NoticeReason};

    fn options() -> MailOptions {
        MailOptions {
            host: "127.0.0.1".into(),
            port: 25,
            tls: MailTls::None,
            authorities: None,
            credentials: None,
            from: "pli@justice.example".into(),
            public_url: "https://pli.example/".into(),
            digest_hour: 5,
        }
    }

    fn mail() -> Mail {
        Mail::open(options()).unwrap()
    }

    #[tokio::test]
    async fn options_that_cannot_be_are_refused() {
        let refused = |change: &dyn Fn(&mut MailOptions)| {
            let mut options = options();
            change(&mut options);
            Mail::open(options).is_err()
        };
        assert!(refused(&|o| o.host = "mail.example".into()), "no TLS to another machine");
        assert!(refused(&|o| o.host = "localhost.example".into()));
        assert!(!refused(&|o| o.host = "::1".into()));
        assert!(refused(&|o| o.from = "a@b\r\nBcc: x@y".into()));
        assert!(refused(&|o| o.public_url = "http://pli.example".into()));
        assert!(refused(&|o| o.public_url = "https://pli.example/ x".into()));
        assert!(refused(&|o| o.digest_hour = 24));
        assert!(refused(&|o| {
            o.tls = MailTls::Starttls;
            o.authorities = Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec());
        }));
    }

    #[tokio::test]
    async fn no_header_can_be_injected() {
        let mail = mail();
        let parts = texts::single(NoticeKind::MessageReceived, NoticeReason::Own, mail.public_url());
        let now = Time::from_micros(1_800_000_000_000_000);
        let id = uuid::Uuid::nil();
        for name in
            ["Zoé\r\nBcc: espion@x.example", "a\nSubject: autre\n\nb", "\"<x@y.example>, \"", "\u{202e}é\0"]
        {
            let message = mail.compose(("zoe@experts.example", name), "Pli", &parts, id, now, None).unwrap();
            let formatted = String::from_utf8(message.formatted()).unwrap();
            let head = formatted.split("\r\n\r\n").next().unwrap();
            let fields: Vec<_> = head
                .split("\r\n")
                .filter(|line| !line.starts_with([' ', '\t']))
                .map(|line| line.split(':').next().unwrap().to_ascii_lowercase())
                .collect();
            let expected = [
                "from",
                "to",
                "subject",
                "date",
                "message-id",
                "auto-submitted",
                "mime-version",
                "content-type",
            ];
            assert_eq!(fields, expected, "{head}");
            assert!(!head.replace("\r\n", "").contains(['\r', '\n', '\0']));
            assert_eq!(message.envelope().to(), &["zoe@experts.example".parse::<Address>().unwrap()]);
        }
        for address in ["zoe@x.example\r\nBcc: y@z.example", "a b@x.example", "", "x", "a@b\n"] {
            let refused = mail.compose((address, "Zoé"), "Pli", &parts, id, now, None);
            assert!(matches!(refused, Err(Refusal::Permanent(None))), "{address:?}");
        }
    }

    /// One that takes the connection and says nothing must not keep a worker for ever.
    #[tokio::test]
    async fn a_silent_server_is_left() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mail = Mail::open(MailOptions { port, ..options() }).unwrap();
        let parts = texts::single(NoticeKind::MessageReceived, NoticeReason::Own, mail.public_url());
        let now = Time::from_micros(1_800_000_000_000_000);
        let to = ("zoe@experts.example", "Zoé");
        let message = mail.compose(to, "Pli", &parts, uuid::Uuid::nil(), now, None).unwrap();
        let sent = mail.send_within(message, Duration::from_millis(50)).await;
        assert!(matches!(sent, Err(Refusal::Passing(_))), "{sent:?}");
        // Held open until now.
        drop(listener);
    }

    #[tokio::test]
    async fn the_digest_goes_at_its_hour() {
        let mail = mail();
        let at = |seconds: i64| Time::from_micros(seconds * 1_000_000);
        let day = 1_800_000_000_i64.div_euclid(86_400) * 86_400;
        assert_eq!(mail.next_digest(at(day)), at(day + 5 * 3600));
        assert_eq!(mail.next_digest(at(day + 5 * 3600)), at(day + 86_400 + 5 * 3600));
        assert_eq!(mail.next_digest(at(day + 86_399)), at(day + 86_400 + 5 * 3600));
    }
}
