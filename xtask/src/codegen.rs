//! What the light fence compiles to: the functions of the package `codegen`, as assembly, and the
//! hot path of each beside that of its twin without a fence.

use std::env::consts;

use xshell::{Shell, cmd};

use crate::{Result, ledger, msrv};

/// How an architecture's assembly is read, by the beginnings of mnemonics.
struct Isa {
    arch: &'static str,
    triple: &'static str,
    /// What `fence(SeqCst)` may be, and what no hot path with a light fence may have in it.
    full: &'static [&'static str],
    /// Calls, and saves of registers for them. None may stand near a light fence, also off the hot path.
    saves: &'static [&'static str],
    /// What the dynamic light fence adds: load, compare, branch.
    once: &'static [&'static str],
    /// What it adds to each round of a loop.
    walk: &'static [&'static str],
}

const ISAS: [Isa; 3] = [
    Isa {
        arch: "x86_64",
        triple: "x86_64-unknown-linux-gnu",
        full: &["mfence", "lock", "xchg"],
        saves: &["call", "push"],
        once: &["mov", "cmp", "j"],
        walk: &["mov", "cmp", "j"],
    },
    Isa {
        arch: "aarch64",
        triple: "aarch64-unknown-linux-gnu",
        full: &["dmb", "dsb"],
        saves: &["bl", "stp"],
        once: &["ldr", "cmp", "b."],
        walk: &["ldr", "cmp", "b."],
    },
    // RISC-V compares and branches in one instruction. The constant is loaded into a register, before the loop if there
    // is one.
    Isa {
        arch: "riscv64",
        triple: "riscv64gc-unknown-linux-gnu",
        full: &["fence"],
        saves: &["call", "jal"],
        once: &["lb", "li", "b"],
        walk: &["lb", "b"],
    },
];

/// The light fences that add nothing: what they belong to, and the name of their functions.
const FREE: [(&str, &str); 2] = [("Asymmetric", "asymmetric"), ("Participant", "participant")];

/// By the Rust of this machine, for this machine.
pub(crate) fn native(sh: &Shell) -> Result {
    let mut isas = ISAS.iter().filter(|isa| consts::OS == "linux" && isa.arch == consts::ARCH);
    let Some(isa) = isas.next() else {
        return ledger::skipped(
            sh,
            &format!("code generation on {}", consts::ARCH),
            "the assembly of this machine is not known here",
        );
    };
    let assembly = examine(sh, isa, &["--features", "std"], &FREE)?;
    own_domain(&assembly)
}

/// With the oldest Rust, for every architecture. `core` is built from source, since the compiler's package has it
/// compiled for one architecture only. So `Participant` is left out, which needs std.
pub(crate) fn foreign(sh: &Shell) -> Result {
    let Some(_compiler) = msrv::compiler(sh)? else { return Ok(()) };
    let _unstable = sh.push_env("RUSTC_BOOTSTRAP", "1");
    for isa in &ISAS {
        examine(sh, isa, &["-Zbuild-std=core"], &FREE[..1])?;
    }
    Ok(())
}

/// Returns the assembly.
fn examine(sh: &Shell, isa: &Isa, options: &[&str], free: &[(&str, &str)]) -> Result<String> {
    let target = sh.create_dir(crate::target(sh, "codegen"))?;
    let file = target.join(format!("{}{}.s", isa.arch, options.concat()));
    let build = ["--quiet", "--release", "--package", "codegen", "--target", isa.triple];
    cmd!(sh, "cargo rustc {build...} --target-dir {target} {options...} -- -Ccodegen-units=1 --emit asm={file}")
        .quiet()
        .run()?;
    let assembly = sh.read_file(&file)?;
    for (shape, asks) in [("once", isa.once), ("walk", isa.walk)] {
        verify(&assembly, isa, shape, asks, free)
            .map_err(|error| format!("{}, {shape}: {error}; see {}", isa.arch, file.display()))?;
    }
    ledger::ran(sh, &format!("code generation on {}", isa.arch))?;
    Ok(assembly)
}

