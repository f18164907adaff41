//! The experts' list as a file: lines of CSV in UTF-8 or ISO-8859-1, read one at a time.
//!
//! Owns the form of the file: encoding, separator, columns, what a line may hold. Knows nothing of accounts. Must
//! never hold more than one line, nor let one line spoil the next: a record is one line, so that a quote left
//! open ends with it. This module stands alone, so that the fuzz target compiles nothing else.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use encoding_rs::WINDOWS_1252;
use std::io::{BufRead, Read, Seek};
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// The longest line, in octets.
pub const LINE_MAX: usize = 16 * 1024;
/// The most lines, the header included.
pub const LINES_MAX: u64 = 1_000_000;
/// The most columns.
pub const COLUMNS_MAX: usize = 100;

/// A column that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// The expert's number on the list; it names the expert.
    Number,
    /// Family name.
    LastName,
    /// First name.
    FirstName,
    /// Electronic address.
    Address,
    /// Headings of the nomenclature.
    Speciality,
    /// The court of appeal.
    Court,
}

impl Column {
    /// Every column, in the order of the documents.
    pub const ALL: [Self; 6] =
        [Self::Number, Self::LastName, Self::FirstName, Self::Address, Self::Speciality, Self::Court];

    /// The name of the column in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Number => "numero",
            Self::LastName => "nom",
            Self::FirstName => "prenom",
            Self::Address => "courriel",
            Self::Speciality => "specialites",
            Self::Court => "cour_appel",
        }
    }

    /// Whether the file must have it, and each line must fill it.
    #[must_use]
    pub const fn is_required(self) -> bool {
        matches!(self, Self::Number | Self::LastName | Self::Address)
    }

    /// The most characters of a value.
    #[must_use]
    pub const fn most(self) -> usize {
        match self {
            Self::Number => 40,
            Self::LastName | Self::FirstName => 95,
            Self::Address => 254,
            Self::Speciality => 500,
            Self::Court => 150,
        }
    }

    fn named(header: &str) -> Option<Self> {
        let header = key(header);
        Self::ALL.into_iter().find(|column| column.name() == header)
    }
}

/// A header as it is compared: without case and accents, words apart by `_`.
fn key(header: &str) -> String {
    let plain = header.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase);
    let spaced: String = plain.map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join("_")
}

/// How the file's octets are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// With or without a byte order mark.
    Utf8,
    /// As everyone writes it: with the signs that windows-1252 has where ISO-8859-1 has control characters.
    Latin1,
}

impl std::fmt::Display for Encoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Utf8 => "UTF-8",
            Self::Latin1 => "ISO-8859-1",
        })
    }
}

/// Why a file is no list.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It cannot be read.
    #[error("lecture impossible")]
    Read(#[from] std::io::Error),
    /// It has no header.
    #[error("le fichier est vide")]
    Empty,
    /// It is in UTF-16.
    #[error("le fichier est en UTF-16 : enregistrez-le en UTF-8 ou en ISO-8859-1")]
    Utf16,
    /// The header cannot be read.
    #[error("en-tête illisible : {0}")]
    Header(Wrong),
    /// Too many columns.
    #[error("plus de {COLUMNS_MAX} colonnes")]
    Columns,
    /// A needed column is not there.
    #[error("colonne absente : {}", .0.name())]
    Missing(Column),
    /// A column is there twice.
    #[error("colonne en double : {}", .0.name())]
    Twice(Column),
    /// Too many lines.
    #[error("plus de {LINES_MAX} lignes")]
    TooLong,
}

