//! HTTP Message Signatures (RFC 9421) with Ed25519, over the digest of the content (RFC 9530).
//!
//! Owns the form of what Pli signs: one fixed set of components. Reads no signature.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pli_api::Time;
use sha2::{Digest as _, Sha256};

use crate::fault::{Fault, Result};

/// What is signed of a request, in this order.
const COMPONENTS: &str = r#"("@method" "@target-uri" "content-type" "content-digest" "pli-delivery")"#;
/// Says what the signature is for, so that it cannot be taken for one of another use (RFC 9421, 2.3).
const TAG: &str = "pli-webhook";

/// A key that signs.
pub(crate) struct Signer(Ed25519KeyPair);

/// The fields to send.
pub(crate) struct Signed {
    pub(crate) content_digest: String,
    pub(crate) signature_input: String,
    pub(crate) signature: String,
}

/// The value of `Content-Digest` (RFC 9530, 2).
pub(crate) fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(body)))
}

impl Signer {
    /// The key of a seed (RFC 8032, 5.1.5).
    ///
    /// # Errors
    /// When it is no seed.
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Result<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|e| Fault::internal(e.to_string()))?;
        Ok(Self(pair))
    }

    /// The 32 octets of the public key.
    pub(crate) fn public_key(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    /// Signs a POST of JSON. `target` is the URL as it is sent; `keyid` and `delivery` hold no quote and no
    /// character outside of ASCII.
    pub(crate) fn sign(&self, target: &str, body: &[u8], delivery: &str, keyid: &str, now: Time) -> Signed {
        let content_digest = content_digest(body);
        let created = now.seconds();
        let parameters =
            format!("{COMPONENTS};created={created};keyid=\"{keyid}\";alg=\"ed25519\";tag=\"{TAG}\"");
        let base = format!(
            "\"@method\": POST\n\"@target-uri\": {target}\n\"content-type\": application/json\n\
             \"content-digest\": {content_digest}\n\"pli-delivery\": {delivery}\n\
             \"@signature-params\": {parameters}"
        );
        let signature = STANDARD.encode(self.0.sign(base.as_bytes()));
        Signed {
            content_digest,
            signature_input: format!("pli={parameters}"),
            signature: format!("pli=:{signature}:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    /// RFC 9530, appendix B.1: a JSON object and a line feed.
    #[test]
    fn the_digest_is_that_of_the_standard() {
        let expected = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
        assert_eq!(content_digest(b"{\"hello\": \"world\"}\n"), expected);
    }

    /// RFC 9421, B.2.6: the base of the standard's own Ed25519 example, signed with its key, gives its signature.
    #[test]
    fn the_primitive_is_that_of_the_standard() {
        // test-key-ed25519 (RFC 9421, B.1.4): the seed inside of its PKCS #8.
        let pkcs8 =
            STANDARD.decode("MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF").unwrap();
        let seed: [u8; 32] = pkcs8[16..].try_into().unwrap();
        let base = "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@method\": POST\n\"@path\": /foo\n\
                    \"@authority\": example.com\n\"content-type\": application/json\n\"content-length\": 18\n\
                    \"@signature-params\": (\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \
                    \"content-length\");created=1618884473;keyid=\"test-key-ed25519\"";
        let signature = STANDARD.encode(Signer::from_seed(&seed).unwrap().0.sign(base.as_bytes()));
        assert_eq!(
            signature,
            "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
        );
    }

    #[test]
    fn what_is_sent_is_what_is_signed() {
        let signer = Signer::from_seed(&[7; 32]).unwrap();
        let now = Time::from_micros(1_800_000_000_999_999);
        let signed = signer.sign("https://si.example/pli?a=b", b"{}", "d-1", "k-1", now);
        let parameters = signed.signature_input.strip_prefix("pli=").unwrap();
        assert!(
            parameters.ends_with(";created=1800000000;keyid=\"k-1\";alg=\"ed25519\";tag=\"pli-webhook\"")
        );
        let base = format!(
            "\"@method\": POST\n\"@target-uri\": https://si.example/pli?a=b\n\"content-type\": application/json\n\
             \"content-digest\": {}\n\"pli-delivery\": d-1\n\"@signature-params\": {parameters}",
            content_digest(b"{}")
        );
        let signature = signed.signature.strip_prefix("pli=:").unwrap().strip_suffix(':').unwrap();
        let key = UnparsedPublicKey::new(&ED25519, signer.public_key());
        key.verify(base.as_bytes(), &STANDARD.decode(signature).unwrap()).unwrap();
    }
}
