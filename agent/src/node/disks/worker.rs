//! One pass over the disks: look, decide, do.

use std::path::Path;
use std::time::Instant;

use agent_core::disks::content::Content;
use agent_core::disks::decide::{Candidate, Decision, decide};
use agent_core::disks::gpt::Guid;
use agent_core::disks::layout::{Layout, Part, State};
use agent_core::disks::preparing;
use api::disks::NamedRule;
use hwdetect::smart::Verdict;
use hwdetect::{Disk, SysRoot};

use super::board::{Board, Shown, Used, Wanted};
use super::mounting::{Flash, Release, close, is_mounted, make, mount_point, release, use_part};
use super::owner::{self, Owner};
use super::tools::Tools;
use super::{HEALTH, TRIM, device, health, volumes};
use crate::logging::chain;
use crate::node::settings::Settings;

/// What became of it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Passed {
    /// The node offers something else than before.
    pub(crate) changed: bool,
}

/// What is ours and finished is mounted, whatever rules there are: they were followed when it was made. Reads the disks'
/// tables.
pub(crate) fn mount_ours(settings: &Settings) {
    let board = &settings.disks;
    let Some(_working) = board.work() else {
        // Whoever works now mounts it.
        return tracing::warn!("disks are being prepared: what is ours on others is mounted with them");
    };
    let (disks, this) = disks(settings);
    for disk in disks {
        if let Some(layout) = device::ours(&disk) {
            take(board, settings, &disk, &layout, &this, None);
        }
    }
    // Before anything is offered.
    board.hold_off(&settings.work_dir);
}

/// The disks, and who we are.
fn disks(settings: &Settings) -> (Vec<Disk>, Owner) {
    let inventory = hwdetect::detect(&SysRoot::host());
    let this = Owner::this(&inventory, settings);
    (inventory.disks.into_iter().filter(|disk| disk.size_bytes.unwrap_or(0) > 0).collect(), this)
}

/// Each disk is read once; only we change what is on one that is ours. One that cannot be read may be readable later.
fn look_once(board: &Board, disk: &Disk) -> Content {
    let key = device::sequence(disk);
    let known = board.lock().contents.get(&key).cloned();
    known.unwrap_or_else(|| {
        let content = device::look(disk);
        if !matches!(content, Content::Unreadable(_)) {
            board.lock().contents.insert(key, content.clone());
        }
        content
    })
}

/// The same, but another node's disk is somebody else's.
fn judge(board: &Board, disk: &Disk) -> Content {
    let is_strange = board.lock().strangers.contains_key(&device::sequence(disk));
    if is_strange { Content::Foreign(vec!["a disk of another Mesolith node"]) } else { look_once(board, disk) }
}

/// Does everything there is to do. Blocks, for minutes if file systems are made.
pub(crate) fn pass(settings: &Settings) -> Passed {
    let board = &settings.disks;
    let Some(_working) = board.work() else { return Passed::default() };
    let before = (board.resources(), board.pool_mib(), board.facts());
    let (all, this) = disks(settings);
    gone(board, settings, &all);
    for disk in &all {
        // Before it is decided what becomes of it, it is known whose it is.
        if let Content::Ours(layout) = look_once(board, disk) {
            take(board, settings, disk, &layout, &this, None);
        }
    }
    let candidates: Vec<Candidate> =
        all.into_iter().map(|disk| Candidate { content: judge(board, &disk), disk }).collect();
    let rules = board.lock().rules.clone();
    match rules {
        // Nobody has said anything: what is ours is used as it is.
        None => {
            for candidate in &candidates {
                follow(board, settings, candidate, &this, Decision::Leave);
            }
        }
        Some(rules) => {
            let decisions = decide(&rules, &candidates);
            for (candidate, decision) in candidates.iter().zip(decisions) {
                follow(board, settings, candidate, &this, decision);
            }
        }
    }
    volumes::settle(board);
    watch(board, &candidates);
    if let Some((disk, why)) = board.hold_off(&settings.work_dir)
        && let Some(shown) = board.lock().shown.get_mut(&disk)
    {
        shown.reason = why.to_owned();
    }
    let after = (board.resources(), board.pool_mib(), board.facts());
    Passed { changed: before != after }
}

