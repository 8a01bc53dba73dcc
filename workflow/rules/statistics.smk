rule statistics:
    """Normalization statistics, card and index over all packaged videos."""
    input:
        lambda wildcards: session.targets(PACKAGING),
    output:
        report(
            manifest("statistics"),
            caption="../report/statistics.rst",
            category="Dataset",
        ),
    log:
        f"{session.layout.output}/logs/statistics/{{batch}}-{{token}}-{{generation}}.log",
    localrule: session.works_here
    resources:
        **session.resources(STATISTICS),
    params:
        stage=STATISTICS,
    shell:
        STAGE_COMMAND
