//! The values that a check extracts, borrowed from the payload.

use std::borrow::Cow;

use crate::Text;

/// The position of a wanted field in the list passed to [`crate::Contract::compile`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub usize);

/// A handle to the elements of a repeated or map field, or to the parts of a split message; read it through [`Fields`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List {
    slot: u32,
    len: u32,
}

impl List {
    pub(crate) const fn empty(slot: u32) -> Self {
        Self { slot, len: 0 }
    }

    /// Returns the number of elements; map entries with equal keys are counted separately.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.len).unwrap_or(usize::MAX)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// One field's value.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Value<'a> {
    /// The field is not set: a field with presence that is not on the wire, an unset or replaced oneof member, or
    /// anything below an absent message.
    #[default]
    Absent,
    /// A field without presence (proto3) that is not on the wire; [`crate::FieldInfo::default_value`] is its value.
    Default,
    Bool(bool),
    I32(i32),
    I64(i64),
    U32(u32),
    U64(u64),
    F32(f32),
    F64(f64),
    Str(Text<'a>),
    Bytes(&'a [u8]),
    Enum(i32),
    /// A message's wire bytes.
    Message(&'a [u8]),
    /// A singular message (or a map's value) that the producer wrote in several parts; [`Fields::joined`] merges them.
    Split(List),
    /// A repeated field; [`Fields::items`] reads it.
    List(List),
    /// A map; [`Fields::entries`] reads it.
    Map(List),
}

#[derive(Debug, Clone, Copy)]
struct Item<'a> {
    slot: u32,
    key: Value<'a>,
    value: Value<'a>,
}

/// The wanted fields of one payload. Keep one and reuse it: once warm, a check allocates nothing.
#[derive(Debug, Default)]
pub struct Fields<'a> {
    slots: Vec<Value<'a>>,
    /// The elements of all lists in wire order. Payloads have few lists, so filtering by slot beats a container per
    /// list.
    items: Vec<Item<'a>>,
    /// The number of split messages so far.
    splits: u32,
}

impl<'a> Fields<'a> {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Clears the values and keeps the memory. A check calls this itself.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.items.clear();
        self.splits = 0;
    }

    /// Returns an empty value with the same memory, for payloads with another lifetime (the next batch's).
    #[must_use]
    pub fn recycle<'b>(mut self) -> Fields<'b> {
        self.clear();
        // The vectors are empty, so nothing is converted; collecting in place keeps their allocations.
        Fields {
            slots: self.slots.into_iter().map(|_| Value::Absent).collect(),
            items: self.items.into_iter().map(|_| Item { slot: 0, key: Value::Absent, value: Value::Absent }).collect(),
            splits: 0,
        }
    }

