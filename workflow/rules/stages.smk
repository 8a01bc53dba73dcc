# Two rules per row of videolift/stage_table.py: the jobs of a stage, one per batch, and the target of the same name.
# A shell text is made when its job starts, long after the loop has ended; so the stage stands in params.
for spec in session.stages:

    rule:
        name:
            f"{spec.name}_batch"
        input:
            upstream(spec.name),
            ancient(session.prerequisites(spec.name)),
        output:
            manifest(spec.name),
        log:
            f"{session.layout.output}/logs/{spec.name}/{{batch}}-{{token}}-{{generation}}.log",
        threads: session.threads(spec.name)
        resources:
            **session.resources(spec.name),
        params:
            stage=spec.name,
        shell:
            STAGE_COMMAND

    rule:
        name:
            spec.name
        input:
            session.reach(spec.name),
        retries: 0
        localrule: True
        params:
            stage=spec.name,
        shell:
            VERDICT
