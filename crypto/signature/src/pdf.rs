//! A minimal reader of PDF files (ISO 32000-1) as we make them: enough to find the trailer, the catalog, the
//! first page, the signature field and an embedded file.
//!
//! It follows the cross-reference sections from the last `startxref` and never searches a damaged file for
//! objects. It is not the strict parser that judges the reports of others: that is to be a crate of its
//! own (`crypto/pdf`), with every revision and lexical fact. What it does not know it refuses. It must
//! never panic, loop or allocate without bound on any input.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;

use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use crate::error::SignatureError;

/// Nesting of arrays and dictionaries.
const DEPTH_MAX: usize = 32;
/// Cross-reference sections of one file.
const SECTIONS_MAX: usize = 16;
/// Number of the highest object.
const OBJECT_MAX: u32 = 1_000_000;
/// Objects that are looked up in one file, so that many references cannot make much work of few bytes.
const LOOKUPS_MAX: u32 = 64;
/// Values in one object, so that the memory is bounded: a value takes some 80 octets, and may be written in two.
const VALUES_MAX: u32 = 200_000;
/// Octets of an inflated cross-reference or object stream.
const TABLE_MAX: usize = 4 << 20;

type Result<T> = std::result::Result<T, SignatureError>;

fn refused<T>(what: &'static str) -> Result<T> {
    Err(SignatureError::Pdf(what))
}

/// A value and where it stands in the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    pub(crate) value: Value,
    pub(crate) span: Range<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Boolean,
    Integer(i64),
    Real,
    /// A literal or hexadecimal string, decoded.
    String(Vec<u8>),
    Name(Vec<u8>),
    Array(Vec<Item>),
    Dictionary(Dictionary),
    Reference(u32, u16),
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Dictionary(Vec<(Vec<u8>, Item)>);

impl Dictionary {
    pub(crate) fn get(&self, key: &str) -> Option<&Item> {
        self.0.iter().find(|(name, _)| name == key.as_bytes()).map(|(_, item)| item)
    }

    pub(crate) fn name(&self, key: &str) -> Option<&[u8]> {
        match self.get(key).map(|item| &item.value) {
            Some(Value::Name(name)) => Some(name),
            _ => None,
        }
    }

    pub(crate) fn string(&self, key: &str) -> Option<&[u8]> {
        match self.get(key).map(|item| &item.value) {
            Some(Value::String(string)) => Some(string),
            _ => None,
        }
    }

    pub(crate) fn integer(&self, key: &str) -> Option<i64> {
        match self.get(key).map(|item| &item.value) {
            Some(Value::Integer(integer)) => Some(*integer),
            _ => None,
        }
    }

