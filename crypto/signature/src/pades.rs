//! The seal inside a PDF: PAdES baseline B-B and B-T (ETSI EN 319 142-1), written and verified.
//!
//! The seal is an incremental update of the file: the bytes that were rendered stay as they are, and every
//! validator knows the form. Placing the field in the first revision was considered: it needs either a PDF
//! writer that leaves room for a signature, which ours does not, or a rewriting of its file, which would put
//! our own cross-reference table in place of one that is right.
//!
//! Sealing has steps, so that this crate needs no network: [`prepare`], [`Prepared::sign`], then, when there
//! is a timestamp authority, [`SealedPdf::timestamp_request`], the caller asks, [`SealedPdf::add_timestamp`],
//! and [`SealedPdf::finish`]. When the authority does not answer, `finish` gives a seal without a timestamp.
//!
//! [`verify`] is for seals of ours, and stricter than a judge may be: one seal, over every byte of the file
//! but its own value, hexadecimal digits as we write them, zeros after the CMS. It must never give out
//! content that the seal does not cover.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use pli_api::Time;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime};

use crate::algorithm::Digest;
use crate::certificate::{Certificate, Trust, anchored};
use crate::cms::{Binding, Content, Message};
use crate::error::{SignatureError, TimestampError};
use crate::pdf::{Dictionary, Object, Pdf, Value};
use crate::seal::SealKey;
use crate::timestamp::{TimestampRequest, TimestampToken};

/// Octets of a PDF that is sealed or verified.
pub const PDF_MAX: usize = 32 << 20;

/// Octets reserved for what a CMS holds beside its certificates.
const SIGNATURE_ROOM: usize = 2 << 10;
/// Octets reserved for a timestamp, whose certificates the authority chooses.
const TIMESTAMP_ROOM: usize = 16 << 10;
/// Depth of the page tree, and nodes looked at on the way to the first page.
const PAGE_DEPTH_MAX: usize = 16;
/// Width of the room for ByteRange: three numbers of ten digits and what stands around them.
const BYTE_RANGE_ROOM: usize = 40;
/// Attachments of one file.
const ATTACHMENTS_MAX: usize = 16;
/// Characters of a text in the signature dictionary.
const TEXT_MAX: usize = 256;

const FILTER: &[u8] = b"Adobe.PPKLite";
const SUB_FILTER: &[u8] = b"ETSI.CAdES.detached";

/// What a seal is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// PAdES B-B: the seal alone.
    BaselineB,
    /// PAdES B-T: with room for a timestamp over the seal.
    BaselineT,
}

/// What readers show beside the seal. Empty texts are left out.
#[derive(Debug, Clone, Default)]
pub struct Statement {
    /// Who seals: `/Name`.
    pub name: String,
    /// Why: `/Reason`.
    pub reason: String,
}

/// A PDF with an empty seal, ready to be signed.
pub struct Prepared<'s> {
    seal: &'s SealKey,
    pdf: Vec<u8>,
    gap: Range<usize>,
}

/// A signed PDF, to which a timestamp may still be added.
pub struct SealedPdf {
    pdf: Vec<u8>,
    gap: Range<usize>,
    message: Message,
}

/// Appends an invisible signature field to a PDF. `time` is what the seal claims (`/M`), cut to the second.
///
/// The file must be well formed, unencrypted, without a form of its own; its cross-references a table or a
/// stream. What conformed to PDF/A does so still.
///
/// # Errors
/// [`SignatureError::Pdf`] for a file of another form; [`SignatureError::NotValidThen`] when the seal's
/// certificate is not valid at `time`.
pub fn prepare<'s>(
    pdf: &[u8],
    seal: &'s SealKey,
    level: Level,
    statement: &Statement,
    time: Time,
) -> Result<Prepared<'s>, SignatureError> {
    seal.usable_at(time)?;
    let certificates: usize = seal.chain().iter().map(|one| one.der().len()).sum();
    let timestamp = if level == Level::BaselineT { TIMESTAMP_ROOM } else { 0 };
    let room = certificates.saturating_add(SIGNATURE_ROOM).saturating_add(timestamp);
    if pdf.len().saturating_add(room.saturating_mul(2)) > PDF_MAX {
        return Err(SignatureError::Limit("PDF"));
    }
    let (pdf, gap) = Update::new(pdf)?.write(room, statement, time)?;
    Ok(Prepared { seal, pdf, gap })
}

