"""One adapter a model family: loading, encoding, LoRA targets, box notation. Imports `data_recipes` only."""
