//! Fonts, what may be shown of a text, shaping, and lines.
//!
//! A receipt shows names that others chose. What could make a name look like another one (directional
//! marks, invisible and control characters) or cannot be drawn is shown by its number, as `[U+202E]`. Nothing
//! of a text may be dropped silently.

use std::ops::Range;
use std::sync::LazyLock;

use krilla::text::{Font, GlyphId, KrillaGlyph};
use rustybuzz::{Face, UnicodeBuffer};

use crate::ReceiptError;

/// The fonts of a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Regular,
    Bold,
    /// Of even width, for digests and proofs.
    Code,
}

struct Loaded {
    font: Font,
    face: Face<'static>,
}

static REGULAR: LazyLock<Option<Loaded>> =
    LazyLock::new(|| load(include_bytes!("../fonts/Spectral-Regular.ttf")));
static BOLD: LazyLock<Option<Loaded>> =
    LazyLock::new(|| load(include_bytes!("../fonts/Spectral-SemiBold.ttf")));
static CODE: LazyLock<Option<Loaded>> =
    LazyLock::new(|| load(include_bytes!("../fonts/SourceCodePro-Regular.ttf")));

fn load(data: &'static [u8]) -> Option<Loaded> {
    Some(Loaded { font: Font::new(data.into(), 0)?, face: Face::from_slice(data, 0)? })
}

fn loaded(style: Style) -> Result<&'static Loaded, ReceiptError> {
    let loaded = match style {
        Style::Regular => &REGULAR,
        Style::Bold => &BOLD,
        Style::Code => &CODE,
    };
    loaded.as_ref().ok_or(ReceiptError::Font)
}

/// One line, ready to be drawn.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) style: Style,
    pub(crate) size: f32,
    pub(crate) text: String,
    pub(crate) glyphs: Vec<KrillaGlyph>,
    /// Points, without the space at the end.
    pub(crate) width: f32,
}

impl Line {
    pub(crate) fn font(&self) -> Result<Font, ReceiptError> {
        Ok(loaded(self.style)?.font.clone())
    }
}

/// Marks of direction, joiners, variation selectors and others that leave nothing to see: the characters of
/// Unicode's category Cf, and what has no meaning outside the program that made it.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(u32::from(c),
            0x00AD | 0x034F | 0x0600..=0x0605 | 0x061C | 0x06DD | 0x070F | 0x0890..=0x0891 | 0x08E2
            | 0x115F..=0x1160 | 0x17B4..=0x17B5 | 0x180B..=0x180F | 0x200B..=0x200F | 0x2028..=0x202E
            | 0x2060..=0x206F | 0x3164 | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFFC
            | 0x1_3430..=0x1_3455 | 0x1_BCA0..=0x1_BCA3 | 0x1_D173..=0x1_D17A | 0xE_0000..=0xE_0FFF
            // Private use, and what is no character.
            | 0xE000..=0xF8FF | 0xF_0000..=0x10_FFFF | 0xFDD0..=0xFDEF)
        || u32::from(c) & 0xFFFE == 0xFFFE
}

fn by_number(c: char) -> String {
    format!("[U+{:04X}]", u32::from(c))
}

fn shape(face: &Face<'static>, text: &str) -> rustybuzz::GlyphBuffer {
    let mut buffer = UnicodeBuffer::new();
    buffer.push_str(text);
    // Whatever the script: what is drawn follows the order of the characters.
    buffer.set_direction(rustybuzz::Direction::LeftToRight);
    buffer.guess_segment_properties();
    rustybuzz::shape(face, &[], buffer)
}

/// The text with every character that cannot be shown in this font by its number.
fn visible(face: &Face<'static>, text: &str) -> String {
    let seen: String =
        text.chars().map(|c| if is_unseen(c) { by_number(c) } else { c.to_string() }).collect();
    let shaped = shape(face, &seen);
    let missing: Vec<usize> = shaped
        .glyph_infos()
        .iter()
        .filter(|glyph| glyph.glyph_id == 0)
        .map(|glyph| glyph.cluster as usize)
        .collect();
    if missing.is_empty() {
        return seen;
    }
    let mut starts: Vec<usize> = shaped.glyph_infos().iter().map(|glyph| glyph.cluster as usize).collect();
    starts.sort_unstable();
    starts.dedup();
    let mut out = String::with_capacity(seen.len());
    for (at, start) in starts.iter().enumerate() {
        let end = starts.get(at + 1).copied().unwrap_or(seen.len());
        let cluster = seen.get(*start..end).unwrap_or_default();
        if missing.contains(start) {
            // A base that the font has stays readable beside a mark that it lacks.
            for c in cluster.chars() {
                if face.glyph_index(c).is_some() { out.push(c) } else { out.push_str(&by_number(c)) }
            }
        } else {
            out.push_str(cluster);
        }
    }
    out
}

/// A glyph group that may not be cut, and whether a line may end after it.
struct Cluster {
    glyphs: Range<usize>,
    text: Range<usize>,
    width: f32,
    breaks_after: bool,
    is_space: bool,
}

/// Cuts a text into lines of at most `width` points: after spaces, after signs that join the parts of names
/// (`_`, `.`, `/`), and, when a word is wider than the line, anywhere. Not after `-`: readers that copy text
/// take it for hyphenation and drop it from the name.
pub(crate) fn lines(text: &str, style: Style, size: f32, width: f32) -> Result<Vec<Line>, ReceiptError> {
    let loaded = loaded(style)?;
    let text = visible(&loaded.face, text);
    let scale = size / loaded.font.units_per_em();
    let shaped = shape(&loaded.face, &text);
    let clusters = clusters(&shaped, &text, scale);

    let mut lines = Vec::new();
    let mut start = 0;
    while start < clusters.len() {
        let end = end_of_line(&clusters, start, width);
        lines.push(line(&clusters[start..end], &shaped, &text, style, size, scale));
        start = end;
    }
    Ok(lines)
}

