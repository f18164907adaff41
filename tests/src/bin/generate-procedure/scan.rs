//! Pages that look scanned: a typewritten page, a little turned, on paper that is not quite white, with the
//! noise and the shadow of a cheap scanner, kept as one grey picture without a single character of text.

use std::convert::Infallible;

use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::iso_8859_15::FONT_10X20;
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::text::{Baseline, Text};
use embedded_graphics::{Drawable, Pixel};

use crate::paper::Sheet;
use crate::random::Random;

/// The page as typed: 88 characters of 10 pixels by 62 lines of 20.
const TYPED_WIDTH: usize = 880;
const TYPED_HEIGHT: usize = 1245;
const COLUMNS: usize = 70;
const LINES: usize = 54;
/// The page as scanned: A4 at 150 dots an inch.
const WIDTH: usize = 1240;
const HEIGHT: usize = 1754;

struct Typed {
    ink: Vec<u8>,
}

impl OriginDimensions for Typed {
    fn size(&self) -> Size {
        Size::new(TYPED_WIDTH as u32, TYPED_HEIGHT as u32)
    }
}

impl DrawTarget for Typed {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(at, color) in pixels {
            let inside = (0..TYPED_WIDTH as i32).contains(&at.x) && (0..TYPED_HEIGHT as i32).contains(&at.y);
            if inside && color.is_on() {
                self.ink[at.y as usize * TYPED_WIDTH + at.x as usize] = 255;
            }
        }
        Ok(())
    }
}

impl Typed {
    fn page(lines: &[String], random: &mut Random) -> Self {
        let mut typed = Self { ink: vec![0; TYPED_WIDTH * TYPED_HEIGHT] };
        let style = MonoTextStyle::new(&FONT_10X20, BinaryColor::On);
        for (index, line) in lines.iter().enumerate() {
            // A typewriter's line is never quite level with the one before.
            let wander = random.between(0, 2) as i32;
            let at = Point::new(96 + wander, 84 + index as i32 * 20 + wander);
            let Ok(_) = Text::with_baseline(line, at, style, Baseline::Top).draw(&mut typed);
        }
        typed
    }

    /// The ink at a point between pixels, from the four around it.
    fn at(&self, x: f32, y: f32) -> f32 {
        let (column, row) = (x.floor(), y.floor());
        if column < 0.0 || row < 0.0 || column as usize + 1 >= TYPED_WIDTH || row as usize + 1 >= TYPED_HEIGHT
        {
            return 0.0;
        }
        let (right, down) = (x - column, y - row);
        let at = row as usize * TYPED_WIDTH + column as usize;
        let one = |index: usize| f32::from(self.ink[index]);
        let above = one(at) * (1.0 - right) + one(at + 1) * right;
        let below = one(at + TYPED_WIDTH) * (1.0 - right) + one(at + TYPED_WIDTH + 1) * right;
        above * (1.0 - down) + below * down
    }
}

/// Cuts text to the typewriter's lines and the lines to pages.
pub(crate) fn pages(paragraphs: &[String], random: &mut Random) -> Vec<Sheet> {
    let mut lines = Vec::new();
    for paragraph in paragraphs {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > COLUMNS {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines.chunks(LINES).map(|page| scanned(&typeable(page), random)).collect()
}

/// The bitmap font has Latin-9: French in full, but neither long dashes nor curly quotes.
fn typeable(lines: &[String]) -> Vec<String> {
    let plain = |letter| match letter {
        '–' | '—' => '-',
        '’' => '\'',
        '\u{a0}' => ' ',
        other => other,
    };
    lines.iter().map(|line| line.chars().map(plain).collect()).collect()
}

fn scanned(lines: &[String], random: &mut Random) -> Sheet {
    let typed = Typed::page(lines, random);
    let angle = (random.unit() - 0.5) * 0.044; // up to 1.26 degrees either way
    let (sine, cosine) = angle.sin_cos();
    let scale = TYPED_WIDTH as f32 / WIDTH as f32;
    let (shift_x, shift_y) = (random.unit() * 16.0 - 8.0, random.unit() * 16.0 - 8.0);
    let ink = 150.0 + random.unit() * 70.0;
    let shadow = 14.0 + random.unit() * 26.0;
    let holes = [(46.0, 0.36 * HEIGHT as f32), (46.0, 0.64 * HEIGHT as f32)];
    let mut packed = vec![0u8; WIDTH / 2 * HEIGHT];
    for y in 0..HEIGHT {
        let (from_middle, down) = (y as f32 - HEIGHT as f32 / 2.0, y as f32 / HEIGHT as f32);
        let band = 2.5 * (down * 31.0).sin();
        for x in 0..WIDTH {
            let across = x as f32 - WIDTH as f32 / 2.0;
            let source_x =
                (across * cosine + from_middle * sine) * scale + TYPED_WIDTH as f32 / 2.0 + shift_x;
            let source_y =
                (from_middle * cosine - across * sine) * scale + TYPED_HEIGHT as f32 / 2.0 + shift_y;
            let bits = random.next();
            // The sum of four bytes is near enough to a normal law.
            let noise = ((bits & 255) + (bits >> 8 & 255) + (bits >> 16 & 255) + (bits >> 24 & 255)) as f32
                / 510.0
                - 1.0;
            let mut grey = 236.0 + band - typed.at(source_x, source_y) / 255.0 * ink + noise * 22.0;
            let left = x as f32 / WIDTH as f32;
            if left < 0.06 {
                grey -= (0.06 - left) / 0.06 * shadow;
            }
            if holes.iter().any(|(hx, hy)| (x as f32 - hx).powi(2) + (y as f32 - hy).powi(2) < 15.0 * 15.0) {
                grey = 70.0 + noise * 20.0;
            }
            if bits >> 40 & 0x3fff == 0 {
                grey -= 110.0; // a speck of dust
            }
            let level = (grey.clamp(0.0, 255.0) / 17.0) as u8;
            packed[(y * WIDTH + x) / 2] |= if x % 2 == 0 { level << 4 } else { level };
        }
    }
    let deflated = miniz_oxide::deflate::compress_to_vec_zlib(&packed, 1);
    Sheet::Scan { width: WIDTH as u32, height: HEIGHT as u32, deflated }
}
