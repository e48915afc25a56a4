//! Compiles the options of message types to the rule model.

use std::collections::{BTreeSet, HashMap, VecDeque};

use prost_reflect::prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind as ReflectKind, MessageDescriptor,
    ReflectMessage as _, Value as ReflectValue,
};

use super::Rules;
use super::cel::{self, Boxed, Expression, Predefined, Reading, Written};
use super::fault::RuleFault;
use super::model::{FieldRules, Group, MessageRules, ValueRules};
use super::standard::Source;
use crate::CompileError;
use crate::schema::{EnumTable, is_wrapper};

/// `buf.validate.Ignore`.
const IGNORE_IF_ZERO_VALUE: i32 = 1;
const IGNORE_ALWAYS: i32 = 3;

/// The extensions in the pool that carry rules.
struct Extensions {
    message: Option<ExtensionDescriptor>,
    oneof: Option<ExtensionDescriptor>,
    field: Option<ExtensionDescriptor>,
    predefined: Option<ExtensionDescriptor>,
}

struct Compiler<'p> {
    pool: &'p DescriptorPool,
    extensions: Extensions,
    index: HashMap<String, usize>,
    queue: VecDeque<MessageDescriptor>,
    /// All options that were read, as text for the digest.
    canonical: BTreeSet<String>,
}

/// A field's value, or a part of one.
enum Shape {
    Single(ReflectKind),
    List(ReflectKind),
    Map(MessageDescriptor),
}

/// The position of a value's rules.
#[derive(Clone, Copy)]
struct Place<'a> {
    field: &'a FieldDescriptor,
    /// `repeated.items.`, `map.keys.`, `map.values.`, or empty for the field itself.
    prefix: &'a str,
}

impl Place<'_> {
    fn is_nested(&self) -> bool {
        !self.prefix.is_empty()
    }

    fn error(&self, rule: &str, problem: impl Into<String>) -> CompileError {
        let (place, rule) = (self.field.full_name().to_owned(), format!("{}{rule}", self.prefix));
        CompileError::Rule { place, rule, problem: problem.into() }
    }

    /// Returns a value of zeros for the trial of an expression, if a trial is meaningful.
    fn sample(&self, shape: &Shape) -> Option<Boxed> {
        match shape {
            Shape::Single(kind) if is_dynamic(kind) => None,
            Shape::Single(kind) if self.is_nested() => cel::zero_item(kind),
            _ => cel::zero_field(self.field),
        }
    }
}

impl Rules {
    /// Compiles the rules of a message type and all below it; `None` if there are none.
    pub(crate) fn compile(top: &MessageDescriptor) -> Result<Option<Self>, CompileError> {
        let pool = top.parent_pool();
        let extension = |name: &str| pool.get_extension_by_name(name);
        let extensions = Extensions {
            message: extension("buf.validate.message"),
            oneof: extension("buf.validate.oneof"),
            field: extension("buf.validate.field"),
            predefined: extension("buf.validate.predefined"),
        };
        if extensions.field.is_none() {
            return Ok(None);
        }
        let mut compiler =
            Compiler { pool, extensions, index: HashMap::new(), queue: VecDeque::new(), canonical: BTreeSet::new() };
        compiler.message_index(top);
        let mut messages = Vec::new();
        while let Some(message) = compiler.queue.pop_front() {
            messages.push(compiler.message(&message)?);
        }
        let live = live(&messages);
        for message in &mut messages {
            message.fields.iter_mut().for_each(|field| field.value.prune(&live));
            message.fields.retain(|field| !field.is_empty());
        }
        let rules = Self::new(messages, compiler.index, compiler.canonical.into_iter().collect());
        Ok((!rules.is_empty()).then_some(rules))
    }
}

/// Returns which messages have rules, themselves or below.
fn live(messages: &[MessageRules]) -> Vec<bool> {
    let own = |message: &MessageRules| {
        let mut found = !message.expressions.is_empty() || !message.groups.is_empty() || !message.required.is_empty();
        for field in &message.fields {
            found |= field.required;
            field.value.walk(&mut |value| found |= !value.tests.is_empty() || !value.expressions.is_empty());
        }
        found
    };
    let mut live: Vec<bool> = messages.iter().map(own).collect();
    loop {
        let mut changed = false;
        for (index, message) in messages.iter().enumerate() {
            let mut below = false;
            for field in &message.fields {
                field.value.walk(&mut |value| below |= value.message.is_some_and(|inner| live[inner]));
            }
            changed |= below && !live[index];
            live[index] |= below;
        }
        if !changed {
            return live;
        }
    }
}

