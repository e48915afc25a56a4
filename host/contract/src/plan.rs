//! The decode plan: a message type compiled into tables that the walk in `check` reads.
//!
//! A node is one message type *at one place*. Types without a wanted field share one node each, so recursive types
//! end; a place on the path to a wanted field gets its own node, whose field plans carry slots. So the walk never
//! asks whether a field is wanted: it finds a slot number or [`NO_SLOT`].
//!
//! A field is found by its tag, not by its number: `by_tag` maps every one-byte tag (numbers 1 to 15) whose wire type
//! the field accepts, so one load answers "known?" and "right wire type?" at once. Everything else, longer tags and all
//! failures, takes the slow path over `dense` and a binary search. [`FieldPlan`] and [`Node`] refer to rules by index
//! into tables of checks; below a field whose rules are ignored, a type has a node without them.

use std::collections::{BTreeMap, HashMap, VecDeque};

use prost_reflect::{Kind as ReflectKind, MessageDescriptor, OneofDescriptor};

use crate::fields::List;
use crate::rules::{self, Checks, FieldCheck, NodeChecks, Rules};
use crate::schema::{EnumTable, Presence, Shape, shapes};
use crate::wire::WireType;
use crate::{CompileError, FieldInfo, FieldPath, Kind, Value};

/// The slot number of a field that is checked but not kept.
pub(crate) const NO_SLOT: u32 = u32::MAX;
/// The check index of a place without rules.
pub(crate) const NO_CHECK: u32 = u32::MAX;
/// Field numbers below this are found by index, above by binary search.
const DENSE_NUMBERS: u32 = 256;
/// The maximum number of fields in a message. Fields are counted from 1 in a `u16`, and 0 means "none".
const MAX_FIELDS: usize = 65_534;
/// The bits of the mask in which a walk records the required fields it has seen.
const MAX_REQUIRED: usize = 64;

/// The field number of the value in a map's entry; the key's is 1.
const MAP_VALUE: u32 = 2;

/// The way in which a single value is read.
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
    pub(crate) fn wire(self) -> WireType {
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
    /// The slots of the other members of the field's oneof, and those below them.
    pub clears: Box<[u32]>,
    /// The rules of the field.
    pub check: u32,
    pub name: Box<str>,
}

