//! Numbers of the moment, and what is mounted.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::kernel_file;

/// Load, memory, processor time and pressure.
pub(super) fn stats() -> Result<Value, String> {
    let load = load(&kernel_file("/proc/loadavg")?);
    let memory = memory(&kernel_file("/proc/meminfo")?);
    let processors = processors(&kernel_file("/proc/stat")?);
    // A kernel without pressure information has none of these.
    let pressure: Map<String, Value> = ["cpu", "memory", "io"]
        .into_iter()
        .filter_map(|what| Some((what.to_owned(), pressure(&kernel_file(&format!("/proc/pressure/{what}")).ok()?))))
        .collect();
    Ok(json!({ "load": load, "memory_bytes": memory, "cpu_ticks": processors, "pressure": pressure }))
}

/// `0.08 0.03 0.05 1/123 456`.
fn load(text: &str) -> Vec<f64> {
    text.split(' ').take(3).filter_map(|number| number.parse().ok()).collect()
}

/// `MemTotal:  16384 kB`, in bytes.
fn memory(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some((name.to_owned(), kib.saturating_mul(1024)))
    };
    text.lines().filter_map(line).collect()
}

/// The line of all processors, by what the time went to.
fn processors(text: &str) -> BTreeMap<&'static str, u64> {
    const NAMES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
    let numbers = text.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default().split_whitespace();
    NAMES.into_iter().zip(numbers.filter_map(|number| number.parse().ok())).collect()
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
pub(crate) fn pressure(text: &str) -> Value {
    let line = |line: &str| {
        let (kind, rest) = line.split_once(' ')?;
        let fields: Map<String, Value> = rest
            .split(' ')
            .filter_map(|pair| {
                let (name, number) = pair.split_once('=')?;
                Some((name.to_owned(), number.parse::<f64>().ok()?.into()))
            })
            .collect();
        Some((kind.to_owned(), Value::Object(fields)))
    };
    Value::Object(text.lines().filter_map(line).collect())
}

/// What is mounted in the node's own name space, with sizes.
pub(super) fn mounts() -> Result<Value, String> {
    let mounts = parse_mounts(&kernel_file("/proc/self/mountinfo")?);
    let sized = mounts.into_iter().map(|mut mount| {
        let target = mount["target"].as_str().unwrap_or_default().to_owned();
        if let Ok(stat) = nix::sys::statvfs::statvfs(target.as_str())
            && let Some(fields) = mount.as_object_mut()
        {
            let unit = stat.fragment_size();
            fields.insert("size_bytes".to_owned(), stat.blocks().saturating_mul(unit).into());
            fields.insert("free_bytes".to_owned(), stat.blocks_available().saturating_mul(unit).into());
        }
        mount
    });
    Ok(json!({ "mounts": sized.collect::<Vec<_>>() }))
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`: optional fields end at the hyphen.
fn parse_mounts(text: &str) -> Vec<Value> {
    let line = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let (before, after): (Vec<&str>, Vec<&str>) = (before.split(' ').collect(), after.split(' ').collect());
        Some(json!({
            "target": unescape(before.get(4)?),
            "source": unescape(after.get(1)?),
            "type": after.first()?,
            "options": before.get(5)?,
        }))
    };
    text.lines().filter_map(line).collect()
}

/// Blanks are written `\040`.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers_are_read() {
        assert_eq!(load("0.08 0.03 0.05 1/123 456\n"), [0.08, 0.03, 0.05]);
        assert_eq!(
            memory("MemTotal:       16384 kB\nHugePages_Total:       0\n"),
            [("MemTotal".to_owned(), 16_777_216)].into()
        );
        assert_eq!(processors("cpu  1 2 3 4\ncpu0 1 2 3 4\n")["system"], 3);
        let pressure = pressure("some avg10=1.50 avg60=0.00 avg300=0.00 total=9\n");
        assert_eq!((&pressure["some"]["avg10"], &pressure["some"]["total"]), (&json!(1.5), &json!(9.0)));
        for text in ["", "\n\n", "x", "cpu", "a:b:c - - -", "some x=y"] {
            let _ = (load(text), memory(text), processors(text), super::pressure(text), parse_mounts(text));
        }
    }

    #[test]
    fn mounts_are_read_with_blanks_in_their_names() {
        let text = "36 35 98:0 / /mnt\\040two rw,noatime master:1 - ext4 /dev/sda1 rw\nnonsense\n";
        let expected = json!({"target": "/mnt two", "source": "/dev/sda1", "type": "ext4", "options": "rw,noatime"});
        assert_eq!(parse_mounts(text), [expected]);
    }
}
