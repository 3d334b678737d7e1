//! Who comes next: clients in a tree of '/'-separated paths, ordered by weighted dominant share
//! (Ghodsi et al., NSDI 2011; Mesos's DRF sorter).
//!
//! Every node keeps its children in order, so that giving one client something moves only that
//! client and its ancestors. When the cluster's totals change, everything is put in order anew, once.

mod copies;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use super::quantities::Quantities;
use super::{Activity, number_of};

const ROOT: u32 = 0;
/// Room between two siblings for those that come to be between them.
const RANK_STEP: u64 = 1 << 32;

/// What shares are fractions of. The version tells whether they are others than last time.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) amounts: Arc<Quantities>,
    pub(super) version: u64,
}

/// A tree of clients. A client is known by its path or by the caller's number for it.
#[derive(Debug)]
pub(super) struct Sorter {
    nodes: Vec<Node>,
    free: Vec<u32>,
    leaves: BTreeMap<u32, u32>,
    by_path: BTreeMap<Arc<str>, u32>,
    weights: BTreeMap<String, f64>,
    /// Top-level paths that are marked, and those of them that have clients, in order.
    marks: BTreeSet<String>,
    marked: BTreeSet<Key>,
    /// How often a node holds a resource that several may hold: (node, agent, kind).
    shared: BTreeMap<(u32, u32, u32), u32>,
    totals: Totals,
}

/// Leaves sort by share, then by how often they were given something, then by path.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Key {
    /// The bits of a non-negative float sort as the float does.
    share: u64,
    count: u64,
    /// Siblings' ranks sort as their paths do.
    rank: u64,
    node: u32,
}

#[derive(Debug)]
struct Node {
    path: Arc<str>,
    parent: u32,
    /// By the last component of the path; `.` stands for the parent as a client of its own.
    by_name: BTreeMap<Arc<str>, u32>,
    /// The same in order, without inactive leaves.
    sorted: BTreeSet<Key>,
    kind: Kind,
    allocation: Quantities,
    weight: f64,
    marked: bool,
    /// As it is in the parent's `sorted`.
    key: Key,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Internal,
    Leaf { active: bool, data: u32 },
    Unused,
}

impl Sorter {
    pub(super) fn new(totals: Totals) -> Self {
        let mut sorter = Self {
            nodes: Vec::new(),
            free: Vec::new(),
            leaves: BTreeMap::new(),
            by_path: BTreeMap::new(),
            weights: BTreeMap::new(),
            marks: BTreeSet::new(),
            marked: BTreeSet::new(),
            shared: BTreeMap::new(),
            totals,
        };
        sorter.nodes.push(sorter.new_node("".into(), ROOT, Kind::Internal));
        sorter
    }

    fn node(&self, index: u32) -> &Node {
        &self.nodes[index as usize]
    }

    fn node_mut(&mut self, index: u32) -> &mut Node {
        &mut self.nodes[index as usize]
    }

    fn new_node(&self, path: Arc<str>, parent: u32, kind: Kind) -> Node {
        let weight = self.weights.get(&*path).copied().unwrap_or(1.0);
        let marked = parent == ROOT && self.marks.contains(&*path);
        Node {
            path,
            parent,
            by_name: BTreeMap::new(),
            sorted: BTreeSet::new(),
            kind,
            allocation: Quantities::default(),
            weight,
            marked,
            key: Key { share: 0, count: 0, rank: 0, node: 0 },
        }
    }

    fn insert(&mut self, node: Node, name: Arc<str>) -> u32 {
        let parent = node.parent;
        let rank = self.rank(parent, &name);
        let index = if let Some(index) = self.free.pop() {
            *self.node_mut(index) = node;
            index
        } else {
            self.nodes.push(node);
            number_of(self.nodes.len() - 1)
        };
        let key = &mut self.node_mut(index).key;
        (key.rank, key.node) = (rank, index);
        self.node_mut(parent).by_name.insert(name, index);
        self.place(index);
        index
    }

