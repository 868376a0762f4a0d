# lines: 1
# A thread listens: its entry in the list comes before what it looks at next.
s/^( *)\(\*this\.event\)\.borrow\(\)\.insert\(this\.listener\);/&\n\1asymfence::heavy_fence();/
