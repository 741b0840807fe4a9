//! What the kernel promises, restated slowly: a flat list of capabilities, each with its parent, and what they name.
//!
//! The model decides by itself whether a call must be refused or must succeed, wherever that can be told from outside.
//! Where it depends on the schedule (magic states in stock, deadlines, fences) the kernel decides, and the model checks
//! what must hold if it succeeds and that nothing changes if it does not.
//!
//! `state` has the model and how things are found in it, `object` what capabilities name, `accounts` what is used of
//! quotas and budgets. `call` makes a call on both, `calls` says for each kind what must come of it, in the words of
//! `verdict`, and `check` what must hold after every step. Start with `call`.

mod accounts;
mod call;
mod calls;
mod check;
mod object;
mod state;
mod verdict;

pub use call::labels;
pub use object::Count;
pub use state::Model;
pub use verdict::Verdict;