/// Why a line is wrong by its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Longer than [`LINE_MAX`].
    LineTooLong,
    /// Octets that are no UTF-8, in a file that is.
    Encoding,
    /// A quote is left open.
    OpenQuote,
    /// Fewer or more fields than the header.
    FieldCount {
        /// In the header.
        expected: usize,
        /// In the line.
        found: usize,
    },
    /// A needed field is empty.
    Empty(Column),
    /// A field is too long.
    TooLong(Column),
    /// A field holds a control character, or one that misleads the eye.
    Control(Column),
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LineTooLong => write!(f, "plus de {LINE_MAX} octets"),
            Self::Encoding => f.write_str("octets qui ne sont pas de l'UTF-8"),
            Self::OpenQuote => f.write_str("guillemet ouvert et non fermé sur la ligne"),
            Self::FieldCount { expected, found } => {
                write!(f, "{found} champs au lieu des {expected} de l'en-tête")
            }
            Self::Empty(column) => write!(f, "{} : champ vide", column.name()),
            Self::TooLong(column) => {
                write!(f, "{} : plus de {} caractères", column.name(), column.most())
            }
            Self::Control(column) => {
                write!(f, "{} : caractère de contrôle, ou invisible", column.name())
            }
        }
    }
}

/// A line that has the right form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The expert's number.
    pub number: String,
    /// Family name.
    pub last_name: String,
    /// First name; may be empty.
    pub first_name: String,
    /// Electronic address, as it is written.
    pub address: String,
    /// Headings; may be empty.
    pub speciality: String,
    /// Court of appeal; may be empty.
    pub court: String,
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number, from 1, the header's.
    pub line: u64,
    /// The expert's number, also of a wrong line where it can be read: who is named is not gone from the list.
    pub number: Option<String>,
    /// What it says, or why it says nothing.
    pub entry: Result<Entry, Wrong>,
}

/// A list, ready to be read from its first line.
#[derive(Debug)]
pub struct List<R> {
    file: R,
    encoding: Encoding,
    separator: u8,
    columns: Vec<Option<Column>>,
    ignored: Vec<String>,
    line: u64,
    buffer: Vec<u8>,
}

enum Line {
    End,
    Whole,
    Cut,
}

/// The next line without its end, at most [`LINE_MAX`] octets of it.
fn read_line(file: &mut impl BufRead, buffer: &mut Vec<u8>) -> std::io::Result<Line> {
    buffer.clear();
    let most = u64::try_from(LINE_MAX).unwrap_or(u64::MAX).saturating_add(2);
    if file.by_ref().take(most).read_until(b'\n', buffer)? == 0 {
        return Ok(Line::End);
    }
    let mut outcome = Line::Whole;
    if buffer.last() != Some(&b'\n') && buffer.len() > LINE_MAX {
        outcome = Line::Cut;
        // The rest is passed over without being kept.
        loop {
            let piece = file.fill_buf()?;
            let (used, ended) = match piece.iter().position(|octet| *octet == b'\n') {
                Some(at) => (at.saturating_add(1), true),
                None => (piece.len(), piece.is_empty()),
            };
            file.consume(used);
            if ended {
                break;
            }
        }
    }
    while matches!(buffer.last(), Some(b'\n' | b'\r')) {
        buffer.pop();
    }
    if buffer.len() > LINE_MAX {
        outcome = Line::Cut;
    }
    Ok(outcome)
}

/// A byte order mark, or none.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Which encoding the file has: UTF-8 with a mark, or when more of its lines beyond ASCII are UTF-8 than are
/// not. One damaged line among many must not turn all the others' accents into other signs.
fn encoding(file: &mut (impl BufRead + Seek)) -> Result<Encoding, ListError> {
    let mut buffer = Vec::new();
    let (mut lines, mut utf8, mut other) = (0_u64, 0_u64, 0_u64);
    loop {
        match read_line(file, &mut buffer)? {
            Line::End => break,
            Line::Cut | Line::Whole => {}
        }
        if lines == 0 {
            if buffer.starts_with(b"\xff\xfe") || buffer.starts_with(b"\xfe\xff") {
                return Err(ListError::Utf16);
            }
            if buffer.starts_with(BOM) {
                file.rewind()?;
                return Ok(Encoding::Utf8);
            }
        }
        lines = lines.saturating_add(1);
        if lines > LINES_MAX {
            return Err(ListError::TooLong);
        }
        if !buffer.is_ascii() {
            let count = if std::str::from_utf8(&buffer).is_ok() { &mut utf8 } else { &mut other };
            *count = count.saturating_add(1);
        }
    }
    file.rewind()?;
    Ok(if other > utf8 { Encoding::Latin1 } else { Encoding::Utf8 })
}