/// Disks that were taken out.
fn gone(board: &Board, settings: &Settings, all: &[Disk]) {
    let keys: Vec<String> = all.iter().map(device::sequence).collect();
    let missing: Vec<Guid> = {
        let mut known = board.lock();
        known.contents.retain(|key, _| keys.contains(key));
        known.planned.retain(|key, _| keys.contains(key));
        known.strangers.retain(|key, _| keys.contains(key));
        known.shown.retain(|name, _| all.iter().any(|disk| disk.name == *name));
        known.health.retain(|name, _| all.iter().any(|disk| disk.name == *name));
        let parts = known.parts.values();
        let is_missing = |used: &&Used| device::partition(&used.disk, used.part.begin).is_none();
        parts.filter(is_missing).map(|used| used.part.guid).collect()
    };
    for guid in missing {
        let used = board.lock().parts.remove(&guid);
        let Some(used) = used else { continue };
        tracing::warn!(disk = used.disk, partition = %guid, "a disk of ours is gone");
        if let Err(error) = release(guid, Release::Lazily) {
            tracing::warn!(partition = %guid, %error, "what was on it cannot be unmounted");
        }
        if used.part.encrypted
            && let Err(error) = Tools::unpack(settings.run.path()).and_then(|tools| close(guid, &tools))
        {
            tracing::warn!(partition = %guid, error = %chain(&error), "it cannot be closed");
        }
    }
}

fn follow(board: &Board, settings: &Settings, candidate: &Candidate, this: &Owner, decision: Decision) {
    let Candidate { disk, content } = candidate;
    let shown = |state: &'static str, rule: Option<String>, reason: String| {
        let content = describe(content);
        board.lock().shown.insert(disk.name.clone(), Shown { content, state, rule, reason });
    };
    match decision {
        Decision::Leave => {
            // It was ours and in use, and the rule is gone.
            if let Content::Ours(layout) = content {
                // Until a master has said otherwise, it is as it was.
                let unwanted = board.lock().rules.is_some();
                leave(board, layout);
                let why = if unwanted { "no rule wants it any more: nothing new is put on it" } else { "" };
                shown("in use", None, why.to_owned());
            } else {
                shown("unused", None, String::new());
            }
        }
        Decision::Refuse { rule, reason } => {
            // Without a rule it is one of ours by another way, and used by the first.
            if let (Content::Ours(layout), Some(_)) = (content, &rule) {
                leave(board, layout);
            }
            let news = board.lock().shown.get(&disk.name).is_none_or(|before| before.reason != reason);
            if news {
                tracing::warn!(disk = disk.name, serial = disk.serial, rule, reason, "a disk is not touched");
            }
            shown("refused", rule, reason);
        }
        Decision::Use { rule, layout } => {
            claim(board, &layout, this);
            let failure = {
                let mut known = board.lock();
                let parts = layout
                    .parts
                    .iter()
                    .filter_map(|part| Some(part.guid).filter(|guid| known.parts.contains_key(guid)));
                let guids: Vec<Guid> = parts.collect();
                let mut failure = None;
                for guid in guids {
                    if let Some(used) = known.parts.get_mut(&guid) {
                        used.unwanted = false;
                        failure = failure.or_else(|| used.failure.as_ref().map(|failure| failure.why.clone()));
                    }
                }
                failure
            };
            match failure {
                Some(reason) => shown("failed", Some(rule), reason),
                None => shown("in use", Some(rule), layout.describe()),
            }
        }
        Decision::Prepare { rule, state } => {
            shown("preparing", Some(rule.name.clone()), String::new());
            let began = Instant::now();
            match prepare(board, settings, candidate, &rule, state) {
                Ok(Some(layout)) => {
                    let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    let what = layout.describe();
                    tracing::info!(
                        disk = disk.name,
                        serial = disk.serial,
                        rule = rule.name,
                        what,
                        millis,
                        "a disk is prepared"
                    );
                    take(board, settings, disk, &layout, this, Some(&rule.name));
                    claim(board, &layout, this);
                    let content = describe(&Content::Ours(layout));
                    let now = Shown { content, state: "in use", rule: Some(rule.name), reason: what };
                    board.lock().shown.insert(disk.name.clone(), now);
                }
                Ok(None) => shown("preparing", Some(rule.name), "waits for a key from a master".to_owned()),
                Err(reason) => {
                    tracing::error!(
                        disk = disk.name,
                        serial = disk.serial,
                        rule = rule.name,
                        reason,
                        "a disk is not prepared"
                    );
                    shown("failed", Some(rule.name), reason);
                }
            }
        }
    }
}

