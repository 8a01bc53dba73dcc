"""Commands about the packaged dataset: verify, merge, export, import."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from videolift.cli.common import Json, print_json
from videolift.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from videolift.export.policy_rows import PolicyExport

Dataset = Annotated[Path, typer.Argument(help="Folder of the dataset, e.g. output/h5_dataset.")]
Out = Annotated[Path, typer.Argument(help="Folder to write.")]
Split = Annotated[str | None, typer.Option("--split", help="Only this split.")]
GroupOption = Annotated[str | None, typer.Option("--group", help="Only this group, e.g. A-metric.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the application."""
    for command in (verify, merge, stats, shapes):
        app.command()(command)
    exports = typer.Typer(help="Writes the dataset in another project's layout.", no_args_is_help=True, rich_markup_mode=None)
    exports.command("y2r")(to_y2r)
    exports.command("lerobot")(to_lerobot)
    for layout, text in _POLICY_LAYOUTS.items():
        exports.command(layout, help=text)(_policy_command(layout))
    app.add_typer(exports, name="export")
    imports = typer.Typer(help="Reads another project's data.", no_args_is_help=True, rich_markup_mode=None)
    imports.command("y2r")(from_y2r)
    app.add_typer(imports, name="import")


def verify(
    path: Annotated[Path, typer.Argument(help="A packaged file, or the folder of a dataset.")],
    public: Annotated[bool, typer.Option("--public", help="Also prove that no path, host, user or source name is inside.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Also hold labels against images; names what is wrong with them.")] = False,
    as_json: Json = False,
) -> None:
    """Checks that packaged files are whole, true to their checksums and consistent; exit code 1 on any finding."""
    from videolift.dataset.verify import as_json as rows
    from videolift.dataset.verify import check_public, verify_path

    found = verify_path(path, deep=deep)
    if public:
        report = check_public(path)
        found += report.findings
        # On stderr with --json: what a script parses must be nothing but JSON.
        typer.echo(f"strictest licence: {report.licence}", err=as_json)
    if as_json:
        print_json(rows(found))
    else:
        for finding in found:
            typer.echo(f"{finding.file}: {finding.check}: {finding.text}. {finding.remedy}")
        typer.echo(f"{len(found)} findings in {path}" if found else f"{path}: no problems found")
    raise typer.Exit(int(ExitCode.LOST if found else ExitCode.OK))


def merge(
    out: Annotated[Path, typer.Argument(help="Folder of the merged dataset; new, or merged before.")],
    datasets: Annotated[
        list[Path] | None, typer.Argument(help="Datasets, or output folders; none: those that were merged before.")
    ] = None,
    link: Annotated[bool, typer.Option("--link/--reference", help="Hard links, or an index that refers to other folders.")] = True,
    group: Annotated[str | None, typer.Option("--group", help="Group of normalization_stats.yaml; by default the best.")] = None,
) -> None:
    """Makes one dataset of several that were made apart, as if one run had made it. Run it again after an interruption."""
    from videolift.dataset.publish import MERGE_LEASE, merge_datasets
    from videolift.records.leases import Lease, patience_s

    lease = out / MERGE_LEASE
    try:
        held = Lease.acquire(lease, wait_s=patience_s(lease), what=f"the merge into {out}")
    except PermissionError as error:
        raise ConfigError(f"{out} cannot be written ({error.strerror}): name a folder in which you may write") from error
    with held:
        summary = merge_datasets(out, datasets or [], how="link" if link else "reference", group=group)
    typer.echo(f"{out}: {summary.videos} videos, {summary.windows} windows, {summary.frames} frames; main group {summary.group}")


def stats(
    dataset: Dataset,
    group: GroupOption = None,
    split: Split = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Also draw histograms into this PNG.")] = None,
) -> None:
    """Prints mean, std, range and quantiles of everything in a dataset."""
    from videolift.dataset.statistics.plots import load_statistics, plot_statistics, statistics_text

    found, title = load_statistics(dataset, group=group, split=split)
    typer.echo(title)
    typer.echo(statistics_text(found))
    if plot is not None:
        plot_statistics(found, plot, title=title)
        typer.echo(plot)


