# lines: 2
# Who injects a job: it stands in the queue before the look whether somebody sleeps. The full fence also ordered the job
# before the look whether somebody is sleepy, against a read-modify-write of the sleepy thread. The light fence does
# not. It need not: a sleepy thread looks once more after its heavy fence, before it sleeps.
/fn new_injected_jobs\(/,/^    \}/ s/std::sync::atomic::fence\(Ordering::SeqCst\)/asymfence::light_fence()/
# Who goes to sleep: it is counted before its last look for injected jobs.
/^    fn sleep\(/,/^    \}/ s/std::sync::atomic::fence\(Ordering::SeqCst\)/asymfence::heavy_fence()/
