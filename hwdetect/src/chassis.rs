//! Names of chassis types (DSP0134 section 7.4.1).

/// The name of a chassis type, as a word fit for an attribute. `None` for "other", "unknown" and numbers not assigned.
#[must_use]
pub fn chassis_type_name(code: u8) -> Option<&'static str> {
    Some(match code {
        3 => "desktop",
        4 => "low-profile-desktop",
        5 => "pizza-box",
        6 => "mini-tower",
        7 => "tower",
        8 => "portable",
        9 => "laptop",
        10 => "notebook",
        11 => "hand-held",
        12 => "docking-station",
        13 => "all-in-one",
        14 => "sub-notebook",
        15 => "space-saving",
        16 => "lunch-box",
        17 => "main-server",
        18 => "expansion",
        19 => "sub-chassis",
        20 => "bus-expansion",
        21 => "peripheral",
        22 => "raid",
        23 => "rack-mount",
        24 => "sealed-case-pc",
        25 => "multi-system",
        26 => "compact-pci",
        27 => "advanced-tca",
        28 => "blade",
        29 => "blade-enclosure",
        30 => "tablet",
        31 => "convertible",
        32 => "detachable",
        33 => "iot-gateway",
        34 => "embedded-pc",
        35 => "mini-pc",
        36 => "stick-pc",
        _ => return None,
    })
}
