# lines: 35
# `pin`: no compare-exchange on x86, and a light fence. Release: a thread that sees a participant pinned again must
# also see what the participant did before. Pairs with: the Acquire fence in `try_advance`.
/fn pin\(/,/let count = / {
  /if cfg!\(all\(/,/\} else \{/d
  s/^ {4}( *)self.epoch.store\(new_epoch, Ordering::Relaxed\)/\1self.epoch.store(new_epoch, Ordering::Release)/
  s/^ {4}( *)atomic::fence\(Ordering::SeqCst\)/\1asymfence::light_fence()/
  /^ {12}\}$/d
}
# `try_advance`: what it knows to be unlinked stands before the scan. Pairs with: the light fence in `pin`.
/fn try_advance\(/,/for local in/ s/atomic::fence\(Ordering::SeqCst\)/asymfence::heavy_fence()/
# The full fence in `push_bag` has lost its partner, `pin`: the tag may be one too low. So three epochs instead of two.
s/(global_epoch.wrapping_sub\(self.epoch\) >=) 2/\1 3/
