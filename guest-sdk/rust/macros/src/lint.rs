//! Finds verdicts that discard what the function did before: `Pass` after an output, or after a change of the event.
//!
//! It inspects only the tokens of one block, so it does not see what a called function does. Such a mistake fails in
//! `tollgate::testing` or in a golden case.

use proc_macro2::{Delimiter, Spacing, Span, TokenStream, TokenTree};
use syn::{Attribute, FnArg, ItemFn, Pat};

/// A verdict that discards something, and its position.
pub(crate) struct Finding {
    pub note: &'static str,
    pub span: Span,
}

const EMITTED: &str = "`Pass` after an output was emitted: the sandbox fails the event; return `Verdict::Replace`";
const CHANGED: &str =
    "`Pass` after the event was changed: the change is not sent; return `Verdict::Replace`, or leave the event alone";

/// The calls that put an output in the event's place.
const EMITS: [&str; 4] = ["emit", "emit_to", "delete", "delete_to"];

/// Returns whether an attribute sets the level of lints.
pub(crate) fn is_level(attribute: &Attribute) -> bool {
    ["allow", "expect", "warn", "deny"].iter().any(|level| attribute.path().is_ident(level))
}

pub(crate) fn find(function: &ItemFn, changes: bool) -> Vec<Finding> {
    let event = changes.then(|| function.sig.inputs.first()).flatten().and_then(name);
    let block = &function.block;
    let mut found = Vec::new();
    walk(quote::quote!(#block), event.as_deref(), &mut found);
    found
}

/// Returns the name of a parameter whose pattern is a plain name.
fn name(parameter: &FnArg) -> Option<String> {
    let FnArg::Typed(typed) = parameter else { return None };
    let Pat::Ident(name) = &*typed.pat else { return None };
    Some(name.ident.to_string())
}

/// The actions of a block so far, statement by statement.
#[derive(Default)]
struct Done {
    emitted: bool,
    changed: bool,
}

fn walk(tokens: TokenStream, event: Option<&str>, found: &mut Vec<Finding>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let (mut done, mut statement) = (Done::default(), 0);
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => {
                walk(group.stream(), event, found);
                // A block ends a statement without a semicolon; the parentheses of a call do not.
                if group.delimiter() == Delimiter::Brace {
                    statement = at + 1;
                }
            }
            TokenTree::Punct(punct) => match punct.as_char() {
                ';' => statement = at + 1,
                // Another arm of a match, or another argument: the actions of this one did not happen there.
                ',' => (done, statement) = (Done::default(), at + 1),
                '.' => done.emitted |= emits(&tokens[at + 1..]),
                '=' => {
                    done.changed |=
                        event.is_some_and(|event| assigns(&tokens[statement..=at], tokens.get(at + 1), event))
                }
                _ => {}
            },
            TokenTree::Ident(name) if name == "Pass" => {
                let note = match done {
                    Done { emitted: true, .. } => EMITTED,
                    Done { changed: true, .. } => CHANGED,
                    Done { .. } => continue,
                };
                found.push(Finding { note, span: name.span() });
            }
            TokenTree::Ident(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Returns whether the tokens after a dot are a call that emits, such as `emit(…)`.
fn emits(after: &[TokenTree]) -> bool {
    let [TokenTree::Ident(name), TokenTree::Group(arguments), ..] = after else { return false };
    EMITS.iter().any(|emit| name == emit) && arguments.delimiter() == Delimiter::Parenthesis
}

/// Returns whether a statement begins with `event.` and its last `=` assigns: it is neither a comparison nor an arrow.
fn assigns(statement: &[TokenTree], next: Option<&TokenTree>, event: &str) -> bool {
    let [TokenTree::Ident(name), TokenTree::Punct(dot), .., before, TokenTree::Punct(equals)] = statement else {
        return false;
    };
    let compares = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if "=!<>".contains(punct.as_char()) && punct.spacing() == Spacing::Joint);
    let arrow = matches!(next, Some(TokenTree::Punct(punct)) if equals.spacing() == Spacing::Joint && ">=".contains(punct.as_char()));
    name == event && dot.as_char() == '.' && !compares(before) && !arrow
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(function: &str) -> Vec<&'static str> {
        let function: ItemFn = syn::parse_str(function).expect("a function");
        let changes =
            function.sig.inputs.first().is_some_and(|first| quote::quote!(#first).to_string().contains("& mut"));
        find(&function, changes).iter().map(|finding| finding.note).collect()
    }

    #[test]
    fn what_is_lost_in_plain_sight_is_found() {
        for (body, note) in [
            ("{ ctx.emit(event); Verdict::Pass }", EMITTED),
            ("{ if x { ctx.emit_to(\"a\", event); return Verdict::Pass; } Verdict::Drop }", EMITTED),
            ("{ match x { 1 => { ctx.delete(); Verdict::Pass } _ => Verdict::Replace } }", EMITTED),
            ("{ event.text = String::new(); Verdict::Pass }", CHANGED),
            ("{ event.inner.count += 1; return Ok(Verdict::Drop); Verdict::Pass }", CHANGED),
        ] {
            assert_eq!(notes(&format!("fn f(event: &mut E, ctx: &Context) -> Verdict {body}")), [note], "{body}");
        }
    }

    #[test]
    fn what_may_be_right_is_left_alone() {
        for body in [
            "{ if x { ctx.emit(event); return Verdict::Replace; } Verdict::Pass }",
            "{ match x { 1 => ctx.emit(event), _ => return Verdict::Pass } Verdict::Replace }",
            "{ if event.count == 1 { return Verdict::Pass; } event.count = 2; Verdict::Replace }",
            "{ let wide = event.count >= 1; other.count = 1; if wide { Verdict::Pass } else { Verdict::Drop } }",
            "{ match event.count { n if n <= 1 => Verdict::Pass, _ => Verdict::Drop } }",
            "{ ctx.set_header(\"a\", \"b\"); Verdict::Pass }",
        ] {
            assert_eq!(notes(&format!("fn f(event: &mut E, ctx: &Context) -> Verdict {body}")), [""; 0], "{body}");
        }
    }
}
