//! The PDF/A-3a of a receipt (ISO 19005-3, level A): tagged, fonts embedded, its JSON an associated file.

use std::num::NonZeroU16;

use krilla::color::rgb;
use krilla::configure::{Archival, ConfigurationBuilder};
use krilla::embed::{AssociationKind, EmbeddedFile, MimeType};
use krilla::error::KrillaError;
use krilla::geom::{PathBuilder, Point, Rect};
use krilla::metadata::{DateTime, Metadata, TextDirection};
use krilla::num::NormalizedF32;
use krilla::page::PageSettings;
use krilla::paint::{Fill, FillRule};
use krilla::surface::Surface;
use krilla::tagging::{
    Artifact, ArtifactType, ContentTag, Identifier, ListNumbering, Node as Tagged, SpanTag, TableHeaderScope,
    Tag, TagGroup, TagTree,
};
use krilla::{Document, SerializeSettings};
use pli_api::Time;
use time::OffsetDateTime;

use crate::layout::{Colour, Kind, Layout, Mark, Node, NodeId, PAGE, lay_out};
use crate::{JSON_MAX, JSON_NAME, Receipt, ReceiptError};

const LANGUAGE: &str = "fr-FR";

pub(crate) fn render(receipt: &Receipt) -> Result<Vec<u8>, ReceiptError> {
    if receipt.json.is_empty() || receipt.json.len() > JSON_MAX {
        return Err(ReceiptError::Json);
    }
    let created = date_time(receipt.created)?;
    let layout = lay_out(receipt)?;

    let configuration = ConfigurationBuilder::new()
        .with_archival_validator(Archival::A3_A)
        .finish()
        .map_err(|_| ReceiptError::Pdf("configuration"))?;
    let settings = SerializeSettings { configuration, pretty: true, ..SerializeSettings::default() };
    let mut document = Document::new_with(settings);
    document.set_metadata(
        Metadata::new()
            .title(format!("{} – {}", receipt.title, receipt.reference))
            .authors(vec![receipt.issuer.clone()])
            .creator("Pli".to_owned())
            .language(LANGUAGE.to_owned())
            .text_direction(TextDirection::LeftToRight)
            .document_id(receipt.reference.clone())
            .creation_date(created),
    );
    document
        .embed_file(EmbeddedFile {
            path: JSON_NAME.to_owned(),
            mime_type: MimeType::new("application/json"),
            description: Some("Le reçu, lisible par un programme".to_owned()),
            // The pages were made from it.
            association_kind: AssociationKind::Source,
            data: receipt.json.clone().into(),
            modification_date: Some(created),
            compress: Some(true),
            location: None,
        })
        .ok_or(ReceiptError::Pdf("embedded file"))?;

    let mut identifiers: Vec<Vec<Identifier>> = vec![Vec::new(); layout.nodes.len()];
    for marks in &layout.pages {
        let settings = PageSettings::from_wh(PAGE.0, PAGE.1).ok_or(ReceiptError::Pdf("page"))?;
        let mut page = document.start_page_with(settings);
        let mut surface = page.surface();
        draw(&mut surface, marks, &mut identifiers)?;
        surface.finish();
        page.finish();
    }
    document.set_tag_tree(tag_tree(&layout, &identifiers));
    document.finish().map_err(|error| {
        ReceiptError::Pdf(match error {
            KrillaError::Font(..) => "font",
            KrillaError::Validation(_) => "not PDF/A-3a",
            KrillaError::Limit(_) => "limit",
            _ => "structure",
        })
    })
}

/// Draws a page. Marks of one node that follow one another make one piece of marked content.
fn draw(
    surface: &mut Surface<'_>,
    marks: &[Mark],
    identifiers: &mut [Vec<Identifier>],
) -> Result<(), ReceiptError> {
    for run in marks.chunk_by(|one, next| node_of(one) == node_of(next)) {
        let node = run.first().and_then(node_of);
        let tag = match node {
            Some(_) => ContentTag::Span(SpanTag::empty()),
            None => ContentTag::Artifact(Artifact::with_kind(ArtifactType::Layout)),
        };
        let identifier = surface.start_tagged(tag);
        for mark in run {
            match mark {
                Mark::Text { x, baseline, colour, line, .. } => {
                    surface.set_fill(Some(fill(*colour)));
                    let at = Point::from_xy(*x, *baseline);
                    surface.draw_glyphs(at, &line.glyphs, line.font()?, &line.text, line.size, false);
                }
                Mark::Rule { x, y, width, thickness, colour } => {
                    surface.set_fill(Some(fill(*colour)));
                    let mut path = PathBuilder::new();
                    if let Some(rect) = Rect::from_xywh(*x, *y, *width, *thickness) {
                        path.push_rect(rect);
                    }
                    if let Some(path) = path.finish() {
                        surface.draw_path(&path);
                    }
                }
            }
        }
        surface.end_tagged();
        if let Some(of_node) = node.and_then(|node| identifiers.get_mut(node)) {
            of_node.push(identifier);
        }
    }
    Ok(())
}

