//! `/proc/cpuinfo`: who made the processor and what it can do. Never counted: offline CPUs are not in it.

use std::collections::BTreeSet;

/// The first CPU's entry. All CPUs of a machine that boots are alike in these.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct CpuInfo {
    pub(crate) architecture: Option<&'static str>,
    pub(crate) vendor: Option<String>,
    pub(crate) model_name: Option<String>,
    pub(crate) family: Option<u32>,
    pub(crate) model: Option<u32>,
    pub(crate) stepping: Option<u32>,
    pub(crate) microcode: Option<String>,
    pub(crate) flags: BTreeSet<String>,
    pub(crate) physical_address_bits: Option<u32>,
    pub(crate) virtual_address_bits: Option<u32>,
}

impl CpuInfo {
    pub(crate) fn parse(text: &str) -> Self {
        let mut info = Self::default();
        let mut is_arm = false;
        // `processor` begins each CPU's entry; on some architectures facts of the whole machine follow the last.
        let entry = text.split("\n\n").next().unwrap_or_default();
        for line in entry.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            let words = || value.split_whitespace().map(str::to_owned).collect();
            let name = || (!value.is_empty() && value != "unknown").then(|| single_spaced(value));
            match key.trim() {
                "vendor_id" => info.vendor = name(),
                "model name" => info.model_name = name(),
                "cpu family" => info.family = value.parse().ok(),
                "model" => info.model = value.parse().ok(),
                "stepping" => info.stepping = value.parse().ok(),
                "microcode" => info.microcode = name(),
                "flags" => info.flags = words(),
                "address sizes" => (info.physical_address_bits, info.virtual_address_bits) = address_bits(value),
                "Features" => info.flags = words(),
                "CPU implementer" => {
                    is_arm = true;
                    info.vendor = arm_implementer(value);
                }
                "CPU part" => info.model = hex(value),
                "CPU revision" => info.stepping = value.parse().ok(),
                _ => {}
            }
        }
        info.architecture = match (is_arm, info.flags.contains("lm"), info.flags.contains("fpu")) {
            (true, _, _) => Some("aarch64"),
            (false, true, _) => Some("x86_64"),
            (false, false, true) => Some("x86"),
            (false, false, false) => None,
        };
        info
    }

    /// The nominal clock that Intel writes into the name: `… @ 2.60GHz`.
    pub(crate) fn clock_in_name_mhz(&self) -> Option<u32> {
        let (_, clock) = self.model_name.as_deref()?.rsplit_once('@')?;
        let (number, per_unit) = match clock.trim().strip_suffix("GHz") {
            Some(number) => (number, 1000),
            None => (clock.trim().strip_suffix("MHz")?, 1),
        };
        decimal_times(number.trim(), per_unit)
    }
}

/// `2.60` times 1000 without floating point.
fn decimal_times(number: &str, per_unit: u32) -> Option<u32> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut value: u32 = whole.parse::<u32>().ok()?.checked_mul(per_unit)?;
    let mut place = per_unit;
    for digit in fraction.chars() {
        place /= 10;
        value = value.checked_add(digit.to_digit(10)?.checked_mul(place)?)?;
    }
    Some(value)
}

fn single_spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `46 bits physical, 57 bits virtual`.
fn address_bits(text: &str) -> (Option<u32>, Option<u32>) {
    let bits = |part: Option<&str>| part.and_then(|part| part.split_whitespace().next()?.parse().ok());
    let mut parts = text.split(',');
    (bits(parts.next()), bits(parts.next()))
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn arm_implementer(text: &str) -> Option<String> {
    let name = match hex(text)? {
        0x41 => "ARM",
        0x42 => "Broadcom",
        0x43 => "Cavium",
        0x46 => "Fujitsu",
        0x48 => "HiSilicon",
        0x4e => "NVIDIA",
        0x50 => "APM",
        0x51 => "Qualcomm",
        0x61 => "Apple",
        0x6d => "Microsoft",
        0xc0 => "Ampere",
        _ => return Some(text.to_owned()),
    };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_entry_is_read() {
        let info = CpuInfo::parse(
            "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\nmodel name\t: Intel(R)  Xeon(R) \
             CPU @ 2.60GHz\nstepping\t: 4\nmicrocode\t: 0x1\nflags\t\t: fpu lm avx\naddress sizes\t: 46 bits physical, 57 \
             bits virtual\n\nprocessor\t: 1\nvendor_id\t: Other\n",
        );
        assert_eq!(info.vendor.as_deref(), Some("GenuineIntel"));
        assert_eq!(info.model_name.as_deref(), Some("Intel(R) Xeon(R) CPU @ 2.60GHz"));
        assert_eq!((info.family, info.model, info.stepping), (Some(6), Some(85), Some(4)));
        assert_eq!((info.physical_address_bits, info.virtual_address_bits), (Some(46), Some(57)));
        assert_eq!((info.architecture, info.clock_in_name_mhz()), (Some("x86_64"), Some(2600)));
    }

    #[test]
    fn an_arm_entry_names_its_maker() {
        let info = CpuInfo::parse("processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0xc0\nCPU part\t: 0xac3\n");
        assert_eq!((info.architecture, info.vendor.as_deref()), (Some("aarch64"), Some("Ampere")));
        assert_eq!(info.model, Some(0xac3));
    }

    #[test]
    fn clocks_in_names_come_in_several_forms() {
        for (name, mhz) in
            [("X @ 2.40GHz", Some(2400)), ("X @ 3GHz", Some(3000)), ("X @ 800MHz", Some(800)), ("X", None)]
        {
            let info = CpuInfo { model_name: Some(name.to_owned()), ..CpuInfo::default() };
            assert_eq!(info.clock_in_name_mhz(), mhz, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(?s).{0,200}", clock in "[0-9.@GMHz ]{0,20}") {
            let mut info = CpuInfo::parse(&text);
            info.model_name = Some(clock);
            let _ = info.clock_in_name_mhz();
        }
    }
}
