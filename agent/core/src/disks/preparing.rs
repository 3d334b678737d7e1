//! What is done to a disk, step by step, so that power may fail between any two of them: until a disk is finished its mark,
//! and then its table, says that it is ours to begin anew.

use super::content::{mark, no_mark};
use super::gpt::{ALIGNMENT, Geometry, Write};
use super::layout::Layout;

/// What is overwritten with zeros at both ends of a disk, and at the beginning of each partition: there the labels of others
/// are.
const ERASED: u64 = 1 << 20;
/// Zeros are written in pieces.
const PIECE: usize = 64 << 10;

/// Writes before the file systems are made, in stages: each begins when all of the one before is on the disk.
#[must_use]
pub fn before(layout: &Layout, geometry: Geometry) -> Option<Vec<Vec<Write>>> {
    let mut stages = vec![vec![mark(geometry)], erase(layout, geometry)?];
    stages.extend(layout.table().stages(geometry)?);
    stages.push(vec![no_mark(geometry)]);
    Some(stages)
}

/// Writes after the file systems were made.
#[must_use]
pub fn after(layout: &Layout, geometry: Geometry) -> Option<Vec<Vec<Write>>> {
    layout.clone().ready().table().stages(geometry)
}

/// What makes a disk of ours nobody's: table, labels and the beginnings of what was encrypted, with the keys in them.
#[must_use]
pub fn forget(layout: &Layout, geometry: Geometry) -> Option<Vec<Vec<Write>>> {
    let mut keys: Vec<Write> = Vec::new();
    for part in layout.parts.iter().filter(|part| part.encrypted) {
        keys.extend(zeros(part.begin, part.bytes().min(KEYS)));
    }
    let mut rest = erase(layout, geometry)?;
    rest.push(no_mark(geometry));
    Some(vec![keys, rest])
}

/// LUKS2 has its keys in the first 16 MiB.
const KEYS: u64 = 16 << 20;

fn erase(layout: &Layout, geometry: Geometry) -> Option<Vec<Write>> {
    let own = mark(geometry);
    let mut writes = Vec::new();
    let end = geometry.bytes.checked_sub(ERASED)?;
    let mut places = vec![0, end - end % u64::from(geometry.sector)];
    places.extend(layout.parts.iter().map(|part| part.begin));
    for place in places {
        let length = ERASED.min(geometry.bytes - place);
        writes.extend(zeros(place, length));
    }
    // All but the mark, which stands in the middle of it.
    let (begin, end) = (own.offset, own.offset + own.bytes.len() as u64);
    let around = |write: Write| {
        let last = write.offset + write.bytes.len() as u64;
        if last <= begin || write.offset >= end {
            return vec![write];
        }
        let first = zeros(write.offset, begin.saturating_sub(write.offset));
        first.into_iter().chain(zeros(end, last.saturating_sub(end))).collect()
    };
    const { assert!(ERASED <= ALIGNMENT, "what is between two partitions is nobody else's") };
    Some(writes.into_iter().flat_map(around).collect())
}