fn node_of(mark: &Mark) -> Option<NodeId> {
    match mark {
        Mark::Text { node, .. } => *node,
        Mark::Rule { .. } => None,
    }
}

fn fill(colour: Colour) -> Fill {
    let colour = match colour {
        Colour::Ink => rgb::Color::new(0x16, 0x16, 0x16),
        Colour::Grey => rgb::Color::new(0x5A, 0x5A, 0x5A),
        Colour::Blue => rgb::Color::new(0x1B, 0x2A, 0x5C),
    };
    Fill { paint: colour.into(), opacity: NormalizedF32::ONE, rule: FillRule::NonZero }
}

fn tag_tree(layout: &Layout, identifiers: &[Vec<Identifier>]) -> TagTree {
    let mut children: Vec<Vec<NodeId>> = vec![Vec::new(); layout.nodes.len()];
    let mut roots = Vec::new();
    for (id, node) in layout.nodes.iter().enumerate() {
        match node.parent.and_then(|parent| children.get_mut(parent)) {
            Some(siblings) => siblings.push(id),
            None => roots.push(id),
        }
    }
    let mut tree = TagTree::new().with_lang(Some(LANGUAGE.to_owned()));
    for root in roots {
        if let Some(group) = group(root, &layout.nodes, &children, identifiers) {
            tree.push(group);
        }
    }
    tree
}

/// A node with what is in it; nothing when it is empty. The depth is that of the layout: a handful.
fn group(
    id: NodeId,
    nodes: &[Node],
    children: &[Vec<NodeId>],
    identifiers: &[Vec<Identifier>],
) -> Option<TagGroup> {
    let mut inside: Vec<Tagged> =
        identifiers.get(id)?.iter().map(|identifier| (*identifier).into()).collect();
    for child in children.get(id)? {
        inside.extend(group(*child, nodes, children, identifiers).map(Tagged::from));
    }
    if inside.is_empty() {
        return None;
    }
    Some(match &nodes.get(id)?.kind {
        Kind::Section => TagGroup::with_children(Tag::Section, inside),
        Kind::Heading(level, title) => {
            TagGroup::with_children(Tag::Hn(NonZeroU16::new(*level)?, Some(title.clone())), inside)
        }
        Kind::Paragraph => TagGroup::with_children(Tag::P, inside),
        Kind::List => TagGroup::with_children(Tag::L(ListNumbering::None), inside),
        Kind::ListItem => TagGroup::with_children(Tag::LI, inside),
        Kind::Label => TagGroup::with_children(Tag::Lbl, inside),
        Kind::ListBody => TagGroup::with_children(Tag::LBody, inside),
        Kind::Table => TagGroup::with_children(Tag::Table, inside),
        Kind::TableRow => TagGroup::with_children(Tag::TR, inside),
        Kind::TableHeader => TagGroup::with_children(Tag::TH(TableHeaderScope::Column), inside),
        Kind::TableCell => TagGroup::with_children(Tag::TD, inside),
        Kind::Code => TagGroup::with_children(Tag::Code, inside),
    })
}

fn date_time(time: Time) -> Result<DateTime, ReceiptError> {
    let date = OffsetDateTime::from_unix_timestamp(time.seconds()).map_err(|_| ReceiptError::Time)?;
    let year = u16::try_from(date.year()).ok().filter(|year| (1970..=9999).contains(year));
    Ok(DateTime::new(year.ok_or(ReceiptError::Time)?)
        .month(date.month().into())
        .day(date.day())
        .hour(date.hour())
        .minute(date.minute())
        .second(date.second())
        .utc_offset_hour(0)
        .utc_offset_minute(0))
}