/// A hazard pointer of one's own domain is taken and given back by no more instructions than one of the domain of the
/// process.
fn own_domain(assembly: &str) -> Result {
    let count = |function| {
        let lines = body(assembly, function);
        let count = lines.iter().filter(|line| !line.ends_with(':')).count();
        if count == 0 { Err(format!("no function {function}")) } else { Ok(count) }
    };
    let [global, own, checked] =
        [count("take_global")?, count("take_own")?, count("take_own_checked")?];
    if own > global {
        return Err(format!(
            "an own domain takes {own} instructions, that of the process {global}"
        )
        .into());
    }
    // The twin: the same count must notice one more check.
    if checked <= own {
        return Err("one more check was not noticed".into());
    }
    println!(
        "as it must be: a hazard pointer of an own domain is taken and given back in {own} instructions, no more than the {global} of the process's domain"
    );
    Ok(())
}

/// Checks that the light fences add no more than they may to the hot path of the twin without a fence; and that the
/// same check finds a fence that is there.
fn verify(assembly: &str, isa: &Isa, shape: &str, asks: &[&str], free: &[(&str, &str)]) -> Result {
    let path = |fence: &str| hot_path(assembly, &format!("{shape}_{fence}"));
    let (none, light) = (path("none")?, path("light")?);
    let free_paths = free.iter().map(|(_, function)| path(function)).collect::<Result<Vec<_>>>()?;
    for path in free_paths.iter().chain([&none, &light]) {
        if let Some(fence) = path.iter().find(|line| is_any_of(line, isa.full)) {
            return Err(format!("a fence on the hot path: {fence}").into());
        }
    }
    for ((name, _), path) in free.iter().zip(&free_paths) {
        if *path != none {
            return Err(format!("`{name}` is not free: {path:?} against {none:?}").into());
        }
    }
    let branch = branch(&light, &none, asks).map_err(|fault| format!("light_fence: {fault}"))?;

    let function = format!("{shape}_light");
    if let Some(call) = body(assembly, &function).iter().find(|line| is_any_of(line, isa.saves)) {
        return Err(format!("light_fence takes registers from its caller: {call}").into());
    }

    // The twins: the same check must find a fence where there is one, and one light fence too many.
    let full = path("full")?;
    if !full.iter().any(|line| is_any_of(line, isa.full)) {
        return Err(format!("no fence found in fence(SeqCst): {full:?}").into());
    }
    if full == none || light == none {
        return Err("one more fence was not noticed".into());
    }
    if self::branch(&path("light_twice")?, &none, asks).is_ok() {
        return Err("one more light fence was not noticed".into());
    }
    let full = added(&full, &none)?;
    println!("{}, {}: what a fence adds to the hot path", isa.arch, of_shape(shape));
    let free: Vec<&str> = free.iter().map(|(name, _)| *name).collect();
    println!("  {:<28}nothing", free.join(", "));
    println!("  {:<28}{}", "light_fence", branch.join("; "));
    println!("  {:<28}{}", "fence(SeqCst)", full.join("; "));
    Ok(())
}

fn of_shape(shape: &str) -> &'static str {
    if shape == "walk" { "each round of a loop" } else { "once" }
}

/// Returns the instructions that `light` has and `none` has not. It is an error if these differ from `asks`. Two things
/// are not counted: the address of what is loaded (the linker makes it a constant, and it is computed before a loop
/// begins), and copies from register to register.
fn branch(light: &[String], none: &[String], asks: &[&str]) -> Result<Vec<String>> {
    let is_address =
        |line: &str| ["@GOT", ":got", "%got", "%pcrel"].iter().any(|at| line.contains(at));
    let is_copy = |line: &str| line.starts_with("mov") && !line.contains(['(', '[', '$', '#']);
    let light: Vec<String> = light.iter().filter(|line| !is_address(line)).cloned().collect();
    let added = added(&light, none)?;
    let counted: Vec<&String> = added.iter().filter(|line| !is_copy(line)).collect();
    let is_expected = counted.len() == asks.len()
        && counted.iter().zip(asks).all(|(line, start)| line.starts_with(start));
    if is_expected { Ok(added) } else { Err(format!("more or less than it may: {added:?}").into()) }
}

