rule hands_batch:
    """Hand poses, both sides."""
    input:
        upstream("hands"),
        ancient(session.prerequisites("hands")),
    output:
        manifest("hands"),
    log:
        f"{session.layout.output}/logs/hands/{{batch}}-{{token}}-{{generation}}.log",
    threads: session.threads("hands")
    resources:
        **session.resources("hands"),
    shell:
        stage_command("hands")


rule hands:
    """Target: up to hands for every video, then the verdict."""
    input:
        session.reach("hands"),
    retries: 0
    localrule: True
    shell:
        verdict("hands")
