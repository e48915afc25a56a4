//! Converts paths from text to the structured form that the harness compares.

use anyhow::{Context as _, Result, bail};
use prost_reflect::{ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use prost_types::field_descriptor_proto::Type;

use crate::wire::{Element, Path, Subscript};

/// Parses a path such as `items[0].name` along the fields of `message`. Returns `None` for an empty path.
pub(crate) fn read(text: &str, message: &MessageDescriptor) -> Result<Option<Path>> {
    let mut message = Some(message.clone());
    let mut elements = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let here = message.take().with_context(|| format!("{text}: {rest} is below no message"))?;
        let (name, after) = name(rest)?;
        let (element, inner, after) = element(&here, name, after)?;
        elements.push(element);
        message = inner;
        rest = after.strip_prefix('.').unwrap_or(after);
    }
    Ok((!elements.is_empty()).then_some(Path { elements }))
}

/// Splits off a field's name, or an extension's name in brackets.
fn name(text: &str) -> Result<(&str, &str)> {
    let end = match text.strip_prefix('[') {
        Some(inner) => inner.find(']').context("an extension's name does not end")? + 2,
        None => text.find(['.', '[']).unwrap_or(text.len()),
    };
    Ok(text.split_at(end))
}

fn element<'t>(
    message: &MessageDescriptor,
    name: &str,
    after: &'t str,
) -> Result<(Element, Option<MessageDescriptor>, &'t str)> {
    let mut element = Element { field_name: Some(name.to_owned()), ..Element::default() };
    if let Some(extension) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        let extension = message.parent_pool().get_extension_by_name(extension).with_context(|| format!("no {name}"))?;
        describe(&mut element, extension.number(), extension_type(&extension));
        return Ok((element, None, after));
    }
    let Some(field) = message.get_field_by_name(name) else {
        // The element of a oneof has only a name.
        return Ok((element, None, after));
    };
    describe(&mut element, field.number(), field_type(&field));
    let mut inner = message_of(&field.kind());
    let Some(subscript) = after.strip_prefix('[') else { return Ok((element, inner, after)) };
    let (key, after) = subscript_text(subscript)?;
    if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
        let (key_field, value_field) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        element.key_type = Some(field_type(&key_field));
        element.value_type = Some(field_type(&value_field));
        element.subscript = Some(map_key(&key_field.kind(), key)?);
        inner = message_of(&value_field.kind());
    } else {
        element.subscript = Some(Subscript::Index(key.parse()?));
    }
    Ok((element, inner, after))
}

fn describe(element: &mut Element, number: u32, r#type: i32) {
    element.field_number = i32::try_from(number).ok();
    element.field_type = Some(r#type);
}

fn message_of(kind: &Kind) -> Option<MessageDescriptor> {
    kind.as_message().cloned()
}

fn field_type(field: &FieldDescriptor) -> i32 {
    // Editions encode delimited fields as messages; the harness calls them groups.
    if field.is_group() { Type::Group as i32 } else { field.field_descriptor_proto().r#type() as i32 }
}

fn extension_type(extension: &ExtensionDescriptor) -> i32 {
    extension.field_descriptor_proto().r#type() as i32
}

/// Splits off the text before the closing bracket. A quoted key may contain brackets.
fn subscript_text(text: &str) -> Result<(&str, &str)> {
    let mut quoted = false;
    let mut escaped = false;
    for (position, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            ']' if !quoted => return Ok((&text[..position], &text[position + 1..])),
            _ => {}
        }
    }
    bail!("the subscript {text} does not end")
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are treated alike")]
fn map_key(kind: &Kind, text: &str) -> Result<Subscript> {
    Ok(match kind {
        Kind::String => Subscript::StringKey(unquote(text)?),
        Kind::Bool => Subscript::BoolKey(text.parse()?),
        Kind::Uint32 | Kind::Uint64 | Kind::Fixed32 | Kind::Fixed64 => Subscript::UintKey(text.parse()?),
        _ => Subscript::IntKey(text.parse()?),
    })
}

/// Reverses Rust's string escaping.
fn unquote(text: &str) -> Result<String> {
    let inner =
        text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).context("a string key without quotes")?;
    let mut out = String::new();
    let mut rest = inner.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match rest.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('0') => out.push('\0'),
            Some('u') => {
                let digits: String = rest.by_ref().skip(1).take_while(|digit| *digit != '}').collect();
                out.extend(char::from_u32(u32::from_str_radix(&digits, 16)?));
            }
            Some(other) => out.push(other),
            None => bail!("{text} ends in a backslash"),
        }
    }
    Ok(out)
}