/// Nothing new is put on it; until a master has said what it wants, it is as it was.
fn leave(board: &Board, layout: &Layout) {
    let mut known = board.lock();
    let unwanted = known.rules.is_some();
    for part in &layout.parts {
        if let Some(used) = known.parts.get_mut(&part.guid) {
            used.unwanted = unwanted;
        }
    }
}

/// What is on a disk, for people.
fn describe(content: &Content) -> String {
    match content {
        Content::Empty => "empty".to_owned(),
        Content::Unfinished => "a preparation that did not end".to_owned(),
        Content::Ours(layout) => format!("ours: {}", layout.describe()),
        Content::Foreign(found) => found.join(", "),
        Content::Unreadable(reason) => format!("unreadable: {reason}"),
    }
}

/// A GUID by chance.
fn guid() -> Guid {
    Guid(*uuid::Uuid::new_v4().as_bytes())
}

fn flash(disk: &Disk) -> Flash {
    if disk.rotational == Some(true) { Flash::No } else { Flash::Yes }
}

/// Makes a disk ours. None while a key is waited for.
fn prepare(
    board: &Board,
    settings: &Settings,
    candidate: &Candidate,
    rule: &NamedRule,
    state: State,
) -> Result<Option<Layout>, String> {
    let Candidate { disk, content } = candidate;
    let (key, geometry) = (device::sequence(disk), device::geometry(disk));
    // What was there when it was decided: of another node's disk more than is shown.
    let seen = look_once(board, disk);
    let planned = board.lock().planned.get(&key).cloned().filter(|layout| layout.serves(&rule.disks).is_ok());
    let layout = match planned {
        Some(layout) => layout,
        None => Layout::new(&rule.disks, state, geometry, [guid(), guid(), guid()])?,
    };
    let mut secret = None;
    if let Some(part) = layout.data().filter(|part| part.encrypted) {
        let mut known = board.lock();
        secret = known.keys.remove(&part.guid);
        if secret.is_none() {
            known.wanted.insert(part.guid, Wanted::New);
            known.planned.insert(key, layout);
            return Ok(None);
        }
    }
    let io = |error: std::io::Error| format!("it cannot be written: {error}");
    let tools = Tools::unpack(settings.run.path()).map_err(|error| chain(&error))?;
    // One of ours that is to be another may be in use, and a preparation that did not end may have left something open.
    let mut old = board.lock().planned.get(&key).map(|layout| layout.parts.clone()).unwrap_or_default();
    match &seen {
        Content::Ours(layout) => old.extend(layout.parts.clone()),
        Content::Unfinished => old.extend(device::begun(disk).map(|layout| layout.parts).unwrap_or_default()),
        Content::Empty | Content::Foreign(_) | Content::Unreadable(_) => {}
    }
    for part in &old {
        release(part.guid, Release::Now).map_err(|error| format!("it is in use: {error}"))?;
        close(part.guid, &tools).map_err(|error| chain(&error))?;
        board.lock().parts.remove(&part.guid);
    }
    // What is known of it may be old. Whatever becomes of it now, it is looked at again afterwards.
    board.lock().contents.remove(&key);
    let now = device::look(disk);
    if now != Content::Unfinished && now != seen {
        return Err(format!("it is another than before: {}", describe(&now)));
    }
    tracing::warn!(
        disk = disk.name,
        serial = disk.serial,
        model = disk.model,
        rule = rule.name,
        was = describe(content),
        becomes = layout.describe(),
        "a disk is prepared: what is on it goes"
    );
    let too_small = || "it is too small".to_owned();
    device::write_alone(disk, &preparing::before(&layout, geometry).ok_or_else(too_small)?).map_err(io)?;
    device::read_partitions(disk).map_err(|error| format!("the kernel does not take its partitions: {error}"))?;
    for part in &layout.parts {
        let path = device::awaited_partition(&disk.name, part.begin).ok_or("its partitions do not appear")?;
        if let Err(error) = make(part, &path, &tools, secret.as_deref(), flash(disk)) {
            // Open, it would be in the way of the next attempt.
            if let Err(error) = close(part.guid, &tools) {
                tracing::warn!(partition = %part.guid, error = %chain(&error), "it cannot be closed");
            }
            return Err(chain(&error));
        }
    }
    // Not alone: an encrypted partition is open already.
    device::write_anyway(disk, &preparing::after(&layout, geometry).ok_or_else(too_small)?).map_err(io)?;
    let layout = layout.ready();
    let mut known = board.lock();
    known.planned.remove(&key);
    known.strangers.remove(&key);
    Ok(Some(layout))
}

