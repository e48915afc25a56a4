//! A compiled contract: message type, policies, plan, and digest.

use prost_reflect::{DescriptorPool, MessageDescriptor};

use crate::check::Skew;
use crate::error::near_names;
use crate::json::Coercions;
use crate::plan::Plan;
use crate::rules::Rules;
use crate::{CompileError, FieldInfo, FieldPath, Kind, Policies, Slot, UnknownEnums, digest};

/// A compiled message type with its policies. Immutable; share it in an `Arc`.
pub struct Contract {
    pub(crate) message: MessageDescriptor,
    pub(crate) policies: Policies,
    pub(crate) plan: Plan,
    pub(crate) rules: Option<Rules>,
    /// For each enum of the plan, the number that replaces unknown ones.
    pub(crate) fallbacks: Vec<Option<i32>>,
    pub(crate) skews: Vec<Skew>,
    pub(crate) coercions: Option<Coercions>,
    infos: Vec<FieldInfo>,
    digest: [u8; 32],
}

impl Contract {
    /// Compiles the message type with this full name. `fields` are the fields whose values [`Contract::check`] keeps,
    /// one slot each in this order; a field may be listed twice.
    ///
    /// # Errors
    /// Fails for a name that does not exist (the error lists similar names), a path through a list, map or scalar, a
    /// rule or a policy that does not fit its field, a rule that does not compile, or a schema beyond the plan's
    /// limits.
    pub fn compile(
        pool: &DescriptorPool,
        message: &str,
        policies: Policies,
        fields: &[FieldPath],
    ) -> Result<Self, CompileError> {
        let limit = Policies::MAX_RECURSION;
        if !(1..=limit).contains(&policies.recursion_limit) {
            return Err(CompileError::RecursionLimit { given: policies.recursion_limit, limit });
        }
        let descriptor = pool.get_message_by_name(message).ok_or_else(|| CompileError::UnknownMessage {
            name: message.to_owned(),
            near: near_names(
                message,
                pool.all_messages().filter(|near| !near.is_map_entry()).map(|near| near.full_name().to_owned()),
            ),
        })?;
        let rules = Rules::compile(&descriptor)?;
        let clocks = policies.clock_skew.iter().map(|skew| skew.field.clone());
        let paths: Vec<FieldPath> = fields.iter().cloned().chain(clocks).collect();
        let (plan, mut infos) = Plan::compile(&descriptor, &paths, rules.as_ref())?;
        let clocks = infos.split_off(fields.len());
        let slots = (fields.len()..).map(Slot);
        let skews = policies.clock_skew.iter().zip(slots.zip(&clocks));
        let skews = skews.map(|(skew, (slot, info))| Skew::compile(skew, slot, info)).collect::<Result<_, _>>()?;
        let coercions = Coercions::compile(&descriptor, &policies.coerce)?;
        let fallbacks = fallbacks(&plan, &policies, &descriptor)?;
        let digest = digest::of(&descriptor, &policies, rules.as_ref().map_or("", Rules::canonical));
        Ok(Self { message: descriptor, policies, plan, rules, fallbacks, skews, coercions, infos, digest })
    }

    #[must_use]
    pub fn message(&self) -> &MessageDescriptor {
        &self.message
    }

    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Returns what is known about a wanted field.
    ///
    /// # Panics
    /// If the contract was compiled without this slot: a slot is valid only for its own contract.
    #[must_use]
    pub fn field(&self, slot: Slot) -> &FieldInfo {
        &self.infos[slot.0]
    }

    /// Iterates over the wanted fields in slot order.
    #[must_use]
    pub fn fields(&self) -> &[FieldInfo] {
        &self.infos
    }

    /// Returns the declared name of an enum field's number (for lists and maps, of an element's or a value's), or of a
    /// oneof's branch.
    #[must_use]
    pub fn enum_name(&self, slot: Slot, number: i32) -> Option<&str> {
        fn table(kind: &Kind) -> Option<&crate::EnumTable> {
            if let Kind::Repeated(kind) | Kind::Map(_, kind) = kind {
                return table(kind);
            }
            if let Kind::Enum(table) | Kind::Oneof(table) = kind { Some(table) } else { None }
        }
        table(&self.infos.get(slot.0)?.kind)?.value_name(number)
    }

    /// Returns whether a rule compares with the current time; then [`Contract::check_at`] needs it.
    #[must_use]
    pub fn needs_clock(&self) -> bool {
        self.rules.as_ref().is_some_and(Rules::needs_clock)
    }

    /// Returns the SHA-256 of everything that decides about a payload: the types reachable from the message, its name,
    /// their rules, the policies. It excludes comments, file names, unrelated types and the wanted fields.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

/// Returns the numbers of the fallbacks' names, in the plan's order of enums.
fn fallbacks(plan: &Plan, policies: &Policies, message: &MessageDescriptor) -> Result<Vec<Option<i32>>, CompileError> {
    let UnknownEnums::Fallback(named) = &policies.unknown_enums else { return Ok(Vec::new()) };
    let mut numbers = vec![None; plan.enums.len()];
    for (name, value) in named {
        let place = plan.enums.iter().zip(&mut numbers).find(|(table, _)| table.name() == name);
        let found = place.zip(message.parent_pool().get_enum_by_name(name));
        let Some(((_, number), descriptor)) = found else {
            let near = near_names(name, plan.enums.iter().map(|table| table.name().to_owned()));
            let message = message.full_name().to_owned();
            return Err(CompileError::UnknownEnum { name: name.clone(), message, near });
        };
        *number = descriptor.get_value_by_name(value).map(|value| value.number());
        if number.is_none() {
            let near = near_names(value, descriptor.values().map(|value| value.name().to_owned()));
            return Err(CompileError::UnknownEnumValue { name: name.clone(), value: value.clone(), near });
        }
    }
    Ok(numbers)
}

impl std::fmt::Debug for Contract {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contract")
            .field("message", &self.message.full_name())
            .field("policies", &self.policies)
            .finish()
    }
}
