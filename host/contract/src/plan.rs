//! The decode plan: a message type compiled into tables that the walk in `check` reads.
//!
//! A node is one message type *at one place*. Types that hold no wanted field share one node each, so recursive types
//! end; a place on the way to a wanted field gets a node of its own whose field plans carry slots. The walk
//! therefore never asks whether a field is wanted: it finds a slot number or [`NO_SLOT`].
//!
//! A field is found by its tag, not by its number: `by_tag` maps every one-byte tag (numbers 1 to 15) with a wire type
//! that the field accepts, so one load answers "known?" and "right wire type?" at once. Everything else, longer tags and all
//! failures, takes the slow way over `dense` and a binary search. Rules and column encoders of later versions are to hang on
//! [`FieldPlan`] as further indexes beside `slot`; whole-message rules on [`Node`].

use std::collections::{BTreeMap, HashMap, VecDeque};

use prost_reflect::{Kind as ReflectKind, MessageDescriptor};

use crate::fields::List;
use crate::schema::{EnumTable, Presence, Shape, shapes};
use crate::wire::WireType;
use crate::{CompileError, FieldInfo, FieldPath, Value};

/// No slot: the field is checked and not kept.
pub(crate) const NO_SLOT: u32 = u32::MAX;
/// Field numbers below this are found by index, above by binary search.
const DENSE_NUMBERS: u32 = 256;
/// Fields of one message that `u16` indexes with zero meaning "none".
const MAX_FIELDS: usize = 65_534;
/// Bits of the mask in which a walk notes the required fields it has seen.
const MAX_REQUIRED: usize = 64;

/// The field number of the value in a map's entry; the key's is 1.
const MAP_VALUE: u32 = 2;

/// How a single value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Float,
    Double,
    String,
    Bytes,
    Enum,
    Message,
    Map,
    Group,
}

impl Op {
    pub fn wire(self) -> WireType {
        match self {
            Self::Bool
            | Self::Int32
            | Self::Int64
            | Self::Uint32
            | Self::Uint64
            | Self::Sint32
            | Self::Sint64
            | Self::Enum => WireType::Varint,
            Self::Fixed32 | Self::Sfixed32 | Self::Float => WireType::Fixed32,
            Self::Fixed64 | Self::Sfixed64 | Self::Double => WireType::Fixed64,
            Self::String | Self::Bytes | Self::Message | Self::Map => WireType::Delimited,
            Self::Group => WireType::StartGroup,
        }
    }

    fn of(shape: &Shape) -> Self {
        match &shape.kind {
            ReflectKind::Bool => Self::Bool,
            ReflectKind::Int32 => Self::Int32,
            ReflectKind::Int64 => Self::Int64,
            ReflectKind::Uint32 => Self::Uint32,
            ReflectKind::Uint64 => Self::Uint64,
            ReflectKind::Sint32 => Self::Sint32,
            ReflectKind::Sint64 => Self::Sint64,
            ReflectKind::Fixed32 => Self::Fixed32,
            ReflectKind::Fixed64 => Self::Fixed64,
            ReflectKind::Sfixed32 => Self::Sfixed32,
            ReflectKind::Sfixed64 => Self::Sfixed64,
            ReflectKind::Float => Self::Float,
            ReflectKind::Double => Self::Double,
            ReflectKind::String => Self::String,
            ReflectKind::Bytes => Self::Bytes,
            ReflectKind::Enum(_) => Self::Enum,
            ReflectKind::Message(_) if shape.is_map => Self::Map,
            ReflectKind::Message(_) if shape.is_group => Self::Group,
            ReflectKind::Message(_) => Self::Message,
        }
    }
}

pub(crate) struct FieldPlan {
    pub number: u32,
    pub op: Op,
    pub repeated: bool,
    /// A repeated scalar: both the packed and the plain form are accepted.
    pub packable: bool,
    pub slot: u32,
    /// The node of a message or map entry, or the enum's table.
    pub target: u32,
    /// This field's bit among the required ones, or zero.
    pub required: u64,
    /// The slots of the other members of the field's oneof, and below them.
    pub clears: Box<[u32]>,
    pub name: Box<str>,
}