/// A text on one line, cut with « … » when it is wider than `width`.
pub(crate) fn one_line(text: &str, style: Style, size: f32, width: f32) -> Result<Line, ReceiptError> {
    let mut all = lines(text, style, size, width)?;
    if let [first, _, ..] = all.as_slice() {
        let mut kept = first.text.clone();
        while kept.pop().is_some() {
            all = lines(&format!("{}…", kept.trim_end()), style, size, width)?;
            if all.len() <= 1 {
                break;
            }
        }
    }
    let empty = Line { style, size, text: String::new(), glyphs: Vec::new(), width: 0.0 };
    Ok(all.into_iter().next().unwrap_or(empty))
}

fn clusters(shaped: &rustybuzz::GlyphBuffer, text: &str, scale: f32) -> Vec<Cluster> {
    let infos = shaped.glyph_infos();
    let positions = shaped.glyph_positions();
    let mut clusters: Vec<Cluster> = Vec::new();
    for (index, info) in infos.iter().enumerate() {
        let start = info.cluster as usize;
        let advance = positions.get(index).map_or(0.0, |position| position.x_advance as f32 * scale);
        match clusters.last_mut() {
            Some(last) if last.text.start == start => {
                last.glyphs.end = index + 1;
                last.width += advance;
            }
            _ => {
                if let Some(last) = clusters.last_mut() {
                    last.text.end = start;
                }
                clusters.push(Cluster {
                    glyphs: index..index + 1,
                    text: start..text.len(),
                    width: advance,
                    breaks_after: false,
                    is_space: false,
                });
            }
        }
    }
    for cluster in &mut clusters {
        let last = text.get(cluster.text.clone()).and_then(|text| text.chars().last());
        cluster.is_space = last == Some(' ');
        cluster.breaks_after = matches!(last, Some(' ' | '_' | '.' | '/' | '–' | '—'));
    }
    clusters
}

/// The first cluster of the next line.
fn end_of_line(clusters: &[Cluster], start: usize, width: f32) -> usize {
    let mut used = 0.0;
    let mut best = None;
    for (index, cluster) in clusters.iter().enumerate().skip(start) {
        // A space may hang over the end.
        if !cluster.is_space && used + cluster.width > width && index > start {
            return best.unwrap_or(index);
        }
        used += cluster.width;
        if cluster.breaks_after {
            best = Some(index + 1);
        }
    }
    clusters.len()
}

fn line(
    clusters: &[Cluster],
    shaped: &rustybuzz::GlyphBuffer,
    text: &str,
    style: Style,
    size: f32,
    scale: f32,
) -> Line {
    let base = clusters.first().map_or(0, |cluster| cluster.text.start);
    let end = clusters.last().map_or(base, |cluster| cluster.text.end);
    let mut glyphs = Vec::new();
    for cluster in clusters {
        for index in cluster.glyphs.clone() {
            let (Some(info), Some(position)) =
                (shaped.glyph_infos().get(index), shaped.glyph_positions().get(index))
            else {
                continue;
            };
            let unit = |value: i32| value as f32 * scale / size;
            glyphs.push(KrillaGlyph::new(
                GlyphId::new(info.glyph_id),
                unit(position.x_advance),
                unit(position.x_offset),
                unit(position.y_offset),
                unit(position.y_advance),
                cluster.text.start - base..cluster.text.end - base,
                None,
            ));
        }
    }
    let hanging = clusters.iter().rev().take_while(|cluster| cluster.is_space);
    let hanging: f32 = hanging.map(|cluster| cluster.width).sum();
    let width = clusters.iter().map(|cluster| cluster.width).sum::<f32>() - hanging;
    Line { style, size, text: text.get(base..end).unwrap_or_default().to_owned(), glyphs, width }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        visible(&loaded(Style::Regular).unwrap().face, text)
    }

    #[test]
    fn what_cannot_be_seen_is_shown_by_its_number() {
        assert_eq!(shown("facture\u{202E}fdp.exe"), "facture[U+202E]fdp.exe");
        assert_eq!(shown("a\u{200B}b\nc"), "a[U+200B]b[U+000A]c");
        assert_eq!(shown("証拠.pdf"), "[U+8A3C][U+62E0].pdf");
        assert_eq!(shown("🙂"), "[U+1F642]");
    }

    #[test]
    fn french_is_shown_as_it_is_composed_or_not() {
        let french = "Procès-verbal n° 12 – « œuvre » d’Émile, 3 000 € …";
        assert_eq!(shown(french), french);
        assert_eq!(shown("e\u{301}te\u{301}"), "e\u{301}te\u{301}");
        assert_eq!(shown("12\u{202F}000"), "12\u{202F}000");
    }

    #[test]
    fn lines_hold_the_whole_text_and_fit() {
        let name = "un_nom_de_fichier.".repeat(20) + &"x".repeat(300) + " fin";
        let lines = lines(&name, Style::Regular, 10.0, 200.0).unwrap();
        assert!(lines.len() > 5);
        assert_eq!(lines.iter().map(|line| line.text.as_str()).collect::<String>(), name);
        assert!(lines.iter().all(|line| line.width <= 200.0));
    }

    #[test]
    fn one_line_is_cut_with_an_ellipsis() {
        let line = one_line(&"mot ".repeat(100), Style::Bold, 10.0, 100.0).unwrap();
        assert!(line.text.starts_with("mot mot ") && line.text.ends_with('…'), "{}", line.text);
        assert!(line.width <= 100.0);
    }
}
