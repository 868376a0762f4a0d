//! The program as its users run it.
#![cfg_attr(
    asymfence_symmetric,
    allow(dead_code, unused_imports, reason = "tests of the ladder are left out")
)]

#[cfg(target_os = "linux")]
#[path = "../../tests/it/ledger.rs"]
mod ledger;

use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Without the pairing table.
fn doctor() -> Command {
    let mut doctor = Command::new(env!("CARGO_BIN_EXE_asymfence-doctor"));
    doctor.args(["--seconds", "0"]).env_remove("ASYMFENCE");
    doctor
}

/// Of as few rounds as there may be: these tests look at words, not at numbers.
fn with_a_table() -> Command {
    let mut doctor = doctor();
    doctor.args(["--seconds", "1e-9"]);
    doctor
}

#[track_caller]
fn run(doctor: &mut Command) -> [String; 2] {
    let Output { status, stdout, stderr } = doctor.output().expect("the doctor starts");
    let [out, err] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
    assert!(status.success(), "{status}\n{out}\n{err}");
    [out, err]
}

#[track_caller]
fn json(doctor: &mut Command) -> Value {
    let [out, _] = run(doctor.arg("--json"));
    serde_json::from_str(&out).expect("JSON")
}

#[track_caller]
fn refused(arguments: &[&str], words: &str) {
    let Output { status, stdout, stderr } = doctor().args(arguments).output().expect("it starts");
    let said = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.split_whitespace().collect::<Vec<_>>().join(" ").contains(words), "{said}");
    assert!(stdout.is_empty() && !said.contains("panicked"), "{said}");
}

/// The fault of `value` against `schema`, as far as the schema's words go: type, enum, required, properties,
/// additionalProperties (false), items.
fn fault(schema: &Value, value: &Value, at: &str) -> Option<String> {
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{at}: the schema knows a type {other}, and this test does not"),
    };
    let types = match &schema["type"] {
        Value::Array(types) => types.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    };
    if !types.is_empty() && !types.iter().any(|name| is(name.as_str().expect("a name"))) {
        return Some(format!("{at} is {value}, and not {}", schema["type"]));
    }
    if let Some(values) = schema["enum"].as_array() {
        return (!values.contains(value)).then(|| format!("{at} is {value}"));
    }
    if let Some(fields) = value.as_object() {
        let required = schema["required"].as_array().expect("each object says what it has");
        let missing = |field: &&Value| !fields.contains_key(field.as_str().expect("a name"));
        if let Some(field) = required.iter().find(missing) {
            return Some(format!("{at} has no {field}"));
        }
        assert_eq!(schema["additionalProperties"], false, "{at}");
        return fields.iter().find_map(|(name, value)| match schema["properties"].get(name) {
            Some(schema) => fault(schema, value, &format!("{at}.{name}")),
            None => Some(format!("{at} has another field, {name}")),
        });
    }
    let items = value.as_array()?;
    items.iter().find_map(|item| fault(&schema["items"], item, &format!("{at}[]")))
}

fn schema() -> Value {
    serde_json::from_str(&run(doctor().arg("--schema"))[0]).expect("JSON")
}

#[test]
fn json_is_as_the_schema_says() {
    let report = json(&mut with_a_table());
    assert_eq!(fault(&schema(), &report, "report"), None);
    let cells = report["pairing"].as_array().expect("cells").len();
    assert_eq!(cells, if report["processors"] == 1 { 0 } else { 9 });
    let symmetric = json(doctor().args(["--strategy", "symmetric"]));
    assert_eq!(fault(&schema(), &symmetric, "report"), None);
}

/// The twin: each field under another name, one after the other.
#[test]
fn a_field_that_is_renamed_is_noticed() {
    /// Renames the field number `left`, counted through all objects.
    fn rename(value: &mut Value, left: &mut usize) -> bool {
        match value {
            Value::Object(fields) => {
                for name in fields.keys().cloned().collect::<Vec<_>>() {
                    if *left == 0 {
                        let value = fields.remove(&name).expect("it was there");
                        fields.insert(name + "_", value);
                        return true;
                    }
                    *left -= 1;
                    if rename(&mut fields[&name], left) {
                        return true;
                    }
                }
                false
            }
            Value::Array(items) => items.iter_mut().any(|item| rename(item, left)),
            _ => false,
        }
    }

    let (schema, report) = (schema(), json(&mut with_a_table()));
    let mut renamed = 0;
    loop {
        let mut report = report.clone();
        if !rename(&mut report, &mut renamed.clone()) {
            break;
        }
        assert!(fault(&schema, &report, "report").is_some(), "field {renamed}: {report:#}");
        renamed += 1;
    }
    assert!(renamed > 30, "{renamed}");
}

