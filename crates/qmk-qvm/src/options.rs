//! How to read a text.

use crate::limits;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How to read a text.
#[derive(Clone, Debug, Default)]
pub struct ParseOptions {
    /// Values for `.param` names.
    pub params: BTreeMap<String, String>,
    /// Where the text came from; relative includes start there.
    pub file: Option<PathBuf>,
    /// Directory that includes must stay inside; `None` refuses them.
    pub include_root: Option<PathBuf>,
    /// Most nodes; a program is read no further, and [`TooLarge`] says so. As many as the language has if `None`.
    pub max_nodes: Option<usize>,
    /// Most work of the macro language: expressions, elements copied, 16 characters each. The usual if `None`.
    pub max_steps: Option<usize>,
}

impl ParseOptions {
    pub(crate) fn nodes(&self) -> usize {
        self.max_nodes.map_or(limits::NODES, |most| most.min(limits::NODES))
    }

    pub(crate) fn steps(&self) -> usize {
        self.max_steps.map_or(limits::STEPS, |most| most.min(limits::STEPS))
    }
}
