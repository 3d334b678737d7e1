//! Sets of agents by number, as bits: joining two of them is fast, and they come out in order.

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct AgentSet {
    words: Vec<u64>,
    count: usize,
}

impl AgentSet {
    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn insert(&mut self, agent: u32) {
        let (word, bit) = (agent as usize / 64, 1 << (agent % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        if self.words[word] & bit == 0 {
            self.words[word] |= bit;
            self.count += 1;
        }
    }

    pub(super) fn remove(&mut self, agent: u32) {
        let bit = 1 << (agent % 64);
        if let Some(word) = self.words.get_mut(agent as usize / 64)
            && *word & bit != 0
        {
            *word &= !bit;
            self.count -= 1;
        }
    }

    /// Takes everything out of `other`.
    pub(super) fn append(&mut self, other: &mut Self) {
        if other.is_empty() {
            return;
        }
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        self.count = 0;
        for (index, mine) in self.words.iter_mut().enumerate() {
            if let Some(theirs) = other.words.get_mut(index) {
                *mine |= std::mem::take(theirs);
            }
            self.count += mine.count_ones() as usize;
        }
        other.count = 0;
    }

    /// Takes everything out, in order.
    pub(super) fn drain(&mut self) -> Vec<u32> {
        let mut all = Vec::with_capacity(std::mem::take(&mut self.count));
        for (index, word) in self.words.iter_mut().enumerate() {
            let mut left = std::mem::take(word);
            while left != 0 {
                all.push(super::number_of(index * 64) + left.trailing_zeros());
                left &= left - 1;
            }
        }
        all
    }

    pub(super) fn clear(&mut self) {
        self.words.clear();
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_agent_is_in_once_and_comes_out_once() {
        let (mut a, mut b) = (AgentSet::default(), AgentSet::default());
        for agent in [200, 3, 3, 64] {
            a.insert(agent);
        }
        b.insert(3);
        b.insert(1000);
        a.remove(64);
        a.remove(7);
        a.append(&mut b);
        assert!(b.is_empty() && b.drain().is_empty());
        assert_eq!(a.drain(), [3, 200, 1000]);
        assert!(a.is_empty());
    }
}
