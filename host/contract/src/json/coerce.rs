//! `contract.coerce`: fields whose JSON may have another form than Protobuf's JSON mapping defines for their type.

use std::collections::BTreeMap;

use prost_reflect::{Kind, MessageDescriptor};

use crate::schema::step;
use crate::{Coercion, CompileError, TimeSpec, type_name};

/// The coercions of a message type, as a tree of field numbers that the reader descends along with the message.
#[derive(Debug, Default)]
pub(crate) struct Coercions {
    /// The accepted forms for the field itself, or for each of its elements or values.
    time: Option<TimeSpec>,
    below: BTreeMap<u32, Coercions>,
}

impl Coercions {
    /// Compiles the coercions for this message type; `None` without any.
    ///
    /// # Errors
    /// Fails for a path that leads to no field, or to a type that cannot be coerced.
    pub(crate) fn compile(top: &MessageDescriptor, coercions: &[Coercion]) -> Result<Option<Self>, CompileError> {
        let mut root = Self::default();
        for Coercion { field, time } in coercions {
            let refuse = |problem: String| CompileError::Coerce { path: field.clone(), problem };
            let mut message = top.clone();
            let mut place = &mut root;
            let mut segments = field.as_str().split('.').peekable();
            while let Some(segment) = segments.next() {
                let (_, shape) = step(&message, segment, field)?;
                place = place.below.entry(shape.number).or_default();
                // A coercion of a list or map applies to its elements or values.
                let kind = match &shape.kind {
                    Kind::Message(entry) if shape.is_map => entry.map_entry_value_field().kind(),
                    kind => kind.clone(),
                };
                message = match (kind, segments.peek()) {
                    (Kind::Message(inner), Some(_)) => inner,
                    (Kind::Message(inner), None) if inner.full_name() == "google.protobuf.Timestamp" => inner,
                    (kind, Some(_)) => {
                        return Err(refuse(format!(
                            "passes through {segment}, which is {}, not a message",
                            type_name(&kind)
                        )));
                    }
                    (kind, None) => {
                        return Err(refuse(format!(
                            "is {}; only google.protobuf.Timestamp can be coerced",
                            type_name(&kind)
                        )));
                    }
                };
            }
            place.time = Some(time.clone());
        }
        Ok(Some(root).filter(|root| !root.below.is_empty()))
    }

    pub(crate) fn time(&self) -> Option<&TimeSpec> {
        self.time.as_ref()
    }

    pub(crate) fn below(&self, number: u32) -> Option<&Self> {
        self.below.get(&number)
    }
}