def shapes(
    source: Annotated[
        Path, typer.Argument(help="A dataset's folder, a packaged file, or another file that the reader understands.")
    ],
    select: Annotated[
        list[str] | None,
        typer.Option("--select", help="A field of the selection, e.g. points=64, or for other files an option, gap=4; repeatable."),
    ] = None,
) -> None:
    """Prints key, shape and type of everything that a sample of a selection holds."""
    import numpy as np
    import yaml

    from videolift.reader import Selection
    from videolift.reader.adapters import open_samples

    bare = [text for text in select or [] if "=" not in text]
    if bare:
        raise ConfigError(f"--select {bare[0]} has no value: write {bare[0]}=64, for example")
    # Values are YAML, as in the configuration: true, 64, [a, b].
    fields = {name: yaml.safe_load(value) for name, _, value in (text.partition("=") for text in select or [])}
    known = set(Selection.__dataclass_fields__)
    selection: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items() if name in known}
    options = {name: value for name, value in fields.items() if name not in known}
    # Layouts of others take no selection, so none is passed that was not asked for.
    if selection:
        options["selection"] = Selection(**selection)
    try:
        samples = open_samples(source, **options)
    except ConfigError as error:
        if set(options) <= {"selection"}:
            raise
        raise ConfigError(f"{error}. A selection has {', '.join(sorted(known))}") from error
    if not len(samples):
        raise ConfigError(f"{source} has no sample of that selection")
    for key, value in samples.open(0).items():
        shape, kind = (value.shape, value.dtype) if isinstance(value, np.ndarray) else ("", type(value).__name__)
        typer.echo(f"{key:<26} {shape!s:<20} {kind}")
    typer.echo(f"{len(samples)} samples")


def to_y2r(
    dataset: Dataset,
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    split: Split = None,
    group: GroupOption = None,
    nearest: Annotated[
        Literal["exact", "floor"], typer.Option(help="How depth is sampled; floor as the predecessor did.")
    ] = "exact",
) -> None:
    """The predecessor's layout: one .hdf5 per video with a group per frame."""
    from videolift.y2r.exporter import export_y2r

    exported = export_y2r(dataset, out, split=split, group=group, nearest=nearest)
    _report(exported.left_out, len(exported.files))


Frame = Annotated[Literal["world", "camera", "start"], typer.Option("--frame", help="What positions are relative to.")]
Action = Annotated[Literal["absolute", "delta"], typer.Option("--action", help="The next state, or what leads there.")]
HandsOption = Annotated[Literal["both", "left", "right"], typer.Option("--hands", help="Hands in state and action.")]
Tips = Annotated[bool, typer.Option("--fingertips", help="Also the positions of the fingertips.")]
Episodes = Annotated[
    str | None, typer.Option("--episodes", help="A CSV (video, start, end, text), or 'rest' to cut where hands rest.")
]


def _policy_export(
    split: str | None, group: str | None, *, frame: str, action: str, hands: str, fingertips: bool, episodes: str | None
) -> PolicyExport:
    from videolift.export.policy_rows import PolicyExport
    from videolift.reader.policies.episodes import read_episode_table
    from videolift.reader.policies.policy_dataset import cut_at_rest, cut_by_rows, whole_shots
    from videolift.reader.policies.state import StateSpec

    sides = ("left", "right") if hands == "both" else (hands,)
    spec = StateSpec(frame=frame, hands=sides, action=action, fingertips=fingertips)  # type: ignore[arg-type]
    cut = (
        whole_shots
        if episodes is None
        else cut_at_rest()
        if episodes == "rest"
        else cut_by_rows(read_episode_table(Path(episodes)))
    )
    return PolicyExport(spec, cut, split, group)