#[track_caller]
fn fits(text: &str) {
    for line in text.lines() {
        assert!(line.len() <= 80, "{} columns: {line}", line.len());
    }
}

#[test]
fn the_summary_comes_first_and_all_lines_fit() {
    let [out, err] = run(&mut with_a_table());
    let strategy = json(&mut doctor())["strategy"].as_str().expect("a name").to_owned();
    let summary = out.lines().next().expect("a line");
    match strategy.as_str() {
        "symmetric" => assert!(summary.starts_with("symmetric"), "{summary}"),
        rung => assert!(summary.starts_with(&format!("asymmetric by {rung}; ")), "{summary}"),
    }
    assert!(out.contains(&format!("asymfence {}, ", env!("CARGO_PKG_VERSION"))), "{out}");
    fits(&out);
    fits(&err);
    fits(&run(doctor().arg("--help"))[0]);
}

#[test]
fn what_was_asked_for_is_called_that() {
    let report = json(doctor().args(["--strategy", "symmetric"]));
    let rungs = report["rungs"].as_array().expect("rungs");
    let last = rungs.last().expect("symmetric");
    assert_eq!(last["verdict"], "taken");
    assert_eq!(last["reason"], "asked for by --strategy");
    assert!(rungs[..rungs.len() - 1].iter().all(|rung| {
        rung["verdict"] == "not tried" && rung["reason"] == "--strategy asked for symmetric"
    }));
    let [out, _] = run(doctor().args(["--strategy", "symmetric"]));
    assert!(!out.contains("or the one asked for"), "{out}");
    refused(&["--strategy", "none"], "no strategy `none` on this target; there is");
}

#[test]
fn a_reader_that_has_gone_is_no_panic() {
    for closes_stderr in [false, true] {
        let mut doctor = doctor();
        doctor.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = doctor.spawn().expect("it starts");
        drop(child.stdout.take());
        if closes_stderr {
            drop(child.stderr.take());
        }
        let Output { status, stderr, .. } = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&stderr);
        assert!(status.success() && !said.contains("panicked"), "{status}: {said}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_report_that_cannot_be_written_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a full device");
    let Output { status, stderr, .. } = doctor().stdout(full).output().expect("it starts");
    assert_eq!(status.code(), Some(2));
    assert!(String::from_utf8_lossy(&stderr).contains("the report cannot be written"));
}

#[test]
fn a_run_is_compared_with_an_earlier_one() {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("earlier.json");
    let name = file.to_str().expect("a name");
    let [earlier, _] = run(doctor().args(["--json", "--strategy", "symmetric"]));
    std::fs::write(&file, earlier.replace("\"version\": \"", "\"version\": \"before "))
        .expect("written");
    let [out, _] = run(doctor().args(["--strategy", "symmetric", "--compare", name]));
    let (_, table) = out.split_once("\nBeside ").expect("a comparison");
    assert!(table.contains("another version: before "), "{table}");
    assert!(!table.contains("another kernel") && !table.contains("another strategy"), "{table}");
    for cost in ["no fence", "light_fence", "fence(SeqCst)", "heavy_fence, no other thread runs"] {
        let line = table.lines().find(|line| line.starts_with(cost)).expect(cost);
        let [then, now, ratio] = [3, 2, 1].map(|from_right| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words[words.len() - from_right].parse::<f64>().expect("a number")
        });
        // Each was rounded to two digits behind the point.
        assert!((now / then - ratio).abs() <= 0.05 * (1.0 + ratio), "{line}");
    }
    fits(table.split_once('\n').expect("lines below the file's name").1);

    std::fs::write(&file, earlier.replace("\"kernel\"", "\"kern\"")).expect("written");
    refused(&["--compare", name], "has no `kernel`");
    std::fs::write(&file, "{").expect("written");
    refused(&["--compare", name], "is not what --json writes");
    refused(&["--compare", "/nowhere"], "/nowhere cannot be read");
    refused(&["--compare", name, "--json"], "leave one out");
}

#[cfg(unix)]
#[test]
fn what_may_have_no_end_is_not_read_for_comparison() {
    let fifo = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("earlier.fifo");
    let name = fifo.to_str().expect("a name");
    let _ = std::fs::remove_file(&fifo);
    let made = Command::new("mkfifo").arg(name).status().expect("mkfifo");
    assert!(made.success(), "{made}");
    // Nobody writes into it.
    refused(&["--compare", name], "is not a regular file");
    refused(&["--compare", "/dev/zero"], "is not a regular file");
    std::fs::remove_file(&fifo).expect("its own file");
}

