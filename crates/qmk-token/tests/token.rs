//! Tokens: no one makes one without the key, and no one makes one that says more.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use qmk_abi::Rights;
use qmk_token::{Attenuation, Grant, Key, MAX_DEPTH, MAX_TEXT, Token, TokenError, TokenId};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

const CAPS: Rights = Rights::ALLOC.union(Rights::MAGIC).union(Rights::LINK);

fn key() -> Key {
    Key::new([7; 32])
}

fn grant() -> Grant {
    Grant { id: TokenId([3; 16]), tenant: "chemistry".into(), capabilities: CAPS, expires: 1_000, depth: 3 }
}

fn issued() -> Token {
    Token::issue(&key(), grant()).unwrap()
}

fn narrowed() -> Token {
    let fewer = Attenuation { capabilities: Some(Rights::ALLOC | Rights::MAGIC), ..Attenuation::default() };
    let shorter = Attenuation { expires: Some(900), ..Attenuation::default() };
    issued().attenuate(&fewer).unwrap().attenuate(&shorter).unwrap()
}

/// What a text is worth to a server.
fn accepted(text: &str) -> Option<Grant> {
    text.parse::<Token>().ok().and_then(|t| t.verify(&key()).ok().cloned())
}

fn bytes(token: &Token) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(&token.to_string()[5..]).unwrap()
}