    /// A rank between those of its neighbours in name; where there is no room, all siblings get new ones.
    fn rank(&mut self, parent: u32, name: &str) -> u64 {
        let between = |sorter: &Self| {
            let names = &sorter.node(parent).by_name;
            let rank = |neighbour: Option<(&Arc<str>, &u32)>| neighbour.map(|(_, node)| sorter.node(*node).key.rank);
            let before = rank(names.range::<str, _>((Bound::Unbounded, Bound::Excluded(name))).next_back());
            let after = rank(names.range::<str, _>((Bound::Excluded(name), Bound::Unbounded)).next());
            match (before, after) {
                (None, None) => Some(1 << 62),
                (Some(before), None) => before.checked_add(RANK_STEP),
                (None, Some(after)) => after.checked_sub(RANK_STEP),
                (Some(before), Some(after)) => Some(before + (after - before) / 2).filter(|rank| *rank != before),
            }
        };
        if let Some(rank) = between(self) {
            return rank;
        }
        let children: Vec<u32> = self.node(parent).by_name.values().copied().collect();
        for child in &children {
            self.unplace(*child);
        }
        for (index, child) in children.into_iter().enumerate() {
            self.node_mut(child).key.rank = (1 << 62) + index as u64 * RANK_STEP;
            self.place(child);
        }
        between(self).expect("new ranks leave room")
    }

    /// Puts everything in order if the totals are others than last time.
    pub(super) fn refresh(&mut self, totals: &Totals) {
        if self.totals.version == totals.version {
            return;
        }
        self.totals = totals.clone();
        for parent in 0..self.nodes.len() {
            if self.nodes[parent].by_name.is_empty() {
                continue;
            }
            let children: Vec<u32> = self.nodes[parent].by_name.values().copied().collect();
            for child in &children {
                let share = self.share_of(self.node(*child));
                self.node_mut(*child).key.share = share;
            }
            let present = |child: &u32| !matches!(self.node(*child).kind, Kind::Leaf { active: false, .. });
            let keys = |child: u32| self.node(child).key;
            let sorted: BTreeSet<Key> = children.iter().copied().filter(present).map(keys).collect();
            if number_of(parent) == ROOT {
                self.marked = sorted.iter().copied().filter(|key| self.node(key.node).marked).collect();
            }
            self.nodes[parent].sorted = sorted;
        }
    }

    fn share_of(&self, node: &Node) -> u64 {
        let mut share: f64 = 0.0;
        for (total, mine) in self.totals.amounts.iter().zip(node.allocation.iter()) {
            if total > 0 && mine > 0 {
                #[allow(clippy::cast_precision_loss)] // Milli stays below 2^53
                let fraction = mine as f64 / total as f64;
                share = share.max(fraction);
            }
        }
        (share / node.weight).to_bits()
    }

    /// Puts a node where it belongs among its siblings.
    fn place(&mut self, index: u32) {
        let share = self.share_of(self.node(index));
        let node = self.node_mut(index);
        node.key.share = share;
        let (key, parent, marked) = (node.key, node.parent, node.marked);
        if index != ROOT && !matches!(node.kind, Kind::Leaf { active: false, .. }) {
            self.node_mut(parent).sorted.insert(key);
            if marked {
                self.marked.insert(key);
            }
        }
    }

    fn unplace(&mut self, index: u32) {
        let node = self.node(index);
        let (key, parent, marked) = (node.key, node.parent, node.marked);
        self.node_mut(parent).sorted.remove(&key);
        if marked {
            self.marked.remove(&key);
        }
    }

    /// Adds an inactive client.
    pub(super) fn add(&mut self, client: &str, data: u32) {
        if self.by_path.contains_key(client) {
            return;
        }
        let leaf = Kind::Leaf { active: false, data };
        let mut current = ROOT;
        let mut end = 0;
        let mut components = client.split('/').peekable();
        while let Some(component) = components.next() {
            end += component.len();
            let path: Arc<str> = client[..end].into();
            end += 1;
            let last = components.peek().is_none();
            current = match self.node(current).by_name.get(component).copied() {
                Some(child) => {
                    self.open(child);
                    child
                }
                None => {
                    let name = if current == ROOT { path.clone() } else { component.into() };
                    let node = self.new_node(path.clone(), current, if last { leaf } else { Kind::Internal });
                    let index = self.insert(node, name);
                    if last {
                        self.leaves.insert(data, index);
                        self.by_path.insert(path, data);
                        return;
                    }
                    index
                }
            };
        }
        // There are clients below this path already: it is a client beside them.
        let node = self.new_node(format!("{client}/.").into(), current, leaf);
        let index = self.insert(node, ".".into());
        self.leaves.insert(data, index);
        self.by_path.insert(client.into(), data);
    }