impl Compiler<'_> {
    fn message_index(&mut self, message: &MessageDescriptor) -> usize {
        let next = self.index.len();
        *self.index.entry(message.full_name().to_owned()).or_insert_with(|| {
            self.queue.push_back(message.clone());
            next
        })
    }

    /// Records the rules at a position. Their fields are encoded in the order of their numbers, so that equal rules are
    /// equal bytes.
    fn note(&mut self, place: &str, rules: Option<&DynamicMessage>) {
        if let Some(rules) = rules {
            self.canonical.insert(format!("rules {place} {}\n", super::show::hex(&rules.encode_to_vec())));
        }
    }

    fn message(&mut self, message: &MessageDescriptor) -> Result<MessageRules, CompileError> {
        let options = rule_message(&message.options(), self.extensions.message.as_ref());
        self.note(message.full_name(), options.as_ref());
        let error = |rule: &str, fault: &RuleFault| CompileError::Rule {
            place: message.full_name().to_owned(),
            rule: rule.to_owned(),
            problem: fault.to_string(),
        };
        let mut rules = MessageRules::default();
        if let Some(options) = &options {
            let dynamic = is_dynamic(&ReflectKind::Message(message.clone()));
            let sample = || {
                let empty = DynamicMessage::new(message.clone());
                if dynamic { None } else { cel::message(&empty, Reading::Sample).ok() }
            };
            for (path, written) in written(options) {
                // A message's expressions have no path, because they are not in a field.
                let expression = Expression::compile(&written.as_ref(), String::new(), self.pool, None, sample());
                rules.expressions.push(expression.map_err(|fault| error(&path, &fault))?);
            }
            rules.groups = groups(options, message).map_err(|fault| error("oneof", &fault))?;
        }
        for oneof in message.oneofs() {
            let options = rule_message(&oneof.options(), self.extensions.oneof.as_ref());
            self.note(oneof.full_name(), options.as_ref());
            if options.is_some_and(|options| get_bool(&options, "required")) {
                rules.required.push(oneof);
            }
        }
        for field in message.fields() {
            let grouped = rules.groups.iter().any(|group| group.fields.contains(&field));
            rules.fields.extend(self.field(&field, grouped)?);
        }
        Ok(rules)
    }

    /// Compiles the rules of a field. `grouped` means that a `message.oneof` rule names the field, which is then
    /// ignored while it is zero.
    fn field(&mut self, field: &FieldDescriptor, grouped: bool) -> Result<Option<FieldRules>, CompileError> {
        let options = rule_message(&field.options(), self.extensions.field.as_ref());
        let ignore =
            options.as_ref().and_then(|options| get_set(options, "ignore")).and_then(|set| set.as_enum_number());
        if ignore == Some(IGNORE_ALWAYS) {
            return Ok(None);
        }
        self.note(field.full_name(), options.as_ref());
        let skip_zero = ignore == Some(IGNORE_IF_ZERO_VALUE) || grouped && ignore.is_none();
        let shape = match field.kind() {
            ReflectKind::Message(entry) if field.is_map() => Shape::Map(entry),
            kind if field.is_list() => Shape::List(kind),
            kind => Shape::Single(kind),
        };
        let value = self.value(Place { field, prefix: "" }, &shape, options.as_ref())?;
        Ok(Some(FieldRules {
            field: field.clone(),
            required: options.is_some_and(|options| get_bool(&options, "required")),
            skip_unset: field.supports_presence() || skip_zero,
            value,
        }))
    }

    fn value(
        &mut self,
        place: Place<'_>,
        shape: &Shape,
        options: Option<&DynamicMessage>,
    ) -> Result<ValueRules, CompileError> {
        let mut rules = ValueRules::default();
        let ignore = options.and_then(|options| get_set(options, "ignore")).and_then(|set| set.as_enum_number());
        if ignore == Some(IGNORE_ALWAYS) {
            return Ok(rules);
        }
        rules.skip_zero = place.is_nested() && ignore == Some(IGNORE_IF_ZERO_VALUE);
        if let Some(options) = options {
            for (path, written) in written(options) {
                let sample = place.sample(shape);
                let compiled =
                    Expression::compile(&written.as_ref(), format!("{}{path}", place.prefix), self.pool, None, sample);
                rules.expressions.push(compiled.map_err(|fault| place.error(&path, fault.to_string()))?);
            }
            self.typed(place, shape, options, &mut rules)?;
        }
        match shape {
            Shape::Single(ReflectKind::Message(inner)) => rules.message = Some(self.message_index(inner)),
            Shape::Single(_) => {}
            Shape::List(kind) => {
                let items = options.and_then(|options| nested(options, "repeated", "items"));
                let place = Place { field: place.field, prefix: "repeated.items." };
                rules.items = Some(Box::new(self.value(place, &Shape::Single(kind.clone()), items.as_ref())?));
            }
            Shape::Map(entry) => {
                let mut part = |name: &str, prefix: &str, kind: ReflectKind| {
                    let options = options.and_then(|options| nested(options, "map", name));
                    let place = Place { field: place.field, prefix };
                    self.value(place, &Shape::Single(kind), options.as_ref()).map(Box::new)
                };
                rules.keys = Some(part("keys", "map.keys.", entry.map_entry_key_field().kind())?);
                rules.items = Some(part("values", "map.values.", entry.map_entry_value_field().kind())?);
            }
        }
        Ok(rules)
    }

    /// Compiles the rules of the field's own type: `string`, `int32`, `repeated` …
    fn typed(
        &mut self,
        place: Place<'_>,
        shape: &Shape,
        options: &DynamicMessage,
        rules: &mut ValueRules,
    ) -> Result<(), CompileError> {
        let descriptor = options.descriptor();
        let Some(chosen) = descriptor
            .oneofs()
            .find(|oneof| oneof.name() == "type")
            .and_then(|oneof| oneof.fields().find(|field| options.has_field(field)))
        else {
            return Ok(());
        };
        let kind = chosen.name();
        match expected(shape) {
            Some(expected) if expected == kind => {}
            Some(expected) => {
                let problem = format!("the field needs rules of type {expected}; use {expected} instead of {kind}");
                return Err(place.error(kind, problem));
            }
            None => {
                let problem = "the field is a message without such rules; put them on the message's own fields";
                return Err(place.error(kind, problem));
            }
        }
        rules.wrapped = matches!(shape, Shape::Single(ReflectKind::Message(inner)) if is_wrapper(inner));
        let written = options.get_field(&chosen);
        let Some(written) = written.as_message() else { return Ok(()) };
        if written.unknown_fields().next().is_some() {
            let problem = "a rule here is not defined in any file; import the file that extends the rules, with its newest \
                version";
            return Err(place.error(kind, problem));
        }
        let table = match shape {
            Shape::Single(ReflectKind::Enum(descriptor)) => Some(EnumTable::new(descriptor)),
            _ => None,
        };
        let path = format!("{}{kind}", place.prefix);
        let source = Source { rules: written, kind, path: &path, table: table.as_ref() };
        for (field, value) in written.fields() {
            match source.compile(field.name(), value) {
                Some(tests) => {
                    rules.tests.extend(
                        tests.map_err(|fault| place.error(&format!("{kind}.{}", field.name()), fault.to_string()))?,
                    );
                }
                None => {
                    let rule = format!("{kind}.{}", field.name());
                    let found = self.predefined(place, shape, written, &field.options(), value, &rule)?;
                    rules.expressions.extend(found);
                }
            }
        }
        for (extension, value) in written.extensions() {
            let rule = format!("{kind}.[{}]", extension.full_name());
            let found = self.predefined(place, shape, written, &extension.options(), value, &rule)?;
            rules.expressions.extend(found);
        }
        Ok(())
    }

    /// Compiles the expressions in a rule's own definition.
    fn predefined(
        &mut self,
        place: Place<'_>,
        shape: &Shape,
        rules: &DynamicMessage,
        options: &DynamicMessage,
        value: &ReflectValue,
        path: &str,
    ) -> Result<Vec<Expression>, CompileError> {
        let Some(defined) = rule_message(options, self.extensions.predefined.as_ref()) else { return Ok(Vec::new()) };
        self.note(path, Some(&defined));
        let convert = || -> Result<Predefined, ::cel::ExecutionError> {
            let rules = cel::message(rules, Reading::Event)?;
            Ok(Predefined { rules, rule: cel::convert_item(value, Reading::Event)? })
        };
        let compile = |written: Owned| {
            let predefined = convert()?;
            let path = format!("{}{path}", place.prefix);
            Expression::compile(&written.as_ref(), path, self.pool, Some(predefined), place.sample(shape))
        };
        let compiled = written(&defined).map(|(_, written)| compile(written));
        compiled.collect::<Result<_, RuleFault>>().map_err(|fault| place.error(path, fault.to_string()))
    }
}

