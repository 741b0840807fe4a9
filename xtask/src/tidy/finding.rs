//! What a check of `tidy` finds.

use std::fmt;
use std::path::Path;

/// Kinds of findings. Those of [`Class::RATCHETED`] may be listed in `tidy.toml`; of all others there are none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Class {
    /// Files of a crate that need each other.
    Circle,
    /// A function that does not fit a screen.
    LongFunction,
    /// A file with more than one job.
    LongFile,
    /// Comments that are wider than code may be.
    WideComment,
    /// A link, or the name of a file or a test, that leads nowhere.
    DeadLink,
    /// Two versions of a package in one build.
    Duplicate,
    /// A package under terms that the licences of this one do not allow.
    Licence,
    /// A package from elsewhere than the registry.
    Source,
}

impl Class {
    /// Classes that have offenders which may stay, with their names in `tidy.toml`.
    pub(super) const RATCHETED: [(Class, &'static str); 4] = [
        (Class::LongFunction, "long_functions"),
        (Class::LongFile, "long_files"),
        (Class::WideComment, "wide_comments"),
        (Class::Duplicate, "duplicates"),
    ];

    fn name(self) -> &'static str {
        match self {
            Class::Circle => "circle",
            Class::LongFunction => "long function",
            Class::LongFile => "long file",
            Class::WideComment => "wide comments",
            Class::DeadLink => "dead link",
            Class::Duplicate => "duplicate",
            Class::Licence => "licence",
            Class::Source => "source",
        }
    }
}

/// One offender.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) class: Class,
    /// Path from the root of the workspace.
    pub(crate) file: String,
    pub(crate) line: usize,
    /// Function or package, where the file does not tell it.
    pub(crate) item: String,
    /// How much there is of it, in lines or versions.
    pub(crate) size: usize,
    pub(crate) text: String,
}

impl Finding {
    /// Names the offender, however the lines around it move.
    pub(super) fn key(&self) -> String {
        if self.item.is_empty() { self.file.clone() } else { format!("{} {}", self.file, self.item) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.class.name(), self.text)
    }
}

/// A path as findings name it.
pub(super) fn relative(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}