impl Prepared<'_> {
    /// The digest that will be signed: of the file without the room for the seal.
    #[must_use]
    pub fn digest(&self) -> Vec<u8> {
        let (before, after) = around(&self.pdf, &self.gap);
        self.seal.digest().of(&[before, after])
    }

    /// Signs.
    ///
    /// # Errors
    /// [`SignatureError::Library`].
    pub fn sign(self) -> Result<SealedPdf, SignatureError> {
        let message = Message::sign(self.seal, &self.digest())?;
        Ok(SealedPdf { pdf: self.pdf, gap: self.gap, message })
    }
}

impl SealedPdf {
    /// The request for a timestamp over the signature value (PAdES B-T; CAdES signature-time-stamp). `nonce`
    /// must be fresh and random.
    ///
    /// # Errors
    /// [`SignatureError::Library`].
    pub fn timestamp_request(&self, nonce: [u8; 16]) -> Result<TimestampRequest, SignatureError> {
        TimestampRequest::new(self.message.signature()?, nonce)
    }

    /// Adds the timestamp that answered [`SealedPdf::timestamp_request`]. After an error the seal is as it was.
    ///
    /// # Errors
    /// [`TimestampError::Imprint`] when it is for something else; [`SignatureError::Room`] when it does not
    /// fit.
    pub fn add_timestamp(&mut self, token: &TimestampToken) -> Result<(), SignatureError> {
        if !token.is_over(self.message.signature()?) {
            return Err(TimestampError::Imprint.into());
        }
        let mut message = self.message.clone();
        message.set_timestamp(token.der())?;
        self.fitting(&message)?;
        self.message = message;
        Ok(())
    }

    /// The CMS in DER, when it fits in the room.
    fn fitting(&self, message: &Message) -> Result<Vec<u8>, SignatureError> {
        let cms = message.to_der()?;
        let reserved = self.gap.len().saturating_sub(2) / 2;
        if cms.len() > reserved {
            return Err(SignatureError::Room { needed: cms.len(), reserved });
        }
        Ok(cms)
    }

    /// The sealed file.
    ///
    /// # Errors
    /// [`SignatureError::Room`].
    pub fn finish(mut self) -> Result<Vec<u8>, SignatureError> {
        let cms = self.fitting(&self.message)?;
        // The room was written as zeros: what follows the CMS stays so.
        let start = self.gap.start.saturating_add(1);
        let room = self.pdf.get_mut(start..).unwrap_or_default();
        for (to, digit) in room.iter_mut().zip(hex_digits(&cms)) {
            *to = digit;
        }
        Ok(self.pdf)
    }
}

fn hex_digits(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let digit = |nibble: u8| {
        if nibble < 10 { b'0'.wrapping_add(nibble) } else { b'a'.wrapping_add(nibble).wrapping_sub(10) }
    };
    bytes.iter().flat_map(move |byte| [digit(byte >> 4), digit(byte & 15)])
}

fn hex(bytes: &[u8]) -> String {
    hex_digits(bytes).map(char::from).collect()
}

fn around<'a>(pdf: &'a [u8], gap: &Range<usize>) -> (&'a [u8], &'a [u8]) {
    (pdf.get(..gap.start).unwrap_or_default(), pdf.get(gap.end..).unwrap_or_default())
}

/// The incremental update that carries the seal.
struct Update<'a> {
    pdf: Pdf<'a>,
    out: Vec<u8>,
    /// Number, generation and place of each object that was written.
    written: Vec<(u32, u16, usize)>,
}

