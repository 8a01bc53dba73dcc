"""What models need from elsewhere: names to files, hashes that hold, downloads that resume, licences asked once."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import create_autospec

import pytest
import yaml

from stages.depth.moge import MogeSettings
from stages.hands.wilor import WilorSettings
from stages.models import downloads, transfer
from stages.models import install as models
from stages.models import weights as weights_module
from stages.models.downloads import fetch_checkout
from stages.models.environments import ENVS, build
from stages.models.install import install, parts
from stages.models.weights import Checkout, WeightStore, read_models
from stages.registry import ROOT
from stages.tracks.tapip3d import Tapip3dSettings
from videolift.errors import BackendUnavailable, ConfigError

BODY = bytes(range(256)) * 400


@pytest.fixture
def root(tmp_path):
    """A checkout of ours with one toy model."""
    (tmp_path / "thirdparty").mkdir()
    return tmp_path


def _manifest(root, url="https://example.invalid/toy.pt", **weight):
    entry = {
        "stage": "depth",
        "env": "toy",
        "licence": {"code": "MIT", "weights": "NC"},
        "terms": "research only",
        "checkouts": {},
        "weights": {"toy": {"file": "toy/toy.pt", "url": url, "default": True} | weight},
    }
    (root / "thirdparty" / "models.yaml").write_text(yaml.safe_dump({"models": {"toy": entry}}))
    read_models.cache_clear()
    return WeightStore(root, "thirdparty/weights")


@pytest.fixture
def fetched(monkeypatch):
    """Addresses that were fetched; each gives BODY, and no hub states its hash."""
    addresses = []

    def download(url, final, *, expected_bytes=None, sha256=None):
        addresses.append(url)
        final.parent.mkdir(parents=True, exist_ok=True)
        final.write_bytes(BODY)
        return

    monkeypatch.setattr(downloads.transfer, "download", create_autospec(transfer.download, side_effect=download))
    return addresses


@pytest.fixture(autouse=True)
def person(tmp_path, monkeypatch):
    """A person who has accepted nothing so far."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "person"))
    return tmp_path / "person" / "videolift" / "licences.json"


def test_the_shipped_manifest_names_every_default_of_the_configuration():
    known, wilor = WeightStore(ROOT, "w"), WilorSettings()
    names = [MogeSettings().weights, Tapip3dSettings().weights, wilor.weights, wilor.detector, wilor.mano]
    assert all(known.weight(name) is not None for name in names)


@pytest.mark.parametrize("model", read_models().values(), ids=lambda m: m.name)
def test_every_shipped_model_has_an_environment_licences_and_exact_commits(model):
    assert (ENVS / f"{model.env}.yaml").exists()
    assert model.licence_code
    assert model.licence_weights
    assert all(len(c.commit) == 40 and c.repository.startswith("https://") for c in model.checkouts.values())
    assert all(w.url.startswith("https://") for w in model.weights.values() if w.via in ("https", "manual"))


def test_a_weight_is_found_by_name_and_by_path(root):
    known = _manifest(root)
    assert known.path("toy") == root / "thirdparty" / "weights" / "toy" / "toy.pt"
    assert known.path("mine/own.pt") == root / "mine" / "own.pt"
    assert WeightStore(root, "/elsewhere").path("toy") == Path("/elsewhere/toy/toy.pt")


def test_the_same_bytes_at_another_path_have_the_same_hash(root):
    known = _manifest(root)
    for name in ("one.pt", "two.pt"):
        (root / name).write_bytes(BODY)
    assert known.sha256("one.pt") == known.sha256("two.pt")


def test_a_file_is_hashed_again_only_when_it_changed(root, monkeypatch):
    known, calls = _manifest(root), []
    monkeypatch.setattr(weights_module, "sha256_file", lambda path: calls.append(path) or str(len(calls)))
    (root / "own.pt").write_bytes(BODY)
    assert [known.sha256("own.pt"), known.sha256("own.pt")] == ["1", "1"]
    os.utime(root / "own.pt", (1, 1))
    assert known.sha256("own.pt") == "2"


def test_hashes_of_files_that_are_gone_are_forgotten(root):
    known = _manifest(root)
    for name in ("one.pt", "two.pt"):
        (root / name).write_bytes(BODY)
        known.sha256(name)
        (root / name).unlink()
    assert list(json.loads((root / "thirdparty" / ".hashes.json").read_text())) == [str(root / "two.pt")]


def test_a_hugging_face_folder_is_hashed_by_its_snapshot_whatever_the_revision(root):
    known = _manifest(root)
    for home, revision in (("a", "abc"), ("b", "def")):
        folder = root / home / "snapshots" / revision
        folder.mkdir(parents=True)
        (folder / "model.bin").write_bytes(BODY)
        (root / home / "refs").mkdir()
        (root / home / "refs" / "main").write_text(revision)
    assert known.sha256("a") == known.sha256("b") is not None


