"""Probes of training: optimisation dynamics and the TaCo map of visual tasks. Imported by `harness` only."""
