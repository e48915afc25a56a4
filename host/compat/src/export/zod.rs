//! Exports zod schemas, in the syntax common to zod 3 and 4, with their inferred types.

use std::fmt::Write as _;

use crate::constraints_of_message;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::Value;

use super::jsonschema::{enum_names, escape, oneof_is_required};
use super::typescript::{self, doc, property};
use super::{ALWAYS, Range, Rules, Types, WellKnown, is_inherited, well_known, zero};
use crate::describe;

/// The rules that are expressed in code.
const SAID: [&str; 27] = [
    "min_len",
    "max_len",
    "len",
    "pattern",
    "prefix",
    "suffix",
    "contains",
    "not_contains",
    "in",
    "not_in",
    "const",
    "gt",
    "gte",
    "lt",
    "lte",
    "min_items",
    "max_items",
    "unique",
    "min_pairs",
    "max_pairs",
    "defined_only",
    "email",
    "uuid",
    "uri",
    "finite",
    ALWAYS[0],
    ALWAYS[1],
];
const UUID: &str = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$";

/// Every JavaScript object inherits some names, which a schema would otherwise find.
const OWN: &str = "/** The own properties alone: every object inherits `constructor` and its like. */
const own = (v: unknown): unknown =>
  typeof v === \"object\" && v !== null && !Array.isArray(v) ? Object.assign(Object.create(null), v) : v;

";

pub fn render(types: &Types) -> String {
    let mut text = typescript::HEAD.to_owned();
    text += "import { z } from \"zod\";\n\n";
    let named = types.messages.values().flat_map(MessageDescriptor::fields);
    if named.into_iter().any(|field| is_inherited(field.json_name())) {
        text += OWN;
    }
    for (full, descriptor) in &types.enums {
        let name = types.name(full);
        let names: Vec<String> = descriptor.values().map(|value| format!("\"{}\"", value.name())).collect();
        text += &doc(descriptor, false, "");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "export const {name} = z.enum([{}]);", names.join(", "));
        let _ = writeln!(text, "export type {name} = z.infer<typeof {name}>;");
    }
    for (full, descriptor) in &types.messages {
        text += &message(types, full, descriptor);
    }
    text
}

fn message(types: &Types, full: &str, message: &MessageDescriptor) -> String {
    let name = types.name(full);
    let fields: Vec<FieldDescriptor> = message.fields().collect();
    let mut text = doc(message, false, "");
    let _ = writeln!(text, "export interface {name} {{\n{}}}", typescript::fields(types, &fields));
    // The schema is lazy, because types may refer to each other and to themselves.
    let inherits = fields.iter().any(|field| is_inherited(field.json_name()));
    let (open, close) = match inherits {
        true => ("(z.preprocess(own, z.object({", format!("  }})) as unknown as z.ZodType<{name}>)")),
        false => ("z.object({", "  })".to_owned()),
    };
    let _ = writeln!(text, "export const {name}: z.ZodType<{name}> = z.lazy(() =>\n  {open}");
    for field in &fields {
        let (schema, unsaid) = field_schema(types, field);
        for rule in unsaid {
            let _ = writeln!(text, "    // also checked by the gate: {}", rule.replace('\n', " "));
        }
        let optional = if types.needs(field) { "" } else { ".optional()" };
        let _ = writeln!(text, "    {}: {schema}{optional},", property(field));
    }
    text += &close;
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        let members: Vec<String> = oneof.fields().map(|field| member(field.json_name())).collect();
        let (test, words) = if oneof_is_required(&oneof) { ("=== 1", "exactly one") } else { ("<= 1", "at most one") };
        let _ = write!(
            text,
            "\n  .refine((m) => [{}].filter((v) => v !== undefined).length {test}, \"oneof {}: {words} may be set\")",
            members.join(", "),
            oneof.name()
        );
    }
    text += "\n);\n";
    for rule in describe::rules(&constraints_of_message(message)) {
        let _ = writeln!(text, "// also checked by the gate: {}", rule.replace('\n', " "));
    }
    text
}

/// Returns a property of `m`, undefined unless it is its own.
fn member(name: &str) -> String {
    if is_inherited(name) {
        return format!("(Object.hasOwn(m, {name:?}) ? m[{name:?}] : undefined)");
    }
    format!("m[{name:?}]")
}

