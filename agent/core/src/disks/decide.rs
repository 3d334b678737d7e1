//! What is to be done with each disk.

use std::collections::BTreeMap;

use api::disks::{NamedRule, Pick, Purpose, fits_pattern};
use hwdetect::{Disk, Transport};

use super::content::Content;
use super::layout::{Layout, State};
use crate::attributes::disk_type;

/// A disk and what is on it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// As the kernel shows it.
    pub disk: Disk,
    /// What is on it.
    pub content: Content,
}

/// What is to be done with a disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// No rule wants it: it is left alone.
    Leave,
    /// It is left alone although a rule wants it, or whatever rules want.
    Refuse {
        /// Whose wish it is, if any rule's.
        rule: Option<String>,
        /// Why not, for people.
        reason: String,
    },
    /// It is made ours.
    Prepare {
        /// By whose wish.
        rule: NamedRule,
        /// Does the node's own state go there?
        state: State,
    },
    /// It is ours: its parts are used as they are.
    Use {
        /// By whose wish.
        rule: String,
        /// What it is.
        layout: Layout,
    },
}

/// GB, as disks are sold.
const GB: u64 = 1_000_000_000;

/// One decision a disk, in their order.
#[must_use]
pub fn decide(rules: &[NamedRule], disks: &[Candidate]) -> Vec<Decision> {
    let mut decisions: Vec<Option<Decision>> = vec![None; disks.len()];
    let mut order: Vec<usize> = (0..disks.len()).collect();
    // Always the same ones, whatever order the kernel found them in.
    order.sort_by_key(|at| {
        let disk = &disks[*at].disk;
        (&disk.serial, &disk.wwid, &disk.name)
    });
    // Two ports of one drive look like two disks: it must not be prepared twice.
    let mut firsts: BTreeMap<Same<'_>, &str> = BTreeMap::new();
    for at in &order {
        let disk = &disks[*at].disk;
        let Some(same) = same(disk) else { continue };
        match firsts.get(&same) {
            Some(first) => {
                let reason = format!("it is {first} by another way");
                decisions[*at] = Some(Decision::Refuse { rule: None, reason });
            }
            None => {
                firsts.insert(same, &disk.name);
            }
        }
    }
    let has_state = |candidate: &Candidate| match &candidate.content {
        Content::Ours(layout) => layout.state().is_some(),
        Content::Empty | Content::Unfinished | Content::Foreign(_) | Content::Unreadable(_) => false,
    };
    // A node has one place for its state. One that is there already stays it.
    let mut state_placed = disks.iter().any(has_state);
    for rule in rules {
        let left = |decisions: &[Option<Decision>], at: &usize| decisions[*at].is_none();
        let fitting = |at: &usize| fits(&rule.disks.pick, &disks[*at].disk);
        let mut picked: Vec<usize> =
            order.iter().copied().filter(|at| left(&decisions, at)).filter(|at| fitting(at)).collect();
        // Those that were picked before come first: a new disk takes nobody's place.
        picked.sort_by_key(|at| match &disks[*at].content {
            Content::Ours(layout) if layout.serves(&rule.disks).is_ok() => 0,
            Content::Unfinished => 1,
            Content::Empty => 2,
            Content::Ours(_) | Content::Foreign(_) | Content::Unreadable(_) => 3,
        });
        let count = rule.disks.pick.count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
        for at in picked.into_iter().take(count) {
            let wants_state = rule.disks.state_size_mib().is_some() && !state_placed;
            let decision = of_one(rule, &disks[at], if wants_state { State::Here } else { State::Elsewhere });
            if matches!(&decision, Decision::Prepare { state: State::Here, .. }) {
                state_placed = true;
            }
            decisions[at] = Some(decision);
        }
    }
    decisions.into_iter().map(|decision| decision.unwrap_or(Decision::Leave)).collect()
}

