use proptest::prelude::*;
use prost_reflect::DescriptorPool;

use super::*;

const STRICT: Indexing = Indexing::Required;

fn indexes(bytes: &[u8]) -> Result<(Vec<u32>, usize), FrameFault> {
    let frame = Frame { schema: SchemaId::Id(1), rest: bytes, payload: None };
    frame.protobuf(STRICT).map(|(indexes, rest)| (indexes.iter().collect(), rest.len()))
}

#[test]
fn prefixes_and_what_is_none() {
    let frame = Frame::parse(&[0, 0, 1, 0, 2, 0, 8, 1]).unwrap();
    assert_eq!(frame.schema, SchemaId::Id(0x0001_0002));
    assert_eq!(frame.payload(), [0, 8, 1]);
    let (path, message) = frame.protobuf(STRICT).unwrap();
    assert_eq!((path.iter().collect::<Vec<_>>(), message), (vec![0], &[8, 1][..]));
    assert_eq!(Frame::parse(&[0, 0xff, 0xff, 0xff, 0xff]).unwrap().schema, SchemaId::Id(u32::MAX));
    assert_eq!(Frame::parse(&[]), Err(FrameFault::Empty));
    assert_eq!(Frame::parse(&[8, 1, 0, 0, 0, 0]), Err(FrameFault::Magic(8)));
    for have in 0..4 {
        assert_eq!(Frame::parse(&[0; 5][..=have]), Err(FrameFault::Short { need: 4, have }));
    }
}

#[test]
fn index_arrays_of_every_form() {
    type Read = Result<(Vec<u32>, usize), FrameFault>;
    let cases: &[(&[u8], Read)] = &[
        (&[0], Ok((vec![0], 0))),
        (&[0, 9, 9], Ok((vec![0], 2))),
        (&[2, 0, 9], Ok((vec![0], 1))),
        (&[2, 2], Ok((vec![1], 0))),
        (&[4, 4, 0, 8], Ok((vec![2, 0], 1))),
        (&[6, 0, 0x80, 1, 2], Ok((vec![0, 64, 1], 0))),
        (&[2, 0xfe, 0xff, 0xff, 0xff, 0x0f], Ok((vec![0x7fff_ffff], 0))),
        (&[], Err(FrameFault::IndexesTruncated)),
        (&[2], Err(FrameFault::IndexesTruncated)),
        (&[4, 2], Err(FrameFault::IndexesTruncated)),
        (&[2, 0x80], Err(FrameFault::IndexesTruncated)),
        // Plain varints: [0] is 01 00, and an index of −1.
        (&[1, 0], Err(FrameFault::IndexNegative(-1))),
        (&[2, 1], Err(FrameFault::IndexNegative(-1))),
        (&[2, 0xff, 0xff, 0xff, 0xff, 0x0f], Err(FrameFault::IndexNegative(-0x8000_0000))),
        // Overlong zero, overlong count, 33 bits, six bytes.
        (&[2, 0x80, 0], Err(FrameFault::IndexTooLong)),
        (&[0x82, 0, 0], Err(FrameFault::IndexTooLong)),
        (&[2, 0xff, 0xff, 0xff, 0xff, 0x1f], Err(FrameFault::IndexTooLong)),
        (&[2, 0x80, 0x80, 0x80, 0x80, 0x80, 1], Err(FrameFault::IndexTooLong)),
        (&[66, 0], Err(FrameFault::IndexesTooDeep(33))),
        (&[0xfe, 0xff, 0xff, 0xff, 0x0f, 0], Err(FrameFault::IndexesTooDeep(0x7fff_ffff))),
    ];
    for (bytes, expected) in cases {
        assert_eq!(&indexes(bytes), expected, "{bytes:?}");
    }
}

#[test]
fn equal_paths_have_equal_bytes() {
    let path = |bytes: &'static [u8]| {
        Frame { schema: SchemaId::Id(1), rest: bytes, payload: None }.protobuf(STRICT).unwrap().0
    };
    assert_eq!(path(&[0]), path(&[2, 0]));
    assert_eq!(path(&[2, 0]).as_bytes(), [0]);
    assert_ne!(path(&[2, 2]), path(&[4, 2, 0]));
    assert_eq!(format!("{:?}", path(&[4, 2, 0])), "[1, 0]");
}