/// The lines of `longer` that are left when for each line of `shorter` one with the same mnemonic is removed. Registers
/// may differ, and so may the order of instructions.
fn added(longer: &[String], shorter: &[String]) -> Result<Vec<String>> {
    let mut left = longer.to_vec();
    for line in shorter {
        let at = left.iter().rposition(|other| mnemonic(other) == mnemonic(line));
        left.remove(at.ok_or_else(|| format!("`{line}` has gone"))?);
    }
    Ok(left)
}

fn mnemonic(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

fn is_any_of(line: &str, starts: &[&str]) -> bool {
    starts.iter().any(|start| mnemonic(line).starts_with(start))
}

/// The instructions that `function` executes if no branch is taken but that which closes its loop:
/// those of the loop if it has one, all up to the return if not.
fn hot_path(assembly: &str, function: &str) -> Result<Vec<String>> {
    let lines = body(assembly, function);
    let loops = lines.iter().enumerate().find_map(|(start, line)| {
        let label = line.strip_suffix(':')?;
        let closes = |line: &String| line.split([' ', ',']).next_back() == Some(label);
        Some((start, start + lines[start..].iter().position(closes)?))
    });
    let (start, end) = match loops {
        Some(bounds) => bounds,
        None => {
            let end = lines.iter().position(|line| line.starts_with("ret"));
            (0, end.ok_or_else(|| format!("no function {function} that returns"))?)
        }
    };
    let path = lines[start..=end].iter().filter(|line| !line.ends_with(':'));
    Ok(path.map(|line| without_function_number(line)).collect())
}

/// The labels and instructions of `function`.
fn body(assembly: &str, function: &str) -> Vec<String> {
    assembly
        .lines()
        .skip_while(|line| *line != format!("{function}:"))
        .skip(1)
        .take_while(|line| !line.starts_with(".Lfunc_end"))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| line.ends_with(':') || !line.starts_with(['.', '#', '/']))
        .filter(|line| !line.is_empty())
        .collect()
}

