//! The functions that protovalidate adds to CEL.

use cel::common::functions::Function;
use cel::common::types::{
    BOOL_TYPE, BYTES_TYPE, CelBool, CelBytes, CelDouble, CelInt, CelString, DOUBLE_TYPE, DYN_TYPE, INT_TYPE, LIST_TYPE,
    STRING_TYPE, Type,
};
use cel::common::value::{CowVal, FromVal, Val};
use cel::{DeclarationError, Env, ExecutionError, extensions};

use super::value::MessageValue;
use crate::rules::formats::{is_email, is_host_and_port, is_hostname, is_ip, is_prefix, is_uri, is_uri_reference};
use crate::rules::test::contains;

/// The function behind `has()`, with a name that no expression can contain.
pub(super) const HAS: &str = "@has";

type Args<'b, 'v> = Vec<CowVal<'b, 'v>>;
type Outcome<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// Returns the standard library, the strings extension and protovalidate's functions.
pub(super) fn environment() -> Result<Env, DeclarationError> {
    let mut env = Env::stdlib();
    declare(&mut env)?;
    Ok(env)
}

fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_extension(extensions::strings)?;
    env.add_overload(HAS, "has_field", vec![DYN_TYPE, STRING_TYPE], has)?;
    env.add_overload("getField", "get_field_any_string", vec![DYN_TYPE, STRING_TYPE], get_field)?;
    let members: [(&str, &str, Type, Vec<Type>, Function); 21] = [
        ("unique", "list_unique", LIST_TYPE, vec![], |args| yes(unique(&args)?)),
        ("isNan", "double_is_nan", DOUBLE_TYPE, vec![], |args| yes(number(&args)?.is_nan())),
        ("isInf", "double_is_inf", DOUBLE_TYPE, vec![], |args| yes(number(&args)?.is_infinite())),
        ("isInf", "double_int_is_inf", DOUBLE_TYPE, vec![INT_TYPE], is_inf),
        ("isHostname", "string_is_hostname", STRING_TYPE, vec![], |args| yes(is_hostname(text(&args)?))),
        ("isEmail", "string_is_email", STRING_TYPE, vec![], |args| yes(is_email(text(&args)?))),
        ("isIp", "string_is_ip", STRING_TYPE, vec![], |args| yes(is_ip(text(&args)?, None))),
        ("isIp", "string_int_is_ip", STRING_TYPE, vec![INT_TYPE], |args| {
            yes(is_ip(text(&args)?, Some(*argument::<CelInt>(&args, 1)?.inner())))
        }),
        ("isIpPrefix", "string_is_prefix", STRING_TYPE, vec![], |args| yes(is_prefix(text(&args)?, None, false))),
        ("isIpPrefix", "string_int_is_prefix", STRING_TYPE, vec![INT_TYPE], |args| {
            yes(is_prefix(text(&args)?, Some(*argument::<CelInt>(&args, 1)?.inner()), false))
        }),
        ("isIpPrefix", "string_bool_is_prefix", STRING_TYPE, vec![BOOL_TYPE], |args| {
            yes(is_prefix(text(&args)?, None, *argument::<CelBool>(&args, 1)?.inner()))
        }),
        ("isIpPrefix", "string_int_bool_is_prefix", STRING_TYPE, vec![INT_TYPE, BOOL_TYPE], |args| {
            let (version, strict) = (argument::<CelInt>(&args, 1)?, argument::<CelBool>(&args, 2)?);
            yes(is_prefix(text(&args)?, Some(*version.inner()), *strict.inner()))
        }),
        ("isUri", "string_is_uri", STRING_TYPE, vec![], |args| yes(is_uri(text(&args)?))),
        ("isUriRef", "string_is_uri_ref", STRING_TYPE, vec![], |args| yes(is_uri_reference(text(&args)?))),
        ("isHostAndPort", "string_bool_is_host_and_port", STRING_TYPE, vec![BOOL_TYPE], |args| {
            yes(is_host_and_port(text(&args)?, *argument::<CelBool>(&args, 1)?.inner()))
        }),
        ("contains", "bytes_contains", BYTES_TYPE, vec![BYTES_TYPE], |args| {
            let (bytes, part) = two(&args)?;
            yes(contains(bytes, part))
        }),
        ("startsWith", "bytes_starts_with", BYTES_TYPE, vec![BYTES_TYPE], |args| {
            let (bytes, part) = two(&args)?;
            yes(bytes.starts_with(part))
        }),
        ("endsWith", "bytes_ends_with", BYTES_TYPE, vec![BYTES_TYPE], |args| {
            let (bytes, part) = two(&args)?;
            yes(bytes.ends_with(part))
        }),
        // Methods of integers: always false.
        ("isNan", "int_is_nan", INT_TYPE, vec![], |_| yes(false)),
        ("isInf", "int_is_inf", INT_TYPE, vec![], |_| yes(false)),
        ("isInf", "int_int_is_inf", INT_TYPE, vec![INT_TYPE], |_| yes(false)),
    ];
    for (name, id, target, arguments, function) in members {
        env.add_member_overload(name, id, target, arguments, function)?;
    }
    Ok(())
}

