"""torch's own files: what it saves today passes, what it would run does not."""

from videolift.isolation import checkpoints


def test_what_torch_saves_passes_and_a_program_is_refused(run, tmp_path):
    out = run("direct_checkpoints.py", tmp_path, checkpoints.__file__)
    assert "ok" in out
    assert "TorchScript" in out
    assert "bare pickle" in out
