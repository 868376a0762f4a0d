# lines: 2
# Only its reader writes an epoch, so a store is enough. Release, also on entering: a writer that sees this value, and
# not the one that the last guard left, acquires what that guard's reader did.
s/self\.epoch\.fetch_add\(1, Ordering::AcqRel\)/self.epoch.store(self.epoch.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release)/
