//! What pages say is there: the files of the map, the tests behind the promises, the files that are shown, and
//! what links lead to. And a list has each of its items on a line of its own.

use super::Fault;
use super::source::Source;
use super::tree::Tree;
use crate::Result;

const MAP: &str = "CONTRIBUTING.md";
const PROMISES: &str = "docs/promises.md";
const MUTANTS: &str = "xtask/src/mutants";

pub(super) fn faults(tree: &Tree) -> Result<Vec<Fault>> {
    let mut faults = map(tree);
    faults.extend(promises(tree)?);
    for (path, text) in tree.below("").filter(|(path, _)| path.ends_with(".md")) {
        faults.extend(links(tree, path, text));
        faults.extend(shown(tree, path, text));
        faults.extend(hidden(path, text));
        faults.extend(swallowed(path, text));
    }
    Ok(faults)
}

fn fault(file: &str, line: usize, why: String) -> Fault {
    Fault { file: file.to_owned(), line, why }
}

/// Each file that the map names exists. A line's first word is a path; a file named beside it lies there
/// or below.
fn map(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    let (mut is_map, mut place) = (false, String::new());
    for (index, line) in tree.text(MAP).unwrap_or_default().lines().enumerate() {
        if line.starts_with("```") {
            is_map = line == "```text" && !is_map;
            continue;
        }
        if !is_map {
            continue;
        }
        let mut words = line.split_whitespace().map(trimmed);
        if !line.starts_with(char::is_whitespace) {
            place = words.next().unwrap_or_default().trim_end_matches('/').to_owned();
            if !place.contains('*') && !tree.has(&place) {
                faults.push(fault(
                    MAP,
                    index + 1,
                    format!("the map names {place}, which is not there"),
                ));
            }
        }
        for word in words.filter(|word| word.ends_with(".rs") || word.ends_with(".md")) {
            let folder = place
                .rsplit_once('/')
                .map_or("", |(folder, last)| if last.contains('.') { folder } else { &place });
            let folder = if folder.is_empty() { &place } else { folder };
            let end = format!("/{word}");
            let is_there =
                tree.has(word) || tree.below(folder).any(|(path, _)| path.ends_with(&end));
            if !is_there {
                faults.push(fault(
                    MAP,
                    index + 1,
                    format!("the map names {word}, which is not in {folder}"),
                ));
            }
        }
    }
    faults
}

fn trimmed(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_alphanumeric() && !"/._*".contains(c))
        .trim_end_matches(['.', ','])
}

/// Each test that a promise names exists, `` `tests/it/forking.rs::a_child_decides` ``, and each mutant, ``mutant `not a
/// release` ``.
fn promises(tree: &Tree) -> Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for (index, line) in tree.text(PROMISES).unwrap_or_default().lines().enumerate() {
        for name in mutants(line) {
            let quoted = format!("\"{name}\"");
            if !tree.below(MUTANTS).any(|(_, text)| text.contains(&quoted)) {
                faults.push(fault(PROMISES, index + 1, format!("there is no mutant {name}")));
            }
        }
        // Between backticks every second piece is code.
        for code in line.split('`').skip(1).step_by(2) {
            let Some((file, test)) = code.split_once(".rs::") else { continue };
            let file = format!("{file}.rs");
            let mut fail = |why| faults.push(fault(PROMISES, index + 1, why));
            let Some(text) = tree.text(&file) else {
                fail(format!("{file} is not there"));
                continue;
            };
            let name = test.rsplit("::").next().unwrap_or_default();
            if !Source::read(&file, text)?.functions.iter().any(|function| function == name) {
                fail(format!("{file} has no test {name}"));
            }
        }
    }
    Ok(faults)
}

/// The names in a list that follows the word mutant or mutants.
fn mutants(line: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for list in ["mutant `", "mutants `"].into_iter().flat_map(|word| line.split(word).skip(1)) {
        let mut rest = Some(list);
        while let Some((name, after)) = rest.and_then(|rest| rest.split_once('`')) {
            names.push(name);
            rest = after.strip_prefix(", `");
        }
    }
    names
}

/// A block of code below `<!-- path -->` is that file.
fn shown(tree: &Tree, path: &str, text: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (at, _) in text.match_indices("<!-- ") {
        let Some((file, rest)) = text[at + 5..].split_once(" -->\n```rust") else { continue };
        // Behind it attributes such as `,ignore`.
        let Some((_, rest)) = rest.split_once('\n') else { continue };
        if file.contains('\n') {
            continue;
        }
        let shown =
            rest.split_inclusive("```\n").next().and_then(|code| code.strip_suffix("```\n"));
        let why = match tree.text(file) {
            None => "is not there",
            Some(text) if Some(text) != shown => "is another text",
            Some(_) => continue,
        };
        let line = 1 + text[..at].matches('\n').count();
        faults.push(fault(path, line, format!("the file {file}, which is shown here, {why}")));
    }
    faults
}