impl<'a> Update<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, SignatureError> {
        let pdf = Pdf::read(bytes)?;
        let mut out = Vec::with_capacity(bytes.len().saturating_add(64 << 10));
        out.extend_from_slice(bytes);
        if !bytes.ends_with(b"\n") {
            out.push(b'\n');
        }
        Ok(Self { pdf, out, written: Vec::new() })
    }

    fn object(&mut self, (number, generation): (u32, u16), text: &[u8]) {
        self.written.push((number, generation, self.out.len()));
        self.out.extend_from_slice(format!("{number} {generation} obj\n").as_bytes());
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\nendobj\n");
    }

    fn write(
        mut self,
        room: usize,
        statement: &Statement,
        time: Time,
    ) -> Result<(Vec<u8>, Range<usize>), SignatureError> {
        let size = self.pdf.trailer().integer("Size").and_then(|size| u32::try_from(size).ok());
        let size = size.filter(|size| *size > 0).ok_or(SignatureError::Pdf("Size"))?;
        let [field, appearance, signature] = [0, 1, 2].map(|step| size.saturating_add(step));
        let root = self.pdf.trailer().reference("Root").ok_or(SignatureError::Pdf("Root"))?;
        let catalog = self.pdf.object(root)?;
        if catalog.dictionary()?.get("AcroForm").is_some() {
            return Err(SignatureError::Pdf("a form is there already"));
        }
        let form = format!("/AcroForm<</Fields[{field} 0 R]/SigFlags 3>>");
        let catalog = with_entry(self.pdf.text(&catalog), &form)?;
        let (page, content) = first_page(&self.pdf, root)?;
        let page_text = with_annotation(&self.pdf, &content, field)?;

        self.object(root, &catalog);
        self.object(page, &page_text);
        // Invisible: no extent. Printed (ISO 19005-3, 6.3.2) and locked. An appearance is not asked of a widget
        // without extent (6.3.3), but some validators want one all the same.
        let widget = format!(
            "<</Type/Annot/Subtype/Widget/FT/Sig/T(Cachet)/F 132/Rect[0 0 0 0]/P {} {} R/AP<</N {appearance} 0 R>>/V {signature} 0 R>>",
            page.0, page.1
        );
        self.object((field, 0), widget.as_bytes());
        let form = "<</Type/XObject/Subtype/Form/BBox[0 0 0 0]/Resources<<>>/Length 0>>\nstream\n\nendstream";
        self.object((appearance, 0), form.as_bytes());
        let (byte_range, gap) = self.signature((signature, 0), room, statement, time)?;
        self.sections(signature.saturating_add(1), time)?;

        let after = self.out.len().checked_sub(gap.end).ok_or(SignatureError::Pdf("length"))?;
        let range = format!("[0 {} {} {after}]", gap.start, gap.end);
        let place = self.out.get_mut(byte_range).unwrap_or_default();
        if range.len() > place.len() {
            return Err(SignatureError::Limit("PDF"));
        }
        for (to, from) in place.iter_mut().zip(range.bytes()) {
            *to = from;
        }
        Ok((self.out, gap))
    }

    /// The signature dictionary (ISO 32000-1, 12.8.1), its ByteRange and Contents still empty.
    fn signature(
        &mut self,
        number: (u32, u16),
        room: usize,
        statement: &Statement,
        time: Time,
    ) -> Result<(Range<usize>, Range<usize>), SignatureError> {
        let mut text = format!(
            "<</Type/Sig/Filter/{}/SubFilter/{}/M({})",
            String::from_utf8_lossy(FILTER),
            String::from_utf8_lossy(SUB_FILTER),
            pdf_date(time)?
        );
        for (key, value) in [("Name", &statement.name), ("Reason", &statement.reason)] {
            if value.chars().count() > TEXT_MAX {
                return Err(SignatureError::Limit("text"));
            }
            if !value.is_empty() {
                text.push_str(&format!("/{key} {}", text_string(value)));
            }
        }
        text.push_str("/ByteRange ");
        let byte_range = text.len();
        text.push_str(&" ".repeat(BYTE_RANGE_ROOM));
        text.push_str("/Contents ");
        let contents = text.len();
        text.push('<');
        text.push_str(&"0".repeat(room.saturating_mul(2)));
        text.push('>');
        let contents_end = text.len();
        text.push_str(">>");

        let before = self.out.len();
        self.object(number, text.as_bytes());
        let head = format!("{} {} obj\n", number.0, number.1).len();
        let place = |at: usize| before.saturating_add(head).saturating_add(at);
        Ok((
            place(byte_range)..place(byte_range.saturating_add(BYTE_RANGE_ROOM)),
            place(contents)..place(contents_end),
        ))
    }

    /// The cross-reference section and trailer, of the kind that the file has (ISO 32000-1, 7.5.4, 7.5.8).
    fn sections(&mut self, size: u32, time: Time) -> Result<(), SignatureError> {
        let at = self.out.len();
        let is_stream = self.pdf.newest_is_stream();
        if is_stream {
            self.written.push((size, 0, at));
        }
        self.written.sort_unstable();
        let size_after = if is_stream { size.saturating_add(1) } else { size };
        let mut trailer = format!("/Size {size_after}/Prev {}", self.pdf.start());
        for key in ["Root", "Info"] {
            if let Some((number, generation)) = self.pdf.trailer().reference(key) {
                trailer.push_str(&format!("/{key} {number} {generation} R"));
            }
        }
        trailer.push_str(&format!("/ID[{}<{}>]", self.first_identifier()?, self.new_identifier(time)));

        if is_stream {
            let mut index = String::new();
            let mut rows = Vec::new();
            for (number, generation, place) in &self.written {
                index.push_str(&format!(" {number} 1"));
                rows.push(1);
                rows.extend_from_slice(&u32::try_from(*place).unwrap_or(u32::MAX).to_be_bytes());
                rows.extend_from_slice(&generation.to_be_bytes());
            }
            let head = format!(
                "{size} 0 obj\n<</Type/XRef/W[1 4 2]/Index[{}]/Length {}{trailer}>>\nstream\n",
                index.trim_start(),
                rows.len()
            );
            self.out.extend_from_slice(head.as_bytes());
            self.out.extend_from_slice(&rows);
            self.out.extend_from_slice(b"\nendstream\nendobj\n");
        } else {
            let mut table = String::from("xref\n");
            for run in self.written.chunk_by(|one, next| one.0.checked_add(1) == Some(next.0)) {
                let first = run.first().map_or(0, |entry| entry.0);
                table.push_str(&format!("{first} {}\n", run.len()));
                for (_, generation, place) in run {
                    table.push_str(&format!("{place:010} {generation:05} n \n"));
                }
            }
            table.push_str(&format!("trailer\n<<{trailer}>>\n"));
            self.out.extend_from_slice(table.as_bytes());
        }
        self.out.extend_from_slice(format!("startxref\n{at}\n%%EOF\n").as_bytes());
        Ok(())
    }

    /// As it is written: it stays the same for the life of the file (ISO 32000-1, 14.4).
    fn first_identifier(&self) -> Result<String, SignatureError> {
        const NONE: SignatureError = SignatureError::Pdf("ID");
        let Some(Value::Array(items)) = self.pdf.trailer().get("ID").map(|item| &item.value) else {
            return Err(NONE);
        };
        match items.first().map(|item| &item.value) {
            Some(Value::String(identifier)) => Ok(format!("<{}>", hex(identifier))),
            _ => Err(NONE),
        }
    }

    fn new_identifier(&self, time: Time) -> String {
        let digest = Digest::Sha256.of(&[self.pdf.bytes(), &time.micros().to_be_bytes()]);
        hex(digest.get(..16).unwrap_or_default())
    }
}

