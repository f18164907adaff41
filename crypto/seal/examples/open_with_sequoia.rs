//! Opens what Pli stores with Sequoia alone: nothing of Pli is used here.
//!
//! ```text
//! cargo run -p pli-seal --example open_with_sequoia -- hub-secret.asc passphrase.txt WRAPPED OBJECT > content
//! ```
//!
//! The files after the passphrase are read one after the other as a single OpenPGP message: the wrapped
//! key (PKESK packets) and the segment's object, or one file that holds both. A manifest is a message as
//! it is; its signature is checked with the same key. The content goes to standard output, the verdict to
//! standard error.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use sequoia_openpgp::crypto::{Password, SessionKey};
use sequoia_openpgp::packet::{PKESK, SKESK};
use sequoia_openpgp::parse::Parse;
use sequoia_openpgp::parse::stream::{
    DecryptionHelper, DecryptorBuilder, MessageLayer, MessageStructure, VerificationHelper,
};
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::types::SymmetricAlgorithm;
use sequoia_openpgp::{Cert, KeyHandle};

struct Holder {
    secret: Cert,
    passphrase: Password,
}

impl VerificationHelper for Holder {
    fn get_certs(&mut self, _ids: &[KeyHandle]) -> sequoia_openpgp::Result<Vec<Cert>> {
        Ok(vec![self.secret.clone()])
    }

    fn check(&mut self, structure: MessageStructure<'_>) -> sequoia_openpgp::Result<()> {
        for layer in structure {
            match layer {
                MessageLayer::Encryption { sym_algo, aead_algo } => match aead_algo {
                    Some(mode) => eprintln!("encrypted with {sym_algo}, {mode}"),
                    None => eprintln!("encrypted with {sym_algo}"),
                },
                MessageLayer::SignatureGroup { results } => {
                    for result in results {
                        let good = result.map_err(|error| error.to_string()).map_err(io::Error::other)?;
                        eprintln!("signed by {}", good.ka.cert().fingerprint());
                    }
                }
                MessageLayer::Compression { algo } => eprintln!("compressed with {algo}"),
            }
        }
        Ok(())
    }
}

impl DecryptionHelper for Holder {
    fn decrypt(
        &mut self,
        pkesks: &[PKESK],
        _skesks: &[SKESK],
        sym_algo: Option<SymmetricAlgorithm>,
        decrypt: &mut dyn FnMut(Option<SymmetricAlgorithm>, &SessionKey) -> bool,
    ) -> sequoia_openpgp::Result<Option<Cert>> {
        for key in self.secret.keys().secret() {
            for pkesk in pkesks.iter().filter(|pkesk| pkesk.recipient() == Some(key.key().key_handle())) {
                let mut pair = key.key().clone().decrypt_secret(&self.passphrase)?.into_keypair()?;
                if let Some((algo, session_key)) = pkesk.decrypt(&mut pair, sym_algo)
                    && decrypt(algo, &session_key)
                {
                    return Ok(Some(self.secret.clone()));
                }
            }
        }
        Err(io::Error::other("the message is encrypted to another key").into())
    }
}

pub(crate) fn open(arguments: &[String], out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let [secret, passphrase, files @ ..] = arguments else {
        return Err("usage: open_with_sequoia SECRET-KEY PASSPHRASE-FILE FILE…".into());
    };
    if files.is_empty() {
        return Err("usage: open_with_sequoia SECRET-KEY PASSPHRASE-FILE FILE…".into());
    }
    let secret = Cert::from_file(secret)?;
    let passphrase = std::fs::read_to_string(passphrase)?;
    let passphrase = Password::from(passphrase.trim_end_matches(['\r', '\n']));
    let mut message = Vec::new();
    for file in files {
        message.append(&mut std::fs::read(file)?);
    }
    let policy = StandardPolicy::new();
    let holder = Holder { secret, passphrase };
    let mut content = DecryptorBuilder::from_bytes(&message)?.with_policy(&policy, None, holder)?;
    io::copy(&mut content, out)?;
    Ok(out.flush()?)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match open(&arguments, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("open_with_sequoia: {error}");
            ExitCode::FAILURE
        }
    }
}
