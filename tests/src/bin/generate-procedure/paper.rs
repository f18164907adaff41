//! Pages: lines, paragraphs, tables, signatures on A4, and their binding into one PDF file. Uses the fonts
//! that every PDF reader has (ISO 32000-1, 9.6.2.2), so that no font file is needed. Owns no wording.

use pdf_writer::types::{LineCapStyle, PageMode};
use pdf_writer::{Content, Date as PdfDate, Filter, Finish, Name, Pdf, Rect, Ref, Str, TextStr};

use crate::case::Date;
use crate::random::Random;

const WIDTH: f32 = 595.0;
const HEIGHT: f32 = 842.0;
const LEFT: f32 = 68.0;
const RIGHT: f32 = 538.0;
const TOP: f32 = 772.0;
const BOTTOM: f32 = 76.0;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Face {
    Roman,
    Bold,
    Italic,
    Sans,
    Typewriter,
}

const FACES: [(Face, &[u8], &[u8]); 5] = [
    (Face::Roman, b"F1", b"Times-Roman"),
    (Face::Bold, b"F2", b"Times-Bold"),
    (Face::Italic, b"F3", b"Times-Italic"),
    (Face::Sans, b"F4", b"Helvetica"),
    (Face::Typewriter, b"F5", b"Courier"),
];

impl Face {
    fn name(self) -> Name<'static> {
        let name = FACES.iter().find(|(face, ..)| *face == self).map_or(&b"F1"[..], |(_, name, _)| name);
        Name(name)
    }
}

/// Advance widths of the characters from space to tilde, in thousandths of the size (Adobe's published
/// metrics of the standard fonts). Bold and italic are near enough to roman to break lines with.
const TIMES: [u16; 95] = [
    250, 333, 408, 500, 500, 833, 778, 180, 333, 333, 500, 564, 250, 333, 250, 278, 500, 500, 500, 500, 500,
    500, 500, 500, 500, 500, 278, 278, 564, 564, 564, 444, 921, 722, 667, 667, 722, 611, 556, 722, 722, 333,
    389, 722, 611, 889, 722, 722, 556, 722, 667, 556, 611, 722, 722, 944, 722, 722, 611, 333, 278, 333, 469,
    500, 333, 444, 500, 444, 500, 444, 333, 500, 500, 278, 278, 500, 278, 778, 500, 500, 500, 500, 333, 389,
    278, 500, 500, 722, 500, 500, 444, 480, 200, 480, 541,
];
const HELVETICA: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556,
    556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278,
    500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469,
    556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500,
    278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];

/// The letter under an accent: an accented letter is as wide as its base in both fonts.
fn base(letter: char) -> char {
    match letter {
        'à' | 'â' | 'ä' => 'a',
        'ç' => 'c',
        'é' | 'è' | 'ê' | 'ë' => 'e',
        'î' | 'ï' => 'i',
        'ô' | 'ö' => 'o',
        'ù' | 'û' | 'ü' => 'u',
        'ÿ' => 'y',
        'À' | 'Â' | 'Ä' => 'A',
        'Ç' => 'C',
        'É' | 'È' | 'Ê' | 'Ë' => 'E',
        'Î' | 'Ï' => 'I',
        'Ô' | 'Ö' => 'O',
        'Ù' | 'Û' | 'Ü' => 'U',
        '’' => '\'',
        '«' | '»' | '–' | '°' => 'n',
        'œ' | 'æ' | '—' | '…' => 'm',
        'Œ' | 'Æ' => 'W',
        '\u{a0}' => ' ',
        other => other,
    }
}

fn width(text: &str, face: Face, size: f32) -> f32 {
    let table = match face {
        Face::Typewriter => return text.chars().count() as f32 * 0.6 * size,
        Face::Sans => &HELVETICA,
        Face::Roman | Face::Bold | Face::Italic => &TIMES,
    };
    let units: u32 = text
        .chars()
        .map(|letter| {
            let index = (base(letter) as usize).wrapping_sub(32);
            u32::from(*table.get(index).unwrap_or(&500))
        })
        .sum();
    let heavier = if face == Face::Bold { 1.05 } else { 1.0 };
    units as f32 * size * heavier / 1000.0
}

