//! Timestamp authorities for tests: certificates of every kind, right and wrong, and two programs of others
//! that sign with them, `openssl ts` and pyHanko's.

use std::path::{Path, PathBuf};
use std::process::Command;

use pli_signature::Certificate;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256, RsaKeySize, date_time_ymd,
};
use tempfile::TempDir;

/// The folder with the Python programs, from `tests/clients/install.sh`.
pub(crate) fn clients() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/install.sh");
    let output = Command::new(script).output().unwrap();
    assert!(output.status.success(), "install.sh: {}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// Runs a program and gives what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {out}{err}");
    out.into_owned()
}

/// The extended key usage of an authority.
#[derive(Clone, Copy)]
pub(crate) enum Usage {
    /// Critical, timeStamping alone.
    Right,
    NotCritical,
    /// Critical, timeStamping and emailProtection.
    AndMail,
    Absent,
}

impl Usage {
    fn extension(self) -> Option<CustomExtension> {
        /// The arc id-kp.
        const KP: [u8; 9] = [0x06, 8, 0x2B, 6, 1, 5, 5, 7, 3];
        let purposes: &[u8] = match self {
            Usage::Right | Usage::NotCritical => &[8],
            Usage::AndMail => &[8, 4],
            Usage::Absent => return None,
        };
        let mut der = vec![0x30, u8::try_from(purposes.len() * 10).unwrap()];
        for purpose in purposes {
            der.extend_from_slice(&KP);
            der.push(*purpose);
        }
        let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 37], der);
        extension.set_criticality(!matches!(self, Usage::NotCritical));
        Some(extension)
    }
}

/// An authority with its files in a folder of its own.
pub(crate) struct Authority {
    folder: TempDir,
    pub(crate) root: Certificate,
    pub(crate) own: Certificate,
}

impl Authority {
    /// Valid from 2020 to 2099.
    pub(crate) fn new(usage: Usage) -> Self {
        Self::valid(usage, 2020, 2099)
    }

    /// Valid from the first day of a year to the first day of another.
    pub(crate) fn valid(usage: Usage, from: i32, to: i32) -> Self {
        let key = || KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let mut root = CertificateParams::default();
        (root.not_before, root.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2099, 1, 1));
        root.distinguished_name.push(DnType::CommonName, "Horodatage de test – racine");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root_key = key();
        let root_certificate = root.self_signed(&root_key).unwrap();
        let issuer = Issuer::new(root, root_key);

        let mut own = CertificateParams::default();
        (own.not_before, own.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        own.distinguished_name.push(DnType::CommonName, "Horodatage de test");
        own.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        own.custom_extensions = usage.extension().into_iter().collect();
        let own_key = key();
        let own_certificate = own.signed_by(&own_key, &issuer).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("root.pem", &root_certificate.pem());
        write("own.pem", &own_certificate.pem());
        write("key.pem", &own_key.serialize_pem());
        write("serial", "01\n");
        write(
            "openssl.cnf",
            "[tsa]\ndefault_tsa = one\n[one]\nserial = serial\nsigner_cert = own.pem\nsigner_key = key.pem\n\
             certs = root.pem\nsigner_digest = sha384\ndefault_policy = 1.2.3.4.1\ndigests = sha256\n\
             accuracy = secs:1, millisecs:500\nclock_precision_digits = 3\nordering = no\ntsa_name = yes\n\
             ess_cert_id_chain = yes\ness_cert_id_alg = sha256\n",
        );
        let read = |pem: &str| Certificate::from_pem(pem).unwrap().remove(0);
        Self { root: read(&root_certificate.pem()), own: read(&own_certificate.pem()), folder }
    }

    /// Its root.
    pub(crate) fn anchors(&self) -> &[Certificate] {
        std::slice::from_ref(&self.root)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Asks `openssl ts`, whose clock is the machine's.
    pub(crate) fn openssl(&self, request: &[u8]) -> Vec<u8> {
        std::fs::write(self.path("request"), request).unwrap();
        run(Command::new("openssl").current_dir(self.folder.path()).args([
            "ts",
            "-reply",
            "-config",
            "openssl.cnf",
            "-queryfile",
            "request",
            "-out",
            "answer",
        ]));
        std::fs::read(self.path("answer")).unwrap()
    }

    /// Asks pyHanko's authority, which signs whatever it is told to.
    pub(crate) fn pyhanko(&self, request: &[u8], at: &str) -> Vec<u8> {
        std::fs::write(self.path("request"), request).unwrap();
        let clients = clients();
        run(Command::new(clients.join("python/bin/python"))
            .arg(clients.join("timestamp.py"))
            .args(["own.pem", "key.pem", "request", "answer", "--at", at])
            .current_dir(self.folder.path()));
        std::fs::read(self.path("answer")).unwrap()
    }
}
