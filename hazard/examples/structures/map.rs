//! A hash map of a fixed number of lists (Michael, SPAA 2002).
#![forbid(unsafe_code)]

use std::hash::{BuildHasher, Hash, RandomState};

use asymfence_hazard::{Family, Global};

use crate::list::{Entry, List};

/// A hash map that many threads read and change. Lock-free. It does not grow.
pub struct Map<K, V, S = RandomState, F: Family = Global>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    buckets: Box<[List<K, V, F>]>,
    hasher: S,
}

impl<K, V> Map<K, V>
where
    K: Ord + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub fn new(buckets: usize) -> Self {
        Map::with_hasher(buckets, RandomState::new())
    }
}

impl<K, V, S, F> Map<K, V, S, F>
where
    K: Ord + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher,
    F: Family,
{
    /// With so many lists, or up to twice as many: a power of two.
    pub fn with_hasher(buckets: usize, hasher: S) -> Self {
        let buckets = buckets.max(1).next_power_of_two();
        Map { buckets: (0..buckets).map(|_| List::new()).collect(), hasher }
    }

    fn bucket(&self, key: &K) -> &List<K, V, F> {
        &self.buckets[self.hasher.hash_one(key) as usize & (self.buckets.len() - 1)]
    }

    pub fn get(&self, key: &K) -> Option<Entry<'_, K, V, F>> {
        self.bucket(key).get(key)
    }

    pub fn insert(&self, key: K, value: V) -> Result<(), V> {
        self.bucket(&key).insert(key, value)
    }

    pub fn remove(&self, key: &K) -> Option<Entry<'_, K, V, F>> {
        self.bucket(key).remove(key)
    }
}
