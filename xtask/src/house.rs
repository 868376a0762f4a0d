//! The rules of CONTRIBUTING.md that a parser can check, on the sources of the published libraries and on every page,
//! whether git knows the file or not.

mod documents;
mod imports;
mod source;
mod tree;
mod weight;

use std::fmt;

use xshell::Shell;

use crate::Result;
use source::Source;
use tree::Tree;

/// Where a rule is broken.
#[derive(Debug)]
struct Fault {
    file: String,
    line: usize,
    why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.why)
    }
}

pub(crate) fn check(sh: &Shell) -> Result {
    let faults = faults(&Tree::read(&sh.current_dir())?)?;
    if faults.is_empty() {
        return weight::check(sh);
    }
    let faults: String = faults.iter().map(|fault| format!("\n  {fault}")).collect();
    Err(format!("the house rules are broken:{faults}").into())
}

/// The published libraries. (The doctor is published too, and is not checked here.) The first must be there, or the
/// tree is not this project.
const PUBLISHED: [&str; 3] = ["src/", "hazard/src/", "cookbook/src/"];

fn faults(tree: &Tree) -> Result<Vec<Fault>> {
    if !tree.has("src/lib.rs") {
        return Err("no src/lib.rs: this is not the tree of the project".into());
    }
    let mut faults = documents::faults(tree)?;
    for package in PUBLISHED {
        let files = tree.below(package).filter(|(path, _)| path.ends_with(".rs"));
        let sources = files.map(|(path, text)| Source::read(path, text));
        let sources = sources.collect::<Result<Vec<_>>>()?;
        for source in &sources {
            faults.extend(conditions(source));
            faults.extend(unfinished(source));
            faults.extend(hazard_is_apart(source));
        }
        faults.extend(imports::faults(package, &sources));
    }
    Ok(faults)
}

/// Words of conditional compilation, by the beginning of each; where they may stand; and the rule.
const CONDITIONS: [(&[&str], &[&str], &str); 3] = [
    (
        &["target_", "windows", "unix", "miri"],
        &[
            "src/sys/mod.rs",
            "hazard/src/prefetch.rs",
            "hazard/src/clock.rs",
            "hazard/src/threads.rs",
            "cookbook/src/sync/waiting.rs",
        ],
        "only the files that CONDITIONS of xtask/src/house.rs lists may ask which target it is",
    ),
    (
        &["loom"],
        &[
            "src/sync.rs",
            "src/sys/mod.rs",
            "src/lib.rs",
            "hazard/src/sync.rs",
            "hazard/src/lib.rs",
            "cookbook/src/sync.rs",
        ],
        "only sync.rs and sys/mod.rs may choose by `loom`, and lib.rs may declare modules by it",
    ),
    (
        &["asymfence_"],
        &["src/sync.rs", "src/sys/mod.rs"],
        "switches of the build are asked in src/sync.rs and src/sys/mod.rs alone",
    ),
];

fn conditions(source: &Source) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (line, word) in &source.conditions {
        for (begins, allowed, why) in CONDITIONS {
            let is_meant = begins.iter().any(|begin| word.starts_with(begin));
            if is_meant && !allowed.contains(&source.path.as_str()) {
                faults.push(source.fault(*line, format!("`{word}`: {why}")));
            }
        }
    }
    faults
}

/// Nothing is left for later in what is published. These words are searched in the text, not in the tokens: those leave
/// out comments, in which the words count too.
fn unfinished(source: &Source) -> Vec<Fault> {
    const MARKS: [&str; 4] = ["TODO", "FIXME", "todo!", "unimplemented!"];
    let lines = source.text.lines().enumerate();
    lines
        .filter_map(|(index, line)| {
            let mark = MARKS.into_iter().find(|mark| line.contains(mark))?;
            Some(source.fault(index + 1, format!("{mark}: nothing is left for later")))
        })
        .collect()
}

