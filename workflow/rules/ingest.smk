rule ingest_batch:
    """Decodes videos into clips: resampled, upright, cropped."""
    input:
        upstream("ingest"),
        ancient(session.prerequisites("ingest")),
    output:
        manifest("ingest"),
    log:
        f"{session.layout.output}/logs/ingest/{{batch}}-{{token}}-{{generation}}.log",
    threads: session.threads("ingest")
    resources:
        **session.resources("ingest"),
    shell:
        stage_command("ingest")


rule ingest:
    """Target: up to ingest for every video, then the verdict."""
    input:
        session.reach("ingest"),
    retries: 0
    localrule: True
    shell:
        verdict("ingest")
