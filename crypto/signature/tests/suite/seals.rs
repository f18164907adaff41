//! Seals over small PDF files of every form that the minimal reader knows, and seals that do not hold.

use std::process::Command;

use pdf_writer::{Finish, Name, Pdf, Rect, Ref, TextStr};
use pli_signature::{
    Certificate, Level, SealKey, SignatureError, Statement, Trust, development_seal, prepare, verify,
};

use crate::NOW;
use crate::authority::{Authority, Usage, run};
use crate::keys::{P_256, P_384, RSA_3072, openssl};

struct Seal {
    key: SealKey,
    trust: Trust,
}

fn seal() -> Seal {
    let development = development_seal(NOW, 30).unwrap();
    Seal {
        key: SealKey::from_pem(&development.certificates, &development.key).unwrap(),
        trust: Trust {
            seals: Certificate::from_pem(&development.authority).unwrap(),
            timestamps: Vec::new(),
        },
    }
}

fn trusting(certificate: &Certificate) -> Trust {
    Trust { seals: vec![certificate.clone()], timestamps: Vec::new() }
}

/// A page, and an embedded file in two octets.
fn document(pdf: &mut Pdf) {
    let [catalog, pages, page, info, file, embedded] = [1, 2, 3, 4, 5, 6].map(Ref::new);
    pdf.document_info(info).title(TextStr("Essai"));
    pdf.pages(pages).kids([page]).count(1);
    pdf.page(page).parent(pages).media_box(Rect::new(0.0, 0.0, 200.0, 100.0)).resources().finish();
    let mut stream = pdf.embedded_file(embedded, b"{}");
    stream.subtype(Name(b"application/json"));
    stream.params().size(2);
    stream.finish();
    let mut specification = pdf.file_spec(file);
    specification.path(pdf_writer::Str(b"recu.json")).unic_file(TextStr("recu.json"));
    specification.insert(Name(b"EF")).dict().pair(Name(b"F"), embedded);
    specification.finish();
    let mut root = pdf.catalog(catalog);
    root.pages(pages);
    root.insert(Name(b"AF")).array().item(file);
    root.finish();
    pdf.set_file_id((b"first".to_vec(), b"second".to_vec()));
}

fn with_table() -> Vec<u8> {
    let mut pdf = Pdf::new();
    document(&mut pdf);
    pdf.finish()
}

fn with_stream() -> Vec<u8> {
    let mut pdf = Pdf::new();
    document(&mut pdf);
    pdf.finish_with_xref_stream(Ref::new(7))
}

fn qpdf(bytes: &[u8], arguments: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("in.pdf"), folder.path().join("out.pdf"));
    std::fs::write(&from, bytes).unwrap();
    run(Command::new("qpdf").args(arguments).arg(from).arg(&to));
    std::fs::read(to).unwrap()
}

/// Object streams, a compressed cross-reference stream with predictors.
fn with_packed_objects() -> Vec<u8> {
    qpdf(&with_table(), &["--object-streams=generate", "--compress-streams=y"])
}

fn sealed(pdf: &[u8], key: &SealKey) -> Vec<u8> {
    let statement = Statement { name: "Pli (essai)".into(), reason: "Reçu".into() };
    prepare(pdf, key, Level::BaselineB, &statement, NOW).unwrap().sign().unwrap().finish().unwrap()
}

/// What pdfsig and qpdf say.
fn judged(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sealed.pdf");
    std::fs::write(&path, bytes).unwrap();
    run(Command::new("qpdf").arg("--check").arg(&path));
    let said = run(Command::new("pdfsig").arg("-nocert").arg(&path));
    for expected in ["Signature is Valid", "Total document signed", "ETSI.CAdES.detached"] {
        assert!(said.contains(expected), "{expected} is missing:\n{said}");
    }
}

#[test]
fn every_form_of_file_is_sealed_and_verified() {
    let seal = seal();
    for pdf in [with_table(), with_stream(), with_packed_objects()] {
        let bytes = sealed(&pdf, &seal.key);
        assert!(bytes.starts_with(&pdf), "what was there stays");
        judged(&bytes);
        let verified = verify(&bytes, &seal.trust).unwrap();
        assert_eq!(verified.signer(), seal.key.certificate());
        assert_eq!(verified.claimed_time(), NOW);
        assert!(verified.timestamp().is_none());
        let attachment = verified.attachment("recu.json", 100).unwrap();
        assert_eq!(
            (attachment.content.as_slice(), attachment.media_type.as_str()),
            (&b"{}"[..], "application/json")
        );
        assert_eq!(verified.attachment("recu.json", 1).unwrap_err(), SignatureError::Limit("stream"));
        assert!(matches!(verified.attachment("autre.json", 100), Err(SignatureError::Attachment(_))));
    }
}

