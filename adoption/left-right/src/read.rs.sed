# lines: 2
# The reader's fence: its epoch stands before its load of the pointer. Pairs with the two of write.rs.
s/^use crate::sync::\{fence, /use crate::sync::{/
s/^( *)fence\(Ordering::SeqCst\)/\1asymfence::light_fence()/