fn decode(encoding: Encoding, octets: &[u8]) -> Result<String, Wrong> {
    match encoding {
        Encoding::Utf8 => std::str::from_utf8(octets).map(str::to_owned).map_err(|_| Wrong::Encoding),
        // Every octet is a character; those that are none in windows-1252 become control characters.
        Encoding::Latin1 => Ok(WINDOWS_1252.decode_without_bom_handling(octets).0.into_owned()),
    }
}

/// The fields of one line (RFC 4180, but that no field goes over the end of its line).
fn fields(text: &str, separator: u8) -> Result<Vec<String>, Wrong> {
    if text.bytes().filter(|octet| *octet == b'"').count() % 2 != 0 {
        return Err(Wrong::OpenQuote);
    }
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .has_headers(false)
        .flexible(true)
        .buffer_capacity(1024)
        .from_reader(text.as_bytes());
    let mut record = csv::StringRecord::new();
    // Reading from memory does not fail, and the text is UTF-8.
    match reader.read_record(&mut record) {
        Ok(_) => Ok(record.iter().map(|field| field.trim().to_owned()).collect()),
        Err(_) => Err(Wrong::Encoding),
    }
}

impl<R: BufRead + Seek> List<R> {
    /// Reads the header, after one pass over the file for its encoding.
    ///
    /// # Errors
    /// When the file is no list.
    pub fn open(mut file: R) -> Result<Self, ListError> {
        let encoding = encoding(&mut file)?;
        let mut list = Self {
            file,
            encoding,
            separator: b';',
            columns: vec![],
            ignored: vec![],
            line: 0,
            buffer: vec![],
        };
        list.header()?;
        Ok(list)
    }

    fn header(&mut self) -> Result<(), ListError> {
        match read_line(&mut self.file, &mut self.buffer)? {
            Line::End => return Err(ListError::Empty),
            Line::Cut => return Err(ListError::Header(Wrong::LineTooLong)),
            Line::Whole => self.line = 1,
        }
        let octets = self.buffer.strip_prefix(BOM).unwrap_or(&self.buffer);
        let text = decode(self.encoding, octets).map_err(ListError::Header)?;
        self.separator = if text.contains(';') { b';' } else { b',' };
        let names = fields(&text, self.separator).map_err(ListError::Header)?;
        if names.len() > COLUMNS_MAX {
            return Err(ListError::Columns);
        }
        self.columns = names.iter().map(|name| Column::named(name)).collect();
        for column in Column::ALL {
            match self.columns.iter().filter(|named| **named == Some(column)).count() {
                0 if column.is_required() => return Err(ListError::Missing(column)),
                0 | 1 => {}
                _ => return Err(ListError::Twice(column)),
            }
        }
        let unknown = names.into_iter().filter(|name| Column::named(name).is_none() && !name.is_empty());
        self.ignored = unknown.collect();
        Ok(())
    }

