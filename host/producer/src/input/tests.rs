use prost_reflect::DescriptorPool;

use super::*;

const PROTO: &str = r#"
    syntax = "proto3";
    package t.v1;
    import "google/protobuf/timestamp.proto";
    import "google/protobuf/wrappers.proto";
    message Event {
        string id = 1; int32 count = 2; uint64 big = 3; double price = 4; bool paid = 5; bytes raw = 6; State state = 7;
        google.protobuf.Timestamp at = 8; repeated string tags = 9; Address address = 10; google.protobuf.Int64Value maybe = 11;
    }
    message Address { string city = 1; sint32 floor = 2; }
    enum State { STATE_UNSPECIFIED = 0; STATE_DONE = 1; }
"#;

fn message() -> MessageDescriptor {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("event.proto"), PROTO).unwrap();
    let pool: DescriptorPool = protox::Compiler::new([folder.path()])
        .unwrap()
        .include_imports(true)
        .open_file("event.proto")
        .unwrap()
        .descriptor_pool();
    pool.get_message_by_name("t.v1.Event").unwrap()
}

/// The line, the original, and the payload or the error.
type Found = (u64, Vec<u8>, Result<Vec<u8>, String>);

/// Returns everything that the thread hands over: items as (line, original, payload or code), and the final message.
fn read_all(inputs: &[(&[u8], Format)], most: usize, skip: u64) -> (Vec<Found>, Option<String>) {
    let sources = inputs
        .iter()
        .map(|(bytes, format)| Source {
            name: "in".to_owned(),
            format: *format,
            delimiter: b',',
            reader: Box::new(io::Cursor::new(bytes.to_vec())),
            length: None,
        })
        .collect();
    let (messages, thread) = start(sources, Options { message: message(), most, skip }).unwrap();
    let (mut items, mut ended) = (Vec::new(), None);
    for message in messages {
        match message {
            Message::Chunk(chunk) => {
                for item in chunk.items {
                    let payload = item.body.map(|body| {
                        let (Body::Json(range) | Body::Protobuf(range)) = body;
                        chunk.bytes[range].to_vec()
                    });
                    let payload = payload.map_err(|violation| violation.to_string());
                    items.push((item.line, chunk.bytes[item.original].to_vec(), payload));
                }
            }
            Message::Unreadable(message) | Message::Wrong(message) => ended = Some(message),
        }
    }
    thread.join().unwrap();
    (items, ended)
}

fn codes(items: &[Found]) -> Vec<(u64, String)> {
    let code = |payload: &Result<Vec<u8>, String>| match payload {
        Ok(_) => "ok".to_owned(),
        Err(violation) => violation.split(':').next().unwrap().to_owned(),
    };
    items.iter().map(|(line, _, payload)| (*line, code(payload))).collect()
}

fn expect(found: &[(u64, String)], expected: &[(u64, &str)]) {
    let expected: Vec<(u64, String)> = expected.iter().map(|(line, code)| (*line, (*code).to_owned())).collect();
    assert_eq!(found, expected);
}

#[test]
fn lines_are_cut_whatever_they_hold() {
    let long = format!("{{\"id\":\"{}\"}}", "x".repeat(5_000));
    let text =
        [b"\xef\xbb\xbf{\"id\":\"a\"}\r\n\n  \n\xff\xfe\n".as_slice(), long.as_bytes(), b"\n{}\n{\"id\":\"last\"}"]
            .concat();
    let (items, ended) = read_all(&[(&text, Format::Ndjson)], 4_000, 0);
    expect(&codes(&items), &[(1, "ok"), (4, "invalid-utf8"), (5, "too-large"), (6, "ok"), (7, "ok")]);
    assert_eq!(items[0].1, b"{\"id\":\"a\"}");
    assert_eq!(items[1].1, b"\xff\xfe");
    assert_eq!(items[2].1, &long.as_bytes()[..BEGINNING]);
    assert_eq!(items[4].1, b"{\"id\":\"last\"}");
    assert_eq!(ended, None);
    // The line is exactly as long as is allowed, with and without its end.
    for end in ["", "\n", "\r\n"] {
        let text = format!("{{}}\n{}{end}", "1".repeat(4_000 - usize::from(end == "\r\n")));
        expect(&codes(&read_all(&[(text.as_bytes(), Format::Ndjson)], 4_000, 0).0), &[(1, "ok"), (2, "ok")]);
    }
}

#[test]
fn what_is_skipped_is_counted_over_all_inputs() {
    let (items, _) = read_all(&[(b"1\n\n2\n", Format::Ndjson), (b"3\n4\n", Format::Ndjson)], 100, 3);
    assert_eq!(items.iter().map(|item| item.1.clone()).collect::<Vec<_>>(), [b"4"]);
}

