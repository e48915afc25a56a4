//! A field or an extension. Both have a number in a message, a type, a cardinality and options.

use prost_reflect::{
    Cardinality, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value,
};
use prost_types::FieldDescriptorProto;

use super::element::Element;

/// The common properties of fields and extensions. The methods are those of the descriptors.
pub(super) trait Slot: Element {
    fn kind(&self) -> Kind;
    fn is_list(&self) -> bool;
    fn is_map(&self) -> bool;
    fn is_group(&self) -> bool;
    fn is_packed(&self) -> bool;
    fn is_required(&self) -> bool;
    fn supports_presence(&self) -> bool;
    /// Returns whether it is in a oneof of the `.proto` file. Extensions never are.
    fn in_oneof(&self) -> bool;
    fn default_value(&self) -> Value;
    fn proto(&self) -> &FieldDescriptorProto;
    fn options(&self) -> DynamicMessage;
    /// Returns the message in whose body it is declared. For an extension this is not the message that it extends.
    fn scope(&self) -> Option<MessageDescriptor>;
}

macro_rules! slot {
    ($($kind:ident $scope:expr, $in_oneof:expr;)*) => {
        $(impl Slot for $kind {
            fn kind(&self) -> Kind {
                $kind::kind(self)
            }
            fn is_list(&self) -> bool {
                $kind::is_list(self)
            }
            fn is_map(&self) -> bool {
                $kind::is_map(self)
            }
            fn is_group(&self) -> bool {
                $kind::is_group(self)
            }
            fn is_packed(&self) -> bool {
                $kind::is_packed(self)
            }
            fn is_required(&self) -> bool {
                self.cardinality() == Cardinality::Required
            }
            fn supports_presence(&self) -> bool {
                $kind::supports_presence(self)
            }
            fn in_oneof(&self) -> bool {
                let in_oneof: fn(&$kind) -> bool = $in_oneof;
                in_oneof(self)
            }
            fn default_value(&self) -> Value {
                $kind::default_value(self)
            }
            fn proto(&self) -> &FieldDescriptorProto {
                self.field_descriptor_proto()
            }
            fn options(&self) -> DynamicMessage {
                $kind::options(self)
            }
            fn scope(&self) -> Option<MessageDescriptor> {
                let scope: fn(&$kind) -> Option<MessageDescriptor> = $scope;
                scope(self)
            }
        })*
    };
}

slot! {
    FieldDescriptor |it| Some(it.parent_message().clone()),
        |it| it.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic());
    ExtensionDescriptor |it| it.parent_message(), |_| false;
}
