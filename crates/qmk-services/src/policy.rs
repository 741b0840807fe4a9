//! The policy file: tenants, their users, rights and limits, and tokens.
//!
//! Without one, the machine belongs to the user who runs it alone. `docs/guide/server.md` has an example.

use qmk_abi::Rights;
use qmk_token::{Key, MAX_DEPTH, MAX_NAME, TokenId};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// Bytes of a policy file, at most.
const MAX_BYTES: u64 = 1 << 20;

/// A defect of a policy file.
#[derive(Debug, thiserror::Error)]
#[error("{file}{}: {message}", line.map_or(String::new(), |l| format!(":{l}")))]
pub struct PolicyError {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: Option<usize>,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// The tenants of a machine, and its tokens.
#[derive(Clone, Debug, Default)]
pub struct SitePolicy {
    /// By name.
    pub tenants: BTreeMap<String, TenantPolicy>,
    /// Without, no token is accepted.
    pub tokens: Option<Tokens>,
}

/// Users, rights and limits of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantPolicy {
    /// Unix users who act for it.
    pub uids: BTreeSet<u32>,
    /// Instruction classes, at most.
    pub capabilities: Rights,
    /// Whether its requests are refused. Its programs run on.
    pub suspended: bool,
    /// Share of what is contended, relative to other tenants'.
    pub weight: u32,
    /// Tenants that it may offer channels to; all if `None`.
    pub offers_to: Option<BTreeSet<String>>,
    /// Limits.
    pub quota: Quotas,
}

/// Limits of a tenant; those of the machine where `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quotas {
    /// Logical qubits at once.
    pub max_logical_qubits: Option<u32>,
    /// Physical qubits at once.
    pub max_physical_qubits: Option<u64>,
    /// Channels at once.
    pub max_channels: Option<u32>,
    /// Unfinished jobs.
    pub max_jobs: Option<u32>,
    /// Qubits that carry live magic at once, in one job.
    pub max_active_qubits: Option<u32>,
    /// Shots of one job.
    pub max_shots: Option<u64>,
    /// Open sessions.
    pub max_sessions: Option<usize>,
    /// Magic states in one window.
    pub magic_states_per_window: Option<u64>,
    /// Epochs in one window in which its programs may issue, counted per program.
    pub epochs_per_window: Option<u64>,
    /// Epochs of one window; 0 is one window without end.
    pub window_epochs: Option<u64>,
    /// Requests in one second.
    pub max_requests_per_second: Option<u32>,
}

/// How tokens are checked.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// Where the secret lies.
    pub key_file: PathBuf,
    /// The secret, once read.
    pub key: Option<Key>,
    /// Tokens that were taken back, with all that were made from them.
    pub revoked: BTreeSet<TokenId>,
    /// Attenuations of one token that are accepted.
    pub max_depth: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    tokens: Option<TokensForm>,
    #[serde(default)]
    tenants: BTreeMap<Spanned<String>, TenantForm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokensForm {
    key: PathBuf,
    #[serde(default)]
    revoked: Vec<Parsed<TokenId>>,
    max_depth: Option<Spanned<u8>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantForm {
    #[serde(default)]
    uids: BTreeSet<u32>,
    capabilities: Several<Parsed<Class>>,
    #[serde(default)]
    suspended: bool,
    weight: Option<Spanned<u32>>,
    #[serde(default)]
    offers_to: Several<Spanned<String>>,
    #[serde(default)]
    quota: Option<Spanned<Quotas>>,
}

/// Says where in the file something is wrong.
struct Blame<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Blame<'_> {
    fn at(&self, span: Option<Range<usize>>, message: String) -> PolicyError {
        let line = span.map(|s| 1 + self.text.as_bytes().iter().take(s.start).filter(|b| **b == b'\n').count());
        PolicyError { file: self.path.display().to_string(), line, message }
    }

    /// The parser names a wrong value, not its key, so the line is quoted.
    fn syntax(&self, e: &toml::de::Error) -> PolicyError {
        let (text, what) = (self.text, e.message().replace('\n', "; "));
        let start = e.span().map(|s| s.start.min(text.len()));
        let line = start.and_then(|at| text.get(..at)?.rfind('\n').map_or(Some(0), |n| Some(n + 1)));
        let shown = line.and_then(|at| text.get(at..)?.lines().next()).unwrap_or_default().trim();
        let shown: String = shown.chars().take(80).collect();
        self.at(e.span(), if shown.is_empty() { what } else { format!("`{shown}`: {what}") })
    }
}