#[test]
fn a_header_names_the_schema_of_a_bare_payload() {
    let guid: [u8; 16] = std::array::from_fn(|index| u8::try_from(index).unwrap() * 0x11);
    let header = [&[1][..], &guid, &[4, 2, 0]].concat();
    let frame = Frame::from_header(&header, &[8, 1]).unwrap();
    assert_eq!(frame.schema.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
    let (path, message) = frame.protobuf(STRICT).unwrap();
    assert_eq!((path.iter().collect::<Vec<_>>(), message), (vec![1, 0], &[8, 1][..]));

    let frame = Frame::from_header(&[0, 0, 0, 0, 7, 0], b"m").unwrap();
    assert_eq!((frame.schema, frame.protobuf(STRICT).unwrap().1), (SchemaId::Id(7), &b"m"[..]));
    // JSON: nothing after the id, the payload unchanged.
    assert_eq!(Frame::from_header(&[0, 0, 0, 0, 7], b"{}").unwrap().payload(), b"{}");

    assert_eq!(Frame::from_header(&[], b""), Err(FrameFault::Empty));
    assert_eq!(Frame::from_header(&[2, 0], b""), Err(FrameFault::Magic(2)));
    assert_eq!(Frame::from_header(&[1, 5], b""), Err(FrameFault::Short { need: 16, have: 1 }));
    let long = Frame::from_header(&[0, 0, 0, 0, 7, 0, 1], b"").unwrap().protobuf(STRICT);
    assert_eq!(long.unwrap_err(), FrameFault::HeaderTooLong(1));
}

#[test]
fn frames_without_indexes_are_read_where_that_is_allowed() {
    let read = |rest: &'static [u8]| {
        let frame = Frame { schema: SchemaId::Id(1), rest, payload: None };
        frame.protobuf(Indexing::Optional).map(|(path, rest)| (path.iter().collect::<Vec<_>>(), rest))
    };
    assert_eq!(read(&[0x0a, 1, b'x']), Ok((vec![0], &[0x0a, 1, b'x'][..])));
    assert_eq!(read(&[8, 0]), Ok((vec![0], &[8, 0][..])));
    assert_eq!(read(&[]), Ok((vec![0], &[][..])));
    assert_eq!(read(&[0, 0x0a, 0]), Ok((vec![0], &[0x0a, 0][..])));
    assert_eq!(read(&[2, 4, 8, 1]), Ok((vec![2], &[8, 1][..])));
    assert_eq!(read(&[6, 0, 0, 2]), Ok((vec![0, 0, 1], &[][..])));
    assert_eq!(read(&[1, 0]), Err(FrameFault::IndexNegative(-1)));
    // The default reads the tag 0x0a as five levels and runs out of bytes.
    let frame = Frame::parse(&[0, 0, 0, 0, 1, 0x0a, 1, b'x']).unwrap();
    assert!(frame.protobuf(STRICT).is_err());
}

const NESTED: &str = r#"syntax = "proto3"; package n;
    message A { message Inner { message Deep {} } }
    message M { message First {} map<string, int32> a = 1; message Second {} map<string, Second> b = 2; message Third {} }
    message Only { map<string, int32> m = 1; message Inner {} }"#;

fn nested() -> prost_reflect::FileDescriptor {
    let file = protox::file::File::from_source("n.proto", NESTED).unwrap();
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_proto(file.file_descriptor_proto().clone()).unwrap();
    pool.get_file_by_name("n.proto").unwrap()
}

