//! Imports run downward: no file uses a file that uses it, directly or through others.
//!
//! The files below a module are its parts. A module and its parts may name each other. What a package exports by its
//! front door is for others: inside, the module is named.

use std::collections::{BTreeMap, BTreeSet};

use super::Fault;
use super::source::Source;

/// Known circles, which the check ignores.
const CIRCLES: [[&str; 2]; 1] = [["src/sync.rs", "src/sys/modelled.rs"]];

/// For each file the files that it uses, and the line of the first use.
type Uses<'s> = BTreeMap<&'s str, BTreeMap<&'s str, usize>>;

pub(super) fn faults(package: &str, sources: &[Source]) -> Vec<Fault> {
    let modules: BTreeMap<Vec<String>, &Source> =
        sources.iter().map(|source| (module(package, &source.path), source)).collect();
    let mut faults = Vec::new();
    let mut uses = Uses::new();
    for (own, source) in &modules {
        for (line, depth, path) in &source.paths {
            let Some(path) = absolute(own, *depth, path) else { continue };
            let Some(used) = longest(&modules, &path) else { continue };
            let file = modules[used].path.as_str();
            if used.is_empty()
                && !own.is_empty()
                && path.first().is_some_and(|name| is_export(name))
            {
                let why = format!("`crate::{}` is the front door: name its module", path[0]);
                faults.push(source.fault(*line, why));
            }
            if !own.starts_with(used) && !used.starts_with(own) {
                uses.entry(&source.path).or_default().entry(file).or_insert(*line);
            }
        }
    }
    // A file that uses a module uses what the files below it use.
    let mut leads = uses.clone();
    for (own, source) in &modules {
        let below = modules
            .iter()
            .filter(|(module, _)| module.len() > own.len() && module.starts_with(own));
        let below = below.map(|(_, part)| (part.path.as_str(), 0));
        if !own.is_empty() {
            leads.entry(&source.path).or_default().extend(below);
        }
    }
    for (&file, used) in &uses {
        for (&other, &line) in used {
            let is_known =
                CIRCLES.iter().any(|circle| *circle == [file, other] || *circle == [other, file]);
            if let Some(way) = way(&leads, other, file).filter(|_| !is_known) {
                let why = format!(
                    "imports run downward, and here in a circle: {file} > {}",
                    way.join(" > ")
                );
                faults.push(Fault { file: file.to_owned(), line, why });
            }
        }
    }
    faults
}

/// Names of modules are in lower case, and so are names of macros (`crate::name!`).
fn is_export(name: &str) -> bool {
    name.starts_with(char::is_uppercase)
}

/// `src/sys/mod.rs` is `[sys]`, `src/lib.rs` is `[]`.
fn module(package: &str, path: &str) -> Vec<String> {
    let path = path.trim_start_matches(package).trim_end_matches(".rs");
    let path = path.trim_end_matches("/mod");
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// The path from the root of the package on.
fn absolute(own: &[String], depth: usize, path: &[String]) -> Option<Vec<String>> {
    if path[0] == "crate" {
        return Some(path[1..].to_vec());
    }
    let supers = path.iter().take_while(|word| *word == "super").count();
    // Within the file.
    let above = supers.checked_sub(depth)?;
    let kept = own.len().checked_sub(above)?;
    (above > 0).then(|| [&own[..kept], &path[supers..]].concat())
}

/// The innermost module that the path leads through.
fn longest<'m>(
    modules: &'m BTreeMap<Vec<String>, &Source>,
    path: &[String],
) -> Option<&'m Vec<String>> {
    (0..=path.len()).rev().find_map(|length| Some(modules.get_key_value(&path[..length])?.0))
}

/// The files on a way from one to another.
fn way<'s>(uses: &Uses<'s>, from: &'s str, to: &str) -> Option<Vec<&'s str>> {
    let mut seen = BTreeSet::from([from]);
    let mut ways = vec![vec![from]];
    while let Some(way) = ways.pop() {
        let last = way[way.len() - 1];
        if last == to {
            return Some(way);
        }
        for &next in uses.get(last).into_iter().flat_map(BTreeMap::keys) {
            if seen.insert(next) {
                ways.push([&way[..], &[next]].concat());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of<const N: usize>(files: [(&str, &str); N]) -> Vec<String> {
        let sources = files.map(|(path, text)| Source::read(path, text).expect("it parses"));
        faults("src/", &sources).iter().map(|fault| fault.to_string()).collect()
    }

    const LIB: (&str, &str) = ("src/lib.rs", "mod a; mod b; mod c; pub use c::See;");

    #[test]
    fn downward_is_passed() {
        let faults = faults_of([
            LIB,
            ("src/a.rs", "use crate::{b, c::{self, See}}; fn f() { crate::b::g() }"),
            ("src/b.rs", "use crate::c;"),
            ("src/c.rs", "mod inner { use super::See; } /// [`crate::a`]\npub struct See;"),
        ]);
        assert_eq!(faults, Vec::<String>::new());
    }

    #[test]
    fn a_circle_is_found_however_it_is_written() {
        for upward in [
            "use crate::a;",
            "use crate::{c as _, a as _};",
            "use super::a::f;",
            "use {crate::{c, a::{f}}};",
            "fn g() { crate::a::f() }",
            "declare! { use crate::a; }",
            "mod inner { use super::super::a; }",
            "pub(crate) use crate::a::*;",
        ] {
            let faults = faults_of([LIB, ("src/a.rs", "use crate::b;"), ("src/b.rs", upward)]);
            assert_eq!(faults.len(), 2, "{upward}: {faults:?}");
        }
    }

    #[test]
    fn a_circle_of_three_is_found() {
        let faults = faults_of([
            LIB,
            ("src/a.rs", "use crate::b;"),
            ("src/b.rs", "use crate::c;"),
            ("src/c.rs", "\nuse crate::a;"),
        ]);
        assert!(faults.contains(
            &"src/c.rs:2: imports run downward, and here in a circle: src/c.rs > src/a.rs > src/b.rs > src/c.rs"
                .to_owned()
        ), "{faults:?}");
    }

    #[test]
    fn a_circle_through_a_part_is_found() {
        let faults = faults_of([
            LIB,
            ("src/a/mod.rs", "mod part;"),
            ("src/a/part.rs", "use crate::b;"),
            ("src/b.rs", "use crate::{a as _, c as _};"),
        ]);
        assert_eq!(faults.len(), 2, "{faults:?}");
    }

    #[test]
    fn tests_and_parts_of_one_module_are_let_be() {
        let faults = faults_of([
            LIB,
            ("src/a.rs", "use crate::b;"),
            ("src/b.rs", "#[cfg(test)] mod tests { use crate::a; } #[cfg(test)] use crate::a;"),
            ("src/c/mod.rs", "mod d; use d::D; struct E;"),
            ("src/c/d.rs", "use super::E; pub struct D;"),
        ]);
        assert_eq!(faults, Vec::<String>::new());
        let faults = faults_of([
            LIB,
            ("src/a.rs", "use crate::b;"),
            ("src/b.rs", "#[cfg(test)] mod tests {} use crate::a;"),
        ]);
        assert_eq!(faults.len(), 2, "{faults:?}");
    }

    #[test]
    fn the_front_door_is_for_others() {
        let faults = faults_of([LIB, ("src/a.rs", "use crate::See;")]);
        assert_eq!(faults, ["src/a.rs:1: `crate::See` is the front door: name its module"]);
    }
}
