"""Where a measurement was made, beside the measurement."""

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "RESULTS.md"
PARTS = ("perptape", "picows", "uvloop", "websockets", "msgspec", "pyarrow", "numpy", "numba")


def append_result(title: str, text: str) -> None:
    """Add a section to RESULTS.md: command, machine, versions, date, and the text."""
    # Names of files only: where they lay is nobody's business.
    said = [word.rsplit("/", 1)[-1] if "=" not in word else _bare(word) for word in sys.argv[1:]]
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *said])
    lines = [
        f"## {title}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "",
        f"`{command}` on {_cpu()}, {os.cpu_count()} cores, {platform.system()} "
        f"{platform.machine()}, load {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, "
        + ", ".join(f"{part} {version(part)}" for part in PARTS),
        "",
        text,
        "",
    ]
    with RESULTS.open("a") as file:
        file.write("\n" + "\n".join(lines))


def _bare(word: str) -> str:
    name, path = word.split("=", 1)
    return f"{name}={path.rsplit('/', 1)[-1]}"


def _cpu() -> str:
    try:
        rows = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((row.split(": ")[1] for row in rows if row.startswith("model name")), "a CPU")
