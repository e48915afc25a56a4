//! The command that resumes after a halt.

use std::path::Path;

use crate::position::{Epoch, Partition};
use crate::progress::Halt;
use crate::progress::halts;
use tollgate_config::Pipeline;

/// Returns the halt of a partition whose two sides disagree, with the command that resumes it. `epoch` is 0 if the
/// takeover itself is rejected.
pub fn halt(pipeline: &Pipeline, partition: Partition, epoch: Epoch, halt: &Halt) -> halts::Halt {
    let advice = of(&pipeline.file, partition, halt);
    let message = match halt.concerns_pipeline() {
        true => format!("{halt}; {advice}"),
        false => format!("partition {partition} of {} cannot continue: {halt}; {advice}", pipeline.source.topic),
    };
    halts::Halt { partition, code: halt.code().to_owned(), offset: halt.offset(), epoch, message }
}

/// Returns what an operator can do about a halt of this partition. The command first shows what would be skipped or
/// repeated.
fn of(file: &Path, partition: Partition, halt: &Halt) -> String {
    let file = file.display();
    let adopt = |from: &str| format!("`tollgate offsets adopt {file} --partition {partition} --from {from}`");
    match halt {
        Halt::NoProgress { group } => format!("to continue from {group}, stop the pipeline: {}", adopt("group")),
        Halt::NoGroupOffset { row } => format!("to continue from {row}, stop the pipeline: {}", adopt("progress")),
        Halt::GroupMoved { group, next: row, .. }
        | Halt::ForeignOffset { group, row, .. }
        | Halt::CopiedToken { group, token: row } => {
            let (progress, moved) = (adopt("progress"), adopt("group"));
            format!(
                "stop the pipeline; to continue from {row}, where the rows are: {progress}; to continue from {group}: {moved}"
            )
        }
        Halt::OtherPipeline { .. } => {
            format!("give each pipeline a group_id of its own; if this pipeline was renamed: {}", adopt("group"))
        }
        Halt::NewerToken { .. } => "start the newer release".to_owned(),
        Halt::OtherGroup { was, .. } => format!(
            "set source.group_id to {was}, or stop the pipeline and continue from the rows' offset in the new group: {}",
            adopt("progress")
        ),
        Halt::OtherCluster { .. } => format!(
            "set source.brokers to the former cluster, or stop the pipeline; if the group's offsets are right on this one: \
             {}; if there are none, to begin at source.start: {}",
            adopt("group"),
            adopt("start")
        ),
        Halt::TopicRecreated { .. } => {
            format!("stop the pipeline; to read the new topic from source.start: {}", adopt("start"))
        }
        Halt::NothingCommitted => {
            "set source.group_id to the group that this pipeline should continue, or source.start to earliest or latest"
                .to_owned()
        }
    }
}
