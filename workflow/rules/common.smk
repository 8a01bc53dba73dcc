# What every rule shares: the plan, the paths of manifests, the commands. Decisions are made in stages/engine/plan.py, not here.
import sys

sys.path.insert(0, workflow.basedir)

from stages.engine.session import Session

session = Session.start(config, workflow)
PYTHON = f"PYTHONPATH={session.quoted_root} {session.quoted_python} -m stages"


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


def stage_command(stage):
    """What runs one stage over one batch; the same command can be pasted into a terminal."""
    return (
        f"{PYTHON} {stage} --run {session.quoted_run} --batch {{wildcards.batch}} --token {{wildcards.token}}"
        " --generation {wildcards.generation} --manifest {output:q} --cores {threads} --log {log:q}"
    )


def verdict(stage):
    """What ends a target: prints what became of every video and fails when too many were lost."""
    return f"{PYTHON} verdict --run {session.quoted_run} --stage {stage}"


onstart:
    session.begin()


onerror:
    session.report()
