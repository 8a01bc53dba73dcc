# The models' own environments. Only those that need no licence and no compiler are built here, where the user sits.
rule environment:
    """Builds one environment of envs/ with uv."""
    output:
        f"{session.envs_dir}/{{name}}-{{digest}}/.ok",
    log:
        f"{session.layout.output}/logs/environments/{{name}}-{{digest}}.log",
    wildcard_constraints:
        name=r"[a-z0-9_]+",
        digest=r"[0-9a-f]{12}",
    retries: 0
    localrule: True
    shell:
        session.python("stages.models.environments", "--envs-dir", session.envs_dir)
        + " {wildcards.name} > {log:q} 2>&1"
