//! Frames as switches send them, and as nobody should.

use proptest::prelude::*;

use super::*;

fn record(kind: u8, value: &[u8]) -> Vec<u8> {
    let head = (u16::from(kind) << 9) | u16::try_from(value.len()).unwrap();
    [&head.to_be_bytes()[..], value].concat()
}

fn minimal() -> Vec<u8> {
    [record(1, &[4, 0, 0x1c, 0x73, 1, 2, 3]), record(2, b"\x05Ethernet1/7"), record(3, &[0, 120])].concat()
}

#[test]
fn a_switchs_frame_is_read() {
    let civic = [&[2, 0][..], &[1, b'D', b'E', 25, 3, b'b', b'l', b'n', 28, 2, b'1', b'2']].concat();
    let mut civic_record = vec![0x00, 0x12, 0xbb, 3];
    civic_record.extend(civic);
    civic_record[5] = u8::try_from(civic_record.len() - 6).unwrap();
    let bytes = [
        minimal(),
        record(4, b"to rack R7\0\0"),
        record(5, b"tor-r7-a"),
        record(6, b"Arista\x1b[31m EOS 4.30\n"),
        record(7, &[0, 0x14, 0, 0x14]),
        record(8, &[5, 1, 10, 0, 0, 7, 2, 0, 0, 0, 9, 0]),
        record(127, &[0x00, 0x80, 0xc2, 1, 0, 112]),
        record(127, &[0x00, 0x12, 0x0f, 4, 0x23, 0x28]),
        record(127, &civic_record),
        record(127, b"\x00\x12\xbb\x0bA-10442"),
        record(99, b"from the future"),
        record(0, &[]),
        vec![0xff; 20],
    ]
    .concat();
    let read = parse(&bytes).unwrap();
    assert_eq!((read.chassis.to_string(), read.port.to_string()), ("00:1c:73:01:02:03".into(), "Ethernet1/7".into()));
    assert_eq!((read.ttl_secs, read.port_vlan, read.max_frame_bytes), (120, Some(112), Some(9000)));
    assert_eq!(read.port_description.as_deref(), Some("to rack R7"));
    assert_eq!(read.system_name.as_deref(), Some("tor-r7-a"));
    assert_eq!(read.system_description.as_deref(), Some("Arista [31m EOS 4.30"));
    assert_eq!(read.management_addresses, [IpAddr::from([10, 0, 0, 7])]);
    let place = read.location.clone().unwrap();
    assert_eq!((place.building.as_deref(), place.room.as_deref()), (Some("bln"), Some("12")));
    assert_eq!(read.asset_tag.as_deref(), Some("A-10442"));
    assert!(read.forwards() && !ours().forwards() && parse(&minimal()).unwrap().forwards());
}

#[test]
fn what_every_frame_must_have_is_missed_by_name() {
    let good = minimal();
    assert!(parse(&good).is_ok(), "optional records are optional");
    for (name, bytes, error) in [
        ("nothing", vec![], LldpError::Missing("chassis id")),
        ("no port", record(1, &[7, b'x']), LldpError::Missing("port id")),
        (
            "wrong order",
            [record(1, &[7, b'x']), record(3, &[0, 9]), record(2, &[5, b'e'])].concat(),
            LldpError::Missing("port id"),
        ),
        (
            "short time to live",
            [record(1, &[7, b'x']), record(2, &[5, b'e']), record(3, &[9])].concat(),
            LldpError::Missing("time to live"),
        ),
        (
            "no name",
            [record(1, &[7]), record(2, &[5, b'e']), record(3, &[0, 9])].concat(),
            LldpError::BadId("chassis id"),
        ),
        ("cut", good[..good.len() - 1].to_vec(), LldpError::Missing("time to live")),
    ] {
        assert_eq!(parse(&bytes).unwrap_err(), error, "{name}");
    }
    assert_eq!(parse_frame(&[0; 64]).unwrap_err(), LldpError::NotLldp);
    assert_eq!(parse_frame(&[0; 3]).unwrap_err(), LldpError::NotLldp);
}

#[test]
fn ids_that_are_no_text_are_shown_by_their_bytes() {
    for (value, shown) in [
        (&[4, 1, 2, 3][..], "010203"),
        (&[5, 1, 10, 0, 0, 1], "10.0.0.1"),
        (&[5, 9, 9], "0909"),
        (&[7, 0, 0], "0000"),
        (b"\x07leaf1\0", "leaf1"),
    ] {
        assert_eq!(Id::of_chassis(value).unwrap().to_string(), shown);
    }
}

fn ours() -> Announcement {
    Announcement {
        chassis: Id::Mac([0x52, 0x54, 0, 0x77, 0, 1]),
        port: Id::Text("eth0".to_owned()),
        ttl_secs: 120,
        port_description: None,
        system_name: Some("node-1".to_owned()),
        system_description: Some("Mesolith".to_owned()),
        capabilities: Some(STATION),
        management_addresses: vec![IpAddr::from([10, 77, 0, 11])],
        port_vlan: None,
        max_frame_bytes: None,
        location: None,
        asset_tag: None,
    }
}

#[test]
fn our_own_frame_says_what_it_was_made_from() {
    let frame = ours().to_frame([0x52, 0x54, 0, 0x77, 0, 1], 2);
    assert_eq!(frame[..6], NEAREST_BRIDGE);
    assert!(frame.len() >= 60);
    assert_eq!(parse_frame(&frame).unwrap(), ours());
    let long = Announcement { system_description: Some("ü".repeat(400)), ..ours() };
    let read = parse_frame(&long.to_frame([2; 6], 2)).unwrap();
    assert_eq!(read.system_description.unwrap().len(), 254);
}

#[test]
fn a_frame_cut_anywhere_says_no_more_than_the_whole() {
    let frame = ours().to_frame([2; 6], 2);
    for end in 0..frame.len() {
        if let Ok(read) = parse_frame(&frame[..end]) {
            assert!(read.system_name.is_none_or(|name| name == "node-1"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse(&bytes);
        let _ = parse_frame(&bytes);
    }

    #[test]
    fn any_records_after_the_first_three_are_survived(
        records in proptest::collection::vec((0u8..128, proptest::collection::vec(any::<u8>(), 0..40)), 0..12),
    ) {
        let mut bytes = minimal();
        for (kind, value) in &records {
            bytes.extend(record(*kind, value));
        }
        let read = parse(&bytes).unwrap();
        prop_assert_eq!(read.port.to_string(), "Ethernet1/7");
        // Whatever was read can be said again.
        prop_assert!(parse_frame(&read.to_frame([2; 6], 1)).is_ok());
    }

    #[test]
    fn organisations_records_hold_anything(
        kind in proptest::sample::select(vec![[0x00u8, 0x80, 0xc2, 1], [0x00, 0x12, 0x0f, 4], [0x00, 0x12, 0xbb, 3], [0x00, 0x12, 0xbb, 11]]),
        value in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut bytes = minimal();
        bytes.extend(record(127, &[&kind[..], &value].concat()));
        prop_assert!(parse(&bytes).is_ok());
    }
}
