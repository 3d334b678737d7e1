//! Frames as they are on the wire.

use super::*;

#[tokio::test]
async fn a_frame_is_read_as_it_was_written_and_a_long_one_refused() {
    let mut wire = Vec::new();
    write(&mut wire, 7, 3, b"content").await.unwrap();
    write(&mut wire, 8, 4, b"").await.unwrap();
    let mut input = &wire[..];
    let frame = read(&mut input, 100).await.unwrap().unwrap();
    assert_eq!((frame.number, frame.kind, &frame.content[..]), (7, 3, &b"content"[..]));
    let frame = read(&mut input, 100).await.unwrap().unwrap();
    assert_eq!((frame.number, frame.kind, frame.content.len()), (8, 4, 0));
    assert!(read(&mut input, 100).await.unwrap().is_none());
    assert!(read(&mut &wire[..], 15).await.is_err());
    assert!(read(&mut &wire[..12], 100).await.is_err());
    assert!(read(&mut &[1, 0, 0, 0, 9][..], 100).await.is_err());
}
