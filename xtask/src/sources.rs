//! The source files of a crate as the compiler sees them outside tests: its tree of modules, and the file of each.

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ImplItem, Item, Lit, Meta, TraitItem};

/// One target of a package: a library, a binary or a bench.
pub(crate) struct Krate {
    pub(crate) files: Vec<SourceFile>,
    /// The root is the first.
    pub(crate) modules: Vec<Module>,
}

pub(crate) struct SourceFile {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// Lines of items that only tests see, counted from 1.
    tests: Vec<RangeInclusive<usize>>,
}

/// A module without its tests. Modules inside it are entries of their own.
pub(crate) struct Module {
    pub(crate) parent: Option<usize>,
    pub(crate) children: HashMap<String, usize>,
    /// Index of its file in the crate.
    pub(crate) file: usize,
    pub(crate) items: Vec<Item>,
}

/// Lines outside tests. Blank ones count as neither.
#[derive(Clone, Copy, Default)]
pub(crate) struct Lines {
    pub(crate) code: usize,
    pub(crate) comments: usize,
}

impl Krate {
    /// Reads a crate from its root file.
    ///
    /// # Errors
    /// A file that is missing or is no Rust.
    pub(crate) fn load(root: &Path) -> Result<Krate, String> {
        let mut krate = Krate { files: Vec::new(), modules: Vec::new() };
        let dir = root.parent().unwrap_or(Path::new(""));
        krate.file(root, dir, None)?;
        Ok(krate)
    }

    /// Adds a file as a module. Modules that it declares are looked for in `dir`.
    fn file(&mut self, path: &Path, dir: &Path, parent: Option<usize>) -> Result<usize, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let ast = syn::parse_file(&text).map_err(|e| format!("{}:{}: {e}", path.display(), e.span().start().line))?;
        let mut tests = TestSpans::default();
        tests.visit_file(&ast);
        self.files.push(SourceFile { path: path.to_path_buf(), text, tests: tests.found });
        self.module(ast.items, self.files.len() - 1, dir, parent)
    }

    fn module(&mut self, items: Vec<Item>, file: usize, dir: &Path, parent: Option<usize>) -> Result<usize, String> {
        let index = self.modules.len();
        self.modules.push(Module { parent, children: HashMap::new(), file, items: Vec::new() });
        for item in items {
            if is_test(item_attrs(&item)) {
                continue;
            }
            let Item::Mod(inner) = item else {
                self.modules[index].items.push(item);
                continue;
            };
            let name = inner.ident.to_string();
            let child = match inner.content {
                Some((_, items)) => self.module(items, file, &dir.join(&name), Some(index))?,
                None => {
                    let (path, dir) = self.place(&inner.attrs, &name, file, dir);
                    self.file(&path, &dir, Some(index))?
                }
            };
            self.modules[index].children.insert(name, child);
        }
        Ok(index)
    }

    /// File of a declared module, and the folder of the modules that it declares in turn.
    fn place(&self, attrs: &[Attribute], name: &str, file: usize, dir: &Path) -> (PathBuf, PathBuf) {
        if let Some(path) = attrs.iter().find_map(path_attr) {
            let path = self.files[file].path.parent().unwrap_or(Path::new("")).join(path);
            let dir = path.parent().unwrap_or(Path::new("")).to_path_buf();
            return (path, dir);
        }
        let inner = dir.join(name);
        let flat = dir.join(format!("{name}.rs"));
        if flat.exists() { (flat, inner) } else { (inner.join("mod.rs"), inner) }
    }
}

impl SourceFile {
    /// Counts lines of code and of comments outside tests.
    pub(crate) fn lines(&self) -> Lines {
        let total = self.text.lines().count();
        let mut is_code = vec![false; total + 1];
        if let Ok(tokens) = self.text.parse() {
            mark_code(tokens, &self.text.lines().collect::<Vec<_>>(), &mut is_code);
        }
        let mut lines = Lines::default();
        for (at, line) in (1..).zip(self.text.lines()) {
            if line.trim().is_empty() || self.tests.iter().any(|range| range.contains(&at)) {
                continue;
            }
            if is_code[at] {
                lines.code += 1;
            } else {
                lines.comments += 1;
            }
        }
        lines
    }
}

/// Marks the lines that hold a token other than a doc comment.
fn mark_code(tokens: TokenStream, lines: &[&str], is_code: &mut [bool]) {
    let mut mark = |span: Span| is_code[span.start().line..=span.end().line].fill(true);
    let mut tokens = tokens.into_iter().peekable();
    let mut groups = Vec::new();
    while let Some(token) = tokens.next() {
        match &token {
            TokenTree::Punct(punct) if punct.as_char() == '#' && is_comment(punct.span(), lines) => {
                // A doc comment is `#`, perhaps `!`, and a group.
                _ = tokens.next_if(|next| matches!(next, TokenTree::Punct(_)));
                _ = tokens.next_if(|next| matches!(next, TokenTree::Group(_)));
            }
            TokenTree::Group(group) => {
                if group.delimiter() != Delimiter::None {
                    mark(group.span_open());
                    mark(group.span_close());
                }
                groups.push(group.stream());
            }
            other => mark(other.span()),
        }
    }
    for group in groups {
        mark_code(group, lines, is_code);
    }
}

/// Whether a token stems from a comment: then it stands where the comment begins.
fn is_comment(span: Span, lines: &[&str]) -> bool {
    let start = span.start();
    let line = lines.get(start.line - 1).copied().unwrap_or_default();
    line.chars().nth(start.column) == Some('/')
}

/// Lines of what only tests see, at any depth.
#[derive(Default)]
struct TestSpans {
    found: Vec<RangeInclusive<usize>>,
}