/// The lines of Rust that rustdoc hides, `# use ..`, are shown in the repository: a page has none.
fn hidden(path: &str, text: &str) -> Vec<Fault> {
    let (mut faults, mut is_rust) = (Vec::new(), false);
    for (line, text) in (1..).zip(text.lines()) {
        if text.starts_with("```") {
            is_rust = !is_rust && text.starts_with("```rust");
        } else if is_rust && (text == "#" || text.trim_start().starts_with("# ")) {
            faults.push(fault(path, line, "a line that rustdoc alone hides".to_owned()));
        }
    }
    faults
}

/// Each link of a page leads to a file of the tree, or to another site: `[text](target)` and
/// `[label]: target`. A label that is used, `[text][label]`, is defined on the same page. If rustdoc shows a page
/// too, the page links to other pages by the labels of src/guide.rs. In rustdoc these labels lead to other targets.
fn links(tree: &Tree, path: &str, text: &str) -> Vec<Fault> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let (mut targets, mut defined, mut used) = (Vec::new(), Vec::new(), Vec::new());
    let guide = tree.text("src/guide.rs").unwrap_or_default();
    // The README is there for its examples alone.
    let is_shown = path.starts_with("docs/") && guide.contains(&format!("\"../{path}\""));
    for (line, text) in prose(text) {
        if let Some((label, target)) =
            text.strip_prefix('[').and_then(|text| text.split_once("]: "))
        {
            defined.push(label);
            targets.push((line, Some(label), target));
            continue;
        }
        targets.extend(after(text, "](", ')').map(|target| (line, None, target)));
        used.extend(after(text, "][", ']').map(|label| (line, label)));
    }
    let mut faults = Vec::new();
    for (line, label, target) in targets {
        let is_elsewhere =
            ["https://", "http://", "#"].iter().any(|begin| target.starts_with(begin));
        let file = target.split('#').next().unwrap_or_default();
        if !is_elsewhere && !joined(folder, file).is_some_and(|file| tree.has(&file)) {
            faults.push(fault(path, line, format!("a link leads to {target}, which is not there")));
        }
        let in_rustdoc = label.is_some_and(|label| guide.contains(&format!("[{label}]: ")));
        if is_shown && file.ends_with(".md") && !is_elsewhere && !in_rustdoc {
            let label = label.unwrap_or("of this link");
            faults.push(fault(path, line, format!("src/guide.rs lacks the label {label}")));
        }
    }
    for (line, label) in used.into_iter().filter(|(_, label)| !defined.contains(label)) {
        faults.push(fault(
            path,
            line,
            format!("a link has the label {label}, which is not defined"),
        ));
    }
    faults
}

/// The text between each `open` and the next `close`, without code.
fn after<'t>(text: &'t str, open: &'static str, close: char) -> impl Iterator<Item = &'t str> {
    text.match_indices(open).filter_map(move |(at, _)| {
        let is_code = text[..at].matches('`').count() % 2 == 1;
        let rest = &text[at + open.len()..];
        rest.find(close).filter(|_| !is_code).map(|end| &rest[..end])
    })
}

/// A path below the root. `None` if it leads out of it.
fn joined(folder: &str, file: &str) -> Option<String> {
    let mut path: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in file.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            path.pop()?;
        } else {
            path.push(part);
        }
    }
    Some(path.join("/"))
}

/// A list item begins a line. Behind a mark of punctuation it would be part of the item before it.
fn swallowed(path: &str, text: &str) -> Vec<Fault> {
    let ends = [". - ", ".) - ", ", - ", "; - ", ": - "];
    let found = prose(text).filter(|(_, text)| ends.iter().any(|end| text.contains(end)));
    found
        .map(|(line, _)| fault(path, line, "an item of a list begins within a line".to_owned()))
        .collect()
}

