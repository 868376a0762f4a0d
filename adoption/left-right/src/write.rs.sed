# lines: 3
# The writer's fences: the swap of the pointer stands before its loads of the epochs.
s/^use crate::sync::\{fence, /use crate::sync::{/
s/^( *)fence\(Ordering::SeqCst\)/\1asymfence::heavy_fence()/
