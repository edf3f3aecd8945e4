"""The demo: the main job on scenes that it draws itself."""

from __future__ import annotations

import json
from pathlib import Path

from domainsam_cli import main
from domainsam_scene import demo_command


def test_demo_shows_the_way_and_says_that_it_is_generated(tmp_path: Path, scene, capsys, monkeypatch) -> None:
    monkeypatch.setattr(demo_command, "SIDE", 64)
    monkeypatch.setattr(demo_command, "SAMPLES", 2)
    assert main(["demo", "--pack", "scene", "-o", str(tmp_path / "d")]) == 0
    printed = capsys.readouterr().out
    assert "generated" in printed
    assert "domainsam scene segment --rgb" in printed
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == [
        "maps",
        "previews",
        "samples",
        "summaries",
    ]
    assert main(["demo", "--pack", "scene", "-o", str(tmp_path / "d")]) == 4
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    assert scene("demo", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["generated"]
    assert len(document["scenes"]) == 2
    assert (tmp_path / "domainsam-demo" / "maps" / "scene000.png").is_file()
