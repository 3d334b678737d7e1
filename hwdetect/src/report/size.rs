//! Sizes one can say aloud.

/// A size in the largest binary unit that leaves at least one: `15.6 GiB`, `512 KiB`, `2 MiB`.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    scaled(bytes, 1024, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// The same in the decimal units disks are sold in: `8 TB`.
pub(super) fn human_disk_bytes(bytes: u64) -> String {
    scaled(bytes, 1000, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// One decimal, cut rather than rounded, so that nothing looks larger than it is.
fn scaled(bytes: u64, step: u64, units: &[&str]) -> String {
    let (mut unit, mut scale) = (0, 1u64);
    while bytes / scale >= step && unit + 1 < units.len() {
        scale *= step;
        unit += 1;
    }
    let (whole, rest) = (bytes / scale, bytes % scale);
    // The remainder is below 2^60, so ten times it fits.
    match rest * 10 / scale {
        0 => format!("{whole} {}", units[unit]),
        tenth => format!("{whole}.{tenth} {}", units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_cut_not_rounded() {
        for (bytes, binary, decimal) in [
            (0, "0 B", "0 B"),
            (1023, "1023 B", "1 kB"),
            (1536, "1.5 KiB", "1.5 kB"),
            (8_001_563_222_016, "7.2 TiB", "8 TB"),
            (u64::MAX, "15.9 EiB", "18.4 EB"),
        ] {
            assert_eq!((human_bytes(bytes).as_str(), human_disk_bytes(bytes).as_str()), (binary, decimal));
        }
    }
}