def test_a_hugging_face_folder_counts_only_when_it_was_fetched_to_its_end(root):
    known = _manifest(root, via="huggingface")
    place = known.path("toy")
    (place / "snapshots" / "abc").mkdir(parents=True)
    assert "not installed" in known.problem("toy")
    (place / "snapshots" / "abc" / "model.bin").write_bytes(BODY)
    before = known.sha256("toy")
    (place / ".ok").write_text("{}")
    assert known.problem("toy") is None
    assert known.sha256("toy") == before


def test_the_models_own_tools_fetch_from_hugging_face_and_google_drive(root, tmp_path):
    """With stand-ins for the two packages in the model's interpreter."""
    fake = tmp_path / "python"
    fake.write_text(
        f"""#!{sys.executable}
import os, pathlib, sys
out = pathlib.Path(sys.argv[5]) if "gdown" in sys.argv[3] else pathlib.Path(os.environ["HF_HOME"], "hub", "seen")
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text(" ".join(sys.argv[4:]))
"""
    )
    fake.chmod(0o755)
    weights = root / "thirdparty" / "weights"
    known = _manifest(root, url="org/name", via="huggingface", patterns=["*.json"])
    downloads.fetch_weight(known.weight("toy"), known.path("toy"), fake, weights)
    assert (weights / "toy" / "huggingface" / "hub" / "seen").read_text() == "org/name *.json"
    known = _manifest(root, url="an-id", via="gdrive", file="toy/drive.gz")
    downloads.fetch_weight(known.weight("toy"), known.path("toy"), fake, weights)
    assert known.path("toy").read_text().startswith("an-id")
    assert not known.path("toy").with_name("drive.gz.part").exists()


def test_the_first_hash_is_recorded_and_enforced_from_then_on(root):
    known = _manifest(root)
    path = known.path("toy")
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)
    known.record(known.weight("toy"))
    assert known.problem("toy") is None
    path.write_bytes(BODY + b"x")
    assert "not the file first downloaded" in known.problem("toy")
    with pytest.raises(BackendUnavailable, match="videolift models install toy"):
        known.record(known.weight("toy"))


def test_a_hash_of_the_manifest_outranks_the_lock(root):
    known = _manifest(root, sha256="0" * 64)
    known.path("toy").parent.mkdir(parents=True)
    known.path("toy").write_bytes(BODY)
    assert "expected 000" in known.problem("toy")


def test_a_missing_weight_names_the_command_and_a_manual_one_its_steps(root):
    assert _manifest(root).problem("toy").endswith("Type: videolift models install toy")
    by_hand = _manifest(root, via="manual", steps="Register first, then put it at {path}.").problem("toy")
    assert "Register first" in by_hand
    assert str(root / "thirdparty" / "weights" / "toy" / "toy.pt") in by_hand
    assert "correct the setting" in _manifest(root).problem("nowhere.pt")


@pytest.mark.parametrize("url", ["http://example.invalid/x", "file:///etc/passwd", "ftp://example.invalid/x"])
def test_only_https_is_fetched(root, url):
    with pytest.raises(BackendUnavailable, match="only https"):
        transfer.download(url, root / "x")
    with pytest.raises(BackendUnavailable, match="only https"):
        fetch_checkout(Checkout("x", url, "0" * 40), root / "checkout")


def test_a_repository_is_checked_out_at_its_commit_and_once(root, monkeypatch):
    source = root / "source"
    git = ["git", "-C", str(source), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "init", "-q", str(source)], check=True)
    (source / "x.py").write_text("first")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    (source / "x.py").write_text("second")
    subprocess.run([*git, "commit", "-qam", "second"], check=True)
    monkeypatch.setattr(transfer, "SCHEMES", ("file",))
    checkout = Checkout("x", f"file://{source}", commit)
    fetch_checkout(checkout, root / "checkout")
    assert (root / "checkout" / "x.py").read_text() == "first"
    (root / "checkout" / "x.py").write_text("mine")
    fetch_checkout(checkout, root / "checkout")
    assert (root / "checkout" / "x.py").read_text() == "mine"


def _install(known, root, **options):
    return install(known.models()["toy"], known, root / "envs", **options)


@pytest.fixture
def python(monkeypatch):
    """In place of the model's environment, which takes minutes to build."""
    monkeypatch.setattr(models, "build", create_autospec(build, return_value=Path(sys.executable)))


def test_installing_asks_for_the_licence_once_and_fetches_everything(root, fetched, python):
    known, asked = _manifest(root, file="toy/toy.bin.gz"), []
    for _ in range(2):
        assert _install(known, root, accepts=lambda m: asked.append(m.name) or True) == []
    assert asked == ["toy"]
    assert len(fetched) == 1
    assert known.lock()["weights"]["toy"]["bytes"] == len(BODY)
    assert known.lock()["weights"]["toy"]["stated_by"].startswith("nobody")
    assert "toy" not in {p.name for p in known.weights_dir.rglob("*.lock")}


