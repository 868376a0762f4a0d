//! A hash map of a fixed number of lists (Michael, SPAA 2002).
#![forbid(unsafe_code)]

use std::hash::{BuildHasher, Hash, RandomState};

use crate::list::{Entry, List};

/// A hash map that many threads read and change. Lock-free. It does not grow.
pub struct Map<K: Send + Sync + 'static, V: Send + Sync + 'static> {
    buckets: Box<[List<K, V>]>,
    hasher: RandomState,
}

impl<K: Ord + Hash + Send + Sync + 'static, V: Send + Sync + 'static> Map<K, V> {
    pub fn new(buckets: usize) -> Self {
        let buckets = (0..buckets.max(1)).map(|_| List::new()).collect();
        Map { buckets, hasher: RandomState::new() }
    }

    fn bucket(&self, key: &K) -> &List<K, V> {
        &self.buckets[self.hasher.hash_one(key) as usize % self.buckets.len()]
    }

    pub fn get(&self, key: &K) -> Option<Entry<'_, K, V>> {
        self.bucket(key).get(key)
    }

    pub fn insert(&self, key: K, value: V) -> Result<(), V> {
        self.bucket(&key).insert(key, value)
    }

    pub fn remove(&self, key: &K) -> Option<Entry<'_, K, V>> {
        self.bucket(key).remove(key)
    }
}
