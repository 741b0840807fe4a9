//! Circles of files: none of two files of a crate may need the other, directly or by way of others.
//!
//! A file needs another if one of its paths, imports, re-exports or `impl` blocks names what that one declares. Tests
//! do not count. A path that only goes through a module needs nothing of it.

use super::finding::{Class, Finding};
use super::names::{Names, leaves};
use crate::sources::{Krate, impl_item_attrs, is_test, item_attrs, trait_item_attrs};
use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use syn::visit::{self, Visit};
use syn::{ImplItem, Item, TraitItem};

/// For each pair of files of which the first needs the second: where it does so first, and by which path.
type Edges = BTreeMap<(usize, usize), (usize, String)>;

/// Finds the circles of a crate; of each, the shortest way around that begins at its first file.
pub(super) fn check(krate: &Krate, root: &Path) -> Vec<Finding> {
    let edges = edges(krate);
    let mut next = vec![Vec::new(); krate.files.len()];
    edges.keys().for_each(|&(from, to)| next[from].push(to));
    let reach: Vec<Vec<bool>> = (0..next.len()).map(|from| reachable(&next, from)).collect();
    let mut findings = Vec::new();
    let mut done = vec![false; next.len()];
    for first in 0..next.len() {
        if done[first] || !reach[first][first] {
            continue;
        }
        let members: Vec<usize> = (first..next.len()).filter(|&to| reach[first][to] && reach[to][first]).collect();
        members.iter().for_each(|&member| done[member] = true);
        findings.push(describe(krate, root, &edges, &members, &shortest(&next, first)));
    }
    findings
}

fn describe(krate: &Krate, root: &Path, edges: &Edges, members: &[usize], way: &[usize]) -> Finding {
    let name = |file: usize| super::finding::relative(&krate.files[file].path, root);
    let steps = way.windows(2).map(|pair| {
        let (line, path) = &edges[&(pair[0], pair[1])];
        format!("\n      {}:{line} names {path}, of {}", name(pair[0]), name(pair[1]))
    });
    let text = format!("{} files need each other{}", members.len(), steps.collect::<String>());
    let line = edges[&(way[0], way[1])].0;
    Finding { class: Class::Circle, file: name(way[0]), line, item: String::new(), size: members.len(), text }
}

fn reachable(next: &[Vec<usize>], from: usize) -> Vec<bool> {
    let mut seen = vec![false; next.len()];
    let mut queue = vec![from];
    while let Some(at) = queue.pop() {
        for &to in &next[at] {
            if !std::mem::replace(&mut seen[to], true) {
                queue.push(to);
            }
        }
    }
    seen
}

/// Shortest way from a file back to itself, which there must be.
fn shortest(next: &[Vec<usize>], first: usize) -> Vec<usize> {
    let mut queue = VecDeque::from([vec![first]]);
    let mut seen = vec![false; next.len()];
    while let Some(way) = queue.pop_front() {
        for &to in &next[way[way.len() - 1]] {
            if to == first || !std::mem::replace(&mut seen[to], true) {
                let longer = [way.as_slice(), &[to]].concat();
                if to == first {
                    return longer;
                }
                queue.push_back(longer);
            }
        }
    }
    vec![first, first]
}

fn edges(krate: &Krate) -> Edges {
    let names = Names::new(krate);
    let mut edges = Edges::new();
    for (module, contents) in krate.modules.iter().enumerate() {
        let mut paths = Paths { names: &names, module, file: contents.file, edges: &mut edges };
        contents.items.iter().for_each(|item| paths.visit_item(item));
    }
    edges
}

/// Resolves every path of a module.
struct Paths<'a, 'n> {
    names: &'n Names<'a>,
    module: usize,
    file: usize,
    edges: &'n mut Edges,
}

impl Paths<'_, '_> {
    fn add(&mut self, path: &[String], line: usize) {
        let reached = self.names.reached(self.module, path);
        self.note(reached, path.join("::"), line);
    }

    fn note(&mut self, reached: Vec<usize>, path: String, line: usize) {
        for to in reached {
            self.edges.entry((self.file, to)).or_insert_with(|| (line, path.clone()));
        }
    }

    /// Paths among the tokens of a macro: names with `::` between them, and what a group after `::` holds.
    fn tokens(&mut self, tokens: TokenStream, prefix: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is = |at: usize, wanted: char| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == wanted);
        let mut at = 0;
        while at < tokens.len() {
            let foreign = at > 0 && (is(at - 1, '.') || is(at - 1, ':'));
            match &tokens[at] {
                TokenTree::Ident(first) if !foreign => {
                    let mut path = prefix.to_vec();
                    path.push(first.to_string());
                    while is(at + 1, ':')
                        && is(at + 2, ':')
                        && let Some(TokenTree::Ident(name)) = tokens.get(at + 3)
                    {
                        path.push(name.to_string());
                        at += 3;
                    }
                    let group = if is(at + 1, ':') && is(at + 2, ':') { tokens.get(at + 3) } else { None };
                    match group {
                        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                            self.tokens(group.stream(), &path);
                            at += 3;
                        }
                        // A name alone is bound by an import, which has been seen.
                        _ if path.len() > 1 => self.add(&path, first.span().start().line),
                        _ => {}
                    }
                }
                TokenTree::Group(group) => self.tokens(group.stream(), &[]),
                _ => {}
            }
            at += 1;
        }
    }

    /// Paths that an attribute of serde holds as text.
    fn strings(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.strings(group.stream()),
                TokenTree::Literal(literal) => {
                    let text = literal.to_string();
                    if let Ok(path) = syn::parse_str::<syn::Path>(text.trim_matches('"')) {
                        self.path(&path, literal.span());
                    }
                }
                _ => {}
            }
        }
    }

    fn path(&mut self, path: &syn::Path, span: Span) {
        if path.leading_colon.is_none() {
            let names: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
            self.add(&names, span.start().line);
        }
    }
}

impl<'a> Visit<'a> for Paths<'_, '_> {
    fn visit_item(&mut self, item: &'a Item) {
        if !is_test(item_attrs(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'a ImplItem) {
        if !is_test(impl_item_attrs(item)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'a TraitItem) {
        if !is_test(trait_item_attrs(item)) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        if item.leading_colon.is_some() {
            return;
        }
        for leaf in leaves(&item.tree) {
            if leaf.is_glob() {
                let reached = self.names.reached_by_glob(self.module, &leaf.path);
                self.note(reached, leaf.path.join("::") + "::*", leaf.line);
            } else {
                self.add(&leaf.path, leaf.line);
            }
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        if let Some(first) = path.segments.first() {
            self.path(path, first.ident.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'a syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone(), &[]);
    }

    fn visit_attribute(&mut self, attr: &'a syn::Attribute) {
        if let syn::Meta::List(list) = &attr.meta
            && list.path.is_ident("serde")
        {
            self.strings(list.tokens.clone());
        }
    }

    /// `pub(in path)` says who may look, and needs nothing.
    fn visit_visibility(&mut self, _: &'a syn::Visibility) {}
}

#[cfg(test)]
mod tests;
