# lines: 3
# A debt is written into a slot by the slot's thread alone, so a store and a light fence are enough: the debt stands
# before the second look at the pointer. Acquire, which the swap had: whoever paid the last debt of this slot has
# counted its reference up before we count one down.
s/if slot\.ptr\.load\(Relaxed\) ==/if slot.ptr.load(Acquire) ==/
s/let old = slot\.ptr\.swap\(ptr, SeqCst\);/slot.ptr.store(ptr, Release);\n                asymfence::light_fence();/
/debug_assert_eq!\(Debt::NONE, old\)/d