/// Returns whether values of the type get their types from the event, so that a trial on zeros is meaningless.
fn is_dynamic(kind: &ReflectKind) -> bool {
    let ReflectKind::Message(top) = kind else { return false };
    let mut seen = vec![top.clone()];
    let mut next = 0;
    while let Some(message) = seen.get(next).cloned() {
        if matches!(message.full_name(), "google.protobuf.Any" | "google.protobuf.Value" | "google.protobuf.Struct") {
            return true;
        }
        for field in message.fields() {
            if let ReflectKind::Message(inner) = field.kind()
                && !seen.contains(&inner)
            {
                seen.push(inner);
            }
        }
        next += 1;
    }
    false
}

/// Returns the name of the rules for a value's type.
fn expected(shape: &Shape) -> Option<&'static str> {
    Some(match shape {
        Shape::List(_) => "repeated",
        Shape::Map(_) => "map",
        Shape::Single(kind) => match kind {
            ReflectKind::Double => "double",
            ReflectKind::Float => "float",
            ReflectKind::Int32 => "int32",
            ReflectKind::Int64 => "int64",
            ReflectKind::Uint32 => "uint32",
            ReflectKind::Uint64 => "uint64",
            ReflectKind::Sint32 => "sint32",
            ReflectKind::Sint64 => "sint64",
            ReflectKind::Fixed32 => "fixed32",
            ReflectKind::Fixed64 => "fixed64",
            ReflectKind::Sfixed32 => "sfixed32",
            ReflectKind::Sfixed64 => "sfixed64",
            ReflectKind::Bool => "bool",
            ReflectKind::String => "string",
            ReflectKind::Bytes => "bytes",
            ReflectKind::Enum(_) => "enum",
            ReflectKind::Message(message) => match message.full_name() {
                "google.protobuf.Any" => "any",
                "google.protobuf.Duration" => "duration",
                "google.protobuf.Timestamp" => "timestamp",
                "google.protobuf.FieldMask" => "field_mask",
                _ if is_wrapper(message) => {
                    return expected(&Shape::Single(message.get_field_by_name("value")?.kind()));
                }
                _ => return None,
            },
        },
    })
}

