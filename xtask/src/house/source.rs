//! One Rust file, taken apart. Tokens and not the syntax tree: what a macro is handed has no tree, and the ladder is
//! declared by a macro.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::Fault;
use crate::Result;

#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: String,
    pub(super) text: String,
    /// Each word of a condition of compilation, and its line. Of `key = "value"` the key, and of a feature
    /// its name.
    pub(super) conditions: Vec<(usize, String)>,
    /// Each path that begins at `crate` or `super` and is written outside of tests: its line, how many
    /// modules of this file enclose it, and its words. Of a `use` each leaf of the tree.
    pub(super) paths: Vec<(usize, usize, Vec<String>)>,
    /// Each identifier, and its line.
    pub(super) names: Vec<(usize, String)>,
    /// The functions.
    pub(super) functions: Vec<String>,
}

impl Source {
    pub(super) fn read(path: &str, text: &str) -> Result<Self> {
        let fail =
            |error: syn::Error| format!("{path}:{}: no Rust: {error}", error.span().start().line);
        syn::parse_file(text).map_err(fail)?;
        let tokens: TokenStream = syn::parse_str(text).map_err(fail)?;
        let mut source = Source {
            path: path.to_owned(),
            text: text.to_owned(),
            conditions: Vec::new(),
            paths: Vec::new(),
            names: Vec::new(),
            functions: Vec::new(),
        };
        source.walk(tokens, 0, false);
        Ok(source)
    }

    pub(super) fn fault(&self, line: usize, why: String) -> Fault {
        Fault { file: self.path.clone(), line, why }
    }

    /// `depth`: the modules of this file around the tokens. `is_test`: they are built for tests alone.
    fn walk(&mut self, tokens: TokenStream, depth: usize, is_test: bool) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut for_tests = is_test;
        let mut index = 0;
        while let Some(token) = tokens.get(index) {
            let rest = &tokens[index..];
            match token {
                TokenTree::Ident(ident) => {
                    let line = ident.span().start().line;
                    let word = ident.to_string();
                    if let Some((predicate, all)) = condition(&word, rest) {
                        for_tests |= self.conditions_of(predicate, all) == ["test"];
                    }
                    match word.as_str() {
                        "fn" => {
                            if let Some(TokenTree::Ident(name)) = rest.get(1) {
                                self.functions.push(name.to_string());
                            }
                        }
                        "use" => {
                            for path in leaves(&rest[1..]) {
                                if !for_tests && begins_here(&path) {
                                    self.paths.push((line, depth, path));
                                }
                            }
                        }
                        "crate" | "super" if !is_within_path(&tokens[..index]) && !for_tests => {
                            self.paths.push((line, depth, words(rest)));
                        }
                        _ => {}
                    }
                    self.names.push((line, word));
                }
                TokenTree::Group(group) => {
                    let is_body = group.delimiter() == Delimiter::Brace;
                    let of_module = is_body && is_module(&tokens[..index]);
                    self.walk(group.stream(), depth + usize::from(of_module), for_tests);
                    // The item that the attribute is of ends with its body.
                    if is_body {
                        for_tests = is_test;
                    }
                }
                TokenTree::Punct(punct) if punct.as_char() == ';' => for_tests = is_test,
                _ => {}
            }
            // An attribute counts for what comes after its brackets.
            if let TokenTree::Group(group) = token {
                for_tests |= is_test_attribute(group);
            }
            index += 1;
        }
    }

    /// Notes the words of a predicate, and hands them back. Of the arguments of `cfg_attr` only the first is a
    /// predicate; the others are attributes.
    fn conditions_of(&mut self, predicate: TokenStream, all: bool) -> Vec<String> {
        let mut found = Vec::new();
        gather(predicate, all, &mut found);
        let words = found.iter().map(|(_, word)| word.clone()).collect();
        self.conditions.extend(found);
        words
    }
}

/// The predicate, if a condition begins here: `cfg(…)`, `cfg!(…)`, `cfg_attr(…, …)`; and whether it is all
/// that stands in the parentheses.
fn condition(word: &str, rest: &[TokenTree]) -> Option<(TokenStream, bool)> {
    if word != "cfg" && word != "cfg_attr" {
        return None;
    }
    let after = match rest.get(1) {
        Some(TokenTree::Punct(punct)) if punct.as_char() == '!' => rest.get(2),
        after => after,
    };
    match after {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => {
            Some((group.stream(), word == "cfg"))
        }
        _ => None,
    }
}

