//! What pages say is there: the files of the map, and the tests behind the promises.

use super::Fault;
use super::source::Source;
use super::tree::Tree;
use crate::Result;

const MAP: &str = "CONTRIBUTING.md";
const PROMISES: &str = "docs/promises.md";

pub(super) fn faults(tree: &Tree) -> Result<Vec<Fault>> {
    let mut faults = map(tree);
    faults.extend(promises(tree)?);
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

/// Each test that a promise names exists: `` `tests/it/forking.rs::a_child_decides` ``.
fn promises(tree: &Tree) -> Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for (index, line) in tree.text(PROMISES).unwrap_or_default().lines().enumerate() {
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
}
