//! The working memory and the results of the contract stage.

use std::collections::BTreeMap;
use std::sync::Arc;

use tollgate_contract::frame::{Frame, SchemaId};
use tollgate_contract::{Contract, Fields, Notes, Rejection};

use super::notice::Notice;
use super::passed::Passed;
use super::verdict::Verdict;
use crate::dead_letter::{Reason, Stage};
use crate::postgres::{Rows, Staged};
use crate::schemas::{ResolveError, Resolver, Schemas};

/// The number of events of deprecated versions, by type and by index among the type's deprecated versions.
pub(super) type Deprecated = BTreeMap<(usize, usize), u64>;

/// The stage's working memory, reused from record to record.
pub(super) struct Workbench<'d> {
    /// A payload's Protobuf form, until the next record. It is used for a payload that was transcoded from JSON, that is
    /// part of a change event, or whose unknown enum numbers were replaced by fallbacks.
    pub json: &'d mut Vec<u8>,
    /// The buffer in which `json` is rebuilt.
    pub spare: &'d mut Vec<u8>,
    pub fields: &'d mut Fields<'static>,
    /// The rows, one for each table.
    pub rows: &'d mut [Rows],
    /// `None` unless values are framed.
    pub frames: Option<Frames<'d>>,
    pub deprecated: &'d mut Deprecated,
    pub notes: &'d mut Notes,
    /// The Protobuf form of an envelope that was JSON, and its fields.
    pub outer: &'d mut Vec<u8>,
    pub outer_fields: &'d mut Fields<'static>,
    pub passed: &'d mut Passed,
}

/// What turns frames into contracts.
pub(super) struct Frames<'d> {
    pub resolver: &'d mut Resolver,
    pub schemas: &'d Schemas,
}

impl Frames<'_> {
    pub(super) fn resolve<'a>(&mut self, frame: &Frame<'a>) -> Result<(Arc<Contract>, &'a [u8]), ResolveError> {
        self.resolver.resolve(self.schemas, frame)
    }
}

/// A record that became an event.
pub(super) struct Admitted<'a> {
    /// The message's bytes, or `None` if they are in [`Workbench::json`].
    pub value: Option<&'a [u8]>,
    /// The index in [`crate::gate::Gate::types`].
    pub kind: usize,
    /// The registry's id of its schema, or 0.
    pub schema: u32,
    pub staged: Option<Staged>,
    /// The violations that were accepted.
    pub notice: Option<Box<Notice>>,
}

impl<'a> Admitted<'a> {
    pub(crate) fn payload<'p>(&self, json: &'p [u8]) -> &'p [u8]
    where
        'a: 'p,
    {
        self.value.unwrap_or(json)
    }
}

/// A value with its frame removed, if it had one.
pub(super) struct Unframed<'a> {
    pub schema: Option<SchemaId>,
    /// The contract with which it was written.
    pub writer: Option<Arc<Contract>>,
    /// The message's bytes.
    pub payload: &'a [u8],
}

/// The reason why a record did not become an event.
pub(super) enum Refused {
    /// The record's type, if it could be determined, and its verdict.
    Verdict(Option<usize>, Verdict),
    /// The change deletes a row of this type. The row's key is staged, or is `None` if the record's key names it.
    Deleted(usize, Option<Staged>),
    /// Its schema has to be read first.
    Missing(SchemaId),
}

impl From<Box<Reason>> for Refused {
    fn from(reason: Box<Reason>) -> Refused {
        Refused::Verdict(None, Verdict::Dead(reason))
    }
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Refused {
        Reason::refused(Stage::Contract, rejection).into()
    }
}

impl Refused {
    pub(crate) fn of(self, kind: usize) -> Refused {
        match self {
            Refused::Verdict(_, verdict) => Refused::Verdict(Some(kind), verdict),
            Refused::Deleted(..) | Refused::Missing(_) => self,
        }
    }
}
