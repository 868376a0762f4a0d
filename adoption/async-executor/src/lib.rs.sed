# lines: 2
# A look before the compare-exchange, since that changes something only if somebody sleeps. There is no light fence, and
# no heavy side. The look is SeqCst: whoever goes to sleep clears the flag, and then looks for tasks after a `SeqCst`
# fence (in `pop`); and a task is pushed by a `SeqCst` compare-exchange.
/fn notify\(&self\) \{/,/^    \}/ s/^( *)if self$/\1if !self.notified.load(Ordering::SeqCst)\n\1    \&\& self/
