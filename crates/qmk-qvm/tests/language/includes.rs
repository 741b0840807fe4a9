//! Included files: where they are searched, what is refused, and how findings name them.

use super::{lines, plain, refused};
use qmk_qvm::{Finding, ParseOptions, assemble, flatten};
use std::path::Path;

/// A directory with files, removed at the end.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn including(text: &str, root: &Path, file: Option<&str>) -> Result<Vec<String>, Vec<Finding>> {
    let file = file.map(|f| root.join(f));
    let options = ParseOptions { file, include_root: Some(root.to_path_buf()), ..ParseOptions::default() };
    assemble(text, &options).map(|g| plain(&g))
}

#[test]
fn includes() {
    let dir = directory(&[
        ("lib/one.qvm", ".version 0.1\n.macro ONE(q)\nh: APPLY_H {q}\n.endmacro\n.include \"two.qvm\"\n"),
        ("lib/two.qvm", "two{n}: FENCE_EPOCH\n.include \"lib/three.qvm\"\n"),
        ("lib/three.qvm", ".set n = 9\n.include \"../four.qvm\"\n"),
        ("four.qvm", "four: FENCE_EPOCH\n"),
    ]);
    // Beside the including file first, else below the root.
    let text = ".set n = 2\n.include \"lib/one.qvm\"\nONE(a)\nx{n}: FENCE_EPOCH";
    let expected = ["two2: FENCE_EPOCH", "four: FENCE_EPOCH", "h: APPLY_H a", "x9: FENCE_EPOCH"];
    assert_eq!(including(text, dir.path(), None).unwrap(), expected);
    let options = ParseOptions { include_root: Some(dir.path().into()), ..ParseOptions::default() };
    // Without the files, and without leave to read any.
    assert_eq!(lines(&flatten(text, &options)), expected);
    assert!(flatten(".include \"none.qvm\"", &options).contains("none.qvm"));
    let in_macro = ".macro M()\n.include \"four.qvm\"\n.endmacro\nM()\n.if 0\n.include \"none.qvm\"\n.endif";
    assert_eq!(lines(&flatten(in_macro, &options)), including(in_macro, dir.path(), None).unwrap());
    assert_eq!(including(text, dir.path(), Some("main.qvm")).unwrap(), expected);
    let inner = ".set n = 2\n.include \"one.qvm\"\nONE(a)\nx{n}: FENCE_EPOCH";
    assert_eq!(including(inner, dir.path(), Some("lib/main.qvm")).unwrap(), expected);
    // Twice is no cycle.
    let twice = ".include \"four.qvm\"\n.include \"lib/../four.qvm\"";
    assert_eq!(including(twice, dir.path(), None).unwrap(), ["four: FENCE_EPOCH"; 2]);
}

#[test]
fn includes_are_confined() {
    let outside = directory(&[("secret.qvm", "secret: FENCE_EPOCH\n")]);
    let dir = directory(&[("lib/a.qvm", "a: FENCE_EPOCH\n"), ("lib/self.qvm", ".include \"self.qvm\"\n")]);
    let root = dir.path();
    std::fs::write(root.join("lib/b.qvm"), ".include \"c.qvm\"").unwrap();
    std::fs::write(root.join("lib/c.qvm"), "\n.include \"b.qvm\"").unwrap();
    std::fs::write(root.join("up.qvm"), ".include \"../../secret.qvm\"").unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret.qvm"), root.join("link.qvm")).unwrap();
    std::os::unix::fs::symlink(outside.path(), root.join("away")).unwrap();
    let secret = outside.path().join("secret.qvm");
    let sibling = format!("../{}/secret.qvm", outside.path().file_name().unwrap().to_str().unwrap());
    let absolute_inside = root.join("lib/a.qvm");
    for (name, word) in [
        (secret.to_str().unwrap(), "relative"),
        (absolute_inside.to_str().unwrap(), "relative"),
        ("/etc/passwd", "relative"),
        (sibling.as_str(), "outside"),
        ("..", "outside"),
        ("link.qvm", "outside"),
        ("away/secret.qvm", "outside"),
        ("lib", "not a file"),
        ("nowhere.qvm", "No such file"),
        ("lib/self.qvm", "include itself"),
        ("lib/b.qvm", "include itself"),
    ] {
        let found = including(&format!("FENCE_EPOCH\n.include \"{name}\""), root, Some("main.qvm")).unwrap_err();
        assert_eq!((found.len(), found[0].line), (1, Some(2)), "{name}: {found:?}");
        assert!(found[0].message.contains(word), "{name}: {found:?}");
        assert!(!found[0].message.contains("secret: FENCE"), "{found:?}");
    }
    // The program itself is part of the chain.
    std::fs::write(root.join("main.qvm"), ".include \"main.qvm\"").unwrap();
    let found = including(".include \"main.qvm\"", root, Some("main.qvm")).unwrap_err();
    assert!(found[0].message.contains("include itself"), "{found:?}");
    // Without a root there are none.
    let found = assemble(".include \"lib/a.qvm\"", &ParseOptions::default()).unwrap_err();
    assert!(found[0].message.contains("not allowed"), "{found:?}");
    refused(".include lib", 1, &["file name in quotes"]);
    refused(".include", 1, &["file name in quotes"]);
}

#[test]
fn findings_in_includes_say_where() {
    let dir = directory(&[
        ("outer.qvm", "\n.include \"inner.qvm\"\n"),
        ("inner.qvm", "x: FENCE_EPOCH\ny: APPLY_FOO q\nz: APPLY_H {oops}\n.macro M()\nw: APPLY_FOO\n.endmacro\n"),
    ]);
    let found = including(".include \"outer.qvm\"\nM()", dir.path(), None).unwrap_err();
    let said: Vec<_> = found.iter().map(|f| (f.line.unwrap(), f.code.as_str(), f.message.as_str())).collect();
    let (place, unknown) = ("outer.qvm line 2: inner.qvm line", "unknown opcode or macro \"APPLY_FOO\"");
    let undefined = "oops is not defined; define it with .set or .param";
    assert_eq!(
        said,
        [
            (1, "E-PARSE", format!("{place} 3: {undefined}").as_str()),
            (1, "E-SCHEMA", format!("{place} 2: {unknown}").as_str()),
            (2, "E-SCHEMA", unknown),
        ]
    );
}