    /// The next line; lines without anything on them are passed over.
    ///
    /// # Errors
    /// When the file cannot be read, or goes on beyond [`LINES_MAX`].
    pub fn next_record(&mut self) -> Result<Option<Record>, ListError> {
        loop {
            let read = read_line(&mut self.file, &mut self.buffer)?;
            if matches!(read, Line::End) {
                return Ok(None);
            }
            self.line = self.line.saturating_add(1);
            if self.line > LINES_MAX {
                return Err(ListError::TooLong);
            }
            if matches!(read, Line::Cut) {
                return Ok(Some(Record { line: self.line, number: None, entry: Err(Wrong::LineTooLong) }));
            }
            if self.buffer.iter().all(|octet| octet.is_ascii_whitespace()) {
                continue;
            }
            let fields = decode(self.encoding, &self.buffer).and_then(|text| fields(&text, self.separator));
            let (number, entry) = match fields {
                Ok(fields) => self.entry(fields),
                Err(wrong) => (None, Err(wrong)),
            };
            return Ok(Some(Record { line: self.line, number, entry }));
        }
    }

    fn entry(&self, mut fields: Vec<String>) -> (Option<String>, Result<Entry, Wrong>) {
        // Programs that write tables leave out the last fields, or add separators: what is empty is neither.
        while fields.len() > self.columns.len() && fields.last().is_some_and(String::is_empty) {
            fields.pop();
        }
        let (expected, found) = (self.columns.len(), fields.len());
        if found != expected {
            return (None, Err(Wrong::FieldCount { expected, found }));
        }
        let mut entry = Entry {
            number: String::new(),
            last_name: String::new(),
            first_name: String::new(),
            address: String::new(),
            speciality: String::new(),
            court: String::new(),
        };
        let mut wrong = None;
        let mut number = None;
        for (column, value) in self.columns.iter().zip(fields) {
            let Some(column) = *column else { continue };
            match check(column, &value) {
                Ok(()) if column == Column::Number => number = Some(value.clone()),
                Ok(()) => {}
                Err(found) => wrong = wrong.or(Some(found)),
            }
            let place = match column {
                Column::Number => &mut entry.number,
                Column::LastName => &mut entry.last_name,
                Column::FirstName => &mut entry.first_name,
                Column::Address => &mut entry.address,
                Column::Speciality => &mut entry.speciality,
                Column::Court => &mut entry.court,
            };
            *place = value;
        }
        (number, wrong.map_or(Ok(entry), Err))
    }

    /// How its octets were read.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// What stands between its fields.
    pub fn separator(&self) -> char {
        char::from(self.separator)
    }

    /// The columns that mean nothing here.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }
}