impl TokensForm {
    fn check(self, path: &Path, blame: &Blame<'_>) -> Result<Tokens, PolicyError> {
        if let Some(depth) = self.max_depth.as_ref().filter(|d| *d.get_ref() > MAX_DEPTH) {
            let what = format!("tokens.max_depth: a token can be attenuated at most {MAX_DEPTH} times");
            return Err(blame.at(Some(depth.span()), what));
        }
        Ok(Tokens {
            key_file: path.parent().unwrap_or(Path::new("")).join(self.key),
            key: None,
            revoked: self.revoked.into_iter().map(|id| id.0).collect(),
            max_depth: self.max_depth.map_or(MAX_DEPTH, Spanned::into_inner),
        })
    }
}

impl TenantForm {
    /// The tenant of this name, beside tenants of `names`.
    fn check(
        &self,
        name: &Spanned<String>,
        names: &BTreeSet<&str>,
        blame: &Blame<'_>,
    ) -> Result<TenantPolicy, PolicyError> {
        let key = name.get_ref();
        let at = |key_of: &str| format!("tenants.{key}.{key_of}");
        if key.is_empty() || key.len() > MAX_NAME || key.chars().any(char::is_control) {
            let what = format!("a tenant's name has 1 to {MAX_NAME} bytes and no control characters");
            return Err(blame.at(Some(name.span()), what));
        }
        if let Some(weight) = self.weight.as_ref().filter(|w| *w.get_ref() == 0) {
            return Err(blame.at(Some(weight.span()), format!("{}: a weight is at least 1", at("weight"))));
        }
        let offers_to = match &self.offers_to {
            Several::All => None,
            Several::These(to) => {
                if let Some(unknown) = to.iter().find(|t| !names.contains(t.get_ref().as_str())) {
                    let known: Vec<&str> = names.iter().copied().take(20).collect();
                    let what = format!("{:?} is no tenant here; expected some of: ", unknown.get_ref());
                    let what = format!("{}: {what}{}", at("offers_to"), known.join(", "));
                    return Err(blame.at(Some(unknown.span()), what));
                }
                Some(to.iter().map(|t| t.get_ref().clone()).collect())
            }
        };
        Ok(TenantPolicy {
            uids: self.uids.clone(),
            capabilities: match &self.capabilities {
                Several::All => Rights::CLASSES - Rights::ADMIN,
                Several::These(classes) => classes.iter().fold(Rights::empty(), |all, c| all | c.0.0),
            },
            suspended: self.suspended,
            weight: self.weight.as_ref().map_or(1, |w| *w.get_ref()),
            offers_to,
            quota: self.quotas(&at("quota"), blame)?,
        })
    }

    fn quotas(&self, key: &str, blame: &Blame<'_>) -> Result<Quotas, PolicyError> {
        let quota = self.quota.as_ref().map(|q| q.get_ref().clone()).unwrap_or_default();
        let span = self.quota.as_ref().map(Spanned::span);
        let windowed = quota.magic_states_per_window.is_some() || quota.epochs_per_window.is_some();
        if windowed != quota.window_epochs.is_some() {
            let what = "window_epochs goes together with magic_states_per_window or epochs_per_window; \
                        0 is one window without end";
            return Err(blame.at(span, format!("{key}: {what}")));
        }
        if quota.max_requests_per_second == Some(0) {
            let what = "max_requests_per_second is at least 1; `suspended = true` keeps a tenant out";
            return Err(blame.at(span, format!("{key}: {what}")));
        }
        Ok(quota)
    }
}