#[test]
fn numbers_are_decoded() {
    let [out, err] = run(doctor().args(["--decode", "8"]));
    assert!(out.starts_with("8: MEMBARRIER_CMD_PRIVATE_EXPEDITED "), "{out}");
    assert_eq!(err, "", "nothing is called");
    assert_eq!(out, run(doctor().args(["--decode", "0x8"]))[0]);
    assert!(run(doctor().args(["--decode", "128", "1"]))[0].contains("MEMBARRIER_CMD_FLAG_CPU"));
    refused(&["--decode", "eight"], "eight");
    refused(&["eight"], "eight");
    refused(&["--decode", "8", "0", "77"], "77");
    refused(&["--schema", "extra"], "extra");
}

#[cfg(target_os = "linux")]
mod in_places {
    use std::collections::BTreeMap;
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Command, Output};

    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    use seccompiler::SeccompAction::{Allow, Errno, KillProcess};
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

    use super::{doctor, fits, json, ledger, run, with_a_table};

    const SYS_MEMBARRIER: i64 = libc_number();

    /// Of this architecture's table.
    const fn libc_number() -> i64 {
        if cfg!(target_arch = "x86_64") {
            324
        } else if cfg!(target_arch = "x86") {
            375
        } else {
            283
        }
    }

    const ENOSYS: u32 = 38;

    /// The doctor behind a filter that answers every membarrier command with `action`.
    fn under(action: SeccompAction) -> Command {
        let arch = std::env::consts::ARCH.try_into().expect("an architecture seccompiler knows");
        let rules = BTreeMap::from([(SYS_MEMBARRIER, Vec::new())]);
        let filter = SeccompFilter::new(rules, Allow, action, arch).and_then(TryInto::try_into);
        let filter: BpfProgram = filter.expect("a valid filter");
        let mut doctor = doctor();
        // SAFETY: between fork and exec the closure makes system calls only.
        unsafe {
            doctor.pre_exec(move || apply_filter(&filter).map_err(std::io::Error::other));
        }
        doctor
    }

    #[test]
    fn with_a_switch_set_a_sandbox_that_kills_is_survived() {
        for words in ["symmetric", "another"] {
            let [out, err] = run(under(KillProcess).env("ASYMFENCE", words));
            assert!(out.starts_with("symmetric, switched off; "), "{out}");
            assert!(err.contains("makes no call of membarrier(2)"), "{err}");
        }
        let [out, _] = run(under(KillProcess).args(["--strategy", "symmetric"]));
        assert!(out.starts_with("symmetric; "), "{out}");
    }

    /// The twin: without a switch it is killed, and has said before what to do.
    #[cfg(not(any(asymfence_symmetric, asymfence_tsan)))]
    #[test]
    fn without_a_switch_the_last_line_says_which() {
        let Output { status, stdout, stderr } = under(KillProcess).output().expect("it starts");
        assert_eq!(status.signal(), Some(31), "SIGSYS: {status}");
        assert!(stdout.is_empty());
        let said = String::from_utf8(stderr).expect("text");
        fits(&said);
        let last = said.lines().last().expect("a line");
        assert!(last.contains("If this is the last line"), "{said}");
        assert!(last.contains("set ASYMFENCE=symmetric"), "{said}");
        assert!(said.contains("calls membarrier(2)"), "{said}");
    }

    /// The build's switch is enough without that of the environment.
    #[cfg(asymfence_symmetric)]
    #[test]
    fn the_switch_of_the_build_is_enough() {
        let [out, _] = run(&mut under(KillProcess));
        assert!(out.starts_with("symmetric, switched off; "), "{out}");
    }

    /// Checks that the first rung is refused for a reason that contains `words`, and that the report fits what was
    /// taken instead.
    #[track_caller]
    fn refuses_the_first_rung(doctor: &mut Command, words: &str) {
        let report = json(doctor);
        let rungs = report["rungs"].as_array().expect("rungs");
        assert_eq!(rungs[0]["name"], "private-expedited");
        assert_eq!(rungs[0]["verdict"], "refused", "{report:#}");
        let reason = rungs[0]["reason"].as_str().expect("words");
        assert!(reason.contains(words), "{reason}");
        let taken = rungs.iter().find(|rung| rung["verdict"] == "taken").expect("one is taken");
        assert_eq!(taken["name"], report["strategy"]);
        let reason = if taken["name"] == "symmetric" {
            assert!(rungs[1..rungs.len() - 1].iter().all(|rung| rung["verdict"] == "refused"));
            "no mechanism works here"
        } else {
            "the best that works here"
        };
        assert_eq!(taken["reason"], reason);
        assert!(report["membarrier"]["commands"].is_null(), "{report:#}");
    }

    #[cfg(not(any(asymfence_symmetric, asymfence_tsan)))]
    #[test]
    fn a_sandbox_without_membarrier_is_told() {
        refuses_the_first_rung(&mut under(Errno(ENOSYS)), "failed with ENOSYS (38)");
        refuses_the_first_rung(&mut under(Errno(1)), "failed with EPERM (1)");
        fits(&run(&mut under(Errno(ENOSYS)))[0]);
    }

    /// The doctor under strace, which answers these calls in the kernel's place; `None` where none may trace.
    fn injected(doctor: &Command, calls: &str, inject: &str) -> Option<Command> {
        let may_trace = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
        if !may_trace.is_ok_and(|output| output.status.success()) {
            ledger::skipped("strace", "none that may trace");
            return None;
        }
        ledger::ran("strace");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
        strace.args(["-e", &format!("inject={calls}:{inject}")]);
        strace.arg(doctor.get_program()).args(doctor.get_args()).env_remove("ASYMFENCE");
        Some(strace)
    }

    /// As above, by strace, which answers every call in the kernel's place.
    #[cfg(not(any(asymfence_symmetric, asymfence_tsan)))]
    #[test]
    fn an_injected_error_is_told() {
        let traced = |inject: &str| injected(&doctor(), "membarrier", inject);
        let Some(mut refused) = traced("error=ENOSYS") else { return };
        refuses_the_first_rung(&mut refused, "failed with ENOSYS (38)");
        // A kernel that lies: success to everything.
        let Some(mut lie) = traced("retval=0") else { return };
        let report = json(&mut lie);
        assert_eq!(report["rungs"][0]["verdict"], "refused", "{report:#}");
    }

    /// One run for each of the first threads that the doctor creates: the four at its start, two for the costs, and the
    /// two sides of the table's first cell. strace refuses that thread and all later ones, in the kernel's place.
    #[test]
    fn a_thread_that_cannot_be_created_is_told() {
        const AT_THE_START: u32 = 4;
        const COSTS_AND_A_SIDE_EACH: u32 = 4;
        let two_run = json(&mut doctor())["processors"].as_u64() > Some(1);
        let all = AT_THE_START + if two_run { COSTS_AND_A_SIDE_EACH } else { 0 };
        let refused_from = |nth: u32| {
            let inject = format!("error=EAGAIN:when={nth}+");
            injected(&with_a_table(), "?clone,?clone3", &inject)
        };
        for nth in 1..=all {
            let Some(mut doctor) = refused_from(nth) else { return };
            let Output { status, stdout, stderr } = doctor.output().expect("it starts");
            let said = String::from_utf8_lossy(&stderr);
            assert_eq!(status.code(), Some(2), "{nth}: {said}");
            assert!(said.contains("cannot be created"), "{nth}: {said}");
            assert!(stdout.is_empty() && !said.contains("panicked"), "{nth}: {said}");
            assert_eq!(nth <= AT_THE_START, !said.contains("membarrier(2)"), "{nth}: {said}");
        }
        // The twin: so many that none is refused.
        let Some(mut doctor) = refused_from(60_000) else { return };
        run(&mut doctor);
    }

    #[test]
    fn threads_that_may_share_a_processor_are_told() {
        let words = |doctor: &mut Command| run(doctor)[0].contains("refused to keep the threads");
        let Some(mut refused) = injected(&doctor(), "sched_setaffinity", "error=EPERM") else {
            return;
        };
        // On one processor the doctor does not ask for it.
        let one = json(&mut doctor())["processors"] == 1;
        assert!(words(&mut refused) || one);
        assert!(json(&mut refused)["may_have_shared"] == true || one);
        assert!(!words(&mut doctor()));
        assert_eq!(json(&mut doctor())["may_have_shared"], false);
    }

    #[test]
    fn on_one_processor_no_sibling_ran() {
        let mut one = CpuSet::new();
        let mine = sched_getaffinity(None).expect("a set");
        one.set((0..CpuSet::MAX_CPU).find(|&cpu| mine.is_set(cpu)).expect("a processor"));
        let mut doctor = doctor();
        // SAFETY: between fork and exec the closure makes one system call.
        unsafe { doctor.pre_exec(move || Ok(sched_setaffinity(None, &one)?)) };
        let [out, _] = run(&mut doctor);
        fits(&out);
        let out = out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(out.contains(", 1 processor, "), "{out}");
        assert!(out.contains("warning: one processor."), "{out}");
        assert!(!out.contains("saves nothing") && !out.contains("no break-even"), "{out}");
        if out.starts_with("asymmetric") {
            assert!(out.contains("no other thread ran"), "{out}");
        }
        let report = json(&mut doctor);
        assert!(report["break_even"].is_null() && report["costs_ns"]["heavy_running"].is_null());
        assert_eq!(report["pairing"], serde_json::json!([]));
    }
}