def to_lerobot(
    dataset: Dataset,
    out: Out,
    split: Split = None,
    group: GroupOption = None,
    frame: Frame = "start",
    action: Action = "absolute",
    hands: HandsOption = "both",
    fingertips: Tips = False,
    episodes: Episodes = None,
    images: Annotated[
        Literal["png", "video"], typer.Option(help="Every pixel as it is, or H.264, some ten times smaller.")
    ] = "png",
    subtasks: Annotated[
        Path | None, typer.Option("--subtasks", help="A CSV (video, start, end, text) as language columns, for LeRobot 0.6 on.")
    ] = None,
    extras: Annotated[bool, typer.Option("--extras", help="Also depth, camera, hands and tracks.")] = False,
    points: Annotated[int, typer.Option(help="Tracked points per window, with --extras.")] = 64,
) -> None:
    """LeRobot v3: images, state and action of every frame in which hands are known."""
    from videolift.export.lerobot import export_lerobot
    from videolift.reader.policies.episodes import read_episode_table

    export = _policy_export(split, group, frame=frame, action=action, hands=hands, fingertips=fingertips, episodes=episodes)
    rows = None if subtasks is None else read_episode_table(subtasks)
    exported = export_lerobot(dataset, out, export, images=images, subtasks=rows, extras=extras, points=points)
    _report(exported.left_out, len(exported.files))


_POLICY_LAYOUTS = {
    "groot": "GR00T: LeRobot v2.1 with videos and meta/modality.json.",
    "openpi": "openpi: LeRobot v2.1 with videos and norm_stats.json.",
    "webdataset": "WebDataset: tar shards of one sample per frame, with an index.",
}


def _policy_command(layout: str) -> Callable[..., None]:
    """The command of one of `_POLICY_LAYOUTS`; they take the same options."""

    def command(
        dataset: Dataset,
        out: Out,
        split: Split = None,
        group: GroupOption = None,
        frame: Frame = "start",
        action: Action = "absolute",
        hands: HandsOption = "both",
        fingertips: Tips = False,
        episodes: Episodes = None,
    ) -> None:
        export = _policy_export(split, group, frame=frame, action=action, hands=hands, fingertips=fingertips, episodes=episodes)
        if layout == "webdataset":
            from videolift.export.webdataset import export_webdataset

            exported = export_webdataset(dataset, out, export)
        else:
            from videolift.export.lerobot_v2 import export_lerobot_v2

            exported = export_lerobot_v2(dataset, out, "groot" if layout == "groot" else "openpi", export)
        _report(exported.left_out, len(exported.files))

    return command


def from_y2r(
    source: Annotated[Path, typer.Argument(help="The predecessor's data folder.")],
    out: Annotated[Path, typer.Argument(help="Folder of the new dataset.")],
    fps: Annotated[float, typer.Option(help="Frames per second its frames were taken at.")] = 10.0,
    scale: Annotated[
        Literal["metric", "arbitrary"], typer.Option(help="What its depth is in; its default preset was not metric.")
    ] = "arbitrary",
) -> None:
    """The predecessor's frames, depth, tracks, hands and packaged files; what its mistakes spoilt is repaired or named."""
    from videolift.y2r.importer import import_y2r

    report = import_y2r(source, out, fps=fps, scale=scale)
    for video, repairs in report.imported.items():
        typer.echo(f"{video}: {'; '.join(repairs) or 'as it was'}")
    for video, reason in report.left_out.items():
        typer.echo(f"left out {video}: {reason}")
    if report.settings is not None:
        typer.echo(f"to go on from here: snakemake --cores 2 --configfile {shlex.quote(str(report.settings))}")


def _report(left_out: Mapping[str, str], files: int) -> None:
    for video, reason in left_out.items():
        typer.echo(f"left out {video}: {reason}")
    typer.echo(f"wrote {files} file{'s' * (files != 1)}")