/// Mounts what is ours on a disk, asking for keys where they are missing. What turns out to be another node's is given back.
fn take(board: &Board, settings: &Settings, disk: &Disk, layout: &Layout, this: &Owner, rule: Option<&str>) {
    let key = device::sequence(disk);
    {
        let mut known = board.lock();
        // We may know more of ourselves than when it was looked at.
        known.strangers.retain(|_, owner| owner.is_another(this));
        if known.strangers.contains_key(&key) {
            return;
        }
    }
    for part in &layout.parts {
        let (is_ours, rests) = {
            let mut known = board.lock();
            let used = known.parts.entry(part.guid).or_insert_with(|| Used {
                part: part.clone(),
                disk: disk.name.clone(),
                serial: disk.serial.clone(),
                is_ours: false,
                failure: None,
                unwanted: false,
                failing: false,
            });
            used.disk.clone_from(&disk.name);
            (used.is_ours, used.failure.as_ref().is_some_and(|failure| !failure.is_over()))
        };
        let was_mounted = is_mounted(&mount_point(part.guid));
        if rests || (was_mounted && is_ours) {
            if was_mounted && !rests {
                forget_failure(board, part.guid);
            }
            continue;
        }
        if !was_mounted {
            match take_part(board, settings, disk, part) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(reason) => {
                    board.failed(part.guid, &reason);
                    continue;
                }
            }
        }
        match owner::of(part.guid) {
            Ok(Some(owner)) if owner.is_another(this) => {
                return give_back(board, settings, disk, layout, owner);
            }
            Ok(_) => {
                if let Some(used) = board.lock().parts.get_mut(&part.guid) {
                    used.is_ours = true;
                }
                forget_failure(board, part.guid);
                tracing::info!(disk = disk.name, partition = %part.guid, purpose = %part.purpose, rule, "a disk is in use");
            }
            Err(error) => board.failed(part.guid, &format!("it cannot be read whose it is: {error}")),
        }
    }
}

fn forget_failure(board: &Board, guid: Guid) {
    if let Some(used) = board.lock().parts.get_mut(&guid) {
        used.failure = None;
    }
}

/// Another node's disk is left as it is.
fn give_back(board: &Board, settings: &Settings, disk: &Disk, layout: &Layout, owner: Owner) {
    tracing::warn!(disk = disk.name, serial = disk.serial, node = owner.called(), "a disk is another node's");
    board.lock().strangers.insert(device::sequence(disk), owner);
    for part in &layout.parts {
        board.lock().parts.remove(&part.guid);
        if let Err(error) = release(part.guid, Release::Lazily) {
            tracing::warn!(partition = %part.guid, %error, "what was on it cannot be unmounted");
        }
        if part.encrypted
            && let Err(error) = Tools::unpack(settings.run.path()).and_then(|tools| close(part.guid, &tools))
        {
            tracing::warn!(partition = %part.guid, error = %chain(&error), "it cannot be closed");
        }
    }
}

