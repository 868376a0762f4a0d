//! The table of `docs/cookbook.md`, from one run of the cookbook's benches. `cookbook/benches/table.txt` has its rows.

use std::collections::BTreeMap;

use xshell::{Shell, cmd};

use crate::{Result, machine};

const ROWS: &str = "cookbook/benches/table.txt";

/// By table and contender. A contender's second figure has `a write` behind its name.
type Figures = BTreeMap<(String, String), f64>;

pub(crate) fn table(sh: &Shell, quick: bool) -> Result {
    let quick = quick.then_some("--quick");
    let (mut figures, mut lines) = (Figures::new(), Vec::new());
    // The first lines say what the others are.
    for row in sh.read_file(ROWS)?.lines().skip_while(|line| !line.starts_with("# ")) {
        if let Some(bench) = row.strip_prefix("# ") {
            let bench = ["-p", "cookbook-benches", "--bench", bench];
            // With `--list` criterion only lists its groups. What runs is the measurement in which all contenders
            // alternate.
            let output = cmd!(sh, "cargo bench --quiet {bench...} -- {quick...} --list").read()?;
            figures = parse(&output);
        } else if !row.is_empty() {
            lines.push(line(row, &figures)?);
        }
    }
    println!("{}; medians in ns:\n", machine::describe(sh)?);
    println!("| | here | symmetric | instead of |\n| --- | ---: | ---: | --- |");
    lines.iter().for_each(|line| println!("{line}"));
    println!("\n{}", epochs(&figures)?);
    Ok(())
}

/// What the epochs cost: nanoseconds, heavy fences a second, and the most objects that waited at once.
fn epochs(figures: &Figures) -> Result<String> {
    const NAMES: [&str; 4] = ["here", "its symmetric twin", "its unpaced twin", "crossbeam-epoch"];
    let mut lines = "| | here | symmetric | unpaced | crossbeam-epoch |\n".to_owned();
    lines += "| --- | ---: | ---: | ---: | ---: |";
    let beside = ["100", "10", "1"]
        .map(|period| format!("pin and leave, beside one who replaces every {period} us"));
    let replaces = "replace and retire, beside a thread that runs".to_owned();
    for table in beside.into_iter().chain([replaces]) {
        lines += &format!("\n| {} |", table.replace(" us", " µs"));
        for name in NAMES {
            let find = |of: &str| {
                let figure = figures.get(&(table.clone(), format!("{name}{of}")));
                figure.copied().ok_or(format!("no figure of `{name}{of}` in `{table}`"))
            };
            let nanoseconds = rounded(find("")?);
            let [fences, garbage] = [find(" fences")?, find(" garbage")?];
            lines += &match name {
                "crossbeam-epoch" => format!(" {nanoseconds} |"),
                _ => format!(" {nanoseconds}; {}; {} |", whole(fences), whole(garbage)),
            };
        }
    }
    Ok(lines)
}

/// Without a fraction, and with a comma behind the thousands.
fn whole(figure: f64) -> String {
    match figure.round() as u64 {
        few @ ..1000 => few.to_string(),
        many => format!("{},{:03}", many / 1000, many % 1000),
    }
}

/// What a bench prints: titles, and below each the contenders, two spaces in, with their figures.
fn parse(output: &str) -> Figures {
    let (mut figures, mut table) = (Figures::new(), String::new());
    for line in output.lines() {
        let Some(row) = line.strip_prefix("  ") else {
            // Behind the title: units, or heavy fences.
            let title = line.split("   (").next().unwrap_or_default();
            title.split(": ns").next().unwrap_or_default().clone_into(&mut table);
            continue;
        };
        let words: Vec<&str> = row.split_whitespace().collect();
        let figure = words.iter().enumerate().find_map(|(at, word)| Some((at, word.parse().ok()?)));
        let Some((at, figure)) = figure else { continue };
        let mut name = words[..at].join(" ");
        if words.ends_with(&["a", "write"]) {
            name += " a write";
        }
        // Of the epochs: heavy fences a second, and the most garbage.
        if let Some(x) = words.iter().position(|word| *word == "x") {
            let more = words[x + 1..].iter().map_while(|word| word.parse().ok());
            for (of, more) in ["fences", "garbage"].into_iter().zip(more) {
                figures.insert((table.clone(), format!("{name} {of}")), more);
            }
        }
        figures.insert((table.clone(), name), figure);
    }
    figures
}

