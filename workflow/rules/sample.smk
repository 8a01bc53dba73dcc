# The rendered sample: four clips with exact truth, made once.
rule sample:
    """Renders the sample clips (videos: sample)."""
    output:
        f"{session.layout.output}/sample/videos.csv",
    log:
        f"{session.layout.output}/logs/sample.log",
    retries: 0
    localrule: True
    threads: session.cores
    shell:
        session.python("stages.sample", session.layout.output / "sample")
        + " 2>&1 | tee {log:q}"
