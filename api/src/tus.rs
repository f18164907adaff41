//! The headers of tus 1.0.0: their names, for server and client, and their strict parsing, with limits.
//!
//! Pure: bytes in, values out. Fuzzed (`fuzz_targets/tus_headers.rs`). Must never panic, whatever the bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::collections::BTreeMap;

use crate::{ProblemCode, UploadId};

/// `tus-resumable`.
pub const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
/// `tus-version`.
pub const TUS_VERSION: HeaderName = HeaderName::from_static("tus-version");
/// `tus-extension`.
pub const TUS_EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
/// `tus-max-size`.
pub const TUS_MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
/// `tus-checksum-algorithm`.
pub const TUS_CHECKSUM_ALGORITHM: HeaderName = HeaderName::from_static("tus-checksum-algorithm");
/// `upload-offset`.
pub const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// `upload-length`.
pub const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
/// `upload-defer-length`.
pub const UPLOAD_DEFER_LENGTH: HeaderName = HeaderName::from_static("upload-defer-length");
/// `upload-metadata`.
pub const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
/// `upload-concat`.
pub const UPLOAD_CONCAT: HeaderName = HeaderName::from_static("upload-concat");
/// `upload-checksum`.
pub const UPLOAD_CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");
/// `upload-expires`.
pub const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
/// `x-http-method-override`.
pub const METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");

/// The protocol version spoken.
pub const VERSION: HeaderValue = HeaderValue::from_static("1.0.0");
/// The extensions offered.
pub const EXTENSIONS: HeaderValue = HeaderValue::from_static(
    "creation,creation-with-upload,creation-defer-length,checksum,expiration,termination,concatenation",
);
/// The algorithms of `Upload-Checksum` offered.
pub const CHECKSUM_ALGORITHMS: HeaderValue = HeaderValue::from_static("sha256,sha1");

/// The most bytes of an `Upload-Metadata` header.
const METADATA_MAX: usize = 8 << 10;
/// The most pairs of an `Upload-Metadata` header.
const METADATA_PAIRS: usize = 64;
/// The most parts of a concatenation.
pub const PARTS_MAX: usize = 1024;

/// A header that is refused: the problem, and one more sentence about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// The problem's code.
    pub code: ProblemCode,
    /// What is wrong, for the person at the other end.
    pub detail: Option<String>,
}

/// A parsed value, or why it is refused.
pub type Result<T> = std::result::Result<T, Refused>;

impl Refused {
    fn because(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self { code, detail: Some(detail.into()) }
    }

    const fn new(code: ProblemCode) -> Self {
        Self { code, detail: None }
    }
}

/// One header's value, refused when it is repeated: two values would be two meanings.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Refused::because(ProblemCode::BadMetadata, format!("En-tête répété : {name}.")));
    }
    Ok(first)
}

/// Checks `Tus-Resumable`.
///
/// # Errors
/// 412 unless it is exactly `1.0.0` (tus 1.0.0, core protocol).
pub fn resumable(headers: &HeaderMap) -> Result<()> {
    match single(headers, &TUS_RESUMABLE)? {
        Some(value) if value == VERSION => Ok(()),
        _ => Err(Refused::new(ProblemCode::TusVersion)),
    }
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Result<Option<u64>> {
    let Some(value) = single(headers, name)? else { return Ok(None) };
    let digits = value.as_bytes();
    // `u64::from_str` also takes a leading `+`, which no header has.
    let text = std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
    match text.and_then(|text| text.parse::<u64>().ok()).filter(|n| i64::try_from(*n).is_ok()) {
        Some(number) => Ok(Some(number)),
        None => Err(Refused::because(ProblemCode::BadMetadata, format!("Nombre attendu : {name}."))),
    }
}

/// `Upload-Offset`.
///
/// # Errors
/// 400 when absent or not a number.
pub fn offset(headers: &HeaderMap) -> Result<u64> {
    number(headers, &UPLOAD_OFFSET)?
        .ok_or_else(|| Refused::because(ProblemCode::BadMetadata, "En-tête absent : upload-offset."))
}

/// `Upload-Length`, if given.
///
/// # Errors
/// 400 when it is not a number.
pub fn length(headers: &HeaderMap) -> Result<Option<u64>> {
    number(headers, &UPLOAD_LENGTH)
}

/// The length at creation: a number, or `None` when it is deferred.
///
/// # Errors
/// 400 unless exactly one of `Upload-Length` and `Upload-Defer-Length: 1` is given.
pub fn creation_length(headers: &HeaderMap) -> Result<Option<u64>> {
    match (length(headers)?, single(headers, &UPLOAD_DEFER_LENGTH)?) {
        (Some(length), None) => Ok(Some(length)),
        (None, Some(value)) if value == "1" => Ok(None),
        _ => Err(Refused::because(
            ProblemCode::BadMetadata,
            "Indiquer la taille : upload-length, ou upload-defer-length: 1.",
        )),
    }
}

/// What `Upload-Concat` says of an upload.
#[derive(Debug, PartialEq, Eq)]
pub enum Concat {
    /// Absent: a document by itself.
    Whole,
    /// `partial`.
    Partial,
    /// `final;` and the parts in order.
    Final(Vec<UploadId>),
}

/// `Upload-Concat`. Parts may be given as absolute or relative addresses; the last path segment names them.
///
/// # Errors
/// 400 when it is malformed, names no part, one part twice, or more than [`PARTS_MAX`].
pub fn concat(headers: &HeaderMap) -> Result<Concat> {
    let malformed = || Refused::because(ProblemCode::BadMetadata, "En-tête mal formé : upload-concat.");
    let Some(value) = single(headers, &UPLOAD_CONCAT)? else { return Ok(Concat::Whole) };
    let text = value.to_str().map_err(|_| malformed())?;
    if text == "partial" {
        return Ok(Concat::Partial);
    }
    let list = text.strip_prefix("final;").ok_or_else(malformed)?;
    let mut parts = Vec::new();
    for address in list.split_ascii_whitespace() {
        let name = address.rsplit('/').next().unwrap_or(address);
        let id: UploadId = name.parse().map_err(|_| malformed())?;
        if parts.len() >= PARTS_MAX || parts.contains(&id) {
            return Err(malformed());
        }
        parts.push(id);
    }
    if parts.is_empty() { Err(malformed()) } else { Ok(Concat::Final(parts)) }
}

/// The pairs of `Upload-Metadata` that are UTF-8, and the header as it was given.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The header, given back by HEAD.
    pub header: String,
    /// Its pairs; values that are not UTF-8 are left out.
    pub pairs: BTreeMap<String, String>,
}