    pub(crate) fn reference(&self, key: &str) -> Option<(u32, u16)> {
        match self.get(key).map(|item| &item.value) {
            Some(Value::Reference(number, generation)) => Some((*number, *generation)),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Entry {
    Free,
    At(usize, u16),
    Within(u32, usize),
}

/// An indirect object.
pub(crate) struct Object {
    pub(crate) item: Item,
    /// The raw octets of the stream, when it is one.
    pub(crate) stream: Option<Range<usize>>,
    /// Its text, when it stands inside an object stream: then spans do not tell places in the file.
    unpacked: Option<Vec<u8>>,
}

impl Object {
    pub(crate) fn in_file(&self) -> bool {
        self.unpacked.is_none()
    }

    pub(crate) fn dictionary(&self) -> Result<&Dictionary> {
        match &self.item.value {
            Value::Dictionary(dictionary) => Ok(dictionary),
            _ => refused("an object that should be a dictionary"),
        }
    }
}

/// A file whose cross-reference sections have been read.
pub(crate) struct Pdf<'a> {
    bytes: &'a [u8],
    entries: BTreeMap<u32, Entry>,
    trailer: Dictionary,
    start: usize,
    sections: usize,
    newest_is_stream: bool,
    lookups: Cell<u32>,
}

impl<'a> Pdf<'a> {
    /// Reads the end of the file and its cross-reference sections. Nothing but one end of line may stand
    /// after the last `%%EOF`.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self> {
        if !bytes.starts_with(b"%PDF-") {
            return refused("no header at the start");
        }
        let start = start_of_sections(bytes)?;
        let mut pdf = Self {
            bytes,
            entries: BTreeMap::new(),
            trailer: Dictionary::default(),
            start,
            sections: 0,
            newest_is_stream: false,
            lookups: Cell::new(0),
        };
        let mut next = Some(start);
        let mut before = bytes.len();
        while let Some(at) = next {
            // Each section lies before the one that names it: there is no loop.
            if at >= before {
                return refused("cross-reference sections out of order");
            }
            if pdf.sections >= SECTIONS_MAX {
                return Err(SignatureError::Limit("cross-reference sections"));
            }
            let (trailer, is_stream) = pdf.read_section(at)?;
            before = at;
            next = match trailer.get("Prev").map(|item| &item.value) {
                None => None,
                Some(Value::Integer(at)) => Some(offset(*at)?),
                Some(_) => return refused("Prev"),
            };
            if trailer.get("XRefStm").is_some() {
                return refused("hybrid cross-references");
            }
            if trailer.get("Encrypt").is_some() {
                return refused("encryption");
            }
            if pdf.sections == 0 {
                pdf.trailer = trailer;
                pdf.newest_is_stream = is_stream;
            }
            pdf.sections = pdf.sections.saturating_add(1);
        }
        Ok(pdf)
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How an object's value is written, without the words around it.
    pub(crate) fn text<'b>(&'b self, object: &'b Object) -> &'b [u8] {
        match &object.unpacked {
            Some(text) => text,
            None => self.bytes.get(object.item.span.clone()).unwrap_or_default(),
        }
    }

    pub(crate) fn trailer(&self) -> &Dictionary {
        &self.trailer
    }

    /// Where the newest cross-reference section starts.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    pub(crate) fn newest_is_stream(&self) -> bool {
        self.newest_is_stream
    }

    fn read_section(&mut self, at: usize) -> Result<(Dictionary, bool)> {
        let mut lexer = Lexer::new(self.bytes, at);
        if lexer.keyword(b"xref") {
            Ok((self.read_table(lexer)?, false))
        } else {
            Ok((self.read_xref_stream(at)?, true))
        }
    }

    /// ISO 32000-1, 7.5.4.
    fn read_table(&mut self, mut lexer: Lexer<'a>) -> Result<Dictionary> {
        lexer.skip_space();
        while !lexer.keyword(b"trailer") {
            let (Some(first), Some(count)) = (lexer.digits(), lexer.digits()) else {
                return refused("cross-reference subsection");
            };
            lexer.skip_space();
            // An entry has 20 octets: a count that the file cannot hold ends the loop by itself.
            for index in 0..count {
                let end = lexer.at.checked_add(20).ok_or(SignatureError::Pdf("length"))?;
                let entry =
                    self.bytes.get(lexer.at..end).ok_or(SignatureError::Pdf("cross-reference entry"))?;
                let number = u32::try_from(first.saturating_add(index)).unwrap_or(u32::MAX);
                self.insert(number, table_entry(entry)?)?;
                lexer.at = end;
            }
            lexer.skip_space();
        }
        match lexer.item(0)?.value {
            Value::Dictionary(trailer) => Ok(trailer),
            _ => refused("trailer"),
        }
    }

    /// ISO 32000-1, 7.5.8.
    fn read_xref_stream(&mut self, at: usize) -> Result<Dictionary> {
        let object = self.object_at(at, None)?;
        let dictionary = object.dictionary()?.clone();
        if dictionary.name("Type") != Some(b"XRef") {
            return refused("cross-reference stream");
        }
        let table = self.decoded(&object, TABLE_MAX)?;
        let widths = integers(dictionary.get("W"))?;
        let [kind, second, third] = widths.as_slice() else { return refused("W") };
        let width = |width: &i64| usize::try_from(*width).ok().filter(|width| *width <= 8);
        let (Some(kind), Some(second), Some(third)) = (width(kind), width(second), width(third)) else {
            return refused("W");
        };
        let index = match dictionary.get("Index") {
            None => vec![0, dictionary.integer("Size").ok_or(SignatureError::Pdf("Size"))?],
            index => integers(index)?,
        };
        let mut rows = table.chunks_exact(kind.saturating_add(second).saturating_add(third).max(1));
        for pair in index.chunks(2) {
            let &[first, count] = pair else { return refused("Index") };
            for step in 0..count {
                let row = rows.next().ok_or(SignatureError::Pdf("cross-reference stream"))?;
                let (a, rest) = row.split_at_checked(kind).unwrap_or((row, &[]));
                let (b, c) = rest.split_at_checked(second).unwrap_or((rest, &[]));
                let kind = if kind == 0 { 1 } else { big_endian(a) };
                let entry = match kind {
                    0 => Entry::Free,
                    1 => Entry::At(
                        usize::try_from(big_endian(b)).unwrap_or(usize::MAX),
                        u16::try_from(big_endian(c)).unwrap_or(u16::MAX),
                    ),
                    2 => Entry::Within(
                        u32::try_from(big_endian(b)).unwrap_or(u32::MAX),
                        usize::try_from(big_endian(c)).unwrap_or(usize::MAX),
                    ),
                    _ => return refused("cross-reference entry"),
                };
                let number = first.checked_add(step).and_then(|number| u32::try_from(number).ok());
                self.insert(number.unwrap_or(u32::MAX), entry)?;
            }
        }
        Ok(dictionary)
    }

    /// The newest section is read first, so what is there stays.
    fn insert(&mut self, number: u32, entry: Entry) -> Result<()> {
        if number > OBJECT_MAX {
            return Err(SignatureError::Limit("object number"));
        }
        self.entries.entry(number).or_insert(entry);
        Ok(())
    }

    fn count_lookup(&self) -> Result<()> {
        let lookups = self.lookups.get().saturating_add(1);
        self.lookups.set(lookups);
        if lookups > LOOKUPS_MAX { Err(SignatureError::Limit("objects")) } else { Ok(()) }
    }

    /// The indirect object of this number.
    pub(crate) fn object(&self, (number, generation): (u32, u16)) -> Result<Object> {
        match self.entries.get(&number) {
            Some(&Entry::At(at, found)) if found == generation => {
                self.object_at(at, Some((number, generation)))
            }
            Some(&Entry::Within(stream, index)) if generation == 0 => {
                self.object_within(stream, number, index)
            }
            _ => refused("a reference to nothing"),
        }
    }

    /// An object that an entry of a dictionary refers to.
    pub(crate) fn referred(&self, dictionary: &Dictionary, key: &'static str) -> Result<Object> {
        self.object(dictionary.reference(key).ok_or(SignatureError::Pdf(key))?)
    }

    /// A dictionary that stands in an entry, directly or by reference.
    pub(crate) fn dictionary(&self, dictionary: &Dictionary, key: &'static str) -> Result<Dictionary> {
        match dictionary.get(key).map(|item| &item.value) {
            Some(Value::Dictionary(direct)) => Ok(direct.clone()),
            Some(Value::Reference(..)) => Ok(self.referred(dictionary, key)?.dictionary()?.clone()),
            _ => refused(key),
        }
    }

    fn object_at(&self, at: usize, expected: Option<(u32, u16)>) -> Result<Object> {
        self.count_lookup()?;
        let mut lexer = Lexer::new(self.bytes, at);
        let head = (lexer.digits(), lexer.digits());
        lexer.skip_space();
        if !lexer.keyword(b"obj") {
            return refused("no object where one should be");
        }
        if let Some((number, generation)) = expected
            && head != (Some(u64::from(number)), Some(u64::from(generation)))
        {
            return refused("another object where one should be");
        }
        let item = lexer.item(0)?;
        lexer.skip_space();
        let stream = match &item.value {
            Value::Dictionary(dictionary) if lexer.keyword(b"stream") => {
                Some(self.stream(&mut lexer, dictionary)?)
            }
            _ => None,
        };
        lexer.skip_space();
        if !lexer.keyword(b"endobj") {
            return refused("an object without an end");
        }
        Ok(Object { item, stream, unpacked: None })
    }

    /// The octets of a stream (ISO 32000-1, 7.3.8).
    fn stream(&self, lexer: &mut Lexer<'a>, dictionary: &Dictionary) -> Result<Range<usize>> {
        if !(lexer.take(b"\r\n") || lexer.take(b"\n")) {
            return refused("stream");
        }
        // By reference only to a plain integer, which cannot come back here.
        let length = match dictionary.get("Length").map(|item| &item.value) {
            Some(Value::Integer(length)) => *length,
            Some(&Value::Reference(number, generation)) => match self.entries.get(&number) {
                Some(&Entry::At(at, found)) if found == generation => self.integer_at(at)?,
                _ => return refused("Length"),
            },
            _ => return refused("Length"),
        };
        let start = lexer.at;
        let end = start.checked_add(offset(length)?).filter(|end| *end <= self.bytes.len());
        lexer.at = end.ok_or(SignatureError::Pdf("Length"))?;
        let range = start..lexer.at;
        lexer.skip_space();
        if lexer.keyword(b"endstream") { Ok(range) } else { refused("Length") }
    }

    fn integer_at(&self, at: usize) -> Result<i64> {
        self.count_lookup()?;
        let mut lexer = Lexer::new(self.bytes, at);
        let (_, _) = (lexer.digits(), lexer.digits());
        lexer.skip_space();
        if !lexer.keyword(b"obj") {
            return refused("Length");
        }
        lexer.digits().and_then(|length| i64::try_from(length).ok()).ok_or(SignatureError::Pdf("Length"))
    }

    /// ISO 32000-1, 7.5.7.
    fn object_within(&self, container: u32, number: u32, index: usize) -> Result<Object> {
        let Some(&Entry::At(at, generation)) = self.entries.get(&container) else {
            return refused("object stream");
        };
        let container = self.object_at(at, Some((container, generation)))?;
        let dictionary = container.dictionary()?;
        if dictionary.name("Type") != Some(b"ObjStm") {
            return refused("object stream");
        }
        let first = offset(dictionary.integer("First").ok_or(SignatureError::Pdf("First"))?)?;
        let content = self.decoded(&container, TABLE_MAX)?;
        let mut lexer = Lexer::new(&content, 0);
        for _ in 0..index {
            if lexer.digits().is_none() || lexer.digits().is_none() {
                return refused("object stream");
            }
        }
        let (Some(found), Some(relative)) = (lexer.digits(), lexer.digits()) else {
            return refused("object stream");
        };
        if found != u64::from(number) {
            return refused("another object where one should be");
        }
        lexer.at = usize::try_from(relative)
            .ok()
            .and_then(|relative| relative.checked_add(first))
            .ok_or(SignatureError::Pdf("object stream"))?;
        let item = lexer.item(0)?;
        let unpacked = content.get(item.span.clone()).map(<[u8]>::to_vec);
        Ok(Object { item, stream: None, unpacked: Some(unpacked.unwrap_or_default()) })
    }

    /// The decoded octets of a stream: unfiltered or FlateDecode, with PNG predictors (ISO 32000-1, 7.4.4).
    pub(crate) fn decoded(&self, object: &Object, most: usize) -> Result<Vec<u8>> {
        let dictionary = object.dictionary()?;
        let range = object.stream.clone().ok_or(SignatureError::Pdf("a stream is missing"))?;
        let raw = self.bytes.get(range).ok_or(SignatureError::Pdf("Length"))?;
        let filter = match dictionary.get("Filter").map(|item| &item.value) {
            None => None,
            Some(Value::Name(name)) => Some(name.as_slice()),
            Some(Value::Array(filters)) => match filters.as_slice() {
                [] => None,
                [Item { value: Value::Name(name), .. }] => Some(name.as_slice()),
                _ => return refused("filters"),
            },
            Some(_) => return refused("filters"),
        };
        match filter {
            None if raw.len() <= most => Ok(raw.to_vec()),
            None => Err(SignatureError::Limit("stream")),
            Some(b"FlateDecode") => {
                let inflated =
                    decompress_to_vec_zlib_with_limit(raw, most).map_err(|error| match error.status {
                        miniz_oxide::inflate::TINFLStatus::HasMoreOutput => SignatureError::Limit("stream"),
                        _ => SignatureError::Pdf("FlateDecode"),
                    })?;
                match dictionary.get("DecodeParms").map(|item| &item.value) {
                    None | Some(Value::Null) => Ok(inflated),
                    Some(Value::Dictionary(parameters)) => unpredicted(inflated, parameters),
                    Some(_) => refused("DecodeParms"),
                }
            }
            Some(_) => refused("filters"),
        }
    }
}

/// Undoes PNG predictors of one octet a sample, the only ones in use in cross-reference streams.
fn unpredicted(bytes: Vec<u8>, parameters: &Dictionary) -> Result<Vec<u8>> {
    match parameters.integer("Predictor").unwrap_or(1) {
        1 => return Ok(bytes),
        10..=15 => {}
        _ => return refused("predictor"),
    }
    if parameters.integer("Colors").unwrap_or(1) != 1
        || parameters.integer("BitsPerComponent").unwrap_or(8) != 8
    {
        return refused("predictor");
    }
    let columns = offset(parameters.integer("Columns").unwrap_or(1))?;
    if columns == 0 || columns > TABLE_MAX {
        return refused("predictor");
    }
    let mut above = vec![0_u8; columns];
    let mut out = Vec::with_capacity(bytes.len());
    for row in bytes.chunks_exact(columns.saturating_add(1)) {
        let (kind, row) = row.split_first().ok_or(SignatureError::Pdf("predictor"))?;
        let mut left = 0_u8;
        let mut corner = 0_u8;
        for (up, raw) in above.iter_mut().zip(row) {
            let prediction = match kind {
                0 => 0,
                1 => left,
                2 => *up,
                3 => left.midpoint(*up),
                4 => paeth(left, *up, corner),
                _ => return refused("predictor"),
            };
            corner = *up;
            left = raw.wrapping_add(prediction);
            *up = left;
        }
        out.extend_from_slice(&above);
    }
    Ok(out)
}

fn paeth(left: u8, up: u8, corner: u8) -> u8 {
    let estimate = i16::from(left).saturating_add(i16::from(up)).saturating_sub(i16::from(corner));
    let distance = |value: u8| estimate.abs_diff(i16::from(value));
    if distance(left) <= distance(up) && distance(left) <= distance(corner) {
        left
    } else if distance(up) <= distance(corner) {
        up
    } else {
        corner
    }
}

/// Where the newest section starts, read from the very end of the file.
fn start_of_sections(bytes: &[u8]) -> Result<usize> {
    let rest = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let rest = rest.strip_suffix(b"\r").unwrap_or(rest);
    let rest =
        rest.strip_suffix(b"%%EOF").ok_or(SignatureError::Pdf("bytes after the last %%EOF, or none"))?;
    let rest = rest.trim_ascii_end();
    let digits = rest.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (rest, number) = rest.split_at(rest.len().saturating_sub(digits));
    if !rest.trim_ascii_end().ends_with(b"startxref") {
        return refused("no startxref");
    }
    Lexer::new(number, 0)
        .digits()
        .and_then(|at| usize::try_from(at).ok())
        .ok_or(SignatureError::Pdf("startxref"))
}

/// `nnnnnnnnnn ggggg n` and two octets of end of line.
fn table_entry(entry: &[u8]) -> Result<Entry> {
    let digits = |range: Range<usize>| {
        let digits = entry.get(range)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        std::str::from_utf8(digits).ok()?.parse::<u64>().ok()
    };
    let (Some(at), Some(generation)) = (digits(0..10), digits(11..16)) else {
        return refused("cross-reference entry");
    };
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    let generation = u16::try_from(generation).unwrap_or(u16::MAX);
    match (entry.get(10), entry.get(16), entry.get(17), entry.get(18..)) {
        (Some(b' '), Some(b' '), Some(b'n'), Some(b" \n" | b" \r" | b"\r\n")) => {
            Ok(Entry::At(at, generation))
        }
        (Some(b' '), Some(b' '), Some(b'f'), Some(b" \n" | b" \r" | b"\r\n")) => Ok(Entry::Free),
        _ => refused("cross-reference entry"),
    }
}

fn offset(integer: i64) -> Result<usize> {
    usize::try_from(integer).map_err(|_| SignatureError::Pdf("an offset or length"))
}

fn integers(item: Option<&Item>) -> Result<Vec<i64>> {
    let Some(Value::Array(items)) = item.map(|item| &item.value) else {
        return refused("an array of integers");
    };
    let integer = |item: &Item| match item.value {
        Value::Integer(integer) => Ok(integer),
        _ => refused("an array of integers"),
    };
    items.iter().map(integer).collect()
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value: u64, byte| value.wrapping_shl(8) | u64::from(*byte))
}

