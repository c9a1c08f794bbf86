"""Optimisation dynamics of LoRA fine-tuning, from Gram matrices of per-entry gradients."""