/// `WinAnsiEncoding` (ISO 32000-1, annex D): Latin-1 and a few letters that French needs.
fn encoded(text: &str) -> Vec<u8> {
    text.chars()
        .map(|letter| match letter {
            '€' => 0x80,
            '…' => 0x85,
            'Œ' => 0x8c,
            '‘' => 0x91,
            '’' => 0x92,
            '•' => 0x95,
            '–' => 0x96,
            '—' => 0x97,
            'œ' => 0x9c,
            'Ÿ' => 0x9f,
            plain => u8::try_from(u32::from(plain)).unwrap_or(b'?'),
        })
        .collect()
}

/// What a document says of itself: printed on every page and kept in the information dictionary.
pub(crate) struct Marks {
    pub(crate) title: String,
    pub(crate) author: String,
    pub(crate) cote: String,
    pub(crate) date: Date,
    pub(crate) canary: String,
}

/// One page, finished.
pub(crate) enum Sheet {
    /// Drawing operators.
    Text(Vec<u8>),
    /// A grey picture of the whole page: four bits a pixel, already deflated.
    Scan { width: u32, height: u32, deflated: Vec<u8> },
}

/// A document being written, from the top of its first page downwards.
pub(crate) struct Paper {
    done: Vec<Content>,
    page: Content,
    y: f32,
    pub(crate) body: Face,
    pub(crate) size: f32,
}

impl Paper {
    pub(crate) fn new(body: Face, size: f32) -> Self {
        Self { done: Vec::new(), page: Content::new(), y: TOP, body, size }
    }

    fn room(&mut self, needed: f32) {
        if self.y - needed < BOTTOM {
            self.turn();
        }
    }

    pub(crate) fn turn(&mut self) {
        self.done.push(std::mem::replace(&mut self.page, Content::new()));
        self.y = TOP;
    }

    pub(crate) fn space(&mut self, points: f32) {
        self.y -= points;
    }

    fn put(&mut self, x: f32, y: f32, text: &str, face: Face, size: f32) {
        show(&mut self.page, x, y, text, face, size, 0.0);
    }

    pub(crate) fn line(&mut self, text: &str, face: Face, size: f32) {
        self.room(size * 1.3);
        self.y -= size * 1.3;
        self.put(LEFT, self.y, text, face, size);
    }

    pub(crate) fn centred(&mut self, text: &str, face: Face, size: f32) {
        self.room(size * 1.4);
        self.y -= size * 1.4;
        let x = (WIDTH - width(text, face, size)) / 2.0;
        self.put(x.max(LEFT / 2.0), self.y, text, face, size);
    }

    pub(crate) fn heading(&mut self, text: &str) {
        self.room(self.size * 5.0);
        self.space(self.size * 0.8);
        self.line(text, Face::Bold, self.size + 1.0);
        self.space(self.size * 0.3);
    }

    pub(crate) fn paragraph(&mut self, text: &str) {
        self.indented(text, 0.0, self.body);
    }

    pub(crate) fn indented(&mut self, text: &str, indent: f32, face: Face) {
        let (left, size) = (LEFT + indent, self.size);
        let lines = wrap(text, face, size, RIGHT - left);
        let count = lines.len();
        for (index, line) in lines.into_iter().enumerate() {
            self.room(size * 1.35);
            self.y -= size * 1.35;
            let gaps = line.matches(' ').count();
            // Justified, except the last line; a typewriter does not justify.
            let spread = if index + 1 < count && gaps > 0 && face != Face::Typewriter {
                ((RIGHT - left - width(&line, face, size)) / gaps as f32).min(size * 0.4)
            } else {
                0.0
            };
            show(&mut self.page, left, self.y, &line, face, size, spread);
        }
        self.space(size * 0.5);
    }

