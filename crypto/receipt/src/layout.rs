//! Where things stand on the pages of a receipt, and their logical structure.
//!
//! Two passes: this one decides every place and cuts the pages, so that the number of pages is known; then
//! `render` draws. All lengths are points, from the top left corner. Owns the look; must never know PDF.

use crate::text::{Line, Style, lines, one_line};
use crate::{Block, Document, Field, Receipt, ReceiptError, Section};

/// A4 (ISO 216): 210 × 297 mm.
pub(crate) const PAGE: (f32, f32) = (595.276, 841.89);

const LEFT: f32 = 62.0;
const RIGHT: f32 = PAGE.0 - 62.0;
const WIDTH: f32 = RIGHT - LEFT;
const TOP: f32 = 58.0;
/// Below this nothing stands but the foot.
const BOTTOM: f32 = PAGE.1 - 82.0;
const FOOT: f32 = PAGE.1 - 54.0;

const BODY: f32 = 10.5;
const BODY_LEADING: f32 = 14.5;
const SMALL: f32 = 8.5;
const SMALL_LEADING: f32 = 11.5;
/// 64 digits of a SHA-256 take 64 × 0.6 × 8.5 = 326 points.
const CODE: f32 = 8.5;
const CODE_LEADING: f32 = 11.5;
const LABEL_WIDTH: f32 = 128.0;
const NUMBER_WIDTH: f32 = 32.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Ink,
    Grey,
    Blue,
}

/// What is drawn.
#[derive(Debug, Clone)]
pub(crate) enum Mark {
    Text { x: f32, baseline: f32, colour: Colour, line: Line, node: Option<NodeId> },
    Rule { x: f32, y: f32, width: f32, thickness: f32, colour: Colour },
}

/// Index of a node of the structure.
pub(crate) type NodeId = usize;

/// An element of the logical structure (ISO 32000-1, 14.8.4).
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Section,
    Heading(u16, String),
    Paragraph,
    List,
    ListItem,
    Label,
    ListBody,
    Table,
    TableRow,
    TableHeader,
    TableCell,
    Code,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) parent: Option<NodeId>,
}

/// Pages of marks and the structure that they belong to, in reading order.
pub(crate) struct Layout {
    pub(crate) pages: Vec<Vec<Mark>>,
    pub(crate) nodes: Vec<Node>,
}

pub(crate) fn lay_out(receipt: &Receipt) -> Result<Layout, ReceiptError> {
    let mut pen = Pen { pages: vec![Vec::new()], nodes: Vec::new(), y: TOP };
    pen.head(receipt)?;
    for section in &receipt.sections {
        pen.section(section)?;
    }
    pen.feet(receipt)?;
    Ok(Layout { pages: pen.pages, nodes: pen.nodes })
}

struct Pen {
    pages: Vec<Vec<Mark>>,
    nodes: Vec<Node>,
    /// The top of what comes next.
    y: f32,
}

/// A column of text: where it starts, how wide it is, and how it looks.
#[derive(Clone, Copy)]
struct Column {
    x: f32,
    width: f32,
    style: Style,
    size: f32,
    leading: f32,
    colour: Colour,
}

impl Column {
    const BODY: Self = Self {
        x: LEFT,
        width: WIDTH,
        style: Style::Regular,
        size: BODY,
        leading: BODY_LEADING,
        colour: Colour::Ink,
    };

    fn lines(self, text: &str) -> Result<Vec<Line>, ReceiptError> {
        lines(text, self.style, self.size, self.width)
    }
}

impl Pen {
    fn node(&mut self, kind: Kind, parent: Option<NodeId>) -> NodeId {
        self.nodes.push(Node { kind, parent });
        self.nodes.len() - 1
    }

    fn mark(&mut self, mark: Mark) {
        if let Some(page) = self.pages.last_mut() {
            page.push(mark);
        }
    }

    fn new_page(&mut self) {
        self.pages.push(Vec::new());
        self.y = TOP;
    }

    /// Whether a new page was begun because `height` did not fit.
    fn make_room(&mut self, height: f32) -> bool {
        let full = self.y + height > BOTTOM && self.y > TOP;
        if full {
            self.new_page();
        }
        full
    }

    fn rule(&mut self, thickness: f32, colour: Colour) {
        self.mark(Mark::Rule { x: LEFT, y: self.y, width: WIDTH, thickness, colour });
    }

    /// A line at the pen; the pen does not move.
    fn put(&mut self, column: Column, line: Line, node: Option<NodeId>) {
        // The baseline stands where the leading leaves as much above the capitals as below the descenders.
        let baseline = self.y + column.leading * 0.5 + column.size * 0.33;
        self.mark(Mark::Text { x: column.x, baseline, colour: column.colour, line, node });
    }

    /// Lines one under the other, over as many pages as they need.
    fn flow(&mut self, column: Column, text: &str, node: NodeId) -> Result<(), ReceiptError> {
        for line in column.lines(text)? {
            self.make_room(column.leading);
            self.put(column, line, Some(node));
            self.y += column.leading;
        }
        Ok(())
    }

