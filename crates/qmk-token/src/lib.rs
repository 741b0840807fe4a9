//! Capability tokens: the holder of one may act for a tenant, within its grant, until it expires. Start at [`Token`].
//!
//! A token is a chain of caveats and one signature, after macaroons (Birgisson et al., "Macaroons: Cookies with
//! Contextual Caveats for Decentralized Authorization in the Cloud", NDSS 2014). The first caveat is signed with the
//! server's secret, each further one with the signature before it, which it replaces. So a holder can narrow a token
//! without the server, and no one can take a caveat away again. Its text is `qmk1.` and base64url of
//!
//! ```text
//! { length: u16, caveat }*  signature: 32 bytes
//! ```
#![forbid(unsafe_code)]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use qmk_abi::Rights;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::str::FromStr;

/// Prefix of a token's text.
pub const PREFIX: &str = "qmk1.";
/// Bytes of a token's text, at most.
pub const MAX_TEXT: usize = 4096;
/// Bytes of a tenant's name, at most.
pub const MAX_NAME: usize = 256;
/// Attenuations of a token, at most.
pub const MAX_DEPTH: u8 = 32;

const SIGNATURE: usize = 32;
/// Keeps what is signed here apart from what else the key might sign.
const PURPOSE: &[u8] = b"qmk capability token 1\0";

/// Why a token is refused. A server tells its holder apart only the cases that the signature vouches for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token.
    #[error("not a token: {0}")]
    Malformed(&'static str),
    /// Not signed with this key, or changed since.
    #[error("the token is not signed with this key, or was changed")]
    Forged,
    /// It grants more than the token it was made from.
    #[error("{0}")]
    Wider(String),
    /// It has expired.
    #[error("the token expired at {0} (Unix seconds)")]
    Expired(u64),
    /// It, or a token that it was made from, has been revoked.
    #[error("the token has been revoked")]
    Revoked,
}

/// Id of a token, and of all tokens made from it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TokenId(pub [u8; 16]);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TokenId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let id = bytes(text).ok_or("a token's id is 32 hexadecimal digits; `qmk token show` prints it")?;
        Ok(TokenId(id))
    }
}

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    let digits = hex.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

/// The secret that tokens are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// A key of these bytes, which should be random.
    pub fn new(bytes: [u8; 32]) -> Key {
        Key(bytes)
    }

    /// Tells keys apart without giving them away: the start of their SHA-256.
    pub fn fingerprint(&self) -> u64 {
        let hash = <Sha256 as sha2::Digest>::digest(self.0);
        hash[..8].iter().fold(0, |n, &byte| n << 8 | u64::from(byte))
    }

    /// Makes a key and writes it to a new file that only its owner may read.
    ///
    /// # Errors
    /// If the file exists, or cannot be written.
    pub fn create(path: &Path) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|e| io::Error::other(format!("no entropy: {e}")))?;
        let hex: String = key.iter().map(|b| format!("{b:02x}")).collect();
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(format!("{hex}\n").as_bytes())?;
        file.sync_all()
    }

    /// Reads a key that [`Key::create`] made.
    ///
    /// # Errors
    /// If there is none, or others than its owner may read it.
    pub fn read(path: &Path) -> io::Result<Key> {
        use std::os::unix::fs::PermissionsExt;
        let invalid = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        // To open a pipe may take for ever.
        if !path.metadata()?.is_file() {
            return invalid("not a regular file; `qmk token key FILE` makes a key");
        }
        let file = std::fs::File::open(path)?;
        let mode = file.metadata()?.permissions().mode();
        if mode & 0o077 != 0 {
            let what = format!("others than its owner have access (mode {:03o}); set mode 0600", mode & 0o777);
            return invalid(&what);
        }
        let mut text = String::new();
        file.take(1024).read_to_string(&mut text)?;
        match bytes(text.trim()) {
            Some(key) => Ok(Key(key)),
            None => invalid("not a key: expected 64 hexadecimal digits; `qmk token key FILE` makes one"),
        }
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac
}