/// The hazard pointers stand on the public fences.
fn hazard_is_apart(source: &Source) -> Vec<Fault> {
    const NAMES: [&str; 7] =
        ["strategy", "Strategy", "Rung", "Asymmetric", "rustix", "libc", "membarrier"];
    // The clock and the wait need rustix.
    const APART: [&str; 2] = ["hazard/src/clock.rs", "hazard/src/threads.rs"];
    if !source.path.starts_with("hazard/src/") || APART.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let names = source.names.iter().filter(|(_, name)| NAMES.contains(&name.as_str()));
    names
        .map(|(line, name)| {
            source.fault(*line, format!("`{name}`: hazard pointers name no strategy and no system"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong in a tree whose one extra file is this one.
    fn faults_of(path: &str, text: &str) -> Vec<String> {
        let tree = Tree::of([("src/lib.rs", ""), (path, text)]);
        faults(&tree).expect("it parses").iter().map(|fault| fault.to_string()).collect()
    }

    #[track_caller]
    fn is_found(path: &str, text: &str, at: &str) {
        let faults = faults_of(path, text);
        assert!(faults.iter().any(|fault| fault.starts_with(at)), "{faults:?}");
    }

    #[track_caller]
    fn is_passed(path: &str, text: &str) {
        assert_eq!(faults_of(path, text), Vec::<String>::new());
    }

    #[test]
    fn a_condition_on_the_target_is_found_however_it_is_written() {
        for text in [
            "#[cfg(target_os = \"linux\")] fn f() {}",
            "#[cfg(unix)] fn f() {}",
            "#[cfg(not(windows))] fn f() {}",
            "#[cfg(miri)] fn f() {}",
            "#[cfg_attr(target_arch = \"x86\", inline)] fn f() {}",
            "fn f() -> bool { cfg!(target_pointer_width = \"64\") }",
            "declares! { #[cfg(target_env = \"musl\")] mod musl; }",
        ] {
            is_found("src/fence.rs", text, "src/fence.rs:1: ");
        }
        is_found(
            "src/fence.rs",
            "#[cfg(all(\n    feature = \"std\",\n    target_os = \"linux\",\n    target_arch = \"x86_64\",\n))]\nfn f() {}",
            "src/fence.rs:3: `target_os`",
        );
        is_found("src/fence.rs", "#[\ncfg\n(\nunix\n)\n] fn f() {}", "src/fence.rs:4: `unix`");
        is_found("hazard/src/domain.rs", "#[cfg(unix)] fn f() {}", "hazard/src/domain.rs:1: ");
        is_found("cookbook/src/rcu.rs", "#[cfg(miri)] fn f() {}", "cookbook/src/rcu.rs:1: ");
    }

    #[test]
    fn what_may_stand_is_passed() {
        is_passed("src/sys/mod.rs", "#[cfg(all(unix, not(any(miri, loom))))] fn f() {}");
        is_passed("src/fence.rs", "/// On `cfg(unix)`.\n#[cfg(feature = \"std\")] fn unix() {}");
        is_passed(
            "src/fence.rs",
            "#[cfg_attr(test, allow(unused, reason = \"windows\"))] fn f() {}",
        );
        is_passed("src/fence.rs", "#[cfg_attr(test, expect(windows))] fn f() {}");
        is_passed("cookbook/src/sync.rs", "#[cfg(loom)] fn f() {}");
        is_passed("tests/it/main.rs", "#[cfg(unix)] fn f() {}");
    }

    #[test]
    fn loom_is_chosen_at_its_places_by_cfg_or_by_feature() {
        for condition in ["loom", "not(loom)", "feature = \"loom\"", "feature = r\"loom\""] {
            let text = format!("#[cfg({condition})] fn f() {{}}");
            is_passed("src/sync.rs", &text);
            is_found("src/fence.rs", &text, "src/fence.rs:1: `loom`");
            is_found("hazard/src/domain.rs", &text, "hazard/src/domain.rs:1: `loom`");
        }
        let switch = "#[cfg(asymfence_tsan)] fn f() {}";
        is_found("src/strategy.rs", switch, "src/strategy.rs:1: `asymfence_tsan`");
    }

    #[test]
    fn what_is_unfinished_is_found_in_comments_too() {
        is_found("src/fence.rs", "\n// TODO: later\n", "src/fence.rs:2: TODO");
        is_found("src/fence.rs", "fn f() { todo!() }", "src/fence.rs:1: todo!");
    }

    #[test]
    fn hazard_pointers_name_no_system() {
        is_found(
            "hazard/src/domain.rs",
            "use asymfence::{Strategy, init};",
            "hazard/src/domain.rs:1",
        );
        is_passed("hazard/src/domain.rs", "use asymfence::{heavy_fence, light_fence};");
    }

    #[test]
    fn a_file_that_does_not_parse_is_an_error() {
        let tree = Tree::of([("src/lib.rs", ""), ("src/fence.rs", "fn f( {}")]);
        let error = faults(&tree).expect_err("no Rust").to_string();
        assert!(error.contains("src/fence.rs"), "{error}");
    }

    #[test]
    fn a_tree_that_is_none_is_an_error() {
        assert!(faults(&Tree::of([("README.md", "")])).is_err());
    }

    /// A folder that no git knows, with a file that nobody added.
    #[test]
    fn the_files_are_read_without_git() {
        let root = std::env::temp_dir().join(format!("asymfence-house-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        };
        write("src/lib.rs", "");
        write("src/untracked.rs", "#[cfg(unix)]\nfn f() {}");
        write("target/debug/generated.rs", "#[cfg(unix)]\nfn f() {}");
        let faults = Tree::read(&root).and_then(|tree| faults(&tree));
        std::fs::remove_dir_all(&root).expect("the folder was made here");
        let faults = faults.expect("it parses");
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].file, "src/untracked.rs");
        assert!(Tree::read(&root).is_err(), "the folder is gone");
    }
}
