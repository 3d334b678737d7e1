//! The kernel's messages, those that are still in its buffer.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

use serde_json::{Value, json};

/// The kernel's limit for one record.
const RECORD: usize = 8192;
/// The newest so many are answered.
const MOST: usize = 10_000;

/// Level, seconds since boot and text of each.
pub(super) fn read() -> Result<Value, String> {
    let failed = |error: std::io::Error| format!("cannot read /dev/kmsg: {error}");
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").map_err(failed)?;
    let mut buffer = vec![0; RECORD];
    let mut records = std::collections::VecDeque::new();
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                records.extend(parse(&String::from_utf8_lossy(&buffer[..length])));
                if records.len() > MOST {
                    records.pop_front();
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // Overwritten while we read: the next one is there.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(json!({ "messages": records }))
}

/// `6,339,5140900,-;text`, then lines of the device it is about.
fn parse(record: &str) -> Option<Value> {
    let (head, text) = record.split_once(';')?;
    let mut fields = head.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let micros: u64 = fields.nth(1)?.parse().ok()?;
    #[allow(clippy::cast_precision_loss)] // microseconds since boot
    let seconds = micros as f64 / 1e6;
    let text = text.lines().next().unwrap_or_default();
    Some(json!({ "level": priority & 7, "seconds": seconds, "text": text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_without_their_devices() {
        let record = "6,339,5140900,-;NET: Registered\n SUBSYSTEM=net\n";
        assert_eq!(parse(record), Some(json!({"level": 6, "seconds": 5.1409, "text": "NET: Registered"})));
        assert_eq!((parse(""), parse("a,b;c"), parse("6;x")), (None, None, None));
    }
}