/// A dictionary's text with one more entry before its end.
fn with_entry(text: &[u8], entry: &str) -> Result<Vec<u8>, SignatureError> {
    let start = text.strip_suffix(b">>").ok_or(SignatureError::Pdf("a dictionary without an end"))?;
    Ok([start, entry.as_bytes(), b">>"].concat())
}

fn first_page(pdf: &Pdf<'_>, root: (u32, u16)) -> Result<((u32, u16), Object), SignatureError> {
    const NONE: SignatureError = SignatureError::Pdf("no first page");
    let mut number = pdf.object(root)?.dictionary()?.reference("Pages").ok_or(NONE)?;
    for _ in 0..PAGE_DEPTH_MAX {
        let node = pdf.object(number)?;
        match node.dictionary()?.name("Type") {
            Some(b"Page") => return Ok((number, node)),
            Some(b"Pages") => {}
            _ => return Err(NONE),
        }
        let Some(Value::Array(kids)) = node.dictionary()?.get("Kids").map(|item| &item.value) else {
            return Err(NONE);
        };
        match kids.first().map(|item| &item.value) {
            Some(Value::Reference(kid, generation)) => number = (*kid, *generation),
            _ => return Err(NONE),
        }
    }
    Err(SignatureError::Limit("depth of the page tree"))
}

/// The page's text with the widget among its annotations.
fn with_annotation(pdf: &Pdf<'_>, page: &Object, field: u32) -> Result<Vec<u8>, SignatureError> {
    let text = pdf.text(page);
    match page.dictionary()?.get("Annots") {
        None => with_entry(text, &format!("/Annots[{field} 0 R]")),
        Some(annotations) if matches!(annotations.value, Value::Array(_)) => {
            // The array ends with its bracket.
            let end = annotations.span.end.saturating_sub(page.item.span.start).saturating_sub(1);
            let (before, after) = text.split_at_checked(end).ok_or(SignatureError::Pdf("Annots"))?;
            Ok([before, format!(" {field} 0 R").as_bytes(), after].concat())
        }
        Some(_) => Err(SignatureError::Pdf("annotations in an object of their own")),
    }
}

