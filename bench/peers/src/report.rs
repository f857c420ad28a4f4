//! Writes `docs/benchmarks.md`: tables between markers, with the prose around them unchanged, and charts beside the
//! file.

use std::fmt::Write as _;
use std::path::PathBuf;

use plotters::prelude::*;

/// The folder of the document and its charts.
const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");

/// A table with a title.
pub struct Table {
    title: String,
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    pub fn new(title: &str, heads: &[impl ToString]) -> Self {
        let heads = heads.iter().map(ToString::to_string).collect();
        Table { title: title.to_owned(), heads, rows: Vec::new(), notes: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Adds a line below the table.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    fn to_text(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: Vec<_> =
            self.heads.iter().enumerate().map(|(n, _)| if n == 0 { "---" } else { "---:" }).collect();
        let mut text = format!("**{}**\n\n{}|{}|\n", self.title, line(&self.heads), rule.join("|"));
        self.rows.iter().for_each(|row| text.push_str(&line(row)));
        self.notes.iter().for_each(|note| {
            let _ = write!(text, "\n{note}\n");
        });
        text
    }
}

/// The values of one colour in a chart.
pub struct Series {
    pub name: String,
    /// The label below each bar, and the bar's height.
    pub values: Vec<(String, f64)>,
}

/// A chart of grouped bars, one colour for each series. The scale is logarithmic if the values differ by more than a
/// factor of 50.
pub struct Chart {
    name: &'static str,
    title: String,
    series: Vec<Series>,
}

impl Chart {
    pub fn bars(name: &'static str, title: &str) -> Self {
        Chart { name, title: title.to_owned(), series: Vec::new() }
    }

    pub fn add(&mut self, series: Series) {
        self.series.push(series);
    }

    fn file(&self) -> String {
        format!("benchmarks-{}.svg", self.name)
    }

    fn draw(&self) -> Result<(), Box<dyn std::error::Error>> {
        const COLOURS: [RGBColor; 8] = [
            RGBColor(0x1b, 0x6e, 0xc2),
            RGBColor(0xe0, 0x7b, 0x39),
            RGBColor(0xc2, 0x4b, 0x4b),
            RGBColor(0x7a, 0x5c, 0xa8),
            RGBColor(0x5b, 0x8c, 0x5a),
            RGBColor(0x8c, 0x6d, 0x4f),
            RGBColor(0x6b, 0x6b, 0x6b),
            RGBColor(0xb3, 0x8f, 0x00),
        ];
        let path = PathBuf::from(DOCS).join(self.file());
        let area = SVGBackend::new(&path, (960, 420)).into_drawing_area();
        area.fill(&WHITE)?;
        let groups: Vec<&str> = self
            .series
            .first()
            .map_or(vec![], |one| one.values.iter().map(|(name, _)| name.as_str()).collect());
        let heights = self.series.iter().flat_map(|series| series.values.iter().map(|(_, height)| *height));
        let known = heights.filter(|height| height.is_finite() && *height > 0.0);
        let (low, high) =
            known.fold((f64::MAX, 0.0_f64), |(low, high), height| (low.min(height), high.max(height)));
        let logarithmic = high > 50.0 * low;
        // On a logarithmic scale, bars start at a power of ten below the smallest value.
        let scale = |height: f64| if logarithmic { height.max(1e-9).log10() } else { height };
        let floor = if logarithmic { (low.log10() - 0.2).floor() } else { 0.0 };
        let top = if logarithmic { scale(high) + 0.1 } else { high * 1.08 };
        let label = |value: &f64| {
            let value = if logarithmic { 10_f64.powf(*value) } else { *value };
            crate::measure::number(value, if value < 10.0 { 1 } else { 0 })
        };
        let title = if logarithmic { format!("{} (logarithmic)", self.title) } else { self.title.clone() };
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(34)
            .y_label_area_size(74)
            .build_cartesian_2d(0.0..groups.len() as f64, floor..top)?;
        let name_of =
            |place: &f64| groups.get(place.floor() as usize).map_or(String::new(), |name| (*name).to_owned());
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(groups.len())
            .x_label_offset((960 - 74) / (2 * groups.len().max(1) as i32))
            .x_label_formatter(&name_of)
            .y_labels(6)
            .y_label_formatter(&label)
            .draw()?;
        let width = 0.84 / self.series.len().max(1) as f64;
        for (place, series) in self.series.iter().enumerate() {
            let colour = COLOURS[place % COLOURS.len()];
            let bars = series.values.iter().enumerate().filter(|(_, (_, height))| height.is_finite());
            let bars = bars.map(|(group, (_, height))| {
                let left = group as f64 + 0.08 + width * place as f64;
                Rectangle::new(
                    [(left, floor), (left + width * 0.92, scale(*height).max(floor))],
                    colour.filled(),
                )
            });
            chart
                .draw_series(bars)?
                .label(series.name.as_str())
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], colour.filled()));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(200, 200, 200))
            .draw()?;
        area.present()?;
        Ok(())
    }
}

/// The document.
pub struct Report {
    path: PathBuf,
    /// The name of each block and its new text.
    blocks: Vec<(String, String)>,
}

impl Report {
    pub fn new() -> Self {
        Report { path: PathBuf::from(DOCS).join("benchmarks.md"), blocks: Vec::new() }
    }

    /// Replaces the table of that name.
    pub fn table(&mut self, name: &str, table: Table) {
        self.block(name, &table.to_text());
    }

    /// Prints the text, and replaces the block between the two markers of that name. A block without markers goes to
    /// the end.
    pub fn block(&mut self, name: &str, text: &str) {
        println!("{text}");
        self.blocks.push((name.to_owned(), text.to_owned()));
    }

    /// Draws a chart beside the document.
    pub fn chart(&mut self, chart: Chart) -> Result<(), String> {
        chart.draw().map_err(|error| format!("{}: {error}", chart.file()))
    }

    /// Writes the blocks into the document as it is on disk now, since its prose may have been edited during the
    /// measurement.
    pub fn save(&mut self) -> Result<(), String> {
        let path = self.path.clone();
        let failed = |error| format!("{}: {error}", path.display());
        let mut text = std::fs::read_to_string(&self.path).map_err(failed)?;
        for (name, block) in self.blocks.drain(..) {
            let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->\n"));
            match text.find(&begin).zip(text.find(&end)) {
                Some((start, stop)) => text.replace_range(start + begin.len()..stop, &block),
                None => {
                    let _ = write!(text, "\n{begin}{block}{end}");
                }
            }
        }
        std::fs::write(&self.path, &text).map_err(failed)
    }
}
