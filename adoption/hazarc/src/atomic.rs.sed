# lines: 5
# No fences here, but `SeqCst` accesses: the store to the slot was the full fence. Release: who reads this value must
# also see what came before the earlier stores to the slot. The load of the pointer stays `SeqCst`, as hazarc documents
# it: on x86 it is a plain load.
s/^( *)slot.store\(ptr, SeqCst\);/\1slot.store(ptr, core::sync::atomic::Ordering::Release);\n\1asymfence::light_fence();/
# The swap of the pointer stands before the look at the list, and at the slots. A thread that drops the
# `AtomicArc` has no reader to be ordered against, and executes no heavy fence.
s/^( *)for node in D::static_list\(\).nodes\(\) \{/\1if new.is_some() {\n\1    asymfence::heavy_fence();\n\1}\n&/
