//! What was answered lately, up to so many bytes.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Forgets what was not asked for the longest.
pub struct Cache<K, V> {
    entries: HashMap<K, (u64, V)>,
    /// Keys by when they were asked for last.
    order: BTreeMap<u64, K>,
    now: u64,
    bytes: usize,
    most: usize,
}

impl<K: Clone + Eq + Hash, V: Clone + AsRef<[u8]>> Cache<K, V> {
    pub fn new(most: usize) -> Self {
        Cache { entries: HashMap::new(), order: BTreeMap::new(), now: 0, bytes: 0, most }
    }

    pub fn get(&mut self, key: &K) -> Option<V> {
        let (when, value) = self.entries.get_mut(key)?;
        self.now += 1;
        self.order.remove(when);
        *when = self.now;
        self.order.insert(self.now, key.clone());
        Some(value.clone())
    }

    pub fn put(&mut self, key: K, value: V) {
        if value.as_ref().len() > self.most || self.get(&key).is_some() {
            return;
        }
        self.now += 1;
        self.bytes += value.as_ref().len();
        self.order.insert(self.now, key.clone());
        self.entries.insert(key, (self.now, value));
        while self.bytes > self.most {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.bytes -= self.entries.remove(&oldest).map_or(0, |(_, value)| value.as_ref().len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_lately_stays() {
        let mut cache = Cache::new(10);
        cache.put("a", vec![0; 4]);
        cache.put("b", vec![1; 4]);
        assert!(cache.get(&"a").is_some());
        cache.put("c", vec![2; 4]);
        assert_eq!(["a", "b", "c"].map(|key| cache.get(&key).is_some()), [true, false, true]);
        cache.put("d", vec![3; 10]);
        assert_eq!(["a", "c", "d"].map(|key| cache.get(&key).is_some()), [false, false, true]);
        cache.put("e", vec![4; 11]);
        assert!(cache.get(&"e").is_none() && cache.get(&"d").is_some());
        assert_eq!((cache.bytes, cache.order.len(), cache.entries.len()), (10, 1, 1));
    }
}
