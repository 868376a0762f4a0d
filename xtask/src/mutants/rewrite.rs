//! A source with every mutant in it at once: beside what stands there, what could stand there, and a number
//! to choose it by.
//!
//! A generated mutant is text that is put before, behind or in place of another. For each named one the body of its
//! function is there once more.

use std::ops::Range;

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::Result;

/// What is changed, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mutant {
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) what: String,
    pub(super) kind: Kind,
    /// Why it may survive: the words of the line's comment `survives: …`, or of a guard's, `guard survives: …`.
    pub(super) excuse: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An ordering one step weaker, or a fence removed.
    Order,
    /// A condition inverted, a bound moved by one, an error ignored, a way out that panics.
    Guard,
    /// What no rule makes: a text in the place of another.
    Named,
}

/// A text of the file, and what stands in its place.
pub(super) struct Change<'c> {
    pub(super) what: String,
    pub(super) text: &'c str,
    pub(super) replacement: &'c str,
}

/// The text with all mutants, whose numbers go on from `mutants`, to which they are added. `module` is the
/// path of the functions that choose.
pub(super) fn rewrite(
    file: &str,
    text: &str,
    module: &str,
    changes: &[Change],
    mutants: &mut Vec<Mutant>,
) -> Result<String> {
    let syntax = syn::parse_file(text).map_err(|error| format!("{file}: {error}"))?;
    let mut places = Vec::new();
    for change in changes {
        let mut found = text.match_indices(change.text).map(|(at, found)| at..at + found.len());
        match (found.next(), found.next()) {
            (Some(place), None) => places.push(place),
            _ => {
                let what = &change.what;
                return Err(format!("{what}: its text does not stand once in {file}").into());
            }
        }
    }
    let changes = changes.iter().zip(places).collect();
    let mut finder = Finder { file, text, module, mutants, changes, edits: Vec::new() };
    finder.visit_file(&syntax);
    if let Some((change, _)) = finder.changes.first() {
        return Err(format!("{}: its text is in no function of {file}", change.what).into());
    }
    let mut edits = finder.edits;
    // The sort is stable. Of several edits at one place, the beginning of an outer expression was pushed before that of
    // the inner one, and the end of the inner one before that of the outer one.
    edits.sort_by_key(|(range, _)| range.start);
    let mut out = String::new();
    let mut at = 0;
    for (range, new) in edits {
        out.push_str(&text[at..range.start]);
        out.push_str(&new);
        at = range.end;
    }
    out.push_str(&text[at..]);
    Ok(out)
}

struct Finder<'f> {
    file: &'f str,
    text: &'f str,
    module: &'f str,
    mutants: &'f mut Vec<Mutant>,
    /// Those whose function has not been visited.
    changes: Vec<(&'f Change<'f>, Range<usize>)>,
    edits: Vec<(Range<usize>, String)>,
}

