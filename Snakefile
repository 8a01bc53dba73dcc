# videolift: a folder of videos of hands at work goes in, a checked HDF5 training dataset comes out.
# Only manifests under {output}/batches are declared; artifacts and receipts never are, so Snakemake never deletes them.
# snakemake --cores N        everything      snakemake -n         what would be done
# snakemake depth --cores N  up to a stage   snakemake --list     the targets
from pathlib import Path

from snakemake.utils import min_version

min_version("9.20")


configfile:
    "config.yaml"
    if Path("config.yaml").exists()
    else Path(workflow.basedir) / "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/environments.smk"
include: "workflow/rules/stages.smk"
include: "workflow/rules/statistics.smk"
include: "workflow/rules/verification.smk"


# Everything, ending in the verdict: every video done, quarantined with a reason, excluded or pending.
rule all:
    default_target: True
    input:
        session.reach(*ends()),
        session.targets("statistics", "verification"),
    retries: 0
    localrule: True
    params:
        stage=PACKAGING,
    shell:
        VERDICT
