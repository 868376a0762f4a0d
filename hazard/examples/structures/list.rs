//! The ordered list of Harris and Michael (Michael, SPAA 2002).
#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::fmt;

use asymfence_hazard::{Chain, Cursor, Family, Global, NewNode, NodeGuard};

/// A sorted list of keys and values that many threads read and change. Lock-free.
pub struct List<K: Send + Sync + 'static, V: Send + Sync + 'static, F: Family = Global> {
    chain: Chain<(K, V), F>,
}

impl<K: Ord + Send + Sync + 'static, V: Send + Sync + 'static, F: Family> List<K, V, F> {
    pub fn new() -> Self {
        List { chain: Chain::new() }
    }

    /// Moves the cursor to the key, or to the place where the key belongs. Returns whether the key is there.
    #[inline]
    fn seek(cursor: &mut Cursor<'_, (K, V), F>, key: &K) -> bool {
        let mut order = Ordering::Greater;
        let found = cursor.seek(|(other, _)| {
            order = other.cmp(key);
            order.is_lt()
        });
        found.is_some() && order.is_eq()
    }

    pub fn get(&self, key: &K) -> Option<Entry<'_, K, V, F>> {
        let mut cursor = self.chain.cursor();
        if Self::seek(&mut cursor, key) { cursor.into_guard().map(Entry) } else { None }
    }

    /// Gives the value back if the key is there.
    pub fn insert(&self, key: K, value: V) -> Result<(), V> {
        let (mut cursor, mut new) = (self.chain.cursor(), NewNode::new((key, value)));
        loop {
            if Self::seek(&mut cursor, &new.0) {
                return Err(new.into_inner().1);
            }
            match cursor.insert(new) {
                Ok(()) => return Ok(()),
                Err(back) => new = back,
            }
        }
    }

    /// What was removed. Others may be reading it.
    pub fn remove(&self, key: &K) -> Option<Entry<'_, K, V, F>> {
        let mut cursor = self.chain.cursor();
        while Self::seek(&mut cursor, key) {
            if cursor.remove() {
                return cursor.into_guard().map(Entry);
            }
        }
        None
    }
}

/// A key and its value, which stay valid as long as this, also when they are removed meanwhile.
pub struct Entry<'l, K, V, F: Family = Global>(NodeGuard<'l, (K, V), F>);

impl<K, V, F: Family> Entry<'_, K, V, F> {
    pub fn key(&self) -> &K {
        &self.0.0
    }

    pub fn value(&self) -> &V {
        &self.0.1
    }
}

impl<K: fmt::Debug, V: fmt::Debug, F: Family> fmt::Debug for Entry<'_, K, V, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Entry").field(self.key()).field(self.value()).finish()
    }
}
