# lines: 2
# A look before the compare-exchange, which is in vain unless somebody sleeps. No light fence, and no heavy side: SeqCst,
# since whoever goes to sleep clears the flag, and then looks for tasks behind a `SeqCst` fence, in `pop`; and to push a
# task is a `SeqCst` compare-exchange.
/fn notify\(&self\) \{/,/^    \}/ s/^( *)if self$/\1if !self.notified.load(Ordering::SeqCst)\n\1    \&\& self/