/// Returns the schema, and the rules that it does not express.
fn field_schema(types: &Types, field: &FieldDescriptor) -> (String, Vec<String>) {
    let rules = Rules::of(field);
    // Without presence, a required field must not be empty.
    let filled = rules.on("required") && !field.supports_presence();
    if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
        let (keys, mut unsaid) = match entry.map_entry_key_field().kind() {
            Kind::String => value(types, &Kind::String, &rules.below("map.keys.")),
            _ => ("z.string()".to_owned(), Vec::new()),
        };
        let (values, more) = value(types, &entry.map_entry_value_field().kind(), &rules.below("map.values."));
        unsaid.extend(more);
        let mut schema = format!("z.record({keys}, {values})");
        for (rule, test) in [("min_pairs", ">="), ("max_pairs", "<=")] {
            if let Some(bound) = rules.number(rule) {
                schema += &refine(&or_empty(&rules, &format!("Object.keys(v).length {test} {bound}")), rule, &bound);
            }
        }
        if filled {
            schema += ".refine((v) => Object.keys(v).length > 0, \"required\")";
        }
        return (schema, unsaid);
    }
    if field.is_list() {
        let (item, unsaid) = value(types, &field.kind(), &rules.below("repeated.items."));
        let mut schema = format!("z.array({item})");
        let least = rules.number("min_items");
        if let Some(bound) = least.as_ref().filter(|_| !rules.skips_zero()) {
            schema += &format!(".min({bound})");
        }
        if let Some(bound) = rules.number("max_items") {
            schema += &format!(".max({bound})");
        }
        if let Some(bound) = least.filter(|_| rules.skips_zero()) {
            schema += &refine(&format!("v.length === 0 || v.length >= {bound}"), "min_items", &bound);
        }
        if filled {
            schema += ".refine((v) => v.length > 0, \"required\")";
        }
        if rules.on("unique") {
            schema += ".refine((v) => new Set(v).size === v.length, \"unique\")";
        }
        return (schema, unsaid);
    }
    let (schema, unsaid) = value(types, &field.kind(), &rules);
    match zero(&field.kind()).filter(|_| filled) {
        Some(zero) => (format!("{schema}.refine((v) => v !== {zero}, \"required\")"), unsaid),
        None => (schema, unsaid),
    }
}

/// Extends `test`, the JavaScript condition for a map: an empty map passes if the rules ignore empty maps.
fn or_empty(rules: &Rules, test: &str) -> String {
    if rules.skips_zero() { format!("Object.keys(v).length === 0 || {test}") } else { test.to_owned() }
}

/// Returns one value with its rules, or the empty value if the rules do not apply to it.
fn value(types: &Types, kind: &Kind, rules: &Rules) -> (String, Vec<String>) {
    let (schema, unsaid) = judged(types, kind, rules);
    match zero(kind).filter(|_| rules.skips_zero()) {
        Some(zero) => (format!("z.union([z.literal({zero}), {schema}])"), unsaid),
        None => (schema, unsaid),
    }
}

fn refine(test: &str, rule: &str, bound: &Value) -> String {
    let message = format!("{rule} {bound}");
    format!(".refine((v) => {test}, {})", Value::from(message))
}

fn judged(types: &Types, kind: &Kind, rules: &Rules) -> (String, Vec<String>) {
    let schema = match kind {
        Kind::Bool => "z.boolean()".to_owned() + &choices(rules),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => whole(i32::MIN.into(), i32::MAX.into(), rules),
        Kind::Uint32 | Kind::Fixed32 => whole(0, u32::MAX.into(), rules),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => long("^-?[0-9]+$", rules),
        Kind::Uint64 | Kind::Fixed64 => long("^[0-9]+$", rules),
        Kind::Float | Kind::Double => float(rules),
        Kind::String => text(rules),
        Kind::Bytes => "z.string().regex(/^[A-Za-z0-9+\\/_-]*={0,2}$/)".to_owned(),
        Kind::Enum(descriptor) => match enum_names(descriptor, rules) {
            Some(names) => format!("z.enum({})", Value::from(names)),
            None => types.name(descriptor.full_name()).to_owned(),
        },
        Kind::Message(message) => match well_known(message.full_name()) {
            None => types.name(message.full_name()).to_owned(),
            Some(known) => return self::known(types, known, rules),
        },
    };
    let said: &[&str] = match kind {
        Kind::Message(_) => &ALWAYS,
        Kind::Bytes => &["required", "ignore"],
        _ => &SAID,
    };
    (schema, rules.unsaid(said))
}

fn known(types: &Types, known: WellKnown, rules: &Rules) -> (String, Vec<String>) {
    let nullable = |kind: Kind| {
        let (schema, unsaid) = judged(types, &kind, rules);
        (format!("{schema}.nullable()"), unsaid)
    };
    let schema = match known {
        WellKnown::Timestamp => "z.string().datetime({ offset: true })",
        WellKnown::Duration => "z.string().regex(/^-?[0-9]+(\\.[0-9]{1,9})?s$/)",
        WellKnown::FieldMask => "z.string()",
        WellKnown::Struct => "z.record(z.string(), z.unknown())",
        WellKnown::Value => "z.unknown()",
        WellKnown::List => "z.array(z.unknown())",
        WellKnown::Any => "z.object({ \"@type\": z.string() }).catchall(z.unknown())",
        WellKnown::Empty => "z.record(z.string(), z.never())",
        WellKnown::Double => return nullable(Kind::Double),
        WellKnown::Int32 => return nullable(Kind::Int32),
        WellKnown::Uint32 => return nullable(Kind::Uint32),
        WellKnown::Int64 => return nullable(Kind::Int64),
        WellKnown::Uint64 => return nullable(Kind::Uint64),
        WellKnown::Bool => return nullable(Kind::Bool),
        WellKnown::String => return nullable(Kind::String),
        WellKnown::Bytes => return nullable(Kind::Bytes),
    };
    (schema.to_owned(), rules.unsaid(&ALWAYS))
}