/// `Upload-Metadata` (tus 1.0.0, creation): comma-separated pairs of a key and a base64 value.
///
/// # Errors
/// 400 when it is malformed, repeats a key, or is over the limits.
pub fn metadata(headers: &HeaderMap) -> Result<Metadata> {
    let Some(value) = single(headers, &UPLOAD_METADATA)? else { return Ok(Metadata::default()) };
    metadata_of(value.as_bytes())
}

/// The pairs of an `Upload-Metadata` value.
///
/// # Errors
/// As [`metadata`].
pub fn metadata_of(value: &[u8]) -> Result<Metadata> {
    let refuse = |why: &str| Refused::because(ProblemCode::BadMetadata, format!("upload-metadata : {why}."));
    if value.len() > METADATA_MAX {
        return Err(refuse("trop long"));
    }
    if !value.is_ascii() {
        return Err(refuse("caractère non permis"));
    }
    let text = std::str::from_utf8(value).map_err(|_| refuse("caractère non permis"))?.trim();
    let mut seen = std::collections::BTreeSet::new();
    let mut pairs = BTreeMap::new();
    for pair in text.split(',').map(str::trim).filter(|_| !text.is_empty()) {
        let (key, encoded) = match pair.split_once(' ') {
            Some((key, encoded)) => (key, encoded.trim()),
            None => (pair, ""),
        };
        if key.is_empty() || key.len() > 128 || key.bytes().any(|b| !b.is_ascii_graphic()) {
            return Err(refuse("clé mal formée"));
        }
        if !seen.insert(key) || seen.len() > METADATA_PAIRS {
            return Err(refuse("clé répétée ou trop de clés"));
        }
        let bytes = STANDARD.decode(encoded).map_err(|_| refuse("valeur qui n'est pas en base64"))?;
        if let Ok(value) = String::from_utf8(bytes) {
            pairs.insert(key.to_owned(), value);
        }
    }
    Ok(Metadata { header: text.to_owned(), pairs })
}

/// The most characters of a document's name.
const NAME_MAX: usize = 1024;

/// A document's name as it is kept: relative, `/` between folders, nothing that could leave a folder
/// or forge a header or a terminal.
///
/// # Errors
/// 400 when there is no such name in it.
pub fn document_name(given: &str) -> Result<String> {
    let refuse = || Refused::because(ProblemCode::BadMetadata, "Nom de fichier absent ou non permis.");
    let name = given.replace('\\', "/");
    let hidden = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if name.chars().count() > NAME_MAX || name.chars().any(hidden) {
        return Err(refuse());
    }
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.is_empty() || parts.iter().any(|part| *part == ".." || part.trim().is_empty()) {
        return Err(refuse());
    }
    Ok(parts.join("/"))
}

/// A media type as it is kept: `application/octet-stream` when absent or not of the form `type/subtype`.
#[must_use]
pub fn media_type(given: Option<&String>) -> String {
    let token =
        |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b));
    let essence = given.map(|g| g.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    essence
        .filter(|e| e.len() <= 127 && e.split_once('/').is_some_and(|(a, b)| token(a) && token(b)))
        .unwrap_or_else(|| "application/octet-stream".to_owned())
}

/// An announced checksum, by its algorithm.
#[derive(Debug, PartialEq, Eq)]
pub enum Announced {
    /// SHA-256.
    Sha256([u8; 32]),
    /// SHA-1, which tus obliges servers to know.
    Sha1([u8; 20]),
}

