rule tracks_batch:
    """3D point tracks of every window."""
    input:
        upstream("tracks"),
        ancient(session.prerequisites("tracks")),
    output:
        manifest("tracks"),
    log:
        f"{session.layout.output}/logs/tracks/{{batch}}-{{token}}-{{generation}}.log",
    threads: stage_threads("tracks")
    resources:
        gpu=stage_gpu("tracks"),
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