fn is_space(byte: u8) -> bool {
    matches!(byte, 0 | 9 | 10 | 12 | 13 | 32)
}

fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b'(' | b')' | b'<' | b'>' | b'[' | b']' | b'{' | b'}' | b'/' | b'%')
}

fn is_regular(byte: u8) -> bool {
    !is_space(byte) && !is_delimiter(byte)
}

/// ISO 32000-1, 7.2 and 7.3.
struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    values: u32,
}

impl<'a> Lexer<'a> {
    fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, values: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at = self.at.saturating_add(1);
        Some(byte)
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, text: &[u8]) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at = self.at.saturating_add(text.len());
        }
        found
    }

    /// A word that ends where it ends: `obj` is not found in `object`.
    fn keyword(&mut self, word: &[u8]) -> bool {
        let after = self.rest().get(word.len()).copied();
        after.is_none_or(|byte| !is_regular(byte)) && self.take(word)
    }

    fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            if byte == b'%' {
                while self.peek().is_some_and(|byte| byte != b'\n' && byte != b'\r') {
                    self.at = self.at.saturating_add(1);
                }
            } else if is_space(byte) {
                self.at = self.at.saturating_add(1);
            } else {
                return;
            }
        }
    }

    /// Digits after any space; a number that does not fit is none.
    fn digits(&mut self) -> Option<u64> {
        self.skip_space();
        let mut value = None::<u64>;
        while let Some(byte) = self.peek().filter(u8::is_ascii_digit) {
            let digit = u64::from(byte.wrapping_sub(b'0'));
            value = Some(value.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
            self.at = self.at.saturating_add(1);
        }
        value
    }

    fn item(&mut self, depth: usize) -> Result<Item> {
        if depth > DEPTH_MAX {
            return Err(SignatureError::Limit("depth"));
        }
        self.values = self.values.saturating_add(1);
        if self.values > VALUES_MAX {
            return Err(SignatureError::Limit("values in one object"));
        }
        self.skip_space();
        let start = self.at;
        let value = match self.peek() {
            Some(b'<') if self.take(b"<<") => self.dictionary(depth)?,
            Some(b'<') => self.hexadecimal()?,
            Some(b'(') => self.literal()?,
            Some(b'[') => self.array(depth)?,
            Some(b'/') => Value::Name(self.name()?),
            Some(b'0'..=b'9' | b'+' | b'-' | b'.') => self.number()?,
            Some(_) if self.keyword(b"true") || self.keyword(b"false") => Value::Boolean,
            Some(_) if self.keyword(b"null") => Value::Null,
            _ => return refused("a value is missing"),
        };
        Ok(Item { value, span: start..self.at })
    }

    fn dictionary(&mut self, depth: usize) -> Result<Value> {
        let mut entries: Vec<(Vec<u8>, Item)> = Vec::new();
        loop {
            self.skip_space();
            if self.take(b">>") {
                break;
            }
            if self.peek() != Some(b'/') {
                return refused("a dictionary without an end");
            }
            let key = self.name()?;
            entries.push((key, self.item(depth.saturating_add(1))?));
        }
        // Of two entries with one key some readers take the first, some the last.
        let mut keys: Vec<&[u8]> = entries.iter().map(|(key, _)| key.as_slice()).collect();
        keys.sort_unstable();
        if keys.windows(2).any(|pair| matches!(pair, [one, other] if one == other)) {
            return refused("a dictionary with one key twice");
        }
        Ok(Value::Dictionary(Dictionary(entries)))
    }

    fn array(&mut self, depth: usize) -> Result<Value> {
        self.take(b"[");
        let mut items = Vec::new();
        loop {
            self.skip_space();
            if self.take(b"]") {
                return Ok(Value::Array(items));
            }
            items.push(self.item(depth.saturating_add(1))?);
        }
    }

    fn name(&mut self) -> Result<Vec<u8>> {
        self.take(b"/");
        let mut name = Vec::new();
        while let Some(byte) = self.peek().filter(|byte| is_regular(*byte)) {
            self.at = self.at.saturating_add(1);
            if byte == b'#' {
                let (Some(high), Some(low)) = (self.next().and_then(nibble), self.next().and_then(nibble))
                else {
                    return refused("a name");
                };
                name.push(high << 4 | low);
            } else {
                name.push(byte);
            }
        }
        Ok(name)
    }

    fn hexadecimal(&mut self) -> Result<Value> {
        self.take(b"<");
        let mut digits = Vec::new();
        loop {
            match self.next() {
                Some(b'>') => break,
                Some(byte) if is_space(byte) => {}
                Some(byte) => digits.push(nibble(byte).ok_or(SignatureError::Pdf("a hexadecimal string"))?),
                None => return refused("a string without an end"),
            }
        }
        let octet =
            |pair: &[u8]| pair.iter().chain(&[0]).take(2).fold(0, |octet: u8, digit| octet << 4 | digit);
        Ok(Value::String(digits.chunks(2).map(octet).collect()))
    }

    fn literal(&mut self) -> Result<Value> {
        self.take(b"(");
        let mut open = 1_usize;
        let mut string = Vec::new();
        loop {
            let byte = self.next().ok_or(SignatureError::Pdf("a string without an end"))?;
            match byte {
                b'(' => open = open.saturating_add(1),
                b')' => {
                    open = open.saturating_sub(1);
                    if open == 0 {
                        return Ok(Value::String(string));
                    }
                }
                b'\\' => {
                    self.escape(&mut string)?;
                    continue;
                }
                b'\r' => {
                    self.take(b"\n");
                    string.push(b'\n');
                    continue;
                }
                _ => {}
            }
            string.push(byte);
        }
    }

    fn escape(&mut self, string: &mut Vec<u8>) -> Result<()> {
        match self.next().ok_or(SignatureError::Pdf("a string without an end"))? {
            b'n' => string.push(b'\n'),
            b'r' => string.push(b'\r'),
            b't' => string.push(b'\t'),
            b'b' => string.push(8),
            b'f' => string.push(12),
            b'\r' => {
                self.take(b"\n");
            }
            b'\n' => {}
            first @ b'0'..=b'7' => {
                let mut value = u16::from(first.wrapping_sub(b'0'));
                for _ in 0..2 {
                    let Some(digit) = self.peek().filter(|byte| matches!(byte, b'0'..=b'7')) else { break };
                    value = value << 3 | u16::from(digit.wrapping_sub(b'0'));
                    self.at = self.at.saturating_add(1);
                }
                // High-order overflow is ignored (ISO 32000-1, table 3).
                string.push(value.to_le_bytes().first().copied().unwrap_or_default());
            }
            other => string.push(other),
        }
        Ok(())
    }

    /// A number, or a reference when the words for it follow.
    fn number(&mut self) -> Result<Value> {
        let start = self.at;
        while self.peek().is_some_and(is_regular) {
            self.at = self.at.saturating_add(1);
        }
        let word = self.bytes.get(start..self.at).unwrap_or_default();
        let text = std::str::from_utf8(word).map_err(|_| SignatureError::Pdf("a number"))?;
        let Ok(integer) = text.parse::<i64>() else {
            let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
            let real = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
                && digits.bytes().filter(|byte| *byte == b'.').count() == 1
                && digits.len() > 1;
            return if real { Ok(Value::Real) } else { refused("a number") };
        };
        let end = self.at;
        if let Ok(number) = u32::try_from(integer)
            && let Some(generation) = self.digits().and_then(|digits| u16::try_from(digits).ok())
        {
            self.skip_space();
            if self.keyword(b"R") {
                return Ok(Value::Reference(number, generation));
            }
        }
        self.at = end;
        Ok(Value::Integer(integer))
    }
}