#[test]
fn every_kind_of_key_seals() {
    for kind in [P_256, P_384, RSA_3072] {
        let (certificate, key) = openssl(kind, "digitalSignature");
        let key = SealKey::from_pem(&certificate, &key).unwrap();
        // The certificate of OpenSSL begins at the time of the machine.
        let now = key.certificate().not_before();
        let statement = Statement::default();
        let prepared = prepare(&with_table(), &key, Level::BaselineB, &statement, now).unwrap();
        let bytes = prepared.sign().unwrap().finish().unwrap();
        judged(&bytes);
        verify(&bytes, &trusting(key.certificate())).unwrap();
    }
}

#[test]
fn a_timestamp_is_added_and_verified() {
    let seal = {
        let development =
            development_seal(pli_api::Time::from_micros(1_600_000_000_000_000), u16::MAX).unwrap();
        SealKey::from_pem(&development.certificates, &development.key).unwrap()
    };
    let authority = Authority::new(Usage::Right);
    let anchors = [authority.root.clone()];
    let statement = Statement::default();
    let mut signed =
        prepare(&with_table(), &seal, Level::BaselineT, &statement, NOW).unwrap().sign().unwrap();
    let request = signed.timestamp_request([3; 16]).unwrap();
    let token = request.read(&authority.openssl(request.der()), &anchors).unwrap();
    signed.add_timestamp(&token).unwrap();
    let bytes = signed.finish().unwrap();
    judged(&bytes);

    let mut trust = trusting(seal.certificate());
    trust.timestamps = anchors.to_vec();
    let verified = verify(&bytes, &trust).unwrap();
    assert_eq!(verified.timestamp(), Some(&token));
    // A timestamp that cannot be believed is not passed over.
    trust.timestamps.clear();
    assert!(matches!(verify(&bytes, &trust), Err(SignatureError::Timestamp(_))));
}

#[test]
fn a_timestamp_over_something_else_or_without_room_is_not_added() {
    let authority = Authority::new(Usage::Right);
    let seal = seal();
    let statement = Statement::default();
    let sign = |level| prepare(&with_table(), &seal.key, level, &statement, NOW).unwrap().sign().unwrap();
    let mut one = sign(Level::BaselineT);
    let request = sign(Level::BaselineT).timestamp_request([3; 16]).unwrap();
    let token = request.read(&authority.openssl(request.der()), authority.anchors()).unwrap();
    assert!(matches!(one.add_timestamp(&token), Err(SignatureError::Timestamp(_))));
    verify(&one.finish().unwrap(), &seal.trust).unwrap();

    let mut small = sign(Level::BaselineB);
    let request = small.timestamp_request([3; 16]).unwrap();
    let token = request.read(&authority.openssl(request.der()), authority.anchors()).unwrap();
    assert!(matches!(small.add_timestamp(&token), Err(SignatureError::Room { .. })));
    verify(&small.finish().unwrap(), &seal.trust).unwrap();
}

#[test]
fn a_stranger_is_not_trusted() {
    let bytes = sealed(&with_table(), &seal().key);
    for trust in [Trust::default(), seal().trust] {
        assert_eq!(verify(&bytes, &trust).err(), Some(SignatureError::Untrusted));
    }
}

#[test]
fn a_seal_outside_its_validity_is_neither_made_nor_believed() {
    let seal = seal();
    let late = NOW.plus_seconds(31 * 86_400);
    for time in [late, NOW.plus_seconds(-1)] {
        let prepared = prepare(&with_table(), &seal.key, Level::BaselineB, &Statement::default(), time);
        assert_eq!(prepared.err(), Some(SignatureError::NotValidThen));
    }
    // Claimed inside the validity, proven outside: the proven time counts.
    let authority = Authority::new(Usage::Right);
    let anchors = vec![authority.root.clone()];
    let mut signed = prepare(&with_table(), &seal.key, Level::BaselineT, &Statement::default(), NOW)
        .unwrap()
        .sign()
        .unwrap();
    let request = signed.timestamp_request([3; 16]).unwrap();
    let answer = authority.pyhanko(request.der(), "2027-06-01T00:00:00+00:00");
    signed.add_timestamp(&request.read(&answer, &anchors).unwrap()).unwrap();
    let trust = Trust { timestamps: anchors, ..seal.trust };
    assert_eq!(verify(&signed.finish().unwrap(), &trust).err(), Some(SignatureError::NotValidThen));
}

