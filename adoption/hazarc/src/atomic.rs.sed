# lines: 5
# No fences here, but `SeqCst` accesses: the store to the slot was the full fence. Release: who reads this value must
# also see what came before the earlier stores to the slot. The load of the pointer stays `SeqCst`, as documented: it is
# a plain one on most processors.
s/^( *)slot.store\(ptr, SeqCst\);/\1slot.store(ptr, core::sync::atomic::Ordering::Release);\n\1asymfence::light_fence();/
# The swap of the pointer stands before the look at the list, and at the slots. Who drops the whole has nobody to order.
s/^( *)for node in D::static_list\(\).nodes\(\) \{/\1if new.is_some() {\n\1    asymfence::heavy_fence();\n\1}\n&/