pub(crate) struct Node {
    pub message: Box<str>,
    by_tag: [u16; 128],
    dense: Box<[u16]>,
    pub fields: Box<[FieldPlan]>,
    pub required: u64,
    /// What the slots directly in this message hold once the message is there but the field isn't.
    pub initial: Box<[(u32, Value<'static>)]>,
}

impl Node {
    /// The field of a one-byte tag, if the field accepts the tag's wire type.
    #[inline]
    pub fn by_tag(&self, tag: u8) -> Option<&FieldPlan> {
        let index = *self.by_tag.get(usize::from(tag))?;
        self.fields.get(usize::from(index).checked_sub(1)?)
    }

    pub fn by_number(&self, number: u32) -> Option<&FieldPlan> {
        if number < DENSE_NUMBERS {
            let index = *self.dense.get(usize::try_from(number).ok()?)?;
            self.fields.get(usize::from(index).checked_sub(1)?)
        } else {
            let index = self.fields.binary_search_by_key(&number, |field| field.number).ok()?;
            self.fields.get(index)
        }
    }

    fn new(
        message: &MessageDescriptor,
        fields: Vec<FieldPlan>,
        required: u64,
        initial: Vec<(u32, Value<'static>)>,
    ) -> Self {
        let mut by_tag = [0; 128];
        let mut dense = Vec::new();
        for (position, field) in (1_u16..).zip(&fields) {
            let number = usize::try_from(field.number).unwrap_or(usize::MAX);
            if field.number < DENSE_NUMBERS {
                dense.resize(number + 1, 0);
                dense[number] = position;
            }
            if field.number < 16 && field.op != Op::Group {
                by_tag[number << 3 | usize::from(field.op.wire() as u8)] = position;
                if field.packable {
                    by_tag[number << 3 | usize::from(WireType::Delimited as u8)] = position;
                }
            }
        }
        Self {
            message: message.full_name().into(),
            by_tag,
            dense: dense.into(),
            fields: fields.into(),
            required,
            initial: initial.into(),
        }
    }
}

pub(crate) struct Plan {
    /// The first node is the top message.
    pub nodes: Vec<Node>,
    pub enums: Vec<EnumTable>,
    /// Every slot's value before the walk.
    pub initial: Vec<Value<'static>>,
    /// Slots that ask for a field another slot has: (the first one, the later one).
    pub copies: Vec<(u32, u32)>,
    /// Whether a required field is reachable.
    pub has_required: bool,
    /// Whether a map is reachable (its entries' order must then be fixed by hand when encoding).
    pub has_maps: bool,
}

/// The wanted fields as a tree of field numbers.
#[derive(Default)]
struct Wanted {
    slot: Option<(u32, Value<'static>)>,
    below: BTreeMap<u32, Wanted>,
}

impl Wanted {
    /// All slots here and below.
    fn slots(&self, into: &mut Vec<u32>) {
        into.extend(self.slot.map(|(slot, _)| slot));
        for child in self.below.values() {
            child.slots(into);
        }
    }
}

impl Plan {
    /// Compiles the tables and resolves the wanted fields.
    pub fn compile(top: &MessageDescriptor, paths: &[FieldPath]) -> Result<(Self, Vec<FieldInfo>), CompileError> {
        let mut wanted = Wanted::default();
        let mut infos = Vec::with_capacity(paths.len());
        let mut copies = Vec::new();
        for (position, path) in paths.iter().enumerate() {
            let slot = index(position, "wanted fields")?;
            let (info, numbers) = FieldInfo::resolve(top, path)?;
            let place = numbers.iter().fold(&mut wanted, |place, number| place.below.entry(*number).or_default());
            match place.slot {
                Some((first, _)) => copies.push((first, slot)),
                None => place.slot = Some((slot, initial_value(&info, slot))),
            }
            infos.push(info);
        }

        let mut builder = Builder { queue: VecDeque::new(), ..Builder::default() };
        let root = builder.place(top, wanted)?;
        debug_assert_eq!(root, 0, "the top message comes first");
        let mut nodes = Vec::new();
        while let Some((message, wanted)) = builder.queue.pop_front() {
            nodes.push(builder.node(&message, wanted)?);
        }
        let mut initial = vec![Value::Absent; paths.len()];
        for &(slot, value) in nodes.first().map(|root| &*root.initial).unwrap_or_default() {
            if let Some(place) = usize::try_from(slot).ok().and_then(|slot| initial.get_mut(slot)) {
                *place = value;
            }
        }
        let has_required = nodes.iter().any(|node| node.required != 0);
        let has_maps = nodes.iter().any(|node| node.fields.iter().any(|field| field.op == Op::Map));
        Ok((Self { nodes, enums: builder.enums, initial, copies, has_required, has_maps }, infos))
    }
}

/// What a slot holds when its message is there and the field is not on the wire.
fn initial_value(info: &FieldInfo, slot: u32) -> Value<'static> {
    if info.descriptor.is_map() {
        Value::Map(List::empty(slot))
    } else if info.descriptor.is_list() {
        Value::List(List::empty(slot))
    } else if info.presence == Presence::Implicit {
        Value::Default
    } else {
        Value::Absent
    }
}

fn index(position: usize, what: &'static str) -> Result<u32, CompileError> {
    let limit = NO_SLOT - 1;
    u32::try_from(position)
        .ok()
        .filter(|position| *position <= limit)
        .ok_or(CompileError::TooLarge { what, limit: usize::try_from(limit).unwrap_or(usize::MAX) })
}

/// Places are numbered when they are first named and built in that order, from a queue: types may nest as deep as they like.
#[derive(Default)]
struct Builder {
    queue: VecDeque<(MessageDescriptor, Wanted)>,
    places: usize,
    shared: HashMap<String, u32>,
    enums: Vec<EnumTable>,
    enum_index: HashMap<String, u32>,
}

impl Builder {
    fn place(&mut self, message: &MessageDescriptor, wanted: Wanted) -> Result<u32, CompileError> {
        let plain = wanted.below.is_empty();
        if plain && let Some(&known) = self.shared.get(message.full_name()) {
            return Ok(known);
        }
        let place = index(self.places, "message types")?;
        self.places += 1;
        if plain {
            self.shared.insert(message.full_name().to_owned(), place);
        }
        self.queue.push_back((message.clone(), wanted));
        Ok(place)
    }

    fn node(&mut self, message: &MessageDescriptor, mut wanted: Wanted) -> Result<Node, CompileError> {
        let shapes = shapes(message);
        if shapes.len() > MAX_FIELDS {
            return Err(CompileError::TooLarge { what: "fields of one message", limit: MAX_FIELDS });
        }
        let clears: Vec<Box<[u32]>> = shapes
            .iter()
            .map(|shape| {
                let mut slots = Vec::new();
                shape
                    .rivals
                    .iter()
                    .filter_map(|rival| wanted.below.get(rival))
                    .for_each(|rival| rival.slots(&mut slots));
                slots.into()
            })
            .collect();
        let mut required = 0_u64;
        let mut initial = Vec::new();
        let mut fields = Vec::with_capacity(shapes.len());
        for (shape, clears) in shapes.iter().zip(clears) {
            let child = wanted.below.remove(&shape.number).unwrap_or_default();
            initial.extend(child.slot.filter(|(_, value)| *value != Value::Absent));
            let mut field = FieldPlan {
                number: shape.number,
                op: Op::of(shape),
                repeated: shape.is_list,
                packable: shape.is_list && !matches!(Op::of(shape).wire(), WireType::Delimited | WireType::StartGroup),
                slot: child.slot.map_or(NO_SLOT, |(slot, _)| slot),
                target: self.target(shape, child)?,
                required: 0,
                clears,
                // The value of a map's entry is named by its key alone: `counts["k"]`.
                name: if message.is_map_entry() && shape.number == MAP_VALUE { "" } else { &shape.name }.into(),
            };
            if shape.presence == Presence::Required {
                // The lowest free bit; the bits are given out in order.
                let bit = required.trailing_ones();
                field.required = 1_u64.checked_shl(bit).ok_or_else(|| CompileError::TooManyRequired {
                    message: message.full_name().to_owned(),
                    limit: MAX_REQUIRED,
                })?;
                required |= field.required;
            }
            fields.push(field);
        }
        Ok(Node::new(message, fields, required, initial))
    }

    fn target(&mut self, shape: &Shape, mut wanted: Wanted) -> Result<u32, CompileError> {
        wanted.slot = None;
        match &shape.kind {
            ReflectKind::Message(message) => self.place(message, wanted),
            ReflectKind::Enum(descriptor) => {
                if let Some(&known) = self.enum_index.get(descriptor.full_name()) {
                    return Ok(known);
                }
                let position = index(self.enums.len(), "enums")?;
                self.enums.push(EnumTable::new(descriptor));
                self.enum_index.insert(descriptor.full_name().to_owned(), position);
                Ok(position)
            }
            _ => Ok(NO_SLOT),
        }
    }
}
