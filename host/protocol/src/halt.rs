//! The states that halt a partition.

use crate::position::NextOffset;

/// A state that no run of the protocol produces. Only an operator can decide what is right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    #[error("the consumer group has committed offset {group}, but there is no progress row")]
    NoProgress { group: NextOffset },
    #[error("the progress row is at offset {row}, but the consumer group has no committed offset")]
    NoGroupOffset { row: NextOffset },
    #[error(
        "the consumer group is at offset {group}, which does not belong to the last batch [{prev}, {next}): it was moved by \
         another program"
    )]
    GroupMoved { group: NextOffset, prev: NextOffset, next: NextOffset },
    #[error(
        "the consumer group's offset {group} was not committed by Tollgate, which is at {row}{}: another program committed it",
        with_metadata(.metadata)
    )]
    ForeignOffset { group: NextOffset, row: NextOffset, metadata: String },
    #[error(
        "the consumer group's offset {group} carries the token of offset {token}: a tool copied the token, but not the offset"
    )]
    CopiedToken { group: NextOffset, token: NextOffset },
    #[error("the consumer group's offset {group} was committed by the pipeline {pipeline}, which uses the same group")]
    OtherPipeline { group: NextOffset, pipeline: String },
    #[error(
        "the consumer group's offset {group} has a token in the format {format}, which only a newer release can read"
    )]
    NewerToken { group: NextOffset, format: String },
    #[error("the progress row belongs to the consumer group {was}, but this pipeline uses {now}")]
    OtherGroup { was: String, now: String },
    #[error("the progress row belongs to the Kafka cluster {was}, but this is the cluster {now}")]
    OtherCluster { was: String, now: String },
    #[error("the topic was deleted and created again: its id was {was} and is now {now}")]
    TopicRecreated { was: String, now: String },
    #[error(
        "`start: committed` needs an offset that the consumer group has committed, but there is none for this topic"
    )]
    NothingCommitted,
}

fn with_metadata(metadata: &str) -> String {
    if metadata.is_empty() { String::new() } else { format!(" (its metadata: \"{metadata}\")") }
}

impl Halt {
    /// Returns the stable name of the kind.
    pub fn code(&self) -> &'static str {
        match self {
            Halt::NoProgress { .. } => "progress-missing",
            Halt::NoGroupOffset { .. } => "group-offset-missing",
            Halt::GroupMoved { .. } => "group-offset-moved",
            Halt::ForeignOffset { .. } => "group-offset-foreign",
            Halt::CopiedToken { .. } => "group-offset-copied",
            Halt::OtherPipeline { .. } => "group-shared",
            Halt::NewerToken { .. } => "token-newer",
            Halt::OtherGroup { .. } => "group-changed",
            Halt::OtherCluster { .. } => "cluster-changed",
            Halt::TopicRecreated { .. } => "topic-recreated",
            Halt::NothingCommitted => "nothing-committed",
        }
    }

    /// Returns the offset at which the partition would continue: the rows' position, as far as it is known.
    pub fn offset(&self) -> NextOffset {
        match *self {
            Halt::NoProgress { group }
            | Halt::OtherPipeline { group, .. }
            | Halt::NewerToken { group, .. }
            | Halt::CopiedToken { group, .. } => group,
            Halt::NoGroupOffset { row } | Halt::ForeignOffset { row, .. } => row,
            Halt::GroupMoved { next, .. } => next,
            Halt::OtherGroup { .. }
            | Halt::OtherCluster { .. }
            | Halt::TopicRecreated { .. }
            | Halt::NothingCommitted => NextOffset::new(0),
        }
    }

    /// Returns whether the halt concerns the whole pipeline with this process's configuration, rather than one
    /// partition. Another process with another configuration may be healthy.
    pub fn concerns_pipeline(&self) -> bool {
        match self {
            Halt::OtherGroup { .. }
            | Halt::OtherCluster { .. }
            | Halt::TopicRecreated { .. }
            | Halt::NothingCommitted => true,
            Halt::NoProgress { .. }
            | Halt::NoGroupOffset { .. }
            | Halt::GroupMoved { .. }
            | Halt::ForeignOffset { .. }
            | Halt::CopiedToken { .. }
            | Halt::OtherPipeline { .. }
            | Halt::NewerToken { .. } => false,
        }
    }
}
