# lines: 1
# Who has replaced a pointer: that stands before the look at the list of nodes, and at their slots.
/pub\(crate\) fn pay_all/,/^    \}/ s/^        LocalNode::with/        asymfence::heavy_fence();\n&/
