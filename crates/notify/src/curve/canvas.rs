//! A canvas for pictures: draws lines, areas and text, and encodes a PNG; pure.
//!
//! **Invariant.** The same calls give the same bytes on every machine: the font is part of the
//! program, and no other font is used. The background is white and opaque, so the picture is
//! readable in dark mail clients too. Coordinates are layout pixels of a mail client; the PNG
//! has [`SCALE`] times as many, for high-resolution screens.
//! Deliberately absent: shaping and kerning. The text is numbers and simple words.

use std::collections::HashMap;

use skrifa::instance::{LocationRef, Size};
use skrifa::outline::{DrawSettings, OutlinePen};
use skrifa::{FontRef, MetadataProvider};
use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Rect, Shader, Stroke,
    StrokeDash, Transform,
};

/// Pixels of the PNG per layout pixel, in each direction.
pub const SCALE: f32 = 2.0;

/// A point: x from the left, y from the top.
pub type Point = (f32, f32);

/// Red, green and blue.
pub type Colour = (u8, u8, u8);

/// Weight of the font.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// For labels.
    Regular,
    /// For important numbers.
    SemiBold,
}

impl Weight {
    fn font(self) -> FontRef<'static> {
        let bytes: &'static [u8] = match self {
            Self::Regular => include_bytes!("font/inter-regular.otf"),
            Self::SemiBold => include_bytes!("font/inter-semibold.otf"),
        };
        FontRef::new(bytes).expect("the font in this repository is whole")
    }
}

/// Alignment of a text at its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// The text begins at the point.
    Left,
    /// Its middle is at the point.
    Middle,
    /// It ends at the point.
    Right,
}

/// A white canvas.
pub struct Canvas {
    pixmap: Pixmap,
}

impl Canvas {
    /// A canvas of this size in layout pixels.
    pub fn new(width: u32, height: u32) -> Self {
        let (width, height) = (width * SCALE as u32, height * SCALE as u32);
        let mut pixmap = Pixmap::new(width, height).expect("a picture has a size");
        pixmap.fill(Color::WHITE);
        Self { pixmap }
    }

    /// Fills the rectangle between two corners; does nothing if it has no area.
    pub fn rectangle(&mut self, (left, top): Point, (right, bottom): Point, colour: Colour) {
        if let Some(rect) = Rect::from_ltrb(left, top, right, bottom) {
            self.pixmap.fill_rect(rect, &paint(colour), scaled(), None);
        }
    }

    /// Fills a polygon.
    pub fn area(&mut self, corners: &[Point], colour: Colour) {
        if let Some(path) = path(corners) {
            self.fill(&path, colour);
        }
    }

    /// Draws a line; `dash` is the length of dashes and gaps, if it is dashed.
    pub fn line(&mut self, points: &[Point], width: f32, dash: Option<f32>, colour: Colour) {
        let Some(path) = path(points) else { return };
        let stroke = Stroke {
            width,
            line_cap: if dash.is_some() { LineCap::Butt } else { LineCap::Round },
            line_join: LineJoin::Round,
            dash: dash.and_then(|length| StrokeDash::new(vec![length, length], 0.0)),
            ..Stroke::default()
        };
        self.pixmap.stroke_path(&path, &paint(colour), &stroke, scaled(), None);
    }

    /// Fills a circle.
    pub fn dot(&mut self, (x, y): Point, radius: f32, colour: Colour) {
        if let Some(path) = PathBuilder::from_circle(x, y, radius) {
            self.fill(&path, colour);
        }
    }

