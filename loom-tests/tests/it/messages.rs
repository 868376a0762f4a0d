//! What a model prints, and how it reads the environment. Each test runs a process of its own.

use std::process::Command;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use asymfence::model::{Start, Visit, init_from, model};
use asymfence::{heavy_fence, light_fence};
use loom::thread;
use loom_tests::litmus::scenario_a;

/// Runs the test of this name alone, with these variables. Returns its output and whether it passes.
fn child(name: &str, variables: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--ignored", "--exact", "--nocapture", name]);
    command.envs(variables.iter().copied());
    let output = command.output().expect("this binary runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Scenario A with a light fence in the other thread, and the number of its executions.
fn explores(first: impl Fn() + Copy + Send + Sync + 'static, passes: fn([usize; 2]) -> bool) {
    let count = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    model(move || {
        counted.fetch_add(1, Relaxed);
        assert!(passes(scenario_a(first, || light_fence())));
    });
    println!("executions: {}.", count.load(Relaxed));
}

// Closures, not the functions themselves: a function that is called by a pointer does not know its caller.
#[test]
#[ignore = "a child of other tests"]
fn child_that_passes() {
    explores(|| heavy_fence(), |seen| seen != [0, 0]);
}

#[test]
#[ignore = "a child of other tests"]
fn child_that_fails() {
    explores(|| light_fence(), |seen| seen != [0, 0]);
}

#[test]
#[ignore = "a child of other tests"]
fn child_that_fails_after_a_heavy_fence() {
    explores(|| heavy_fence(), |_| false);
}

#[test]
#[ignore = "a child of another test"]
fn child_that_fails_in_a_symmetric_process() {
    loom::model(|| {
        init_from(Start::Symmetric, Visit::Upward);
        heavy_fence();
        light_fence();
        panic!("on purpose");
    });
}

#[test]
#[ignore = "a child of another test"]
fn child_that_is_bare() {
    loom::model(|| assert_ne!(scenario_a(|| light_fence(), || light_fence()), [0, 0]));
}

#[test]
#[ignore = "a child of other tests"]
fn child_with_six_threads() {
    model(|| {
        let others: Vec<_> = (0..5).map(|_| thread::spawn(light_fence)).collect();
        others.into_iter().for_each(|other| other.join().expect("no panic"));
    });
}

/// The lines of the trace.
fn trace(text: &str) -> Vec<&str> {
    let trace = text.split("its fences, in their order:\n").nth(1).unwrap_or_default();
    trace.lines().map_while(|line| line.strip_prefix("  ")).collect()
}

#[test]
fn a_failing_execution_prints_its_fences_in_their_order_with_thread_and_line() {
    let (passes, text) = child("messages::child_that_fails", &[("ASYMFENCE_LOOM_TRACE", "1")]);
    assert!(!passes, "{text}");
    let trace = trace(&text);
    assert_eq!(trace.len(), 2, "{text}");
    for thread in 0..2 {
        let begins = format!("thread {thread}: light fence at ");
        let line = trace.iter().find(|line| line.starts_with(&begins)).expect("a line a thread");
        assert!(line.contains("messages.rs:"), "{line}");
    }
}

#[test]
fn the_trace_tells_on_which_side_of_a_light_fence_a_heavy_one_struck() {
    let name = "messages::child_that_fails_after_a_heavy_fence";
    let (passes, text) = child(name, &[("ASYMFENCE_LOOM_TRACE", "1")]);
    assert!(!passes, "{text}");
    let trace = trace(&text);
    let place = |begins: &str| trace.iter().position(|line| line.starts_with(begins));
    let heavy = place("thread 0: heavy fence at loom-tests/tests/it/messages.rs:");
    let end = place("thread 0: end of the heavy fence at loom-tests/tests/it/messages.rs:");
    let light = place("thread 1: light fence at loom-tests/tests/it/messages.rs:");
    assert!(heavy.is_some() && heavy < end && light.is_some(), "{text}");
    let sides = [
        place("thread 0: ... its heavy fence came after the light fence of thread 1 at loom-tests"),
        place("thread 1: ... its light fence came after the heavy fence of thread 0 at loom-tests"),
    ];
    assert_eq!(sides.iter().flatten().count(), 1, "{text}");
}

#[test]
fn the_trace_of_a_symmetric_process_has_the_full_fences_after_a_heavy_one() {
    let name = "messages::child_that_fails_in_a_symmetric_process";
    let (passes, text) = child(name, &[("ASYMFENCE_LOOM_TRACE", "1")]);
    assert!(!passes, "{text}");
    let expected = ["thread 0: heavy fence at ", "thread 0: full fence at "];
    let trace = trace(&text);
    assert_eq!(trace.len(), expected.len(), "{text}");
    assert!(trace.iter().zip(expected).all(|(line, begins)| line.starts_with(begins)), "{text}");
}

#[test]
fn without_the_variable_there_is_no_trace_but_a_word_of_it() {
    let (passes, text) = child("messages::child_that_fails", &[]);
    assert!(!passes && trace(&text).is_empty(), "{text}");
    assert!(text.contains("ASYMFENCE_LOOM_TRACE=1 prints its fences"), "{text}");
    assert!(text.contains("visited the threads upward"), "{text}");
}

#[test]
fn a_sixth_thread_is_told_the_limit() {
    let (passes, text) = child("messages::child_with_six_threads", &[]);
    assert!(!passes, "{text}");
    assert!(text.contains("loom runs at most five threads in an execution"), "{text}");
}

/// The number of executions of a model that passes, with these variables.
fn executions(variables: &[(&str, &str)]) -> usize {
    let (passes, text) = child("messages::child_that_passes", variables);
    assert!(passes, "{text}");
    let number = text.split("executions: ").nth(1).and_then(|rest| rest.split('.').next());
    number.expect("the child counts").parse().expect("a number")
}

/// loom resumes an exploration from its checkpoint. The second visiting order is another exploration.
#[test]
fn with_a_checkpoint_there_are_as_many_executions_as_without() {
    let all = executions(&[]);
    assert!(all > 2);
    for interval in ["1", "10", "25"] {
        let folder = std::env::temp_dir();
        let name = format!("asymfence-checkpoint-{}-{interval}.json", std::process::id());
        let file = folder.join(&name);
        let path = file.to_str().expect("plain letters");
        let variables = [("LOOM_CHECKPOINT_FILE", path), ("LOOM_CHECKPOINT_INTERVAL", interval)];
        let with = executions(&variables);
        for end in ["", ".upward", ".downward"] {
            // Some of these files were never written.
            _ = std::fs::remove_file(format!("{path}{end}"));
        }
        assert_eq!(with, all, "interval {interval}");
    }
}

#[test]
fn a_bound_on_preemptions_in_the_environment_applies() {
    let within = |bound| executions(&[("LOOM_MAX_PREEMPTIONS", bound)]);
    assert!(within("0") < within("5"));
}

#[test]
fn a_bare_model_begins_as_the_environment_says() {
    let (downward, upward) = ("with ASYMFENCE_LOOM_VISIT=downward", "without ASYMFENCE_LOOM_VISIT");
    for (variables, passes, order, other) in [
        (&[][..], false, "upward", downward),
        (&[("ASYMFENCE", "symmetric")][..], true, "upward", downward),
        (&[("ASYMFENCE_LOOM_VISIT", "downward")][..], false, "downward", upward),
    ] {
        let (has_passed, text) = child("messages::child_that_is_bare", variables);
        assert_eq!(has_passed, passes, "{variables:?}: {text}");
        assert!(text.contains(&format!("in one order, {order}")), "{variables:?}: {text}");
        assert!(text.contains(&format!("run this test {other} too")), "{variables:?}: {text}");
    }
}
