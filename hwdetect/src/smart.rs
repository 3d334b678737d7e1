//! What drives say of their own health: NVMe's log page 02h, and ATA's SMART data.

use serde::{Deserialize, Serialize};

/// How a drive is, as far as it tells.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Health {
    /// What follows from the rest.
    pub verdict: Verdict,
    /// Why it is not good, for people.
    pub reasons: Vec<String>,
    /// Its temperature.
    pub temperature_c: Option<i32>,
    /// How much of what its maker promises it has taken, in percent; may exceed 100.
    pub wear_percent: Option<u32>,
    /// How long it has run.
    pub power_on_hours: Option<u64>,
    /// Data it could not give back.
    pub media_errors: Option<u64>,
    /// Sectors it has replaced by spare ones.
    pub reallocated: Option<u64>,
    /// Times it lost its power without notice.
    pub unsafe_shutdowns: Option<u64>,
}

/// Can it be trusted?
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Yes.
    #[default]
    Good,
    /// Somebody should look.
    Warning,
    /// It says itself that it will fail, or has.
    Failing,
}

impl Verdict {
    /// As attributes write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Failing => "failing",
        }
    }
}

impl Health {
    fn at_least(&mut self, verdict: Verdict, reason: impl Into<String>) {
        self.verdict = self.verdict.max(verdict);
        self.reasons.push(reason.into());
    }

    /// From NVMe's log page 02h (NVM Express base specification, figure "SMART / Health Information Log Page").
    #[must_use]
    pub fn of_nvme(page: &[u8]) -> Option<Self> {
        let page: &[u8; 512] = page.try_into().ok()?;
        // Counters have 128 bits; none of them needs the upper half.
        let counter = |at: usize| page[at..at + 8].iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let kelvin = i32::from(u16::from_le_bytes([page[1], page[2]]));
        let (warning, spare, threshold, used) = (page[0], page[3], page[4], page[5]);
        let mut health = Self {
            temperature_c: (kelvin > 0).then_some(kelvin - 273),
            wear_percent: Some(u32::from(used)),
            power_on_hours: Some(counter(128)),
            media_errors: Some(counter(160)),
            unsafe_shutdowns: Some(counter(144)),
            ..Self::default()
        };
        let bits = [
            (1, Verdict::Failing, "its spare blocks run out"),
            (1 << 1, Verdict::Warning, "it is too hot or too cold"),
            (1 << 2, Verdict::Failing, "it is no longer reliable"),
            (1 << 3, Verdict::Failing, "it takes no more writes"),
            (1 << 4, Verdict::Warning, "it cannot save its cache when power fails"),
            (1 << 5, Verdict::Failing, "its persistent memory takes no more writes"),
        ];
        for (bit, verdict, reason) in bits {
            if warning & bit != 0 {
                health.at_least(verdict, reason);
            }
        }
        if warning & 1 == 0 && threshold > 0 && spare < threshold {
            health.at_least(Verdict::Failing, "its spare blocks run out");
        }
        if used >= 100 {
            health.at_least(Verdict::Warning, format!("{used} % of its life is used"));
        }
        if let Some(errors) = health.media_errors.filter(|errors| *errors > 0) {
            health.at_least(Verdict::Warning, format!("{errors} times it could not give data back"));
        }
        Some(health)
    }

    /// From ATA's SMART data (the 512 bytes of SMART READ DATA), and what SMART RETURN STATUS says.
    #[must_use]
    pub fn of_ata(data: &[u8], status: AtaStatus) -> Option<Self> {
        let data: &[u8; 512] = data.try_into().ok()?;
        let mut health = Self::default();
        if status == AtaStatus::Failing {
            health.at_least(Verdict::Failing, "its own thresholds are exceeded");
        }
        // All bytes of the sector add up to nothing, or it is not what it should be.
        if data.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) != 0 {
            return (status != AtaStatus::Unknown).then_some(health);
        }
        let mut pending = 0;
        for entry in data[2..362].chunks(12) {
            let raw = entry[5..11].iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
            match entry[0] {
                5 => health.reallocated = Some(raw),
                9 => health.power_on_hours = Some(raw & 0xffff_ffff),
                187 => health.media_errors = Some(raw & 0xffff),
                192 => health.unsafe_shutdowns = Some(raw & 0xffff_ffff),
                194 => health.temperature_c = Some(i32::from(entry[5])),
                197 | 198 => pending = pending.max(raw & 0xffff_ffff),
                // Life that is left, by the names three makers have for it.
                177 | 231 | 233 if (1..=100).contains(&entry[3]) => {
                    let used = 100 - u32::from(entry[3]);
                    health.wear_percent = Some(health.wear_percent.unwrap_or(0).max(used));
                }
                _ => {}
            }
        }
        if pending > 0 {
            health.at_least(Verdict::Warning, format!("{pending} sectors cannot be read"));
        }
        if let Some(count) = health.reallocated.filter(|count| *count >= 100) {
            health.at_least(Verdict::Warning, format!("{count} sectors were replaced by spare ones"));
        }
        Some(health)
    }
}

