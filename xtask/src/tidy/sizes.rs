//! Sizes: functions that do not fit a screen, files with more than one job, comments wider than code.

use super::finding::{Class, Finding};
use super::texts::Text;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// Most lines of a function, from its signature to its closing brace.
const FUNCTION_LINES: usize = 70;
/// Most lines of a file.
const FILE_LINES: usize = 600;

/// Checks a Rust file. `width` is that of the formatter, in characters.
pub(super) fn check(text: &Text, width: usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |class, line, item: &str, size, text_of: String| {
        let file = text.path.clone();
        findings.push(Finding { class, file, line, item: item.into(), size, text: text_of });
    };
    let lines = text.body.lines().count();
    if lines > FILE_LINES {
        find(Class::LongFile, 1, "", lines, format!("{lines} lines, at most {FILE_LINES}"));
    }
    let is_wide = |line: &str| line.trim_start().starts_with("//") && line.chars().count() > width;
    let wide: Vec<usize> = (1..).zip(text.body.lines()).filter(|(_, l)| is_wide(l)).map(|(at, _)| at).collect();
    if let Some(&first) = wide.first() {
        let all = wide.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        find(Class::WideComment, first, "", wide.len(), format!("more than {width} characters in lines {all}"));
    }
    let mut functions = Functions::default();
    if let Ok(ast) = syn::parse_file(&text.body) {
        functions.visit_file(&ast);
    }
    for (name, line, size) in functions.found {
        if size > FUNCTION_LINES {
            find(Class::LongFunction, line, &name, size, format!("{name} has {size} lines, at most {FUNCTION_LINES}"));
        }
    }
    findings
}

/// Functions of a file: name with its type or module, first line, lines.
#[derive(Default)]
struct Functions {
    scope: Vec<String>,
    found: Vec<(String, usize, usize)>,
}

impl Functions {
    fn add(&mut self, signature: &syn::Signature, end: proc_macro2::Span) {
        let line = signature.span().start().line;
        let name = [self.scope.as_slice(), &[signature.ident.to_string()]].concat().join("::");
        self.found.push((name, line, end.end().line - line + 1));
    }

    fn within(&mut self, name: String, visit: impl FnOnce(&mut Self)) {
        self.scope.push(name);
        visit(self);
        self.scope.pop();
    }
}

impl<'a> Visit<'a> for Functions {
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.add(&item.sig, item.block.span());
        self.within(item.sig.ident.to_string(), |inner| visit::visit_item_fn(inner, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.add(&item.sig, item.block.span());
        self.within(item.sig.ident.to_string(), |inner| visit::visit_impl_item_fn(inner, item));
    }

    fn visit_trait_item_fn(&mut self, item: &'a syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.add(&item.sig, block.span());
        }
        self.within(item.sig.ident.to_string(), |inner| visit::visit_trait_item_fn(inner, item));
    }

    fn visit_item_impl(&mut self, item: &'a syn::ItemImpl) {
        let name = match &*item.self_ty {
            syn::Type::Path(path) => path.path.segments.last().map(|s| s.ident.to_string()),
            _ => None,
        };
        self.within(name.unwrap_or("impl".into()), |inner| visit::visit_item_impl(inner, item));
    }

    fn visit_item_trait(&mut self, item: &'a syn::ItemTrait) {
        self.within(item.ident.to_string(), |inner| visit::visit_item_trait(inner, item));
    }

    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        self.within(item.ident.to_string(), |inner| visit::visit_item_mod(inner, item));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &str) -> Vec<(Class, String, usize)> {
        let text = Text { path: "a.rs".into(), body: body.into() };
        check(&text, 20).into_iter().map(|f| (f.class, f.item, f.size)).collect()
    }

    #[test]
    fn functions_are_measured_from_signature_to_brace() {
        let of = |n: usize| format!("/// Doc.\nimpl T {{\n#[inline]\nfn f() {{\n{}}}\n}}\n", "f();\n".repeat(n - 2));
        assert!(found(&of(70)).is_empty());
        assert_eq!(found(&of(71)), [(Class::LongFunction, "T::f".into(), 71)]);
    }

    #[test]
    fn comments_are_as_wide_as_code_at_most() {
        let (narrow, wide) = (format!("// {}", "x".repeat(17)), format!("    /// {}", "é".repeat(13)));
        assert!(found(&narrow).is_empty());
        assert_eq!(found(&format!("{narrow}\n{wide}\nconst A: u8 = 0;")), [(Class::WideComment, String::new(), 1)]);
        assert!(found(&format!("const A: &str = \"{}\";", "x".repeat(40))).is_empty());
    }

    #[test]
    fn files_have_600_lines_at_most() {
        assert!(found(&"\n".repeat(600)).is_empty());
        assert_eq!(found(&"\n".repeat(601)), [(Class::LongFile, String::new(), 601)]);
    }
}
