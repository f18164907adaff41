//! What Pli's sealing writes is opened by OpenPGP.js 6, unchanged: a segment with its wrapped key in front, a
//! segment with the key taken from the manifest's head, and the manifest with its signature.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pli_seal::{
    BLOCK, CHUNK, ContentDigest, DocumentKey, Filling, KeyRing, Manifest, ManifestPart, ManifestSegment,
    Passphrase,
};
use pli_tests::content::Content;

/// The folder with the libraries, from `tests/clients/install.sh`.
fn clients() -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/install.sh");
    let output = Command::new(script).output()?;
    ensure!(output.status.success(), "install.sh: {}", String::from_utf8_lossy(&output.stderr));
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// Opens with OpenPGP.js and gives what the script printed and the content.
fn open(folder: &Path, arguments: &[&str]) -> Result<(serde_json::Value, Vec<u8>)> {
    let out = folder.join("opened");
    let output = Command::new("node")
        .arg(clients()?.join("open-with-openpgpjs.mjs"))
        .args(["--key", "hub.asc", "--passphrase", "passphrase", "--out", "opened"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .context("running node")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok((serde_json::from_slice(&output.stdout)?, std::fs::read(out)?))
}

#[test]
fn openpgpjs_opens_segments_and_manifest() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let phrase = "phrase de passe – démonstration";
    std::fs::write(at("passphrase"), format!("{phrase}\n"))?;
    let passphrase = Passphrase::new(phrase)?;
    let secret = KeyRing::generate("Pli, greffe de démonstration", &passphrase)?;
    let ring = KeyRing::open(std::slice::from_ref(&secret), &passphrase)?;
    std::fs::write(at("hub.asc"), &secret)?;
    std::fs::write(at("signer.asc"), ring.certificate()?)?;

    let key = DocumentKey::random()?;
    let wrapped = key.wrap(&[ring.current()])?;
    let mut digest = ContentDigest::new();
    let mut segments = Vec::new();
    let mut whole = Vec::new();
    // One byte, the neighbourhood of a chunk's end, and several blocks.
    for (number, length) in [1, CHUNK - 12, CHUNK - 11, 2 * BLOCK + 77].into_iter().enumerate() {
        let content = Content::new(number as u64, length as u64).all();
        let mut filling = Filling::new();
        let mut rest = content.as_slice();
        while !rest.is_empty() {
            if filling.room() == 0 {
                filling.add_block(vec![0; BLOCK])?;
            }
            rest = &rest[filling.put(rest)..];
        }
        let sealed = filling.seal(&key, &mut digest)?;
        let row = sealed.row();
        let object = sealed.into_bytes().concat();
        std::fs::write(at("object"), &object)?;
        std::fs::write(at("message"), [wrapped.as_slice(), &object].concat())?;
        let (told, opened) = open(folder.path(), &["message"])?;
        ensure!(opened == content, "OpenPGP.js read something else in {length} bytes: {told}");
        whole.extend_from_slice(&content);
        segments.push(ManifestSegment::new(format!("segments/00/{number:032x}"), &row));
    }

    let manifest = Manifest {
        version: 1,
        document: "0197".to_owned(),
        deposit: "0198".to_owned(),
        name: "D1 – procès-verbal.pdf".to_owned(),
        media_type: "application/pdf".to_owned(),
        size: whole.len() as u64,
        sha256: hex::encode(digest.finalize()),
        created: 0,
        parts: vec![ManifestPart::new(None, segments)],
    };
    std::fs::write(at("manifest"), manifest.seal(&key, &ring, &[ring.current()])?)?;
    let (told, opened) = open(folder.path(), &["--signer", "signer.asc", "manifest"])?;
    ensure!(told["signed"] == true, "{told}");
    let read: serde_json::Value = serde_json::from_slice(&opened)?;
    ensure!(read["name"] == "D1 – procès-verbal.pdf" && read["size"] == whole.len(), "{read}");

    // As an operator would who has the store and the key, and nothing of Pli.
    let (_, opened) = open(folder.path(), &["--keys-from", "manifest", "object"])?;
    ensure!(whole.ends_with(&opened) && opened.len() == 2 * BLOCK + 77);

    // A flipped bit is noticed by OpenPGP.js too.
    let mut message = std::fs::read(at("message"))?;
    let middle = message.len() / 2;
    message[middle] ^= 1;
    std::fs::write(at("message"), message)?;
    ensure!(open(folder.path(), &["message"]).is_err(), "a flipped bit went unnoticed");
    Ok(())
}