/// A rule's text, copied from the options.
struct Owned {
    id: String,
    message: String,
    expression: String,
}

impl Owned {
    fn as_ref(&self) -> Written<'_> {
        Written { id: &self.id, message: &self.message, expression: &self.expression }
    }
}

/// Iterates over the CEL rules of an options message: `cel_expression` and `cel`, each with its position.
fn written(options: &DynamicMessage) -> impl Iterator<Item = (String, Owned)> {
    let list = |name: &str| {
        let value = get_set(options, name);
        value.as_ref().and_then(ReflectValue::as_list).map(<[_]>::to_vec).unwrap_or_default()
    };
    let plain = list("cel_expression").into_iter().enumerate().filter_map(|(index, text)| {
        let expression = text.as_str()?.to_owned();
        let written = Owned { id: expression.clone(), message: String::new(), expression };
        Some((format!("cel_expression[{index}]"), written))
    });
    let full = list("cel").into_iter().enumerate().filter_map(|(index, rule)| {
        let rule = rule.as_message()?;
        let text = |name| get_set(rule, name).and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default();
        let written = Owned { id: text("id"), message: text("message"), expression: text("expression") };
        Some((format!("cel[{index}]"), written))
    });
    plain.chain(full)
}

fn groups(options: &DynamicMessage, message: &MessageDescriptor) -> Result<Vec<Group>, RuleFault> {
    let written = get_set(options, "oneof");
    let written = written.as_ref().and_then(ReflectValue::as_list).unwrap_or_default();
    written.iter().filter_map(ReflectValue::as_message).map(|rule| group(rule, message)).collect()
}

fn group(rule: &DynamicMessage, message: &MessageDescriptor) -> Result<Group, RuleFault> {
    let names = get_set(rule, "fields");
    let names = names.as_ref().and_then(ReflectValue::as_list).unwrap_or_default();
    if names.is_empty() {
        return Err(RuleFault::NoFields);
    }
    let mut fields: Vec<FieldDescriptor> = Vec::with_capacity(names.len());
    for name in names.iter().filter_map(ReflectValue::as_str) {
        let field = message.get_field_by_name(name).ok_or_else(|| RuleFault::UnknownField(name.to_owned()))?;
        if fields.contains(&field) {
            return Err(RuleFault::FieldTwice(name.to_owned()));
        }
        fields.push(field);
    }
    Ok(Group { fields, required: get_bool(rule, "required") })
}

/// Returns the rules in a set of options.
fn rule_message(options: &DynamicMessage, extension: Option<&ExtensionDescriptor>) -> Option<DynamicMessage> {
    let extension = extension.filter(|extension| options.has_extension(extension))?;
    options.get_extension(extension).as_message().cloned()
}

/// Returns the rules for the elements of a list or a map.
fn nested(options: &DynamicMessage, outer: &str, inner: &str) -> Option<DynamicMessage> {
    get_set(get_set(options, outer)?.as_message()?, inner)?.as_message().cloned()
}

fn get_set(message: &DynamicMessage, name: &str) -> Option<ReflectValue> {
    let field = message.descriptor().get_field_by_name(name)?;
    message.has_field(&field).then(|| message.get_field(&field).into_owned())
}

fn get_bool(message: &DynamicMessage, name: &str) -> bool {
    get_set(message, name).and_then(|value| value.as_bool()).unwrap_or(false)
}
