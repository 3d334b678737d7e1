//! What several clients may hold at once: each node of the tree counts it once, however many copies
//! its clients have.

use super::{Quantities, ROOT, Sorter};

impl Sorter {
    /// The client was given a copy of something that several may hold: each node counts it once.
    pub(in crate::allocator) fn allocated_shared(
        &mut self,
        data: u32,
        (agent, kind): (u32, u32),
        quantities: &Quantities,
    ) {
        let Some(mut index) = self.leaves.get(&data).copied() else { return };
        while index != ROOT {
            let copies = self.shared.entry((index, agent, kind)).or_default();
            *copies += 1;
            if *copies == 1 {
                self.unplace(index);
                self.node_mut(index).allocation.add(quantities);
                self.place(index);
            }
            index = self.node(index).parent;
        }
    }

    /// The client gave a copy back.
    pub(in crate::allocator) fn unallocated_shared(
        &mut self,
        data: u32,
        (agent, kind): (u32, u32),
        quantities: &Quantities,
    ) {
        let Some(mut index) = self.leaves.get(&data).copied() else { return };
        while index != ROOT {
            if let Some(copies) = self.shared.get_mut(&(index, agent, kind)) {
                *copies -= 1;
                if *copies == 0 {
                    self.shared.remove(&(index, agent, kind));
                    self.unplace(index);
                    self.node_mut(index).allocation.sub(quantities);
                    self.place(index);
                }
            }
            index = self.node(index).parent;
        }
    }
}
