# lines: 1
# Without it the wrapper of the light fence is a call, from each crate that uses haphazard.
s/^fn asymmetric_light_barrier/#[inline]\n&/
