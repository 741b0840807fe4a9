//! Options of the parsers.

use crate::limits;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How to read a text. The default reads assembly without parameters and without includes.
#[derive(Clone, Debug, Default)]
pub struct ParseOptions {
    /// Values for `.param` names.
    pub params: BTreeMap<String, String>,
    /// File of the text; its includes are searched beside it first.
    pub file: Option<PathBuf>,
    /// Directory that included files must lie in; `None` refuses includes.
    pub include_root: Option<PathBuf>,
    /// Most nodes of a program; one with more is refused with [`TooLarge`](crate::TooLarge). Default: 1,000,000.
    pub max_nodes: Option<usize>,
    /// Most steps of the macro language. An expression, a copied element and 16 characters cost a step each. Default:
    /// 20,000,000.
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
