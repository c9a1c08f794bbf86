"""Generation, metrics, intervals, baselines, leaderboard. Imports `data_recipes` and `model_adapters`
only."""
