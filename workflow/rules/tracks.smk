rule tracks_batch:
    """3D point tracks of every window."""
    input:
        upstream("tracks"),
        ancient(session.prerequisites("tracks")),
    output:
        manifest("tracks"),
    log:
        f"{session.layout.output}/logs/tracks/{{batch}}-{{token}}-{{generation}}.log",
    threads: session.threads("tracks")
    resources:
        **session.resources("tracks"),
    shell:
        stage_command("tracks")


rule tracks:
    """Target: up to tracks for every video, then the verdict."""
    input:
        session.reach("tracks"),
    retries: 0
    localrule: True
    shell:
        verdict("tracks")
