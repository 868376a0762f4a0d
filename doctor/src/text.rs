//! Text that fits a terminal of 80 columns, broken at words.

pub(crate) const WIDTH: usize = 80;

/// Breaks `words` into lines. All but the first begin with `indent`.
pub(crate) fn wrap(words: &str, indent: &str) -> String {
    let lines = lines(words, WIDTH, WIDTH - indent.len());
    lines.join(&format!("\n{indent}")) + "\n"
}

fn lines(words: &str, first: usize, others: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words.split_whitespace() {
        let width = if lines.len() == 1 { first } else { others };
        let line = lines.last_mut().expect("one at least");
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// A title, and whether the cells below it are numbers, which are aligned to the right.
pub(crate) struct Column(pub(crate) &'static str, pub(crate) bool);

/// Columns as wide as they need be; the last gets what is left, and is broken at words.
pub(crate) fn table<const N: usize>(columns: [Column; N], rows: Vec<[String; N]>) -> String {
    let titles = columns.each_ref().map(|column| column.0.to_owned());
    let rules = |widths: &[usize; N]| widths.map(|width| "-".repeat(width));
    let mut widths = titles.each_ref().map(String::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let before: usize = widths[..N - 1].iter().map(|width| width + 2).sum();
    widths[N - 1] = widths[N - 1].min(WIDTH - before);
    let mut text = String::new();
    for row in [titles, rules(&widths)].into_iter().chain(rows) {
        let mut line = String::new();
        for i in 0..N - 1 {
            let (cell, width) = (&row[i], widths[i]);
            line += &if columns[i].1 {
                format!("{cell:>width$}  ")
            } else {
                format!("{cell:width$}  ")
            };
        }
        let last = lines(&row[N - 1], widths[N - 1], widths[N - 1]);
        for (i, words) in last.iter().enumerate() {
            let (before, right) = (line.len(), columns[N - 1].1);
            let start = if i == 0 { line.clone() } else { " ".repeat(before) };
            let width = if right { widths[N - 1] } else { 0 };
            text += format!("{start}{words:>width$}").trim_end();
            text.push('\n');
        }
    }
    text
}

/// To two digits, and a comma for each thousand: 14,000.
pub(crate) fn rounded(number: f64) -> String {
    let unit = 10f64.powf((number.abs().max(1.0).log10() - 1.0).floor().max(0.0));
    thousands((number / unit).round() * unit)
}

/// A whole number, and a comma for each thousand.
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_not_broken_and_lines_fit() {
        let words = "PRIVATE_EXPEDITED, REGISTER_PRIVATE_EXPEDITED, ".repeat(5);
        let text = wrap(&words, "  ");
        assert!(text.lines().count() > 2);
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert_eq!(
            text.split_whitespace().collect::<Vec<_>>(),
            words.split_whitespace().collect::<Vec<_>>()
        );
    }

    #[test]
    fn the_last_column_takes_what_is_left() {
        let row = ["private-expedited".to_owned(), "12".to_owned(), "word ".repeat(30)];
        let columns = [Column("rung", false), Column("ns", true), Column("reason", false)];
        let text = table(columns, vec![row]);
        assert!(text.lines().count() > 3);
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
    }

    #[test]
    fn numbers_are_rounded_to_two_digits() {
        for (number, text) in [
            (0.0, "0"),
            (3.4, "3"),
            (99.0, "99"),
            (3_163.0, "3,200"),
            (14_499.0, "14,000"),
            (1_234_567.0, "1,200,000"),
        ] {
            assert_eq!(rounded(number), text);
        }
    }

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in
            [(0.0, "0"), (999.6, "1,000"), (12_345.4, "12,345"), (1_234_567.0, "1,234,567")]
        {
            assert_eq!(thousands(number), text);
        }
    }
}
