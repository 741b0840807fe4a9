//! Syntax trees of expressions.

use super::value::Value;

#[derive(Clone, Debug)]
pub(super) enum Expr {
    Value(Value),
    Name(String),
    FString(String),
    List(Vec<Expr>),
    Range(Box<Expr>, Box<Expr>),
    Comprehension(Box<Expr>, Vec<String>, Box<Expr>, Option<Box<Expr>>),
    Unary(&'static str, Box<Expr>),
    Binary(&'static str, Box<Expr>, Box<Expr>),
    If(Box<Expr>, Box<Expr>, Box<Expr>),
    Index(Box<Expr>, Box<Expr>),
    Slice(Box<Expr>, Option<Box<Expr>>, Option<Box<Expr>>),
    Call(String, Vec<Expr>),
    Method(Box<Expr>, String, Vec<Expr>),
}
