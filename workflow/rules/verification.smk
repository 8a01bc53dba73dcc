rule verification:
    """Reads every packaged file that is new, against its checksums and its receipt."""
    input:
        session.targets("statistics"),
    output:
        report(
            manifest("verification"),
            caption="../report/verification.rst",
            category="Dataset",
        ),
    log:
        f"{session.layout.output}/logs/verification/{{batch}}-{{token}}-{{generation}}.log",
    retries: 0
    localrule: True
    params:
        stage="verification",
    shell:
        STAGE_COMMAND
