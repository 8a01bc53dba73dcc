rule create_h5_batch:
    """Packs everything into one HDF5 file per video."""
    input:
        upstream("create_h5"),
        ancient(session.prerequisites("create_h5")),
    output:
        manifest("create_h5"),
    log:
        f"{session.layout.output}/logs/create_h5/{{batch}}-{{token}}-{{generation}}.log",
    threads: session.threads("create_h5")
    resources:
        **session.resources("create_h5"),
    shell:
        stage_command("create_h5")


rule create_h5:
    """Target: up to create_h5 for every video, then the verdict."""
    input:
        session.reach("create_h5"),
    retries: 0
    localrule: True
    shell:
        verdict("create_h5")
