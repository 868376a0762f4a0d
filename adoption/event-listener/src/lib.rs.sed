# lines: 1
# Who listens: that it is on the list stands before what it looks at next.
s/^( *)\(\*this\.event\)\.borrow\(\)\.insert\(this\.listener\);/&\n\1asymfence::heavy_fence();/