/// What two ways to one drive have in common.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Same<'a> {
    Wwid(&'a str),
    Serial(&'a str, Option<u64>),
}

fn same(disk: &Disk) -> Option<Same<'_>> {
    let text = |text: &'_ Option<String>| text.as_deref().is_some_and(|text| !text.trim().is_empty());
    if text(&disk.wwid) {
        return disk.wwid.as_deref().map(Same::Wwid);
    }
    // Namespaces of one NVMe controller share its serial number.
    let is_nvme = matches!(disk.transport, Some(Transport::Nvme | Transport::NvmeFabrics));
    let serial = disk.serial.as_deref().filter(|_| !is_nvme && text(&disk.serial));
    serial.map(|serial| Same::Serial(serial, disk.size_bytes))
}

fn of_one(rule: &NamedRule, candidate: &Candidate, state: State) -> Decision {
    let serial = candidate.disk.serial.as_deref();
    let refuse = |reason: String| Decision::Refuse { rule: Some(rule.name.clone()), reason };
    if candidate.disk.read_only == Some(true) {
        return refuse("it takes no writes".to_owned());
    }
    if rule.disks.purpose == Purpose::State
        && state == State::Elsewhere
        && !matches!(&candidate.content, Content::Ours(layout) if layout.state().is_some())
    {
        return refuse("the node's state is on another disk already".to_owned());
    }
    let prepare = || Decision::Prepare { rule: rule.clone(), state };
    let how = match serial {
        Some(serial) => format!("`--wipe {serial}` in the rule empties it"),
        None => "it has no serial number: `--wipe foreign` in a rule for it alone empties it".to_owned(),
    };
    match &candidate.content {
        Content::Empty | Content::Unfinished => prepare(),
        Content::Ours(layout) => match layout.serves(&rule.disks) {
            Ok(()) => Decision::Use { rule: rule.name.clone(), layout: layout.clone() },
            Err(_) if rule.disks.may_wipe(serial) => prepare(),
            Err(reason) => refuse(format!("{reason}; {how}")),
        },
        Content::Foreign(found) => match rule.disks.may_wipe_foreign(serial) {
            true => prepare(),
            false => refuse(format!("somebody's data is on it: {}; {how}", found.join(", "))),
        },
        Content::Unreadable(reason) => refuse(format!("it cannot be read: {reason}")),
    }
}

