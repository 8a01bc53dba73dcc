"""Installing the models: environment, checkouts and weights of `thirdparty/models.yaml`, licences asked for once.

Run where the user sits, as ``videolift models list | install NAME | build NAME | check``. What is there is known to
`stages.models.weights`, fetching is `stages.models.downloads`, environments are `stages.models.environments`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.models.acceptance import accept, is_accepted, licence_text
from stages.models.downloads import fetch_checkout, fetch_weight
from stages.models.environments import ENVS, build, build_command, is_built, read_environment
from stages.models.options import add_config_options, config_of
from stages.models.weights import ModelEntry, WeightStore
from stages.registry import MODELS_ROOT
from videolift.config import user_path
from videolift.errors import BackendUnavailable, ConfigError, VideoliftError


@dataclass(frozen=True)
class ModelPart:
    """One thing that a model needs, and whether it is there."""

    model: str
    kind: str
    name: str
    problem: str | None
    detail: str = ""


def parts(model: ModelEntry, store: WeightStore, envs_dir: Path) -> list[ModelPart]:
    """Environment, checkouts and default weights of a model, each with what is wrong with it."""
    folder = read_environment(model.env).folder(envs_dir)
    unbuilt = None if is_built(folder) else f"the environment is not built. Type: {build_command(model.env, envs_dir)}"
    out = [ModelPart(model.name, "environment", model.env, unbuilt, str(folder))]
    for checkout in model.checkouts.values():
        try:
            out.append(ModelPart(model.name, "checkout", checkout.name, None, str(store.checkout(model.name, checkout.name))))
        except BackendUnavailable as error:
            out.append(ModelPart(model.name, "checkout", checkout.name, str(error)))
    wanted = [w for w in model.weights.values() if w.default or w.is_at(store.path(w.name))]
    out += [ModelPart(model.name, "weight", w.name, store.problem(w.name), store.expected(w) or "") for w in wanted]
    return out


def install(
    model: ModelEntry, store: WeightStore, envs_dir: Path, *, accepts: Callable[[ModelEntry], bool], only: Sequence[str] = ()
) -> list[str]:
    """Fetches what a model needs; what is left for the user to do by hand.

    Args:
        model: of the manifest.
        store: where it goes.
        envs_dir: where its environment goes.
        accepts: asked once, before anything is fetched, unless this person accepted the licence before.
        only: names of weights; empty takes the default ones.

    Raises:
        ConfigError: the licence was not accepted, or a name is unknown.
        BackendUnavailable: something could not be fetched, or is not what it was.
    """
    unknown = sorted(set(only) - set(model.weights))
    if unknown:
        raise ConfigError(f"{model.name} has no weight {unknown[0]!r}: there are {', '.join(model.weights)}")
    # Before anything is fetched: what was not agreed to must not lie on the disk.
    if not is_accepted(model):
        if not accepts(model):
            raise ConfigError(f"{model.name}: licence not accepted, nothing was fetched. For unattended runs: accept_licences")
        accept(model)
    # First of all, since the tools that fetch some of the weights come with it.
    python = build(model.env, envs_dir=envs_dir)
    for checkout in model.checkouts.values():
        fetch_checkout(checkout, store.checkout_folder(checkout))
    chosen = [w for w in model.weights.values() if (w.name in only if only else w.default)]
    for weight in chosen:
        hub = None if weight.via == "manual" else fetch_weight(weight, store.path(weight.name), python, store.weights_dir)
        # A manual one may still be missing; it is named at the end, and the others are recorded all the same.
        if weight.is_at(store.path(weight.name)):
            store.record(weight, hub)
    return [problem for w in chosen if (problem := store.problem(w.name))]


def _show(store: WeightStore, envs_dir: Path, *, every: bool) -> int:
    found = [part for model in store.models().values() for part in parts(model, store, envs_dir)]
    for part in found:
        if every or part.problem:
            print(f"{part.model:10} {part.kind:11} {part.name:30} {part.problem or 'ok ' + part.detail}")
    return 3 if any(part.problem for part in found) else 0


def models_parser() -> argparse.ArgumentParser:
    """The options of ``videolift models``."""
    common = argparse.ArgumentParser(add_help=False)
    add_config_options(common)
    parser = argparse.ArgumentParser(prog="videolift models", description="The models' code, weights and environments.")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", parents=[common], help="licences, and what is there")
    actions.add_parser("check", parents=[common], help="what is missing or changed; exit code 3 if anything is")
    installing = actions.add_parser("install", parents=[common], help="fetch what models need; asks for the licence once")
    installing.add_argument("names", nargs="+", metavar="NAME", help="models")
    building = actions.add_parser("build", parents=[common], help="build environments alone, without weights")
    building.add_argument(
        "names", nargs="+", choices=sorted(p.stem for p in ENVS.glob("*.yaml")), metavar="NAME", help="environments"
    )
    installing.add_argument("--weight", action="append", default=[], metavar="NAME", help="this weight instead of the default ones")
    return parser


def models_command(arguments: Sequence[str] | None = None) -> int:
    """``python -m stages.models``; the exit code."""
    options = models_parser().parse_args(arguments)
    try:
        config = config_of(options)
        store = WeightStore(MODELS_ROOT, config.models_dir)
        envs_dir = MODELS_ROOT / user_path(config.envs_dir)
        if options.action == "build":
            for name in options.names:
                print(build(name, envs_dir=envs_dir))
            return 0
        if options.action == "install":
            models, left = store.models(), list[str]()

            def accepts(model: ModelEntry) -> bool:
                # Naming a model in the configuration is an answer too, and one that a cluster's script can give.
                if model.name in config.accept_licences:
                    print(f"{model.name}: accepted by accept_licences")
                    return True
                print(licence_text(model))
                # Nobody is there to answer, and silence is no consent.
                if not sys.stdin.isatty():
                    return False
                return input(f"Do you accept these licences for {model.name}? [y/N] ").strip().lower() in ("y", "yes")

            for name in options.names:
                if name not in models:
                    raise ConfigError(f"no model {name!r}: there are {', '.join(models)}")
                left += install(models[name], store, envs_dir, accepts=accepts, only=options.weight)
            print("\n".join(left) if left else f"{', '.join(options.names)}: complete")
            return 3 if left else 0
        if options.action == "list":
            print("\n\n".join(licence_text(model) for model in store.models().values()), end="\n\n")
            _show(store, envs_dir, every=True)
            return 0
        return _show(store, envs_dir, every=False)
    except VideoliftError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