impl Finder<'_> {
    /// A new mutant's number.
    fn mutant(&mut self, at: Span, kind: Kind, what: impl Into<String>) -> usize {
        let line = at.start().line;
        self.mutants.push(Mutant {
            file: self.file.to_owned(),
            line,
            what: what.into(),
            kind,
            excuse: excuse(self.text, line, kind),
        });
        self.mutants.len() // 0 is no mutant
    }

    fn chosen(&self, number: usize) -> String {
        format!("{}::chosen({number})", self.module)
    }

    fn before(&mut self, at: Span, new: String) {
        let start = at.byte_range().start;
        self.edits.push((start..start, new));
    }

    fn behind(&mut self, at: Span, new: &str) {
        let end = at.byte_range().end;
        self.edits.push((end..end, new.to_owned()));
    }

    /// The body once more for each change in it, of which one is chosen.
    fn change(&mut self, block: &syn::Block) -> bool {
        let braces = block.brace_token.span;
        let body = braces.open().byte_range().end..braces.close().byte_range().start;
        let is_within = |place: &Range<usize>| body.start <= place.start && place.end <= body.end;
        let (within, elsewhere) =
            std::mem::take(&mut self.changes).into_iter().partition(|(_, place)| is_within(place));
        self.changes = elsewhere;
        let mut variants = String::new();
        for (change, place) in &within {
            let line = self.text[..place.start].matches('\n').count() + 1;
            self.mutants.push(Mutant {
                file: self.file.to_owned(),
                line,
                what: change.what.clone(),
                kind: Kind::Named,
                excuse: None,
            });
            let chosen = self.chosen(self.mutants.len());
            let (before, behind) =
                (&self.text[body.start..place.start], &self.text[place.end..body.end]);
            let new = change.replacement;
            variants.push_str(&format!(" if {chosen} {{{before}{new}{behind}}} else"));
        }
        if !within.is_empty() {
            self.edits.push((body.start..body.start, variants + " {"));
        }
        !within.is_empty()
    }

    /// Visits a function's body, with the changes in it.
    fn body(&mut self, block: &syn::Block, visit: impl FnOnce(&mut Self)) {
        let is_changed = self.change(block);
        visit(self);
        if is_changed {
            let end = block.brace_token.span.close().byte_range().start;
            self.edits.push((end..end, "}".to_owned()));
        }
    }

    fn instead(&mut self, at: Span, new: String) {
        self.edits.push((at.byte_range(), new));
    }

    /// Each ordering among the arguments of an atomic operation, one step weaker. What is weaker depends on
    /// the operation.
    fn weaken(
        &mut self,
        operation: &str,
        arguments: &syn::punctuated::Punctuated<syn::Expr, syn::Token![,]>,
    ) {
        for argument in arguments {
            let syn::Expr::Path(path) = argument else { continue };
            let Some(last) = path.path.segments.last() else { continue };
            let name = last.ident.to_string();
            let weaker: &[&str] = match (name.as_str(), operation) {
                ("SeqCst", "load") => &["Acquire"],
                ("SeqCst", "store") => &["Release"],
                ("SeqCst", _) => &["AcqRel"],
                ("AcqRel", _) => &["Acquire", "Release"],
                // A relaxed fence is none: that it is removed is another mutant.
                ("Acquire" | "Release", "fence" | "compiler_fence") => &[],
                ("Acquire" | "Release", _) => &["Relaxed"],
                _ => &[],
            };
            let mut new = self.text[argument.span().byte_range()].to_owned();
            for weaker in weaker {
                let what = format!("{operation}: {name} made {weaker}");
                let number = self.mutant(argument.span(), Kind::Order, what);
                let ordering = format!("::core::sync::atomic::Ordering::{weaker}");
                new = format!("(if {} {{ {ordering} }} else {{ {new} }})", self.chosen(number));
            }
            if !weaker.is_empty() {
                self.instead(argument.span(), new);
            }
        }
    }

    fn condition(&mut self, condition: &syn::Expr, what: &str) {
        let shown = shown(self.text, condition.span());
        if holds_let(condition) {
            let number =
                self.mutant(condition.span(), Kind::Guard, format!("{what} {shown}: never"));
            let chosen = self.chosen(number);
            self.before(condition.span(), format!("!{chosen} && "));
            self.visit_expr(condition);
        } else {
            let number =
                self.mutant(condition.span(), Kind::Guard, format!("{what} {shown}: inverted"));
            let chosen = self.chosen(number);
            self.before(condition.span(), format!("{chosen} ^ ("));
            self.visit_expr(condition);
            self.behind(condition.span(), ")");
        }
    }
}

