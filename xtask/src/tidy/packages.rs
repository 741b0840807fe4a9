//! Packages that the workspace is built from: their licences, where they come from, and which come in two versions.

use super::finding::{Class, Finding};
use cargo_metadata::{CargoOpt, Metadata, MetadataCommand, Package};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The part of `deny.toml` that is read here, so that there is one list of licences.
#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

/// All that cargo knows about a build for this computer, without a look at the network.
pub(super) fn metadata(root: &Path, host: &str) -> Result<Metadata, String> {
    let options = ["--offline", "--locked", "--filter-platform", host].map(String::from);
    let mut command = MetadataCommand::new();
    command.manifest_path(root.join("Cargo.toml")).features(CargoOpt::AllFeatures).other_options(options);
    command.exec().map_err(|e| format!("cargo metadata: {e}"))
}

pub(super) fn check(metadata: &Metadata, root: &Path) -> Result<Vec<Finding>, String> {
    let read = |name: &str| std::fs::read_to_string(root.join(name)).map_err(|e| format!("{name}: {e}"));
    let allowed = toml::from_str::<Deny>(&read("deny.toml")?).map_err(|e| format!("deny.toml: {e}"))?.licenses.allow;
    let lock = read("Cargo.lock")?;
    let nodes = metadata.resolve.as_ref().ok_or("cargo metadata resolves nothing")?;
    let used: BTreeSet<_> = nodes.nodes.iter().map(|node| &node.id).collect();
    let mut findings = Vec::new();
    let mut find = |class, package: &Package, size, text: String| {
        let name = package.name.as_str();
        let entry = format!("name = \"{name}\"");
        let line = lock.lines().position(|l| l == entry).map_or(1, |at| at + 1);
        findings.push(Finding { class, file: "Cargo.lock".into(), line, item: name.into(), size, text });
    };
    let mut versions: BTreeMap<&str, Vec<&Package>> = BTreeMap::new();
    for package in metadata.packages.iter().filter(|p| used.contains(&p.id)) {
        versions.entry(package.name.as_str()).or_default().push(package);
        let (name, version) = (&package.name, &package.version);
        let terms = package.license.as_deref().unwrap_or("no licence");
        if !is_allowed(terms, &allowed) {
            find(
                Class::Licence,
                package,
                1,
                format!("{name} {version} is under {terms}; deny.toml does not allow that"),
            );
        }
        let is_ours = metadata.workspace_members.contains(&package.id);
        if !is_ours && !package.source.as_ref().is_some_and(|s| s.is_crates_io()) {
            find(Class::Source, package, 1, format!("{name} {version} does not come from the registry"));
        }
    }
    for (name, packages) in versions.iter().filter(|(_, packages)| packages.len() > 1) {
        let all = packages.iter().map(|p| p.version.to_string()).collect::<Vec<_>>().join(" and ");
        find(Class::Duplicate, packages[0], packages.len(), format!("{name} comes as {all}"));
    }
    Ok(findings)
}

/// Whether an SPDX expression can be met with allowed licences.
fn is_allowed(terms: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = terms.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    any(&mut words, allowed) && words.next().is_none()
}

type Words<'a, 'w> = std::iter::Peekable<std::str::SplitWhitespace<'w>>;

fn any(words: &mut Words<'_, '_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all(words, allowed);
    }
    met
}

fn all(words: &mut Words<'_, '_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words<'_, '_>, allowed: &BTreeSet<String>) -> bool {
    match words.next() {
        Some("(") => {
            let met = any(words, allowed);
            met & (words.next() == Some(")"))
        }
        Some(name) => {
            let exception = words.next_if_eq(&"WITH").and_then(|_| words.next());
            allowed.contains(&exception.map_or(name.into(), |e| format!("{name} WITH {e}")))
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_read_as_expressions() {
        let allowed = ["MIT", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"].map(String::from).into();
        for (terms, expected) in [
            ("MIT", true),
            ("MIT/Apache-2.0", true),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0 AND MIT", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("MIT OR Apache-2.0 AND GPL-3.0", true),
            ("(MIT OR Apache-2.0) AND GPL-3.0", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
            ("MIT GPL-3.0", false),
            ("(MIT", false),
            ("", false),
            ("no licence", false),
        ] {
            assert_eq!(is_allowed(terms, &allowed), expected, "{terms}");
        }
    }
}
