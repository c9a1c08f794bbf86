"""Clinical content of chest radiograph reports, by rules: see `labeller` and docs/clinical.md."""
