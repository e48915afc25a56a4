//! What a process of a pipeline has in memory at most, from its settings alone.

use serde::Serialize;
use tollgate_config::Pipeline;
use tollgate_config::limits;
use tollgate_engine::kafka::client::Ahead;

/// The parts, bytes. Which of them a transform that emits more than it takes adds to cannot be known from settings:
/// docs/operations.md tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    pub bytes: usize,
    /// What it has without events: code, compiled components, connections.
    pub program: usize,
    /// What librdkafka has fetched and not delivered, from as many brokers as the pipeline names.
    pub ahead: usize,
    /// The records of all batches, those that fill, wait, and are in work.
    pub batches: usize,
    /// What lanes make of the batches that they have in work.
    pub work: usize,
    /// Instances of transforms.
    pub transforms: usize,
}

impl Memory {
    /// Without instances of transforms.
    pub fn of(pipeline: &Pipeline) -> Memory {
        let lanes = pipeline.lanes;
        let brokers = pipeline.source.brokers.split(',').count();
        let Ahead { queue, response } = Ahead::of(pipeline);
        // A batch is full when an event has filled it.
        let batch = pipeline.delivery.batch.max_bytes.saturating_add(pipeline.contract.policies.max_bytes);
        let all = batch.saturating_mul(limits::LANE_BATCHES).saturating_mul(lanes);
        let bound = pipeline.backpressure.most_bytes();
        let program = limits::PROGRAM_BYTES;
        // An answer is freed when its last record is; the next one arrives meanwhile.
        let ahead = queue.saturating_add(response.saturating_mul(2 * brokers));
        let batches = all.min(bound.saturating_add(pipeline.contract.policies.max_bytes));
        let work = batch.saturating_mul(limits::LANE_COPIES).saturating_mul(lanes);
        let bytes = [ahead, batches, work].iter().fold(program, |sum, part| sum.saturating_add(*part));
        Memory { bytes, program, ahead, batches, work, transforms: 0 }
    }

    /// A transform may have `limit` bytes (`limits.memory`); a lane runs one at a time.
    pub fn instances(&mut self, lanes: usize, limit: u64) {
        let transforms = usize::try_from(limit).unwrap_or(usize::MAX).saturating_mul(lanes).max(self.transforms);
        self.bytes = (self.bytes - self.transforms).saturating_add(transforms);
        self.transforms = transforms;
    }

    /// One line, in MiB.
    pub fn to_text(self) -> String {
        let Memory { bytes, program, ahead, batches, work, transforms } = self;
        let mib = |bytes: usize| bytes.div_ceil(1 << 20);
        format!(
            "memory: at most about {} MiB: {} the program, {} fetched ahead, {} batches, {} the lanes' work on them, {} \
             instances of transforms",
            mib(bytes),
            mib(program),
            mib(ahead),
            mib(batches),
            mib(work),
            mib(transforms)
        )
    }
}