fn zeros(from: u64, length: u64) -> Vec<Write> {
    let mut writes = Vec::new();
    let mut left = length;
    let mut offset = from;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        writes.push(Write { offset, bytes: vec![0; piece] });
        offset += piece as u64;
        left -= piece as u64;
    }
    writes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use api::disks::DiskRule;
    use hwdetect::signature::Readable;
    use proptest::prelude::*;

    use super::*;
    use crate::disks::content::{Content, look};
    use crate::disks::gpt::Guid;
    use crate::disks::layout::State;

    const GEOMETRY: Geometry = Geometry { bytes: 2 << 30, sector: 512 };

    /// A disk of which only what was written takes memory.
    #[derive(Clone, Default)]
    struct Sparse(BTreeMap<u64, [u8; 512]>);

    impl Readable for Sparse {
        fn size(&self) -> u64 {
            GEOMETRY.bytes
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
            for (place, byte) in buffer.iter_mut().enumerate() {
                let at = offset + place as u64;
                *byte = self.0.get(&(at / 512)).map_or(0, |sector| sector[(at % 512) as usize]);
            }
            Ok(())
        }
    }

    impl Sparse {
        fn write(&mut self, write: &Write) {
            for (place, bytes) in write.bytes.chunks(512).enumerate() {
                let lba = write.offset / 512 + place as u64;
                if bytes.iter().all(|byte| *byte == 0) {
                    self.0.remove(&lba);
                } else {
                    self.0.insert(lba, bytes.try_into().unwrap());
                }
            }
        }

        /// Some of its sectors, as a disk that loses power in the middle has them.
        fn tear(&mut self, stage: &[Write], chance: &mut u64) {
            for write in stage {
                for (place, bytes) in write.bytes.chunks(512).enumerate() {
                    *chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    if *chance >> 63 == 1 {
                        self.write(&Write { offset: write.offset + place as u64 * 512, bytes: bytes.to_vec() });
                    }
                }
            }
        }
    }

    fn layout() -> Layout {
        let rule: DiskRule = serde_json::from_str(r#"{"use":"path","state_mib":64,"encrypted":true}"#).unwrap();
        let guids = [Guid([1; 16]), Guid([2; 16]), Guid([3; 16])];
        Layout::new(&rule, State::Here, GEOMETRY, guids).unwrap()
    }

    fn all() -> Vec<Vec<Write>> {
        let mut stages = before(&layout(), GEOMETRY).unwrap();
        stages.extend(after(&layout(), GEOMETRY).unwrap());
        stages
    }

    fn foreign() -> Sparse {
        let mut disk = Sparse::default();
        disk.write(&Write { offset: 512, bytes: b"LABELONE".iter().copied().chain([0; 504]).collect() });
        disk.write(&Write { offset: 1 << 20, bytes: b"XFSB".iter().copied().chain([0; 508]).collect() });
        disk
    }

    #[test]
    fn a_prepared_disk_is_ours_and_a_forgotten_one_nobodys() {
        for mut disk in [Sparse::default(), foreign()] {
            let stages = all();
            let finished = stages.len();
            for (number, stage) in stages.iter().enumerate() {
                for write in stage {
                    disk.write(write);
                }
                let content = look(&disk, GEOMETRY);
                let last_three = number + 3 >= finished;
                match content {
                    // The first copy of the finished table counts as soon as it is there; the second one before it does not.
                    Content::Ours(found) => assert!(last_three && found == layout().ready(), "{number}"),
                    Content::Unfinished => assert!(number + 2 < finished, "{number}"),
                    other @ (Content::Empty | Content::Foreign(_) | Content::Unreadable(_)) => {
                        panic!("after stage {number}: {other:?}")
                    }
                }
            }
            // What LUKS wrote into its partition.
            let data = layout().data().unwrap().begin;
            disk.write(&Write { offset: data + (8 << 20), bytes: vec![7; 512] });
            for write in forget(&layout(), GEOMETRY).unwrap().iter().flatten() {
                disk.write(write);
            }
            assert_eq!(look(&disk, GEOMETRY), Content::Empty);
            assert!(disk.0.is_empty(), "no key is left");
        }
    }

    proptest! {
        /// Power fails somewhere, with any of what was not yet certain on the disk or not.
        #[test]
        fn power_may_fail_at_any_moment(stage in 0usize..9, mut chance in any::<u64>(), was_foreign in any::<bool>()) {
            let mut disk = if was_foreign { foreign() } else { Sparse::default() };
            let untouched = look(&disk, GEOMETRY);
            let stages = all();
            prop_assert_eq!(stages.len(), 9);
            for done in &stages[..stage] {
                for write in done {
                    disk.write(write);
                }
            }
            disk.tear(&stages[stage], &mut chance);
            match look(&disk, GEOMETRY) {
                Content::Unfinished => {}
                Content::Ours(found) => {
                    // Only after the file systems were made.
                    prop_assert!(stage >= 6);
                    prop_assert_eq!(found, layout().ready());
                }
                other @ (Content::Empty | Content::Foreign(_) | Content::Unreadable(_)) => {
                    prop_assert!(stage == 0 && other == untouched, "stage {}: {:?}", stage, other);
                }
            }
        }
    }
}