/// The words of a predicate, up to the first comma unless `all`.
fn gather(predicate: TokenStream, all: bool, found: &mut Vec<(usize, String)>) {
    let mut key = String::new();
    for token in predicate {
        let line = token.span().start().line;
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ',' && !all => return,
            TokenTree::Ident(ident) => {
                key = ident.to_string();
                if !["all", "any", "not", "feature"].contains(&key.as_str()) {
                    found.push((line, key.clone()));
                }
            }
            TokenTree::Literal(literal) if key == "feature" => {
                if let Ok(name) = syn::parse_str::<syn::LitStr>(&literal.to_string()) {
                    found.push((line, name.value()));
                }
            }
            TokenTree::Group(group) => gather(group.stream(), true, found),
            _ => {}
        }
    }
}

/// `[cfg(test)]`, or `[cfg(all(test, …))]`.
fn is_test_attribute(group: &proc_macro2::Group) -> bool {
    if group.delimiter() != Delimiter::Bracket {
        return false;
    }
    let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
    let Some(TokenTree::Ident(ident)) = tokens.first() else { return false };
    let Some((predicate, true)) = condition(&ident.to_string(), &tokens) else { return false };
    let mut words = predicate.into_iter();
    match words.next() {
        Some(TokenTree::Ident(word)) if word == "test" => words.next().is_none(),
        Some(TokenTree::Ident(word)) if word == "all" => match words.next() {
            Some(TokenTree::Group(all)) => all
                .stream()
                .into_iter()
                .any(|token| matches!(token, TokenTree::Ident(word) if word == "test")),
            _ => false,
        },
        _ => false,
    }
}

/// Whether what comes next is the body of a `mod`.
fn is_module(before: &[TokenTree]) -> bool {
    matches!(before, [.., TokenTree::Ident(keyword), TokenTree::Ident(_)] if keyword == "mod")
}

/// Whether what comes next goes on with a path (`super::super`), or with a `use`, whose leaves are noted.
fn is_within_path(before: &[TokenTree]) -> bool {
    match before {
        [.., TokenTree::Ident(keyword)] => keyword == "use" || keyword == "in",
        [.., TokenTree::Punct(a), TokenTree::Punct(b)] => a.as_char() == ':' && b.as_char() == ':',
        _ => false,
    }
}

fn begins_here(path: &[String]) -> bool {
    path.first().is_some_and(|first| first == "crate" || first == "super")
}

/// The words of a path: `crate :: a :: b`.
fn words(tokens: &[TokenTree]) -> Vec<String> {
    let mut words = Vec::new();
    let mut tokens = tokens.iter();
    while let Some(TokenTree::Ident(word)) = tokens.next() {
        words.push(word.to_string());
        let colons = [tokens.next(), tokens.next()];
        if !colons
            .iter()
            .all(|token| matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == ':'))
        {
            break;
        }
    }
    words
}

/// The leaves of the tree of a `use`, whose tokens these are, up to the semicolon.
fn leaves(tokens: &[TokenTree]) -> Vec<Vec<String>> {
    let is_end = |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ';');
    let Some(end) = tokens.iter().position(is_end) else { return Vec::new() };
    let tree = TokenStream::from_iter(tokens[..end].iter().cloned());
    let mut leaves = Vec::new();
    // Other uses of the word, as the `use<'a>` of a type, have no leaves.
    if let Ok(tree) = syn::parse2::<syn::UseTree>(tree) {
        descend(&tree, &mut Vec::new(), &mut leaves);
    }
    leaves
}

fn descend(tree: &syn::UseTree, path: &mut Vec<String>, leaves: &mut Vec<Vec<String>>) {
    use syn::UseTree::{Glob, Group, Name, Path, Rename};
    let leaf = |name: &syn::Ident| [&path[..], &[name.to_string()]].concat();
    match tree {
        Path(next) => {
            path.push(next.ident.to_string());
            descend(&next.tree, path, leaves);
            path.pop();
        }
        Group(group) => group.items.iter().for_each(|tree| descend(tree, path, leaves)),
        Name(name) => leaves.push(leaf(&name.ident)),
        Rename(rename) => leaves.push(leaf(&rename.ident)),
        Glob(_) => leaves.push(path.clone()),
    }
}