def test_a_colleague_with_the_same_repository_is_asked_for_their_own_acceptance(root, fetched, python, person, monkeypatch):
    known, asked = _manifest(root, file="toy/toy.bin.gz"), []
    _install(known, root, accepts=lambda m: True)
    assert "accepted" not in known.lock_file.read_text()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(root / "colleague"))
    _install(known, root, accepts=lambda m: asked.append(m.name) or True)
    assert asked == ["toy"]
    assert person.exists()


def test_an_acceptance_in_an_old_lock_counts_for_nobody_and_its_hashes_hold(root, fetched, python):
    known = _manifest(root, file="toy/toy.bin.gz")
    known.lock_file.write_text(yaml.safe_dump({"accepted": ["toy"], "weights": {"toy": {"sha256": "0" * 64}}}))
    with pytest.raises(ConfigError, match="not accepted"):
        _install(known, root, accepts=lambda m: False)
    with pytest.raises(BackendUnavailable, match="expected 000"):
        _install(known, root, accepts=lambda m: True)


def test_a_licence_that_changed_is_asked_for_again(root, fetched, python):
    known, asked = _manifest(root, file="toy/toy.bin.gz"), []
    _install(known, root, accepts=lambda m: True)
    manifest = root / "thirdparty" / "models.yaml"
    manifest.write_text(manifest.read_text().replace("research only", "nobody at all"))
    read_models.cache_clear()
    _install(known, root, accepts=lambda m: asked.append(m.terms) or True)
    assert asked == ["nobody at all"]


def test_without_the_licence_nothing_is_fetched(root, fetched, monkeypatch):
    known = _manifest(root)
    monkeypatch.setattr(models, "build", lambda name, envs_dir: pytest.fail("built"))
    with pytest.raises(ConfigError, match="accept_licences"):
        _install(known, root, accepts=lambda m: False)
    assert fetched == []


def test_what_arrived_in_place_of_a_checkpoint_is_named_when_it_is_installed(root, fetched, python):
    known = _manifest(root)
    with pytest.raises(BackendUnavailable, match=r"no plain archive of tensors.* kept as toy.pt.refused"):
        _install(known, root, accepts=lambda m: True)
    assert "not installed" in known.problem("toy")


def test_a_file_of_the_hubs_cache_that_is_not_what_its_name_says_is_deleted(tmp_path):
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    (blobs / hashlib.sha256(BODY).hexdigest()).write_bytes(BODY)
    (blobs / hashlib.sha1(b"blob 2\0{}").hexdigest()).write_bytes(b"{}")
    downloads.check_hub_folder(tmp_path)
    (blobs / hashlib.sha256(BODY).hexdigest()).write_bytes(BODY + b"x")
    with pytest.raises(BackendUnavailable, match="not the bytes that the hub states"):
        downloads.check_hub_folder(tmp_path)
    downloads.check_hub_folder(tmp_path)


def test_a_manual_step_is_what_is_left(root, python):
    known = _manifest(root, via="manual", steps="Register first, then put it at {path}.")
    left = install(known.models()["toy"], known, root / "envs", accepts=lambda m: True)
    assert len(left) == 1
    assert "Register first" in left[0]


def test_an_unknown_weight_is_refused(root):
    known = _manifest(root)
    with pytest.raises(ConfigError, match="there are toy"):
        install(known.models()["toy"], known, root / "envs", accepts=lambda m: True, only=["tooy"])


def test_checking_names_all_that_is_missing(root):
    known = WeightStore(ROOT, str(root))
    missing = {(p.kind, p.name) for p in parts(known.models()["tapip3d"], known, root / "envs") if p.problem}
    assert {("environment", "tapip3d"), ("weight", "tapip3d_final")} <= missing


def test_a_checkout_of_the_users_is_taken_as_it_is(root):
    known = WeightStore(ROOT, "w")
    assert known.checkout("moge", "MoGe", str(root)) == root
    with pytest.raises(BackendUnavailable, match="checkout"):
        known.checkout("moge", "MoGe", str(root / "nowhere"))


def test_the_command_lists_licences_and_checks_with_exit_code_3(root, capsys, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(f"models_dir: {root / 'w'}\nenvs_dir: {root / 'e'}\n")
    assert models.models_command(["list", "--config-file", str(config)]) == 0
    assert "CC-BY-NC-ND-4.0" in capsys.readouterr().out
    assert models.models_command(["check", "--config-file", str(config)]) == 3
    assert "videolift models install wilor" in capsys.readouterr().out
