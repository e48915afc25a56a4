//! Rules written in CEL, the Common Expression Language: compiled once, evaluated over whole messages.
//!
//! Three things stand between the `cel` crate and what protovalidate expects. Messages are values of our own ([`value`]), read
//! field by field as an expression asks. `has(message.field)` must tell "not set" from "set to the default", which the crate's
//! own test cannot (it asks whether the field can be read, and an unset field reads as its default), so the expression is rewritten
//! to call a function of ours ([`rewrite`]). And expressions are checked for types not by a checker, which the crate lacks, but by a
//! trial on a message of zeros: what is no overload there is none for any event. The trial does not see branches that it does not take.

mod functions;
mod rewrite;
mod value;

use std::sync::{Arc, LazyLock};

use cel::common::types::{CelBool, CelString};
use cel::common::value::Val;
use cel::parser::Expression as Ast;
use cel::{Context, Env, ExecutionError};
use prost_reflect::{DescriptorPool, DynamicMessage};

pub(crate) use value::{Reading, convert_field, convert_item, timestamp, zero_field, zero_item};

pub(crate) type Boxed = Box<dyn Val>;

static ENV: LazyLock<Result<Arc<Env>, String>> = LazyLock::new(|| functions::environment().map(Arc::new));

/// A compiled expression with what it says when it fails.
#[derive(Debug)]
pub(crate) struct Expression {
    pub id: String,
    /// Where the option stands: `cel[0]`, `string.(pkg.rule)`. Empty for a message's.
    pub path: String,
    /// What is said if the expression yields `false`; one that yields text says it itself.
    message: String,
    ast: Ast,
    /// Whether it compares with the present.
    pub needs_clock: bool,
    predefined: Option<Predefined>,
}

/// The variables of a predefined rule.
#[derive(Debug)]
pub(crate) struct Predefined {
    /// The rule message that the rule stands in.
    pub rules: Boxed,
    /// The rule's own value.
    pub rule: Boxed,
}

/// The parts of an expression as the options have them.
pub(crate) struct Written<'a> {
    pub id: &'a str,
    pub message: &'a str,
    pub expression: &'a str,
}

impl Expression {
    /// Compiles, and tries the expression on `sample`, a value of zeros of the type that it will see.
    pub(super) fn compile(
        written: &Written<'_>,
        path: String,
        pool: &DescriptorPool,
        predefined: Option<Predefined>,
        sample: Option<Boxed>,
    ) -> Result<Self, String> {
        let env = ENV.as_ref().map_err(Clone::clone)?;
        // The parser's words span lines and draw an arrow at the place.
        let one_line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut ast = env.parser().parse(written.expression).map_err(|errors| one_line(errors.to_string()))?;
        let uses = rewrite::rewrite(&mut ast, pool);
        let message = match written.message {
            "" => format!("{:?} returned false", written.expression),
            message => message.to_owned(),
        };
        let id = if written.id.is_empty() { written.expression } else { written.id };
        let expression = Self { id: id.to_owned(), path, message, ast, needs_clock: uses.now, predefined };
        if let Some(sample) = sample.filter(|_| !uses.dynamic) {
            expression.try_on(sample)?;
        }
        Ok(expression)
    }

    /// What the value breaks, in words; nothing if it passes.
    ///
    /// # Errors
    /// An expression that cannot be evaluated on this value, in words.
    pub(super) fn evaluate(&self, this: Boxed, now: Option<i128>) -> Result<Option<String>, String> {
        if self.needs_clock && now.is_none() {
            return Err(super::test::Unknown::NoClock.message().into());
        }
        self.run(this, now).map_err(|error| format!("the expression cannot be evaluated: {error}"))
    }

    fn run(&self, this: Boxed, now: Option<i128>) -> Result<Option<String>, ExecutionError> {
        let env = ENV.as_ref().map_err(|error| ExecutionError::function_error("environment", error))?;
        let mut context = Context::with_env(Arc::clone(env));
        context.add_variable_as_val("this", this);
        if let Some(now) = now.filter(|_| self.needs_clock) {
            context.add_variable_as_val("now", timestamp(now)?);
        }
        if let Some(predefined) = &self.predefined {
            context.add_variable_as_val("rules", predefined.rules.clone());
            context.add_variable_as_val("rule", predefined.rule.clone());
        }
        let result = cel::Value::resolve_val(&self.ast, &context)?;
        if let Some(passed) = result.downcast_ref::<CelBool>() {
            return Ok((!*passed.inner()).then(|| self.message.clone()));
        }
        match result.downcast_ref::<CelString>() {
            Some(text) if text.inner().is_empty() => Ok(None),
            Some(text) => Ok(Some(text.inner().to_owned())),
            None => Err(ExecutionError::UnexpectedType {
                got: result.get_type().name().into(),
                want: "bool or string".into(),
            }),
        }
    }

    fn try_on(&self, sample: Boxed) -> Result<(), String> {
        // Any moment will do; the epoch is one.
        match self.run(sample, Some(0)) {
            Err(
                error @ (ExecutionError::UndeclaredReference(_)
                | ExecutionError::NoSuchOverload(_)
                | ExecutionError::UnexpectedType { .. }
                | ExecutionError::UnsupportedBinaryOperator(..)),
            ) => Err(error.to_string()),
            Err(ExecutionError::FunctionError { function, message }) if function == value::FIELD => Err(message),
            // What else goes wrong on zeros (an index out of bounds, a division) may go right on an event.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// A message as `this`.
pub(crate) fn message(message: &DynamicMessage, reading: Reading) -> Result<Boxed, ExecutionError> {
    value::convert_message(message, reading)
}
