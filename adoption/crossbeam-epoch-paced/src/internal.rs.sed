# lines: 48
# Heavy fences that are paced: one for 64 bags, or for what waits at every 128th time that `pin` would have collected.
/^pub\(crate\) struct Global \{/,/^\}/ s/^\}/    pacer: asymfence::Pacer,\n    \/\/ By the last two bits of their tag, how many bags wait for advances.\n    tagged: [atomic::AtomicUsize; 4],\n&/
s/^( *)locals: List::new\(\),/&\n\1pacer: asymfence::Pacer::new(64).each(128),\n\1tagged: Default::default(),/
/fn push_bag\(/,/^    \}/ s/^( *)self.queue.push\(.*/&\n\1self.tagged(epoch).fetch_add(1, Ordering::Relaxed);\n\1self.pacer.add(1);/
# `pin`.
s/^( *)self.global\(\).collect\(&guard\);/\1let nth = count.0 \/ Self::PINNINGS_BETWEEN_COLLECT;\n\1self.global().collect_if_due(nth, \&guard);/
# Scan first: a participant that lags behind now would also lag behind after a heavy fence, which would be in vain.
# Acquire, because in that case no fence follows, and bags are freed by this epoch. Pairs with: the Release of who
# advanced.
/fn try_advance\(/,/^    \}/ {
  s/self.epoch.load\(Ordering::Relaxed\)/self.epoch.load(Ordering::Acquire)/
  s/^( *)asymfence::heavy_fence\(\);/\1if self.lags_behind(global_epoch, guard) {\n\1    return global_epoch;\n\1}\n&/
  s/^( *)self.epoch.store\(new_epoch.*/&\n\1\/\/ Bags with the two bits of the successor were tagged three advances ago: they wait for no further advance.\n\1self.tagged(new_epoch.successor()).store(0, Ordering::Relaxed);/
}
# In two: to advance, and to free.
s/^( *)let global_epoch = self.try_advance\(guard\);/&\n\1self.free(global_epoch, guard);\n    }\n\n    fn free(\&self, global_epoch: Epoch, guard: \&Guard) {/
/^impl Global \{/ a\
    fn tagged(&self, epoch: Epoch) -> &atomic::AtomicUsize {\
        &self.tagged[epoch.wrapping_sub(Epoch::starting()) as usize % 4]\
    }\
\
    /// Whether some participant has pinned another epoch, or the look did not come to its end.\
    fn lags_behind(&self, epoch: Epoch, guard: &Guard) -> bool {\
        self.locals.iter(guard).any(|local| match local {\
            Err(IterError::Stalled) => true,\
            Ok(local) => {\
                let pinned = local.epoch.load(Ordering::Relaxed);\
                pinned.is_pinned() && pinned.unpinned() != epoch\
            }\
        })\
    }\
\
    /// Advances if that is due, and frees.\
    #[cold]\
    fn collect_if_due(&self, nth: usize, guard: &Guard) {\
        let mut epoch = self.epoch.load(Ordering::Acquire);\
        if let Some(due) = self.pacer.due(nth) {\
            let before = mem::replace(&mut epoch, self.try_advance(guard));\
            if epoch != before {\
                let bags = self.tagged.iter().map(|bags| bags.load(Ordering::Relaxed));\
                due.paid_but(bags.sum());\
            }\
        }\
        self.free(epoch, guard);\
    }\

