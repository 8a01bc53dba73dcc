rule statistics:
    """Normalization statistics, card and index over all packaged videos."""
    input:
        session.targets("create_h5"),
    output:
        manifest("statistics"),
    log:
        f"{session.layout.output}/logs/statistics/{{batch}}-{{token}}-{{generation}}.log",
    localrule: True
    shell:
        stage_command("statistics")