#[test]
fn indexes_lead_to_messages_and_back() {
    let file = nested();
    let name = |path: &[u32], expected: Option<&str>| {
        let mut bytes = Vec::new();
        Frame::write_protobuf(&mut bytes, 1, path);
        let frame = Frame::parse(&bytes).unwrap();
        let (indexes, _) = frame.protobuf(STRICT).unwrap();
        message_by_indexes(&file, indexes, expected).map(|message| message.full_name().to_owned())
    };
    let found = |path: &[u32], expected: Option<&str>| name(path, expected).unwrap();
    assert_eq!(found(&[0], None), "n.A");
    assert_eq!(found(&[0, 0, 0], None), "n.A.Inner.Deep");
    assert_eq!(found(&[1, 0], None), "n.M.First");
    // The entry at 1 is hidden: only Java's count yields a message.
    assert_eq!(found(&[1, 1], None), "n.M.Second");
    assert_eq!(found(&[2, 0], None), "n.Only.Inner");
    assert_eq!(found(&[2, 1], None), "n.Only.Inner");
    // Java means Third, Go means Second.
    let Err(IndexFault::Ambiguous { without_entries, with_entries, .. }) = name(&[1, 2], None) else { panic!() };
    assert_eq!((without_entries.as_str(), with_entries.as_str()), ("n.M.Third", "n.M.Second"));
    assert_eq!(found(&[1, 2], Some("n.M.Second")), "n.M.Second");
    assert_eq!(found(&[1, 2], Some("n.M.Third")), "n.M.Third");
    assert_eq!(found(&[1, 4], None), "n.M.Third");
    for path in [&[3][..], &[0, 1], &[0, 0, 0, 0], &[1, 9]] {
        let fault = name(path, None).unwrap_err();
        assert_eq!(fault, IndexFault::NoSuchMessage { file: "n.proto".into(), indexes: path.to_vec() });
    }
    let pool = file.parent_pool();
    for message in pool.all_messages().filter(|message| !message.is_map_entry()) {
        assert_eq!(found(&indexes_of(&message), Some(message.full_name())), message.full_name());
    }
}

#[test]
fn a_written_frame_is_as_short_as_it_can_be() {
    let written = |indexes: &[u32]| {
        let mut out = Vec::new();
        Frame::write_protobuf(&mut out, 258, indexes);
        out
    };
    assert_eq!(written(&[0]), [0, 0, 0, 1, 2, 0]);
    assert_eq!(written(&[]), written(&[0]));
    assert_eq!(written(&[1]), [0, 0, 0, 1, 2, 2, 2]);
    assert_eq!(written(&[2, 0]), [0, 0, 0, 1, 2, 4, 4, 0]);
    assert_eq!(written(&[0, 64]), [0, 0, 0, 1, 2, 4, 0, 0x80, 1]);
}

proptest! {
    #[test]
    fn what_is_written_is_read(id: u32, path in prop::collection::vec(0..=0x7fff_ffff_u32, 1..=32), payload: Vec<u8>) {
        let mut bytes = Vec::new();
        Frame::write_protobuf(&mut bytes, id, &path);
        bytes.extend(&payload);
        let frame = Frame::parse(&bytes).unwrap();
        let (indexes, rest) = frame.protobuf(STRICT).unwrap();
        prop_assert_eq!(frame.schema, SchemaId::Id(id));
        prop_assert_eq!(indexes.iter().collect::<Vec<_>>(), path);
        prop_assert_eq!(rest, &payload[..]);
    }

    /// Nothing panics, and accepted bytes are what would be written again, except for the long form of [0].
    #[test]
    fn any_bytes(bytes in prop::collection::vec(prop_oneof![Just(0_u8), 0..8_u8, any::<u8>()], 0..40)) {
        for frame in [Frame::parse(&bytes), Frame::from_header(&bytes, &[])].into_iter().flatten() {
            _ = frame.protobuf(Indexing::Optional);
            let Ok((indexes, rest)) = frame.protobuf(STRICT) else { continue };
            let SchemaId::Id(id) = frame.schema else { continue };
            let mut again = Vec::new();
            Frame::write_protobuf(&mut again, id, &indexes.iter().collect::<Vec<_>>());
            again.extend(rest);
            if bytes.get(5..7) != Some(&[2, 0]) {
                prop_assert_eq!(&again, &bytes);
            }
        }
    }
}