fn fits(pick: &Pick, disk: &Disk) -> bool {
    let Some(bytes) = disk.size_bytes.filter(|bytes| *bytes > 0) else { return false };
    // What may be pulled out at any moment is nobody's disk.
    if disk.removable == Some(true) {
        return false;
    }
    let class = disk_type(disk);
    let named = |list: &[String], text: Option<&str>| {
        list.is_empty() || text.is_some_and(|text| list.iter().any(|pattern| fits_pattern(pattern, text)))
    };
    // Disks of other machines may be several machines', and sticks somebody's: only for who says so.
    let asked = pick.class.iter().any(|wanted| wanted == class);
    let kind = if pick.class.is_empty() { !matches!(class, "san" | "usb" | "mmc") } else { asked };
    kind && pick.min_gb.is_none_or(|min| bytes / GB >= min)
        && pick.max_gb.is_none_or(|max| bytes.div_ceil(GB) <= max)
        && named(&pick.model, disk.model.as_deref())
        && named(&pick.transport, disk.transport.map(|transport| transport.to_string()).as_deref())
        && named(&pick.serial, disk.serial.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::gpt::{Geometry, Guid};
    use hwdetect::Transport;

    fn disk(serial: &str, gb: u64, transport: Transport, content: Content) -> Candidate {
        Candidate {
            disk: Disk {
                name: format!("d{serial}"),
                transport: Some(transport),
                rotational: Some(transport != Transport::Nvme),
                size_bytes: Some(gb * GB),
                serial: Some(serial.to_owned()),
                model: Some("MZQL2".to_owned()),
                ..Disk::default()
            },
            content,
        }
    }

    fn rules(texts: &[&str]) -> Vec<NamedRule> {
        let one = |(at, text): (usize, &&str)| NamedRule {
            name: format!("r{at}"),
            disks: serde_json::from_str(text).unwrap(),
        };
        texts.iter().enumerate().map(one).collect()
    }

    fn ours(text: &str) -> Content {
        let geometry = Geometry { bytes: 8 << 30, sector: 512 };
        let rule = &rules(&[text])[0].disks;
        Content::Ours(Layout::new(rule, State::Here, geometry, [Guid([1; 16]); 3]).unwrap().ready())
    }

    fn shown(decisions: &[Decision]) -> Vec<String> {
        let one = |decision: &Decision| match decision {
            Decision::Leave => "leave".to_owned(),
            Decision::Refuse { rule, reason } => format!("refuse {}: {reason}", rule.as_deref().unwrap_or("-")),
            Decision::Prepare { rule, state } => format!("prepare {} {state:?}", rule.name),
            Decision::Use { rule, layout } => format!("use {rule} {}", layout.describe()),
        };
        decisions.iter().map(one).collect()
    }

    #[test]
    fn without_a_rule_every_disk_is_left_alone() {
        let disks = [disk("1", 100, Transport::Nvme, Content::Empty), disk("2", 100, Transport::Sata, ours(PATH))];
        assert_eq!(shown(&decide(&[], &disks)), ["leave", "leave"]);
    }

    const PATH: &str = r#"{"use":"path","pick":{"class":["nvme"]}}"#;

    #[test]
    fn a_rule_takes_what_it_names_and_the_first_rule_counts() {
        let disks = [
            disk("3", 100, Transport::Nvme, Content::Empty),
            disk("1", 100, Transport::Nvme, Content::Empty),
            disk("2", 8000, Transport::Sata, Content::Empty),
            disk("4", 8000, Transport::Usb, Content::Empty),
        ];
        let rules = rules(&[
            r#"{"use":"path","pick":{"class":["nvme"],"count":1},"state_mib":512}"#,
            r#"{"use":"mount","pick":{"min_gb":50}}"#,
        ]);
        assert_eq!(
            shown(&decide(&rules, &disks)),
            ["prepare r1 Elsewhere", "prepare r0 Here", "prepare r1 Elsewhere", "leave"],
            "by serial number, and no stick unless it is asked for"
        );
    }

    #[test]
    fn foreign_data_and_other_layouts_are_refused_until_it_is_said() {
        let mount = r#"{"use":"mount","pick":{"class":["nvme"]}}"#;
        let disks = [
            disk("1", 100, Transport::Nvme, Content::Foreign(vec!["LVM", "XFS"])),
            disk("2", 100, Transport::Nvme, ours(PATH)),
            disk("3", 100, Transport::Nvme, Content::Unfinished),
        ];
        assert_eq!(
            shown(&decide(&rules(&[mount]), &disks)),
            [
                "refuse r0: somebody's data is on it: LVM, XFS; `--wipe 1` in the rule empties it",
                "refuse r0: it was prepared as `mesolith path ext4`, which the rule does not want; `--wipe 2` in the rule \
                 empties it",
                "prepare r0 Elsewhere",
            ]
        );
        let foreign = r#"{"use":"mount","pick":{"class":["nvme"]},"wipe":["foreign"]}"#;
        let decisions = shown(&decide(&rules(&[foreign]), &disks));
        assert_eq!(decisions[0], "prepare r0 Elsewhere");
        assert!(decisions[1].starts_with("refuse"), "what is ours is emptied by serial number only");
        let by_serial = r#"{"use":"mount","pick":{"class":["nvme"]},"wipe":["2"]}"#;
        let decisions = shown(&decide(&rules(&[by_serial]), &disks));
        assert!(decisions[0].starts_with("refuse") && decisions[1].starts_with("prepare"));
    }

    #[test]
    fn a_disk_that_is_ours_keeps_its_place_when_others_come() {
        let rules = rules(&[r#"{"use":"path","pick":{"class":["nvme"],"count":1}}"#]);
        let disks = [disk("1", 100, Transport::Nvme, Content::Empty), disk("2", 100, Transport::Nvme, ours(PATH))];
        assert_eq!(shown(&decide(&rules, &disks)), ["leave", "use r0 path ext4"]);
    }

    #[test]
    fn a_drive_that_is_seen_twice_is_prepared_once() {
        let rules = rules(&[r#"{"use":"mount","pick":{"class":["hdd","nvme"],"count":2}}"#]);
        let named = |name: &str, serial: &str, wwid: Option<&str>, gb: u64, transport: Transport| {
            let mut one = disk(serial, gb, transport, Content::Empty);
            one.disk.name = name.to_owned();
            one.disk.wwid = wwid.map(str::to_owned);
            one
        };
        let twice = |first: &str| format!("refuse -: it is {first} by another way");
        let disks = [
            named("sdb", "1", Some("naa.5"), 100, Transport::Sas),
            named("sda", "1", Some("naa.5"), 100, Transport::Sas),
            named("sdc", "1", Some("naa.6"), 100, Transport::Sas),
        ];
        let decisions = shown(&decide(&rules, &disks));
        assert_eq!(decisions, [twice("sda"), "prepare r0 Elsewhere".into(), "prepare r0 Elsewhere".into()]);
        let disks = [
            named("sda", "1", None, 100, Transport::Sas),
            named("sdb", "1", None, 100, Transport::Sas),
            named("sdc", "1", None, 200, Transport::Sas),
        ];
        assert_eq!(shown(&decide(&rules, &disks))[1], twice("sda"));
        assert_eq!(shown(&decide(&rules, &disks))[2], "prepare r0 Elsewhere", "another size is another drive");
        let disks =
            [named("nvme0n1", "1", None, 100, Transport::Nvme), named("nvme0n2", "1", None, 100, Transport::Nvme)];
        assert_eq!(shown(&decide(&rules, &disks)), ["prepare r0 Elsewhere"; 2], "namespaces of one controller");
    }

    #[test]
    fn a_node_has_one_place_for_its_state() {
        let rules = rules(&[r#"{"use":"state","pick":{"class":["nvme"]}}"#]);
        let disks = [disk("1", 100, Transport::Nvme, Content::Empty), disk("2", 100, Transport::Nvme, Content::Empty)];
        let decisions = shown(&decide(&rules, &disks));
        assert_eq!(decisions, ["prepare r0 Here", "refuse r0: the node's state is on another disk already"]);
        let disks = [
            disk("1", 100, Transport::Nvme, Content::Empty),
            disk("2", 100, Transport::Nvme, ours(r#"{"use":"state"}"#)),
        ];
        assert_eq!(shown(&decide(&rules, &disks))[1], "use r0 state ext4");
    }

    #[test]
    fn sizes_models_and_serials_are_looked_at() {
        let one = disk("S4XNNF0", 3840, Transport::Nvme, Content::Empty).disk;
        for (pick, fits) in [
            (r#"{"min_gb":3840,"max_gb":3840}"#, true),
            (r#"{"min_gb":3841}"#, false),
            (r#"{"max_gb":3839}"#, false),
            (r#"{"model":["mzql*"],"serial":["s4x*"]}"#, true),
            (r#"{"transport":["sata","nvme"]}"#, true),
            (r#"{"transport":["sata"]}"#, false),
            (r#"{"serial":["S4"]}"#, false),
        ] {
            let pick: Pick = serde_json::from_str(pick).unwrap();
            assert_eq!(super::fits(&pick, &one), fits, "{pick:?}");
        }
        let removable = Disk { removable: Some(true), ..one.clone() };
        let pick = Pick { count: Some(1), ..Pick::default() };
        assert!(super::fits(&pick, &one) && !super::fits(&pick, &removable));
    }
}
