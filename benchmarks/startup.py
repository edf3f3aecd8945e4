"""How long ``domainsam --help`` takes, and which heavy packages it imports (none).

Run: python benchmarks/startup.py
"""

from __future__ import annotations

import subprocess
import sys
import time

COMMANDS = (
    ["--help"],
    ["--version"],
    ["packs"],
    ["urban", "--help"],
    ["urban", "map", "--help"],
    ["urban", "trend", "--help"],
    ["ct", "--help"],
    ["scene", "--help"],
)
HEAVY = ("torch", "numpy", "scipy", "rasterio", "geopandas", "transformers", "timm", "rich")
REPEATS = 10
PROBE = """
import sys
from domainsam_cli import main
try:
    main({arguments!r})
except SystemExit:
    pass
print("\\nimported:", *[name for name in {heavy!r} if name in sys.modules])
"""


def best_seconds(arguments: list[str]) -> float:
    """Wall time of the fastest of several runs in a new interpreter."""
    run = [sys.executable, "-c", "from domainsam_cli import main; raise SystemExit(main())", *arguments]
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begin)
    return min(times)


def heavy_imports(arguments: list[str]) -> list[str]:
    """Heavy packages that one command imports."""
    probe = PROBE.format(arguments=arguments, heavy=HEAVY)
    printed = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout
    return printed.rsplit("imported:", 1)[1].split()


def main() -> None:
    print(f"{'command':<32}{'best of ' + str(REPEATS):>12}  heavy packages imported")
    for arguments in COMMANDS:
        heavy = ", ".join(heavy_imports(arguments)) or "none"
        print(f"{'domainsam ' + ' '.join(arguments):<32}{best_seconds(arguments):>10.3f} s  {heavy}")


if __name__ == "__main__":
    main()
