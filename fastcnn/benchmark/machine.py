"""Facts about the machine, the software and the commit that figures belong to."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("numpy", "numba", "llvmlite", "torch", "onnxruntime", "jax", "jaxlib", "scipy")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{re.escape(name)}\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else ""


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+)([KMG]?)", text.strip())
    return int(found.group(1)) * _UNITS.get(found.group(2), 1) if found else 0


@cache
def caches() -> dict[str, int]:
    """Bytes of each cache that the first core sees, by name: "L1d", "L1i", "L2", "L3"."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind = _text(f"{folder}/level").strip(), _text(f"{folder}/type").strip()
        suffix = {"Data": "d", "Instruction": "i"}.get(kind, "")
        found[f"L{level}{suffix}"] = _bytes(_text(f"{folder}/size"))
    return found


def last_cache_bytes() -> int:
    """Size of the largest cache; 32 MB where the system does not say."""
    return max(caches().values(), default=0) or 32 << 20


def commit() -> str | None:
    """The commit of the checkout that is running, with "+" if files differ; None outside one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    """Version of Python, fastcnn and every package of ours or a peer's that is installed."""
    import fastcnn

    found = {"python": platform.python_version(), "fastcnn": fastcnn.__version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def facts() -> dict[str, Any]:
    """Everything about this machine that a reader of figures needs, for JSON."""
    cpu = _text("/proc/cpuinfo")
    name = _field(cpu, "model name") or platform.processor() or platform.machine()
    governor = _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip()
    memory = _field(_text("/proc/meminfo"), "MemTotal").split()
    virtual = "hypervisor" in _field(cpu, "flags").split()
    return {
        "cpu": name,
        "family": " ".join(
            f"{key} {_field(cpu, field)}"
            for key, field in (("family", "cpu family"), ("model", "model"))
            if _field(cpu, field)
        ),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "caches": caches(),
        "memory_bytes": int(memory[0]) * 1024 if memory else 0,
        "virtual": virtual,
        "governor": governor or None,
        "system": f"{platform.system()} {platform.release()}",
        "executable": Path(sys.executable).name,
        "versions": versions(),
        "commit": commit(),
    }
