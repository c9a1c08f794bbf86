"""What a trained encoder's embeddings show: retrieval across datasets, controls, shortcuts, clusters."""