/// A row of the page for a row of the file.
fn line(row: &str, figures: &Figures) -> Result<String> {
    let columns: Vec<&str> = row.split('|').map(str::trim).collect();
    let &[table, ours, twin, others, shown] = columns.as_slice() else {
        return Err(format!("{ROWS}: not five columns: {row}").into());
    };
    let find = |name: &str| {
        let figure = figures.get(&(table.to_owned(), name.to_owned()));
        figure.copied().ok_or(format!("{ROWS}: no figure of `{name}` in `{table}`"))
    };
    let here = find(ours)?;
    let mut symmetric = String::new();
    let mut bold = "";
    if !twin.is_empty() {
        let twin = find(twin)?;
        symmetric = format!(" {}", rounded(twin));
        // Slower than 1.1 times the symmetric twin.
        bold = if here > 1.1 * twin { "**" } else { "" };
    }
    let mut instead = String::new();
    for name in others.split("; ").filter(|name| !name.is_empty()) {
        let before = if instead.is_empty() { " " } else { "; " };
        instead +=
            &format!("{before}{}: {}", name.trim_end_matches(" a write"), rounded(find(name)?));
    }
    Ok(format!("| {shown} | {bold}{}{bold} |{symmetric} |{instead} |", rounded(here)))
}

/// Three digits, or all before the point.
fn rounded(figure: f64) -> String {
    match figure {
        ..10.0 => format!("{figure:.2}"),
        ..100.0 => format!("{figure:.1}"),
        ..1000.0 => format!("{figure:.0}"),
        _ => whole(figure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_table_and_name() {
        let figures = parse(
            "fences: x\n\n2 readers, no writer\n  biased lock      3.50 ns   1.000 x\n  biased lock    21 ns a write\n\
             alone, 1,000 items   (0.000 heavy fences)\n  here    2.00 ns 1.000 x\n\
             pin: ns, heavy fences a second\n  its twin   4.00  2.000 x   12   7\n",
        );
        let find = |table: &str, name: &str| figures[&(table.to_owned(), name.to_owned())];
        assert_eq!(find("2 readers, no writer", "biased lock"), 3.5);
        assert_eq!(find("2 readers, no writer", "biased lock a write"), 21.0);
        assert_eq!(find("alone, 1,000 items", "here"), 2.0);
        assert_eq!(find("pin", "its twin"), 4.0);
        assert_eq!(find("pin", "its twin fences"), 12.0);
        assert_eq!(find("pin", "its twin garbage"), 7.0);
    }

    #[test]
    fn a_figure_has_three_digits_or_more() {
        let rounded = [1.075, 14.44, 119.4, 8949.0, 27_889.2].map(rounded);
        assert_eq!(rounded, ["1.07", "14.4", "119", "8,949", "27,889"]);
    }

    #[test]
    fn what_is_slower_than_its_twin_is_bold() {
        let figures = [("here", 30.0), ("its twin", 3.0), ("std a write", 4.0), ("other", 2000.0)]
            .map(|(name, figure)| (("t".to_owned(), name.to_owned()), figure));
        let line = |row| line(row, &BTreeMap::from(figures.clone()));
        let all = line("t | here | its twin | std a write; other | what").expect("all there");
        assert_eq!(all, "| what | **30.0** | 3.00 | std: 4.00; other: 2,000 |");
        assert_eq!(line("t | other | | | what").expect("there"), "| what | 2,000 | | |");
        assert!(line("t | nobody | | | what").is_err());
        assert!(line("t | here").is_err());
    }
}
