"""Files that start a cluster: they parse, and say what the documentation says."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.conftest import ROOT

yaml = pytest.importorskip("yaml")
FOLDER = ROOT / "examples" / "cluster"


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


def test_every_service_of_the_compose_file_can_start(compose: Any) -> None:
    services = compose["services"]
    assert set(services) == {"store", "buckets", "scheduler", "worker", "client"}
    for name, service in services.items():
        assert service["image"], name
        assert set(service.get("depends_on", ())) <= set(services)
        for volume in service.get("volumes", ()):
            assert volume.split(":")[0] in compose["volumes"]
    command = services["worker"]["command"]
    assert command[command.index("--nthreads") + 1] == "1"
    assert "tcp://scheduler:8786" in command
    assert not any("ports" in service for service in services.values())


def test_no_secret_stands_in_the_compose_file(compose: Any) -> None:
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("KEY|PASSWORD|USER", name):
                assert value.startswith("${STORE_"), name


def test_the_container_is_built_from_wheels_alone() -> None:
    lines = (FOLDER / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split()[0] for line in lines if line and not line.startswith("#")]
    assert steps == ["FROM", "COPY", "RUN", "USER", "WORKDIR", "ENV", "ENTRYPOINT", "CMD"]
    (install,) = [line for line in lines if line.startswith("RUN")]
    assert "--no-index --find-links /wheels" in install
    assert "USER worker" in lines


def test_the_manifest_of_kubernetes_parses() -> None:
    text = (ROOT / "docs" / "scale.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    job = yaml.safe_load(block)
    assert job["kind"] == "Job"
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 32
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert "/32" in container["command"][-1]
