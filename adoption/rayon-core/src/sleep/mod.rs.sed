# lines: 2
# Who injects a job: it stands in the queue before the look whether somebody sleeps. Also before the look whether somebody
# is sleepy, which was ordered by this fence and a read-modify-write. That is not any more, but who is sleepy looks once
# more behind the heavy fence before it sleeps.
/fn new_injected_jobs\(/,/^    \}/ s/std::sync::atomic::fence\(Ordering::SeqCst\)/asymfence::light_fence()/
# Who goes to sleep: it is counted before its last look for injected jobs.
/^    fn sleep\(/,/^    \}/ s/std::sync::atomic::fence\(Ordering::SeqCst\)/asymfence::heavy_fence()/
