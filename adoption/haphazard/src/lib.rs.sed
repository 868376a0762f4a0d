# lines: 2
# The two barriers.
/^fn asymmetric_light_barrier/,/^\}/ s/crate::sync::atomic::fence\(.*\)/asymfence::light_fence()/
/^fn asymmetric_heavy_barrier/,/^\}/ s/crate::sync::atomic::fence\(.*\)/asymfence::heavy_fence()/
