# The workflow is workflow/Snakefile, where the Snakemake catalog looks for it; profiles/default is found beside this one.
include: "workflow/Snakefile"


# An included file's default target counts in that file alone.
workflow.default_target = "all"
