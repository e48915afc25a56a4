//! The events of one call of the guest.

/// One batch as passed from the host; transform.wit documents its layout.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) schema_id: u32,
    pub(crate) batch_time: i64,
    pub(crate) seed: u64,
    pub(crate) arena: Vec<u8>,
    pub(crate) offsets: Vec<u32>,
    pub(crate) flags: Vec<u8>,
    pub(crate) record_offsets: Vec<i64>,
    pub(crate) timestamps: Vec<i64>,
}