    /// Returns the value of a slot; [`Value::Absent`] for a slot that the contract does not have.
    #[inline]
    #[must_use]
    pub fn get(&self, slot: Slot) -> Value<'a> {
        self.slots.get(slot.0).copied().unwrap_or_default()
    }

    /// Like [`Fields::get`], by reference: a reader that matches on it loads only what its arm needs.
    #[inline]
    #[must_use]
    pub fn get_ref(&self, slot: Slot) -> &Value<'a> {
        self.slots.get(slot.0).unwrap_or(&Value::Absent)
    }

    /// Returns a message's bytes, or `None` if it is absent. Parts are joined.
    #[must_use]
    pub fn message(&self, slot: Slot) -> Option<Cow<'a, [u8]>> {
        self.joined(self.get(slot))
    }

    /// Returns the bytes of a message value from a slot, a list or a map; `None` for other values. Parts are
    /// concatenated, which is how Protobuf merges them.
    #[must_use]
    pub fn joined(&self, value: Value<'a>) -> Option<Cow<'a, [u8]>> {
        match value {
            Value::Message(bytes) => Some(Cow::Borrowed(bytes)),
            Value::Split(parts) => {
                let mut joined = Vec::new();
                for part in self.items(parts) {
                    if let Value::Message(bytes) = part {
                        joined.extend_from_slice(bytes);
                    }
                }
                Some(Cow::Owned(joined))
            }
            _ => None,
        }
    }

    /// Iterates over the elements of a repeated field in wire order.
    pub fn items(&self, list: List) -> impl Iterator<Item = Value<'a>> + '_ {
        self.items.iter().filter(move |item| item.slot == list.slot).map(|item| item.value)
    }

    /// Iterates over the entries of a map in wire order. Keys may repeat; of equal keys the last entry counts.
    pub fn entries(&self, map: List) -> impl Iterator<Item = (Value<'a>, Value<'a>)> + '_ {
        self.items.iter().filter(move |item| item.slot == map.slot).map(|item| (item.key, item.value))
    }

    /// Sets every slot to its value in an empty payload.
    #[inline]
    pub(crate) fn reset(&mut self, initial: &[Value<'static>]) {
        self.clear();
        self.slots.extend_from_slice(initial);
    }

    #[inline(always)]
    pub(crate) fn set(&mut self, slot: u32, value: Value<'a>) {
        if let Some(place) = self.place(slot) {
            *place = value;
        }
    }

    /// Sets a slot that is still absent, because its message is present now.
    pub(crate) fn set_if_absent(&mut self, slot: u32, value: Value<'a>) {
        if let Some(place @ Value::Absent) = self.place(slot) {
            *place = value;
        }
    }

    /// Adds an element to a repeated field, or an entry to a map (`key` is absent for the former).
    pub(crate) fn push(&mut self, slot: u32, key: Value<'a>, value: Value<'a>) {
        self.items.push(Item { slot, key, value });
        if let Some(Value::List(list) | Value::Map(list)) = self.place(slot) {
            list.len = list.len.saturating_add(1);
        }
    }

    /// Sets a singular message, or adds a part to it if it is there already.
    pub(crate) fn merge_message(&mut self, slot: u32, bytes: &'a [u8]) {
        let merged = match self.place(slot).copied() {
            Some(before) => self.join(before, bytes),
            None => return,
        };
        self.set(slot, merged);
    }

    /// Returns a message value with one more part.
    pub(crate) fn join(&mut self, before: Value<'a>, bytes: &'a [u8]) -> Value<'a> {
        let mut list = match before {
            Value::Split(list) => list,
            Value::Message(first) => {
                // Part lists are numbered downwards from the maximum, so that they do not collide with slots. A counter
                // is needed, because items are removed when a oneof changes.
                let slot = u32::MAX - self.splits;
                self.splits += 1;
                self.items.push(Item { slot, key: Value::Absent, value: Value::Message(first) });
                List { slot, len: 1 }
            }
            _ => return Value::Message(bytes),
        };
        self.items.push(Item { slot: list.slot, key: Value::Absent, value: Value::Message(bytes) });
        list.len = list.len.saturating_add(1);
        Value::Split(list)
    }

    /// Unsets a slot whose oneof has another member now.
    pub(crate) fn unset(&mut self, slot: u32) {
        if let Some(&mut (Value::List(list) | Value::Map(list) | Value::Split(list))) = self.place(slot) {
            self.items.retain(|item| item.slot != list.slot);
        }
        self.set(slot, Value::Absent);
    }

    /// Copies the value of the first slot to a second slot of the same field.
    pub(crate) fn copy(&mut self, from: u32, to: u32) {
        if let Some(&mut value) = self.place(from) {
            self.set(to, value);
        }
    }

    /// Sets a oneof's slot to a branch if that branch is set.
    pub(crate) fn choose(&mut self, branch: u32, oneof: u32, number: i32) {
        if self.place(branch).is_some_and(|value| *value != Value::Absent) {
            self.set(oneof, Value::Enum(number));
        }
    }

    #[inline(always)]
    fn place(&mut self, slot: u32) -> Option<&mut Value<'a>> {
        self.slots.get_mut(usize::try_from(slot).ok()?)
    }
}