fn check(column: Column, value: &str) -> Result<(), Wrong> {
    if value.is_empty() && column.is_required() {
        return Err(Wrong::Empty(column));
    }
    if value.chars().count() > column.most() {
        return Err(Wrong::TooLong(column));
    }
    let unseen = |c: char| matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fffd}');
    if value.chars().any(|c| c.is_control() || unseen(c)) {
        return Err(Wrong::Control(column));
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn open(octets: &[u8]) -> Result<List<Cursor<Vec<u8>>>, ListError> {
        List::open(Cursor::new(octets.to_vec()))
    }

    fn records(octets: &[u8]) -> Vec<Record> {
        let mut list = open(octets).unwrap();
        std::iter::from_fn(|| list.next_record().unwrap()).collect()
    }

    const HEADER: &str = "numero;nom;prenom;courriel;specialites;cour_appel\n";

    #[test]
    fn the_two_encodings_give_the_same_names() {
        let text = format!("{HEADER}12;Lœwé-Brûlé;Zoë;z@e.example;Génie civil;Douai\r\n");
        let (latin, _, lost) = WINDOWS_1252.encode(&text);
        assert!(!lost);
        let marked = [BOM, text.as_bytes()].concat();
        for (octets, encoding) in
            [(text.as_bytes(), Encoding::Utf8), (&marked, Encoding::Utf8), (&latin, Encoding::Latin1)]
        {
            assert_eq!(open(octets).unwrap().encoding(), encoding);
            let read = records(octets).remove(0);
            assert_eq!(read.line, 2);
            let entry = read.entry.unwrap();
            assert_eq!((entry.last_name.as_str(), entry.first_name.as_str()), ("Lœwé-Brûlé", "Zoë"));
            assert_eq!(entry.court, "Douai");
        }
    }

    #[test]
    fn one_damaged_line_does_not_change_the_encoding_of_the_others() {
        let mut octets = format!("{HEADER}1;Été;;a@b;;\n2;Noël;;c@d;;\n3;").into_bytes();
        octets.extend(b"\xe9t\xe9;;e@f;;\n");
        let read = records(&octets);
        assert_eq!(read[0].entry.as_ref().unwrap().last_name, "Été");
        assert_eq!(read[2].entry, Err(Wrong::Encoding));
    }

    #[test]
    fn columns_in_any_order_and_however_written() {
        let octets =
            "Téléphone,COURRIEL,\"Nom\",Numéro,Cour appel\n03,\"a@b\",\"O'Neill, dit \"\"Jo\"\"\",7,\n";
        let list = open(octets.as_bytes()).unwrap();
        assert_eq!((list.separator(), list.ignored()), (',', ["Téléphone".to_owned()].as_slice()));
        let entry = records(octets.as_bytes()).remove(0).entry.unwrap();
        assert_eq!((entry.number.as_str(), entry.last_name.as_str()), ("7", "O'Neill, dit \"Jo\""));
    }

    #[test]
    fn a_file_that_is_no_list() {
        assert!(matches!(open(b""), Err(ListError::Empty)));
        assert!(matches!(open(b"\xff\xfen\0"), Err(ListError::Utf16)));
        assert!(matches!(open(b"numero;nom\n"), Err(ListError::Missing(Column::Address))));
        assert!(matches!(open(b"numero;nom;courriel;NOM\n"), Err(ListError::Twice(Column::LastName))));
        assert!(matches!(open(&[b'x'; LINE_MAX + 1]), Err(ListError::Header(Wrong::LineTooLong))));
        assert!(matches!(open(";".repeat(200).as_bytes()), Err(ListError::Columns)));
        assert!(matches!(open(b"\"numero;nom;courriel\n"), Err(ListError::Header(Wrong::OpenQuote))));
    }

    #[test]
    fn each_wrong_line_spoils_itself_only() {
        let long = "x".repeat(LINE_MAX + 1);
        let name = "é".repeat(96);
        let lines = [
            ("1;A;;a@b;;", Ok(())),
            ("2;\"B;;a@b;;", Err(Wrong::OpenQuote)),
            (&long, Err(Wrong::LineTooLong)),
            ("3;C", Err(Wrong::FieldCount { expected: 6, found: 2 })),
            ("3;C;;a@b;;;x", Err(Wrong::FieldCount { expected: 6, found: 7 })),
            (";D;;a@b;;", Err(Wrong::Empty(Column::Number))),
            ("4;;;a@b;;", Err(Wrong::Empty(Column::LastName))),
            ("5;E;; ;;", Err(Wrong::Empty(Column::Address))),
            (&format!("6;{name};;a@b;;"), Err(Wrong::TooLong(Column::LastName))),
            ("7;F\tG;;a@b;;", Err(Wrong::Control(Column::LastName))),
            ("8;F\0;;a@b;;", Err(Wrong::Control(Column::LastName))),
            ("9;F\u{202e};;a@b;;", Err(Wrong::Control(Column::LastName))),
            ("10;../H/I;;a@b;;;;;", Ok(())),
        ];
        let text = lines.iter().fold(HEADER.to_owned(), |text, (line, _)| text + line + "\n");
        let read = records(text.as_bytes());
        assert_eq!(read.len(), lines.len());
        for ((line, expected), record) in lines.iter().zip(&read) {
            assert_eq!(&record.entry.as_ref().map(|_| ()).map_err(|w| *w), expected, "{line:.40}");
        }
        // Who is named on a wrong line is not gone from the list.
        assert_eq!(read[8].number.as_deref(), Some("6"));
        assert_eq!(read[1].number, None);
    }
}
