"""Does the distance between tasks predict transfer? A small network, pretrained on one task, meets another."""