fn yes<'b, 'v>(answer: bool) -> Outcome<'b, 'v> {
    Ok(CowVal::owned(CelBool::from(answer)))
}

fn argument<'b, 'v, T: FromVal<'b, 'v> + Val>(
    args: &'b Args<'_, 'v>,
    position: usize,
) -> Result<&'b T, ExecutionError> {
    let value = args.get(position).ok_or_else(|| ExecutionError::invalid_argument_count(position + 1, args.len()))?;
    value.as_ref().downcast_ref::<T>().ok_or_else(|| ExecutionError::UnexpectedType {
        got: value.get_type().name().to_owned(),
        want: T::cel_type().name().to_owned(),
    })
}

fn text<'b>(args: &'b Args<'_, '_>) -> Result<&'b str, ExecutionError> {
    argument::<CelString<'_>>(args, 0).map(CelString::inner)
}

fn number(args: &Args<'_, '_>) -> Result<f64, ExecutionError> {
    argument::<CelDouble>(args, 0).map(|number| *number.inner())
}

fn two<'b>(args: &'b Args<'_, '_>) -> Result<(&'b [u8], &'b [u8]), ExecutionError> {
    Ok((argument::<CelBytes<'_>>(args, 0)?.inner(), argument::<CelBytes<'_>>(args, 1)?.inner()))
}

fn is_inf<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let (number, sign) = (number(&args)?, *argument::<CelInt>(&args, 1)?.inner());
    yes(number.is_infinite() && (sign == 0 || (sign > 0) == (number > 0.0)))
}

fn unique(args: &Args<'_, '_>) -> Result<bool, ExecutionError> {
    let Some(list) = args.first().and_then(|list| list.as_iterable()) else {
        return Err(ExecutionError::missing_argument_or_target());
    };
    let mut items = list.iter();
    let mut seen: Vec<&dyn Val> = Vec::new();
    while let Some(item) = items.next() {
        if seen.iter().any(|other| other.equals(item)) {
            return Ok(false);
        }
        seen.push(item);
    }
    Ok(true)
}

/// `has(value.field)`: set for a message's field, present for a map's key.
fn has<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let field = argument::<CelString<'_>>(&args, 1)?;
    let Some(value) = args.first() else { return Err(ExecutionError::missing_argument_or_target()) };
    if let Some(message) = value.as_ref().downcast_ref::<MessageValue>() {
        return yes(message.has(field.inner())?);
    }
    let Some(indexer) = value.as_indexer() else {
        return Err(ExecutionError::no_such_overload("has", vec![value.get_type().name().to_owned()]));
    };
    match indexer.get(field) {
        Ok(_) => yes(true),
        Err(ExecutionError::NoSuchKey(_)) => yes(false),
        Err(error) => Err(error),
    }
}

/// `getField(message, "in")`: for fields whose names are CEL keywords.
fn get_field<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let field = argument::<CelString<'_>>(&args, 1)?;
    let Some(value) = args.first() else { return Err(ExecutionError::missing_argument_or_target()) };
    let Some(indexer) = value.as_indexer() else {
        return Err(ExecutionError::no_such_overload("getField", vec![value.get_type().name().to_owned()]));
    };
    Ok(CowVal::Owned(indexer.get(field)?.into_owned()))
}
