//! What our partitions are: their kind, what their names say, and how large they are.

use api::disks::{DiskRule, FileSystem, Purpose};

use super::gpt::{Entry, Geometry, Guid, Table};

/// The kind of all our partitions. Nobody else makes any.
pub const KIND: Guid =
    Guid([0x6d, 0x65, 0x73, 0x6f, 0x6c, 0x69, 0x74, 0x68, 0x9d, 0x15, 0x4b, 0x5f, 0xa2, 0xc0, 0x7e, 0x31]);
/// The bit that says that the file system is there: what lacks it is made again.
const READY: u64 = 1 << 48;
/// Every name begins with it.
const PREFIX: &str = "mesolith";
/// Less room is not worth a file system: XFS wants 300 MB.
pub const SMALLEST: u64 = 320 << 20;

/// One partition of ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Part {
    /// What for.
    pub purpose: Purpose,
    /// What is on it.
    pub filesystem: FileSystem,
    /// Below LUKS.
    pub encrypted: bool,
    /// Which: also names the file system and the key.
    pub guid: Guid,
    /// Its first byte.
    pub begin: u64,
    /// The byte after its last.
    pub end: u64,
    /// The file system was made.
    pub ready: bool,
}

/// A disk of ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layout {
    /// Which.
    pub disk: Guid,
    /// In their order.
    pub parts: Vec<Part>,
}

impl Part {
    /// Its size.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.end - self.begin
    }

    /// What programs can surely write to it, in MiB: a part goes to the file system's own tables and journal. The same
    /// before and after it is mounted, so that what was reserved of it stays what it was.
    #[must_use]
    pub const fn offered_mib(&self) -> u64 {
        (self.bytes() / 100 * 95) >> 20
    }

    fn name(&self) -> String {
        let luks = if self.encrypted { " luks" } else { "" };
        format!("{PREFIX} {} {}{luks}", self.purpose, self.filesystem)
    }

    fn of(entry: &Entry) -> Option<Self> {
        if entry.kind != KIND {
            return None;
        }
        let mut words = entry.name.split(' ');
        if words.next() != Some(PREFIX) {
            return None;
        }
        let purpose = match words.next()? {
            "path" => Purpose::Path,
            "mount" => Purpose::Mount,
            "state" => Purpose::State,
            _ => return None,
        };
        let filesystem = match words.next()? {
            "ext4" => FileSystem::Ext4,
            "xfs" => FileSystem::Xfs,
            _ => return None,
        };
        let encrypted = match words.next() {
            None => false,
            Some("luks") => true,
            Some(_) => return None,
        };
        let ready = entry.attributes & READY != 0;
        let (guid, begin, end) = (entry.guid, entry.begin, entry.end);
        Some(Self { purpose, filesystem, encrypted, guid, begin, end, ready })
    }
}

impl Layout {
    /// What a rule makes of a disk. `state`: the part for the node's own state belongs to this one. `guids` are new ones by
    /// chance, for the disk and two partitions.
    ///
    /// # Errors
    /// The disk is too small: why, for people.
    pub fn new(rule: &DiskRule, state: State, geometry: Geometry, guids: [Guid; 3]) -> Result<Self, String> {
        let too_small = || format!("it is too small: {} MiB", geometry.bytes >> 20);
        let (mut begin, end) = geometry.usable().ok_or_else(too_small)?;
        let [disk, one, other] = guids;
        let mut parts = Vec::new();
        let part = |purpose, filesystem, encrypted, guid, begin, end| Part {
            purpose,
            filesystem,
            encrypted,
            guid,
            begin,
            end,
            ready: false,
        };
        let size = rule.state_size_mib().filter(|_| state == State::Here || rule.purpose == Purpose::State);
        if let Some(mib) = size {
            let until = (mib << 20).saturating_add(begin).min(end);
            // It is small and has to survive anything: always ext4.
            parts.push(part(Purpose::State, FileSystem::Ext4, false, one, begin, until));
            begin = until;
        }
        if rule.purpose != Purpose::State {
            if end.saturating_sub(begin) < SMALLEST {
                return Err(too_small());
            }
            parts.push(part(rule.purpose, rule.filesystem, rule.encrypted, other, begin, end));
        }
        Ok(Self { disk, parts })
    }

    /// The table that says so.
    #[must_use]
    pub fn table(&self) -> Table {
        let entry = |part: &Part| Entry {
            kind: KIND,
            guid: part.guid,
            begin: part.begin,
            end: part.end,
            attributes: if part.ready { READY } else { 0 },
            name: part.name(),
        };
        Table { disk: self.disk, entries: self.parts.iter().map(entry).collect() }
    }