const FENCES: [&str; 7] = [
    "fence",
    "light_fence",
    "heavy_fence",
    "compiler_barrier",
    "compiler_fence",
    "barrier_elsewhere",
    "full_fence",
];

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.weaken(&call.method.to_string(), &call.args);
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        let syn::Expr::Path(path) = &*call.func else { return visit::visit_expr_call(self, call) };
        let name = path.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default();
        let is_fence = FENCES.contains(&name.as_str()) && name != "barrier_elsewhere";
        if is_fence {
            let shown = shown(self.text, call.span());
            let number = self.mutant(call.span(), Kind::Order, format!("{shown} removed"));
            let chosen = self.chosen(number);
            self.before(call.span(), format!("(if !{chosen} {{ "));
        }
        self.weaken(&name, &call.args);
        visit::visit_expr_call(self, call);
        if is_fence {
            self.behind(call.span(), " })");
        }
    }

    fn visit_expr_if(&mut self, expression: &'ast syn::ExprIf) {
        self.condition(&expression.cond, "if");
        self.visit_block(&expression.then_branch);
        if let Some((_, otherwise)) = &expression.else_branch {
            self.visit_expr(otherwise);
        }
    }

    fn visit_expr_while(&mut self, expression: &'ast syn::ExprWhile) {
        self.condition(&expression.cond, "while");
        self.visit_block(&expression.body);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if let Some((_, guard)) = &arm.guard {
            self.condition(guard, "the arm's if");
        }
        self.visit_expr(&arm.body);
    }

    fn visit_expr_binary(&mut self, expression: &'ast syn::ExprBinary) {
        use syn::BinOp::{Ge, Gt, Le, Lt};
        let (name, other) = match expression.op {
            Lt(_) => ("lt", "<="),
            Le(_) => ("le", "<"),
            Gt(_) => ("gt", ">="),
            Ge(_) => ("ge", ">"),
            _ => return visit::visit_expr_binary(self, expression),
        };
        let shown = shown(self.text, expression.span());
        let number = self.mutant(expression.span(), Kind::Guard, format!("{shown}: by {other}"));
        self.before(expression.span(), format!("{}::{name}({number}, &(", self.module));
        self.visit_expr(&expression.left);
        self.instead(expression.op.span(), "), &(".to_owned());
        self.visit_expr(&expression.right);
        self.behind(expression.span(), "))");
    }

    /// `work()?`, whose value is used: there is none to go on with, so the error panics.
    fn visit_expr_try(&mut self, attempt: &'ast syn::ExprTry) {
        let shown = shown(self.text, attempt.span());
        let number = self.mutant(attempt.span(), Kind::Guard, format!("{shown}: its error panics"));
        self.before(attempt.span(), format!("{}::tried({number}, ", self.module));
        self.visit_expr(&attempt.expr);
        self.behind(attempt.expr.span(), ")");
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        let Some(init) = &local.init else { return };
        self.visit_expr(&init.expr);
        if let Some((_, otherwise)) = &init.diverge
            && let syn::Expr::Block(otherwise) = &**otherwise
        {
            let shown = shown(self.text, init.expr.span());
            let number =
                self.mutant(otherwise.span(), Kind::Guard, format!("else of {shown}: panics"));
            let chosen = self.chosen(number);
            let begin = otherwise.block.brace_token.span.open();
            self.behind(begin, &format!(" if {chosen} {{ ::core::panic!() }} "));
            self.visit_block(&otherwise.block);
        }
    }

    /// `work()?;`, whose value nobody wants.
    fn visit_stmt(&mut self, statement: &'ast syn::Stmt) {
        let syn::Stmt::Expr(syn::Expr::Try(attempt), Some(_)) = statement else {
            return visit::visit_stmt(self, statement);
        };
        // An attribute, as of conditional compilation, belongs to the whole statement.
        if self.text[attempt.span().byte_range()].starts_with('#') {
            return;
        }
        let shown = shown(self.text, attempt.span());
        let number =
            self.mutant(attempt.span(), Kind::Guard, format!("{shown}: its error ignored"));
        let chosen = self.chosen(number);
        self.before(attempt.span(), "{ let outcome = ".to_owned());
        self.visit_expr(&attempt.expr);
        self.instead(attempt.question_token.span(), format!("; if !{chosen} {{ outcome?; }} }}"));
    }

    /// Not a `const fn`, which cannot read the variable at compile time; and no tests, which are the judges.
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if item.sig.constness.is_none() && !is_for_tests(&item.attrs) {
            self.body(&item.block, |finder| visit::visit_item_fn(finder, item));
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if item.sig.constness.is_none() && !is_for_tests(&item.attrs) {
            self.body(&item.block, |finder| visit::visit_impl_item_fn(finder, item));
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.body(block, |finder| visit::visit_trait_item_fn(finder, item));
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        // How something is shown orders nothing.
        let shows = item.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
        if !shows.is_some_and(|name| name.ident == "Display" || name.ident == "Debug") {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}
    fn visit_expr_repeat(&mut self, _: &'ast syn::ExprRepeat) {}
    fn visit_type(&mut self, _: &'ast syn::Type) {}
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    /// Items that only Linux has are declared in `on_linux!`, which returns them unchanged.
    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        if item.mac.path.segments.last().is_some_and(|name| name.ident == "on_linux")
            && let Ok(items) = syn::parse2::<syn::File>(item.mac.tokens.clone())
        {
            self.visit_file(&items);
        }
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "test")
    })
}