fn text(bytes: &[u8]) -> String {
    format!("qmk1.{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// The caveats of a token, and its signature.
fn parts(token: &Token) -> (Vec<Vec<u8>>, Vec<u8>) {
    let bytes = bytes(token);
    let (mut rest, signature) = bytes.split_at(bytes.len() - 32);
    let mut caveats = Vec::new();
    while !rest.is_empty() {
        let length = u16::from_le_bytes([rest[0], rest[1]]) as usize;
        caveats.push(rest[2..2 + length].to_vec());
        rest = &rest[2 + length..];
    }
    (caveats, signature.to_vec())
}

fn join(caveats: &[Vec<u8>], signature: &[u8]) -> String {
    let framed = caveats.iter().flat_map(|c| (c.len() as u16).to_le_bytes().into_iter().chain(c.iter().copied()));
    text(&framed.chain(signature.iter().copied()).collect::<Vec<_>>())
}

#[test]
fn a_token_says_what_was_signed_as_narrowed() {
    assert_eq!(accepted(&issued().to_string()), Some(grant()));
    let said = accepted(&narrowed().to_string()).unwrap();
    assert_eq!((said.capabilities, said.expires, said.depth), (Rights::ALLOC | Rights::MAGIC, 900, 1));
    assert_eq!((said.id, said.tenant.as_str()), (grant().id, "chemistry"));
    assert_eq!(narrowed().attenuations(), 2);
    assert_eq!(issued().verify(&Key::new([8; 32])), Err(TokenError::Forged));
}

#[test]
fn no_bit_of_a_token_can_be_changed() {
    for token in [issued(), narrowed()] {
        let good = bytes(&token);
        assert!(accepted(&text(&good)).is_some());
        for at in 0..good.len() {
            for change in 1..=255u8 {
                let mut bad = good.clone();
                bad[at] ^= change;
                assert_eq!(accepted(&text(&bad)), None, "byte {at} by {change:#x}");
            }
        }
        // Nor of its text, which has one form.
        let good = token.to_string();
        for at in 0..good.len() {
            for other in "Aa0-_+/= \n.".chars().filter(|c| !good[at..].starts_with(*c)) {
                let bad = format!("{}{other}{}", &good[..at], &good[at + 1..]);
                assert_eq!(accepted(&bad), None, "{at} {other:?}");
            }
        }
        for odd in [format!("{good}="), format!(" {good}"), format!("{good}\n"), good.replace("qmk1.", "qmk2.")] {
            assert_eq!(accepted(&odd), None, "{odd}");
        }
    }
}

#[test]
fn no_token_can_be_cut_or_grown() {
    let good = bytes(&narrowed());
    for end in 0..good.len() {
        assert_eq!(accepted(&text(&good[..end])), None, "{end} bytes");
    }
    for extra in 1..40 {
        assert_eq!(accepted(&text(&[good.clone(), vec![0; extra]].concat())), None, "{extra} more");
    }
    assert_eq!(accepted(""), None);
    assert_eq!(accepted("qmk1."), None);
    let long = format!("qmk1.{}", "A".repeat(MAX_TEXT));
    assert_eq!(long.parse::<Token>(), Err(TokenError::Malformed("it is longer than 4096 bytes")));
}

#[test]
fn caveats_cannot_be_dropped_reordered_or_repeated() {
    let (caveats, signature) = parts(&narrowed());
    assert_eq!(accepted(&join(&caveats, &signature)).unwrap().expires, 900);
    let [root, one, two] = [0, 1, 2].map(|n| caveats[n].clone());
    let (_, before) = parts(&issued());
    let orders: [&[&Vec<u8>]; 8] = [
        &[&root],
        &[&root, &one],
        &[&root, &two],
        &[&root, &two, &one],
        &[&one, &root, &two],
        &[&root, &one, &two, &two],
        &[&root, &root, &one, &two],
        &[],
    ];
    for (n, order) in orders.iter().enumerate() {
        let order: Vec<Vec<u8>> = order.iter().map(|c| (*c).clone()).collect();
        assert_eq!(accepted(&join(&order, &signature)), None, "order {n}");
        // The token it was made from is whole, but its holder had that already.
        assert_eq!(accepted(&join(&order, &before)).is_some(), n == 0, "order {n}, signed before");
    }
}

#[test]
fn attenuation_narrows_only() {
    let token = issued();
    let wider = |by: Attenuation| matches!(token.attenuate(&by), Err(TokenError::Wider(_)));
    let by = Attenuation::default();
    assert!(wider(Attenuation { capabilities: Some(CAPS | Rights::DEBUG), ..by }));
    assert!(wider(Attenuation { capabilities: Some(Rights::DEBUG), ..by }));
    assert!(wider(Attenuation { expires: Some(1_001), ..by }));
    assert!(wider(Attenuation { depth: Some(3), ..by }));
    assert!(!wider(Attenuation { depth: Some(2), expires: Some(1_000), capabilities: Some(CAPS) }));
    assert!(!wider(Attenuation { capabilities: Some(Rights::empty()), ..by }));
}

/// A holder knows the signature of its token, so it can sign any caveat onto it.
#[test]
fn a_wider_caveat_signed_by_the_holder_is_refused() {
    let forge = |token: &Token, capabilities: Rights, expires: u64, depth: u8| {
        let (mut caveats, signature) = parts(token);
        let caveat = postcard::to_allocvec(&(capabilities, expires, depth)).unwrap();
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&signature).unwrap();
        mac.update(&caveat);
        caveats.push(caveat);
        accepted(&join(&caveats, &mac.finalize().into_bytes()))
    };
    let token = narrowed();
    let now = token.claims().capabilities;
    // Signed as it should be, it passes: so what follows is refused for what it says.
    assert_eq!(forge(&token, Rights::ALLOC, 800, 0).unwrap().expires, 800);
    assert_eq!(forge(&token, now | Rights::LINK, 900, 0), None);
    assert_eq!(forge(&token, now, 901, 0), None);
    assert_eq!(forge(&token, now, 900, 1), None);
    assert_eq!(forge(&token, now, 900, 255), None);
    assert_eq!(forge(&token, Rights::ALL_BITS, 900, 0), None);
    let last = token.attenuate(&Attenuation::default()).unwrap();
    assert_eq!(last.claims().depth, 0);
    assert_eq!(forge(&last, Rights::ALLOC, 800, 0), None);
}

trait AllBits {
    const ALL_BITS: Rights;
}

impl AllBits for Rights {
    const ALL_BITS: Rights = Rights::from_bits_retain(u32::MAX);
}

#[test]
fn depth_is_used_up() {
    let mut token = issued();
    for left in [2, 1, 0] {
        token = token.attenuate(&Attenuation::default()).unwrap();
        assert_eq!(token.claims().depth, left);
        assert!(accepted(&token.to_string()).is_some());
    }
    let e = token.attenuate(&Attenuation::default()).unwrap_err();
    assert!(e.to_string().contains("depth is used up"), "{e}");
    let none = Attenuation { depth: Some(0), ..Attenuation::default() };
    assert!(issued().attenuate(&none).unwrap().attenuate(&none).is_err());
    // As deep as can be, with the longest name, the text stays within bounds.
    let deep = Grant { tenant: "n".repeat(256), depth: MAX_DEPTH, expires: u64::MAX, ..grant() };
    let mut token = Token::issue(&key(), deep.clone()).unwrap();
    for _ in 0..MAX_DEPTH {
        token = token.attenuate(&Attenuation::default()).unwrap();
    }
    assert!(accepted(&token.to_string()).is_some());
    for bad in [
        Grant { depth: MAX_DEPTH + 1, ..deep.clone() },
        Grant { tenant: "n".repeat(257), ..deep.clone() },
        Grant { tenant: String::new(), ..deep.clone() },
        Grant { capabilities: CAPS | Rights::ADMIN, ..deep.clone() },
        Grant { capabilities: Rights::USE, ..deep },
    ] {
        assert!(matches!(Token::issue(&key(), bad), Err(TokenError::Malformed(_))));
    }
}

#[test]
fn tokens_expire_and_are_revoked_with_all_that_were_made_from_them() {
    let (none, revoked) = (BTreeSet::new(), BTreeSet::from([grant().id]));
    assert_eq!(issued().claims().check(999, &none), Ok(()));
    assert_eq!(issued().claims().check(1_000, &none), Err(TokenError::Expired(1_000)));
    assert_eq!(narrowed().claims().check(899, &none), Ok(()));
    assert_eq!(narrowed().claims().check(900, &none), Err(TokenError::Expired(900)));
    assert_eq!(issued().claims().check(0, &revoked), Err(TokenError::Revoked));
    assert_eq!(narrowed().claims().check(0, &revoked), Err(TokenError::Revoked));
    let other = Grant { id: TokenId([4; 16]), ..grant() };
    assert_eq!(other.check(0, &revoked), Ok(()));
    assert_eq!(grant().id.to_string().parse(), Ok(grant().id));
    assert!("3".parse::<TokenId>().is_err() && "g".repeat(32).parse::<TokenId>().is_err());
}

#[test]
fn keys_are_private_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token.key");
    Key::create(&path).unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    let made = Key::read(&path).unwrap();
    assert!(Token::issue(&made, grant()).unwrap().verify(&Key::read(&path).unwrap()).is_ok());
    assert_eq!(format!("{made:?}"), "Key(..)");
    assert!(!format!("{:?}", issued()).contains("signature"));

    assert!(Key::create(&path).is_err(), "a key is not written over");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(Key::read(&path).unwrap_err().to_string().contains("set mode 0600"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&path, &text[..60]).unwrap();
    assert!(Key::read(&path).unwrap_err().to_string().contains("64 hexadecimal digits"));
    assert!(Key::read(dir.path()).unwrap_err().to_string().contains("not a regular file"));
}