fn nibble(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(byte.wrapping_sub(b'a').wrapping_add(10)),
        b'A'..=b'F' => Some(byte.wrapping_sub(b'A').wrapping_add(10)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<Value> {
        Lexer::new(text.as_bytes(), 0).item(0).map(|item| item.value)
    }

    #[test]
    fn strings_are_decoded() {
        assert_eq!(
            value(
                r"(a\(b\)(c)\101\n\
d)"
            ),
            Ok(Value::String(b"a(b)(c)A\nd".to_vec()))
        );
        assert_eq!(value("<48 65 6C6c 7>"), Ok(Value::String(b"Hellp".to_vec())));
    }

    #[test]
    fn references_and_numbers_are_told_apart() {
        let Ok(Value::Array(items)) = value("[1 0 R 2 3 -4 .5 6 0 R]") else { panic!("an array") };
        let values: Vec<Value> = items.into_iter().map(|item| item.value).collect();
        assert_eq!(
            values,
            [
                Value::Reference(1, 0),
                Value::Integer(2),
                Value::Integer(3),
                Value::Integer(-4),
                Value::Real,
                Value::Reference(6, 0)
            ]
        );
    }

    #[test]
    fn deep_nesting_ends_in_a_limit() {
        assert_eq!(value(&"[".repeat(100_000)), Err(SignatureError::Limit("depth")));
    }

    #[test]
    fn one_key_twice_is_refused() {
        assert!(value("<</A 1/B 2/A 3>>").is_err());
    }
}
