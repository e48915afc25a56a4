//! The maximum memory of a pipeline's process, computed from its settings alone.

use serde::Serialize;
use tollgate_config::Pipeline;
use tollgate_config::limits;
use tollgate_engine::kafka::client::Prefetch;

/// The parts of the memory in bytes. The settings do not determine the memory of a transform that emits more than it
/// receives; see docs/operations.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    pub bytes: usize,
    /// The memory without any events: code, compiled components, connections.
    pub program: usize,
    /// The records that librdkafka has fetched but not delivered. It is assumed that there are as many brokers as the
    /// pipeline names.
    pub ahead: usize,
    /// The records of all batches: those that fill, wait, or are in progress.
    pub batches: usize,
    /// The worker buffers of the lanes, which hold the results of the batches in work.
    pub work: usize,
    /// The instances of transforms.
    pub transforms: usize,
}

impl Memory {
    /// Computes the memory without instances of transforms.
    pub fn of(pipeline: &Pipeline) -> Memory {
        let lanes = pipeline.lanes;
        let brokers = pipeline.source.brokers.split(',').count();
        let Prefetch { queue, response } = Prefetch::of(pipeline);
        // A batch may exceed its limit by one event.
        let batch = pipeline.delivery.batch.max_bytes.saturating_add(pipeline.contract.policies.max_bytes);
        let all = batch.saturating_mul(limits::LANE_BATCHES).saturating_mul(lanes);
        let bound = pipeline.backpressure.most_bytes();
        let program = limits::PROGRAM_BYTES;
        // librdkafka frees a fetch response only with its last record, and the next one arrives meanwhile.
        let ahead = queue.saturating_add(response.saturating_mul(2 * brokers));
        let batches = all.min(bound.saturating_add(pipeline.contract.policies.max_bytes));
        let work = batch.saturating_mul(limits::LANE_COPIES).saturating_mul(lanes);
        let bytes = [ahead, batches, work].iter().fold(program, |sum, part| sum.saturating_add(*part));
        Memory { bytes, program, ahead, batches, work, transforms: 0 }
    }

    /// Adds the instances of a transform with at most `limit` bytes (`limits.memory`). A lane runs one instance at a
    /// time.
    pub fn instances(&mut self, lanes: usize, limit: u64) {
        let transforms = usize::try_from(limit).unwrap_or(usize::MAX).saturating_mul(lanes).max(self.transforms);
        self.bytes = (self.bytes - self.transforms).saturating_add(transforms);
        self.transforms = transforms;
    }

    /// Formats the memory as one line, in MiB.
    pub fn to_text(self) -> String {
        let Memory { bytes, program, ahead, batches, work, transforms } = self;
        let mib = |bytes: usize| bytes.div_ceil(1 << 20);
        format!(
            "memory: at most about {} MiB: {} program, {} fetched ahead, {} batches, {} worker buffers, {} transform instances",
            mib(bytes),
            mib(program),
            mib(ahead),
            mib(batches),
            mib(work),
            mib(transforms)
        )
    }
}
