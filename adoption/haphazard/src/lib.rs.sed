# lines: 3
# The two barriers. #[inline], since a call costs more than the light fence.
/^fn asymmetric_light_barrier/,/^\}/ {
  s/^fn /#[inline]\n&/
  s/crate::sync::atomic::fence\(.*\)/asymfence::light_fence()/
}
/^fn asymmetric_heavy_barrier/,/^\}/ s/crate::sync::atomic::fence\(.*\)/asymfence::heavy_fence()/
