rule depth_batch:
    """Depth, camera pose and intrinsics of every clip."""
    input:
        upstream("depth"),
        ancient(session.prerequisites("depth")),
    output:
        manifest("depth"),
    log:
        f"{session.layout.output}/logs/depth/{{batch}}-{{token}}-{{generation}}.log",
    threads: session.threads("depth")
    resources:
        **session.resources("depth"),
    shell:
        stage_command("depth")


rule depth:
    """Target: up to depth for every video, then the verdict."""
    input:
        session.reach("depth"),
    retries: 0
    localrule: True
    shell:
        verdict("depth")
