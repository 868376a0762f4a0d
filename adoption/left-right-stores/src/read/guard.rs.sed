# lines: 1
# As in read.rs. Release: what was read stands before the new epoch.
s/self\.handle\.epoch\.fetch_add\(1, Ordering::AcqRel\)/self.handle.epoch.store(self.handle.epoch.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release)/
