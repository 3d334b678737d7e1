//! Resources in numbers: what an agent has, what is free, what somebody holds.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::Ranges;

use super::quantities::Quantities;

/// A kind that does not merge: each piece is a thing of its own, such as a volume.
pub(super) const WHOLE: u32 = 1 << 31;
/// A kind that several may hold at once.
pub(super) const SHARED: u32 = 1 << 30;

/// A kind's place in the table.
pub(super) const fn index(kind: u32) -> usize {
    (kind & !(WHOLE | SHARED)) as usize
}

/// Unreserved scalars by place, and pieces of every other kind in the order of their numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Bag {
    pub(super) plain: Quantities,
    pub(super) rest: Vec<Piece>,
}

/// So much of one kind.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) kind: u32,
    pub(super) amount: Amount,
}

/// Ranges and sets are seldom changed and often copied.
#[derive(Clone, Debug)]
pub(super) enum Amount {
    Scalar(u64),
    Ranges(Arc<Ranges>),
    Set(Arc<BTreeSet<String>>),
}

impl PartialEq for Amount {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => a == b,
            (Self::Ranges(a), Self::Ranges(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::Set(a), Self::Set(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::Scalar(_) | Self::Ranges(_) | Self::Set(_), _) => false,
        }
    }
}

impl Amount {
    fn is_empty(&self) -> bool {
        match self {
            Self::Scalar(amount) => *amount == 0,
            Self::Ranges(ranges) => ranges.is_empty(),
            Self::Set(items) => items.is_empty(),
        }
    }

    fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => a >= b,
            (Self::Ranges(a), Self::Ranges(b)) => Arc::ptr_eq(a, b) || a.contains(b),
            (Self::Set(a), Self::Set(b)) => Arc::ptr_eq(a, b) || b.is_subset(a),
            (Self::Scalar(_) | Self::Ranges(_) | Self::Set(_), _) => false,
        }
    }

    /// One kind has one type of amount: a pair of two types changes nothing.
    fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => *a = a.saturating_add(*b),
            (Self::Ranges(a), Self::Ranges(b)) => *a = Arc::new(a.union(b)),
            (Self::Set(a), Self::Set(b)) => *a = Arc::new(&**a | &**b),
            (Self::Scalar(_) | Self::Ranges(_) | Self::Set(_), _) => {}
        }
    }

    fn sub(&mut self, other: &Self) {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => *a = a.saturating_sub(*b),
            (Self::Ranges(a), Self::Ranges(b)) => *a = Arc::new(a.minus(b)),
            (Self::Set(a), Self::Set(b)) => *a = Arc::new(&**a - &**b),
            (Self::Scalar(_) | Self::Ranges(_) | Self::Set(_), _) => {}
        }
    }
}

impl Bag {
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.plain.is_zero()
    }

    fn position(&self, kind: u32) -> Result<usize, usize> {
        self.rest.binary_search_by_key(&kind, |piece| piece.kind)
    }

    pub(super) fn add(&mut self, kind: u32, amount: Amount) {
        if amount.is_empty() {
            return;
        }
        match self.position(kind) {
            Ok(position) if kind & WHOLE == 0 => self.rest[position].amount.add(&amount),
            Ok(position) | Err(position) => {
                if self.rest.capacity() == 0 {
                    self.rest.reserve_exact(1); // most agents have ports and nothing else
                }
                self.rest.insert(position, Piece { kind, amount });
            }
        }
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        if self.is_empty() {
            self.clone_from(other);
            return;
        }
        self.plain.add(&other.plain);
        for piece in &other.rest {
            self.add(piece.kind, piece.amount.clone());
        }
    }

    /// Takes away what is here of `other`. Was all of it here?
    pub(super) fn sub_all(&mut self, other: &Self) -> bool {
        let mut all = self.plain.covers(&other.plain);
        self.plain.sub(&other.plain);
        for piece in &other.rest {
            all &= self.sub(piece);
        }
        all
    }

    fn sub(&mut self, piece: &Piece) -> bool {
        let Ok(mut position) = self.position(piece.kind) else { return false };
        if piece.kind & WHOLE == 0 {
            let mine = &mut self.rest[position].amount;
            let all = mine.contains(&piece.amount);
            mine.sub(&piece.amount);
            if mine.is_empty() {
                self.rest.remove(position);
            }
            return all;
        }
        while position > 0 && self.rest[position - 1].kind == piece.kind {
            position -= 1;
        }
        let mut same = self.rest[position..].iter().take_while(|have| have.kind == piece.kind);
        match same.position(|have| have.amount == piece.amount) {
            Some(offset) => drop(self.rest.remove(position + offset)),
            None => return false,
        }
        true
    }

    /// Is all of `other` here?
    pub(super) fn contains(&self, other: &Self) -> bool {
        self.plain.covers(&other.plain)
            && other.rest.iter().enumerate().all(|(number, piece)| {
                let Ok(position) = self.position(piece.kind) else { return false };
                if piece.kind & WHOLE == 0 {
                    return self.rest[position].amount.contains(&piece.amount);
                }
                let wanted = other.rest[..=number].iter().filter(|other| *other == piece).count();
                self.rest.iter().filter(|mine| *mine == piece).count() >= wanted
            })
    }

    /// The same without what several may hold at once.
    pub(super) fn without_shared(&self) -> Self {
        let rest = self.rest.iter().filter(|piece| piece.kind & SHARED == 0).cloned().collect();
        Self { plain: self.plain.clone(), rest }
    }

    /// The pieces that several may hold at once.
    pub(super) fn shared(&self) -> impl Iterator<Item = &Piece> {
        self.rest.iter().filter(|piece| piece.kind & SHARED != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bag(cpus: u64, pieces: &[(u32, u64)]) -> Bag {
        let mut bag = Bag::default();
        bag.plain.add_at(0, cpus);
        for (kind, amount) in pieces {
            bag.add(*kind, Amount::Scalar(*amount));
        }
        bag
    }

    #[test]
    fn what_merges_adds_up_and_what_is_whole_stays_apart() {
        let mut all = bag(4, &[(1, 5), (1, 5), (2 | WHOLE, 7), (2 | WHOLE, 9)]);
        assert_eq!(all.rest.len(), 3);
        assert!(all.contains(&bag(4, &[(1, 10), (2 | WHOLE, 7)])));
        assert!(!all.contains(&bag(0, &[(2 | WHOLE, 8)])), "a volume does not contain a smaller one");
        assert!(!all.contains(&bag(0, &[(2 | WHOLE, 7), (2 | WHOLE, 7)])), "one is not two");
        assert!(all.sub_all(&bag(1, &[(1, 4), (2 | WHOLE, 9)])));
        assert_eq!(all, bag(3, &[(1, 6), (2 | WHOLE, 7)]));
        assert!(!all.sub_all(&bag(9, &[(1, 2)])));
        assert_eq!(all, bag(0, &[(1, 4), (2 | WHOLE, 7)]), "what is there is taken");
    }
}
