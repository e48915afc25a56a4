use prost_reflect::DescriptorPool;

/// The message types that a pipeline names.
#[derive(Debug, Clone)]
pub struct Pools {
    /// The pool of `contract.protos` or `contract.descriptor_set`.
    pub own: DescriptorPool,
    /// The pool of the envelope's message, if the envelope is a built-in one. It is separate because the pipeline's own
    /// pool may contain other versions of the files that the envelope imports.
    pub outer: Option<DescriptorPool>,
}

impl Pools {
    /// Returns the pool that has the envelope's message.
    pub fn outer(&self) -> &DescriptorPool {
        self.outer.as_ref().unwrap_or(&self.own)
    }
}
