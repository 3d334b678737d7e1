//! Who comes next: clients in a tree of '/'-separated paths, ordered by weighted dominant share
//! (Ghodsi et al., NSDI 2011; Mesos's DRF sorter).
//!
//! Every node keeps its children in order, so that giving one client something moves only that
//! client and its ancestors. When the cluster's totals change, everything is put in order anew, once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::Activity;
use super::quantities::Quantities;

const ROOT: usize = 0;

/// A tree of clients. A client's `data` is the caller's number for it.
#[derive(Debug)]
pub(super) struct Sorter {
    nodes: Vec<Node>,
    free: Vec<usize>,
    clients: BTreeMap<Arc<str>, usize>,
    weights: BTreeMap<String, f64>,
    totals: Quantities,
    totals_version: u64,
}

/// Leaves sort by share, then by how often they were given something, then by path.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Key {
    /// The bits of a non-negative float sort as the float does.
    share: u64,
    count: u64,
    path: Arc<str>,
    node: usize,
}

#[derive(Debug)]
struct Node {
    path: Arc<str>,
    parent: usize,
    /// By the last component of the path; `.` stands for the parent as a client of its own.
    by_name: BTreeMap<Arc<str>, usize>,
    /// The same in order, without inactive leaves.
    sorted: BTreeSet<Key>,
    kind: Kind,
    allocation: Quantities,
    count: u64,
    weight: f64,
    /// As it is in the parent's `sorted`.
    share: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Internal,
    Leaf { active: bool, data: u32 },
}

impl Sorter {
    pub(super) fn new() -> Self {
        let mut sorter = Self {
            nodes: Vec::new(),
            free: Vec::new(),
            clients: BTreeMap::new(),
            weights: BTreeMap::new(),
            totals: Quantities::default(),
            totals_version: 0,
        };
        sorter.nodes.push(sorter.node("".into(), ROOT, Kind::Internal));
        sorter
    }

    fn node(&self, path: Arc<str>, parent: usize, kind: Kind) -> Node {
        let weight = self.weights.get(&*path).copied().unwrap_or(1.0);
        Node {
            path,
            parent,
            by_name: BTreeMap::new(),
            sorted: BTreeSet::new(),
            kind,
            allocation: Quantities::default(),
            count: 0,
            weight,
            share: 0,
        }
    }

    fn insert(&mut self, node: Node, name: &str) -> usize {
        let parent = node.parent;
        let index = if let Some(index) = self.free.pop() {
            self.nodes[index] = node;
            index
        } else {
            self.nodes.push(node);
            self.nodes.len() - 1
        };
        self.nodes[parent].by_name.insert(name.into(), index);
        self.place(index);
        index
    }

    /// What the shares are fractions of. `version` tells whether the totals are others than last time.
    pub(super) fn set_totals(&mut self, totals: &Quantities, version: u64) {
        if self.totals_version == version {
            return;
        }
        self.totals = totals.clone();
        self.totals_version = version;
        for index in 0..self.nodes.len() {
            self.nodes[index].sorted.clear();
        }
        let live: Vec<usize> = self.nodes.iter().flat_map(|node| node.by_name.values().copied()).collect();
        for index in live {
            self.place(index);
        }
    }

    fn share_of(&self, node: &Node) -> u64 {
        let mut share: f64 = 0.0;
        for (total, mine) in self.totals.iter().zip(node.allocation.iter()) {
            if total > 0 && mine > 0 {
                #[allow(clippy::cast_precision_loss)] // Milli stays below 2^53
                let fraction = mine as f64 / total as f64;
                share = share.max(fraction);
            }
        }
        (share / node.weight).to_bits()
    }

    fn key(&self, index: usize) -> Key {
        let node = &self.nodes[index];
        Key { share: node.share, count: node.count, path: node.path.clone(), node: index }
    }

    /// Puts a node where it belongs among its siblings.
    fn place(&mut self, index: usize) {
        self.nodes[index].share = self.share_of(&self.nodes[index]);
        if !matches!(self.nodes[index].kind, Kind::Leaf { active: false, .. }) {
            let key = self.key(index);
            let parent = self.nodes[index].parent;
            self.nodes[parent].sorted.insert(key);
        }
    }

    fn unplace(&mut self, index: usize) {
        let key = self.key(index);
        let parent = self.nodes[index].parent;
        self.nodes[parent].sorted.remove(&key);
    }

    pub(super) fn contains(&self, client: &str) -> bool {
        self.clients.contains_key(client)
    }

    /// Adds an inactive client.
    pub(super) fn add(&mut self, client: &str, data: u32) {
        if self.contains(client) {
            return;
        }
        let mut current = ROOT;
        let mut end = 0;
        let mut components = client.split('/').peekable();
        while let Some(component) = components.next() {
            end += component.len();
            let path: Arc<str> = client[..end].into();
            end += 1;
            let last = components.peek().is_none();
            let leaf = Kind::Leaf { active: false, data };
            current = match self.nodes[current].by_name.get(component).copied() {
                Some(child) => {
                    self.open(child);
                    child
                }
                None => {
                    let node = self.node(path, current, if last { leaf } else { Kind::Internal });
                    let index = self.insert(node, component);
                    if last {
                        self.clients.insert(client.into(), index);
                        return;
                    }
                    index
                }
            };
        }
        // There are clients below this path already: it is a client beside them.
        let node = self.node(format!("{client}/.").into(), current, Kind::Leaf { active: false, data });
        let index = self.insert(node, ".");
        self.clients.insert(client.into(), index);
    }

