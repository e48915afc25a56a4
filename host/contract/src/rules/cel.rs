//! Rules written in CEL, the Common Expression Language: compiled once, evaluated over whole messages.
//!
//! The `cel` crate differs from protovalidate in three ways. Messages are our own values ([`value`]), converted field
//! by field on demand. `has(message.field)` must distinguish "not set" from "set to the default", which the crate's own
//! test cannot (it checks whether the field can be read, and an unset field reads as its default), so the expression is
//! rewritten to call our own function ([`rewrite`]). The crate has no type checker, so expressions are type-checked by
//! a trial on a message of zeros: an operation without an overload there has none for any event. The trial does not see
//! branches that it does not take.

mod functions;
mod rewrite;
mod value;

use std::sync::{Arc, LazyLock};

use cel::common::types::{CelBool, CelString};
use cel::common::value::Val;
use cel::parser::Expression as Ast;
use cel::{Context, DeclarationError, Env, ExecutionError};
use prost_reflect::{DescriptorPool, DynamicMessage};

use super::fault::{RuleFault, Unevaluated};

pub(crate) use value::{Reading, convert_field, convert_item, timestamp, zero_field, zero_item};

pub(crate) type Boxed = Box<dyn Val>;

static ENV: LazyLock<Result<Arc<Env>, DeclarationError>> = LazyLock::new(|| functions::environment().map(Arc::new));

/// A compiled expression with its failure message.
#[derive(Debug)]
pub(crate) struct Expression {
    pub id: String,
    /// The position of the option: `cel[0]`, `string.(pkg.rule)`. Empty for an expression of a message, because it is
    /// not in a field.
    pub path: String,
    /// The message if the expression yields `false`; an expression that yields text provides its own.
    message: String,
    ast: Ast,
    /// Whether it compares with the current time.
    pub needs_clock: bool,
    predefined: Option<Predefined>,
}

/// The variables of a predefined rule.
#[derive(Debug)]
pub(crate) struct Predefined {
    /// The rule message that contains the rule.
    pub rules: Boxed,
    /// The rule's own value.
    pub rule: Boxed,
}

/// The parts of an expression as written in the options.
pub(crate) struct Written<'a> {
    pub id: &'a str,
    pub message: &'a str,
    pub expression: &'a str,
}

impl Expression {
    /// Compiles the expression, and tries it on `sample`, a value of zeros of its input type.
    pub(super) fn compile(
        written: &Written<'_>,
        path: String,
        pool: &DescriptorPool,
        predefined: Option<Predefined>,
        sample: Option<Boxed>,
    ) -> Result<Self, RuleFault> {
        let env = ENV.as_ref().map_err(RuleFault::Environment)?;
        let mut ast = env.parser().parse(written.expression).map_err(|errors| RuleFault::Syntax(errors.to_string()))?;
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

    /// Returns the description of the violation; `None` if the value passes.
    ///
    /// # Errors
    /// Returns why the expression cannot be evaluated on this value.
    pub(super) fn evaluate(&self, this: Boxed, now: Option<i128>) -> Result<Option<String>, Unevaluated> {
        if self.needs_clock && now.is_none() {
            return Err(Unevaluated::NoClock);
        }
        Ok(self.run(this, now)?)
    }

    fn run(&self, this: Boxed, now: Option<i128>) -> Result<Option<String>, ExecutionError> {
        let env = ENV.as_ref().map_err(|error| ExecutionError::function_error("environment", error.to_string()))?;
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

    fn try_on(&self, sample: Boxed) -> Result<(), RuleFault> {
        // Any moment will do, such as the epoch.
        match self.run(sample, Some(0)) {
            Err(
                error @ (ExecutionError::UndeclaredReference(_)
                | ExecutionError::NoSuchOverload(_)
                | ExecutionError::UnexpectedType { .. }
                | ExecutionError::UnsupportedBinaryOperator(..)),
            ) => Err(error.into()),
            Err(ExecutionError::FunctionError { function, message }) if function == value::FIELD => {
                Err(RuleFault::Selection(message))
            }
            // Other errors on zeros (an index out of bounds, a division) may not occur with an event.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// Returns a message as the variable `this`.
pub(crate) fn message(message: &DynamicMessage, reading: Reading) -> Result<Boxed, ExecutionError> {
    value::convert_message(message, reading)
}