fn sign(key: &[u8], parts: &[&[u8]]) -> [u8; SIGNATURE] {
    mac(key, parts).finalize().into_bytes().into()
}

/// The grant of a token: the first caveat, narrowed by those that follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Names the token, and all that are made from it.
    pub id: TokenId,
    /// Tenant that its holder acts for.
    pub tenant: String,
    /// Instruction classes, at most.
    pub capabilities: Rights,
    /// When it expires, in Unix seconds: valid before, not at.
    pub expires: u64,
    /// How many times it can be attenuated still.
    pub depth: u8,
}

impl Grant {
    /// A grant with a new random id.
    ///
    /// # Errors
    /// Without entropy.
    pub fn new(tenant: &str, capabilities: Rights, expires: u64, depth: u8) -> io::Result<Grant> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|e| io::Error::other(format!("no entropy: {e}")))?;
        Ok(Grant { id: TokenId(id), tenant: tenant.into(), capabilities, expires, depth })
    }

    /// Whether it holds now.
    ///
    /// # Errors
    /// `Expired` or `Revoked`.
    pub fn check(&self, now: u64, revoked: &BTreeSet<TokenId>) -> Result<(), TokenError> {
        if revoked.contains(&self.id) {
            return Err(TokenError::Revoked);
        }
        if now >= self.expires { Err(TokenError::Expired(self.expires)) } else { Ok(()) }
    }

    fn narrow(&mut self, by: Caveat) -> Result<(), TokenError> {
        let wider = |what: String| Err(TokenError::Wider(what));
        if self.depth == 0 {
            return wider("the token cannot be attenuated any further: its depth is used up".into());
        }
        if !self.capabilities.contains(by.capabilities) {
            let beyond = (by.capabilities - self.capabilities).class_names().join(", ");
            return wider(format!("capabilities that the token does not have: {beyond}"));
        }
        if by.expires > self.expires {
            return wider(format!("an expiry of {} is later than the token's, {}", by.expires, self.expires));
        }
        if by.depth >= self.depth {
            return wider(format!("a depth of {} is more than the token leaves, {}", by.depth, self.depth - 1));
        }
        (self.capabilities, self.expires, self.depth) = (by.capabilities, by.expires, by.depth);
        Ok(())
    }
}

/// A caveat after the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Caveat {
    capabilities: Rights,
    expires: u64,
    depth: u8,
}

/// A narrowing of a token. `None` keeps the token's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attenuation {
    /// Fewer capabilities.
    pub capabilities: Option<Rights>,
    /// An earlier expiry.
    pub expires: Option<u64>,
    /// How many times the new token can be attenuated; one less than the old one if `None`.
    pub depth: Option<u8>,
}

/// A token. That there is one says nothing of its signature; see [`Token::verify`].
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The first is a [`Grant`], the others [`Caveat`]s.
    caveats: Vec<Vec<u8>>,
    signature: [u8; SIGNATURE],
    grant: Grant,
}

impl fmt::Debug for Token {
    /// Without the signature, which is the secret of its holder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("grant", &self.grant).finish_non_exhaustive()
    }
}

impl Token {
    /// Signs a grant.
    ///
    /// # Errors
    /// If the grant is none that a token can carry.
    pub fn issue(key: &Key, grant: Grant) -> Result<Token, TokenError> {
        valid(&grant)?;
        let caveat = encode(&grant)?;
        let signature = sign(&key.0, &[PURPOSE, &caveat]);
        Ok(Token { caveats: vec![caveat], signature, grant })
    }

    /// A token that says less. Needs no key.
    ///
    /// # Errors
    /// `Wider`, if it would say more, or may not be attenuated.
    pub fn attenuate(&self, by: &Attenuation) -> Result<Token, TokenError> {
        let mut grant = self.grant.clone();
        let caveat = Caveat {
            capabilities: by.capabilities.unwrap_or(grant.capabilities),
            expires: by.expires.unwrap_or(grant.expires),
            depth: by.depth.unwrap_or(grant.depth.saturating_sub(1)),
        };
        grant.narrow(caveat)?;
        let caveat = encode(&caveat)?;
        let signature = sign(&self.signature, &[&caveat]);
        let caveats = self.caveats.iter().cloned().chain([caveat]).collect();
        Ok(Token { caveats, signature, grant })
    }

