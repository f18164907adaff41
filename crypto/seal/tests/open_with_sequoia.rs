//! The example that uses nothing of Pli opens what Pli stores: segment objects with the wrapped key in
//! front, and a manifest with its signature.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "../examples/open_with_sequoia.rs"]
#[expect(dead_code, reason = "its main is for the command line")]
mod example;

use pli_seal::{
    BLOCK, CHUNK, ContentDigest, DocumentKey, Filling, KeyRing, Manifest, ManifestPart, ManifestSegment,
    Passphrase,
};

#[test]
fn the_example_opens_objects_and_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let passphrase = Passphrase::new("sésame, ouvre-toi").unwrap();
    let secret = KeyRing::generate("Pli", &passphrase).unwrap();
    let ring = KeyRing::open(std::slice::from_ref(&secret), &passphrase).unwrap();
    let key = DocumentKey::random().unwrap();
    let content: Vec<u8> = (0..2 * CHUNK + 100).map(|i| (i / 11) as u8).collect();
    let mut filling = Filling::new();
    filling.add_block(vec![0; BLOCK]).unwrap();
    filling.put(&content);
    let mut digest = ContentDigest::new();
    let sealed = filling.seal(&key, &mut digest).unwrap();
    let manifest = Manifest {
        version: 1,
        document: "document".into(),
        deposit: "dépôt".into(),
        name: "D 12.pdf".into(),
        media_type: "application/pdf".into(),
        size: content.len() as u64,
        sha256: hex::encode(digest.finalize()),
        created: 1_795_000_000_000_000,
        parts: vec![ManifestPart::new(None, vec![ManifestSegment::new("segments/x".into(), &sealed.row())])],
    };

    let key_file = write("hub.asc", &secret);
    let passphrase_file = write("passphrase.txt", "sésame, ouvre-toi\n".as_bytes());
    let wrapped_file = write("wrapped", &key.wrap(&[ring.current()]).unwrap());
    let mut object = sealed.into_bytes().concat();
    let object_file = write("object", &object);
    let manifest_file = write("manifest", &manifest.seal(&key, &ring, &[ring.current()]).unwrap());
    let open = |files: &[&String]| {
        let mut out = Vec::new();
        let arguments: Vec<String> =
            [&key_file, &passphrase_file].into_iter().chain(files.iter().copied()).cloned().collect();
        example::open(&arguments, &mut out).map(|()| out).map_err(|error| error.to_string())
    };
    assert!(open(&[&wrapped_file, &object_file]).unwrap() == content);
    let json: serde_json::Value = serde_json::from_slice(&open(&[&manifest_file]).unwrap()).unwrap();
    assert_eq!(json["name"], "D 12.pdf");

    object[CHUNK] ^= 1;
    let damaged = write("damaged", &object);
    assert!(open(&[&wrapped_file, &damaged]).is_err());
    let wrong = write("wrong", b"sesame");
    let arguments = [key_file.clone(), wrong, wrapped_file.clone(), object_file.clone()];
    assert!(example::open(&arguments, &mut Vec::new()).is_err());
    assert!(example::open(&[], &mut Vec::new()).is_err());
}
