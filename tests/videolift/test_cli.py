"""The commands that are handed to a checkout."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_project_folder_outside_the_checkout_can_be_planned(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"no video")
    (tmp_path / "config.yaml").write_text("videos: videos\noutput: output\n")
    command = [sys.executable, "-c", "from videolift.cli import main; main()", "plan"]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"1 video in {tmp_path / 'output'}" in done.stdout