/// Says on what a rule wants, and is mounted, that it is ours.
fn claim(board: &Board, layout: &Layout, this: &Owner) {
    for part in &layout.parts {
        let is_open = board.lock().parts.get(&part.guid).is_some_and(Used::is_open);
        if is_open && let Err(error) = owner::claim(part.guid, this) {
            tracing::warn!(partition = %part.guid, %error, "it cannot be said on a disk whose it is");
        }
    }
}

/// Is it mounted now?
fn take_part(board: &Board, settings: &Settings, disk: &Disk, part: &Part) -> Result<bool, String> {
    let path = device::awaited_partition(&disk.name, part.begin).ok_or("its partition does not appear")?;
    if !part.encrypted {
        return use_part(part, &path, None, None, flash(disk)).map(|()| true).map_err(|error| chain(&error));
    }
    // Opened by the process before us, or when it was made: no key is needed.
    if use_part(part, &path, None, None, flash(disk)).is_ok() {
        return Ok(true);
    }
    let key = {
        let mut known = board.lock();
        let key = known.keys.remove(&part.guid);
        if key.is_none() {
            known.wanted.entry(part.guid).or_insert(Wanted::Known);
        }
        key
    };
    let Some(key) = key else { return Ok(false) };
    let tools = Tools::unpack(settings.run.path()).map_err(|error| chain(&error))?;
    use_part(part, &path, Some(&tools), Some(&key), flash(disk)).map(|()| true).map_err(|error| chain(&error))
}

/// How disks and file systems are.
fn watch(board: &Board, candidates: &[Candidate]) {
    let (health_due, trim_due) = {
        let mut known = board.lock();
        let due = |at: &mut Option<Instant>, every| {
            let due = at.is_none_or(|at| at.elapsed() >= every);
            if due {
                *at = Some(Instant::now());
            }
            due
        };
        // One that has just come, or was never asked, need not wait.
        let new = candidates.iter().any(|one| !known.shown.contains_key(&one.disk.name));
        let first_trim = known.trimmed_at.is_none();
        let trim = due(&mut known.trimmed_at, TRIM);
        (due(&mut known.health_at, HEALTH) || new, trim && !first_trim)
    };
    if health_due {
        for Candidate { disk, .. } in candidates {
            let Some(found) = health::of(disk) else { continue };
            let mut known = board.lock();
            let before = known.health.get(&disk.name).map(|health| health.verdict);
            if before.unwrap_or_default() != found.verdict {
                tracing::warn!(disk = disk.name, serial = disk.serial, verdict = found.verdict.name(), reasons = ?found.reasons, "a disk says how it is");
            }
            known.health.insert(disk.name.clone(), found);
        }
    }
    let parts: Vec<(Guid, String)> =
        board.lock().parts.values().map(|used| (used.part.guid, used.disk.clone())).collect();
    for (guid, disk) in parts {
        let at = mount_point(guid);
        if !is_mounted(&at) {
            continue;
        }
        let trouble = health::trouble_of(&at);
        let mut known = board.lock();
        let drive = known.health.get(&disk).filter(|health| health.verdict == Verdict::Failing);
        let why = trouble.or_else(|| drive.map(|health| health.reasons.join("; ")));
        let Some(used) = known.parts.get_mut(&guid) else { continue };
        if used.failing != why.is_some() {
            used.failing = why.is_some();
            match &why {
                Some(why) => tracing::error!(disk, partition = %guid, why, "a disk fails: nothing new is put on it"),
                None => tracing::info!(disk, partition = %guid, "a disk is good again"),
            }
        }
        if let (Some(why), Some(shown)) = (why, known.shown.get_mut(&disk)) {
            shown.state = "failing";
            shown.reason = why;
        }
        drop(known);
        if trim_due {
            trim(&at);
        }
    }
}

fn trim(at: &Path) {
    let Ok(directory) = std::fs::File::open(at) else { return };
    // Most that refuse do not want to know.
    if let Ok(bytes) = agent_sys::disk::trim(&directory) {
        tracing::debug!(at = %at.display(), bytes, "the disk knows what is not used");
    }
}
