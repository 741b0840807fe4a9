//! Names of a crate: resolves paths to the files whose declarations they go through.

use crate::sources::{Krate, is_test, item_attrs};
use std::collections::{HashMap, HashSet};
use syn::visit::{self, Visit};
use syn::{Ident, Item, UseTree};

/// Chains of re-exports longer than this are cut, as they can run in circles.
const MAX_DEPTH: u32 = 8;

/// What each module of a crate declares. Indices are those of [`Krate::modules`].
pub(super) struct Names<'a> {
    krate: &'a Krate,
    scopes: Vec<Scope>,
}

#[derive(Default)]
struct Scope {
    items: HashSet<String>,
    /// Paths that `use` declarations bind to a name: several, as a name can be a type and a function.
    uses: HashMap<String, Vec<Vec<String>>>,
    globs: Vec<Vec<String>>,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Target {
    Module(usize),
    Item,
}

/// Who looks: a file, and the files that its path depends on.
struct Walk<'w> {
    file: usize,
    reached: &'w mut Vec<usize>,
    depth: u32,
}

impl Walk<'_> {
    fn reach(&mut self, file: usize) {
        if file != self.file {
            self.reached.push(file);
        }
    }

    /// Follows declarations of another file. They are its own business: the walk depends on that file, and not on those
    /// that it in turn depends on.
    fn reach_through<T>(&mut self, file: usize, follow: impl FnOnce(&mut Walk<'_>) -> Option<T>) -> Option<T> {
        let depth = self.depth + 1;
        if file == self.file {
            return follow(&mut Walk { file, reached: self.reached, depth });
        }
        let found = follow(&mut Walk { file, reached: &mut Vec::new(), depth })?;
        self.reach(file);
        Some(found)
    }
}

impl<'a> Names<'a> {
    pub(super) fn new(krate: &'a Krate) -> Self {
        let scopes = krate.modules.iter().map(|module| {
            let mut scope = Scope::default();
            module.items.iter().for_each(|item| scope.visit_item(item));
            scope
        });
        Names { krate, scopes: scopes.collect() }
    }

    /// Files that a path in a module depends on: the one that declares the item, and those whose re-exports lead to it.
    /// A module that the path only goes through is none, as `super::child::Item` needs nothing of `super`.
    pub(super) fn reached(&self, module: usize, path: &[String]) -> Vec<usize> {
        let mut reached = Vec::new();
        let file = self.krate.modules[module].file;
        self.resolve(module, path, &mut Walk { file, reached: &mut reached, depth: 0 });
        reached
    }

    /// File that `use path::*` depends on, if the module declares anything but modules.
    pub(super) fn reached_by_glob(&self, module: usize, path: &[String]) -> Vec<usize> {
        let mut reached = Vec::new();
        let file = self.krate.modules[module].file;
        let mut walk = Walk { file, reached: &mut reached, depth: 0 };
        if let Some(Target::Module(target)) = self.resolve(module, path, &mut walk) {
            let scope = &self.scopes[target];
            if !(scope.items.is_empty() && scope.uses.is_empty() && scope.globs.is_empty()) {
                walk.reach(self.krate.modules[target].file);
            }
        }
        reached
    }

