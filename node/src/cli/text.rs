//! Text for a terminal.

/// `text` without what could steer a terminal or hide what it says: control characters, and the marks that turn the
/// direction of writing.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().filter(|character| !is_hostile(*character)).collect()
}

fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            // Bidirectional marks (Unicode TR 9), line and paragraph separators, and the invisible.
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
        )
}

/// The first characters of an identifier.
pub(crate) fn head(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

/// A table: the first row is the head, columns are as wide as they need to be, up to `MAX_CELL_CHARS`.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| shorten(&printable(cell))).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Characters of a cell; a longer one ends in `…`.
const MAX_CELL_CHARS: usize = 60;

fn shorten(text: &str) -> String {
    if text.chars().count() <= MAX_CELL_CHARS {
        return text.to_owned();
    }
    text.chars().take(MAX_CELL_CHARS - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2J\r\nb\u{9b}31m\u{202e}c\u{0}"), "a[2Jb31mc");
        assert_eq!(printable("Zoë 東京 🎸"), "Zoë 東京 🎸");
    }

    #[test]
    fn columns_line_up_and_long_cells_are_cut() {
        let long = "x".repeat(500);
        let text =
            table(&[vec!["NAME".into(), "N".into()], vec![long, "1".into()], vec!["b".into(), "2".into()]]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.chars().count() <= MAX_CELL_CHARS + 3));
        assert_eq!(lines[0].find('N'), Some(0));
        assert!(lines[2].ends_with("  2"));
    }
}