    /// Writes a line of text whose baseline is at the point.
    pub fn text(
        &mut self,
        text: &str,
        (x, y): Point,
        align: Align,
        (weight, size): (Weight, f32),
        colour: Colour,
    ) {
        let font = weight.font();
        let (charmap, outlines) = (font.charmap(), font.outline_glyphs());
        let size = Size::new(size);
        let metrics = font.glyph_metrics(size, LocationRef::default());
        let glyphs = || text.chars().map(|c| charmap.map(c).unwrap_or_default());
        let advance = |glyph| metrics.advance_width(glyph).unwrap_or_default();
        let width: f32 = glyphs().map(advance).sum();
        let start = match align {
            Align::Left => x,
            Align::Middle => x - width / 2.0,
            Align::Right => x - width,
        };
        let mut pen = Pen { x: start, y, path: PathBuilder::new() };
        for glyph in glyphs() {
            if let Some(outline) = outlines.get(glyph) {
                let settings = DrawSettings::unhinted(size, LocationRef::default());
                outline.draw(settings, &mut pen).expect("the font in this repository is whole");
            }
            pen.x += advance(glyph);
        }
        if let Some(path) = pen.path.finish() {
            self.fill(&path, colour);
        }
    }

    /// Encodes the picture as a PNG file. A chart has few colours, even with smoothed edges, so
    /// the PNG uses a palette; that halves the file.
    pub fn png(&self) -> Vec<u8> {
        let mut numbers: HashMap<[u8; 3], u8> = HashMap::new();
        let mut palette: Vec<[u8; 3]> = Vec::new();
        let pixels: Vec<u8> = self
            .pixmap
            .data()
            .chunks_exact(4)
            .map(|pixel| {
                let colour = [pixel[0], pixel[1], pixel[2]];
                *numbers.entry(colour).or_insert_with(|| number(&mut palette, colour))
            })
            .collect();
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, self.pixmap.width(), self.pixmap.height());
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_palette(palette.concat());
        encoder.set_compression(png::Compression::High);
        encoder.set_filter(png::Filter::NoFilter);
        encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&pixels))
            .expect("writing to memory cannot fail");
        file
    }

    fn fill(&mut self, path: &Path, colour: Colour) {
        self.pixmap.fill_path(path, &paint(colour), FillRule::Winding, scaled(), None);
    }
}

/// The index of a colour in the palette; if the palette is full, of the nearest colour.
fn number(palette: &mut Vec<[u8; 3]>, colour: [u8; 3]) -> u8 {
    let distance = |other: &[u8; 3]| -> u32 {
        other.iter().zip(colour).map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum()
    };
    if let Ok(number) = u8::try_from(palette.len()) {
        palette.push(colour);
        return number;
    }
    let nearest = (0..=u8::MAX).min_by_key(|&number| distance(&palette[usize::from(number)]));
    nearest.unwrap_or_default()
}

fn scaled() -> Transform {
    Transform::from_scale(SCALE, SCALE)
}

fn paint((red, green, blue): Colour) -> Paint<'static> {
    let shader = Shader::SolidColor(Color::from_rgba8(red, green, blue, 255));
    Paint { shader, anti_alias: true, ..Paint::default() }
}

fn path(points: &[Point]) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (place, &(x, y)) in points.iter().enumerate() {
        if place == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
    }
    path.finish()
}

/// Copies the outline of a glyph, whose y axis points up, to its place on the canvas.
struct Pen {
    x: f32,
    y: f32,
    path: PathBuilder,
}

impl OutlinePen for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        self.path.move_to(self.x + x, self.y - y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.path.line_to(self.x + x, self.y - y);
    }

    fn quad_to(&mut self, x0: f32, y0: f32, x: f32, y: f32) {
        self.path.quad_to(self.x + x0, self.y - y0, self.x + x, self.y - y);
    }

    fn curve_to(&mut self, x0: f32, y0: f32, x1: f32, y1: f32, x: f32, y: f32) {
        let (ox, oy) = (self.x, self.y);
        self.path.cubic_to(ox + x0, oy - y0, ox + x1, oy - y1, ox + x, oy - y);
    }

    fn close(&mut self) {
        self.path.close();
    }
}

/// The characters of a text that are not in the font.
#[cfg(test)]
pub fn missing(text: &str) -> String {
    let lacks = |weight: Weight, c| weight.font().charmap().map(c).is_none();
    text.chars().filter(|&c| lacks(Weight::Regular, c) || lacks(Weight::SemiBold, c)).collect()
}