fn limits(rules: &Rules) -> String {
    let range = rules.range();
    match outside(&range, "v", Value::to_string) {
        Some(refinement) => refinement,
        None => range.bounds().map(|(rule, bound)| format!(".{rule}({bound})")).collect(),
    }
}

/// Returns the test for a range whose lower bound is above the upper one. `value` is the expression to compare, and
/// `shown` formats the bounds.
fn outside(range: &Range, value: &str, shown: impl Fn(&Value) -> String) -> Option<String> {
    let (Some((lower, low)), Some((upper, high)), true) = (&range.lower, &range.upper, range.outside) else {
        return None;
    };
    let test = format!("{value} {} {} || {value} {} {}", sign(lower), shown(low), sign(upper), shown(high));
    let message = format!("{upper} {high} or {lower} {low}");
    Some(format!(".refine((v) => {test}, {})", Value::from(message)))
}

fn sign(rule: &str) -> &'static str {
    match rule {
        "gt" => ">",
        "gte" => ">=",
        "lt" => "<",
        _ => "<=",
    }
}

fn whole(low: i64, high: i64, rules: &Rules) -> String {
    format!("z.number().int().gte({low}).lte({high}){}{}", limits(rules), choices(rules))
}

/// Returns the schema of a 64-bit number as text, compared as an integer.
fn long(pattern: &str, rules: &Rules) -> String {
    let mut schema = format!("z.string().regex(/{pattern}/)");
    let range = rules.range();
    let big = |bound: &Value| format!("BigInt(\"{bound}\")");
    match outside(&range, "BigInt(v)", big) {
        Some(refinement) => schema += &refinement,
        None => {
            for (rule, bound) in range.bounds() {
                schema += &refine(&format!("BigInt(v) {} {}", sign(rule), big(bound)), rule, bound);
            }
        }
    }
    schema + &choices(rules)
}

fn float(rules: &Rules) -> String {
    let number = format!("z.number(){}{}", limits(rules), choices(rules));
    let judged = ["gt", "gte", "lt", "lte", "const", "in", "finite"].iter().any(|rule| rules.get(rule).is_some());
    if judged { number } else { format!("z.union([{number}, z.enum([\"NaN\", \"Infinity\", \"-Infinity\"])])") }
}

/// Returns the schema of a text. In zod 3 a refined schema is no longer a string schema, so the string methods come
/// first.
fn text(rules: &Rules) -> String {
    let mut schema = "z.string()".to_owned();
    let plain = |leaf: &str| rules.get(leaf).and_then(Value::as_str);
    if let Some(pattern) = plain("pattern") {
        schema += &format!(".regex(new RegExp({}, \"u\"))", Value::from(pattern));
    }
    for (rule, method) in [("prefix", "startsWith"), ("suffix", "endsWith"), ("contains", "includes")] {
        if let Some(text) = plain(rule) {
            schema += &format!(".{method}({})", Value::from(text));
        }
    }
    if let Some(text) = plain("not_contains") {
        schema += &format!(".regex(new RegExp({}))", Value::from(format!("^(?![\\s\\S]*{})", escape(text))));
    }
    for (rule, call) in
        [("email", ".email()".to_owned()), ("uri", ".url()".to_owned()), ("uuid", format!(".regex(/{UUID}/)"))]
    {
        if rules.on(rule) {
            schema += &call;
        }
    }
    // Lengths are counted in characters, as the rule does; zod's min and max count UTF-16 code units.
    for (rule, test) in [("min_len", ">="), ("max_len", "<="), ("len", "===")] {
        if let Some(bound) = rules.number(rule) {
            schema += &refine(&format!("Array.from(v).length {test} {bound}"), rule, &bound);
        }
    }
    schema + &choices(rules)
}

fn choices(rules: &Rules) -> String {
    let mut schema = String::new();
    if let Some(value) = rules.get("const") {
        schema += &refine(&format!("v === {value}"), "const", value);
    }
    for (rule, not) in [("in", ""), ("not_in", "!")] {
        if let Some(value) = rules.get(rule) {
            schema += &refine(&format!("{not}({value} as unknown[]).includes(v)"), rule, value);
        }
    }
    schema
}
