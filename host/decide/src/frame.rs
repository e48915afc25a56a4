//! Where a record's value names its schema.

use tollgate_contract::frame::{Frame, FrameFault, VALUE_HEADER};

use crate::batch::{Record, RecordBatch};

/// The frame of a record's value: its schema in the value itself, or in a header.
pub fn frame<'b>(batch: &'b RecordBatch, record: &Record, value: &'b [u8]) -> Result<Frame<'b>, FrameFault> {
    match batch.header(record, VALUE_HEADER) {
        Some(header) => Frame::from_header(header, value),
        None => Frame::parse(value),
    }
}
