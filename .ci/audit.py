"""Read pip-audit's answer: fail where a fixed version exists, and say loudly what was not checked.

Run: python .ci/audit.py ANSWER.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(path: Path) -> int:
    try:
        packages = json.loads(path.read_text())["dependencies"]
    except (OSError, ValueError, KeyError):
        packages = []
    checked = [package for package in packages if "vulns" in package]
    if not checked:
        print("!! SKIPPED: no advisory service could be reached; installed packages were NOT checked !!")
        return 0
    if len(checked) < len(packages):
        left = ", ".join(package["name"] for package in packages if "vulns" not in package)
        print(f"!! not known to the advisory service, NOT checked: {left} !!")
    mendable = 0
    for package in checked:
        for fault in package["vulns"]:
            fixes = ", ".join(fault["fix_versions"]) or "no version yet"
            print(f"{package['name']} {package['version']}: {fault['id']}, fixed in {fixes}")
            mendable += bool(fault["fix_versions"])
    print(f"{len(checked)} packages checked; {mendable} known vulnerabilities have a fixed version")
    return 1 if mendable else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