    fn head(&mut self, receipt: &Receipt) -> Result<(), ReceiptError> {
        let issuer = Column { style: Style::Bold, size: 11.5, leading: 15.5, ..Column::BODY };
        let node = self.node(Kind::Paragraph, None);
        self.flow(issuer, &receipt.issuer, node)?;
        let kind = Column { size: SMALL, leading: SMALL_LEADING, colour: Colour::Grey, ..Column::BODY };
        let node = self.node(Kind::Paragraph, None);
        self.flow(kind, "Document électronique scellé", node)?;
        self.y += 7.0;
        self.rule(1.6, Colour::Blue);
        self.y += 30.0;

        let title =
            Column { style: Style::Bold, size: 23.0, leading: 29.0, colour: Colour::Blue, ..Column::BODY };
        let node = self.node(Kind::Heading(1, receipt.title.clone()), None);
        self.flow(title, &receipt.title, node)?;
        self.y += 3.0;
        let reference = Column { colour: Colour::Grey, ..Column::BODY };
        let node = self.node(Kind::Paragraph, None);
        self.flow(reference, &format!("Référence : {}", receipt.reference), node)?;
        self.y += 10.0;
        Ok(())
    }

    fn section(&mut self, section: &Section) -> Result<(), ReceiptError> {
        // A heading does not stand alone at the end of a page.
        self.y += 12.0;
        self.make_room(80.0);
        let node = self.node(Kind::Section, None);
        let heading =
            Column { style: Style::Bold, size: 12.5, leading: 17.0, colour: Colour::Blue, ..Column::BODY };
        let title = self.node(Kind::Heading(2, section.heading.clone()), Some(node));
        self.flow(heading, &section.heading, title)?;
        self.y += 2.0;
        self.rule(0.6, Colour::Blue);
        self.y += 7.0;
        for block in &section.blocks {
            match block {
                Block::Paragraph(text) => {
                    let paragraph = self.node(Kind::Paragraph, Some(node));
                    self.flow(Column::BODY, text, paragraph)?;
                    self.y += 5.0;
                }
                Block::Fields(fields) => self.fields(fields, node)?,
                Block::Documents(documents) => self.documents(documents, node)?,
                Block::Verbatim(code) => self.verbatim(code, node)?,
            }
        }
        Ok(())
    }

    fn fields(&mut self, fields: &[Field], section: NodeId) -> Result<(), ReceiptError> {
        let label = Column { width: LABEL_WIDTH - 10.0, colour: Colour::Grey, ..Column::BODY };
        let value = Column { x: LEFT + LABEL_WIDTH, width: WIDTH - LABEL_WIDTH, ..Column::BODY };
        let list = self.node(Kind::List, Some(section));
        for field in fields {
            let item = self.node(Kind::ListItem, Some(list));
            let label_node = self.node(Kind::Label, Some(item));
            let value_node = self.node(Kind::ListBody, Some(item));
            self.side_by_side(&[(label, &field.label, label_node), (value, &field.value, value_node)])?;
            self.y += 2.0;
        }
        self.y += 5.0;
        Ok(())
    }

    /// Texts in columns, line by line: whatever the length of one, the pages are cut between lines.
    fn side_by_side(&mut self, cells: &[(Column, &str, NodeId)]) -> Result<(), ReceiptError> {
        let mut columns = Vec::new();
        for (column, text, node) in cells {
            columns.push((*column, column.lines(text)?.into_iter(), *node));
        }
        let leading = cells.iter().map(|(column, _, _)| column.leading).fold(0.0, f32::max);
        loop {
            let row: Vec<_> = columns
                .iter_mut()
                .filter_map(|(column, lines, node)| Some((*column, lines.next()?, *node)))
                .collect();
            if row.is_empty() {
                return Ok(());
            }
            self.make_room(leading);
            for (column, line, node) in row {
                self.put(column, line, Some(node));
            }
            self.y += leading;
        }
    }