/// A text string: UTF-16BE with its mark (ISO 32000-1, 7.9.2.2), in hexadecimal.
fn text_string(text: &str) -> String {
    let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    format!("<feff{}>", hex(&units))
}

/// `D:20261127225933+00'00'` (ISO 32000-1, 7.9.4).
fn pdf_date(time: Time) -> Result<String, SignatureError> {
    let date = OffsetDateTime::from_unix_timestamp(time.seconds())
        .ok()
        .filter(|date| (1970..=9999).contains(&date.year()))
        .ok_or(SignatureError::Time)?;
    Ok(format!(
        "D:{:04}{:02}{:02}{:02}{:02}{:02}+00'00'",
        date.year(),
        u8::from(date.month()),
        date.day(),
        date.hour(),
        date.minute(),
        date.second()
    ))
}

/// Reads what [`pdf_date`] writes.
fn read_pdf_date(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?.strip_prefix("D:")?.strip_suffix("+00'00'")?;
    if text.len() != 14 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |range| text.get(range).and_then(|digits: &str| digits.parse::<u8>().ok());
    let year = text.get(..4)?.parse().ok()?;
    let date = Date::from_calendar_date(year, Month::try_from(number(4..6)?).ok()?, number(6..8)?).ok()?;
    let time = time::Time::from_hms(number(8..10)?, number(10..12)?, number(12..14)?).ok()?;
    let seconds = PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp();
    Some(Time::from_micros(seconds.checked_mul(1_000_000)?))
}

/// A sealed file whose seal holds.
pub struct Verified<'a> {
    pdf: Pdf<'a>,
    signer: Certificate,
    claimed: Time,
    timestamp: Option<TimestampToken>,
}

/// A file that was embedded in a sealed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its media type.
    pub media_type: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// Verifies a file that [`SealedPdf::finish`] made: that the one seal covers every byte but its own value and
/// that nothing follows; the CMS; that the signer is a certificate of `trust.seals`, or directly issued by
/// one, valid at the time that counts: of the timestamp when there is one, else the time that the seal claims.
///
/// A timestamp that is there must be good, by an authority of `trust.timestamps`.
///
/// # Errors
/// A [`SignatureError`] that says what does not hold.
pub fn verify<'a>(bytes: &'a [u8], trust: &Trust) -> Result<Verified<'a>, SignatureError> {
    if bytes.len() > PDF_MAX {
        return Err(SignatureError::Limit("PDF"));
    }
    let pdf = Pdf::read(bytes)?;
    let signature = signature_object(&pdf)?;
    let dictionary = signature.dictionary()?;
    if dictionary.name("Filter") != Some(FILTER) || dictionary.name("SubFilter") != Some(SUB_FILTER) {
        return Err(SignatureError::Coverage("a signature of another kind"));
    }
    let claimed = dictionary.string("M").and_then(read_pdf_date).ok_or(SignatureError::Coverage("M"))?;
    let gap = exact_gap(&pdf, dictionary)?;
    let cms = contents(bytes.get(gap.clone()).unwrap_or_default())?;

    let (before, after) = around(bytes, &gap);
    let message = Message::from_der(&cms)?;
    let checked = message.check(Content::Detached(&[before, after]), Binding::V2)?;
    message.check_own_form(&checked.signer)?;
    let timestamp = match &checked.timestamp {
        None => None,
        Some(token) => Some(TimestampToken::verify(token, &checked.signature, &trust.timestamps)?),
    };
    let time = timestamp.as_ref().map_or(claimed, TimestampToken::time);
    anchored(&checked.signer, &trust.seals, time)?;
    Ok(Verified { pdf, signer: checked.signer, claimed, timestamp })
}