/// `.LBB5_1` is the label 1 of function 5.
fn without_function_number(line: &str) -> String {
    match line.split_once(".LBB").and_then(|(start, label)| Some((start, label.split_once('_')?))) {
        Some((start, (_, label))) => format!("{start}.L{label}"),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONCE: &str = "
once_none:
\tmovq\t%rdx, (%rdi)
\tretq
.Lfunc_end0:
once_asymmetric:
\t.cfi_startproc
\tmovq\t%rdx, (%rdi)
\t#APP
\t#NO_APP
\tretq
.Lfunc_end1:
once_participant:
\tmovq\t%rdx, (%rdi)
\tretq
.Lfunc_end5:
once_light:
\tmovq\t%rdx, (%rdi)
\tmovq\tMODE@GOTPCREL(%rip), %rax
\tmovzbl\t(%rax), %eax
\tcmpb\t$1, %al
\tjbe\t.LBB2_1
\tretq
.LBB2_1:
\tlock\t\torl\t$0, -64(%rsp)
\tretq
.Lfunc_end2:
once_light_twice:
\tmovq\t%rdx, (%rdi)
\tmovzbl\t(%rax), %eax
\tcmpb\t$1, %al
\tjbe\t.LBB2_1
\tmovzbl\t(%rax), %eax
\tcmpb\t$1, %al
\tjbe\t.LBB2_1
\tretq
.Lfunc_end3:
once_full:
\tmovq\t%rdx, (%rdi)
\tlock\t\torl\t$0, -64(%rsp)
\tretq
.Lfunc_end4:
";

    #[track_caller]
    fn is_found(text: &str, replacement: &str, fault: &str) {
        assert!(ONCE.contains(text));
        let changed = ONCE.replacen(text, replacement, 1);
        let error = verify(&changed, &ISAS[0], "once", ISAS[0].once, &FREE).unwrap_err();
        assert!(error.to_string().contains(fault), "{error}");
    }

    #[test]
    fn what_the_fences_are_now_is_right() {
        verify(ONCE, &ISAS[0], "once", ISAS[0].once, &FREE).unwrap();
    }

    #[test]
    fn an_instruction_more_in_a_proof_is_found() {
        is_found("\t#APP\n", "\tnop\n", "not free");
        is_found("\t#APP\n", "\tmfence\n", "a fence on the hot path");
        is_found("once_participant:\n", "once_participant:\n\tnop\n", "`Participant` is not free");
        is_found("\t#APP\n", "\tmovq\t%rdx, (%rdi)\n", "not free");
    }

    #[test]
    fn an_instruction_more_or_less_in_a_light_fence_is_found() {
        is_found("\tjbe\t.LBB2_1\n", "\tjbe\t.LBB2_1\n\tincq\t%rcx\n", "more or less");
        is_found("\tcmpb\t$1, %al\n", "", "more or less");
        is_found("\tcmpb\t$1, %al\n", "\tlock\t\tincl\t(%rax)\n", "a fence on the hot path");
        is_found("\tcmpb\t$1, %al\n", "\tcallq\tfull_fence\n", "more or less");
    }

    #[test]
    fn a_call_off_the_hot_path_of_a_light_fence_is_found() {
        let cold = ".LBB2_1:\n\tlock\t\torl\t$0, -64(%rsp)\n";
        is_found(cold, ".LBB2_1:\n\tcallq\tfull_fence\n", "takes registers");
    }

    #[test]
    fn controls_that_control_nothing_are_found() {
        is_found("once_full:\n", "other:\n", "no function once_full");
        let full = "once_full:\n\tmovq\t%rdx, (%rdi)\n\tlock\t\torl\t$0, -64(%rsp)\n";
        is_found(full, "once_full:\n\tmovq\t%rdx, (%rdi)\n", "no fence found");
        let twice = "\tjbe\t.LBB2_1\n\tmovzbl\t(%rax), %eax\n\tcmpb\t$1, %al\n\tjbe\t.LBB2_1\n";
        is_found(twice, "\tjbe\t.LBB2_1\n", "one more light fence was not noticed");
    }

    #[test]
    fn a_check_more_in_an_own_domain_is_found() {
        let function = |name: &str, lines: &str| format!("{name}:\n{lines}.Lfunc_end0:\n");
        let all = |own: &str| {
            function("take_global", "\tmovq\t%fs:0, %rax\n\tretq\n")
                + &function("take_own", own)
                + &function("take_own_checked", "\tnop\n\tnop\n\tretq\n")
        };
        own_domain(&all("\tmovq\t%fs:0, %rax\n\tretq\n")).unwrap();
        let error = own_domain(&all("\ttestq\t%rax, %rax\n\tnop\n\tretq\n")).unwrap_err();
        assert!(error.to_string().contains("an own domain takes 3"), "{error}");
        assert!(own_domain("").is_err());
    }

    #[test]
    fn the_hot_path_of_a_loop_is_the_loop() {
        let walk = "
walk_none:
\tcbz\tx9, .LBB1_4
.LBB1_2:
\tstr\tx9, [x0]
\tb.ls\t.LBB1_5
.LBB1_3:
\tcbnz\tx9, .LBB1_2
\tret
.LBB1_5:
\tdmb\tish
\tb\t.LBB1_3
.Lfunc_end1:
";
        assert_eq!(
            hot_path(walk, "walk_none").unwrap(),
            ["str x9, [x0]", "b.ls .L5", "cbnz x9, .L2"]
        );
    }
}