    fn documents(&mut self, documents: &[Document], section: NodeId) -> Result<(), ReceiptError> {
        let table = self.node(Kind::Table, Some(section));
        let row = self.node(Kind::TableRow, Some(table));
        let headers = [(); 3].map(|()| self.node(Kind::TableHeader, Some(row)));
        self.table_head(headers.map(Some))?;

        // Sizes are never cut: the widest one makes the column.
        let mut sizes = Vec::new();
        for document in documents {
            sizes.push(one_line(&octets(document.size), Style::Regular, BODY, WIDTH)?);
        }
        let size_width = sizes.iter().map(|line| line.width).fold(60.0, f32::max);
        let number = Column { width: NUMBER_WIDTH, colour: Colour::Grey, ..Column::BODY };
        let x = LEFT + NUMBER_WIDTH;
        let name = Column { x, width: WIDTH - NUMBER_WIDTH - size_width - 12.0, ..Column::BODY };
        let code = Column {
            x,
            width: WIDTH - NUMBER_WIDTH,
            style: Style::Code,
            size: CODE,
            leading: CODE_LEADING,
            colour: Colour::Ink,
        };
        for (index, (document, size)) in documents.iter().zip(sizes).enumerate() {
            let names = name.lines(&document.name)?;
            // A document stays whole when a page can hold it.
            let height = names.len() as f32 * BODY_LEADING + CODE_LEADING + 8.0;
            if self.make_room(height.min(BOTTOM - TOP - 40.0)) {
                self.table_head([None; 3])?;
            }
            let row = self.node(Kind::TableRow, Some(table));
            let [number_cell, name_cell, size_cell] = [(); 3].map(|()| self.node(Kind::TableCell, Some(row)));
            self.y += 3.0;
            let line = one_line(&(index + 1).to_string(), number.style, number.size, number.width)?;
            self.put(number, line, Some(number_cell));
            self.put(Column { x: RIGHT - size.width, ..Column::BODY }, size, Some(size_cell));
            for line in names {
                if self.make_room(BODY_LEADING) {
                    self.table_head([None; 3])?;
                }
                self.put(name, line, Some(name_cell));
                self.y += BODY_LEADING;
            }
            if self.make_room(CODE_LEADING + 5.0) {
                self.table_head([None; 3])?;
            }
            for line in code.lines(&hex(&document.sha256))? {
                self.put(code, line, Some(name_cell));
                self.y += CODE_LEADING;
            }
            self.y += 4.0;
            self.rule(0.4, Colour::Grey);
        }
        self.y += 8.0;
        Ok(())
    }

    /// The head of the table: part of the structure the first time, decoration on the pages after.
    fn table_head(&mut self, nodes: [Option<NodeId>; 3]) -> Result<(), ReceiptError> {
        let head = Column {
            style: Style::Bold,
            size: SMALL + 0.5,
            leading: BODY_LEADING,
            colour: Colour::Grey,
            ..Column::BODY
        };
        let name = Column { x: LEFT + NUMBER_WIDTH, width: WIDTH / 2.0, ..head };
        let [number_node, name_node, size_node] = nodes;
        let line = one_line("N°", head.style, head.size, NUMBER_WIDTH)?;
        self.put(head, line, number_node);
        let line = one_line("Document et empreinte SHA-256", head.style, head.size, name.width)?;
        self.put(name, line, name_node);
        let line = one_line("Taille", head.style, head.size, WIDTH / 4.0)?;
        self.put(Column { x: RIGHT - line.width, ..head }, line, size_node);
        self.y += BODY_LEADING + 2.0;
        self.rule(0.6, Colour::Grey);
        Ok(())
    }

    fn verbatim(&mut self, code: &[String], section: NodeId) -> Result<(), ReceiptError> {
        let column = Column { style: Style::Code, size: CODE - 0.5, leading: CODE_LEADING, ..Column::BODY };
        for text in code {
            let paragraph = self.node(Kind::Paragraph, Some(section));
            let node = self.node(Kind::Code, Some(paragraph));
            self.flow(column, text, node)?;
        }
        self.y += 5.0;
        Ok(())
    }

    /// The foot of every page, now that their number is known.
    fn feet(&mut self, receipt: &Receipt) -> Result<(), ReceiptError> {
        let total = self.pages.len();
        for (index, page) in self.pages.iter_mut().enumerate() {
            page.push(Mark::Rule {
                x: LEFT,
                y: FOOT - 14.0,
                width: WIDTH,
                thickness: 0.6,
                colour: Colour::Blue,
            });
            let number = one_line(&format!("Page {} sur {total}", index + 1), Style::Regular, SMALL, WIDTH)?;
            let room = WIDTH - number.width - 20.0;
            let foot = format!("{} – {}", receipt.title, receipt.reference);
            let foot = one_line(&foot, Style::Regular, SMALL, room)?;
            let seal = "Scellé électroniquement : toute modification est détectée à l’ouverture du fichier. Le fichier joint recu.json fait partie du reçu.";
            let seal = one_line(seal, Style::Regular, SMALL, WIDTH)?;
            let mut put = |x, baseline, line| {
                page.push(Mark::Text { x, baseline, colour: Colour::Grey, line, node: None });
            };
            put(RIGHT - number.width, FOOT, number);
            put(LEFT, FOOT, foot);
            put(LEFT, FOOT + SMALL_LEADING, seal);
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// « 12 345 678 octets », with spaces that do not break.
fn octets(size: u64) -> String {
    let digits = size.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('\u{A0}');
        }
        grouped.push(digit);
    }
    let unit = if size < 2 { "octet" } else { "octets" };
    format!("{grouped}\u{A0}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_in_french() {
        assert_eq!(octets(0), "0\u{A0}octet");
        assert_eq!(octets(999), "999\u{A0}octets");
        assert_eq!(octets(1_000), "1\u{A0}000\u{A0}octets");
        assert_eq!(octets(u64::MAX), "18\u{A0}446\u{A0}744\u{A0}073\u{A0}709\u{A0}551\u{A0}615\u{A0}octets");
    }
}
