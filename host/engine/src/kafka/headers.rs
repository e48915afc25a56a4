//! A record's headers as bytes.
//!
//! The broker accepts header names that are not UTF-8. rdkafka 0.39 reads a name as text and panics on such a name, and
//! it accepts only text names when producing. So both directions use librdkafka's own calls here, and `clippy.toml`
//! forbids rdkafka's accessors elsewhere. librdkafka ends a name at its first NUL byte.

use std::ffi::{CStr, c_char, c_void};
use std::{ptr, slice};

use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Header, Message as _, OwnedHeaders};
use rdkafka_sys as sys;
use tollgate_decide::record::RawHeader;

/// Iterates over the headers of a record in order, including duplicates.
pub fn of<'m>(message: &'m BorrowedMessage<'_>) -> impl DoubleEndedIterator<Item = RawHeader<'m>> {
    message.headers().into_iter().flat_map(all)
}

/// Returns the value of the last header of this name, if it has one.
pub fn last<'m>(message: &'m BorrowedMessage<'_>, name: &str) -> Option<&'m [u8]> {
    of(message).rev().find(|(found, _)| *found == name.as_bytes()).and_then(|(_, value)| value)
}

/// Iterates over all headers of a list.
pub fn all(headers: &BorrowedHeaders) -> impl DoubleEndedIterator<Item = RawHeader<'_>> {
    (0..count(headers)).filter_map(|index| get(headers, index))
}

/// Appends a header.
pub fn add(list: OwnedHeaders, name: &[u8], value: Option<&[u8]>) -> OwnedHeaders {
    match std::str::from_utf8(name) {
        Ok(key) => list.insert(Header { key, value }),
        Err(_) => add_bytes(list, name, value),
    }
}

fn native(headers: &BorrowedHeaders) -> *mut sys::rd_kafka_headers_t {
    ptr::from_ref(headers).cast::<sys::rd_kafka_headers_t>().cast_mut()
}

#[allow(unsafe_code, reason = "rdkafka reads names as text and panics where they are not")]
fn count(headers: &BorrowedHeaders) -> usize {
    // SAFETY: a reference to rdkafka's `BorrowedHeaders` is the address of librdkafka's list and lives as long as the
    // list.
    unsafe { sys::rd_kafka_header_cnt(native(headers)) }
}

#[allow(unsafe_code, reason = "rdkafka reads names as text and panics where they are not")]
fn get(headers: &BorrowedHeaders, index: usize) -> Option<RawHeader<'_>> {
    let (mut name, mut value, mut size): (*const c_char, *const c_void, usize) = (ptr::null(), ptr::null(), 0);
    // SAFETY: as for `count`; librdkafka fills all three out parameters, or returns an error and leaves them unchanged.
    let code = unsafe { sys::rd_kafka_header_get_all(native(headers), index, &mut name, &mut value, &mut size) };
    if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
        return None;
    }
    // SAFETY: the name ends with a NUL, and the value has `size` bytes; both belong to the list and live as long as it.
    unsafe {
        let value = (!value.is_null()).then(|| slice::from_raw_parts(value.cast::<u8>(), size));
        Some((CStr::from_ptr(name).to_bytes(), value))
    }
}

#[cold]
#[allow(unsafe_code, reason = "rdkafka takes names as text only")]
fn add_bytes(list: OwnedHeaders, name: &[u8], value: Option<&[u8]>) -> OwnedHeaders {
    let (at, size) = value.map_or((ptr::null(), 0), |value| (value.as_ptr(), value.len()));
    let (name_size, size) = (isize::try_from(name.len()), isize::try_from(size));
    // A slice has at most `isize::MAX` bytes.
    let (Ok(name_size), Ok(size)) = (name_size, size) else { return list };
    // SAFETY: we own the list exclusively, and librdkafka copies name and value. Its only error is a read-only list,
    // which a list created by `OwnedHeaders::new` is not.
    unsafe {
        sys::rd_kafka_header_add(native(list.as_borrowed()), name.as_ptr().cast(), name_size, at.cast(), size);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_come_back_byte_for_byte() {
        let given: [RawHeader<'static>; 5] = [
            (b"trace", Some(b"abc")),
            (b"caf\xe9\xff", Some(b"\x00\xff")),
            (b"\xc3", None),
            (b"", Some(b"")),
            (b"trace", None),
        ];
        let list = given.iter().fold(OwnedHeaders::new(), |list, (name, value)| add(list, name, *value));
        assert_eq!(all(list.as_borrowed()).collect::<Vec<_>>(), given);
        assert_eq!(all(list.as_borrowed()).next_back(), Some(given[4]));
    }
}
