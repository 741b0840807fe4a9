//! Keys and signed tree heads.

use crate::access::length;
use crate::error::{Damage, JournalError};
use crate::layout::{HEADS, MAX_LINE};
use crate::tree::{Hash, base64_bytes, leaf_hash, verify_inclusion};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::str::FromStr;

/// The key that heads are verified with. Displayed as a verifier key of [C2SP signed-note], the form that Go's
/// `note.NewVerifier` takes.
///
/// [C2SP signed-note]: https://c2sp.org/signed-note
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// Text that is not the canonical form of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 key of an audit log")]
pub struct NotAKey;

/// The signed-note type of Ed25519 signatures.
const ED25519: u8 = 1;
/// More entries than files have room for, and few enough to compute their places without overflow.
const MAX_SIZE: u64 = 1 << 56;
const PRIVATE: &str = "PRIVATE+KEY+";

impl PublicKey {
    /// The name of the log: `qmk/audit/` and the first eight bytes of SHA-256 of the key, in hexadecimal, so that the
    /// logs of two machines have different names.
    pub fn origin(&self) -> String {
        let mut origin = String::from("qmk/audit/");
        let digest = Sha256::digest(self.0.as_bytes());
        digest[..8].iter().for_each(|byte| origin.push_str(&format!("{byte:02x}")));
        origin
    }

    fn id(&self) -> [u8; 4] {
        let digest = Sha256::new().chain_update(self.origin()).chain_update([b'\n', ED25519]);
        let digest = digest.chain_update(self.0.as_bytes()).finalize();
        [digest[0], digest[1], digest[2], digest[3]]
    }

    fn encode(&self, key: &[u8; 32]) -> String {
        let mut typed = vec![ED25519];
        typed.extend_from_slice(key);
        format!("{}+{:08x}+{}", self.origin(), u32::from_be_bytes(self.id()), STANDARD.encode(typed))
    }
}

/// The bytes of an encoded key, whatever its name and identifier.
fn decode(text: &str) -> Option<[u8; 32]> {
    let (_, key) = text.split_once('+')?.1.split_once('+')?;
    STANDARD.decode(key).ok()?.strip_prefix(&[ED25519])?.try_into().ok()
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.encode(self.0.as_bytes()))
    }
}

impl FromStr for PublicKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<PublicKey, NotAKey> {
        let key = decode(text).and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok()).ok_or(NotAKey)?;
        // Nothing but the canonical form will do: it holds a digest of the key, so that damage shows.
        Some(PublicKey(key)).filter(|key| key.to_string() == text).ok_or(NotAKey)
    }
}

/// The key that heads are signed with.
pub(crate) struct SecretKey(SigningKey);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

impl SecretKey {
    pub(crate) fn new(seed: [u8; 32]) -> SecretKey {
        SecretKey(SigningKey::from_bytes(&seed))
    }

    pub(crate) fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// As Go's `note.NewSigner` takes it.
    pub(crate) fn encode(&self) -> String {
        format!("{PRIVATE}{}", self.public().encode(self.0.as_bytes()))
    }

    pub(crate) fn decode(text: &str) -> Option<SecretKey> {
        let key = SecretKey::new(decode(text.strip_prefix(PRIVATE)?)?);
        (key.encode() == text).then_some(key)
    }

    pub(crate) fn sign(&self, size: u64, root: Hash) -> SignedHead {
        let mut head = SignedHead { origin: self.public().origin(), size, root, signature: [0; 64] };
        head.signature = self.0.sign(head.text().as_bytes()).to_bytes();
        head
    }
}

/// A promise: the log has `size` entries, and `root` is the root of their tree.
///
/// The signature is over [`SignedHead::text`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHead {
    /// Name of the log, made from its key.
    pub origin: String,
    /// Entries.
    pub size: u64,
    /// Root of their tree.
    pub root: Hash,
    /// Ed25519 signature.
    #[serde(with = "base64_bytes")]
    pub signature: [u8; 64],
}

