//! Tables of figures.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};

use super::stats::Spread;

/// The width of a terminal, and of what is printed.
pub(crate) const COLUMNS: u16 = 80;

/// Levels of a sparkline.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Rounds whose figures are written out.
const WRITTEN_OUT: usize = 10;

/// A table without rows.
pub(crate) fn table(header: Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    // What is wider is broken within its column.
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(COLUMNS);
    table.set_header(header);
    table
}

/// Adds a row: a name, then figures.
pub(crate) fn add(table: &mut Table, row: Vec<String>) {
    let align = |(column, text)| {
        let alignment = if column == 0 { CellAlignment::Left } else { CellAlignment::Right };
        Cell::new(text).set_alignment(alignment)
    };
    table.add_row(row.into_iter().enumerate().map(align).collect::<Vec<_>>());
}

/// Every round of every run, one after the other: a curve and figures, from name and figures.
pub(crate) fn rounds(unit: &str, runs: &[(String, Vec<f64>)]) -> Table {
    let most = runs.iter().flat_map(|(_, figures)| figures).copied().fold(0.0, f64::max);
    let mut table = table(["transport", "", unit].map(str::to_owned).to_vec());
    for (name, figures) in runs {
        let curve = figures.iter().map(|&figure| level(figure, most)).collect();
        let written = figures.iter().take(WRITTEN_OUT).map(|figure| format!("{figure:.0}"));
        let more = if figures.len() > WRITTEN_OUT { " .." } else { "" };
        add(&mut table, vec![name.clone(), curve, written.collect::<Vec<_>>().join(" ") + more]);
    }
    table
}

/// `median (least - most)`
pub(crate) fn spread(spread: Option<Spread>, decimals: usize) -> String {
    spread.map_or_else(dash, |Spread { median, min, max }| {
        format!("{median:.decimals$} ({min:.decimals$} - {max:.decimals$})")
    })
}

/// How many times the reference, by their medians.
pub(crate) fn ratio(own: Option<Spread>, reference: Option<Spread>) -> String {
    match (own, reference) {
        (Some(own), Some(other)) if other.median > 0.0 => format!("{:.2}", own.median / other.median),
        _ => dash(),
    }
}

/// Stands for a figure that there is not.
pub(crate) fn dash() -> String {
    "-".to_owned()
}

/// A figure's height on a scale from zero.
fn level(figure: f64, most: f64) -> char {
    let step = (figure / most * LEVELS.len() as f64).ceil() as usize;
    LEVELS[step.clamp(1, LEVELS.len()) - 1]
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Lines of more than 80 columns.
    pub(crate) fn wider_than_a_terminal(text: &str) -> Vec<&str> {
        text.lines().filter(|line| line.chars().count() > usize::from(COLUMNS)).collect()
    }

    #[test]
    fn sparklines_begin_at_the_least_level() {
        assert_eq!([0.0, 1.0, 50.0, 100.0].map(|figure| level(figure, 100.0)), ['▁', '▁', '▄', '█']);
        assert_eq!(level(0.0, 0.0), '▁');
    }

    #[test]
    fn many_rounds_are_cut_short() {
        let text = rounds("MB/s", &[("raw".to_owned(), vec![10.0; 11])]).to_string();
        assert!(text.contains(&LEVELS[7].to_string().repeat(11)) && text.contains("10 10 .."), "{text}");
    }

    #[test]
    fn ratios_are_of_medians() {
        let (own, other) = (Spread::of([1.0, 2.0, 9.0]), Spread::of([4.0]));
        assert_eq!(ratio(own, other), "0.50");
        assert_eq!(ratio(own, None), "-");
        assert_eq!(spread(own, 1), "2.0 (1.0 - 9.0)");
    }
}