/// An instruction class that a tenant may have.
struct Class(Rights);

impl std::str::FromStr for Class {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = Rights::CLASSES - Rights::ADMIN;
        let class = Rights::from_class_name(name).filter(|class| all.contains(*class));
        class.map(Class).ok_or_else(|| {
            format!("{name:?} is no capability of tenants; expected one of {}", all.class_names().join(", "))
        })
    }
}

/// A value written as a string.
struct Parsed<T>(T);

impl<'de, T: std::str::FromStr<Err = String>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map(Parsed).map_err(D::Error::custom)
    }
}

/// A list, or `"all"`.
enum Several<T> {
    All,
    These(Vec<T>),
}

impl<T> Default for Several<T> {
    fn default() -> Self {
        Several::These(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Several<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Either<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = Several<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names, or \"all\"")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                let given = serde::de::Unexpected::Str(text);
                if text == "all" { Ok(Several::All) } else { Err(E::invalid_value(given, &self)) }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut these = Vec::new();
                while let Some(item) = list.next_element()? {
                    these.push(item);
                }
                Ok(Several::These(these))
            }
        }
        d.deserialize_any(Either(std::marker::PhantomData))
    }
}

impl SitePolicy {
    /// Reads a policy and the key it names: regular files, the policy of at most a mebibyte.
    ///
    /// # Errors
    /// What is wrong, in which line.
    pub fn load(path: &Path) -> Result<SitePolicy, PolicyError> {
        let file = path.display().to_string();
        let failed = |message: String| PolicyError { file: file.clone(), line: None, message };
        // To open a pipe may take for ever, and to read a device.
        if !path.metadata().map_err(|e| failed(e.to_string()))?.is_file() {
            return Err(failed("not a regular file".into()));
        }
        let mut text = String::new();
        let opened = std::fs::File::open(path).map_err(|e| failed(e.to_string()))?;
        opened.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|e| failed(e.to_string()))?;
        if text.len() as u64 > MAX_BYTES {
            return Err(failed(format!("longer than {MAX_BYTES} bytes")));
        }
        let mut policy = SitePolicy::parse(&text, path)?;
        if let Some(tokens) = &mut policy.tokens {
            let read = Key::read(&tokens.key_file);
            tokens.key = Some(read.map_err(|e| failed(format!("tokens.key: {}: {e}", tokens.key_file.display())))?);
        }
        Ok(policy)
    }

    /// Parses a policy. Reads no key: see [`Tokens::key`].
    ///
    /// # Errors
    /// What is wrong, in which line.
    pub fn parse(text: &str, path: &Path) -> Result<SitePolicy, PolicyError> {
        let blame = Blame { text, path };
        let form: FileForm = toml::from_str(text).map_err(|e| blame.syntax(&e))?;
        let names: BTreeSet<&str> = form.tenants.keys().map(|name| name.get_ref().as_str()).collect();
        let mut tenants = BTreeMap::new();
        for (name, tenant) in &form.tenants {
            tenants.insert(name.get_ref().clone(), tenant.check(name, &names, &blame)?);
        }
        if tenants.is_empty() {
            let what = "no tenants; add a table [tenants.NAME] with uids and capabilities".into();
            return Err(blame.at(None, what));
        }
        let tokens = form.tokens.map(|tokens| tokens.check(path, &blame)).transpose()?;
        Ok(SitePolicy { tenants, tokens })
    }

    /// Tenants that a Unix user acts for.
    pub fn tenants_of(&self, uid: u32) -> impl Iterator<Item = &str> {
        self.tenants.iter().filter(move |(_, t)| t.uids.contains(&uid)).map(|(name, _)| name.as_str())
    }

    /// Whether one tenant may offer channels to another.
    pub fn may_offer(&self, from: &str, to: &str) -> bool {
        let known = self.tenants.contains_key(to);
        known && self.tenants.get(from).is_some_and(|t| t.offers_to.as_ref().is_none_or(|o| o.contains(to)))
    }
}