    /// A table with ruled rows; `columns` are the left edges, as parts of the width.
    pub(crate) fn table(&mut self, columns: &[f32], headings: &[&str], rows: &[Vec<String>]) {
        let size = 8.5;
        let at = |part: f32| LEFT + part * (RIGHT - LEFT);
        self.room(size * 4.0);
        self.table_head(columns, headings, size);
        for row in rows {
            if self.y - size * 1.7 < BOTTOM {
                self.turn();
                self.table_head(columns, headings, size);
            }
            self.y -= size * 1.6;
            for (cell, column) in row.iter().zip(columns) {
                self.put(at(*column) + 2.0, self.y, cell, Face::Sans, size);
            }
            let y = self.y - size * 0.4;
            self.page.set_line_width(0.3).move_to(LEFT, y).line_to(RIGHT, y).stroke();
        }
        self.space(size * 1.5);
    }

    fn table_head(&mut self, columns: &[f32], headings: &[&str], size: f32) {
        self.y -= size * 1.8;
        let y = self.y;
        self.page.save_state().set_fill_gray(0.88).rect(LEFT, y - 3.5, RIGHT - LEFT, size * 1.7);
        self.page.fill_nonzero().restore_state();
        for (heading, column) in headings.iter().zip(columns) {
            self.put(LEFT + column * (RIGHT - LEFT) + 2.0, y, heading, Face::Bold, size);
        }
    }

    /// Names side by side, each with a scribble underneath that belongs to nobody.
    pub(crate) fn signatures(&mut self, random: &mut Random, names: &[String]) {
        self.room(95.0);
        self.space(14.0);
        let step = (RIGHT - LEFT) / names.len().max(1) as f32;
        for (index, name) in names.iter().enumerate() {
            let x = LEFT + index as f32 * step;
            self.put(x, self.y, name, Face::Roman, 9.5);
            scribble(&mut self.page, random, x + 12.0, self.y - 34.0);
        }
        self.space(72.0);
    }

    /// The pages with what each carries in its margins, now that their number is known.
    pub(crate) fn finish(mut self, marks: &Marks) -> Vec<Sheet> {
        self.done.push(self.page);
        let count = self.done.len();
        let finish = |(index, mut page): (usize, Content)| {
            margins(&mut page, marks, index + 1, count);
            Sheet::Text(page.finish().into_vec())
        };
        self.done.into_iter().enumerate().map(finish).collect()
    }
}

fn wrap(text: &str, face: Face, size: f32, room: f32) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split(' ') {
        let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        if width(&longer, face, size) > room && !line.is_empty() {
            lines.push(std::mem::replace(&mut line, word.to_owned()));
        } else {
            line = longer;
        }
    }
    lines.push(line);
    lines
}

fn show(page: &mut Content, x: f32, y: f32, text: &str, face: Face, size: f32, spread: f32) {
    page.begin_text().set_font(face.name(), size).set_word_spacing(spread);
    page.set_text_matrix([1.0, 0.0, 0.0, 1.0, x, y]).show(Str(&encoded(text))).end_text();
}

fn scribble(page: &mut Content, random: &mut Random, x: f32, y: f32) {
    page.save_state()
        .set_line_width(0.9)
        .set_line_cap(LineCapStyle::RoundCap)
        .set_stroke_rgb(0.1, 0.12, 0.45);
    page.move_to(x, y);
    let mut at = x;
    for _ in 0..random.between(4, 8) {
        let up = y + 4.0 + random.unit() * 22.0;
        let down = y - 9.0 * random.unit();
        let next = at + 6.0 + random.unit() * 15.0;
        page.cubic_to(at + 3.0, up, next - 9.0 * random.unit(), down, next, y + 6.0 * random.unit());
        at = next;
    }
    page.stroke().restore_state();
}