    /// Makes a leaf an inner node; the client it was moves below it.
    fn open(&mut self, index: u32) {
        let Kind::Leaf { data, .. } = self.node(index).kind else { return };
        self.unplace(index);
        let kind = std::mem::replace(&mut self.node_mut(index).kind, Kind::Internal);
        self.place(index);
        let mut own = self.new_node(format!("{}/.", self.node(index).path).into(), index, kind);
        own.allocation = self.node(index).allocation.clone();
        own.key.count = self.node(index).key.count;
        let own = self.insert(own, ".".into());
        self.leaves.insert(data, own);
        let held: Vec<_> =
            self.shared_of(index).map(|((_, agent, kind), copies)| ((own, agent, kind), copies)).collect();
        self.shared.extend(held);
    }

    fn shared_of(&self, index: u32) -> impl Iterator<Item = ((u32, u32, u32), u32)> + '_ {
        self.shared.range((index, 0, 0)..=(index, u32::MAX, u32::MAX)).map(|(key, copies)| (*key, *copies))
    }

    /// Removes a client and what it was given; what several may hold it has given back before.
    pub(super) fn remove(&mut self, data: u32) {
        let Some(leaf) = self.leaves.get(&data).copied() else { return };
        self.leaves.remove(&data);
        let node = self.node(leaf);
        let (path, allocation) = (node.path.clone(), node.allocation.clone());
        self.by_path.remove(path.strip_suffix("/.").unwrap_or(&path));
        let mut current = leaf;
        while current != ROOT {
            let parent = self.node(current).parent;
            if parent != ROOT {
                self.unplace(parent);
                self.node_mut(parent).allocation.sub(&allocation);
                self.place(parent);
            }
            if current == leaf || self.node(current).by_name.is_empty() {
                self.unplace(current);
                let path = self.node(current).path.clone();
                let name = path.rsplit('/').next().unwrap_or(&path);
                self.node_mut(parent).by_name.remove(name);
                self.forget(current);
            } else {
                self.close(current);
            }
            current = parent;
        }
    }

    fn forget(&mut self, index: u32) {
        let node = self.node_mut(index);
        node.kind = Kind::Unused;
        node.by_name.clear();
        node.sorted.clear();
        self.free.push(index);
    }

    /// Undoes [`open`](Self::open) where `.` is the only child left.
    fn close(&mut self, index: u32) {
        let node = self.node(index);
        let Some(own) = node.by_name.get(".").copied().filter(|_| node.by_name.len() == 1) else { return };
        self.unplace(index);
        let kind = self.node(own).kind;
        let node = self.node_mut(index);
        node.kind = kind;
        node.by_name.clear();
        node.sorted.clear();
        self.place(index);
        let held: Vec<_> = self.shared_of(own).map(|(key, _)| key).collect();
        for key in held {
            self.shared.remove(&key);
        }
        self.forget(own);
        if let Kind::Leaf { data, .. } = kind {
            self.leaves.insert(data, index);
        }
    }

    /// Inactive clients keep what they have and are passed over.
    pub(super) fn set_activity(&mut self, data: u32, activity: Activity) {
        let active = activity == Activity::Active;
        let Some(index) = self.leaves.get(&data).copied() else { return };
        if let Kind::Leaf { active: was, data } = self.node(index).kind
            && was != active
        {
            self.unplace(index);
            self.node_mut(index).kind = Kind::Leaf { active, data };
            self.place(index);
        }
    }

    /// A weight belongs to a path and outlives its clients.
    pub(super) fn set_weight(&mut self, path: &str, weight: f64) {
        self.weights.insert(path.to_owned(), weight);
        if let Some(index) = self.find(path) {
            self.unplace(index);
            self.node_mut(index).weight = weight;
            self.place(index);
        }
    }

    pub(super) fn weight(&self, path: &str) -> f64 {
        self.weights.get(path).copied().unwrap_or(1.0)
    }

    /// Marks a top-level path.
    pub(super) fn mark(&mut self, path: &str) {
        self.marks.insert(path.to_owned());
        self.remark(path);
    }

    /// Takes the mark away.
    pub(super) fn unmark(&mut self, path: &str) {
        self.marks.remove(path);
        self.remark(path);
    }

    fn remark(&mut self, path: &str) {
        if let Some(index) = self.node(ROOT).by_name.get(path).copied() {
            self.unplace(index);
            self.node_mut(index).marked = self.marks.contains(path);
            self.place(index);
        }
    }

    fn find(&self, path: &str) -> Option<u32> {
        let mut current = ROOT;
        for component in path.split('/') {
            current = self.node(current).by_name.get(component).copied()?;
        }
        Some(current)
    }

    /// The share of a path's whole subtree.
    pub(super) fn share(&self, path: &str) -> f64 {
        self.find(path).map_or(0.0, |index| f64::from_bits(self.share_of(self.node(index))))
    }

    fn change(&mut self, data: u32, change: impl Fn(&mut Node)) {
        let Some(mut index) = self.leaves.get(&data).copied() else { return };
        while index != ROOT {
            self.unplace(index);
            change(self.node_mut(index));
            self.place(index);
            index = self.node(index).parent;
        }
    }

    /// The client was given something: counts as one more time.
    pub(super) fn allocated(&mut self, data: u32, quantities: &Quantities) {
        self.change(data, |node| {
            node.allocation.add(quantities);
            node.key.count += 1;
        });
    }

    /// The client gave something back.
    pub(super) fn unallocated(&mut self, data: u32, quantities: &Quantities) {
        self.change(data, |node| node.allocation.sub(quantities));
    }

    /// The client has `more` instead of `less`.
    pub(super) fn exchanged(&mut self, data: u32, less: &Quantities, more: &Quantities) {
        self.change(data, |node| {
            node.allocation.sub(less);
            node.allocation.add(more);
        });
    }

    /// What the client has.
    pub(super) fn allocation(&self, data: u32) -> Quantities {
        self.leaves.get(&data).map(|index| self.node(*index).allocation.clone()).unwrap_or_default()
    }

    /// Is there an active client?
    pub(super) fn has_active(&self) -> bool {
        self.walk(&mut |_| ControlFlow::Break(())).is_break()
    }

    /// Visits the active clients' data, the most deserving first.
    pub(super) fn walk(&self, visit: &mut impl FnMut(u32) -> ControlFlow<()>) -> ControlFlow<()> {
        self.walk_from(ROOT, visit)
    }

    fn walk_from(&self, index: u32, visit: &mut impl FnMut(u32) -> ControlFlow<()>) -> ControlFlow<()> {
        for key in &self.node(index).sorted {
            match self.node(key.node).kind {
                Kind::Leaf { data, .. } => visit(data)?,
                Kind::Internal | Kind::Unused => self.walk_from(key.node, visit)?,
            }
        }
        ControlFlow::Continue(())
    }

    /// The next marked top-level client after `last`, with where it is now.
    pub(super) fn next_marked(&self, last: Option<Key>) -> Option<(Key, u32)> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.marked.range((from, Bound::Unbounded)).find_map(|key| {
            let node = self.node(key.node);
            let leaf = node.by_name.get(".").map_or(node, |own| self.node(*own));
            match leaf.kind {
                Kind::Leaf { active: true, data } => Some((*key, data)),
                Kind::Leaf { .. } | Kind::Internal | Kind::Unused => None,
            }
        })
    }

    /// Everyone after `data`, in order.
    pub(super) fn after(&self, data: u32) -> Vec<u32> {
        let mut rest = Vec::new();
        let mut found = false;
        let _ = self.walk(&mut |next| {
            if found {
                rest.push(next);
            }
            found |= next == data;
            ControlFlow::Continue(())
        });
        rest
    }

    /// Everyone, in order.
    pub(super) fn order(&self) -> Vec<u32> {
        let mut all = Vec::new();
        let _ = self.walk(&mut |next| {
            all.push(next);
            ControlFlow::Continue(())
        });
        all
    }
}