#[test]
fn json_that_is_not_one_object_a_line_gets_advice() {
    for text in ["[\n{}\n]", "[{}]", "{\n\"id\": 1\n}"] {
        let (items, ended) = read_all(&[(text.as_bytes(), Format::Ndjson)], 100, 0);
        assert!(items.is_empty() && ended.as_deref().unwrap_or_default().contains("jq -c"), "{text}: {ended:?}");
    }
}

#[test]
fn frames_end_where_their_length_says() {
    let big = [vec![0x90, 0x4e], vec![7; 10_000]].concat();
    let bytes = [b"\x02ab\x00".as_slice(), &big, b"\x01c"].concat();
    let (items, _) = read_all(&[(&bytes, Format::Protobuf)], 1_000, 0);
    expect(&codes(&items), &[(1, "ok"), (2, "ok"), (3, "too-large"), (4, "ok")]);
    assert_eq!(
        (items[0].1.as_slice(), items[1].1.as_slice(), items[3].1.as_slice()),
        (&b"ab"[..], &b""[..], &b"c"[..])
    );
    // The input is cut off in the payload, in the length, or has an invalid length.
    expect(&codes(&read_all(&[(b"\x01a\x05bc", Format::Protobuf)], 100, 0).0), &[(1, "ok"), (2, "frame-truncated")]);
    expect(&codes(&read_all(&[(b"\x01a\x85", Format::Protobuf)], 100, 0).0), &[(1, "ok"), (2, "frame-length")]);
    expect(&codes(&read_all(&[(&[0xff; 30], Format::Protobuf)], 100, 0).0), &[(1, "frame-length")]);
}

#[test]
fn cells_become_what_their_fields_are() {
    let text = "id,count,big,price,paid,raw,state,at,tags,address.city,address.floor,maybe\r\n\
                \"a \"\"b\"\", c\",-5,18446744073709551615,9.99,true,AAE=,STATE_DONE,2026-01-31T12:00:00Z,\"[\"\"x\"\"]\",Köln,-1,7\r\n\
                \"two\nlines\",,,,,,1,,,,,\r\n\
                c,2147483648,,,,,,,,,,\n\
                d,,,,,,,,,,\n\
                \n\
                e,,,1e3,0,,,,,,,";
    let (items, ended) = read_all(&[(text.as_bytes(), Format::Csv)], 10_000, 0);
    assert_eq!(ended, None);
    expect(&codes(&items), &[(2, "ok"), (3, "ok"), (5, "csv-value"), (6, "csv-cells"), (8, "ok")]);
    let json =
        |index: usize| -> serde_json::Value { serde_json::from_slice(items[index].2.as_ref().unwrap()).unwrap() };
    let expected = serde_json::json!({
        "id": "a \"b\", c", "count": -5, "big": 18_446_744_073_709_551_615_u64, "price": 9.99, "paid": true, "raw": "AAE=",
        "state": "STATE_DONE", "at": "2026-01-31T12:00:00Z", "tags": ["x"], "address": { "city": "Köln", "floor": -1 }, "maybe": 7
    });
    assert_eq!(json(0), expected);
    assert_eq!(json(1), serde_json::json!({ "id": "two\nlines", "state": 1 }));
    assert_eq!(json(4), serde_json::json!({ "id": "e", "price": 1_000.0, "paid": false }));
    assert_eq!(items[1].1, b"\"two\nlines\",,,,,,1,,,,,", "the original is kept as it stood");
    assert!(items[2].2.as_ref().unwrap_err().contains("count: this is not a 32-bit integer"));
}

#[test]
fn a_header_that_does_not_fit_names_every_column() {
    let (items, ended) = read_all(&[(b"id,cuont,address,address.city,id\n1\n", Format::Csv)], 100, 0);
    let said = ended.unwrap();
    for part in ["column 2", "did you mean count?"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(items.is_empty());
    let said = read_all(&[(b"id,address,address.city,id\n1\n", Format::Csv)], 100, 0).1.unwrap();
    for part in ["address and address.city", "id appears twice"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn quotes_that_stay_open_cost_one_event_not_the_file() {
    let rows: String = (0..200).map(|n| format!("{n},1\n")).collect();
    let text = format!("id,count\na,1\n\"open,1\n{rows}");
    let (items, ended) = read_all(&[(text.as_bytes(), Format::Csv)], 300, 0);
    assert_eq!(ended, None);
    let bad: Vec<_> = items.iter().filter(|item| item.2.is_err()).collect();
    assert_eq!((bad.len(), bad[0].0), (1, 3));
    assert!(bad[0].2.as_ref().unwrap_err().contains("quotes"));
    assert!(items.len() > 100, "the rows behind it are read");
    let (items, _) = read_all(&[(b"id\na\n\"b", Format::Csv)], 300, 0);
    expect(&codes(&items), &[(2, "ok"), (3, "csv-quotes")]);
}