    /// Makes a leaf an inner node; the client it was moves below it.
    fn open(&mut self, index: usize) {
        let kind = self.nodes[index].kind;
        if kind == Kind::Internal {
            return;
        }
        self.unplace(index);
        self.nodes[index].kind = Kind::Internal;
        self.place(index);
        let path = self.nodes[index].path.clone();
        let mut own = self.node(format!("{path}/.").into(), index, kind);
        own.allocation = self.nodes[index].allocation.clone();
        own.count = self.nodes[index].count;
        let own = self.insert(own, ".");
        self.clients.insert(path, own);
    }

    /// Removes a client and what it was given.
    pub(super) fn remove(&mut self, client: &str) {
        let Some(leaf) = self.clients.remove(client) else { return };
        let allocation = self.nodes[leaf].allocation.clone();
        let mut current = leaf;
        while current != ROOT {
            let parent = self.nodes[current].parent;
            self.unplace(parent);
            self.nodes[parent].allocation.sub(&allocation);
            if parent != ROOT {
                self.place(parent);
            }
            if current == leaf || self.nodes[current].by_name.is_empty() {
                self.unplace(current);
                self.nodes[parent].by_name.retain(|_, index| *index != current);
                self.free.push(current);
            } else {
                self.close(current);
            }
            current = parent;
        }
    }

    /// Undoes [`open`](Self::open) where `.` is the only child left.
    fn close(&mut self, index: usize) {
        let node = &self.nodes[index];
        let Some(own) = node.by_name.get(".").copied().filter(|_| node.by_name.len() == 1) else { return };
        self.unplace(index);
        self.nodes[index].kind = self.nodes[own].kind;
        self.nodes[index].by_name.clear();
        self.nodes[index].sorted.clear();
        self.free.push(own);
        self.place(index);
        self.clients.insert(self.nodes[index].path.clone(), index);
    }

    /// Inactive clients keep what they have and are passed over.
    pub(super) fn set_activity(&mut self, client: &str, activity: Activity) {
        let active = activity == Activity::Active;
        let Some(index) = self.clients.get(client).copied() else { return };
        if let Kind::Leaf { active: was, data } = self.nodes[index].kind
            && was != active
        {
            self.unplace(index);
            self.nodes[index].kind = Kind::Leaf { active, data };
            self.place(index);
        }
    }

    /// A weight belongs to a path and outlives its clients.
    pub(super) fn set_weight(&mut self, path: &str, weight: f64) {
        self.weights.insert(path.to_owned(), weight);
        for index in 1..self.nodes.len() {
            if &*self.nodes[index].path == path && !self.free.contains(&index) {
                self.unplace(index);
                self.nodes[index].weight = weight;
                self.place(index);
            }
        }
    }

    fn change(&mut self, client: &str, change: impl Fn(&mut Node)) {
        let Some(mut index) = self.clients.get(client).copied() else { return };
        while index != ROOT {
            self.unplace(index);
            change(&mut self.nodes[index]);
            self.place(index);
            index = self.nodes[index].parent;
        }
    }

    /// The client was given something: counts as one more time.
    pub(super) fn allocated(&mut self, client: &str, quantities: &Quantities) {
        self.change(client, |node| {
            node.allocation.add(quantities);
            node.count += 1;
        });
    }

    /// The client gave something back.
    pub(super) fn unallocated(&mut self, client: &str, quantities: &Quantities) {
        self.change(client, |node| node.allocation.sub(quantities));
    }

    /// What the client has.
    pub(super) fn allocation(&self, client: &str) -> Quantities {
        self.clients.get(client).map(|index| self.nodes[*index].allocation.clone()).unwrap_or_default()
    }

    /// Has the client nothing that counts?
    pub(super) fn is_idle(&self, client: &str) -> bool {
        self.clients.get(client).is_none_or(|index| self.nodes[*index].allocation.is_zero())
    }

    /// Is there an active client?
    pub(super) fn has_active(&self) -> bool {
        self.walk(&mut |_| ControlFlow::Break(())).is_break()
    }

    /// Visits the active clients' data, the most deserving first.
    pub(super) fn walk(&self, visit: &mut impl FnMut(u32) -> ControlFlow<()>) -> ControlFlow<()> {
        self.walk_from(ROOT, visit)
    }

    fn walk_from(&self, index: usize, visit: &mut impl FnMut(u32) -> ControlFlow<()>) -> ControlFlow<()> {
        for key in &self.nodes[index].sorted {
            match self.nodes[key.node].kind {
                Kind::Internal => self.walk_from(key.node, visit)?,
                Kind::Leaf { data, .. } => visit(data)?,
            }
        }
        ControlFlow::Continue(())
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