/// `Upload-Checksum`, if given.
///
/// # Errors
/// 400 when it is malformed or of an algorithm that is not offered.
pub fn checksum(headers: &HeaderMap) -> Result<Option<Announced>> {
    let refuse = || Refused::new(ProblemCode::BadChecksum);
    let Some(value) = single(headers, &UPLOAD_CHECKSUM)? else { return Ok(None) };
    let text = value.to_str().map_err(|_| refuse())?;
    let (algorithm, encoded) = text.split_once(' ').ok_or_else(refuse)?;
    let expected = STANDARD.decode(encoded.trim()).map_err(|_| refuse())?;
    match algorithm {
        "sha256" => Ok(Some(Announced::Sha256(expected.try_into().map_err(|_| refuse())?))),
        "sha1" => Ok(Some(Announced::Sha1(expected.try_into().map_err(|_| refuse())?))),
        _ => Err(refuse()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        map
    }

    fn code<T>(result: Result<T>) -> ProblemCode {
        result.err().map(|refused| refused.code).unwrap()
    }

    #[test]
    fn metadata_as_tus_clients_write_it() {
        let meta =
            metadata_of(b"filename w6lub25jw6kucGRm,is_confidential,filetype YXBwbGljYXRpb24vcGRm").unwrap();
        assert_eq!(meta.pairs["filename"], "énoncé.pdf");
        assert_eq!(meta.pairs["is_confidential"], "");
        assert_eq!(metadata_of(b"").unwrap().pairs.len(), 0);
        for bad in ["a b c", "a !!!", ",", "a YQ==,a YQ==", "\u{e9} YQ=="] {
            assert_eq!(code(metadata_of(bad.as_bytes())), ProblemCode::BadMetadata, "{bad}");
        }
        assert_eq!(code(metadata_of(&[b'a'; METADATA_MAX + 1])), ProblemCode::BadMetadata);
    }

    #[test]
    fn numbers_are_digits_only_and_once() {
        assert_eq!(offset(&headers(&[("upload-offset", "12")])).unwrap(), 12);
        for bad in ["", "+1", "-1", "0x1", "1 ", "99999999999999999999", "9223372036854775808"] {
            assert_eq!(code(offset(&headers(&[("upload-offset", bad)]))), ProblemCode::BadMetadata, "{bad}");
        }
        let twice = headers(&[("upload-offset", "1"), ("upload-offset", "2")]);
        assert_eq!(code(offset(&twice)), ProblemCode::BadMetadata);
        let both = headers(&[("upload-length", "1"), ("upload-defer-length", "1")]);
        assert_eq!(code(creation_length(&both)), ProblemCode::BadMetadata);
        assert_eq!(creation_length(&headers(&[("upload-defer-length", "1")])).unwrap(), None);
    }

    #[test]
    fn concatenation_lists_each_part_once() {
        let (a, b) = (UploadId::new(), UploadId::new());
        let text = format!("final;/api/v1/uploads/{a} https://localhost/api/v1/uploads/{b}");
        assert_eq!(concat(&headers(&[("upload-concat", &text)])).unwrap(), Concat::Final(vec![a, b]));
        for bad in ["final;", "final", "partial;x", &format!("final;{a} {a}"), "final;/../x"] {
            assert_eq!(code(concat(&headers(&[("upload-concat", bad)]))), ProblemCode::BadMetadata, "{bad}");
        }
    }

    #[test]
    fn names_stay_inside_their_folder() {
        assert_eq!(document_name("/procédure//cote D1/./pv.pdf").unwrap(), "procédure/cote D1/pv.pdf");
        assert_eq!(document_name(r"C:\dossier\pv.pdf").unwrap(), "C:/dossier/pv.pdf");
        for bad in ["", "/", "..", "a/../b", "a\0b", "a\nb", "fdp\u{202e}.exe", " ", "a/ /b"] {
            assert_eq!(code(document_name(bad)), ProblemCode::BadMetadata, "{bad:?}");
        }
    }

    #[test]
    fn checksums_have_the_length_of_their_algorithm() {
        let value = format!("sha1 {}", STANDARD.encode([7; 20]));
        assert_eq!(
            checksum(&headers(&[("upload-checksum", &value)])).unwrap(),
            Some(Announced::Sha1([7; 20]))
        );
        assert_eq!(checksum(&HeaderMap::new()).unwrap(), None);
        for bad in ["md5 AAAA", "sha256", "sha256 AAAA", "sha1 ???", "sha256  "] {
            assert_eq!(
                code(checksum(&headers(&[("upload-checksum", bad)]))),
                ProblemCode::BadChecksum,
                "{bad}"
            );
        }
    }

    #[test]
    fn media_types_cannot_carry_more() {
        assert_eq!(media_type(Some(&"Application/PDF; charset=x".into())), "application/pdf");
        for odd in ["", "pdf", "a/b\r\nX: y", "text/html<script>", "a/"] {
            assert_eq!(media_type(Some(&odd.to_owned())), "application/octet-stream", "{odd:?}");
        }
    }
}