fn holds_let(expression: &syn::Expr) -> bool {
    match expression {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(binary) => holds_let(&binary.left) || holds_let(&binary.right),
        _ => false,
    }
}

/// The source, on one line and not too long.
fn shown(text: &str, span: Span) -> String {
    let words: Vec<&str> = text[span.byte_range()].split_whitespace().collect();
    let mut shown: String = words.join(" ").chars().take(60).collect();
    if shown.len() == 60 {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// The reason in a comment on the line, or in the comment directly above it. An attribute may stand between.
fn excuse(text: &str, line: usize, kind: Kind) -> Option<String> {
    let mark = if kind == Kind::Guard { "// guard survives: " } else { "// survives: " };
    let lines: Vec<&str> = text.lines().collect();
    let found = |line: &str| Some(line.split_once(mark)?.1.to_owned());
    let above = lines[..line - 1]
        .iter()
        .rev()
        .take_while(|line| ["//", "#["].iter().any(|begin| line.trim_start().starts_with(begin)));
    found(lines[line - 1]).or_else(|| above.copied().find_map(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mutants of a function with this body, and the body with them in it.
    #[track_caller]
    fn of(body: &str) -> (Vec<String>, String) {
        let mut mutants = Vec::new();
        let text = format!("fn f() {{ {body} }}");
        let new = rewrite("a.rs", &text, "m", &[], &mut mutants).expect("it parses");
        syn::parse_file(&new).unwrap_or_else(|error| panic!("{error}: {new}"));
        let new = new["fn f() { ".len()..new.len() - 2].to_owned();
        (mutants.into_iter().map(|mutant| mutant.what).collect(), new)
    }

    #[test]
    fn orderings_are_weakened_one_step() {
        let (what, new) = of("a.load(Acquire);");
        assert_eq!(what, ["load: Acquire made Relaxed"]);
        assert_eq!(
            new,
            "a.load((if m::chosen(1) { ::core::sync::atomic::Ordering::Relaxed } else { Acquire }));"
        );
        assert_eq!(of("a.swap(1, Ordering::AcqRel);").0.len(), 2);
        assert_eq!(
            of("a.compare_exchange(0, 1, SeqCst, Acquire);").0,
            ["compare_exchange: SeqCst made AcqRel", "compare_exchange: Acquire made Relaxed"]
        );
        assert_eq!(of("a.load(Relaxed); b.push(2);").0, [""; 0]);
    }

    #[test]
    fn fences_are_removed_and_weakened() {
        assert_eq!(
            of("fence(SeqCst);").0,
            ["`fence(SeqCst)` removed", "fence: SeqCst made AcqRel"]
        );
        let (what, new) = of("sys::compiler_barrier();");
        assert_eq!(what, ["`sys::compiler_barrier()` removed"]);
        assert_eq!(new, "(if !m::chosen(1) { sys::compiler_barrier() });");
    }

    #[test]
    fn guards_are_inverted_bounds_moved_and_errors_ignored() {
        let (what, new) = of("if a < b && c { d() }");
        assert_eq!(what, ["if `a < b && c`: inverted", "`a < b`: by <="]);
        assert_eq!(new, "if m::chosen(1) ^ (m::lt(2, &(a ), &( b)) && c) { d() }");
        let (what, new) = of("if let Some(a) = b { d() }");
        assert_eq!(what, ["if `let Some(a) = b`: never"]);
        assert_eq!(new, "if !m::chosen(1) && let Some(a) = b { d() }");
        let (what, new) = of("a.b()?;");
        assert_eq!(what, ["`a.b()?`: its error ignored"]);
        assert_eq!(new, "{ let outcome = a.b(); if !m::chosen(1) { outcome?; } };");
        assert_eq!(of("match a { b if c => 1, _ => 2 }").0, ["the arm's if `c`: inverted"]);
        let (what, new) = of("let a = b()?.c()?;");
        assert_eq!(what, ["`b()?.c()?`: its error panics", "`b()?`: its error panics"]);
        assert_eq!(new, "let a = m::tried(1, m::tried(2, b())?.c())?;");
        let (what, new) = of("let Some(a) = b else { return };");
        assert_eq!(what, ["else of `b`: panics"]);
        assert_eq!(new, "let Some(a) = b else { if m::chosen(1) { ::core::panic!() }  return };");
    }

    #[test]
    fn a_named_change_is_its_function_once_more() {
        let change = |text, replacement| Change { what: "a change".to_owned(), text, replacement };
        let new = |text: &str, changes: &[Change]| {
            let new = rewrite("a.rs", text, "m", changes, &mut Vec::new());
            new.map_err(|error| error.to_string())
        };
        assert_eq!(
            new("fn f() { a(); b() }", &[change("a();", "c();"), change("b()", "d()")]),
            Ok("fn f() { if m::chosen(1) { c(); b() } else if m::chosen(2) { a(); d() } else { a(); b() }}".to_owned())
        );
        let error = |words: &str| Err(format!("a change: its text {words} a.rs"));
        assert_eq!(new("fn f() { a; a }", &[change("a", "")]), error("does not stand once in"));
        assert_eq!(new("static A: i32 = 1;", &[change("1", "")]), error("is in no function of"));
    }

    #[test]
    fn constants_and_tests_have_none() {
        let mut mutants = Vec::new();
        let text = "const fn f() { if a { b } } const A: bool = 1 < 2; #[cfg(test)] mod t { fn g() { fence(SeqCst) } } #[test] fn h() { if a {} } on_linux! { fn g() { fence(Release); } }";
        rewrite("a.rs", text, "m", &[], &mut mutants).expect("it parses");
        assert_eq!(mutants.len(), 1, "{mutants:?}");
    }

    #[test]
    fn an_excuse_stands_on_the_line_or_in_the_comment_above() {
        let text = "fn f() {\n    // survives: a hint\n    a.load(Acquire);\n    b.load(Acquire); // survives: too\n    c.load(Acquire);\n}";
        let mut mutants = Vec::new();
        rewrite("a.rs", text, "m", &[], &mut mutants).expect("it parses");
        let excuses = |mutants: &[Mutant]| -> Vec<Option<String>> {
            mutants.iter().map(|mutant| mutant.excuse.clone()).collect()
        };
        let some = |words: &str| Some(words.to_owned());
        assert_eq!(excuses(&mutants), [some("a hint"), some("too"), None]);
        // A guard and an ordering on one line have a reason each.
        let text = "fn f() {\n    // survives: one\n    // guard survives: two\n    if a.load(Acquire) { b() }\n}";
        let mut mutants = Vec::new();
        rewrite("a.rs", text, "m", &[], &mut mutants).expect("it parses");
        assert_eq!(excuses(&mutants), [some("two"), some("one")]);
    }
}
