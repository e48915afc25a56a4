//! Finds the schema of a record's value.

use tollgate_contract::frame::{Frame, FrameFault, VALUE_HEADER};

use crate::batch::{Record, RecordBatch};

/// Returns the frame of a record's value: its schema id is in the value itself, or in a header.
pub fn frame<'b>(batch: &'b RecordBatch, record: &Record, value: &'b [u8]) -> Result<Frame<'b>, FrameFault> {
    match batch.header(record, VALUE_HEADER) {
        Some(header) => Frame::from_header(header, value),
        None => Frame::parse(value),
    }
}
