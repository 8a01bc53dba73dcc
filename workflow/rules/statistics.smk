rule statistics:
    """Normalization statistics, card and index over all packaged videos."""
    input:
        session.targets("create_h5"),
    output:
        manifest("statistics"),
    localrule: True
    log:
        f"{session.layout.output}/logs/statistics/{{batch}}-{{token}}-{{generation}}.log",
    shell:
        stage_command("statistics")