    /// The layout a table says, if it is ours.
    #[must_use]
    pub fn of(table: &Table) -> Option<Self> {
        let parts: Option<Vec<Part>> = table.entries.iter().map(Part::of).collect();
        let parts = parts.filter(|parts| !parts.is_empty())?;
        Some(Self { disk: table.disk, parts })
    }

    /// Are all its file systems made?
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.parts.iter().all(|part| part.ready)
    }

    /// All made now.
    #[must_use]
    pub fn ready(mut self) -> Self {
        self.parts.iter_mut().for_each(|part| part.ready = true);
        self
    }

    /// The part that is not for state.
    #[must_use]
    pub fn data(&self) -> Option<&Part> {
        self.parts.iter().find(|part| part.purpose != Purpose::State)
    }

    /// The part that is.
    #[must_use]
    pub fn state(&self) -> Option<&Part> {
        self.parts.iter().find(|part| part.purpose == Purpose::State)
    }

    /// Is it what a rule wants? Otherwise what it is, for people.
    ///
    /// # Errors
    /// What it is instead.
    pub fn serves(&self, rule: &DiskRule) -> Result<(), String> {
        let same = match self.data() {
            Some(part) => {
                part.purpose == rule.purpose && part.filesystem == rule.filesystem && part.encrypted == rule.encrypted
            }
            None => rule.purpose == Purpose::State,
        };
        if same {
            return Ok(());
        }
        let names: Vec<String> = self.parts.iter().map(Part::name).collect();
        Err(format!("it was prepared as `{}`, which the rule does not want", names.join(", ")))
    }

    /// What follows the purpose in lists.
    #[must_use]
    pub fn describe(&self) -> String {
        let names: Vec<String> =
            self.parts.iter().map(|part| part.name().trim_start_matches(PREFIX).trim().to_owned()).collect();
        names.join(", ")
    }
}

/// Is the node's own state to be on this disk?
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// Yes.
    Here,
    /// It has none, or it is on another one.
    Elsewhere,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry = Geometry { bytes: 4 << 30, sector: 512 };
    const GUIDS: [Guid; 3] = [Guid([1; 16]), Guid([2; 16]), Guid([3; 16])];

    fn rule(json: &str) -> DiskRule {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_layout_survives_its_own_table() {
        assert_eq!(&KIND.to_string()[..18], "6d65736f-6c69-7468");
        for (json, state, expected) in [
            (r#"{"use":"path","state_mib":512}"#, State::Here, "state ext4, path ext4"),
            (r#"{"use":"path","state_mib":512}"#, State::Elsewhere, "path ext4"),
            (r#"{"use":"mount","filesystem":"xfs","encrypted":true}"#, State::Here, "mount xfs luks"),
            (r#"{"use":"state"}"#, State::Elsewhere, "state ext4"),
        ] {
            let rule = rule(json);
            let layout = Layout::new(&rule, state, GEOMETRY, GUIDS).unwrap();
            assert_eq!(layout.describe(), expected);
            assert!(layout.table().stages(GEOMETRY).is_some(), "it fits");
            assert_eq!(Layout::of(&layout.table()).as_ref(), Some(&layout));
            assert_eq!(layout.serves(&rule), Ok(()));
            assert!(!layout.is_ready() && Layout::of(&layout.clone().ready().table()).unwrap().is_ready());
            assert!(layout.serves(&self::rule(r#"{"use":"mount","filesystem":"ext4"}"#)).is_err());
        }
    }

    #[test]
    fn partitions_of_others_are_not_ours() {
        let layout = Layout::new(&rule(r#"{"use":"path"}"#), State::Elsewhere, GEOMETRY, GUIDS).unwrap();
        let mut table = layout.table();
        table.entries[0].name = "mesolith swap ext4".to_owned();
        assert_eq!(Layout::of(&table), None);
        let mut table = layout.table();
        table.entries[0].kind = Guid([7; 16]);
        assert_eq!(Layout::of(&table), None);
        assert_eq!(Layout::of(&Table::default()), None);
    }

    #[test]
    fn a_disk_that_is_too_small_is_refused() {
        let small = Geometry { bytes: 256 << 20, sector: 512 };
        let error = Layout::new(&rule(r#"{"use":"path"}"#), State::Elsewhere, small, GUIDS).unwrap_err();
        assert_eq!(error, "it is too small: 256 MiB");
    }
}
