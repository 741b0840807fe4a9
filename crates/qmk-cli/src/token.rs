//! `qmk token`: makes, narrows and reads tokens. No server is asked.

use crate::failure::Failure;
use crate::output::{print, print_fields};
use clap::{Args, Subcommand};
use qmk_abi::Rights;
use qmk_token::{Attenuation, Grant, Key, MAX_TEXT, Token, TokenError};
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a secret key that a server signs tokens with
    #[command(
        after_help = "Example:\n  qmk token key /etc/qmk/token.key\n\nThe file is new and of mode 0600. Name it in \
                            the policy file of qmk-server:\n  [tokens]\n  key = \"token.key\""
    )]
    Key {
        /// File to make
        file: PathBuf,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Make a token: who holds it may act for a tenant
    #[command(after_help = "Examples:\n  qmk token issue --key token.key --tenant chemistry > chemistry.token\n  \
                            qmk token issue --key token.key --tenant chemistry --cap CAP_ALLOC --cap CAP_MAGIC \
                            --expires-in 12h --depth 2 --json")]
    Issue {
        /// Secret key of the server
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Tenant of the server's policy
        #[arg(long)]
        tenant: String,
        #[command(flatten)]
        bounds: TokenBounds,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Make a token that says less from one that says more, without the key
    #[command(
        after_help = "Examples:\n  qmk token attenuate chemistry.token --expires-in 1h --depth 0 > job.token\n  \
                            qmk token attenuate - --cap CAP_ALLOC < chemistry.token"
    )]
    Attenuate {
        /// File with a token; `-` reads standard input
        token: PathBuf,
        #[command(flatten)]
        bounds: TokenBounds,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Print what a token says
    #[command(
        after_help = "Examples:\n  qmk token show job.token\n  qmk token show job.token --key token.key --json\n\n\
                            Without the key, what a token says may not be true."
    )]
    Show {
        /// File with a token; `-` reads standard input
        token: PathBuf,
        /// Check the signature with this secret key
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
}

/// Bounds of a token.
#[derive(Args)]
pub(crate) struct TokenBounds {
    /// Capability that it grants, such as CAP_ALLOC; may be given several times [default: all that there are to give]
    #[arg(long = "cap", value_name = "CAP", value_parser = class)]
    caps: Vec<Rights>,
    /// How long it is valid: a number and s, m, h or d [default: 24h for a new token]
    #[arg(long, value_name = "TIME", value_parser = seconds, conflicts_with = "expires")]
    expires_in: Option<u64>,
    /// When it expires, in Unix seconds
    #[arg(long, value_name = "UNIX")]
    expires: Option<u64>,
    /// How many times it can be attenuated [default: 4 for a new token, else one less than before]
    #[arg(long, value_name = "N")]
    depth: Option<u8>,
}

impl TokenBounds {
    fn caps(&self) -> Option<Rights> {
        (!self.caps.is_empty()).then(|| self.caps.iter().copied().collect())
    }

    fn expires(&self) -> Option<u64> {
        self.expires.or(self.expires_in.map(|s| now().saturating_add(s)))
    }
}

fn class(name: &str) -> Result<Rights, String> {
    let all = Rights::CLASSES - Rights::ADMIN;
    let known = Rights::from_class_name(name).filter(|c| all.contains(*c));
    known.ok_or_else(|| format!("expected one of {}", all.class_names().join(", ")))
}

fn seconds(text: &str) -> Result<u64, String> {
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86400,
        _ => 0,
    };
    let number = text.get(..text.len().saturating_sub(1)).and_then(|n| n.parse::<u64>().ok());
    let seconds = number.filter(|_| unit > 0).and_then(|n| n.checked_mul(unit));
    seconds.ok_or_else(|| "expected a whole number and s, m, h or d, as in 12h".into())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn at(path: &Path, e: std::io::Error) -> Failure {
    Failure::new(1, "IO", format!("{}: {e}", path.display()))
}

/// Reads the text of a token from a file or, for `-`, from standard input.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let limit = 2 * MAX_TEXT as u64;
    if path.as_os_str() == "-" {
        std::io::stdin().lock().take(limit).read_to_string(&mut text).map_err(|e| at(path, e))?;
    } else {
        // Opening a pipe can block for ever.
        if !path.metadata().map_err(|e| at(path, e))?.is_file() {
            return Err(Failure::new(1, "IO", format!("{}: not a regular file", path.display())));
        }
        let file = std::fs::File::open(path).map_err(|e| at(path, e))?;
        file.take(limit).read_to_string(&mut text).map_err(|e| at(path, e))?;
    }
    Ok(text.trim().into())
}

fn refused(e: &TokenError) -> Failure {
    explain(e, e.to_string())
}

fn explain(e: &TokenError, message: String) -> Failure {
    match e {
        TokenError::Malformed(_) => Failure::new(1, "E-TOKEN", message),
        _ => Failure::new(3, "AUTH_FAILED", message),
    }
}

fn parse(path: &Path) -> Result<Token, Failure> {
    read(path)?.parse().map_err(|e| explain(&e, format!("{}: {e}", path.display())))
}

fn describe(grant: &Grant) -> Value {
    json!({
        "token_id": grant.id.to_string(), "tenant": grant.tenant, "capabilities": grant.capabilities.class_names(),
        "expires": grant.expires, "depth": grant.depth,
    })
}

fn hand_over(token: &Token, json: bool) -> Result<(), Failure> {
    let text = token.to_string();
    if text.len() > MAX_TEXT {
        return Err(refused(&TokenError::Malformed("it would be longer than 4096 bytes")));
    }
    if !json {
        return print(&(text + "\n"));
    }
    let mut v = describe(token.claims());
    v["token"] = text.into();
    print(&(v.to_string() + "\n"))
}

pub(crate) fn run(command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Key { file, json } => {
            Key::create(&file).map_err(|e| at(&file, e))?;
            if json { print(&(json!({"key": file}).to_string() + "\n")) } else { Ok(()) }
        }
        TokenCommand::Issue { key, tenant, bounds, json } => {
            let secret = Key::read(&key).map_err(|e| at(&key, e))?;
            let caps = bounds.caps().unwrap_or(Rights::CLASSES - Rights::ADMIN);
            let expires = bounds.expires().unwrap_or_else(|| now().saturating_add(86400));
            let grant = Grant::new(&tenant, caps, expires, bounds.depth.unwrap_or(4))
                .map_err(|e| Failure::new(4, "IO", e.to_string()))?;
            let token = Token::issue(&secret, grant).map_err(|e| refused(&e))?;
            hand_over(&token, json)
        }
        TokenCommand::Attenuate { token, bounds, json } => {
            let by = Attenuation { capabilities: bounds.caps(), expires: bounds.expires(), depth: bounds.depth };
            let token = parse(&token)?.attenuate(&by).map_err(|e| refused(&e))?;
            hand_over(&token, json)
        }
        TokenCommand::Show { token, key, json } => {
            let token = parse(&token)?;
            if let Some(key) = &key {
                let secret = Key::read(key).map_err(|e| at(key, e))?;
                token.verify(&secret).map_err(|e| refused(&e))?;
            }
            let mut v = describe(token.claims());
            v["attenuations"] = token.attenuations().into();
            v["expired"] = (now() >= token.claims().expires).into();
            v["verified"] = key.is_some().into();
            print_fields(&v, json)
        }
    }
}