    /// Its grant, without checking the signature.
    pub fn claims(&self) -> &Grant {
        &self.grant
    }

    /// How many times it was attenuated.
    pub fn attenuations(&self) -> usize {
        self.caveats.len() - 1
    }

    /// Its grant, if it is signed with this key. The time does not depend on the signature.
    ///
    /// # Errors
    /// `Forged`.
    pub fn verify(&self, key: &Key) -> Result<&Grant, TokenError> {
        let (last, before) = self.caveats.split_last().ok_or(TokenError::Forged)?;
        let mut signature: Option<[u8; SIGNATURE]> = None;
        let next = |signature: &Option<[u8; SIGNATURE]>, caveat: &[u8]| match signature {
            None => mac(&key.0, &[PURPOSE, caveat]),
            Some(before) => mac(before, &[caveat]),
        };
        for caveat in before {
            signature = Some(next(&signature, caveat).finalize().into_bytes().into());
        }
        let good = next(&signature, last).verify_slice(&self.signature).is_ok();
        if good { Ok(&self.grant) } else { Err(TokenError::Forged) }
    }
}

fn valid(grant: &Grant) -> Result<(), TokenError> {
    let known = Rights::CLASSES - Rights::ADMIN;
    if grant.tenant.is_empty() || grant.tenant.len() > MAX_NAME {
        Err(TokenError::Malformed("a tenant's name has 1 to 256 bytes"))
    } else if !known.contains(grant.capabilities) {
        Err(TokenError::Malformed("capabilities that no token can carry, such as CAP_ADMIN"))
    } else if grant.depth > MAX_DEPTH {
        Err(TokenError::Malformed("a token can be attenuated at most 32 times"))
    } else {
        Ok(())
    }
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, TokenError> {
    postcard::to_allocvec(value).map_err(|_| TokenError::Malformed("it cannot be written"))
}

/// A caveat of which there is no other way to write it.
fn decode<'a, T: Deserialize<'a> + Serialize>(bytes: &'a [u8]) -> Result<T, TokenError> {
    let value = postcard::from_bytes::<T>(bytes).ok().filter(|v| encode(v).is_ok_and(|b| b == bytes));
    value.ok_or(TokenError::Malformed("a caveat is none"))
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::new();
        for caveat in &self.caveats {
            bytes.extend((caveat.len() as u16).to_le_bytes());
            bytes.extend(caveat);
        }
        bytes.extend(self.signature);
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Token {
    type Err = TokenError;

    /// Refuses caveats that no attenuation makes, as one with a later expiry.
    fn from_str(text: &str) -> Result<Token, TokenError> {
        use TokenError::Malformed;
        if text.len() > MAX_TEXT {
            return Err(Malformed("it is longer than 4096 bytes"));
        }
        let body = text.strip_prefix(PREFIX).ok_or(Malformed("it does not begin with \"qmk1.\""))?;
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| Malformed("after \"qmk1.\" it is not base64url"))?;
        let short = Malformed("it is cut short");
        let (mut rest, signature) = bytes.split_last_chunk::<SIGNATURE>().ok_or(short.clone())?;
        let mut caveats: Vec<Vec<u8>> = Vec::new();
        while let Some((length, tail)) = rest.split_first_chunk::<2>() {
            let (caveat, tail) = tail.split_at_checked(u16::from_le_bytes(*length) as usize).ok_or(short.clone())?;
            caveats.push(caveat.into());
            rest = tail;
        }
        if !rest.is_empty() {
            return Err(short);
        }
        let (first, others) = caveats.split_first().ok_or(short)?;
        let mut grant: Grant = decode(first)?;
        valid(&grant)?;
        for caveat in others {
            grant.narrow(decode(caveat)?)?;
        }
        Ok(Token { caveats, signature: *signature, grant })
    }
}
