"""Kernels' inner loops in assembly, compiled for CPUs that may not be at hand."""

import re

from llvmlite import binding

# CPU, triple, unit, the register of a vector, the multiply-add
CPUS = [
    ("skylake-avx512", "x86_64-unknown-linux-gnu", "AVX-512", r"%zmm\d+", r"vfn?madd\d+ps"),
    ("znver5", "x86_64-unknown-linux-gnu", "AVX-512", r"%zmm\d+", r"vfn?madd\d+ps"),
    ("znver3", "x86_64-unknown-linux-gnu", "AVX2", r"%ymm\d+", r"vfn?madd\d+ps"),
    ("haswell", "x86_64-unknown-linux-gnu", "AVX2", r"%ymm\d+", r"vfn?madd\d+ps"),
    ("x86-64", "x86_64-unknown-linux-gnu", "generic", r"%xmm\d+", r"mulps"),
    ("neoverse-n1", "aarch64-unknown-linux-gnu", "NEON", r"v\d+\.4s", r"fmla"),
    ("apple-m1", "arm64-apple-macosx", "NEON", r"\bv\d+", r"fmla\.4s"),
]


def compiled(module, cpu, triple):
    """Assembly of a module for a CPU."""
    module.triple = triple
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = binding.Target.from_triple(triple)
    machine = target.create_target_machine(cpu=cpu, opt=3)
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    passes = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(3))
    passes.getModulePassManager().run(parsed, passes)
    return machine.emit_assembly(parsed)


def inner_loops(text, multiply):
    """Instructions of each block that multiplies and branches back to its own label."""
    found = []
    for label, body in re.findall(r"^([.L]\w+):(.*?)(?=^\S+:|\Z)", text, re.M | re.S):
        lines = [line.strip() for line in body.splitlines()]
        back = [i for i, line in enumerate(lines) if re.search(rf"\s{re.escape(label)}$", line)]
        if back and any(re.match(multiply, line) for line in lines):
            found.append(lines[: back[-1] + 1])
    return found


def on_stack(loop):
    """Instructions that read from the stack or write to it; but not the comparison with a loop's
    end, which may stand there at no cost."""
    there = [line for line in loop if re.search(r"[re]sp\b|\[sp|\[x29", line)]
    return [line for line in there if not line.startswith("cmp")]