    fn resolve(&self, module: usize, path: &[String], walk: &mut Walk<'_>) -> Option<Target> {
        if walk.depth > MAX_DEPTH {
            return None;
        }
        let mut at = module;
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                at = 0;
                rest = &path[1..];
            }
            "self" => rest = &path[1..],
            "Self" => return None,
            _ => {}
        }
        while let Some((first, after)) = rest.split_first()
            && first == "super"
        {
            at = self.krate.modules[at].parent?;
            rest = after;
        }
        let is_bare = rest.len() == path.len();
        for (i, name) in rest.iter().enumerate() {
            match self.step(at, name, i + 1 == rest.len(), walk) {
                Some(Target::Module(next)) => at = next,
                Some(Target::Item) => return Some(Target::Item),
                // A name of another crate, or of the language.
                None if is_bare && i == 0 => return None,
                // A macro declares it.
                None => {
                    walk.reach(self.krate.modules[at].file);
                    return Some(Target::Item);
                }
            }
        }
        Some(Target::Module(at))
    }

    /// Resolves one name in a module.
    fn step(&self, at: usize, name: &str, is_last: bool, walk: &mut Walk<'_>) -> Option<Target> {
        let (module, scope) = (&self.krate.modules[at], &self.scopes[at]);
        let is_item = scope.items.contains(name);
        if let Some(&child) = module.children.get(name)
            && !(is_last && is_item)
        {
            return Some(Target::Module(child));
        }
        if is_item {
            walk.reach(module.file);
            return Some(Target::Item);
        }
        walk.reach_through(module.file, |walk| {
            if let Some(paths) = scope.uses.get(name) {
                let target = paths.iter().find_map(|path| self.resolve(at, path, walk));
                // A name of another crate.
                return Some(target.unwrap_or(Target::Item));
            }
            scope.globs.iter().find_map(|path| {
                // That the module is looked at does not tell yet that the name comes from there.
                let mut on_trial = Vec::new();
                let mut trial = Walk { file: walk.file, reached: &mut on_trial, depth: walk.depth };
                let Target::Module(target) = self.resolve(at, path, &mut trial)? else { return None };
                self.step(target, name, is_last, walk)
            })
        })
    }
}

impl<'a> Visit<'a> for Scope {
    fn visit_item(&mut self, item: &'a Item) {
        if is_test(item_attrs(item)) {
            return;
        }
        let name = match item {
            Item::Const(i) => Some(&i.ident),
            Item::Enum(i) => Some(&i.ident),
            Item::Fn(i) => Some(&i.sig.ident),
            Item::Macro(i) => i.ident.as_ref(),
            Item::Static(i) => Some(&i.ident),
            Item::Struct(i) => Some(&i.ident),
            Item::Trait(i) => Some(&i.ident),
            Item::TraitAlias(i) => Some(&i.ident),
            Item::Type(i) => Some(&i.ident),
            Item::Union(i) => Some(&i.ident),
            _ => None,
        };
        self.items.extend(name.map(|n| n.to_string()));
        // Declarations inside functions count as those of the module.
        visit::visit_item(self, item);
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        if item.leading_colon.is_some() {
            return;
        }
        for leaf in leaves(&item.tree) {
            match leaf.name {
                Some(name) => self.uses.entry(name).or_default().push(leaf.path),
                None => self.globs.push(leaf.path),
            }
        }
    }
}

/// One import of a `use` tree.
pub(super) struct Leaf {
    pub(super) path: Vec<String>,
    /// None for a glob.
    name: Option<String>,
    pub(super) line: usize,
}

impl Leaf {
    pub(super) fn is_glob(&self) -> bool {
        self.name.is_none()
    }
}

pub(super) fn leaves(tree: &UseTree) -> Vec<Leaf> {
    let mut found = Vec::new();
    flatten(tree, &mut Vec::new(), &mut found);
    found
}

fn flatten(tree: &UseTree, prefix: &mut Vec<String>, found: &mut Vec<Leaf>) {
    let mut leaf = |last: &Ident, name: Option<&Ident>| {
        let mut path = prefix.clone();
        let is_self = last == "self" && !path.is_empty();
        if !is_self {
            path.push(last.to_string());
        }
        let name = name.map(ToString::to_string).filter(|n| n != "self").or(path.last().cloned());
        found.push(Leaf { path, name, line: last.span().start().line });
    };
    match tree {
        UseTree::Name(name) => leaf(&name.ident, None),
        UseTree::Rename(rename) => leaf(&rename.ident, Some(&rename.rename)),
        UseTree::Glob(glob) => {
            let line = glob.star_token.spans[0].start().line;
            found.push(Leaf { path: prefix.clone(), name: None, line });
        }
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            flatten(&path.tree, prefix, found);
            prefix.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, prefix, found)),
    }
}