impl TestSpans {
    /// Records a node if it belongs to tests; says whether to look inside.
    fn enter(&mut self, attrs: &[Attribute], span: Span) -> bool {
        let test = is_test(attrs);
        if test {
            let first = attrs.first().map_or(span, |a| a.span()).start().line;
            self.found.push(first.min(span.start().line)..=span.end().line);
        }
        !test
    }
}

impl<'a> Visit<'a> for TestSpans {
    fn visit_item(&mut self, item: &'a Item) {
        if self.enter(item_attrs(item), item.span()) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'a ImplItem) {
        if self.enter(impl_item_attrs(item), item.span()) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'a TraitItem) {
        if self.enter(trait_item_attrs(item), item.span()) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_field(&mut self, field: &'a syn::Field) {
        self.enter(&field.attrs, field.span());
    }

    fn visit_local(&mut self, local: &'a syn::Local) {
        if self.enter(&local.attrs, local.span()) {
            visit::visit_local(self, local);
        }
    }
}

/// Whether attributes hide a node from all builds but tests.
pub(crate) fn is_test(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| match &attr.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("cfg") => list.parse_args::<Meta>().is_ok_and(|m| needs_test(&m)),
        _ => false,
    })
}

/// Whether a condition of `cfg` holds in builds of tests only.
fn needs_test(condition: &Meta) -> bool {
    let inner = |list: &syn::MetaList| {
        list.parse_args_with(syn::punctuated::Punctuated::<Meta, syn::Token![,]>::parse_terminated)
            .map(|metas| metas.into_iter().collect::<Vec<_>>())
            .unwrap_or_default()
    };
    match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => inner(list).iter().any(needs_test),
        Meta::List(list) if list.path.is_ident("any") => {
            let inner = inner(list);
            !inner.is_empty() && inner.iter().all(needs_test)
        }
        // The kernel's audit: tests turn it on, and no build of the product does.
        Meta::NameValue(pair) if pair.path.is_ident("feature") => {
            matches!(&pair.value, Expr::Lit(syn::ExprLit { lit: Lit::Str(text), .. }) if text.value() == "audit")
        }
        _ => false,
    }
}

fn path_attr(attr: &Attribute) -> Option<String> {
    match &attr.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            Expr::Lit(syn::ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

pub(crate) fn item_attrs(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(i) => &i.attrs,
        Item::Enum(i) => &i.attrs,
        Item::ExternCrate(i) => &i.attrs,
        Item::Fn(i) => &i.attrs,
        Item::ForeignMod(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Macro(i) => &i.attrs,
        Item::Mod(i) => &i.attrs,
        Item::Static(i) => &i.attrs,
        Item::Struct(i) => &i.attrs,
        Item::Trait(i) => &i.attrs,
        Item::TraitAlias(i) => &i.attrs,
        Item::Type(i) => &i.attrs,
        Item::Union(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

pub(crate) fn impl_item_attrs(item: &ImplItem) -> &[Attribute] {
    match item {
        ImplItem::Const(i) => &i.attrs,
        ImplItem::Fn(i) => &i.attrs,
        ImplItem::Type(i) => &i.attrs,
        ImplItem::Macro(i) => &i.attrs,
        _ => &[],
    }
}

pub(crate) fn trait_item_attrs(item: &TraitItem) -> &[Attribute] {
    match item {
        TraitItem::Const(i) => &i.attrs,
        TraitItem::Fn(i) => &i.attrs,
        TraitItem::Type(i) => &i.attrs,
        TraitItem::Macro(i) => &i.attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> (usize, usize) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("lib.rs"), text).unwrap();
        std::fs::write(dir.path().join("tests.rs"), "no Rust at all").unwrap();
        let lines = Krate::load(&dir.path().join("lib.rs")).unwrap().files.iter().map(SourceFile::lines).fold(
            Lines::default(),
            |sum, lines| Lines { code: sum.code + lines.code, comments: sum.comments + lines.comments },
        );
        (lines.code, lines.comments)
    }

    #[test]
    fn comments_and_code_are_told_apart() {
        for (text, expected) in [
            ("//! Doc.\n\n/// Doc.\n// Note.\nfn f() {} // at the end\n", (1, 3)),
            ("/* one\n   two */\nfn f() {}\n", (1, 2)),
            ("/** one\n   two */\nfn f() {}\n", (1, 2)),
            ("const A: &str = \"\n// text\n\";\n", (3, 0)),
            ("fn f() {\n    // é\n    g();\n}\n", (3, 1)),
            ("#[doc = \"text\"]\n#[inline]\nfn f() {}\n", (3, 0)),
        ] {
            assert_eq!(lines(text), expected, "{text}");
        }
    }

    #[test]
    fn tests_do_not_count_wherever_they_stand() {
        for text in [
            "#[cfg(test)]\nmod tests;\nfn f() {}\n",
            "#[cfg(test)]\nmod tests {\n    // Note.\n    fn g() {}\n}\nfn f() {}\n",
            "fn f() {}\n/// Doc.\n#[cfg(test)]\nfn g() {\n}\n",
            "fn f() {}\n#[cfg(all(unix, test))]\nuse std::fmt;\n",
        ] {
            assert_eq!(lines(text), (1, 0), "{text}");
        }
        // What follows a test counts, and so do builds that are not tests alone.
        assert_eq!(
            lines("#[cfg(test)]\nuse std::fmt;\nstruct S;\nimpl S {\n    #[cfg(test)]\n    fn g() {}\n}\n"),
            (3, 0)
        );
        assert_eq!(lines("#[cfg(any(test, unix))]\nfn f() {}\n#[cfg(not(test))]\nfn g() {}\n"), (4, 0));
    }
}