/// Where the hexadecimal digits of `/Contents` stand.
fn contents(bytes: &[u8]) -> std::ops::Range<usize> {
    let key = b"/Contents <";
    let at = bytes.windows(key.len()).rposition(|window| window == key).unwrap() + key.len();
    at..at + bytes[at..].iter().position(|byte| *byte == b'>').unwrap()
}

/// The same file with a CMS in which something was replaced by something of the same length.
fn with_replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let range = contents(bytes);
    let digits = std::str::from_utf8(&bytes[range.clone()]).unwrap();
    let replaced = digits.replace(&hex(from), &hex(to));
    assert_ne!(digits, replaced);
    let mut out = bytes.to_vec();
    out[range].copy_from_slice(replaced.as_bytes());
    out
}

#[test]
fn a_swapped_certificate_is_refused() {
    // Two certificates for one key, of one name and one length, both trusted: only the signed attribute
    // tells which one sealed.
    let folder = tempfile::tempdir().unwrap();
    let (one, key) = openssl(P_256, "digitalSignature");
    std::fs::write(folder.path().join("key"), key.as_bytes()).unwrap();
    let own = SealKey::from_pem(&one, &key).unwrap();
    let length = own.certificate().der().len();
    let other = (0..200).find_map(|_| {
        let pem = run(Command::new("openssl").current_dir(folder.path()).args([
            "req",
            "-x509",
            "-days",
            "36499",
            "-subj",
            "/O=Essai/CN=Cachet",
            "-key",
            "key",
            "-addext",
            "keyUsage=digitalSignature",
        ]));
        let other = Certificate::from_pem(&pem).unwrap().remove(0);
        (other.der().len() == length).then_some(other)
    });
    let other = other.unwrap();
    let now = own.certificate().not_before();
    let prepared = prepare(&with_table(), &own, Level::BaselineB, &Statement::default(), now).unwrap();
    let bytes = prepared.sign().unwrap().finish().unwrap();
    let trust = Trust { seals: vec![own.certificate().clone(), other.clone()], timestamps: Vec::new() };
    verify(&bytes, &trust).unwrap();
    let swapped = with_replaced(&bytes, own.certificate().der(), other.der());
    assert!(matches!(verify(&swapped, &trust), Err(SignatureError::Cms(_))));
}

#[test]
fn the_seal_of_another_file_is_refused() {
    let seal = seal();
    let one = sealed(&with_table(), &seal.key);
    let mut other = with_table();
    let at = other.windows(5).position(|window| window == b"Essai").unwrap();
    other[at..at + 5].copy_from_slice(b"Autre");
    let mut other = sealed(&other, &seal.key);
    let (from, to) = (contents(&one), contents(&other));
    other[to].copy_from_slice(&one[from]);
    assert_eq!(verify(&other, &seal.trust).err(), Some(SignatureError::Digest));
}

#[test]
fn what_follows_the_seal_is_refused() {
    let seal = seal();
    let bytes = sealed(&with_table(), &seal.key);
    for more in [&b"\n"[..], b" ", b"%", b"\0", b"\n%%EOF\n"] {
        assert!(verify(&[&bytes, more].concat(), &seal.trust).is_err(), "{more:?}");
    }
    // A second update that replaces the page, well formed.
    let start = bytes.windows(9).rposition(|window| window == b"startxref").unwrap();
    let previous: String = bytes[start + 10..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .map(|byte| char::from(*byte))
        .collect();
    let page = "3 0 obj\n<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>\nendobj\n";
    let table = format!(
        "xref\n3 1\n{:010} 00000 n \ntrailer\n<</Size 20/Prev {previous}/Root 1 0 R/ID[<00><00>]>>\nstartxref\n{}\n%%EOF\n",
        bytes.len(),
        bytes.len() + page.len()
    );
    let updated = [&bytes, page.as_bytes(), table.as_bytes()].concat();
    assert_eq!(verify(&updated, &seal.trust).err(), Some(SignatureError::Coverage("ByteRange")));
    // Sealing a second time is refused at once.
    let again = prepare(&bytes, &seal.key, Level::BaselineB, &Statement::default(), NOW);
    assert!(matches!(again, Err(SignatureError::Pdf(_))));
}

#[test]
fn files_without_a_seal_and_files_that_are_not_pdf_are_refused() {
    let trust = seal().trust;
    assert_eq!(verify(&with_table(), &trust).err(), Some(SignatureError::NoSeal));
    for bytes in [
        &b""[..],
        b"%PDF-1.7",
        b"%PDF-1.7\nstartxref\n0\n%%EOF",
        b"%PDF-1.7\nstartxref\n99999999999999999999\n%%EOF\n",
    ] {
        assert!(matches!(verify(bytes, &trust), Err(SignatureError::Pdf(_))));
    }
}