/// The signature dictionary of the one field of the form.
fn signature_object(pdf: &Pdf<'_>) -> Result<Object, SignatureError> {
    let catalog = pdf.referred(pdf.trailer(), "Root")?;
    if catalog.dictionary()?.get("AcroForm").is_none() {
        return Err(SignatureError::NoSeal);
    }
    let form = pdf.dictionary(catalog.dictionary()?, "AcroForm")?;
    let field = match form.get("Fields").map(|item| &item.value) {
        Some(Value::Array(fields)) => match fields.as_slice() {
            [] => return Err(SignatureError::NoSeal),
            [one] => match one.value {
                Value::Reference(number, generation) => pdf.object((number, generation))?,
                _ => return Err(SignatureError::Pdf("Fields")),
            },
            _ => return Err(SignatureError::Coverage("more than one field")),
        },
        _ => return Err(SignatureError::Pdf("Fields")),
    };
    if field.dictionary()?.name("FT") != Some(b"Sig") {
        return Err(SignatureError::NoSeal);
    }
    let signature = pdf.referred(field.dictionary()?, "V")?;
    if signature.in_file() { Ok(signature) } else { Err(SignatureError::Coverage("a packed signature")) }
}

/// Where `/Contents` stands, when ByteRange leaves out exactly this and nothing else of the file.
fn exact_gap(pdf: &Pdf<'_>, signature: &Dictionary) -> Result<Range<usize>, SignatureError> {
    let contents = signature.get("Contents").ok_or(SignatureError::Coverage("no Contents"))?;
    let Some(Value::Array(range)) = signature.get("ByteRange").map(|item| &item.value) else {
        return Err(SignatureError::Coverage("no ByteRange"));
    };
    let gap = contents.span.clone();
    let after = pdf.bytes().len().saturating_sub(gap.end);
    let expected = [0, gap.start, gap.end, after].map(|place| i64::try_from(place).ok());
    let found: Vec<Option<i64>> = range
        .iter()
        .map(|item| match item.value {
            Value::Integer(integer) => Some(integer),
            _ => None,
        })
        .collect();
    if found == expected && !found.contains(&None) {
        Ok(gap)
    } else {
        Err(SignatureError::Coverage("ByteRange"))
    }
}

/// The CMS out of `<…>`: lowercase digits, and nothing but zeros after it, so that one seal has one form.
fn contents(text: &[u8]) -> Result<Vec<u8>, SignatureError> {
    const FORM: SignatureError = SignatureError::Coverage("Contents");
    let digits = text.strip_prefix(b"<").and_then(|text| text.strip_suffix(b">")).ok_or(FORM)?;
    let nibble = |digit: &u8| match digit {
        b'0'..=b'9' => Ok(digit.wrapping_sub(b'0')),
        b'a'..=b'f' => Ok(digit.wrapping_sub(b'a').wrapping_add(10)),
        _ => Err(FORM),
    };
    let mut octets = Vec::with_capacity(digits.len() / 2);
    for pair in digits.chunks(2) {
        let [high, low] = pair else { return Err(FORM) };
        octets.push(nibble(high)? << 4 | nibble(low)?);
    }
    let length = der_length(&octets).ok_or(SignatureError::Cms("not a ContentInfo in DER"))?;
    if octets.get(length..).is_none_or(|padding| padding.iter().any(|octet| *octet != 0)) {
        return Err(FORM);
    }
    octets.truncate(length);
    Ok(octets)
}

/// The length of the DER element at the start, head included.
fn der_length(octets: &[u8]) -> Option<usize> {
    let first = *octets.get(1)?;
    let (head, body) = if first < 0x80 {
        (2, usize::from(first))
    } else {
        let count = usize::from(first & 0x7F);
        if !(1..=4).contains(&count) {
            return None;
        }
        let head = count.checked_add(2)?;
        let body = octets.get(2..head)?.iter().fold(0_usize, |body, octet| body << 8 | usize::from(*octet));
        (head, body)
    };
    head.checked_add(body)
}

impl Verified<'_> {
    /// The certificate that sealed.
    #[must_use]
    pub fn signer(&self) -> &Certificate {
        &self.signer
    }

    /// The time that the seal claims: the hub's own word.
    #[must_use]
    pub fn claimed_time(&self) -> Time {
        self.claimed
    }

    /// The timestamp: a third party's word that the seal was there at its time.
    #[must_use]
    pub fn timestamp(&self) -> Option<&TimestampToken> {
        self.timestamp.as_ref()
    }

    /// The one associated file (ISO 19005-3, 6.8) of this name, of `most` octets at most.
    ///
    /// # Errors
    /// [`SignatureError::Attachment`] when there is none, or more than one; [`SignatureError::Pdf`];
    /// [`SignatureError::Limit`] when it is longer.
    pub fn attachment(&self, name: &str, most: usize) -> Result<Attachment, SignatureError> {
        attachment(&self.pdf, name, most)
    }
}