pub(crate) struct Node {
    pub message: Box<str>,
    by_tag: [u16; 128],
    dense: Box<[u16]>,
    pub fields: Box<[FieldPlan]>,
    pub required: u64,
    /// The values of the slots directly in this message if the message is present but the field is not.
    pub initial: Box<[(u32, Value<'static>)]>,
    /// The rules of the message.
    pub check: u32,
    /// The oneofs, without the synthetic ones of single optional fields.
    pub oneofs: Box<[Oneof]>,
    pub is_entry: bool,
}

/// A oneof and its members' numbers.
pub(crate) struct Oneof {
    pub name: Box<str>,
    pub members: Box<[u32]>,
}

impl Node {
    /// Returns the field of a one-byte tag if the field accepts the tag's wire type.
    #[inline]
    pub(crate) fn by_tag(&self, tag: u8) -> Option<&FieldPlan> {
        let index = *self.by_tag.get(usize::from(tag))?;
        self.fields.get(usize::from(index).checked_sub(1)?)
    }

    pub(crate) fn by_number(&self, number: u32) -> Option<&FieldPlan> {
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
        check: u32,
    ) -> Self {
        let mut by_tag = [0; 128];
        let mut dense = Vec::new();
        for (field, position) in fields.iter().zip(1_u16..) {
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
            check,
            oneofs: oneofs(message),
            is_entry: message.is_map_entry(),
        }
    }
}

fn oneofs(message: &MessageDescriptor) -> Box<[Oneof]> {
    let real = message.oneofs().filter(|oneof| !oneof.is_synthetic());
    let members = |oneof: &OneofDescriptor| oneof.fields().map(|field| field.number()).collect();
    real.map(|oneof| Oneof { name: oneof.name().into(), members: members(&oneof) }).collect()
}

pub(crate) struct Plan {
    /// The first node is the top message.
    pub nodes: Vec<Node>,
    pub enums: Vec<EnumTable>,
    /// Every slot's value before the walk.
    pub initial: Vec<Value<'static>>,
    /// The slots of fields that another slot already has, as (first slot, later slot).
    pub copies: Vec<(u32, u32)>,
    /// The branches of wanted oneofs. Each has a slot; the branch that is not absent determines the oneof's slot.
    pub branches: Vec<Branch>,
    /// Whether a required field is reachable.
    pub has_required: bool,
    /// Whether a oneof is reachable.
    pub has_oneofs: bool,
    pub node_checks: Vec<NodeChecks>,
    pub field_checks: Vec<FieldCheck>,
}

/// A branch of a wanted oneof.
pub(crate) struct Branch {
    pub oneof: u32,
    /// The slot of the branch's own field.
    pub slot: u32,
    pub number: i32,
}

/// The wanted fields as a tree of field numbers.
#[derive(Default)]
struct Wanted {
    slot: Option<(u32, Value<'static>)>,
    below: BTreeMap<u32, Wanted>,
}

impl Wanted {
    /// Returns the place at these field numbers.
    fn at(&mut self, numbers: &[u32]) -> &mut Wanted {
        numbers.iter().fold(self, |place, number| place.below.entry(*number).or_default())
    }

    /// Collects all slots here and below.
    fn slots(&self, into: &mut Vec<u32>) {
        into.extend(self.slot.map(|(slot, _)| slot));
        for child in self.below.values() {
            child.slots(into);
        }
    }
}

impl Plan {
    /// Compiles the tables and resolves the wanted fields.
    pub(crate) fn compile(
        top: &MessageDescriptor,
        paths: &[FieldPath],
        rules: Option<&Rules>,
    ) -> Result<(Self, Vec<FieldInfo>), CompileError> {
        let mut wanted = Wanted::default();
        let mut infos = Vec::with_capacity(paths.len());
        let (mut copies, mut oneofs) = (Vec::new(), Vec::new());
        for (position, path) in paths.iter().enumerate() {
            let slot = index(position, "wanted fields")?;
            if path.is_oneof() {
                let (info, branches) = FieldInfo::resolve_oneof(top, path)?;
                infos.push(info);
                oneofs.extend(branches.into_iter().map(|numbers| (slot, numbers)));
                continue;
            }
            let (info, numbers) = FieldInfo::resolve(top, path)?;
            let place = wanted.at(&numbers);
            match place.slot {
                Some((first, _)) => copies.push((first, slot)),
                None => place.slot = Some((slot, initial_value(&info, slot))),
            }
            infos.push(info);
        }
        // The branches' fields get the slots after the wanted ones, or share them.
        let mut slots = paths.len();
        let mut branches = Vec::with_capacity(oneofs.len());
        for (oneof, numbers) in oneofs {
            let place = wanted.at(&numbers);
            let slot = match place.slot {
                Some((slot, _)) => slot,
                None => {
                    let slot = index(slots, "wanted fields")?;
                    slots += 1;
                    place.slot = Some((slot, Value::Absent));
                    slot
                }
            };
            let number = numbers.last().copied().unwrap_or_default().cast_signed();
            branches.push(Branch { oneof, slot, number });
        }

        let mut builder = Builder::default();
        for (message, checks) in rules.map(rules::checks).unwrap_or_default() {
            builder.enlist(message, checks)?;
        }
        let root = builder.place(top, wanted, true)?;
        debug_assert_eq!(root, 0, "the top message comes first");
        let mut nodes = Vec::new();
        while let Some(place) = builder.queue.pop_front() {
            nodes.push(builder.node(place)?);
        }
        let mut initial = vec![Value::Absent; slots];
        for &(slot, value) in nodes.first().map(|root| &*root.initial).unwrap_or_default() {
            if let Some(place) = usize::try_from(slot).ok().and_then(|slot| initial.get_mut(slot)) {
                *place = value;
            }
        }
        let has_required = nodes.iter().any(|node| node.required != 0);
        let has_oneofs = nodes.iter().any(|node| !node.oneofs.is_empty());
        let Builder { enums, node_checks, field_checks, .. } = builder;
        let plan =
            Self { nodes, enums, initial, copies, branches, has_required, has_oneofs, node_checks, field_checks };
        Ok((plan, infos))
    }
}

/// Returns a slot's value if its message is present and the field is not on the wire.
fn initial_value(info: &FieldInfo, slot: u32) -> Value<'static> {
    match info.kind {
        Kind::Map(..) => Value::Map(List::empty(slot)),
        Kind::Repeated(_) => Value::List(List::empty(slot)),
        _ if info.presence == Presence::Implicit || info.is_wrapped => Value::Default,
        _ => Value::Absent,
    }
}

fn index(position: usize, what: &'static str) -> Result<u32, CompileError> {
    let limit = NO_SLOT - 1;
    u32::try_from(position)
        .ok()
        .filter(|position| *position <= limit)
        .ok_or(CompileError::TooLarge { what, limit: usize::try_from(limit).unwrap_or(usize::MAX) })
}

/// A place in the plan that is not built yet.
struct Place {
    message: MessageDescriptor,
    wanted: Wanted,
    /// Whether the rules apply here.
    ruled: bool,
}

/// The checks of a message type: the node's, and the fields' by number.
struct Listed {
    node: u32,
    fields: HashMap<u32, u32>,
}

/// Builds the plan. Places are numbered when first named and built in that order from a queue, so types may nest to any
/// depth.
#[derive(Default)]
struct Builder {
    queue: VecDeque<Place>,
    places: usize,
    shared: HashMap<(String, bool), u32>,
    enums: Vec<EnumTable>,
    enum_index: HashMap<String, u32>,
    node_checks: Vec<NodeChecks>,
    field_checks: Vec<FieldCheck>,
    checks: HashMap<String, Listed>,
}

impl Builder {
    /// Adds the checks of a message type.
    fn enlist(&mut self, message: String, checks: Checks) -> Result<(), CompileError> {
        let node = index(self.node_checks.len(), "message types with rules")?;
        self.node_checks.push(checks.node);
        let mut fields = HashMap::with_capacity(checks.fields.len());
        for (number, check) in checks.fields {
            fields.insert(number, index(self.field_checks.len(), "fields with rules")?);
            self.field_checks.push(check);
        }
        self.checks.insert(message, Listed { node, fields });
        Ok(())
    }

    fn place(&mut self, message: &MessageDescriptor, wanted: Wanted, ruled: bool) -> Result<u32, CompileError> {
        let plain = wanted.below.is_empty();
        let shared = (message.full_name().to_owned(), ruled);
        if plain && let Some(&known) = self.shared.get(&shared) {
            return Ok(known);
        }
        let place = index(self.places, "message types")?;
        self.places += 1;
        if plain {
            self.shared.insert(shared, place);
        }
        self.queue.push_back(Place { message: message.clone(), wanted, ruled });
        Ok(place)
    }

    /// Returns the check of a field, and whether the rules apply to the message in it.
    fn check(&self, place: &Place, number: u32) -> (u32, bool) {
        if place.message.is_map_entry() {
            // The map's own check comes first. Rules apply to its values' messages if they apply to the map.
            return (NO_CHECK, place.ruled);
        }
        let listed = self.checks.get(place.message.full_name()).filter(|_| place.ruled);
        let Some(&check) = listed.and_then(|listed| listed.fields.get(&number)) else { return (NO_CHECK, false) };
        let enters = usize::try_from(check).ok().and_then(|check| self.field_checks.get(check));
        (check, enters.is_some_and(|check| check.enters))
    }

    fn node(&mut self, mut place: Place) -> Result<Node, CompileError> {
        let message = &place.message.clone();
        let wanted = &mut std::mem::take(&mut place.wanted);
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
            let (check, ruled) = self.check(&place, shape.number);
            let mut field = FieldPlan {
                number: shape.number,
                op: Op::of(shape),
                repeated: shape.is_list,
                packable: shape.is_list && !matches!(Op::of(shape).wire(), WireType::Delimited | WireType::StartGroup),
                slot: child.slot.map_or(NO_SLOT, |(slot, _)| slot),
                target: self.target(shape, child, ruled)?,
                required: 0,
                clears,
                check,
                // Only the key names the value of a map's entry: `counts["k"]`.
                name: if message.is_map_entry() && shape.number == MAP_VALUE { "" } else { &shape.name }.into(),
            };
            if shape.presence == Presence::Required {
                // Bits are assigned in order, so this is the lowest free one.
                let bit = required.trailing_ones();
                field.required = 1_u64.checked_shl(bit).ok_or_else(|| CompileError::TooManyRequired {
                    message: message.full_name().to_owned(),
                    limit: MAX_REQUIRED,
                })?;
                required |= field.required;
            }
            fields.push(field);
        }
        let check = self.checks.get(message.full_name()).filter(|_| place.ruled).map_or(NO_CHECK, |listed| listed.node);
        Ok(Node::new(message, fields, required, initial, check))
    }

    fn target(&mut self, shape: &Shape, mut wanted: Wanted, ruled: bool) -> Result<u32, CompileError> {
        wanted.slot = None;
        match &shape.kind {
            ReflectKind::Message(message) => self.place(message, wanted, ruled),
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