fn margins(page: &mut Content, marks: &Marks, number: usize, count: usize) {
    page.save_state()
        .set_line_width(0.8)
        .set_stroke_rgb(0.6, 0.1, 0.1)
        .rect(462.0, 796.0, 84.0, 26.0)
        .stroke();
    page.set_fill_rgb(0.6, 0.1, 0.1);
    show(page, 470.0, 804.0, &format!("COTE {}", marks.cote), Face::Bold, 13.0, 0.0);
    page.restore_state();
    page.save_state().set_line_width(0.4).move_to(LEFT, 58.0).line_to(RIGHT, 58.0).stroke();
    let notice = "Document de démonstration : personnes, lieux, sociétés et faits fictifs.";
    show(page, LEFT, 46.0, notice, Face::Italic, 8.5, 0.0);
    let pages = format!("Page {number} / {count}");
    show(page, RIGHT - width(&pages, Face::Roman, 8.5), 46.0, &pages, Face::Roman, 8.5, 0.0);
    if !marks.canary.is_empty() {
        show(page, LEFT, 35.0, &format!("Réf. {}", marks.canary), Face::Sans, 6.5, 0.0);
    }
    page.restore_state();
}

/// One PDF file of these pages. `packed` deflates the drawing operators, as most programs do; the
/// information dictionary, with the canary, is always plain.
pub(crate) fn bind(sheets: &[Sheet], marks: &Marks, packed: bool) -> Vec<u8> {
    let mut pdf = Pdf::new();
    let (catalog, tree, information) = (Ref::new(1), Ref::new(2), Ref::new(3));
    let font = |index: usize| Ref::new(4 + index as i32);
    let page = |index: usize| Ref::new(10 + 2 * index as i32);
    let content = |index: usize| Ref::new(11 + 2 * index as i32);
    pdf.catalog(catalog).pages(tree).page_mode(PageMode::UseNone).lang(TextStr("fr-FR"));
    pdf.pages(tree).kids((0..sheets.len()).map(page)).count(sheets.len() as i32);
    for (index, (_, _, postscript)) in FACES.iter().enumerate() {
        let mut entry = pdf.type1_font(font(index));
        entry.base_font(Name(postscript)).encoding_predefined(Name(b"WinAnsiEncoding"));
    }
    for (index, sheet) in sheets.iter().enumerate() {
        let picture = Ref::new(10 + 2 * (sheets.len() + index) as i32);
        let mut entry = pdf.page(page(index));
        entry.parent(tree).media_box(Rect::new(0.0, 0.0, WIDTH, HEIGHT)).contents(content(index));
        let mut resources = entry.resources();
        match sheet {
            Sheet::Text(_) => {
                let mut fonts = resources.fonts();
                for (index, (_, name, _)) in FACES.iter().enumerate() {
                    fonts.pair(Name(name), font(index));
                }
            }
            Sheet::Scan { .. } => {
                resources.x_objects().pair(Name(b"Im1"), picture);
            }
        }
        resources.finish();
        entry.finish();
        match sheet {
            Sheet::Text(operators) if packed => {
                let deflated = miniz_oxide::deflate::compress_to_vec_zlib(operators, 6);
                pdf.stream(content(index), &deflated).filter(Filter::FlateDecode);
            }
            Sheet::Text(operators) => {
                pdf.stream(content(index), operators);
            }
            Sheet::Scan { width, height, deflated } => {
                let mut drawing = Content::new();
                drawing.save_state().transform([WIDTH, 0.0, 0.0, HEIGHT, 0.0, 0.0]);
                drawing.x_object(Name(b"Im1")).restore_state();
                pdf.stream(content(index), &drawing.finish());
                let mut image = pdf.image_xobject(picture, deflated);
                image.filter(Filter::FlateDecode);
                image.width(*width as i32).height(*height as i32);
                image.color_space().device_gray();
                image.bits_per_component(4);
            }
        }
    }
    let date = PdfDate::new(marks.date.year as u16).month(marks.date.month as u8).day(marks.date.day as u8);
    let mut entry = pdf.document_info(information);
    entry.title(TextStr(&marks.title)).author(TextStr(&marks.author)).creation_date(date);
    entry.producer(TextStr("Pli : générateur de procédure fictive"));
    if !marks.canary.is_empty() {
        entry.keywords(TextStr(&marks.canary));
    }
    entry.finish();
    pdf.finish()
}
