"""A security review of a Python tree, by the ten pillars of CWE's research view.

`python -m tools.security_review PATH…` brings together what bandit and ruff's S rules find and what checks of our own find,
names the weakness (CWE) of each finding, and sorts by the pillar that the weakness belongs to:

    cwe       the weaknesses that occur here, each with its parent, up to its pillar
    source    a parsed file, and what the checks ask of a syntax tree
    failures  checks: exceptions, refusals, undos
    flows     checks: waits, clients, threads, secrets, filters
    scanners  bandit and ruff, as findings
    accepted  the written reasons beside findings that stay
    review    all of them over all files
    report    Markdown, JSON, SARIF
"""
