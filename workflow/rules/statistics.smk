rule statistics:
    """Normalization statistics, card and index over all packaged videos."""
    input:
        lambda wildcards: session.targets("create_h5"),
    output:
        report(
            manifest("statistics"),
            caption="../report/statistics.rst",
            category="Dataset",
        ),
    log:
        f"{session.layout.output}/logs/statistics/{{batch}}-{{token}}-{{generation}}.log",
    localrule: True
    shell:
        stage_command("statistics")
