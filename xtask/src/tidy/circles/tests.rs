//! One circle of each kind is planted in a crate of its own and found; code without a circle passes.

use super::*;
use expect_test::expect;

/// Circles of a crate of these files.
fn circles(files: &[(&str, &str)]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let krate = Krate::load(&dir.path().join("lib.rs")).unwrap();
    check(&krate, dir.path()).iter().map(ToString::to_string).collect()
}

/// A crate of two files: the first declares `A` and has the code `a`, the second uses `A` and declares `B`.
fn circles_of(a: &str) -> Vec<String> {
    let a = format!("pub struct A;\n{a}");
    circles(&[
        ("lib.rs", "pub mod a;\npub mod b;\npub mod room;\n"),
        ("a.rs", &a),
        ("b.rs", "use crate::a::A;\npub struct B(pub A);\npub fn b() {}\n#[macro_export]\nmacro_rules! b { () => {} }"),
        ("room/mod.rs", "pub mod inner;\npub use inner::I;\n"),
        ("room/inner.rs", "pub struct I;\n"),
    ])
}

#[track_caller]
fn assert_circle(a: &str) {
    let found = circles_of(a);
    assert!(found.len() == 1 && found[0].contains("a.rs:") && found[0].contains("b.rs:"), "{a}: {found:?}");
}

#[test]
fn a_path_of_the_crate() {
    assert_circle("fn f() { let _ = crate::b::b(); }");
    assert_circle("fn f(x: &crate::b::B) {}");
    assert_circle("fn f() { use crate::b; b::b(); }");
}

#[test]
fn a_path_by_way_of_the_parent() {
    assert_circle("fn f() { super::b::b(); }");
    assert_circle("mod inner { fn f() { super::super::b::b(); } }");
    assert_circle(
        "mod inner { pub mod deeper {} fn f() { self::deeper::super::super::b::b(); } use super::super::b::b; }",
    );
}

#[test]
fn an_import() {
    assert_circle("use crate::b::B;");
    assert_circle("use crate::{b::{B as Other}};");
    assert_circle("use super::b::{self, b};");
}

#[test]
fn a_glob_import() {
    assert_circle("use crate::b::*;");
    // The name comes by a glob of another file.
    let found = circles(&[
        ("lib.rs", "mod a; mod b; mod all;"),
        ("a.rs", "use crate::all::*; pub struct A(B);"),
        ("b.rs", "use crate::a::A; pub struct B; fn f(_: A) {}"),
        ("all.rs", "pub use crate::b::*;"),
    ]);
    expect![[r#"
        a.rs:1: circle: 3 files need each other
              a.rs:1 names crate::all::*, of all.rs
              all.rs:1 names crate::b::*, of b.rs
              b.rs:1 names crate::a::A, of a.rs"#]]
    .assert_eq(&found.join("\n"));
}

#[test]
fn a_re_export() {
    assert_circle("pub use crate::b::B;");
    // By way of the parent's re-export.
    let found = circles(&[
        ("lib.rs", "mod room;"),
        ("room/mod.rs", "mod a; mod b; pub use a::A;"),
        ("room/a.rs", "pub struct A;"),
        ("room/b.rs", "use super::A; fn f(_: A) {}"),
    ]);
    assert!(found.is_empty(), "the parent needs a only: {found:?}");
    let found = circles(&[
        ("lib.rs", "mod room;"),
        ("room/mod.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
        ("room/a.rs", "pub struct A;"),
        ("room/b.rs", "use super::A; pub struct B(A);"),
    ]);
    expect![[r#"
        room/mod.rs:1: circle: 2 files need each other
              room/mod.rs:1 names b::B, of room/b.rs
              room/b.rs:1 names super::A, of room/mod.rs"#]]
    .assert_eq(&found.join("\n"));
}

#[test]
fn an_impl_of_a_type_of_another_file() {
    assert_circle("impl super::b::B { fn f(&self) {} }");
    assert_circle("trait T {} impl T for crate::b::B {}");
    assert_circle("use super::b; impl b::B { fn f(&self) {} }");
}

#[test]
fn macros_are_looked_through() {
    assert_circle("fn f() { assert!(matches!(1, 1) && crate::b::b() == ()); }");
    assert_circle("macro_rules! m { () => { $crate::b::b() } }");
    assert_circle("macro_rules! m { () => { use crate::{a, b::{B}}; } }");
    assert_circle("#[derive(Serialize)] struct S { #[serde(with = \"crate::b::b\")] x: u8 }");
    // An item that a macro declares belongs to the file of the call.
    let declares = [
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "bitflags! { pub struct A: u8 {} } use crate::b::B;"),
        ("b.rs", "use crate::a::A; pub struct B(A);"),
    ];
    assert_eq!(circles(&declares).len(), 1);
}

#[test]
fn longer_ways_around_are_told_step_by_step() {
    let found = circles(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "\nuse crate::b::B; pub struct A;"),
        ("b.rs", "use crate::c::C; pub struct B;"),
        ("c.rs", "use crate::a::A; pub struct C;"),
    ]);
    let expected = "a.rs:2: circle: 3 files need each other\
                    \n      a.rs:2 names crate::b::B, of b.rs\
                    \n      b.rs:1 names crate::c::C, of c.rs\
                    \n      c.rs:1 names crate::a::A, of a.rs";
    assert_eq!(found, [expected]);
}

#[test]
fn code_without_a_circle_passes() {
    for a in [
        // Tests may look anywhere.
        "#[cfg(test)] mod tests { use crate::b::B; }",
        "#[cfg(test)] use crate::b::B;",
        "#[test] fn f() { crate::b::b(); }",
        "struct S; impl S { #[cfg(test)] fn f(_: crate::b::B) {} }",
        "#[cfg(all(test, unix))] mod tests { use crate::b::B; }",
        // Only by way of a module.
        "use super::room::inner::I;",
        "use crate::b;",
        // Other crates, and text.
        "use ::b::B; use std::b::B; fn f() { other::b::B; }",
        "/// See [`B`](crate::b::B).\nfn f() { \"crate::b::B\"; }",
        "pub(in crate::a) struct S;",
    ] {
        let found = circles_of(a);
        assert!(found.is_empty(), "{a}: {found:?}");
    }
    // Builds that are not tests alone count.
    assert_circle("#[cfg(any(test, unix))] use crate::b::B;");
}

#[test]
fn modules_are_found_where_the_compiler_finds_them() {
    let found = circles(&[
        ("lib.rs", "mod room { pub mod a; } #[path = \"elsewhere/c.rs\"] mod b;"),
        ("room/a.rs", "pub struct A; use crate::b::B;"),
        ("elsewhere/c.rs", "pub mod d; pub struct B(crate::room::a::A);"),
        ("elsewhere/d.rs", "pub struct D;"),
    ]);
    assert!(found.len() == 1 && found[0].contains("elsewhere/c.rs"), "{found:?}");
}
