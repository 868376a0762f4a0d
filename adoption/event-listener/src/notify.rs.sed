# lines: 1
# Who notifies: what it did stands before its look at the listeners.
s/^        full_fence\(\);/        asymfence::light_fence();/