/// The lines outside of blocks of code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    (1..).zip(text.lines()).filter(move |(_, text)| {
        let is_fence = text.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_fence && !is_code
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of<const N: usize>(files: [(&str, &str); N]) -> Vec<String> {
        let faults = faults(&Tree::of(files)).expect("it parses");
        faults.iter().map(|fault| fault.to_string()).collect()
    }

    #[test]
    fn the_map_names_what_is_there() {
        let map = "```text\nsrc/fence.rs   fences; gone.rs: nothing\nsrc/sys/*.rs   a rung each; gate.rs is\n               beside kernel.rs.\nlost/          not here\n```\nother.rs\n";
        let faults = faults_of([
            ("CONTRIBUTING.md", map),
            ("src/fence.rs", ""),
            ("src/sys/mprotect/gate.rs", ""),
            ("src/sys/kernel.rs", ""),
        ]);
        assert_eq!(
            faults,
            [
                "CONTRIBUTING.md:2: the map names gone.rs, which is not in src",
                "CONTRIBUTING.md:5: the map names lost, which is not there",
            ]
        );
    }

    #[test]
    fn promises_name_tests_that_are_there() {
        let page = "| a | `tests/it/forking.rs::it_holds`, `tests/it/forking.rs::gone` |\n| b | `lost.rs::a` `x::y` |\n| c | `tests/it/forking.rs::inner::nested` |\n";
        let faults = faults_of([
            ("docs/promises.md", page),
            (
                "tests/it/forking.rs",
                "#[test] fn it_holds() {} mod inner { #[test] fn nested() {} }",
            ),
        ]);
        assert_eq!(
            faults,
            [
                "docs/promises.md:1: tests/it/forking.rs has no test gone",
                "docs/promises.md:2: lost.rs is not there",
            ]
        );
    }

    #[test]
    fn promises_name_mutants_that_are_there() {
        let page = "| a | mutants `not a release`, `gone`; `x::y` |\n| b | mutant `lost` |\n| c | the mutants of `is_here` |\n";
        let list = r#"Mutant { name: "not a release" }"#;
        assert_eq!(
            faults_of([("docs/promises.md", page), ("xtask/src/mutants/fences.rs", list)]),
            [
                "docs/promises.md:1: there is no mutant gone",
                "docs/promises.md:2: there is no mutant lost",
            ]
        );
    }

    #[test]
    fn links_lead_to_what_is_there() {
        let page = "[a](../README.md) [b](gone.md) `[c](code.md)`\n[d][there] [e][nowhere]\n```text\n[f](code.md)\n```\n[g](https://example.org/x.md) [h](#below) ![i](i.svg#top) [j](../../out.md)\n\n[there]: other.md\n[`k`]: lost.md\n";
        let faults = faults_of([
            ("docs/page.md", page),
            ("docs/other.md", ""),
            ("docs/i.svg", ""),
            ("README.md", ""),
        ]);
        assert_eq!(
            faults,
            [
                "docs/page.md:1: a link leads to gone.md, which is not there",
                "docs/page.md:6: a link leads to ../../out.md, which is not there",
                "docs/page.md:9: a link leads to lost.md, which is not there",
                "docs/page.md:2: a link has the label nowhere, which is not defined",
            ]
        );
    }

    #[test]
    fn pages_that_rustdoc_shows_link_by_its_labels() {
        let guide = "\"[there]: crate::there\n\"; page \"../docs/page.md\";";
        let page = "[a](other.md#part) [b][there] [c][lost] [d](https://example.org/x.md)\n\n[there]: other.md\n[lost]: other.md\n";
        let faults = faults_of([
            ("src/guide.rs", guide),
            ("docs/page.md", page),
            ("docs/other.md", "[a](page.md)"),
        ]);
        assert_eq!(
            faults,
            [
                "docs/page.md:1: src/guide.rs lacks the label of this link",
                "docs/page.md:4: src/guide.rs lacks the label lost",
            ]
        );
    }

    #[test]
    fn no_page_has_a_line_that_rustdoc_alone_hides() {
        let page = "# Title\n```toml\n# a comment\n```\n```rust,no_run\n# use a::b;\n#[test]\nfn c() {}\n```\n# Another\n";
        assert_eq!(
            faults_of([("docs/page.md", page)]),
            ["docs/page.md:6: a line that rustdoc alone hides"]
        );
    }

    #[test]
    fn what_is_shown_is_the_file() {
        let page = "<!-- a.rs -->\n```rust\nfn a() {}\n```\n<!-- b.rs -->\n```rust\nfn c() {}\n```\n<!-- gone.rs -->\n```rust\n```\n<!-- a word -->\n";
        let files = [("docs/page.md", page), ("a.rs", "fn a() {}\n"), ("b.rs", "fn b() {}\n")];
        assert_eq!(
            faults_of(files),
            [
                "docs/page.md:5: the file b.rs, which is shown here, is another text",
                "docs/page.md:9: the file gone.rs, which is shown here, is not there",
            ]
        );
    }

    #[test]
    fn an_item_within_a_line_is_found() {
        let page = "- an item\n  that ends.) - Another\n- a - b\n```text\nx. - y\n```\n";
        assert_eq!(
            faults_of([("docs/a.md", page)]),
            ["docs/a.md:2: an item of a list begins within a line"]
        );
    }
}
