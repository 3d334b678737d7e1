//! The LLDP decoder on any bytes. From `hwdetect/`:
//!
//! ```text
//! mkdir -p fuzz/corpus/lldp
//! cargo +nightly fuzz run lldp fuzz/corpus/lldp fuzz/seeds/lldp
//! ```
#![no_main]

use hwdetect::lldp::{parse, parse_frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = parse_frame(bytes);
    if let Ok(read) = parse(bytes) {
        assert!(bytes.len() >= 3 * 2 + 2 + 2 + 2, "chassis, port and time to live take that many bytes");
        // What was read can be said again, and is understood.
        assert!(parse_frame(&read.to_frame([2; 6], 1)).is_ok());
    }
});