/// The associated file of this name, of a file whose seal holds.
fn attachment(pdf: &Pdf<'_>, name: &str, most: usize) -> Result<Attachment, SignatureError> {
    let catalog = pdf.referred(pdf.trailer(), "Root")?;
    let files = match catalog.dictionary()?.get("AF").map(|item| &item.value) {
        Some(Value::Array(files)) => files.clone(),
        Some(&Value::Reference(number, generation)) => match pdf.object((number, generation))?.item.value {
            Value::Array(files) => files,
            _ => return Err(SignatureError::Pdf("AF")),
        },
        _ => return Err(SignatureError::Attachment("none")),
    };
    if files.len() > ATTACHMENTS_MAX {
        return Err(SignatureError::Limit("attachments"));
    }
    let mut found = None;
    for file in &files {
        let Value::Reference(number, generation) = file.value else {
            return Err(SignatureError::Pdf("AF"));
        };
        let specification = pdf.object((number, generation))?;
        let specification = specification.dictionary()?.clone();
        let named = specification.string("UF").or_else(|| specification.string("F"));
        if named.is_some_and(|named| is_text(named, name)) && found.replace(specification).is_some() {
            return Err(SignatureError::Attachment("two of this name"));
        }
    }
    let specification = found.ok_or(SignatureError::Attachment("none of this name"))?;
    let streams = pdf.dictionary(&specification, "EF")?;
    let stream = pdf.referred(&streams, "F")?;
    let content = pdf.decoded(&stream, most)?;
    let dictionary = stream.dictionary()?;
    let size = pdf.dictionary(dictionary, "Params")?.integer("Size");
    if size != i64::try_from(content.len()).ok() {
        return Err(SignatureError::Attachment("of another size than it says"));
    }
    let media_type = String::from_utf8_lossy(dictionary.name("Subtype").unwrap_or_default()).into_owned();
    Ok(Attachment { media_type, content })
}

/// Whether a text string of the file is this text; of the legacy encoding only ASCII is known.
fn is_text(string: &[u8], text: &str) -> bool {
    match string.strip_prefix(&[0xFE, 0xFF]) {
        Some(units) => units.iter().copied().eq(text.encode_utf16().flat_map(u16::to_be_bytes)),
        None => text.is_ascii() && string == text.as_bytes(),
    }
}

/// Reads all that [`prepare`] and [`verify`] read of a file, without a seal in front.
#[cfg(fuzzing)]
pub(crate) fn read_everything(bytes: &[u8]) {
    let Ok(pdf) = Pdf::read(bytes) else { return };
    if let Ok(signature) = signature_object(&pdf)
        && let Ok(dictionary) = signature.dictionary()
        && let Ok(gap) = exact_gap(&pdf, dictionary)
    {
        let cms = contents(bytes.get(gap).unwrap_or_default());
        let _ = cms.and_then(|cms| Message::from_der(&cms)).and_then(|message| {
            let checked = message.check(Content::Detached(&[bytes]), Binding::V2)?;
            message.check_own_form(&checked.signer)
        });
    }
    let _ = attachment(&pdf, "recu.json", 1 << 20);
    if let Some(root) = pdf.trailer().reference("Root")
        && let Ok((_, page)) = first_page(&pdf, root)
    {
        let _ = with_annotation(&pdf, &page, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_come_back() {
        let time = Time::from_micros(1_795_820_373_000_000);
        assert_eq!(pdf_date(time).unwrap(), "D:20261127225933+00'00'");
        assert_eq!(read_pdf_date(b"D:20261127225933+00'00'"), Some(time));
        assert_eq!(read_pdf_date(b"D:20261127225933Z"), None);
        assert_eq!(pdf_date(Time::from_micros(i64::MIN)), Err(SignatureError::Time));
    }

    #[test]
    fn contents_have_one_form() {
        assert_eq!(contents(b"<30010a0000>"), Ok(vec![0x30, 1, 0x0A]));
        for other in [
            "<30010A0000>",
            "<30010a0001>",
            "<30010a000>",
            "<3001 0a00>",
            "<300>",
            "30010a",
            "<>",
            "<30850a>",
        ] {
            assert!(contents(other.as_bytes()).is_err(), "{other}");
        }
    }
}
