# What every rule shares: the plan, the paths of manifests, the commands. Decisions are made in stages/engine/plan.py, not here.
import sys
from importlib.util import find_spec
from pathlib import Path
from shlex import quote

# The checkout that this file lies in; where Snakemake has fetched it alone, what pip has installed.
checkout = Path(workflow.current_basedir).parents[1]
if not (checkout / "stages").is_dir():
    checkout = Path(find_spec("videolift").origin).parent / "_workflow"
sys.path.insert(0, str(checkout))

from stages.engine.session import Session
from videolift.stage_table import PACKAGING, STATISTICS, ends

session = Session.start(config, workflow)


report: "../report/workflow.rst"


wildcard_constraints:
    batch=r"[a-z0-9]+",
    token=r"[0-9a-f]{12}",
    generation=r"\d+",


def manifest(stage):
    """Pattern of a stage's manifests."""
    return f"{session.layout.manifests(stage)}/{{batch}}-{{token}}-{{generation}}.json"


def upstream(stage):
    """Input function: the manifests of the same batch that a stage reads."""
    return lambda wildcards: session.upstream(stage, wildcards.batch)


# Runs one stage over one batch; the same command can be pasted into a terminal.
STAGE_COMMAND = f"{session.python('stages')} {{params.stage}} --run {quote(str(session.run))}" + (
    " --batch {wildcards.batch} --token {wildcards.token} --generation {wildcards.generation}"
    " --manifest {output:q} --cores {threads} --log {log:q}"
)
# Ends a target: prints what became of every video and fails when too many were lost.
VERDICT = f"{session.python('stages')} verdict --run {quote(str(session.run))} --stage {{params.stage}}"


onstart:
    session.begin()


onerror:
    session.report()