impl SignedHead {
    /// The signed text, a [C2SP checkpoint]: three lines, each ended by a newline, of the origin, the size in decimal
    /// and the root in base64.
    ///
    /// [C2SP checkpoint]: https://c2sp.org/tlog-checkpoint
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root)
    }

    /// The head as a signed note, for the tools and witnesses of other transparency logs.
    pub fn note(&self, key: &PublicKey) -> String {
        let signature = [&key.id()[..], &self.signature].concat();
        format!("{}\n\u{2014} {} {}\n", self.text(), self.origin, STANDARD.encode(signature))
    }

    /// A line of the file of heads, without its newline.
    pub(crate) fn line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Reads a line that starts at `offset`, and checks the signature.
    pub(crate) fn parse(line: &[u8], offset: u64, key: &PublicKey) -> Result<SignedHead, Damage> {
        let damage = |what| Damage::file(HEADS, offset, what);
        let head: SignedHead = serde_json::from_slice(line).map_err(|_| damage("not a signed head"))?;
        // JSON has many forms for one value; another one than ours means that something changed it.
        if !head.line().is_ok_and(|canonical| canonical.as_bytes() == line) {
            return Err(damage("not the canonical form of a signed head"));
        }
        if head.size > MAX_SIZE {
            return Err(damage("the head of more entries than a log can have"));
        }
        if !verify_head(key, &head) {
            return Err(damage("the signature does not verify with the public key"));
        }
        Ok(head)
    }
}

/// Whether `head` was signed with the secret half of `key`.
pub fn verify_head(key: &PublicKey, head: &SignedHead) -> bool {
    let signature = Signature::from_bytes(&head.signature);
    head.origin == key.origin() && key.0.verify_strict(head.text().as_bytes(), &signature).is_ok()
}

/// An entry with all that is needed to check elsewhere that the log has it: the proof and the head that it leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenEntry {
    /// Position in the log.
    pub index: u64,
    /// The entry's bytes.
    #[serde(with = "base64_bytes")]
    pub entry: Vec<u8>,
    /// Inclusion proof in the head's tree.
    pub path: Vec<Hash>,
    /// The head.
    pub head: SignedHead,
}

impl ProvenEntry {
    /// Whether the log of this key has the entry.
    pub fn verify(&self, key: &PublicKey) -> bool {
        let leaf = leaf_hash(&self.entry);
        verify_head(key, &self.head) && verify_inclusion(self.index, self.head.size, &leaf, &self.path, &self.head.root)
    }
}

/// Splits a file of heads, or its end, behind its last complete line; the rest is a torn write. `offset` is where
/// `bytes` start.
pub(crate) fn split_torn(bytes: &[u8], offset: u64) -> Result<(&[u8], &[u8]), Damage> {
    let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (lines, torn) = bytes.split_at(complete);
    // The beginning of a line ends no later than with its closing brace.
    match torn.iter().position(|byte| *byte == b'}') {
        Some(at) if at + 1 < torn.len() => {
            Err(Damage::file(HEADS, offset + (complete + at + 1) as u64, "a signed head does not end with a newline"))
        }
        _ => Ok((lines, torn)),
    }
}

/// The last stored head, and where it ends; a torn one may follow.
pub(crate) fn find_last_head(heads: &File, key: &PublicKey) -> Result<(Option<SignedHead>, u64), JournalError> {
    let length = length(heads, HEADS)?;
    let from = length.saturating_sub(2 * MAX_LINE);
    let mut tail = vec![0; (length - from) as usize];
    heads.read_exact_at(&mut tail, from).map_err(JournalError::io(HEADS))?;
    let (lines, torn) = split_torn(&tail, from)?;
    let end = length - torn.len() as u64;
    let Some((_, lines)) = lines.split_last() else {
        // Without a newline in so many bytes there is no head.
        return if from == 0 { Ok((None, end)) } else { Err(Damage::file(HEADS, from, "not a signed head").into()) };
    };
    let start = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    Ok((Some(SignedHead::parse(&lines[start..], from + start as u64, key)?), end))
}
