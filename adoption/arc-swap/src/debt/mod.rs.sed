# lines: 1
# A thread has replaced a pointer: that comes before its look at the list of nodes, and at their slots.
/pub\(crate\) fn pay_all/,/^    \}/ s/^        LocalNode::with/        asymfence::heavy_fence();\n&/