/// The answer to SMART RETURN STATUS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AtaStatus {
    /// No threshold is exceeded.
    Good,
    /// One is.
    Failing,
    /// It did not say.
    Unknown,
}

impl AtaStatus {
    /// From the registers LBA mid and high it comes back with.
    #[must_use]
    pub const fn of(mid: u8, high: u8) -> Self {
        match (mid, high) {
            (0x4f, 0xc2) => Self::Good,
            (0xf4, 0x2c) => Self::Failing,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_nvme_drive_that_warns_is_believed() {
        let mut page = [0; 512];
        (page[1], page[2]) = (0x43, 0x01); // 323 K
        (page[3], page[4], page[5]) = (100, 10, 7);
        page[128] = 200;
        let good = Health::of_nvme(&page).unwrap();
        assert_eq!((good.verdict, good.temperature_c, good.wear_percent), (Verdict::Good, Some(50), Some(7)));
        assert_eq!(good.power_on_hours, Some(200));
        page[0] = 2;
        assert_eq!(Health::of_nvme(&page).unwrap().verdict, Verdict::Warning);
        page[0] = 4;
        assert_eq!(Health::of_nvme(&page).unwrap().reasons, ["it is no longer reliable"]);
        (page[0], page[3]) = (0, 9);
        assert_eq!(Health::of_nvme(&page).unwrap().verdict, Verdict::Failing);
        assert!(Health::of_nvme(&page[1..]).is_none());
    }

    fn ata(entries: &[(u8, u8, u64)]) -> [u8; 512] {
        let mut data = [0; 512];
        for (place, (id, value, raw)) in entries.iter().enumerate() {
            let at = 2 + place * 12;
            (data[at], data[at + 3]) = (*id, *value);
            data[at + 5..at + 11].copy_from_slice(&raw.to_le_bytes()[..6]);
        }
        data[511] = data.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
        data
    }

    #[test]
    fn ata_attributes_are_read_and_its_own_verdict_counts() {
        let data = ata(&[(5, 100, 3), (9, 99, 4321), (194, 60, 0x0012_0000_0021), (197, 100, 0), (233, 95, 0)]);
        let good = Health::of_ata(&data, AtaStatus::of(0x4f, 0xc2)).unwrap();
        assert_eq!((good.verdict, good.reallocated, good.power_on_hours), (Verdict::Good, Some(3), Some(4321)));
        assert_eq!((good.temperature_c, good.wear_percent), (Some(33), Some(5)));
        let bad = Health::of_ata(&data, AtaStatus::of(0xf4, 0x2c)).unwrap();
        assert_eq!(bad.verdict, Verdict::Failing);
        let pending = Health::of_ata(&ata(&[(197, 100, 8)]), AtaStatus::Good).unwrap();
        assert_eq!((pending.verdict, pending.reasons.len()), (Verdict::Warning, 1));
        // A sector that is not what it should be says nothing but the status.
        let mut torn = data;
        torn[3] ^= 1;
        assert_eq!(Health::of_ata(&torn, AtaStatus::Unknown), None);
        assert_eq!(Health::of_ata(&torn, AtaStatus::Good).unwrap().reallocated, None);
    }

    proptest! {
        #[test]
        fn any_page_is_read(page in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Health::of_nvme(&page);
            let _ = Health::of_ata(&page, AtaStatus::Failing);
        }

        #[test]
        fn any_sector_is_read(page in proptest::collection::vec(any::<u8>(), 512)) {
            prop_assert!(Health::of_nvme(&page).is_some());
            let mut page = page;
            page[511] = 0;
            page[511] = page.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
            prop_assert!(Health::of_ata(&page, AtaStatus::Unknown).is_some());
        }
    }
}
