# lines: 2
# A thread that injects a job: the job is in the queue before the thread looks whether any thread sleeps. The full fence
# also ordered this against the read-modify-write by which a thread announces that it is sleepy. The light fence does
# not. It need not: a sleepy thread looks once more after its heavy fence, before it sleeps.
/fn new_injected_jobs\(/,/^    \}/ s/std::sync::atomic::fence\(Ordering::SeqCst\)/asymfence::light_fence()/
# Who goes to sleep: it is counted before its last look for injected jobs.
/^    fn sleep\(/,/^    \}/ s/std::sync::atomic::fence\(Ordering::SeqCst\)/asymfence::heavy_fence()/
