"""What the assembler made of a kernel: registers, spills, instructions. No GPU needed."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from fastcnn.kernels.cuda.target.package import Arch

# Between an instruction's address in a listing and its name: the predicate it hangs on, if any.
_AFTER_ADDRESS = r"\*/\s+(?:@!?U?P\w+\s+)?"


@dataclass(frozen=True)
class Facts:
    """What the assembler made of a kernel for one architecture.

    Attributes
    ----------
    registers : int
        Per thread.
    stack, spills, shared : int
        Bytes: of local memory per thread, of registers stored to it for want of room, and of
        statically allocated shared memory per block.
    ptx, sass : str
        The virtual and the real instructions.
    """

    registers: int
    stack: int
    spills: int
    shared: int
    ptx: str
    sass: str

    @property
    def instructions(self) -> Counter[str]:
        """How often each SASS instruction occurs, by its name up to the first dot."""
        names = re.findall(
            r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", self.sass, re.M
        )
        return Counter(name.split(".")[0] for name in names)

    def count(self, pattern: str) -> int:
        """How many SASS instructions match, such as r"LDS\\.128" or "HMMA"."""
        return len(re.findall(rf"{_AFTER_ADDRESS}{pattern}", self.sass))


def facts(library: Any, arch: Arch, max_registers: int | None) -> Facts:
    """Assemble a compiled library for an architecture, and read off what came out."""
    ptx = library.get_asm_str(cc=arch)
    from cuda.core import Linker, LinkerOptions, ObjectCode

    options = LinkerOptions(
        arch="sm_" + "".join(map(str, arch)),
        ptxas_options=["-v"],
        max_register_count=max_registers,
    )
    linker = Linker(ObjectCode.from_ptx(ptx.encode()), options=options)
    linker.link("cubin")
    log = linker.get_info_log()

    def number(pattern: str) -> int:
        return sum(map(int, re.findall(pattern, log)))

    return Facts(
        registers=number(r"Used (\d+) registers"),
        stack=number(r"(\d+) bytes stack frame"),
        spills=number(r"(\d+) bytes spill (?:stores|loads)"),
        shared=number(r"(\d+) bytes smem"),
        ptx=ptx,
        sass=library.get_sass(cc=arch),
    )
